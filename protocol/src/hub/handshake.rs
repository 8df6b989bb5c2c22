//! The handshake: the first record in each direction, JSON whatever the format that follows (spec 3).

use std::borrow::Cow;

use super::Format;
use super::error::{Expected, HandshakeError};
use super::json::scan::Scanner;
use super::json::{self, RECORD_SEPARATOR, number};
use crate::cursor::{Progress, Sink};

/// The latest version of the hub protocols we speak; every earlier one is accepted (spec 0).
pub const VERSION_MAX: i64 = 2;

/// The version a client without stateful reconnect asks for.
pub const VERSION_PLAIN: i64 = 1;

/// Containers open around the value of a property: the record itself.
const PROPERTY_DEPTH: u32 = 1;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeRequest<'a> {
    /// The name of the hub protocol, as sent.
    pub protocol: Cow<'a, str>,
    /// The version of it, as sent; fits 32 bits.
    pub version: i64,
}

impl HandshakeRequest<'_> {
    /// Whether we can serve it, over a transport that `accepts_binary` messages or carries text only.
    pub fn check(&self, accepts_binary: bool) -> Result<Format, HandshakeError> {
        let Some(format) = Format::from_name(&self.protocol) else {
            return Err(HandshakeError::UnknownProtocol { protocol: self.protocol.clone().into_owned() });
        };
        if self.version > VERSION_MAX {
            return Err(HandshakeError::Version { version: self.version, protocol: format.name() });
        }
        if !format.is_text() && !accepts_binary {
            return Err(HandshakeError::TextTransport { protocol: format.name() });
        }
        Ok(format)
    }
}

/// Parses the request at the front of `bytes`; what follows the bytes it took are hub messages. `bytes_max` limits
/// its length, separator included; 0 is no limit.
pub fn parse(bytes: &[u8], bytes_max: usize) -> Result<Progress<HandshakeRequest<'_>>, HandshakeError> {
    let limit = if bytes_max == 0 { usize::MAX } else { bytes_max };
    let Some(length) = json::record_len(&bytes[..bytes.len().min(limit)], 0) else {
        return if bytes.len() >= limit { Err(HandshakeError::TooLarge) } else { Ok(Progress::NeedMore) };
    };
    Ok(Progress::Done(parse_record(&bytes[..length - 1])?, length))
}

fn parse_record(record: &[u8]) -> Result<HandshakeRequest<'_>, HandshakeError> {
    let mut protocol = None;
    let mut version = None;
    let mut scanner = open_record(record)?;
    scanner.object(|scanner, name| {
        if name.is("protocol") {
            if scanner.peek()? != b'"' {
                return Err(HandshakeError::WrongType { property: "protocol", expected: Expected::String });
            }
            protocol = Some(scanner.string()?.decode()?);
        } else if name.is("version") {
            version = Some(parse_version(scanner)?);
        } else {
            scanner.span(PROPERTY_DEPTH)?;
        }
        Ok(())
    })?;
    scanner.end()?;
    Ok(HandshakeRequest {
        protocol: protocol.ok_or(HandshakeError::MissingProperty { property: "protocol" })?,
        version: version.ok_or(HandshakeError::MissingProperty { property: "version" })?,
    })
}

/// A scanner before the opening brace of the record.
fn open_record(record: &[u8]) -> Result<Scanner<'_>, HandshakeError> {
    let mut scanner = Scanner::new(record);
    if scanner.peek()? == b'{' {
        return Ok(scanner);
    }
    scanner.span(0)?;
    scanner.end()?;
    Err(HandshakeError::NotAnObject)
}

fn parse_version(scanner: &mut Scanner<'_>) -> Result<i64, HandshakeError> {
    let wrong = HandshakeError::WrongType { property: "version", expected: Expected::Number };
    let digits = match scanner.peek()? {
        b'-' | b'0'..=b'9' => scanner.number()?,
        _ => return Err(wrong),
    };
    number::integer(digits).filter(|version| i32::try_from(*version).is_ok()).ok_or(wrong)
}

/// The request of a client.
pub fn write_request<S: Sink + ?Sized>(sink: &mut S, format: Format, version: i64) {
    sink.put(b"{\"protocol\":");
    json::write::string(sink, format.name());
    sink.put(b",\"version\":");
    json::write::integer(sink, version);
    sink.put(&[b'}', RECORD_SEPARATOR]);
}

/// The answer when all is well. Goes out in the kind of frame the chosen format uses (spec 2.3).
pub fn write_ok<S: Sink + ?Sized>(sink: &mut S) {
    sink.put(&[b'{', b'}', RECORD_SEPARATOR]);
}

/// The answer when it is not, usually with [`HandshakeError::text`]; the transport ends after it.
pub fn write_error<S: Sink + ?Sized>(sink: &mut S, text: &str) {
    sink.put(b"{\"error\":");
    json::write::string(sink, text);
    sink.put(&[b'}', RECORD_SEPARATOR]);
}

/// Parses a server's answer at the front of `bytes`: `Ok` when the connection is open, else the server's error text.
/// What follows the bytes it took are hub messages.
pub fn parse_response(bytes: &[u8]) -> Result<Progress<Result<(), String>>, HandshakeError> {
    let Some(length) = json::record_len(bytes, 0) else { return Ok(Progress::NeedMore) };
    let mut error = None;
    let mut scanner = open_record(&bytes[..length - 1])?;
    scanner.object(|scanner, name| {
        if name.is("type") {
            return Err(HandshakeError::NotAResponse);
        }
        if name.is("error") && !scanner.take_null()? {
            if scanner.peek()? != b'"' {
                return Err(HandshakeError::WrongType { property: "error", expected: Expected::String });
            }
            error = Some(scanner.string()?.decode()?.into_owned());
        } else if !name.is("error") {
            scanner.span(PROPERTY_DEPTH)?;
        }
        Ok(())
    })?;
    scanner.end()?;
    Ok(Progress::Done(error.map_or(Ok(()), Err), length))
}
