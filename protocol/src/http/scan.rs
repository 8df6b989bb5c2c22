//! Finding lines in a head: the only code that looks at every byte of it, eight at a time.

use super::head::HeadLimits;
use crate::error::HttpError;

/// What a look for the end of a line found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The line ends here: index of the CR of its CR LF.
    End(usize),
    /// No end yet; every byte before this index is fine and need not be looked at again.
    Clean(usize),
}

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// Index of the first byte at or after `from` that `marks` picks, or the length of `bytes`. `marks` is given eight
/// bytes, the first one lowest, and sets the high bit of each byte it picks; only its lowest mark need be right.
#[inline]
fn find(bytes: &[u8], from: usize, marks: impl Fn(u64) -> u64) -> usize {
    let (words, tail) = bytes.get(from..).unwrap_or_default().as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word)) & HIGHS;
        if found != 0 {
            return from + index * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    // Spaces fill the last word: no one looks for them.
    let mut last = [b' '; 8];
    for (to, byte) in last.iter_mut().zip(tail) {
        *to = *byte;
    }
    let found = marks(u64::from_le_bytes(last)) & HIGHS;
    if found == 0 { bytes.len() } else { from + words.len() * 8 + (found.trailing_zeros() / 8) as usize }
}

/// Index of the first control character at or after `from` (all below 0x20, and DEL), or the length of `bytes`.
fn next_control(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |word| {
        // Sums of seven bits each stay inside their bytes.
        let low_bits = word & !HIGHS;
        let not_below_space = low_bits + ONES * (0x80 - 0x20);
        let is_del = low_bits + ONES;
        (is_del | !not_below_space) & !word
    })
}

/// Index of the first CR at or after `from`, or the length of `bytes`.
pub(super) fn find_cr(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |word| {
        let zero_if_cr = word ^ (ONES * 0x0D);
        // A borrow can only raise false marks above a true one.
        zero_if_cr.wrapping_sub(ONES) & !zero_if_cr
    })
}

/// Looks for the CR LF that ends the line around `from`; bytes before `from` were found clean earlier.
///
/// # Errors
/// Any control character but HTAB, a CR without LF, a LF without CR.
pub(super) fn line_end(bytes: &[u8], from: usize) -> Result<Scan, HttpError> {
    let mut at = from;
    loop {
        at = next_control(bytes, at);
        match bytes.get(at) {
            None => return Ok(Scan::Clean(at)),
            Some(b'\t') => at += 1,
            Some(b'\r') => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok(Scan::End(at)),
                    Some(_) => Err(HttpError::BareCr),
                    None => Ok(Scan::Clean(at)),
                };
            }
            Some(b'\n') => return Err(HttpError::BareLf),
            Some(0) => return Err(HttpError::NulByte),
            Some(_) => return Err(HttpError::ControlByte),
        }
    }
}

/// Resumable search for the empty line that ends a request head. 8 bytes; keep it beside a partial head, and a head
/// that drips in byte by byte costs one look per byte in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadEnd {
    /// Everything before this was looked at and is fine.
    clean: u32,
    /// Where the line around `clean` starts.
    line: u32,
}

impl HeadEnd {
    /// A search that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { clean: 0, line: 0 }
    }

    /// Looks at what is new in `bytes`: all bytes of the head so far, starting with the very first, of which this
    /// search has seen a prefix. Returns the length of the head once its end is there. Bytes after the end may follow.
    ///
    /// # Errors
    /// Line endings other than CR LF, control characters, [`HttpError::TargetTooLong`] for a request line that
    /// cannot be within `limits`, [`HttpError::HeadTooLong`].
    pub fn find(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
        self.find_within(bytes, limits.head_max(), limits.request_line_max())
    }

    /// [`HeadEnd::find`] with the limits spelled out. `first_line_bytes_max` counts without CR LF.
    pub(super) fn find_within(
        &mut self,
        bytes: &[u8],
        head_bytes_max: usize,
        first_line_bytes_max: usize,
    ) -> Result<Option<usize>, HttpError> {
        let head = &bytes[..bytes.len().min(head_bytes_max)];
        loop {
            let line = self.line as usize;
            // An empty line before the request line is forgiven once (RFC 9112 2.2), so the first line starts at 0
            // or at 2, and no other line can.
            let window_max =
                if line <= 2 { line.saturating_add(first_line_bytes_max).saturating_add(2) } else { usize::MAX };
            let window = &head[..head.len().min(window_max)];
            match line_end(window, self.clean as usize)? {
                Scan::End(cr) => {
                    let next = cr + 2;
                    (self.clean, self.line) = (next as u32, next as u32);
                    if cr == line && line != 0 {
                        return Ok(Some(next));
                    }
                }
                Scan::Clean(clean) => {
                    self.clean = clean as u32;
                    return if window.len() == window_max {
                        Err(HttpError::TargetTooLong)
                    } else if head.len() == head_bytes_max {
                        Err(HttpError::HeadTooLong)
                    } else {
                        Ok(None)
                    };
                }
            }
        }
    }
}

/// The line that starts at `start` of a head whose end [`HeadEnd`] has found, without its CR LF. Empty at the end.
pub(super) fn line_at(head: &[u8], start: usize) -> &[u8] {
    match line_end(head, start) {
        Ok(Scan::End(cr)) => &head[start..cr],
        // Not reached: the search for the end has passed over every line of this head.
        _ => &[],
    }
}

/// `token` characters of RFC 9110 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
            | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// Whether `byte` may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether `bytes` are a token: at least one byte, all of them token characters.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// `bytes` without spaces and tabs at both ends (`OWS` of RFC 9110 5.6.3).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_control_agrees_with_a_plain_search() {
        let plain = |bytes: &[u8]| bytes.iter().position(|b| b.is_ascii_control()).unwrap_or(bytes.len());
        for filler in [b' ', b'a', 0x80, 0xFF, 0x9F, 0x20, 0x7E] {
            for len in 0..40 {
                let mut bytes = vec![filler; len];
                assert_eq!(next_control(&bytes, 0), len);
                for at in 0..len {
                    for control in [0, 1, b'\t', b'\n', b'\r', 0x1F, 0x7F] {
                        bytes[at] = control;
                        assert_eq!(next_control(&bytes, 0), plain(&bytes));
                        assert_eq!(next_control(&bytes, at), at);
                        if at + 1 < len {
                            assert_eq!(next_control(&bytes, at + 1), len);
                        }
                    }
                    bytes[at] = filler;
                }
            }
        }
    }

    #[test]
    fn token_table_is_the_grammar() {
        let tokens: Vec<u8> = (0..=255).filter(|&b| is_token_byte(b)).collect();
        assert_eq!(tokens.len(), 10 + 26 + 26 + 15);
        assert!(!is_token(b"") && is_token(b"M-SEARCH") && !is_token(b"a b") && !is_token(b"a:"));
    }

    #[test]
    fn trim_takes_only_optional_white_space() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
    }
}
