//! Records of one size, named by a `u32` that fits a hot table: no pointer, no allocation per record.

/// Entries per block. Blocks never move, so growth copies nothing.
const BLOCK: u32 = 256;

/// A bounded table of `T` with handles from 1 up; 0 is free for "none".
///
/// Freed entries are reused last in, first out, so that the cache has them. Memory grows by blocks of 256 entries
/// up to the bound and is kept.
#[derive(Debug)]
pub struct Slab<T> {
    blocks: Vec<Vec<Entry<T>>>,
    /// Handle of the first free entry, 0 = none.
    free: u32,
    len: u32,
    max: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Full(T),
    /// Handle of the next free entry, 0 = none.
    Free(u32),
}

impl<T> Slab<T> {
    /// An empty table for at most `max` entries.
    pub fn new(max: u32) -> Self {
        Self { blocks: Vec::new(), free: 0, len: 0, max }
    }

    /// Entries in use.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bound.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Stores `value`; gives it back when the table is full.
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.len == self.max {
            return Err(value);
        }
        self.len += 1;
        if self.free != 0 {
            let handle = self.free;
            let entry = self.entry_mut(handle).expect("the free list names entries");
            let Entry::Free(next) = std::mem::replace(entry, Entry::Full(value)) else {
                unreachable!("the free list names free entries only");
            };
            self.free = next;
            return Ok(handle);
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK as usize) {
            self.blocks.push(Vec::with_capacity(BLOCK as usize));
        }
        let full_blocks = self.blocks.len() as u32 - 1;
        let block = self.blocks.last_mut().expect("pushed above");
        block.push(Entry::Full(value));
        Ok(full_blocks * BLOCK + block.len() as u32)
    }

    /// Takes the entry out. `None` if the handle names nothing.
    pub fn remove(&mut self, handle: u32) -> Option<T> {
        let free = self.free;
        let entry = self.entry_mut(handle)?;
        if matches!(entry, Entry::Free(_)) {
            return None;
        }
        let Entry::Full(value) = std::mem::replace(entry, Entry::Free(free)) else {
            unreachable!("looked at above");
        };
        self.free = handle;
        self.len -= 1;
        Some(value)
    }

    /// The entry. `None` if the handle names nothing (0 never does).
    pub fn get(&self, handle: u32) -> Option<&T> {
        let index = handle.checked_sub(1)?;
        match self.blocks.get((index / BLOCK) as usize)?.get((index % BLOCK) as usize)? {
            Entry::Full(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// The entry, to change it.
    pub fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        match self.entry_mut(handle)? {
            Entry::Full(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    fn entry_mut(&mut self, handle: u32) -> Option<&mut Entry<T>> {
        let index = handle.checked_sub(1)?;
        self.blocks.get_mut((index / BLOCK) as usize)?.get_mut((index % BLOCK) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn zero_is_never_a_handle() {
        let mut slab = Slab::new(4);
        assert_eq!(slab.insert('a'), Ok(1));
        assert_eq!(slab.get(0), None);
        assert_eq!(slab.remove(0), None);
        assert_eq!(slab.get(2), None);
    }

    #[test]
    fn the_bound_holds_and_gives_the_value_back() {
        let mut slab = Slab::new(2);
        slab.insert(1).unwrap();
        let second = slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), Err(3));
        assert_eq!(slab.remove(second), Some(2));
        assert_eq!(slab.insert(3), Ok(second));
    }

    #[test]
    fn double_remove_finds_nothing() {
        let mut slab = Slab::new(2);
        let handle = slab.insert(7).unwrap();
        assert_eq!(slab.remove(handle), Some(7));
        assert_eq!(slab.remove(handle), None);
        assert_eq!(slab.get_mut(handle), None);
        assert!(slab.is_empty());
    }

    #[test]
    fn agrees_with_a_map_over_random_operations() {
        let rounds = if cfg!(miri) { 300 } else { 20_000 };
        let mut slab = Slab::new(1000);
        let mut map = HashMap::new();
        let mut handles = Vec::new();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if handles.is_empty() || state % 5 < 3 {
                match slab.insert(round) {
                    Ok(handle) => {
                        assert!(map.insert(handle, round).is_none());
                        handles.push(handle);
                    }
                    Err(_) => assert_eq!(map.len(), 1000),
                }
            } else {
                let handle = handles.swap_remove(state as usize % handles.len());
                assert_eq!(slab.remove(handle), map.remove(&handle));
            }
            assert_eq!(slab.len() as usize, map.len());
        }
        for (handle, value) in map {
            assert_eq!(slab.get(handle), Some(&value));
        }
    }
}
