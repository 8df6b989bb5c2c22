//! The real ring: the only room that knows the `io-uring` crate and the raw calls around it.
//!
//! How requests reach the kernel:
//!
//! ```text
//!  wake            -> wakes  (a bit per shard)   --.
//!  poll, recv, ... -> stage  (entries, in order) --+--> submission queue --> enter --> completion queue
//!  send, fan       ---------------------------------^     wakes first, then the stage, then sends
//! ```
//!
//! Sends are written straight into the submission queue; whatever was staged before them goes in first, so the
//! order of calls is the order of execution. Wakes go in front as long as no send is queued; later ones are written
//! to the other shard's eventfd at once.
//!
//! `user_data` is op (8 bits) | generation or tag (24) | slot, listener or shard (32).

mod affinity;
mod books;
mod error;
mod request;
mod socket;

pub use affinity::{pin_to_core, refuse_huge_pages};
pub use error::{RingError, RingStep};
pub(super) use socket::eventfd;

use super::wake::{RingFds, WakeHandle};
use super::{
    COPY_BYTES_MAX, Completion, Dial, Errno, GATHER_MAX, Generation, Io, IoCounters, LISTENERS_MAX, Slot, Tag, Wait,
};
use crate::buf::recv_pool::PoolMemory;
use crate::buf::{Extent, Logs, RecvPool};
use books::{Books, Cqe, Listener};
use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue};
use request::{Op, token};
use socket::RawAddress;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Sends that go to the kernel together while a long fan is still being written, so that the first receivers do not
/// wait for the last entry. 1,024 entries are 64 KiB: they stay in the cache between being written and being read, and
/// a broadcast to a thousand leaves with the same system call that waits for its completions.
const FAN_SLICE: usize = 1024;

/// Requests other than sends that wait for the next hand-over, at most (and at most half the submission queue).
const STAGE_MAX: usize = 256;

/// Gathered sends per hand-over; their address lists must stay put until then.
const GATHERS_MAX: usize = 256;

/// Socket addresses per hand-over (two per connect).
const ADDRESSES_MAX: usize = 256;

/// Smallest submission queue: room for the longest chain of linked requests in half of it.
const SQ_ENTRIES_MIN: u32 = 16;

/// Pause when the kernel has no memory for a request just now.
const BACK_OFF: Duration = Duration::from_millis(1);

/// What a [`Uring`] is made from.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Number of this shard, its row in `ring_fds`.
    pub shard: u8,
    /// Size of the table of direct descriptors: connections of this shard. At most `RLIMIT_NOFILE`, and 2^20.
    pub slots: u32,
    /// Submission queue entries, a power of two from 16 to 32 768. Usual: 4 096.
    pub sq_entries: u32,
    /// Completion queue entries, a power of two, at least `sq_entries`, at most 65 536. Usual: 16 384.
    pub cq_entries: u32,
    /// Where extents live.
    pub logs: Logs,
    /// The rings of this engine.
    pub ring_fds: Arc<RingFds>,
}

/// What this kernel offers beyond the needed minimum.
#[derive(Clone, Copy, Debug)]
struct Features {
    absolute_deadline: bool,
    no_iowait: bool,
    vectored_send: bool,
    bind: bool,
}

/// One gathered send's address list, read by the kernel at hand-over.
struct Gather {
    runs: [libc::iovec; GATHER_MAX],
    message: libc::msghdr,
}

