//! Who has which key: an open-addressing table in the order of its keys, for keys that are evenly spread.
//!
//! ```text
//!  key        3       9 11 13      31         home of a key = key * homes / 2^64
//!  place   0  1  2  3  4  5  6  7  8  ...     place of a key = its home, or the first free one behind the key before
//! ```
//! Because the homes are in the order of the keys, more homes move every key upwards or nowhere: the table grows where it
//! is, an eighth at a time, at 18 to 21 bytes a key. Tables that double leave the half that they had, which an allocator
//! keeps: with that they were 49 bytes for each of 50,000 connections.

/// What takes a place in the table: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u64,
    /// Never [`NOBODY`] in a place that is taken.
    owner: u64,
}

/// The owner of a free place.
const NOBODY: u64 = u64::MAX;
const FREE: Entry = Entry { key: 0, owner: NOBODY };

impl Entry {
    fn is_taken(&self) -> bool {
        self.owner != NOBODY
    }
}

/// What a key takes in a large table that has just grown: it grows by an eighth when seven of eight homes are taken.
pub(crate) const KEY_BYTES_MAX: usize = size_of::<Entry>() * 9 / 7 + 1;

/// A table grows by as many homes at least.
const GROWTH_MIN: usize = 32;

/// Keys and their owners. What a table has grown to it keeps, as the records of connections do.
#[derive(Debug, Default)]
pub(crate) struct IdTable {
    /// Places: one for each home, and behind them the last keys that found theirs taken.
    places: Vec<Entry>,
    homes: usize,
    len: usize,
}

impl IdTable {
    /// With address space for `keys`; memory is taken as there are some. More than these are possible: then it moves.
    pub(crate) fn with_room_for(keys: usize) -> Self {
        // Homes after the last growth, and the longest tail that evenly spread keys leave.
        let places = keys + keys * 2 / 7 + 2 * GROWTH_MIN;
        Self { places: Vec::with_capacity(places), homes: 0, len: 0 }
    }

    /// Who has `key`.
    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        let place = self.search(key).ok()?;
        Some(self.places[place].owner)
    }

    /// Gives `key` to `owner`, who is not `u64::MAX`. `false`: somebody has it.
    #[must_use]
    pub(crate) fn insert(&mut self, key: u64, owner: u64) -> bool {
        debug_assert_ne!(owner, NOBODY);
        let Err(mut place) = self.search(key) else { return false };
        if (self.len + 1) * 8 > self.homes * 7 {
            self.grow();
            place = self.search(key).unwrap_or_else(|place| place);
        }
        let free = (place..self.places.len()).find(|&at| !self.places[at].is_taken());
        let free = free.unwrap_or_else(|| {
            if self.places.len() == self.places.capacity() {
                self.places.reserve_exact(GROWTH_MIN);
            }
            self.places.push(FREE);
            self.places.len() - 1
        });
        self.places.copy_within(place..free, place + 1);
        self.places[place] = Entry { key, owner };
        self.len += 1;
        true
    }

    /// Takes `key` away from `owner`. `false`: it is not theirs.
    pub(crate) fn remove(&mut self, key: u64, owner: u64) -> bool {
        let Ok(place) = self.search(key) else { return false };
        if self.places[place].owner != owner {
            return false;
        }
        // Those that found their places taken move up.
        let displaced = |at: &usize| self.places[*at].is_taken() && self.home(self.places[*at].key) < *at;
        let end = place + 1 + (place + 1..self.places.len()).take_while(displaced).count();
        self.places.copy_within(place + 1..end, place);
        self.places[end - 1] = FREE;
        if end == self.places.len() && end > self.homes {
            self.places.pop();
        }
        self.len -= 1;
        true
    }

    fn home(&self, key: u64) -> usize {
        home(key, self.homes)
    }

    /// The place of `key`, or the one it belongs into.
    fn search(&self, key: u64) -> Result<usize, usize> {
        let mut place = self.home(key);
        while let Some(entry) = self.places.get(place).filter(|entry| entry.is_taken() && entry.key <= key) {
            if entry.key == key {
                return Ok(place);
            }
            place += 1;
        }
        Err(place)
    }

    /// Makes more homes: packs all entries at the upper end, and puts each into its new place from below. None of these is
    /// above where it is taken from, as those behind it have room too.
    fn grow(&mut self) {
        self.homes += (self.homes / 8).max(GROWTH_MIN);
        let mut end = 0;
        for entry in self.places.iter().filter(|entry| entry.is_taken()) {
            end = end.max(home(entry.key, self.homes)) + 1;
        }
        let end = end.max(self.homes).max(self.places.len());
        self.places.reserve_exact(end - self.places.len());
        let above = self.places.len();
        self.places.resize(end, FREE);
        let mut packed = end;
        for place in (0..above).rev() {
            if self.places[place].is_taken() {
                packed -= 1;
                self.places.swap(place, packed);
            }
        }
        let mut next = 0;
        for place in packed..end {
            let entry = std::mem::replace(&mut self.places[place], FREE);
            next = next.max(self.home(entry.key));
            self.places[next] = entry;
            next += 1;
        }
    }
}

