//! Segments: the fixed pieces of a shard's log, who owns them, who holds them, when they may be written again.
//!
//! ```text
//!            take                 seal                 retire: notes read, no holders
//!   free ------------> open ---------------> sealed ----------------------------------> free
//!                       |  only the owner writes, only at the end;  (punched first if its pages were lent)
//!                       |  written bytes never change until the segment is free again
//! ```
//!
//! Three views of the same memory: [`Logs`] reads (any thread), [`SegmentOwner`] writes and reuses (one per shard),
//! [`Holdings`] says what a shard still needs (one per shard, plain counters, one shared bit per segment).

use super::extent::{Extent, SegmentId};
use super::holders::Holders;
use super::mapping::Mapping;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Size of a segment. A multiple of every page size in use; `Extent::offset` and `Extent::len` count within it.
pub const SEGMENT_BYTES: usize = 256 * 1024;

/// Shards per process: one bit each in a segment's holders.
pub const SHARDS_MAX: usize = 64;

/// Segments per shard, so that an index fits the 24 bits of [`SegmentId`].
const SEGMENTS_MAX: usize = 1 << 24;

/// What all shards need to know about a segment, on its own cache line.
#[derive(Debug, Default)]
struct Header {
    holders: Holders,
    /// Bytes published so far: everything below never changes until the segment is taken again.
    written: AtomicU32,
    /// Pages were given to a socket by `sendfile` since the segment was taken.
    lent: AtomicBool,
    /// Times that the range was punched, so that a simulated kernel knows what a real one would still have.
    punches: AtomicU32,
}

/// One shard's log memory: a memfd, mapped whole and cut into segments.
#[derive(Debug)]
pub struct SegmentMemory {
    mapping: Mapping,
    headers: Box<[CachePadded<Header>]>,
    owned: AtomicBool,
}

impl SegmentMemory {
    fn new(segments: usize) -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::new(segments * SEGMENT_BYTES)?,
            headers: (0..segments).map(|_| CachePadded::default()).collect(),
            owned: AtomicBool::new(false),
        })
    }

    /// First byte of the segment; `index` is checked.
    fn base(&self, index: u32) -> *mut u8 {
        assert!((index as usize) < self.headers.len(), "segment index beyond the log");
        // SAFETY: `index` is below the number of segments, so the result lies inside the mapping.
        unsafe { self.mapping.base().add(index as usize * SEGMENT_BYTES) }
    }

    fn header(&self, segment: SegmentId) -> &Header {
        &self.headers[segment.index() as usize]
    }
}

/// The logs of all shards of one engine. Cheap to clone; built before the shards start, freed with the last clone.
#[derive(Clone, Debug)]
pub struct Logs {
    memories: Arc<[SegmentMemory]>,
}

