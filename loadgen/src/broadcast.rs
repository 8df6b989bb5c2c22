//! The stages of a load, whatever its shape: probe, warm-up, measured period, drain.

use crate::audience::Shape;
use crate::failure::Failure;
use crate::fleet::Class;
use crate::job::{Job, Load, Via};
use crate::latency::Latencies;
use crate::ledger::{Books, Tally};
use crate::mergers::Mergers;
use crate::plan::{Arrival, Order, Pace, Plan, PlanOptions, Until};
use crate::quantity::{grouped, micros_text};
use crate::report::recorder::Period;
use crate::report::{BroadcastReport, ClassReport, LatencyReport, Report};
use crate::run::{LOOK, Run, Samples, Spent};
use crate::shared::{PlanState, Shared, Stage};
use crate::soak::{Course, SoakReport};
use crate::stalled::{StalledReaders, StalledReport};
use crate::verdict::{Evidence, Verdict};
use crate::worker::WorkerReport;
use fanfare_protocol::negotiate::Transport;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Beside the drain time: how long the probe may take.
const PROBE_EXTRA: Duration = Duration::from_secs(5);

/// How long connections stay open after the last message has reached everybody: what a server sends too often, it may
/// send late.
const LINGER: Duration = Duration::from_millis(200);

/// How often finished tracks are taken from the workers.
const MERGE_INTERVAL: Duration = Duration::from_millis(100);

/// What the measured period gave; completed when the workers have ended.
pub(crate) struct Measured {
    pub(crate) spent: Spent,
    mergers: Mergers,
    base: Vec<u32>,
    due: u64,
    guests: u64,
    started_ns: u64,
    echoes: u64,
    answers: u64,
    pushed_back: u64,
    soak: Option<SoakReport>,
    stalled_plan: bool,
    stalled: Option<StalledReport>,
}

/// Leads a connected fleet through the stages.
pub(crate) fn lead(run: &mut Run, load: &Load) -> Result<Measured, Failure> {
    let setup = run.setup.clone();
    let readers = match load.stalled.connections {
        0 => None,
        _ => Some(StalledReaders::open(&setup, load.stalled)?),
    };
    probe(run, load)?;
    if !load.warmup.is_zero() {
        let until = Until::Elapsed { ns: load.warmup.as_nanos() as u64 };
        let plan = PlanOptions { until, seed: load.plan.seed ^ 1, ..load.plan };
        run.begin(Period::WarmUp);
        follow(run, load, plan, None, "warming up", &mut None)?;
    }
    let mut mergers = Mergers::new(&setup, load.deadline.as_nanos() as u64);
    let base = run.shared().split_books();
    mergers.begin_measured(&base);
    let (due, guests) = (due(run.shared()), run.shared().sum(|worker| &worker.guests));
    run.shared().set_stage(Stage::Measured);
    run.wait(|shared| (shared.all_in(Stage::Measured), 0.0, String::new()))?;

    let before = Samples::take(&setup.job)?;
    let (echoes, answers, pushed_back) = (echoes(run.shared()), answers(run.shared()), pushed_back(run.shared()));
    let started_ns = run.begin(Period::Measured);
    if run.recorder.is_on() {
        mergers.all.keep_intervals(started_ns);
    }
    run.begin_storm();
    let mut soak = load.soak_interval.map(Course::new);
    let state = follow(run, load, load.plan, Some(&mut mergers), "measuring", &mut soak)?;
    let after = Samples::take(&setup.job)?;
    run.await_guests()?;
    std::thread::sleep(LINGER.min(load.drain));
    run.check_workers()?;
    let published = published_since(run.shared(), &base);
    Ok(Measured {
        spent: run.spent(&before, &after),
        mergers,
        base,
        due: self::due(run.shared()) - due,
        guests: run.shared().sum(|worker| &worker.guests) - guests,
        started_ns,
        echoes: self::echoes(run.shared()) - echoes,
        answers: self::answers(run.shared()) - answers,
        pushed_back: self::pushed_back(run.shared()) - pushed_back,
        soak: soak.map(Course::report),
        stalled_plan: state == PlanState::Stalled,
        stalled: readers.map(|readers| readers.report(published * load.size.mean() as u64)),
    })
}

