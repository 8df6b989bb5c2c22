//! What every test of the hub needs: decoding cut anywhere, and random numbers that can be had again.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::{Format, Message, MessageError, Value, decode, decode_one, message_len};

/// What a stream of bytes says: the messages in words, how many bytes are left over, and the error that ended it.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub messages: Vec<String>,
    pub left: usize,
    pub error: Option<MessageError>,
}

/// Decodes `pieces` as a connection would: what is incomplete is kept, and never searched twice.
pub fn read<'a>(format: Format, pieces: impl IntoIterator<Item = &'a [u8]>, message_bytes_max: usize) -> Told {
    let mut kept = Vec::new();
    let mut searched = 0;
    let mut messages = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let decoded = message_len(format, &kept, searched, message_bytes_max)
                .and_then(|length| length.map(|length| Ok((decode_one(format, &kept[..length])?, length))).transpose());
            match decoded {
                Ok(Some((message, length))) => {
                    messages.push(format!("{message:?}"));
                    kept.drain(..length);
                    searched = 0;
                }
                Ok(None) => {
                    searched = kept.len();
                    break;
                }
                Err(error) => return Told { messages, left: 0, error: Some(error) },
            }
        }
    }
    Told { messages, left: kept.len(), error: None }
}

/// Decodes `bytes` whole, byte by byte and at every single cut, and asserts that it makes no difference.
pub fn read_every_way(format: Format, bytes: &[u8], message_bytes_max: usize) -> Told {
    let whole = read(format, [bytes], message_bytes_max);
    assert_eq!(read(format, bytes.chunks(1), message_bytes_max), whole, "byte by byte");
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(read(format, [front, back], message_bytes_max), whole, "cut at {cut}");
    }
    whole
}

/// Decodes the one message that `bytes` are, every way.
pub fn one(format: Format, bytes: &[u8]) -> Message<'_> {
    let told = read_every_way(format, bytes, 0);
    assert_eq!((told.messages.len(), told.left, told.error), (1, 0, None), "{}", String::from_utf8_lossy(bytes));
    match decode(format, bytes, 0) {
        Ok(Progress::Done(message, used)) => {
            assert_eq!(used, bytes.len());
            message
        }
        other => panic!("{other:?}"),
    }
}

/// The error that `bytes` end in, every way.
pub fn fault(format: Format, bytes: &[u8]) -> MessageError {
    let told = read_every_way(format, bytes, 0);
    told.error.unwrap_or_else(|| panic!("accepted {:?}: {:?}", String::from_utf8_lossy(bytes), told.messages))
}

/// A JSON record: the text and its separator.
pub fn record(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\x1e"].concat()
}

/// `02 91 06` as bytes.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The bytes of what `write` writes.
pub fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// SplitMix64: small, seeded, good enough to choose test cases.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Short texts of everything that is hard: escapes, controls, all widths of UTF-8.
    pub fn text(&mut self) -> String {
        const HARD: [char; 16] = [
            '"',
            '\\',
            '/',
            '\0',
            '\u{1e}',
            '\n',
            '\r',
            '\t',
            '\u{7f}',
            'a',
            'Z',
            '\u{e9}',
            '\u{20ac}',
            '\u{2028}',
            '\u{1f600}',
            '\u{10ffff}',
        ];
        let length = self.below(12);
        (0..length).map(|_| HARD[self.below(16) as usize]).collect()
    }

    pub fn integer(&mut self) -> i64 {
        let bits = self.below(64);
        (self.next() as i64) >> bits
    }

    pub fn float(&mut self) -> f64 {
        loop {
            let value = if self.chance(50) { f64::from_bits(self.next()) } else { self.integer() as f64 / 8.0 };
            if value.is_finite() {
                return value;
            }
        }
    }

    /// A tree that JSON can say without loss; at most `depth` containers deep.
    pub fn plain_value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => Value::Bool(self.chance(50)),
            2 => Value::Int(self.integer()),
            3 => Value::from(self.next()),
            4 => Value::Float(self.float()),
            5 => Value::Str(self.text()),
            6 => (0..self.below(5)).map(|_| self.plain_value(depth - 1)).collect(),
            _ => {
                Value::Map((0..self.below(5)).map(|_| (Value::Str(self.text()), self.plain_value(depth - 1))).collect())
            }
        }
    }

    /// A tree of everything MessagePack can say.
    pub fn any_value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => self.plain_value(0),
            1 => Value::Bin((0..self.below(40)).map(|_| self.next() as u8).collect()),
            2 => Value::Timestamp { seconds: self.integer(), nanos: self.below(1_000_000_000) as u32 },
            3 => Value::Ext { kind: self.below(100) as i8, bytes: vec![7; self.below(20) as usize] },
            4 => (0..self.below(20)).map(|_| self.any_value(depth - 1)).collect(),
            _ => Value::Map(
                (0..self.below(20)).map(|_| (self.any_value(depth - 1), self.any_value(depth - 1))).collect(),
            ),
        }
    }
}
