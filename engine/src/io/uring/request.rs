//! The requests we make, one function each, and how a completion finds its way back.

use crate::io::{Generation, Slot, Tag};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{opcode, squeue};
use std::os::fd::RawFd;

/// The group of receive buffers: one per ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// `IORING_SEND_VECTORIZED` (Linux 6.17): the buffer of a send is a list of runs. Not named by the crate.
const SEND_VECTORIZED: u16 = 1 << 5;

/// Every send: never wait, never raise `SIGPIPE`. What cannot go now is a short count or `EAGAIN`.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The value of a switched-on socket option. The kernel reads it when the request runs, which may be later.
static ON: libc::c_int = 1;

/// What a completion answers: the high 8 bits of its `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Nobody waits for it (cancels, closes of sockets that did not connect).
    Ignore = 0,
    Send = 1,
    Recv = 2,
    Poll = 3,
    PollOut = 4,
    Close = 5,
    Accept = 6,
    Install = 7,
    /// Any link of the chain socket - options - bind - connect.
    Connect = 8,
    /// A message from another ring.
    Woken = 9,
    /// The eventfd of this shard was written.
    Event = 10,
    /// Our message to another ring failed.
    Wake = 11,
    /// A socket of ours was sent to another ring.
    HandOver = 12,
    /// Another ring has sent us a socket.
    Adopted = 13,
    /// A descriptor that is looked at and closed.
    Introduce = 14,
}

impl Op {
    pub(super) fn from_token(user_data: u64) -> Self {
        const OPS: [Op; 15] = [
            Op::Ignore,
            Op::Send,
            Op::Recv,
            Op::Poll,
            Op::PollOut,
            Op::Close,
            Op::Accept,
            Op::Install,
            Op::Connect,
            Op::Woken,
            Op::Event,
            Op::Wake,
            Op::HandOver,
            Op::Adopted,
            Op::Introduce,
        ];
        OPS.get((user_data >> 56) as usize).copied().unwrap_or(Op::Ignore)
    }
}

/// op (8) | generation or tag (24) | slot, listener or shard (32).
#[inline]
pub(super) const fn token(op: Op, middle: u32, low: u32) -> u64 {
    (op as u64) << 56 | (middle as u64 & 0x00ff_ffff) << 32 | low as u64
}

/// The 24 bits in the middle.
#[inline]
pub(super) fn middle(user_data: u64) -> u32 {
    (user_data >> 32) as u32 & 0x00ff_ffff
}

fn tenant(op: Op, slot: Slot, generation: Generation) -> u64 {
    token(op, generation.get(), slot.0)
}

#[inline]
pub(super) fn send(slot: Slot, tag: Tag, start: *const u8, len: u32) -> Entry {
    opcode::Send::new(Fixed(slot.0), start, len).flags(SEND_FLAGS).build().user_data(token(Op::Send, tag, slot.0))
}

pub(super) fn send_runs(slot: Slot, runs: *const libc::iovec, count: u32) -> Entry {
    opcode::Send::new(Fixed(slot.0), runs.cast(), count).ioprio(SEND_VECTORIZED).flags(SEND_FLAGS).build()
}

pub(super) fn send_message(slot: Slot, message: *const libc::msghdr) -> Entry {
    opcode::SendMsg::new(Fixed(slot.0), message).flags(SEND_FLAGS as u32).build()
}

pub(super) fn recv(slot: Slot, generation: Generation) -> Entry {
    let recv = opcode::Recv::new(Fixed(slot.0), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP);
    let entry = recv.flags(libc::MSG_DONTWAIT).build().flags(Flags::BUFFER_SELECT);
    entry.user_data(tenant(Op::Recv, slot, generation))
}

pub(super) fn poll_in(slot: Slot, generation: Generation) -> Entry {
    let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
    opcode::PollAdd::new(Fixed(slot.0), events).multi(true).build().user_data(tenant(Op::Poll, slot, generation))
}

pub(super) fn poll_out(slot: Slot, generation: Generation) -> Entry {
    let entry = opcode::PollAdd::new(Fixed(slot.0), libc::POLLOUT as u32).build();
    entry.user_data(tenant(Op::PollOut, slot, generation))
}

pub(super) fn poll_event(event: RawFd) -> Entry {
    let entry = opcode::PollAdd::new(Fd(event), libc::POLLIN as u32).multi(true).build();
    entry.user_data(token(Op::Event, 0, 0))
}

