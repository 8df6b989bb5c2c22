//! From received bytes to messages: the way of a byte from the ring to the hub.

use crate::buf::RecvPool;
use crate::conn::endpoint::{EchoOptions, Service};
use crate::conn::outbox;
use crate::conn::partial::{Body, BodyUse, Partial};
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::event::CloseReason;
use crate::hub::connect::Response;
use crate::hub::context::{Calling, Context};
use crate::hub::directory::ConnRef;
use crate::hub::host::{Answer, ClientMessage, HandlerError};
use crate::hub::outgoing::wrap;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use crate::limits::{ANSWER_RUNS_MAX, LINGER_BYTES_MAX};
use fanfare_protocol::cursor::{Progress, Sink};
use fanfare_protocol::error::{CloseCode, FrameError, HttpError};
use fanfare_protocol::http::body::{BodyDecoder, BodyPiece};
use fanfare_protocol::http::head::{BodyLength, HeadLimits, RequestHead, parse_request};
use fanfare_protocol::http::response;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::session::Session;
use fanfare_protocol::hub::{decode_one, handshake, message_len};
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::decoder::Event;
use fanfare_protocol::ws::encode::{self, MessageWriter};
use fanfare_protocol::ws::{DataKind, OpCode};

/// Fragments of one echoed message that may be as small as the pieces that came in.
const ECHO_SMALL_FRAMES_MAX: usize = 4096;
/// The fragments after those have at least so many bytes.
const ECHO_GATHERED_BYTES: usize = 64 << 10;
/// What a frame costs its sender beside its payload: empty ones are not free.
const FRAME_BYTES_MIN: usize = 2;

/// What became of a run of hub messages.
enum Flow {
    /// All were taken.
    Done,
    /// The rest, from this offset on, is not a whole message yet.
    Rest(usize),
    /// The connection is ending: the rest does not matter.
    Stop,
}

impl Switchboard {
    /// Bytes have come for `slot`, in a buffer of the pool.
    pub(crate) fn handle_bytes(&mut self, slot: Slot, pool: &mut RecvPool, buffer: u16, len: u32) {
        self.counters.bytes_received_total.add(u64::from(len));
        let bytes = pool.slice_mut(buffer, len);
        if self.tls.has(slot) {
            self.handle_records(slot, bytes);
        } else {
            self.handle_slice(slot, bytes);
        }
        self.pause_if_it_owes_much(slot);
    }

    /// Whoever asks faster than it takes the answers is not read from until it has taken most of them.
    pub(crate) fn pause_if_it_owes_much(&mut self, slot: Slot) {
        let soft = self.limits.outbox_soft_bytes;
        let (hot, runs) = self.slots.outbox(slot);
        let owes_much = hot.owed_bytes as usize > soft || outbox::run_count(hot, runs) > ANSWER_RUNS_MAX;
        // Not an echo: it is asked to take a whole message before its peer reads any of it.
        if owes_much && matches!(hot.state, State::Http | State::Handshake | State::Open | State::Carrying) {
            hot.flags.set(Flags::PAUSED);
        }
    }

    /// Bytes of `slot`, wherever they come from.
    pub(crate) fn handle_slice(&mut self, slot: Slot, bytes: &mut [u8]) {
        match self.slots.hot(slot).state {
            State::Http => self.handle_http(slot, bytes),
            State::Waiting | State::Moving => self.keep_for_later(slot, bytes),
            State::Carrying => self.handle_websocket(slot, bytes),
            State::Handshake | State::Open | State::Echo => {
                let variation = self.slots.hot(slot).variation;
                // Whoever reads events has nothing to say on the same socket.
                if variation.is_deflated() {
                    self.handle_deflated(slot, bytes);
                } else if variation.transport() == Transport::WebSockets {
                    self.handle_websocket(slot, bytes);
                }
            }
            State::Farewell => self.linger(slot, bytes),
            State::Free | State::Closing => {}
        }
    }

