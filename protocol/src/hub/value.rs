//! Values an application builds or takes apart: an owned tree that both formats can carry.

use super::error::{BindError, MsgpackFault, PayloadError, Unsayable};
use super::json::number::{self, Number};
use super::json::scan::{Container, Scanner, Text, Visitor};
use super::msgpack::read::{Reader, Token, text};
use super::raw::Raw;
use super::timestamp::Timestamp;
use super::{DEPTH_MAX, Format, json, msgpack};
use crate::cursor::Sink;

/// A value on its way to or from a client.
///
/// JSON has neither [`Bin`](Self::Bin) nor [`Timestamp`](Self::Timestamp): they go out as base64 and ISO 8601 text
/// (and come back as [`Str`](Self::Str)). It has neither [`Ext`](Self::Ext) nor NaN nor infinities: writing those
/// fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Null, nil.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer; exact in both formats.
    Int(i64),
    /// An integer, when it is above `i64::MAX` (smaller ones are read as [`Int`](Self::Int)).
    UInt(u64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bin(Vec<u8>),
    /// A point in time, see [`Timestamp`].
    Timestamp {
        /// Seconds since 1970-01-01T00:00:00Z.
        seconds: i64,
        /// Nanoseconds to add, below 10^9.
        nanos: u32,
    },
    /// A MessagePack extension of another type than -1.
    Ext {
        /// The extension type.
        kind: i8,
        /// Its data.
        bytes: Vec<u8>,
    },
    /// A list.
    Array(Vec<Value>),
    /// Pairs in order. JSON turns integer and boolean keys into text and refuses others.
    Map(Vec<(Value, Value)>),
}

/// Containers open around an item or result: the message itself.
const ITEM_DEPTH: u32 = 1;

impl Value {
    /// An object with these properties.
    pub fn object<K: Into<String>, V: Into<Value>>(properties: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = properties.into_iter().map(|(key, value)| (Self::Str(key.into()), value.into()));
        Self::Map(pairs.collect())
    }

    /// The tree of one encoded value.
    pub(crate) fn decode(raw: Raw<'_>) -> Result<Self, BindError> {
        match raw.format() {
            Format::Json => Self::decode_json(raw.bytes()),
            Format::MessagePack => Self::decode_msgpack(&mut Reader::new(raw.bytes()), 0),
        }
    }

    fn decode_json(bytes: &[u8]) -> Result<Self, BindError> {
        let mut scanner = Scanner::new(bytes);
        let mut builder = Builder::default();
        scanner.walk(0, &mut builder)?;
        scanner.end()?;
        builder.done.ok_or(BindError::Malformed)
    }

