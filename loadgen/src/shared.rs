//! What the coordinator and the workers tell each other: plain atomics for figures, mutexes for the rare rest.

use crate::gaps::Gaps;
use crate::latency::Track;
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Nanoseconds since the run began; the clock of payloads and of all measurements.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// What the fleet is doing. Only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Rings are up, nothing is dialled yet.
    Ready = 0,
    /// Connections are made and held.
    Hold = 1,
    /// From now on deliveries are measured: the books are split at `Shared::base`.
    Measured = 2,
    /// Say good-bye on every connection.
    Close = 3,
    /// Leave the loop.
    Stop = 4,
}

impl Stage {
    fn from_u8(value: u8) -> Self {
        [Self::Ready, Self::Hold, Self::Measured, Self::Close, Self::Stop][usize::from(value.min(4))]
    }
}

/// What one worker's guests did.
#[derive(Debug, Default)]
pub struct GuestCounters {
    /// Lives that ended with a farewell.
    pub lives: AtomicU64,
    /// Cut.
    pub cut: AtomicU64,
    /// Ended by the server.
    pub dropped: AtomicU64,
    /// Open again.
    pub returned: AtomicU64,
    /// Attempts to come back that failed.
    pub refused: AtomicU64,
    /// Guests that do not try any more.
    pub gave_up: AtomicU64,
}

/// One worker's figures, on cache lines of their own. Written by the worker only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Kernel thread id, 0 until the worker runs.
    pub thread: AtomicU32,
    /// The stage the worker has taken note of.
    pub stage_seen: AtomicU8,
    /// Connections open now (receivers and publishers).
    pub open: AtomicU32,
    /// Slots that are not empty: opening, open or closing.
    pub occupied: AtomicU32,
    /// Connections that could not be opened.
    pub failed: AtomicU32,
    /// Connections that were open and are not any more.
    pub lost: AtomicU32,
    /// Different messages received by receivers with a ledger line, summed over them.
    pub delivered: AtomicU64,
    /// Messages received by receivers without one.
    pub guests: AtomicU64,
    /// Messages that came back to publishers.
    pub echoes: AtomicU64,
    /// What guests did.
    pub guest: GuestCounters,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Polls of receivers that were answered with something.
    pub answers: AtomicU64,
    /// Times a connection heard nothing for longer than the SDK waits.
    pub silences: AtomicU64,
    /// Negotiate requests that were answered well.
    pub negotiated: AtomicU64,
}