/// One shard's ring. Lives and dies on the thread that made it (the kernel enforces it, and so does the type: it is
/// neither `Send` nor `Sync`).
pub struct Uring {
    // Field order is the order of the end: the ring goes before the memory that it points into.
    ring: IoUring,
    pool_memory: Arc<PoolMemory>,
    /// Index of the registered ring descriptor, if registering worked.
    registered: Option<u32>,
    logs: Logs,
    ring_fds: Arc<RingFds>,
    shard: u8,
    features: Features,
    wakes: u64,
    stage: Vec<squeue::Entry>,
    stage_max: usize,
    stash: Vec<Cqe>,
    gathers: Vec<Gather>,
    addresses: Vec<RawAddress>,
    /// Bytes of sends that are not in the log, until they are handed over. Room is taken by the first of them, once.
    copies: Vec<u8>,
    books: Books,
    counters: IoCounters,
    user_timeout: Duration,
    /// A hand-over in the middle of a turn failed for good; the next `enter` reports it.
    broken: Option<i32>,
    thread: PhantomData<*const ()>,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Uring");
        out.field("shard", &self.shard).field("fd", &self.ring.as_raw_fd()).field("features", &self.features);
        out.field("staged", &self.stage.len()).field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// The argument of an extended `enter` (`struct io_uring_getevents_arg`).
#[repr(C)]
struct EnterArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    time: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTime {
    seconds: i64,
    nanoseconds: i64,
}

impl KernelTime {
    fn from_us(us: u64) -> Self {
        Self { seconds: (us / 1_000_000) as i64, nanoseconds: (us % 1_000_000 * 1_000) as i64 }
    }
}

impl Uring {
    /// Sets up this thread's ring: queues, table of direct descriptors, receive buffers, wake-up poll. The thread
    /// must be the one that will use it. Blocks `SIGPIPE` on the thread (`sendfile` cannot be told otherwise).
    ///
    /// # Errors
    /// [`RingError`] with cause and remedy. Nothing falls back silently.
    ///
    /// # Panics
    /// If the queue sizes are out of range or the shard has no row in `ring_fds`: both come from checked limits.
    pub fn new(options: UringOptions, pool: &RecvPool) -> Result<Self, RingError> {
        assert!(options.sq_entries >= SQ_ENTRIES_MIN && options.cq_entries >= options.sq_entries);
        assert!(options.shard < options.ring_fds.shards());
        socket::block_sigpipe();
        let ring = create(&options)?;
        let submitter = ring.submitter();
        let step = RingStep::FileTable { slots: options.slots };
        submitter.register_files_sparse(options.slots).map_err(|error| RingError::new(step, &error))?;
        let memory = pool.memory().clone();
        // SAFETY: the ring of buffers and the buffers live in `memory`, which `Uring` keeps until its ring is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(memory.ring_address(), memory.entries(), request::BUFFER_GROUP, 0)
        }
        .map_err(|error| RingError::new(RingStep::BufferRing, &error))?;
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe).map_err(|error| RingError::new(RingStep::Probe, &error))?;
        let parameters = ring.params();
        let features = Features {
            // Absolute deadlines came in the same release (6.12) as the minimum wait.
            absolute_deadline: parameters.is_feature_min_timeout(),
            no_iowait: parameters.is_feature_no_iowait(),
            vectored_send: false,
            bind: probe.is_supported(opcode::Bind::CODE),
        };
        let mut uring = Self {
            registered: register_ring_fd(ring.as_raw_fd()),
            ring,
            pool_memory: memory,
            logs: options.logs,
            ring_fds: options.ring_fds,
            shard: options.shard,
            features,
            wakes: 0,
            stage: Vec::with_capacity(STAGE_MAX),
            stage_max: STAGE_MAX.min(options.sq_entries as usize / 2),
            stash: Vec::new(),
            gathers: Vec::with_capacity(GATHERS_MAX),
            addresses: Vec::with_capacity(ADDRESSES_MAX),
            copies: Vec::new(),
            books: Books::default(),
            counters: IoCounters::default(),
            user_timeout: socket::USER_TIMEOUT,
            broken: None,
            thread: PhantomData,
        };
        uring.start().map_err(|error| RingError::new(RingStep::Start, &error))?;
        Ok(uring)
    }

    /// How long bytes that were sent on sockets of later listeners may stay unacknowledged before the kernel gives the
    /// connection up.
    pub fn set_user_timeout(&mut self, timeout: Duration) {
        self.user_timeout = timeout;
    }

    /// A handle that wakes this shard from any thread.
    pub fn wake_handle(&self) -> WakeHandle {
        self.ring_fds.wake_handle(self.shard)
    }

    /// Arms the poll of this shard's eventfd, tries which kind of gathered send the kernel takes, and lets the
    /// other shards know this ring.
    fn start(&mut self) -> io::Result<()> {
        let byte = [0_u8];
        let run = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
        let probe = request::send_runs(Slot(0), &raw const run, 1).user_data(token(Op::Ignore, 0, 0));
        self.push(&probe);
        self.enter_kernel(1, 1, EnterFlags::GETEVENTS, None).map_err(io::Error::from_raw_os_error)?;
        let answer = self.ring.completion().next().map(|cqe| cqe.result());
        // Slot 0 is empty: EBADF means that everything before looking at the slot was understood.
        self.features.vectored_send = answer == Some(-libc::EBADF);
        self.stage_one(request::poll_event(self.ring_fds.event(self.shard).as_raw_fd()));
        self.ring_fds.set_ring(self.shard, self.ring.as_raw_fd());
        Ok(())
    }

    /// One raw `io_uring_enter`: submitted requests, or the error number.
    fn enter_kernel(
        &self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
        argument: Option<&EnterArgument>,
    ) -> Result<u32, i32> {
        let (fd, registered) = match self.registered {
            Some(index) => (index as RawFd, EnterFlags::REGISTERED_RING),
            None => (self.ring.as_raw_fd(), EnterFlags::empty()),
        };
        let flags = flags | registered | if argument.is_some() { EnterFlags::EXT_ARG } else { EnterFlags::empty() };
        let bytes = argument.map_or(0, |_| size_of::<EnterArgument>());
        let argument = argument.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the kernel reads `argument` (and the time it points to) during the call only, and the requests
        // in the submission queue, whose memory lives until they complete: log bytes, copies and addresses are read
        // before the call returns (sends never wait), receive buffers belong to `pool_memory`.
        let result =
            unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, submit, want, flags.bits(), argument, bytes) };
        if result >= 0 {
            Ok(result as u32)
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
        }
    }

    /// Copies an entry into the submission queue, handing the queue over first if it is full.
    #[inline]
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: see `enter_kernel`: every pointer in an entry outlives the hand-over.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.hand_over();
            if self.broken.is_some() {
                return;
            }
        }
    }

    /// Queues an entry behind everything staged.
    fn stage_one(&mut self, entry: squeue::Entry) {
        self.stage_room(1);
        self.stage.push(entry);
    }

    /// Makes room for `count` linked entries: the stage moves as a whole, and a chain ends where a hand-over ends.
    fn stage_room(&mut self, count: usize) {
        if self.stage.len() + count > self.stage_max {
            self.flush_stage();
        }
    }

    /// Moves wakes and staged entries into the submission queue.
    fn flush_stage(&mut self) {
        while self.wakes != 0 {
            let shard = self.wakes.trailing_zeros() as u8;
            self.wakes &= self.wakes - 1;
            match self.ring_fds.ring(shard) {
                Some(fd) => self.push(&request::wake(fd, shard)),
                None => self.ring_fds.wake(shard),
            }
        }
        if self.stage.is_empty() {
            return;
        }
        if self.room() < self.stage.len() {
            self.hand_over();
        }
        let mut queue = self.ring.submission();
        for entry in self.stage.drain(..) {
            // SAFETY: see `enter_kernel`. There is room, unless the ring is broken, which the next `enter` reports.
            let _ = unsafe { queue.push(&entry) };
        }
    }

    fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Submits what is in the queue in the middle of a turn, without running deferred work and without waiting.
    /// Sends and receives are carried out; their completions wait in the completion queue, or in the stash when
    /// that could overflow.
    fn hand_over(&mut self) {
        loop {
            let queued = self.ring.submission().len() as u32;
            if queued == 0 || self.broken.is_some() {
                break;
            }
            let result = self.enter_kernel(queued, 0, EnterFlags::empty(), None);
            self.counters.enters += 1;
            match result {
                Ok(submitted) => self.counters.submissions += u64::from(submitted),
                Err(libc::EINTR) => {}
                Err(libc::EBUSY) => self.stash_completions(),
                Err(libc::EAGAIN | libc::ENOMEM) => std::thread::sleep(BACK_OFF),
                Err(errno) => self.broken = Some(errno),
            }
        }
        self.after_hand_over();
        let capacity = self.ring.submission().capacity();
        let completions = self.ring.completion();
        if completions.len() + capacity > completions.capacity() {
            drop(completions);
            self.stash_completions();
        }
    }

    fn after_hand_over(&mut self) {
        self.gathers.clear();
        self.copies.clear();
        if self.stage.is_empty() {
            self.addresses.clear();
        }
        if self.ring.submission().cq_overflow() {
            self.counters.overflows += 1;
        }
    }

    fn stash_completions(&mut self) {
        self.stash.extend(self.ring.completion().map(Cqe::from));
    }

    /// Submits, runs deferred work, waits: the one system call of a turn.
    fn enter_and_wait(&mut self, wait: Wait, stashed: u32) -> io::Result<()> {
        let mut want = wait.want.saturating_sub(stashed);
        loop {
            if let Some(errno) = self.broken {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let queued = self.ring.submission().len() as u32;
            let result = self.enter_once(queued, want, wait);
            self.counters.enters += 1;
            match result {
                Ok(submitted) => {
                    self.counters.submissions += u64::from(submitted);
                    if submitted >= queued {
                        return Ok(());
                    }
                }
                Err(libc::ETIME) => return Ok(()),
                Err(libc::EINTR) => {}
                Err(libc::EBUSY) => {
                    // The completion queue is full: make room first. There is something to handle: do not wait.
                    self.stash_completions();
                    want = 0;
                }
                Err(libc::EAGAIN | libc::ENOMEM) => std::thread::sleep(BACK_OFF),
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    fn enter_once(&self, submit: u32, want: u32, wait: Wait) -> Result<u32, i32> {
        let mut flags = EnterFlags::GETEVENTS;
        if want == 0 {
            return self.enter_kernel(submit, 0, flags, None);
        }
        if self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let time = if self.features.absolute_deadline {
            flags |= EnterFlags::ABS_TIMER;
            KernelTime::from_us(wait.deadline_us)
        } else {
            KernelTime::from_us(wait.deadline_us.saturating_sub(socket::monotonic_us()))
        };
        let argument = EnterArgument {
            signal_mask: 0,
            signal_mask_bytes: 0,
            min_wait_us: if self.features.absolute_deadline && want > 1 { wait.min_wait_us } else { 0 },
            time: if wait.deadline_us == u64::MAX { 0 } else { std::ptr::from_ref(&time) as u64 },
        };
        self.enter_kernel(submit, want, flags, Some(&argument))
    }

    /// Turns kernel completions into ours. First all are taken, then the kernel sees the room.
    fn reap(&mut self, pool: &mut RecvPool, completions: &mut Vec<Completion>) {
        let queue = self.ring.completion();
        self.counters.completions += queue.len() as u64;
        completions.reserve(queue.len());
        for cqe in queue {
            self.books.convert(Cqe::from(cqe), pool, completions);
        }
    }

    fn reap_stash(&mut self, pool: &mut RecvPool, completions: &mut Vec<Completion>) {
        self.counters.completions += self.stash.len() as u64;
        for cqe in self.stash.drain(..) {
            self.books.convert(cqe, pool, completions);
        }
    }

    /// Requests that completions ask for (a poll of the eventfd that ended, a socket that did not connect).
    fn follow_up(&mut self) {
        if std::mem::take(&mut self.books.event_poll_ended) {
            self.stage_one(request::poll_event(self.ring_fds.event(self.shard).as_raw_fd()));
        }
        while let Some(slot) = self.books.failed_connects.pop() {
            self.stage_one(request::close(slot, token(Op::Ignore, 0, 0)).flags(squeue::Flags::SKIP_SUCCESS));
        }
        while let Some(shard) = self.books.failed_wakes.pop() {
            self.ring_fds.wake(shard);
        }
    }

    /// Keeps an address where the kernel will find it at the next hand-over.
    fn keep_address(&mut self, address: SocketAddr) -> (*const libc::sockaddr, libc::socklen_t) {
        let (raw, len) = RawAddress::new(address);
        // Never beyond the capacity: pointers to earlier addresses stay valid.
        debug_assert!(self.addresses.len() < self.addresses.capacity());
        self.addresses.push(raw);
        (self.addresses[self.addresses.len() - 1].as_ptr(), len)
    }

    /// A direct socket without the ring's help: made, bound, and put into the table by system calls.
    fn place_socket(&mut self, slot: Slot, local: Option<SocketAddr>, remote: SocketAddr) -> io::Result<()> {
        let socket = socket::outgoing(local, remote)?;
        // The slot's last tenant may still be on its way out.
        self.flush_stage();
        self.hand_over();
        self.ring.submitter().register_files_update(slot.0, &[socket.as_raw_fd()]).map(drop)
    }
}

impl Io for Uring {
    fn now_us(&self) -> u64 {
        socket::monotonic_us()
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.books.listeners.len() == LISTENERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "at most 8 listeners per shard"));
        }
        let (socket, bound) = socket::listener(address, self.user_timeout)?;
        self.books.listeners.push(Listener { socket, armed: false });
        Ok(bound)
    }

    fn accept(&mut self) -> u8 {
        let mut armed = 0;
        for index in 0..self.books.listeners.len() {
            let listener = &mut self.books.listeners[index];
            if !std::mem::replace(&mut listener.armed, true) {
                let entry = request::accept(listener.socket.as_raw_fd(), index as u32);
                self.stage_one(entry);
                armed += 1;
            }
        }
        armed
    }

    fn cancel_accept(&mut self) {
        for index in 0..self.books.listeners.len() {
            if self.books.listeners[index].armed {
                self.stage_one(request::cancel(token(Op::Accept, 0, index as u32)));
            }
        }
    }

    fn poll(&mut self, slot: Slot, generation: Generation) {
        self.stage_one(request::poll_in(slot, generation));
    }

    fn recv(&mut self, slot: Slot, generation: Generation) {
        self.counters.recvs += 1;
        self.stage_one(request::recv(slot, generation));
    }

    fn send(&mut self, slot: Slot, tag: Tag, bytes: Extent) {
        self.counters.sends += 1;
        let start = self.logs.pointer(bytes);
        self.flush_stage();
        self.push(&request::send(slot, tag, start, bytes.len));
    }

    fn send_gather(&mut self, slot: Slot, tag: Tag, runs: &[Extent]) {
        assert!(runs.len() <= GATHER_MAX, "more runs than one send takes");
        self.counters.sends += 1;
        self.flush_stage();
        // Make room first: handing over forgets the lists of earlier sends, and must not forget this one.
        if self.gathers.len() == GATHERS_MAX || self.room() == 0 {
            self.hand_over();
        }
        let mut list = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; GATHER_MAX];
        for (entry, &run) in list.iter_mut().zip(runs) {
            *entry = libc::iovec { iov_base: self.logs.pointer(run).cast_mut().cast(), iov_len: run.len as usize };
        }
        // Never beyond the capacity: pointers to earlier lists stay valid until the hand-over clears them.
        self.gathers.push(Gather { runs: list, message: request::empty_message() });
        let index = self.gathers.len() - 1;
        let gather = &mut self.gathers[index];
        let entry = if self.features.vectored_send {
            request::send_runs(slot, gather.runs.as_ptr(), runs.len() as u32)
        } else {
            gather.message.msg_iov = gather.runs.as_mut_ptr();
            gather.message.msg_iovlen = runs.len() as _;
            request::send_message(slot, &raw const gather.message)
        };
        self.push(&entry.user_data(token(Op::Send, tag, slot.0)));
    }

    fn send_copy(&mut self, slot: Slot, tag: Tag, bytes: &[u8]) {
        assert!(bytes.len() <= COPY_BYTES_MAX, "more bytes than one copy takes");
        self.counters.sends += 1;
        self.flush_stage();
        if self.copies.capacity() < COPY_BYTES_MAX {
            self.copies.reserve_exact(COPY_BYTES_MAX);
        }
        // Make room first: handing over forgets earlier copies, and must not forget this one.
        if self.copies.len() + bytes.len() > COPY_BYTES_MAX || self.room() == 0 {
            self.hand_over();
        }
        let start = self.copies.len();
        // Never beyond the capacity: pointers to earlier copies stay valid until the hand-over clears them.
        self.copies.extend_from_slice(bytes);
        self.push(&request::send(slot, tag, self.copies[start..].as_ptr(), bytes.len() as u32));
    }

    fn fan(&mut self, bytes: Extent, slots: &[Slot], tag: Tag) {
        self.counters.sends += slots.len() as u64;
        let start = self.logs.pointer(bytes);
        self.flush_stage();
        let slice = FAN_SLICE.min(self.ring.submission().capacity());
        let mut slices = slots.chunks(slice).peekable();
        while let Some(chunk) = slices.next() {
            if self.room() < chunk.len() {
                self.hand_over();
            }
            let mut queue = self.ring.submission();
            for &slot in chunk {
                // SAFETY: see `enter_kernel`; the log bytes outlive the hand-over. Room was made above (a failed
                // hand-over leaves a broken ring, and the next `enter` says so).
                let _ = unsafe { queue.push(&request::send(slot, tag, start, bytes.len)) };
            }
            drop(queue);
            if slices.peek().is_some() {
                self.hand_over();
            }
        }
    }

    fn poll_out(&mut self, slot: Slot, generation: Generation) {
        self.stage_one(request::poll_out(slot, generation));
    }

    fn lend(&mut self, slot: Slot, generation: Generation) {
        self.books.begin_loan(slot, generation);
        self.stage_one(request::install(slot, generation));
    }

    fn unlend(&mut self, slot: Slot) -> bool {
        self.books.end_loan(slot)
    }

    fn introduce(&mut self, slot: Slot, generation: Generation) {
        self.stage_one(request::introduce(slot, generation));
    }

    fn send_file(&mut self, slot: Slot, bytes: Extent) -> Result<u32, Errno> {
        let socket = self.books.lent(slot).ok_or(Errno(libc::EBADF))?;
        self.counters.send_files += 1;
        // The caller has marked it already; doing it again costs one store and forgives a slip.
        self.logs.mark_lent(bytes.segment);
        socket::send_file(socket, self.logs.file(bytes.segment.shard()), self.logs.file_offset(bytes), bytes.len)
    }

    fn shutdown(&mut self, slot: Slot) {
        if let Some(socket) = self.books.lent(slot) {
            socket::finish(socket);
        }
    }

    fn hand_over(&mut self, slot: Slot, generation: Generation, shard: u8, parcel: u32) {
        match self.ring_fds.ring(shard) {
            Some(fd) => self.stage_one(request::hand_over(fd, slot, generation, parcel)),
            None => {
                let result = Err(Errno(libc::EOWNERDEAD));
                self.books.ready.push(Completion::HandedOver { slot, generation, result });
            }
        }
    }

    fn close(&mut self, slot: Slot, generation: Generation, poll_armed: bool, poll_out_armed: bool) {
        self.books.end_loan(slot);
        let connecting = self.books.end_connect(slot, generation);
        self.stage_room(4);
        for (op, armed) in [(Op::Poll, poll_armed), (Op::PollOut, poll_out_armed), (Op::Connect, connecting)] {
            if armed {
                let cancel = request::cancel(token(op, generation.get(), slot.0));
                self.stage.push(cancel.flags(squeue::Flags::IO_HARDLINK));
            }
        }
        self.stage.push(request::close(slot, token(Op::Close, generation.get(), slot.0)));
    }

    fn wake(&mut self, shard: u8) {
        // A send is queued already, and a wake behind it would wait for it: take the short way.
        if shard == self.shard || !self.ring.submission().is_empty() {
            self.ring_fds.wake(shard);
        } else {
            self.wakes |= 1 << shard;
        }
    }

    fn enter(&mut self, wait: Wait, pool: &mut RecvPool, completions: &mut Vec<Completion>) -> io::Result<()> {
        assert!(Arc::ptr_eq(pool.memory(), &self.pool_memory), "a ring has one pool: the one it was made with");
        pool.publish();
        self.flush_stage();
        let stashed = (self.stash.len() + self.books.ready.len()) as u32;
        completions.append(&mut self.books.ready);
        self.reap_stash(pool, completions);
        self.enter_and_wait(wait, stashed)?;
        self.after_hand_over();
        self.reap_stash(pool, completions);
        self.reap(pool, completions);
        self.follow_up();
        Ok(())
    }

    fn counters(&self) -> IoCounters {
        self.counters
    }
}

