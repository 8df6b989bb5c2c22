//! What a connection carries from one buffer to the next, and what it is compared with.

use crate::answers::Answers;
use crate::events::EventStream;
use crate::payload::{HEAD_BYTES, Head};
use fanfare_protocol::ws::decoder::{Decoder, Role};

/// The bytes around the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Header of an unmasked WebSocket frame that holds one delivery and nothing else.
    pub(super) frame_header: Vec<u8>,
    pub(super) prefix: Vec<u8>,
    pub(super) payload_bytes: usize,
    pub(super) suffix: Vec<u8>,
}

impl Template {
    pub(super) fn total(&self) -> usize {
        self.prefix.len() + self.payload_bytes + self.suffix.len()
    }
}

/// What hub messages are wrapped in.
#[derive(Debug)]
pub enum Framing {
    /// WebSocket frames.
    Frames(Decoder),
    /// Server-sent events.
    Events(EventStream),
    /// Answers to polls.
    Answers(Answers),
}

impl Framing {
    /// Frames from a server.
    pub fn frames() -> Self {
        Self::Frames(Decoder::new(Role::Client))
    }

    fn at_rest(&self) -> bool {
        match self {
            Self::Frames(decoder) => decoder.at_rest(),
            Self::Events(stream) => stream.at_rest(),
            Self::Answers(answers) => answers.at_rest(),
        }
    }
}

/// What a connection carries from one buffer to the next. A connection at rest has none.
#[derive(Debug)]
pub struct Carry {
    pub(super) framing: Framing,
    /// The handshake answer is still to come.
    pub(super) handshake: bool,
    /// The message is collected in `spill` because it does not match the template.
    pub(super) spilling: bool,
    /// Bytes of the message matched so far.
    pub(super) at: usize,
    /// The payload's head, as far as it has come.
    pub(super) head_bytes: [u8; HEAD_BYTES],
    /// The head, once it is whole.
    pub(super) head: Option<Head>,
    pub(super) spill: Vec<u8>,
    /// Bytes of `spill` known not to hold the end of a record.
    pub(super) searched: usize,
}

impl Carry {
    /// The state between two messages, or, with `handshake`, before the hub's answer.
    pub fn new(framing: Framing, handshake: bool) -> Self {
        Self {
            framing,
            handshake,
            spilling: false,
            at: 0,
            head_bytes: [0; HEAD_BYTES],
            head: None,
            spill: Vec::new(),
            searched: 0,
        }
    }

    /// Whether a new one without handshake would do as well.
    pub fn at_rest(&self) -> bool {
        !self.handshake && !self.mid_record() && self.framing.at_rest()
    }

    pub(super) fn mid_record(&self) -> bool {
        self.spilling || self.at != 0
    }

    pub(super) fn end_record(&mut self) {
        self.spilling = false;
        self.at = 0;
        self.head = None;
        self.spill.clear();
        self.searched = 0;
    }
}
