//! The one door to the kernel. Everything above it speaks of slots and completions.
//!
//! [`Io`] is implemented by `Uring` (the real ring) and `Sim` (a seeded fake). One value serves one shard and lives
//! on that shard's thread. Requests are queued by the methods, handed over and answered by [`Io::enter`]. Nothing
//! ever calls back: answers are [`Completion`]s in the caller's vector, in the order the kernel gave them.
//!
//! Two seams exist for a second transmit back end (kernel TCP on loan to an XDP fast path): [`Io::fan`] sends the
//! same bytes to many slots, and bytes are kept until they are *released* (`Completion::Released`), which the ring
//! reports together with the send itself by setting [`Sent::released`].

pub mod probe;
pub mod sim;
pub mod uring;
pub mod wake;

pub use probe::Capabilities;
pub use uring::{RingError, RingStep, Uring, UringOptions};
pub use wake::{RingFds, WakeHandle};

use crate::buf::{Extent, RecvPool};
use std::net::{IpAddr, SocketAddr};

/// A connection's index: in the ring's table of direct descriptors and in every table of the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The bit of slots that no ring knows: connections without a socket of their own.
    const SESSION: u32 = 1 << 31;

    /// The slot of a session: a hub connection that is carried by one request after the other.
    pub fn session(index: u32) -> Self {
        Self(index | Self::SESSION)
    }

    /// Whether it has no socket.
    pub fn is_session(self) -> bool {
        self.0 & Self::SESSION != 0
    }

    /// Its place in the table of sockets, or of sessions.
    pub fn index(self) -> usize {
        (self.0 & !Self::SESSION) as usize
    }
}

/// Tells one tenant of a slot from the next. 24 bits, wraps. A completion of another generation is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation(u32);

impl Generation {
    /// Keeps the low 24 bits.
    pub fn new(value: u32) -> Self {
        Self(value & 0x00ff_ffff)
    }

    /// The number, below 2^24.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The next tenant's.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.0.wrapping_add(1))
    }
}

/// 24 bits of the caller's own that come back with a send. Not a generation: a send never outlives the `enter`
/// that submits it, so it cannot meet another tenant.
pub type Tag = u32;

/// A kernel error number, always positive (`libc::ECONNRESET` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// How long [`Io::enter`] may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Completions asked for. 0: submit, reap what is there, do not sleep. More than 20 is worth asking for under
    /// load: with deferred task work the kernel runs `max(20, want)` deferred items an enter.
    pub want: u32,
    /// With `want > 1`: after this long be content with one completion. 0: none.
    pub min_wait_us: u32,
    /// Give up at this time of [`Io::now_us`]'s clock with whatever is there.
    pub deadline_us: u64,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// `len` bytes in buffer `buffer` of the pool; give it back with `RecvPool::give_back`. `more`: the socket has
    /// more already, receive again.
    Data {
        /// Index into the shard's [`RecvPool`].
        buffer: u16,
        /// Bytes in it, at least 1.
        len: u32,
        /// More is waiting in the socket.
        more: bool,
    },
    /// The peer has finished sending.
    End,
    /// Nothing there; the armed poll will tell.
    WouldBlock,
    /// The pool was empty. The poll will not fire again for these bytes: retry.
    NoBuffers,
    /// The connection is broken.
    Failed(Errno),
}

/// How one send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes taken, possibly fewer than given; or the error (`EAGAIN`: the socket is full).
    pub result: Result<u32, Errno>,
    /// Bytes of this connection that the back end will never look at again. The ring: the same bytes it has just
    /// taken. A back end that retransmits from our memory: fewer, and `Completion::Released` brings the rest.
    pub released: u32,
}

