//! The way in and out for sockets that speak TLS: as [`super::inbound`] and [`super::outbound`], with the record layer of
//! [`crate::conn::tls`] between. Nothing is lent or sent from pages: what leaves is each client's own.

use crate::buf::Extent;
use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::conn::tls::{CannotSeal, begins_a_request, is_not_tls};
use crate::event::{CloseReason, RefuseReason, TlsFailure};
use crate::hub::asker::Asker;
use crate::hub::switchboard::Switchboard;
use crate::io::{Errno, GATHER_MAX, Io, Slot};
use crate::limits::{TLS_LATE_RECORD_BYTES_MAX, TLS_RECORD_BYTES_MAX, TLS_SEALED_PER_TURN_MAX};
use crate::shard::Shard;
use crate::shard::outbound::Flight;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::session::ticks_from_ms;

impl Switchboard {
    /// Bytes have come on a socket that speaks TLS, or should.
    pub(crate) fn handle_records(&mut self, slot: Slot, bytes: &mut [u8]) {
        let generation = self.slots.hot(slot).generation;
        let Some(stream) = self.tls.get_mut(slot) else { return };
        if stream.has_failed() {
            return self.linger(slot, bytes);
        }
        if stream.is_fresh()
            && let Some(&first) = bytes.first()
            && is_not_tls(first)
        {
            return self.handle_stranger(slot, bytes);
        }
        if stream.is_handshaking() && !self.tls.may_step() {
            if !self.tls.keep(slot, bytes) || self.tls_input_is_over(slot) {
                return self.hang_up(slot, CloseReason::Overload);
            }
            return self.tls.wait(slot, generation);
        }
        self.read_records(slot, bytes);
    }

    /// Whether unfinished records of all clients weigh more than they may, as much as unfinished messages, and this client
    /// has one: whoever has none would be closed in vain.
    pub(crate) fn tls_input_is_over(&self, slot: Slot) -> bool {
        self.tls.inbound_bytes() > self.limits.partial_bytes_max && self.tls.inbound_bytes_of(slot) > 0
    }

    /// Whether a record is under way for longer than a message may be.
    pub(crate) fn is_record_stuck(&mut self, slot: Slot) -> bool {
        let (tick, limit_ms) = (self.tick(), self.limits.message_timeout_ms);
        let is_read = !self.slots.hot(slot).flags.has(Flags::PAUSED);
        let Some(stream) = self.tls.get_mut(slot) else { return false };
        let since = stream.unfinished_since(tick, is_read);
        limit_ms > 0 && since.is_some_and(|since| tick.since(since) >= ticks_from_ms(limit_ms))
    }

    /// A socket was accepted by a TLS listener. It goes at once where too many are shaking hands: a handshake costs more
    /// than anything else that a stranger can ask for.
    pub(crate) fn begin_tls(&mut self, slot: Slot, listener: u8) {
        if !self.tls.begin(slot, listener) {
            return;
        }
        self.counters.tls_handshakes_pending.set(self.tls.handshaking() as u64);
        let pending_max = self.limits.handshakes_pending_max;
        if pending_max > 0 && self.shared.tls_handshakes_pending() > pending_max {
            self.counters.refused_total[RefuseReason::Handshakes as usize].add(1);
            self.tls.take(slot);
            self.hang_up(slot, CloseReason::TlsHandshake);
        }
    }

    /// A new turn: handshakes that had to wait make their next step.
    pub(crate) fn go_on_shaking_hands(&mut self) {
        self.tls.begin_turn();
        while let Some((slot, generation)) = self.tls.next_waiting() {
            if self.slots.live(slot, generation).is_some() {
                self.read_records(slot, &mut []);
            }
        }
    }

    fn read_records(&mut self, slot: Slot, bytes: &mut [u8]) {
        let connection = self.reference(slot);
        let mut plain = self.tls.take_plain();
        let Some(read) = self.tls.read(slot, bytes, &mut plain) else { return };
        if self.tls.has_rest(slot) {
            self.make_dirty(slot);
        }
        if read.opened {
            self.counters.tls_handshakes_total.add(1);
            self.counters.tls_resumed_total.add(u64::from(read.resumed));
        }
        if !plain.is_empty() {
            self.handle_slice(slot, &mut plain);
        }
        self.tls.give_plain(plain);
        if self.resolve(connection).is_none() {
            return;
        }
        match read.failure {
            Some(failure) => self.handle_tls_failure(slot, failure),
            None if read.ended => self.handle_end(slot),
            None if self.tls_input_is_over(slot) => self.hang_up(slot, CloseReason::Overload),
            None => {}
        }
    }

