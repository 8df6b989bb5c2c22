//! Frames in, on a connection with permessage-deflate: compressed messages come out inflated, all else as ever.

use super::inflater::Inflater;
use crate::error::FrameError;
use crate::ws::DataKind;
use crate::ws::decoder::{Decoder, Event, Frames, Role};

/// A decoder of one direction of one connection with which permessage-deflate was agreed.
///
/// Like [`Decoder`] it carries nothing between messages, so an engine keeps one only for connections that are in the
/// middle of something. In the middle of a compressed message it holds the compressed bytes so far, and no state of a
/// decompressor: that is shared and sees whole messages only. A message that lies in one input whole is not copied.
#[derive(Clone, Debug)]
pub struct DeflateDecoder {
    frames: Decoder,
    /// What there is of a compressed message that the input ended in.
    held: Vec<u8>,
}

const _: () = assert!(size_of::<DeflateDecoder>() <= 184);

impl DeflateDecoder {
    /// A decoder at the start of a connection, or between two messages. Allocates nothing.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { frames: Decoder::with_deflate(role), held: Vec::new() }
    }

    /// See [`Decoder::at_rest`].
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.frames.at_rest()
    }

    /// See [`Decoder::is_over`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.frames.is_over()
    }

    /// Bytes allocated for a compressed message that has not ended: up to twice
    /// [`super::inflater::deflated_bytes_max`], 0 between messages and after a Close or an error.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes the next bytes of the stream; see [`Decoder::handle_bytes`]. `inflater` may be another one each time.
    #[must_use = "bytes are decoded as events are taken"]
    pub fn handle_bytes<'d, 'b>(
        &'d mut self,
        inflater: &'d mut Inflater,
        bytes: &'b mut [u8],
    ) -> InflatedFrames<'d, 'b> {
        InflatedFrames { frames: self.frames.handle_bytes(bytes), held: &mut self.held, inflater }
    }

    /// Takes the next bytes of a stream whose messages nobody wants any more: nothing is inflated or kept, and from here
    /// on all input must go this way. Returns whether the peer has said its last word: a Close, or nonsense.
    pub fn pass_over(&mut self, bytes: &mut [u8]) -> bool {
        self.held = Vec::new();
        let mut frames = self.frames.handle_bytes(bytes);
        while let Some(event) = frames.next() {
            if let Ok(Event::Data { fin: true, .. }) = event {
                frames.end_compressed();
            }
        }
        self.is_over()
    }
}

/// The events of one run of input; see [`DeflateDecoder::handle_bytes`].
#[derive(Debug)]
pub struct InflatedFrames<'d, 'b> {
    frames: Frames<'d, 'b>,
    held: &'d mut Vec<u8>,
    inflater: &'d mut Inflater,
}

impl InflatedFrames<'_, '_> {
    /// How many bytes of the input were not looked at yet; see [`Frames::rest_len`].
    #[must_use]
    pub fn rest_len(&self) -> usize {
        self.frames.rest_len()
    }

    /// The next event; borrowed until the one after it, as inflated messages share a buffer. A compressed message is one
    /// [`Event::Data`], `first` and `fin`, whatever its fragments; others come in pieces, as from [`Decoder`]. `None`:
    /// more input is needed, or the conversation is over. After an error always `None`.
    ///
    /// # Errors
    /// Those of [`Decoder`] and of [`Inflater::inflate`]. Text is judged after it was inflated (RFC 7692 6.2).
    pub fn next_event(&mut self) -> Option<Result<Event<'_>, FrameError>> {
        loop {
            match self.frames.next()? {
                Ok(Event::Data { kind, payload, fin, .. }) if self.frames.is_compressed() => {
                    if fin {
                        self.frames.end_compressed();
                    }
                    match take_deflated(self.inflater, self.held, payload, fin, kind) {
                        Ok(None) => {}
                        Ok(Some(len)) => {
                            let payload = self.inflater.message(len);
                            return Some(Ok(Event::Data { kind, payload, first: true, fin: true }));
                        }
                        Err(error) => {
                            self.frames.end();
                            self.let_go();
                            return Some(Err(error));
                        }
                    }
                }
                last @ (Ok(Event::Close { .. }) | Err(_)) => {
                    self.let_go();
                    return Some(last);
                }
                event => return Some(event),
            }
        }
    }

    /// Nothing comes any more, so what there is of a message is owed to nobody.
    fn let_go(&mut self) {
        *self.held = Vec::new();
    }
}

/// Takes a piece of a compressed message. If it is the last one, inflates the message, and returns how long it is.
fn take_deflated(
    inflater: &mut Inflater,
    held: &mut Vec<u8>,
    piece: &[u8],
    fin: bool,
    kind: DataKind,
) -> Result<Option<usize>, FrameError> {
    // Before it is held: what is too long for a message need not be waited for.
    inflater.judge_deflated_len(held.len() + piece.len())?;
    if !(fin && held.is_empty()) {
        held.extend_from_slice(piece);
    }
    if !fin {
        return Ok(None);
    }
    let whole = std::mem::take(held);
    let message = inflater.inflate(if whole.is_empty() { piece } else { &whole })?;
    if kind == DataKind::Text {
        judge_text(message)?;
    }
    Ok(Some(message.len()))
}

/// A text message must be UTF-8 (RFC 6455 8.1).
fn judge_text(message: &[u8]) -> Result<(), FrameError> {
    match std::str::from_utf8(message) {
        Ok(_) => Ok(()),
        Err(error) if error.error_len().is_some() => Err(FrameError::TextNotUtf8),
        Err(_) => Err(FrameError::TextEndsInCharacter),
    }
}
