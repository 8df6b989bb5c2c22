//! Frames out, both roles.
//!
//! A server frames a message once for all its receivers, so the frames of a message have one shape:
//! ```text
//! up to 2 044 bytes   | header 2 or 4 | payload |                                one frame
//! above               | 4 | 2 044 | 4 | 2 044 | ... | 2 or 4 | rest |            opcode, then continuations; FIN on the last
//! ```
//! So every frame but the last is 2 048 bytes long, and a frame boundary is every 2 048 bytes from the start.
//! A message of more than [`FRAGMENTS_MAX`] such frames (about 16 MiB) has as many frames, and longer ones: clients
//! bound the fragments of a message (npm `ws`: 16 384).

use super::mask;
use super::{
    CONTROL_PAYLOAD_MAX, DEFLATE_BIT, DataKind, FIN_BIT, HEADER_BYTES_MAX, LENGTH_7_MAX, LENGTH_16, LENGTH_64,
    MASK_BIT, OpCode,
};
use crate::cursor::Sink;
use crate::error::CloseCode;

/// Most payload bytes in a frame of a message a server sends.
pub const FRAGMENT_PAYLOAD_MAX: usize = 2044;

/// Bytes of every frame of a message but its last: header and payload.
pub const FRAGMENT_BYTES: usize = 4 + FRAGMENT_PAYLOAD_MAX;

/// Most frames of one message that a server sends.
pub const FRAGMENTS_MAX: usize = 8192;

const _: () = assert!(FRAGMENT_PAYLOAD_MAX > LENGTH_7_MAX as usize && FRAGMENT_PAYLOAD_MAX <= u16::MAX as usize);

/// Longest reason in a Close frame: a control payload less the code.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Bytes a message of `payload_len` bytes takes as [`MessageWriter`] frames it.
#[must_use]
pub const fn message_len(payload_len: usize) -> usize {
    let fragment = fragment_payload(payload_len);
    let rest = payload_len % fragment;
    let whole = payload_len / fragment * (header_len(fragment) + fragment);
    if rest == 0 && payload_len != 0 { whole } else { whole + header_len(rest) + rest }
}

/// Payload bytes of every frame but the last of a message of `payload_len` bytes.
const fn fragment_payload(payload_len: usize) -> usize {
    let least = payload_len.div_ceil(FRAGMENTS_MAX);
    if least > FRAGMENT_PAYLOAD_MAX { least } else { FRAGMENT_PAYLOAD_MAX }
}

/// Bytes of the header of an unmasked frame.
const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes the header of a frame; `first_byte` without FIN; `key` if it is masked.
fn put_header<S: Sink + ?Sized>(sink: &mut S, first_byte: u8, fin: bool, payload_len: usize, key: Option<[u8; 4]>) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = first_byte | if fin { FIN_BIT } else { 0 };
    let mut len = header_len(payload_len);
    match len {
        2 => header[1] = payload_len as u8,
        4 => {
            header[1] = LENGTH_16;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            header[1] = LENGTH_64;
            header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        header[1] |= MASK_BIT;
        header[len..len + 4].copy_from_slice(&key);
        len += 4;
    }
    sink.put(&header[..len]);
}

/// Frames one message for the server role while its payload is written: put the payload in any pieces, and the frame
/// headers appear where they belong. Exactly [`message_len`] bytes reach the sink.
#[derive(Debug)]
pub struct MessageWriter<S: Sink> {
    sink: S,
    /// Payload bytes of the current frame still to come.
    frame_rest: usize,
    /// Payload bytes of the frames after the current one.
    later: usize,
    /// Payload bytes of every frame but the last.
    fragment: usize,
}

impl<S: Sink> MessageWriter<S> {
    /// Begins a message whose payload will be exactly `payload_len` bytes, and writes its first frame header.
    pub fn new(sink: S, kind: DataKind, payload_len: usize) -> Self {
        Self::begin(sink, kind.op_code() as u8, payload_len)
    }

    /// The same for a compressed message, whose payload is that of [`super::deflate::deflater::Deflater::deflate`].
    /// Only for peers with whom permessage-deflate was agreed. As long as [`MessageWriter::new`] would make it: the
    /// first frame has one bit more (RFC 7692 6).
    pub fn new_deflated(sink: S, kind: DataKind, payload_len: usize) -> Self {
        Self::begin(sink, kind.op_code() as u8 | DEFLATE_BIT, payload_len)
    }

    fn begin(mut sink: S, first_byte: u8, payload_len: usize) -> Self {
        let fragment = fragment_payload(payload_len);
        let frame_rest = payload_len.min(fragment);
        let later = payload_len - frame_rest;
        put_header(&mut sink, first_byte, later == 0, frame_rest, None);
        Self { sink, frame_rest, later, fragment }
    }

    /// Payload bytes still to be put.
    #[must_use]
    pub fn payload_rest(&self) -> usize {
        self.frame_rest + self.later
    }

    /// Ends the message and gives the sink back. All of the announced payload must have been put.
    pub fn finish(self) -> S {
        debug_assert_eq!(self.payload_rest(), 0, "the payload is as long as announced");
        self.sink
    }

    /// Writes one frame of a message, unmasked and whatever its length: for payloads that pass through as they come.
    /// `first` and `fin` tell whether the message begins and ends with it.
    pub fn fragment(mut sink: S, kind: DataKind, first: bool, fin: bool, payload: &[u8]) {
        let op_code = if first { kind.op_code() } else { OpCode::Continuation };
        put_header(&mut sink, op_code as u8, fin, payload.len(), None);
        sink.put(payload);
    }
}

