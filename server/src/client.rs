//! A SignalR client on one blocking socket, for `listen` and `send`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::message::{Message, Outcome};
use fanfare_protocol::hub::{self, Format, Payload, encode, handshake};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::{write_masked_close, write_masked_control, write_masked_message};
use fanfare_protocol::ws::{DataKind, OpCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dial::{self, Credentials};
use crate::failure::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::units::printable;
use crate::url::ServerUrl;

/// How often we say that we are here; what the SDKs do (spec 0).
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Silence after which the server counts as gone; what the SDKs do (spec 0).
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time a server gets to answer an invocation.
const INVOCATION_MAX: Duration = Duration::from_secs(30);
/// Time a server gets to take our farewell.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
/// Bytes of one hub message we are ready to hold.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 64 * 1024;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the server.
    In,
    /// To the server.
    Out,
}

/// Called with every WebSocket payload that passes, for `--frames`.
pub(crate) type Watch = Box<dyn FnMut(Direction, DataKind, &[u8])>;

/// Whom to reach and how.
pub(crate) struct Options<'a> {
    /// The server.
    pub(crate) url: &'a ServerUrl,
    /// Its hub.
    pub(crate) hub: &'a str,
    /// Whom to say that we are.
    pub(crate) who: Credentials<'a>,
    /// How hub messages are written.
    pub(crate) format: Format,
    /// Told of every payload, if any.
    pub(crate) watch: Option<Watch>,
}

/// What a wait came to.
#[derive(Debug)]
pub(crate) enum Next<R> {
    /// The message waited for.
    Done(R),
    /// INT or TERM came first.
    Interrupted,
    /// The deadline came first.
    Expired,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// The hub answered without an error.
    Answered,
    /// INT or TERM came first.
    Interrupted,
}

/// An open hub connection.
pub(crate) struct Client {
    stream: TcpStream,
    interrupt: Interrupt,
    decoder: Decoder,
    format: Format,
    watch: Option<Watch>,
    connection_id: String,
    /// Payload bytes of all WebSocket messages in a row; hub messages before `parsed` are done with.
    payload: Vec<u8>,
    parsed: usize,
    /// Where the payload of the current WebSocket message begins in `payload`.
    message_start: usize,
    chunk: Vec<u8>,
    last_heard: Instant,
    next_ping: Instant,
    invocations: u64,
    closing: bool,
}

impl Client {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// `FF4001` to `FF4008`, each with the place and the reason.
    pub(crate) fn connect(options: Options<'_>) -> Result<Self, Failure> {
        let interrupt = Interrupt::watch()
            .map_err(|error| Failure::new(Code::Control, "cannot watch for Ctrl-C").fact("why", error.to_string()))?;
        let dialled = dial::open(options.url, options.hub, options.who)?;
        let now = Instant::now();
        let mut client = Client {
            stream: dialled.stream,
            interrupt,
            decoder: Decoder::new(Role::Client),
            format: options.format,
            watch: options.watch,
            connection_id: dialled.connection_id,
            payload: Vec::new(),
            parsed: 0,
            message_start: 0,
            chunk: vec![0; READ_BYTES],
            last_heard: now,
            next_ping: now + PING_INTERVAL,
            invocations: 0,
            closing: false,
        };
        client.handle_bytes(dialled.rest)?;
        client.shake_hands()?;
        Ok(client)
    }

    /// The public id of this connection.
    pub(crate) fn connection_id(&self) -> &str {
        &self.connection_id
    }

