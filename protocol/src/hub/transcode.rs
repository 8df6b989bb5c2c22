//! One format into the other, without a tree in between.
//!
//! | MessagePack | JSON |
//! |---|---|
//! | nil, bool, str, array | null, true/false, string, array |
//! | int of any width | integer; back in the shortest form |
//! | float 32/64 | shortest digits, always with a fraction or an exponent, so that it comes back as a float |
//! | bin | base64 string (and stays a string on the way back) |
//! | timestamp extension | ISO 8601 string in UTC (and stays a string on the way back) |
//! | map | object; integer and boolean keys become strings, other keys are refused |
//! | other extensions, NaN, infinities | refused |
//!
//! In the other direction integers of more than 64 bits become floats, and numbers beyond a double are refused, as
//! are strings with lone surrogates.

use super::error::{JsonFault, PayloadError, Unsayable};
use super::json::number::{self, Number};
use super::json::scan::{Container, Scanner, Text, Visitor};
use super::msgpack::read::{Reader, Token, text};
use super::timestamp::Timestamp;
use super::value::json_timestamp;
use super::{Format, json, msgpack};
use crate::cursor::Sink;

/// Containers open around what is transcoded: the message.
const DEPTH: u32 = 1;

/// Writes the one value in `bytes` (arguments, an item, a result) in the other format. `bytes` need not have been
/// validated. On an error the sink may hold a part already.
pub fn transcode<S: Sink + ?Sized>(from: Format, to: Format, bytes: &[u8], sink: &mut S) -> Result<(), PayloadError> {
    match (from, to) {
        (Format::Json, Format::MessagePack) => json_to_msgpack(bytes, DEPTH, sink),
        (Format::MessagePack, Format::Json) => {
            let mut reader = Reader::new(bytes);
            msgpack_to_json(&mut reader, DEPTH, sink)?;
            Ok(reader.end()?)
        }
        (Format::Json, Format::Json) | (Format::MessagePack, Format::MessagePack) => {
            sink.put(bytes);
            Ok(())
        }
    }
}

impl From<JsonFault> for PayloadError {
    fn from(_: JsonFault) -> Self {
        Self::Malformed { format: Format::Json }
    }
}

fn not_in_msgpack(what: Unsayable) -> PayloadError {
    PayloadError::NotRepresentable { format: Format::MessagePack, what }
}

fn not_in_json(what: Unsayable) -> PayloadError {
    PayloadError::NotRepresentable { format: Format::Json, what }
}

/// First pass over JSON: how many items each container has, in the order in which they open. MessagePack wants to
/// know before the first item.
#[derive(Default)]
struct Counts {
    counts: Vec<u32>,
    /// Indices into `counts` of the containers that are open.
    open: Vec<usize>,
}

impl Counts {
    fn another(&mut self) -> Result<(), PayloadError> {
        let count = self.open.last().and_then(|&index| self.counts.get_mut(index));
        match count.map(|count| (count.checked_add(1), count)) {
            Some((Some(more), count)) => *count = more,
            Some((None, _)) => return Err(not_in_msgpack(Unsayable::Length)),
            None => {}
        }
        Ok(())
    }
}

impl<'a> Visitor<'a> for Counts {
    type Error = PayloadError;
    fn open(&mut self, _container: Container) -> Result<(), PayloadError> {
        self.open.push(self.counts.len());
        self.counts.push(0);
        Ok(())
    }
    fn element(&mut self) -> Result<(), PayloadError> {
        self.another()
    }
    fn key(&mut self, _name: Text<'a>) -> Result<(), PayloadError> {
        self.another()
    }
    fn close(&mut self) -> Result<(), PayloadError> {
        self.open.pop();
        Ok(())
    }
}

/// Second pass over JSON: writes.
struct Emit<'s, S: ?Sized> {
    sink: &'s mut S,
    counts: std::vec::IntoIter<u32>,
}

impl<S: Sink + ?Sized> Emit<'_, S> {
    fn text(&mut self, text: Text<'_>) -> Result<(), PayloadError> {
        let text = text.decode().map_err(|_| not_in_msgpack(Unsayable::Text))?;
        if msgpack::write::string(self.sink, &text) { Ok(()) } else { Err(not_in_msgpack(Unsayable::Length)) }
    }
}

