//! What we send, as bytes: upgrade, handshake, pings, publishes. Everything a fleet says is the same for all of it,
//! so it is written once.

use crate::failure::Failure;
use crate::job::{Argument, Dialect, Entry, Server, Via};
use crate::payload::{Head, Padding, Random};
use crate::posting::Errand;
use crate::target::Url;
use fanfare_protocol::http::request;
use fanfare_protocol::hub::{self, Format, Payload, Value};
use fanfare_protocol::ws::encode::{write_masked_close, write_masked_control, write_masked_message};
use fanfare_protocol::ws::{DataKind, OpCode, handshake};

/// Masks frames. RFC 6455 wants a fresh key per frame against hostile scripts in browsers; a shared one lets a
/// whole fleet share its bytes, and a server has the same work with it.
const MASK_KEY: [u8; 4] = [0x5a, 0x31, 0xc7, 0x08];

impl Dialect {
    /// The hub format, if hub messages are spoken.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::SignalrJson => Some(Format::Json),
            Self::SignalrMessagepack => Some(Format::MessagePack),
            Self::Raw => None,
        }
    }

    /// The kind of frame that hub messages travel in.
    fn data_kind(self) -> DataKind {
        if self == Self::SignalrMessagepack { DataKind::Binary } else { DataKind::Text }
    }
}

/// Writes all we ever say to one server in one dialect.
#[derive(Clone, Debug)]
pub struct Wire {
    dialect: Dialect,
    url: Url,
    headers: Vec<(String, String)>,
    /// `Sec-WebSocket-Key` of every upgrade of this run.
    pub key: String,
}

