//! What a hub's code may do while it is called: speak to anybody, join, leave, put work off, end the connection.

use crate::conn::outbox;
use crate::event::CloseReason;
use crate::hub::directory::ConnRef;
use crate::hub::host::Answer;
use crate::hub::later::Continuation;
use crate::hub::outgoing::Outgoing;
use crate::hub::publisher::PublishError;
use crate::hub::registry::{GroupError, HubId};
use crate::hub::replies::{Debt, ReplyHandle, Taken};
use crate::hub::route::Audience;
use crate::hub::switchboard::Switchboard;
use crate::ids::ConnectionId;
use crate::io::Slot;
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::http::head::{HeadLimits, RequestHead, parse_request};
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::{Payload, StreamIds};
use std::time::Duration;

/// The calling connection and everything it can reach. Lives for one call.
pub struct Context<'a> {
    board: &'a mut Switchboard,
    slot: Slot,
    calling: Option<Calling<'a>>,
    taken: Taken,
    connecting: bool,
}

/// The invocation that a context is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calling<'a> {
    /// `None`: the client does not wait for the answer.
    pub(crate) id: Option<&'a str>,
    pub(crate) target: &'a str,
    /// It is one of those of which only so many may run at a time.
    pub(crate) counts: bool,
    /// The client wants a stream.
    pub(crate) streaming: bool,
    pub(crate) stream_ids: StreamIds<'a>,
}

impl<'a> Calling<'a> {
    /// What `message` calls, if it is an invocation; `serializes`: its host lets one client's invocations wait.
    pub(crate) fn of(message: &'a Message<'a>, serializes: bool) -> Option<Self> {
        match message {
            Message::Invocation { invocation_id, target, stream_ids, .. } => Some(Self {
                id: invocation_id.as_deref(),
                target,
                counts: serializes && stream_ids.is_empty(),
                streaming: false,
                stream_ids: *stream_ids,
            }),
            Message::StreamInvocation { invocation_id, target, stream_ids, .. } => {
                Some(Self { id: Some(invocation_id), target, counts: false, streaming: true, stream_ids: *stream_ids })
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("connection_id", &self.connection_id()).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(board: &'a mut Switchboard, slot: Slot) -> Self {
        Self { board, slot, calling: None, taken: Taken::default(), connecting: false }
    }

    pub(crate) fn for_message(board: &'a mut Switchboard, slot: Slot, calling: Option<Calling<'a>>) -> Self {
        let has_streams = calling.is_some_and(|calling| !calling.stream_ids.is_empty());
        let uploads = if has_streams { board.uploads.next_call() } else { 0 };
        Self { calling, taken: Taken { uploads, ..Taken::default() }, ..Self::new(board, slot) }
    }

    /// For the call of `connected`, in which clients cannot be asked.
    pub(crate) fn connecting(board: &'a mut Switchboard, slot: Slot) -> Self {
        Self { connecting: true, ..Self::new(board, slot) }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.connecting
    }

    pub(crate) fn board(&mut self) -> (&mut Switchboard, Slot) {
        (self.board, self.slot)
    }

    pub(crate) fn calling(&self) -> Option<Calling<'a>> {
        self.calling
    }

    /// What was taken in this call.
    pub(crate) fn taken(&mut self) -> &mut Taken {
        &mut self.taken
    }

    pub(crate) fn reference(&self) -> ConnRef {
        self.board.reference(self.slot)
    }

    pub(crate) fn hub_id(&self) -> HubId {
        self.board.hub_of(self.board.slots.hot(self.slot).endpoint)
    }

    /// The public id of the calling connection.
    pub fn connection_id(&self) -> String {
        ConnectionId(self.board.slots.cold(self.slot).id).to_string()
    }

    /// Its user id.
    pub fn user(&self) -> Option<&str> {
        self.board.user(self.slot)
    }

    /// The name of its hub.
    pub fn hub(&self) -> &str {
        &self.board.shared.hubs[self.hub_id().0 as usize].name
    }

    /// What carries it: `WebSockets`, `ServerSentEvents` or `LongPolling`.
    pub fn transport(&self) -> &'static str {
        self.board.slots.hot(self.slot).variation.transport().name()
    }

    /// A header of the request it connected with. Needs `EndpointOptions::keep_request`.
    pub fn header(&self, name: &str) -> Option<String> {
        self.with_request(|head| head.header(name).map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    /// A cookie of that request. Needs `EndpointOptions::keep_request`.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.with_request(|head| {
            let cookies = head.headers().filter(|(header, _)| header.eq_ignore_ascii_case("cookie"));
            let pairs = cookies.filter_map(|(_, value)| std::str::from_utf8(value).ok()).flat_map(|v| v.split(';'));
            let mut named = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
            named.next().map(|(_, value)| value.to_owned())
        })
    }

