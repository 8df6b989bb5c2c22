//! Frames in: resumable at any byte, unmasking in place, judging each rule at the first byte that breaks it.

use super::mask;
use super::{
    CONTROL_PAYLOAD_MAX, DEFLATE_BIT, DataKind, FIN_BIT, HEADER_BYTES_MAX, LENGTH_7_MAX, LENGTH_16, LENGTH_64,
    MASK_BIT, OpCode, RESERVED_BITS,
};
use crate::cursor::Progress;
use crate::error::{CloseCode, FrameError};
use std::fmt;

/// Which end of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server: frames come from a client and must be masked.
    Server,
    /// A client: frames come from a server and must not be masked.
    Client,
}

/// The payload of a control frame: at most 125 bytes, by value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ControlPayload {
    bytes: [u8; CONTROL_PAYLOAD_MAX],
    len: u8,
}

impl ControlPayload {
    /// No bytes.
    pub const EMPTY: Self = Self { bytes: [0; CONTROL_PAYLOAD_MAX], len: 0 };

    /// `payload`, which has at most [`CONTROL_PAYLOAD_MAX`] bytes; what is beyond is cut off.
    fn new(payload: &[u8]) -> Self {
        let len = payload.len().min(CONTROL_PAYLOAD_MAX);
        let mut bytes = [0; CONTROL_PAYLOAD_MAX];
        bytes[..len].copy_from_slice(&payload[..len]);
        Self { bytes, len: len as u8 }
    }

    /// The payload.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

/// What a piece of input means.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A piece of a message: all of it, or what lies between two cuts (by fragments or by the buffer).
    Data {
        /// Text or binary; the same for all pieces of a message.
        kind: DataKind,
        /// The bytes, unmasked where they lay. Empty only if `fin`. A piece of text may end inside a character.
        payload: &'b mut [u8],
        /// This piece begins a message.
        first: bool,
        /// The message ends with this piece.
        fin: bool,
    },
    /// Answer with a Pong that carries the same payload (RFC 6455 5.5.2).
    Ping(ControlPayload),
    /// An answer to a Ping, or a sign of life.
    Pong(ControlPayload),
    /// The peer has said all. Nothing after it is looked at.
    Close {
        /// The peer's code; `None` if the frame had none (what APIs show as 1005).
        code: Option<CloseCode>,
        /// The peer's reason: UTF-8, at most 123 bytes.
        reason: ControlPayload,
    },
}

/// What permessage-deflate (RFC 7692) means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deflate {
    /// Nothing: no bit may say that a message is compressed.
    NotAgreed,
    /// The current message is not compressed.
    Agreed,
    /// The current message is compressed, and its payload is not judged here. Left behind by whoever inflates it.
    Compressed,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Data,
    Control,
    /// After a Close or an error: nothing matters any more.
    Over,
}

/// A decoder of one direction of one connection.
///
/// Between messages it carries nothing (see [`Decoder::at_rest`]), so an engine keeps one only for connections that
/// are in the middle of something. Length limits are the caller's business: it sees every piece.
#[derive(Clone)]
pub struct Decoder {
    /// Payload bytes of the current frame still to come.
    remaining: u64,
    /// Key of the current frame, turned so that its low byte is for the next payload byte. 0 = not masked.
    key: u32,
    /// The unfinished character at the end of the text so far.
    text: TextTail,
    role: Role,
    stage: Stage,
    op_code: OpCode,
    /// The current frame ends its message.
    fin: bool,
    /// A piece of the current message was yielded.
    started: bool,
    /// The kind of the current message; `None` between messages.
    message: Option<DataKind>,
    deflate: Deflate,
    held_len: u8,
    /// The start of a frame header or of a control payload that the input ended in; `held_len` bytes.
    held: [u8; CONTROL_PAYLOAD_MAX],
}

const _: () = assert!(size_of::<Decoder>() <= 160);
const _: () = assert!(CONTROL_PAYLOAD_MAX >= HEADER_BYTES_MAX);

