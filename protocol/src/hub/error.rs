//! What can be wrong with a hub message, a value or a handshake: one variant per broken rule.
//!
//! The texts are those a client sees when detailed errors are on (spec 3.3, 4.3, 6.2), so that somebody who knows
//! another SignalR server recognises them.

use std::borrow::Cow;
use std::fmt;

use super::Format;

/// A rule of RFC 8259 (or one of our bounds on it) that the text broke, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// The rule.
    pub rule: JsonRule,
    /// Offset in bytes from the start of the text that was handed to the decoder.
    pub at: usize,
}

/// The rules of JSON the scanner checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonRule {
    /// The text ends inside a value.
    UnexpectedEnd,
    /// A byte that cannot stand here (comments and trailing commas end up here too).
    UnexpectedByte,
    /// A control character (0x00-0x1F) inside a string must be escaped.
    ControlInString,
    /// A backslash is followed by something that is not an escape.
    Escape,
    /// A string that has to be decoded holds a surrogate without its partner.
    LoneSurrogate,
    /// A string is not UTF-8.
    Utf8,
    /// A number does not follow the grammar (`01`, `1.`, `+1`, `1e`).
    Number,
    /// Containers are nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    Depth,
    /// Something other than white space follows the value.
    TrailingBytes,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            JsonRule::UnexpectedEnd => "the text ends inside a value",
            JsonRule::UnexpectedByte => "a byte that cannot stand here",
            JsonRule::ControlInString => "an unescaped control character in a string",
            JsonRule::Escape => "an unknown escape in a string",
            JsonRule::LoneSurrogate => "a surrogate without its partner",
            JsonRule::Utf8 => "a string is not UTF-8",
            JsonRule::Number => "a malformed number",
            JsonRule::Depth => "nested too deep",
            JsonRule::TrailingBytes => "bytes after the value",
        };
        write!(f, "{rule} (byte {})", self.at)
    }
}

impl std::error::Error for JsonFault {}

/// A rule of the MessagePack specification (or one of our bounds on it) that the bytes broke, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgpackFault {
    /// The rule.
    pub rule: MsgpackRule,
    /// Offset in bytes from the start of the body that was handed to the decoder.
    pub at: usize,
}

/// The rules of MessagePack the reader checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MsgpackRule {
    /// The bytes end inside a value.
    UnexpectedEnd,
    /// The marker 0xC1 is never used.
    Marker,
    /// A container announces more items than the rest of the frame has bytes.
    Count,
    /// Containers are nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    Depth,
    /// A string that has to be decoded is not UTF-8.
    Utf8,
    /// Bytes follow the value.
    TrailingBytes,
}

impl fmt::Display for MsgpackFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            MsgpackRule::UnexpectedEnd => "the bytes end inside a value",
            MsgpackRule::Marker => "the marker 0xC1 is never used",
            MsgpackRule::Count => "more items announced than bytes left",
            MsgpackRule::Depth => "nested too deep",
            MsgpackRule::Utf8 => "a string is not UTF-8",
            MsgpackRule::TrailingBytes => "bytes after the value",
        };
        write!(f, "{rule} (byte {})", self.at)
    }
}

impl std::error::Error for MsgpackFault {}

/// Why a frame is not a hub message. Every one of them ends the connection (spec 4.3, 6.8): the peer gets a Close
/// with [`close_text`](Self::close_text) and `allowReconnect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The message, framing included, is longer than the limit (spec 6.2).
    TooLarge {
        /// The limit, in bytes.
        message_bytes_max: usize,
    },
    /// The record is not JSON.
    Json(JsonFault),
    /// The record is JSON but not an object.
    NotAnObject,
    /// A property that this type of message needs is absent, null or (ids, target) empty.
    MissingProperty {
        /// Its name on the wire.
        property: &'static str,
    },
    /// A property has the wrong JSON type.
    WrongType {
        /// Its name on the wire.
        property: &'static str,
        /// What it has to be.
        expected: Expected,
    },
    /// A Completion has both `error` and `result`.
    ErrorAndResult,
    /// A MessagePack length prefix is longer than five bytes or above 0x7FFFFFFF (spec 5.1).
    LengthPrefix,
    /// The body is not MessagePack.
    Msgpack(MsgpackFault),
    /// The body is MessagePack but not an array with a message type in it.
    NotAnArray,
    /// The array has fewer items than the type of message needs (spec 5.2).
    TooFewItems {
        /// The message type.
        kind: u8,
        /// How many items there are.
        items: u32,
        /// How many the type needs.
        items_min: u32,
    },
    /// An item of the array has the wrong type, or a needed string is nil or empty.
    Item {
        /// What the item is, in the words of the JSON properties.
        property: &'static str,
        /// What it has to be.
        expected: Expected,
    },
    /// The result kind of a Completion is not 1, 2 or 3.
    ResultKind {
        /// What was sent instead.
        kind: i64,
    },
}

