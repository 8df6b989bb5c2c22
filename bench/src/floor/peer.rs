//! One connection of the floor: its head, its inbound message, and what it is owed.

use std::os::fd::OwnedFd;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::http::head::{self, HeadLimits, RequestHead};
use fanfare_protocol::http::response;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::{DataKind, OpCode, encode, handshake};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::batch::Batch;

/// A request head longer than this is refused.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// A message longer than this closes its connection with 1009.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection that is owed more than this is dropped: the floor has no policy, but it has an end.
const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Never wait for room, and get `EPIPE` as a value instead of a signal.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// An accepted connection. Small while idle: the boxes exist only while something is unfinished.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) socket: OwnedFd,
    phase: Phase,
    backlog: Option<Box<Backlog>>,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for the rest of the request head: what came so far. Most heads come whole, and then nothing is kept.
    Head(Vec<u8>),
    /// A WebSocket. The inbox exists while a message or frame is incomplete.
    Open(Option<Box<Inbox>>),
    /// Not to be read from or sent to any more.
    Dead,
}

#[derive(Debug)]
struct Inbox {
    decoder: Decoder,
    kind: DataKind,
    message: Vec<u8>,
}

/// Bytes the kernel had no room for, in order.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

/// What became of bytes given to [`Peer::handle_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to do but go on.
    Fine,
    /// This connection just became a WebSocket.
    Opened,
    /// It asked for the counts and waits for [`Peer::answer_stats`].
    StatsAsked,
    /// Over: close it.
    Dead,
}

/// What became of bytes given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel has all of it.
    Whole,
    /// The kernel has none or some of it; the rest is now in the backlog, to go when the socket is writable.
    FellBehind,
    /// There was a backlog before, and there still is.
    StillBehind,
    /// The peer is gone, or was owed too much.
    Dead,
}

