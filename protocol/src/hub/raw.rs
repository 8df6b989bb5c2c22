//! Values as they came over the wire: borrowed bytes that are known to be well-formed and get a meaning when asked.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::error::{BindError, Kind};
use super::json::number;
use super::json::scan::{Container, Scanner};
use super::msgpack::read::{Reader, Token, text};
use super::timestamp::Timestamp;
use super::value::Value;
use super::{DEPTH_MAX, Format};

/// How deep one argument, item or result may be nested: the message and the list of arguments are levels as well.
pub const VALUE_DEPTH_MAX: u32 = DEPTH_MAX - 2;

/// Padding is optional: clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// 2^63 and 2^64 as doubles: the first values above an `i64` and a `u64`.
const I64_LIMIT: f64 = 9_223_372_036_854_775_808.0;
const U64_LIMIT: f64 = 18_446_744_073_709_551_616.0;

/// Exactly one encoded value, borrowed. Well-formed and of bounded depth; its texts may still turn out not to be
/// Unicode when they are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    format: Format,
    bytes: &'a [u8],
}

/// A value in the terms both formats share.
enum View<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// An integer of more than 64 bits, to the nearest double.
    Huge(f64),
    Text(Cow<'a, str>),
    Bin,
    Ext(i8, &'a [u8]),
    Array,
    Map,
}

impl View<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Huge(_) => Kind::Number,
            Self::Text(_) => Kind::String,
            Self::Bin => Kind::Binary,
            Self::Ext(super::msgpack::write::TIMESTAMP_EXT, _) => Kind::Timestamp,
            Self::Ext(..) => Kind::Extension,
            Self::Array => Kind::Array,
            Self::Map => Kind::Map,
        }
    }

    fn not(&self, expected: Kind) -> BindError {
        BindError::Kind { expected, found: self.kind() }
    }
}

impl<'a> Raw<'a> {
    /// For bytes a decoder has checked. White space around the value is allowed in JSON.
    pub(crate) fn new(format: Format, bytes: &'a [u8]) -> Self {
        Self { format, bytes }
    }

    /// Checks that `bytes` are one value of `format`, at most [`VALUE_DEPTH_MAX`] deep, and nothing else.
    pub fn parse(format: Format, bytes: &'a [u8]) -> Result<Self, BindError> {
        const DEPTH: u32 = DEPTH_MAX - VALUE_DEPTH_MAX;
        let bytes = match format {
            Format::Json => {
                let mut scanner = Scanner::new(bytes);
                let value = scanner.span(DEPTH)?;
                scanner.end()?;
                value
            }
            Format::MessagePack => {
                let mut reader = Reader::new(bytes);
                let value = reader.span(DEPTH)?;
                reader.end()?;
                value
            }
        };
        Ok(Self { format, bytes })
    }

