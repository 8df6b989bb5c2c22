//! A MessagePack reader over a slice: borrows strings, bounds every count by the bytes that are left.

use rmp::Marker;

use crate::hub::DEPTH_MAX;
use crate::hub::error::{MsgpackFault, MsgpackRule};

/// One scalar, or the head of a container whose items follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    UInt(u64),
    /// A 32-bit float; exact as a double.
    Float32(f32),
    Float64(f64),
    /// Not yet known to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    /// How many items follow.
    Array(u32),
    /// How many pairs follow.
    Map(u32),
}

/// A position in a body. Invariant: `at <= bytes.len()`.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn fault(&self, rule: MsgpackRule) -> MsgpackFault {
        MsgpackFault { rule, at: self.at }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn end(&self) -> Result<(), MsgpackFault> {
        if self.left() == 0 { Ok(()) } else { Err(self.fault(MsgpackRule::TrailingBytes)) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MsgpackFault> {
        let piece = self.bytes[self.at..].first_chunk::<N>().ok_or(self.fault(MsgpackRule::UnexpectedEnd))?;
        self.at += N;
        Ok(*piece)
    }

    fn run(&mut self, length: u32) -> Result<&'a [u8], MsgpackFault> {
        let piece = usize::try_from(length).ok().and_then(|length| self.bytes[self.at..].get(..length));
        let piece = piece.ok_or(self.fault(MsgpackRule::UnexpectedEnd))?;
        self.at += piece.len();
        Ok(piece)
    }

    fn len8(&mut self) -> Result<u32, MsgpackFault> {
        Ok(u8::from_be_bytes(self.take()?).into())
    }

    fn len16(&mut self) -> Result<u32, MsgpackFault> {
        Ok(u16::from_be_bytes(self.take()?).into())
    }

    fn len32(&mut self) -> Result<u32, MsgpackFault> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn ext(&mut self, length: u32) -> Result<Token<'a>, MsgpackFault> {
        let kind = i8::from_be_bytes(self.take()?);
        Ok(Token::Ext(kind, self.run(length)?))
    }

    /// The head of a container. Every item takes a byte at least, so a larger count is a lie and nobody allocates
    /// for it.
    fn container(&self, count: u32, bytes_per_item_min: u64) -> Result<u32, MsgpackFault> {
        let fits = u64::from(count) * bytes_per_item_min <= self.left() as u64;
        if fits { Ok(count) } else { Err(self.fault(MsgpackRule::Count)) }
    }

    fn array(&self, count: u32) -> Result<Token<'a>, MsgpackFault> {
        Ok(Token::Array(self.container(count, 1)?))
    }

    fn map(&self, count: u32) -> Result<Token<'a>, MsgpackFault> {
        Ok(Token::Map(self.container(count, 2)?))
    }

    /// Takes one scalar or the head of one container.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, MsgpackFault> {
        let marker = Marker::from_u8(u8::from_be_bytes(self.take()?));
        Ok(match marker {
            Marker::FixPos(value) => Token::Int(value.into()),
            Marker::FixNeg(value) => Token::Int(value.into()),
            Marker::FixStr(length) => Token::Str(self.run(length.into())?),
            Marker::FixArray(count) => self.array(count.into())?,
            Marker::FixMap(count) => self.map(count.into())?,
            Marker::Null => Token::Nil,
            Marker::True => Token::Bool(true),
            Marker::False => Token::Bool(false),
            Marker::U8 => Token::Int(u8::from_be_bytes(self.take()?).into()),
            Marker::U16 => Token::Int(u16::from_be_bytes(self.take()?).into()),
            Marker::U32 => Token::Int(u32::from_be_bytes(self.take()?).into()),
            Marker::U64 => {
                let value = u64::from_be_bytes(self.take()?);
                i64::try_from(value).map_or(Token::UInt(value), Token::Int)
            }
            Marker::I8 => Token::Int(i8::from_be_bytes(self.take()?).into()),
            Marker::I16 => Token::Int(i16::from_be_bytes(self.take()?).into()),
            Marker::I32 => Token::Int(i32::from_be_bytes(self.take()?).into()),
            Marker::I64 => Token::Int(i64::from_be_bytes(self.take()?)),
            Marker::F32 => Token::Float32(f32::from_be_bytes(self.take()?)),
            Marker::F64 => Token::Float64(f64::from_be_bytes(self.take()?)),
            Marker::Str8 => {
                let length = self.len8()?;
                Token::Str(self.run(length)?)
            }
            Marker::Str16 => {
                let length = self.len16()?;
                Token::Str(self.run(length)?)
            }
            Marker::Str32 => {
                let length = self.len32()?;
                Token::Str(self.run(length)?)
            }
            Marker::Bin8 => {
                let length = self.len8()?;
                Token::Bin(self.run(length)?)
            }
            Marker::Bin16 => {
                let length = self.len16()?;
                Token::Bin(self.run(length)?)
            }
            Marker::Bin32 => {
                let length = self.len32()?;
                Token::Bin(self.run(length)?)
            }
            Marker::Array16 => {
                let count = self.len16()?;
                self.array(count)?
            }
            Marker::Array32 => {
                let count = self.len32()?;
                self.array(count)?
            }
            Marker::Map16 => {
                let count = self.len16()?;
                self.map(count)?
            }
            Marker::Map32 => {
                let count = self.len32()?;
                self.map(count)?
            }
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => {
                let length = self.len8()?;
                self.ext(length)?
            }
            Marker::Ext16 => {
                let length = self.len16()?;
                self.ext(length)?
            }
            Marker::Ext32 => {
                let length = self.len32()?;
                self.ext(length)?
            }
            Marker::Reserved => return Err(MsgpackFault { rule: MsgpackRule::Marker, at: self.at - 1 }),
        })
    }

    /// The next token, which stays where it is.
    pub(crate) fn peek(&self) -> Result<Token<'a>, MsgpackFault> {
        self.clone().token()
    }

    /// Fails when `depth` containers are open and another is about to be.
    pub(crate) fn check_depth(&self, depth: u32) -> Result<(), MsgpackFault> {
        if depth < DEPTH_MAX { Ok(()) } else { Err(self.fault(MsgpackRule::Depth)) }
    }

    /// Takes one value. `depth` containers are open already. Recursion ends at [`DEPTH_MAX`] levels.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), MsgpackFault> {
        let items = match self.token()? {
            Token::Array(count) => u64::from(count),
            Token::Map(count) => u64::from(count) * 2,
            _ => return Ok(()),
        };
        self.check_depth(depth)?;
        for _ in 0..items {
            self.skip(depth + 1)?;
        }
        Ok(())
    }

    /// Takes one value and gives its bytes.
    pub(crate) fn span(&mut self, depth: u32) -> Result<&'a [u8], MsgpackFault> {
        let start = self.at;
        self.skip(depth)?;
        Ok(&self.bytes[start..self.at])
    }

    /// Takes one value and gives its bytes and, when it is an array, the number of its items.
    pub(crate) fn array_span(&mut self, depth: u32) -> Result<(&'a [u8], Option<u32>), MsgpackFault> {
        let count = match self.peek()? {
            Token::Array(count) => Some(count),
            _ => None,
        };
        Ok((self.span(depth)?, count))
    }
}

/// A string of a body as text.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, MsgpackFault> {
    std::str::from_utf8(bytes).map_err(|error| MsgpackFault { rule: MsgpackRule::Utf8, at: error.valid_up_to() })
}
