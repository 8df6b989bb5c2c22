//! What the board and /proc said over time: one sample an interval, taken by the coordinator while it waits anyway.
//!
//! Samples are sums since the run began. A row of the timeline is the difference of two neighbours, so dropping a sample
//! makes a longer row and loses nothing: that is how long runs stay within [`INTERVALS_MAX`].

use super::intervals::{INTERVAL_NS, INTERVALS_MAX};
use crate::procfs::ProcessSample;
use crate::shared::Shared;
use std::sync::atomic::Ordering;

/// Periods that are told apart. What begins later belongs to the last of them.
pub const PERIODS_MAX: usize = 64;

/// Points of a curve; one more, and every second one is dropped.
pub const CURVE_POINTS_MAX: usize = 400;

/// Between two points of a curve at first, nanoseconds.
const CURVE_NS: u64 = 20_000_000;

/// A part of a run, as the timeline names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Connections are opened.
    Connect,
    /// Connections are held.
    Hold,
    /// One message from each publisher.
    Probe,
    /// The same load as later, not measured.
    WarmUp,
    /// What the figures are about.
    Measured,
    /// Connections that were cut are waited for.
    Return,
    /// Good-byes.
    Close,
}

impl Period {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Hold => "hold",
            Self::Probe => "probe",
            Self::WarmUp => "warm-up",
            Self::Measured => "measured",
            Self::Return => "return",
            Self::Close => "close",
        }
    }
}

/// Sums since the run began, and what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Messages published.
    pub sent: u64,
    /// Deliveries that these should give.
    pub expected: u64,
    /// Different messages received, summed over the receivers.
    pub received: u64,
    /// Bytes received, framing included.
    pub bytes: u64,
    /// Connections open now.
    pub open: u32,
    /// Connections that could not be opened.
    pub failed: u32,
    /// Connections that were open and are not any more.
    pub lost: u32,
    /// The generator's CPU, nanoseconds.
    pub generator_cpu_ns: u64,
    /// The server's CPU, nanoseconds; 0 when it is not sampled.
    pub server_cpu_ns: u64,
    /// The server's resident set now; `None` when it is not sampled.
    pub server_rss_bytes: Option<u64>,
}

/// The board at the end of one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// On the run's clock.
    pub at_ns: u64,
    /// The sums by then.
    pub board: Board,
}

/// The samples of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which.
    pub period: Period,
    /// On the run's clock.
    pub started_ns: u64,
    /// At multiples of the interval behind `started_ns`; the last one at the period's end.
    pub samples: Vec<Sample>,
}

/// How many connections were open at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurvePoint {
    /// On the run's clock.
    pub at_ns: u64,
    /// Open then.
    pub open: u32,
    /// Attempts that had failed by then.
    pub failed: u64,
}

/// Open connections, more often than once an interval: what happens within a second is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// In order of time.
    pub points: Vec<CurvePoint>,
    step_ns: u64,
    next_ns: u64,
    /// The fewest open since the last point: connections may all be gone and back between two of them.
    fewest: u32,
}

impl Default for Curve {
    fn default() -> Self {
        Self { points: Vec::new(), step_ns: CURVE_NS, next_ns: 0, fewest: u32::MAX }
    }
}

impl Curve {
    /// One look. Of all looks in a step, the one with the fewest open makes the point.
    fn note(&mut self, at_ns: u64, open: u32, failed: u64) {
        self.fewest = self.fewest.min(open);
        if at_ns < self.next_ns {
            return;
        }
        if self.points.len() >= CURVE_POINTS_MAX {
            let one = |pair: &[CurvePoint]| CurvePoint {
                open: pair.iter().map(|point| point.open).min().unwrap_or_default(),
                ..pair[0]
            };
            self.points = self.points.chunks(2).map(one).collect();
            self.step_ns *= 2;
        }
        self.next_ns = at_ns + self.step_ns;
        let open = std::mem::replace(&mut self.fewest, u32::MAX);
        self.points.push(CurvePoint { at_ns, open, failed });
    }

