//! Bodies of the fuzz targets for WebSocket. They assert; the targets, and seeded tests, only bring the bytes.

use super::decoder::{Decoder, Event, Role};
use super::encode::{
    FRAGMENT_BYTES, FRAGMENT_PAYLOAD_MAX, MessageWriter, message_len, write_close, write_control, write_masked_close,
    write_masked_control, write_masked_fragment,
};
use super::{DataKind, OpCode};
use crate::cursor::Sink;
use crate::error::{CloseCode, FrameError};

/// What a stream means, however it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transcript {
    pub(super) items: Vec<Item>,
    /// The message that has begun and not ended; not compared after an error, as cuts decide what came before it.
    /// Of compressed ones nothing is heard before the end.
    pub(super) open: Option<(DataKind, Vec<u8>)>,
    pub(super) at_rest: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Message(DataKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Failed(FrameError),
}

impl Transcript {
    /// Notes what a decoder says.
    pub(super) fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Data { kind, payload, first, fin } => {
                assert_eq!(first, self.open.is_none(), "`first` begins messages and nothing else");
                assert!(fin || !payload.is_empty(), "a piece without bytes says something");
                assert!(self.open.as_ref().is_none_or(|(open, _)| *open == kind));
                self.data(kind, payload, fin);
            }
            Event::Ping(payload) => self.items.push(Item::Ping(payload.as_slice().to_vec())),
            Event::Pong(payload) => self.items.push(Item::Pong(payload.as_slice().to_vec())),
            Event::Close { code, reason } => {
                self.items.push(Item::Close(code.map(|code| code.0), reason.as_slice().to_vec()));
                self.open = None;
            }
        }
    }

    fn data(&mut self, kind: DataKind, payload: &[u8], fin: bool) {
        let (_, message) = self.open.get_or_insert_with(|| (kind, Vec::new()));
        message.extend_from_slice(payload);
        if fin && let Some((kind, message)) = self.open.take() {
            self.items.push(Item::Message(kind, message));
        }
    }

    pub(super) fn fail(mut self, error: FrameError) -> Self {
        self.items.push(Item::Failed(error));
        self.open = None;
        self.at_rest = false;
        self
    }
}

/// Decodes `stream` in the pieces that `piece_len` asks for (it is given the bytes left). Like the engine, forgets a
/// decoder at rest.
fn decode(role: Role, stream: &[u8], mut piece_len: impl FnMut(usize) -> usize) -> Transcript {
    let mut transcript = Transcript::default();
    let mut decoder = Decoder::new(role);
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let len = piece_len(rest.len()).clamp(1, rest.len());
        let (piece, after) = rest.split_at_mut(len);
        rest = after;
        let mut frames = decoder.handle_bytes(piece);
        while let Some(event) = frames.next() {
            match event {
                Ok(event) => transcript.hear(event),
                Err(error) => {
                    assert!(frames.next().is_none(), "nothing follows an error");
                    assert!(decoder.is_over() && !decoder.at_rest());
                    return transcript.fail(error);
                }
            }
        }
        if decoder.at_rest() {
            assert!(transcript.open.is_none());
            decoder = Decoder::new(role);
        }
    }
    transcript.at_rest = decoder.at_rest();
    transcript
}

/// What the letter of an RFC makes of a compressed message: its bytes, or the rule it breaks.
pub(super) type InflatePlainly = fn(&[u8]) -> Result<Vec<u8>, FrameError>;

/// A message that has begun, as [`read_plainly`] sees it.
struct PlainMessage {
    kind: DataKind,
    compressed: bool,
    bytes: Vec<u8>,
}

impl PlainMessage {
    /// Judges text as soon as it can be, and inflates what has ended.
    fn judge(&mut self, fin: bool, inflate: Option<InflatePlainly>) -> Result<(), FrameError> {
        if self.compressed {
            let whole = inflate.expect("an agreement")(&self.bytes);
            match whole {
                Err(FrameError::DeflatedTooLong) => return Err(FrameError::DeflatedTooLong),
                _ if !fin => return Ok(()),
                whole => self.bytes = whole?,
            }
        }
        if self.kind == DataKind::Text
            && let Err(error) = std::str::from_utf8(&self.bytes)
        {
            if error.error_len().is_some() {
                return Err(FrameError::TextNotUtf8);
            } else if fin {
                return Err(FrameError::TextEndsInCharacter);
            }
        }
        Ok(())
    }
}

