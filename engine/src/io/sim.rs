//! A seeded fake ring: the same door to a kernel and a network that do everything legal, and do it at the worst time.
//!
//! One seed is one run: cuts, delays, the order of completions, short sends, full pools, ending polls. Nothing here
//! is a thread or a clock. Several [`Sim`]s of one [`World`] are the shards of one engine in one thread.
//!
//! What the real ring forgives by accident, the fake one refuses loudly: two sends of one slot in a turn, a poll
//! armed twice, a close that leaves a poll armed (the peer would never see the end), a generation used again.

mod options;
#[cfg(test)]
mod tests;
mod world;

pub use options::{Permille, Rng, SimOptions};
pub use world::{PeerId, PeerState, World};

use super::wake::WakeHandle;
use super::{
    COPY_BYTES_MAX, Completion, Errno, GATHER_MAX, Generation, Io, IoCounters, LISTENERS_MAX, Received, Sent, Slot,
    Tag, Wait,
};
use crate::buf::{Extent, Logs, RecvPool};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use world::{Chunk, HandOver, ListenerView, State, drop_outbound};

/// Deferred events that the kernel handles in one `enter`, however little is asked for.
const DEFERRED_MIN: usize = 20;

/// A queued request.
#[derive(Debug)]
enum Request {
    Poll { slot: Slot, generation: Generation },
    Recv { slot: Slot, generation: Generation },
    Send { slot: Slot, tag: Tag, runs: Vec<Extent> },
    SendCopy { slot: Slot, tag: Tag, bytes: Vec<u8> },
    PollOut { slot: Slot, generation: Generation },
    Lend { slot: Slot, generation: Generation },
    Introduce { slot: Slot, generation: Generation },
    HandOver { slot: Slot, generation: Generation, shard: u8, parcel: u32 },
    Close { slot: Slot, generation: Generation },
    CancelAccept,
}

/// Completions of one lane keep their order; lanes are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    /// Sends, releases and the close of a slot.
    Slot(Slot),
    Recv(Slot),
    Poll(Slot),
    PollOut(Slot),
    Lend(Slot),
    Introduce(Slot),
    HandOver(Slot),
    Adopt,
    Accept(usize),
    Wake,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    lane: Lane,
    completion: Completion,
}

impl Event {
    /// Sends never outlive the `enter` that submits them.
    fn is_prompt(&self) -> bool {
        matches!(self.completion, Completion::Sent { .. })
    }
}

/// Who sits in a slot, from accept until `Closed` is delivered.
#[derive(Debug)]
struct Tenant {
    connection: usize,
    generation: Option<Generation>,
    poll: Option<Generation>,
    poll_out: Option<Generation>,
    /// Asked for (`false`), or there (`true`).
    loan: Option<bool>,
    send_queued: bool,
    close_queued: bool,
    closed: bool,
    /// Something arrived that the poll has not reported.
    news: bool,
    /// On its way to another shard, or there.
    handed_over: bool,
}

impl Tenant {
    fn new(connection: usize) -> Self {
        Self {
            connection,
            generation: None,
            poll: None,
            poll_out: None,
            loan: None,
            send_queued: false,
            close_queued: false,
            closed: false,
            news: false,
            handed_over: false,
        }
    }
}

#[derive(Debug)]
struct Listener {
    view: usize,
    armed: bool,
}

/// One shard's fake ring.
#[derive(Debug)]
pub struct Sim {
    world: World,
    shard: u8,
    logs: Logs,
    slots: Vec<Option<Tenant>>,
    /// The last tenant's generation, to catch one that is used again.
    last_generation: Vec<Option<Generation>>,
    listeners: Vec<Listener>,
    queue: VecDeque<Request>,
    wakes: Vec<u8>,
    events: Vec<Event>,
    no_buffers_left: u64,
    counters: IoCounters,
}

impl World {
    /// The fake ring of a shard. Once per shard.
    pub fn sim(&self, shard: u8) -> Sim {
        let state = self.0.borrow();
        assert!((shard as usize) < state.shards.len(), "no such shard");
        let slots = state.options.slots as usize;
        Sim {
            world: self.clone(),
            shard,
            logs: state.logs.clone(),
            slots: (0..slots).map(|_| None).collect(),
            last_generation: vec![None; slots],
            listeners: Vec::new(),
            queue: VecDeque::new(),
            wakes: Vec::new(),
            events: Vec::new(),
            no_buffers_left: 0,
            counters: IoCounters::default(),
        }
    }
}

