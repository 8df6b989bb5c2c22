//! Stateful reconnect: a WebSocket is lost, and its connection is not (spec 7).
//!
//! The connection is a session, like that of a long-polling client, and the WebSocket its *carrier*: what the session is
//! owed moves to the carrier's outbox. What counts is kept beside until the client has acknowledged it: the same runs of
//! the log, so that a window costs the log's memory and 16 bytes a run.
//!
//! ```text
//!  owed to the session ---> carrier's outbox ---> client
//!                      \--> window ---------------^ again, on the next carrier, behind a Sequence message
//!                             |
//!                             +--- Ack: forgotten
//! ```

use crate::buf::{Extent, SegmentId};
use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::event::CloseReason;
use crate::hub::connect::Newcomer;
use crate::hub::outgoing::Outgoing;
use crate::hub::switchboard::Switchboard;
use crate::hub::window::{Heard, Window, within};
use crate::io::Slot;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::session::{Session, ticks_from_ms};
use fanfare_protocol::negotiate::Transport;

/// The class of runs that are not numbered: handshakes, pings, closes, acknowledgements.
pub(crate) const UNNUMBERED: u8 = 1;

/// A client that has heard the answer to its handshake for so long counts what it hears, whether it has said anything or
/// not (spec 7.6: 100 to 250 ms).
const BEGUN_TICKS: u16 = ticks_from_ms(300);

impl Switchboard {
    /// A WebSocket comes whose client may resume. `false`: there is no room, or somebody else was faster.
    pub(crate) fn begin_carried(&mut self, socket: Slot, newcomer: Newcomer) -> bool {
        let tick = self.tick();
        let Some(session) = self.slots.occupy_session() else { return false };
        if !self.settle_in(session, newcomer, Transport::WebSockets) {
            self.slots.vacate(session);
            return false;
        }
        let hot = self.slots.hot_mut(session);
        hot.state = State::Handshake;
        hot.session = Session::new(tick);
        self.carry(session, socket);
        true
    }

    /// From now on `socket` carries the session.
    fn carry(&mut self, session: Slot, socket: Slot) {
        let reference = self.reference(session);
        self.carriers.insert(socket, reference);
        self.set_socket(session, Some(socket));
        self.slots.hot_mut(session).flags.clear(Flags::POLL_OUT_ARMED | Flags::PAUSED);
        self.make_dirty(session);
    }

    /// The handshake agrees: what is sent from now on is kept until it is acknowledged.
    pub(crate) fn keep_window(&mut self, slot: Slot) {
        if slot.is_session() {
            self.windows.insert(slot, Window::new(self.tick()));
        }
    }

    /// Whether another WebSocket may take over the connection.
    pub(crate) fn may_resume(&self, session: Slot) -> bool {
        self.windows.contains_key(&session)
    }

    /// Another WebSocket takes over; the earlier one, if it is still there, is cut (spec 7.5).
    pub(crate) fn change_carrier(&mut self, session: Slot, socket: Slot) {
        if let Some(earlier) = self.set_socket(session, None) {
            self.carriers.remove(&earlier);
            self.hang_up(earlier, CloseReason::Lost);
        }
        // The client sends the rest of a message that it had begun again from its beginning.
        self.forget_unfinished(session);
        self.carry(session, socket);
        self.counters.resumed_total.add(1);
        let tick = self.tick();
        self.slots.hot_mut(session).session.handle_message(tick, false);
    }

    /// The first words on a carrier, behind the answer to its upgrade: where we go on, and all that may be missing.
    pub(crate) fn replay(&mut self, socket: Slot) {
        let Some(session) = self.carriers.get(&socket).copied().and_then(|session| self.resolve(session)) else {
            return;
        };
        let Some(window) = self.windows.get(&session) else { return };
        let sequence_id = window.forgotten + 1;
        let kept: Vec<Extent> = window.kept.iter().copied().collect();
        let variation = self.slots.hot(session).variation;
        match self.write_private(variation, &Outgoing::Sequence { sequence_id }) {
            Ok(runs) => runs.iter().for_each(|&run| self.owe(socket, run)),
            Err(_) => return self.hang_up(socket, CloseReason::Overload),
        }
        kept.into_iter().for_each(|run| self.owe(socket, run));
    }

    /// Bytes that came on a carrier.
    pub(crate) fn hear_carrier(&mut self, socket: Slot, bytes: &[u8]) {
        let Some(session) = self.carriers.get(&socket).copied().and_then(|session| self.resolve(session)) else {
            return;
        };
        self.hear(session, bytes);
        if self.slots.hot(session).flags.has(Flags::PAUSED) && self.carriers.contains_key(&socket) {
            self.slots.hot_mut(socket).flags.set(Flags::PAUSED);
            self.make_dirty(session);
        }
    }

    /// The session is heard again, and so is what carries it.
    pub(crate) fn hear_again(&mut self, session: Slot) {
        let socket = session.is_session().then(|| self.socket_of(session)).flatten();
        if let Some(socket) = socket.filter(|socket| self.carriers.contains_key(socket)) {
            self.unpause(socket);
        }
    }