    /// The next request has come before the last one was answered.
    fn keep_for_later(&mut self, slot: Slot, bytes: &[u8]) {
        let mut partial = self.take_partial(slot);
        if partial.bytes.len() + bytes.len() > self.limits.head_bytes_max + self.limits.body_bytes_max {
            return self.hang_up(slot, CloseReason::ProtocolError);
        }
        partial.bytes.extend_from_slice(bytes);
        self.keep_partial(slot, partial);
    }

    /// Forgets the hub message that was under way. Whole ones that wait stay.
    pub(crate) fn forget_unfinished(&mut self, slot: Slot) {
        let mut partial = self.take_partial(slot);
        partial.bytes.clear();
        self.keep_partial(slot, partial);
    }

    /// Everything that was read of a socket and not acted on.
    pub(crate) fn take_input(&mut self, slot: Slot) -> Vec<u8> {
        self.take_partial(slot).bytes
    }

    /// Goes on with requests that had to wait for the answer to an earlier one, and with messages that waited for a turn.
    pub(crate) fn run_again(&mut self) {
        for connection in std::mem::take(&mut self.again) {
            let Some(slot) = self.resolve(connection) else { continue };
            match self.slots.hot(slot).state {
                State::Http => self.handle_http(slot, &mut []),
                _ if self.slots.hot(slot).variation.is_deflated() => self.read_unread(slot),
                _ => {}
            }
        }
    }

    pub(crate) fn take_partial(&mut self, slot: Slot) -> Partial {
        let (hot, partials) = self.slots.input(slot);
        partials.take(&mut hot.partial)
    }

    pub(crate) fn keep_partial(&mut self, slot: Slot, mut partial: Partial) {
        let tick = self.tick();
        let (hot, partials) = self.slots.input(slot);
        if matches!(hot.state, State::Free | State::Closing) {
            return;
        }
        if partial.is_unfinished() {
            partial.since.get_or_insert(tick);
        } else {
            partial.since = None;
        }
        if !partials.keep(&mut hot.partial, partial) {
            self.hang_up(slot, CloseReason::Overload);
        }
    }

    /// After our farewell: look for the peer's, throw the rest away.
    pub(crate) fn linger(&mut self, slot: Slot, bytes: &mut [u8]) {
        let cold = self.slots.cold_mut(slot);
        cold.lingered_bytes = cold.lingered_bytes.saturating_add(bytes.len() as u32);
        if cold.lingered_bytes as usize > LINGER_BYTES_MAX {
            return self.hang_up(slot, CloseReason::Lost);
        }
        let failed = self.slots.cold(slot).flags.has(ColdFlags::HALF_CLOSE);
        if failed || self.slots.hot(slot).flags.has(Flags::CLOSE_WHEN_SENT | Flags::PEER_DONE) {
            return;
        }
        let goodbye = if self.slots.hot(slot).variation.is_deflated() {
            self.finds_goodbye(slot, bytes)
        } else {
            let mut partial = self.take_partial(slot);
            let goodbye =
                partial.decoder.handle_bytes(bytes).any(|event| matches!(event, Ok(Event::Close { .. }) | Err(_)));
            self.keep_partial(slot, partial);
            goodbye
        };
        if goodbye {
            self.peer_done(slot);
        }
    }

    /// The peer has said its last word.
    fn peer_done(&mut self, slot: Slot) {
        let hot = self.slots.hot_mut(slot);
        hot.flags.set(Flags::PEER_DONE | Flags::CLOSE_WHEN_SENT);
        if !hot.first.is_empty() || hot.flags.has(Flags::SEND_INFLIGHT) {
            return;
        }
        if self.tls.is_quiet(slot) {
            self.hang_up(slot, CloseReason::Normal);
        } else {
            self.make_dirty(slot);
        }
    }

    /// The peer's side of the socket has ended.
    pub(crate) fn handle_end(&mut self, slot: Slot) {
        match self.slots.hot(slot).state {
            State::Farewell => self.peer_done(slot),
            // It may have asked and finished: what it is owed goes out first.
            State::Http if self.slots.hot(slot).owed_bytes > 0 || self.tls.owes_goodbye(slot) => {
                self.farewell(slot, CloseReason::HttpDone, None, CloseCode::NORMAL);
                self.peer_done(slot);
            }
            State::Http => self.hang_up(slot, CloseReason::HttpDone),
            _ => self.hang_up(slot, CloseReason::Lost),
        }
    }

