//! Bodies with Content-Length and chunked bodies, cut anywhere (RFC 9112 6, 7.1).
//!
//! ```text
//! 5;name=value\r\n  chunk size in hexadecimal, extensions (skipped)
//! hello\r\n         that many bytes
//! 0\r\n             the last chunk
//! Trailer: x\r\n    trailers (skipped)
//! \r\n
//! ```

use super::head::BodyLength;
use super::query::hex_digit;
use crate::error::HttpError;

/// Most bytes of chunk extensions in one body, all chunks together. Nobody we know sends any.
pub const CHUNK_EXTENSION_BYTES_MAX: u16 = 1024;

/// Most bytes of trailers after a chunked body, line endings included.
pub const TRAILER_BYTES_MAX: u16 = 4096;

/// Most digits of a chunk size: those of 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// What [`BodyDecoder::handle_bytes`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPiece<'b> {
    /// Bytes of the input this took; hand in the rest next time, unless `done`.
    pub consumed: usize,
    /// Body bytes among them, possibly none.
    pub data: &'b [u8],
    /// Whether the body has ended. What follows `consumed` belongs to the next message.
    pub done: bool,
}

/// Where in a body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In the data of a body with Content-Length.
    Fixed,
    /// In the digits of a chunk size.
    Size {
        digits: u8,
    },
    /// In chunk extensions.
    Extension,
    /// After the CR of a chunk size line.
    SizeLf,
    /// In the data of a chunk.
    Data,
    /// After the data of a chunk.
    DataCr,
    /// After the CR that follows the data of a chunk.
    DataLf,
    /// At the start of a trailer line, or of the empty line at the end.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the empty line at the end.
    EndLf,
    Done,
    Failed(HttpError),
}

/// Resumable decoder of one body. 32 bytes; holds no body bytes.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    /// Bytes to come of the body (`Fixed`) or of the chunk; while in `Size`, the size so far.
    remaining: u64,
    /// Bytes of body still allowed.
    allowance: u64,
    extension_bytes: u16,
    trailer_bytes: u16,
    stage: Stage,
}

