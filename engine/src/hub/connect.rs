//! A request on a hub's path: negotiate, the dispatch table, the way in (spec 1, 2.1, 2.2).

use crate::conn::endpoint::{ConnectRequest, EndpointOptions, Identity, Refusal, Service};
use crate::conn::slots::{ColdFlags, State};
use crate::conn::wire::Variation;
use crate::event::RefuseReason;
use crate::hub::admission::Tickets;
use crate::hub::asker::{self, Asker};
use crate::hub::directory::{ConnRef, Standing};
use crate::hub::http::{HttpAnswer, HttpRequest};
use crate::hub::post::PostTo;
use crate::hub::switchboard::Switchboard;
use crate::ids::ConnectionId;
use crate::io::Slot;
use crate::limits::connections_in;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::head::{BodyLength, RequestHead};
use fanfare_protocol::hub::Format;
use fanfare_protocol::negotiate::{self, Transport};
use fanfare_protocol::sse;
use fanfare_protocol::ws::deflate::offer::accept_offer;
use fanfare_protocol::ws::handshake;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// What a request comes to.
pub(crate) enum Response {
    /// An ordinary answer.
    Http(Vec<u8>),
    /// The socket becomes a hub connection, or an echo, in this state, after these bytes.
    Begin(Vec<u8>, State),
    /// The body is for a hub connection.
    Post(PostTo, Asker),
    /// A poll: answered when there is news.
    Poll(PollOf, Asker),
    /// The connection that it is about lives on this shard.
    Move(u8),
    /// An answer that comes later.
    Later,
}

/// Whose news a poll wants.
pub(crate) enum PollOf {
    /// A connection of this shard.
    Session(ConnRef),
    /// A connection that begins with it.
    New(Newcomer),
}

/// Somebody who is let in, and has no place yet.
pub(crate) struct Newcomer {
    /// `None`: it came without a token, and is given an id.
    id: Option<ConnectionId>,
    user: Option<String>,
    /// When its identity expires, if the connection ends for that.
    due_s: Option<u32>,
    /// The head of the request, if it is to be kept.
    request: Option<Box<[u8]>>,
    endpoint: u16,
    tickets: Option<Box<Tickets>>,
}

/// A request on a hub's path.
struct Call<'a> {
    head: &'a RequestHead<'a>,
    raw: &'a [u8],
    options: &'a EndpointOptions,
    asker: Asker,
    identity: Identity,
    /// Its token is one of a connection that may be resumed.
    resumable: bool,
}

/// What a request on a hub's path wants (spec 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Upgrade,
    Events,
    Poll,
    Post,
    Delete,
}

impl Want {
    fn of(head: &RequestHead<'_>) -> Option<Self> {
        Some(match head.method() {
            "POST" => Want::Post,
            "DELETE" => Want::Delete,
            // Accept is looked at first, as in the reference server.
            "GET" if head.header_has_token("accept", "text/event-stream") => Want::Events,
            "GET" if handshake::is_upgrade(head) => Want::Upgrade,
            "GET" => Want::Poll,
            _ => return None,
        })
    }

    fn transport(self) -> Option<Transport> {
        match self {
            Want::Upgrade => Some(Transport::WebSockets),
            Want::Events => Some(Transport::ServerSentEvents),
            Want::Poll => Some(Transport::LongPolling),
            Want::Post | Want::Delete => None,
        }
    }
}

const NO_ID: &str = "Connection ID required";
const UNKNOWN_ID: &str = "No Connection with that ID";
const OTHER_TRANSPORT: &str = "Cannot change transports mid-connection";
const NO_DELETE: &str = "Cannot terminate this connection using the DELETE endpoint.";
/// Seconds after which a client that was turned away for lack of room should try again, plus up to as many more.
const RETRY_AFTER_S: u32 = 2;

