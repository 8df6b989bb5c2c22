//! The course of a long run: memory and latency at intervals, and how they drift.

use crate::latency::Summary;
use crate::quantity::bytes_text;
use crate::run::Samples;
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Points kept: when there are more, two become one and the interval doubles.
const POINTS_MAX: usize = 512;

/// One interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Its end, from the beginning of the measured period.
    pub at_s: f64,
    /// Messages that reached everybody in it.
    pub messages: u64,
    /// Median of their last receivers, microseconds.
    pub last_p50_us: u64,
    /// 99th percentile of the same. Of two intervals made one: the larger.
    pub last_p99_us: u64,
    /// The server's private memory at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_private_bytes: Option<u64>,
    /// The generator's.
    pub own_private_bytes: u64,
}

/// The whole course.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SoakReport {
    /// In order of time.
    pub points: Vec<Point>,
    /// Mean p99 of the last third against that of the first; absent with fewer than three points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_p99_ratio: Option<f64>,
    /// Slope of the server's private memory over all points (least squares).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_private_bytes_per_h: Option<f64>,
    /// The same of the generator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_private_bytes_per_h: Option<f64>,
}

impl SoakReport {
    pub(crate) fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "drift     {} intervals", self.points.len())?;
        if let Some(ratio) = self.last_p99_ratio {
            write!(out, " | last p99 x {ratio:.2} from the first third to the last")?;
        }
        for (whose, slope) in [("server", self.server_private_bytes_per_h), ("generator", self.own_private_bytes_per_h)]
        {
            if let Some(slope) = slope {
                let sign = if slope < 0.0 { '-' } else { '+' };
                write!(out, " | {whose} {sign}{} private per hour", bytes_text(slope.abs() as u64))?;
            }
        }
        writeln!(out)
    }
}

/// Notes the course while the run is under way.
#[derive(Debug)]
pub(crate) struct Course {
    interval: Duration,
    began: Instant,
    next: Instant,
    points: Vec<Point>,
}

impl Course {
    pub(crate) fn new(interval: Duration) -> Self {
        let now = Instant::now();
        Self { interval, began: now, next: now + interval, points: Vec::new() }
    }

    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(crate) fn note(&mut self, last: Summary, samples: &Samples) {
        self.next += self.interval;
        self.push(Point {
            at_s: self.began.elapsed().as_secs_f64(),
            messages: last.count,
            last_p50_us: last.p50,
            last_p99_us: last.p99,
            server_private_bytes: samples.server.as_ref().map(|server| server.memory.private_bytes),
            own_private_bytes: samples.own.memory.private_bytes,
        });
    }

    fn push(&mut self, point: Point) {
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            let pairs = self.points.chunks(2).map(|pair| match pair {
                [first, second] => Point {
                    messages: first.messages + second.messages,
                    last_p50_us: first.last_p50_us.max(second.last_p50_us),
                    last_p99_us: first.last_p99_us.max(second.last_p99_us),
                    ..*second
                },
                alone => alone[0],
            });
            self.points = pairs.collect();
            self.interval *= 2;
        }
    }

    pub(crate) fn report(self) -> SoakReport {
        let points = self.points;
        let third = points.len() / 3;
        let p99 = |points: &[Point]| {
            points.iter().map(|point| point.last_p99_us as f64).sum::<f64>() / points.len().max(1) as f64
        };
        let (first, last) = (p99(&points[..third]), p99(&points[points.len() - third..]));
        let server: Option<Vec<(f64, f64)>> =
            points.iter().map(|point| Some((point.at_s, point.server_private_bytes? as f64))).collect();
        let own: Vec<(f64, f64)> = points.iter().map(|point| (point.at_s, point.own_private_bytes as f64)).collect();
        SoakReport {
            last_p99_ratio: (third > 0 && first > 0.0).then(|| last / first),
            server_private_bytes_per_h: server.and_then(|server| slope(&server)).map(|per_s| per_s * 3600.0),
            own_private_bytes_per_h: slope(&own).map(|per_s| per_s * 3600.0),
            points,
        }
    }
}

/// Least squares; `None` with fewer than three points, or all at one time.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (points.len() >= 3 && spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u64) -> Point {
        let memory = 1_000 + 10 * at;
        Point {
            at_s: at as f64,
            messages: 5,
            last_p50_us: 100,
            last_p99_us: if at < 100 { 200 } else { 400 },
            server_private_bytes: Some(memory),
            own_private_bytes: 7,
        }
    }

    #[test]
    fn drift_is_slope_and_ratio() {
        let mut course = Course::new(Duration::from_secs(1));
        (0..200).for_each(|at| course.push(point(at)));
        let report = course.report();
        assert_eq!(report.last_p99_ratio, Some(2.0));
        assert!(report.server_private_bytes_per_h.is_some_and(|slope| (slope - 36_000.0).abs() < 1e-3));
        assert_eq!(report.own_private_bytes_per_h, Some(0.0));
    }

    #[test]
    fn points_are_bounded_and_no_message_is_lost() {
        let mut course = Course::new(Duration::from_secs(1));
        (0..2_000).for_each(|at| course.push(point(at)));
        assert!(course.points.len() <= POINTS_MAX && course.interval > Duration::from_secs(1));
        assert_eq!(course.points.iter().map(|point| point.messages).sum::<u64>(), 10_000);
    }

    #[test]
    fn too_few_points_drift_nowhere() {
        let mut course = Course::new(Duration::from_secs(1));
        course.push(point(1));
        let report = course.report();
        assert_eq!((report.last_p99_ratio, report.server_private_bytes_per_h), (None, None));
    }
}
