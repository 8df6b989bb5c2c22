//! One thread's turn: completions, connections, notes, timers, flush. The corridor that joins all rooms.

mod audit;
mod deflated;
mod inbound;
mod introductions;
mod mail;
mod messages;
mod moving;
mod outbound;
mod requests;
mod sweep;
mod tls;

use crate::buf::RecvPool;
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::event::CloseReason;
use crate::hub::fanout::Ready;
use crate::hub::note::Note;
use crate::hub::publisher::Order;
use crate::hub::switchboard::{Shared, Switchboard};
use crate::interconnect::{Receiver, Sender};
use crate::io::{Completion, Errno, Generation, Io, IoCounters, Received, Slot, Wait};
use crate::limits::{self, READ_ROUNDS_BYTES_MAX, READ_ROUNDS_MAX, READ_ROUNDS_US_MAX};
use introductions::Introductions;
use outbound::Flights;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use sweep::Sweeper;
pub(crate) use sweep::timings;

/// How a shard is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Goodbyes are said, at the drain rate, until this time.
    Draining {
        deadline_us: u64,
        next: u32,
    },
    /// Everything is being closed.
    Stopping,
}

/// Notes and places of one shard in the interconnect.
pub(crate) struct Links {
    /// To every other shard; `None` in our own place.
    pub senders: Vec<Option<Sender<Note>>>,
    /// From every other shard; `None` in our own place.
    pub receivers: Vec<Option<Receiver<Note>>>,
}

/// One shard.
pub(crate) struct Shard<I: Io> {
    io: I,
    pool: RecvPool,
    board: Switchboard,
    receivers: Vec<Option<Receiver<Note>>>,
    completions: Vec<Completion>,
    flights: Flights,
    ready: Ready,
    /// Late connections whose sockets have room again.
    resumed: VecDeque<Slot>,
    /// Sockets on their way to another shard: to which, with which parcel.
    handed_over: HashMap<Slot, (u8, u32)>,
    /// Receives queued because the socket said there is more.
    more_reads: u32,
    read_rounds: u32,
    reading_since_us: u64,
    /// Other shards were told something, and more of it is being read.
    in_burst: bool,
    sweeper: Sweeper,
    phase: Phase,
    /// Listeners that are armed, of so many.
    accepts_armed: u8,
    listeners: u8,
    accept_at_us: Option<u64>,
    /// Bytes encrypted in this flush.
    sealed_bytes: usize,
    lent: usize,
    lend_barred_until_us: u64,
    introductions: Introductions,
}

/// After the table was full, or an accept failed, so long until the next try.
const ACCEPT_PAUSE_US: u64 = 100_000;
/// A turn that brought this many events is followed by another without sleep: there is more (engine notes on
/// deferred task work, which runs 20 items an enter unless more are asked for).
const BUSY_EVENTS: usize = 20;
/// Events asked for then.
const BUSY_WANT: u32 = 512;

impl<I: Io> Shard<I> {
    /// A shard that listens where `io` was told to. `None`: there is a shard of that number already.
    pub(crate) fn new(
        number: u8,
        mut io: I,
        pool: RecvPool,
        shared: Arc<Shared>,
        slots: usize,
        links: Links,
    ) -> Option<Self> {
        let mut board = Switchboard::new(number, shared, slots, links.senders)?;
        board.now_us = io.now_us();
        let listeners = io.accept();
        Some(Self {
            sweeper: Sweeper::new(board.now_us),
            io,
            pool,
            board,
            receivers: links.receivers,
            completions: Vec::with_capacity(limits::CQ_ENTRIES as usize),
            flights: Flights::default(),
            ready: Ready::default(),
            resumed: VecDeque::new(),
            handed_over: HashMap::new(),
            more_reads: 0,
            read_rounds: 0,
            reading_since_us: 0,
            in_burst: false,
            phase: Phase::Running,
            accepts_armed: listeners,
            listeners,
            accept_at_us: None,
            sealed_bytes: 0,
            lent: 0,
            lend_barred_until_us: 0,
            introductions: Introductions::default(),
        })
    }

    /// Turns until told to stop.
    pub(crate) fn run(&mut self) -> std::io::Result<()> {
        while self.turn()? {}
        self.board.shared.mailboxes[self.board.shard as usize].close();
        Ok(())
    }

