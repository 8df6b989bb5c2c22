//! Which shards are in the middle of saying something to others. A poll has one answer: it waits, for a moment, until all
//! that was said in one go is there.
//!
//! A shard that reads on for more of what it has begun to pass on says so before it wakes the others, and wakes those that
//! wait for it when it has come to the end. A wake that is lost costs no more than [`POLL_HOLD_US_MAX`].
//!
//! [`POLL_HOLD_US_MAX`]: crate::limits::POLL_HOLD_US_MAX

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// One bit of each shard.
#[derive(Debug, Default)]
pub struct Bursts {
    saying: CachePadded<AtomicU64>,
    waiting: CachePadded<AtomicU64>,
}

impl Bursts {
    /// The shard has told others something, and there is more to come.
    pub fn begin(&self, shard: u8) {
        self.saying.fetch_or(1 << shard, Ordering::SeqCst);
    }

    /// All of it was told. Returns the shards that wait for that, a bit each.
    pub fn end(&self, shard: u8) -> u64 {
        self.saying.fetch_and(!(1 << shard), Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) & !(1 << shard)
    }

    /// Whether another shard is in the middle of something. If so, `shard` is among those that wait for its end.
    pub fn wait(&self, shard: u8) -> bool {
        let others = || self.saying.load(Ordering::SeqCst) & !(1 << shard) != 0;
        if !others() {
            return false;
        }
        self.waiting.fetch_or(1 << shard, Ordering::SeqCst);
        // It may have come to its end before it could see that we wait.
        others() || {
            self.stop_waiting(shard);
            false
        }
    }

    /// The shard waits for nobody.
    pub fn stop_waiting(&self, shard: u8) {
        if self.waiting.load(Ordering::Relaxed) >> shard & 1 == 1 {
            self.waiting.fetch_and(!(1 << shard), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_by_whoever_ends() {
        let bursts = Bursts::default();
        assert!(!bursts.wait(1), "nobody says anything");
        bursts.begin(0);
        assert!(!bursts.wait(0), "it does not wait for itself");
        assert!(bursts.wait(1) && bursts.wait(2));
        bursts.stop_waiting(2);
        assert_eq!(bursts.end(0), 0b10);
        assert!(!bursts.wait(1));
        bursts.stop_waiting(1);
        bursts.begin(0);
        assert_eq!(bursts.end(0), 0);
    }
}
