//! The flush: at most one send per connection and turn, and what the kernel made of it.

use crate::buf::Extent;
use crate::conn::outbox;
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::event::CloseReason;
use crate::io::{Completion, Errno, GATHER_MAX, Generation, Io, Sent, Slot};
use crate::limits::RESUMED_PER_TURN;
use crate::shard::Shard;

/// What a send's tag stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flight {
    /// The same run to many, none of which has any state for it.
    Fan(Extent),
    /// This many bytes from the front of one outbox.
    Outbox(u32),
    /// What a TLS connection has encrypted.
    Records,
}

/// The sends that are with the kernel. All of them are answered before the next flush.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: Vec<Flight>,
    outstanding: u32,
    /// Bytes taken by the back end and not yet released by it.
    unreleased_bytes: u64,
}

impl Flights {
    /// Sends without answer yet.
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(super) fn begin(&mut self, flight: Flight, sends: usize) -> u32 {
        self.list.push(flight);
        self.outstanding += sends as u32;
        (self.list.len() - 1) as u32
    }
}

/// How long after a refused loan nobody asks for another.
const LEND_PAUSE_US: u64 = 1_000_000;

impl<I: Io> Shard<I> {
    /// The end of the turn: everybody who is owed something gets one send.
    pub(super) fn flush(&mut self) {
        self.flights.list.clear();
        self.sealed_bytes = 0;
        self.board.spread(&mut self.ready);
        self.board.answer_polls(self.more_reads > 0);
        // Before any send is queued: what a queued send reads must stay held until the kernel has taken it.
        self.board.act_on_slow();
        for (slots, run) in self.ready.slots.0.iter().zip(self.ready.runs.0) {
            if !slots.is_empty() {
                let tag = self.flights.begin(Flight::Fan(run), slots.len());
                self.io.fan(run, slots, tag);
            }
        }
        self.ready.slots.0.iter_mut().for_each(Vec::clear);
        for _ in 0..RESUMED_PER_TURN.min(self.resumed.len()) {
            if let Some(slot) = self.resumed.pop_front() {
                self.board.slots.cold_mut(slot).flags.clear(ColdFlags::RESUMED);
                self.send_outbox(slot);
            }
        }
        let mut dirty = std::mem::take(&mut self.board.dirty);
        for slot in dirty.drain(..) {
            self.board.slots.hot_mut(slot).flags.clear(Flags::DIRTY);
            self.send_outbox(slot);
        }
        // What the loop itself has made dirty again (sent from pages, more to go) keeps the new list.
        if self.board.dirty.is_empty() {
            self.board.dirty = dirty;
        }
    }

    fn send_outbox(&mut self, slot: Slot) {
        let hot = self.board.slots.hot_mut(slot);
        let waiting = Flags::SEND_INFLIGHT | Flags::POLL_OUT_ARMED | Flags::LEND_PENDING;
        if matches!(hot.state, State::Free | State::Closing) || hot.flags.has(waiting) {
            return;
        }
        if self.board.tls.has(slot) {
            return self.send_records(slot);
        }
        if outbox::is_clear(hot) {
            return self.became_clear(slot);
        }
        if self.wants_pages(slot) {
            return self.send_pages(slot);
        }
        let mut runs = [Extent::default(); GATHER_MAX];
        let (hot, queues) = self.board.slots.outbox(slot);
        let count = outbox::next_send(hot, queues, &mut runs);
        hot.flags.set(Flags::SEND_INFLIGHT);
        let bytes = runs[..count].iter().map(|run| run.len).sum();
        let tag = self.flights.begin(Flight::Outbox(bytes), 1);
        match count {
            1 => self.io.send(slot, tag, runs[0]),
            _ => self.io.send_gather(slot, tag, &runs[..count]),
        }
    }

    // -- what the kernel says -------------------------------------------------------------------------------------