    fn shake_hands(&mut self) -> Result<(), Failure> {
        let mut request = Vec::new();
        handshake::write_request(&mut request, self.format, 1);
        // The handshake is text in every protocol (spec 3.1).
        self.write_message(DataKind::Text, &request)?;
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            let answer = handshake::parse_response(&self.payload)
                .map_err(|error| peer_rule(format!("its handshake cannot be read: {error}")))?;
            match answer {
                Progress::Done(Ok(()), used) => {
                    self.parsed = used;
                    return Ok(());
                }
                Progress::Done(Err(text), _) => {
                    let failure = Failure::new(Code::HandshakeRefused, "the hub refused the handshake");
                    return Err(failure.fact("why", printable(&text)));
                }
                Progress::NeedMore => match self.receive(deadline)? {
                    Next::Done(()) => {}
                    Next::Interrupted => return Err(Failure::new(Code::Lost, "interrupted while connecting")),
                    Next::Expired => return Err(silent()),
                },
            }
        }
    }

    /// Hands every hub message to `take` until it returns something, the deadline or an interruption. Pings and
    /// farewells are dealt with here.
    ///
    /// # Errors
    /// When the connection ends, with the reason.
    pub(crate) fn next<R>(
        &mut self,
        deadline: Instant,
        mut take: impl FnMut(&Message<'_>) -> Option<R>,
    ) -> Result<Next<R>, Failure> {
        loop {
            while let Progress::Done(message, used) =
                hub::decode(self.format, &self.payload[self.parsed..], MESSAGE_BYTES_MAX)
                    .map_err(|error| peer_rule(error.to_string()))?
            {
                let taken = match &message {
                    Message::Close { error, allow_reconnect } => {
                        return Err(closed_by_hub(error.as_deref(), *allow_reconnect));
                    }
                    Message::Ping => None,
                    other => take(other),
                };
                self.parsed += used;
                if let Some(taken) = taken {
                    return Ok(Next::Done(taken));
                }
            }
            self.forget_parsed();
            match self.receive(deadline)? {
                Next::Done(()) => {}
                Next::Interrupted => return Ok(Next::Interrupted),
                Next::Expired => return Ok(Next::Expired),
            }
        }
    }

    /// Calls a hub method and waits for its answer; other messages meanwhile go to `other`.
    ///
    /// # Errors
    /// `FF4009` with the hub's words when the method failed; else when the connection ended.
    pub(crate) fn invoke(
        &mut self,
        method: &str,
        arguments: &[u8],
        mut other: impl FnMut(&Message<'_>),
    ) -> Result<Called, Failure> {
        let id = self.invocations.to_string();
        self.invocations += 1;
        let payload = Payload::Ready { json: Some(arguments), messagepack: None };
        let mut call = Vec::new();
        encode::invocation(self.format, &mut call, Some(&id), method, &payload).map_err(|error| {
            Failure::new(Code::BadJson, format!("cannot call {method}")).fact("why", error.to_string())
        })?;
        self.write(&call)?;
        let outcome = self.next(Instant::now() + INVOCATION_MAX, |message| match message {
            Message::Completion { invocation_id, outcome } if *invocation_id == id => Some(match outcome {
                Outcome::Error(text) => Err(printable(text)),
                Outcome::Void | Outcome::Result(_) => Ok(()),
            }),
            message => {
                other(message);
                None
            }
        })?;
        match outcome {
            Next::Done(Ok(())) => Ok(Called::Answered),
            Next::Done(Err(text)) => {
                Err(Failure::new(Code::InvocationFailed, format!("the hub refused {method}")).fact("why", text))
            }
            Next::Interrupted => Ok(Called::Interrupted),
            Next::Expired => {
                let what = format!("the hub did not answer {method} within {} s", INVOCATION_MAX.as_secs());
                Err(Failure::new(Code::Silent, what))
            }
        }
    }

    /// Says goodbye on both levels and gives the server a moment to hear it.
    pub(crate) fn goodbye(mut self) {
        let mut message = Vec::new();
        encode::close(self.format, &mut message, None, false);
        if self.write(&message).and_then(|()| self.write_close(CloseCode::NORMAL)).is_err() {
            return;
        }
        // Reading to the end keeps the kernel from answering unread bytes with a reset.
        let deadline = Instant::now() + GOODBYE_MAX;
        while Instant::now() < deadline && self.stream.set_read_timeout(Some(GOODBYE_MAX)).is_ok() {
            if !matches!(self.stream.read(&mut self.chunk), Ok(1..)) {
                break;
            }
        }
    }

    /// Waits for bytes, up to `deadline`, and takes them in; pings in between when it is time to.
    fn receive(&mut self, deadline: Instant) -> Result<Next<()>, Failure> {
        loop {
            let now = Instant::now();
            if now >= self.next_ping {
                self.next_ping = now + PING_INTERVAL;
                let mut ping = Vec::new();
                encode::ping(self.format, &mut ping);
                self.write(&ping)?;
            }
            let silence = self.last_heard + SERVER_TIMEOUT;
            if now >= silence {
                return Err(silent());
            }
            if now >= deadline {
                return Ok(Next::Expired);
            }
            match self.wait(deadline.min(silence).min(self.next_ping) - now).map_err(|error| lost(&error))? {
                Ready::Interrupted => return Ok(Next::Interrupted),
                Ready::Nothing => continue,
                Ready::Bytes => {}
            }
            let count = self.stream.read(&mut self.chunk).map_err(|error| lost(&error))?;
            if count == 0 {
                return Err(Failure::new(Code::Lost, "the server closed the connection without a farewell"));
            }
            self.last_heard = Instant::now();
            let bytes = self.chunk[..count].to_vec();
            self.handle_bytes(bytes)?;
            return Ok(Next::Done(()));
        }
    }

    fn wait(&self, time: Duration) -> io::Result<Ready> {
        let mut waits =
            [PollFd::new(self.interrupt.descriptor(), PollFlags::IN), PollFd::new(&self.stream, PollFlags::IN)];
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        match poll(&mut waits, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(match (waits[0].revents().is_empty(), waits[1].revents().is_empty()) {
            (false, _) => Ready::Interrupted,
            (_, false) => Ready::Bytes,
            _ => Ready::Nothing,
        })
    }

    /// Unframes `bytes`: data to `payload`, pings answered, a Close answered and reported.
    fn handle_bytes(&mut self, mut bytes: Vec<u8>) -> Result<(), Failure> {
        let mut pongs = Vec::new();
        let mut end = None;
        for event in self.decoder.handle_bytes(&mut bytes) {
            match event.map_err(|error| peer_rule(error.to_string()))? {
                Event::Data { kind, payload, fin, .. } => {
                    self.payload.extend_from_slice(payload);
                    if self.payload.len() - self.parsed > MESSAGE_BYTES_MAX + READ_BYTES {
                        return Err(peer_rule(format!("a message of over {MESSAGE_BYTES_MAX} bytes")));
                    }
                    if fin {
                        if let Some(watch) = &mut self.watch {
                            watch(Direction::In, kind, &self.payload[self.message_start..]);
                        }
                        self.message_start = self.payload.len();
                    }
                }
                Event::Ping(payload) => pongs.push(payload),
                Event::Pong(_) => {}
                Event::Close { code, reason } => end = Some((code, reason)),
            }
        }
        for pong in pongs {
            let mut frame = Vec::new();
            write_masked_control(&mut frame, OpCode::Pong, pong.as_slice(), mask_key()?);
            self.stream.write_all(&frame).map_err(|error| lost(&error))?;
        }
        let Some((code, reason)) = end else { return Ok(()) };
        if !self.closing {
            // Answering is courtesy: the server may be gone already, and why it went matters more.
            let _ = self.write_close(code.unwrap_or(CloseCode::NORMAL));
        }
        // The hub's own farewell, if there is one, came before and says more: let it be read first.
        if self.payload.len() > self.parsed {
            return Ok(());
        }
        let code = code.map_or("none".to_owned(), |code| code.to_string());
        let reason = printable(&String::from_utf8_lossy(reason.as_slice()));
        let failure = Failure::new(Code::ClosedByHub, "the server closed the WebSocket").fact("code", code);
        Err(if reason.is_empty() { failure } else { failure.fact("reason", reason) })
    }

    /// Drops what is parsed, so that `payload` holds no more than the beginning of one message.
    fn forget_parsed(&mut self) {
        self.payload.drain(..self.parsed);
        self.message_start = self.message_start.saturating_sub(self.parsed);
        self.parsed = 0;
    }

    fn write(&mut self, message: &[u8]) -> Result<(), Failure> {
        let kind = if self.format.is_text() { DataKind::Text } else { DataKind::Binary };
        self.write_message(kind, message)
    }

    fn write_message(&mut self, kind: DataKind, message: &[u8]) -> Result<(), Failure> {
        let mut frame = Vec::with_capacity(message.len() + 14);
        write_masked_message(&mut frame, kind, message, mask_key()?);
        self.stream.write_all(&frame).map_err(|error| lost(&error))?;
        if let Some(watch) = &mut self.watch {
            watch(Direction::Out, kind, message);
        }
        Ok(())
    }

    fn write_close(&mut self, code: CloseCode) -> Result<(), Failure> {
        self.closing = true;
        let mut frame = Vec::new();
        write_masked_close(&mut frame, Some(code), "", mask_key()?);
        self.stream.write_all(&frame).map_err(|error| lost(&error))
    }
}

enum Ready {
    Bytes,
    Interrupted,
    Nothing,
}

/// A fresh key for each frame, which nobody can foresee (RFC 6455 5.3).
fn mask_key() -> Result<[u8; 4], Failure> {
    let mut key = [0; 4];
    dial::random(&mut key).map_err(|error| lost(&error))?;
    Ok(key)
}

fn closed_by_hub(error: Option<&str>, allow_reconnect: bool) -> Failure {
    let failure = Failure::new(Code::ClosedByHub, "the hub closed the connection");
    let failure = match error {
        Some(text) => failure.fact("why", printable(text)),
        None => failure,
    };
    failure.fact("reconnect", if allow_reconnect { "allowed" } else { "not wanted" })
}

fn peer_rule(why: String) -> Failure {
    Failure::new(Code::PeerRule, "the server broke a rule of its protocol").fact("why", why)
}

fn silent() -> Failure {
    let what = format!("the server has been silent for {} s", SERVER_TIMEOUT.as_secs());
    Failure::new(Code::Silent, what)
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Code::Lost, "the connection was lost").fact("why", error.to_string())
}
