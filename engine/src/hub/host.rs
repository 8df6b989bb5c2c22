//! The seam between a client and whoever answers it: this process, an application server, an upstream.
//!
//! A [`Host`] is given every message of a client that carries an application's meaning (types 1 to 5 of the hub
//! protocol): the envelope as it was scanned, and the raw bytes with their framing, unparsed. A host in this process
//! ([`InProcess`]) binds arguments and calls a [`HubHandler`]; a host that forwards passes the raw bytes on and
//! never looks inside. What comes back goes through [`Context`]'s targets as a `Payload`, which may be ready-made
//! for each hub protocol.

use crate::conn::endpoint::SlowPolicy;
use crate::event::CloseReason;
use crate::hub::context::Context;
use crate::hub::streams::wrong_invocation;
use fanfare_protocol::hub::Format;
use fanfare_protocol::hub::error::BindError;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::raw::{Arguments, Raw, RawOwned};
use fanfare_protocol::hub::value::Value;
use std::fmt;

/// One message of a client for its host.
#[derive(Debug)]
pub struct ClientMessage<'a> {
    /// The whole hub message, framing included, as it came.
    pub raw: &'a [u8],
    /// The format of `raw`.
    pub format: Format,
    /// The envelope; arguments, items and results are spans of `raw`.
    pub message: &'a Message<'a>,
}

/// What a host makes of an invocation.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done, no result.
    Void,
    /// Done, with this result.
    Value(Value),
    /// Done, with this result in encoded form (transcoded where the client speaks another format).
    Raw(RawOwned),
    /// Failed.
    Error(HandlerError),
    /// There is no such method.
    Unknown,
    /// A `ReplyHandle` was taken, or somebody else answers.
    Later,
}

impl Answer {
    /// Returns one received argument unchanged.
    pub fn echo(raw: Raw<'_>) -> Self {
        Self::Raw(raw.to_owned())
    }
}

impl From<Result<Value, HandlerError>> for Answer {
    fn from(result: Result<Value, HandlerError>) -> Self {
        result.map_or_else(Self::Error, Self::Value)
    }
}

impl From<Result<Answer, HandlerError>> for Answer {
    fn from(result: Result<Answer, HandlerError>) -> Self {
        result.unwrap_or_else(Self::Error)
    }
}

/// Why a method failed, and how much of it the client may see (spec 6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerError {
    /// An ordinary error: shown only where the endpoint has detailed errors.
    Failed {
        /// What kind of error, in the application's words.
        kind: String,
        /// What happened.
        message: String,
    },
    /// Written for the client: always shown.
    Hub(String),
    /// The arguments do not fit the method.
    BadArguments(String),
    /// The user may not call this method.
    Unauthorized,
    /// The client streams where it should not, does not where it should, or uses the id of another stream; the text is
    /// the whole answer.
    WrongStreaming(String),
}

impl HandlerError {
    /// An ordinary error.
    pub fn failed(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { kind: kind.into(), message: message.into() }
    }

    /// The wrong number of arguments.
    pub fn argument_count(given: usize, expected: usize) -> Self {
        Self::BadArguments(format!("Invocation provides {given} argument(s) but target expects {expected}."))
    }

    /// The wrong number of client streams (spec 6.4).
    pub fn stream_count(given: usize, expected: usize) -> Self {
        Self::Hub(format!("Client sent {given} stream(s), Hub method expects {expected}."))
    }

    /// An item of a client's stream that is not of the type that the method reads (spec 6.6).
    pub fn stream_item() -> Self {
        Self::Hub("Failed to bind Stream message.".to_owned())
    }

    /// The text of the completion of a stream that failed after it had begun (spec 6.4).
    pub fn stream_text(&self, detailed: bool) -> String {
        const FAILED: &str = "An error occurred on the server while streaming results.";
        match self {
            Self::Hub(message) => format!("{FAILED} HubException: {message}"),
            Self::Failed { kind, message } if detailed => format!("{FAILED} {kind}: {message}"),
            Self::BadArguments(why) if detailed => format!("{FAILED} InvalidDataException: {why}"),
            Self::WrongStreaming(text) => text.clone(),
            Self::Failed { .. } | Self::BadArguments(_) | Self::Unauthorized => FAILED.to_owned(),
        }
    }

