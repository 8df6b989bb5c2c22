//! A small HTTP/1.1 server for the pages of the admin listener: bounded in every direction, strict about framing.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{HeadLimits, RequestHead, parse_request};
use fanfare_protocol::http::response;

use super::problem;
use super::rt::{self, Listener, Stream};
use crate::failure::Code;

/// Connections of the admin listener at once. Browsers use 6 for a page, a scraper 1.
pub(crate) const CONNECTIONS_MAX: usize = 128;
/// Time a connection may be silent: between requests, and within one.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time an answer may take to leave.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a peer to take the end of its connection, and how many reads of it are thrown away meanwhile.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_READS_MAX: usize = 32;
/// Pause after a failed accept: the usual cause, no free file descriptor, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request body; no page takes one, so it is read only to find the next request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 4096;

/// One request, whole.
pub(crate) struct Request<'a> {
    head: RequestHead<'a>,
}

impl<'a> Request<'a> {
    /// `GET`, `POST`, ...
    pub(crate) fn method(&self) -> &str {
        self.head.method()
    }

    /// The path as sent, without the query.
    pub(crate) fn path(&self) -> &'a str {
        self.head.path()
    }

    /// The value of the first header of this name, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.head.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What a page says.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Header lines; `Content-Length` and `Connection` are not among them.
    pub(crate) headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, also of the answer to a `HEAD`.
    pub(crate) body: Cow<'static, [u8]>,
}

impl Answer {
    /// An answer with a body of the given content type.
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Answer { status, headers: vec![("Content-Type", content_type.into())], body: body.into() }
    }

    /// Adds a header line.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Everything that answers requests. Runs on the control thread and must not block.
pub(crate) trait Pages {
    /// The answer to `request`.
    fn answer(&self, request: &Request<'_>) -> Answer;
    /// Counts a connection or request that never reached a page.
    fn refused(&self, reason: Refused);
}

/// Why a connection or request of the admin listener did not reach a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// [`CONNECTIONS_MAX`] were open.
    Full,
    /// Not HTTP/1.1 as we accept it.
    BadRequest,
    /// Longer silent than [`SILENCE_MAX`], in the middle of a request.
    Silent,
}

