//! What the HTTP and WebSocket tests share: a seeded generator, and every way to cut a vector.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

/// A small generator (splitmix64). The seed is printed by whoever asserts.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Runs `check` with `bytes` whole, one byte at a time, and cut in two at every place.
pub(crate) fn every_cut(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    check(&[bytes]);
    check(&bytes.chunks(1).collect::<Vec<_>>());
    for cut in 1..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        check(&[front, back]);
    }
}