    /// Takes the answers to sends, before anything else of the turn: they were given first.
    pub(super) fn land(&mut self, completions: &[Completion]) {
        let mut bytes_sent = 0;
        for completion in completions {
            match *completion {
                Completion::Sent { slot, tag, sent } => {
                    let taken = sent.result.unwrap_or(0);
                    bytes_sent += u64::from(taken);
                    self.flights.outstanding -= 1;
                    self.flights.unreleased_bytes += u64::from(taken - sent.released.min(taken));
                    match self.flights.list[tag as usize] {
                        Flight::Fan(run) if sent.result == Ok(run.len) => {}
                        Flight::Fan(run) => self.fan_fell_short(slot, run, sent),
                        Flight::Records => self.records_sent(slot, sent.result),
                        Flight::Outbox(bytes) => {
                            if sent.released < taken {
                                self.keep_unreleased(slot, taken);
                            }
                            self.outbox_sent(slot, bytes, sent.result);
                        }
                    }
                }
                Completion::Released { bytes, .. } => {
                    self.flights.unreleased_bytes = self.flights.unreleased_bytes.saturating_sub(u64::from(bytes));
                }
                _ => {}
            }
        }
        if bytes_sent > 0 {
            self.board.counters.bytes_sent_total.add(bytes_sent);
        }
        if self.flights.outstanding == 0 && self.flights.unreleased_bytes == 0 {
            self.board.fans.landed(&mut self.board.holdings);
        }
    }

    /// The back end has taken `taken` bytes of the outbox and will look at them again: what they lie in stays until
    /// everything is released, as it does for broadcasts. Never happens on the ring.
    fn keep_unreleased(&mut self, slot: Slot, taken: u32) {
        let (hot, queues) = self.board.slots.outbox(slot);
        let mut left = taken;
        for run in outbox::iter(hot, queues) {
            if left == 0 {
                break;
            }
            left -= run.len.min(left);
            self.board.fans.keep_flying(&mut self.board.holdings, run.segment);
        }
    }

    /// A member that had no state gets some: it is behind now.
    fn fan_fell_short(&mut self, slot: Slot, run: Extent, sent: Sent) {
        self.board.counters.short_sends_total.add(1);
        let taken = match sent.result {
            Ok(taken) => taken,
            Err(Errno(libc::EAGAIN)) => 0,
            Err(_) => return self.board.hang_up(slot, CloseReason::Lost),
        };
        let tick = self.board.tick();
        let hot = self.board.slots.hot_mut(slot);
        if matches!(hot.state, State::Free | State::Closing) {
            return;
        }
        let mut rest = run;
        rest.advance(taken);
        if outbox::is_clear(hot) {
            hot.progress_tick = tick.0;
        }
        self.board.put_back(slot, rest);
        self.wait_for_room(slot);
    }

    /// An answer to a send of one connection. The bytes that were taken, if the connection is still there.
    pub(super) fn taken(&mut self, slot: Slot, result: Result<u32, Errno>) -> Option<u32> {
        let hot = self.board.slots.hot_mut(slot);
        hot.flags.clear(Flags::SEND_INFLIGHT);
        if matches!(hot.state, State::Free | State::Closing) {
            return None;
        }
        match result {
            Ok(taken) => Some(taken),
            Err(Errno(libc::EAGAIN)) => Some(0),
            Err(_) => {
                self.board.hang_up(slot, CloseReason::Lost);
                None
            }
        }
    }

    fn outbox_sent(&mut self, slot: Slot, bytes: u32, result: Result<u32, Errno>) {
        let Some(taken) = self.taken(slot, result) else { return };
        self.go_on_sending(slot, (taken, taken), taken < bytes);
    }

    /// What follows a send of one connection: `taken` bytes have gone, with them these of its outbox, and the socket took
    /// all that it was given unless the send was `short`.
    pub(super) fn go_on_sending(&mut self, slot: Slot, (taken, released): (u32, u32), short: bool) {
        let tick = self.board.tick();
        let (hot, queues) = self.board.slots.outbox(slot);
        outbox::release(hot, queues, &mut self.board.holdings, released);
        if taken > 0 {
            hot.progress_tick = tick.0;
        }
        if outbox::is_clear(hot) && !short {
            self.became_clear(slot);
        } else if short {
            self.board.counters.short_sends_total.add(1);
            self.wait_for_room(slot);
        } else {
            self.board.make_dirty(slot);
        }
        if self.board.slots.hot(slot).flags.has(Flags::PAUSED) {
            self.board.unpause(slot);
        }
    }

    fn wait_for_room(&mut self, slot: Slot) {
        let hot = self.board.slots.hot_mut(slot);
        if !hot.flags.has(Flags::POLL_OUT_ARMED) {
            hot.flags.set(Flags::POLL_OUT_ARMED);
            let generation = hot.generation;
            self.io.poll_out(slot, generation);
        }
        self.board.judge_lateness(slot);
    }

