//! Connections that were negotiated and have not come yet: counted by the second of their negotiation, so that they
//! cost no memory each. When a second is older than a token may be, its count is forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, one per second. A place holds `second << 32 | count` and is taken over by a later second.
#[derive(Debug)]
pub struct Pending {
    seconds: Box<[AtomicU64]>,
    ttl_s: u32,
}

/// Clocks of shards may differ by the length of a turn; a token may be a little older than its time to live.
const SLACK_S: u32 = 3;
/// A longer time to live is counted over its last day only.
const TTL_S_MAX: u32 = 86_400;

impl Pending {
    /// For tokens that are good for `ttl_s` seconds.
    pub fn new(ttl_s: u32) -> Self {
        let ttl_s = ttl_s.min(TTL_S_MAX);
        Self { seconds: (0..=ttl_s + SLACK_S).map(|_| AtomicU64::new(0)).collect(), ttl_s }
    }

    fn place(&self, second: u32) -> &AtomicU64 {
        &self.seconds[second as usize % self.seconds.len()]
    }

    /// Changes the count of `second`, unless its place belongs to a later one already.
    fn change(&self, second: u32, by: impl Fn(u32) -> u32) {
        let next = |value: u64| {
            let (of, count) = ((value >> 32) as u32, value as u32);
            let count = if of == second { by(count) } else { by(0) };
            (of <= second).then_some(u64::from(second) << 32 | u64::from(count))
        };
        // An error is a place that was left as it is.
        let _ = self.place(second).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Somebody was given a token in `second`.
    pub fn negotiated(&self, second: u32) {
        self.change(second, |count| count.saturating_add(1));
    }

    /// Somebody came with a token of `second`.
    pub fn connected(&self, second: u32) {
        self.change(second, |count| count.saturating_sub(1));
    }

    /// How many may still come.
    pub fn count(&self, now_s: u32) -> usize {
        let good =
            |value: &u64| now_s.saturating_add(SLACK_S).saturating_sub((value >> 32) as u32) <= self.ttl_s + SLACK_S;
        let values = self.seconds.iter().map(|place| place.load(Ordering::Relaxed));
        values.filter(good).map(|value| value as u32 as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_who_may_still_come() {
        let pending = Pending::new(15);
        (0..10).for_each(|_| pending.negotiated(100));
        pending.negotiated(101);
        pending.connected(100);
        assert_eq!(pending.count(101), 10);
        assert_eq!(pending.count(115), 10);
        assert_eq!(pending.count(116), 1, "the tokens of second 100 are of no use any more");
        assert_eq!(pending.count(200), 0);
        // A later second takes the place of an earlier one.
        pending.negotiated(100 + 19);
        assert_eq!(pending.count(119), 1);
        pending.connected(100);
        assert_eq!(pending.count(119), 1, "a straggler takes nothing from the seconds around it");
    }
}
