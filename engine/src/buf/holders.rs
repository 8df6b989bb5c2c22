//! Which shards still need a segment: one bit each, in one word.

use crate::sync::{Atomic, Bits, Machine, Std};
use std::sync::atomic::Ordering;

#[cfg(all(test, not(miri)))]
mod models;

/// One bit per shard.
///
/// A shard sets its bit while something else still protects the segment from reuse: a note that it has not yet
/// taken off its ring, or (the owner itself) the turn in which the bytes were written. The ring's head moves with
/// Release *after* the bit was set, so an owner that sees the head (Acquire) also sees the bit.
#[derive(Debug)]
pub(super) struct Holders<M: Machine = Std>(M::Word);

impl<M: Machine> Default for Holders<M> {
    fn default() -> Self {
        Self(M::Word::default())
    }
}

impl<M: Machine> Holders<M> {
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

    /// Whether the segment may be written again: each shard has read its notes about it (`notes` are the positions
    /// that its ring head must have reached, `heads` those that it has), and nobody keeps what they brought.
    ///
    /// Heads are loaded (Acquire) before the bits are: a shard that had not read its note when we looked at the bits
    /// may have set its own since.
    pub(super) fn let_go(&self, notes: &[u64], heads: &[u64]) -> bool {
        notes.iter().zip(heads).all(|(note, head)| head >= note) && self.none()
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
        let holders = Holders::<Std>::default();
        assert!(holders.none());
        holders.set(0);
        holders.set(63);
        holders.clear(0);
        assert!(!holders.none());
        holders.clear(63);
        assert!(holders.none());
    }
}
