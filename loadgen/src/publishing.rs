//! Publishing: a plan is followed, messages are stamped, encoded and sent. Publishers are all on the first worker;
//! where receivers speak for themselves, each worker has a plan for its own.

use crate::audience::Shape;
use crate::client::{Mid, State};
use crate::failure::Failure;
use crate::job::{Dialect, Load};
use crate::payload::{Head, Random, Size};
use crate::plan::{Burst, Plan};
use crate::shared::PlanState;
use crate::wire::Publish;
use crate::worker::{Worker, after};
use fanfare_engine::io::{Dial, Slot};
use std::iter::Peekable;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A publisher that owes more than this waits: the server does not take more, and further messages would only
/// measure our own memory.
const OWED_BYTES_MAX: u64 = 16 << 20;

/// The publishing side of one worker.
#[derive(Debug)]
pub(crate) struct Publisher {
    publish: Publish,
    size: Size,
    random: Random,
    /// A window that does not fill within this time is given up.
    window_limit: Duration,
    bytes: Vec<u8>,
    running: Option<Running>,
}

/// A plan under way.
#[derive(Debug)]
struct Running {
    plan: Peekable<Plan>,
    window: bool,
    window_ends_ns: Option<u64>,
    answered: bool,
    started_ns: u64,
    /// Deliveries that were already lost when the plan began: they must not hold windows up.
    lost: u64,
    last_burst_ns: u64,
    /// The next burst has been counted as pushed back.
    waited: bool,
}

impl Publisher {
    pub(crate) fn new(dialect: Dialect, load: &Load) -> Self {
        Self {
            publish: Publish::new(dialect, load.via.clone()),
            size: load.size,
            random: Random::new(load.plan.seed ^ 0x7369_7a65),
            window_limit: load.drain.max(Duration::from_secs(1)),
            bytes: Vec::new(),
            running: None,
        }
    }
}

impl<D: Dial> Worker<D> {
    /// Publishes what is due. Returns when to look again.
    pub(crate) fn publish(&mut self) -> u64 {
        let Some(mut publisher) = self.publisher.take() else { return self.next_tick_ns() };
        let due_ns = self.publish_with(&mut publisher);
        self.publisher = Some(publisher);
        due_ns.min(self.next_tick_ns())
    }

    fn publish_with(&mut self, publisher: &mut Publisher) -> u64 {
        let shared = self.setup.shared.clone();
        if let Some((plan, answered)) = shared.take_plan(self.index) {
            let due = shared.due_total.load(Ordering::Acquire);
            let window_ends_ns = plan.window_ends_ns();
            publisher.running = Some(Running {
                window: plan.is_window(),
                window_ends_ns,
                plan: plan.peekable(),
                answered,
                started_ns: shared.clock.ns(),
                lost: due - shared.delivered().min(due),
                last_burst_ns: shared.clock.ns(),
                waited: false,
            });
        }
        let Some(mut running) = publisher.running.take() else { return u64::MAX };
        let next = self.follow(publisher, &mut running);
        match next {
            Next::At(due_ns) => {
                publisher.running = Some(running);
                due_ns
            }
            Next::Ended(state) => {
                shared.end_plan(self.index, state);
                u64::MAX
            }
        }
    }

    /// Who sends a burst, in which lane, and what the server calls whom it is for.
    fn route(&self, burst: Burst) -> Route {
        let audience = &self.setup.audience;
        match audience.shape() {
            Shape::Own => {
                let lane = self.first + burst.destination;
                Route { slot: Slot(burst.destination), destination: lane, lane, to: Box::default() }
            }
            shape => {
                let to = match shape {
                    Shape::Connections => self.setup.shared.name(burst.destination).unwrap_or_default(),
                    shape => shape.name_of(burst.destination).into(),
                };
                Route {
                    slot: Slot(self.receivers + u32::from(burst.publisher)),
                    destination: burst.destination,
                    lane: audience.lane(burst.destination, burst.publisher),
                    to,
                }
            }
        }
    }

