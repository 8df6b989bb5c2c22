//! A run over time, as `result.json` has it under `series`: rows, heat map, connection ramp, percentile spectra.

use super::intervals::Cell;
use super::recorder::{self, Board, Curve, Period, Samples};
use crate::latency::{Distribution, Latencies};
use serde::Serialize;

/// What a run has kept for its series; empty unless it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The board over time.
    pub samples: Samples,
    /// The measured period.
    pub latencies: Option<Latencies>,
    /// Wall clock at time 0 of `samples`.
    pub started: Option<std::time::SystemTime>,
}

impl Record {
    /// Whether there is anything to show over time.
    pub fn is_kept(&self) -> bool {
        self.samples.interval_ns > 0
    }

    /// Rows and latency cells of one length.
    pub fn align(&mut self) {
        let Some(intervals) = self.latencies.as_mut().and_then(|latencies| latencies.intervals.as_mut()) else {
            return;
        };
        if self.samples.interval_ns > 0 {
            self.samples.coarsen_to(intervals.interval_ns());
            intervals.coarsen_to(self.samples.interval_ns);
        }
    }

    /// Latencies that belong to each row; rows outside the measured period have none. The record must be aligned.
    pub fn cells(&self) -> Vec<Option<Cell>> {
        let intervals = self.latencies.as_ref().and_then(|latencies| latencies.intervals.as_ref());
        let mut cells = Vec::new();
        for stretch in &self.samples.stretches {
            let mut from_ns = stretch.started_ns;
            let last = stretch.samples.len().saturating_sub(1);
            for (index, sample) in stretch.samples.iter().enumerate() {
                // Nothing that arrived may fall out at the end.
                let until_ns = if index == last { u64::MAX } else { sample.at_ns };
                let intervals = intervals.filter(|_| stretch.period == Period::Measured);
                cells.push(intervals.and_then(|intervals| intervals.between(from_ns, until_ns)));
                from_ns = sample.at_ns;
            }
        }
        cells
    }
}

/// `series` of `result.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Length of an interval; rows at the end of a period may be shorter, rows after a pause longer.
    pub interval_s: f64,
    /// One for each interval, in order of time.
    pub rows: Vec<Row>,
    /// Connections while they were opened.
    pub ramp: Vec<CurvePoint>,
    /// Connections while some came and went, the fewest open since the point before; only where some did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub visits: Vec<CurvePoint>,
    /// Latency from the planned time, by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<Heat>,
    /// Latency by quantile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spectra: Option<Spectra>,
}

/// One interval. Absent: there is no such figure in it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Since the first connection.
    pub start_s: f64,
    /// Length.
    pub seconds: f64,
    /// Name of the part of the run.
    pub period: &'static str,
    /// Messages published in it.
    pub sent: u64,
    /// Deliveries received in it.
    pub received: u64,
    /// Bytes received in it, framing included.
    pub received_bytes: u64,
    /// Since the period began: deliveries that should have come and had not by the end of this row.
    pub missing_so_far: u64,
    /// Deliveries that arrived in it, from their planned time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Points>,
    /// Last receivers of messages that reached everybody in it, from the planned time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_us: Option<Points>,
    /// Connections open at its end.
    pub connections: u32,
    /// Connections that could not be opened, by its end.
    pub connect_failed: u32,
    /// Connections lost by its end.
    pub connections_lost: u32,
    /// Cores the server used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cores: Option<f64>,
    /// The server's resident set at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_rss_bytes: Option<u64>,
    /// Cores the generator used.
    pub generator_cores: f64,
}

/// A distribution in a row, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Points {
    /// Values.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl Points {
    fn of(distribution: &Distribution) -> Option<Self> {
        let all = distribution.summary();
        (all.count > 0).then_some(Self { count: all.count, p50: all.p50, p99: all.p99, max: all.max })
    }
}

/// Connections at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurvePoint {
    /// Since the first connection.
    pub at_s: f64,
    /// Open then.
    pub connections: u32,
    /// Attempts that had failed by then.
    pub failed: u64,
}

/// A table of counts, empty places left out.
#[derive(Clone, Debug, Serialize)]
pub struct Heat {
    /// Upper bounds of the latency classes, microseconds; class 0 begins at 0.
    pub bounds_us: Vec<u64>,
    /// `[row, class, deliveries]`.
    pub cells: Vec<(usize, usize, u64)>,
}

/// Latency classes for each factor of ten.
const CLASSES_PER_DECADE: u32 = 12;

/// Classes from 10 us to 60 s.
fn bounds_us() -> Vec<u64> {
    let bound = |class: u32| 10f64.powf(1.0 + f64::from(class) / f64::from(CLASSES_PER_DECADE)).round() as u64;
    (0..).map(bound).take_while(|&bound_us| bound_us < 60_000_000).chain([60_100_000]).collect()
}

impl Heat {
    fn of(cells: &[Option<Cell>]) -> Option<Self> {
        let bounds_us = bounds_us();
        let mut filled = Vec::new();
        for (row, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let mut counts = vec![0u64; bounds_us.len()];
            for step in cell.deliveries.histogram().iter_recorded() {
                let class = bounds_us.partition_point(|&bound_us| bound_us < step.value_iterated_to());
                counts[class.min(bounds_us.len() - 1)] += step.count_at_value();
            }
            filled.extend(counts.into_iter().enumerate().filter(|&(_, n)| n > 0).map(|(class, n)| (row, class, n)));
        }
        (!filled.is_empty()).then_some(Self { bounds_us, cells: filled })
    }
}