impl Sim {
    /// The fake ring of the only shard of a world of its own, which [`Sim::world`] gives out.
    pub fn new(seed: u64, options: SimOptions, logs: &Logs) -> Self {
        World::new(seed, options, logs).sim(0)
    }

    /// The other side.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// Wakes this shard, like a thread without a ring would.
    pub fn wake_handle(&self) -> WakeHandle {
        WakeHandle::from_flag(self.world.0.borrow().shards[self.shard as usize].woken.clone())
    }

    /// Completions that were not delivered yet.
    pub fn undelivered(&self) -> usize {
        self.events.len()
    }

    fn tenant(&mut self, slot: Slot) -> Option<&mut Tenant> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Checks that a request names the slot's present tenant.
    fn check_generation(&mut self, slot: Slot, generation: Generation) {
        let last = self.last_generation.get(slot.0 as usize).copied().flatten();
        if let Some(tenant) = self.tenant(slot) {
            assert_ne!(last, Some(generation), "{slot:?}: generation of the last tenant used again");
            let known = *tenant.generation.get_or_insert(generation);
            assert_eq!(known, generation, "{slot:?}: generation changed within a tenancy");
        }
    }

    fn push(&mut self, lane: Lane, completion: Completion) {
        self.events.push(Event { lane, completion });
    }

    /// What the network brings: bytes, ends and resets reach the sockets.
    fn arrive(&mut self, state: &mut State) {
        for index in 0..self.slots.len() {
            let Some(tenant) = self.slots[index].as_mut().filter(|tenant| !tenant.handed_over) else { continue };
            let connection = &mut state.connections[tenant.connection];
            if connection.reset_under_way && !state.rng.chance(state.options.late_arrival) {
                connection.reset_under_way = false;
                connection.reset_arrived = true;
                connection.inbound.clear();
                tenant.news = true;
            }
            if !connection.under_way.is_empty() && !state.rng.chance(state.options.late_arrival) {
                let most = state.rng.within_u32(&state.options.arrival_bytes) as usize;
                let n = most.clamp(1, connection.under_way.len());
                connection.inbound.extend(connection.under_way.drain(..n));
                tenant.news = true;
            }
            let finished = connection.peer_finished && connection.under_way.is_empty() && !connection.finish_arrived;
            if finished && !state.rng.chance(state.options.late_arrival) {
                connection.finish_arrived = true;
                tenant.news = true;
            }
        }
    }

    /// Takes waiting connections into free slots, lowest first.
    fn accept_waiting(&mut self, state: &mut State) {
        for index in 0..self.listeners.len() {
            while self.listeners[index].armed {
                let backlog = &mut state.listeners[self.listeners[index].view].backlog;
                let Some(&connection) = backlog.front() else { break };
                if state.rng.chance(state.options.late_arrival) {
                    break;
                }
                let Some(free) = self.slots.iter().position(Option::is_none) else {
                    self.end_accept(index, libc::ENFILE);
                    break;
                };
                backlog.pop_front();
                state.shards[self.shard as usize].open += 1;
                self.slots[free] = Some(Tenant::new(connection as usize));
                self.push(Lane::Accept(index), Completion::Accepted { slot: Slot(free as u32), listener: index as u8 });
                if state.rng.chance(state.options.accept_ends) {
                    self.end_accept(index, libc::EAGAIN);
                }
            }
        }
    }

    fn end_accept(&mut self, listener: usize, errno: i32) {
        self.listeners[listener].armed = false;
        self.push(Lane::Accept(listener), Completion::AcceptEnded { errno: Errno(errno) });
    }

