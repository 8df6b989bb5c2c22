//! Everything of a shard that a hub's code may touch while bytes are being decoded: the tables, the log, who is
//! where. It never calls the kernel: what is to be sent, closed or read again is listed for the shard.

use crate::buf::log::{Extents, Log, LogFull, LogWriter};
use crate::buf::segment::{Holdings, Logs, SegmentOwner};
use crate::buf::slab::Slab;
use crate::buf::{Extent, SegmentId};
use crate::conn::endpoint::{Endpoint, EndpointOptions, Service};
use crate::conn::expiries::Expiries;
use crate::conn::outbox;
use crate::conn::slots::{Flags, Slots, State};
use crate::conn::tls::{TlsSetup, TlsStreams};
use crate::conn::wire::{ByVariation, Variation};
use crate::event::{CloseReason, SharedCounters};
use crate::hub::admission::{Admission, Tickets};
use crate::hub::asker::Asker;
use crate::hub::asks::{Asked, Asks};
use crate::hub::bursts::Bursts;
use crate::hub::compressor::Compressor;
use crate::hub::directory::{ConnRef, Directory};
use crate::hub::fanout::Fans;
use crate::hub::host::{Answer, Host, unknown_method_text};
use crate::hub::http::HttpHandler;
use crate::hub::interest::Interest;
use crate::hub::later::{Continuation, Timer};
use crate::hub::long_poll::{HeldPolls, Polling};
use crate::hub::note::Note;
use crate::hub::outgoing::{Measured, Outgoing};
use crate::hub::parcels::{LostPost, Parcels};
use crate::hub::pending::Pending;
use crate::hub::post::PostTo;
use crate::hub::publisher::Mailbox;
use crate::hub::registry::{HubId, Registry};
use crate::hub::resume::UNNUMBERED;
use crate::hub::route::Leg;
use crate::hub::shedding::{Shedding, Targets};
use crate::hub::streams::Streams;
use crate::hub::uplink::Uplinks;
use crate::hub::uploads::Uploads;
use crate::hub::waiting::Waiting;
use crate::hub::window::Window;
use crate::ids::{IdKeys, IdMint};
use crate::interconnect::{Sender, Sleepers};
use crate::io::Slot;
use crate::limits::Limits;
use crossbeam_utils::CachePadded;
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::hub::Format;
use fanfare_protocol::hub::error::PayloadError;
use fanfare_protocol::hub::session::{Tick, Timing};
use fanfare_protocol::ws::deflate::inflater::Inflater;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// A hub of the engine.
pub struct HubSpec {
    /// Its name.
    pub name: String,
    /// Who answers its clients.
    pub host: Arc<dyn Host>,
}

/// What all shards of an engine share. Nothing in it is touched by a broadcast's deliveries.
pub struct Shared {
    /// The hubs, by index.
    pub hubs: Vec<HubSpec>,
    /// The paths.
    pub endpoints: Vec<Endpoint>,
    /// Who answers other paths.
    pub http: Option<Arc<dyn HttpHandler>>,
    /// Every bound.
    pub limits: Limits,
    /// Which shards have whom.
    pub interest: Interest,
    /// Connected ids.
    pub directory: Directory,
    /// Negotiated and not yet connected.
    pub pending: Pending,
    /// Who may come in now.
    pub admission: Admission,
    /// How sockets of TLS listeners speak.
    pub tls: Option<TlsSetup>,
    /// What goes with sockets on their way to each shard.
    pub parcels: Vec<Parcels>,
    /// Keys of ids and tokens.
    pub keys: Arc<IdKeys>,
    /// Clients that were asked for results.
    pub asked: Asked,
    /// Classes of client methods, where a path keeps the latest of each.
    pub targets: Targets,
    /// Who sleeps.
    pub sleepers: Sleepers,
    /// Who is in the middle of saying something to other shards.
    pub bursts: Bursts,
    /// What publishers and other threads want of a shard.
    pub mailboxes: Vec<Mailbox>,
    /// The logs of all shards.
    pub logs: Logs,
    /// Numbers.
    pub counters: Vec<Arc<SharedCounters>>,
    /// New connections are turned away.
    pub draining: AtomicBool,
    /// Shards that went to sleep while notes of theirs waited for room.
    pub backed_up: Box<[CachePadded<AtomicBool>]>,
    /// The first shard's clock when it was made: ids and tokens count from here, and tell nobody how long the host
    /// has been up.
    pub started_us: OnceLock<u64>,
}

