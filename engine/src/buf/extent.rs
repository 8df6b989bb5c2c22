//! A run of immutable bytes in a shard's log: what outboxes, notes and sends are made of.

/// Names one segment of one shard's log: shard in the high 8 bits, index in the low 24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(u32);

impl SegmentId {
    /// `index` is below 2^24 (4 TiB of log per shard at 256 KiB a segment).
    pub fn new(shard: u8, index: u32) -> Self {
        debug_assert!(index < 1 << 24);
        Self((shard as u32) << 24 | index)
    }

    /// The shard that owns the segment, the only one that writes or reuses it.
    pub fn shard(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// Position in the owner's row of segments.
    pub fn index(self) -> u32 {
        self.0 & 0x00ff_ffff
    }
}

/// A run of written, immutable bytes inside one segment. 16 bytes, passed by value.
///
/// Whoever keeps an extent beyond the current turn holds its segment (see `buf::segment`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extent {
    /// The segment that holds the bytes.
    pub segment: SegmentId,
    /// First byte, counted from the start of the segment.
    pub offset: u32,
    /// Length in bytes, never beyond the end of the segment.
    pub len: u32,
    /// Policy class for slow readers. Extents of different classes never merge, nor do those that may be dropped.
    pub class: u8,
    /// [`Extent::CONTINUES`], [`Extent::BEGUN`], or 0.
    pub flags: u8,
    /// Whole hub messages that *end* inside this run (0 for all but the last piece of a split message).
    pub count: u16,
}

const _: () = assert!(size_of::<Extent>() == 16);

impl Extent {
    /// The last message of this run goes on in the next extent of the same outbox.
    pub const CONTINUES: u8 = 1;
    /// These bytes are a list of extents, [`Extent::BYTES`] each: a message in pieces, in one note.
    pub const LISTED: u8 = 2;
    /// In an outbox: a part of the message that this run begins with has been sent. It must be finished.
    pub const BEGUN: u8 = 4;
    /// The class of messages that may be dropped and have no more to tell. Above it every target has a class of its own.
    /// A run of these classes is one message, or a piece of one: whoever drops must see where each ends.
    pub const DROPPABLE: u8 = 2;
    /// Bytes of an extent in a list.
    pub const BYTES: usize = 16;

    /// As it stands in a list.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        (bytes[12], bytes[13]) = (self.class, self.flags);
        bytes[14..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// Back from a list.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            segment: SegmentId(word(0)),
            offset: word(4),
            len: word(8),
            class: bytes[12],
            flags: bytes[13],
            count: u16::from_le_bytes([bytes[14], bytes[15]]),
        }
    }

    /// No bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is a message, or a piece of one, that a slow reader may have to do without.
    pub fn may_drop(&self) -> bool {
        self.class >= Self::DROPPABLE
    }

    /// The same bytes, to be delivered whatever happens.
    pub fn undroppable(mut self) -> Self {
        if self.may_drop() {
            self.class = 0;
        }
        self
    }

    /// Whether `next` begins exactly where this run ends, in the same segment.
    pub fn is_followed_by(&self, next: &Extent) -> bool {
        self.segment == next.segment && self.offset + self.len == next.offset
    }

    /// Whether both may be one run: the bytes are adjacent, and nobody will have to tell them apart.
    pub fn joins(&self, next: &Extent) -> bool {
        self.is_followed_by(next)
            && self.class == next.class
            && !self.may_drop()
            && self.count.checked_add(next.count).is_some()
    }

    /// Grows this run by `next` if they join. Returns whether it did; merging is concatenation, nothing else.
    pub fn merge(&mut self, next: &Extent) -> bool {
        let joins = self.joins(next);
        if joins {
            self.len += next.len;
            self.flags = next.flags;
            self.count += next.count;
        }
        joins
    }

    /// Forgets the first `n` bytes, `n <= len`: they have been handed to the kernel.
    pub fn advance(&mut self, n: u32) {
        debug_assert!(n <= self.len);
        self.offset += n;
        self.len -= n;
    }
}