    /// One turn. `false`: the shard has stopped and holds no connection.
    pub(crate) fn turn(&mut self) -> std::io::Result<bool> {
        let wait = self.wait();
        self.io.enter(wait, &mut self.pool, &mut self.completions)?;
        if self.completions.is_empty() && wait.want > 0 && self.io.now_us() < wait.deadline_us {
            // Still asleep (a signal; a simulated ring, which cannot block): whoever has news must go on waking us.
            return Ok(true);
        }
        self.board.shared.sleepers.awake(self.board.shard);
        self.board.now_us = self.io.now_us();
        self.board.forget_pings();

        let completions = std::mem::take(&mut self.completions);
        self.land(&completions);
        // Before those that have just been read from: whoever found no buffer gets the first one.
        self.read_again();
        self.board.go_on_shaking_hands();
        self.handle_completions(&completions);
        self.completions = completions;

        self.take_notes();
        self.take_commands();
        self.board.run_timers();
        self.board.run_drained();
        self.board.run_unheld();
        self.board.run_again();
        self.sweep();
        self.go_on_draining();
        self.wake_others();
        if self.may_flush() {
            self.flush();
        }
        self.move_out();
        self.close_closing();
        self.board.stamp_log();
        self.keep_log_free();
        self.publish_counters();
        Ok(!self.has_stopped())
    }

    /// How long the next enter may wait.
    fn wait(&mut self) -> Wait {
        let busy = self.completions.len() >= BUSY_EVENTS;
        let events = self.completions.len();
        self.completions.clear();
        let now = Wait { want: 0, min_wait_us: 0, deadline_us: 0 };
        if self.flights.outstanding() > 0 || self.more_reads > 0 {
            return Wait { want: self.flights.outstanding().clamp(1, BUSY_WANT), ..now };
        }
        if self.has_work() {
            return now;
        }
        if busy {
            // Deferred items beyond those that one enter runs by itself are there already: ask, do not wait.
            return Wait { want: BUSY_WANT.max(events as u32), min_wait_us: 0, deadline_us: self.board.now_us };
        }
        // Readers of full rings wake whoever says that its notes wait for room.
        let backed_up = self.is_backed_up();
        self.board.shared.backed_up[self.board.shard as usize].store(backed_up, Ordering::SeqCst);
        self.board.shared.sleepers.about_to_sleep(self.board.shard);
        if self.has_mail() || (backed_up && self.has_room()) {
            self.board.shared.sleepers.awake(self.board.shard);
            return now;
        }
        Wait { want: 1, min_wait_us: 0, deadline_us: self.next_due_us() }
    }

    /// Whether something was put off to the next turn.
    fn has_work(&self) -> bool {
        let board = &self.board;
        !(board.dirty.is_empty()
            && board.fans.is_empty()
            && board.retry.is_empty()
            && board.drained.is_empty()
            && board.unheld.is_empty()
            && board.again.is_empty()
            && board.over.is_empty()
            && board.evicted.is_empty()
            && board.tls.waiting() == 0
            && self.resumed.is_empty())
    }

    fn next_due_us(&self) -> u64 {
        let mut due =
            self.sweeper.next_us(self.board.counters.sockets_open.get() > 0 || self.board.slots.open_sessions() > 0);
        for other in
            [self.board.next_timer_us(), self.accept_at_us, self.board.held_polls.due_us()].into_iter().flatten()
        {
            due = due.min(other);
        }
        due
    }

    // -- completions ----------------------------------------------------------------------------------------------

    fn handle_completions(&mut self, completions: &[Completion]) {
        for completion in completions {
            match *completion {
                Completion::Sent { .. } | Completion::Released { .. } | Completion::Woken => {}
                Completion::Accepted { slot, listener } => self.accepted(slot, listener),
                Completion::AcceptEnded { errno } => self.accept_ended(errno),
                Completion::Readable { slot, generation, armed } => self.readable(slot, generation, armed),
                Completion::Received { slot, generation, received } => self.received(slot, generation, received),
                Completion::Writable { slot, generation } => self.writable(slot, generation),
                Completion::Lent { slot, generation, result } => self.handle_lent(slot, generation, result),
                Completion::HandedOver { slot, generation, result } => {
                    self.handle_handed_over(slot, generation, result);
                }
                Completion::Adopted { slot, parcel } => self.adopted(slot, parcel),
                Completion::Closed { slot, .. } => self.closed(slot),
                Completion::Introduced { slot, generation, peer } => self.introduced(slot, generation, peer),
                Completion::Connected { .. } => debug_assert!(false, "a server dials nobody"),
            }
        }
    }

