//! JSON text out: minimal, escaping only what JSON requires (spec 4.4).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scan::plain_run;
use crate::cursor::Sink;

/// `text` in quotes. `"`, `\` and the control characters (0x1E, the record separator, is one) are escaped; everything
/// else goes out as the UTF-8 it is.
pub(crate) fn string<S: Sink + ?Sized>(sink: &mut S, text: &str) {
    sink.put(b"\"");
    string_content(sink, text);
    sink.put(b"\"");
}

fn string_content<S: Sink + ?Sized>(sink: &mut S, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (run, _) = plain_run(rest);
        sink.put(&rest[..run]);
        let Some(&special) = rest.get(run) else { return };
        escaped(sink, special);
        rest = &rest[run + 1..];
    }
}

fn escaped<S: Sink + ?Sized>(sink: &mut S, special: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match special {
        b'"' => sink.put(b"\\\""),
        b'\\' => sink.put(b"\\\\"),
        0x08 => sink.put(b"\\b"),
        0x0c => sink.put(b"\\f"),
        b'\n' => sink.put(b"\\n"),
        b'\r' => sink.put(b"\\r"),
        b'\t' => sink.put(b"\\t"),
        control => sink.put(&[b'\\', b'u', b'0', b'0', HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]),
    }
}

pub(crate) fn boolean<S: Sink + ?Sized>(sink: &mut S, value: bool) {
    sink.put(if value { b"true" } else { b"false" });
}

pub(crate) fn unsigned<S: Sink + ?Sized>(sink: &mut S, mut value: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    sink.put(&digits[start..]);
}

pub(crate) fn integer<S: Sink + ?Sized>(sink: &mut S, value: i64) {
    if value < 0 {
        sink.put(b"-");
    }
    unsigned(sink, value.unsigned_abs());
}

/// The shortest digits that read back as the same double, always with a fraction or an exponent so that it stays a
/// float on the way back. False, and nothing written, for NaN and the infinities.
#[must_use]
pub(crate) fn float<S: Sink + ?Sized>(sink: &mut S, value: f64) -> bool {
    if value.is_finite() {
        formatted(sink, format_args!("{value:?}"));
    }
    value.is_finite()
}

/// Standard base64 with padding, in quotes.
pub(crate) fn base64<S: Sink + ?Sized>(sink: &mut S, bytes: &[u8]) {
    const PIECE_BYTES: usize = 768;
    let mut encoded = [0u8; PIECE_BYTES / 3 * 4];
    sink.put(b"\"");
    for piece in bytes.chunks(PIECE_BYTES) {
        // The buffer has room for a whole piece, which is the only thing `encode_slice` can complain about.
        let length = STANDARD.encode_slice(piece, &mut encoded).unwrap_or(0);
        sink.put(&encoded[..length]);
    }
    sink.put(b"\"");
}

/// Formats straight into the sink. Only for text that needs no escaping.
pub(crate) fn formatted<S: Sink + ?Sized>(sink: &mut S, text: std::fmt::Arguments<'_>) {
    struct Writer<'a, S: ?Sized>(&'a mut S);
    impl<S: Sink + ?Sized> std::fmt::Write for Writer<'_, S> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.put(text.as_bytes());
            Ok(())
        }
    }
    // The writer above never fails, and neither do the formatters of numbers.
    let _ = Writer(sink).write_fmt(text);
}
