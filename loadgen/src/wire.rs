//! What we send, as bytes: upgrade, handshake, pings, publishes. Everything a fleet says is the same for all of it,
//! so it is written once.

use crate::failure::Failure;
use crate::job::{Dialect, Server, Via};
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

/// Writes all we ever say to one server.
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
    pub fn new(server: &Server, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x006b_6579);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next_u64().to_le_bytes());
        nonce[8..].copy_from_slice(&random.next_u64().to_le_bytes());
        let key = handshake::encode_key(nonce);
        Self { dialect: server.dialect, url: server.url.clone(), headers: server.headers.clone(), key }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The upgrade request; `token` is the connection token when negotiated.
    pub fn upgrade(&self, token: Option<&str>) -> Vec<u8> {
        let target = self.url.request_target(&token.map(|id| format!("id={id}")).unwrap_or_default());
        let mut out = Vec::new();
        handshake::write_upgrade_request(&mut out, &target, &self.url.authority, &self.key, &self.headers());
        out
    }

    /// `POST .../negotiate` on a connection of its own.
    pub fn negotiate(&self) -> Vec<u8> {
        let mut headers = vec![("Host", self.url.authority.as_str()), ("X-Requested-With", "XMLHttpRequest")];
        headers.extend(self.headers());
        let mut out = Vec::new();
        request::write(&mut out, "POST", &self.url.negotiate_target(), &headers, b"");
        out
    }

    /// A request that belongs to the connection of `token`.
    fn of_token(&self, method: &str, token: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let target = self.url.request_target(&format!("id={token}"));
        let mut all = vec![("Host", self.url.authority.as_str())];
        all.extend(headers);
        all.extend(self.headers());
        let mut out = Vec::new();
        request::write(&mut out, method, &target, &all, body);
        out
    }

    /// The request for server-sent events, as a browser's EventSource asks.
    pub fn events(&self, token: &str) -> Vec<u8> {
        self.of_token("GET", token, &[("Accept", "text/event-stream"), ("Cache-Control", "no-cache")], b"")
    }

    /// One poll.
    pub fn poll(&self, token: &str) -> Vec<u8> {
        self.of_token("GET", token, &[("X-Requested-With", "XMLHttpRequest")], b"")
    }

    /// What is said for a receiver without a WebSocket.
    pub(crate) fn errand(&self, errand: Errand, token: &str) -> Vec<u8> {
        let Some(format) = self.dialect.format() else { return Vec::new() };
        let mut body = Vec::new();
        match errand {
            Errand::Handshake => hub::handshake::write_request(&mut body, format, 1),
            Errand::Ping => hub::encode::ping(format, &mut body),
            Errand::Close => hub::encode::close(format, &mut body, None, false),
            Errand::Delete => return self.of_token("DELETE", token, &[("X-Requested-With", "XMLHttpRequest")], b""),
        }
        let kind = match format {
            Format::Json => "text/plain;charset=UTF-8",
            Format::MessagePack => "application/octet-stream",
        };
        self.of_token("POST", token, &[("X-Requested-With", "XMLHttpRequest"), ("Content-Type", kind)], &body)
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

    /// Appends one publish of the message `head` to `out`, ready for the socket. `answered` asks the hub for a
    /// Completion, so that a refusal is heard.
    pub fn write(&mut self, head: &Head, padding: &Padding, answered: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.payload.clear();
        self.record.clear();
        padding.write_payload(head, &mut self.payload);
        match &self.via {
            Via::Invocation { method, target } => {
                let Some(format) = self.dialect.format() else { return Ok(()) };
                let text = String::from_utf8_lossy(&self.payload).into_owned();
                let arguments = [Value::from(target.as_str()), Value::Str(text)];
                let id = answered.then_some("1");
                hub::encode::invocation(format, &mut self.record, id, method, &Payload::Values(&arguments)).map_err(
                    |error| Failure::usage(format!("cannot encode the publish: {error}"), "--size", "use less"),
                )?;
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
