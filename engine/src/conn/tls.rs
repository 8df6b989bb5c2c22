//! The record layer between a socket and its connection: what comes is decrypted before anybody looks at it, what is
//! owed is encrypted in the turn in which it is sent.
//!
//! ```text
//!  socket --> inbound (a record that is not whole) --> rustls --> plain --> handle_slice, as without TLS
//!  outbox --> first 16 KiB --> rustls --> rest --> send_copy --> socket
//!                                          `-- what the socket did not take: a record cannot be encrypted twice
//! ```
//!
//! An idle stream owns neither buffer. What is encrypted and not taken yet stays in the outbox as well, as [`sealed`]
//! bytes at its front: above the record layer nobody can tell such a client from one without TLS.
//!
//! [`sealed`]: TlsStream::sealed

mod streams;

pub use streams::TlsStreams;

use crate::event::TlsFailure;
use crate::io::Generation;
use crate::limits::{TLS_INBOUND_BYTES_MAX, TLS_RECORD_BYTES_MAX, TLS_REST_BYTES_MAX};
use fanfare_protocol::hub::session::Tick;
use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, HandshakeKind};
use std::fmt;
use std::sync::Arc;

/// Bytes of a record around what it carries, at most: header, explicit nonce, content type, authentication tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;
/// First byte of a handshake record (RFC 8446 5.1).
const HANDSHAKE: u8 = 0x16;

/// What the shards of an engine need to speak TLS.
#[derive(Clone, Debug)]
pub struct TlsSetup {
    /// One for all: it knows where to ask for certificates, and the keys of tickets.
    pub config: Arc<ServerConfig>,
    /// Listeners whose clients speak TLS, one bit each.
    pub listeners: u8,
}

/// Where a stream is in its life.
enum Stage {
    /// Not a byte has come.
    Fresh,
    /// Shaking hands.
    Handshake(Box<UnbufferedServerConnection>),
    /// Both sides speak.
    Open(Box<UnbufferedServerConnection>),
    /// Its handshake failed. What is left to say is an alert.
    Failed,
}

/// One connection's TLS. Moves with its socket.
pub struct TlsStream {
    config: Arc<ServerConfig>,
    stage: Stage,
    /// Bytes that are no whole record yet, or wait for their handshake's turn.
    inbound: Vec<u8>,
    /// Records, from `rest_at` on, that the socket has not taken.
    rest: Vec<u8>,
    rest_at: usize,
    /// Bytes at the front of the outbox that `rest` carries.
    sealed: u32,
    /// Our close_notify is behind everything in `rest`, or gone.
    said_goodbye: bool,
    /// On the list of handshakes that wait for their turn, as the connection of this generation.
    listed: Option<Generation>,
    /// Since when a record has been coming, as far as anybody has looked.
    unfinished_since: Option<Tick>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Fresh => "fresh",
            Stage::Handshake(_) => "handshake",
            Stage::Open(_) => "open",
            Stage::Failed => "failed",
        };
        let (inbound, rest) = (self.inbound.len(), self.rest().len());
        f.debug_struct("TlsStream").field("stage", &stage).field("inbound", &inbound).field("rest", &rest).finish()
    }
}

/// What a read has come to, besides plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The handshake has ended with this read, and well.
    pub opened: bool,
    /// It needed no certificate: the client came with a ticket.
    pub resumed: bool,
    /// The peer has said that it sends no more.
    pub ended: bool,
    /// Nothing that comes can be understood any more.
    pub failure: Option<TlsFailure>,
}

/// The stream cannot carry anything any more: its keys are used up, or it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotSeal;