impl Logs {
    /// Reserves `log_bytes_max` of address space (rounded down to whole segments, at least one) for each of
    /// `shards` shards (1 to [`SHARDS_MAX`]). Pages are taken from the system when they are first written.
    ///
    /// # Errors
    /// `InvalidInput` for sizes out of range, else what `memfd_create`, `ftruncate` or `mmap` said.
    pub fn new(shards: u8, log_bytes_max: usize) -> io::Result<Self> {
        let segments = log_bytes_max / SEGMENT_BYTES;
        if shards == 0 || usize::from(shards) > SHARDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "shards must be 1 to 64"));
        }
        if segments == 0 || segments > SEGMENTS_MAX {
            let text = "log_bytes_max must be at least 256 KiB and at most 4 TiB";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let memories = (0..shards).map(|_| SegmentMemory::new(segments)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { memories: memories.into() })
    }

    /// Number of shards.
    pub fn shards(&self) -> u8 {
        self.memories.len() as u8
    }

    /// Segments in each shard's log.
    pub fn segments(&self) -> u32 {
        self.memories[0].headers.len() as u32
    }

    /// The bytes of an extent.
    ///
    /// The caller holds the segment (see [`Holdings`]), or is inside the turn in which it wrote the extent or took
    /// the note that brought it: the bytes cannot change meanwhile.
    ///
    /// # Panics
    /// If the extent does not lie in published bytes of its segment: no such extent was ever handed out.
    pub fn bytes(&self, extent: Extent) -> &[u8] {
        let start = self.pointer(extent);
        // SAFETY: `pointer` has checked that the whole run lies below the `written` mark (Acquire), so the bytes are
        // initialised and their writes visible. The owner writes only at and above the mark, and resets it only in
        // `SegmentOwner::take`, which comes after every holder has let go.
        unsafe { std::slice::from_raw_parts(start, extent.len as usize) }
    }

    /// First byte of an extent, for requests to the kernel. Same contract and checks as [`Logs::bytes`].
    pub(crate) fn pointer(&self, extent: Extent) -> *const u8 {
        let memory = &self.memories[extent.segment.shard() as usize];
        let base = memory.base(extent.segment.index());
        let end = u64::from(extent.offset) + u64::from(extent.len);
        let written = memory.header(extent.segment).written.load(Ordering::Acquire);
        assert!(end <= u64::from(written), "extent beyond the published bytes of its segment");
        // SAFETY: the offset lies inside the segment, which lies inside the mapping.
        unsafe { base.add(extent.offset as usize) }
    }

    /// Where an extent lies in its shard's memfd.
    pub(crate) fn file_offset(&self, extent: Extent) -> u64 {
        u64::from(extent.segment.index()) * SEGMENT_BYTES as u64 + u64::from(extent.offset)
    }

    /// The memfd behind a shard's log.
    pub(crate) fn file(&self, shard: u8) -> std::os::fd::BorrowedFd<'_> {
        self.memories[shard as usize].mapping.file()
    }

    /// Notes that pages of the segment are about to be given to a socket by `sendfile`: its range is punched before
    /// it is written again. Any shard that may read the segment may call this.
    pub fn mark_lent(&self, segment: SegmentId) {
        // Relaxed: the caller holds the segment or has not moved its ring head yet; either later Release carries it.
        self.memories[segment.shard() as usize].header(segment).lent.store(true, Ordering::Relaxed);
    }

    /// Times that the segment was punched before reuse.
    pub(crate) fn punches(&self, segment: SegmentId) -> u32 {
        self.memories[segment.shard() as usize].header(segment).punches.load(Ordering::Relaxed)
    }

    /// Appends whatever the memory of an extent holds now, published or not: how a simulated kernel looks at pages
    /// that were lent to it. Only for simulations, where owners and kernel share one thread.
    pub(crate) fn peek(&self, extent: Extent, into: &mut Vec<u8>) {
        assert!(extent.offset as usize + extent.len as usize <= SEGMENT_BYTES);
        let base = self.memories[extent.segment.shard() as usize].base(extent.segment.index());
        // SAFETY: inside the segment; the memory is zeroed at first, so always initialised. Nobody writes during the
        // call: the caller is on the owner's thread.
        let bytes = unsafe { std::slice::from_raw_parts(base.add(extent.offset as usize), extent.len as usize) };
        into.extend_from_slice(bytes);
    }

    /// Whether the extent lies in published bytes of its segment, as every extent that is kept must.
    pub(crate) fn has_written(&self, extent: Extent) -> bool {
        let header = self.memories[extent.segment.shard() as usize].header(extent.segment);
        extent.offset + extent.len <= header.written.load(Ordering::Acquire)
    }

    /// Forgets who still needs the segments of a shard, so that they are reused under their readers: a deliberate
    /// bug, for the test that the simulation notices.
    #[doc(hidden)]
    pub fn forget_holders(&self, shard: u8) {
        self.memories[shard as usize].headers.iter().for_each(|header| header.holders.forget());
    }

    /// The writing side of a shard's log. `None` if it has been given out already.
    pub fn owner(&self, shard: u8) -> Option<SegmentOwner> {
        let memory = self.memories.get(shard as usize)?;
        if memory.owned.swap(true, Ordering::AcqRel) {
            return None;
        }
        let segments = memory.headers.len() as u32;
        Some(SegmentOwner {
            logs: self.clone(),
            shard,
            // Popped from the back: the lowest index first, and later the most recently freed, whose pages are warm.
            free: (0..segments).rev().collect(),
            warm: vec![false; segments as usize],
            sealed: VecDeque::new(),
            open: 0,
        })
    }
}

/// What one shard still needs of all logs: a counter per segment, plain memory of that shard.
#[derive(Debug)]
pub struct Holdings {
    logs: Logs,
    shard: u8,
    held: Box<[Box<[u32]>]>,
}