    /// The last look of a period: as it is now.
    fn end(&mut self, at_ns: u64, open: u32, failed: u64) {
        if self.fewest < open {
            self.next_ns = 0;
            self.note(at_ns, open, failed);
        }
        self.next_ns = 0;
        self.fewest = u32::MAX;
        self.note(at_ns, open, failed);
    }
}

/// All samples of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Length of an interval, nanoseconds; 0 when nothing was recorded.
    pub interval_ns: u64,
    /// In order of time.
    pub stretches: Vec<Stretch>,
    /// Connections while they were opened.
    pub ramp: Curve,
    /// The same while some came and went; empty when none did.
    pub visits: Curve,
}

impl Samples {
    fn rows(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.samples.len()).sum()
    }

    /// Makes intervals at least `interval_ns` long.
    pub fn coarsen_to(&mut self, interval_ns: u64) {
        while self.interval_ns < interval_ns {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        self.interval_ns *= 2;
        let interval_ns = self.interval_ns;
        let ended = self.stretches.len() - 1;
        for (index, Stretch { started_ns, samples, .. }) in self.stretches.iter_mut().enumerate() {
            // The end of an ended period is where the next one begins: it stays.
            let end_ns = samples.last().filter(|_| index < ended).map(|last| last.at_ns);
            let on_grid = |at_ns: u64| (at_ns - *started_ns).is_multiple_of(interval_ns);
            samples.retain(|sample| on_grid(sample.at_ns) || Some(sample.at_ns) == end_ns);
        }
    }
}

/// Takes the samples. One that is off costs nothing.
#[derive(Debug)]
pub(crate) struct Recorder {
    on: bool,
    server_pids: Vec<u32>,
    samples: Samples,
    /// The last look at both sides: their CPU is summed from look to look, since threads may end in between.
    own: ProcessSample,
    server: Option<ProcessSample>,
    generator_cpu_ns: u64,
    server_cpu_ns: u64,
    next_ns: u64,
    has_guests: bool,
}