impl Decoder {
    /// A decoder at the start of a connection, or between two messages.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            remaining: 0,
            key: 0,
            text: TextTail::EMPTY,
            role,
            stage: Stage::Header,
            op_code: OpCode::Continuation,
            fin: false,
            started: false,
            message: None,
            deflate: Deflate::NotAgreed,
            held_len: 0,
            held: [0; CONTROL_PAYLOAD_MAX],
        }
    }

    /// The same on a connection with permessage-deflate. The payload of compressed messages comes out as it came in;
    /// [`super::deflate::decoder`] inflates it.
    pub(super) const fn with_deflate(role: Role) -> Self {
        let mut decoder = Self::new(role);
        decoder.deflate = Deflate::Agreed;
        decoder
    }

    /// Whether this decoder stands between two messages with nothing carried, so that a new one would do as well.
    /// Never true again after a Close or an error.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.stage == Stage::Header && self.held_len == 0 && self.message.is_none()
    }

    /// Whether a Close or an error has ended the conversation; further input is ignored.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Ends the conversation for a rule that was broken inside of a compressed message.
    fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// Takes the next bytes of the stream. The frames they complete come out of the iterator, which must be run to
    /// its end: what it has not reached is lost. `bytes` are unmasked in place and lent to the events.
    #[must_use = "bytes are decoded as the iterator advances"]
    pub fn handle_bytes<'d, 'b>(&'d mut self, bytes: &'b mut [u8]) -> Frames<'d, 'b> {
        Frames { decoder: self, rest: bytes }
    }

    /// Reads a frame header, across a cut if need be. `false`: it is not complete yet, and all input was taken.
    fn take_header(&mut self, rest: &mut &mut [u8]) -> Result<bool, FrameError> {
        if self.held_len == 0 {
            if let Progress::Done(header, len) = self.parse_header(rest)? {
                let first_byte = take(rest, len)[0];
                self.begin_frame(first_byte, header);
                return Ok(true);
            }
            self.hold(rest);
            return Ok(false);
        }
        while !rest.is_empty() {
            self.hold(&mut take(rest, 1));
            if let Progress::Done(header, _) = self.parse_header(&self.held[..usize::from(self.held_len)])? {
                self.held_len = 0;
                self.begin_frame(self.held[0], header);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves all of `rest`, which fits, to the held bytes.
    fn hold(&mut self, rest: &mut &mut [u8]) {
        let start = usize::from(self.held_len);
        let bytes = take(rest, rest.len());
        self.held[start..start + bytes.len()].copy_from_slice(bytes);
        self.held_len += bytes.len() as u8;
    }

    /// Reads a frame header from its first byte. Each rule is judged as soon as its byte is there, so the verdict
    /// does not depend on cuts.
    fn parse_header(&self, bytes: &[u8]) -> Result<Progress<Header>, FrameError> {
        let [first, after_first @ ..] = bytes else { return Ok(Progress::NeedMore) };
        let (op_code, fin) = self.judge_first(*first)?;
        let [second, after_second @ ..] = after_first else { return Ok(Progress::NeedMore) };
        let masked = self.judge_second(*second, op_code)?;
        let (payload_len, length_bytes) = match second & !MASK_BIT {
            LENGTH_16 => match after_second.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(Progress::NeedMore),
            },
            LENGTH_64 => match after_second.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(Progress::NeedMore),
            },
            short => (u64::from(short), 0),
        };
        judge_length(payload_len, length_bytes)?;
        let after_length = &after_second[length_bytes..];
        let key = match (masked, after_length.first_chunk()) {
            (false, _) => 0,
            (true, Some(key)) => u32::from_le_bytes(*key),
            (true, None) => return Ok(Progress::NeedMore),
        };
        let len = 2 + length_bytes + if masked { 4 } else { 0 };
        Ok(Progress::Done(Header { op_code, fin, payload_len, key }, len))
    }

    /// FIN, reserved bits and opcode (RFC 6455 5.2, 5.4, 5.5).
    fn judge_first(&self, byte: u8) -> Result<(OpCode, bool), FrameError> {
        if byte & RESERVED_BITS != 0 {
            self.judge_reserved(byte)?;
        }
        let op_code = OpCode::from_bits(byte & 0x0F).ok_or(FrameError::ReservedOpCode)?;
        let fin = byte & FIN_BIT != 0;
        match (op_code, self.message) {
            (OpCode::Continuation, None) => Err(FrameError::ContinuationWithoutStart),
            (OpCode::Text | OpCode::Binary, Some(_)) => Err(FrameError::MessageInsideMessage),
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) if !fin => Err(FrameError::ControlFragmented),
            _ => Ok((op_code, fin)),
        }
    }

    /// A first byte with reserved bits (RFC 6455 5.2, RFC 7692 6.1).
    #[cold]
    fn judge_reserved(&self, byte: u8) -> Result<(), FrameError> {
        if self.deflate == Deflate::NotAgreed || byte & RESERVED_BITS != DEFLATE_BIT {
            return Err(FrameError::ReservedBits);
        }
        match OpCode::from_bits(byte & 0x0F) {
            Some(OpCode::Text | OpCode::Binary) => Ok(()),
            Some(_) => Err(FrameError::DeflateBitMisplaced),
            None => Err(FrameError::ReservedOpCode),
        }
    }

    /// Mask bit and short length (RFC 6455 5.1, 5.5). Returns whether a key follows.
    fn judge_second(&self, byte: u8, op_code: OpCode) -> Result<bool, FrameError> {
        let masked = byte & MASK_BIT != 0;
        match self.role {
            Role::Server if !masked => Err(FrameError::MaskMissing),
            Role::Client if masked => Err(FrameError::MaskForbidden),
            _ if op_code.is_control() && u64::from(byte & !MASK_BIT) > LENGTH_7_MAX => Err(FrameError::ControlTooLong),
            _ => Ok(masked),
        }
    }

    fn begin_frame(&mut self, first_byte: u8, header: Header) {
        // Judged already: with this bit it is the first frame of a message.
        if first_byte & DEFLATE_BIT != 0 {
            self.deflate = Deflate::Compressed;
        }
        self.remaining = header.payload_len;
        self.key = header.key;
        self.op_code = header.op_code;
        if header.op_code.is_control() {
            self.stage = Stage::Control;
            return;
        }
        self.fin = header.fin;
        self.stage = Stage::Data;
        match header.op_code {
            OpCode::Text => self.message = Some(DataKind::Text),
            OpCode::Binary => self.message = Some(DataKind::Binary),
            _ => {}
        }
    }

    /// Takes what there is of the payload of a data frame. `None`: an empty fragment in the middle of a message.
    fn take_data<'b>(&mut self, rest: &mut &'b mut [u8]) -> Result<Option<Piece<'b>>, FrameError> {
        let (payload, ascii) = self.take_payload(rest);
        let frame_done = self.remaining == 0;
        let fin = frame_done && self.fin;
        let kind = self.message.unwrap_or(DataKind::Binary);
        if kind == DataKind::Text && !(ascii && self.text == TextTail::EMPTY) && self.deflate != Deflate::Compressed {
            self.text.check(payload)?;
            if fin && self.text != TextTail::EMPTY {
                return Err(FrameError::TextEndsInCharacter);
            }
        }
        if frame_done {
            self.stage = Stage::Header;
        }
        if payload.is_empty() && !fin {
            return Ok(None);
        }
        let first = !self.started;
        self.started = !fin;
        if fin {
            self.message = None;
        }
        Ok(Some(Piece { kind, payload, first, fin }))
    }

    /// Takes and unmasks what there is of the payload. Also tells whether it is known to be ASCII.
    fn take_payload<'b>(&mut self, rest: &mut &'b mut [u8]) -> (&'b mut [u8], bool) {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
        let payload = take(rest, len);
        self.remaining -= len as u64;
        if self.key == 0 {
            return (payload, false);
        }
        let applied = mask::apply(payload, self.key);
        self.key = applied.key;
        (payload, applied.ascii)
    }

    /// Takes what there is of a control payload, and the event once it is complete.
    fn take_control(&mut self, rest: &mut &mut [u8]) -> Result<Option<Event<'static>>, FrameError> {
        let (mut payload, _) = self.take_payload(rest);
        if self.remaining != 0 {
            self.hold(&mut payload);
            return Ok(None);
        }
        let whole = if self.held_len == 0 {
            ControlPayload::new(payload)
        } else {
            self.hold(&mut payload);
            ControlPayload::new(&self.held[..usize::from(self.held_len)])
        };
        self.held_len = 0;
        self.stage = Stage::Header;
        match self.op_code {
            OpCode::Ping => Ok(Some(Event::Ping(whole))),
            OpCode::Pong => Ok(Some(Event::Pong(whole))),
            _ => {
                let event = close_event(whole.as_slice())?;
                self.stage = Stage::Over;
                Ok(Some(event))
            }
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("stage", &self.stage)
            .field("message", &self.message)
            .field("remaining", &self.remaining)
            .field("held_len", &self.held_len)
            .finish_non_exhaustive()
    }
}

