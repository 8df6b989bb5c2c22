//! Writing responses.

use super::{put_field, put_text};
use crate::cursor::{Sink, put_decimal};

/// The standard reason phrase of `status` (RFC 9110 15, RFC 6585, RFC 7725); empty if it has none.
///
/// SignalR clients show it to users when a body is empty (spec 1.7), so it has to be the standard one.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Whether a response with `status` can have a body at all (RFC 9110 6.4.1).
const fn may_have_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Writes the head of an HTTP/1.1 response with its empty line. `content_length` adds that header line; leave it out
/// of `headers`.
///
/// A header whose name is not a token is left out, and control characters in values become spaces: no value, wherever
/// it came from, can start a line of its own.
pub fn write_head<S: Sink + ?Sized>(sink: &mut S, status: u16, headers: &[(&str, &str)], content_length: Option<u64>) {
    sink.put(b"HTTP/1.1 ");
    put_decimal(sink, u64::from(status));
    sink.put(b" ");
    put_text(sink, reason_phrase(status));
    sink.put(b"\r\n");
    for (name, value) in headers {
        put_field(sink, name, value);
    }
    if let Some(length) = content_length {
        sink.put(b"Content-Length: ");
        put_decimal(sink, length);
        sink.put(b"\r\n");
    }
    sink.put(b"\r\n");
}

/// Writes a whole response with its Content-Length. For a status that has no body (1xx, 204, 304) neither the body nor
/// a Content-Length is written.
pub fn write<S: Sink + ?Sized>(sink: &mut S, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    if may_have_body(status) {
        write_head(sink, status, headers, Some(body.len() as u64));
        sink.put(body);
    } else {
        write_head(sink, status, headers, None);
    }
}
