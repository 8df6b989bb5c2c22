//! Whoever waits for an HTTP answer, and what that answer needs to know of the request.

use crate::conn::endpoint::EndpointOptions;
use fanfare_protocol::http::head::RequestHead;
use fanfare_protocol::http::response;

/// What an answer needs to know of its request, when the request itself has gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    keep_alive: bool,
    /// `HEAD`: the answer says how long its body would be, and has none (RFC 9110 9.3.2).
    head_only: bool,
    /// The page that asks, if it is one that may (spec 1.6).
    origin: Option<Box<str>>,
}

impl Asker {
    /// Of a request on a path that belongs to no hub.
    pub(crate) fn plain(head: &RequestHead<'_>) -> Self {
        Self { keep_alive: head.keep_alive(), head_only: head.method() == "HEAD", origin: None }
    }

    /// Of a request on a hub's path.
    pub(crate) fn of(head: &RequestHead<'_>, options: &EndpointOptions) -> Self {
        let origin = origin(head).filter(|origin| options.origins.allow(origin, host(head)));
        Self { origin: origin.map(Box::from), ..Self::plain(head) }
    }

    /// The same, with the socket's end behind the answer.
    pub(crate) fn closing(self) -> Self {
        Self { keep_alive: false, ..self }
    }

    /// Whether the socket carries another request after this one.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the answer is the same for whoever asks.
    pub(crate) fn is_ordinary(&self) -> bool {
        self.keep_alive && self.origin.is_none()
    }

    /// Headers that depend on who asks.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let close = (!self.keep_alive).then_some(("Connection", "close"));
        let cors = self.origin.as_deref().map(|origin| {
            [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"), ("Vary", "Origin")]
        });
        close.into_iter().chain(cors.into_iter().flatten())
    }

    /// A whole answer.
    pub(crate) fn answer(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let all: Vec<(&str, &str)> = headers.iter().copied().chain(self.headers()).collect();
        let mut out = Vec::with_capacity(256 + body.len());
        response::write(&mut out, status, &all, body);
        if self.head_only {
            out.truncate(out.len() - body.len());
        }
        out
    }

    /// An answer of text.
    pub(crate) fn text(&self, status: u16, body: &str) -> Vec<u8> {
        self.answer(status, &[("Content-Type", "text/plain")], body.as_bytes())
    }

    /// The answer to a browser that asks whether a page may ask (spec 1.6): what it wants to do, it may.
    pub(crate) fn preflight(&self, head: &RequestHead<'_>) -> Vec<u8> {
        let wanted = |name| head.header(name).and_then(|value| std::str::from_utf8(value).ok());
        let mut headers = vec![("Access-Control-Max-Age", "600")];
        headers.extend(wanted("access-control-request-method").map(|method| ("Access-Control-Allow-Methods", method)));
        headers.extend(wanted("access-control-request-headers").map(|names| ("Access-Control-Allow-Headers", names)));
        if self.origin.is_none() {
            headers.clear();
        }
        self.answer(204, &headers, b"")
    }
}

/// The origin that a browser names.
pub(crate) fn origin<'a>(head: &RequestHead<'a>) -> Option<&'a str> {
    head.header("origin").and_then(|value| std::str::from_utf8(value).ok())
}

/// The host that the request names as ours.
pub(crate) fn host<'a>(head: &RequestHead<'a>) -> Option<&'a str> {
    head.header("host").and_then(|value| std::str::from_utf8(value).ok())
}
