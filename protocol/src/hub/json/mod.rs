//! The JSON hub protocol (spec 4): one object per message, ended by the byte 0x1E.

pub(crate) mod number;
pub(crate) mod scan;
pub(crate) mod write;

use std::borrow::Cow;

use super::Format;
use super::error::{Expected, JsonFault, MessageError};
use super::message::{Message, Outcome};
use super::raw::{Arguments, Raw, StreamIds};
use scan::{Scanner, Text, find_byte};

/// Ends every JSON record and the handshake of every protocol.
pub const RECORD_SEPARATOR: u8 = 0x1E;

/// Containers open around the value of a property: the message itself.
const PROPERTY_DEPTH: u32 = 1;

/// The length of the record at the front of `bytes`, separator included. The first `searched` bytes are known to hold
/// no separator.
pub(super) fn record_len(bytes: &[u8], searched: usize) -> Option<usize> {
    let searched = searched.min(bytes.len());
    find_byte(&bytes[searched..], RECORD_SEPARATOR).map(|offset| searched + offset + 1)
}

/// The properties a message may have, each as the last occurrence left it.
#[derive(Default)]
struct Properties<'a> {
    kind: Option<i64>,
    target: Option<Text<'a>>,
    invocation_id: Option<Text<'a>>,
    error: Option<Text<'a>>,
    arguments: Option<(&'a [u8], u32)>,
    stream_ids: Option<(&'a [u8], u32)>,
    item: Option<&'a [u8]>,
    result: Option<&'a [u8]>,
    sequence_id: Option<u64>,
    allow_reconnect: Option<bool>,
    /// The first property of a wrong type. Reported only once the message is known to be of a type we know: what a
    /// later protocol version puts into its own messages is not ours to judge.
    wrong: Option<MessageError>,
}

/// Decodes one record, without its separator.
pub(super) fn decode(record: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut scanner = Scanner::new(record);
    if scanner.peek().map_err(MessageError::Json)? != b'{' {
        // Malformed is worse than not an object, so look at all of it first.
        scanner.span(0)?;
        scanner.end()?;
        return Err(MessageError::NotAnObject);
    }
    let mut properties = Properties::default();
    scanner.object(|scanner, name| properties.read(scanner, name))?;
    scanner.end()?;
    properties.into_message()
}

impl<'a> Properties<'a> {
    /// Takes the value of the property `name`.
    fn read(&mut self, scanner: &mut Scanner<'a>, name: Text<'a>) -> Result<(), MessageError> {
        let decoded: Cow<'a, [u8]> = match name.plain() {
            Some(plain) => Cow::Borrowed(plain),
            // A name that cannot be decoded is not one of ours.
            None => name.decode().map_or(Cow::Borrowed(&[]), |text| Cow::Owned(text.into_owned().into_bytes())),
        };
        match &*decoded {
            b"type" => self.kind = self.integer(scanner, "type")?,
            b"target" => self.target = self.string(scanner, "target")?,
            b"invocationId" => self.invocation_id = self.string(scanner, "invocationId")?,
            b"error" => self.error = self.string(scanner, "error")?,
            b"arguments" => self.arguments = self.array(scanner, "arguments")?,
            b"streamIds" => {
                self.stream_ids = self.array(scanner, "streamIds")?;
                self.check_stream_ids()?;
            }
            b"item" => self.item = Some(scanner.span(PROPERTY_DEPTH)?),
            b"result" => self.result = Some(scanner.span(PROPERTY_DEPTH)?),
            b"sequenceId" => self.sequence_id = self.unsigned(scanner, "sequenceId")?,
            b"allowReconnect" => self.allow_reconnect = self.boolean(scanner, "allowReconnect")?,
            b"headers" => self.headers(scanner)?,
            _ => {
                scanner.span(PROPERTY_DEPTH)?;
            }
        }
        Ok(())
    }

    /// Takes a value of the wrong type. Null is as good as absent and therefore never wrong.
    fn refuse<T>(
        &mut self,
        scanner: &mut Scanner<'a>,
        property: &'static str,
        expected: Expected,
    ) -> Result<Option<T>, MessageError> {
        if scanner.span(PROPERTY_DEPTH)? != b"null" {
            self.wrong.get_or_insert(MessageError::WrongType { property, expected });
        }
        Ok(None)
    }

    fn string(&mut self, scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<Text<'a>>, MessageError> {
        match scanner.peek()? {
            b'"' => Ok(Some(scanner.string()?)),
            _ => self.refuse(scanner, property, Expected::String),
        }
    }

    fn number(&mut self, scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<&'a [u8]>, MessageError> {
        match scanner.peek()? {
            b'-' | b'0'..=b'9' => Ok(Some(scanner.number()?)),
            _ => self.refuse(scanner, property, Expected::Number),
        }
    }

    /// A `type`: 32 bits (spec 4.3).
    fn integer(&mut self, scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<i64>, MessageError> {
        let Some(digits) = self.number(scanner, property)? else { return Ok(None) };
        let value = number::integer(digits).filter(|value| i32::try_from(*value).is_ok());
        if value.is_none() {
            self.wrong.get_or_insert(MessageError::WrongType { property, expected: Expected::Number });
        }
        Ok(value)
    }

    fn unsigned(&mut self, scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<u64>, MessageError> {
        let Some(digits) = self.number(scanner, property)? else { return Ok(None) };
        let value = number::unsigned(digits);
        if value.is_none() {
            self.wrong.get_or_insert(MessageError::WrongType { property, expected: Expected::Number });
        }
        Ok(value)
    }

    fn boolean(&mut self, scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<bool>, MessageError> {
        match scanner.peek()? {
            b't' | b'f' => Ok(Some(scanner.span(PROPERTY_DEPTH)? == b"true")),
            _ => self.refuse(scanner, property, Expected::Boolean),
        }
    }

    fn array(
        &mut self,
        scanner: &mut Scanner<'a>,
        property: &'static str,
    ) -> Result<Option<(&'a [u8], u32)>, MessageError> {
        match scanner.peek()? {
            b'[' => Ok(Some(scanner.array_span(PROPERTY_DEPTH)?)),
            _ => self.refuse(scanner, property, Expected::Array),
        }
    }

    fn check_stream_ids(&mut self) -> Result<(), MessageError> {
        let Some((bytes, count)) = self.stream_ids else { return Ok(()) };
        for id in Arguments::new(Format::Json, bytes, count).iter() {
            if !id.bytes().starts_with(b"\"") {
                let wrong = MessageError::WrongType { property: "streamIds", expected: Expected::String };
                self.wrong.get_or_insert(wrong);
            } else {
                Scanner::new(id.bytes()).string()?.decode()?;
            }
        }
        Ok(())
    }

    /// Headers are checked and forgotten: an object of strings, or null (spec 4.2).
    fn headers(&mut self, scanner: &mut Scanner<'a>) -> Result<(), MessageError> {
        if scanner.peek()? != b'{' {
            self.refuse::<()>(scanner, "headers", Expected::Object)?;
            return Ok(());
        }
        let wrong = &mut self.wrong;
        scanner.object(|scanner, _name| {
            if !scanner.span(PROPERTY_DEPTH + 1)?.starts_with(b"\"") {
                wrong.get_or_insert(MessageError::WrongType { property: "headers", expected: Expected::String });
            }
            Ok::<(), JsonFault>(())
        })?;
        Ok(())
    }

    fn into_message(self) -> Result<Message<'a>, MessageError> {
        let kind = match (self.kind, self.wrong) {
            (Some(kind @ 1..=9), None) => kind,
            (Some(1..=9), Some(wrong)) => return Err(wrong),
            (Some(kind), _) => return Ok(Message::Unknown { kind }),
            (None, Some(wrong @ MessageError::WrongType { property: "type", .. })) => return Err(wrong),
            (None, _) => return Err(MessageError::MissingProperty { property: "type" }),
        };
        Ok(match kind {
            1 => Message::Invocation {
                invocation_id: self.optional_invocation_id()?,
                target: self.target()?,
                arguments: self.arguments()?,
                stream_ids: self.stream_ids(),
            },
            2 => {
                let item = self.item.ok_or(MessageError::MissingProperty { property: "item" });
                Message::StreamItem { invocation_id: self.invocation_id()?, item: Raw::new(Format::Json, item?) }
            }
            3 => Message::Completion { invocation_id: self.invocation_id()?, outcome: self.outcome()? },
            4 => Message::StreamInvocation {
                invocation_id: self.invocation_id()?,
                target: self.target()?,
                arguments: self.arguments()?,
                stream_ids: self.stream_ids(),
            },
            5 => Message::CancelInvocation { invocation_id: self.invocation_id()? },
            6 => Message::Ping,
            7 => Message::Close {
                error: self.error.map(|text| text.decode()).transpose()?,
                allow_reconnect: self.allow_reconnect.unwrap_or(false),
            },
            8 => Message::Ack { sequence_id: self.sequence_id()? },
            _ => Message::Sequence { sequence_id: self.sequence_id()? },
        })
    }

    fn optional_invocation_id(&self) -> Result<Option<Cow<'a, str>>, MessageError> {
        let id = self.invocation_id.map(|text| text.decode()).transpose()?;
        Ok(id.filter(|id| !id.is_empty()))
    }

    fn invocation_id(&self) -> Result<Cow<'a, str>, MessageError> {
        self.optional_invocation_id()?.ok_or(MessageError::MissingProperty { property: "invocationId" })
    }

    fn target(&self) -> Result<Cow<'a, str>, MessageError> {
        let target = self.target.map(|text| text.decode()).transpose()?;
        target.filter(|target| !target.is_empty()).ok_or(MessageError::MissingProperty { property: "target" })
    }

    fn arguments(&self) -> Result<Arguments<'a>, MessageError> {
        let (bytes, count) = self.arguments.ok_or(MessageError::MissingProperty { property: "arguments" })?;
        Ok(Arguments::new(Format::Json, bytes, count))
    }

    fn stream_ids(&self) -> StreamIds<'a> {
        self.stream_ids.map_or(StreamIds::NONE, |(bytes, count)| StreamIds::new(Format::Json, bytes, count))
    }

    fn sequence_id(&self) -> Result<u64, MessageError> {
        self.sequence_id.ok_or(MessageError::MissingProperty { property: "sequenceId" })
    }

    fn outcome(&self) -> Result<Outcome<'a>, MessageError> {
        Ok(match (self.result, self.error) {
            (Some(_), Some(_)) => return Err(MessageError::ErrorAndResult),
            (Some(result), None) => Outcome::Result(Raw::new(Format::Json, result)),
            (None, Some(error)) => Outcome::Error(error.decode()?),
            (None, None) => Outcome::Void,
        })
    }
}