impl Shared {
    /// Hub connections open, over all shards.
    pub fn connections(&self) -> usize {
        self.counters.iter().map(|c| c.connections_open.get() as usize).sum()
    }

    /// A hub by name.
    pub fn hub(&self, name: &str) -> Option<HubId> {
        self.hubs.iter().position(|hub| hub.name == name).map(|index| HubId(index as u16))
    }
}

/// See the module.
pub struct Switchboard {
    pub(crate) shard: u8,
    pub(crate) now_us: u64,
    /// The pings of this turn: written once, owed by all. `Some(None)`: there was no room for one.
    pub(crate) pings: ByVariation<Option<Option<Extent>>>,
    /// There are some.
    pub(crate) has_pinged: bool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Rc<Limits>,
    pub(crate) hosts: Rc<[Arc<dyn Host>]>,
    pub(crate) endpoints: Rc<[Endpoint]>,
    pub(crate) counters: Arc<SharedCounters>,
    pub(crate) slots: Slots,
    pub(crate) expiries: Expiries,
    pub(crate) requests: Slab<Box<[u8]>>,
    pub(crate) mint: IdMint,
    /// Per endpoint.
    pub(crate) timings: Vec<Timing>,

    pub(crate) logs: Logs,
    pub(crate) owner: SegmentOwner,
    pub(crate) holdings: Holdings,
    pub(crate) broadcast: ByVariation<Log>,
    pub(crate) private: Log,
    /// `None` until somebody is to be sent something compressed.
    pub(crate) compressor: Option<Box<Compressor>>,
    /// `None` until somebody with permessage-deflate has said something.
    pub(crate) inflater: Option<Box<Inflater>>,

    pub(crate) registry: Registry,
    pub(crate) fans: Fans,
    pub(crate) crowd_scratch: Vec<Slot>,
    pub(crate) legs_scratch: Vec<Leg>,
    pub(crate) notes_scratch: Vec<(u8, Note)>,
    /// With fewer segments free, the oldest held one is taken from its readers.
    pub(crate) log_low_water: usize,
    /// The segment that is being taken, and when to ask again.
    pub(crate) evicting: Option<(SegmentId, u64)>,
    /// One per shard; `None` in our own place.
    pub(crate) senders: Vec<Option<Sender<Note>>>,
    /// Shards that were sent notes in this turn, one bit each.
    pub(crate) noted: u64,

    /// Of each session.
    pub(crate) pollings: Vec<Polling>,
    pub(crate) held_polls: HeldPolls,
    /// Requests without an answer yet, by their socket.
    pub(crate) waiting: HashMap<Slot, Waiting>,
    /// WebSockets that carry sessions, and which.
    pub(crate) carriers: HashMap<Slot, ConnRef>,
    /// What sessions keep until it is acknowledged.
    pub(crate) windows: HashMap<Slot, Window>,
    /// POSTs whose body is still coming, by their socket.
    pub(crate) posting: HashMap<Slot, (PostTo, Asker)>,
    /// Of the requests without an answer, the POSTs that wait for room, by the connection that they are for.
    pub(crate) held_posts: HashMap<ConnRef, Vec<Slot>>,
    /// Sockets that go to another shard as soon as everything is sent, and to which.
    pub(crate) moving: Vec<(ConnRef, u8)>,
    /// POSTs that go with them.
    pub(crate) lost_posts: HashMap<Slot, LostPost>,
    /// Sockets with input that was read already: the next request while the last one was answered late, or compressed
    /// messages beyond what was taken in the last turn.
    pub(crate) again: Vec<ConnRef>,

    /// Ids that are claimed for connections of this shard.
    pub(crate) claimed: usize,
    /// Of the sockets that speak TLS, their side of it.
    pub(crate) tls: TlsStreams,
    /// Where sockets come from, if anybody wants to know.
    pub(crate) peers: HashMap<Slot, IpAddr>,
    /// The places that connections hold, by those that hold some.
    pub(crate) tickets: HashMap<Slot, Box<Tickets>>,
    /// What clients have said, where that is bounded.
    pub(crate) uplinks: Uplinks,

