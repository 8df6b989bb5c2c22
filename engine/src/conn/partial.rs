//! Input that does not end where the buffer ends. Only connections in the middle of something own one of these.

use crate::buf::slab::Slab;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::HeadEnd;
use fanfare_protocol::ws::decoder::{Decoder, Role};
use fanfare_protocol::ws::deflate::decoder::DeflateDecoder;

/// What a connection is in the middle of.
#[derive(Debug)]
pub struct Partial {
    /// The WebSocket frame or message under way.
    pub decoder: Decoder,
    /// The same on a connection with permessage-deflate, where `decoder` stays at rest.
    pub deflated: Option<Box<DeflatedInput>>,
    /// Bytes of an unfinished HTTP head or hub message.
    pub bytes: Vec<u8>,
    /// How far the end of that head was looked for.
    pub head_end: HeadEnd,
    /// Whole hub messages, back to back, that wait for an invocation to end.
    pub held: Vec<u8>,
    /// A request body under way, and the answer that goes out when it is over.
    pub body: Option<Box<Body>>,
    /// A message that is being returned while it still comes in.
    pub echo: Option<Box<EchoMessage>>,
}

/// What a WebSocket with permessage-deflate is in the middle of.
#[derive(Debug)]
pub struct DeflatedInput {
    /// The frame or message under way, compressed.
    pub decoder: DeflateDecoder,
    /// What was read with messages that inflated to enough for one turn.
    pub unread: Vec<u8>,
}

impl Default for DeflatedInput {
    fn default() -> Self {
        Self { decoder: DeflateDecoder::new(Role::Server), unread: Vec::new() }
    }
}

impl DeflatedInput {
    /// Whether it says no more than its absence would.
    pub fn is_vacant(&self) -> bool {
        self.decoder.at_rest() && self.unread.is_empty()
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.decoder.held_bytes() + self.unread.capacity()
    }
}

/// How much of a message has gone back.
#[derive(Debug, Default)]
pub struct EchoMessage {
    /// Payload bytes that have come.
    pub bytes_received: usize,
    /// Frames that have gone back.
    pub frames_sent: usize,
    /// Payload that has not gone back yet.
    pub bytes: Vec<u8>,
}

/// A request body under way.
#[derive(Debug)]
pub struct Body {
    /// Where its end is.
    pub decoder: BodyDecoder,
    /// What is done with it.
    pub use_of: BodyUse,
}

/// What is done with a request body.
#[derive(Debug)]
pub enum BodyUse {
    /// It is thrown away, and then the request is answered.
    Discard {
        /// The whole HTTP answer.
        answer: Vec<u8>,
        /// Whether the connection may carry another request afterwards.
        keep_alive: bool,
    },
    /// It is kept as it comes.
    Keep(Vec<u8>),
}

impl Body {
    fn weight(&self) -> usize {
        match &self.use_of {
            BodyUse::Discard { answer, .. } => answer.capacity(),
            BodyUse::Keep(bytes) => bytes.capacity(),
        }
    }
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(Role::Server),
            deflated: None,
            bytes: Vec::new(),
            head_end: HeadEnd::new(),
            held: Vec::new(),
            body: None,
            echo: None,
        }
    }
}

impl Partial {
    /// Whether it says no more than its absence would.
    pub fn is_vacant(&self) -> bool {
        self.decoder.at_rest()
            && self.bytes.is_empty()
            && self.held.is_empty()
            && self.body.is_none()
            && self.echo.is_none()
            && self.deflated.is_none()
    }

    /// Whether compressed messages were read and not taken yet.
    pub fn has_unread(&self) -> bool {
        self.deflated.as_ref().is_some_and(|input| !input.unread.is_empty())
    }

    /// Heap bytes.
    fn weight(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.weight());
        let echo = self.echo.as_ref().map_or(0, |echo| echo.bytes.capacity());
        let deflated = self.deflated.as_ref().map_or(0, |input| input.weight());
        self.bytes.capacity() + self.held.capacity() + body + echo + deflated
    }

    /// Back to what a new one is, keeping up to [`KEPT_BYTES_MAX`] of buffer.
    fn reset(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        if bytes.capacity() > KEPT_BYTES_MAX {
            bytes = Vec::new();
        }
        *self = Self { bytes, ..Self::default() };
    }
}

/// Buffer bytes a finished partial keeps for its next tenant.
const KEPT_BYTES_MAX: usize = 4096;
/// Finished partials kept for reuse.
const SPARE_MAX: usize = 64;

/// All unfinished input of a shard.
#[derive(Debug)]
pub struct Partials {
    slab: Slab<Partial>,
    spare: Vec<Partial>,
    bytes: usize,
    bytes_max: usize,
}

impl Partials {
    /// At most one per connection, and `bytes_max` of heap in all of them.
    pub fn new(connections_max: usize, bytes_max: usize) -> Self {
        Self { slab: Slab::new(connections_max as u32), spare: Vec::new(), bytes: 0, bytes_max }
    }

    /// Takes what `handle` names, or a fresh one, out for work. `handle` is 0 afterwards.
    pub fn take(&mut self, handle: &mut u32) -> Partial {
        if *handle == 0 {
            return self.spare.pop().unwrap_or_default();
        }
        let partial = self.slab.remove(*handle).expect("a partial's handle is live");
        self.bytes -= partial.weight();
        *handle = 0;
        partial
    }

    /// Keeps `partial` for later if it says anything. `false`: all partials together are over their bound and this
    /// one was dropped, so the connection must be closed.
    #[must_use]
    pub fn keep(&mut self, handle: &mut u32, mut partial: Partial) -> bool {
        debug_assert_eq!(*handle, 0);
        if partial.is_vacant() {
            if self.spare.len() < SPARE_MAX {
                partial.reset();
                self.spare.push(partial);
            }
            return true;
        }
        if self.bytes + partial.weight() > self.bytes_max {
            return false;
        }
        self.bytes += partial.weight();
        *handle = self.slab.insert(partial).expect("one partial per slot");
        true
    }

    /// Forgets it: the connection is gone.
    pub fn drop_handle(&mut self, handle: &mut u32) {
        if *handle != 0 {
            let mut partial = self.take(handle);
            partial.reset();
            if self.spare.len() < SPARE_MAX {
                self.spare.push(partial);
            }
        }
    }

    /// Looks at it without taking it.
    pub fn get(&self, handle: u32) -> Option<&Partial> {
        self.slab.get(handle)
    }

    /// Connections in the middle of something.
    pub fn len(&self) -> usize {
        self.slab.len() as usize
    }

    /// Whether every connection is between messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
