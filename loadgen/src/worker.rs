//! One thread, one ring, a part of the fleet: the turn, and what the kernel reports.

use crate::audience::Audience;
use crate::client::{Conn, Mid, Phases, Role};
use crate::failure::{Exit, Failure};
use crate::gaps::STANDSTILL_NS;
use crate::job::{Entry, Fleet, Job, Load, Via};
use crate::latency::{Track, Tracks};
use crate::ledger::{Books, Ledger};
use crate::outgoing::{Outbox, Outgoing};
use crate::payload::Padding;
use crate::phrases::{Phrases, Voice};
use crate::posting::Poster;
use crate::publishing::Publisher;
use crate::reader::{Event, Reader};
use crate::receiving::Receiving;
use crate::shared::{Shared, Stage, add_u32};
use crate::subscribing::Session;
use crate::visiting::Guests;
use crate::wire::Wire;
use fanfare_engine::buf::{Logs, RecvPool, Slab};
use fanfare_engine::io::{Completion, Dial, IoCounters, Slot, Wait};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest sleep: how late a worker may notice a new stage.
const SLEEP_MAX_US: u64 = 10_000;

/// Between two walks for pings and time-outs.
pub(crate) const TICK_NS: u64 = 100_000_000;

/// A turn that brought so many completions is followed by one that asks for many.
const BUSY_COMPLETIONS: usize = 20;

/// Completions asked for at most: more would hold the first ones back.
const WANT_MAX: u32 = 256;

/// With many asked for, be content with one after this long.
const MIN_WAIT_US: u32 = 30;

/// What all workers of a run are made from.
#[derive(Debug)]
pub struct Setup {
    /// The job.
    pub job: Job,
    /// What we say, by dialect; publishers speak the first.
    pub wires: Vec<Wire>,
    /// Which of them each class speaks; publishers are one class more.
    pub voice_of_class: Vec<u8>,
    /// Class by receiver; empty: all are of class 0.
    pub classes: Vec<u8>,
    /// Who must receive what.
    pub audience: Audience,
    /// Names the run in every payload.
    pub run: u32,
    /// The padding of all payloads.
    pub padding: Arc<Padding>,
    /// The board.
    pub shared: Arc<Shared>,
    /// All workers' logs.
    pub logs: Logs,
}

impl Setup {
    /// What publishers and stalled readers say.
    pub fn wire(&self) -> &Wire {
        &self.wires[0]
    }

    /// The class of a receiver of the fleet.
    pub fn class_of(&self, receiver: u32) -> u8 {
        self.classes.get(receiver as usize).copied().unwrap_or(0)
    }

    /// How receivers become members.
    pub fn entry(&self) -> &Entry {
        const NOTHING: &Entry = &Entry::Nothing;
        self.job.task.load().map_or(NOTHING, |load| &load.entry)
    }
}