impl Holdings {
    /// Nothing held yet. One value per shard.
    pub fn new(shard: u8, logs: &Logs) -> Self {
        let row = || vec![0; logs.segments() as usize].into_boxed_slice();
        Self { logs: logs.clone(), shard, held: (0..logs.shards()).map(|_| row()).collect() }
    }

    /// One more extent of the segment is kept beyond this turn. Call it before the note that brought the extent is
    /// given back to its ring, or, for one's own segments, in the turn in which the extent was written.
    pub fn hold(&mut self, segment: SegmentId) {
        let count = &mut self.held[segment.shard() as usize][segment.index() as usize];
        if *count == 0 {
            self.logs.memories[segment.shard() as usize].header(segment).holders.set(self.shard);
        }
        *count += 1;
    }

    /// One extent less.
    ///
    /// # Panics
    /// If nothing was held: the books are wrong and the bytes may be gone already.
    pub fn release(&mut self, segment: SegmentId) {
        let count = &mut self.held[segment.shard() as usize][segment.index() as usize];
        *count = count.checked_sub(1).expect("released a segment that was not held");
        if *count == 0 {
            self.logs.memories[segment.shard() as usize].header(segment).holders.clear(self.shard);
        }
    }

    /// Extents of the segment held by this shard.
    pub fn held(&self, segment: SegmentId) -> u32 {
        self.held[segment.shard() as usize][segment.index() as usize]
    }

    /// Extents held in total, over all segments. Walks all counters: for tests and reports.
    pub fn total(&self) -> u64 {
        self.held.iter().flat_map(|row| row.iter()).map(|&count| u64::from(count)).sum()
    }
}

/// A segment that is full, or was closed early, with what must happen before it is free.
#[derive(Debug)]
struct Sealed {
    index: u32,
    /// Per shard: the ring position that the shard must have read. `None` until [`SegmentOwner::stamp`].
    notes: Option<Box<[u64]>>,
}

/// The writing side of one shard's log: gives out segments and takes them back. Lives on the shard's thread.
#[derive(Debug)]
pub struct SegmentOwner {
    logs: Logs,
    shard: u8,
    free: Vec<u32>,
    /// Segments that were written since their memory was last given back.
    warm: Vec<bool>,
    sealed: VecDeque<Sealed>,
    open: u32,
}

impl SegmentOwner {
    /// A free segment, empty, to be written from offset 0. `None` when the log is at its limit: evict
    /// ([`SegmentOwner::oldest_held`]) and retire.
    pub fn take(&mut self) -> Option<SegmentId> {
        let index = self.free.pop()?;
        let id = SegmentId::new(self.shard, index);
        let header = self.memory().header(id);
        header.written.store(0, Ordering::Relaxed);
        header.lent.store(false, Ordering::Relaxed);
        self.warm[index as usize] = true;
        self.open += 1;
        Some(id)
    }

    /// The segment will not be written any more. It stays readable until it is retired.
    pub fn seal(&mut self, segment: SegmentId) {
        debug_assert_eq!(segment.shard(), self.shard);
        debug_assert!(self.open > 0);
        self.open -= 1;
        self.sealed.push_back(Sealed { index: segment.index(), notes: None });
    }

    /// Records for every segment sealed since the last call how far each other shard must have read.
    ///
    /// Call it once per turn, after all notes about extents written in this turn were queued. `sent(shard)` is the
    /// position that shard's ring head has once it has read everything queued for it so far (notes waiting for room
    /// included); it is not asked for this shard itself.
    pub fn stamp(&mut self, sent: impl Fn(u8) -> u64) {
        let shards = self.logs.shards();
        // Sealed in order, so the ones without positions are at the back.
        for sealed in self.sealed.iter_mut().rev().take_while(|sealed| sealed.notes.is_none()) {
            sealed.notes = Some((0..shards).map(|shard| if shard == self.shard { 0 } else { sent(shard) }).collect());
        }
    }

