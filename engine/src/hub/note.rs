//! What one shard tells another: 64 bytes that name runs in the sender's log.

use crate::buf::{Extent, SegmentId};
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

/// One note. `runs`: the message by variation, an empty run where nobody needs it.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// For every member of a hub but the `excluded` slots.
    Hub {
        /// The hub.
        hub: u16,
        /// The message.
        runs: [Extent; 2],
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
        runs: [Extent; 2],
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
        runs: [Extent; 2],
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