/// One worker.
pub struct Worker<D: Dial> {
    pub(crate) io: D,
    pub(crate) setup: Arc<Setup>,
    pub(crate) index: u32,
    /// Receivers in slots `0..receivers`, publishers behind them, then the poster.
    pub(crate) receivers: u32,
    /// Number of this worker's first connection in the whole fleet.
    pub(crate) first: u32,
    pub(crate) conns: Vec<Conn>,
    pub(crate) mids: Slab<Box<Mid>>,
    pub(crate) outboxes: Slab<Outbox>,
    pub(crate) outgoing: Outgoing,
    /// By dialect.
    pub(crate) voices: Vec<Voice>,
    pub(crate) ledger: Ledger,
    /// By class.
    pub(crate) tracks: Vec<Tracks>,
    pub(crate) phases: Phases,
    pub(crate) publisher: Option<Publisher>,
    /// With a transport that needs one.
    pub(crate) poster: Option<Poster>,
    /// By receiver, with a transport that needs it.
    pub(crate) sessions: Vec<Session>,
    /// Negotiates still to be asked for.
    pub(crate) to_ask: u64,
    pub(crate) stage: Stage,
    /// Time stamp of this turn.
    pub(crate) now_ns: u64,
    /// Slots not dialled yet start here.
    pub(crate) next_dial: u32,
    /// Connections being opened.
    pub(crate) opening: u32,
    pub(crate) dial_started_ns: u64,
    pub(crate) last_tick_ns: u64,
    pub(crate) ping_cursor: u32,
    pub(crate) close_cursor: u32,
    pub(crate) receiving: Receiving,
    pub(crate) events: Vec<Event>,
    /// By slot: answers that must come before it is open.
    pub(crate) entering: HashMap<u32, u32>,
    pub(crate) guests: Guests,
    /// A connection that hears nothing for longer is one that the SDK would give up.
    pub(crate) silence_us_max: u32,
    /// Time in which this worker did not run, all together.
    pub(crate) stood_still_us: u32,
    /// What has been seen and is none of ours.
    pub(crate) strangers: u64,
    /// Deliveries that no publisher has sent.
    pub(crate) impossible: u64,
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct WorkerReport {
    /// The books, by class.
    pub books: Vec<Books>,
    /// Phases of its connections.
    pub phases: Phases,
    /// Well-formed messages that were not ours.
    pub strangers: u64,
    /// Deliveries that no publisher has sent.
    pub impossible: u64,
    /// What its ring counted.
    pub io: IoCounters,
}

/// Log bytes reserved for each worker: the phrases, tokens, and what a publisher may owe.
pub(crate) fn log_bytes(job: &Job) -> usize {
    let burst = job.task.load().map_or(0, |load| (load.size.most() + 512) * load.plan.burst as usize);
    (64 << 20) + 3 * burst
}

fn failed(cause: String, place: &str) -> Failure {
    Failure::new(Exit::NotStarted, cause, place, "report this with the command line: it should not happen")
}

impl<D: Dial> Worker<D> {
    /// Builds worker `index` on the thread it will run on, with `io` made for at least [`Worker::slots`] slots.
    pub fn new(setup: Arc<Setup>, index: u32, io: D) -> Result<Self, Failure> {
        let fleet = &setup.job.fleet;
        let receivers = fleet.share(index);
        let first = fleet.first(index);
        let mut outgoing = Outgoing::new(&setup.logs, index as u8)
            .ok_or_else(|| failed(format!("the log of worker {index} was given out twice"), "worker"))?;
        let voices = voices(&setup, &mut outgoing)?;
        let (audience, load) = (&setup.audience, setup.job.task.load());
        let classes: Vec<u8> = (first..first + receivers).map(|receiver| setup.class_of(receiver)).collect();
        let tracks = (0..fleet.classes.len() as u8).map(|class| {
            let sizes = audience.sizes_of(first..first + receivers, |receiver| setup.class_of(receiver) == class);
            Tracks::new(class, sizes, audience.publishers())
        });
        let ledger = Ledger::with_seats(
            receivers,
            audience.publishers(),
            audience.lanes(),
            audience.seats(first, receivers),
            if setup.classes.is_empty() { Vec::new() } else { classes },
            fleet.classes.len(),
        );
        let slots = Self::slots(&setup.job, index);
        let started_ns = setup.shared.clock.ns();
        let publisher =
            load.filter(|_| setup.job.publishes(index)).map(|load| Publisher::new(setup.job.server.dialect, load));
        let posts = setup.job.needs_poster();
        let mut worker = Self {
            io,
            index,
            receivers,
            first,
            conns: vec![Conn::default(); slots as usize],
            mids: Slab::new(slots),
            outboxes: Slab::new(slots),
            outgoing,
            voices,
            ledger,
            tracks: tracks.collect(),
            phases: Phases::default(),
            publisher,
            poster: posts.then(|| Poster::new(Slot(slots - 1))),
            sessions: if posts { vec![Session::default(); receivers as usize] } else { Vec::new() },
            to_ask: setup.job.negotiates_of(index),
            stage: Stage::Ready,
            now_ns: started_ns,
            next_dial: 0,
            opening: 0,
            dial_started_ns: started_ns,
            last_tick_ns: 0,
            ping_cursor: 0,
            close_cursor: 0,
            receiving: Receiving::default(),
            events: Vec::new(),
            entering: HashMap::new(),
            guests: Guests::new(setup.job.seed, index),
            silence_us_max: if setup.job.server.dialect.is_signalr() {
                fleet.server_timeout.as_micros().min(u128::from(u32::MAX)) as u32
            } else {
                u32::MAX
            },
            stood_still_us: 0,
            strangers: 0,
            impossible: 0,
            setup,
        };
        worker.assign_roles();
        Ok(worker)
    }

    /// Connections of worker `index`: its receivers, on the first worker the publishers, and the poster if one is needed.
    pub fn slots(job: &Job, index: u32) -> u32 {
        let publishers = if index == 0 { job.publishers() } else { 0 };
        job.fleet.share(index) + publishers + u32::from(job.needs_poster())
    }

    /// Receivers and publishers: slots from 0 to here.
    pub(crate) fn members(&self) -> u32 {
        self.conns.len() as u32 - u32::from(self.poster.is_some())
    }