    fn accepted(&mut self, slot: Slot, listener: u8) {
        let tick = self.board.tick();
        self.board.counters.accepted_total.add(1);
        self.board.counters.sockets_open.add(1);
        let hot = self.board.slots.occupy(slot);
        hot.session = fanfare_protocol::hub::session::Session::new(tick);
        if self.phase == Phase::Stopping {
            return self.board.hang_up(slot, CloseReason::Drain);
        }
        self.board.begin_tls(slot, listener);
        if self.board.slots.hot(slot).state == State::Closing {
            return;
        }
        if self.board.shared.admission.wants_addresses() {
            return self.introduce(slot);
        }
        self.watch(slot);
    }

    /// Arms the poll for input.
    fn watch(&mut self, slot: Slot) {
        let hot = self.board.slots.hot_mut(slot);
        hot.flags.set(Flags::POLL_ARMED);
        self.io.poll(slot, hot.generation);
    }

    fn accept_ended(&mut self, errno: Errno) {
        self.accepts_armed = self.accepts_armed.saturating_sub(1);
        if self.phase != Phase::Stopping && errno != Errno(libc::ECANCELED) {
            self.accept_at_us = Some(self.board.now_us + ACCEPT_PAUSE_US);
        }
    }

    fn accept_again(&mut self) {
        if self.accept_at_us.is_some_and(|at| at <= self.board.now_us) {
            self.accept_at_us = None;
            if self.phase != Phase::Stopping {
                self.accepts_armed += self.io.accept();
            }
        }
    }

    fn readable(&mut self, slot: Slot, generation: Generation, armed: bool) {
        let Some(hot) = self.board.slots.live(slot, generation) else { return };
        if !armed {
            // The poll has ended by itself (an overflow); what came meanwhile is found by reading.
            self.io.poll(slot, generation);
        }
        if hot.flags.has(Flags::RECV_INFLIGHT | Flags::PAUSED) {
            hot.flags.set(Flags::READ_AGAIN);
        } else {
            hot.flags.set(Flags::RECV_INFLIGHT);
            self.io.recv(slot, generation);
        }
    }

    fn received(&mut self, slot: Slot, generation: Generation, received: Received) {
        self.more_reads = self.more_reads.saturating_sub(u32::from(self.is_more_read(slot, generation)));
        let Some(hot) = self.board.slots.live(slot, generation) else {
            if let Received::Data { buffer, .. } = received {
                self.pool.give_back(buffer);
            }
            return;
        };
        hot.flags.clear(Flags::RECV_INFLIGHT);
        match received {
            Received::Data { buffer, len, more } => {
                self.board.handle_bytes(slot, &mut self.pool, buffer, len);
                self.pool.give_back(buffer);
                self.read_on(slot, generation, more);
            }
            Received::End => self.board.handle_end(slot),
            Received::WouldBlock => self.read_on(slot, generation, false),
            Received::NoBuffers => {
                self.board.counters.recv_pool_empty_total.add(1);
                self.board.want_read(slot);
            }
            Received::Failed(_) => self.board.hang_up(slot, CloseReason::Lost),
        }
    }

    fn is_more_read(&mut self, slot: Slot, generation: Generation) -> bool {
        let live = self.board.slots.live(slot, generation).is_some();
        live && self.board.slots.cold_mut(slot).flags.take(ColdFlags::MORE_READ)
    }

    /// After some input: read on in the next enter if there is more. One buffer of each connection a turn: nobody
    /// keeps the others waiting.
    fn read_on(&mut self, slot: Slot, generation: Generation, more: bool) {
        let Some(hot) = self.board.slots.live(slot, generation) else { return };
        if !(hot.flags.take(Flags::READ_AGAIN) || more) {
            return;
        }
        if hot.flags.has(Flags::PAUSED) {
            hot.flags.set(Flags::READ_AGAIN);
        } else {
            hot.flags.set(Flags::RECV_INFLIGHT);
            self.board.slots.cold_mut(slot).flags.set(ColdFlags::MORE_READ);
            self.more_reads += 1;
            self.io.recv(slot, generation);
        }
    }

