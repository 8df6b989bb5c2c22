//! Stretches of time in which nothing happened: the generator's own, and the server's.

/// A turn of a worker that took longer than this was no turn: somebody stopped the generator, or took its CPU.
pub const STANDSTILL_NS: u64 = 100_000_000;

/// A message that reached nobody for longer than this, at a server that otherwise is quick, met a stall.
pub const STALL_NS: u64 = 100_000_000;

/// A server whose median is above this does not stall now and then: it is slow all the time.
pub const QUICK_US_MAX: u64 = 50_000;

/// Gaps kept apart. Those that come later lengthen the last one.
const GAPS_MAX: usize = 4_096;

/// Gaps, overlapping ones as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// (from, to), nanoseconds, in order of `from`, apart from each other.
    all: Vec<(u64, u64)>,
}

impl Gaps {
    /// Adds one.
    pub fn add(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from, to.max(from));
        // Those it touches become one with it.
        let first = self.all.partition_point(|&(_, end)| end < from);
        let behind = self.all.partition_point(|&(begin, _)| begin <= to);
        if first < behind {
            from = from.min(self.all[first].0);
            to = to.max(self.all[behind - 1].1);
        } else if self.all.len() == GAPS_MAX {
            if let Some(last) = self.all.last_mut() {
                last.1 = last.1.max(to);
            }
            return;
        }
        self.all.splice(first..behind, [(from, to)]);
    }

    /// Whether one of them has a moment in common with this stretch.
    pub fn meets(&self, from: u64, to: u64) -> bool {
        let first = self.all.partition_point(|&(_, end)| end < from);
        self.all.get(first).is_some_and(|&(begin, _)| begin <= to)
    }

    /// Those that end after `ns`.
    #[must_use]
    pub fn since(&self, ns: u64) -> Self {
        Self { all: self.all.iter().copied().filter(|&(_, to)| to > ns).collect() }
    }

    /// Those that have no moment in common with any of `other`.
    #[must_use]
    pub fn apart_from(&self, other: &Self) -> Self {
        Self { all: self.all.iter().copied().filter(|&(from, to)| !other.meets(from, to)).collect() }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// The longest, microseconds; 0 without any.
    pub fn longest_us(&self) -> u64 {
        self.all.iter().map(|&(from, to)| (to - from) / 1_000).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[(u64, u64)]) -> Gaps {
        let mut gaps = Gaps::default();
        all.iter().for_each(|&(from, to)| gaps.add(from, to));
        gaps
    }

    #[test]
    fn what_overlaps_is_one_in_whatever_order_it_comes() {
        assert_eq!(of(&[(10, 20), (40, 50), (15, 30), (60, 70)]).all, [(10, 30), (40, 50), (60, 70)]);
        assert_eq!(of(&[(60, 70), (40, 50), (10, 20), (12, 65)]).all, [(10, 70)]);
        assert_eq!(of(&[(10, 20), (20, 30)]).all, [(10, 30)]);
        assert_eq!(of(&[(10, 5_010), (6_000, 9_000)]).longest_us(), 5);
    }

    #[test]
    fn gaps_of_one_side_are_not_those_of_the_other() {
        let (server, own) = (of(&[(10, 20), (40, 50), (60, 70)]), of(&[(18, 22), (65, 66)]));
        assert_eq!(server.apart_from(&own).all, [(40, 50)]);
        assert_eq!(server.since(45).count(), 2);
        assert!(server.meets(50, 55) && !server.meets(51, 59));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut gaps = Gaps::default();
        (0..GAPS_MAX as u64 * 2).for_each(|at| gaps.add(at * 10, at * 10 + 1));
        assert_eq!(gaps.count(), GAPS_MAX as u64);
    }
}
