//! Which connection ids are connected, and where: the one table that all shards of a process share.
//!
//! Touched when a connection comes or goes and when a message is for one connection by id; never by a broadcast.
//! 64 stripes, each behind a mutex held for one look-up.

use crate::io::{Generation, Slot};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard};

/// One connection of this process. Good until it closes; a reference to a closed one matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnRef(u64);

impl ConnRef {
    /// `shard` holds it in `slot`, as tenant `generation`.
    pub fn new(shard: u8, slot: Slot, generation: Generation) -> Self {
        Self(u64::from(shard) << 56 | u64::from(generation.get()) << 32 | u64::from(slot.0))
    }

    /// The shard that owns it.
    pub fn shard(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Its slot there.
    pub fn slot(self) -> Slot {
        Slot(self.0 as u32)
    }

    /// Its tenancy of the slot.
    pub fn generation(self) -> Generation {
        Generation::new((self.0 >> 32) as u32)
    }
}

/// Ids are encrypted counters: any eight bytes of one are a hash already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _length_prefix: usize) {}
}

type Stripe = HashMap<[u8; 16], ConnRef, BuildHasherDefault<IdHasher>>;

const STRIPES: usize = 64;

/// Connected ids.
#[derive(Debug)]
pub struct Directory {
    stripes: Box<[Mutex<Stripe>]>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }
}

impl Directory {
    fn stripe(&self, id: &[u8; 16]) -> MutexGuard<'_, Stripe> {
        // The last byte is not the one that picks the bucket, so stripes and buckets are independent.
        let mutex = &self.stripes[id[15] as usize % STRIPES];
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Claims `id` for `connection`. `false`: it is connected already.
    #[must_use]
    pub fn claim(&self, id: &[u8; 16], connection: ConnRef) -> bool {
        match self.stripe(id).entry(*id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(connection);
                true
            }
        }
    }

    /// Lets go of `id` if `connection` has it.
    pub fn release(&self, id: &[u8; 16], connection: ConnRef) {
        let mut stripe = self.stripe(id);
        if stripe.get(id) == Some(&connection) {
            stripe.remove(id);
            if stripe.capacity() > 4 * stripe.len().max(64) {
                stripe.shrink_to_fit();
            }
        }
    }

    /// Where `id` is connected.
    pub fn find(&self, id: &[u8; 16]) -> Option<ConnRef> {
        self.stripe(id).get(id).copied()
    }

    /// Ids connected now. Locks every stripe in turn: for tests.
    pub fn len(&self) -> usize {
        let lock = |stripe: &Mutex<Stripe>| stripe.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        self.stripes.iter().map(lock).sum()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_owner_at_a_time() {
        let directory = Directory::default();
        let id = [7; 16];
        let first = ConnRef::new(3, Slot(70_000), Generation::new(0xabcdef));
        let second = ConnRef::new(0, Slot(1), Generation::new(1));
        assert_eq!((first.shard(), first.slot(), first.generation().get()), (3, Slot(70_000), 0xabcdef));
        assert!(directory.claim(&id, first));
        assert!(!directory.claim(&id, second));
        directory.release(&id, second);
        assert_eq!(directory.find(&id), Some(first));
        directory.release(&id, first);
        assert_eq!(directory.find(&id), None);
        assert!(directory.claim(&id, second));
    }
}
