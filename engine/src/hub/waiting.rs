//! Requests that are complete and have no answer yet: polls that wait for news, POSTs that wait for room.

use crate::conn::slots::State;
use crate::hub::asker::Asker;
use crate::hub::directory::ConnRef;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;

/// One of them.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The hub connection that it is about.
    pub on: ConnRef,
    /// Who is to have the answer.
    pub asker: Asker,
}

impl Switchboard {
    /// The request on `socket` is to be answered later. What its client sends meanwhile is kept.
    pub(crate) fn wait(&mut self, socket: Slot, waiting: Waiting) {
        self.slots.hot_mut(socket).state = State::Waiting;
        self.waiting.insert(socket, waiting);
    }

    /// The request on `socket` is about to be answered.
    pub(crate) fn stop_waiting(&mut self, socket: Slot) -> Option<Waiting> {
        let waiting = self.waiting.remove(&socket)?;
        self.slots.hot_mut(socket).state = State::Http;
        Some(waiting)
    }

    /// The socket of a request that waits is going: nobody will have its answer.
    pub(crate) fn forget_waiting(&mut self, socket: Slot) {
        let Some(Waiting { on, .. }) = self.waiting.remove(&socket) else { return };
        if let Some(held) = self.held_posts.get_mut(&on) {
            held.retain(|&other| other != socket);
            if held.is_empty() {
                self.held_posts.remove(&on);
            }
        }
        if let Some(session) = self.resolve(on) {
            self.forget_poll(session, socket);
        }
    }
}