    /// A query value of that request. Needs `EndpointOptions::keep_request`.
    pub fn query(&self, key: &str) -> Option<String> {
        self.with_request(|head| head.query_value(key).map(|value| value.into_owned()))
    }

    fn with_request<T>(&self, read: impl FnOnce(&RequestHead<'_>) -> Option<T>) -> Option<T> {
        let bytes = self.board.requests.get(self.board.slots.cold(self.slot).request)?;
        let limits = HeadLimits { head_bytes_max: bytes.len(), ..HeadLimits::default() };
        match parse_request(bytes, &limits) {
            Ok(Progress::Done(head, _)) => read(&head),
            _ => None,
        }
    }

    // -- whom to speak to (spec 6.9) ------------------------------------------------------------------------------

    fn target<'t>(&'t mut self, to: Vec<Audience<'t>>, except: Vec<ConnRef>) -> Target<'t> {
        let hub = self.hub_id();
        Target { board: self.board, hub, to: To::Many(to), except: Except::Many(except) }
    }

    fn one<'t>(&'t mut self, to: Audience<'t>, except: Option<ConnRef>) -> Target<'t> {
        let hub = self.hub_id();
        Target { board: self.board, hub, to: To::One([to]), except: Except::One(except) }
    }

    /// The calling connection.
    pub fn caller(&mut self) -> Target<'_> {
        let caller = self.reference();
        self.one(Audience::Connection(caller), None)
    }

