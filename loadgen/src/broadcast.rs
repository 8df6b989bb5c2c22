//! The stages of `broadcast`: probe, warm-up, measured period, drain.

use crate::failure::Failure;
use crate::job::{Job, Load, Via};
use crate::latency::{Latencies, Merger};
use crate::ledger::Tally;
use crate::plan::{Pace, Plan, PlanOptions, Until};
use crate::quantity::{grouped, micros_text};
use crate::report::recorder::Period;
use crate::report::{BroadcastReport, LatencyReport, Report};
use crate::run::{LOOK, Run, Samples, Spent};
use crate::shared::{PlanState, Shared, Stage};
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
    merger: Merger,
    base: Vec<u32>,
    started_ns: u64,
    echoes: u64,
    answers: u64,
    pushed_back: u64,
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
        follow(run, load, plan, None, "warming up")?;
    }
    let workers = setup.job.fleet.workers;
    let deadline_ns = load.deadline.as_nanos() as u64;
    let receivers = u64::from(setup.job.fleet.connections);
    let mut merger = Merger::new(workers, receivers, load.publishers, deadline_ns);
    let base = run.shared().split_books();
    merger.begin_measured(&base);
    run.shared().set_stage(Stage::Measured);
    run.wait(|shared| (shared.all_in(Stage::Measured), 0.0, String::new()))?;

    let before = Samples::take(&setup.job)?;
    let (echoes, answers, pushed_back) = (echoes(run.shared()), answers(run.shared()), pushed_back(run.shared()));
    let started_ns = run.begin(Period::Measured);
    if run.recorder.is_on() {
        merger.keep_intervals(started_ns);
    }
    let state = follow(run, load, load.plan, Some(&mut merger), "measuring")?;
    let after = Samples::take(&setup.job)?;
    std::thread::sleep(LINGER.min(load.drain));
    run.check_workers()?;
    let published = published_since(run.shared(), &base);
    Ok(Measured {
        spent: run.spent(&before, &after),
        merger,
        base,
        started_ns,
        echoes: self::echoes(run.shared()) - echoes,
        answers: self::answers(run.shared()) - answers,
        pushed_back: self::pushed_back(run.shared()) - pushed_back,
        stalled_plan: state == PlanState::Stalled,
        stalled: readers.map(|readers| readers.report(published * load.payload_bytes as u64)),
    })
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

/// One message from each publisher: proves that publishing works before anything is measured, and shows every
/// receiver's reader what deliveries look like.
fn probe(run: &mut Run, load: &Load) -> Result<(), Failure> {
    run.begin(Period::Probe);
    let setup = run.setup.clone();
    let options = PlanOptions {
        pace: Pace::Window,
        burst: 1,
        publishers: load.publishers,
        until: Until::Messages(u64::from(load.publishers)),
        seed: load.plan.seed,
    };
    run.shared().hand_out(Plan::new(options), true);
    let limit = Instant::now() + load.drain + PROBE_EXTRA;
    let all = u64::from(setup.job.fleet.connections) * u64::from(load.publishers);
    run.wait(|shared| {
        let ended = shared.plan_state() == PlanState::Done && shared.delivered() >= all;
        let over = ended || shared.refused().is_some() || Instant::now() > limit;
        (over || shared.plan_state() == PlanState::Stalled, 0.0, "probing".to_owned())
    })?;
    if let Some(reason) = run.shared().refused() {
        return Err(refused(load, reason));
    }
    if run.shared().delivered() == 0 {
        return Err(Failure::failed(
            "a published message has reached nobody",
            format!("--target {}", setup.job.server.target),
            match &load.via {
                Via::Invocation { method, target } => format!(
                    "check that {method}(target, payload) calls {target}(payload) on all clients: --publish-method, --publish-target"
                ),
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
        Via::Message { .. } => ("--publish-prefix".to_owned(), "see what the server expects of a publisher"),
        Via::HttpPost { url, .. } => (format!("--raw-publish-http {}", url.authority), "see the server's log"),
    };
    Failure::failed(format!("the server does not publish: {reason}"), place, remedy)
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
    mut merger: Option<&mut Merger>,
    doing: &str,
) -> Result<PlanState, Failure> {
    let setup = run.setup.clone();
    let shared = &setup.shared;
    let receivers = u64::from(setup.job.fleet.connections);
    let lost = (shared.published_total.load(Ordering::Acquire) * receivers).saturating_sub(shared.delivered());
    shared.hand_out(Plan::new(options), false);
    let patience = patience(load);
    let mut meter = Meter::new(shared, options);
    let mut last_merge = Instant::now();
    let mut state = PlanState::Running;
    loop {
        run.check_workers()?;
        run.recorder.look(shared);
        let (published, delivered) = (shared.published_total.load(Ordering::Acquire), shared.delivered());
        meter.note(published, delivered);
        if state == PlanState::Running {
            state = shared.plan_state();
        }
        let due = published * receivers;
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
            if let Some(merger) = merger.as_deref_mut() {
                tracks.into_iter().for_each(|track| merger.take(track));
            }
        }
        if run.progress.is_due() {
            let recent = merger.as_deref_mut().and_then(Merger::recent_last_p99_us);
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
        shared.take_tracks().into_iter().for_each(|track| self.merger.take(track));
        let latencies = self.merger.close();
        let (mut warmup, mut measured) = (Tally::default(), Tally::default());
        let (mut strangers, mut impossible) = (0, 0);
        for worker in workers {
            warmup.add(&worker.warmup);
            measured.add(&worker.measured);
            strangers += worker.strangers;
            impossible += worker.impossible;
        }
        let messages = published_since(shared, &self.base);
        if let (Some(server), Some(cpu_s)) = (&mut report.server, self.spent.server_cpu_s) {
            let deliveries = measured.received + self.echoes;
            server.cpu_us_per_delivery = (deliveries > 0).then(|| cpu_s * 1e6 / deliveries as f64);
        }
        report.generator.pushed_back = self.pushed_back;
        report.generator.send_delay_us = Some(latencies.send_delay.summary());
        report.connect.lost = shared.sum_u32(|worker| &worker.lost);
        report.stalled = self.stalled;
        report.verdict = Verdict::of(&Evidence {
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
        report.broadcast = Some(broadcast_report(load, job, messages, measured, &latencies, elapsed_s));
        if let Some(broadcast) = &mut report.broadcast {
            broadcast.strangers = strangers;
            broadcast.publisher_echoes = self.echoes;
            if job.server.transport == Transport::LongPolling {
                let bursts = messages as f64 / f64::from(load.plan.burst) * f64::from(job.fleet.connections);
                broadcast.poll_answers = Some(self.answers);
                broadcast.poll_answers_per_burst = (bursts > 0.0).then(|| self.answers as f64 / bursts);
            }
            broadcast.warmup = warmup.into();
        }
        report.record.latencies = Some(latencies);
    }
}

fn broadcast_report(
    load: &Load,
    job: &Job,
    messages: u64,
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
        payload_bytes: load.payload_bytes,
        burst: load.plan.burst,
        messages,
        expected: messages * u64::from(job.fleet.connections),
        deliveries: measured.received,
        missing: measured.missing,
        duplicate: measured.duplicate,
        out_of_order: measured.out_of_order,
        corrupt: measured.corrupt,
        late: latencies.late,
        strangers: 0,
        publisher_echoes: 0,
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
