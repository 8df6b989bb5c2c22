//! An allocator that counts: the one guest of `unsafe` among the count budgets.
//!
//! A test binary installs it with
//!
//! ```
//! use fanfare_bench::alloc::{self, CountingAllocator};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let (text, counts) = alloc::count(|| String::from("one allocation"));
//! assert_eq!((counts.allocations, counts.allocated_bytes), (1, text.len() as u64));
//! ```
//!
//! Counts exist twice: for the calling thread ([`on_this_thread`]), which other threads cannot disturb, and for the
//! whole process ([`in_process`]), which sees the shards of an engine that a test only started.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Forwards to the system's allocator and counts what passes. Costs a few thread-local and shared additions per call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What was asked of the allocator since some beginning. All zero for ever if [`CountingAllocator`] is not installed;
/// [`assert_installed`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks handed out. A reallocation counts as one, whether it moved or not: it is a visit to the allocator.
    pub allocations: u64,
    /// Bytes asked for by those; of a reallocation its growth only.
    pub allocated_bytes: u64,
    /// Blocks given back.
    pub frees: u64,
    /// Bytes given back, including what a reallocation shrank by.
    pub freed_bytes: u64,
}

impl Counts {
    /// What was added since `earlier`, a count of the same scope taken before this one.
    pub fn since(self, earlier: Counts) -> Counts {
        Counts {
            allocations: self.allocations - earlier.allocations,
            allocated_bytes: self.allocated_bytes - earlier.allocated_bytes,
            frees: self.frees - earlier.frees,
            freed_bytes: self.freed_bytes - earlier.freed_bytes,
        }
    }

    /// Bytes still held of those counted. Negative if the scope gave back what an earlier one had asked for, or one
    /// thread what another had.
    pub fn live_bytes(self) -> i64 {
        self.allocated_bytes as i64 - self.freed_bytes as i64
    }
}

/// The process's count of one kind of event.
struct Counter {
    events: AtomicU64,
    bytes: AtomicU64,
}

static PROCESS_ALLOCATED: Counter = Counter { events: AtomicU64::new(0), bytes: AtomicU64::new(0) };
static PROCESS_FREED: Counter = Counter { events: AtomicU64::new(0), bytes: AtomicU64::new(0) };

thread_local! {
    // `const` and without a destructor: touching it from inside the allocator neither allocates nor registers anything.
    static THREAD: Cell<Counts> = const {
        Cell::new(Counts { allocations: 0, allocated_bytes: 0, frees: 0, freed_bytes: 0 })
    };
}

/// Everything the calling thread did so far.
pub fn on_this_thread() -> Counts {
    THREAD.with(Cell::get)
}

/// Everything all threads did so far, those that ended included. Exact when the other threads are at rest.
pub fn in_process() -> Counts {
    Counts {
        allocations: PROCESS_ALLOCATED.events.load(Ordering::Relaxed),
        allocated_bytes: PROCESS_ALLOCATED.bytes.load(Ordering::Relaxed),
        frees: PROCESS_FREED.events.load(Ordering::Relaxed),
        freed_bytes: PROCESS_FREED.bytes.load(Ordering::Relaxed),
    }
}

/// Runs `work` and says what it asked of the allocator on this thread.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Counts) {
    let before = on_this_thread();
    let value = work();
    (value, on_this_thread().since(before))
}

/// Panics unless [`CountingAllocator`] is this process's allocator: without it every budget of zero would hold.
pub fn assert_installed() {
    let (block, counts) = count(|| std::hint::black_box(Box::new(0u64)));
    drop(block);
    assert!(counts.allocations >= 1, "CountingAllocator is not the #[global_allocator] of this binary");
}

fn note_allocated(events: u64, bytes: usize) {
    PROCESS_ALLOCATED.events.fetch_add(events, Ordering::Relaxed);
    PROCESS_ALLOCATED.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    on_thread(|counts| {
        counts.allocations += events;
        counts.allocated_bytes += bytes as u64;
    });
}

fn note_freed(events: u64, bytes: usize) {
    PROCESS_FREED.events.fetch_add(events, Ordering::Relaxed);
    PROCESS_FREED.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    on_thread(|counts| {
        counts.frees += events;
        counts.freed_bytes += bytes as u64;
    });
}

fn on_thread(change: impl FnOnce(&mut Counts)) {
    // A thread being torn down may free after its locals are gone; the process's counters have it.
    let _ = THREAD.try_with(|cell| {
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    });
}

// SAFETY: every call is forwarded unchanged to `System`, whose contract is the one asked for; the counting around it
// touches no memory of the blocks, cannot unwind (wrapping is impossible before 2^64 events) and does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, passed on as it is.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            note_allocated(1, layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            note_allocated(1, layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note_freed(1, layout.size());
        // SAFETY: the caller got `block` from this allocator with `layout`, so `System` handed it out.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; the caller vouches for `new_size`.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            note_allocated(1, new_size.saturating_sub(layout.size()));
            note_freed(0, layout.size().saturating_sub(new_size));
        }
        moved
    }
}
