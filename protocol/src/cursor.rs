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
