//! From received bytes to HTTP requests: heads, bodies, and what becomes of a socket when one is answered.

use crate::conn::partial::{Body, BodyUse, Partial};
use crate::conn::slots::State;
use crate::event::CloseReason;
use crate::hub::connect::Response;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::{CloseCode, HttpError};
use fanfare_protocol::http::body::{BodyDecoder, BodyPiece};
use fanfare_protocol::http::head::{BodyLength, HeadLimits, RequestHead, parse_request};
use fanfare_protocol::http::response;
use fanfare_protocol::hub::session::Session;

impl Switchboard {
    pub(super) fn handle_http(&mut self, slot: Slot, bytes: &mut [u8]) {
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
}