fn due(shared: &Shared) -> u64 {
    shared.due_total.load(Ordering::Acquire)
}

fn echoes(shared: &Shared) -> u64 {
    shared.sum(|worker| &worker.echoes)
}

fn answers(shared: &Shared) -> u64 {
    shared.sum(|worker| &worker.answers)
}

fn pushed_back(shared: &Shared) -> u64 {
    shared.pushed_back.load(Ordering::Relaxed)
}

fn published_since(shared: &Shared, base: &[u32]) -> u64 {
    let next = shared.published.iter().map(|next| next.load(Ordering::Acquire));
    next.zip(base).map(|(next, &base)| u64::from(next - base)).sum()
}

/// Messages that a probe sends through many lanes at a time.
const PROBES_PER_S: f64 = 10_000.0;

/// Lanes that a probe goes through at most.
const PROBES_MAX: u64 = 4_096;

/// One message in each lane: proves that publishing works before anything is measured, and shows every receiver's
/// reader what deliveries look like.
fn probe(run: &mut Run, load: &Load) -> Result<(), Failure> {
    run.begin(Period::Probe);
    let setup = run.setup.clone();
    let pace = match load.shape {
        Shape::All => Pace::Window,
        _ => Pace::Open { messages_per_s: PROBES_PER_S, arrival: Arrival::Even },
    };
    let probes = u64::from(setup.audience.lanes()).min(PROBES_MAX);
    let until = Until::Messages(probes);
    let options = PlanOptions { pace, burst: 1, order: Order::Round, steps: None, until, ..load.plan };
    run.shared().hand_out(plans(&setup.job, load, options), true);
    let sending = Duration::from_secs_f64(probes as f64 / PROBES_PER_S);
    let limit = Instant::now() + load.drain + PROBE_EXTRA + sending;
    run.wait(|shared| {
        let ended = shared.plan_state() == PlanState::Done && shared.delivered() >= due(shared);
        let over = ended || shared.refused().is_some() || Instant::now() > limit;
        (over || shared.plan_state() == PlanState::Stalled, 0.0, "probing".to_owned())
    })?;
    if let Some(reason) = run.shared().refused() {
        return Err(refused(load, reason));
    }
    if run.shared().delivered() == 0 && due(run.shared()) > 0 {
        return Err(Failure::failed(
            "a published message has reached nobody",
            format!("--target {}", setup.job.server.target),
            match &load.via {
                Via::Invocation { method, target, arguments } => {
                    let names: Vec<&str> = arguments.iter().map(|argument| argument.name()).collect();
                    format!(
                        "check that {method}({}) calls {target}(payload) on the clients it is for: --publish-method, --arguments, --publish-target",
                        names.join(", ")
                    )
                }
                Via::Call { method } => format!("check that {method}(payload) returns it: --method"),
                Via::Items { method } => {
                    format!("check that {method}(stream) gives back each item of the stream: --method")
                }
                Via::Message { .. } => {
                    "check that the server broadcasts what a client sends: --publish-prefix".to_owned()
                }
                Via::HttpPost { .. } => "check that a POST there reaches the clients: --raw-publish-http".to_owned(),
            },
        ));
    }
    Ok(())
}

fn refused(load: &Load, reason: String) -> Failure {
    let (place, remedy) = match &load.via {
        Via::Invocation { method, .. } => {
            (format!("--publish-method {method}"), "name a hub method that broadcasts; mind its message size limit")
        }
        Via::Call { method } => (format!("--method {method}"), "name a hub method that returns its only argument"),
        Via::Items { method } => {
            (format!("--method {method}"), "name a hub method that takes a stream and gives its items back as one")
        }
        Via::Message { .. } => ("--publish-prefix".to_owned(), "see what the server expects of a publisher"),
        Via::HttpPost { url, .. } => (format!("--raw-publish-http {}", url.authority), "see the server's log"),
    };
    Failure::failed(format!("the server does not publish: {reason}"), place, remedy)
}

