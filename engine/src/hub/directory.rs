//! Which connection ids are connected, and where: the one table that all shards of a process share.
//!
//! Touched when a connection comes or goes and when a message is for one connection by id; never by a broadcast.
//! 64 stripes, each behind a mutex held for one look-up.

use crate::hub::id_table::IdTable;
use crate::io::{Generation, Slot};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Half an id. Ids are encrypted counters: two of a million connected ones share it with a chance of 1 in 10^7, and
/// then the later one is refused and comes back with another id.
type Key = u64;

fn key_of(id: &[u8; 16]) -> Key {
    Key::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
}

/// A key is a hash already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: Key) {
        self.0 = key;
    }

    /// Nothing but keys is hashed; a hasher must have it.
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }
}

/// Ids whose connection has gone while their token was still good, oldest first, and when each may be forgotten.
#[derive(Debug, Default)]
struct Spent {
    ids: HashSet<Key, BuildHasherDefault<IdHasher>>,
    order: VecDeque<(u32, Key)>,
}

/// Spent ids that are remembered per stripe. Beyond it the oldest are forgotten early: their own client could then
/// come in once more with its old token.
const SPENT_PER_STRIPE_MAX: usize = 4096;

impl Spent {
    /// Whether another one had to be forgotten early for it.
    fn add(&mut self, id: Key, now_s: u32, until_s: u32) -> bool {
        self.forget(now_s);
        let full = self.order.len() == SPENT_PER_STRIPE_MAX;
        if full {
            self.pop();
        }
        if self.ids.insert(id) {
            self.order.push_back((until_s, id));
        }
        full
    }

    fn forget(&mut self, now_s: u32) {
        while self.order.front().is_some_and(|(until_s, _)| *until_s <= now_s) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.ids.remove(&id);
        }
        if self.order.is_empty() {
            *self = Self::default();
        }
    }
}

/// What clients have posted before the request that starts their connection (spec 2.2: kept for the hub).
#[derive(Debug, Default)]
struct Early {
    posts: HashMap<Key, (u32, Vec<u8>), BuildHasherDefault<IdHasher>>,
}

/// Bytes that one client may post early: a handshake and some.
pub const EARLY_BYTES_MAX: usize = 32 << 10;
/// Clients per stripe that may be so early at a time: 64 stripes x 16 x 32 KiB are 32 MiB.
const EARLY_PER_STRIPE_MAX: usize = 16;

impl Early {
    fn forget(&mut self, now_s: u32) {
        self.posts.retain(|_, (until_s, _)| *until_s > now_s);
    }

    fn add(&mut self, id: Key, bytes: &[u8], now_s: u32, until_s: u32) -> bool {
        self.forget(now_s);
        if !self.posts.contains_key(&id) && self.posts.len() >= EARLY_PER_STRIPE_MAX {
            return false;
        }
        let (_, kept) = self.posts.entry(id).or_insert((until_s, Vec::new()));
        let fits = kept.len() + bytes.len() <= EARLY_BYTES_MAX;
        if fits {
            kept.extend_from_slice(bytes);
        }
        fits
    }
}

#[derive(Debug, Default)]
struct Stripe {
    connected: IdTable,
    spent: Spent,
    early: Early,
}

impl Stripe {
    fn connection(&self, id: &[u8; 16]) -> Option<ConnRef> {
        self.connected.get(key_of(id)).map(ConnRef)
    }
}

/// What became of bytes that were posted early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyPost {
    /// They wait for their connection.
    Kept,
    /// It has come meanwhile: they are for it.
    Connected(ConnRef),
    /// It has been and gone.
    Spent,
    /// There is no room for them ([`EARLY_BYTES_MAX`]).
    Full,
}

const STRIPES: usize = 64;

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it was never used here, or long ago.
    Unused,
    /// It is connected.
    Connected(ConnRef),
    /// Its connection has gone; it opens nothing any more.
    Spent,
}

/// Connected ids, and for a while those that were.
#[derive(Debug)]
pub struct Directory {
    stripes: Box<[Mutex<Stripe>]>,
    connected: AtomicUsize,
}

