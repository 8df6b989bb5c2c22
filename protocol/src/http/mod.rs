//! HTTP/1.1 as far as a push server meets it: heads and bodies of both directions, strictly (RFC 9110, RFC 9112).
//!
//! Strict means: whatever two parsers could read differently (request smuggling) is refused, each shape with its own
//! [`crate::error::HttpError`].

pub mod body;
mod fields;
#[doc(hidden)]
pub mod fuzz;
pub mod head;
pub mod query;
pub mod request;
pub mod response;
mod scan;

use crate::cursor::Sink;

/// Writes one header line. A header whose name is not a token is left out; a control character in the value becomes
/// a space (RFC 9110 5.5), so that no value can start a line of its own.
pub(crate) fn put_field<S: Sink + ?Sized>(sink: &mut S, name: &str, value: &str) {
    if !scan::is_token(name.as_bytes()) {
        return;
    }
    sink.put(name.as_bytes());
    sink.put(b": ");
    put_text(sink, value);
    sink.put(b"\r\n");
}

/// Writes `text` with each control character replaced by a space.
fn put_text<S: Sink + ?Sized>(sink: &mut S, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == 0x7F) {
        sink.put(&rest[..at]);
        sink.put(b" ");
        rest = &rest[at + 1..];
    }
    sink.put(rest);
}