    /// Carries out everything that was queued, in order.
    fn execute(&mut self, state: &mut State, pool: &mut RecvPool) {
        while let Some(request) = self.queue.pop_front() {
            self.counters.submissions += 1;
            match request {
                Request::Poll { slot, generation } => self.execute_poll(state, slot, generation),
                Request::Recv { slot, generation } => {
                    let received = self.execute_recv(state, pool, slot);
                    self.push(Lane::Recv(slot), Completion::Received { slot, generation, received });
                }
                Request::Send { slot, tag, runs } => {
                    let sent = self.execute_send(state, slot, &runs);
                    self.push(Lane::Slot(slot), Completion::Sent { slot, tag, sent });
                }
                Request::SendCopy { slot, tag, bytes } => {
                    let sent = self.execute_send_copy(state, slot, &bytes);
                    self.push(Lane::Slot(slot), Completion::Sent { slot, tag, sent });
                }
                Request::PollOut { slot, generation } => match self.tenant(slot) {
                    Some(tenant) if !tenant.closed => tenant.poll_out = Some(generation),
                    _ => self.push(Lane::PollOut(slot), Completion::Writable { slot, generation }),
                },
                Request::Lend { slot, generation } => self.execute_lend(state, slot, generation),
                Request::Introduce { slot, generation } => {
                    let tenant = self.tenant(slot).filter(|tenant| !tenant.closed);
                    let peer = tenant.map(|tenant| state.connections[tenant.connection].address);
                    self.push(Lane::Introduce(slot), Completion::Introduced { slot, generation, peer });
                }
                Request::HandOver { slot, generation, shard, parcel } => {
                    self.execute_hand_over(state, (slot, generation), shard, parcel);
                }
                Request::Close { slot, generation } => self.execute_close(state, slot, generation),
                Request::CancelAccept => {
                    for index in 0..self.listeners.len() {
                        if self.listeners[index].armed {
                            self.end_accept(index, libc::ECANCELED);
                        }
                    }
                }
            }
        }
    }

    fn execute_poll(&mut self, state: &mut State, slot: Slot, generation: Generation) {
        match self.tenant(slot) {
            Some(tenant) if !tenant.closed => {
                assert!(tenant.poll.is_none(), "{slot:?}: the poll is armed already");
                tenant.poll = Some(generation);
                // Arming looks at the level: what is there already counts as news.
                tenant.news |= state.connections[tenant.connection].readable();
            }
            _ => self.push(Lane::Poll(slot), Completion::Readable { slot, generation, armed: false }),
        }
    }

    fn execute_recv(&mut self, state: &mut State, pool: &mut RecvPool, slot: Slot) -> Received {
        let Some(tenant) = self.slots.get(slot.0 as usize).and_then(Option::as_ref).filter(|tenant| !tenant.closed)
        else {
            return Received::Failed(Errno(libc::EBADF));
        };
        if self.no_buffers_left > 0 {
            self.no_buffers_left -= 1;
            return Received::NoBuffers;
        }
        if state.rng.chance(state.options.no_buffers) {
            self.no_buffers_left = state.rng.below(20);
            return Received::NoBuffers;
        }
        let connection = &mut state.connections[tenant.connection];
        if connection.reset_arrived && !connection.reset_reported {
            connection.reset_reported = true;
            return Received::Failed(Errno(libc::ECONNRESET));
        }
        if connection.inbound.is_empty() {
            let ended = connection.finish_arrived || connection.reset_arrived;
            return if ended { Received::End } else { Received::WouldBlock };
        }
        let mut n = connection.inbound.len().min(pool.buffer_bytes() as usize);
        if state.rng.chance(state.options.cut_receive) {
            n = 1 + state.rng.below(n as u64) as usize;
        }
        let (front, back) = connection.inbound.as_slices();
        let bytes: Vec<u8> = front.iter().chain(back).take(n).copied().collect();
        let Some(buffer) = pool.fill(&bytes) else { return Received::NoBuffers };
        connection.inbound.drain(..n);
        // An end that has arrived counts as more, as in the kernel: there may be no other event for it.
        let left = !connection.inbound.is_empty() || connection.finish_arrived;
        let more = left || n == pool.buffer_bytes() as usize;
        Received::Data { buffer, len: n as u32, more }
    }