    fn assign_roles(&mut self) {
        let http = matches!(self.setup.job.task.load().map(|load| &load.via), Some(Via::HttpPost { .. }));
        let role = if http { Role::HttpPublisher } else { Role::Publisher };
        let classes = &self.setup.job.fleet.classes;
        for (receiver, conn) in (self.first..).zip(&mut self.conns[..self.receivers as usize]) {
            conn.class = self.setup.class_of(receiver);
            conn.role = if classes[usize::from(conn.class)].is_steady() { Role::Receiver } else { Role::Guest };
        }
        for conn in &mut self.conns[self.receivers as usize..] {
            conn.role = role;
            conn.class = classes.len() as u8;
        }
        if let Some(poster) = &self.poster {
            self.conns[poster.slot.0 as usize].role = Role::Poster;
        }
    }

    /// Runs until the board says stop. `pool` is the one `io` was made with.
    pub fn run(mut self, mut pool: RecvPool) -> Result<WorkerReport, Failure> {
        let shared = self.setup.shared.clone();
        let counters = &shared.counters[self.index as usize];
        counters.thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Ordering::Release);
        let mut completions = Vec::new();
        let mut woken_at = u64::MAX;
        while self.stage != Stage::Stop {
            self.look_at_board();
            self.dial();
            self.tick();
            let due_ns = self.publish();
            self.visit();
            self.go_on_receiving();
            let wait = self.wait(completions.len(), due_ns.min(self.guests.next_ns()));
            completions.clear();
            self.io.enter(wait, &mut pool, &mut completions).map_err(|error| {
                let place = format!("io_uring of worker {}", self.index);
                Failure::new(Exit::Failed, format!("the ring broke: {error}"), place, "see dmesg; use --workers 1")
            })?;
            self.turned();
            self.receiving.begin_turn(&pool);
            self.outgoing.retire();
            for &completion in &completions {
                self.handle(completion, &mut pool);
            }
            if self.tracks.iter().any(Tracks::has_done) {
                shared.leave_tracks(self.index as usize, |out| {
                    self.tracks.iter_mut().for_each(|tracks| tracks.take_done(out));
                });
            }
            self.wake_publisher(&mut woken_at);
            self.dawdle();
        }
        shared.leave_tracks(self.index as usize, |out: &mut Vec<Track>| {
            for tracks in &mut self.tracks {
                tracks.retire_all();
                tracks.take_done(out);
            }
        });
        self.learn_all_published();
        Ok(WorkerReport {
            books: self.ledger.close_all(),
            phases: self.phases,
            strangers: self.strangers,
            impossible: self.impossible,
            io: self.io.counters(),
        })
    }

    /// Looks at the clock once a turn. Between two looks lie a sleep of at most [`SLEEP_MAX_US`] and one turn's work:
    /// what is much longer than both is the generator's own standstill, and not the server's.
    fn turned(&mut self) {
        let before_ns = std::mem::replace(&mut self.now_ns, self.setup.shared.clock.ns());
        let passed_ns = self.now_ns.saturating_sub(before_ns);
        if passed_ns > STANDSTILL_NS && self.stage > Stage::Ready {
            self.stood_still_us = self.stood_still_us.saturating_add((passed_ns / 1_000) as u32);
            self.setup.shared.stood_still(before_ns, self.now_ns);
        }
    }

    /// Makes this worker slow on purpose, as a test of the verdict asks for.
    fn dawdle(&self) {
        let until_ns = after(self.now_ns, self.fleet().handicap);
        while !self.fleet().handicap.is_zero() && self.setup.shared.clock.ns() < until_ns {
            std::hint::spin_loop();
        }
    }

    fn look_at_board(&mut self) {
        let shared = self.setup.shared.clone();
        let stage = shared.stage();
        if stage == self.stage {
            return;
        }
        if self.stage == Stage::Ready {
            self.now_ns = shared.clock.ns();
            self.dial_started_ns = self.now_ns;
        }
        if stage >= Stage::Measured && self.stage < Stage::Measured {
            self.learn_all_published();
            self.ledger.begin_measured(&shared.base());
        }
        let begins = stage == Stage::Measured;
        self.stage = stage;
        if begins {
            self.ask_all();
            self.begin_lives();
        }
        shared.counters[self.index as usize].stage_seen.store(stage as u8, Ordering::Release);
    }

    /// How long this turn may sleep.
    fn wait(&self, last: usize, due_ns: u64) -> Wait {
        let now_us = self.io.now_us();
        let sleep_us = (due_ns.saturating_sub(self.setup.shared.clock.ns()) / 1_000).min(SLEEP_MAX_US);
        // What a window measures is the server's CPU per delivery. A receiver that sleeps between two deliveries makes
        // the server pay for waking it, 1 us and more, and the faster the server the more often: it stays awake.
        let awake = self.stage == Stage::Measured && self.setup.job.stays_awake();
        if awake || self.receiving.is_behind() {
            return Wait { want: 0, min_wait_us: 0, deadline_us: now_us };
        }
        let busy = last >= BUSY_COMPLETIONS;
        let want = if busy { (last as u32).min(WANT_MAX) } else { 1 };
        Wait { want, min_wait_us: if busy { MIN_WAIT_US } else { 0 }, deadline_us: now_us + sleep_us }
    }