impl Wire {
    /// For one run.
    pub fn new(server: &Server, dialect: Dialect, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x006b_6579);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next_u64().to_le_bytes());
        nonce[8..].copy_from_slice(&random.next_u64().to_le_bytes());
        let key = handshake::encode_key(nonce);
        Self { dialect, url: server.url.clone(), headers: server.headers.clone(), key }
    }

    fn headers<'h>(&'h self, own: &'h Own) -> Vec<(&'h str, &'h str)> {
        let all = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.chain(own.authorization.as_deref().map(|value| ("Authorization", value))).collect()
    }

    /// What is spoken.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The upgrade request; `token` is the connection token when negotiated.
    pub fn upgrade(&self, token: Option<&str>, own: &Own) -> Vec<u8> {
        let id = token.map(|id| format!("id={id}")).unwrap_or_default();
        let target = self.url.request_target(&both(&id, &own.query));
        let mut out = Vec::new();
        handshake::write_upgrade_request(&mut out, &target, &self.url.authority, &self.key, &self.headers(own));
        out
    }

    /// `POST .../negotiate` on a connection of its own.
    pub fn negotiate(&self, own: &Own) -> Vec<u8> {
        let mut headers = vec![("Host", self.url.authority.as_str()), ("X-Requested-With", "XMLHttpRequest")];
        headers.extend(self.headers(own));
        let mut out = Vec::new();
        request::write(&mut out, "POST", &both_targets(self.url.negotiate_target(), &own.query), &headers, b"");
        out
    }

    /// A request that belongs to the connection of `token`.
    fn of_token(&self, method: &str, about: About<'_>, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let target = self.url.request_target(&both(&format!("id={}", about.token), &about.own.query));
        let mut all = vec![("Host", self.url.authority.as_str())];
        all.extend(headers);
        all.extend(self.headers(about.own));
        let mut out = Vec::new();
        request::write(&mut out, method, &target, &all, body);
        out
    }

    /// The request for server-sent events, as a browser's EventSource asks.
    pub fn events(&self, about: About<'_>) -> Vec<u8> {
        self.of_token("GET", about, &[("Accept", "text/event-stream"), ("Cache-Control", "no-cache")], b"")
    }

    /// One poll.
    pub fn poll(&self, about: About<'_>) -> Vec<u8> {
        self.of_token("GET", about, &[("X-Requested-With", "XMLHttpRequest")], b"")
    }

    /// What is said for a receiver without a WebSocket; `calls` are the ones it enters with.
    pub(crate) fn errand(&self, errand: Errand, about: About<'_>, calls: &[u8]) -> Vec<u8> {
        let Some(format) = self.dialect.format() else { return Vec::new() };
        let mut body = Vec::new();
        match errand {
            Errand::Handshake => hub::handshake::write_request(&mut body, format, 1),
            Errand::Enter => body.extend_from_slice(calls),
            Errand::Ping => hub::encode::ping(format, &mut body),
            Errand::Close => hub::encode::close(format, &mut body, None, false),
            Errand::Delete => return self.of_token("DELETE", about, &[("X-Requested-With", "XMLHttpRequest")], b""),
        }
        let kind = match format {
            Format::Json => "text/plain;charset=UTF-8",
            Format::MessagePack => "application/octet-stream",
        };
        self.of_token("POST", about, &[("X-Requested-With", "XMLHttpRequest"), ("Content-Type", kind)], &body)
    }

    /// The calls that `entry` needs, as hub messages one behind the other, and how many will be answered.
    pub(crate) fn entry_calls(&self, entry: &Entry, groups: &[String]) -> Result<(Vec<u8>, u32), Failure> {
        let mut out = Vec::new();
        let Some(format) = self.dialect.format() else { return Ok((out, 0)) };
        let refused = |error: &dyn std::fmt::Display| {
            Failure::usage(
                format!("cannot encode the call that opens: {error}"),
                "--join-method / --id-method",
                "use a name",
            )
        };
        let mut call = |method: &str, arguments: &[Value]| {
            hub::encode::invocation(format, &mut out, Some("e"), method, &Payload::Values(arguments))
                .map_err(|error| refused(&error))
        };
        let answers = match entry {
            Entry::Nothing | Entry::User { .. } => 0,
            Entry::Join { method } => {
                groups.iter().try_for_each(|group| call(method, &[Value::from(group.as_str())]))?;
                groups.len() as u32
            }
            Entry::AskId { method } => {
                call(method, &[])?;
                1
            }
            Entry::OpenStream { method } => {
                open_stream(format, method, &mut out).map_err(|error| refused(&error))?;
                0
            }
        };
        Ok((out, answers))
    }

    /// Hub messages as one frame.
    pub(crate) fn frame(&self, records: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_masked_message(&mut out, self.dialect.data_kind(), records, MASK_KEY);
        out
    }

    /// The hub handshake as a frame; nothing for raw connections.
    pub fn handshake(&self) -> Vec<u8> {
        let Some(format) = self.dialect.format() else { return Vec::new() };
        let (mut record, mut out) = (Vec::new(), Vec::new());
        hub::handshake::write_request(&mut record, format, 1);
        write_masked_message(&mut out, self.dialect.data_kind(), &record, MASK_KEY);
        out
    }

    /// The periodic sign of life: a hub Ping, or nothing for raw connections.
    pub fn ping(&self) -> Vec<u8> {
        let Some(format) = self.dialect.format() else { return Vec::new() };
        let (mut record, mut out) = (Vec::new(), Vec::new());
        hub::encode::ping(format, &mut record);
        write_masked_message(&mut out, self.dialect.data_kind(), &record, MASK_KEY);
        out
    }

    /// The answer to a WebSocket Ping.
    pub fn pong(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_masked_control(&mut out, OpCode::Pong, payload, MASK_KEY);
        out
    }

    /// A farewell without a reason.
    pub fn close() -> Vec<u8> {
        let mut out = Vec::new();
        write_masked_close(&mut out, Some(fanfare_protocol::error::CloseCode::NORMAL), "", MASK_KEY);
        out
    }
}

/// What the requests of one connection have that those of others have not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Its part of the query, for example `user=u7`; or nothing.
    pub query: String,
    /// Its `Authorization`, where not all have the same.
    pub authorization: Option<String>,
}

/// What a request names that belongs to a connection.
#[derive(Clone, Copy, Debug)]
pub struct About<'c> {
    /// The connection token.
    pub token: &'c str,
    /// Whatever else is its own.
    pub own: &'c Own,
}