    /// How many of `len` bytes the socket takes now.
    fn take_room(&mut self, state: &mut State, slot: Slot, len: u32) -> Result<(usize, u32), Errno> {
        let Some(tenant) = self.tenant(slot).filter(|tenant| !tenant.closed) else { return Err(Errno(libc::EBADF)) };
        let index = tenant.connection;
        let connection = &mut state.connections[index];
        if connection.reset_arrived {
            let first = !std::mem::replace(&mut connection.reset_reported, true);
            return Err(Errno(if first { libc::ECONNRESET } else { libc::EPIPE }));
        }
        if connection.peer_gone {
            // Nobody is there: the bytes go, and a reset comes back.
            connection.reset_under_way = true;
            return Ok((index, len));
        }
        let room = connection.send_room();
        if room == 0 || state.rng.chance(state.options.would_block) {
            return Err(Errno(libc::EAGAIN));
        }
        let mut n = len.min(room);
        if n > 1 && state.rng.chance(state.options.short_send) {
            n = 1 + state.rng.below(u64::from(n)) as u32;
        }
        Ok((index, n))
    }

    fn execute_send(&mut self, state: &mut State, slot: Slot, runs: &[Extent]) -> Sent {
        let len = runs.iter().map(|run| run.len).sum();
        let (index, n) = match self.take_room(state, slot, len) {
            Ok(taken) => taken,
            Err(errno) => return Sent { result: Err(errno), released: 0 },
        };
        let retain = state.options.release_when_read;
        let connection = &mut state.connections[index];
        let mut left = n;
        for &run in runs {
            let piece = Extent { len: run.len.min(left), ..run };
            left -= piece.len;
            // Also when nobody is there: the kernel reads the bytes in any case, and so do the checks.
            let bytes = self.logs.bytes(piece);
            if connection.peer_gone || piece.is_empty() {
                continue;
            }
            connection.outbound_bytes += piece.len;
            if retain {
                connection.outbound.push_back(Chunk::Retained { bytes: piece });
            } else {
                connection.outbound.push_back(Chunk::Copied(bytes.iter().copied().collect()));
            }
        }
        if retain && connection.peer_gone {
            connection.unreported_bytes += n;
        }
        Sent { result: Ok(n), released: if retain { 0 } else { n } }
    }

    fn execute_send_copy(&mut self, state: &mut State, slot: Slot, bytes: &[u8]) -> Sent {
        let (index, n) = match self.take_room(state, slot, bytes.len() as u32) {
            Ok(taken) => taken,
            Err(errno) => return Sent { result: Err(errno), released: 0 },
        };
        let connection = &mut state.connections[index];
        if !connection.peer_gone {
            connection.outbound_bytes += n;
            connection.outbound.push_back(Chunk::Copied(bytes[..n as usize].iter().copied().collect()));
        }
        Sent { result: Ok(n), released: n }
    }

    fn execute_lend(&mut self, state: &mut State, slot: Slot, generation: Generation) {
        let fails = state.rng.chance(state.options.lend_fails);
        let result = match self.tenant(slot).filter(|tenant| !tenant.closed) {
            None => Err(Errno(libc::EBADF)),
            Some(_) if fails => Err(Errno(libc::EMFILE)),
            Some(_) => Ok(()),
        };
        self.push(Lane::Lend(slot), Completion::Lent { slot, generation, result });
    }

    fn execute_hand_over(&mut self, state: &mut State, (slot, generation): (Slot, Generation), shard: u8, parcel: u32) {
        let fails = state.rng.chance(state.options.hand_over_fails);
        let Some(tenant) = self.tenant(slot).filter(|tenant| !tenant.closed && !fails) else {
            let result = Err(Errno(libc::ENFILE));
            return self.push(Lane::HandOver(slot), Completion::HandedOver { slot, generation, result });
        };
        tenant.handed_over = true;
        let connection = tenant.connection;
        let view = &mut state.shards[shard as usize];
        view.arrivals.push_back(HandOver { connection, from: self.shard, slot, generation, parcel });
        view.pending = true;
    }