/// What each publishing worker has to do of `options`.
fn plans(job: &Job, load: &Load, options: PlanOptions) -> Vec<(u32, Plan)> {
    let destinations = load.shape.destinations(job.fleet.connections);
    if !load.is_own() {
        return vec![(0, Plan::new(PlanOptions { destinations, ..options }))];
    }
    let all = u64::from(job.fleet.connections);
    let one = |worker: u32| {
        let (first, share) = (u64::from(job.fleet.first(worker)), u64::from(job.fleet.share(worker)));
        let pace = match options.pace {
            Pace::Open { messages_per_s, arrival } => {
                Pace::Open { messages_per_s: messages_per_s * share as f64 / all as f64, arrival }
            }
            Pace::Window => Pace::Window,
        };
        let until = match options.until {
            // Parts of neighbours meet, so nothing is lost to rounding.
            Until::Messages(count) => Until::Messages(count * (first + share) / all - count * first / all),
            elapsed => elapsed,
        };
        let seed = options.seed ^ (u64::from(worker) << 32);
        let steps = options.steps.map(|steps| steps.scaled(share as f64 / all as f64));
        (
            worker,
            Plan::new(PlanOptions { pace, steps, until, seed, publishers: 1, destinations: share as u32, ..options }),
        )
    };
    (0..job.fleet.workers).map(one).collect()
}

/// How long nothing may happen while a plan is under way.
fn patience(load: &Load) -> Duration {
    let gap_s = match load.plan.pace {
        // Exponential gaps are rarely ten times their mean.
        Pace::Open { messages_per_s, .. } => 10.0 * f64::from(load.plan.burst) / messages_per_s,
        Pace::Window => 0.0,
    };
    load.drain.max(Duration::from_secs(1)) + Duration::from_secs_f64(gap_s.min(3_600.0))
}

/// Hands out a plan and waits until it is published and received, or does not get any further.
fn follow(
    run: &mut Run,
    load: &Load,
    options: PlanOptions,
    mut mergers: Option<&mut Mergers>,
    doing: &str,
    soak: &mut Option<Course>,
) -> Result<PlanState, Failure> {
    let setup = run.setup.clone();
    let shared = &setup.shared;
    let lost = due(shared).saturating_sub(shared.delivered());
    shared.hand_out(plans(&setup.job, load, options), false);
    let patience = patience(load);
    let mut meter = Meter::new(shared, options);
    let mut last_merge = Instant::now();
    let mut state = PlanState::Running;
    loop {
        run.check_workers()?;
        run.recorder.look(shared);
        if let Some(storm) = &mut run.storm {
            storm.look(shared);
        }
        let (published, delivered) = (shared.published_total.load(Ordering::Acquire), shared.delivered());
        meter.note(published, delivered);
        if state == PlanState::Running {
            state = shared.plan_state();
        }
        let due = due(shared);
        let complete = delivered + lost >= due;
        if state != PlanState::Running && (complete || meter.quiet_for() > load.drain) {
            break;
        }
        if meter.quiet_for() > patience {
            state = PlanState::Stalled;
            break;
        }
        if last_merge.elapsed() >= MERGE_INTERVAL {
            last_merge = Instant::now();
            let tracks = shared.take_tracks();
            if let Some(mergers) = mergers.as_deref_mut() {
                tracks.into_iter().for_each(|track| mergers.take(track));
            }
        }
        if let (Some(course), Some(mergers)) = (soak.as_mut().filter(|course| course.is_due()), mergers.as_deref_mut())
        {
            course.note(mergers.all.take_interval(), &Samples::take(&setup.job)?);
        }
        if run.progress.is_due() {
            let recent = mergers.as_deref_mut().and_then(|mergers| mergers.all.recent_last_p99_us());
            let (part, text) = meter.line(doing, recent, due.saturating_sub(delivered + lost));
            run.progress.show(part, &text);
        }
        std::thread::sleep(LOOK);
    }
    if let Some(reason) = shared.refused().filter(|_| meter.published() == 0) {
        return Err(refused(load, reason));
    }
    Ok(state)
}