    /// Connections to send to at the end of the turn.
    pub(crate) dirty: Vec<Slot>,
    /// Connections to close.
    pub(crate) closing: Vec<Slot>,
    /// Connections to read from in the next turn.
    pub(crate) retry: Vec<ConnRef>,
    /// Connections over their bounds: the slow policy acts on them after the flush.
    pub(crate) over: Vec<ConnRef>,
    /// Connections that held this segment when it was to be taken from them.
    pub(crate) evicted: Vec<(ConnRef, SegmentId)>,
    /// Connections whose held invocations may go on.
    pub(crate) unheld: Vec<ConnRef>,
    /// Connections whose outbox has become empty and somebody waits for it.
    pub(crate) drained: Vec<ConnRef>,
    pub(crate) drained_work: HashMap<ConnRef, Vec<Continuation>>,
    /// All of them.
    pub(super) drained_works: usize,
    pub(crate) streams: Streams,
    pub(crate) uploads: Uploads,
    pub(crate) asks: Asks,
    pub(crate) shedding: Shedding,
    /// Invocations whose answers handles owe.
    pub(super) owed: HashSet<u64>,
    pub(super) owed_serial: u64,
    /// Plain requests whose answers handles owe.
    pub(super) http_waits: HashSet<ConnRef>,
    pub(crate) timers: BinaryHeap<Timer>,
    pub(super) timer_serial: u64,
    /// When timers of connections that have gone were last looked for.
    pub(super) timers_sifted_us: u64,
}

/// Why something could not be said to one connection.
#[derive(Debug)]
pub(crate) enum TellError {
    /// Counted where it happened.
    LogFull,
    Payload(PayloadError),
}

impl From<LogFull> for TellError {
    fn from(_: LogFull) -> Self {
        Self::LogFull
    }
}

impl From<PayloadError> for TellError {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

impl Switchboard {
    /// A shard with nobody on it. `None`: the shard's log has an owner already.
    pub(crate) fn new(
        shard: u8,
        shared: Arc<Shared>,
        slots: usize,
        senders: Vec<Option<Sender<Note>>>,
    ) -> Option<Self> {
        let limits = Rc::new(shared.limits.clone());
        Some(Self {
            shard,
            now_us: 0,
            pings: ByVariation::default(),
            has_pinged: false,
            hosts: shared.hubs.iter().map(|hub| hub.host.clone()).collect(),
            endpoints: shared.endpoints.iter().cloned().collect(),
            counters: shared.counters[shard as usize].clone(),
            slots: Slots::new(slots, limits.partial_bytes_max),
            expiries: Expiries::default(),
            requests: Slab::new(4 * slots as u32),
            mint: IdMint::new(shared.keys.clone(), shard),
            logs: shared.logs.clone(),
            owner: shared.logs.owner(shard)?,
            holdings: Holdings::new(shard, &shared.logs),
            broadcast: ByVariation::default(),
            private: Log::new(),
            compressor: None,
            inflater: None,
            registry: Registry::new(shared.hubs.len(), 2 * slots, &limits),
            fans: Fans::default(),
            crowd_scratch: Vec::new(),
            legs_scratch: Vec::new(),
            notes_scratch: Vec::new(),
            senders,
            noted: 0,
            pollings: Vec::new(),
            held_polls: HeldPolls::default(),
            waiting: HashMap::new(),
            carriers: HashMap::new(),
            windows: HashMap::new(),
            posting: HashMap::new(),
            held_posts: HashMap::new(),
            moving: Vec::new(),
            lost_posts: HashMap::new(),
            again: Vec::new(),
            claimed: 0,
            tls: TlsStreams::new(shared.tls.clone()),
            peers: HashMap::new(),
            tickets: HashMap::new(),
            uplinks: Uplinks::new(&limits),
            dirty: Vec::new(),
            closing: Vec::new(),
            retry: Vec::new(),
            over: Vec::new(),
            evicted: Vec::new(),
            timings: crate::shard::timings(&shared.endpoints),
            log_low_water: (shared.logs.segments() as usize / 8).clamp(3, 32),
            evicting: None,
            unheld: Vec::new(),
            drained: Vec::new(),
            drained_work: HashMap::new(),
            drained_works: 0,
            streams: Streams::default(),
            uploads: Uploads::default(),
            asks: Asks::default(),
            shedding: Shedding::new(&shared.endpoints),
            owed: HashSet::new(),
            owed_serial: 0,
            http_waits: HashSet::new(),
            timers: BinaryHeap::new(),
            timer_serial: 0,
            timers_sifted_us: 0,
            limits,
            shared,
        })
    }

    /// Now, in the sessions' unit.
    pub(crate) fn tick(&self) -> Tick {
        Tick::from_ms(self.now_us / 1000)
    }

