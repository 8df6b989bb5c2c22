//! The MessagePack hub protocol (spec 5): a length prefix, then one array per message.

pub(crate) mod read;
pub(crate) mod write;

use std::borrow::Cow;

use super::Format;
use super::error::{Expected, MessageError};
use super::message::{Message, Outcome};
use super::raw::{Arguments, Raw, StreamIds};
use read::{Reader, Token, text};

/// The longest length prefix (spec 5.1).
pub const LENGTH_PREFIX_BYTES_MAX: usize = 5;
/// The longest body a prefix can announce (spec 5.1).
pub const BODY_BYTES_MAX: usize = 0x7FFF_FFFF;

/// Containers open around an item of the message: the message itself.
const ITEM_DEPTH: u32 = 1;

/// Reads a length prefix: the length of the body and of the prefix itself. `None` when `bytes` ends inside of it.
pub fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, MessageError> {
    let mut length: usize = 0;
    for (index, &byte) in bytes.iter().take(LENGTH_PREFIX_BYTES_MAX).enumerate() {
        // The fifth byte carries bits 28-30 and must be the last: 0x7FFFFFFF is `ff ff ff ff 07`.
        if index == LENGTH_PREFIX_BYTES_MAX - 1 && byte > 7 {
            return Err(MessageError::LengthPrefix);
        }
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    Ok(None)
}

/// The prefix for a body of `length` bytes and how many of the five are used. `None` above [`BODY_BYTES_MAX`].
pub fn length_prefix(length: usize) -> Option<([u8; LENGTH_PREFIX_BYTES_MAX], usize)> {
    if length > BODY_BYTES_MAX {
        return None;
    }
    let mut prefix = [0u8; LENGTH_PREFIX_BYTES_MAX];
    let (mut rest, mut used) = (length, 0);
    loop {
        // The low seven bits.
        prefix[used] = (rest & 0x7F) as u8;
        rest >>= 7;
        used += 1;
        if rest == 0 {
            return Some((prefix, used));
        }
        prefix[used - 1] |= 0x80;
    }
}

/// Decodes one body, without its length prefix. Items beyond those we know, and bytes after the array, are ignored
/// (spec 5.2, 5.4).
pub(super) fn decode(body: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut reader = Reader::new(body);
    let Token::Array(items) = reader.token()? else { return Err(MessageError::NotAnArray) };
    if items == 0 {
        return Err(MessageError::NotAnArray);
    }
    let kind = match reader.token()? {
        Token::Int(kind) => kind,
        _ => return Err(MessageError::Item { property: "type", expected: Expected::Number }),
    };
    let mut items = Items { reader, items, taken: 1 };
    let message = match kind {
        1 => items.invocation()?,
        2 => {
            items.at_least(2, 4)?;
            items.headers()?;
            let invocation_id = items.invocation_id()?;
            Message::StreamItem { invocation_id, item: items.raw()? }
        }
        3 => items.completion()?,
        4 => items.stream_invocation()?,
        5 => {
            items.at_least(5, 3)?;
            items.headers()?;
            Message::CancelInvocation { invocation_id: items.invocation_id()? }
        }
        6 => Message::Ping,
        7 => items.close()?,
        8 => {
            items.at_least(8, 2)?;
            Message::Ack { sequence_id: items.sequence_id()? }
        }
        9 => {
            items.at_least(9, 2)?;
            Message::Sequence { sequence_id: items.sequence_id()? }
        }
        kind => return Ok(Message::Unknown { kind }),
    };
    items.skip_rest()?;
    Ok(message)
}

/// The items of a message after its type.
struct Items<'a> {
    reader: Reader<'a>,
    /// How many the array has.
    items: u32,
    /// How many are read.
    taken: u32,
}

impl<'a> Items<'a> {
    fn at_least(&self, kind: u8, items_min: u32) -> Result<(), MessageError> {
        if self.items >= items_min {
            return Ok(());
        }
        Err(MessageError::TooFewItems { kind, items: self.items, items_min })
    }

    fn more(&self) -> bool {
        self.taken < self.items
    }