/// Adds to a figure that has one writer.
pub fn add(figure: &AtomicU64, amount: u64) {
    figure.store(figure.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// Adds to a figure that has one writer.
pub fn add_u32(figure: &AtomicU32, amount: u32) {
    figure.store(figure.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// How the publisher's current plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PlanState {
    /// There is none.
    None = 0,
    /// Handed out, not done.
    Running = 1,
    /// All published.
    Done = 2,
    /// Given up: a window did not fill in time.
    Stalled = 3,
}

impl PlanState {
    fn from_u8(value: u8) -> Self {
        [Self::None, Self::Running, Self::Done, Self::Stalled][usize::from(value.min(3))]
    }
}

/// One worker's plan.
#[derive(Debug, Default)]
struct PlanBox {
    plan: Mutex<Option<(Plan, bool)>>,
    state: AtomicU8,
    waiting: AtomicBool,
}

/// The whole board.
#[derive(Debug)]
pub struct Shared {
    /// The run's clock.
    pub clock: Clock,
    stage: AtomicU8,
    /// By worker.
    pub counters: Box<[Counters]>,
    /// Next sequence, by lane.
    pub published: Box<[AtomicU32]>,
    /// Messages published, all publishers together.
    pub published_total: AtomicU64,
    /// Deliveries that they make, receivers with a ledger line only.
    pub due_total: AtomicU64,
    /// Publishers' bursts that had to wait because the server did not take more.
    pub pushed_back: AtomicU64,
    /// By worker.
    plans: Box<[PlanBox]>,
    /// What receivers are called by the server, where it is asked.
    names: Mutex<Vec<Box<str>>>,
    /// How often guests were to be cut.
    cuts: AtomicU32,
    /// First sequences of the measured period.
    base: Mutex<Vec<u32>>,
    /// Finished tracks, by worker, for the coordinator.
    tracks: Box<[Mutex<Vec<Track>>]>,
    /// When workers did not run.
    standstills: Mutex<Gaps>,
    refused: Mutex<Option<String>>,
    troubles: Mutex<BTreeMap<String, u64>>,
}

/// Kinds of trouble remembered: servers that put a number into each error text must not fill the memory.
const TROUBLES_MAX: usize = 64;

/// A panic in another thread does not make the figures wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For `workers` workers and `lanes` lanes.
    pub fn new(workers: u32, lanes: u32) -> Self {
        Self {
            clock: Clock::start(),
            stage: AtomicU8::new(Stage::Ready as u8),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            published: (0..lanes).map(|_| AtomicU32::new(0)).collect(),
            published_total: AtomicU64::new(0),
            due_total: AtomicU64::new(0),
            pushed_back: AtomicU64::new(0),
            plans: (0..workers).map(|_| PlanBox::default()).collect(),
            names: Mutex::default(),
            cuts: AtomicU32::new(0),
            base: Mutex::new(vec![u32::MAX; lanes as usize]),
            tracks: (0..workers).map(|_| Mutex::default()).collect(),
            standstills: Mutex::default(),
            refused: Mutex::new(None),
            troubles: Mutex::new(BTreeMap::new()),
        }
    }

    /// The stage.
    pub fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Acquire))
    }

    /// Moves on. Workers notice within a turn or their longest sleep.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Whether every worker has noticed `stage`.
    pub fn all_in(&self, stage: Stage) -> bool {
        self.counters.iter().all(|worker| worker.stage_seen.load(Ordering::Acquire) >= stage as u8)
    }

    /// Splits the books: everything published from now on is measured.
    pub fn split_books(&self) -> Vec<u32> {
        let base: Vec<u32> = self.published.iter().map(|next| next.load(Ordering::Acquire)).collect();
        lock(&self.base).clone_from(&base);
        base
    }

    /// Where the books are split.
    pub fn base(&self) -> Vec<u32> {
        lock(&self.base).clone()
    }

    /// Hands workers their plans. `answered`: ask the server to answer each publish.
    pub fn hand_out(&self, plans: impl IntoIterator<Item = (u32, Plan)>, answered: bool) {
        self.plans.iter().for_each(|place| place.state.store(PlanState::None as u8, Ordering::Release));
        for (worker, plan) in plans {
            let place = &self.plans[worker as usize];
            *lock(&place.plan) = Some((plan, answered));
            place.state.store(PlanState::Running as u8, Ordering::Release);
            place.waiting.store(true, Ordering::Release);
        }
    }

    /// A publishing worker looks for a new plan.
    pub fn take_plan(&self, worker: u32) -> Option<(Plan, bool)> {
        let place = &self.plans[worker as usize];
        if !place.waiting.load(Ordering::Acquire) {
            return None;
        }
        place.waiting.store(false, Ordering::Release);
        lock(&place.plan).take()
    }

    /// How the plans stand: running while one is, stalled when one was given up.
    pub fn plan_state(&self) -> PlanState {
        let states = || self.plans.iter().map(|place| PlanState::from_u8(place.state.load(Ordering::Acquire)));
        let any = |wanted| states().any(|state| state == wanted);
        [PlanState::Running, PlanState::Stalled, PlanState::Done]
            .into_iter()
            .find(|&state| any(state))
            .unwrap_or(PlanState::None)
    }

    /// A publishing worker reports an end.
    pub fn end_plan(&self, worker: u32, state: PlanState) {
        self.plans[worker as usize].state.store(state as u8, Ordering::Release);
    }

    /// Has all guests that wait for it cut.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
    }

    /// How often that was asked for.
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Acquire)
    }

    /// The server calls a receiver so.
    pub fn set_name(&self, receiver: u32, name: &str) {
        let mut names = lock(&self.names);
        if names.len() <= receiver as usize {
            names.resize(receiver as usize + 1, Box::default());
        }
        names[receiver as usize] = name.into();
    }

    /// What the server calls a receiver.
    pub fn name(&self, receiver: u32) -> Option<Box<str>> {
        lock(&self.names).get(receiver as usize).filter(|name| !name.is_empty()).cloned()
    }

    /// Sum of a counter over the workers.
    pub fn sum_u32(&self, figure: impl Fn(&Counters) -> &AtomicU32) -> u32 {
        self.counters.iter().map(|worker| figure(worker).load(Ordering::Relaxed)).sum()
    }

    /// Sum of a counter over the workers.
    pub fn sum(&self, figure: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|worker| figure(worker).load(Ordering::Relaxed)).sum()
    }

    /// Different messages received so far, summed over all receivers.
    pub fn delivered(&self) -> u64 {
        self.sum(|worker| &worker.delivered)
    }

    /// A worker leaves finished tracks.
    pub fn leave_tracks(&self, worker: usize, fill: impl FnOnce(&mut Vec<Track>)) {
        fill(&mut lock(&self.tracks[worker]));
    }

    /// The coordinator takes all finished tracks.
    pub fn take_tracks(&self) -> Vec<Track> {
        self.tracks.iter().flat_map(|tracks| std::mem::take(&mut *lock(tracks))).collect()
    }

    /// The server does not publish for us, for this reason. The first one is kept.
    pub fn refuse(&self, reason: String) {
        lock(&self.refused).get_or_insert(reason);
    }

    /// Why the server does not publish.
    pub fn refused(&self) -> Option<String> {
        lock(&self.refused).clone()
    }

    /// A worker did not run between these times.
    pub fn stood_still(&self, from_ns: u64, to_ns: u64) {
        lock(&self.standstills).add(from_ns, to_ns);
    }

    /// When a worker did not run, those that ended after `ns`.
    pub fn standstills_since(&self, ns: u64) -> Gaps {
        lock(&self.standstills).since(ns)
    }

    /// Counts something that went wrong on a connection.
    pub fn trouble(&self, text: impl Into<String>) {
        let mut troubles = lock(&self.troubles);
        let text = text.into();
        if troubles.len() < TROUBLES_MAX || troubles.contains_key(&text) {
            *troubles.entry(text).or_default() += 1;
        } else {
            *troubles.entry("other".to_owned()).or_default() += 1;
        }
    }

    /// What went wrong and how often, most frequent first.
    pub fn troubles(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = lock(&self.troubles).iter().map(|(text, &count)| (text.clone(), count)).collect();
        all.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Order, Pace, PlanOptions, Until};

    #[test]
    fn a_plan_is_taken_once() {
        let shared = Shared::new(1, 1);
        assert!(shared.take_plan(0).is_none());
        let until = Until::Messages(1);
        let (destinations, order) = (1, Order::Random);
        let options = PlanOptions {
            pace: Pace::Window,
            burst: 1,
            publishers: 1,
            destinations,
            order,
            steps: None,
            until,
            seed: 1,
        };
        shared.hand_out([(0, Plan::new(options))], true);
        assert_eq!(shared.plan_state(), PlanState::Running);
        assert!(shared.take_plan(0).is_some_and(|(_, answered)| answered));
        assert!(shared.take_plan(0).is_none());
        shared.end_plan(0, PlanState::Done);
        assert_eq!(shared.plan_state(), PlanState::Done);
    }

    #[test]
    fn kinds_of_trouble_are_bounded() {
        let shared = Shared::new(1, 1);
        for number in 0..1000 {
            shared.trouble(format!("reason {number}"));
            shared.trouble("often");
        }
        let troubles = shared.troubles();
        assert!(troubles.len() <= TROUBLES_MAX + 1);
        assert_eq!(troubles.iter().map(|(_, count)| count).sum::<u64>(), 2000);
        assert_eq!(troubles[0].1.max(troubles[1].1), 1000);
    }

    #[test]
    fn stages_are_acknowledged() {
        let shared = Shared::new(2, 1);
        shared.set_stage(Stage::Measured);
        assert_eq!(shared.stage(), Stage::Measured);
        shared.counters[0].stage_seen.store(Stage::Measured as u8, Ordering::Release);
        assert!(!shared.all_in(Stage::Measured));
        shared.counters[1].stage_seen.store(Stage::Close as u8, Ordering::Release);
        assert!(shared.all_in(Stage::Measured));
    }
}