fn both(left: &str, right: &str) -> String {
    let separator = if left.is_empty() || right.is_empty() { "" } else { "&" };
    format!("{left}{separator}{right}")
}

/// A negotiate target always has a query.
fn both_targets(target: String, query: &str) -> String {
    if query.is_empty() { target } else { format!("{target}&{query}") }
}

/// The id of the only stream of a connection, in both directions.
const STREAM_ID: &str = "s";

/// `method(stream)`, called for a stream. The encoder takes stream ids as they came from a wire, so they come from one.
fn open_stream(format: Format, method: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let method = serde_json::to_string(method).map_err(|error| error.to_string())?;
    let text = format!(
        "{{\"type\":4,\"invocationId\":\"{STREAM_ID}\",\"target\":{method},\"arguments\":[],\"streamIds\":[\"{STREAM_ID}\"]}}\u{1e}"
    );
    let message = hub::decode_one(Format::Json, text.as_bytes()).map_err(|error| error.to_string())?;
    hub::encode::decoded(format, out, &message).map_err(|error| error.to_string())
}

fn unencodable(error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("cannot encode the publish: {error}"), "--size", "use less")
}

/// Writes publishes.
#[derive(Clone, Debug)]
pub struct Publish {
    dialect: Dialect,
    via: Via,
    payload: Vec<u8>,
    record: Vec<u8>,
}

impl Publish {
    /// For one publisher thread.
    pub fn new(dialect: Dialect, via: Via) -> Self {
        Self { dialect, via, payload: Vec::new(), record: Vec::new() }
    }

    /// Appends one publish of the message `head` to `to`, ready for the socket. `answered` asks the hub for a
    /// Completion, so that a refusal is heard.
    pub fn write(
        &mut self,
        head: &Head,
        to: &str,
        padding: &Padding,
        answered: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.payload.clear();
        self.record.clear();
        padding.write_payload(head, &mut self.payload);
        match &self.via {
            Via::Invocation { method, target, arguments } => {
                let Some(format) = self.dialect.format() else { return Ok(()) };
                let text = String::from_utf8_lossy(&self.payload);
                let value = |argument: &Argument| match argument {
                    Argument::To => Value::from(to),
                    Argument::Target => Value::from(target.as_str()),
                    Argument::Payload => Value::from(&*text),
                };
                let arguments: Vec<Value> = arguments.iter().map(value).collect();
                let id = answered.then_some("1");
                hub::encode::invocation(format, &mut self.record, id, method, &Payload::Values(&arguments))
                    .map_err(unencodable)?;
                write_masked_message(out, self.dialect.data_kind(), &self.record, MASK_KEY);
            }
            Via::Call { method } => {
                let Some(format) = self.dialect.format() else { return Ok(()) };
                let text = String::from_utf8_lossy(&self.payload);
                let id = head.sequence.to_string();
                let arguments = [Value::from(&*text)];
                hub::encode::invocation(format, &mut self.record, Some(&id), method, &Payload::Values(&arguments))
                    .map_err(unencodable)?;
                write_masked_message(out, self.dialect.data_kind(), &self.record, MASK_KEY);
            }
            Via::Items { .. } => {
                let Some(format) = self.dialect.format() else { return Ok(()) };
                let text = String::from_utf8_lossy(&self.payload);
                hub::encode::stream_item(format, &mut self.record, STREAM_ID, &Value::from(&*text))
                    .map_err(unencodable)?;
                write_masked_message(out, self.dialect.data_kind(), &self.record, MASK_KEY);
            }
            Via::Message { prefix, binary } => {
                self.record.extend_from_slice(prefix.as_bytes());
                self.record.extend_from_slice(&self.payload);
                let kind = if *binary { DataKind::Binary } else { DataKind::Text };
                write_masked_message(out, kind, &self.record, MASK_KEY);
            }
            Via::HttpPost { url, .. } => {
                let headers = [("Host", url.authority.as_str()), ("Content-Type", "text/plain")];
                request::write(out, "POST", &url.request_target(""), &headers, &self.payload);
            }
        }
        Ok(())
    }
}
