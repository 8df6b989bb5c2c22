//! What one shard tells another: 64 bytes that name runs in the sender's log.

use crate::buf::{Extent, Logs, SegmentId};
use crate::conn::wire::{ByVariation, Variation};
use crate::hub::directory::ConnRef;

/// Bytes in the sender's log that are read when the note is taken and not kept: a name, a list of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    segment: SegmentId,
    offset: u32,
    len: u32,
}

impl From<Extent> for Span {
    fn from(extent: Extent) -> Self {
        Self { segment: extent.segment, offset: extent.offset, len: extent.len }
    }
}

impl From<Span> for Extent {
    fn from(span: Span) -> Self {
        Extent { segment: span.segment, offset: span.offset, len: span.len, ..Extent::default() }
    }
}

impl Span {
    /// Nothing.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Kinds of names. Part of the key under which a shard keeps its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NameKind {
    /// A group.
    Group,
    /// A user id.
    User,
}

/// A message on its way to another shard: the one run that it is, or the list of all its pieces in all variations.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// [`Extent::LISTED`]: bytes in the sender's log, [`LISTED_BYTES`] for each piece: the number of its variation, then
    /// the piece. Piece after piece of the message; of one piece, the variations in the order of their numbers.
    run: Extent,
    variation: Variation,
}

/// Bytes of an entry of a list.
pub const LISTED_BYTES: usize = 1 + Extent::BYTES;

impl Packed {
    /// One run in one variation.
    pub fn one(variation: Variation, run: Extent) -> Self {
        Self { run, variation }
    }

    /// The list in these bytes of the sender's log.
    pub fn listed(span: Span) -> Self {
        Self { run: Extent { flags: Extent::LISTED, ..span.into() }, variation: Variation::default() }
    }

    /// Adds an entry to what is going to be a list.
    pub fn list(list: &mut Vec<u8>, variation: Variation, run: &Extent) {
        list.push(variation as u8);
        list.extend_from_slice(&run.to_bytes());
    }

    /// Calls `take` with one piece of the message after the other, each in all variations that somebody needs.
    pub fn for_each(&self, logs: &Logs, mut take: impl FnMut(ByVariation<Extent>)) {
        let mut piece = ByVariation::default();
        if self.run.flags & Extent::LISTED == 0 {
            piece[self.variation] = self.run;
            return take(piece);
        }
        let mut last = None;
        let (entries, _) = logs.bytes(self.run).as_chunks::<LISTED_BYTES>();
        for [number, run @ ..] in entries {
            let Some(variation) = Variation::from_u8(*number) else { continue };
            if last >= Some(variation) {
                take(std::mem::take(&mut piece));
            }
            piece[variation] = Extent::from_bytes(*run);
            last = Some(variation);
        }
        take(piece);
    }
}

/// One note.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// For every member of a hub but the `excluded` slots.
    Hub {
        /// The hub.
        hub: u16,
        /// The message.
        message: Packed,
        /// Slots of the receiving shard, ascending, 4 bytes each, little endian.
        excluded: Span,
    },
    /// For every member under a name but the `excluded` slots.
    Named {
        /// The hub.
        hub: u16,
        /// Group or user.
        kind: NameKind,
        /// The message.
        message: Packed,
        /// The name.
        name: Span,
        /// As in `Hub`.
        excluded: Span,
    },
    /// For one connection.
    One {
        /// The connection.
        to: ConnRef,
        /// The message.
        message: Packed,
    },
    /// A connection of yours joins or leaves a group.
    Membership {
        /// The connection.
        who: ConnRef,
        /// Joins; else leaves.
        join: bool,
        /// The group.
        name: Span,
    },
    /// Close a connection of yours.
    Close {
        /// The connection.
        who: ConnRef,
        /// Tell the client that it may come back.
        allow_reconnect: bool,
    },
    /// Nobody may keep runs of this segment any longer: the log is full.
    Evict {
        /// The segment.
        segment: SegmentId,
    },
}

const _: () = assert!(size_of::<Note>() <= 64);