    fn decode_msgpack(reader: &mut Reader<'_>, depth: u32) -> Result<Self, BindError> {
        Ok(match reader.token()? {
            Token::Nil => Self::Null,
            Token::Bool(value) => Self::Bool(value),
            Token::Int(value) => Self::Int(value),
            Token::UInt(value) => Self::UInt(value),
            Token::Float32(value) => Self::Float(value.into()),
            Token::Float64(value) => Self::Float(value),
            Token::Str(bytes) => Self::Str(text(bytes)?.to_owned()),
            Token::Bin(bytes) => Self::Bin(bytes.to_vec()),
            Token::Ext(msgpack::write::TIMESTAMP_EXT, bytes) => {
                Timestamp::from_extension(bytes).ok_or(BindError::Timestamp)?.into()
            }
            Token::Ext(kind, bytes) => Self::Ext { kind, bytes: bytes.to_vec() },
            // The reader has made sure that the counts are no larger than the bytes left.
            Token::Array(count) => {
                reader.check_depth(depth)?;
                let items = (0..count).map(|_| Self::decode_msgpack(reader, depth + 1));
                Self::Array(items.collect::<Result<_, _>>()?)
            }
            Token::Map(count) => {
                reader.check_depth(depth)?;
                let mut pair = || {
                    let key = Self::decode_msgpack(reader, depth + 1)?;
                    Ok::<_, BindError>((key, Self::decode_msgpack(reader, depth + 1)?))
                };
                Self::Map((0..count).map(|_| pair()).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Writes the value. On an error the sink may hold a part of it already; the error is the same in a counting
    /// pass, so count first where that matters.
    pub fn write<S: Sink + ?Sized>(&self, format: Format, sink: &mut S) -> Result<(), PayloadError> {
        self.write_inside(format, sink, ITEM_DEPTH)
    }

    /// Writes the value with `depth` containers open around it.
    pub(crate) fn write_inside<S: Sink + ?Sized>(
        &self,
        format: Format,
        sink: &mut S,
        depth: u32,
    ) -> Result<(), PayloadError> {
        match format {
            Format::Json => self.write_json(sink, depth),
            Format::MessagePack => self.write_msgpack(sink, depth),
        }
    }

    fn write_json<S: Sink + ?Sized>(&self, sink: &mut S, depth: u32) -> Result<(), PayloadError> {
        let unsayable = |what| PayloadError::NotRepresentable { format: Format::Json, what };
        match self {
            Self::Null => sink.put(b"null"),
            Self::Bool(value) => json::write::boolean(sink, *value),
            Self::Int(value) => json::write::integer(sink, *value),
            Self::UInt(value) => json::write::unsigned(sink, *value),
            Self::Float(value) => {
                if !json::write::float(sink, *value) {
                    return Err(unsayable(Unsayable::NotFinite));
                }
            }
            Self::Str(text) => json::write::string(sink, text),
            Self::Bin(bytes) => json::write::base64(sink, bytes),
            Self::Timestamp { seconds, nanos } => json_timestamp(sink, Timestamp { seconds: *seconds, nanos: *nanos })?,
            Self::Ext { .. } => return Err(unsayable(Unsayable::Extension)),
            Self::Array(items) => {
                check_depth(depth)?;
                sink.put(b"[");
                for (index, item) in items.iter().enumerate() {
                    sink.put(if index == 0 { b"" } else { b"," });
                    item.write_json(sink, depth + 1)?;
                }
                sink.put(b"]");
            }
            Self::Map(pairs) => {
                check_depth(depth)?;
                sink.put(b"{");
                for (index, (key, value)) in pairs.iter().enumerate() {
                    sink.put(if index == 0 { b"" } else { b"," });
                    key.write_json_key(sink)?;
                    sink.put(b":");
                    value.write_json(sink, depth + 1)?;
                }
                sink.put(b"}");
            }
        }
        Ok(())
    }

    fn write_json_key<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        match self {
            Self::Str(text) => json::write::string(sink, text),
            Self::Int(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
            Self::UInt(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
            Self::Bool(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
            _ => return Err(PayloadError::NotRepresentable { format: Format::Json, what: Unsayable::MapKey }),
        }
        Ok(())
    }

    fn write_msgpack<S: Sink + ?Sized>(&self, sink: &mut S, depth: u32) -> Result<(), PayloadError> {
        let too_long = PayloadError::NotRepresentable { format: Format::MessagePack, what: Unsayable::Length };
        let done = match self {
            Self::Null => {
                msgpack::write::nil(sink);
                true
            }
            Self::Bool(value) => {
                msgpack::write::boolean(sink, *value);
                true
            }
            Self::Int(value) => {
                msgpack::write::integer(sink, *value);
                true
            }
            Self::UInt(value) => {
                msgpack::write::unsigned(sink, *value);
                true
            }
            Self::Float(value) => {
                msgpack::write::float(sink, *value);
                true
            }
            Self::Timestamp { seconds, nanos } => {
                msgpack::write::timestamp(sink, Timestamp { seconds: *seconds, nanos: *nanos });
                true
            }
            Self::Str(text) => msgpack::write::string(sink, text),
            Self::Bin(bytes) => msgpack::write::binary(sink, bytes),
            Self::Ext { kind, bytes } => msgpack::write::extension(sink, *kind, bytes),
            Self::Array(items) => {
                check_depth(depth)?;
                msgpack::write::array(sink, u32::try_from(items.len()).map_err(|_| too_long)?);
                for item in items {
                    item.write_msgpack(sink, depth + 1)?;
                }
                true
            }
            Self::Map(pairs) => {
                check_depth(depth)?;
                msgpack::write::map(sink, u32::try_from(pairs.len()).map_err(|_| too_long)?);
                for (key, value) in pairs {
                    key.write_msgpack(sink, depth + 1)?;
                    value.write_msgpack(sink, depth + 1)?;
                }
                true
            }
        };
        if done { Ok(()) } else { Err(too_long) }
    }
}

/// Receivers refuse deeper nesting, so nobody sends it.
fn check_depth(depth: u32) -> Result<(), PayloadError> {
    if depth < DEPTH_MAX { Ok(()) } else { Err(PayloadError::TooDeep) }
}

/// A timestamp as JSON text.
pub(crate) fn json_timestamp<S: Sink + ?Sized>(sink: &mut S, time: Timestamp) -> Result<(), PayloadError> {
    if !time.is_sayable() {
        return Err(PayloadError::NotRepresentable { format: Format::Json, what: Unsayable::Timestamp });
    }
    sink.put(b"\"");
    time.write_iso8601(sink);
    sink.put(b"\"");
    Ok(())
}

/// Grows a tree while the scanner walks over its text.
#[derive(Default)]
struct Builder {
    /// The containers that are open, each with what it holds so far.
    open: Vec<Open>,
    /// The value, once it is complete.
    done: Option<Value>,
}

enum Open {
    Array(Vec<Value>),
    /// The pairs, and the key whose value comes next.
    Map(Vec<(Value, Value)>, Option<String>),
}

impl Builder {
    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            Some(Open::Array(items)) => items.push(value),
            Some(Open::Map(pairs, key)) => {
                // The scanner tells the key before each value.
                pairs.push((Value::Str(key.take().unwrap_or_default()), value));
            }
            None => self.done = Some(value),
        }
    }
}

impl<'a> Visitor<'a> for Builder {
    type Error = BindError;
    fn null(&mut self) -> Result<(), BindError> {
        self.add(Value::Null);
        Ok(())
    }
    fn boolean(&mut self, value: bool) -> Result<(), BindError> {
        self.add(Value::Bool(value));
        Ok(())
    }
    fn number(&mut self, digits: &'a [u8]) -> Result<(), BindError> {
        self.add(match number::parse(digits).ok_or(BindError::Range)? {
            Number::Int(value) => Value::Int(value),
            Number::UInt(value) => Value::UInt(value),
            Number::Float(value) => Value::Float(value),
        });
        Ok(())
    }
    fn string(&mut self, text: Text<'a>) -> Result<(), BindError> {
        self.add(Value::Str(text.decode()?.into_owned()));
        Ok(())
    }
    fn key(&mut self, name: Text<'a>) -> Result<(), BindError> {
        if let Some(Open::Map(_, key)) = self.open.last_mut() {
            *key = Some(name.decode()?.into_owned());
        }
        Ok(())
    }
    fn open(&mut self, container: Container) -> Result<(), BindError> {
        self.open.push(match container {
            Container::Array => Open::Array(Vec::new()),
            Container::Map => Open::Map(Vec::new(), None),
        });
        Ok(())
    }
    fn close(&mut self) -> Result<(), BindError> {
        match self.open.pop() {
            Some(Open::Array(items)) => self.add(Value::Array(items)),
            Some(Open::Map(pairs, _)) => self.add(Value::Map(pairs)),
            None => {}
        }
        Ok(())
    }
}

impl From<MsgpackFault> for PayloadError {
    fn from(fault: MsgpackFault) -> Self {
        match BindError::from(fault) {
            BindError::Text => Self::NotRepresentable { format: Format::Json, what: Unsayable::Text },
            _ => Self::Malformed { format: Format::MessagePack },
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        // No machine has a usize of more than 64 bits.
        (value as u64).into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bin(bytes.to_vec())
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Timestamp { seconds: time.seconds, nanos: time.nanos }
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from! {
    bool => Bool,
    i8 => Int,
    i16 => Int,
    i32 => Int,
    i64 => Int,
    u8 => Int,
    u16 => Int,
    u32 => Int,
    f32 => Float,
    f64 => Float,
    String => Str,
    Vec<u8> => Bin,
    Vec<Value> => Array,
}