    /// The format of the bytes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The bytes, as they came.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn view(&self) -> Result<View<'a>, BindError> {
        match self.format {
            Format::Json => self.view_json(),
            Format::MessagePack => self.view_msgpack(),
        }
    }

    fn view_json(&self) -> Result<View<'a>, BindError> {
        let mut scanner = Scanner::new(self.bytes);
        Ok(match scanner.peek()? {
            b'"' => View::Text(scanner.string()?.decode()?),
            b'n' => View::Null,
            b't' => View::Bool(true),
            b'f' => View::Bool(false),
            b'[' => View::Array,
            b'{' => View::Map,
            _ => {
                let digits = scanner.number()?;
                match number::parse(digits).ok_or(BindError::Range)? {
                    number::Number::Int(value) => View::Int(value),
                    number::Number::UInt(value) => View::UInt(value),
                    number::Number::Float(value) if digits.iter().any(|digit| b".eE".contains(digit)) => {
                        View::Float(value)
                    }
                    number::Number::Float(value) => View::Huge(value),
                }
            }
        })
    }

    fn view_msgpack(&self) -> Result<View<'a>, BindError> {
        Ok(match Reader::new(self.bytes).token()? {
            Token::Nil => View::Null,
            Token::Bool(value) => View::Bool(value),
            Token::Int(value) => View::Int(value),
            Token::UInt(value) => View::UInt(value),
            Token::Float32(value) => View::Float(value.into()),
            Token::Float64(value) => View::Float(value),
            Token::Str(bytes) => View::Text(Cow::Borrowed(text(bytes)?)),
            Token::Bin(_) => View::Bin,
            Token::Ext(kind, bytes) => View::Ext(kind, bytes),
            Token::Array(_) => View::Array,
            Token::Map(_) => View::Map,
        })
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        // Only the kind matters here, not whether a text decodes or a number fits.
        match self.view() {
            Ok(view) => view.kind(),
            Err(BindError::Text) => Kind::String,
            Err(BindError::Range) => Kind::Number,
            Err(_) => Kind::Malformed,
        }
    }

    /// Whether it is null (nil).
    pub fn is_null(&self) -> bool {
        matches!(self.view(), Ok(View::Null))
    }

    /// The text; borrowed unless JSON escapes had to be resolved.
    pub fn as_str(&self) -> Result<Cow<'a, str>, BindError> {
        match self.view()? {
            View::Text(text) => Ok(text),
            other => Err(other.not(Kind::String)),
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Result<bool, BindError> {
        match self.view()? {
            View::Bool(value) => Ok(value),
            other => Err(other.not(Kind::Boolean)),
        }
    }

    /// An integer. A float without a fraction counts as one: JavaScript has no other numbers and its MessagePack
    /// encoder turns large integers into floats.
    pub fn as_i64(&self) -> Result<i64, BindError> {
        match self.view()? {
            View::Int(value) => Ok(value),
            View::UInt(_) => Err(BindError::Range),
            // In this range the conversion is exact.
            View::Float(value) if value.fract() == 0.0 && (-I64_LIMIT..I64_LIMIT).contains(&value) => Ok(value as i64),
            View::Float(_) | View::Huge(_) => Err(BindError::Range),
            other => Err(other.not(Kind::Number)),
        }
    }

    /// An integer of zero or more; see [`as_i64`](Self::as_i64) for floats.
    pub fn as_u64(&self) -> Result<u64, BindError> {
        match self.view()? {
            View::Int(value) => value.try_into().map_err(|_| BindError::Range),
            View::UInt(value) => Ok(value),
            // In this range the conversion is exact.
            View::Float(value) if value.fract() == 0.0 && (0.0..U64_LIMIT).contains(&value) => Ok(value as u64),
            View::Float(_) | View::Huge(_) => Err(BindError::Range),
            other => Err(other.not(Kind::Number)),
        }
    }

    /// Any number; integers beyond 2^53 are rounded to the nearest double.
    pub fn as_f64(&self) -> Result<f64, BindError> {
        match self.view()? {
            View::Int(value) => Ok(value as f64),
            View::UInt(value) => Ok(value as f64),
            View::Float(value) | View::Huge(value) => Ok(value),
            other => Err(other.not(Kind::Number)),
        }
    }

    /// Binary data: base64 text in JSON; bin in MessagePack, or the bytes of a str from encoders that know no bin.
    pub fn as_bytes(&self) -> Result<Cow<'a, [u8]>, BindError> {
        if self.format == Format::MessagePack {
            return match Reader::new(self.bytes).token()? {
                Token::Bin(bytes) | Token::Str(bytes) => Ok(Cow::Borrowed(bytes)),
                _ => Err(self.view()?.not(Kind::Binary)),
            };
        }
        match self.view()? {
            View::Text(text) => BASE64.decode(text.as_bytes()).map(Cow::Owned).map_err(|_| BindError::Base64),
            other => Err(other.not(Kind::Binary)),
        }
    }

    /// A point in time: ISO 8601 text in either format, or MessagePack's timestamp extension.
    pub fn as_timestamp(&self) -> Result<Timestamp, BindError> {
        match self.view()? {
            View::Text(text) => Timestamp::parse_iso8601(&text).ok_or(BindError::Timestamp),
            View::Ext(super::msgpack::write::TIMESTAMP_EXT, bytes) => {
                Timestamp::from_extension(bytes).ok_or(BindError::Timestamp)
            }
            other => Err(other.not(Kind::Timestamp)),
        }
    }

    /// The items of an array.
    pub fn array(&self) -> Result<Items<'a>, BindError> {
        match self.view()? {
            View::Array => Ok(Items::new(self.format, self.bytes, Container::Array)),
            other => Err(other.not(Kind::Array)),
        }
    }

    /// The pairs of an object (map), in order. In JSON a key is its string token, quotes and escapes included; in
    /// MessagePack it is any value.
    pub fn entries(&self) -> Result<Entries<'a>, BindError> {
        match self.view()? {
            View::Map => Ok(Entries(Items::new(self.format, self.bytes, Container::Map))),
            other => Err(other.not(Kind::Map)),
        }
    }

    /// The value under `name` (case-sensitive) in an object; the last one, should there be several.
    pub fn field(&self, name: &str) -> Result<Option<Raw<'a>>, BindError> {
        let mut found = None;
        for (key, value) in self.entries()? {
            if key.as_str().is_ok_and(|key| key == name) {
                found = Some(value);
            }
        }
        Ok(found)
    }

    /// The whole value as a tree of its own. Texts in JSON stay texts: whether one means bytes or a time is for the
    /// application to know.
    pub fn value(&self) -> Result<Value, BindError> {
        Value::decode(*self)
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> RawOwned {
        RawOwned { format: self.format, bytes: self.bytes.into() }
    }
}

/// A [`Raw`] that owns its bytes, for answers that come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOwned {
    format: Format,
    bytes: Box<[u8]>,
}

impl RawOwned {
    /// The value.
    pub fn as_raw(&self) -> Raw<'_> {
        Raw { format: self.format, bytes: &self.bytes }
    }
}