impl Dial for Uring {
    fn connect(&mut self, slot: Slot, generation: Generation, local: Option<SocketAddr>, remote: SocketAddr) {
        self.books.begin_connect(slot, generation);
        let user_data = request::connect_token(slot, generation);
        self.stage_room(5);
        if self.addresses.len() + 2 > ADDRESSES_MAX {
            self.flush_stage();
            self.hand_over();
        }
        if self.features.bind {
            self.stage.push(request::connect_socket(slot, socket::family(remote), user_data));
            self.stage.push(request::connect_option(slot, libc::IPPROTO_TCP, libc::TCP_NODELAY, user_data));
            if let Some(local) = local {
                if local.port() == 0 {
                    let name = libc::IP_BIND_ADDRESS_NO_PORT;
                    self.stage.push(request::connect_option(slot, libc::IPPROTO_IP, name, user_data));
                }
                let address = self.keep_address(local);
                self.stage.push(request::connect_bind(slot, address, user_data));
            }
        } else if let Err(error) = self.place_socket(slot, local, remote) {
            self.books.end_connect(slot, generation);
            let result = Err(Errno(error.raw_os_error().unwrap_or(libc::EIO)));
            self.books.ready.push(Completion::Connected { slot, generation, result });
            return;
        }
        let address = self.keep_address(remote);
        self.stage.push(request::connect(slot, address, user_data));
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.ring_fds.set_ring(self.shard, -1);
        for listener in &self.books.listeners {
            socket::stop_listening(&listener.socket);
        }
        if let Some(index) = self.registered {
            unregister_ring_fd(self.ring.as_raw_fd(), index);
        }
    }
}

fn create(options: &UringOptions) -> Result<IoUring, RingError> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_taskrun_flag();
    builder.setup_submit_all().setup_cqsize(options.cq_entries).dontfork();
    builder.build(options.sq_entries).map_err(|error| RingError::new(RingStep::Create, &error))
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RegisterUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

fn register(ring: RawFd, operation: libc::c_uint, update: &mut RegisterUpdate) -> libc::c_long {
    // SAFETY: the kernel reads and writes the one `update`, which lives on the caller's stack frame.
    unsafe { libc::syscall(libc::SYS_io_uring_register, ring, operation, std::ptr::from_mut(update), 1) }
}

/// Saves the kernel a table walk per `enter`. `None` if it has no room (16 rings per thread): then without.
fn register_ring_fd(ring: RawFd) -> Option<u32> {
    let mut update = RegisterUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
    (register(ring, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset)
}

/// Without this the thread would keep the ring alive until it ends.
fn unregister_ring_fd(ring: RawFd, index: u32) {
    let mut update = RegisterUpdate { offset: index, reserved: 0, data: 0 };
    register(ring, UNREGISTER_RING_FDS, &mut update);
}