    /// Takes what other shards have handed over into free slots, and hears what became of our own.
    fn exchange(&mut self, state: &mut State) {
        while let Some(arrival) = state.shards[self.shard as usize].arrivals.pop_front() {
            let free = self.slots.iter().position(Option::is_none);
            let result = free.map(drop).ok_or(Errno(libc::ENFILE));
            let giver = &mut state.shards[arrival.from as usize];
            giver.answers.push_back((arrival, result));
            giver.pending = true;
            if let Some(free) = free {
                state.shards[self.shard as usize].open += 1;
                state.connections[arrival.connection].shard = self.shard;
                self.slots[free] = Some(Tenant::new(arrival.connection));
                let slot = Slot(free as u32);
                self.push(Lane::Adopt, Completion::Adopted { slot, parcel: arrival.parcel });
            }
        }
        while let Some((sent, result)) = state.shards[self.shard as usize].answers.pop_front() {
            let (slot, generation) = (sent.slot, sent.generation);
            if result.is_err() {
                match self.tenant(slot).filter(|tenant| tenant.connection == sent.connection && !tenant.closed) {
                    Some(tenant) => (tenant.handed_over, tenant.news) = (false, true),
                    // Its giver has closed it meanwhile: the last reference is gone.
                    None => state.connections[sent.connection].server_closed = true,
                }
            }
            self.push(Lane::HandOver(slot), Completion::HandedOver { slot, generation, result });
        }
    }