    /// Everybody in the hub.
    pub fn all(&mut self) -> Target<'_> {
        self.one(Audience::All, None)
    }

    /// Everybody but the caller.
    pub fn others(&mut self) -> Target<'_> {
        let caller = self.reference();
        self.one(Audience::All, Some(caller))
    }

    /// Everybody but these connections.
    pub fn all_except(&mut self, ids: &[&str]) -> Target<'_> {
        let except = self.board.find_all(ids);
        self.target(vec![Audience::All], except)
    }

    /// One connection; nobody, if there is none of that id.
    pub fn connection(&mut self, id: &str) -> Target<'_> {
        self.connections(&[id])
    }

    /// These connections.
    pub fn connections(&mut self, ids: &[&str]) -> Target<'_> {
        let hub = self.hub_id();
        let found = self.board.find_all(ids);
        let to = found.into_iter().map(Audience::Connection).collect();
        Target { board: self.board, hub, to: To::Many(to), except: Except::One(None) }
    }

    /// A group.
    pub fn group<'t>(&'t mut self, name: &'t str) -> Target<'t> {
        self.one(Audience::Group(name), None)
    }

    /// These groups; a member of two gets two copies.
    pub fn groups<'t>(&'t mut self, names: &[&'t str]) -> Target<'t> {
        self.target(names.iter().map(|name| Audience::Group(name)).collect(), Vec::new())
    }

    /// A group, but not the caller.
    pub fn others_in_group<'t>(&'t mut self, name: &'t str) -> Target<'t> {
        let caller = self.reference();
        self.one(Audience::Group(name), Some(caller))
    }

    /// A group, but not these connections.
    pub fn group_except<'t>(&'t mut self, name: &'t str, ids: &[&str]) -> Target<'t> {
        let except = self.board.find_all(ids);
        self.target(vec![Audience::Group(name)], except)
    }

    /// All connections of a user.
    pub fn user_named<'t>(&'t mut self, id: &'t str) -> Target<'t> {
        self.one(Audience::User(id), None)
    }

    /// All connections of these users.
    pub fn users<'t>(&'t mut self, ids: &[&'t str]) -> Target<'t> {
        self.target(ids.iter().map(|id| Audience::User(id)).collect(), Vec::new())
    }

    // -- groups ---------------------------------------------------------------------------------------------------

    /// The caller joins a group. Idempotent.
    pub fn join(&mut self, group: &str) -> Result<(), GroupError> {
        let caller = self.reference();
        self.board.change_membership(caller, group, true)
    }

    /// The caller leaves a group. Idempotent.
    pub fn leave(&mut self, group: &str) {
        let caller = self.reference();
        let _ = self.board.change_membership(caller, group, false);
    }

    /// A connection joins a group; nothing happens if there is none of that id.
    pub fn join_connection(&mut self, id: &str, group: &str) -> Result<(), GroupError> {
        match self.board.find_connection(id) {
            Some(who) => self.board.change_membership(who, group, true),
            None => Ok(()),
        }
    }

    /// A connection leaves a group; nothing happens if there is none of that id.
    pub fn leave_connection(&mut self, id: &str, group: &str) {
        if let Some(who) = self.board.find_connection(id) {
            let _ = self.board.change_membership(who, group, false);
        }
    }

    // -- the connection itself ------------------------------------------------------------------------------------

    /// Ends the calling connection: the hub's close message, then the transport's end (spec 6.8).
    pub fn abort(&mut self) {
        self.board.farewell(self.slot, CloseReason::ClosedByServer, Some((None, false)), CloseCode::NORMAL);
    }

    /// Bytes that the client owes us reading.
    pub fn outbox_bytes(&self) -> usize {
        self.board.slots.hot(self.slot).owed_bytes as usize
    }

    /// Whether the client owes us nothing.
    pub fn is_drained(&self) -> bool {
        outbox::is_clear(self.board.slots.hot(self.slot))
    }

    // -- later ----------------------------------------------------------------------------------------------------

    /// Takes the answer of this invocation out of the call: return [`Answer::Later`], and answer from any thread, or
    /// on the spot with [`Context::reply`]. From here on only the handle answers, unless the call itself fails: an error that it
    /// returns is the answer, and what the handle is given after that is dropped. Nothing happens later if the client does not wait for an answer. With `Limits::deferred_max` answers owed
    /// already, the client gets an error now, and what the handle is given is dropped.
    pub fn defer(&mut self) -> ReplyHandle {
        let calling = self.calling;
        let waiting = calling.and_then(|calling| Some((calling.id?, calling.target)));
        let counts = !self.taken.is_deferred() && calling.is_some_and(|calling| calling.counts);
        let handle = self.board.defer(Debt {
            number: 0,
            to: self.reference(),
            id: waiting.map(|(id, _)| id.to_owned()),
            target: waiting.map_or_else(String::new, |(_, target)| target.to_owned()),
            counts,
            streaming: calling.is_some_and(|calling| calling.streaming),
            uploads: self.taken.uploads,
        });
        self.taken.debt.get_or_insert((handle.number().unwrap_or(0), counts));
        handle
    }

    /// Runs `work` on this shard after `delay`, if the connection is still there then. `false`: too much is waiting
    /// already (`Limits::continuations_max`) and `work` was dropped.
    pub fn after(&mut self, delay: Duration, work: impl FnOnce(&mut Context<'_>) + Send + 'static) -> bool {
        let due_us = self.board.now_us + delay.as_micros().min(u128::from(u64::MAX / 2)) as u64;
        self.board.run_at(self.slot, due_us, Box::new(work) as Continuation).is_ok()
    }

    /// Runs `work` on this shard once the client owes us nothing: how a method that says a lot goes at the client's
    /// pace. `false`: too much is waiting already and `work` was dropped.
    pub fn when_drained(&mut self, work: impl FnOnce(&mut Context<'_>) + Send + 'static) -> bool {
        self.board.run_when_drained(self.slot, Box::new(work) as Continuation).is_ok()
    }

    /// Answers a deferred invocation on the spot; from another thread use [`ReplyHandle::reply`].
    pub fn reply(&mut self, handle: ReplyHandle, answer: &Answer) {
        handle.settle_here(self.board, answer);
    }
}

enum To<'t> {
    One([Audience<'t>; 1]),
    Many(Vec<Audience<'t>>),
}

enum Except {
    One(Option<ConnRef>),
    Many(Vec<ConnRef>),
}

/// Somebody to speak to.
pub struct Target<'t> {
    board: &'t mut Switchboard,
    hub: HubId,
    to: To<'t>,
    except: Except,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Target<'_> {
    /// Calls the client method `target`. Never waits: what a client does not read is bounded by its outbox.
    pub fn send(self, target: &str, arguments: &Payload<'_>) -> Result<(), PublishError> {
        if target.is_empty() {
            return Err(PublishError::EmptyTarget);
        }
        let to = match &self.to {
            To::One(one) => &one[..],
            To::Many(many) => many,
        };
        let except = match &self.except {
            Except::One(one) => one.as_slice(),
            Except::Many(many) => many,
        };
        self.board.publish(self.hub, to, except, &Outgoing::Invocation { target, arguments })
    }
}
