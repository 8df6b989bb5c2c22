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
//!
//! Runs are kept whole: of one that holds several messages nothing is forgotten before all are acknowledged. What is then
//! sent twice carries numbers that the client has seen, and drops (spec 7.2).

use crate::buf::segment::Holdings;
use crate::buf::{Extent, SegmentId};
use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::event::CloseReason;
use crate::hub::connect::Newcomer;
use crate::hub::outgoing::Outgoing;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::session::{Session, Tick, ticks_from_ms};
use fanfare_protocol::negotiate::Transport;
use std::collections::VecDeque;

/// The class of runs that are not numbered: handshakes, pings, closes, acknowledgements.
pub(crate) const UNNUMBERED: u8 = 1;

/// A client that has heard the answer to its handshake for so long counts what it hears, whether it has said anything or
/// not (spec 7.6: 100 to 250 ms).
const BEGUN_TICKS: u16 = ticks_from_ms(300);

/// Both directions of a connection that may change its carrier.
#[derive(Debug)]
pub(crate) struct Window {
    /// Sent and not acknowledged, in order.
    kept: VecDeque<Extent>,
    kept_bytes: usize,
    /// Messages that were acknowledged and are not kept any more.
    forgotten: u64,
    /// Messages that were ever sent.
    sent: u64,
    /// The number of the client's next message.
    hears: u64,
    /// The highest of its numbers that we have acted on.
    heard: u64,
    /// The client does not know that we have.
    owes_ack: bool,
    /// The client counts what it hears from its first message after the handshake on (spec 7.6).
    begun: bool,
    /// When the handshake was answered.
    agreed: Tick,
}

/// What the window makes of a message from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It is to be acted on.
    New,
    /// It was, on an earlier carrier; or it is the window's own business.
    Done,
    /// The client's numbers do not fit ours: messages are missing.
    Gap,
}

impl Window {
    /// Of a connection whose handshake was answered at `agreed`.
    fn new(agreed: Tick) -> Self {
        let kept = VecDeque::new();
        Self { kept, kept_bytes: 0, forgotten: 0, sent: 0, hears: 0, heard: 0, owes_ack: false, begun: false, agreed }
    }

    fn keep(&mut self, holdings: &mut Holdings, run: Extent) {
        holdings.hold(run.segment);
        self.kept_bytes += run.len as usize;
        self.sent += u64::from(run.count);
        self.kept.push_back(run);
    }

    /// The client has everything up to this number. What it cannot have yet is taken for what it can.
    fn forget_up_to(&mut self, holdings: &mut Holdings, number: u64) {
        let number = number.min(self.sent);
        while let Some((runs, messages)) = self.first_whole() {
            if self.forgotten + messages > number {
                break;
            }
            self.forgotten += messages;
            for run in self.kept.drain(..runs) {
                self.kept_bytes -= run.len as usize;
                holdings.release(run.segment);
            }
        }
    }

    /// Runs at the front that end with a message, and the messages in them.
    fn first_whole(&self) -> Option<(usize, u64)> {
        let mut messages = 0;
        for (index, run) in self.kept.iter().enumerate() {
            messages += u64::from(run.count);
            if run.flags & Extent::CONTINUES == 0 {
                return Some((index + 1, messages));
            }
        }
        None
    }

    fn hear(&mut self, holdings: &mut Holdings, message: &Message<'_>) -> Heard {
        self.begun = true;
        match *message {
            Message::Ack { sequence_id } => {
                self.forget_up_to(holdings, sequence_id);
                Heard::Done
            }
            // Numbers begin at 1; the client goes on with one that we have had, or with the next.
            Message::Sequence { sequence_id } if sequence_id > self.hears + 1 => Heard::Gap,
            Message::Sequence { sequence_id } => {
                self.hears = sequence_id.saturating_sub(1);
                Heard::Done
            }
            _ if !message.is_trackable() => Heard::New,
            _ => {
                self.hears += 1;
                if self.hears < self.heard {
                    return Heard::Done;
                }
                // Sent again up to the last one: our acknowledgement went with the carrier, and is waited for.
                self.owes_ack = true;
                let new = self.hears > self.heard;
                self.heard = self.hears;
                if new { Heard::New } else { Heard::Done }
            }
        }
    }

