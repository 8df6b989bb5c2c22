//! What the ring remembers between a request and its completion, and how kernel completions become ours.

use super::request::{Op, middle};
use super::socket;
use crate::buf::RecvPool;
use crate::io::{Completion, Errno, Generation, Received, Sent, Slot};
use io_uring::cqueue;
use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd};

/// `IORING_CQE_F_BUFFER`: a provided buffer was used, its number is in the high 16 bits of the flags.
const FLAG_BUFFER: u32 = 1;

/// `IORING_CQE_F_MORE`: the multishot request is still armed.
const FLAG_MORE: u32 = 1 << 1;

/// `IORING_CQE_F_SOCK_NONEMPTY`: the socket has more.
const FLAG_SOCK_NONEMPTY: u32 = 1 << 2;

/// A completion as the kernel wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqe {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl From<cqueue::Entry> for Cqe {
    #[inline]
    fn from(entry: cqueue::Entry) -> Self {
        Self { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }
}

impl Cqe {
    #[inline]
    fn slot(&self) -> Slot {
        Slot(self.user_data as u32)
    }

    #[inline]
    fn generation(&self) -> Generation {
        Generation::new(middle(self.user_data))
    }

    #[inline]
    fn outcome(&self) -> Result<u32, Errno> {
        if self.result >= 0 { Ok(self.result as u32) } else { Err(Errno(-self.result)) }
    }

    fn more(&self) -> bool {
        self.flags & FLAG_MORE != 0
    }
}

/// A listening socket and whether its multishot accept is armed.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) armed: bool,
}

/// A process descriptor for a slot: asked for (`socket` is `None`) or there.
#[derive(Debug)]
struct Loan {
    generation: Generation,
    socket: Option<OwnedFd>,
}

/// State of requests under way, and what their completions ask the ring to do next.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) listeners: Vec<Listener>,
    loans: HashMap<u32, Loan>,
    connecting: HashMap<u32, Generation>,
    /// Completions that no request of the ring will bring.
    pub(super) ready: Vec<Completion>,
    /// Slots whose connect failed after the socket was made: to be emptied.
    pub(super) failed_connects: Vec<Slot>,
    /// Shards whose ring did not take our message: to be woken through their eventfd.
    pub(super) failed_wakes: Vec<u8>,
    /// The poll of our eventfd is over: to be armed again.
    pub(super) event_poll_ended: bool,
}

impl Books {
    pub(super) fn begin_loan(&mut self, slot: Slot, generation: Generation) {
        self.loans.insert(slot.0, Loan { generation, socket: None });
    }

    /// Closes the loan's descriptor, now or when it comes. Returns whether there was a loan.
    pub(super) fn end_loan(&mut self, slot: Slot) -> bool {
        !self.loans.is_empty() && self.loans.remove(&slot.0).is_some()
    }

    pub(super) fn lent(&self, slot: Slot) -> Option<&OwnedFd> {
        self.loans.get(&slot.0)?.socket.as_ref()
    }

    pub(super) fn begin_connect(&mut self, slot: Slot, generation: Generation) {
        self.connecting.insert(slot.0, generation);
    }

    /// Forgets the connect under way; nothing will be reported for it. Returns whether there was one.
    pub(super) fn end_connect(&mut self, slot: Slot, generation: Generation) -> bool {
        let under_way = !self.connecting.is_empty() && self.connecting.get(&slot.0) == Some(&generation);
        if under_way {
            self.connecting.remove(&slot.0);
        }
        under_way
    }

    /// Appends what `cqe` means.
    #[inline]
    pub(super) fn convert(&mut self, cqe: Cqe, pool: &mut RecvPool, completions: &mut Vec<Completion>) {
        match Op::from_token(cqe.user_data) {
            Op::Send => {
                let result = cqe.outcome();
                let sent = Sent { result, released: result.unwrap_or(0) };
                completions.push(Completion::Sent { slot: cqe.slot(), tag: middle(cqe.user_data), sent });
            }
            Op::Recv => {
                let received = received(cqe, pool);
                let (slot, generation) = (cqe.slot(), cqe.generation());
                completions.push(Completion::Received { slot, generation, received });
            }
            // Cancelled polls are our own doing, on the way to `Closed`.
            Op::Poll | Op::PollOut if cqe.result == -libc::ECANCELED => {}
            Op::Poll => {
                let (slot, generation) = (cqe.slot(), cqe.generation());
                // Input and a reset may come as one event, and the input's receive does not tell of the reset behind
                // it (of an end it does): a second event makes for a second receive.
                if cqe.result > 0 && cqe.result & i32::from(libc::POLLERR | libc::POLLHUP) != 0 {
                    completions.push(Completion::Readable { slot, generation, armed: true });
                }
                completions.push(Completion::Readable { slot, generation, armed: cqe.more() });
            }
            Op::PollOut => {
                completions.push(Completion::Writable { slot: cqe.slot(), generation: cqe.generation() });
            }
            _ => self.convert_rare(cqe, completions),
        }
    }