    /// Seconds since the engine started, for ids.
    pub(crate) fn now_s(&self) -> u32 {
        let started_us = *self.shared.started_us.get_or_init(|| self.now_us);
        (self.now_us.saturating_sub(started_us) / 1_000_000) as u32
    }

    pub(crate) fn reference(&self, slot: Slot) -> ConnRef {
        ConnRef::new(self.shard, slot, self.slots.hot(slot).generation)
    }

    /// The slot of a connection of this shard that is still what it was.
    pub(crate) fn resolve(&mut self, connection: ConnRef) -> Option<Slot> {
        let ours = connection.shard() == self.shard;
        let live = ours && self.slots.live(connection.slot(), connection.generation()).is_some();
        live.then_some(connection.slot())
    }

    /// Whether it is a hub connection that was told to its host and not yet taken back.
    pub(crate) fn is_member(&self, slot: Slot) -> bool {
        self.slots.hot(slot).flags.has(Flags::MEMBER)
    }

    pub(crate) fn hub_of(&self, endpoint: u16) -> HubId {
        match self.endpoints[endpoint as usize].service {
            Service::Hub { hub, .. } => HubId(hub),
            Service::Echo(_) => HubId(u16::MAX),
        }
    }

    pub(crate) fn options(&self, slot: Slot) -> Option<&EndpointOptions> {
        self.endpoints[self.slots.hot(slot).endpoint as usize].hub_options()
    }

    pub(crate) fn format(&self, slot: Slot) -> Format {
        self.slots.hot(slot).variation.format()
    }

    // -- what one connection is owed ------------------------------------------------------------------------------

    /// Adds `run` to what `slot` is owed and puts it on the list of this turn's sends.
    pub(crate) fn owe(&mut self, slot: Slot, run: Extent) {
        let tick = self.tick();
        // Behind a message that found no room nothing smaller may slip through: the client would see a gap.
        if !self.over.is_empty() && self.slots.cold(slot).close_reason == CloseReason::SlowClient as u8 {
            return;
        }
        let reference = self.reference(slot);
        let hot = self.slots.hot_mut(slot);
        if run.is_empty() || matches!(hot.state, State::Free | State::Closing) {
            return;
        }
        if outbox::is_clear(hot) {
            hot.progress_tick = tick.0;
        }
        let run = self.make_room(slot, run);
        let (hot, runs) = self.slots.outbox(slot);
        // Only of a client whose socket is full can one say that it does not read: what was said in one turn has not
        // been offered to the kernel yet.
        let full = hot.flags.has(Flags::POLL_OUT_ARMED);
        let over = hot.owed_bytes as usize + run.len as usize > self.limits.outbox_bytes_max;
        if full && over && !outbox::is_mid_message(hot, runs) {
            self.counters.dropped_slow_total.add(u64::from(run.count));
            self.slots.cold_mut(slot).close_reason = CloseReason::SlowClient as u8;
            self.over.push(reference);
            return;
        }
        outbox::push(hot, runs, &mut self.holdings, run);
        if full && hot.more != 0 && outbox::run_count(hot, runs) > self.limits.outbox_runs_max {
            self.over.push(reference);
        }
        self.make_dirty(slot);
        self.judge_lateness(slot);
    }

    /// A connection whose socket has no room and that owes more than a little is late: it is not read from, it is sent
    /// to from the log's pages, and it is counted.
    pub(crate) fn judge_lateness(&mut self, slot: Slot) {
        let soft = self.limits.outbox_soft_bytes as u32;
        let hot = self.slots.hot_mut(slot);
        if hot.owed_bytes > soft && hot.flags.has(Flags::POLL_OUT_ARMED) {
            self.counters.slow_connections.add(u64::from(!hot.flags.has(Flags::SLOW)));
            hot.flags.set(Flags::SLOW);
            // Not the POSTs of a client that has not polled yet: its answer means received, not taken (spec 2.6).
            if hot.state != State::Echo && !slot.is_session() {
                hot.flags.set(Flags::PAUSED);
            }
        }
    }

    /// Puts the connection on the list of this turn's sends.
    pub(crate) fn make_dirty(&mut self, slot: Slot) {
        let hot = self.slots.hot_mut(slot);
        if !hot.flags.has(Flags::DIRTY) {
            hot.flags.set(Flags::DIRTY);
            self.dirty.push(slot);
        }
    }

