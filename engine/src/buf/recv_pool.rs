//! The shard's provided-buffer ring: lent to the kernel, given back within the turn.
//!
//! ```text
//!   ring (entries x 16 B, read by the kernel)          buffers (entries x buffer_bytes)
//!   +------------------+------------------+--          +----------+----------+----------+--
//!   | addr  len  bid  tail | addr  len bid   |  ...     | bid 0    | bid 1    | bid 2    |
//!   +------------------+------------------+--          +----------+----------+----------+--
//!                 `-- 16 bits of entry 0: how many entries were ever offered
//! ```
//!
//! A buffer is *offered* (the kernel may fill it), *lent* to us by a `Received::Data`, and offered again by
//! [`RecvPool::give_back`]. Only lent buffers can be looked at.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The kernel's bound on a provided-buffer ring.
pub const ENTRIES_MAX: u16 = 1 << 15;

/// Alignment of the ring, as the kernel wants it, and of the buffers, so that they share no page with others.
const PAGE_BYTES: usize = 4096;

/// Bytes of one entry of the kernel's ring (`struct io_uring_buf`).
const ENTRY_BYTES: usize = 16;

/// Where the 16-bit tail lies: in the reserved field of entry 0 (`struct io_uring_buf_ring`).
const TAIL_OFFSET: usize = 14;

/// The memory that kernel and pool share. The ring keeps a clone, so it outlives whichever of the two goes first.
#[derive(Debug)]
pub(crate) struct PoolMemory {
    ring: NonNull<u8>,
    buffers: NonNull<u8>,
    entries: u16,
    buffer_bytes: u32,
}

// SAFETY: plain memory without thread affinity. Apart from the atomic tail, only `RecvPool` (one per memory, `&mut`
// to write) and the kernel touch it, and the lent marks keep those two apart.
unsafe impl Send for PoolMemory {}
// SAFETY: as above.
unsafe impl Sync for PoolMemory {}

impl PoolMemory {
    fn layouts(entries: u16, buffer_bytes: u32) -> (Layout, Layout) {
        let layout = |bytes| Layout::from_size_align(bytes, PAGE_BYTES).expect("pool size fits the address space");
        (layout(usize::from(entries) * ENTRY_BYTES), layout(usize::from(entries) * buffer_bytes as usize))
    }

    fn new(entries: u16, buffer_bytes: u32) -> Self {
        let (ring_layout, buffers_layout) = Self::layouts(entries, buffer_bytes);
        let allocate = |layout: Layout| {
            // SAFETY: neither layout is empty: `RecvPool::new` has checked both factors.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
            // Buffers are used in turn, so all of them soon: their pages are taken now, not while somebody waits.
            // SAFETY: exactly the allocation that was just made.
            unsafe { start.as_ptr().write_bytes(0, layout.size()) };
            start
        };
        Self { ring: allocate(ring_layout), buffers: allocate(buffers_layout), entries, buffer_bytes }
    }

    /// Address of the ring, for the kernel.
    pub(crate) fn ring_address(&self) -> u64 {
        self.ring.as_ptr() as u64
    }