    /// The text of the completion for method `target` (spec 6.4).
    pub fn completion_text(&self, target: &str, detailed: bool) -> String {
        let unexpected = format!("An unexpected error occurred invoking '{target}' on the server.");
        match self {
            Self::Failed { kind, message } if detailed => format!("{unexpected} {kind}: {message}"),
            Self::Failed { .. } => unexpected,
            Self::Hub(message) => format!("{unexpected} HubException: {message}"),
            Self::BadArguments(why) if detailed => {
                format!("Failed to invoke '{target}' due to an error on the server. InvalidDataException: {why}")
            }
            Self::BadArguments(_) => format!("Failed to invoke '{target}' due to an error on the server."),
            Self::Unauthorized => format!("Failed to invoke '{target}' because user is unauthorized"),
            Self::WrongStreaming(text) => text.clone(),
        }
    }

    /// The text of the close message when `connected` failed (spec 6.8).
    pub fn close_text(&self, detailed: bool) -> String {
        match self {
            Self::Hub(message) => format!("{CLOSED_WITH_ERROR} HubException: {message}"),
            Self::Failed { kind, message } if detailed => format!("{CLOSED_WITH_ERROR} {kind}: {message}"),
            _ => CLOSED_WITH_ERROR.to_owned(),
        }
    }
}

/// What every close message after an error begins with (spec 6.8).
pub const CLOSED_WITH_ERROR: &str = "Connection closed with an error.";

/// The text for a method that nobody knows (spec 6.4).
pub fn unknown_method_text(target: &str) -> String {
    format!("Failed to invoke '{target}' due to an error on the server. HubException: Method does not exist.")
}

/// The id of a stream that is still open was used again (spec 6.4).
pub(crate) fn already_in_use(id: &str) -> HandlerError {
    HandlerError::WrongStreaming(format!("Invocation ID '{id}' is already in use."))
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { kind, message } => write!(f, "{kind}: {message}"),
            Self::Hub(message) | Self::BadArguments(message) | Self::WrongStreaming(message) => f.write_str(message),
            Self::Unauthorized => f.write_str("unauthorized"),
        }
    }
}

impl std::error::Error for HandlerError {}

impl From<BindError> for HandlerError {
    fn from(_: BindError) -> Self {
        Self::BadArguments(
            "Error binding arguments. Make sure that the types of the provided values match the types of the hub \
             method being invoked."
                .to_owned(),
        )
    }
}

/// Who answers the clients of a hub. Called on shard threads: it must not block.
pub trait Host: Send + Sync + 'static {
    /// A client has come and has shaken hands. An error sends it away.
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError>;

    /// A client has said something. Only an invocation is answered; the answer to anything else is ignored. Items and
    /// ends of streams that `Context::read_stream` or `take_stream` has taken, answers to `Context::ask`, and cancelled
    /// streams of `Context::open_stream` do not come here.
    fn message(&self, cx: &mut Context<'_>, message: &ClientMessage<'_>) -> Answer;

    /// A client has gone. Sends to it are ignored.
    fn disconnected(&self, cx: &mut Context<'_>, reason: CloseReason);

    /// A client that did not keep up has lost its first messages to this policy. Told once for each connection.
    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        let _ = (cx, policy);
    }

    /// Whether the engine lets one client's invocations wait for each other (`parallel_invocations_max`). A host
    /// that forwards to somebody with such a rule of its own says no.
    fn serializes(&self) -> bool {
        true
    }
}

/// An invocation of a hub method.
#[derive(Debug)]
pub struct Invocation<'a> {
    target: &'a str,
    arguments: Arguments<'a>,
    wants_answer: bool,
    streaming: bool,
    streams: usize,
}

impl<'a> Invocation<'a> {
    /// The method's name, as the client wrote it.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// Whether the method is meant; case does not matter (spec 6.4).
    pub fn is(&self, method: &str) -> bool {
        self.target.eq_ignore_ascii_case(method)
    }

