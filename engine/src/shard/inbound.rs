//! From received bytes to messages: the way of a byte from the ring to the hub.

use crate::buf::RecvPool;
use crate::conn::endpoint::{EchoOptions, Service};
use crate::conn::outbox;
use crate::conn::partial::Partial;
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::event::CloseReason;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use crate::limits::{ANSWER_RUNS_MAX, LINGER_BYTES_MAX};
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::error::{CloseCode, FrameError};
use fanfare_protocol::hub::session::Session;
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::decoder::Event;
use fanfare_protocol::ws::encode::{self, MessageWriter};
use fanfare_protocol::ws::{DataKind, OpCode};

/// Fragments of one echoed message that may be as small as the pieces that came in.
const ECHO_SMALL_FRAMES_MAX: usize = 4096;
/// The fragments after those have at least so many bytes.
const ECHO_GATHERED_BYTES: usize = 64 << 10;
/// What a frame costs its sender beside its payload: empty ones are not free.
pub(super) const FRAME_BYTES_MIN: usize = 2;

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