fn home(key: u64, homes: usize) -> usize {
    ((u128::from(key) * homes as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Every entry is in its place, and nothing else is there.
    fn check(table: &IdTable, model: &BTreeMap<u64, u64>, seed: u64) {
        let taken = table.places.iter().enumerate().filter(|(_, entry)| entry.is_taken());
        let entries: Vec<(u64, u64)> = taken.clone().map(|(_, entry)| (entry.key, entry.owner)).collect();
        assert_eq!(entries, model.iter().map(|(&key, &owner)| (key, owner)).collect::<Vec<_>>(), "seed {seed}");
        let mut next = 0;
        for (place, entry) in taken {
            next = next.max(table.home(entry.key));
            assert_eq!(place, next, "seed {seed}, key {}", entry.key);
            next += 1;
        }
        assert_eq!(table.places.len(), table.homes.max(next), "seed {seed}: nothing is kept behind the last one");
        assert_eq!(table.len, model.len(), "seed {seed}");
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn it_is_a_map_whatever_the_keys() {
        for seed in 0..200 {
            let mut state = seed;
            let mut table = IdTable::with_room_for((seed % 3) as usize * 100);
            let mut model = BTreeMap::new();
            // Evenly spread, all at one end, all at the other, few: the last ones meet again and again.
            let bits = [64, 20, 64, 7][seed as usize % 4];
            let flip = if seed % 4 == 2 { 0xffff_ffff_ffff_0000 } else { 0 };
            for step in 0..600 {
                let key = random(&mut state) >> (64 - bits) | flip;
                let owner = random(&mut state) >> 1;
                // Fills first, then comes and goes, then empties.
                match random(&mut state) % 8 {
                    n if n < 6 - step / 100 => {
                        let free = !model.contains_key(&key);
                        assert_eq!(table.insert(key, owner), free, "seed {seed}");
                        model.entry(key).or_insert(owner);
                    }
                    _ => {
                        let known = model.range(key..).next().map(|(&key, &owner)| (key, owner));
                        let (key, owner) = known.unwrap_or((key, owner));
                        assert!(!table.remove(key, owner ^ 1), "seed {seed}: somebody else's");
                        assert_eq!(table.remove(key, owner), model.remove(&key).is_some(), "seed {seed}");
                    }
                }
                assert_eq!(table.get(key), model.get(&key).copied(), "seed {seed}");
                check(&table, &model, seed);
            }
            for (key, owner) in std::mem::take(&mut model) {
                assert!(table.remove(key, owner), "seed {seed}");
            }
            check(&table, &model, seed);
        }
    }

    #[test]
    fn it_grows_where_it_is_and_is_never_half_empty() {
        const KEYS: usize = 20_000;
        let mut table = IdTable::with_room_for(KEYS);
        let (address, room) = (table.places.as_ptr(), table.places.capacity());
        let mut state = 7;
        for count in 1..=KEYS {
            assert!(table.insert(random(&mut state), count as u64));
            let bytes = size_of_val(&table.places[..]);
            assert!(bytes <= count * KEY_BYTES_MAX + 2 * GROWTH_MIN * size_of::<Entry>(), "{bytes} for {count}");
        }
        assert_eq!((table.places.as_ptr(), table.places.capacity()), (address, room), "it has moved");
    }
}