    /// The first byte is no TLS. Whoever speaks HTTP is told so in HTTP; others in TLS, by an alert.
    fn handle_stranger(&mut self, slot: Slot, bytes: &mut [u8]) {
        if !bytes.first().copied().is_some_and(begins_a_request) {
            let mut nothing = Vec::new();
            let _ = self.tls.read(slot, bytes, &mut nothing);
            return self.handle_tls_failure(slot, TlsFailure::NotTls);
        }
        self.counters.tls_failed_total[TlsFailure::NotTls as usize].add(1);
        self.tls.take(slot);
        let answer = Asker::default().text(400, "This port speaks TLS: use https:// or wss://.\n");
        let _ = self.tell_bytes(slot, &answer);
        self.fail(slot, CloseReason::TlsHandshake, CloseCode::NORMAL);
    }

    /// The client's records make no sense. In a handshake it is told by an alert. Later it is lost, like one whose socket
    /// broke: who made up the bytes is not known, and a connection that can be resumed may be.
    fn handle_tls_failure(&mut self, slot: Slot, failure: TlsFailure) {
        if !self.tls.is_handshaking(slot) {
            self.counters.tls_broken_total.add(1);
            return self.hang_up(slot, CloseReason::Lost);
        }
        self.tls.fail(slot);
        self.counters.tls_failed_total[failure as usize].add(1);
        self.fail(slot, CloseReason::TlsHandshake, CloseCode::NORMAL);
    }

    /// The socket goes, and its TLS with it.
    pub(crate) fn forget_tls(&mut self, slot: Slot, reason: CloseReason) {
        let Some(stream) = self.tls.take(slot) else { return };
        if stream.is_handshaking() {
            let failure = match reason {
                CloseReason::HttpTimeout => TlsFailure::Timeout,
                CloseReason::Lost | CloseReason::HttpDone => TlsFailure::Gone,
                _ => TlsFailure::Other,
            };
            self.counters.tls_failed_total[failure as usize].add(1);
        }
    }
}

impl<I: Io> Shard<I> {
    /// One send of a socket that speaks TLS: what is left of its records, or the next one.
    pub(super) fn send_records(&mut self, slot: Slot) {
        if self.sealed_bytes >= TLS_SEALED_PER_TURN_MAX {
            return self.board.make_dirty(slot);
        }
        if !self.board.tls.has_rest(slot) && self.seal(slot).is_err() {
            // Its keys are used up, or it has said goodbye: whatever is owed cannot be said.
            return self.board.hang_up(slot, CloseReason::Lost);
        }
        let Some(stream) = self.board.tls.get(slot) else { return };
        if stream.rest().is_empty() {
            if outbox::is_clear(self.board.slots.hot(slot)) {
                self.became_clear(slot);
            }
            return;
        }
        self.board.slots.hot_mut(slot).flags.set(Flags::SEND_INFLIGHT);
        let tag = self.flights.begin(Flight::Records, 1);
        self.io.send_copy(slot, tag, stream.rest());
    }

    /// Encrypts what the outbox begins with, and the goodbye if nothing comes behind it.
    fn seal(&mut self, slot: Slot) -> Result<(), CannotSeal> {
        let mut runs = [Extent::default(); GATHER_MAX];
        let (hot, queues) = self.board.slots.outbox(slot);
        let count = outbox::next_send(hot, queues, &mut runs);
        let (owed_bytes, late) = (hot.owed_bytes, hot.flags.has(Flags::SLOW));
        let last = hot.state == State::Farewell && hot.flags.has(Flags::CLOSE_WHEN_SENT);
        let bytes_max = if late { TLS_LATE_RECORD_BYTES_MAX } else { TLS_RECORD_BYTES_MAX };
        let logs = &self.board.logs;
        let Some((stream, scratch)) = self.board.tls.with_scratch(slot) else { return Ok(()) };
        if stream.is_handshaking() {
            // What it has to say waits for the end of the handshake.
            return Ok(());
        }
        match &runs[..count] {
            [] => {}
            [only] => {
                let len = only.len.min(bytes_max as u32);
                stream.seal(logs.bytes(Extent { len, ..*only }))?;
            }
            several => {
                scratch.clear();
                for run in several {
                    let len = run.len.min((bytes_max - scratch.len()) as u32);
                    scratch.extend_from_slice(logs.bytes(Extent { len, ..*run }));
                }
                stream.seal(scratch)?;
            }
        }
        if last && stream.sealed() == owed_bytes && stream.owes_goodbye() {
            stream.say_goodbye()?;
        }
        self.sealed_bytes += stream.rest().len();
        Ok(())
    }

    /// What the socket has taken of its records.
    pub(super) fn records_sent(&mut self, slot: Slot, result: Result<u32, Errno>) {
        let Some(taken) = self.taken(slot, result) else { return };
        let Some(stream) = self.board.tls.get_mut(slot) else { return };
        let released = stream.taken(taken);
        let (short, sealed) = (!stream.rest().is_empty(), stream.sealed());
        if short {
            let (hot, queues) = self.board.slots.outbox(slot);
            outbox::mark_begun(hot, queues, sealed);
        }
        self.go_on_sending(slot, (taken, released), short);
    }
}
