//! What a whole fleet says in one dialect: runs of bytes that lie in the worker's log once, and the reader beside them.

use crate::failure::Failure;
use crate::outgoing::Outgoing;
use crate::reader::Reader;
use crate::wire::{Own, Wire};
use fanfare_engine::buf::Extent;

/// Shared runs of bytes, in the log once. `None`: this dialect has nothing to say there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phrases {
    pub(crate) upgrade: Extent,
    pub(crate) negotiate: Extent,
    pub(crate) handshake: Option<Extent>,
    pub(crate) ping: Option<Extent>,
    pub(crate) close: Extent,
    /// What a plain connection says first: a Pong that nobody asked for (RFC 6455 5.5.3), ignored by every server.
    pub(crate) hello: Extent,
}

/// Tags of sends: which phrase, or what lies at the front of the outbox.
pub(crate) mod tag {
    use fanfare_engine::io::Tag;
    pub(crate) const OUTBOX: Tag = 0;
    pub(crate) const UPGRADE: Tag = 1;
    pub(crate) const NEGOTIATE: Tag = 2;
    pub(crate) const HANDSHAKE: Tag = 3;
    pub(crate) const PING: Tag = 4;
    pub(crate) const CLOSE: Tag = 5;
    pub(crate) const HELLO: Tag = 6;
    pub(crate) const POLL: Tag = 7;
}

/// One dialect on one worker.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) wire: Wire,
    pub(crate) phrases: Phrases,
    pub(crate) reader: Reader,
}

impl Phrases {
    /// Writes all of them into the log.
    pub(crate) fn new(wire: &Wire, outgoing: &mut Outgoing) -> Result<Self, Failure> {
        /// Far below what the log keeps in one run, far above what servers accept as a head.
        const PHRASE_BYTES_MAX: usize = 32 << 10;
        let mut keep = |bytes: &[u8]| {
            let too_long =
                |cause: String| Failure::usage(cause, "--target / --header", "shorten the URL and the headers");
            if bytes.len() > PHRASE_BYTES_MAX {
                return Err(too_long(format!("a request of {} bytes is above {PHRASE_BYTES_MAX}", bytes.len())));
            }
            outgoing.keep(bytes).map_err(|error| too_long(format!("the opening requests do not fit: {error}")))
        };
        let mut some = |bytes: Vec<u8>| if bytes.is_empty() { Ok(None) } else { keep(&bytes).map(Some) };
        let (handshake, ping) = (some(wire.handshake())?, some(wire.ping())?);
        Ok(Self {
            upgrade: keep(&wire.upgrade(None, &Own::default()))?,
            negotiate: keep(&wire.negotiate(&Own::default()))?,
            handshake,
            ping,
            close: keep(&Wire::close())?,
            hello: keep(&Wire::pong(b""))?,
        })
    }
}
