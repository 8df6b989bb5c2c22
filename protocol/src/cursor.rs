//! Bounded writing: the one vocabulary in which every encoder of this crate speaks.

/// Takes encoded bytes in order. Encoders are generic over it, so the same code counts a message ([`Count`]) and
/// writes it (a `Vec`, or the engine's broadcast log) without an intermediate copy.
pub trait Sink {
    /// Appends `bytes`. Infallible: whoever hands out a sink has made room for what the encoder announced.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn put(&mut self, bytes: &[u8]) {
        (**self).put(bytes);
    }
}

/// Counts bytes and forgets them: the first of two passes when a length must be known before the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// What a decoder of possibly incomplete input says when nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// One whole item, and how many bytes of the input it took.
    Done(T, usize),
    /// The input is a proper prefix of an item. Call again with at least one more byte.
    NeedMore,
}

/// Writes `number` in decimal, without sign or leading zeros.
pub fn put_decimal<S: Sink + ?Sized>(sink: &mut S, number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    sink.put(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 12_345, u64::MAX - 1, u64::MAX] {
            let mut written = Vec::new();
            put_decimal(&mut written, number);
            assert_eq!(written, number.to_string().as_bytes());
        }
    }
}