    /// Publishes bursts until one is not due.
    fn follow(&mut self, publisher: &mut Publisher, running: &mut Running) -> Next {
        let shared = self.setup.shared.clone();
        loop {
            let Some(&burst) = running.plan.peek() else { return Next::Ended(PlanState::Done) };
            let now_ns = shared.clock.ns();
            let intended_ns = if running.window { now_ns } else { running.started_ns + burst.at_ns };
            if running.window {
                if running.window_ends_ns.is_some_and(|ends| now_ns >= running.started_ns + ends) {
                    return Next::Ended(PlanState::Done);
                }
                let due = shared.due_total.load(Ordering::Acquire);
                if shared.delivered() + running.lost < due {
                    let limit_ns = after(running.last_burst_ns, publisher.window_limit);
                    return if now_ns > limit_ns { Next::Ended(PlanState::Stalled) } else { Next::At(limit_ns) };
                }
            } else if now_ns < intended_ns {
                return Next::At(intended_ns);
            }
            let route = self.route(burst);
            let slot = route.slot;
            if self.setup.audience.shape() == Shape::Own && self.conns[slot.0 as usize].state != State::Open {
                // Its loss is counted where it happened; the others go on.
                running.plan.next();
                continue;
            }
            let blocked = self.conns[slot.0 as usize].state != State::Open || self.owed_bytes(slot) > OWED_BYTES_MAX;
            if blocked || !self.send_burst(publisher, burst, &route, intended_ns, running.answered) {
                if !std::mem::replace(&mut running.waited, true) {
                    shared.pushed_back.fetch_add(1, Ordering::Relaxed);
                }
                if shared.refused().is_some() {
                    return Next::Ended(PlanState::Stalled);
                }
                return Next::At(after(now_ns, Duration::from_millis(1)));
            }
            running.last_burst_ns = now_ns;
            running.waited = false;
            running.plan.next();
        }
    }

    /// Encodes and sends one burst. Returns `false`, with nothing changed, when there is no room for it now.
    fn send_burst(
        &mut self,
        publisher: &mut Publisher,
        burst: Burst,
        route: &Route,
        intended_ns: u64,
        answered: bool,
    ) -> bool {
        let shared = self.setup.shared.clone();
        let (slot, next) = (route.slot, &shared.published[route.lane as usize]);
        let first = next.load(Ordering::Relaxed);
        publisher.bytes.clear();
        for sequence in first..first + burst.messages {
            let head = Head {
                run: self.setup.run,
                lane: route.lane,
                sequence,
                length: publisher.size.draw(&mut publisher.random) as u32,
                intended_ns,
                actual_ns: shared.clock.ns(),
            };
            let written =
                publisher.publish.write(&head, &route.to, &self.setup.padding, answered, &mut publisher.bytes);
            if let Err(Failure { cause, .. }) = written {
                shared.refuse(cause);
                return false;
            }
        }
        if !self.say_own(slot, &publisher.bytes) {
            return false;
        }
        let handle = self.conns[slot.0 as usize].mid;
        if let Some(Mid::Http(answers)) = self.mids.get_mut(handle).map(|mid| &mut **mid) {
            answers.outstanding += u64::from(burst.messages);
        }
        // Before the ring is entered, so before anything can come back.
        next.store(first + burst.messages, Ordering::Release);
        let due = u64::from(burst.messages) * u64::from(self.setup.audience.size(route.destination));
        shared.due_total.fetch_add(due, Ordering::AcqRel);
        shared.published_total.fetch_add(u64::from(burst.messages), Ordering::AcqRel);
        true
    }
}

/// The way of one burst.
struct Route {
    /// The connection that sends it.
    slot: Slot,
    destination: u32,
    lane: u32,
    /// What the server calls the destination.
    to: Box<str>,
}

/// What follows.
enum Next {
    /// Look again at this time.
    At(u64),
    /// The plan has ended.
    Ended(PlanState),
}