    fn execute_close(&mut self, state: &mut State, slot: Slot, generation: Generation) {
        if let Some(tenant) = self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut) {
            tenant.closed = true;
            tenant.poll = None;
            tenant.poll_out = None;
            tenant.loan = None;
            if tenant.handed_over {
                // The other shard has it: the peer sees nothing.
                return self.push(Lane::Slot(slot), Completion::Closed { slot, generation });
            }
            let connection = &mut state.connections[tenant.connection];
            connection.server_closed = true;
            let unread = !connection.inbound.is_empty() || !connection.under_way.is_empty();
            if unread && state.rng.chance(state.options.reset_on_unread) {
                connection.server_reset = true;
                drop_outbound(connection, state.options.release_when_read);
            }
            connection.server_reset |= connection.reset_arrived;
            connection.inbound.clear();
            connection.under_way.clear();
            if state.options.release_when_read {
                self.settle_releases(state, slot, generation);
            }
            // Events that were on their way may or may not overtake the cancel.
            self.events.retain(|event| {
                let late = event.lane == Lane::Poll(slot) || event.lane == Lane::PollOut(slot);
                !late || state.rng.chance(500)
            });
        }
        self.push(Lane::Slot(slot), Completion::Closed { slot, generation });
    }

    /// The back end takes its own copy of what it still has to send, and releases everything.
    fn settle_releases(&mut self, state: &mut State, slot: Slot, generation: Generation) {
        let Some(tenant) = self.tenant(slot) else { return };
        let connection = &mut state.connections[tenant.connection];
        let mut copied = Vec::new();
        for chunk in &mut connection.outbound {
            if let Chunk::Retained { bytes } = chunk {
                connection.unreported_bytes += bytes.len;
                copied.clear();
                state.logs.peek(*bytes, &mut copied);
                *chunk = Chunk::Copied(copied.iter().copied().collect());
            }
        }
        let bytes = std::mem::take(&mut connection.unreported_bytes);
        if bytes > 0 {
            self.push(Lane::Slot(slot), Completion::Released { slot, generation, bytes });
        }
    }

    /// Lets armed polls see what has happened to their sockets.
    fn fire_polls(&mut self, state: &mut State) {
        let overflow = state.rng.chance(state.options.overflow);
        self.counters.overflows += u64::from(overflow);
        for index in 0..self.slots.len() {
            let slot = Slot(index as u32);
            let present = |tenant: &&mut Tenant| !tenant.closed && !tenant.handed_over;
            let Some(tenant) = self.slots[index].as_mut().filter(present) else { continue };
            let connection = &mut state.connections[tenant.connection];
            let again = state.rng.chance(state.options.spurious_readable);
            if let Some(generation) = tenant.poll
                && std::mem::take(&mut tenant.news)
            {
                let armed = !overflow && !state.rng.chance(state.options.poll_ends);
                if !armed {
                    tenant.poll = None;
                }
                let readable = |armed| Completion::Readable { slot, generation, armed };
                if again {
                    self.events.push(Event { lane: Lane::Poll(slot), completion: readable(true) });
                }
                self.events.push(Event { lane: Lane::Poll(slot), completion: readable(armed) });
            }
            if let Some(generation) = tenant.poll_out
                && connection.writable()
            {
                tenant.poll_out = None;
                let completion = Completion::Writable { slot, generation };
                self.events.push(Event { lane: Lane::PollOut(slot), completion });
            }
            if connection.unreported_bytes > 0
                && let Some(generation) = tenant.generation
            {
                let bytes = std::mem::take(&mut connection.unreported_bytes);
                let completion = Completion::Released { slot, generation, bytes };
                self.events.push(Event { lane: Lane::Slot(slot), completion });
            }
        }
    }

    /// Chooses what is seen now and in which order.
    fn deliver(&mut self, state: &mut State, want: u32, completions: &mut Vec<Completion>) {
        let prompt: HashSet<Lane> =
            self.events.iter().filter(|event| event.is_prompt()).map(|event| event.lane).collect();
        let mut deferred_left = DEFERRED_MIN.max(want as usize);
        let mut held_back = HashSet::new();
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.events) {
            let may_wait = !prompt.contains(&event.lane);
            let late =
                if self.is_stale(&event) { state.options.late_after_close } else { state.options.late_completion };
            let waits = may_wait && (held_back.contains(&event.lane) || deferred_left == 0 || state.rng.chance(late));
            if waits {
                held_back.insert(event.lane);
                later.push(event);
            } else {
                deferred_left -= usize::from(may_wait);
                now.push(event);
            }
        }
        if now.is_empty() && want > 0 && !later.is_empty() {
            now.push(later.remove(0));
        }
        self.events = later;
        if state.rng.chance(state.options.shuffle) {
            shuffle_lanes(state, &mut now);
        }
        for event in now {
            self.hand_out(state, event.completion, completions);
        }
    }

    /// Whether the event belongs to a tenant that has gone (the `Closed` itself does not count).
    fn is_stale(&self, event: &Event) -> bool {
        let (slot, generation) = match event.completion {
            Completion::Readable { slot, generation, .. }
            | Completion::Received { slot, generation, .. }
            | Completion::Writable { slot, generation } => (slot, generation),
            _ => return false,
        };
        let tenant = self.slots.get(slot.0 as usize).and_then(Option::as_ref);
        tenant.is_none_or(|tenant| tenant.closed || tenant.generation.is_some_and(|present| present != generation))
    }

    fn hand_out(&mut self, state: &mut State, completion: Completion, completions: &mut Vec<Completion>) {
        match completion {
            Completion::Closed { slot, .. } => {
                if let Some(place) = self.slots.get_mut(slot.0 as usize)
                    && let Some(tenant) = place.take()
                {
                    self.last_generation[slot.0 as usize] = tenant.generation;
                    state.shards[self.shard as usize].open -= 1;
                }
            }
            Completion::Lent { slot, generation, result } => {
                // Taken back or closed meanwhile: nobody is told.
                let asked = |tenant: &&mut Tenant| tenant.generation == Some(generation) && tenant.loan == Some(false);
                let Some(tenant) = self.tenant(slot).filter(asked) else { return };
                tenant.loan = result.is_ok().then_some(true);
            }
            _ => {}
        }
        completions.push(completion);
    }

    /// Tells the world whether this shard has a reason to run again.
    fn settle(&mut self, state: &mut State, wait: Wait, delivered: usize) {
        // Connections that have no tenant here, or none any more, are no reason to run.
        for connection in state.connections.iter_mut().filter(|connection| connection.shard == self.shard) {
            connection.touched = false;
        }
        for tenant in self.slots.iter().flatten().filter(|tenant| !tenant.closed && !tenant.handed_over) {
            let connection = &mut state.connections[tenant.connection];
            let finish_under_way = connection.peer_finished && !connection.finish_arrived;
            connection.touched = !connection.under_way.is_empty() || connection.reset_under_way || finish_under_way;
        }
        let waiting = |listener: &Listener| listener.armed && !state.listeners[listener.view].backlog.is_empty();
        let exchange = &state.shards[self.shard as usize];
        let handed_over = !exchange.arrivals.is_empty() || !exchange.answers.is_empty();
        let pending = handed_over || !self.events.is_empty() || self.listeners.iter().any(waiting);
        let view = &mut state.shards[self.shard as usize];
        view.pending = pending;
        view.deadline_us = wait.deadline_us;
        view.asleep = wait.want > 0 && delivered == 0;
    }
}

