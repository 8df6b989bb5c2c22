//! Latencies by time of arrival: one cell per interval of the measured period.
//!
//! The coordinator fills them when it merges tracks; nothing here is touched where messages are received. A message that
//! never reaches its last receiver is merged late, its arrivals still land in the second they happened in.

use crate::latency::Distribution;

/// Intervals of a period, and rows of a whole run, that are kept. One more, and pairs of intervals become one.
///
/// A cell is two histograms that grow with the largest latency in it: 40 KiB each up to 10 ms, 139 KiB at a minute. So
/// all cells are at most 600 x 2 x 139 KiB = 163 MiB, and about 50 MiB in a run with latencies of milliseconds.
pub const INTERVALS_MAX: usize = 600;

/// Length of an interval until there are too many, nanoseconds.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// What arrived in one interval.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Every delivery, from its planned time.
    pub deliveries: Distribution,
    /// Last receivers of messages that reached everybody, from the planned time.
    pub last: Distribution,
}

impl Default for Cell {
    fn default() -> Self {
        Self { deliveries: Distribution::growing(), last: Distribution::growing() }
    }
}

impl Cell {
    fn add(&mut self, other: &Self) {
        self.deliveries.add(&other.deliveries);
        self.last.add(&other.last);
    }
}

/// The cells of one period.
#[derive(Clone, Debug)]
pub struct Intervals {
    origin_ns: u64,
    interval_ns: u64,
    cells: Vec<Option<Box<Cell>>>,
}

impl Intervals {
    /// For a period that begins at `origin_ns` of the run's clock.
    pub fn new(origin_ns: u64) -> Self {
        Self { origin_ns, interval_ns: INTERVAL_NS, cells: Vec::new() }
    }

    /// Length of an interval now, nanoseconds: a power of two of [`INTERVAL_NS`].
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// `deliveries` arrived at `at_ns`, `latency_ns` after their planned time.
    pub fn note_deliveries(&mut self, at_ns: u64, latency_ns: u64, deliveries: u64) {
        self.cell(at_ns).deliveries.record_ns(latency_ns, deliveries);
    }

    /// A message reached its last receiver at `at_ns`.
    pub fn note_last(&mut self, at_ns: u64, latency_ns: u64) {
        self.cell(at_ns).last.record_ns(latency_ns, 1);
    }

    fn cell(&mut self, at_ns: u64) -> &mut Cell {
        let since_ns = at_ns.saturating_sub(self.origin_ns);
        while since_ns / self.interval_ns >= INTERVALS_MAX as u64 {
            self.coarsen();
        }
        let index = (since_ns / self.interval_ns) as usize;
        if self.cells.len() <= index {
            self.cells.resize(index + 1, None);
        }
        self.cells[index].get_or_insert_default()
    }

    /// Makes intervals at least `interval_ns` long.
    pub fn coarsen_to(&mut self, interval_ns: u64) {
        while self.interval_ns < interval_ns {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        self.interval_ns *= 2;
        let mut pairs = Vec::with_capacity(self.cells.len().div_ceil(2));
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        while let Some(first) = cells.next() {
            pairs.push(match (first, cells.next().flatten()) {
                (Some(mut first), Some(second)) => {
                    first.add(&second);
                    Some(first)
                }
                (first, second) => first.or(second),
            });
        }
        self.cells = pairs;
    }

    /// What arrived in intervals that begin in `from_ns..until_ns`. `None`: nothing did.
    pub fn between(&self, from_ns: u64, until_ns: u64) -> Option<Cell> {
        let index = |at_ns: u64| at_ns.saturating_sub(self.origin_ns).div_ceil(self.interval_ns) as usize;
        let until = index(until_ns).min(self.cells.len());
        let mut found = self.cells.get(index(from_ns)..until)?.iter().flatten();
        let mut sum = (**found.next()?).clone();
        found.for_each(|cell| sum.add(cell));
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn arrivals_land_in_the_second_they_happened_in() {
        let mut intervals = Intervals::new(10 * SECOND);
        intervals.note_deliveries(12 * SECOND + 1, 5_000_000, 7);
        intervals.note_deliveries(10 * SECOND, 1_000_000, 3);
        intervals.note_last(12 * SECOND + 2, 5_000_000);
        let count = |from: u64, until: u64| {
            intervals.between(from * SECOND, until * SECOND).map(|cell| (cell.deliveries.count(), cell.last.count()))
        };
        assert_eq!(count(10, 11), Some((3, 0)));
        assert_eq!(count(11, 12), None);
        assert_eq!(count(12, 13), Some((7, 1)));
        assert_eq!(count(10, 99), Some((10, 1)));
        assert_eq!(count(50, 99), None);
    }

    #[test]
    fn long_periods_coarsen_and_lose_nothing() {
        let mut intervals = Intervals::new(0);
        let seconds = 5 * INTERVALS_MAX as u64;
        for second in 0..seconds {
            intervals.note_deliveries(second * SECOND, 1_000 * second, 2);
        }
        assert_eq!(intervals.interval_ns(), 8 * INTERVAL_NS);
        assert!(intervals.cells.len() <= INTERVALS_MAX);
        let all = intervals.between(0, u64::MAX).expect("deliveries").deliveries;
        assert_eq!((all.count(), all.summary().max), (2 * seconds, seconds - 1));
        let eight = intervals.between(8 * SECOND, 16 * SECOND).expect("deliveries").deliveries;
        assert_eq!((eight.count(), eight.at_us(0.0), eight.summary().max), (16, 8, 15));
    }
}
