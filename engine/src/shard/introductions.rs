//! New sockets that are asked where they come from, before anything is read from them. Only where connections are
//! counted by address: otherwise nobody asks, and a socket is watched as soon as it is accepted.

use crate::event::CloseReason;
use crate::hub::directory::ConnRef;
use crate::io::{Generation, Io, Slot};
use crate::limits::INTRODUCTIONS_MAX;
use crate::shard::Shard;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Those that wait to be asked, and how many are being asked. Asking takes a descriptor of the process, of which there
/// may be few.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    waiting: VecDeque<ConnRef>,
    under_way: usize,
}

impl<I: Io> Shard<I> {
    /// Asks `slot` where it comes from, at once or in its turn.
    pub(super) fn introduce(&mut self, slot: Slot) {
        let reference = self.board.reference(slot);
        self.introductions.waiting.push_back(reference);
        self.ask_waiting();
    }

    fn ask_waiting(&mut self) {
        while self.introductions.under_way < INTRODUCTIONS_MAX
            && let Some(connection) = self.introductions.waiting.pop_front()
        {
            if self.board.resolve(connection).is_some() {
                self.introductions.under_way += 1;
                self.io.introduce(connection.slot(), connection.generation());
            }
        }
    }

    /// The answer: from now on the socket is watched.
    pub(super) fn introduced(&mut self, slot: Slot, generation: Generation, peer: Option<IpAddr>) {
        self.introductions.under_way -= 1;
        self.ask_waiting();
        if self.board.slots.live(slot, generation).is_none() {
            return;
        }
        match peer {
            Some(peer) => {
                self.board.peers.insert(slot, peer);
                self.watch(slot);
            }
            None => self.board.hang_up(slot, CloseReason::Lost),
        }
    }

    /// Sockets that wait to be asked, or are being asked.
    pub(super) fn strangers(&self) -> usize {
        self.introductions.waiting.len() + self.introductions.under_way
    }
}
