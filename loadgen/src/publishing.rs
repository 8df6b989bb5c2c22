//! The publishers: a plan is followed, messages are stamped, encoded and sent. All on the first worker.

use crate::client::{Mid, State};
use crate::failure::Failure;
use crate::job::{Dialect, Load};
use crate::payload::Head;
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

/// The publishing side of the first worker.
#[derive(Debug)]
pub(crate) struct Publisher {
    publish: Publish,
    payload_bytes: usize,
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
            payload_bytes: load.payload_bytes,
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
        if let Some((plan, answered)) = shared.take_plan() {
            let due = shared.published_total.load(Ordering::Acquire) * self.everybody();
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
                shared.end_plan(state);
                u64::MAX
            }
        }
    }

    fn everybody(&self) -> u64 {
        u64::from(self.fleet().connections)
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
                let due = shared.published_total.load(Ordering::Acquire) * self.everybody();
                if shared.delivered() + running.lost < due {
                    let limit_ns = after(running.last_burst_ns, publisher.window_limit);
                    return if now_ns > limit_ns { Next::Ended(PlanState::Stalled) } else { Next::At(limit_ns) };
                }
            } else if now_ns < intended_ns {
                return Next::At(intended_ns);
            }
            let slot = Slot(self.receivers + u32::from(burst.publisher));
            let blocked = self.conns[slot.0 as usize].state != State::Open || self.owed_bytes(slot) > OWED_BYTES_MAX;
            if blocked || !self.send_burst(publisher, burst, slot, intended_ns, running.answered) {
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
        slot: Slot,
        intended_ns: u64,
        answered: bool,
    ) -> bool {
        let shared = self.setup.shared.clone();
        let next = &shared.published[usize::from(burst.publisher)];
        let first = next.load(Ordering::Relaxed);
        publisher.bytes.clear();
        for sequence in first..first + burst.messages {
            let head = Head {
                run: self.setup.run,
                publisher: burst.publisher,
                sequence,
                length: publisher.payload_bytes as u32,
                intended_ns,
                actual_ns: shared.clock.ns(),
            };
            let written = publisher.publish.write(&head, &self.setup.padding, answered, &mut publisher.bytes);
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
        shared.published_total.fetch_add(u64::from(burst.messages), Ordering::AcqRel);
        true
    }
}

/// What follows.
enum Next {
    /// Look again at this time.
    At(u64),
    /// The plan has ended.
    Ended(PlanState),
}
