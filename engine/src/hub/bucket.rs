//! Token buckets, each kept as one number: the time by which everything taken so far is paid for. Nothing has to be
//! refilled, and a bucket that nobody touches costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

const NS_PER_S: u64 = 1_000_000_000;

/// So many a second, and so many seconds' worth at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_s: u64,
    burst_ns: u64,
}

impl Pace {
    /// `None`: no bound, which is what 0 means in every limit.
    pub(crate) fn new(per_s: u64, burst_s: u64) -> Option<Self> {
        (per_s > 0).then_some(Self { per_s, burst_ns: burst_s * NS_PER_S })
    }

    /// When `n` more are paid for, if those before them are at `paid_ns`.
    pub(crate) fn charge(&self, paid_ns: u64, now_us: u64, n: u64) -> u64 {
        // 2^34 at once, more than a body or a buffer can have, do not overflow.
        paid_ns.max(now_us * 1_000) + n.min(1 << 34) * NS_PER_S / self.per_s
    }

    /// Whether more was taken than the burst allows.
    pub(crate) fn is_over(&self, paid_ns: u64, now_us: u64) -> bool {
        paid_ns > now_us * 1_000 + self.burst_ns
    }
}

/// A bucket that all shards take from. Touched when somebody negotiates or connects, never by a message.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    pace: Pace,
    paid_ns: AtomicU64,
}

impl SharedBucket {
    /// `None`: no bound.
    pub(crate) fn new(per_s: u64, burst_s: u64) -> Option<Self> {
        Pace::new(per_s, burst_s).map(|pace| Self { pace, paid_ns: AtomicU64::new(0) })
    }

    /// Takes one. `false`: there is none, and nothing was taken.
    pub(crate) fn take(&self, now_us: u64) -> bool {
        let next = |paid_ns| {
            let paid_ns = self.pace.charge(paid_ns, now_us, 1);
            (!self.pace.is_over(paid_ns, now_us)).then_some(paid_ns)
        };
        self.paid_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let bucket = SharedBucket::new(10, 2).expect("a bound");
        let taken = |now_us| (0..1_000).take_while(|_| bucket.take(now_us)).count();
        assert_eq!(taken(5_000_000), 20, "two seconds' worth");
        assert_eq!(taken(5_050_000), 0, "half of one");
        assert_eq!(taken(5_100_000), 1);
        assert_eq!(taken(6_100_000), 10);
        assert_eq!(taken(60_000_000), 20, "no more than the burst, however long nobody came");
        assert!(SharedBucket::new(0, 2).is_none());
    }

    #[test]
    fn a_debt_is_paid_off_at_the_rate() {
        let pace = Pace::new(1_000, 2).expect("a bound");
        let paid_ns = pace.charge(0, 1_000_000, 5_000);
        assert!(pace.is_over(paid_ns, 1_000_000) && pace.is_over(paid_ns, 3_999_999));
        assert!(!pace.is_over(paid_ns, 4_000_000), "five seconds' worth less a burst of two");
    }
}
