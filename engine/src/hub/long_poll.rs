//! Long polling: a connection that lives from one request to the next (spec 2.5).
//!
//! A *session* has a slot like any connection, an outbox like any connection, and no socket. While no poll waits it is
//! as if its socket were full; a poll that comes is the socket having room again. What is owed then moves to the outbox
//! of the poll's socket: the same runs of the log, with the head of an answer before them.
//!
//! ```text
//!             first poll                 poll                       news, or time
//!  (nobody) ------------> quiet --------------------> polled --------------------> quiet
//!                           |  disconnect_timeout_ms     |  a newer poll: 204 to the old one
//!                           +--> lost                    |  the poll's socket goes: quiet
//! ```

use crate::buf::Extent;
use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::event::{CloseReason, RefuseReason};
use crate::hub::asker::Asker;
use crate::hub::connect::{Newcomer, PollOf};
use crate::hub::switchboard::Switchboard;
use crate::hub::waiting::Waiting;
use crate::io::Slot;
use crate::limits::POLL_HOLD_US_MAX;
use fanfare_protocol::http::response;
use fanfare_protocol::hub::session::{Session, Tick, ticks_from_ms};
use fanfare_protocol::negotiate::Transport;
use std::sync::atomic::Ordering;

/// What a session has besides what every connection has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polling {
    /// The socket whose poll waits.
    poll: Option<Slot>,
    /// Since when it waits, or since when none does.
    since: Tick,
}