    /// Reads from whoever was put off.
    fn read_again(&mut self) {
        for connection in std::mem::take(&mut self.board.retry) {
            let Some(hot) = self.board.slots.live(connection.slot(), connection.generation()) else { continue };
            hot.flags.clear(Flags::RETRY);
            if hot.flags.has(Flags::RECV_INFLIGHT | Flags::PAUSED) {
                hot.flags.set(Flags::READ_AGAIN);
                continue;
            }
            hot.flags.clear(Flags::READ_AGAIN);
            hot.flags.set(Flags::RECV_INFLIGHT);
            self.io.recv(connection.slot(), connection.generation());
        }
    }

    /// Broadcasts wait while whoever sends them has more to say: then they leave together.
    fn may_flush(&mut self) -> bool {
        if self.flights.outstanding() > 0 {
            return false;
        }
        let reading = self.more_reads > 0 && !self.board.fans.is_empty();
        let small = self.board.fans.pending_bytes() < READ_ROUNDS_BYTES_MAX;
        if self.read_rounds == 0 {
            self.reading_since_us = self.board.now_us;
        }
        let soon = self.board.now_us - self.reading_since_us < READ_ROUNDS_US_MAX;
        if reading && small && soon && self.read_rounds < READ_ROUNDS_MAX {
            self.read_rounds += 1;
            return false;
        }
        self.read_rounds = 0;
        true
    }

    // -- closing --------------------------------------------------------------------------------------------------

    fn close_closing(&mut self) {
        for index in 0..self.board.closing.len() {
            let slot = self.board.closing[index];
            if slot.is_session() {
                self.board.slots.vacate(slot);
                continue;
            }
            let hot = self.board.slots.hot_mut(slot);
            let (poll, poll_out) = (hot.flags.take(Flags::POLL_ARMED), hot.flags.take(Flags::POLL_OUT_ARMED));
            let generation = hot.generation;
            // A loan that was asked for and has not come is never reported any more, once its slot is closed.
            if hot.flags.take(Flags::LENT | Flags::LEND_PENDING) {
                self.lent -= 1;
                self.io.unlend(slot);
            }
            self.io.close(slot, generation, poll, poll_out);
        }
        self.board.closing.clear();
    }

    fn closed(&mut self, slot: Slot) {
        debug_assert_eq!(self.board.slots.hot(slot).state, State::Closing);
        if self.board.slots.cold_mut(slot).flags.take(ColdFlags::MORE_READ) {
            self.more_reads = self.more_reads.saturating_sub(1);
        }
        self.board.slots.vacate(slot);
        self.board.counters.sockets_open.sub(1);
        if self.accepts_armed < self.listeners && self.phase != Phase::Stopping && self.accept_at_us.is_none() {
            self.accept_at_us = Some(self.board.now_us);
        }
    }

    // -- the end --------------------------------------------------------------------------------------------------

    fn obey(&mut self, order: Order) {
        match order {
            Order::Drain { deadline_us } if self.phase == Phase::Running => {
                // Still accepting: whoever comes now is told to go elsewhere (503), and so is a load balancer.
                self.phase = Phase::Draining { deadline_us, next: 0 };
            }
            Order::Drain { .. } => {}
            Order::Stop => self.stop(),
        }
    }

    fn stop(&mut self) {
        if self.phase != Phase::Stopping {
            self.io.cancel_accept();
        }
        self.phase = Phase::Stopping;
        for slot in self.board.slots.all() {
            self.board.hang_up(slot, CloseReason::Shutdown);
        }
    }

    fn has_stopped(&self) -> bool {
        self.phase == Phase::Stopping
            && self.board.counters.sockets_open.get() == 0
            && self.flights.outstanding() == 0
            && self.accepts_armed == 0
    }

    fn publish_counters(&mut self) {
        let IoCounters { enters, submissions, sends, completions, overflows, .. } = self.io.counters();
        let counters = &self.board.counters;
        counters.turns_total.add(1);
        counters.ring_enters_total.set(enters);
        counters.ring_submissions_total.set(submissions);
        counters.ring_sends_total.set(sends);
        counters.ring_completions_total.set(completions);
        counters.ring_overflows_total.set(overflows);
        counters.tls_sockets.set(self.board.tls.len() as u64);
        counters.tls_handshakes_pending.set(self.board.tls.handshaking() as u64);
        counters.log_segments_free.set(self.board.owner.free() as u64);
        counters.log_segments_used.set((self.board.owner.open() + self.board.owner.sealed()) as u64);
    }

    /// The door to the kernel, for those who drive a shard by hand.
    pub(crate) fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }
}