    /// Its outbox has become empty: it is late no longer, and whoever waited for it is told.
    pub(crate) fn note_clear(&mut self, slot: Slot) {
        let reference = self.reference(slot);
        let hot = self.slots.hot_mut(slot);
        if hot.flags.take(Flags::SLOW) {
            self.counters.slow_connections.sub(1);
        }
        if hot.flags.has(Flags::NOTIFY_DRAINED) {
            self.drained.push(reference);
        }
    }

    /// Puts the connection on the list of those that are read from in the next turn. A session has nothing to read from.
    pub(crate) fn want_read(&mut self, slot: Slot) {
        if slot.is_session() {
            return;
        }
        let reference = self.reference(slot);
        let hot = self.slots.hot_mut(slot);
        if !hot.flags.has(Flags::RETRY) {
            hot.flags.set(Flags::RETRY);
            self.retry.push(reference);
        }
    }

    /// The same for what the client does not count. Nobody counts but the clients of sessions.
    pub(crate) fn owe_unnumbered(&mut self, slot: Slot, runs: &[Extent]) {
        let class = if slot.is_session() { UNNUMBERED } else { 0 };
        for run in runs {
            self.owe(slot, Extent { class, ..*run });
        }
    }

    fn owe_all(&mut self, slot: Slot, runs: &Extents) {
        for run in runs.iter() {
            self.owe(slot, *run);
        }
    }

    /// Says something to one connection, after everything that was published before.
    pub(crate) fn tell(&mut self, slot: Slot, message: &Outgoing<'_>) -> Result<(), TellError> {
        self.catch_up(slot);
        let runs = self.write_private(self.slots.hot(slot).variation, message)?;
        self.counters.private_messages_total.add(1);
        if message.is_numbered() {
            self.owe_all(slot, &runs);
        } else {
            self.owe_unnumbered(slot, &runs);
        }
        Ok(())
    }

    /// The same, where a failure can only mean that the log is full: the connection cannot be kept.
    pub(crate) fn tell_or_hang_up(&mut self, slot: Slot, message: &Outgoing<'_>) {
        if self.tell(slot, message).is_err() {
            self.hang_up(slot, CloseReason::Overload);
        }
    }

    /// Bytes owed to the clients in these slots, for the gauge.
    pub(crate) fn owed_bytes(&self, slots: impl Iterator<Item = Slot>) -> u64 {
        slots.map(|slot| u64::from(self.slots.hot(slot).owed_bytes)).sum()
    }

    pub(crate) fn write_private(&mut self, variation: Variation, message: &Outgoing<'_>) -> Result<Extents, TellError> {
        let measured = message.measure(variation)?;
        Ok(self.append_private(measured.bytes(), |writer| measured.write(message, writer))?)
    }

    /// Sends bytes to one connection as they are: HTTP, control frames, echoes.
    pub(crate) fn tell_bytes(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), LogFull> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.catch_up(slot);
        let runs = self.append_private(bytes.len(), |writer| writer.put(bytes))?;
        self.owe_unnumbered(slot, &runs);
        Ok(())
    }

    /// Appends to the private log, after one look for reusable segments if it is full.
    pub(crate) fn append_private(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut LogWriter<'_>),
    ) -> Result<Extents, LogFull> {
        self.reclaim_if_short(len);
        let result = self.private.append(&mut self.owner, len, 0, write);
        self.count_append(len, result)
    }

    /// Appends a message for many to the log of its variation.
    pub(crate) fn append_broadcast(&mut self, measured: &Measured, message: &Outgoing<'_>) -> Result<Extents, LogFull> {
        let class = self.class_of(message);
        self.append_for_many((measured.variation(), class), measured.bytes(), |writer| measured.write(message, writer))
    }