    // -- HTTP -----------------------------------------------------------------------------------------------------

    fn handle_http(&mut self, slot: Slot, bytes: &mut [u8]) {
        let mut partial = self.take_partial(slot);
        let limits = HeadLimits { head_bytes_max: self.limits.head_bytes_max, ..HeadLimits::default() };
        let fresh = partial.bytes.is_empty() && partial.body.is_none();
        let mut stored = std::mem::take(&mut partial.bytes);
        let input: &mut [u8] = if fresh {
            bytes
        } else {
            stored.extend_from_slice(bytes);
            &mut stored
        };
        let mut at = 0;
        while at < input.len() && self.slots.hot(slot).state == State::Http {
            match self.step_http(slot, &mut partial, &input[at..], &limits) {
                Ok(0) => break,
                Ok(used) => at += used,
                Err(error) => {
                    self.bad_request(slot, error);
                    return;
                }
            }
        }
        match self.slots.hot(slot).state {
            State::Http | State::Waiting | State::Moving => {
                partial.bytes.extend_from_slice(&input[at..]);
                self.keep_partial(slot, partial);
            }
            // What follows the upgrade in the same packet is the client's first frames.
            State::Handshake | State::Echo | State::Carrying => {
                let (_, rest) = input.split_at_mut(at);
                self.keep_partial(slot, partial);
                if !rest.is_empty() {
                    self.handle_slice(slot, rest);
                }
                self.hear_early(slot);
            }
            _ => {}
        }
    }