    fn token(&mut self) -> Result<Token<'a>, MessageError> {
        self.taken += 1;
        Ok(self.reader.token()?)
    }

    fn skip_rest(&mut self) -> Result<(), MessageError> {
        while self.more() {
            self.taken += 1;
            self.reader.skip(ITEM_DEPTH)?;
        }
        Ok(())
    }

    /// Headers are checked and forgotten: a map of strings, or nil (spec 5.2).
    fn headers(&mut self) -> Result<(), MessageError> {
        let wrong = MessageError::Item { property: "headers", expected: Expected::Object };
        let pairs = match self.token()? {
            Token::Nil => 0,
            Token::Map(pairs) => pairs,
            _ => return Err(wrong),
        };
        for _ in 0..u64::from(pairs) * 2 {
            let Token::Str(_) = self.reader.token()? else { return Err(wrong) };
        }
        Ok(())
    }

    fn optional_text(&mut self, property: &'static str) -> Result<Option<Cow<'a, str>>, MessageError> {
        match self.token()? {
            Token::Nil => Ok(None),
            Token::Str(bytes) => Ok(Some(Cow::Borrowed(text(bytes)?))),
            _ => Err(MessageError::Item { property, expected: Expected::String }),
        }
    }

    /// A string that is neither nil nor empty.
    fn needed_text(&mut self, property: &'static str) -> Result<Cow<'a, str>, MessageError> {
        let text = self.optional_text(property)?.filter(|text| !text.is_empty());
        text.ok_or(MessageError::Item { property, expected: Expected::String })
    }

    fn invocation_id(&mut self) -> Result<Cow<'a, str>, MessageError> {
        self.needed_text("invocationId")
    }

    fn raw(&mut self) -> Result<Raw<'a>, MessageError> {
        self.taken += 1;
        Ok(Raw::new(Format::MessagePack, self.reader.span(ITEM_DEPTH)?))
    }

    fn arguments(&mut self) -> Result<Arguments<'a>, MessageError> {
        self.taken += 1;
        match self.reader.array_span(ITEM_DEPTH)? {
            (bytes, Some(count)) => Ok(Arguments::new(Format::MessagePack, bytes, count)),
            (_, None) => Err(MessageError::Item { property: "arguments", expected: Expected::Array }),
        }
    }

    /// Absent, nil, or an array of strings.
    fn stream_ids(&mut self) -> Result<StreamIds<'a>, MessageError> {
        if !self.more() {
            return Ok(StreamIds::NONE);
        }
        let wrong = MessageError::Item { property: "streamIds", expected: Expected::Array };
        self.taken += 1;
        let mut check = self.reader.clone();
        let (bytes, count) = match self.reader.array_span(ITEM_DEPTH)? {
            (bytes, Some(count)) => (bytes, count),
            ([0xC0], None) => return Ok(StreamIds::NONE),
            _ => return Err(wrong),
        };
        check.token()?;
        for _ in 0..count {
            match check.token()? {
                Token::Str(bytes) => text(bytes)?,
                _ => return Err(MessageError::Item { property: "streamIds", expected: Expected::String }),
            };
        }
        Ok(StreamIds::new(Format::MessagePack, bytes, count))
    }

    fn invocation(&mut self) -> Result<Message<'a>, MessageError> {
        self.at_least(1, 5)?;
        self.headers()?;
        Ok(Message::Invocation {
            invocation_id: self.optional_text("invocationId")?.filter(|id| !id.is_empty()),
            target: self.needed_text("target")?,
            arguments: self.arguments()?,
            stream_ids: self.stream_ids()?,
        })
    }

    fn stream_invocation(&mut self) -> Result<Message<'a>, MessageError> {
        self.at_least(4, 5)?;
        self.headers()?;
        Ok(Message::StreamInvocation {
            invocation_id: self.invocation_id()?,
            target: self.needed_text("target")?,
            arguments: self.arguments()?,
            stream_ids: self.stream_ids()?,
        })
    }

    fn completion(&mut self) -> Result<Message<'a>, MessageError> {
        const ERROR: i64 = 1;
        const VOID: i64 = 2;
        const RESULT: i64 = 3;
        self.at_least(3, 4)?;
        self.headers()?;
        let invocation_id = self.invocation_id()?;
        let Token::Int(kind) = self.token()? else {
            return Err(MessageError::Item { property: "resultKind", expected: Expected::Number });
        };
        let outcome = match kind {
            VOID => Outcome::Void,
            ERROR | RESULT => {
                self.at_least(3, 5)?;
                if kind == RESULT {
                    Outcome::Result(self.raw()?)
                } else {
                    // An empty text is an error all the same.
                    let wrong = MessageError::Item { property: "error", expected: Expected::String };
                    Outcome::Error(self.optional_text("error")?.ok_or(wrong)?)
                }
            }
            kind => return Err(MessageError::ResultKind { kind }),
        };
        Ok(Message::Completion { invocation_id, outcome })
    }

    fn close(&mut self) -> Result<Message<'a>, MessageError> {
        self.at_least(7, 2)?;
        let error = self.optional_text("error")?;
        let allow_reconnect = match self.more().then(|| self.token()).transpose()? {
            None | Some(Token::Nil) => false,
            Some(Token::Bool(value)) => value,
            Some(_) => return Err(MessageError::Item { property: "allowReconnect", expected: Expected::Boolean }),
        };
        Ok(Message::Close { error, allow_reconnect })
    }

    fn sequence_id(&mut self) -> Result<u64, MessageError> {
        let wrong = MessageError::Item { property: "sequenceId", expected: Expected::Number };
        match self.token()? {
            Token::Int(value) => value.try_into().map_err(|_| wrong),
            Token::UInt(value) => Ok(value),
            _ => Err(wrong),
        }
    }
}
