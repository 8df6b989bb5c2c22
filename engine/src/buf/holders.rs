//! Which shards still need a segment: one bit each, in one word.

use std::sync::atomic::{AtomicU64, Ordering};

/// The atomic operations that [`Holders`] needs; a trait so that `loom` can stand in for the machine in tests.
pub(super) trait Word {
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
    fn load(&self, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_or(self, bits, order)
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_and(self, bits, order)
    }

    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }
}

/// One bit per shard.
///
/// A shard sets its bit while something else still protects the segment from reuse: a note that it has not yet
/// taken off its ring, or (the owner itself) the turn in which the bytes were written. The ring's head moves with
/// Release *after* the bit was set, so an owner that sees the head (Acquire) also sees the bit.
#[derive(Debug, Default)]
pub(super) struct Holders<W = AtomicU64>(W);

impl<W: Word> Holders<W> {
    #[cfg(test)]
    pub(super) fn with_word(word: W) -> Self {
        Self(word)
    }

    /// This shard has begun to keep extents of the segment.
    pub(super) fn set(&self, shard: u8) {
        self.0.fetch_or(1 << shard, Ordering::Relaxed);
    }

    /// This shard has dropped its last extent of the segment. Release: its reads are over before the bit goes.
    pub(super) fn clear(&self, shard: u8) {
        self.0.fetch_and(!(1 << shard), Ordering::Release);
    }

    /// Nobody keeps extents. Acquire: whatever the last holder read, it read before the caller's next write.
    pub(super) fn none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Holders {
    /// Pretends that nobody keeps extents.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_per_shard() {
        let holders = Holders::<AtomicU64>::default();
        assert!(holders.none());
        holders.set(0);
        holders.set(63);
        holders.clear(0);
        assert!(!holders.none());
        holders.clear(63);
        assert!(holders.none());
    }
}