    /// Tells the publishing worker when everything due has been delivered: a window may be full.
    fn wake_publisher(&mut self, woken_at: &mut u64) {
        if self.index == 0 {
            return;
        }
        let shared = &self.setup.shared;
        let due = shared.due_total.load(Ordering::Acquire);
        let mine = self.counters().delivered.load(Ordering::Relaxed);
        let complete = if self.setup.audience.is_everybody() {
            mine == due / u64::from(self.fleet().connections) * u64::from(self.receivers)
        } else {
            // Two that finish at once may miss each other; the publisher then looks by itself.
            shared.delivered() == due
        };
        if *woken_at != mine && complete {
            *woken_at = mine;
            self.io.wake(0);
        }
    }

    fn handle(&mut self, completion: Completion, pool: &mut RecvPool) {
        match completion {
            Completion::Readable { slot, generation, armed } => {
                let Some(conn) = self.conns.get_mut(slot.0 as usize).filter(|conn| conn.generation == generation)
                else {
                    return;
                };
                conn.poll_armed = armed;
                if !conn.state.reads() {
                    return;
                }
                if !armed {
                    conn.poll_armed = true;
                    self.io.poll(slot, generation);
                }
                self.receive(slot);
            }
            Completion::Received { slot, generation, received } => self.received(slot, generation, received, pool),
            Completion::Sent { slot, tag, sent } => self.sent(slot, tag, sent.result),
            Completion::Writable { slot, generation } => self.writable(slot, generation),
            Completion::Connected { slot, generation, result } => {
                if self.conns[slot.0 as usize].generation == generation {
                    self.connected(slot, result);
                }
            }
            Completion::Closed { slot, generation } => {
                if self.conns[slot.0 as usize].generation == generation {
                    self.closed(slot);
                }
            }
            Completion::Woken
            | Completion::Released { .. }
            | Completion::Lent { .. }
            | Completion::Introduced { .. }
            | Completion::HandedOver { .. }
            | Completion::Adopted { .. }
            | Completion::Accepted { .. }
            | Completion::AcceptEnded { .. } => {}
        }
    }

    /// What a connection speaks.
    pub(crate) fn voice(&self, slot: Slot) -> &Voice {
        let class = self.conns[slot.0 as usize].class;
        &self.voices[usize::from(self.setup.voice_of_class[usize::from(class)])]
    }

    pub(crate) fn take_mid(&mut self, slot: Slot) -> Option<Box<Mid>> {
        let handle = std::mem::take(&mut self.conns[slot.0 as usize].mid);
        self.mids.remove(handle)
    }

    pub(crate) fn put_mid(&mut self, slot: Slot, mid: Mid) {
        let handle = self.mids.insert(Box::new(mid));
        debug_assert!(handle.is_ok(), "one place for each slot");
        self.conns[slot.0 as usize].mid = handle.unwrap_or(0);
    }

    /// Adds to this worker's count of open connections (wrapping: pass -1 as `u32::MAX`).
    pub(crate) fn count_open(&self, amount: u32) {
        add_u32(&self.setup.shared.counters[self.index as usize].open, amount);
    }

    /// Adds to this worker's count of slots in use, likewise.
    pub(crate) fn count_occupied(&self, amount: u32) {
        add_u32(&self.setup.shared.counters[self.index as usize].occupied, amount);
    }

    pub(crate) fn now_us(&self) -> u32 {
        (self.now_ns / 1_000) as u32
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.setup.job.fleet
    }
}

/// One voice for each dialect.
fn voices(setup: &Setup, outgoing: &mut Outgoing) -> Result<Vec<Voice>, Failure> {
    let load = setup.job.task.load();
    let one = |wire: &Wire| {
        let (via, bytes) = (load.map(|load| &load.via), load.map_or(0, Load::template_bytes));
        let reader = Reader::new(wire.dialect(), via, setup.run, bytes, setup.padding.clone());
        Ok(Voice { wire: wire.clone(), phrases: Phrases::new(wire, outgoing)?, reader })
    };
    setup.wires.iter().map(one).collect()
}

/// The wait for `period`, as nanoseconds of the run's clock.
pub(crate) fn after(now_ns: u64, period: Duration) -> u64 {
    now_ns.saturating_add(period.as_nanos() as u64)
}