/// Rates between two looks.
struct Meter {
    options: PlanOptions,
    started: Instant,
    first: u64,
    published: u64,
    delivered: u64,
    changed: Instant,
    shown: (Instant, u64, u64),
}

impl Meter {
    fn new(shared: &Shared, options: PlanOptions) -> Self {
        let now = Instant::now();
        let published = shared.published_total.load(Ordering::Acquire);
        let delivered = shared.delivered();
        let shown = (now, published, delivered);
        Self { options, started: now, first: published, published, delivered, changed: now, shown }
    }

    fn note(&mut self, published: u64, delivered: u64) {
        if (published, delivered) != (self.published, self.delivered) {
            (self.published, self.delivered) = (published, delivered);
            self.changed = Instant::now();
        }
    }

    fn quiet_for(&self) -> Duration {
        self.changed.elapsed()
    }

    fn published(&self) -> u64 {
        self.published - self.first
    }

    fn line(&mut self, doing: &str, recent_last_p99_us: Option<u64>, behind: u64) -> (f64, String) {
        let (then, published, delivered) =
            std::mem::replace(&mut self.shown, (Instant::now(), self.published, self.delivered));
        let seconds = then.elapsed().as_secs_f64().max(1e-3);
        let messages = (self.published - published) as f64 / seconds;
        let deliveries = (self.delivered - delivered) as f64 / seconds;
        let part = match self.options.until {
            Until::Messages(all) => self.published() as f64 / all.max(1) as f64,
            Until::Elapsed { ns } => self.started.elapsed().as_nanos() as f64 / ns.max(1) as f64,
        };
        let last = recent_last_p99_us.map_or(String::new(), |us| format!(" | last p99 {}", micros_text(us)));
        let text = format!(
            "{doing} | {messages:.1} msg/s -> {} deliveries/s{last} | under way {}",
            grouped(deliveries as u64),
            grouped(behind)
        );
        (part, text)
    }
}

impl Measured {
    /// Puts the measured period into the report.
    pub(crate) fn complete(mut self, shared: &Shared, job: &Job, workers: &[WorkerReport], report: &mut Report) {
        let Some(load) = job.task.load() else { return };
        shared.take_tracks().into_iter().for_each(|track| self.mergers.take(track));
        let (latencies, by_class) = self.mergers.close();
        let mut books = vec![Books::default(); job.fleet.classes.len()];
        let (mut strangers, mut impossible) = (0, 0);
        for worker in workers {
            books.iter_mut().zip(&worker.books).for_each(|(sum, part)| sum.add(part));
            strangers += worker.strangers;
            impossible += worker.impossible;
        }
        let mut sum = Books::default();
        books.iter().for_each(|class| sum.add(class));
        let Books { warmup, measured } = sum;
        let messages = published_since(shared, &self.base);
        if let (Some(server), Some(cpu_s)) = (&mut report.server, self.spent.server_cpu_s) {
            let deliveries = measured.received + self.echoes + self.guests;
            server.cpu_us_per_delivery = (deliveries > 0).then(|| cpu_s * 1e6 / deliveries as f64);
        }
        report.generator.pushed_back = self.pushed_back;
        report.generator.send_delay_us = Some(latencies.send_delay.summary());
        report.connect.lost = shared.sum_u32(|worker| &worker.lost);
        report.stalled = self.stalled;
        report.soak = self.soak;
        let own = shared.standstills_since(self.started_ns);
        let stalls = latencies.stalls(&own);
        report.generator.standstills = own.count();
        report.generator.standstill_us_max = own.longest_us();
        report.verdict = Verdict::of(&Evidence {
            standstills: own.count(),
            standstill_us_max: own.longest_us(),
            window: load.is_window(),
            busy_ratio: self.spent.busy_ratio,
            waiting_ratio: self.spent.waiting_ratio,
            wanting_ratio: self.spent.wanting_ratio,
            server_waiting_ratio: self.spent.server_waiting_ratio,
            send_delay_p99_us: latencies.send_delay.at_us(0.99),
            measured_p99_us: latencies.from_intended.at_us(0.99),
            pushed_back: self.pushed_back,
            deliveries: measured.received,
            planned: match load.plan.until {
                Until::Messages(messages) => Some(messages),
                Until::Elapsed { .. } => None,
            },
            published: messages,
            stalled: self.stalled_plan,
        });
        if impossible > 0 {
            let text = format!("{impossible} deliveries carry numbers that were never published");
            report.verdict.notes.push(text);
        }
        if let Some(reason) = shared.refused() {
            report.verdict.notes.push(format!("the server refused to publish: {reason}"));
        }
        let elapsed_s = latencies.last_arrival_ns.saturating_sub(self.started_ns) as f64 / 1e9;
        let sent = Sent { messages, due: self.due };
        report.broadcast = Some(broadcast_report(load, sent, measured, &latencies, elapsed_s));
        report.classes = class_reports(job, &books, &by_class);
        if let Some(broadcast) = &mut report.broadcast {
            broadcast.strangers = strangers;
            broadcast.stalls = stalls.count();
            broadcast.stall_us_max = stalls.longest_us();
            broadcast.publisher_echoes = self.echoes;
            broadcast.guest_deliveries = job.fleet.has_guests().then_some(self.guests);
            if job.fleet.classes.iter().all(|class| class.transport == Transport::LongPolling) {
                let bursts = messages as f64 / f64::from(load.plan.burst) * f64::from(job.fleet.connections);
                broadcast.poll_answers = Some(self.answers);
                broadcast.poll_answers_per_burst = (bursts > 0.0).then(|| self.answers as f64 / bursts);
            }
            broadcast.warmup = warmup.into();
        }
        report.record.latencies = Some(latencies);
    }
}

