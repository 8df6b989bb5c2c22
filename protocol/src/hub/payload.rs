//! What an invocation carries, in whatever form its publisher has it.

use std::borrow::Cow;

use super::error::PayloadError;
use super::raw::{Arguments, Raw};
use super::transcode::transcode;
use super::value::Value;
use super::{DEPTH_MAX, Format, msgpack};
use crate::cursor::Sink;

/// The arguments of an invocation on their way out. Whatever is missing in the format needed is transcoded from the
/// other one.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Values; encoded as needed.
    Values(&'a [Value]),
    /// Arguments as a client sent them; they go out unchanged in their own format.
    Raw(Arguments<'a>),
    /// Ready-made by the publisher. The bytes go out unchanged, so they must be one array each; [`Payload::check`]
    /// tells, for bytes of doubtful origin.
    Ready {
        /// `[...]`, if at hand.
        json: Option<&'a [u8]>,
        /// The MessagePack array of the same values, if at hand.
        messagepack: Option<&'a [u8]>,
    },
}

/// Containers open around an argument: the message and the list of arguments.
const ARGUMENT_DEPTH: u32 = DEPTH_MAX - super::raw::VALUE_DEPTH_MAX;

impl<'a> Payload<'a> {
    /// Whether the bytes of [`Payload::Ready`] are well-formed arrays. True of the other kinds as they are.
    pub fn check(&self) -> Result<(), PayloadError> {
        let Self::Ready { json, messagepack } = *self else { return Ok(()) };
        if json.is_none() && messagepack.is_none() {
            return Err(PayloadError::Empty);
        }
        for (format, bytes) in [(Format::Json, json), (Format::MessagePack, messagepack)] {
            if let Some(bytes) = bytes {
                Arguments::parse(format, bytes).map_err(|_| PayloadError::Malformed { format })?;
            }
        }
        Ok(())
    }

    /// The array in `format`: borrowed when the publisher has it at hand, else made. Make it once and pass it on as
    /// [`Payload::Ready`] where a message is counted first and written after.
    pub fn encoded(&self, format: Format) -> Result<Cow<'a, [u8]>, PayloadError> {
        Ok(match self.source(format)? {
            Source::Bytes(bytes) => Cow::Borrowed(bytes),
            Source::Foreign(from, bytes) => {
                let mut made = Vec::with_capacity(bytes.len());
                transcode(from, format, bytes, &mut made)?;
                Cow::Owned(made)
            }
            Source::Values(values) => {
                let mut made = Vec::new();
                write_values(values, format, &mut made)?;
                Cow::Owned(made)
            }
        })
    }

    fn source(&self, format: Format) -> Result<Source<'a>, PayloadError> {
        Ok(match *self {
            Self::Values(values) => Source::Values(values),
            Self::Raw(arguments) if arguments.format() == format => Source::Bytes(arguments.bytes()),
            Self::Raw(arguments) => Source::Foreign(arguments.format(), arguments.bytes()),
            Self::Ready { json, messagepack } => match (format, json, messagepack) {
                (Format::Json, Some(bytes), _) | (Format::MessagePack, _, Some(bytes)) => Source::Bytes(bytes),
                (Format::Json, None, Some(bytes)) => Source::Foreign(Format::MessagePack, bytes),
                (Format::MessagePack, Some(bytes), None) => Source::Foreign(Format::Json, bytes),
                (_, None, None) => return Err(PayloadError::Empty),
            },
        })
    }

    /// What has to be written twice (counted, then put) is transcoded once.
    pub(super) fn prepare(&self, format: Format) -> Result<Prepared<'a>, PayloadError> {
        Ok(match self.source(format)? {
            Source::Values(values) => Prepared::Values(values),
            Source::Bytes(bytes) => Prepared::Bytes(Cow::Borrowed(bytes)),
            Source::Foreign(..) => Prepared::Bytes(self.encoded(format)?),
        })
    }
}

enum Source<'a> {
    Values(&'a [Value]),
    Bytes(&'a [u8]),
    Foreign(Format, &'a [u8]),
}

/// A payload that can be written in one format any number of times.
pub(super) enum Prepared<'a> {
    Values(&'a [Value]),
    Bytes(Cow<'a, [u8]>),
}

impl Prepared<'_> {
    pub(super) fn write<S: Sink + ?Sized>(&self, format: Format, sink: &mut S) -> Result<(), PayloadError> {
        match self {
            Self::Values(values) => write_values(values, format, sink),
            Self::Bytes(bytes) => {
                sink.put(bytes);
                Ok(())
            }
        }
    }
}

fn write_values<S: Sink + ?Sized>(values: &[Value], format: Format, sink: &mut S) -> Result<(), PayloadError> {
    match format {
        Format::Json => sink.put(b"["),
        Format::MessagePack => {
            let count = u32::try_from(values.len()).map_err(|_| PayloadError::TooLarge)?;
            msgpack::write::array(sink, count);
        }
    }
    for (index, value) in values.iter().enumerate() {
        if format == Format::Json && index > 0 {
            sink.put(b",");
        }
        value.write_inside(format, sink, ARGUMENT_DEPTH)?;
    }
    if format == Format::Json {
        sink.put(b"]");
    }
    Ok(())
}

/// One value on its way out: the result of an invocation or an item of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A value; encoded as needed.
    Value(&'a Value),
    /// A value as a client sent it; goes out unchanged in its own format.
    Raw(Raw<'a>),
}

impl<'a> Item<'a> {
    pub(super) fn write<S: Sink + ?Sized>(&self, format: Format, sink: &mut S) -> Result<(), PayloadError> {
        match self {
            Self::Value(value) => value.write(format, sink),
            Self::Raw(raw) => transcode(raw.format(), format, raw.bytes(), sink),
        }
    }
}

impl<'a> From<&'a Value> for Item<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

impl<'a> From<Raw<'a>> for Item<'a> {
    fn from(raw: Raw<'a>) -> Self {
        Self::Raw(raw)
    }
}

impl<'a> From<&Raw<'a>> for Item<'a> {
    fn from(raw: &Raw<'a>) -> Self {
        Self::Raw(*raw)
    }
}
