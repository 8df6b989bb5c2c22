//! Query strings: `key=value` pairs, percent-encoded.

use std::borrow::Cow;

/// The decoded value of the first pair of `query` (raw, without its `?`) whose key is `key`.
///
/// Keys are compared decoded and without regard to ASCII case, as the reference server does; `+` is a space; a `%`
/// that two hexadecimal digits do not follow stands for itself; decoded bytes that are not UTF-8 become U+FFFD.
/// A key without `=` has the empty value. Borrows unless something had to be decoded.
#[must_use]
pub fn value<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    pairs(query).find(|(name, _)| decode(name).eq_ignore_ascii_case(key)).map(|(_, value)| decode(value))
}

/// The pairs of `query`, raw, in order. Empty pairs (`&&`) are passed over.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes `%XX` and `+`. See [`value`] for what is done with broken input.
#[must_use]
pub fn decode(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.iter().position(|&byte| matches!(byte, b'%' | b'+')) else { return Cow::Borrowed(text) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        decoded.push(match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (&byte, _) => byte,
        });
    }
    match String::from_utf8(decoded) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The value of a hexadecimal digit.
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
