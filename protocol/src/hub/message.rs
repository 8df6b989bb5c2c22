//! The hub vocabulary: what peers say to each other, whatever the format (spec 4.1, 4.2).

use std::borrow::Cow;

use super::raw::{Arguments, Raw, StreamIds};

/// One hub message. Texts borrow from the input unless escapes had to be resolved; arguments, items and results stay
/// as they came until somebody asks for their meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Type 1: call `target`. Without an id nobody waits for an answer, and none must be sent.
    Invocation {
        /// Present and not empty when the sender waits for a Completion.
        invocation_id: Option<Cow<'a, str>>,
        /// The method; never empty.
        target: Cow<'a, str>,
        /// The arguments, without those that are streams.
        arguments: Arguments<'a>,
        /// The streams the sender is about to upload.
        stream_ids: StreamIds<'a>,
    },
    /// Type 4: call `target` for a stream of results.
    StreamInvocation {
        /// Never empty.
        invocation_id: Cow<'a, str>,
        /// The method; never empty.
        target: Cow<'a, str>,
        /// The arguments, without those that are streams.
        arguments: Arguments<'a>,
        /// The streams the sender is about to upload.
        stream_ids: StreamIds<'a>,
    },
    /// Type 2: one item of the stream of that id.
    StreamItem {
        /// Never empty.
        invocation_id: Cow<'a, str>,
        /// The item.
        item: Raw<'a>,
    },
    /// Type 3: the answer to an invocation, or the end of a stream.
    Completion {
        /// Never empty.
        invocation_id: Cow<'a, str>,
        /// How it ended.
        outcome: Outcome<'a>,
    },
    /// Type 5: the sender does not want the rest of that stream.
    CancelInvocation {
        /// Never empty.
        invocation_id: Cow<'a, str>,
    },
    /// Type 6: still here.
    Ping,
    /// Type 7: the last message of its sender.
    Close {
        /// Why, if it is an error. An empty text is an error too.
        error: Option<Cow<'a, str>>,
        /// Whether the receiver may come back by itself.
        allow_reconnect: bool,
    },
    /// Type 8: everything up to this number has arrived (stateful reconnect).
    Ack {
        /// The highest number received.
        sequence_id: u64,
    },
    /// Type 9: the number of the message that follows (stateful reconnect).
    Sequence {
        /// That number.
        sequence_id: u64,
    },
    /// A type that this version does not know: to be ignored (spec 4.3).
    Unknown {
        /// The type.
        kind: i64,
    },
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// Nothing to return, or the end of a stream.
    Void,
    /// The value returned, possibly null.
    Result(Raw<'a>),
    /// What went wrong.
    Error(Cow<'a, str>),
}

impl Message<'_> {
    /// Whether it is a Ping, the message that arms the client timeout (spec 6.1).
    pub fn is_ping(&self) -> bool {
        matches!(self, Self::Ping)
    }

    /// Whether stateful reconnect numbers this message: types 1 to 5 (spec 7.2).
    pub fn is_trackable(&self) -> bool {
        match self {
            Self::Invocation { .. }
            | Self::StreamInvocation { .. }
            | Self::StreamItem { .. }
            | Self::Completion { .. }
            | Self::CancelInvocation { .. } => true,
            Self::Ping | Self::Close { .. } | Self::Ack { .. } | Self::Sequence { .. } | Self::Unknown { .. } => false,
        }
    }
}