/// The arguments of an invocation: the whole array, with its brackets (JSON) or its head (MessagePack). Well-formed
/// and of bounded depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    format: Format,
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Arguments<'a> {
    /// For bytes a decoder has checked and counted.
    pub(crate) fn new(format: Format, bytes: &'a [u8], count: u32) -> Self {
        Self { format, bytes, count }
    }

    /// Checks that `bytes` are one array of `format`, with items at most [`VALUE_DEPTH_MAX`] deep, and nothing else.
    pub fn parse(format: Format, bytes: &'a [u8]) -> Result<Self, BindError> {
        // The message around it is a level, too.
        const DEPTH: u32 = 1;
        let not_an_array = || BindError::Kind { expected: Kind::Array, found: Raw::new(format, bytes).kind() };
        let (bytes, count) = match format {
            Format::Json => {
                let mut scanner = Scanner::new(bytes);
                if scanner.peek()? != b'[' {
                    return Err(not_an_array());
                }
                let array = scanner.array_span(DEPTH)?;
                scanner.end()?;
                array
            }
            Format::MessagePack => {
                let mut reader = Reader::new(bytes);
                let (array, count) = reader.array_span(DEPTH)?;
                reader.end()?;
                (array, count.ok_or_else(not_an_array)?)
            }
        };
        Ok(Self { format, bytes, count })
    }

    /// The format of the bytes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The whole array, as it came.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The arguments in order.
    pub fn iter(&self) -> Items<'a> {
        Items::new(self.format, self.bytes, Container::Array)
    }

    /// One argument. Walks over those before it.
    pub fn get(&self, index: usize) -> Option<Raw<'a>> {
        self.iter().nth(index)
    }

    /// The array as a value.
    pub fn as_raw(&self) -> Raw<'a> {
        Raw::new(self.format, self.bytes)
    }
}

impl<'a> IntoIterator for Arguments<'a> {
    type Item = Raw<'a>;
    type IntoIter = Items<'a>;
    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

/// The ids of the streams that go with an invocation. Known to be Unicode texts.
#[derive(Clone, Copy, Debug)]
pub struct StreamIds<'a>(Arguments<'a>);

/// Equal ids in equal order, however they are written.
impl PartialEq for StreamIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for StreamIds<'_> {}

impl<'a> StreamIds<'a> {
    /// No streams, the ordinary case.
    pub const NONE: Self = Self(Arguments { format: Format::Json, bytes: b"[]", count: 0 });

    pub(crate) fn new(format: Format, bytes: &'a [u8], count: u32) -> Self {
        Self(Arguments::new(format, bytes, count))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        // The decoder has made sure that each is a text, so none is left out.
        self.0.iter().filter_map(|id| id.as_str().ok())
    }
}

/// The items of an array, or the keys and values of a map by turns. Ends early on bytes that nobody validated.
#[derive(Clone, Debug)]
pub struct Items<'a>(Cursor<'a>);

#[derive(Clone, Debug)]
enum Cursor<'a> {
    Json { scanner: Scanner<'a>, in_map: bool, at_value: bool },
    Msgpack { reader: Reader<'a>, left: u64 },
    Done,
}

impl<'a> Items<'a> {
    fn new(format: Format, bytes: &'a [u8], container: Container) -> Self {
        let cursor = match format {
            Format::Json => {
                let mut scanner = Scanner::new(bytes);
                match scanner.enter(container) {
                    Ok(true) => {
                        let in_map = container == Container::Map;
                        Cursor::Json { scanner, in_map, at_value: !in_map }
                    }
                    _ => Cursor::Done,
                }
            }
            Format::MessagePack => {
                let mut reader = Reader::new(bytes);
                match reader.token() {
                    Ok(Token::Array(count)) => Cursor::Msgpack { reader, left: count.into() },
                    Ok(Token::Map(count)) => Cursor::Msgpack { reader, left: u64::from(count) * 2 },
                    _ => Cursor::Done,
                }
            }
        };
        Self(cursor)
    }

    fn advance(&mut self) -> Result<Option<Raw<'a>>, BindError> {
        match &mut self.0 {
            Cursor::Done => Ok(None),
            Cursor::Json { scanner, in_map, at_value } => {
                let (item, last) = if *at_value {
                    let value = scanner.span(0)?;
                    (value, !scanner.another()?)
                } else {
                    (scanner.name_span()?, false)
                };
                *at_value = !*in_map || !*at_value;
                if last {
                    self.0 = Cursor::Done;
                }
                Ok(Some(Raw::new(Format::Json, item)))
            }
            Cursor::Msgpack { left: 0, .. } => Ok(None),
            Cursor::Msgpack { reader, left } => {
                let item = reader.span(0)?;
                *left -= 1;
                Ok(Some(Raw::new(Format::MessagePack, item)))
            }
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Raw<'a>;
    fn next(&mut self) -> Option<Raw<'a>> {
        self.advance().unwrap_or_else(|_| {
            self.0 = Cursor::Done;
            None
        })
    }
}

/// The pairs of an object (map).
#[derive(Clone, Debug)]
pub struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Raw<'a>, Raw<'a>);
    fn next(&mut self) -> Option<(Raw<'a>, Raw<'a>)> {
        Some((self.0.next()?, self.0.next()?))
    }
}
