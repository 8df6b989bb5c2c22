//! Bodies of the fuzz targets for permessage-deflate. They assert; the targets, and seeded tests, only bring the bytes.

use super::decoder::DeflateDecoder;
use super::deflater::Deflater;
use super::inflater::{Inflater, deflated_bytes_max};
use super::{FLUSH_TAIL, SERVER_WINDOW_BITS};
use crate::cursor::Sink;
use crate::error::FrameError;
use crate::ws::DataKind;
use crate::ws::decoder::Role;
use crate::ws::encode::{MessageWriter, write_masked_deflated_message};
use crate::ws::fuzz::{Item, Random, Transcript, read_plainly};

/// Bounds to inflate to: none, next to none, within a buffer, a buffer, several.
const INFLATED_BYTES_MAX: [usize; 5] = [0, 1, 300, 4096, 70_000];

/// The bound of a decoder's messages.
const MESSAGE_BYTES_MAX: usize = 2000;

/// Any bytes as the payload of a compressed message. Byte 0: the bound. What comes out, or that nothing does, is as
/// RFC 1951 reads; and a decompressor that has seen anything at all is as good as a new one.
pub fn fuzz_inflater(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else { return };
    let inflated_bytes_max = INFLATED_BYTES_MAX[usize::from(choice) % INFLATED_BYTES_MAX.len()];
    let expected = inflate_plainly(payload, inflated_bytes_max);
    let mut inflater = Inflater::new(inflated_bytes_max);
    for _ in 0..2 {
        let inflated = inflater.inflate(payload).map(|message| message.to_vec()).map_err(one_word);
        assert_eq!(inflated, expected);
    }
}

/// Any bytes as a stream of frames on a connection with compression. Byte 0: role, and where to cut.
pub fn fuzz_deflate_decoder(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let decoded = decode_every_way(role, stream, u64::from(choice));
    let expected = read_plainly(role, stream, Some(|payload| inflate_plainly(payload, MESSAGE_BYTES_MAX)));
    assert_eq!(decoded, expected, "as RFC 6455 and RFC 7692 read");
}

/// Compresses `data`, the first bytes of which tell how often to repeat it and who sends it; inflates what came out by
/// the letter, and hears it with the decoder of the other role.
pub fn fuzz_deflate_round_trip(data: &[u8]) {
    let [choice, repeat, text @ ..] = data else { return };
    let plain = text.repeat(1 + usize::from(*repeat));
    let mut deflater = Deflater::new();
    let Some(payload) = deflater.deflate(&plain).map(<[u8]>::to_vec) else { return };
    assert!(payload.len() < plain.len(), "or it had better be sent as it is");
    assert_eq!(deflater.deflate(&plain), Some(&payload[..]), "it depends on nothing before it");
    let mut reader = PlainInflate::new(&payload, plain.len());
    assert_eq!(reader.message().as_ref(), Ok(&plain));
    assert!(reader.farthest <= 1 << SERVER_WINDOW_BITS, "no farther back than the client was told");

    let decoding = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let mut stream = Vec::new();
    match decoding {
        Role::Server => write_masked_deflated_message(&mut stream, DataKind::Binary, &payload, [*choice, 2, 3, 4]),
        Role::Client => {
            let mut writer = MessageWriter::new_deflated(&mut stream, DataKind::Binary, payload.len());
            writer.put(&payload);
            writer.finish();
        }
    }
    let expected = match plain.len() {
        0..=MESSAGE_BYTES_MAX => Item::Message(DataKind::Binary, plain),
        _ if payload.len() > deflated_bytes_max(MESSAGE_BYTES_MAX) => Item::Failed(FrameError::DeflatedTooLong),
        _ => Item::Failed(FrameError::InflatedTooLong),
    };
    let at_rest = matches!(expected, Item::Message(..));
    let heard = decode_every_way(decoding, &stream, u64::from(*choice));
    assert_eq!(heard, Transcript { items: vec![expected], open: None, at_rest });
}

/// Decodes `stream` whole, one byte at a time, and cut at places `seed` decides; all three must agree.
fn decode_every_way(role: Role, stream: &[u8], seed: u64) -> Transcript {
    let whole = decode(role, stream, |left| left);
    assert_eq!(whole, decode(role, stream, |_| 1), "one byte at a time");
    let mut random = Random::new(seed);
    assert_eq!(whole, decode(role, stream, |_| 1 + random.below(19)), "cut by seed {seed}");
    whole
}