    /// Entries of the ring.
    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    fn buffer(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.entries);
        // SAFETY: the index is below `entries`, so the result lies inside the allocation.
        unsafe { self.buffers.as_ptr().add(usize::from(buffer) * self.buffer_bytes as usize) }
    }

    fn tail(&self) -> &AtomicU16 {
        // SAFETY: offset 14 lies inside entry 0, is aligned for u16, zeroed at the start, and is only ever accessed
        // as this atomic (`offer` writes the other fields of an entry one by one).
        unsafe { AtomicU16::from_ptr(self.ring.as_ptr().add(TAIL_OFFSET).cast()) }
    }

    /// Writes the entry at `position` (masked). Visible to the kernel once the tail has moved.
    fn write_entry(&self, position: u16, buffer: u16) {
        let address = self.buffer(buffer) as u64;
        let offset = usize::from(position & (self.entries - 1)) * ENTRY_BYTES;
        // SAFETY: the entry lies inside the ring and is 8-aligned. The kernel reads entries below the tail only;
        // this one is at or above it. Bytes 14 and 15 are left alone: in entry 0 they are the tail.
        unsafe {
            let entry = self.ring.as_ptr().add(offset);
            entry.cast::<u64>().write(address);
            entry.add(8).cast::<u32>().write(self.buffer_bytes);
            entry.add(12).cast::<u16>().write(buffer);
        }
    }

    /// The buffer named by the entry at `position`: what the kernel would do next. For the simulated kernel.
    fn read_entry(&self, position: u16) -> u16 {
        let offset = usize::from(position & (self.entries - 1)) * ENTRY_BYTES;
        // SAFETY: inside the ring, 2-aligned, written by `write_entry` before the tail passed it.
        unsafe { self.ring.as_ptr().add(offset + 12).cast::<u16>().read() }
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        let (ring_layout, buffers_layout) = Self::layouts(self.entries, self.buffer_bytes);
        // SAFETY: allocated in `new` with the same layouts. A ring that was told these addresses keeps a clone of
        // the `Arc` until it is closed.
        unsafe {
            dealloc(self.ring.as_ptr(), ring_layout);
            dealloc(self.buffers.as_ptr(), buffers_layout);
        }
    }
}

/// Fixed-size receive buffers, shared with the kernel through a provided-buffer ring.
///
/// Between turns an idle connection owns no buffer, so the pool is sized for one turn, not for the connections.
#[derive(Debug)]
pub struct RecvPool {
    memory: Arc<PoolMemory>,
    /// One bit per buffer: lent to us.
    lent_bits: Box<[u64]>,
    lent: u16,
    /// Entries written, published or not. Wraps.
    tail: u16,
    /// Entries taken by a simulated kernel. Wraps.
    taken: u16,
}

impl RecvPool {
    /// `entries` buffers (a power of two up to [`ENTRIES_MAX`]) of `buffer_bytes` (at least 16) each, all offered.
    ///
    /// # Panics
    /// If a size is out of range: sizes come from checked limits.
    pub fn new(entries: u16, buffer_bytes: u32) -> Self {
        assert!(entries.is_power_of_two() && entries <= ENTRIES_MAX, "entries must be a power of two up to 32768");
        assert!(buffer_bytes >= 16, "a receive buffer below 16 bytes cannot carry a frame header");
        let mut pool = Self {
            memory: Arc::new(PoolMemory::new(entries, buffer_bytes)),
            lent_bits: vec![0; usize::from(entries).div_ceil(64)].into_boxed_slice(),
            lent: 0,
            tail: 0,
            taken: 0,
        };
        for buffer in 0..entries {
            pool.offer(buffer);
        }
        pool.publish();
        pool
    }

    /// The received bytes. `buffer` and `len` are those of a `Received::Data` that was not yet given back.
    ///
    /// # Panics
    /// If the buffer is not lent, or shorter than `len`.
    pub fn slice(&self, buffer: u16, len: u32) -> &[u8] {
        let start = self.lent_buffer(buffer, len);
        // SAFETY: `len` bytes inside the buffer, zeroed at first. It is lent, so the kernel does not write it, and
        // we write it only through `slice_mut`, which borrows the pool exclusively.
        unsafe { std::slice::from_raw_parts(start, len as usize) }
    }

    /// The same, to decode in place.
    pub fn slice_mut(&mut self, buffer: u16, len: u32) -> &mut [u8] {
        let start = self.lent_buffer(buffer, len);
        // SAFETY: as in `slice`; `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(start, len as usize) }
    }

    /// Offers the buffer to the kernel again (seen by it after [`RecvPool::publish`], which every `enter` does).
    ///
    /// # Panics
    /// If the buffer is not lent: given back twice, it would be filled twice.
    pub fn give_back(&mut self, buffer: u16) {
        assert!(self.is_lent(buffer), "buffer given back that was not lent");
        self.lent_bits[usize::from(buffer) / 64] &= !(1 << (buffer % 64));
        self.lent -= 1;
        self.offer(buffer);
    }

    /// Makes everything given back visible to the kernel. Release: our reads of the buffers come before.
    pub fn publish(&mut self) {
        self.memory.tail().store(self.tail, Ordering::Release);
    }

