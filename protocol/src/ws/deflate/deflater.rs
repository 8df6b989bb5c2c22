//! Compression of whole messages: once for all receivers.

use super::{FLUSH_TAIL, SERVER_WINDOW_BITS};
use std::fmt;
use zlib_rs::{Deflate, DeflateFlush, Status};

/// Effort, from 1 to 9. JSON of 2 KB: level 1 makes 995 bytes of it in 4.1 us, level 4 726 in 12.7 us, level 5 711 in
/// 13.2 us, level 9 716 in 16.2 us. A broadcast is compressed once and sent often, so bytes count; above 5 there are none
/// left to save.
pub const LEVEL: i32 = 5;

/// Shorter messages are not worth compressing, in bytes. Of 128 bytes of JSON 9 to 23 go, of 200 44 to 61, of 256 77 to
/// 98, and it takes 4 to 6 us whatever the length: below, a receiver is saved no more than the headers of TCP and IP
/// take (52), for more than it costs to send the message to several.
pub const PLAIN_BYTES_MIN: usize = 256;

/// Longer messages are not compressed, in bytes: one of this length keeps its shard for about 7 ms.
pub const PLAIN_BYTES_MAX: usize = 1 << 20;

/// A reusable compressor: one per shard, for all of its connections.
///
/// Holds about 260 KiB, and a buffer as long as the longest message so far ([`PLAIN_BYTES_MAX`] at most). Nothing is
/// allocated for a message that is not longer than one before it.
pub struct Deflater {
    stream: Deflate,
    /// Where payloads are made; grows, never shrinks.
    deflated: Vec<u8>,
}

impl Deflater {
    /// A compressor with its memory.
    #[must_use]
    pub fn new() -> Self {
        Self { stream: Deflate::new(LEVEL, false, SERVER_WINDOW_BITS), deflated: Vec::new() }
    }

    /// The payload that says `plain` to whoever agreed to permessage-deflate (RFC 7692 7.2.1): frame it with
    /// [`crate::ws::encode::MessageWriter::new_deflated`]. Depends on `plain` alone, so it serves all of them.
    ///
    /// `None`: send `plain` as it is, because it is shorter than [`PLAIN_BYTES_MIN`], longer than [`PLAIN_BYTES_MAX`],
    /// or would not become shorter.
    pub fn deflate(&mut self, plain: &[u8]) -> Option<&[u8]> {
        if !(PLAIN_BYTES_MIN..=PLAIN_BYTES_MAX).contains(&plain.len()) {
            return None;
        }
        // A payload that fills this is not shorter than `plain`, and may not be whole.
        let room = plain.len() + FLUSH_TAIL.len();
        if self.deflated.len() < room {
            self.deflated.resize(room, 0);
        }
        self.stream.reset();
        let status = self.stream.compress(plain, &mut self.deflated[..room], DeflateFlush::SyncFlush);
        debug_assert_eq!(status, Ok(Status::Ok), "a stream just reset takes any input");
        let len = self.stream.total_out() as usize;
        if status != Ok(Status::Ok) || len >= room {
            return None;
        }
        self.deflated[..len].strip_suffix(&FLUSH_TAIL)
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("buffer_bytes", &self.deflated.len()).finish_non_exhaustive()
    }
}