/// [`Event::Data`], small enough to be handed from function to function.
struct Piece<'b> {
    kind: DataKind,
    payload: &'b mut [u8],
    first: bool,
    fin: bool,
}

/// A frame header as read.
#[derive(Clone, Copy)]
struct Header {
    op_code: OpCode,
    fin: bool,
    payload_len: u64,
    key: u32,
}

/// The minimal number of bytes must be used, and the top bit must be 0 (RFC 6455 5.2).
fn judge_length(payload_len: u64, length_bytes: usize) -> Result<(), FrameError> {
    match length_bytes {
        2 if payload_len <= LENGTH_7_MAX => Err(FrameError::LengthNotMinimal),
        8 if payload_len <= u64::from(u16::MAX) => Err(FrameError::LengthNotMinimal),
        8 if payload_len >> 63 != 0 => Err(FrameError::LengthHighBit),
        _ => Ok(()),
    }
}

/// Reads the payload of a Close frame (RFC 6455 5.5.1, 7.4).
fn close_event(payload: &[u8]) -> Result<Event<'static>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: ControlPayload::EMPTY }),
            _ => Err(FrameError::ClosePayloadOneByte),
        };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.may_be_sent() {
        return Err(FrameError::CloseCodeForbidden);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(FrameError::CloseReasonNotUtf8);
    }
    Ok(Event::Close { code: Some(code), reason: ControlPayload::new(reason) })
}

