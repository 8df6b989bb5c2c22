//! What is served under a path, to whom, and how it behaves.

use fanfare_protocol::http::head::RequestHead;
use fanfare_protocol::negotiate::Transport;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Which transports an endpoint offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transports {
    /// WebSockets.
    pub websockets: bool,
    /// Server-sent events one way, POSTs the other.
    pub server_sent_events: bool,
    /// Requests that are answered when there is news, POSTs the other way.
    pub long_polling: bool,
}

impl Default for Transports {
    fn default() -> Self {
        Self { websockets: true, server_sent_events: true, long_polling: true }
    }
}

impl Transports {
    /// Whether `transport` is offered.
    pub fn offers(&self, transport: Transport) -> bool {
        match transport {
            Transport::WebSockets => self.websockets,
            Transport::ServerSentEvents => self.server_sent_events,
            Transport::LongPolling => self.long_polling,
        }
    }

    /// Those that are, in the order in which clients are to try them (spec 1.3).
    pub fn offered(&self) -> impl Iterator<Item = Transport> + '_ {
        Transport::ALL.into_iter().filter(|&transport| self.offers(transport))
    }
}

/// Pages of which origins a browser may let in (spec 1.6). Clients that are no browsers name no origin and are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the host that the request names as its own, whatever their scheme and port.
    #[default]
    SameHost,
    /// Those, and pages of these origins: `https://app.example`, without a path.
    Listed(Vec<String>),
    /// Any page of anybody.
    Any,
}

impl Origins {
    /// Whether a page of `origin` may speak to a server that it calls `host`.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let ours = host.and_then(name);
        let same_host = || host_of(origin).zip(ours).is_some_and(|(of, ours)| of.eq_ignore_ascii_case(ours));
        match self {
            Origins::Any => true,
            Origins::SameHost => same_host(),
            Origins::Listed(listed) => listed.iter().any(|one| one.eq_ignore_ascii_case(origin)) || same_host(),
        }
    }
}

/// The host name of an origin, `null` and nonsense aside.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").and_then(|(_, authority)| name(authority))
}

/// A host without its port, if that is what it is. An IPv6 address keeps its brackets.
fn name(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], &authority[colon + 1..]),
        _ => (authority, ""),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match bare {
        Some(address) => address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)),
        None => host.bytes().all(plain),
    };
    (sound && !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

/// How a hub behaves under one path. The defaults are SignalR's.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Bytes of one message from a client, framing included. 0: unlimited (`Limits::partial_bytes_max` still holds).
    pub message_bytes_max: usize,
    /// Milliseconds between pings to a client.
    pub keep_alive_ms: u32,
    /// Milliseconds without a message after which a client that has pinged once is given up.
    pub client_timeout_ms: u32,
    /// Milliseconds from the upgrade to a whole handshake.
    pub handshake_timeout_ms: u32,
    /// Whether clients see the text of ordinary errors.
    pub detailed_errors: bool,
    /// What negotiate offers.
    pub transports: Transports,
    /// Whose pages may come in.
    pub origins: Origins,
    /// Milliseconds that a long poll waits for news.
    pub poll_timeout_ms: u32,
    /// Milliseconds that a long-polling client may go without a poll.
    pub disconnect_timeout_ms: u32,
    /// Whether clients that ask for it may resume a lost WebSocket connection (stateful reconnect).
    pub resumable: bool,
    /// Bytes sent to such a client and not acknowledged, beyond which sending waits.
    pub resume_bytes_max: usize,
    /// Bytes of one POST. 0: unlimited (`Limits::partial_bytes_max` still holds).
    pub post_bytes_max: usize,
    /// Invocations of one client that may run at the same time.
    pub parallel_invocations_max: u16,
    /// Whether WebSockets that offer permessage-deflate (RFC 7692) get it. A broadcast is compressed once for all of
    /// them; see `Limits::inflated_bytes_max` for what they may send. Costs the shard 0.3 MiB and every broadcast some
    /// microseconds. Not for messages in which secrets stand next to text that a stranger chose: their length tells
    /// whether the two agree.
    pub compression: bool,
    /// Whether a connection ends when its [`Identity`] expires. The client is told that it may reconnect, which it does
    /// with a new token if it has one (spec 9.3).
    pub close_on_expiry: bool,
    /// Streams to one client that may be open at the same time. They do not count as invocations.
    pub streams_max: u16,
    /// Streams of one client, of invocations that have not ended. Those do not count as invocations either.
    pub upload_streams_max: u16,
    /// Items of one stream of a client that wait to be fetched (`Context::take_stream`); with one more the client is not
    /// read from until half of them have been fetched. 0 counts as 1. `Limits::held_bytes_max` does the same for their bytes.
    pub stream_buffer_items: u16,
    /// Keep the head of the connecting request, for `Context::header`, `cookie` and `query`. Costs its bytes and
    /// about 50 more per connection.
    pub keep_request: bool,
    /// Headers added to every negotiate answer.
    pub negotiate_headers: Vec<(String, String)>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            message_bytes_max: 32_768,
            keep_alive_ms: 15_000,
            client_timeout_ms: 30_000,
            handshake_timeout_ms: 15_000,
            detailed_errors: false,
            transports: Transports::default(),
            origins: Origins::default(),
            poll_timeout_ms: 90_000,
            disconnect_timeout_ms: 15_000,
            resumable: false,
            resume_bytes_max: 100_000,
            post_bytes_max: 30_000_000,
            parallel_invocations_max: 1,
            compression: false,
            close_on_expiry: false,
            streams_max: 100,
            upload_streams_max: 100,
            stream_buffer_items: 10,
            keep_request: false,
            negotiate_headers: Vec::new(),
        }
    }
}