/// Decodes `stream` in the pieces that `piece_len` asks for (it is given the bytes left). Like the engine, forgets a
/// decoder at rest and keeps one decompressor.
fn decode(role: Role, stream: &[u8], mut piece_len: impl FnMut(usize) -> usize) -> Transcript {
    let mut transcript = Transcript::default();
    let mut inflater = Inflater::new(MESSAGE_BYTES_MAX);
    let mut decoder = DeflateDecoder::new(role);
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let len = piece_len(rest.len()).clamp(1, rest.len());
        let (piece, after) = rest.split_at_mut(len);
        rest = after;
        let mut frames = decoder.handle_bytes(&mut inflater, piece);
        while let Some(event) = frames.next_event() {
            match event {
                Ok(event) => transcript.hear(event),
                Err(error) => {
                    assert!(frames.next_event().is_none(), "nothing follows an error");
                    assert!(decoder.is_over() && !decoder.at_rest());
                    return transcript.fail(one_word(error));
                }
            }
        }
        assert!(decoder.held_bytes() <= 2 * deflated_bytes_max(MESSAGE_BYTES_MAX));
        if decoder.at_rest() {
            assert_eq!((decoder.held_bytes(), &transcript.open), (0, &None));
            decoder = DeflateDecoder::new(role);
        }
    }
    transcript.at_rest = decoder.at_rest();
    transcript
}

/// Where DEFLATE goes wrong, a cut and a wrong bit look alike to [`inflate_plainly`].
fn one_word(error: FrameError) -> FrameError {
    if error == FrameError::DeflateTruncated { FrameError::DeflateMalformed } else { error }
}

/// The message in `payload` by the letter of RFC 1951 and RFC 7692 7.2.2, bit by bit, without any of the inflater's code.
fn inflate_plainly(payload: &[u8], inflated_bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    if payload.len() > deflated_bytes_max(inflated_bytes_max) {
        return Err(FrameError::DeflatedTooLong);
    }
    PlainInflate::new(payload, inflated_bytes_max).message()
}

/// The lengths of the codes from 257 on, without their extra bits (RFC 1951 3.2.5).
const LENGTHS: [usize; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];

/// The order of the lengths of the code length code (RFC 1951 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const MALFORMED: FrameError = FrameError::DeflateMalformed;

struct PlainInflate {
    bytes: Vec<u8>,
    /// The next bit.
    at: usize,
    payload_bits: usize,
    message: Vec<u8>,
    /// Where in the message the current stream began: no match reaches before it.
    stream_start: usize,
    message_max: usize,
    /// The longest distance of all matches.
    farthest: usize,
}

impl PlainInflate {
    fn new(payload: &[u8], message_max: usize) -> Self {
        Self {
            // What the sender cut off, and a final block without content.
            bytes: [payload, &FLUSH_TAIL, &[0x01], &FLUSH_TAIL].concat(),
            at: 0,
            payload_bits: 8 * payload.len(),
            message: Vec::new(),
            stream_start: 0,
            message_max,
            farthest: 0,
        }
    }

    /// All streams of the payload.
    fn message(&mut self) -> Result<Vec<u8>, FrameError> {
        while self.at < self.payload_bits {
            self.stream()?;
        }
        Ok(std::mem::take(&mut self.message))
    }

    /// Blocks up to a final one.
    fn stream(&mut self) -> Result<(), FrameError> {
        self.stream_start = self.message.len();
        loop {
            let last = self.bits(1)? == 1;
            match self.bits(2)? {
                0 => self.stored()?,
                1 => {
                    let lengths: Vec<u8> = (0..288).map(fixed_length).collect();
                    self.coded(&PlainCode::new(&lengths), &PlainCode::new(&[5; 30]))?;
                }
                2 => {
                    let (literals, distances) = self.codes()?;
                    self.coded(&literals, &distances)?;
                }
                _ => return Err(MALFORMED),
            }
            if last {
                self.at = self.at.next_multiple_of(8);
                // It ends with the payload, before it, or with all that was appended.
                let ended = self.at <= self.payload_bits || self.at == 8 * self.bytes.len();
                return if ended { Ok(()) } else { Err(MALFORMED) };
            }
        }
    }

