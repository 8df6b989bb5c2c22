//! Negotiation of permessage-deflate (RFC 7692 5 and 7.1): `Sec-WebSocket-Extensions` read and written, both roles.
//!
//! ```text
//! field     = extension *( "," extension )        several lines are one
//! extension = name *( ";" parameter )
//! parameter = name [ "=" ( token | quoted-string ) ]
//! ```

use super::SERVER_WINDOW_BITS;
use crate::cursor::{Sink, put_decimal};
use crate::error::HttpError;
use crate::http::head::{RequestHead, ResponseHead};

const FIELD: &str = "Sec-WebSocket-Extensions";
const NAME: &[u8] = b"permessage-deflate";

/// The value of `Sec-WebSocket-Extensions` with which a client of ours asks: for a server that takes over no context, as
/// [`super::inflater::Inflater`] keeps none. One of [`crate::ws::handshake::write_upgrade_request`]'s `headers`.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What a server agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The client named a window for the server, so it is told which one it gets.
    window_bits_asked: bool,
}

impl Agreement {
    /// Writes the header line that says so, for the 101.
    pub fn put_field<S: Sink + ?Sized>(self, sink: &mut S) {
        sink.put(FIELD.as_bytes());
        sink.put(b": ");
        sink.put(OFFER.as_bytes());
        if self.window_bits_asked {
            sink.put(b"; server_max_window_bits=");
            put_decimal(sink, SERVER_WINDOW_BITS.into());
        }
        sink.put(b"\r\n");
    }
}

/// The first offer of permessage-deflate in the request that can be met (RFC 7692 5.1); `None` if there is none, and the
/// connection goes on without compression.
///
/// An offer is declined, and the next one looked at, if it has a parameter that is unknown, appears twice or has a value
/// it must not have (RFC 7692 7.1), if it is not spelled as an extension at all, or if it asks for a window of less than
/// [`SERVER_WINDOW_BITS`]. Other extensions are passed over.
#[must_use]
pub fn accept_offer(head: &RequestHead<'_>) -> Option<Agreement> {
    extensions(head.header_all(FIELD)).find_map(|extension| {
        let terms = Terms::read(extension)?;
        let asked = terms.server_max_window_bits;
        if asked.is_some_and(|bits| bits < SERVER_WINDOW_BITS) {
            return None;
        }
        Some(Agreement { window_bits_asked: asked.is_some() })
    })
}

/// Whether the server agreed to [`OFFER`]; `false` if it has no extension to speak.
///
/// # Errors
/// [`HttpError::ExtensionNotOffered`] for any other extension, or for two. [`HttpError::DeflateTermsNotOffered`] if the
/// server would take over context, gives the client a window, or says what RFC 7692 7.1 does not allow.
pub fn check_answer(head: &ResponseHead<'_>) -> Result<bool, HttpError> {
    let mut answers = extensions(head.header_all(FIELD));
    let Some(answer) = answers.next() else { return Ok(false) };
    if answers.next().is_some() || name_of(answer) != NAME {
        return Err(HttpError::ExtensionNotOffered);
    }
    // Whether the client may take over context is its own business: it never does.
    match Terms::read(answer) {
        Some(Terms { server_no_context_takeover: true, client_max_window_bits: None, .. }) => Ok(true),
        _ => Err(HttpError::DeflateTermsNotOffered),
    }
}

/// The parameters of one permessage-deflate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Terms {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Named with or without a value: a client says without one that it can be given a window (RFC 7692 7.1.2.2).
    client_max_window_bits: Option<Option<u8>>,
}

impl Terms {
    /// `None`: `extension` is another one, or not a well-formed permessage-deflate.
    fn read(extension: &[u8]) -> Option<Self> {
        let mut parts = Unquoted { rest: Some(extension), separator: b';' };
        if trim(parts.next()?) != NAME {
            return None;
        }
        let mut terms = Self::default();
        for part in parts {
            let mut sides = Unquoted { rest: Some(part), separator: b'=' };
            let name = trim(sides.next()?);
            let value = sides.next().map(trim);
            if sides.next().is_some() {
                return None;
            }
            match (name, value) {
                (b"server_no_context_takeover", None) => once(&mut terms.server_no_context_takeover)?,
                (b"client_no_context_takeover", None) => once(&mut terms.client_no_context_takeover)?,
                (b"server_max_window_bits", Some(value)) if terms.server_max_window_bits.is_none() => {
                    terms.server_max_window_bits = Some(window_bits(value)?);
                }
                (b"client_max_window_bits", value) if terms.client_max_window_bits.is_none() => {
                    terms.client_max_window_bits = Some(match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    });
                }
                _ => return None,
            }
        }
        Some(terms)
    }
}

/// Sets `flag`, unless it is set.
fn once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

/// A number from 8 to 15 without leading zeros (RFC 7692 7.1.2), as a token or quoted.
fn window_bits(value: &[u8]) -> Option<u8> {
    let (inner, quoted) = match value {
        [b'"', inner @ .., b'"'] => (inner, true),
        plain => (plain, false),
    };
    // Quoting may put a backslash before any byte (RFC 9110 5.6.4). One at the end hides the quote, so it stays and is
    // no digit.
    let mut digits = inner.iter().copied();
    let mut next = || match digits.next() {
        Some(b'\\') if quoted => digits.next().or(Some(b'\\')),
        other => other,
    };
    match [next(), next(), next()] {
        [Some(digit @ b'8'..=b'9'), None, None] => Some(digit - b'0'),
        [Some(b'1'), Some(digit @ b'0'..=b'5'), None] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The elements of all lines of the field; empty ones do not count (RFC 9110 5.6.1).
fn extensions<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| Unquoted { rest: Some(line), separator: b',' })
        .map(trim)
        .filter(|extension| !extension.is_empty())
}

/// The name an extension begins with.
fn name_of(extension: &[u8]) -> &[u8] {
    Unquoted { rest: Some(extension), separator: b';' }.next().map_or(b"", trim)
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// What stands between the separators, those in quoted strings left alone. A quoted string that does not end takes the
/// rest with it.
struct Unquoted<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Unquoted<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = self.rest.take()?;
        let (mut quoted, mut escaped) = (false, false);
        for (at, &byte) in bytes.iter().enumerate() {
            if escaped {
                escaped = false;
            } else if byte == b'"' {
                quoted = !quoted;
            } else if quoted {
                escaped = byte == b'\\';
            } else if byte == self.separator {
                self.rest = Some(&bytes[at + 1..]);
                return Some(&bytes[..at]);
            }
        }
        Some(bytes)
    }
}