impl TlsStream {
    /// Before the first byte.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let (inbound, rest) = (Vec::new(), Vec::new());
        Self {
            config,
            stage: Stage::Fresh,
            inbound,
            rest,
            rest_at: 0,
            sealed: 0,
            said_goodbye: false,
            listed: None,
            unfinished_since: None,
        }
    }

    /// Whether not a byte has come.
    pub fn is_fresh(&self) -> bool {
        matches!(self.stage, Stage::Fresh) && self.inbound.is_empty()
    }

    /// Whether the handshake has neither ended nor failed.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Fresh | Stage::Handshake(_))
    }

    /// Whether the handshake failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Failed)
    }

    /// Records that the socket has not taken.
    pub fn rest(&self) -> &[u8] {
        &self.rest[self.rest_at..]
    }

    /// Bytes at the front of the outbox that the rest carries: they have been encrypted, and not been taken whole.
    pub fn sealed(&self) -> u32 {
        self.sealed
    }

    /// Whether the peer should be told that nothing more comes before the socket says so.
    pub fn owes_goodbye(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && !self.said_goodbye
    }

    /// Since when the record has been coming that is not whole yet. To be asked now and then: that is how its beginning is
    /// noticed. Whoever is not read from is not to blame, and begins anew.
    pub fn unfinished_since(&mut self, now: Tick, is_read: bool) -> Option<Tick> {
        self.unfinished_since = match self.unfinished_since {
            _ if self.inbound.is_empty() => None,
            Some(since) if is_read => Some(since),
            _ => Some(now),
        };
        self.unfinished_since
    }

    /// Keeps bytes for later. `false`: there are too many.
    #[must_use]
    fn keep(&mut self, bytes: &[u8]) -> bool {
        self.inbound.extend_from_slice(bytes);
        self.inbound.len() <= TLS_INBOUND_BYTES_MAX
    }

    /// Takes what has come, in place where that is possible; appends what it says to `plain`.
    fn read(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Read {
        if matches!(self.stage, Stage::Fresh) {
            let Ok(session) = UnbufferedServerConnection::new(self.config.clone()) else {
                return Read { failure: Some(TlsFailure::Other), ..Read::default() };
            };
            self.stage = Stage::Handshake(Box::new(session));
        }
        let was_open = matches!(self.stage, Stage::Open(_));
        let (Stage::Handshake(session) | Stage::Open(session)) = &mut self.stage else { return Read::default() };
        let mut kept = std::mem::take(&mut self.inbound);
        let bytes_before = kept.len();
        let mut read = Read::default();
        if kept.is_empty() {
            let used = process(session, bytes, &mut self.rest, plain, &mut read);
            kept.extend_from_slice(&bytes[used..]);
        } else {
            kept.extend_from_slice(bytes);
            let used = process(session, &mut kept, &mut self.rest, plain, &mut read);
            kept.drain(..used);
        }
        if was_open && kept.len() < bytes_before + bytes.len() {
            // A whole record has come: what is left belongs to another one.
            self.unfinished_since = None;
        }
        // An idle stream owns no buffer.
        self.inbound = if kept.is_empty() { Vec::new() } else { kept };
        let opened = !was_open && !session.is_handshaking() && read.failure.is_none();
        let resumed = opened && session.handshake_kind() == Some(HandshakeKind::Resumed);
        (read.opened, read.resumed) = (opened, resumed);
        if opened {
            self.open();
        }
        if self.inbound.len() > TLS_INBOUND_BYTES_MAX || self.rest().len() > TLS_REST_BYTES_MAX {
            read.failure.get_or_insert(TlsFailure::Malformed);
        }
        read
    }

    fn open(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Handshake(session) => Stage::Open(session),
            other => other,
        };
    }

    /// The handshake has failed: only what is in the rest will still be said.
    fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.inbound = Vec::new();
    }

    /// Encrypts the first `sealed` bytes of the outbox, up to [`TLS_RECORD_BYTES_MAX`], into one record. Nothing may be
    /// left of the records before.
    ///
    /// # Errors
    /// If nothing can be said any more.
    pub fn seal(&mut self, plain: &[u8]) -> Result<(), CannotSeal> {
        debug_assert!(self.rest().is_empty() && plain.len() <= TLS_RECORD_BYTES_MAX);
        self.write(Say::Bytes(plain))?;
        self.sealed = plain.len() as u32;
        Ok(())
    }

    /// Tells the peer that nothing more comes, behind what is in the rest. Once.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn say_goodbye(&mut self) -> Result<(), CannotSeal> {
        self.said_goodbye = true;
        self.write(Say::Goodbye)
    }

    fn write(&mut self, say: Say<'_>) -> Result<(), CannotSeal> {
        let Stage::Open(session) = &mut self.stage else { return Err(CannotSeal) };
        loop {
            let UnbufferedStatus { discard, state } = session.process_tls_records(&mut self.inbound);
            let done = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let payload = match say {
                        Say::Bytes(plain) => plain,
                        Say::Goodbye => &[],
                    };
                    put(&mut self.rest, payload.len() + RECORD_OVERHEAD_BYTES, |out| {
                        let written = match say {
                            Say::Bytes(plain) => traffic.encrypt(plain, out),
                            Say::Goodbye => traffic.queue_close_notify(out),
                        };
                        written.map_err(|error| match error {
                            EncryptError::InsufficientSize(size) => Some(size.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    })?;
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.rest, |out| data.encode(out))?;
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                _ => return Err(CannotSeal),
            };
            self.inbound.drain(..discard);
            if done {
                return Ok(());
            }
        }
    }

    /// The socket has taken `n` bytes of the rest. Returns the bytes of the outbox that are gone with that.
    pub fn taken(&mut self, n: u32) -> u32 {
        self.rest_at += n as usize;
        if !self.rest().is_empty() {
            return 0;
        }
        (self.rest, self.rest_at) = (Vec::new(), 0);
        std::mem::take(&mut self.sealed)
    }
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
enum Say<'a> {
    Bytes(&'a [u8]),
    Goodbye,
}

/// Appends to `rest` what `write` puts into the room it is given; `Err(Some(n))` asks for room for `n` bytes.
fn put(
    rest: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), CannotSeal> {
    let at = rest.len();
    rest.resize(at + room, 0);
    let written = match write(&mut rest[at..]) {
        Err(Some(needed)) => {
            rest.resize(at + needed, 0);
            write(&mut rest[at..])
        }
        written => written,
    };
    rest.truncate(at + written.as_ref().map_or(0, |&n| n));
    written.map(drop).map_err(|_| CannotSeal)
}

fn encode(
    rest: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), CannotSeal> {
    put(rest, 0, |out| {
        encode(out).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Works through whole records at the front of `input`; returns how many bytes are done with.
fn process(
    session: &mut UnbufferedServerConnection,
    input: &mut [u8],
    rest: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    read: &mut Read,
) -> usize {
    let mut at = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = session.process_tls_records(&mut input[at..]);
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let Ok(record) = record else { break };
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(rest, |out| data.encode(out)).is_ok(),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                read.ended = true;
                true
            }
            Err(error) => {
                read.failure = Some(failure(&error));
                collect_alert(session, rest);
                false
            }
            Ok(_) => false,
        };
        at += discard;
        if !goes_on {
            return at.min(input.len());
        }
    }
}

/// What tells the peer why nothing more will be understood. The input behind an error must not be looked at again.
fn collect_alert(session: &mut UnbufferedServerConnection, rest: &mut Vec<u8>) {
    while session.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = session.process_tls_records(&mut []).state else { return };
        if encode(rest, |out| data.encode(out)).is_err() {
            return;
        }
    }
}

fn failure(error: &rustls::Error) -> TlsFailure {
    use rustls::Error as E;
    match error {
        E::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled) => TlsFailure::Gone,
        E::AlertReceived(_) => TlsFailure::Alert,
        E::PeerIncompatible(_) | E::NoApplicationProtocol => TlsFailure::Incompatible,
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::PeerMisbehaved(_)
        | E::PeerSentOversizedRecord
        | E::DecryptError => TlsFailure::Malformed,
        _ => TlsFailure::Other,
    }
}

/// Whether the first byte of a client is that of something other than TLS.
pub fn is_not_tls(first: u8) -> bool {
    first != HANDSHAKE
}

/// Whether it is that of a request method.
pub fn begins_a_request(first: u8) -> bool {
    first.is_ascii_uppercase()
}