/// The same by the letter of RFC 6455, from the whole stream, without any of the decoder's code. With `inflate`, that of
/// RFC 7692 as well.
pub(super) fn read_plainly(role: Role, stream: &[u8], inflate: Option<InflatePlainly>) -> Transcript {
    let mut said = Transcript::default();
    let mut message: Option<PlainMessage> = None;
    let mut at = 0;
    while at < stream.len() {
        let bytes = &stream[at..];
        let open = message.as_ref().map(|message| message.kind);
        let frame = match plain_header(role, bytes, open, inflate.is_some()) {
            Ok(Some(frame)) => frame,
            Ok(None) => return left_open(said, message, false),
            Err(error) => return said.fail(error),
        };
        let whole = (bytes.len() - frame.header_len) as u64 >= frame.payload_len;
        let payload_len = if whole { frame.payload_len as usize } else { bytes.len() - frame.header_len };
        let payload: Vec<u8> = bytes[frame.header_len..][..payload_len]
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ frame.key.map_or(0, |key| key[i % 4]))
            .collect();
        at += frame.header_len + payload_len;
        if frame.op_code >= 8 {
            if !whole {
                return left_open(said, message, false);
            }
            match plain_control(frame.op_code, payload) {
                Ok(item) => {
                    let is_close = matches!(item, Item::Close(..));
                    said.items.push(item);
                    if is_close {
                        return said;
                    }
                }
                Err(error) => return said.fail(error),
            }
            continue;
        }
        let kind = if frame.op_code == 1 { DataKind::Text } else { DataKind::Binary };
        let mut now = message.take().unwrap_or(PlainMessage { kind, compressed: frame.compressed, bytes: Vec::new() });
        now.bytes.extend_from_slice(&payload);
        let ended = whole && frame.fin;
        if let Err(error) = now.judge(ended, inflate) {
            return said.fail(error);
        }
        if ended {
            said.items.push(Item::Message(now.kind, now.bytes));
        } else {
            message = Some(now);
        }
        if !whole {
            return left_open(said, message, false);
        }
    }
    let at_rest = message.is_none();
    left_open(said, message, at_rest)
}

/// The stream ends, with what was heard of `message` so far.
fn left_open(mut said: Transcript, message: Option<PlainMessage>, at_rest: bool) -> Transcript {
    said.open = message
        .filter(|message| !message.compressed && !message.bytes.is_empty())
        .map(|message| (message.kind, message.bytes));
    said.at_rest = at_rest;
    said
}

struct PlainFrame {
    op_code: u8,
    fin: bool,
    compressed: bool,
    header_len: usize,
    payload_len: u64,
    key: Option<[u8; 4]>,
}