    /// Whether the message is to be acted on. What is ours alone, or was heard before, is not.
    pub(crate) fn is_new(&mut self, slot: Slot, message: &Message<'_>) -> bool {
        if !slot.is_session() {
            return true;
        }
        let Some(window) = self.windows.get_mut(&slot) else { return true };
        let held = window.kept_bytes;
        let heard = window.hear(&self.logs, &mut self.holdings, message);
        let waits = self.slots.hot(slot).flags.has(Flags::POLL_OUT_ARMED);
        let freed = self.windows.get(&slot).is_some_and(|window| window.kept_bytes < held);
        if waits || freed {
            self.make_dirty(slot);
        }
        if heard == Heard::Gap {
            self.offend(
                slot,
                CloseReason::ProtocolError,
                "Sequence ID greater than amount of messages we've received.",
            );
        }
        heard == Heard::New
    }

    /// With the flush: what the session is owed goes to its carrier.
    pub(crate) fn tell_carrier(&mut self, session: Slot, socket: Slot) {
        let mut bytes_max = self.options(session).map_or(0, |options| options.resume_bytes_max);
        // A client that is not read from cannot be heard acknowledging, and what it would have to take first is what it
        // is waited for with: the window is widened until it is read from again.
        let deaf = self.slots.hot(session).flags.has(Flags::PAUSED)
            && (!self.may_be_read(session) || self.uploads_hold_back(session));
        if deaf {
            bytes_max = bytes_max.max(self.limits.outbox_bytes_max);
        }
        let mut torn = false;
        let mut waits = false;
        loop {
            let mut run = self.slots.hot(session).first;
            if run.is_empty() {
                break;
            }
            let window = self.windows.get_mut(&session).filter(|_| run.class != UNNUMBERED);
            if let Some(window) = window {
                // A message of which a part has gone is finished, whatever the bounds.
                if !torn && (!window.begun || window.kept_bytes > bytes_max) {
                    waits = true;
                    break;
                }
                if !torn {
                    run = within(&self.logs, run, bytes_max.saturating_sub(window.kept_bytes));
                }
                window.keep(&mut self.holdings, run);
            }
            torn = run.flags & Extent::CONTINUES != 0;
            self.owe(socket, run);
            let (hot, queues) = self.slots.outbox(session);
            let left = hot.first.count - run.count;
            let is_cut = run.len < hot.first.len;
            outbox::release(hot, queues, &mut self.holdings, run.len);
            if is_cut {
                // Between two messages.
                hot.first.flags &= !Extent::BEGUN;
                hot.first.count = left;
            }
        }
        if waits && deaf {
            // Neither side can go on.
            return self.hang_up(session, CloseReason::SlowClient);
        }
        if waits {
            return self.slots.hot_mut(session).flags.set(Flags::POLL_OUT_ARMED);
        }
        self.slots.hot_mut(session).flags.clear(Flags::POLL_OUT_ARMED);
        self.note_clear(session);
        self.unpause(session);
        if self.slots.hot(session).state == State::Farewell {
            self.hang_up(session, CloseReason::Normal);
        }
    }

    /// The socket is gone, for this reason. A connection that may resume waits for another; any other ends with it.
    pub(crate) fn lose_carrier(&mut self, socket: Slot, reason: CloseReason) {
        let Some(session) = self.carriers.remove(&socket).and_then(|session| self.resolve(session)) else { return };
        self.set_socket(session, None);
        let resumable = reason == CloseReason::Lost && self.slots.hot(session).state == State::Open;
        if resumable && self.may_resume(session) {
            self.slots.hot_mut(session).flags.set(Flags::POLL_OUT_ARMED);
        } else {
            self.hang_up(session, reason);
        }
    }

    /// The session has ended: its carrier says so, in the WebSocket's words.
    pub(crate) fn dismiss_carrier(&mut self, session: Slot, reason: CloseReason) {
        if let Some(mut window) = self.windows.remove(&session) {
            window.clear(&mut self.holdings);
        }
        if let Some(socket) = self.set_socket(session, None) {
            self.carriers.remove(&socket);
            self.farewell(socket, reason, None, CloseCode::NORMAL);
        }
    }

    /// Once a second: what was heard is acknowledged.
    pub(crate) fn acknowledge(&mut self, session: Slot) {
        let tick = self.tick();
        let Some(window) = self.windows.get_mut(&session) else { return };
        if !window.begun && tick.since(window.agreed) >= BEGUN_TICKS {
            window.begun = true;
            self.make_dirty(session);
        }
        let Some(window) = self.windows.get_mut(&session).filter(|window| window.owes_ack) else { return };
        window.owes_ack = false;
        let sequence_id = window.heard;
        self.tell_or_hang_up(session, &Outgoing::Ack { sequence_id });
    }

    /// Windows that keep something of a segment, which is to be taken from them.
    pub(crate) fn windows_over(&self, segment: SegmentId) -> Vec<Slot> {
        let touching = self.windows.iter().filter(|(_, window)| window.touches(segment));
        touching.map(|(&session, _)| session).collect()
    }
}