impl Peer {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Peer { socket, phase: Phase::Head(Vec::new()), backlog: None }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.backlog.is_some()
    }

    /// Nothing is read from or sent to this connection after this. Its socket closes when the peer is dropped.
    pub(super) fn kill(&mut self) {
        self.phase = Phase::Dead;
        self.backlog = None;
    }

    /// Takes received bytes; complete messages go into `batch`.
    pub(super) fn handle_bytes(&mut self, bytes: &mut [u8], batch: &mut Batch) -> Heard {
        // What stands in while the phase is worked on; every way that does not end the connection sets the next one.
        match std::mem::replace(&mut self.phase, Phase::Head(Vec::new())) {
            Phase::Head(head) if head.is_empty() => self.handle_head(bytes, batch),
            Phase::Head(mut head) => {
                head.extend_from_slice(bytes);
                self.handle_head(&mut head, batch)
            }
            Phase::Open(inbox) => self.handle_frames(inbox, bytes, batch),
            Phase::Dead => Heard::Dead,
        }
    }

    fn handle_head(&mut self, bytes: &mut [u8], batch: &mut Batch) -> Heard {
        let limits = HeadLimits { head_bytes_max: HEAD_BYTES_MAX, ..HeadLimits::default() };
        let (head, head_bytes) = match head::parse_request(bytes, &limits) {
            Ok(Progress::Done(head, head_bytes)) => (head, head_bytes),
            Ok(Progress::NeedMore) => {
                self.phase = Phase::Head(bytes.to_vec());
                return Heard::Fine;
            }
            Err(error) => return self.refuse(error.status(), &error.to_string()),
        };
        if head.method() == "GET" && head.path() == "/stats" {
            return Heard::StatsAsked;
        }
        match self.upgrade(&head) {
            Ok(()) => {}
            Err(refused) => return refused,
        }
        match self.handle_frames(None, &mut bytes[head_bytes..], batch) {
            Heard::Fine => Heard::Opened,
            other => other,
        }
    }

    fn upgrade(&mut self, head: &RequestHead<'_>) -> Result<(), Heard> {
        if !handshake::is_upgrade(head) {
            return Err(self.refuse(426, "the floor speaks WebSocket only"));
        }
        let accept = match handshake::check_upgrade(head) {
            Ok(accept) => accept,
            Err(error) => return Err(self.refuse(error.status(), &error.to_string())),
        };
        let mut answer = Vec::with_capacity(160);
        handshake::write_switching_protocols(&mut answer, &accept);
        match self.deliver(&answer) {
            Sent::Dead => Err(Heard::Dead),
            Sent::Whole | Sent::FellBehind | Sent::StillBehind => Ok(()),
        }
    }

    fn handle_frames(&mut self, inbox: Option<Box<Inbox>>, bytes: &mut [u8], batch: &mut Batch) -> Heard {
        let mut inbox = inbox.unwrap_or_else(|| Box::new(Inbox::new()));
        let Inbox { decoder, kind, message } = &mut *inbox;
        for event in decoder.handle_bytes(bytes) {
            match event {
                Ok(Event::Data { kind: piece_kind, payload, first, fin }) => {
                    if first {
                        *kind = piece_kind;
                    }
                    if message.len() + payload.len() > MESSAGE_BYTES_MAX {
                        return self.close(CloseCode::TOO_BIG);
                    }
                    if !fin {
                        message.extend_from_slice(payload);
                    } else if message.is_empty() {
                        batch.push(*kind, payload);
                    } else {
                        message.extend_from_slice(payload);
                        batch.push(*kind, message);
                        message.clear();
                    }
                }
                Ok(Event::Ping(payload)) => {
                    let mut pong = Vec::with_capacity(2 + payload.as_slice().len());
                    encode::write_control(&mut pong, OpCode::Pong, payload.as_slice());
                    if self.deliver(&pong) == Sent::Dead {
                        return Heard::Dead;
                    }
                }
                Ok(Event::Pong(_)) => {}
                Ok(Event::Close { .. }) => return self.close(CloseCode::NORMAL),
                Err(error) => return self.close(error.close_code()),
            }
        }
        let at_rest = inbox.decoder.at_rest();
        self.phase = Phase::Open(if at_rest { None } else { Some(inbox) });
        Heard::Fine
    }

    fn close(&mut self, code: CloseCode) -> Heard {
        let mut frame = Vec::with_capacity(4);
        encode::write_close(&mut frame, Some(code), "");
        self.deliver(&frame); // dead either way
        Heard::Dead
    }

    fn refuse(&mut self, status: u16, why: &str) -> Heard {
        self.answer(status, "text/plain", why.as_bytes())
    }

    /// Answers [`Heard::StatsAsked`] with a JSON text; the connection is over after that.
    pub(super) fn answer_stats(&mut self, json: &str) -> Heard {
        self.answer(200, "application/json", json.as_bytes())
    }

    fn answer(&mut self, status: u16, content_type: &str, body: &[u8]) -> Heard {
        let mut answer = Vec::with_capacity(256);
        response::write(&mut answer, status, &[("Content-Type", content_type), ("Connection", "close")], body);
        self.deliver(&answer); // a few hundred bytes into an empty socket; dead either way
        Heard::Dead
    }

    /// Sends `bytes` behind whatever is owed already.
    pub(super) fn deliver(&mut self, bytes: &[u8]) -> Sent {
        if self.backlog.is_some() {
            return self.owe(bytes);
        }
        let sent = send_some(&self.socket, bytes);
        self.note_sent(bytes, sent)
    }

    /// Takes the result of a send of `bytes` that was made while nothing was owed: the count, or an error.
    pub(super) fn note_sent(&mut self, bytes: &[u8], sent: Result<usize, Errno>) -> Sent {
        match sent {
            Ok(count) if count == bytes.len() => Sent::Whole,
            Ok(count) => self.owe(&bytes[count..]),
            Err(Errno::AGAIN) => self.owe(bytes),
            Err(_) => Sent::Dead,
        }
    }

    /// Keeps `bytes` for later.
    pub(super) fn owe(&mut self, bytes: &[u8]) -> Sent {
        let kept = if self.backlog.is_some() { Sent::StillBehind } else { Sent::FellBehind };
        let backlog = self.backlog.get_or_insert_default();
        if backlog.sent > backlog.bytes.len() / 2 {
            backlog.bytes.drain(..backlog.sent);
            backlog.sent = 0;
        }
        if backlog.bytes.len() - backlog.sent + bytes.len() > BACKLOG_BYTES_MAX {
            return Sent::Dead;
        }
        backlog.bytes.extend_from_slice(bytes);
        kept
    }

    /// Sends what is owed as far as it goes.
    pub(super) fn flush(&mut self) -> Sent {
        let Some(backlog) = &mut self.backlog else { return Sent::Whole };
        while backlog.sent < backlog.bytes.len() {
            match send_some(&self.socket, &backlog.bytes[backlog.sent..]) {
                Ok(count) => backlog.sent += count,
                Err(Errno::AGAIN) => return Sent::StillBehind,
                Err(_) => return Sent::Dead,
            }
        }
        self.backlog = None;
        Sent::Whole
    }
}

impl Inbox {
    fn new() -> Self {
        Inbox { decoder: Decoder::new(Role::Server), kind: DataKind::Binary, message: Vec::new() }
    }
}

fn send_some(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match send(socket, bytes, SEND_FLAGS) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