/// One event from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A connection has come, in a slot that the kernel chose.
    Accepted {
        /// The new connection.
        slot: Slot,
        /// Where it came in: the nth listener of [`Io::listen`].
        listener: u8,
    },
    /// The multishot accept is over (table full, cancelled, error): no more `Accepted` until [`Io::accept`].
    AcceptEnded {
        /// Why.
        errno: Errno,
    },
    /// There is something to read, or the peer has hung up. Edge-like: one per arrival.
    Readable {
        /// The connection.
        slot: Slot,
        /// Its tenant when the poll was armed.
        generation: Generation,
        /// `false`: the multishot poll is over and must be armed again (or the connection is closing).
        armed: bool,
    },
    /// The answer to one [`Io::recv`]. A stale `Data` must still be given back to the pool.
    Received {
        /// The connection.
        slot: Slot,
        /// Its tenant when the receive was queued.
        generation: Generation,
        /// What came.
        received: Received,
    },
    /// The answer to one send of [`Io::send`], [`Io::send_gather`] or [`Io::fan`].
    Sent {
        /// The connection.
        slot: Slot,
        /// What was given with the send.
        tag: Tag,
        /// How it went.
        sent: Sent,
    },
    /// Bytes up to here will never be looked at again (not produced by the ring, see [`Sent::released`]).
    Released {
        /// The connection.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
        /// Bytes released since the last report.
        bytes: u32,
    },
    /// The socket has room again; the answer to [`Io::poll_out`].
    Writable {
        /// The connection.
        slot: Slot,
        /// Its tenant when the poll was armed.
        generation: Generation,
    },
    /// The answer to [`Io::lend`]: from now on [`Io::send_file`] works for this slot.
    Lent {
        /// The connection.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
        /// The error, if it could not be lent.
        result: Result<(), Errno>,
    },
    /// The answer to [`Io::hand_over`]. The slot is to be closed in any case; if the other shard has the socket, the peer
    /// notices nothing of it.
    HandedOver {
        /// The connection.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
        /// The error, if the other shard did not get it (`ENFILE`: its table is full).
        result: Result<(), Errno>,
    },
    /// Another shard has handed over a socket, in a slot that the kernel chose.
    Adopted {
        /// The new connection.
        slot: Slot,
        /// What the other shard gave with it.
        parcel: u32,
    },
    /// The slot's descriptor is closed; the kernel may hand the slot out again at any moment.
    Closed {
        /// The connection that was.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
    },
    /// The answer to [`Dial::connect`].
    Connected {
        /// The connection.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
        /// The error, if it failed; the slot is then empty again.
        result: Result<(), Errno>,
    },
    /// The answer to [`Io::introduce`].
    Introduced {
        /// The connection.
        slot: Slot,
        /// Its tenant.
        generation: Generation,
        /// Where it comes from; `None`: it has gone already, or the kernel would not say.
        peer: Option<IpAddr>,
    },
    /// Another shard, or a thread without a ring, asked for attention.
    Woken,
}

/// What an [`Io`] counts. All monotonic. Counts, not times: tests assert on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// `enter` system calls.
    pub enters: u64,
    /// Requests handed over.
    pub submissions: u64,
    /// Sends among them.
    pub sends: u64,
    /// Receives among them.
    pub recvs: u64,
    /// `sendfile` system calls.
    pub send_files: u64,
    /// Completions taken.
    pub completions: u64,
    /// Times the completion queue had overflowed.
    pub overflows: u64,
}

/// One shard's door to the kernel.
pub trait Io {
    /// Monotonic time in microseconds, and the clock of [`Wait::deadline_us`].
    fn now_us(&self) -> u64;

    /// Binds this shard's listener (`SO_REUSEPORT`; accepted sockets inherit `TCP_NODELAY`, `TCP_NOTSENT_LOWAT`,
    /// `TCP_USER_TIMEOUT`). Returns the bound address, which tells the port when 0 was asked for. At most
    /// `LISTENERS_MAX` (8) times.
    fn listen(&mut self, address: SocketAddr) -> std::io::Result<SocketAddr>;

    /// Arms multishot accept on every listener that is not armed, and says on how many.
    fn accept(&mut self) -> u8;