    /// Everything that does not happen once per message.
    fn convert_rare(&mut self, cqe: Cqe, completions: &mut Vec<Completion>) {
        match Op::from_token(cqe.user_data) {
            // EBADF: the slot was empty already. Either way it is now.
            Op::Close => completions.push(Completion::Closed { slot: cqe.slot(), generation: cqe.generation() }),
            Op::Accept => self.accepted(cqe, completions),
            Op::Install => self.installed(cqe, completions),
            Op::Introduce => introduced(cqe, completions),
            Op::Connect => self.connected(cqe, completions),
            Op::Woken => completions.push(Completion::Woken),
            Op::Event => {
                self.event_poll_ended |= !cqe.more();
                completions.push(Completion::Woken);
            }
            Op::HandOver => {
                let (slot, generation, result) = (cqe.slot(), cqe.generation(), cqe.outcome().map(drop));
                completions.push(Completion::HandedOver { slot, generation, result });
            }
            Op::Adopted if cqe.result >= 0 => {
                completions.push(Completion::Adopted { slot: Slot(cqe.result as u32), parcel: cqe.user_data as u32 });
            }
            Op::Wake => self.failed_wakes.push(cqe.user_data as u8),
            Op::Ignore | Op::Adopted | Op::Send | Op::Recv | Op::Poll | Op::PollOut => {}
        }
    }

    fn accepted(&mut self, cqe: Cqe, completions: &mut Vec<Completion>) {
        if cqe.result >= 0 {
            let (slot, listener) = (Slot(cqe.result as u32), cqe.user_data as u8);
            completions.push(Completion::Accepted { slot, listener });
        }
        if !cqe.more() {
            if let Some(listener) = self.listeners.get_mut(cqe.user_data as u32 as usize) {
                listener.armed = false;
            }
            // The kernel may end an accept that succeeded (its completion queue was full): try again is the advice.
            let errno = cqe.outcome().err().unwrap_or(Errno(libc::EAGAIN));
            completions.push(Completion::AcceptEnded { errno });
        }
    }

    fn installed(&mut self, cqe: Cqe, completions: &mut Vec<Completion>) {
        // SAFETY: the kernel has just made this descriptor for us and told nobody else.
        let socket = cqe.outcome().map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) });
        let (slot, generation) = (cqe.slot(), cqe.generation());
        let Some(loan) = self.loans.get_mut(&slot.0) else { return };
        if loan.generation != generation || loan.socket.is_some() {
            return;
        }
        let result = socket.and_then(|socket| {
            socket::set_nonblocking(&socket)?;
            loan.socket = Some(socket);
            Ok(())
        });
        if result.is_err() {
            self.loans.remove(&slot.0);
        }
        completions.push(Completion::Lent { slot, generation, result });
    }

    fn connected(&mut self, cqe: Cqe, completions: &mut Vec<Completion>) {
        let (slot, generation) = (cqe.slot(), cqe.generation());
        if !self.end_connect(slot, generation) {
            return;
        }
        let result = cqe.outcome().map(drop);
        if result.is_err() {
            self.failed_connects.push(slot);
        }
        completions.push(Completion::Connected { slot, generation, result });
    }
}

/// The descriptor is closed as soon as the kernel has said whose it is.
fn introduced(cqe: Cqe, completions: &mut Vec<Completion>) {
    // SAFETY: the kernel has just made this descriptor for us and told nobody else.
    let socket = cqe.outcome().map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) });
    let peer = socket.ok().and_then(|socket| socket::peer(&socket).ok()).map(|address| address.ip());
    completions.push(Completion::Introduced { slot: cqe.slot(), generation: cqe.generation(), peer });
}

#[inline]
fn received(cqe: Cqe, pool: &mut RecvPool) -> Received {
    let buffer = (cqe.flags & FLAG_BUFFER != 0).then_some((cqe.flags >> 16) as u16);
    if let Some(buffer) = buffer {
        pool.lend(buffer);
    }
    match (cqe.result, buffer) {
        (1.., Some(buffer)) => {
            let len = cqe.result as u32;
            let more = cqe.flags & FLAG_SOCK_NONEMPTY != 0 || len == pool.buffer_bytes();
            Received::Data { buffer, len, more }
        }
        (result, buffer) => {
            // Some kernels take a buffer for the end of the stream.
            if let Some(buffer) = buffer {
                pool.give_back(buffer);
            }
            match -result {
                0 => Received::End,
                libc::EAGAIN => Received::WouldBlock,
                libc::ENOBUFS => Received::NoBuffers,
                errno @ 1.. => Received::Failed(Errno(errno)),
                // Bytes without a buffer: the kernel would have to be broken.
                _ => Received::Failed(Errno(libc::EIO)),
            }
        }
    }
}
