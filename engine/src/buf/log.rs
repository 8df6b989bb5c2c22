//! An append-only log: encoded messages back to back in segments, so that neighbours leave in one send.

use super::extent::{Extent, SegmentId};
use super::segment::{SEGMENT_BYTES, SegmentOwner};
use fanfare_protocol::cursor::Sink;
use std::error::Error;
use std::fmt;
use std::ops::Deref;

/// Longest message that is moved whole to the next segment rather than split, and so the most that is wasted at the
/// end of a segment.
pub const WHOLE_BYTES_MAX: usize = SEGMENT_BYTES / 4;

/// Where an appended message lies: nearly always one run, more when a large one was split over segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extents {
    /// The usual case, without allocation.
    One(Extent),
    /// In order; all but the last carry [`Extent::CONTINUES`].
    Many(Vec<Extent>),
}

impl Deref for Extents {
    type Target = [Extent];

    fn deref(&self) -> &[Extent] {
        match self {
            Self::One(extent) => std::slice::from_ref(extent),
            Self::Many(extents) => extents,
        }
    }
}

/// The log has no room: its segments are still held by readers (evict the oldest), or the message is larger than
/// the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFull {
    /// Free segments that the message would need.
    pub needed: usize,
    /// Free segments that there are.
    pub free: usize,
}

impl fmt::Display for LogFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broadcast log full: {} free segments needed, {} there", self.needed, self.free)
    }
}

impl Error for LogFull {}

/// One log of a shard: one per variation and one for private messages, all cut from the same [`SegmentOwner`].
#[derive(Debug, Default)]
pub struct Log {
    open: Option<SegmentId>,
    /// Bytes used of the open segment.
    used: u32,
}

impl Log {
    /// An empty log without a segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one message of exactly `len` bytes, which `write` puts into the writer it is given.
    ///
    /// Fits into the open segment: one extent, adjacent to the message before. Up to [`WHOLE_BYTES_MAX`]: one extent
    /// at the start of a new segment. Above: split, the rest of the open segment first. The last extent has
    /// `count` 1, the others 0.
    ///
    /// # Errors
    /// [`LogFull`], with nothing written and nothing taken.
    ///
    /// # Panics
    /// If `write` puts more or fewer than `len` bytes: the encoder's two passes disagree, and the log would carry a
    /// torn message.
    pub fn append(
        &mut self,
        owner: &mut SegmentOwner,
        len: usize,
        class: u8,
        write: impl FnOnce(&mut LogWriter<'_>),
    ) -> Result<Extents, LogFull> {
        let extents = self.reserve(owner, len, class)?;
        let mut writer = LogWriter { spans: &extents, owner, cursor: std::ptr::null_mut(), left: 0 };
        write(&mut writer);
        let complete = writer.left == 0 && writer.spans.iter().all(Extent::is_empty);
        assert!(complete, "encoder wrote less than it announced");
        for &extent in extents.iter() {
            owner.publish(extent);
        }
        Ok(extents)
    }

    /// Seals the open segment, if any: nothing more is expected for this log, or the engine stops.
    pub fn close(&mut self, owner: &mut SegmentOwner) {
        if let Some(segment) = self.open.take() {
            owner.seal(segment);
        }
        self.used = 0;
    }

    fn room(&self) -> usize {
        if self.open.is_some() { SEGMENT_BYTES - self.used as usize } else { 0 }
    }

    /// Decides where the message goes and moves the mark behind it.
    fn reserve(&mut self, owner: &mut SegmentOwner, len: usize, class: u8) -> Result<Extents, LogFull> {
        let room = self.room();
        if self.open.is_some() && len <= room {
            return Ok(Extents::One(self.advance(len, class, true)));
        }
        let (first, needed) =
            if len <= WHOLE_BYTES_MAX { (0, 1) } else { (room, (len - room).div_ceil(SEGMENT_BYTES)) };
        if owner.free() < needed {
            return Err(LogFull { needed, free: owner.free() });
        }
        let mut extents = Vec::new();
        if first > 0 {
            extents.push(self.advance(first, class, false));
        }
        let mut left = len - first;
        loop {
            self.close(owner);
            self.open = owner.take();
            let piece = left.min(SEGMENT_BYTES);
            left -= piece;
            let extent = self.advance(piece, class, left == 0);
            if left == 0 && extents.is_empty() {
                return Ok(Extents::One(extent));
            }
            extents.push(extent);
            if left == 0 {
                return Ok(Extents::Many(extents));
            }
        }
    }

    fn advance(&mut self, len: usize, class: u8, last: bool) -> Extent {
        let segment = self.open.expect("a segment is open: `reserve` has counted the free ones");
        let offset = self.used;
        self.used += len as u32;
        let flags = if last { 0 } else { Extent::CONTINUES };
        Extent { segment, offset, len: len as u32, class, flags, count: u16::from(last) }
    }
}

/// Takes the bytes of one message straight into the log's memory.
#[derive(Debug)]
pub struct LogWriter<'a> {
    spans: &'a [Extent],
    owner: &'a mut SegmentOwner,
    cursor: *mut u8,
    left: usize,
}

impl LogWriter<'_> {
    fn next_span(&mut self) {
        let (&span, rest) = self.spans.split_first().expect("encoder wrote more than it announced");
        self.spans = rest;
        self.cursor = self.owner.room(span);
        self.left = span.len as usize;
    }
}

impl Sink for LogWriter<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            while self.left == 0 {
                self.next_span();
            }
            let n = bytes.len().min(self.left);
            // SAFETY: `cursor` points at `left` writable bytes of an open segment above its published mark
            // (checked by `SegmentOwner::room`): nobody reads them yet, nobody else writes them, and `bytes` is a
            // shared borrow, so it cannot overlap memory that is not yet readable.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.cursor, n);
                self.cursor = self.cursor.add(n);
            }
            self.left -= n;
            bytes = &bytes[n..];
        }
    }
}