    /// Cancels the armed accepts; `AcceptEnded` follows for each.
    fn cancel_accept(&mut self);

    /// Arms the multishot poll for input. Once per connection, and again after `Readable { armed: false }`.
    fn poll(&mut self, slot: Slot, generation: Generation);

    /// Queues one receive that never waits.
    fn recv(&mut self, slot: Slot, generation: Generation);

    /// Queues one send that never waits. At most one send per slot may be queued between two `enter`s.
    fn send(&mut self, slot: Slot, tag: Tag, bytes: Extent);

    /// The same for up to [`GATHER_MAX`] runs, in order.
    fn send_gather(&mut self, slot: Slot, tag: Tag, runs: &[Extent]);

    /// Queues one send of up to [`COPY_BYTES_MAX`] bytes that are not in the log. They are copied now.
    fn send_copy(&mut self, slot: Slot, tag: Tag, bytes: &[u8]);

    /// Sends the same bytes to many slots: one `Sent` each, all with the same `tag`.
    fn fan(&mut self, bytes: Extent, slots: &[Slot], tag: Tag) {
        for &slot in slots {
            self.send(slot, tag, bytes);
        }
    }

    /// Arms a one-shot poll for room to write.
    fn poll_out(&mut self, slot: Slot, generation: Generation);

    /// Asks for a process descriptor for the slot, needed by [`Io::send_file`]; answered by `Lent`.
    fn lend(&mut self, slot: Slot, generation: Generation);

    /// Gives the process descriptor back, if there is one. Returns whether there was.
    fn unlend(&mut self, slot: Slot) -> bool;

    /// Asks where the slot comes from: accepts of the ring do not say. Answered by `Introduced`; costs a descriptor of
    /// the process for the length of one `enter`.
    fn introduce(&mut self, slot: Slot, generation: Generation);

    /// Sends from the log's pages without copying, now, without waiting. The segment must be marked lent first.
    fn send_file(&mut self, slot: Slot, bytes: Extent) -> Result<u32, Errno>;

    /// Finishes our side, now: the peer reads the end behind everything sent so far, and may still send. The slot must
    /// be lent ([`Io::lend`]); nothing happens otherwise.
    fn shutdown(&mut self, slot: Slot);

    /// Moves the socket to another shard of this process, with whatever lies unread in it: `Adopted` there, `HandedOver`
    /// here. Nothing may be queued for the slot from now on but its close, after the answer.
    fn hand_over(&mut self, slot: Slot, generation: Generation, shard: u8, parcel: u32);

    /// Cancels the polls that are armed and closes the slot: cancel, hard-linked to close. `Closed` follows.
    fn close(&mut self, slot: Slot, generation: Generation, poll_armed: bool, poll_out_armed: bool);

    /// Wakes another shard of this process out of its `enter`. Put in front of everything else that is queued.
    fn wake(&mut self, shard: u8);

    /// Hands over what is queued, waits as told, appends what has happened to `completions`.
    /// A full submission queue is handed over by itself; nothing queued is ever dropped.
    fn enter(&mut self, wait: Wait, pool: &mut RecvPool, completions: &mut Vec<Completion>) -> std::io::Result<()>;

    /// What has been counted so far.
    fn counters(&self) -> IoCounters;
}

/// The other end of the wire: outgoing connections, for load generators and tests.
pub trait Dial: Io {
    /// Makes a socket in `slot` (which must be empty), binds it to `local` if given (port 0: the kernel chooses at
    /// connect time), connects. Answered by `Connected`.
    fn connect(&mut self, slot: Slot, generation: Generation, local: Option<SocketAddr>, remote: SocketAddr);
}

/// Bytes of one [`Io::send_copy`].
pub const COPY_BYTES_MAX: usize = 256 << 10;

/// Runs per gathered send.
pub const GATHER_MAX: usize = 8;

/// Listeners per shard.
pub const LISTENERS_MAX: usize = 8;