    pub(super) fn became_clear(&mut self, slot: Slot) {
        self.board.note_clear(slot);
        let hot = self.board.slots.hot_mut(slot);
        if hot.state == State::Farewell && hot.flags.has(Flags::CLOSE_WHEN_SENT) {
            if self.board.tls.owes_goodbye(slot) {
                return self.board.make_dirty(slot);
            }
            return self.all_said(slot);
        }
        self.board.unpause(slot);
    }

    /// The last byte of a farewell has gone.
    fn all_said(&mut self, slot: Slot) {
        let peer_done = self.board.slots.hot(slot).flags.has(Flags::PEER_DONE);
        if peer_done || !self.board.slots.cold(slot).flags.has(ColdFlags::HALF_CLOSE) {
            return self.board.hang_up(slot, CloseReason::Normal);
        }
        // Only a descriptor of the process can be shut down at once: the ring would hand it to a worker thread, which
        // could meet the slot's next tenant.
        if self.board.slots.hot(slot).flags.has(Flags::LENT) {
            self.board.slots.hot_mut(slot).flags.clear(Flags::CLOSE_WHEN_SENT);
            self.io.shutdown(slot);
        } else if self.may_lend() {
            self.lend(slot);
        } else {
            self.board.hang_up(slot, CloseReason::Normal);
        }
    }

    pub(super) fn writable(&mut self, slot: Slot, generation: Generation) {
        let Some(hot) = self.board.slots.live(slot, generation) else { return };
        hot.flags.clear(Flags::POLL_OUT_ARMED);
        let cold = self.board.slots.cold_mut(slot);
        if !cold.flags.has(ColdFlags::RESUMED) {
            cold.flags.set(ColdFlags::RESUMED);
            self.resumed.push_back(slot);
        }
    }

    // -- from the log's pages -------------------------------------------------------------------------------------

    /// Large runs, and whatever a late reader is owed, go from the log's pages: cheaper, and a reader that stalls
    /// holds shared pages in the kernel instead of copies.
    fn wants_pages(&mut self, slot: Slot) -> bool {
        let limits = &self.board.limits;
        let hot = self.board.slots.hot(slot);
        let large = hot.first.len as usize >= limits.send_file_bytes_min;
        let late = hot.flags.has(Flags::SLOW);
        if limits.send_file_bytes_min == 0 || !(large || late) {
            return false;
        }
        hot.flags.has(Flags::LENT) || self.may_lend()
    }

    fn may_lend(&self) -> bool {
        self.lent < self.board.limits.lent_fds_max && self.board.now_us >= self.lend_barred_until_us
    }

    /// Asks for a descriptor of the process; the outbox goes on when it is there.
    fn lend(&mut self, slot: Slot) {
        let hot = self.board.slots.hot_mut(slot);
        hot.flags.set(Flags::LEND_PENDING);
        let generation = hot.generation;
        self.lent += 1;
        self.io.lend(slot, generation);
    }

    fn send_pages(&mut self, slot: Slot) {
        let hot = *self.board.slots.hot(slot);
        if !hot.flags.has(Flags::LENT) {
            return self.lend(slot);
        }
        let mut runs = [Extent::default(); GATHER_MAX];
        outbox::next_send(&hot, &self.board.slots.runs, &mut runs);
        let run = runs[0];
        self.board.logs.mark_lent(run.segment);
        let result = self.io.send_file(slot, run);
        self.board.counters.bytes_sent_total.add(u64::from(result.unwrap_or(0)));
        self.outbox_sent(slot, run.len, result);
    }

    pub(super) fn handle_lent(&mut self, slot: Slot, generation: Generation, result: Result<(), Errno>) {
        let now_us = self.board.now_us;
        // About to be closed: the close, at the end of this turn, gives the loan back.
        let Some(hot) = self.board.slots.live(slot, generation) else { return };
        hot.flags.clear(Flags::LEND_PENDING);
        match result {
            Ok(()) => hot.flags.set(Flags::LENT),
            Err(_) => {
                self.lent -= 1;
                self.lend_barred_until_us = now_us + LEND_PAUSE_US;
            }
        }
        self.board.make_dirty(slot);
    }

    /// Takes the descriptor of a connection back that has been quiet.
    pub(super) fn take_back(&mut self, slot: Slot) {
        let hot = self.board.slots.hot_mut(slot);
        if hot.flags.take(Flags::LENT) {
            self.lent -= 1;
            self.io.unlend(slot);
        }
    }
}
