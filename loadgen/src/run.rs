//! The coordinator: starts the workers, leads them through the stages, samples both sides, makes the report.

use crate::audience::Audience;
use crate::baseline::{Baseline, settled_sample};
use crate::broadcast;
use crate::failure::{Exit, Failure};
use crate::job::{Job, Load, SLOTS_PER_RING_MAX, Task};
use crate::os;
use crate::payload::{Padding, Random};
use crate::procfs::{Memory, ProcessSample};
use crate::progress::{Progress, connecting};
use crate::receiving::pool_for;
use crate::report::environment::RunInfo;
use crate::report::recorder::{Period, Recorder};
use crate::report::{ConnectReport, NegotiateReport, Report};
use crate::shared::{Shared, Stage};
use crate::storm::Storm;
use crate::verdict::Verdict;
use crate::wire::Wire;
use crate::worker::{Setup, Worker, WorkerReport, log_bytes};
use fanfare_engine::buf::Logs;
use fanfare_engine::io::{RingFds, Uring, UringOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often the coordinator looks at the board.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// How long farewells may take, however few there are.
const FAREWELL_LIMIT: Duration = Duration::from_secs(10);

/// How long no negotiate may be answered.
const NEGOTIATE_PATIENCE: Duration = Duration::from_secs(5);

/// Farewells that any server manages in a second.
const FAREWELLS_PER_S: u32 = 2_000;

/// Does the job. The report says how it went; `Err` means that there is nothing to report.
pub fn run(job: Job) -> Result<Report, Failure> {
    if let Some(&core) = job.fleet.cores.first() {
        // The coordinator must not disturb the server's core.
        os::pin_to_core(core)?;
    }
    let mut run = Run::start(job)?;
    let (started, began) = (SystemTime::now(), Instant::now());
    let started_ns = run.shared().clock.ns();
    let mut info = RunInfo::begin(&run.setup.job, started);
    let result = run.lead();
    run.progress.clear();
    // Whatever happened, no thread is left behind.
    let ended = run.stop();
    let mut report = result?;
    ended.map(|workers| run.complete(&mut report, &workers))?;
    info.end(began.elapsed());
    report.run = Some(info);
    report.record.align();
    report.record.started = started.checked_sub(Duration::from_nanos(started_ns));
    report.check_thresholds(&run.setup.job.output.thresholds);
    Ok(report)
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) setup: Arc<Setup>,
    pub(crate) progress: Progress,
    workers: Vec<JoinHandle<Result<WorkerReport, Failure>>>,
    /// Before the first connection.
    pub(crate) before: Samples,
    /// The bare sockets, open until the end.
    pub(crate) baseline: Option<Baseline>,
    /// Guests, once the measured period has begun.
    pub(crate) storm: Option<Storm>,
    /// Measured by the task, put into the report when the workers have ended.
    pub(crate) broadcast: Option<broadcast::Measured>,
    /// What the run looks like over time.
    pub(crate) recorder: Recorder,
}

/// Both sides at one moment.
pub(crate) struct Samples {
    pub(crate) at: Instant,
    pub(crate) own: ProcessSample,
    pub(crate) server: Option<ProcessSample>,
}

impl Samples {
    pub(crate) fn take(job: &Job) -> Result<Self, Failure> {
        let pids = &job.server.pids;
        let server = if pids.is_empty() { None } else { Some(ProcessSample::take(pids)?) };
        Ok(Self { own: ProcessSample::take(&[std::process::id()])?, server, at: Instant::now() })
    }
}

/// What a period has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) wall_s: f64,
    pub(crate) own_cpu_s: f64,
    /// The busiest core or thread.
    pub(crate) busy_ratio: f64,
    /// The worker that waited longest for a CPU.
    pub(crate) waiting_ratio: f64,
    /// The largest sum of both of one worker.
    pub(crate) wanting_ratio: f64,
    pub(crate) server_cpu_s: Option<f64>,
    /// The server's thread that waited longest for a CPU.
    pub(crate) server_waiting_ratio: f64,
    pub(crate) server_memory: Memory,
}