/// The type a property has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub enum Expected {
    Number,
    String,
    Boolean,
    Array,
    Object,
}

impl Expected {
    fn name(self) -> &'static str {
        match self {
            Self::Number => "Number",
            Self::String => "String",
            Self::Boolean => "Boolean",
            Self::Array => "Array",
            Self::Object => "Object",
        }
    }
}

impl MessageError {
    /// The `error` of the Close message this earns (spec 6.8): the general text, followed by this error's own when
    /// detailed errors are on.
    pub fn close_text(&self, detailed: bool) -> Cow<'static, str> {
        const CLOSED: &str = "Connection closed with an error.";
        if detailed { format!("{CLOSED} InvalidDataException: {self}").into() } else { CLOSED.into() }
    }

    /// Whether the size limit was the rule broken, which operators count apart from malformed messages.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { message_bytes_max } => write!(
                f,
                "The maximum message size of {message_bytes_max}B was exceeded. \
                 The message size can be configured in AddHubOptions."
            ),
            Self::Json(_) => f.write_str("Error reading JSON."),
            Self::NotAnObject => f.write_str("Unexpected JSON Token Type. Expected a JSON Object."),
            Self::MissingProperty { property } => write!(f, "Missing required property '{property}'."),
            Self::WrongType { property, expected: Expected::Boolean } => {
                write!(f, "Expected '{property}' to be true or false.")
            }
            Self::WrongType { property, expected } => {
                write!(f, "Expected '{property}' to be of type {}.", expected.name())
            }
            Self::ErrorAndResult => f.write_str("The 'error' and 'result' properties are mutually exclusive."),
            Self::LengthPrefix => f.write_str("Messages over 2GB in size are not supported."),
            Self::Msgpack(fault) => write!(f, "Error reading MessagePack: {fault}."),
            Self::NotAnArray => f.write_str("Reading array length failed."),
            Self::TooFewItems { kind, items, items_min } => {
                write!(f, "A message of type {kind} needs at least {items_min} items but has {items}.")
            }
            Self::Item { property, expected } => write!(f, "Reading '{property}' as {} failed.", expected.name()),
            Self::ResultKind { .. } => f.write_str("Invalid invocation result kind."),
        }
    }
}

impl std::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(fault) => Some(fault),
            Self::Msgpack(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<JsonFault> for MessageError {
    fn from(fault: JsonFault) -> Self {
        Self::Json(fault)
    }
}

impl From<MsgpackFault> for MessageError {
    fn from(fault: MsgpackFault) -> Self {
        Self::Msgpack(fault)
    }
}

/// What a value is, for the sake of an error that says "expected a string, found an array".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Binary,
    Timestamp,
    Extension,
    Array,
    Map,
    /// Bytes that are no value at all (only possible on bytes nobody validated).
    Malformed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Binary => "binary data",
            Self::Timestamp => "a timestamp",
            Self::Extension => "an extension value",
            Self::Array => "an array",
            Self::Map => "an object",
            Self::Malformed => "malformed bytes",
        })
    }
}

/// Why an argument cannot be had as the type asked for. Never ends a connection: it fails one invocation (spec 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// The value is of another kind.
    Kind {
        /// The kind asked for.
        expected: Kind,
        /// The kind it is.
        found: Kind,
    },
    /// A number that the type asked for cannot hold, or one with a fraction where an integer is needed.
    Range,
    /// The string is not Unicode text: bytes that are not UTF-8, or a lone surrogate.
    Text,
    /// The string is not base64 (RFC 4648 section 4, padding optional).
    Base64,
    /// The string is not an ISO 8601 point in time, or the timestamp's fields are out of range.
    Timestamp,
    /// The bytes are no value of their format (only possible on bytes nobody validated).
    Malformed,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Range => f.write_str("the number is out of range for its type"),
            Self::Text => f.write_str("the string is not valid Unicode"),
            Self::Base64 => f.write_str("the string is not base64"),
            Self::Timestamp => f.write_str("not a valid point in time"),
            Self::Malformed => f.write_str("malformed value"),
        }
    }
}

impl std::error::Error for BindError {}

impl From<JsonFault> for BindError {
    fn from(fault: JsonFault) -> Self {
        match fault.rule {
            JsonRule::LoneSurrogate | JsonRule::Utf8 => Self::Text,
            _ => Self::Malformed,
        }
    }
}

impl From<MsgpackFault> for BindError {
    fn from(fault: MsgpackFault) -> Self {
        match fault.rule {
            MsgpackRule::Utf8 => Self::Text,
            _ => Self::Malformed,
        }
    }
}