    /// Takes one head, or one piece of a body, off the input. 0: more input is needed.
    fn step_http(
        &mut self,
        slot: Slot,
        partial: &mut Partial,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<usize, HttpError> {
        if partial.body.is_some() {
            return self.step_body(slot, partial, input);
        }
        if partial.head_end.find(input, limits)?.is_none() {
            return Ok(0);
        }
        partial.head_end = Default::default();
        let Progress::Done(head, used) = parse_request(input, limits)? else { return Ok(0) };
        match self.respond(slot, &head, &input[..used]) {
            Response::Begin(answer, state) => {
                let tick = self.tick();
                let hot = self.slots.hot_mut(slot);
                hot.state = state;
                hot.session = Session::new(tick);
                if self.tell_bytes(slot, &answer).is_err() {
                    self.hang_up(slot, CloseReason::Overload);
                } else if state == State::Carrying {
                    self.replay(slot);
                }
            }
            Response::Later => {
                let has_body = !matches!(head.body_length(), BodyLength::None | BodyLength::Length(0));
                self.await_http_reply(slot, &head, has_body);
            }
            Response::Http(answer) => {
                let (keep_alive, bytes_max) = (head.keep_alive(), self.limits.body_bytes_max);
                self.expect_body(slot, partial, &head, bytes_max, BodyUse::Discard { answer, keep_alive });
            }
            Response::Post(to, asker) => {
                let bytes_max = self.options(slot).map_or(0, |options| options.post_bytes_max);
                let bytes_max = if bytes_max == 0 { usize::MAX } else { bytes_max };
                self.posting.insert(slot, (to, asker));
                self.expect_body(slot, partial, &head, bytes_max, BodyUse::Keep(Vec::new()));
            }
            Response::Poll(of, asker) => self.take_poll(slot, of, asker),
            Response::Move(to) => {
                self.move_to(slot, to);
                // The request goes along, from its first byte.
                return Ok(0);
            }
        }
        Ok(used)
    }

    /// The head is understood: what is left of the request is its body.
    fn expect_body(
        &mut self,
        slot: Slot,
        partial: &mut Partial,
        head: &RequestHead<'_>,
        bytes_max: usize,
        use_of: BodyUse,
    ) {
        let length = head.body_length();
        if matches!(length, BodyLength::None | BodyLength::Length(0)) {
            return self.end_body(slot, use_of);
        }
        if head.header_has_token("expect", "100-continue") {
            let _ = self.tell_bytes(slot, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        partial.body = Some(Box::new(Body { decoder: BodyDecoder::new(length, bytes_max), use_of }));
    }

    /// One piece of a body.
    fn step_body(&mut self, slot: Slot, partial: &mut Partial, input: &[u8]) -> Result<usize, HttpError> {
        let Some(body) = &mut partial.body else { return Ok(0) };
        let BodyPiece { consumed, data, done } = body.decoder.handle_bytes(input)?;
        if let BodyUse::Keep(bytes) = &mut body.use_of {
            bytes.extend_from_slice(data);
        }
        if done && let Some(body) = partial.body.take() {
            self.end_body(slot, body.use_of);
        }
        Ok(consumed)
    }

    fn end_body(&mut self, slot: Slot, use_of: BodyUse) {
        match use_of {
            BodyUse::Discard { answer, keep_alive } => self.answer_request(slot, &answer, keep_alive),
            BodyUse::Keep(bytes) => {
                if let Some((to, asker)) = self.posting.remove(&slot) {
                    self.take_post(slot, to, &bytes, asker);
                }
            }
        }
    }

    /// Answers the request on `slot`.
    pub(crate) fn answer_request(&mut self, slot: Slot, answer: &[u8], keep_alive: bool) {
        if self.tell_bytes(slot, answer).is_err() {
            return self.hang_up(slot, CloseReason::Overload);
        }
        self.end_request(slot, keep_alive);
    }

    /// The request on `slot` is answered: the next one may come, or none.
    pub(crate) fn end_request(&mut self, slot: Slot, keep_alive: bool) {
        if !keep_alive {
            return self.farewell(slot, CloseReason::HttpDone, None, CloseCode::NORMAL);
        }
        let (tick, reference) = (self.tick(), self.reference(slot));
        let hot = self.slots.hot_mut(slot);
        hot.session = Session::new(tick);
        if hot.partial != 0 {
            self.again.push(reference);
        }
    }

    fn bad_request(&mut self, slot: Slot, error: HttpError) {
        self.counters.refused_total[crate::event::RefuseReason::BadRequest as usize].add(1);
        // Of a POST it is known who asks: a browser shows the answer only to whom it is for.
        let asker = self.posting.remove(&slot).map(|(_, asker)| asker.closing()).unwrap_or_default();
        let answer = asker.text(error.status(), &format!("{error}\n"));
        let _ = self.tell_bytes(slot, &answer);
        self.fail(slot, CloseReason::HttpDone, CloseCode::NORMAL);
    }

    /// No whole request in time.
    pub(crate) fn http_timeout(&mut self, slot: Slot) {
        if self.tls.is_handshaking(slot) {
            return self.hang_up(slot, CloseReason::HttpTimeout);
        }
        let begun = self.slots.hot(slot).partial != 0;
        if !begun {
            // A quiet keep-alive connection: nothing was asked, so nothing is answered.
            return self.farewell(slot, CloseReason::HttpTimeout, None, CloseCode::NORMAL);
        }
        let mut answer = Vec::new();
        response::write(&mut answer, 408, &[("Content-Type", "text/plain"), ("Connection", "close")], b"");
        let _ = self.tell_bytes(slot, &answer);
        self.farewell(slot, CloseReason::HttpTimeout, None, CloseCode::NORMAL);
    }

    // -- WebSocket ------------------------------------------------------------------------------------------------

    fn handle_websocket(&mut self, slot: Slot, bytes: &mut [u8]) {
        let mut partial = self.take_partial(slot);
        // The decoder is moved out so that the rest of the partial can be lent beside it.
        let mut decoder = partial.decoder.clone();
        for event in decoder.handle_bytes(bytes) {
            if !self.take_event(slot, &mut partial, event) {
                break;
            }
        }
        partial.decoder = decoder;
        if self.slots.hot(slot).state == State::Farewell {
            // The farewell looks for the peer's close frame with this decoder, from here on.
            partial = Partial { decoder: partial.decoder, ..Partial::default() };
        }
        self.keep_partial(slot, partial);
    }

    /// Acts on one event of the peer's frames. `false`: the connection is ending, and no other event matters.
    #[inline]
    pub(crate) fn take_event(
        &mut self,
        slot: Slot,
        partial: &mut Partial,
        event: Result<Event<'_>, FrameError>,
    ) -> bool {
        match event {
            Ok(Event::Data { kind, payload, first, fin }) => {
                if self.slots.hot(slot).state == State::Carrying {
                    self.hear_carrier(slot, payload);
                } else if let Service::Echo(options) = self.endpoints[self.slots.hot(slot).endpoint as usize].service {
                    self.echo(slot, partial, options, (kind, first, fin), payload);
                } else {
                    self.handle_payload(slot, partial, payload);
                }
            }
            Ok(Event::Ping(payload)) => {
                self.pong(slot, payload.as_slice());
                self.charge_uplink(slot, 1, payload.as_slice().len() + FRAME_BYTES_MIN);
                self.keep_pace(slot);
                self.touch_echo(slot);
            }
            Ok(Event::Pong(_)) => {}
            Ok(Event::Close { code, .. }) => {
                self.returned_close(slot, code);
                return false;
            }
            Err(error) => {
                let code = error.close_code();
                let too_large = code == CloseCode::TOO_BIG;
                let reason = if too_large { CloseReason::MessageTooLarge } else { CloseReason::ProtocolError };
                self.lose_carrier(slot, reason);
                self.fail(slot, reason, code);
                return false;
            }
        }
        matches!(self.slots.hot(slot).state, State::Handshake | State::Open | State::Echo | State::Carrying)
    }

    fn pong(&mut self, slot: Slot, payload: &[u8]) {
        let mut frame = Vec::with_capacity(2 + payload.len());
        encode::write_control(&mut frame, OpCode::Pong, payload);
        if self.tell_bytes(slot, &frame).is_err() {
            self.hang_up(slot, CloseReason::Overload);
        }
    }

    /// The peer's close frame before ours: return its code, then end (RFC 6455 5.5.1).
    fn returned_close(&mut self, slot: Slot, code: Option<CloseCode>) {
        let code = code.unwrap_or(CloseCode::NORMAL);
        self.lose_carrier(slot, CloseReason::Normal);
        self.farewell(slot, CloseReason::Normal, None, code);
        self.peer_done(slot);
    }

    fn echo(
        &mut self,
        slot: Slot,
        partial: &mut Partial,
        options: EchoOptions,
        (kind, first, fin): (DataKind, bool, bool),
        payload: &[u8],
    ) {
        let mut echo = if first { Box::default() } else { partial.echo.take().unwrap_or_default() };
        echo.bytes_received += payload.len();
        if options.message_bytes_max != 0 && echo.bytes_received > options.message_bytes_max {
            return self.fail(slot, CloseReason::MessageTooLarge, CloseCode::TOO_BIG);
        }
        let mut frames = Vec::with_capacity(payload.len() + 16);
        if first && fin {
            let deflated = self.slots.hot(slot).variation.is_deflated();
            let compressed = if deflated { self.compressor().compress_bytes(payload) } else { None };
            match compressed {
                Some(payload) => MessageWriter::new_deflated(&mut frames, kind, payload.len()).put(payload),
                None => MessageWriter::new(&mut frames, kind, payload.len()).put(payload),
            }
        } else {
            // Pieces go back as they come, until they are so many that clients who bound the fragments of a message
            // would give up: from then on they are gathered.
            echo.bytes.extend_from_slice(payload);
            let gathered = echo.frames_sent < ECHO_SMALL_FRAMES_MAX || echo.bytes.len() >= ECHO_GATHERED_BYTES;
            if fin || gathered {
                MessageWriter::fragment(&mut frames, kind, echo.frames_sent == 0, fin, &echo.bytes);
                echo.bytes.clear();
                echo.frames_sent += 1;
            }
            partial.echo = (!fin).then_some(echo);
        }
        if fin {
            partial.since = None;
        }
        self.touch_echo(slot);
        if self.tell_bytes(slot, &frames).is_err() {
            self.hang_up(slot, CloseReason::Overload);
        }
    }

    /// An echo is being used: its idle time begins anew.
    fn touch_echo(&mut self, slot: Slot) {
        let tick = self.tick();
        let hot = self.slots.hot_mut(slot);
        if hot.state == State::Echo {
            hot.session = Session::new(tick);
        }
    }

    // -- hub messages ---------------------------------------------------------------------------------------------

    /// A piece of the stream of a client that has no WebSocket.
    pub(crate) fn handle_stream(&mut self, slot: Slot, bytes: &[u8]) {
        let mut partial = self.take_partial(slot);
        self.handle_payload(slot, &mut partial, bytes);
        if self.slots.hot(slot).state == State::Farewell {
            partial = Partial::default();
        }
        self.keep_partial(slot, partial);
    }

    /// A piece of the client's stream of hub messages; frames do not matter (spec 2.3).
    fn handle_payload(&mut self, slot: Slot, partial: &mut Partial, payload: &[u8]) {
        self.charge_uplink(slot, 0, payload.len() + FRAME_BYTES_MIN);
        self.take_payload(slot, partial, payload);
        self.keep_pace(slot);
    }

    fn take_payload(&mut self, slot: Slot, partial: &mut Partial, payload: &[u8]) {
        if partial.bytes.is_empty() {
            if let Flow::Rest(at) = self.handle_messages(slot, partial, payload, 0) {
                partial.bytes.extend_from_slice(&payload[at..]);
            }
            return;
        }
        let mut stored = std::mem::take(&mut partial.bytes);
        let searched = stored.len();
        stored.extend_from_slice(payload);
        match self.handle_messages(slot, partial, &stored, searched) {
            Flow::Rest(at) => {
                stored.drain(..at);
                partial.bytes = stored;
            }
            Flow::Done => {
                stored.clear();
                partial.bytes = stored;
            }
            Flow::Stop => {}
        }
    }

    /// The first `searched` bytes are known not to end the first message.
    fn handle_messages(&mut self, slot: Slot, partial: &mut Partial, bytes: &[u8], mut searched: usize) -> Flow {
        let mut at = 0;
        while at < bytes.len() {
            // Of the first one only, be it the handshake.
            let searched = std::mem::take(&mut searched);
            let used = match self.slots.hot(slot).state {
                State::Handshake => self.handle_handshake(slot, &bytes[at..]),
                State::Open => self.handle_message(slot, partial, &bytes[at..], (searched, true)),
                _ => return Flow::Stop,
            };
            match used {
                Some(0) => return Flow::Rest(at),
                Some(used) => {
                    at += used;
                    partial.since = None;
                }
                None => return Flow::Stop,
            }
        }
        Flow::Done
    }

    /// The first bytes of a hub connection (spec 3). `Some(0)`: not whole yet. `None`: refused.
    fn handle_handshake(&mut self, slot: Slot, bytes: &[u8]) -> Option<usize> {
        let bytes_max = self.options(slot).map_or(0, |options| options.message_bytes_max);
        let transport = self.slots.hot(slot).variation.transport();
        let parsed = handshake::parse(bytes, bytes_max).and_then(|progress| match progress {
            Progress::Done(request, used) => {
                let resumes = request.version >= handshake::VERSION_MAX;
                request.check(transport.accepts_binary()).map(|format| Some((format, resumes, used)))
            }
            Progress::NeedMore => Ok(None),
        });
        match parsed {
            Ok(None) => Some(0),
            Ok(Some((format, resumes, used))) => {
                let hot = self.slots.hot_mut(slot);
                hot.variation = hot.variation.in_format(format).unwrap_or_default();
                let mut ok = Vec::with_capacity(8);
                handshake::write_ok(&mut ok);
                self.tell_body(slot, &ok);
                if resumes && transport == Transport::WebSockets {
                    self.keep_window(slot);
                }
                if self.slots.hot(slot).state == State::Handshake {
                    self.admit(slot);
                }
                Some(used)
            }
            Err(error) => {
                let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
                self.refuse_handshake(slot, &error.text(detailed), CloseReason::HandshakeError);
                None
            }
        }
    }

    /// Answers a handshake with an error and ends the connection (spec 3.3).
    pub(crate) fn refuse_handshake(&mut self, slot: Slot, text: &str, reason: CloseReason) {
        let mut body = Vec::with_capacity(text.len() + 16);
        handshake::write_error(&mut body, text);
        self.tell_body(slot, &body);
        self.farewell(slot, reason, None, CloseCode::NORMAL);
    }

    /// One message of bytes that are encoded already, wrapped as the connection's transport wants it.
    fn tell_body(&mut self, slot: Slot, body: &[u8]) {
        let wrapped = wrap(self.slots.hot(slot).variation, body);
        if self.tell_bytes(slot, &wrapped).is_err() {
            self.hang_up(slot, CloseReason::Overload);
        }
    }

    /// One hub message off the front of `bytes`, `fresh` unless it had to wait before. `Some(0)`: not whole yet. `None`: the connection ends.
    fn handle_message(
        &mut self,
        slot: Slot,
        partial: &mut Partial,
        bytes: &[u8],
        (searched, fresh): (usize, bool),
    ) -> Option<usize> {
        let format = self.format(slot);
        let bytes_max = self.options(slot).map_or(0, |options| options.message_bytes_max);
        let length = message_len(format, bytes, searched, bytes_max);
        match length.and_then(|length| length.map(|n| decode_one(format, &bytes[..n]).map(|m| (m, n))).transpose()) {
            Ok(None) => Some(0),
            Ok(Some((message, used))) => {
                let tick = self.tick();
                let is_ping = matches!(message, Message::Ping);
                self.slots.hot_mut(slot).session.handle_message(tick, is_ping);
                if fresh {
                    self.charge_uplink(slot, 1, 0);
                }
                if !fresh || self.is_new(slot, &message) {
                    self.take_message(slot, partial, &message, &bytes[..used]);
                }
                Some(used)
            }
            Err(error) => {
                let reason =
                    if error.is_too_large() { CloseReason::MessageTooLarge } else { CloseReason::ProtocolError };
                self.offend(slot, reason, &error.to_string());
                None
            }
        }
    }

    fn take_message(&mut self, slot: Slot, partial: &mut Partial, message: &Message<'_>, raw: &[u8]) {
        match message {
            Message::Ping => self.answer_ping(slot),
            Message::Unknown { .. } | Message::Ack { .. } | Message::Sequence { .. } => {}
            Message::Close { .. } => {
                self.farewell(slot, CloseReason::Normal, Some((None, false)), CloseCode::NORMAL);
            }
            // Whoever sends streams with it waits for nobody (spec 6.3).
            Message::Invocation { stream_ids, .. }
                if stream_ids.is_empty() && (self.must_wait(slot) || !partial.held.is_empty()) =>
            {
                return self.hold(slot, partial, raw);
            }
            _ if self.handle_stream_message(slot, message) => {}
            _ => self.dispatch_to_host(slot, message, raw),
        }
        self.counters.messages_received_total.add(1);
    }

    /// Whether as many invocations of this client run as may run, or others wait already.
    fn must_wait(&self, slot: Slot) -> bool {
        self.slots.hot(slot).flags.has(Flags::BUSY)
    }

    /// Keeps an invocation for later. A client that has too much waiting is not read from.
    fn hold(&mut self, slot: Slot, partial: &mut Partial, raw: &[u8]) {
        partial.held.extend_from_slice(raw);
        if partial.held.len() > self.limits.held_bytes_max {
            self.slots.hot_mut(slot).flags.set(Flags::PAUSED);
        }
    }

    fn dispatch_to_host(&mut self, slot: Slot, message: &Message<'_>, raw: &[u8]) {
        let hub = self.hub_of(self.slots.hot(slot).endpoint);
        let host = self.hosts[hub.0 as usize].clone();
        let calling = Calling::of(message, host.serializes());
        let (id, target) = calling.map_or((None, ""), |calling| (calling.id, calling.target));
        self.counters.invocations_total.add(u64::from(!target.is_empty()));
        let format = self.format(slot);
        let mut cx = Context::for_message(self, slot, calling);
        let answer = host.message(&mut cx, &ClientMessage { raw, format, message });
        let taken = *cx.taken();
        if !self.is_member(slot) {
            return;
        }
        match answer {
            Answer::Error(_) | Answer::Unknown if taken.is_deferred() => {
                if let Some(calling) = calling {
                    self.settle_failed(slot, calling, taken, &answer);
                }
            }
            _ if taken.is_deferred() => {}
            Answer::Later if target.is_empty() || !host.serializes() => {}
            Answer::Later => {
                let error = HandlerError::failed("InvalidOperationException", "The method gave no answer.");
                self.answer(slot, id, target, &Answer::Error(error));
            }
            answer => self.answer(slot, id, target, &answer),
        }
        if !self.is_owed(slot, taken) {
            let connection = self.reference(slot);
            self.drop_uploads(connection, taken.uploads);
        }
    }

    /// An invocation goes on outside its dispatch.
    pub(crate) fn invocation_begun(&mut self, slot: Slot) {
        let running_max = self.options(slot).map_or(1, |options| options.parallel_invocations_max.max(1));
        let cold = self.slots.cold_mut(slot);
        cold.running = cold.running.saturating_add(1);
        let full = cold.running >= running_max;
        let hot = self.slots.hot_mut(slot);
        hot.session.pause_client_timeout();
        if full {
            hot.flags.set(Flags::BUSY);
        }
    }

    /// Starts what was held while an earlier invocation ran.
    pub(crate) fn run_unheld(&mut self) {
        for connection in std::mem::take(&mut self.unheld) {
            if let Some(slot) = self.resolve(connection) {
                self.run_held(slot, connection);
            }
        }
    }

    fn run_held(&mut self, slot: Slot, connection: ConnRef) {
        if self.slots.hot(slot).state != State::Open || self.slots.hot(slot).partial == 0 {
            self.unpause(slot);
            return;
        }
        let mut partial = self.take_partial(slot);
        let held = std::mem::take(&mut partial.held);
        let mut at = 0;
        while at < held.len() && !self.must_wait(slot) && self.slots.hot(slot).state == State::Open {
            match self.handle_message(slot, &mut partial, &held[at..], (0, false)) {
                Some(used) if used > 0 => at += used,
                _ => break,
            }
        }
        if self.resolve(connection).is_none() {
            return;
        }
        partial.held.splice(0..0, held[at..].iter().copied());
        let short = partial.held.len() <= self.limits.held_bytes_max / 2;
        self.keep_partial(slot, partial);
        if short {
            self.unpause(slot);
        }
    }

    /// Whether neither what it owes nor what it has waiting speaks against reading from a connection.
    pub(crate) fn may_be_read(&self, slot: Slot) -> bool {
        let hot = self.slots.hot(slot);
        let runs = outbox::run_count(hot, &self.slots.runs);
        // What a session is owed waits for its next poll, and keeps nobody from being heard.
        let owes_little = slot.is_session()
            || hot.owed_bytes as usize <= self.limits.outbox_soft_bytes / 2 && runs <= ANSWER_RUNS_MAX / 2;
        let held = self.slots.partials.get(hot.partial).map_or(0, |partial| partial.held.len());
        owes_little && held <= self.limits.held_bytes_max / 2
    }

    /// Whether anything speaks against reading from a connection.
    pub(crate) fn is_held_back(&mut self, slot: Slot) -> bool {
        !self.may_be_read(slot) || self.uploads_hold_back(slot) || self.is_over_uplink(slot)
    }

    /// Reads from a connection again, if nothing else speaks against it.
    pub(crate) fn unpause(&mut self, slot: Slot) {
        let hot = self.slots.hot(slot);
        // One that moves is read by the other shard.
        let paused = hot.flags.has(Flags::PAUSED) && hot.state != State::Moving;
        if !paused || self.is_held_back(slot) || self.want_unread(slot) {
            return;
        }
        let tick = self.tick();
        let hot = self.slots.hot_mut(slot);
        hot.flags.clear(Flags::PAUSED);
        // It could not be heard until now, and is not to blame for its silence.
        hot.session.handle_message(tick, false);
        self.want_read(slot);
        self.release_posts(self.reference(slot));
        self.hear_again(slot);
    }
}