impl Run {
    fn start(job: Job) -> Result<Self, Failure> {
        let descriptors = os::raise_descriptor_limit();
        let most = (0..job.fleet.workers).map(|index| Worker::<Uring>::slots(&job, index)).max().unwrap_or(0);
        if u64::from(most) > descriptors {
            return Err(Failure::new(
                Exit::HostUnfit,
                format!("a ring of {most} connections needs a descriptor limit of as many; it is {descriptors}"),
                "--workers",
                format!("raise the limit (ulimit -n), or use more workers (up to {SLOTS_PER_RING_MAX} slots each)"),
            ));
        }
        let mut progress = Progress::new(job.output.quiet);
        let baseline = match &job.task {
            Task::Idle { baseline: true, .. } => {
                progress.show(0.0, "opening bare sockets to compare with");
                Some(Baseline::measure(job.fleet.connections)?)
            }
            _ => None,
        };
        let setup = Arc::new(setup(job)?);
        let (ready, started) = sync_channel(setup.job.fleet.workers as usize);
        let ring_fds = RingFds::new(setup.job.fleet.workers as u8)
            .map_err(|error| not_started(format!("no descriptors for waking workers: {error}")))?;
        let mut workers = Vec::new();
        for index in 0..setup.job.fleet.workers {
            let (setup, ring_fds, ready) = (setup.clone(), ring_fds.clone(), ready.clone());
            let name = format!("load-{index}");
            let spawned = std::thread::Builder::new().name(name).spawn(move || work(setup, index, ring_fds, &ready));
            workers.push(spawned.map_err(|error| not_started(format!("no thread for worker {index}: {error}")))?);
        }
        drop(ready);
        wait_for_start(&started, setup.job.fleet.workers)?;
        let before = Samples::take(&setup.job)?;
        let Job { server, fleet, output, .. } = &setup.job;
        let recorder = Recorder::new(output.folder.is_some(), fleet.has_guests(), &server.pids);
        Ok(Self { setup, progress, workers, before, baseline, storm: None, broadcast: None, recorder })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.setup.shared
    }

    /// Begins a period of the timeline. Returns when, on the run's clock.
    pub(crate) fn begin(&mut self, period: Period) -> u64 {
        self.recorder.begin(period, &self.setup.shared)
    }

    /// The stages of each task.
    fn lead(&mut self) -> Result<Report, Failure> {
        let kernel_before =
            if matches!(self.setup.job.task, Task::Idle { .. }) { Some(settled_sample()?) } else { None };
        let mut connect = self.connect()?;
        let opened = Samples::take(&self.setup.job)?;
        let cost = self.spent(&self.before, &opened);
        let setup = self.setup.clone();
        let all_open = connect.failed == 0;
        let mut negotiate = None;
        let (spent, kernel, verdict) = match &setup.job.task {
            Task::Connect { hold } => {
                self.hold(*hold)?;
                self.farewell()?;
                connect.lost = self.shared().sum_u32(|worker| &worker.lost);
                (cost, None, self.judge_connect(&cost))
            }
            Task::Idle { hold, .. } => {
                self.hold(*hold)?;
                connect.lost = self.shared().sum_u32(|worker| &worker.lost);
                let spent = self.spent(&opened, &Samples::take(&setup.job)?);
                let kernel = kernel_before.map(|before| self.kernel_report(&before, &spent)).transpose()?;
                (spent, kernel, Verdict::of_idle(connect.failed + connect.lost))
            }
            Task::Negotiate { .. } | Task::Load(..) if !all_open => return Err(self.not_all_open(&connect)),
            Task::Negotiate { requests } => {
                let (asked, spent) = self.negotiate(*requests)?;
                negotiate = Some(asked);
                connect.lost = self.shared().sum_u32(|worker| &worker.lost);
                (spent, None, Verdict::of_closed_loop(spent.busy_ratio, spent.waiting_ratio))
            }
            Task::Load(_, load) if setup.job.fleet.expecting() == 0 => {
                let spent = self.watch_guests(load)?;
                connect.lost = self.shared().sum_u32(|worker| &worker.lost);
                (spent, None, Verdict::of_closed_loop(spent.busy_ratio, spent.waiting_ratio))
            }
            Task::Load(_, load) => {
                let measured = broadcast::lead(self, load)?;
                let (spent, verdict) = (measured.spent, Verdict::default());
                self.broadcast = Some(measured);
                (spent, None, verdict)
            }
        };
        let mut report = self.report(connect, cost, spent, kernel, verdict);
        report.negotiate = negotiate;
        report.guests = self.storm.as_ref().map(|storm| storm.report(self.shared()));
        Ok(report)
    }