/// How a plain WebSocket echo behaves.
#[derive(Clone, Copy, Debug)]
pub struct EchoOptions {
    /// Bytes of one message. It is returned as it comes, so it costs no memory beyond the outbox.
    pub message_bytes_max: usize,
    /// Whether clients that offer permessage-deflate get it. A compressed message is returned when it is whole, and
    /// compressed again.
    pub compression: bool,
}

impl Default for EchoOptions {
    fn default() -> Self {
        Self { message_bytes_max: 64 << 20, compression: false }
    }
}

/// What is behind a path.
#[derive(Clone)]
pub enum Service {
    /// A hub, by its index.
    Hub {
        /// Index in the engine's list of hubs.
        hub: u16,
        /// How it behaves here.
        options: EndpointOptions,
        /// Who may come in.
        authenticator: Option<Arc<dyn Authenticator>>,
    },
    /// A WebSocket that returns what it gets.
    Echo(EchoOptions),
}

/// One path and what is behind it.
#[derive(Clone)]
pub struct Endpoint {
    /// The path, with its leading slash and without a trailing one.
    pub path: String,
    /// What is behind it.
    pub service: Service,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The hub's options, if it is one.
    pub fn hub_options(&self) -> Option<&EndpointOptions> {
        match &self.service {
            Service::Hub { options, .. } => Some(options),
            Service::Echo(_) => None,
        }
    }

    /// Bytes of one message from a client. 0: unlimited.
    pub fn message_bytes_max(&self) -> usize {
        match &self.service {
            Service::Hub { options, .. } => options.message_bytes_max,
            Service::Echo(options) => options.message_bytes_max,
        }
    }
}

/// A request to connect, or to negotiate, as an [`Authenticator`] sees it.
pub struct ConnectRequest<'a> {
    head: &'a RequestHead<'a>,
}

impl<'a> ConnectRequest<'a> {
    pub(crate) fn new(head: &'a RequestHead<'a>) -> Self {
        Self { head }
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.header(name)
    }

    /// A query value, decoded; keys match without case.
    pub fn query_value(&self, key: &str) -> Option<Cow<'a, str>> {
        self.head.query_value(key)
    }

    /// The method, as sent.
    pub fn method(&self) -> &'a str {
        self.head.method()
    }

    /// The bearer token: of the `Authorization` header, else, on GET, of the `access_token` query value. Browsers can
    /// set no header on WebSockets and server-sent events; everywhere else a token has no place in a URL, which proxies
    /// log (spec 9.1). An empty one is none. Bytes that are no text are not left out: such a token is there, and bad.
    pub fn bearer(&self) -> Option<Cow<'a, str>> {
        let in_header = self.header("authorization").and_then(|value| {
            let scheme_len = value.iter().position(|&byte| byte == b' ')?;
            let (scheme, token) = value.split_at(scheme_len);
            scheme.eq_ignore_ascii_case(b"bearer").then(|| String::from_utf8_lossy(token.trim_ascii()))
        });
        let in_query = || self.query_value("access_token").filter(|_| self.method() == "GET");
        in_header.filter(|token| !token.is_empty()).or_else(in_query).filter(|token| !token.is_empty())
    }
}

/// Who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user id; `None` for nobody in particular.
    pub user: Option<String>,
    /// Until when that is certain; `None` for as long as the connection lives. It ends the connection only with
    /// [`EndpointOptions::close_on_expiry`].
    pub expires_at: Option<SystemTime>,
}

/// Why somebody may not come in. The body of the answer is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: no credentials, or bad ones.
    Unauthorized,
    /// 403: good credentials, but not for this.
    Forbidden,
}

/// Decides who may negotiate and connect. Called on shard threads: it must not block.
pub trait Authenticator: Send + Sync + 'static {
    /// Who is asking, or why they may not.
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_judged_by_host_or_by_list() {
        let same = Origins::SameHost;
        assert!(same.allow("http://127.0.0.1:8889", Some("127.0.0.1:8888")));
        assert!(same.allow("https://Chat.Example", Some("chat.example")));
        assert!(same.allow("http://[::1]:8889", Some("[::1]:8888")));
        for (origin, host) in [
            ("https://evil.example", Some("chat.example")),
            ("https://chat.example.evil", Some("chat.example")),
            ("https://chat.example:443.evil", Some("chat.example:443")),
            ("https://chat.example:443@evil", Some("chat.example:443")),
            ("https://chat.example/x", Some("chat.example/x")),
            ("https://", Some("")),
            ("null", Some("null")),
            ("https://chat.example", None),
        ] {
            assert!(!same.allow(origin, host), "{origin} at {host:?}");
        }
        let listed = Origins::Listed(vec!["https://app.example".to_owned()]);
        assert!(listed.allow("https://app.example", Some("chat.example")));
        assert!(listed.allow("https://chat.example", Some("chat.example")));
        assert!(!listed.allow("http://app.example", Some("chat.example")), "another scheme is another origin");
        assert!(!listed.allow("https://app.example:444", Some("chat.example")));
        assert!(Origins::Any.allow("null", None));
    }
}