/// What was published in the measured period.
#[derive(Clone, Copy)]
struct Sent {
    messages: u64,
    /// Deliveries that they make.
    due: u64,
}

/// One class apart from the others; nothing when there is only one.
fn class_reports(job: &Job, books: &[Books], latencies: &[Latencies]) -> Vec<ClassReport> {
    if job.fleet.classes.len() < 2 {
        return Vec::new();
    }
    let one = |((class, books), latencies): ((&Class, &Books), &Latencies)| ClassReport {
        name: class.name.clone(),
        connections: class.connections,
        transport: class.transport.name(),
        dialect: class.dialect.to_string(),
        steady: class.is_steady(),
        expected: books.measured.received + books.measured.missing,
        ledger: books.measured.into(),
        late: latencies.late,
        latency_us: latencies.from_intended.summary(),
        last_receiver_us: latencies.last.summary(),
    };
    job.fleet.classes.iter().zip(books).zip(latencies).map(one).collect()
}

fn broadcast_report(
    load: &Load,
    sent: Sent,
    measured: Tally,
    latencies: &Latencies,
    elapsed_s: f64,
) -> BroadcastReport {
    let rate = match load.plan.pace {
        Pace::Open { messages_per_s, .. } => Some(messages_per_s),
        Pace::Window => None,
    };
    BroadcastReport {
        pace: if load.is_window() { "window" } else { "open" },
        rate,
        publishers: load.publishers,
        payload_bytes: load.size.mean(),
        burst: load.plan.burst,
        messages: sent.messages,
        expected: sent.due,
        deliveries: measured.received,
        missing: measured.missing,
        duplicate: measured.duplicate,
        out_of_order: measured.out_of_order,
        corrupt: measured.corrupt,
        misrouted: measured.misrouted,
        late: latencies.late,
        stalls: 0,
        stall_us_max: 0,
        strangers: 0,
        publisher_echoes: 0,
        guest_deliveries: None,
        poll_answers: None,
        poll_answers_per_burst: None,
        warmup: Tally::default().into(),
        elapsed_s,
        deliveries_per_s: if elapsed_s > 0.0 { measured.received as f64 / elapsed_s } else { 0.0 },
        latency_us: LatencyReport {
            from_intended: latencies.from_intended.summary(),
            from_actual: latencies.from_actual.summary(),
        },
        first_receiver_us: latencies.first.summary(),
        half_receiver_us: latencies.half.summary(),
        last_receiver_us: latencies.last.summary(),
        spread_us: latencies.spread.summary(),
    }
}
