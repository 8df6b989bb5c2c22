//! SignalR's hub protocol: the messages, their two formats, the handshake that chooses one, and when to ping.
//!
//! In: [`decode`] takes bytes cut anywhere and gives a [`Message`] that borrows from them. Out: [`encode`]. Between
//! them [`raw`] lets an application read arguments in place, [`value`] build its own, and [`transcode`] turn one
//! format into the other without a tree.

pub mod encode;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
pub mod json;
pub mod message;
pub mod msgpack;
mod payload;
pub mod raw;
pub mod session;
pub mod timestamp;
pub mod transcode;
pub mod value;

pub use error::{BindError, HandshakeError, MessageError, PayloadError};
pub use message::{Message, Outcome};
pub use payload::{Item, Payload};
pub use raw::{Arguments, Raw, RawOwned, StreamIds};
pub use timestamp::Timestamp;
pub use value::Value;

use crate::cursor::Progress;

/// How deep containers may be nested in a message, the message itself being the first (spec 4.3, 5.4).
pub const DEPTH_MAX: u32 = 64;

/// The two formats of hub messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// Text: one JSON object for each message.
    Json = 0,
    /// Binary: one MessagePack array for each message.
    MessagePack = 1,
}

impl Format {
    /// Both, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// Whether messages are text, which goes out in WebSocket text frames and suits every transport.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Json)
    }

    /// The name of the protocol in a handshake.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
        }
    }

    /// The format of that name, in any case of letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }
}

/// Decodes the message at the front of `bytes`. `message_bytes_max` limits its length, framing included (spec 6.2);
/// 0 is no limit. Bytes that are a proper prefix of a message give `NeedMore`, at most up to the limit.
///
/// Whoever collects a long message piece by piece should ask [`message_len`] with what it searched before, so that
/// no byte is searched twice, and then [`decode_one`].
pub fn decode(format: Format, bytes: &[u8], message_bytes_max: usize) -> Result<Progress<Message<'_>>, MessageError> {
    match message_len(format, bytes, 0, message_bytes_max)? {
        Some(length) => Ok(Progress::Done(decode_one(format, &bytes[..length])?, length)),
        None => Ok(Progress::NeedMore),
    }
}

/// The length, framing included, of the message at the front of `bytes`; `None` when it is not all there yet. The
/// first `searched` bytes are known from an earlier call not to hold the end. The limit is that of [`decode`]; a
/// message found to be longer is refused as early as possible.
pub fn message_len(
    format: Format,
    bytes: &[u8],
    searched: usize,
    message_bytes_max: usize,
) -> Result<Option<usize>, MessageError> {
    let too_large = MessageError::TooLarge { message_bytes_max };
    let limit = if message_bytes_max == 0 { usize::MAX } else { message_bytes_max };
    let length = match format {
        // The end is of interest within the limit only.
        Format::Json => json::record_len(&bytes[..bytes.len().min(limit)], searched),
        Format::MessagePack => match msgpack::read_length(bytes)? {
            Some((body, prefix)) if body + prefix > limit => return Err(too_large),
            Some((body, prefix)) => Some(body + prefix).filter(|length| *length <= bytes.len()),
            None => None,
        },
    };
    // A message that has not ended at the limit cannot end within it.
    if length.is_none() && bytes.len() >= limit { Err(too_large) } else { Ok(length) }
}

/// Decodes exactly one message with its framing, as measured by [`message_len`].
pub fn decode_one(format: Format, message: &[u8]) -> Result<Message<'_>, MessageError> {
    match format {
        Format::Json => json::decode(message.strip_suffix(&[json::RECORD_SEPARATOR]).unwrap_or(message)),
        Format::MessagePack => match msgpack::read_length(message)? {
            Some((body, prefix)) if message.len() - prefix == body => msgpack::decode(&message[prefix..]),
            _ => Err(MessageError::LengthPrefix),
        },
    }
}