impl Recorder {
    /// `has_guests`: some connections come and go. `server_pids`: whose CPU and memory is sampled as well.
    pub(crate) fn new(on: bool, has_guests: bool, server_pids: &[u32]) -> Self {
        let mut recorder = Self {
            on,
            server_pids: server_pids.to_vec(),
            samples: Samples::default(),
            own: ProcessSample::default(),
            server: None,
            generator_cpu_ns: 0,
            server_cpu_ns: 0,
            next_ns: u64::MAX,
            has_guests,
        };
        if on {
            recorder.samples.interval_ns = INTERVAL_NS;
            recorder.sample_processes();
            // What it took to get here is nobody's.
            recorder.generator_cpu_ns = 0;
        }
        recorder
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// A period begins, and the one before ends. Returns the time at which it does.
    pub(crate) fn begin(&mut self, period: Period, shared: &Shared) -> u64 {
        let now_ns = shared.clock.ns();
        if !self.on {
            return now_ns;
        }
        self.end_stretch(now_ns, shared);
        if self.samples.stretches.len() < PERIODS_MAX {
            self.samples.stretches.push(Stretch { period, started_ns: now_ns, samples: Vec::new() });
        }
        self.next_ns = now_ns + self.samples.interval_ns;
        now_ns
    }

    /// Takes a sample when one is due. Asking is cheap.
    pub(crate) fn look(&mut self, shared: &Shared) {
        if !self.on {
            return;
        }
        let now_ns = shared.clock.ns();
        self.note_curve(now_ns, shared, Curve::note);
        if now_ns < self.next_ns {
            return;
        }
        if self.samples.rows() >= INTERVALS_MAX {
            self.samples.coarsen();
        }
        let interval_ns = self.samples.interval_ns;
        let Some(started_ns) = self.samples.stretches.last().map(|stretch| stretch.started_ns) else { return };
        let at_ns = now_ns - (now_ns - started_ns) % interval_ns;
        self.next_ns = at_ns + interval_ns;
        self.push(at_ns, shared);
    }

    /// Ends the last period and gives everything away. The workers have ended: their figures are final.
    pub(crate) fn finish(&mut self, shared: &Shared) -> Samples {
        if self.on {
            self.end_stretch(shared.clock.ns(), shared);
        }
        self.on = false;
        std::mem::take(&mut self.samples)
    }

    fn end_stretch(&mut self, now_ns: u64, shared: &Shared) {
        // On the first turn there is nothing to end.
        if !self.samples.stretches.is_empty() {
            self.note_curve(now_ns, shared, Curve::end);
            self.push(now_ns, shared);
        }
    }

    fn push(&mut self, at_ns: u64, shared: &Shared) {
        self.sample_processes();
        let board = self.board(shared);
        let Some(stretch) = self.samples.stretches.last_mut() else { return };
        // Coarsening may have taken the grid past this moment: then the last row says it all.
        match stretch.samples.last_mut().filter(|last| last.at_ns >= at_ns) {
            Some(last) => last.board = board,
            None => stretch.samples.push(Sample { at_ns, board }),
        }
    }

    fn board(&self, shared: &Shared) -> Board {
        let sent = shared.published_total.load(Ordering::Acquire);
        Board {
            sent,
            expected: shared.due_total.load(Ordering::Acquire),
            received: shared.delivered(),
            bytes: shared.sum(|worker| &worker.bytes),
            open: shared.sum_u32(|worker| &worker.open),
            failed: shared.sum_u32(|worker| &worker.failed),
            lost: shared.sum_u32(|worker| &worker.lost),
            generator_cpu_ns: self.generator_cpu_ns,
            server_cpu_ns: self.server_cpu_ns,
            server_rss_bytes: self.server.as_ref().map(|server| server.memory.rss_bytes),
        }
    }

    /// A process that cannot be read is left out: who needs its figures samples it with care of its own.
    fn sample_processes(&mut self) {
        if let Ok(now) = ProcessSample::glance(&[std::process::id()]) {
            self.generator_cpu_ns += now.cpu_since(&self.own).as_nanos() as u64;
            self.own = now;
        }
        if self.server_pids.is_empty() {
            return;
        }
        let now = ProcessSample::glance(&self.server_pids).ok();
        if let Some((now, before)) = now.as_ref().zip(self.server.as_ref()) {
            self.server_cpu_ns += now.cpu_since(before).as_nanos() as u64;
        }
        self.server = now;
    }

    fn note_curve(&mut self, now_ns: u64, shared: &Shared, note: fn(&mut Curve, u64, u32, u64)) {
        let open = || shared.sum_u32(|worker| &worker.open);
        let Samples { stretches, ramp, visits, .. } = &mut self.samples;
        match stretches.last().map(|stretch| stretch.period) {
            Some(Period::Connect) => {
                note(ramp, now_ns, open(), u64::from(shared.sum_u32(|worker| &worker.failed)));
            }
            Some(Period::Measured | Period::Return) if self.has_guests => {
                note(visits, now_ns, open(), shared.sum(|worker| &worker.guest.refused));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::add;

    fn sample(at_ns: u64, received: u64) -> Sample {
        Sample { at_ns, board: Board { received, ..Board::default() } }
    }

    #[test]
    fn coarsening_keeps_sums_and_the_ends_of_periods() {
        let stretch = |period, started_ns, times: &[u64]| Stretch {
            period,
            started_ns,
            samples: times.iter().map(|&at| sample(at, at)).collect(),
        };
        let warm_up = stretch(Period::WarmUp, 100, &[101, 102, 103]);
        let measured = stretch(Period::Measured, 103, &[104, 105, 106, 107, 108]);
        let mut samples = Samples { interval_ns: 1, stretches: vec![warm_up, measured], ..Samples::default() };
        samples.coarsen_to(2);
        let times = |index: usize| samples.stretches[index].samples.iter().map(|s| s.at_ns).collect::<Vec<_>>();
        assert_eq!(times(0), [102, 103]);
        assert_eq!(times(1), [105, 107]);
        assert_eq!(samples.interval_ns, 2);
    }

    #[test]
    fn a_recorder_follows_the_board_through_its_periods() {
        let shared = Shared::new(1, 1);
        let mut recorder = Recorder::new(true, false, &[]);
        recorder.begin(Period::Connect, &shared);
        recorder.look(&shared);
        let started_ns = recorder.begin(Period::Measured, &shared);
        shared.published_total.store(3, Ordering::Release);
        shared.due_total.store(30, Ordering::Release);
        add(&shared.counters[0].delivered, 29);
        let samples = recorder.finish(&shared);
        let periods: Vec<Period> = samples.stretches.iter().map(|stretch| stretch.period).collect();
        assert_eq!(periods, [Period::Connect, Period::Measured]);
        assert_eq!((samples.ramp.points.len(), samples.visits.points.len()), (2, 0), "one look, and the end");
        let last = samples.stretches[1].samples.last().expect("the end").board;
        assert_eq!((last.sent, last.expected, last.received), (3, 30, 29));
        assert_eq!(samples.stretches[0].samples.last().map(|sample| sample.at_ns), Some(started_ns));
    }

    #[test]
    fn one_that_is_off_keeps_nothing() {
        let shared = Shared::new(1, 1);
        let mut recorder = Recorder::new(false, false, &[]);
        recorder.begin(Period::Connect, &shared);
        recorder.look(&shared);
        assert_eq!(recorder.finish(&shared), Samples::default());
    }

    #[test]
    fn curves_are_bounded_and_cover_all_of_their_time() {
        let mut curve = Curve::default();
        let until_ns = 5 * CURVE_POINTS_MAX as u64 * CURVE_NS;
        for at_ns in (0..until_ns).step_by(CURVE_NS as usize / 4) {
            curve.note(at_ns, 1, 0);
        }
        assert!(curve.points.len() <= CURVE_POINTS_MAX && curve.points.len() > CURVE_POINTS_MAX / 3);
        assert_eq!(curve.points.first().map(|point| point.at_ns), Some(0));
        assert!(curve.points.last().is_some_and(|point| point.at_ns > until_ns / 10 * 9));
    }

    #[test]
    fn a_storm_between_two_points_is_seen() {
        let mut curve = Curve::default();
        for look in 0..40 * CURVE_POINTS_MAX as u64 {
            let open = if look % 997 == 5 { 1 } else { 800 };
            curve.note(look * CURVE_NS / 4, open, 0);
        }
        assert!(curve.points.iter().filter(|point| point.open == 1).count() >= 15);
        curve.note(u64::MAX / 4, 800, 0);
        curve.note(u64::MAX / 4 + 1, 3, 0);
        curve.end(u64::MAX / 4 + 2, 800, 0);
        let last: Vec<u32> = curve.points.iter().rev().take(2).map(|point| point.open).collect();
        assert_eq!(last, [800, 3]);
    }

    #[test]
    fn those_that_come_and_go_have_a_curve_of_their_own() {
        let shared = Shared::new(1, 1);
        let mut recorder = Recorder::new(true, true, &[]);
        for period in [Period::Connect, Period::Probe, Period::Measured, Period::Return] {
            recorder.begin(period, &shared);
            recorder.samples.visits.next_ns = 0;
            recorder.look(&shared);
        }
        let samples = recorder.finish(&shared);
        assert_eq!((samples.ramp.points.len(), samples.visits.points.len()), (2, 4), "a look and the end of each");
    }

    #[test]
    fn periods_are_bounded() {
        let shared = Shared::new(1, 1);
        let mut recorder = Recorder::new(true, false, &[]);
        for _ in 0..3 * PERIODS_MAX {
            recorder.begin(Period::Hold, &shared);
        }
        assert_eq!(recorder.samples.stretches.len(), PERIODS_MAX);
    }
}