impl Directory {
    /// With address space for `connections`; memory is taken as they come.
    pub fn with_room_for(connections: usize) -> Self {
        // Nobody chooses ids, so the stripes are about equally full.
        let stripe = || Stripe { connected: IdTable::with_room_for(connections / STRIPES), ..Stripe::default() };
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(stripe())).collect(), connected: AtomicUsize::new(0) }
    }

    fn stripe(&self, id: &[u8; 16]) -> MutexGuard<'_, Stripe> {
        // The last byte is no part of the key, so stripes and buckets are independent.
        let mutex = &self.stripes[id[15] as usize % STRIPES];
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Claims `id` for `connection`. `false`: it is connected already, or spent.
    #[must_use]
    pub fn claim(&self, id: &[u8; 16], connection: ConnRef) -> bool {
        let mut stripe = self.stripe(id);
        let free = !stripe.spent.ids.contains(&key_of(id)) && stripe.connected.insert(key_of(id), connection.0);
        if free {
            self.connected.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    /// Keeps what was posted for `id` before it is connected, until `until_s`.
    pub fn keep_early(&self, id: &[u8; 16], bytes: &[u8], now_s: u32, until_s: u32) -> EarlyPost {
        let mut stripe = self.stripe(id);
        let key = key_of(id);
        match stripe.connection(id) {
            Some(connection) => EarlyPost::Connected(connection),
            None if stripe.spent.ids.contains(&key) => EarlyPost::Spent,
            None if stripe.early.add(key, bytes, now_s, until_s) => EarlyPost::Kept,
            None => EarlyPost::Full,
        }
    }

    /// What was posted for `id` before it was connected, now that it is.
    pub fn take_early(&self, id: &[u8; 16]) -> Option<Vec<u8>> {
        self.stripe(id).early.posts.remove(&key_of(id)).map(|(_, bytes)| bytes)
    }

    /// Lets go of `id` if `connection` has it.
    pub fn release(&self, id: &[u8; 16], connection: ConnRef) {
        if self.stripe(id).connected.remove(key_of(id), connection.0) {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets go of `id`, and lets nobody claim it before `until_s`: its token is still good. `true`: another one was
    /// forgotten for it, whose token is still good as well.
    pub fn spend(&self, id: &[u8; 16], connection: ConnRef, now_s: u32, until_s: u32) -> bool {
        self.release(id, connection);
        self.stripe(id).spent.add(key_of(id), now_s, until_s)
    }

    /// What is known of `id`.
    pub fn standing(&self, id: &[u8; 16]) -> Standing {
        let stripe = self.stripe(id);
        match stripe.connection(id) {
            Some(connection) => Standing::Connected(connection),
            None if stripe.spent.ids.contains(&key_of(id)) => Standing::Spent,
            None => Standing::Unused,
        }
    }

    /// Where `id` is connected.
    pub fn find(&self, id: &[u8; 16]) -> Option<ConnRef> {
        self.stripe(id).connection(id)
    }

    /// Ids connected now, those whose handshake is still to come included.
    pub fn len(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
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
        let directory = Directory::with_room_for(0);
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

    #[test]
    fn a_spent_id_stays_spent_for_its_time() {
        let directory = Directory::with_room_for(0);
        let connection = ConnRef::new(0, Slot(1), Generation::new(1));
        let id = |n: u8| {
            let mut id = [0; 16];
            id[0] = n;
            id
        };
        assert!(directory.claim(&id(1), connection));
        directory.spend(&id(1), connection, 100, 115);
        assert_eq!(directory.standing(&id(1)), Standing::Spent);
        assert!(!directory.claim(&id(1), connection));
        directory.spend(&id(2), connection, 116, 131);
        assert_eq!(directory.standing(&id(1)), Standing::Unused, "its token is of no use any more either");
        assert_eq!(directory.standing(&id(2)), Standing::Spent);
    }

    #[test]
    fn early_posts_wait_for_their_connection_and_are_bounded() {
        let directory = Directory::with_room_for(0);
        let connection = ConnRef::new(0, Slot(1), Generation::new(1));
        let id = [7; 16];
        assert_eq!(directory.keep_early(&id, b"ab", 1, 16), EarlyPost::Kept);
        assert_eq!(directory.keep_early(&id, b"c", 1, 16), EarlyPost::Kept);
        assert_eq!(directory.keep_early(&id, &[0; EARLY_BYTES_MAX - 2], 1, 16), EarlyPost::Full);
        assert!(directory.claim(&id, connection));
        assert_eq!(directory.keep_early(&id, b"d", 1, 16), EarlyPost::Connected(connection));
        assert_eq!(directory.take_early(&id).as_deref(), Some(&b"abc"[..]));
        assert_eq!(directory.take_early(&id), None);
        let other = |n: u8| {
            let mut id = [0; 16];
            id[0] = n;
            id
        };
        for n in 0..EARLY_PER_STRIPE_MAX as u8 {
            assert_eq!(directory.keep_early(&other(n), b"x", 20, 30), EarlyPost::Kept);
        }
        assert_eq!(directory.keep_early(&other(200), b"x", 20, 30), EarlyPost::Full);
        assert_eq!(directory.keep_early(&other(200), b"x", 31, 40), EarlyPost::Kept, "nobody comes for the others");
    }

    #[test]
    fn spent_ids_are_bounded() {
        let directory = Directory::with_room_for(0);
        let connection = ConnRef::new(0, Slot(1), Generation::new(1));
        for n in 0..=SPENT_PER_STRIPE_MAX as u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            let forgotten = directory.spend(&id, connection, 1, 1000);
            assert_eq!(forgotten, n == SPENT_PER_STRIPE_MAX as u64);
        }
        assert_eq!(directory.standing(&[0; 16]), Standing::Unused);
        assert_eq!(directory.stripe(&[0; 16]).spent.order.len(), SPENT_PER_STRIPE_MAX);
    }
}