/// Cuts `len` bytes off the front of `rest`.
fn take<'b>(rest: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, back) = std::mem::take(rest).split_at_mut(len);
    *rest = back;
    front
}

/// The bytes of a UTF-8 character that the text so far ends in, 0 to 3 of them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TextTail {
    bytes: [u8; 3],
    len: u8,
}

impl TextTail {
    const EMPTY: Self = Self { bytes: [0; 3], len: 0 };

    /// Goes on with `text`.
    ///
    /// # Errors
    /// At the first byte that no valid text can have there (RFC 3629).
    fn check(&mut self, text: &[u8]) -> Result<(), FrameError> {
        let rest = self.finish(text)?;
        let Err(error) = std::str::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(FrameError::TextNotUtf8);
        }
        let tail = &rest[error.valid_up_to()..];
        self.bytes[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// Completes the carried character from the front of `text`, and returns what is after it.
    fn finish<'t>(&mut self, text: &'t [u8]) -> Result<&'t [u8], FrameError> {
        let mut rest = text;
        while self.len != 0 {
            let [byte, after @ ..] = rest else { break };
            rest = after;
            let carried = usize::from(self.len);
            let mut character = [self.bytes[0], self.bytes[1], self.bytes[2], 0];
            character[carried] = *byte;
            match std::str::from_utf8(&character[..=carried]) {
                Ok(_) => *self = Self::EMPTY,
                Err(error) if error.error_len().is_some() => return Err(FrameError::TextNotUtf8),
                Err(_) => {
                    // Still incomplete after four bytes is impossible, so `carried` is at most 2 here.
                    self.bytes[carried] = *byte;
                    self.len += 1;
                }
            }
        }
        Ok(rest)
    }
}

/// The events of one run of input; see [`Decoder::handle_bytes`].
#[derive(Debug)]
pub struct Frames<'d, 'b> {
    decoder: &'d mut Decoder,
    rest: &'b mut [u8],
}

impl Frames<'_, '_> {
    /// How many bytes of the input were not looked at yet. After a Close or an error: bytes that are ignored.
    #[must_use]
    pub fn rest_len(&self) -> usize {
        self.rest.len()
    }

    /// Whether the piece of a message that came out last is of a compressed one.
    pub(super) fn is_compressed(&self) -> bool {
        self.decoder.deflate == Deflate::Compressed
    }

    /// The compressed message has come to its end.
    pub(super) fn end_compressed(&mut self) {
        self.decoder.deflate = Deflate::Agreed;
    }

    /// Ends the conversation: no more events, and the decoder is over.
    pub(super) fn end(&mut self) {
        self.decoder.end();
    }
}

impl<'b> Iterator for Frames<'_, 'b> {
    type Item = Result<Event<'b>, FrameError>;

    /// The next event. `None`: more input is needed, or the conversation is over. After an error always `None`.
    fn next(&mut self) -> Option<Self::Item> {
        let decoder = &mut *self.decoder;
        let failed = loop {
            match decoder.stage {
                Stage::Header if self.rest.is_empty() => return None,
                Stage::Header => match decoder.take_header(&mut self.rest) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(error) => break error,
                },
                Stage::Data if self.rest.is_empty() && decoder.remaining != 0 => return None,
                Stage::Data => match decoder.take_data(&mut self.rest) {
                    Ok(Some(Piece { kind, payload, first, fin })) => {
                        return Some(Ok(Event::Data { kind, payload, first, fin }));
                    }
                    Ok(None) => {}
                    Err(error) => break error,
                },
                Stage::Control => match decoder.take_control(&mut self.rest) {
                    Ok(event) => return event.map(Ok),
                    Err(error) => break error,
                },
                Stage::Over => return None,
            }
        };
        decoder.stage = Stage::Over;
        Some(Err(failed))
    }
}
