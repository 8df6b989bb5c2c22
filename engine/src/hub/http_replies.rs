//! Answers to plain HTTP requests that are given later, from any thread.

use crate::conn::endpoint::{HttpAnswer, HttpRequest};
use crate::hub::asker::Asker;
use crate::hub::directory::ConnRef;
use crate::hub::publisher::{Publisher, Wish};
use crate::hub::switchboard::{Shared, Switchboard};
use crate::hub::waiting::Waiting;
use crate::io::Slot;
use fanfare_protocol::http::head::RequestHead;
use std::fmt;
use std::sync::Arc;

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
