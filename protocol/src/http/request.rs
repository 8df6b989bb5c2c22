//! Writing requests, for clients.

use super::put_field;
use crate::cursor::{Sink, put_decimal};

/// Writes a whole HTTP/1.1 request. `headers` must have a `Host` and no `Content-Length`, which is added whenever there
/// is a body, and for POST, PUT and PATCH also when there is none (RFC 9110 8.6).
///
/// Bytes of `target` that must not travel as they are (blanks, control characters, `#`, anything that is not ASCII) are
/// percent-encoded; headers are cleaned as in [`super::response::write_head`]. `method` is a token of the caller's.
pub fn write<S: Sink + ?Sized>(sink: &mut S, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
    write_line(sink, method, target);
    for (name, value) in headers {
        put_field(sink, name, value);
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        sink.put(b"Content-Length: ");
        put_decimal(sink, body.len() as u64);
        sink.put(b"\r\n");
    }
    sink.put(b"\r\n");
    sink.put(body);
}

/// Writes the request line.
pub(crate) fn write_line<S: Sink + ?Sized>(sink: &mut S, method: &str, target: &str) {
    debug_assert!(super::scan::is_token(method.as_bytes()), "the method is a token");
    sink.put(method.as_bytes());
    sink.put(b" ");
    put_target(sink, if target.is_empty() { "/" } else { target });
    sink.put(b" HTTP/1.1\r\n");
}

fn put_target<S: Sink + ?Sized>(sink: &mut S, target: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = target.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| !(0x21..=0x7E).contains(&byte) || byte == b'#') {
        let byte = rest[at];
        sink.put(&rest[..at]);
        sink.put(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    sink.put(rest);
}