/// Reads a frame header. `Ok(None)`: there is more to come and nothing wrong so far.
fn plain_header(
    role: Role,
    bytes: &[u8],
    open: Option<DataKind>,
    deflate: bool,
) -> Result<Option<PlainFrame>, FrameError> {
    let op_code = bytes[0] % 16;
    let fin = bytes[0] >= 128;
    let compressed = match bytes[0] >> 4 & 0b111 {
        0b000 => false,
        0b100 if deflate => true,
        _ => return Err(FrameError::ReservedBits),
    };
    match op_code {
        3..=7 | 11.. => return Err(FrameError::ReservedOpCode),
        0 | 8.. if compressed => return Err(FrameError::DeflateBitMisplaced),
        0 if open.is_none() => return Err(FrameError::ContinuationWithoutStart),
        1 | 2 if open.is_some() => return Err(FrameError::MessageInsideMessage),
        8..=10 if !fin => return Err(FrameError::ControlFragmented),
        _ => {}
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let masked = second >= 128;
    match role {
        Role::Server if !masked => return Err(FrameError::MaskMissing),
        Role::Client if masked => return Err(FrameError::MaskForbidden),
        _ => {}
    }
    let short = second % 128;
    if op_code >= 8 && short > 125 {
        return Err(FrameError::ControlTooLong);
    }
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = bytes.get(2..2 + length_bytes) else { return Ok(None) };
    let long = length.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let payload_len = match short {
        126 if long < 126 => return Err(FrameError::LengthNotMinimal),
        127 if long < 65_536 => return Err(FrameError::LengthNotMinimal),
        127 if long >= 1 << 63 => return Err(FrameError::LengthHighBit),
        126 | 127 => long,
        _ => u64::from(short),
    };
    let key_at = 2 + length_bytes;
    let key = match bytes.get(key_at..key_at + 4) {
        _ if !masked => None,
        Some(key) => Some([key[0], key[1], key[2], key[3]]),
        None => return Ok(None),
    };
    let header_len = key_at + if masked { 4 } else { 0 };
    Ok(Some(PlainFrame { op_code, fin, compressed, header_len, payload_len, key }))
}

fn plain_control(op_code: u8, payload: Vec<u8>) -> Result<Item, FrameError> {
    match op_code {
        9 => return Ok(Item::Ping(payload)),
        10 => return Ok(Item::Pong(payload)),
        _ => {}
    }
    match payload.len() {
        0 => return Ok(Item::Close(None, payload)),
        1 => return Err(FrameError::ClosePayloadOneByte),
        _ => {}
    }
    let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
    let allowed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014].contains(&code);
    if !allowed && !(3000..5000).contains(&code) {
        return Err(FrameError::CloseCodeForbidden);
    }
    match String::from_utf8(payload[2..].to_vec()) {
        Ok(reason) => Ok(Item::Close(Some(code), reason.into_bytes())),
        Err(_) => Err(FrameError::CloseReasonNotUtf8),
    }
}

/// A small generator (xorshift), for cuts and shapes.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// Decodes `stream` whole, one byte at a time, and cut at places `seed` decides; all three must agree.
fn decode_every_way(role: Role, stream: &[u8], seed: u64) -> Transcript {
    let whole = decode(role, stream, |left| left);
    assert_eq!(whole, decode(role, stream, |_| 1), "one byte at a time");
    let mut random = Random::new(seed);
    assert_eq!(whole, decode(role, stream, |_| 1 + random.below(19)), "cut by seed {seed}");
    whole
}

/// Any bytes as a stream of frames. Byte 0: role, and where to cut.
pub fn fuzz_decoder(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let decoded = decode_every_way(role, stream, u64::from(choice));
    assert_eq!(decoded, read_plainly(role, stream, None), "as RFC 6455 reads");
}

/// A round trip says no more when its stream has grown to this: all shapes fit, and a run stays short.
const STREAM_BYTES_ENOUGH: usize = 3 * 1024;

/// Says what `data` orders (messages in fragments, control frames between them, a Close) with the encoders of one role
/// and hears it with the decoder of the other.
pub fn fuzz_round_trip(data: &[u8]) {
    let Some((&choice, orders)) = data.split_first() else { return };
    let decoding = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let mut speaker =
        Speaker { decoding, stream: Vec::new(), expected: Vec::new(), random: Random::new(choice.into()) };
    for order in orders.chunks(3) {
        if speaker.stream.len() > STREAM_BYTES_ENOUGH {
            break;
        }
        let payload_len = usize::from(*order.get(1).unwrap_or(&0)) << (order.get(2).unwrap_or(&0) % 6);
        match order[0] % 8 {
            0..=3 => speaker.message(order[0], payload_len),
            4 | 5 => speaker.control(OpCode::Ping, payload_len % 126),
            6 => speaker.control(OpCode::Pong, payload_len % 126),
            _ => {
                speaker.close(u16::from(order[0]) * 20, payload_len % 300);
                break;
            }
        }
    }
    let closed = matches!(speaker.expected.last(), Some(Item::Close(..)));
    let heard = decode_every_way(decoding, &speaker.stream, choice.into());
    assert_eq!(heard, Transcript { items: speaker.expected, open: None, at_rest: !closed });
}

/// Encodes, and keeps what a decoder should make of it.
struct Speaker {
    decoding: Role,
    stream: Vec<u8>,
    expected: Vec<Item>,
    random: Random,
}