    /// Forgets everything.
    fn clear(&mut self, holdings: &mut Holdings) {
        self.kept.drain(..).for_each(|run| holdings.release(run.segment));
    }

    /// Runs that are kept.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Extent> {
        self.kept.iter()
    }

    pub(crate) fn touches(&self, segment: SegmentId) -> bool {
        self.kept.iter().any(|run| run.segment == segment)
    }
}

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
        let heard = window.hear(&mut self.holdings, message);
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
            let run = self.slots.hot(session).first;
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
                window.keep(&mut self.holdings, run);
            }
            torn = run.flags & Extent::CONTINUES != 0;
            self.owe(socket, run);
            let (hot, queues) = self.slots.outbox(session);
            outbox::release(hot, queues, &mut self.holdings, run.len);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::segment::{Logs, SEGMENT_BYTES};
    use fanfare_protocol::hub::message::Message;

    fn run(offset: u32, count: u16, flags: u8) -> Extent {
        Extent { segment: SegmentId::new(0, 0), offset, len: 10, count, flags, ..Extent::default() }
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_in_whole_messages_and_whole_runs() {
        let logs = Logs::new(1, 4 * SEGMENT_BYTES).expect("a log");
        let mut holdings = Holdings::new(0, &logs);
        let mut window = Window::new(Tick(0));
        window.keep(&mut holdings, run(0, 2, 0));
        // A message in two pieces, the second with another one behind it.
        window.keep(&mut holdings, run(10, 0, Extent::CONTINUES));
        window.keep(&mut holdings, run(20, 2, 0));
        window.keep(&mut holdings, run(30, 1, 0));
        assert_eq!((window.sent, window.kept_bytes), (5, 40));
        for (number, forgotten, kept) in [(1, 0, 4), (2, 2, 3), (3, 2, 3), (4, 4, 1), (4, 4, 1), (99, 5, 0)] {
            window.forget_up_to(&mut holdings, number);
            assert_eq!((window.forgotten, window.kept.len()), (forgotten, kept), "after Ack {number}");
        }
        assert_eq!((window.kept_bytes, holdings.total()), (0, 0));
    }

    #[test]
    fn the_clients_numbers_are_counted_and_compared() {
        let logs = Logs::new(1, 4 * SEGMENT_BYTES).expect("a log");
        let mut holdings = Holdings::new(0, &logs);
        let mut window = Window::new(Tick(0));
        let cancel = Message::CancelInvocation { invocation_id: "1".into() };
        let mut hear = |message: &Message<'_>| window.hear(&mut holdings, message);
        assert_eq!(hear(&Message::Ping), Heard::New);
        assert_eq!(hear(&cancel), Heard::New);
        assert_eq!(hear(&cancel), Heard::New);
        // Another carrier: the client goes on with its second message.
        assert_eq!(hear(&Message::Sequence { sequence_id: 2 }), Heard::Done);
        assert_eq!(hear(&cancel), Heard::Done, "line 139: a replayed message runs once");
        assert_eq!(hear(&cancel), Heard::New);
        assert_eq!(hear(&Message::Sequence { sequence_id: 4 }), Heard::Done, "nothing is missing");
        assert_eq!(hear(&Message::Sequence { sequence_id: 5 }), Heard::Gap, "line 140");
        assert!(window.heard == 3 && window.owes_ack);
        // Ours was lost with the last carrier: what is sent again up to the last number is acknowledged again.
        window.owes_ack = false;
        window.hear(&mut holdings, &Message::Sequence { sequence_id: 2 });
        assert_eq!(window.hear(&mut holdings, &cancel), Heard::Done);
        assert!(!window.owes_ack);
        assert_eq!(window.hear(&mut holdings, &cancel), Heard::Done);
        assert!(window.owes_ack);
    }
}