impl BodyDecoder {
    /// A decoder for the body of a head with this [`BodyLength`]. More than `body_bytes_max` bytes of data are refused
    /// as soon as they are announced.
    #[must_use]
    pub fn new(length: BodyLength, body_bytes_max: usize) -> Self {
        let allowance = body_bytes_max as u64;
        let (stage, remaining) = match length {
            BodyLength::None | BodyLength::Length(0) => (Stage::Done, 0),
            BodyLength::Length(length) if length > allowance => (Stage::Failed(HttpError::BodyTooLong), 0),
            BodyLength::Length(length) => (Stage::Fixed, length),
            BodyLength::Chunked => (Stage::Size { digits: 0 }, 0),
        };
        Self { remaining, allowance, extension_bytes: 0, trailer_bytes: 0, stage }
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Takes the next bytes. Returns at most one run of data at a time: call again with what was not consumed until
    /// all is consumed or the body is done.
    ///
    /// # Errors
    /// The broken rule; it is repeated on every later call.
    pub fn handle_bytes<'b>(&mut self, bytes: &'b [u8]) -> Result<BodyPiece<'b>, HttpError> {
        let mut data: &[u8] = &[];
        let mut at = 0;
        loop {
            match self.stage {
                Stage::Done => break,
                Stage::Failed(error) => return Err(error),
                // A second run of data is for the next call.
                Stage::Fixed | Stage::Data if !data.is_empty() => break,
                Stage::Fixed | Stage::Data => {
                    data = self.take_data(&bytes[at..]);
                    at += data.len();
                    if data.is_empty() {
                        break;
                    }
                }
                _ => {
                    let Some(&byte) = bytes.get(at) else { break };
                    at += 1;
                    match self.step(byte) {
                        Ok(stage) => self.stage = stage,
                        Err(error) => {
                            self.stage = Stage::Failed(error);
                            return Err(error);
                        }
                    }
                }
            }
        }
        Ok(BodyPiece { consumed: at, data, done: self.is_done() })
    }

    /// The part of `bytes` that is data of the current run.
    fn take_data<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
        self.remaining -= len as u64;
        if self.remaining == 0 {
            self.stage = if self.stage == Stage::Fixed { Stage::Done } else { Stage::DataCr };
        }
        &bytes[..len]
    }

    /// What one byte of chunk framing leads to.
    fn step(&mut self, byte: u8) -> Result<Stage, HttpError> {
        match (self.stage, byte) {
            (Stage::Size { digits }, _) => self.step_size(digits, byte),
            (Stage::Extension, b'\r') => Ok(Stage::SizeLf),
            (Stage::Extension, _) => self.step_extension(byte),
            (Stage::SizeLf, b'\n') => self.begin_chunk(),
            (Stage::SizeLf, _) => Err(HttpError::ChunkLineEnd),
            (Stage::DataCr, b'\r') => Ok(Stage::DataLf),
            (Stage::DataLf, b'\n') => Ok(Stage::Size { digits: 0 }),
            (Stage::DataCr | Stage::DataLf, _) => Err(HttpError::ChunkDataEnd),
            (Stage::TrailerStart, b'\r') => Ok(Stage::EndLf),
            (Stage::EndLf, b'\n') => Ok(Stage::Done),
            (Stage::Trailer, b'\r') => Ok(Stage::TrailerLf),
            (Stage::TrailerLf, b'\n') => self.count_trailer(2, Stage::TrailerStart),
            (Stage::TrailerStart | Stage::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_trailer(1, Stage::Trailer)
            }
            (Stage::TrailerStart | Stage::Trailer | Stage::TrailerLf | Stage::EndLf, _) => {
                Err(HttpError::TrailerMalformed)
            }
            (stage @ (Stage::Fixed | Stage::Data | Stage::Done | Stage::Failed(_)), _) => Ok(stage),
        }
    }

    fn step_size(&mut self, digits: u8, byte: u8) -> Result<Stage, HttpError> {
        match (hex_digit(byte), byte) {
            (Some(_), _) if digits == CHUNK_SIZE_DIGITS_MAX => Err(HttpError::ChunkSizeTooLarge),
            (Some(digit), _) => {
                self.remaining = self.remaining << 4 | u64::from(digit);
                Ok(Stage::Size { digits: digits + 1 })
            }
            (None, b'\r' | b'\n' | b';') if digits == 0 => Err(HttpError::ChunkSizeMissing),
            (None, b'\r') => Ok(Stage::SizeLf),
            (None, b'\n') => Err(HttpError::ChunkLineEnd),
            (None, b';') => self.step_extension(byte),
            (None, _) => Err(HttpError::ChunkSizeMalformed),
        }
    }

    fn step_extension(&mut self, byte: u8) -> Result<Stage, HttpError> {
        match byte {
            b'\n' => Err(HttpError::ChunkLineEnd),
            b'\t' | b' '..=b'~' | 0x80.. if self.extension_bytes < CHUNK_EXTENSION_BYTES_MAX => {
                self.extension_bytes += 1;
                Ok(Stage::Extension)
            }
            b'\t' | b' '..=b'~' | 0x80.. => Err(HttpError::ChunkExtensionTooLong),
            _ => Err(HttpError::ChunkExtensionMalformed),
        }
    }

    /// The size line is complete: data, or the trailers if this was the last chunk.
    fn begin_chunk(&mut self) -> Result<Stage, HttpError> {
        if self.remaining == 0 {
            return Ok(Stage::TrailerStart);
        }
        self.allowance = self.allowance.checked_sub(self.remaining).ok_or(HttpError::BodyTooLong)?;
        Ok(Stage::Data)
    }

    fn count_trailer(&mut self, bytes: u16, next: Stage) -> Result<Stage, HttpError> {
        self.trailer_bytes += bytes;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(HttpError::TrailersTooLong) } else { Ok(next) }
    }
}

const _: () = assert!(size_of::<BodyDecoder>() <= 32);
