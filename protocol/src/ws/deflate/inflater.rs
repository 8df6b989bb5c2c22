//! Decompression of whole messages, bounded.

use super::FLUSH_TAIL;
use crate::error::FrameError;
use std::fmt;
use zlib_rs::{Inflate, InflateFlush, Status};

/// What the buffer is at first, in bytes; it doubles as messages need it.
const BUFFER_BYTES_FIRST: usize = 4096;

/// Reads windows of any size a sender may use.
const WINDOW_BITS: u8 = 15;

/// What follows every payload: the tail its sender cut off, and a final block without content, which a decompressor
/// takes to its last byte, and ends with, only if the payload ended where a block does.
const ENDING: [u8; 9] = [FLUSH_TAIL[0], FLUSH_TAIL[1], FLUSH_TAIL[2], FLUSH_TAIL[3], 0x01, 0x00, 0x00, 0xff, 0xff];

/// Most bytes that a compressed message of at most `inflated_bytes_max` bytes may have on the wire: an eighth and 64
/// bytes more than uncompressed. No sender in its senses needs them; blocks without content could go on for ever.
#[must_use]
pub const fn deflated_bytes_max(inflated_bytes_max: usize) -> usize {
    inflated_bytes_max.saturating_add(inflated_bytes_max / 8).saturating_add(64)
}

/// A reusable decompressor with its buffer: one per shard, for all of its connections.
///
/// Time is bounded by the payload: about 1 ns a byte of the message as a rule, and 0.1 us a byte of the payload at worst,
/// which is one made of nothing but the tables of codes that are never used. A peer that sends such can have 7 ms of its
/// shard for each 72 KiB.
///
/// Holds about 47 KiB, and a buffer that grows with the longest message so far, to `inflated_bytes_max + 1` bytes at
/// most. Nothing is allocated for a message that is not longer than one before it.
pub struct Inflater {
    stream: Inflate,
    /// Where messages are made; grows, never shrinks.
    inflated: Vec<u8>,
    inflated_bytes_max: usize,
}

impl Inflater {
    /// A decompressor for messages that inflate to at most `inflated_bytes_max` bytes each. What counts is the WebSocket
    /// message, in which a client may have put several hub messages.
    #[must_use]
    pub fn new(inflated_bytes_max: usize) -> Self {
        Self { stream: Inflate::new(false, WINDOW_BITS), inflated: Vec::new(), inflated_bytes_max }
    }

    /// From here on messages may inflate to so many bytes: those of another connection, say. The buffer stays as it is.
    pub fn set_inflated_bytes_max(&mut self, inflated_bytes_max: usize) {
        self.inflated_bytes_max = inflated_bytes_max;
    }

    /// Most bytes a message may inflate to.
    #[must_use]
    pub fn inflated_bytes_max(&self) -> usize {
        self.inflated_bytes_max
    }

    /// The message that the payload `deflated` says (RFC 7692 7.2.2), valid until the next one.
    ///
    /// A final block, which RFC 7692 7.2.3.4 allows, ends a stream; what follows it in the payload is another one. A
    /// payload may end with a final block without the byte 0 that should follow, and may have no bytes at all and say
    /// nothing: some senders leave out what RFC 7692 7.2.3.4 and 7.2.3.6 make them add.
    ///
    /// # Errors
    /// [`FrameError::InflatedTooLong`] (1009) as soon as there is one byte too many: nothing beyond it is inflated.
    /// [`FrameError::DeflatedTooLong`] (1009) for a payload longer than [`deflated_bytes_max`].
    /// [`FrameError::DeflateMalformed`] and [`FrameError::DeflateTruncated`] (1007).
    pub fn inflate(&mut self, deflated: &[u8]) -> Result<&mut [u8], FrameError> {
        self.judge_deflated_len(deflated.len())?;
        let len = if deflated.is_empty() { 0 } else { self.inflate_blocks(deflated)? };
        Ok(&mut self.inflated[..len])
    }

    /// The first `len` bytes of the message inflated last.
    pub(super) fn message(&mut self, len: usize) -> &mut [u8] {
        &mut self.inflated[..len]
    }

    /// # Errors
    /// [`FrameError::DeflatedTooLong`] if no message can have `len` bytes.
    pub(super) fn judge_deflated_len(&self, len: usize) -> Result<(), FrameError> {
        if len > deflated_bytes_max(self.inflated_bytes_max) {
            return Err(FrameError::DeflatedTooLong);
        }
        Ok(())
    }

    /// Inflates to the front of the buffer, and returns how many bytes.
    fn inflate_blocks(&mut self, deflated: &[u8]) -> Result<usize, FrameError> {
        let (mut rest, mut len) = (deflated, 0);
        self.stream.reset(false);
        loop {
            self.make_room(len);
            let (status, read, written) = self.step(rest, len);
            rest = &rest[read..];
            len += written;
            if len > self.inflated_bytes_max {
                return Err(FrameError::InflatedTooLong);
            }
            match status {
                Some(Status::StreamEnd) if rest.is_empty() => return Ok(len),
                Some(Status::StreamEnd) => self.stream.reset(false),
                Some(_) if len == self.inflated.len() => {}
                Some(_) if rest.is_empty() => break,
                // Never with both input and room; and whoever makes no progress must not be asked again.
                Some(Status::BufError) | None => return Err(FrameError::DeflateMalformed),
                Some(Status::Ok) => {}
            }
        }
        match self.step(&ENDING, len) {
            (Some(Status::StreamEnd), read, 0) if read == ENDING.len() => Ok(len),
            _ => Err(FrameError::DeflateTruncated),
        }
    }

    /// Sees to it that there is room after `len` bytes of message, of which there are `inflated_bytes_max` at most.
    fn make_room(&mut self, len: usize) {
        if len == self.inflated.len() {
            let most = self.inflated_bytes_max.saturating_add(1);
            self.inflated.resize((len * 2).clamp(BUFFER_BYTES_FIRST.min(most), most), 0);
        }
    }

    /// Goes on with `input` after `len` bytes of message. Returns what zlib says, `None` for any error, and how many
    /// bytes it took and made.
    fn step(&mut self, input: &[u8], len: usize) -> (Option<Status>, usize, usize) {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, &mut self.inflated[len..], InflateFlush::NoFlush).ok();
        let read = self.stream.total_in() - before.0;
        let written = self.stream.total_out() - before.1;
        (status, read as usize, written as usize)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("inflated_bytes_max", &self.inflated_bytes_max)
            .field("buffer_bytes", &self.inflated.len())
            .finish_non_exhaustive()
    }
}
