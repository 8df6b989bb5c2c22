//! Which shards have anybody to tell: published counts that let a broadcast skip shards without members.

use crate::conn::wire::{ByVariation, Variation};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU32, Ordering};

/// Buckets of names per shard. Two names in one bucket cost a note that finds nobody, never a lost message.
const NAME_BUCKETS: usize = 4096;

#[derive(Debug)]
struct ShardInterest {
    /// Members per hub and variation.
    hubs: Box<[ByVariation<AtomicU32>]>,
    /// Groups and users with members, per bucket of their name's hash.
    names: Box<[AtomicU32]>,
}

/// What all shards publish about their members. Each shard writes its own row only.
#[derive(Debug)]
pub struct Interest {
    shards: Box<[CachePadded<ShardInterest>]>,
}

fn bucket(name_hash: u64) -> usize {
    name_hash as usize % NAME_BUCKETS
}

impl Interest {
    /// Nobody anywhere.
    pub fn new(shards: usize, hubs: usize) -> Self {
        let row = || ShardInterest {
            hubs: (0..hubs).map(|_| Default::default()).collect(),
            names: (0..NAME_BUCKETS).map(|_| AtomicU32::new(0)).collect(),
        };
        Self { shards: (0..shards).map(|_| CachePadded::new(row())).collect() }
    }

    /// Shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// `shard` has one more (`+1`) or one fewer (`-1`) member of `hub`.
    pub fn member(&self, shard: u8, hub: u16, variation: Variation, by: i32) {
        let count = &self.shards[shard as usize].hubs[hub as usize][variation];
        count.fetch_add(by as u32, Ordering::AcqRel);
    }

    /// `shard` has its first (`+1`) or no longer any (`-1`) member under a name.
    pub fn name(&self, shard: u8, name_hash: u64, by: i32) {
        self.shards[shard as usize].names[bucket(name_hash)].fetch_add(by as u32, Ordering::AcqRel);
    }

    /// Members of `hub` on `shard`, by variation.
    pub fn members(&self, shard: u8, hub: u16) -> ByVariation<u32> {
        let row = &self.shards[shard as usize].hubs[hub as usize];
        ByVariation(std::array::from_fn(|index| row.0[index].load(Ordering::Acquire)))
    }

    /// Whether `shard` may have members under a name.
    pub fn may_have(&self, shard: u8, name_hash: u64) -> bool {
        self.shards[shard as usize].names[bucket(name_hash)].load(Ordering::Acquire) != 0
    }

    /// Members of `hub` in the whole process.
    pub fn connections(&self, hub: u16) -> usize {
        (0..self.shards.len()).map(|s| self.members(s as u8, hub).0.iter().sum::<u32>() as usize).sum()
    }
}