    /// Buffers that we hold.
    pub fn lent(&self) -> u16 {
        self.lent
    }

    /// Buffers that the kernel may fill.
    pub fn free(&self) -> u16 {
        self.memory.entries - self.lent
    }

    /// Bytes per buffer.
    pub fn buffer_bytes(&self) -> u32 {
        self.memory.buffer_bytes
    }

    /// The shared memory, for the ring.
    pub(crate) fn memory(&self) -> &Arc<PoolMemory> {
        &self.memory
    }

    /// Notes that the kernel has filled `buffer`.
    ///
    /// # Panics
    /// If the buffer is unknown or lent already: kernel and pool disagree, and two readers would share bytes.
    pub(crate) fn lend(&mut self, buffer: u16) {
        assert!(buffer < self.memory.entries && !self.is_lent(buffer), "the kernel filled a buffer that is in use");
        self.lent_bits[usize::from(buffer) / 64] |= 1 << (buffer % 64);
        self.lent += 1;
    }

    /// The simulated kernel's side: takes the oldest published buffer, fills it, lends it. `None`: nothing offered.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Option<u16> {
        if self.memory.tail().load(Ordering::Acquire) == self.taken {
            return None;
        }
        let buffer = self.memory.read_entry(self.taken);
        self.taken = self.taken.wrapping_add(1);
        self.lend(buffer);
        self.slice_mut(buffer, bytes.len() as u32).copy_from_slice(bytes);
        Some(buffer)
    }

    fn offer(&mut self, buffer: u16) {
        self.memory.write_entry(self.tail, buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn is_lent(&self, buffer: u16) -> bool {
        self.lent_bits.get(usize::from(buffer) / 64).is_some_and(|word| word >> (buffer % 64) & 1 == 1)
    }

    fn lent_buffer(&self, buffer: u16, len: u32) -> *mut u8 {
        assert!(self.is_lent(buffer), "buffer looked at that was not lent");
        assert!(len <= self.memory.buffer_bytes);
        self.memory.buffer(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round() {
        let mut pool = RecvPool::new(4, 64);
        for round in 0..100_u8 {
            let buffer = pool.fill(&[round; 7]).unwrap();
            assert_eq!(pool.slice(buffer, 7), [round; 7]);
            pool.slice_mut(buffer, 7)[0] = 0;
            assert_eq!((pool.lent(), pool.free()), (1, 3));
            pool.give_back(buffer);
            pool.publish();
        }
        assert_eq!((pool.lent(), pool.free()), (0, 4));
    }

    #[test]
    fn the_tail_wraps() {
        let mut pool = RecvPool::new(1, 16);
        for _ in 0..70_000_u32 / if cfg!(miri) { 100 } else { 1 } {
            let buffer = pool.fill(b"x").unwrap();
            assert_eq!(pool.fill(b"y"), None);
            pool.give_back(buffer);
            assert_eq!(pool.fill(b"y"), None, "not visible before it is published");
            pool.publish();
        }
    }

    #[test]
    #[should_panic(expected = "not lent")]
    fn giving_back_twice_is_a_bug() {
        let mut pool = RecvPool::new(2, 16);
        let buffer = pool.fill(b"x").unwrap();
        pool.give_back(buffer);
        pool.give_back(buffer);
    }

    #[test]
    #[should_panic(expected = "not lent")]
    fn offered_buffers_cannot_be_read() {
        let pool = RecvPool::new(2, 16);
        let _ = pool.slice(0, 1);
    }

    #[test]
    fn entry_zero_and_the_tail_share_sixteen_bytes() {
        let mut pool = RecvPool::new(2, 16);
        assert_eq!(pool.memory.tail().load(Ordering::Relaxed), 2);
        let buffer = pool.fill(b"x").unwrap();
        pool.give_back(buffer);
        assert_eq!(pool.memory.tail().load(Ordering::Relaxed), 2, "writing entry 0 leaves the tail alone");
        pool.publish();
        assert_eq!(pool.memory.tail().load(Ordering::Relaxed), 3);
    }
}