    /// The arguments, borrowed from the received bytes.
    pub fn arguments(&self) -> Arguments<'a> {
        self.arguments
    }

    /// Whether the client waits for the result.
    pub fn wants_answer(&self) -> bool {
        self.wants_answer
    }

    /// Whether the client wants a stream.
    pub fn streaming(&self) -> bool {
        self.streaming
    }

    /// An error unless the client wants a stream exactly if the method gives one (spec 6.4).
    pub fn expect_streaming(&self, gives: bool) -> Result<(), HandlerError> {
        let word = |streams| if streams { "streaming" } else { "non-streaming" };
        if self.streaming == gives {
            return Ok(());
        }
        Err(wrong_invocation(word(gives), self.target, word(self.streaming)))
    }

    /// How many streams the client is about to send. They are no arguments: `Context::read_stream` and
    /// `Context::take_stream` take them.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// An error unless the client sends exactly `count` streams (spec 6.4).
    pub fn expect_streams(&self, count: usize) -> Result<(), HandlerError> {
        if self.streams == count { Ok(()) } else { Err(HandlerError::stream_count(self.streams, count)) }
    }

    /// An error unless there are exactly `count` arguments.
    pub fn expect(&self, count: usize) -> Result<(), HandlerError> {
        let given = self.arguments.len();
        if given == count { Ok(()) } else { Err(HandlerError::argument_count(given, count)) }
    }

    /// Argument `index`.
    pub fn arg(&self, index: usize) -> Result<Raw<'a>, HandlerError> {
        self.arguments.get(index).ok_or_else(|| HandlerError::argument_count(self.arguments.len(), index + 1))
    }
}

/// An application's hub in this process. Called on shard threads: it must not block.
pub trait HubHandler: Send + Sync + 'static {
    /// A client has come. An error sends it away.
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// A client has gone.
    fn disconnected(&self, cx: &mut Context<'_>, reason: CloseReason) {
        let _ = (cx, reason);
    }

    /// A client that did not keep up has lost its first messages to the policy of its path. Told once for each connection.
    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        let _ = (cx, policy);
    }

    /// How many streams of the client the method takes. Another number is an error (spec 6.4), and the method is not
    /// called. `None`: it sees for itself ([`Invocation::expect_streams`]), as for a method that there is not.
    fn streams_expected(&self, target: &str) -> Option<usize> {
        let _ = target;
        Some(0)
    }

    /// A client calls a method. A `StreamInvocation` is answered with `Context::open_stream`, or with an error.
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer;
}

/// The host that is a [`HubHandler`] of this process.
#[derive(Debug)]
pub struct InProcess<H>(pub H);

impl<H: HubHandler> Host for InProcess<H> {
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.connected(cx)
    }

    fn message(&self, cx: &mut Context<'_>, message: &ClientMessage<'_>) -> Answer {
        let (target, arguments, stream_ids, wants_answer, streaming) = match message.message {
            Message::Invocation { invocation_id, target, arguments, stream_ids } => {
                (target, arguments, stream_ids, invocation_id.is_some(), false)
            }
            Message::StreamInvocation { target, arguments, stream_ids, .. } => {
                (target, arguments, stream_ids, true, true)
            }
            _ => return Answer::Later,
        };
        let call = Invocation { target, arguments: *arguments, wants_answer, streaming, streams: stream_ids.len() };
        if let Some(Err(error)) = self.0.streams_expected(target).map(|count| call.expect_streams(count)) {
            return Answer::Error(error);
        }
        match self.0.invoke(cx, &call) {
            Answer::Void | Answer::Value(_) | Answer::Raw(_) if streaming => {
                Answer::Error(wrong_invocation("non-streaming", target, "streaming"))
            }
            answer => answer,
        }
    }

    fn disconnected(&self, cx: &mut Context<'_>, reason: CloseReason) {
        self.0.disconnected(cx, reason);
    }

    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        self.0.fell_behind(cx, policy);
    }
}