/// Why a payload cannot be written in a format. The fault of whoever publishes, never of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// `Payload::Ready` with neither format filled in.
    Empty,
    /// The bytes are not one well-formed array (or, for a single item, value) of the format they claim to be.
    Malformed {
        /// The format they claim to be.
        format: Format,
    },
    /// The target format has no such value.
    NotRepresentable {
        /// The target format.
        format: Format,
        /// What cannot be said in it.
        what: Unsayable,
    },
    /// Containers are nested deeper than receivers accept, see [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The message would be longer than the 0x7FFFFFFF bytes a MessagePack length prefix can announce.
    TooLarge,
}

/// A value that one of the two formats has and the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsayable {
    /// NaN and the infinities have no JSON form.
    NotFinite,
    /// A map key that is neither a string nor an integer nor a boolean has no JSON form.
    MapKey,
    /// Extension values other than timestamps have no JSON form.
    Extension,
    /// A timestamp outside the years -999999 to 999999, or with a second of more than 10^9 nanoseconds.
    Timestamp,
    /// A string that is not Unicode text (not UTF-8, or a lone surrogate).
    Text,
    /// A JSON number too large for a double.
    Number,
    /// More than 2^32-1 items or bytes in one MessagePack value.
    Length,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the payload is given in no format"),
            Self::Malformed { format } => write!(f, "the payload is not well-formed {}", format.name()),
            Self::NotRepresentable { format, what } => {
                let what = match what {
                    Unsayable::NotFinite => "NaN and infinite numbers",
                    Unsayable::MapKey => "maps with keys other than strings, integers and booleans",
                    Unsayable::Extension => "extension values other than timestamps",
                    Unsayable::Timestamp => "timestamps outside of the calendar",
                    Unsayable::Text => "strings that are not valid Unicode",
                    Unsayable::Number => "numbers beyond the range of a double",
                    Unsayable::Length => "values of more than 2^32-1 items or bytes",
                };
                write!(f, "{} cannot carry {what}", format.name())
            }
            Self::TooDeep => f.write_str("the payload is nested too deep"),
            Self::TooLarge => f.write_str("the message is longer than 2147483647 bytes"),
        }
    }
}

impl std::error::Error for PayloadError {}

/// Why a handshake failed (spec 3.3). The peer gets [`text`](Self::text) in `{"error":...}` and the transport ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No hub protocol of that name.
    UnknownProtocol {
        /// The name as sent.
        protocol: String,
    },
    /// A later version of the protocol than ours.
    Version {
        /// The version as sent.
        version: i64,
        /// The protocol, by our name.
        protocol: &'static str,
    },
    /// A binary protocol over a transport that carries only text.
    TextTransport {
        /// The protocol, by our name.
        protocol: &'static str,
    },
    /// No end of the request within the message size limit.
    TooLarge,
    /// The request did not come in time, or was abandoned.
    Canceled,
    /// The record is not JSON.
    Json(JsonFault),
    /// The record is JSON but not an object.
    NotAnObject,
    /// `protocol` or `version` is missing.
    MissingProperty {
        /// Its name.
        property: &'static str,
    },
    /// `protocol` is not a string, `version` is not an integer, or (in a response) `error` is not a string.
    WrongType {
        /// Its name.
        property: &'static str,
        /// What it has to be.
        expected: Expected,
    },
    /// A response with a `type` is a hub message, not a handshake response (spec 3.2).
    NotAResponse,
}

impl HandshakeError {
    /// What the peer is told (spec 3.3). `detailed` appends the broken rule where the general text hides it.
    pub fn text(&self, detailed: bool) -> String {
        const UNEXPECTED: &str = "An unexpected error occurred during connection handshake.";
        match self {
            Self::UnknownProtocol { .. } | Self::Version { .. } | Self::TextTransport { .. } => self.to_string(),
            Self::TooLarge | Self::Canceled => "Handshake was canceled.".to_owned(),
            _ if detailed => format!("{UNEXPECTED} InvalidDataException: {self}"),
            _ => UNEXPECTED.to_owned(),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProtocol { protocol } => write!(f, "The protocol '{protocol}' is not supported."),
            Self::Version { version, protocol } => {
                write!(f, "The server does not support version {version} of the '{protocol}' protocol.")
            }
            Self::TextTransport { protocol } => write!(
                f,
                "Cannot use the '{protocol}' protocol on the current transport. \
                 The transport does not support 'Binary' transfer format."
            ),
            Self::TooLarge => f.write_str("The handshake is longer than a message may be."),
            Self::Canceled => f.write_str("Handshake was canceled."),
            Self::Json(_) => f.write_str("Error reading JSON."),
            Self::NotAnObject => f.write_str("Unexpected JSON Token Type. Expected a JSON Object."),
            Self::MissingProperty { property } => write!(f, "Missing required property '{property}'."),
            Self::WrongType { property, expected } => {
                write!(f, "Expected '{property}' to be of type {}.", expected.name())
            }
            Self::NotAResponse => f.write_str("Expected a handshake response from the server."),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<JsonFault> for HandshakeError {
    fn from(fault: JsonFault) -> Self {
        Self::Json(fault)
    }
}