    /// Appends `len` bytes that are one message, of this class, to the log of their variation.
    pub(crate) fn append_for_many(
        &mut self,
        (variation, class): (Variation, u8),
        len: usize,
        write: impl FnOnce(&mut LogWriter<'_>),
    ) -> Result<Extents, LogFull> {
        self.reclaim_if_short(len);
        let result = self.broadcast[variation].append(&mut self.owner, len, class, write);
        self.counters.encodings_total.add(1);
        self.count_append(len, result)
    }

    fn count_append(&self, len: usize, result: Result<Extents, LogFull>) -> Result<Extents, LogFull> {
        match &result {
            Ok(_) => self.counters.log_bytes_written_total.add(len as u64),
            Err(_) => self.counters.log_full_total.add(1),
        }
        result
    }

    /// Frees what can be freed when a message of `len` bytes might not find room.
    fn reclaim_if_short(&mut self, len: usize) {
        if self.owner.free() <= 2 + len / crate::buf::segment::SEGMENT_BYTES {
            self.retire();
        }
    }

    /// Takes back every sealed segment that nobody needs any more.
    pub(crate) fn retire(&mut self) {
        if self.owner.sealed() > 0 {
            let senders = &self.senders;
            self.owner.retire(|shard| senders[shard as usize].as_ref().map_or(0, Sender::read_position));
        }
    }

    /// Seals what is open and gives the memory of all free segments back to the system. What somebody is still owed
    /// stays, and comes back with a later call.
    pub(crate) fn give_log_back(&mut self) {
        let logs = self.broadcast.0.iter_mut().chain(std::iter::once(&mut self.private));
        for log in logs {
            log.close(&mut self.owner);
        }
        self.stamp_log();
        self.retire();
        self.owner.trim(0);
    }

    /// The end of a turn: everything written in it has been noted to whom it concerns.
    pub(crate) fn stamp_log(&mut self) {
        let senders = &self.senders;
        self.owner.stamp(|shard| senders[shard as usize].as_ref().map_or(0, Sender::position));
    }

    /// Takes a segment of ours from its readers, here and on the other shards.
    pub(crate) fn evict_everywhere(&mut self, segment: SegmentId) {
        self.counters.evictions_total.add(1);
        self.evict(segment);
        for shard in 0..self.senders.len() as u8 {
            self.note(shard, Note::Evict { segment });
        }
    }

    /// Closes whoever owes us the reading of `segment`: the log is more important than the slowest reader.
    pub(crate) fn evict(&mut self, segment: SegmentId) {
        for slot in self.slots.all() {
            let (hot, runs) = self.slots.outbox(slot);
            if hot.owed_bytes > 0 && outbox::touches(hot, runs, segment) {
                let reference = self.reference(slot);
                self.evicted.push((reference, segment));
            }
        }
        for session in self.windows_over(segment) {
            let reference = self.reference(session);
            self.evicted.push((reference, segment));
        }
    }

    /// Gives up whoever is over its bounds, and whoever still holds what was to be taken from it.
    pub(crate) fn act_on_slow(&mut self) {
        self.tell_hosts_of_losses();
        for connection in std::mem::take(&mut self.over) {
            if let Some(slot) = self.resolve(connection) {
                self.drop_slow(slot);
            }
        }
        for (connection, segment) in std::mem::take(&mut self.evicted) {
            let Some(slot) = self.resolve(connection) else { continue };
            let keeps = self.windows.get(&slot).is_some_and(|window| window.touches(segment));
            let (hot, runs) = self.slots.outbox(slot);
            if keeps || outbox::touches(hot, runs, segment) {
                self.drop_slow(slot);
            }
        }
    }

    // -- answers --------------------------------------------------------------------------------------------------

    /// Answers one invocation. Without an id nobody waits.
    pub(crate) fn answer(&mut self, slot: Slot, id: Option<&str>, target: &str, answer: &Answer) {
        let Some(id) = id else { return };
        let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
        let text;
        let message = match answer {
            Answer::Later => return,
            Answer::Void => Outgoing::Void { id },
            Answer::Value(value) => Outgoing::Result { id, value },
            Answer::Raw(value) => Outgoing::RawResult { id, value: value.as_raw() },
            Answer::Unknown => {
                text = unknown_method_text(target);
                Outgoing::Failure { id, error: &text }
            }
            Answer::Error(error) => {
                text = error.completion_text(target, detailed);
                Outgoing::Failure { id, error: &text }
            }
        };
        match self.tell(slot, &message) {
            Ok(()) => {}
            Err(TellError::Payload(error)) => {
                let text = format!("Failed to invoke '{target}' due to an error on the server. {error}");
                self.tell_or_hang_up(slot, &Outgoing::Failure { id, error: &text });
            }
            Err(TellError::LogFull) => self.hang_up(slot, CloseReason::Overload),
        }
    }

    /// One invocation that ran outside its dispatch has ended: the next held one may start.
    pub(crate) fn invocation_ended(&mut self, slot: Slot) {
        let tick = self.tick();
        let reference = self.reference(slot);
        let cold = self.slots.cold_mut(slot);
        cold.running = cold.running.saturating_sub(1);
        let hot = self.slots.hot_mut(slot);
        hot.session.resume_client_timeout(tick);
        if hot.flags.take(Flags::BUSY) {
            self.unheld.push(reference);
        }
    }
}
