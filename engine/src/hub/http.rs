//! Requests for paths that no hub serves: whoever embeds the engine answers them, now or later, from any thread.

use crate::hub::asker::Asker;
use crate::hub::directory::ConnRef;
use crate::hub::publisher::{Publisher, Wish};
use crate::hub::switchboard::{Shared, Switchboard};
use crate::hub::waiting::Waiting;
use crate::io::Slot;
use fanfare_protocol::http::head::RequestHead;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// A request for a path that no hub serves.
pub struct HttpRequest<'a> {
    head: &'a RequestHead<'a>,
    place: (&'a Arc<Shared>, ConnRef),
    pending: usize,
    has_room: bool,
    /// A handle answers.
    pub(crate) deferred: Cell<bool>,
}

impl<'a> HttpRequest<'a> {
    /// `place`: whose request it is; `has_room`: whether its answer may come later.
    pub(crate) fn new(
        head: &'a RequestHead<'a>,
        place: (&'a Arc<Shared>, ConnRef),
        pending: usize,
        has_room: bool,
    ) -> Self {
        Self { head, place, pending, has_room, deferred: Cell::new(false) }
    }

    pub(crate) fn place(&self) -> (&'a Arc<Shared>, ConnRef) {
        self.place
    }

    pub(crate) fn has_room(&self) -> bool {
        self.has_room
    }

    /// The method, as sent.
    pub fn method(&self) -> &str {
        self.head.method()
    }

    /// The path, as sent, without the query.
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// A query value, decoded; keys match without case.
    pub fn query_value(&self, key: &str) -> Option<Cow<'a, str>> {
        self.head.query_value(key)
    }

    /// Hub connections now held by the engine, over all hubs and shards, those whose handshake is still to come included.
    pub fn connections(&self) -> usize {
        self.place.0.directory.len()
    }

    /// Connections that were negotiated, have not come yet and may still come.
    pub fn pending(&self) -> usize {
        self.pending
    }
}

/// An answer to an [`HttpRequest`]. `Content-Length` is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// A text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::with_type(status, "text/plain; charset=utf-8", body.into())
    }

    /// A JSON document.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::with_type(status, "application/json", body.into())
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::text(404, "Not found: no hub and no page has this path.\n")
    }

    fn with_type(status: u16, content_type: &str, body: String) -> Self {
        Self { status, headers: vec![("Content-Type".into(), content_type.into())], body: body.into_bytes() }
    }
}

/// Answers requests for paths that no hub serves. Called on shard threads: it must not block.
pub trait HttpHandler: Send + Sync + 'static {
    /// The answer; not looked at if the request was deferred (`HttpRequest::defer`).
    fn handle(&self, request: &HttpRequest<'_>) -> HttpAnswer;
}

/// The answer to one request, to be given later, from any thread. Dropped without one, it answers 500.
pub struct HttpReplyHandle {
    shared: Arc<Shared>,
    to: ConnRef,
    done: bool,
}

impl fmt::Debug for HttpReplyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReplyHandle").field("to", &self.to).finish_non_exhaustive()
    }
}

impl HttpReplyHandle {
    /// Gives the answer.
    pub fn reply(mut self, answer: HttpAnswer) {
        self.give(answer);
    }

    fn give(&mut self, answer: HttpAnswer) {
        if !std::mem::replace(&mut self.done, true) {
            self.shared.reply(self.to.shard(), Wish::HttpReply { to: self.to, answer });
        }
    }
}

impl Drop for HttpReplyHandle {
    fn drop(&mut self) {
        self.give(HttpAnswer::text(500, "The server gave no answer.\n"));
    }
}

impl HttpRequest<'_> {
    /// Takes the answer out of the call: what the handler returns is not looked at, only the handle answers. Further
    /// requests of the same connection wait meanwhile. No time-out of the engine's ends the wait. `None`: the shard owes
    /// `Limits::deferred_max` answers already; answer now (503).
    pub fn defer(&self) -> Option<HttpReplyHandle> {
        let (shared, to) = self.place();
        let first = self.has_room() && !self.deferred.replace(true);
        first.then(|| HttpReplyHandle { shared: shared.clone(), to, done: false })
    }

    /// Somebody who speaks to clients.
    pub fn publisher(&self) -> Publisher {
        let (shared, to) = self.place();
        Publisher::on_shard(shared.clone(), to.shard())
    }
}

impl Switchboard {
    /// The request's answer comes later. With a body behind it, which nobody reads meanwhile, the connection ends then.
    pub(crate) fn await_http_reply(&mut self, slot: Slot, head: &RequestHead<'_>, has_body: bool) {
        let asker = Asker::plain(head);
        let asker = if has_body { asker.closing() } else { asker };
        let on = self.reference(slot);
        self.http_waits.insert(on);
        self.wait(slot, Waiting { on, asker });
    }

    /// The answer has come.
    pub(crate) fn handle_http_reply(&mut self, to: ConnRef, answer: &HttpAnswer) {
        if !self.http_waits.remove(&to) {
            return;
        }
        let Some(slot) = self.resolve(to) else { return };
        if let Some(Waiting { asker, .. }) = self.stop_waiting(slot) {
            let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let bytes = asker.answer(answer.status, &headers, &answer.body);
            self.answer_request(slot, &bytes, asker.keeps_alive());
        }
    }
}