/// Of every answer to a poll.
const NO_CACHE: [(&str, &str); 3] =
    [("Cache-Control", "no-cache, no-store"), ("Pragma", "no-cache"), ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")];
const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// The head of an answer with a body of so many bytes, as it was last written: a broadcast to many sessions has the same
/// for nearly all of them.
#[derive(Debug, Default)]
pub(crate) struct PollHead(Option<(u32, Extent)>);

/// Sessions with news whose polls wait for the rest of a burst.
#[derive(Debug, Default)]
pub(crate) struct HeldPolls {
    sessions: Vec<Slot>,
    since_us: u64,
}

impl HeldPolls {
    /// When they are answered, whatever else may come.
    pub(crate) fn due_us(&self) -> Option<u64> {
        (!self.sessions.is_empty()).then(|| self.since_us + POLL_HOLD_US_MAX)
    }
}

impl Switchboard {
    fn polling(&mut self, session: Slot) -> &mut Polling {
        let index = session.index();
        if self.pollings.len() <= index {
            self.pollings.resize(index + 1, Polling::default());
        }
        &mut self.pollings[index]
    }

    /// A poll has come on `socket`.
    pub(crate) fn take_poll(&mut self, socket: Slot, of: PollOf, asker: Asker) {
        match of {
            PollOf::New(newcomer) => self.begin_session(socket, newcomer, &asker),
            PollOf::Session(connection) => {
                let Some(session) = self.resolve(connection) else { return };
                let tick = self.tick();
                let polling = self.polling(session);
                let earlier = polling.poll.replace(socket);
                polling.since = tick;
                if let Some(earlier) = earlier {
                    self.answer_poll(earlier, 204);
                }
                self.wait(socket, Waiting { on: connection, asker });
                let hot = self.slots.hot_mut(session);
                hot.progress_tick = tick.0;
                hot.flags.clear(Flags::POLL_OUT_ARMED);
                // Looked at with the flush, like anybody who is owed something.
                self.make_dirty(session);
            }
        }
    }

    /// The first poll: it begins the connection, and is answered at once.
    fn begin_session(&mut self, socket: Slot, newcomer: Newcomer, asker: &Asker) {
        let tick = self.tick();
        let begun = self.slots.occupy_session().filter(|&session| {
            let settled = self.settle_in(session, newcomer, Transport::LongPolling);
            if !settled {
                self.slots.vacate(session);
            }
            settled
        });
        let Some(session) = begun else {
            let text = "The connection is just being made, or there is no room for it.\n";
            let answer = self.unavailable(asker, RefuseReason::Full, text);
            return self.answer_request(socket, &answer, asker.keeps_alive());
        };
        let hot = self.slots.hot_mut(session);
        hot.state = State::Handshake;
        hot.session = Session::new(tick);
        hot.flags.set(Flags::POLL_OUT_ARMED);
        *self.polling(session) = Polling { poll: None, since: tick };
        let headers: Vec<(&str, &str)> = NO_CACHE.into_iter().chain([BYTES]).collect();
        self.answer_request(socket, &asker.answer(200, &headers, b""), asker.keeps_alive());
        self.hear_early(session);
    }

    /// The socket that carries the session, by a poll or as a WebSocket. Returns the one that did.
    pub(crate) fn set_socket(&mut self, session: Slot, socket: Option<Slot>) -> Option<Slot> {
        let since = self.tick();
        std::mem::replace(self.polling(session), Polling { poll: socket, since }).poll
    }

    /// The socket that carries the session now.
    pub(crate) fn socket_of(&self, session: Slot) -> Option<Slot> {
        self.pollings.get(session.index()).and_then(|polling| polling.poll)
    }

    /// Whether any socket carries the session now.
    pub(crate) fn has_socket(&self, session: Slot) -> bool {
        self.socket_of(session).is_some()
    }

    /// Answers a poll without news.
    fn answer_poll(&mut self, socket: Slot, status: u16) {
        if let Some(Waiting { asker, .. }) = self.stop_waiting(socket) {
            let headers: Vec<(&str, &str)> = NO_CACHE.into_iter().chain([TEXT]).collect();
            self.answer_request(socket, &asker.answer(status, &headers, b""), asker.keeps_alive());
        }
    }

    /// The session's poll is over: from now on it is owed the next one.
    fn end_poll(&mut self, session: Slot) -> Option<Slot> {
        let tick = self.tick();
        let polling = self.polling(session);
        let socket = polling.poll.take()?;
        polling.since = tick;
        self.slots.hot_mut(session).flags.set(Flags::POLL_OUT_ARMED);
        Some(socket)
    }

    /// The socket is gone. If it carried the session's poll there is none any more; what is owed waits for the next.
    pub(crate) fn forget_poll(&mut self, session: Slot, socket: Slot) {
        if session.is_session() && self.polling(session).poll == Some(socket) {
            self.end_poll(session);
        }
    }

    /// Before the flush: sessions that are owed something and polled have it moved to their polls' sockets. With
    /// `more_follows`, and while another shard says that it has more for us, they wait.
    pub(crate) fn answer_polls(&mut self, more_follows: bool) {
        let mut head = PollHead::default();
        let overdue = self.held_polls.due_us().is_some_and(|due| due <= self.now_us);
        let mut waits = if overdue { Some(false) } else { more_follows.then_some(true) };
        let held_before = !self.held_polls.sessions.is_empty();
        self.dirty.append(&mut self.held_polls.sessions);
        let mut index = 0;
        while index < self.dirty.len() {
            let slot = self.dirty[index];
            if !slot.is_session() {
                index += 1;
                continue;
            }
            self.dirty.swap_remove(index);
            if self.may_be_held(slot) && *waits.get_or_insert_with(|| self.shared.bursts.wait(self.shard)) {
                self.held_polls.sessions.push(slot);
                continue;
            }
            self.slots.hot_mut(slot).flags.clear(Flags::DIRTY);
            self.tell_poll(slot, &mut head);
        }
        let holds = !self.held_polls.sessions.is_empty();
        if holds && !held_before {
            self.held_polls.since_us = self.now_us;
        } else if !holds && held_before {
            self.shared.bursts.stop_waiting(self.shard);
        }
    }

    /// Whether the session has a poll that could be answered, and that may wait.
    fn may_be_held(&self, session: Slot) -> bool {
        let hot = self.slots.hot(session);
        let polls = hot.variation.transport() == Transport::LongPolling && self.has_socket(session);
        polls && hot.state == State::Open && !outbox::is_clear(hot)
    }

    fn tell_poll(&mut self, session: Slot, head: &mut PollHead) {
        let hot = *self.slots.hot(session);
        let Some(socket) = self.polling(session).poll else { return };
        if matches!(hot.state, State::Free | State::Closing) {
            return;
        }
        if hot.variation.transport() == Transport::WebSockets {
            return self.tell_carrier(session, socket);
        }
        if !outbox::is_clear(&hot) {
            self.move_news(session, head);
            if hot.state == State::Farewell && self.shared.draining.load(Ordering::Relaxed) {
                // The process does not wait for a poll that would only be told that it is over.
                self.hang_up(session, CloseReason::Drain);
            }
        } else if hot.state == State::Farewell {
            // Ended, and everything was said: the poll is told so when the session goes.
            self.hang_up(session, CloseReason::Normal);
        }
    }

    /// Everything that is owed leaves as the answer to the poll.
    fn move_news(&mut self, session: Slot, head: &mut PollHead) {
        let Some(socket) = self.end_poll(session) else { return };
        let Some(Waiting { asker, .. }) = self.stop_waiting(socket) else { return };
        let owed_bytes = self.slots.hot(session).owed_bytes;
        let Some(run) = self.write_poll_head(owed_bytes, &asker, head) else {
            return self.hang_up(socket, CloseReason::Overload);
        };
        self.owe(socket, run);
        let (hot, queues) = self.slots.outbox(session);
        let runs: Vec<Extent> = outbox::iter(hot, queues).collect();
        runs.into_iter().for_each(|run| self.owe(socket, run));
        let (hot, queues) = self.slots.outbox(session);
        outbox::clear(hot, queues, &mut self.holdings);
        self.note_clear(session);
        self.unpause(session);
        self.end_request(socket, asker.keeps_alive());
    }

    fn write_poll_head(&mut self, body_bytes: u32, asker: &Asker, last: &mut PollHead) -> Option<Extent> {
        match last.0 {
            Some((bytes, run)) if bytes == body_bytes && asker.is_ordinary() => return Some(run),
            _ => {}
        }
        let headers: Vec<(&str, &str)> = NO_CACHE.into_iter().chain([BYTES]).chain(asker.headers()).collect();
        let mut text = Vec::with_capacity(256);
        response::write_head(&mut text, 200, &headers, Some(u64::from(body_bytes)));
        let runs = self.append_private(text.len(), |writer| fanfare_protocol::cursor::Sink::put(writer, &text)).ok()?;
        // A head is no message, and is never split.
        let run = Extent { count: 0, ..runs[0] };
        if asker.is_ordinary() {
            last.0 = Some((body_bytes, run));
        }
        Some(run)
    }

    /// The client ends its connection (spec 2.7): a clean end, and 204 to a poll that waits.
    pub(crate) fn delete_session(&mut self, session: Slot) {
        self.hang_up(session, CloseReason::Normal);
    }

    /// The session has ended: whoever waits for it is told. Its slot is free at the end of the turn.
    pub(crate) fn leave_session(&mut self, session: Slot, reason: CloseReason) {
        if self.slots.hot(session).variation.transport() == Transport::WebSockets {
            return self.dismiss_carrier(session, reason);
        }
        if let Some(socket) = self.end_poll(session) {
            self.answer_poll(socket, 204);
        }
    }

    /// Once a second: polls that have waited long enough, and clients that do not come any more.
    pub(crate) fn sweep_polling(&mut self, session: Slot) {
        let tick = self.tick();
        let Some(options) = self.options(session) else { return };
        let (poll_ticks, quiet_ticks) =
            (ticks_from_ms(options.poll_timeout_ms), ticks_from_ms(options.disconnect_timeout_ms));
        let polling = *self.polling(session);
        let for_ticks = tick.since(polling.since);
        self.acknowledge(session);
        match polling.poll {
            // A WebSocket may carry it for as long as it likes.
            Some(socket) if self.carriers.contains_key(&socket) => {}
            None if for_ticks >= quiet_ticks => self.hang_up(session, CloseReason::Lost),
            Some(socket) if for_ticks >= poll_ticks => {
                self.end_poll(session);
                self.answer_poll(socket, 200);
            }
            _ => {}
        }
    }

    /// Ends a session in order: what is owed, the last message included, is the answer to a poll; the next is told 204.
    pub(crate) fn retire_session(&mut self, session: Slot) {
        let tick = self.tick();
        let limit = self.options(session).map_or(0, |options| ticks_from_ms(options.disconnect_timeout_ms));
        let hot = self.slots.hot_mut(session);
        hot.state = State::Farewell;
        hot.session.begin_close(tick, limit);
        hot.flags.clear(Flags::PAUSED);
        self.make_dirty(session);
        if !self.has_socket(session) && self.slots.hot(session).variation.transport() == Transport::WebSockets {
            // Nobody is there to be told, and nobody may come back.
            self.hang_up(session, CloseReason::Normal);
        }
    }
}