    fn bits(&mut self, count: usize) -> Result<usize, FrameError> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(MALFORMED)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }

    /// A byte of the message. All that says it must be in the payload.
    fn push(&mut self, byte: u8) -> Result<(), FrameError> {
        if self.at > self.payload_bits {
            return Err(MALFORMED);
        }
        if self.message.len() == self.message_max {
            return Err(FrameError::InflatedTooLong);
        }
        self.message.push(byte);
        Ok(())
    }

    fn stored(&mut self) -> Result<(), FrameError> {
        self.at = self.at.next_multiple_of(8);
        let (len, complement) = (self.bits(16)?, self.bits(16)?);
        if len ^ complement != 0xFFFF {
            return Err(MALFORMED);
        }
        for _ in 0..len {
            let byte = self.bits(8)? as u8;
            self.push(byte)?;
        }
        Ok(())
    }

    /// The codes of a dynamic block (RFC 1951 3.2.7), as strict about them as zlib.
    fn codes(&mut self) -> Result<(PlainCode, PlainCode), FrameError> {
        let (literals, distances, lengths) = (257 + self.bits(5)?, 1 + self.bits(5)?, 4 + self.bits(4)?);
        if literals > 286 || distances > 30 {
            return Err(MALFORMED);
        }
        let mut code_lengths = [0; 19];
        for place in &ORDER[..lengths] {
            code_lengths[*place] = self.bits(3)? as u8;
        }
        let code = PlainCode::new(&code_lengths);
        if !code.is_complete() {
            return Err(MALFORMED);
        }
        let mut all: Vec<u8> = Vec::new();
        while all.len() < literals + distances {
            let (length, times) = match code.read(self)? {
                16 => (*all.last().ok_or(MALFORMED)?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length as u8, 1),
            };
            all.extend(std::iter::repeat_n(length, times));
        }
        if all.len() > literals + distances || all[256] == 0 {
            return Err(MALFORMED);
        }
        let (literals, distances) = all.split_at(literals);
        let (literals, distances) = (PlainCode::new(literals), PlainCode::new(distances));
        if literals.may_be_used() && distances.may_be_used() { Ok((literals, distances)) } else { Err(MALFORMED) }
    }

    /// The content of a block with codes (RFC 1951 3.2.3).
    fn coded(&mut self, literals: &PlainCode, distances: &PlainCode) -> Result<(), FrameError> {
        loop {
            let symbol = literals.read(self)?;
            if symbol == 256 {
                return Ok(());
            }
            if symbol < 256 {
                self.push(symbol as u8)?;
                continue;
            }
            let place = symbol - 257;
            let base = *LENGTHS.get(place).ok_or(MALFORMED)?;
            let extra = if place == 28 { 0 } else { (place / 4).saturating_sub(1) };
            let length = base + self.bits(extra)?;
            let symbol = distances.read(self)?;
            let extra = (symbol / 2).saturating_sub(1);
            let base = if symbol < 4 { 1 + symbol } else { 1 + ((2 + symbol % 2) << extra) };
            let distance = base + self.bits(extra)?;
            if distance > self.message.len() - self.stream_start {
                return Err(MALFORMED);
            }
            self.farthest = self.farthest.max(distance);
            for _ in 0..length {
                let byte = self.message[self.message.len() - distance];
                self.push(byte)?;
            }
        }
    }
}

/// The length of a literal's code in a fixed block (RFC 1951 3.2.6).
fn fixed_length(symbol: usize) -> u8 {
    match symbol {
        0..=143 => 8,
        144..=255 => 9,
        256..=279 => 7,
        _ => 8,
    }
}

/// A Huffman code by its lengths (RFC 1951 3.2.2).
struct PlainCode {
    /// How many codes have each length, from 1 on.
    counts: [usize; 15],
    /// The symbols by length, then by value.
    symbols: Vec<usize>,
}

impl PlainCode {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; 15];
        let mut symbols = Vec::new();
        for length in 1..=15 {
            let of_length = (0..lengths.len()).filter(|&symbol| lengths[symbol] == length);
            let before = symbols.len();
            symbols.extend(of_length);
            counts[usize::from(length) - 1] = symbols.len() - before;
        }
        Self { counts, symbols }
    }

    /// The part of all codes of 15 bits that is not taken; negative if too much is.
    fn left(&self) -> isize {
        (1..).zip(&self.counts).fold(1 << 15, |left, (length, &count)| left - ((count as isize) << (15 - length)))
    }

    fn is_complete(&self) -> bool {
        self.left() == 0
    }

    /// Complete, a single code of one bit, or none at all, which is an error for whoever needs one.
    fn may_be_used(&self) -> bool {
        self.is_complete() || self.symbols.is_empty() || (self.symbols.len() == 1 && self.counts[0] == 1)
    }

    fn read(&self, bits: &mut PlainInflate) -> Result<usize, FrameError> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for &count in &self.counts {
            code = code << 1 | bits.bits(1)?;
            first <<= 1;
            if code < first + count {
                return Ok(self.symbols[index + code - first]);
            }
            index += count;
            first += count;
        }
        Err(MALFORMED)
    }
}