    /// Frees every sealed segment whose notes were read (`head(shard)` is the position of that shard's ring head,
    /// loaded with Acquire) and that nobody holds. Returns how many.
    ///
    /// Call it when nothing that is queued for the kernel points into unheld segments: right after an `enter`.
    pub fn retire(&mut self, head: impl Fn(u8) -> u64) -> usize {
        if self.sealed.is_empty() {
            return 0;
        }
        let mut heads = [0; SHARDS_MAX];
        for shard in (0..self.logs.shards()).filter(|&shard| shard != self.shard) {
            heads[shard as usize] = head(shard);
        }
        let before = self.free.len();
        let memory = &self.logs.memories[self.shard as usize];
        self.sealed.retain(|sealed| {
            let holders = &memory.headers[sealed.index as usize].holders;
            let let_go = sealed.notes.as_ref().is_some_and(|notes| holders.let_go(notes, &heads));
            if !let_go || !make_reusable(memory, sealed.index) {
                return true;
            }
            self.free.push(sealed.index);
            false
        });
        self.free.len() - before
    }

    /// See [`Logs::mark_lent`].
    pub fn mark_lent(&self, segment: SegmentId) {
        self.logs.mark_lent(segment);
    }

    /// The oldest sealed segment that some shard still holds: the one to evict when the log is full.
    pub fn oldest_held(&self) -> Option<SegmentId> {
        let memory = self.memory();
        let held = self.sealed.iter().find(|sealed| !memory.headers[sealed.index as usize].holders.none())?;
        Some(SegmentId::new(self.shard, held.index))
    }

    /// Gives the memory of free segments back to the system, except for `keep` of them. Returns how many it was that
    /// had any. For quiet moments: writing a punched segment again costs a page fault per page.
    pub fn trim(&mut self, keep: usize) -> usize {
        let memory = &self.logs.memories[self.shard as usize];
        let warm = |index: &u32| self.warm[*index as usize];
        let cold: Vec<u32> = self.free.iter().copied().filter(warm).collect();
        let cold = &cold[..cold.len().saturating_sub(keep)];
        for &index in cold {
            // A failure only means that the memory stays warm.
            self.warm[index as usize] = memory.mapping.punch(index as usize * SEGMENT_BYTES, SEGMENT_BYTES).is_err();
        }
        cold.len()
    }

    /// The shard whose log this is.
    pub fn shard(&self) -> u8 {
        self.shard
    }

    /// Segments that can be taken at once.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Segments being written.
    pub fn open(&self) -> usize {
        self.open as usize
    }

    /// Segments written and not yet free.
    pub fn sealed(&self) -> usize {
        self.sealed.len()
    }

    /// Log memory in use, counted in whole segments.
    pub fn bytes(&self) -> usize {
        (self.open() + self.sealed()) * SEGMENT_BYTES
    }

    fn memory(&self) -> &SegmentMemory {
        &self.logs.memories[self.shard as usize]
    }

    /// Room for `len` bytes behind the published ones. The writer fills it and calls [`SegmentOwner::publish`].
    ///
    /// # Panics
    /// If the range begins below the published mark or ends beyond the segment.
    pub(super) fn room(&mut self, extent: Extent) -> *mut u8 {
        assert_eq!(extent.segment.shard(), self.shard, "only the owner writes");
        let memory = self.memory();
        let base = memory.base(extent.segment.index());
        let written = memory.header(extent.segment).written.load(Ordering::Relaxed);
        assert!(extent.offset >= written, "written bytes never change");
        assert!(extent.offset as usize + extent.len as usize <= SEGMENT_BYTES, "write beyond the segment");
        // SAFETY: the offset lies inside the segment, which lies inside the mapping.
        unsafe { base.add(extent.offset as usize) }
    }

    /// Makes everything up to the end of `extent` readable.
    pub(super) fn publish(&mut self, extent: Extent) {
        self.memory().header(extent.segment).written.store(extent.offset + extent.len, Ordering::Release);
    }
}

/// Takes lent pages away from the file, so that sockets keep the old bytes and we get fresh pages. Reports whether
/// the segment may be written now.
fn make_reusable(memory: &SegmentMemory, index: u32) -> bool {
    // Relaxed: ring heads and holders were read with Acquire just before (`Holders::let_go`).
    if !memory.headers[index as usize].lent.load(Ordering::Relaxed) {
        return true;
    }
    // On failure (a signal, or no memory for the kernel's own books) the segment stays sealed until the next try:
    // writing to it now would change bytes that are on their way to a peer.
    let punched = memory.mapping.punch(index as usize * SEGMENT_BYTES, SEGMENT_BYTES).is_ok();
    memory.headers[index as usize].punches.fetch_add(u32::from(punched), Ordering::Relaxed);
    punched
}