impl Speaker {
    fn key(&mut self) -> [u8; 4] {
        (self.random.below(1 << 32) as u32).to_le_bytes()
    }

    /// A message of `payload_len` bytes, in the shape `order` picks. Text is whole characters of 1 to 4 bytes.
    fn message(&mut self, order: u8, payload_len: usize) {
        let kind = if order & 8 == 0 { DataKind::Text } else { DataKind::Binary };
        let mut payload = Vec::with_capacity(payload_len + 4);
        while payload.len() < payload_len {
            match (kind, self.random.below(8)) {
                (DataKind::Text, 0) => payload.extend_from_slice("\u{e9}".as_bytes()),
                (DataKind::Text, 1) => payload.extend_from_slice("\u{20ac}".as_bytes()),
                (DataKind::Text, 2) => payload.extend_from_slice("\u{1f600}".as_bytes()),
                (DataKind::Text, small) => payload.extend_from_slice(&[b'a' + small as u8; 5]),
                (DataKind::Binary, _) => payload.push(self.random.below(256) as u8),
            }
        }
        match (self.decoding, order & 16) {
            (Role::Client, 0) => self.written(kind, &payload),
            _ => self.fragments(kind, &payload),
        }
        self.expected.push(Item::Message(kind, payload));
    }

    /// Through [`MessageWriter`], in pieces.
    fn written(&mut self, kind: DataKind, payload: &[u8]) {
        let start = self.stream.len();
        let mut writer = MessageWriter::new(&mut self.stream, kind, payload.len());
        let mut rest = payload;
        while !rest.is_empty() {
            let (now, after) = rest.split_at(1 + self.random.below(rest.len().min(3000)));
            writer.put(now);
            assert_eq!(writer.payload_rest(), after.len());
            rest = after;
        }
        writer.finish();
        let framed = &self.stream[start..];
        assert_eq!(framed.len(), message_len(payload.len()));
        if payload.len() > FRAGMENT_PAYLOAD_MAX {
            for boundary in (FRAGMENT_BYTES..framed.len()).step_by(FRAGMENT_BYTES) {
                assert_eq!(framed[boundary] & 0x0F, OpCode::Continuation as u8, "a frame every 2 048 bytes");
            }
        }
    }

    /// As frames of random length, some of them empty, with control frames between.
    fn fragments(&mut self, kind: DataKind, payload: &[u8]) {
        let (mut rest, mut first) = (payload, true);
        loop {
            let fin = self.random.below(4) == 0;
            let (now, after) = rest.split_at(if fin { rest.len() } else { self.random.below(rest.len() + 1) });
            rest = after;
            let key = self.key();
            match self.decoding {
                Role::Server => write_masked_fragment(&mut self.stream, kind, first, fin, now, key),
                Role::Client => MessageWriter::fragment(&mut self.stream, kind, first, fin, now),
            }
            if fin {
                return;
            }
            first = false;
            if self.random.below(3) == 0 {
                let payload_len = self.random.below(126);
                self.control(OpCode::Ping, payload_len);
            }
        }
    }

    fn control(&mut self, op_code: OpCode, payload_len: usize) {
        let payload: Vec<u8> = (0..payload_len).map(|_| self.random.below(256) as u8).collect();
        let key = self.key();
        match self.decoding {
            Role::Server => write_masked_control(&mut self.stream, op_code, &payload, key),
            Role::Client => write_control(&mut self.stream, op_code, &payload),
        }
        self.expected.push(if op_code == OpCode::Ping { Item::Ping(payload) } else { Item::Pong(payload) });
    }

    fn close(&mut self, code: u16, reason_len: usize) {
        let reason: String = "r\u{e9}ason".chars().cycle().take(reason_len).collect();
        let key = self.key();
        match self.decoding {
            Role::Server => write_masked_close(&mut self.stream, Some(CloseCode(code)), &reason, key),
            Role::Client => write_close(&mut self.stream, Some(CloseCode(code)), &reason),
        }
        if !CloseCode(code).may_be_sent() {
            self.expected.push(Item::Close(None, Vec::new()));
            return;
        }
        let mut kept = reason;
        while kept.len() > 123 {
            kept.pop();
        }
        self.expected.push(Item::Close(Some(code), kept.into_bytes()));
    }
}