impl<S: Sink> Sink for MessageWriter<S> {
    /// Appends payload. Bytes beyond the announced length are a bug of the caller and are dropped: the frames already
    /// written cannot be changed any more.
    fn put(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.payload_rest(), "the payload is as long as announced");
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.frame_rest == 0 {
                if self.later == 0 {
                    return;
                }
                self.frame_rest = self.later.min(self.fragment);
                self.later -= self.frame_rest;
                put_header(&mut self.sink, OpCode::Continuation as u8, self.later == 0, self.frame_rest, None);
            }
            let (now, after) = rest.split_at(rest.len().min(self.frame_rest));
            self.sink.put(now);
            self.frame_rest -= now.len();
            rest = after;
        }
    }
}

/// The part of `payload` that a control frame can carry.
fn control_part(op_code: OpCode, payload: &[u8]) -> &[u8] {
    debug_assert!(op_code.is_control() && payload.len() <= CONTROL_PAYLOAD_MAX, "a control frame: {op_code:?}");
    &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)]
}

/// Writes a Close, Ping or Pong for the server role. `payload` has at most [`CONTROL_PAYLOAD_MAX`] bytes.
pub fn write_control<S: Sink + ?Sized>(sink: &mut S, op_code: OpCode, payload: &[u8]) {
    let payload = control_part(op_code, payload);
    put_header(sink, op_code as u8, true, payload.len(), None);
    sink.put(payload);
}

/// Writes a Close for the server role. Without a code, or with one that must not be sent (such as 1005, which only
/// means that there was none), the frame is empty. A reason above [`CLOSE_REASON_MAX`] bytes is cut at a character.
pub fn write_close<S: Sink + ?Sized>(sink: &mut S, code: Option<CloseCode>, reason: &str) {
    let (payload, len) = close_payload(code, reason);
    write_control(sink, OpCode::Close, &payload[..len]);
}

/// Writes a Close for the client role; see [`write_close`].
pub fn write_masked_close<S: Sink + ?Sized>(sink: &mut S, code: Option<CloseCode>, reason: &str, key: [u8; 4]) {
    let (payload, len) = close_payload(code, reason);
    write_masked_control(sink, OpCode::Close, &payload[..len], key);
}

fn close_payload(code: Option<CloseCode>, reason: &str) -> ([u8; CONTROL_PAYLOAD_MAX], usize) {
    let mut payload = [0; CONTROL_PAYLOAD_MAX];
    let Some(code) = code.filter(|code| code.may_be_sent()) else { return (payload, 0) };
    let mut len = reason.len().min(CLOSE_REASON_MAX);
    while !reason.is_char_boundary(len) {
        len -= 1;
    }
    payload[..2].copy_from_slice(&code.0.to_be_bytes());
    payload[2..2 + len].copy_from_slice(&reason.as_bytes()[..len]);
    (payload, 2 + len)
}

/// Writes a message as one masked frame, for the client role. `key` should be fresh and hard to guess for each frame
/// (RFC 6455 5.3); this crate has no source of randomness.
pub fn write_masked_message<S: Sink + ?Sized>(sink: &mut S, kind: DataKind, payload: &[u8], key: [u8; 4]) {
    write_masked_fragment(sink, kind, true, true, payload, key);
}

/// Writes a compressed message as one masked frame, for the client role. `payload` is that of
/// [`super::deflate::deflater::Deflater::deflate`]; only for servers that agreed to permessage-deflate.
pub fn write_masked_deflated_message<S: Sink + ?Sized>(sink: &mut S, kind: DataKind, payload: &[u8], key: [u8; 4]) {
    put_header(sink, kind.op_code() as u8 | DEFLATE_BIT, true, payload.len(), Some(key));
    put_masked(sink, payload, key);
}

/// Writes one masked frame of a message, for the client role.
pub fn write_masked_fragment<S: Sink + ?Sized>(
    sink: &mut S,
    kind: DataKind,
    first: bool,
    fin: bool,
    payload: &[u8],
    key: [u8; 4],
) {
    let op_code = if first { kind.op_code() } else { OpCode::Continuation };
    put_header(sink, op_code as u8, fin, payload.len(), Some(key));
    put_masked(sink, payload, key);
}

/// Writes a masked Close, Ping or Pong, for the client role. `payload` has at most [`CONTROL_PAYLOAD_MAX`] bytes.
pub fn write_masked_control<S: Sink + ?Sized>(sink: &mut S, op_code: OpCode, payload: &[u8], key: [u8; 4]) {
    let payload = control_part(op_code, payload);
    put_header(sink, op_code as u8, true, payload.len(), Some(key));
    put_masked(sink, payload, key);
}

fn put_masked<S: Sink + ?Sized>(sink: &mut S, payload: &[u8], key: [u8; 4]) {
    // A multiple of four, so that every piece starts with byte 0 of the key.
    const PIECE_BYTES: usize = 1024;
    let key = u32::from_le_bytes(key);
    let mut piece = [0; PIECE_BYTES];
    for plain in payload.chunks(PIECE_BYTES) {
        let masked = &mut piece[..plain.len()];
        masked.copy_from_slice(plain);
        mask::apply(masked, key);
        sink.put(masked);
    }
}