impl<'a, S: Sink + ?Sized> Visitor<'a> for Emit<'_, S> {
    type Error = PayloadError;
    fn null(&mut self) -> Result<(), PayloadError> {
        msgpack::write::nil(self.sink);
        Ok(())
    }
    fn boolean(&mut self, value: bool) -> Result<(), PayloadError> {
        msgpack::write::boolean(self.sink, value);
        Ok(())
    }
    fn number(&mut self, digits: &'a [u8]) -> Result<(), PayloadError> {
        match number::parse(digits).ok_or(not_in_msgpack(Unsayable::Number))? {
            Number::Int(value) => msgpack::write::integer(self.sink, value),
            Number::UInt(value) => msgpack::write::unsigned(self.sink, value),
            Number::Float(value) => msgpack::write::float(self.sink, value),
        }
        Ok(())
    }
    fn string(&mut self, text: Text<'a>) -> Result<(), PayloadError> {
        self.text(text)
    }
    fn key(&mut self, name: Text<'a>) -> Result<(), PayloadError> {
        self.text(name)
    }
    fn open(&mut self, container: Container) -> Result<(), PayloadError> {
        // The first pass has left one count for each container.
        let count = self.counts.next().ok_or(PayloadError::Malformed { format: Format::Json })?;
        match container {
            Container::Array => msgpack::write::array(self.sink, count),
            Container::Map => msgpack::write::map(self.sink, count),
        }
        Ok(())
    }
}

/// JSON text with one value, with `depth` containers open around it.
pub(crate) fn json_to_msgpack<S: Sink + ?Sized>(bytes: &[u8], depth: u32, sink: &mut S) -> Result<(), PayloadError> {
    let mut counts = Counts::default();
    let mut scanner = Scanner::new(bytes);
    scanner.walk(depth, &mut counts)?;
    scanner.end()?;
    Scanner::new(bytes).walk(depth, &mut Emit { sink, counts: counts.counts.into_iter() })
}

/// The next value of `reader`, with `depth` containers open around it.
fn msgpack_to_json<S: Sink + ?Sized>(reader: &mut Reader<'_>, depth: u32, sink: &mut S) -> Result<(), PayloadError> {
    match reader.token()? {
        Token::Nil => sink.put(b"null"),
        Token::Bool(value) => json::write::boolean(sink, value),
        Token::Int(value) => json::write::integer(sink, value),
        Token::UInt(value) => json::write::unsigned(sink, value),
        Token::Float32(value) => float_to_json(value.into(), sink)?,
        Token::Float64(value) => float_to_json(value, sink)?,
        Token::Str(bytes) => json::write::string(sink, text(bytes)?),
        Token::Bin(bytes) => json::write::base64(sink, bytes),
        Token::Ext(msgpack::write::TIMESTAMP_EXT, bytes) => {
            json_timestamp(sink, Timestamp::from_extension(bytes).ok_or(not_in_json(Unsayable::Timestamp))?)?;
        }
        Token::Ext(..) => return Err(not_in_json(Unsayable::Extension)),
        Token::Array(count) => {
            reader.check_depth(depth)?;
            sink.put(b"[");
            for index in 0..count {
                sink.put(if index == 0 { b"" } else { b"," });
                msgpack_to_json(reader, depth + 1, sink)?;
            }
            sink.put(b"]");
        }
        Token::Map(count) => {
            reader.check_depth(depth)?;
            sink.put(b"{");
            for index in 0..count {
                sink.put(if index == 0 { b"" } else { b"," });
                key_to_json(reader, sink)?;
                sink.put(b":");
                msgpack_to_json(reader, depth + 1, sink)?;
            }
            sink.put(b"}");
        }
    }
    Ok(())
}

fn float_to_json<S: Sink + ?Sized>(value: f64, sink: &mut S) -> Result<(), PayloadError> {
    if json::write::float(sink, value) { Ok(()) } else { Err(not_in_json(Unsayable::NotFinite)) }
}

fn key_to_json<S: Sink + ?Sized>(reader: &mut Reader<'_>, sink: &mut S) -> Result<(), PayloadError> {
    match reader.token()? {
        Token::Str(bytes) => json::write::string(sink, text(bytes)?),
        Token::Int(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
        Token::UInt(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
        Token::Bool(value) => json::write::formatted(sink, format_args!("\"{value}\"")),
        _ => return Err(not_in_json(Unsayable::MapKey)),
    }
    Ok(())
}