pub(super) fn accept(listener: RawFd, index: u32) -> Entry {
    let entry = opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build();
    entry.user_data(token(Op::Accept, 0, index))
}

/// Cancels the request with that token. Not found is fine: it has just ended by itself.
pub(super) fn cancel(target: u64) -> Entry {
    opcode::AsyncCancel::new(target).build().user_data(token(Op::Ignore, 0, 0)).flags(Flags::SKIP_SUCCESS)
}

pub(super) fn close(slot: Slot, user_data: u64) -> Entry {
    opcode::Close::new(Fixed(slot.0)).build().user_data(user_data)
}

pub(super) fn install(slot: Slot, generation: Generation) -> Entry {
    opcode::FixedFdInstall::new(Fixed(slot.0), 0).build().user_data(tenant(Op::Install, slot, generation))
}

pub(super) fn introduce(slot: Slot, generation: Generation) -> Entry {
    opcode::FixedFdInstall::new(Fixed(slot.0), 0).build().user_data(tenant(Op::Introduce, slot, generation))
}

pub(super) fn wake(ring: RawFd, shard: u8) -> Entry {
    let entry = opcode::MsgRingData::new(Fd(ring), 0, token(Op::Woken, 0, 0), None).build();
    entry.user_data(token(Op::Wake, 0, u32::from(shard))).flags(Flags::SKIP_SUCCESS)
}

pub(super) fn hand_over(ring: RawFd, slot: Slot, generation: Generation, parcel: u32) -> Entry {
    let (target, adopted) = (DestinationSlot::auto_target(), token(Op::Adopted, 0, parcel));
    let entry = opcode::MsgRingSendFd::new(Fd(ring), Fixed(slot.0), target, adopted).build();
    entry.user_data(tenant(Op::HandOver, slot, generation))
}

/// A step of a connect whose success says nothing: the next one follows.
fn step(entry: Entry, user_data: u64) -> Entry {
    entry.user_data(user_data).flags(Flags::IO_LINK | Flags::SKIP_SUCCESS)
}

pub(super) fn connect_token(slot: Slot, generation: Generation) -> u64 {
    tenant(Op::Connect, slot, generation)
}

/// # Panics
/// If the slot is beyond what a table can have (2^32 - 2).
pub(super) fn connect_socket(slot: Slot, family: libc::c_int, user_data: u64) -> Entry {
    let target = DestinationSlot::try_from_slot_target(slot.0).expect("slot beyond the table of direct descriptors");
    let socket = opcode::Socket::new(family, libc::SOCK_STREAM, 0).file_index(Some(target));
    step(socket.build(), user_data)
}

/// Switches a socket option on, as a step of a connect.
pub(super) fn connect_option(slot: Slot, level: libc::c_int, name: libc::c_int, user_data: u64) -> squeue::Entry {
    let value = (&raw const ON).cast();
    let len = size_of::<libc::c_int>() as u32;
    step(opcode::SetSockOpt::new(Fixed(slot.0), level as u32, name as u32, value, len).build(), user_data)
}

pub(super) fn connect_bind(
    slot: Slot,
    (address, len): (*const libc::sockaddr, libc::socklen_t),
    user_data: u64,
) -> Entry {
    step(opcode::Bind::new(Fixed(slot.0), address, len).build(), user_data)
}

pub(super) fn connect(slot: Slot, (address, len): (*const libc::sockaddr, libc::socklen_t), user_data: u64) -> Entry {
    opcode::Connect::new(Fixed(slot.0), address, len).build().user_data(user_data)
}

/// A message header without anything in it.
pub(super) fn empty_message() -> libc::msghdr {
    // SAFETY: a C structure of pointers and integers, for which all-zero bytes are a valid value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_apart_again() {
        let user_data = token(Op::Wake, 0x00ab_cdef, 0xffff_fffe);
        assert_eq!(Op::from_token(user_data), Op::Wake);
        assert_eq!((middle(user_data), user_data as u32), (0x00ab_cdef, 0xffff_fffe));
        assert_eq!(Op::from_token(u64::MAX), Op::Ignore);
    }

    #[test]
    fn too_large_a_tag_does_not_touch_the_op() {
        assert_eq!(Op::from_token(token(Op::Send, u32::MAX, 0)), Op::Send);
    }
}
