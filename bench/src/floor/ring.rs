//! Bare io_uring sends on registered files. Together with the counting allocator, the only `unsafe` of this crate:
//! a submission names a buffer by address.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;

use super::peer::SEND_FLAGS;

/// Submission entries: the most that one enter can carry.
const ENTRIES: u32 = 4096;
/// Empties a place in the registered file table.
const NO_FILE: i32 = -1;

/// A ring of its own for sending. Belongs to the thread that made it.
pub(super) struct Ring {
    ring: IoUring,
    enter_sends_max: usize,
    staged: Vec<u32>,
    completed: Vec<(u32, i32)>,
}

impl Ring {
    /// Fails if the kernel has no io_uring, or `files_max` exceeds the descriptor limit.
    pub(super) fn new(files_max: u32, enter_sends_max: u32) -> io::Result<Ring> {
        if !(1..=ENTRIES).contains(&enter_sends_max) {
            let why = format!("sends per enter must be 1 to {ENTRIES}, not {enter_sends_max}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES)?;
        ring.submitter().register_files_sparse(files_max)?;
        Ok(Ring { ring, enter_sends_max: enter_sends_max as usize, staged: Vec::new(), completed: Vec::new() })
    }

    pub(super) fn add(&mut self, slot: u32, socket: impl AsFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[socket.as_fd().as_raw_fd()]).map(drop)
    }

    pub(super) fn remove(&mut self, slot: u32) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[NO_FILE]).map(drop)
    }

    /// Notes that `slot` gets the next buffer.
    pub(super) fn stage(&mut self, slot: u32) {
        self.staged.push(slot);
    }

    /// Sends `bytes` to all staged slots, at most `enter_sends_max` in one enter, and reports each result.
    pub(super) fn send_staged(&mut self, bytes: &[u8], mut report: impl FnMut(u32, Result<usize, Errno>)) {
        let staged = std::mem::take(&mut self.staged);
        for slots in staged.chunks(self.enter_sends_max) {
            self.submit(slots, bytes);
            self.reap(slots.len());
            for (slot, result) in self.completed.drain(..) {
                report(slot, usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result)));
            }
        }
        self.staged = staged;
        self.staged.clear();
    }

    fn submit(&mut self, slots: &[u32], bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a batch is far below 4 GiB");
        let mut queue = self.ring.submission();
        for &slot in slots {
            let entry = opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), length)
                .flags(SEND_FLAGS.bits() as i32)
                .build()
                .user_data(u64::from(slot));
            // SAFETY: the kernel reads `bytes` until this entry completes. The only caller, `send_staged`, borrows
            // `bytes` for its whole duration and leaves only after `reap` has seen a completion for every entry (or
            // the process has ended). Each entry stands alone, so no other rule of the queue applies.
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("a chunk is no longer than the queue, which every enter empties");
        }
    }

    /// Enters the ring until `count` completions were seen. Foreign code runs only after that.
    fn reap(&mut self, count: usize) {
        while self.completed.len() < count {
            match self.ring.submit_and_wait(count - self.completed.len()) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(error) => {
                    // Sends may be under way on a buffer that the caller is about to reuse.
                    eprintln!("floor: io_uring_enter failed with sends under way: {error}");
                    std::process::abort();
                }
            }
            let completions = self.ring.completion();
            self.completed.extend(completions.map(|entry| (entry.user_data() as u32, entry.result())));
        }
    }
}