    /// The measured period of a fleet of guests: nobody is left to whom a message could be owed, so there is no load.
    fn watch_guests(&mut self, load: &Load) -> Result<Spent, Failure> {
        let before = Samples::take(&self.setup.job)?;
        self.begin(Period::Measured);
        self.shared().set_stage(Stage::Measured);
        self.begin_storm();
        let until = Instant::now() + Duration::from_nanos(load.plan.duration_ns());
        self.wait(|_| (Instant::now() >= until, 0.0, "guests come and go".to_owned()))?;
        self.await_guests()?;
        let after = Samples::take(&self.setup.job)?;
        Ok(self.spent(&before, &after))
    }

    /// From now on guests are watched, and cut at their time.
    pub(crate) fn begin_storm(&mut self) {
        let job = &self.setup.job;
        let guests = job.fleet.connections - job.fleet.steady();
        let all = job.fleet.connections + job.publishers();
        self.storm = (guests > 0).then(|| Storm::new(job.visits.cuts.clone(), guests, all));
    }

    /// Waits for cuts to come and for guests that are away, as long as the job says.
    pub(crate) fn await_guests(&mut self) -> Result<(), Failure> {
        if self.storm.is_none() || self.setup.job.visits.cuts.is_empty() {
            return Ok(());
        }
        let last_cut = self.setup.job.visits.cuts.iter().max().copied().unwrap_or_default();
        let until = Instant::now() + last_cut + self.setup.job.visits.patience;
        self.begin(Period::Return);
        loop {
            self.check_workers()?;
            let shared = self.setup.shared.clone();
            self.recorder.look(&shared);
            if self.storm.as_mut().is_none_or(|storm| storm.look(&shared)) || Instant::now() > until {
                return Ok(());
            }
            if self.progress.is_due() {
                let open = shared.sum_u32(|worker| &worker.open);
                self.progress.show(1.0, &format!("waiting for guests, {open} connections open"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Has all sockets ask until `requests` are answered, or nothing is answered any more.
    fn negotiate(&mut self, requests: u64) -> Result<(NegotiateReport, Spent), Failure> {
        let before = Samples::take(&self.setup.job)?;
        self.begin(Period::Measured);
        let (mut seen, mut changed) = (0, Instant::now());
        self.shared().set_stage(Stage::Measured);
        self.wait(|shared| {
            let answered = shared.sum(|worker| &worker.negotiated);
            if answered != seen {
                (seen, changed) = (answered, Instant::now());
            }
            let nobody = shared.sum_u32(|worker| &worker.open) == 0;
            let over = answered >= requests || nobody || changed.elapsed() > NEGOTIATE_PATIENCE;
            let part = answered as f64 / requests.max(1) as f64;
            (over, part, format!("negotiating, {answered} answered"))
        })?;
        let after = Samples::take(&self.setup.job)?;
        let spent = self.spent(&before, &after);
        let elapsed_s = (changed - before.at).as_secs_f64().max(1e-9);
        let memory = |sample: &Samples| sample.server.as_ref().map(|server| server.memory);
        let growth = |figure: fn(&Memory) -> u64| {
            let (from, to) = memory(&before).zip(memory(&after))?;
            Some(figure(&to) as i64 - figure(&from) as i64)
        };
        let report = NegotiateReport {
            requests,
            answered: seen,
            elapsed_s,
            per_s: seen as f64 / elapsed_s,
            cpu_us_per_negotiate: spent.server_cpu_s.filter(|_| seen > 0).map(|cpu_s| cpu_s * 1e6 / seen as f64),
            resident_growth_bytes: growth(|memory| memory.rss_bytes),
            private_growth_bytes: growth(|memory| memory.private_bytes),
        };
        Ok((report, spent))
    }

    /// Opens all connections.
    fn connect(&mut self) -> Result<ConnectReport, Failure> {
        self.begin(Period::Connect);
        let job = &self.setup.job;
        let all = job.fleet.connections + job.publishers();
        let started = Instant::now();
        self.shared().set_stage(Stage::Hold);
        // Every connection has its own time-out, so this ends.
        self.wait(|shared| {
            let (open, failed) = (shared.sum_u32(|w| &w.open), shared.sum_u32(|w| &w.failed));
            let lost = shared.sum_u32(|w| &w.lost);
            let part = f64::from(open) / f64::from(all);
            (open + failed + lost >= all, part, connecting(open, failed, all))
        })?;
        let elapsed_s = started.elapsed().as_secs_f64();
        let opened = self.shared().sum_u32(|w| &w.open);
        Ok(ConnectReport {
            opened,
            failed: self.shared().sum_u32(|w| &w.failed),
            elapsed_s,
            per_s: f64::from(opened) / elapsed_s,
            ..ConnectReport::default()
        })
    }

    fn not_all_open(&self, connect: &ConnectReport) -> Failure {
        let why = self.shared().troubles().first().map_or("unknown".to_owned(), |(text, _)| text.clone());
        Failure::failed(
            format!("{} of {} connections could not be opened: {why}", connect.failed, connect.failed + connect.opened),
            format!("--target {} --dialect {}", self.setup.job.server.target, self.setup.job.server.dialect),
            if self.setup.job.server.url.path == "/" {
                "name the hub in the target, as http://HOST:PORT/HUB (`fanfare dev` serves /demo)"
            } else {
                "check that the server listens there, speaks this dialect, and allows as many connections"
            },
        )
    }

    fn hold(&mut self, hold: Duration) -> Result<(), Failure> {
        self.begin(Period::Hold);
        let until = Instant::now() + hold;
        self.wait(|shared| {
            let left = until.saturating_duration_since(Instant::now());
            let part = 1.0 - left.as_secs_f64() / hold.as_secs_f64().max(0.001);
            let open = shared.sum_u32(|w| &w.open);
            (left.is_zero(), part, format!("holding {open} connections"))
        })
    }

    /// Says good-bye on all connections and waits for the ends.
    fn farewell(&mut self) -> Result<(), Failure> {
        self.begin(Period::Close);
        self.shared().set_stage(Stage::Close);
        let more = Duration::from_secs(u64::from(self.setup.job.fleet.connections / FAREWELLS_PER_S));
        let until = Instant::now() + FAREWELL_LIMIT + more;
        self.wait(|shared| {
            let left = shared.sum_u32(|w| &w.occupied);
            let over = left == 0 && shared.all_in(Stage::Close) || Instant::now() > until;
            (over, 1.0, format!("closing, {left} left"))
        })
    }

    /// Looks at the board until `look` says that it is enough. A worker that ends meanwhile ends the run.
    pub(crate) fn wait(&mut self, mut look: impl FnMut(&Shared) -> (bool, f64, String)) -> Result<(), Failure> {
        loop {
            let (done, part, text) = look(&self.setup.shared);
            if done {
                return Ok(());
            }
            if self.progress.is_due() {
                self.progress.show(part, &text);
            }
            self.recorder.look(&self.setup.shared);
            self.check_workers()?;
            if let Some(storm) = &mut self.storm {
                storm.look(&self.setup.shared);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// A worker never ends by itself.
    pub(crate) fn check_workers(&mut self) -> Result<(), Failure> {
        let Some(at) = self.workers.iter().position(JoinHandle::is_finished) else { return Ok(()) };
        match self.workers.swap_remove(at).join() {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(_)) | Err(_) => Err(not_started("a worker thread ended unexpectedly".to_owned())),
        }
    }

    /// Ends the workers and collects what they leave.
    fn stop(&mut self) -> Result<Vec<WorkerReport>, Failure> {
        if self.shared().stage() < Stage::Close && !self.workers.is_empty() {
            // A failure here is the same as below.
            let _ = self.farewell();
            self.progress.clear();
        }
        self.shared().set_stage(Stage::Stop);
        let mut reports = Vec::new();
        for worker in self.workers.drain(..) {
            let ended = worker.join().map_err(|_| not_started("a worker thread panicked".to_owned()))?;
            reports.push(ended?);
        }
        Ok(reports)
    }

    /// What happened between two samples.
    pub(crate) fn spent(&self, from: &Samples, to: &Samples) -> Spent {
        let wall_s = (to.at - from.at).as_secs_f64().max(1e-9);
        let pid = std::process::id();
        let cores = &self.setup.job.fleet.cores;
        let mut by_core = vec![0.0; cores.len()];
        let (mut busiest, mut waiting, mut wanting): (f64, f64, f64) = (0.0, 0.0, 0.0);
        for (index, worker) in self.shared().counters.iter().enumerate() {
            let thread = worker.thread.load(Ordering::Acquire);
            let scheduled = to.own.thread_since(&from.own, pid, thread);
            let ratio = scheduled.running_ns as f64 / 1e9 / wall_s;
            let waited = scheduled.waiting_ns as f64 / 1e9 / wall_s;
            busiest = busiest.max(ratio);
            waiting = waiting.max(waited);
            wanting = wanting.max(ratio + waited);
            if !cores.is_empty() {
                let sum: &mut f64 = &mut by_core[index % cores.len()];
                *sum += ratio;
                busiest = busiest.max(*sum);
            }
        }
        let server = to.server.as_ref().zip(from.server.as_ref());
        Spent {
            wall_s,
            own_cpu_s: to.own.cpu_since(&from.own).as_secs_f64(),
            busy_ratio: busiest,
            waiting_ratio: waiting,
            wanting_ratio: wanting,
            server_cpu_s: server.map(|(to, from)| to.cpu_since(from).as_secs_f64()),
            server_waiting_ratio: server.map_or(0.0, |(to, from)| to.longest_wait_since(from).as_secs_f64() / wall_s),
            server_memory: to.server.as_ref().map(|sample| sample.memory).unwrap_or_default(),
        }
    }
}

fn not_started(cause: String) -> Failure {
    Failure::new(Exit::NotStarted, cause, "starting the workers", "see the message; use fewer --workers")
}

fn setup(job: Job) -> Result<Setup, Failure> {
    let seed = job.seed;
    let payload_bytes = job.task.load().map_or(0, |load| load.size.most());
    // Two runs against one server must not take each other's messages for their own, whatever their seeds.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let run = Random::new(seed ^ now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32).next_u64() as u32;
    let logs = Logs::new(job.fleet.workers as u8, log_bytes(&job))
        .map_err(|error| not_started(format!("no memory for what is to be sent: {error}")))?;
    let mut dialects = vec![job.server.dialect];
    let mut voice = |dialect| {
        dialects.iter().position(|&known| known == dialect).unwrap_or_else(|| {
            dialects.push(dialect);
            dialects.len() - 1
        }) as u8
    };
    let mut voice_of_class: Vec<u8> = job.fleet.classes.iter().map(|class| voice(class.dialect)).collect();
    voice_of_class.push(0);
    let all_alike = job.fleet.classes.len() == 1;
    let classes = if all_alike { Vec::new() } else { job.fleet.classes_by_receiver() };
    let steady: Vec<bool> = (0..job.fleet.connections as usize)
        .map(|receiver| &job.fleet.classes[usize::from(classes.get(receiver).copied().unwrap_or(0))])
        .map(|class| class.is_steady() && class.member)
        .collect();
    // Without a load nobody expects anything, and there are no lanes.
    let audience = match job.task.load() {
        Some(load) => Audience::new(load.shape, if load.is_own() { 1 } else { load.publishers }, &steady, seed),
        None => Audience::nothing(),
    };
    Ok(Setup {
        wires: dialects.into_iter().map(|dialect| Wire::new(&job.server, dialect, seed)).collect(),
        voice_of_class,
        classes,
        run,
        padding: Arc::new(Padding::new(seed, payload_bytes)),
        shared: Arc::new(Shared::new(job.fleet.workers, audience.lanes())),
        audience,
        logs,
        job,
    })
}

/// The life of one worker thread.
fn work(
    setup: Arc<Setup>,
    index: u32,
    ring_fds: Arc<RingFds>,
    ready: &SyncSender<Result<(), Failure>>,
) -> Result<WorkerReport, Failure> {
    let prepared = prepare(setup, index, ring_fds);
    let (worker, pool) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            // The coordinator may have given up already.
            let _ = ready.send(Err(failure.clone()));
            return Err(failure);
        }
    };
    let _ = ready.send(Ok(()));
    worker.run(pool)
}

fn prepare(
    setup: Arc<Setup>,
    index: u32,
    ring_fds: Arc<RingFds>,
) -> Result<(Worker<Uring>, fanfare_engine::buf::RecvPool), Failure> {
    let cores = &setup.job.fleet.cores;
    if !cores.is_empty() {
        os::pin_to_core(cores[index as usize % cores.len()])?;
    }
    os::sharpen_timers();
    let pool = pool_for(&setup.job);
    let options = UringOptions {
        shard: index as u8,
        slots: Worker::<Uring>::slots(&setup.job, index),
        sq_entries: 4096,
        cq_entries: 16_384,
        logs: setup.logs.clone(),
        ring_fds,
    };
    let ring = Uring::new(options, &pool).map_err(|error| {
        Failure::new(Exit::NotStarted, error.to_string(), format!("io_uring of worker {index}"), "see above")
    })?;
    Ok((Worker::new(setup, index, ring)?, pool))
}

fn wait_for_start(started: &Receiver<Result<(), Failure>>, workers: u32) -> Result<(), Failure> {
    for _ in 0..workers {
        started.recv().map_err(|_| not_started("a worker thread ended before it began".to_owned()))??;
    }
    Ok(())
}
