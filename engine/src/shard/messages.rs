//! From the stream of a client to hub messages, and from there to the hub. Frames, events and bodies do not matter any
//! more (spec 2.3).

use crate::conn::partial::Partial;
use crate::conn::slots::{Flags, State};
use crate::event::CloseReason;
use crate::hub::context::{Calling, Context};
use crate::hub::directory::ConnRef;
use crate::hub::host::{Answer, ClientMessage, HandlerError};
use crate::hub::outgoing::wrap;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use crate::shard::inbound::FRAME_BYTES_MIN;
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::{decode_one, handshake, message_len};
use fanfare_protocol::negotiate::Transport;

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
    pub(super) fn handle_payload(&mut self, slot: Slot, partial: &mut Partial, payload: &[u8]) {
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
}