/// `[quantile, microseconds]` of each distribution, from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Spectra {
    /// Every delivery, from its planned time.
    pub from_intended: Vec<(f64, u64)>,
    /// Every delivery, from the moment of sending.
    pub from_actual: Vec<(f64, u64)>,
    /// Each message's first receiver.
    pub first: Vec<(f64, u64)>,
    /// The receiver that made it half.
    pub half: Vec<(f64, u64)>,
    /// The last receiver.
    pub last: Vec<(f64, u64)>,
}

impl Spectra {
    fn of(latencies: &Latencies) -> Self {
        Self {
            from_intended: spectrum(&latencies.from_intended),
            from_actual: spectrum(&latencies.from_actual),
            first: spectrum(&latencies.first),
            half: spectrum(&latencies.half),
            last: spectrum(&latencies.last),
        }
    }
}

/// Points that are closer together the nearer the end: five between 0 and 50 %, five between 50 % and 75 %, and so on.
fn spectrum(distribution: &Distribution) -> Vec<(f64, u64)> {
    const PER_HALVING: u32 = 5;
    let histogram = distribution.histogram();
    let step = |value: hdrhistogram::iterators::IterationValue<u64>| {
        let rounded = (value.quantile_iterated_to() * 1e9).round() / 1e9;
        (rounded, value.value_iterated_to())
    };
    histogram.iter_quantiles(PER_HALVING).map(step).collect()
}

fn seconds(ns: u64) -> f64 {
    (ns as f64 / 1e6).round() / 1e3
}

impl Series {
    /// From an aligned record. `with_server`: the server was sampled. `None`: nothing was kept.
    pub fn of(record: &Record, with_server: bool) -> Option<Self> {
        let samples = &record.samples;
        if !record.is_kept() {
            return None;
        }
        let cells = record.cells();
        let origin_ns = samples.stretches.first().map_or(0, |stretch| stretch.started_ns);
        let mut rows = Vec::new();
        let mut before = Board::default();
        for stretch in &samples.stretches {
            let began = before;
            let mut from_ns = stretch.started_ns;
            for sample in &stretch.samples {
                let cell = cells[rows.len()].as_ref();
                let board = sample.board;
                let length_s = (sample.at_ns - from_ns) as f64 / 1e9;
                let cores =
                    |to: u64, from: u64| (to.saturating_sub(from) as f64 / 1e6 / length_s.max(1e-3)).round() / 1e3;
                let due =
                    (board.expected.saturating_sub(began.expected)).saturating_sub(board.received - began.received);
                rows.push(Row {
                    start_s: seconds(from_ns - origin_ns),
                    seconds: seconds(sample.at_ns - from_ns),
                    period: stretch.period.name(),
                    sent: board.sent - before.sent,
                    received: board.received - before.received,
                    received_bytes: board.bytes - before.bytes,
                    missing_so_far: due,
                    latency_us: cell.and_then(|cell| Points::of(&cell.deliveries)),
                    last_us: cell.and_then(|cell| Points::of(&cell.last)),
                    connections: board.open,
                    connect_failed: board.failed,
                    connections_lost: board.lost,
                    server_cores: with_server.then(|| cores(board.server_cpu_ns, before.server_cpu_ns)),
                    server_rss_bytes: board.server_rss_bytes,
                    generator_cores: cores(board.generator_cpu_ns, before.generator_cpu_ns),
                });
                (before, from_ns) = (board, sample.at_ns);
            }
        }
        let curve = |curve: &Curve| {
            let point = |point: &recorder::CurvePoint| CurvePoint {
                at_s: seconds(point.at_ns - origin_ns),
                connections: point.open,
                failed: point.failed,
            };
            curve.points.iter().map(point).collect()
        };
        Some(Self {
            interval_s: seconds(samples.interval_ns),
            heat: Heat::of(&cells),
            spectra: record.latencies.as_ref().map(Spectra::of),
            ramp: curve(&samples.ramp),
            visits: curve(&samples.visits),
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_latency_once() {
        let bounds = bounds_us();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        assert_eq!((bounds[0], bounds.last()), (10, Some(&60_100_000)));
        assert_eq!(bounds[12], 100);

        let mut cell = Cell::default();
        for us in [0, 10, 11, 59_000_000, 90_000_000] {
            cell.deliveries.record_ns(us * 1_000, 2);
        }
        let heat = Heat::of(&[None, Some(cell)]).expect("counts");
        let last = bounds.len() - 1;
        assert_eq!(heat.cells, [(1, 0, 4), (1, 1, 2), (1, last, 4)]);
    }

    #[test]
    fn a_spectrum_ends_at_the_largest() {
        let mut distribution = Distribution::default();
        (1..=1000).for_each(|us| distribution.record_ns(us * 1_000, 1));
        let points = spectrum(&distribution);
        assert_eq!(points.last(), Some(&(1.0, 1000)));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1), "{points:?}");
        assert!(points.len() > 30);
        assert!(spectrum(&Distribution::default()).is_empty());
    }
}