impl Switchboard {
    /// Answers the request whose head is complete. `raw` are the bytes of the head.
    pub(crate) fn respond(&mut self, slot: Slot, head: &RequestHead<'_>, raw: &[u8]) -> Response {
        let endpoints = self.endpoints.clone();
        // ASP.NET Core's routes take a slash at their end as well, and service clients send one (spec azure-service 2.2).
        let path = head.path().strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(head.path());
        if let Some(index) = endpoints.iter().position(|endpoint| endpoint.path == path) {
            self.slots.hot_mut(slot).endpoint = index as u16;
            return match &endpoints[index].service {
                Service::Echo(options) => self.upgrade_to_echo(slot, head, options.compression),
                Service::Hub { options, .. } => self.dispatch(slot, head, raw, options),
            };
        }
        let hub_path = path.strip_suffix("/negotiate").map(|hub| hub.strip_suffix('/').unwrap_or(hub));
        if let Some(index) = hub_path.and_then(|path| endpoints.iter().position(|e| e.path == path))
            && let Service::Hub { options, .. } = &endpoints[index].service
        {
            return Response::Http(self.negotiate(slot, index, head, options));
        }
        self.other_path(slot, head)
    }

    fn other_path(&mut self, slot: Slot, head: &RequestHead<'_>) -> Response {
        let pending = self.shared.pending.count(self.now_s());
        let has_room = self.answers_owed() < self.limits.deferred_max;
        let request = HttpRequest::new(head, (&self.shared, self.reference(slot)), pending, has_room);
        let answer = match &self.shared.http {
            Some(handler) => handler.handle(&request),
            None => HttpAnswer::not_found(),
        };
        if request.deferred.get() {
            return Response::Later;
        }
        if answer.status == 404 {
            self.refused(RefuseReason::NotFound);
        }
        let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Response::Http(Asker::plain(head).answer(answer.status, &headers, &answer.body))
    }

    fn upgrade_to_echo(&mut self, slot: Slot, head: &RequestHead<'_>, compression: bool) -> Response {
        let asker = Asker::plain(head);
        if let Some(refused) = self.turn_away(&asker) {
            return Response::Http(refused);
        }
        match switch_protocols(head, compression) {
            Ok(Upgrade { answer, deflated }) => match self.let_in(slot, head, None, &asker) {
                Ok(tickets) => {
                    self.keep_tickets(slot, tickets);
                    self.begin_deflate(slot, deflated);
                    Response::Begin(answer, State::Echo)
                }
                Err(refused) => Response::Http(refused),
            },
            Err(error) => self.bad_upgrade(&asker, error),
        }
    }

    /// What was agreed with the upgrade.
    fn begin_deflate(&mut self, slot: Slot, deflated: bool) {
        if deflated {
            let hot = self.slots.hot_mut(slot);
            hot.variation = hot.variation.deflated();
        }
    }

    pub(crate) fn refused(&self, reason: RefuseReason) {
        self.counters.refused_total[reason as usize].add(1);
    }

    fn refuse_text(&self, asker: &Asker, status: u16, reason: RefuseReason, body: &str) -> Response {
        self.refused(reason);
        Response::Http(asker.text(status, body))
    }

    // -- negotiate (spec 1) ---------------------------------------------------------------------------------------

