//! A request on a hub's path: negotiate, the dispatch table, the way in (spec 1, 2.1, 2.2).

use crate::conn::endpoint::{ConnectRequest, EndpointOptions, HttpAnswer, HttpRequest, Identity, Refusal, Service};
use crate::conn::slots::{ColdFlags, State};
use crate::event::RefuseReason;
use crate::hub::directory::Standing;
use crate::hub::switchboard::Switchboard;
use crate::ids::ConnectionId;
use crate::io::Slot;
use crate::limits::connections_in;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::head::RequestHead;
use fanfare_protocol::http::response;
use fanfare_protocol::negotiate::{self, Transport};
use fanfare_protocol::ws::handshake;
use std::sync::atomic::Ordering;

/// What a request comes to.
pub(crate) enum Response {
    /// An ordinary answer.
    Http(Vec<u8>),
    /// An answer that comes later.
    Later,
    /// The connection becomes a WebSocket in this state, after these bytes.
    Upgrade(Vec<u8>, State),
}

const NO_ID: &str = "Connection ID required";
const UNKNOWN_ID: &str = "No Connection with that ID";
/// Seconds after which a client that was turned away for lack of room should try again, plus up to as many more.
const RETRY_AFTER_S: u32 = 2;

impl Switchboard {
    /// Answers the request whose head is complete. `raw` are the bytes of the head.
    pub(crate) fn respond(&mut self, slot: Slot, head: &RequestHead<'_>, raw: &[u8]) -> Response {
        let endpoints = self.endpoints.clone();
        let path = head.path();
        if let Some(index) = endpoints.iter().position(|endpoint| endpoint.path == path) {
            self.slots.hot_mut(slot).endpoint = index as u16;
            return match &endpoints[index].service {
                Service::Echo(_) => match self.turn_away(head) {
                    Some(refused) => Response::Http(refused),
                    None => self.upgrade(slot, head, State::Echo),
                },
                Service::Hub { options, .. } => self.dispatch(slot, head, raw, options),
            };
        }
        let hub_path = path.strip_suffix("/negotiate").map(|hub| hub.strip_suffix('/').unwrap_or(hub));
        if let Some(index) = hub_path.and_then(|path| endpoints.iter().position(|e| e.path == path))
            && let Service::Hub { options, .. } = &endpoints[index].service
        {
            return Response::Http(self.negotiate(index, head, options));
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
        let mut headers: Vec<(&str, &str)> = answer.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Response::Http(self.http(head, answer.status, &mut headers, &answer.body))
    }

    fn refused(&self, reason: RefuseReason) {
        self.counters.refused_total[reason as usize].add(1);
    }

    /// An ordinary answer, with what the connection's fate needs.
    fn http(&self, head: &RequestHead<'_>, status: u16, headers: &mut Vec<(&str, &str)>, body: &[u8]) -> Vec<u8> {
        if !head.keep_alive() {
            headers.push(("Connection", "close"));
        }
        let mut out = Vec::with_capacity(256 + body.len());
        response::write(&mut out, status, headers, body);
        if head.method() == "HEAD" {
            // The head says how long the body would be (RFC 9110 9.3.2).
            out.truncate(out.len() - body.len());
        }
        out
    }

    fn text(&self, head: &RequestHead<'_>, status: u16, reason: RefuseReason, body: &str) -> Response {
        self.refused(reason);
        Response::Http(self.http(head, status, &mut vec![("Content-Type", "text/plain")], body.as_bytes()))
    }

    // -- negotiate (spec 1) ---------------------------------------------------------------------------------------

    fn negotiate(&mut self, endpoint: usize, head: &RequestHead<'_>, options: &EndpointOptions) -> Vec<u8> {
        if head.method() != "POST" {
            self.refused(RefuseReason::Method);
            return self.http(head, 405, &mut vec![("Content-Type", "text/plain"), ("Allow", "POST")], b"");
        }
        let identity = match self.authenticate(endpoint, head) {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse(head, refusal),
        };
        if let Some(refused) = self.turn_away(head) {
            return refused;
        }
        let body = self.negotiate_body(head, options, &identity);
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(options.negotiate_headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        self.http(head, 200, &mut headers, &body)
    }

    fn negotiate_body(&mut self, head: &RequestHead<'_>, options: &EndpointOptions, identity: &Identity) -> Vec<u8> {
        let mut body = Vec::with_capacity(320);
        match negotiate::parse_query(head.query()) {
            Err(error) => negotiate::write_error(&mut body, &error.to_string()),
            Ok(request) => {
                let now_s = self.now_s();
                let id = if request.version == 0 { self.mint.mint_bearer(now_s) } else { self.mint.mint(now_s) };
                self.shared.pending.negotiated(now_s);
                let token = self.mint.token(&id, now_s, identity.user.as_deref());
                let transports: &[Transport] =
                    if options.transports.websockets { &[Transport::WebSockets] } else { &[] };
                negotiate::write_response(&mut body, request.version, &id.to_string(), &token, transports, false);
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

    fn refuse(&self, head: &RequestHead<'_>, refusal: Refusal) -> Vec<u8> {
        self.refused(RefuseReason::Auth);
        let status = match refusal {
            Refusal::Unauthorized => 401,
            Refusal::Forbidden => 403,
        };
        self.http(head, status, &mut Vec::new(), b"")
    }

    /// Whether this shard keeps its last slots for those that are told so.
    fn is_full(&self) -> bool {
        self.claimed >= connections_in(self.slots.capacity())
    }

    /// 503 while draining or full.
    fn turn_away(&mut self, head: &RequestHead<'_>) -> Option<Vec<u8>> {
        let reason = if self.shared.draining.load(Ordering::Relaxed) {
            RefuseReason::Draining
        } else if self.shared.directory.len() >= self.limits.connections_max || self.is_full() {
            RefuseReason::Full
        } else {
            return None;
        };
        self.refused(reason);
        // Spread what comes back: the microseconds of our clock are as good as a die.
        let retry = (RETRY_AFTER_S + (self.now_us % u64::from(RETRY_AFTER_S + 1)) as u32).to_string();
        let body: &[u8] = match reason {
            RefuseReason::Draining => b"The server is draining.\n",
            _ => b"The server has no room for another connection (limits.connections_max).\n",
        };
        Some(self.http(head, 503, &mut vec![("Content-Type", "text/plain"), ("Retry-After", &retry)], body))
    }

    // -- the dispatch table (spec 2.1, 2.2) -----------------------------------------------------------------------

    fn dispatch(&mut self, slot: Slot, head: &RequestHead<'_>, raw: &[u8], options: &EndpointOptions) -> Response {
        let method = head.method();
        if !matches!(method, "GET" | "POST" | "DELETE") {
            return self.text(head, 405, RefuseReason::Method, "");
        }
        let identity = match self.authenticate(self.slots.hot(slot).endpoint as usize, head) {
            Ok(identity) => identity,
            Err(refusal) => return Response::Http(self.refuse(head, refusal)),
        };
        let upgrade = method == "GET" && handshake::is_upgrade(head) && !wants_events(head);
        let given = head.query_value("id").filter(|id| !id.is_empty());
        let id = match given {
            None if upgrade => None,
            None => return self.text(head, 400, RefuseReason::BadRequest, NO_ID),
            Some(text) => {
                match self.mint.verify(&text, self.now_s(), self.limits.negotiate_ttl_s, identity.user.as_deref()) {
                    Ok(id) => Some(id),
                    Err(_) if self.find_connection_by_bearer(&text).is_some() => return self.bound(head, upgrade),
                    Err(_) => return self.text(head, 404, RefuseReason::UnknownId, UNKNOWN_ID),
                }
            }
        };
        match id.map_or(Standing::Unused, |id| self.shared.directory.standing(&id.0)) {
            Standing::Unused => {}
            Standing::Connected(_) => return self.bound(head, upgrade),
            Standing::Spent => return self.text(head, 404, RefuseReason::UnknownId, UNKNOWN_ID),
        }
        match method {
            "GET" if upgrade => self.enter(slot, head, raw, options, id, identity),
            // Bytes that were sent ahead would wait for a transport that this endpoint does not have.
            "POST" => self.text(head, 404, RefuseReason::UnknownId, UNKNOWN_ID),
            "DELETE" => {
                let text = "Cannot terminate this connection using the DELETE endpoint.";
                self.text(head, 400, RefuseReason::Method, text)
            }
            _ if wants_events(head) => {
                let text = "ServerSentEvents transport not supported by this end point type";
                self.text(head, 404, RefuseReason::Transport, text)
            }
            _ => self.text(
                head,
                404,
                RefuseReason::Transport,
                "LongPolling transport not supported by this end point type",
            ),
        }
    }

    /// A connected id whose token has expired since: the answers for a bound connection, not for an unknown one.
    fn find_connection_by_bearer(&self, text: &str) -> Option<ConnectionId> {
        let id = self.mint.verify(text, self.now_s(), u32::MAX, None).ok()?;
        self.shared.directory.find(&id.0).map(|_| id)
    }

    /// The id is that of an open WebSocket connection.
    fn bound(&mut self, head: &RequestHead<'_>, upgrade: bool) -> Response {
        match head.method() {
            "POST" => {
                let text = "POST requests are not allowed for WebSocket connections.";
                self.text(head, 405, RefuseReason::Method, text)
            }
            "DELETE" => {
                let text = "Cannot terminate this connection using the DELETE endpoint.";
                self.text(head, 400, RefuseReason::Method, text)
            }
            _ if upgrade => self.text(head, 409, RefuseReason::Transport, ""),
            _ => self.text(head, 400, RefuseReason::Transport, "Cannot change transports mid-connection"),
        }
    }

    /// A WebSocket upgrade on a hub's path: the connection gets its id, and its user.
    fn enter(
        &mut self,
        slot: Slot,
        head: &RequestHead<'_>,
        raw: &[u8],
        options: &EndpointOptions,
        id: Option<ConnectionId>,
        identity: Identity,
    ) -> Response {
        if !options.transports.websockets {
            let text = "WebSockets transport not supported by this end point type";
            return self.text(head, 404, RefuseReason::Transport, text);
        }
        if let Err(error) = handshake::check_upgrade(head) {
            return self.bad_upgrade(head, error);
        }
        if let Some(refused) = self.turn_away(head) {
            return Response::Http(refused);
        }
        let now_s = self.now_s();
        let negotiated = id;
        let id = id.unwrap_or_else(|| self.mint.mint(now_s));
        if !self.shared.directory.claim(&id.0, self.reference(slot)) {
            return self.text(head, 409, RefuseReason::Transport, "");
        }
        self.claimed += 1;
        let request = if options.keep_request { self.requests.insert(raw.into()).unwrap_or(0) } else { 0 };
        let user = identity.user.map_or(0, |user| self.requests.insert(user.into_bytes().into()).unwrap_or(0));
        if let Some(minted_s) = negotiated.and_then(|id| self.mint.minted_s(&id, now_s)) {
            self.shared.pending.connected(minted_s);
        }
        let cold = self.slots.cold_mut(slot);
        (cold.id, cold.request, cold.user) = (id.0, request, user);
        cold.connected_at_s = now_s;
        cold.flags.set(ColdFlags::CLAIMED);
        if negotiated.is_some() {
            cold.flags.set(ColdFlags::NEGOTIATED);
        }
        self.upgrade(slot, head, State::Handshake)
    }

    fn upgrade(&mut self, _slot: Slot, head: &RequestHead<'_>, state: State) -> Response {
        match handshake::check_upgrade(head) {
            Ok(accept) => {
                let mut out = Vec::with_capacity(160);
                handshake::write_switching_protocols(&mut out, &accept);
                Response::Upgrade(out, state)
            }
            Err(error) => self.bad_upgrade(head, error),
        }
    }

    fn bad_upgrade(&mut self, head: &RequestHead<'_>, error: HttpError) -> Response {
        self.refused(RefuseReason::BadRequest);
        let mut headers = vec![("Content-Type", "text/plain")];
        if error.status() == 426 {
            headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
        }
        Response::Http(self.http(head, error.status(), &mut headers, format!("{error}\n").as_bytes()))
    }
}

/// Whether the request asks for server-sent events (spec 2.1: the media type among others, without parameters).
fn wants_events(head: &RequestHead<'_>) -> bool {
    head.header_has_token("accept", "text/event-stream")
}
