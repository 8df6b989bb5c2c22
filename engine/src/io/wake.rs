//! Waking a shard out of its `enter`, from another shard or from a thread without a ring.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Wakes one shard from any thread. Cheap to clone; outlives the shard harmlessly.
#[derive(Clone, Debug)]
pub struct WakeHandle(Target);

#[derive(Clone, Debug)]
enum Target {
    /// A real ring polls this eventfd.
    Event(Arc<File>),
    /// A simulated ring looks at this flag.
    Flag(Arc<AtomicBool>),
}

impl WakeHandle {
    /// Makes the shard's current or next `enter` return with `Completion::Woken`. Never blocks.
    pub fn wake(&self) {
        match &self.0 {
            // The only possible failure is a full counter (2^64 - 2 wakes): then the shard is awake anyway.
            Target::Event(event) => drop((&**event).write(&1_u64.to_ne_bytes())),
            Target::Flag(flag) => flag.store(true, Ordering::Release),
        }
    }

    /// A handle that sets a flag, for a simulated ring.
    pub(super) fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self(Target::Flag(flag))
    }
}

/// How the rings of one engine find each other: one row per shard, made before the shards start.
#[derive(Debug)]
pub struct RingFds {
    rows: Box<[Row]>,
}

#[derive(Debug)]
struct Row {
    /// Descriptor of the shard's ring while it runs, else -1.
    ring: AtomicI32,
    event: Arc<File>,
}

impl RingFds {
    /// Rows for `shards` shards, none of them running yet.
    ///
    /// # Errors
    /// When the process has no descriptors left (each shard needs one eventfd).
    pub fn new(shards: u8) -> io::Result<Arc<Self>> {
        let row = |_| Ok(Row { ring: AtomicI32::new(-1), event: Arc::new(super::uring::eventfd()?) });
        Ok(Arc::new(Self { rows: (0..shards).map(row).collect::<io::Result<_>>()? }))
    }

    /// The handle that wakes `shard`, valid before the shard starts and after it ends.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn wake_handle(&self, shard: u8) -> WakeHandle {
        WakeHandle(Target::Event(self.rows[shard as usize].event.clone()))
    }

    /// The shard's eventfd, for its ring to poll.
    pub(super) fn event(&self, shard: u8) -> BorrowedFd<'_> {
        self.rows[shard as usize].event.as_fd()
    }

    /// The ring of a running shard.
    pub(super) fn ring(&self, shard: u8) -> Option<i32> {
        let fd = self.rows[shard as usize].ring.load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }

    /// The shard's ring has started (or, with -1, stopped).
    pub(super) fn set_ring(&self, shard: u8, fd: i32) {
        self.rows[shard as usize].ring.store(fd, Ordering::Release);
    }

    /// Wakes `shard` through its eventfd.
    pub(super) fn wake(&self, shard: u8) {
        self.wake_handle(shard).wake();
    }

    /// Number of rows.
    pub fn shards(&self) -> u8 {
        self.rows.len() as u8
    }
}