    fn negotiate(&mut self, slot: Slot, endpoint: usize, head: &RequestHead<'_>, options: &EndpointOptions) -> Vec<u8> {
        let asker = Asker::of(head, options);
        if head.method() == "OPTIONS" && asker::origin(head).is_some() {
            return asker.preflight(head);
        }
        if head.method() != "POST" {
            self.refused(RefuseReason::Method);
            return asker.answer(405, &[("Content-Type", "text/plain"), ("Allow", "POST")], b"");
        }
        let identity = match self.authenticate(endpoint, head) {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse(&asker, refusal),
        };
        if let Some(refused) = self.turn_away(&asker) {
            return refused;
        }
        if let Some(refused) = self.hold_back(slot, head, identity.user.as_deref(), &asker) {
            return refused;
        }
        let body = self.negotiate_body(head, options, &identity);
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(options.negotiate_headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        asker.answer(200, &headers, &body)
    }

    fn negotiate_body(&mut self, head: &RequestHead<'_>, options: &EndpointOptions, identity: &Identity) -> Vec<u8> {
        let mut body = Vec::with_capacity(320);
        match negotiate::parse_query(head.query()) {
            Err(error) => negotiate::write_error(&mut body, &error.to_string()),
            Ok(request) => {
                let now_s = self.now_s();
                let id = if request.version == 0 { self.mint.mint_bearer(now_s) } else { self.mint.mint(now_s) };
                self.shared.pending.negotiated(now_s);
                let resumable = options.resumable && request.use_stateful_reconnect && request.version > 0;
                let token = self.mint.token(&id, now_s, identity.user.as_deref(), resumable);
                let transports: Vec<Transport> = options.transports.offered().collect();
                negotiate::write_response(&mut body, request.version, &id.to_string(), &token, &transports, resumable);
            }
        }
        body
    }

    fn authenticate(&self, endpoint: usize, head: &RequestHead<'_>) -> Result<Identity, Refusal> {
        match &self.endpoints[endpoint].service {
            Service::Hub { authenticator: Some(authenticator), .. } => {
                authenticator.authenticate(&ConnectRequest::new(head))
            }
            _ => Ok(Identity::default()),
        }
    }

    fn refuse(&self, asker: &Asker, refusal: Refusal) -> Vec<u8> {
        self.refused(RefuseReason::Auth);
        let status = match refusal {
            Refusal::Unauthorized => 401,
            Refusal::Forbidden => 403,
        };
        asker.answer(status, &[], b"")
    }

    /// Whether this shard keeps its last slots for those that are told so.
    fn is_full(&self) -> bool {
        self.claimed >= connections_in(self.slots.capacity())
    }

    /// 503 while draining or full.
    fn turn_away(&mut self, asker: &Asker) -> Option<Vec<u8>> {
        let (reason, body) = if self.shared.draining.load(Ordering::Relaxed) {
            (RefuseReason::Draining, "The server is draining.\n")
        } else if self.shared.directory.len() >= self.limits.connections_max || self.is_full() {
            let text = "The server has no room for another connection (limits.connections_max).\n";
            (RefuseReason::Full, text)
        } else {
            return None;
        };
        Some(self.unavailable(asker, reason, body))
    }

    /// 503, and when to come again.
    pub(crate) fn unavailable(&self, asker: &Asker, reason: RefuseReason, body: &str) -> Vec<u8> {
        self.come_again(asker, 503, reason, body)
    }

    /// Not now, and when to come again.
    pub(crate) fn come_again(&self, asker: &Asker, status: u16, reason: RefuseReason, body: &str) -> Vec<u8> {
        self.refused(reason);
        // Spread what comes back: the microseconds of our clock are as good as a die.
        let retry = (RETRY_AFTER_S + (self.now_us % u64::from(RETRY_AFTER_S + 1)) as u32).to_string();
        asker.answer(status, &[("Content-Type", "text/plain"), ("Retry-After", &retry)], body.as_bytes())
    }

    // -- the dispatch table (spec 2.1, 2.2) -----------------------------------------------------------------------

    fn dispatch(&mut self, slot: Slot, head: &RequestHead<'_>, raw: &[u8], options: &EndpointOptions) -> Response {
        let asker = Asker::of(head, options);
        if head.method() == "OPTIONS" && asker::origin(head).is_some() {
            return Response::Http(asker.preflight(head));
        }
        let Some(want) = Want::of(head) else { return self.refuse_text(&asker, 405, RefuseReason::Method, "") };
        let identity = match self.authenticate(self.slots.hot(slot).endpoint as usize, head) {
            Ok(identity) => identity,
            Err(refusal) => return Response::Http(self.refuse(&asker, refusal)),
        };
        if want.transport().is_some() && !matches!(head.body_length(), BodyLength::None | BodyLength::Length(0)) {
            return self.refuse_text(&asker, 400, RefuseReason::BadRequest, "A GET of a hub has no body.\n");
        }
        let resumable = options.resumable && head.query_value("id").is_some_and(|id| self.mint.is_resumable(&id));
        let call = Call { head, raw, options, asker, identity, resumable };
        let id = match head.query_value("id").filter(|id| !id.is_empty()) {
            None if want == Want::Upgrade => None,
            None => return self.refuse_text(&call.asker, 400, RefuseReason::BadRequest, NO_ID),
            Some(text) => match self.place(&text, &call.identity) {
                Place::Bound(connection) if connection.shard() != self.shard => {
                    return Response::Move(connection.shard());
                }
                Place::Bound(connection) => return self.call_bound(slot, call, want, connection),
                Place::Free(id) => Some(id),
                Place::Unknown => return self.refuse_text(&call.asker, 404, RefuseReason::UnknownId, UNKNOWN_ID),
            },
        };
        self.call_free(slot, call, want, id)
    }

    /// What the value of `id` stands for. That of a connection stays good as long as the connection does.
    fn place(&self, text: &str, identity: &Identity) -> Place {
        let (now_s, user) = (self.now_s(), identity.user.as_deref());
        let Ok(id) = self.mint.verify(text, now_s, u32::MAX, user) else { return Place::Unknown };
        match self.shared.directory.standing(&id.0) {
            Standing::Connected(connection) => Place::Bound(connection),
            Standing::Spent => Place::Unknown,
            Standing::Unused if self.mint.verify(text, now_s, self.limits.negotiate_ttl_s, user).is_ok() => {
                Place::Free(id)
            }
            Standing::Unused => Place::Unknown,
        }
    }

    /// The id is that of a connection of this shard.
    fn call_bound(&mut self, socket: Slot, call: Call<'_>, want: Want, connection: ConnRef) -> Response {
        let Some(slot) = self.resolve(connection) else {
            return self.refuse_text(&call.asker, 404, RefuseReason::UnknownId, UNKNOWN_ID);
        };
        let transport = self.slots.hot(slot).variation.transport();
        match want {
            Want::Post if transport == Transport::WebSockets => {
                let text = "POST requests are not allowed for WebSocket connections.";
                self.refuse_text(&call.asker, 405, RefuseReason::Method, text)
            }
            Want::Post => Response::Post(PostTo::Connection(connection), call.asker),
            Want::Delete if transport == Transport::LongPolling => {
                self.delete_session(slot);
                Response::Http(call.asker.text(202, ""))
            }
            Want::Delete => self.refuse_text(&call.asker, 400, RefuseReason::Method, NO_DELETE),
            _ if want.transport() != Some(transport) => {
                self.refuse_text(&call.asker, 400, RefuseReason::Transport, OTHER_TRANSPORT)
            }
            Want::Poll => {
                // Each poll brings a token of its own (spec 9.3).
                let due_s = self.due_s(call.options, &call.identity);
                self.expiries.set(slot, due_s);
                Response::Poll(PollOf::Session(connection), call.asker)
            }
            Want::Upgrade if self.may_resume(slot) => match self.switch_protocols(&call) {
                Ok(Upgrade { answer, .. }) => {
                    self.change_carrier(slot, socket);
                    Response::Begin(answer, State::Carrying)
                }
                Err(refused) => refused,
            },
            Want::Upgrade | Want::Events => self.refuse_text(&call.asker, 409, RefuseReason::Transport, ""),
        }
    }

    /// The id is good and nobody's yet, or none was given with an upgrade.
    fn call_free(&mut self, slot: Slot, call: Call<'_>, want: Want, id: Option<ConnectionId>) -> Response {
        let Some(transport) = want.transport() else {
            return match id {
                Some(id) if want == Want::Post => Response::Post(PostTo::Early(id), call.asker),
                _ => self.refuse_text(&call.asker, 400, RefuseReason::Method, NO_DELETE),
            };
        };
        if !call.options.transports.offers(transport) {
            let text = format!("{} transport not supported by this end point type", transport.name());
            return self.refuse_text(&call.asker, 404, RefuseReason::Transport, &text);
        }
        let upgraded = (want == Want::Upgrade).then(|| self.switch_protocols(&call)).transpose();
        let upgraded = match upgraded {
            Ok(answer) => answer,
            Err(refused) => return refused,
        };
        if let Some(refused) = self.turn_away(&call.asker) {
            return Response::Http(refused);
        }
        let tickets = match self.let_in(slot, call.head, call.identity.user.as_deref(), &call.asker) {
            Ok(tickets) => tickets,
            Err(refused) => return Response::Http(refused),
        };
        let due_s = self.due_s(call.options, &call.identity);
        let newcomer = Newcomer {
            id,
            due_s,
            user: call.identity.user,
            request: call.options.keep_request.then(|| call.raw.into()),
            endpoint: self.slots.hot(slot).endpoint,
            tickets,
        };
        if want == Want::Poll {
            return Response::Poll(PollOf::New(newcomer), call.asker);
        }
        if let Some(upgrade) = &upgraded
            && call.resumable
        {
            return if self.begin_carried(slot, newcomer) {
                Response::Begin(upgrade.answer.clone(), State::Carrying)
            } else {
                self.refuse_text(&call.asker, 409, RefuseReason::Transport, "")
            };
        }
        if !self.settle_in(slot, newcomer, transport) {
            return self.refuse_text(&call.asker, 409, RefuseReason::Transport, "");
        }
        self.begin_deflate(slot, upgraded.as_ref().is_some_and(|upgrade| upgrade.deflated));
        let answer = upgraded.map(|upgrade| upgrade.answer).unwrap_or_else(|| {
            let mut head = Vec::with_capacity(256);
            let headers: Vec<(&str, &str)> = call.asker.headers().filter(|(name, _)| *name != "Connection").collect();
            sse::write_head(&mut head, &headers);
            head
        });
        Response::Begin(answer, State::Handshake)
    }

    /// The connection gets its id, and its user. `false`: somebody else was faster with the same id.
    pub(crate) fn settle_in(&mut self, slot: Slot, newcomer: Newcomer, transport: Transport) -> bool {
        let now_s = self.now_s();
        let negotiated = newcomer.id;
        let id = negotiated.unwrap_or_else(|| self.mint.mint(now_s));
        if !self.shared.directory.claim(&id.0, self.reference(slot)) {
            return false;
        }
        self.claimed += 1;
        self.keep_tickets(slot, newcomer.tickets);
        self.counters.handshakes_pending.add(1);
        self.expiries.set(slot, newcomer.due_s);
        let request = newcomer.request.map_or(0, |request| self.requests.insert(request).unwrap_or(0));
        let user = newcomer.user.map_or(0, |user| self.requests.insert(user.into_bytes().into()).unwrap_or(0));
        if let Some(minted_s) = negotiated.and_then(|id| self.mint.minted_s(&id, now_s)) {
            self.shared.pending.connected(minted_s);
        }
        let cold = self.slots.cold_mut(slot);
        (cold.id, cold.request, cold.user) = (id.0, request, user);
        cold.connected_at_s = now_s;
        cold.flags.set(ColdFlags::CLAIMED | ColdFlags::PENDING);
        if negotiated.is_some() {
            cold.flags.set(ColdFlags::NEGOTIATED);
        }
        let hot = self.slots.hot_mut(slot);
        hot.endpoint = newcomer.endpoint;
        // The format is the handshake's to choose.
        hot.variation = Variation::new(Format::Json, transport).unwrap_or_default();
        true
    }

    /// When the identity expires, by the clock that the sweep goes by, if connections end for that here. What the wall
    /// clock does later moves nothing.
    fn due_s(&self, options: &EndpointOptions, identity: &Identity) -> Option<u32> {
        let expires_at = identity.expires_at.filter(|_| options.close_on_expiry)?;
        let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        // A part of a second is still good.
        let left_s = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        u32::try_from(left_s).ok().and_then(|left_s| self.now_s().checked_add(left_s))
    }

    /// The answer to an upgrade that is as it should be, or the refusal.
    fn switch_protocols(&mut self, call: &Call<'_>) -> Result<Upgrade, Response> {
        if let Some(origin) = asker::origin(call.head)
            && !call.options.origins.allow(origin, asker::host(call.head))
        {
            return Err(self.refuse_text(&call.asker, 403, RefuseReason::Origin, ""));
        }
        // What is kept for a resumption is sent again on whatever comes then: it is not compressed.
        let compression = call.options.compression && !call.resumable;
        switch_protocols(call.head, compression).map_err(|error| self.bad_upgrade(&call.asker, error))
    }

    fn bad_upgrade(&mut self, asker: &Asker, error: HttpError) -> Response {
        self.refused(RefuseReason::BadRequest);
        let mut headers = vec![("Content-Type", "text/plain")];
        if error.status() == 426 {
            headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
        }
        Response::Http(asker.answer(error.status(), &headers, format!("{error}\n").as_bytes()))
    }
}

/// What the value of `id` stands for.
enum Place {
    /// A connection.
    Bound(ConnRef),
    /// One that may still come.
    Free(ConnectionId),
    /// Nothing that anybody may know of.
    Unknown,
}

/// A WebSocket begins.
struct Upgrade {
    /// The 101.
    answer: Vec<u8>,
    /// With permessage-deflate.
    deflated: bool,
}

fn switch_protocols(head: &RequestHead<'_>, compression: bool) -> Result<Upgrade, HttpError> {
    let accept = handshake::check_upgrade(head)?;
    let mut answer = Vec::with_capacity(160);
    let agreement = if compression { accept_offer(head) } else { None };
    match agreement {
        Some(agreement) => handshake::write_switching_protocols_deflate(&mut answer, &accept, agreement),
        None => handshake::write_switching_protocols(&mut answer, &accept),
    }
    Ok(Upgrade { answer, deflated: agreement.is_some() })
}