/// Serves connections of `listener` until the runtime ends.
pub(crate) async fn serve(listener: Listener, pages: Rc<dyn Pages>) {
    let open = Rc::new(Cell::new(0));
    loop {
        let Ok(stream) = listener.accept().await else {
            rt::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let pages = Rc::clone(&pages);
        if open.get() >= CONNECTIONS_MAX {
            pages.refused(Refused::Full);
            rt::spawn(turn_away(stream));
            continue;
        }
        let seat = Seat::take(&open);
        rt::spawn(async move {
            connection(stream, &*pages).await;
            drop(seat);
        });
    }
}

/// One of the [`CONNECTIONS_MAX`], given back on drop.
struct Seat {
    open: Rc<Cell<usize>>,
}

impl Seat {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Seat { open: Rc::clone(open) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

/// Tells a connection too many why it is one. The answer fits any socket's send buffer, so this does not linger.
async fn turn_away(mut stream: Stream) {
    let detail = format!("{CONNECTIONS_MAX} connections of the admin listener are in use.");
    let answer = problem::answer(503, Code::AdminFull, &detail).header("Retry-After", "1");
    let _ = rt::within(WRITE_MAX, stream.write_all(encode(answer, false, false))).await;
}

/// Answers the requests of one connection, one after the other.
async fn connection(mut stream: Stream, pages: &dyn Pages) {
    let limits = HeadLimits::default();
    let mut inbox = Inbox { received: Vec::new(), chunk: Vec::with_capacity(READ_BYTES) };
    loop {
        let (bytes, keep_open) = match inbox.whole_request(&mut stream, &limits).await {
            Ok(Some(end)) => {
                let outcome = respond(&inbox.received, &limits, pages);
                inbox.received.drain(..end);
                outcome
            }
            Ok(None) => break,
            Err(refusal) => {
                pages.refused(refusal.reason());
                (encode(refusal.answer(), false, false), false)
            }
        };
        let written = rt::within(WRITE_MAX, stream.write_all(bytes)).await;
        if !matches!(written, Some(Ok(()))) || !keep_open {
            break;
        }
    }
    linger(&mut stream).await;
}

/// Ends the connection so that the peer can read what was said: closing while its bytes are unread would reset the
/// connection and could take the answer with it (RFC 9112 9.6).
async fn linger(stream: &mut Stream) {
    let _ = stream.finish().await;
    let mut chunk = Vec::with_capacity(READ_BYTES);
    for _ in 0..LINGER_READS_MAX {
        let Some((Ok(1..), back)) = rt::within(LINGER_MAX, stream.read(chunk)).await else { break };
        chunk = back;
        chunk.clear();
    }
}

/// The encoded answer to the request at the start of `received`, and whether the connection stays open after it.
fn respond(received: &[u8], limits: &HeadLimits, pages: &dyn Pages) -> (Vec<u8>, bool) {
    // `whole_request` has just read these very bytes; a head borrows them, so it is read again instead of kept.
    let Ok(Progress::Done(head, _)) = parse_request(received, limits) else {
        return (
            encode(problem::answer(500, Code::PageFailed, "A request changed while it was read."), false, false),
            false,
        );
    };
    let keep_open = head.keep_alive();
    let is_head = head.method() == "HEAD";
    let request = Request { head };
    // A page that panics must not take the control thread along.
    let answer = catch_unwind(AssertUnwindSafe(|| pages.answer(&request)))
        .unwrap_or_else(|_| problem::answer(500, Code::PageFailed, "This page met a bug of the server."));
    (encode(answer, keep_open, is_head), keep_open)
}

/// Status line, header lines and, but for `HEAD`, the body.
fn encode(answer: Answer, keep_open: bool, is_head: bool) -> Vec<u8> {
    let connection = if keep_open { "keep-alive" } else { "close" };
    let headers: Vec<(&str, &str)> = std::iter::once(("Connection", connection))
        .chain(answer.headers.iter().map(|(name, value)| (*name, value.as_ref())))
        .collect();
    let mut bytes = Vec::with_capacity(512 + answer.body.len());
    response::write_head(&mut bytes, answer.status, &headers, Some(answer.body.len() as u64));
    if !is_head {
        bytes.extend_from_slice(&answer.body);
    }
    bytes
}

/// Why a request could not be read.
enum Refusal {
    Rule(HttpError),
    Silent,
}

impl Refusal {
    fn reason(&self) -> Refused {
        match self {
            Refusal::Rule(_) => Refused::BadRequest,
            Refusal::Silent => Refused::Silent,
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Refusal::Rule(error) => problem::answer(error.status(), Code::BadRequest, &error.to_string()),
            Refusal::Silent => {
                let detail = format!("The request was not complete after {} s.", SILENCE_MAX.as_secs());
                problem::answer(408, Code::BadRequest, &detail)
            }
        }
    }
}

/// What was received and not yet answered. Bounded by the limits of a head plus [`BODY_BYTES_MAX`] plus one read.
struct Inbox {
    received: Vec<u8>,
    chunk: Vec<u8>,
}

impl Inbox {
    /// Receives until a request with its body is there, and says where it ends. `None` when the peer is done or has
    /// been silent between requests.
    async fn whole_request(&mut self, stream: &mut Stream, limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let (mut at, body_length) = loop {
            match parse_request(&self.received, limits).map_err(Refusal::Rule)? {
                Progress::Done(head, end) => break (end, head.body_length()),
                Progress::NeedMore => match self.receive(stream).await {
                    Received::Bytes => {}
                    Received::Silence if !self.received.is_empty() => return Err(Refusal::Silent),
                    Received::Silence | Received::End => return Ok(None),
                },
            }
        };
        let mut body = BodyDecoder::new(body_length, BODY_BYTES_MAX);
        loop {
            while at < self.received.len() && !body.is_done() {
                at += body.handle_bytes(&self.received[at..]).map_err(Refusal::Rule)?.consumed;
            }
            if body.is_done() {
                return Ok(Some(at));
            }
            match self.receive(stream).await {
                Received::Bytes => {}
                Received::Silence => return Err(Refusal::Silent),
                Received::End => return Ok(None),
            }
        }
    }

    async fn receive(&mut self, stream: &mut Stream) -> Received {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        chunk.reserve(READ_BYTES);
        let Some((outcome, chunk)) = rt::within(SILENCE_MAX, stream.read(chunk)).await else {
            return Received::Silence;
        };
        let count = outcome.unwrap_or(0);
        self.received.extend_from_slice(&chunk[..count]);
        self.chunk = chunk;
        if count == 0 { Received::End } else { Received::Bytes }
    }
}

enum Received {
    Bytes,
    End,
    Silence,
}