impl Drop for Sim {
    /// What has reached the ring and was never seen by its shard goes with it, as in the kernel.
    fn drop(&mut self) {
        let Ok(mut state) = self.world.0.try_borrow_mut() else { return };
        for event in &self.events {
            if let Completion::Adopted { slot, .. } = event.completion
                && let Some(tenant) = self.slots[slot.0 as usize].take()
            {
                state.shards[self.shard as usize].open -= 1;
                state.connections[tenant.connection].server_closed = true;
            }
        }
    }
}

/// Shuffles events but keeps the order within each lane.
fn shuffle_lanes(state: &mut State, events: &mut Vec<Event>) {
    let mut order: Vec<Lane> = events.iter().map(|event| event.lane).collect();
    let mut lanes: HashMap<Lane, VecDeque<Event>> = HashMap::new();
    for event in events.drain(..) {
        lanes.entry(event.lane).or_default().push_back(event);
    }
    state.rng.shuffle(&mut order);
    events.extend(order.iter().filter_map(|lane| lanes.get_mut(lane)?.pop_front()));
}

impl Io for Sim {
    fn now_us(&self) -> u64 {
        self.world.now_us()
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.listeners.len() == LISTENERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "at most 8 listeners per shard"));
        }
        let mut state = self.world.0.borrow_mut();
        let mut bound = address;
        if bound.port() == 0 {
            bound.set_port(state.next_port);
            state.next_port += 1;
        }
        self.listeners.push(Listener { view: state.listeners.len(), armed: false });
        state.listeners.push(ListenerView { address: bound, shard: self.shard, backlog: VecDeque::new() });
        Ok(bound)
    }

    fn accept(&mut self) -> u8 {
        self.listeners.iter_mut().map(|listener| u8::from(!std::mem::replace(&mut listener.armed, true))).sum()
    }

    fn cancel_accept(&mut self) {
        self.queue.push_back(Request::CancelAccept);
    }

    fn poll(&mut self, slot: Slot, generation: Generation) {
        self.check_generation(slot, generation);
        self.queue.push_back(Request::Poll { slot, generation });
    }

    fn recv(&mut self, slot: Slot, generation: Generation) {
        self.check_generation(slot, generation);
        self.counters.recvs += 1;
        self.queue.push_back(Request::Recv { slot, generation });
    }

    fn send(&mut self, slot: Slot, tag: Tag, bytes: Extent) {
        self.send_gather(slot, tag, &[bytes]);
    }

    fn send_gather(&mut self, slot: Slot, tag: Tag, runs: &[Extent]) {
        assert!(runs.len() <= GATHER_MAX, "more runs than one send takes");
        assert!(runs.iter().any(|run| !run.is_empty()), "a send of nothing");
        assert!(tag < 1 << 24, "a tag has 24 bits");
        if let Some(tenant) = self.tenant(slot) {
            assert!(!tenant.send_queued, "{slot:?}: two sends between two enters");
            tenant.send_queued = true;
        }
        self.counters.sends += 1;
        self.queue.push_back(Request::Send { slot, tag, runs: runs.to_vec() });
    }

    fn send_copy(&mut self, slot: Slot, tag: Tag, bytes: &[u8]) {
        assert!((1..=COPY_BYTES_MAX).contains(&bytes.len()), "a send of nothing, or of too much");
        assert!(tag < 1 << 24, "a tag has 24 bits");
        if let Some(tenant) = self.tenant(slot) {
            assert!(!tenant.send_queued, "{slot:?}: two sends between two enters");
            tenant.send_queued = true;
        }
        self.counters.sends += 1;
        self.queue.push_back(Request::SendCopy { slot, tag, bytes: bytes.to_vec() });
    }

    fn poll_out(&mut self, slot: Slot, generation: Generation) {
        self.check_generation(slot, generation);
        let armed = self.tenant(slot).is_some_and(|tenant| tenant.poll_out.is_some());
        assert!(!armed, "{slot:?}: the poll for room is armed already");
        self.queue.push_back(Request::PollOut { slot, generation });
    }

    fn lend(&mut self, slot: Slot, generation: Generation) {
        self.check_generation(slot, generation);
        if let Some(tenant) = self.tenant(slot) {
            tenant.loan = Some(false);
        }
        self.queue.push_back(Request::Lend { slot, generation });
    }

    fn unlend(&mut self, slot: Slot) -> bool {
        self.tenant(slot).is_some_and(|tenant| tenant.loan.take().is_some())
    }

    fn introduce(&mut self, slot: Slot, generation: Generation) {
        self.check_generation(slot, generation);
        self.queue.push_back(Request::Introduce { slot, generation });
    }

    fn send_file(&mut self, slot: Slot, bytes: Extent) -> Result<u32, Errno> {
        self.counters.send_files += 1;
        if self.tenant(slot).is_none_or(|tenant| tenant.loan != Some(true)) {
            return Err(Errno(libc::EBADF));
        }
        let world = self.world.clone();
        let state = &mut *world.0.borrow_mut();
        let (index, n) = self.take_room(state, slot, bytes.len)?;
        let piece = Extent { len: n, ..bytes };
        let kept = self.logs.bytes(piece).iter().copied().collect();
        let connection = &mut state.connections[index];
        if !connection.peer_gone {
            let punches = self.logs.punches(bytes.segment);
            connection.outbound.push_back(Chunk::Lent { bytes: piece, punches, kept });
            connection.outbound_bytes += n;
        }
        Ok(n)
    }

    fn shutdown(&mut self, slot: Slot) {
        let world = self.world.clone();
        let state = &mut *world.0.borrow_mut();
        if let Some(tenant) = self.tenant(slot).filter(|tenant| !tenant.closed && tenant.loan == Some(true)) {
            state.connections[tenant.connection].server_finished = true;
        }
    }

    fn hand_over(&mut self, slot: Slot, generation: Generation, shard: u8, parcel: u32) {
        self.check_generation(slot, generation);
        let queued = self.tenant(slot).is_some_and(|tenant| tenant.send_queued || tenant.handed_over);
        assert!(!queued, "{slot:?}: handed over with a send queued, or twice");
        self.queue.push_back(Request::HandOver { slot, generation, shard, parcel });
    }

    fn close(&mut self, slot: Slot, generation: Generation, poll_armed: bool, poll_out_armed: bool) {
        self.check_generation(slot, generation);
        let is_poll = |request: &Request| matches!(request, Request::Poll { slot: at, .. } if *at == slot);
        let poll_queued = self.queue.iter().any(is_poll);
        if let Some(tenant) = self.tenant(slot) {
            assert!(!tenant.close_queued, "{slot:?}: closed twice");
            tenant.close_queued = true;
            let armed = tenant.poll.is_some() || poll_queued;
            assert!(poll_armed || !armed, "{slot:?}: closed with its poll armed, the peer would never see the end");
            assert!(poll_out_armed || tenant.poll_out.is_none(), "{slot:?}: closed with its poll for room armed");
            tenant.loan = None;
        }
        self.queue.push_back(Request::Close { slot, generation });
    }

    fn wake(&mut self, shard: u8) {
        self.wakes.push(shard);
    }

    fn enter(&mut self, wait: Wait, pool: &mut RecvPool, completions: &mut Vec<Completion>) -> io::Result<()> {
        let world = self.world.clone();
        let state = &mut *world.0.borrow_mut();
        pool.publish();
        self.counters.enters += 1;
        state.now_us += state.rng.within(&state.options.enter_us);
        for shard in self.wakes.drain(..) {
            let view = &mut state.shards[shard as usize];
            view.wakes += 1;
            view.woken.store(true, Ordering::Release);
        }
        self.arrive(state);
        self.accept_waiting(state);
        self.exchange(state);
        self.execute(state, pool);
        self.fire_polls(state);
        let woken = state.shards[self.shard as usize].woken.swap(false, Ordering::AcqRel);
        if woken || state.rng.chance(state.options.spurious_wake) {
            self.push(Lane::Wake, Completion::Woken);
        }
        let before = completions.len();
        self.deliver(state, wait.want, completions);
        for tenant in self.slots.iter_mut().flatten() {
            tenant.send_queued = false;
        }
        let delivered = completions.len() - before;
        self.counters.completions += delivered as u64;
        self.settle(state, wait, delivered);
        Ok(())
    }

    fn counters(&self) -> IoCounters {
        self.counters
    }
}
