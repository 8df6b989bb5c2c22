//! Receivers without a WebSocket (spec 2.4, 2.5): from a token to an open connection, and from one poll to the next.
//!
//! ```text
//!  negotiate -> GET events -> its head      -> the handshake is posted -> its answer is the first event
//!  negotiate -> GET (poll) -> empty answer  -> the handshake is posted -> its answer answers the second poll
//! ```
//! All but the posts goes over one socket, the same that was negotiated on.

use crate::answers::Answered;
use crate::client::{Mid, State};
use crate::events::EventStream;
use crate::opening::LOG_FULL;
use crate::phrases::tag;
use crate::posting::Errand;
use crate::reader::{Carry, Framing};
use crate::shared::add;
use crate::wire::About;
use crate::worker::Worker;
use fanfare_engine::buf::Extent;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{HeadLimits, ResponseHead, parse_response};
use fanfare_protocol::negotiate::Transport;

/// What a receiver without a WebSocket keeps as long as it is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Its token: every POST names it.
    pub token: Box<str>,
    /// Its next poll, in the log for good: the same bytes each time.
    pub poll: Extent,
}

impl<D: Dial> Worker<D> {
    /// Asks for the events of `token`, or polls for the first time.
    pub(crate) fn subscribe(&mut self, slot: Slot, token: &str) {
        self.conns[slot.0 as usize].state = State::Subscribing;
        let index = slot.0 as usize;
        self.sessions[index].token = token.into();
        if self.transport(slot) == Transport::ServerSentEvents {
            let own = self.own(slot);
            let request = self.voice(slot).wire.events(About { token, own: &own });
            if !self.say_own(slot, &request) {
                self.break_off(slot, LOG_FULL.to_owned());
            }
            return;
        }
        let own = self.own(slot);
        let request = self.voice(slot).wire.poll(About { token, own: &own });
        match self.outgoing.keep(&request) {
            Ok(poll) => self.sessions[index].poll = poll,
            Err(_) => return self.break_off(slot, LOG_FULL.to_owned()),
        }
        self.poll_again(slot);
    }

    fn poll_again(&mut self, slot: Slot) {
        if self.conns[slot.0 as usize].state == State::Closing {
            return;
        }
        self.say(slot, self.sessions[slot.0 as usize].poll, tag::POLL);
    }

    /// The head of the answer to a request for events, as far as it has come.
    pub(crate) fn take_events_head(&mut self, slot: Slot, bytes: &mut [u8]) {
        let answer = self.collect(slot, bytes);
        let (head_bytes, stream) = match parse_response(&answer, &HeadLimits::default()) {
            Ok(Progress::NeedMore) => return self.put_mid(slot, Mid::Answer(answer)),
            Ok(Progress::Done(head, head_bytes)) => match event_stream(&head) {
                Ok(stream) => (head_bytes, stream),
                Err(text) => return self.break_off(slot, text),
            },
            Err(error) => return self.break_off(slot, format!("events: {error}")),
        };
        self.put_mid(slot, Mid::Carry(Carry::new(Framing::Events(stream), true)));
        self.subscribed(slot);
        // The comment at the beginning, at least, may share a packet with the head.
        let early = bytes.len() - (answer.len() - head_bytes);
        if early < bytes.len() {
            self.take_stream(slot, &mut bytes[early..]);
        }
    }

    fn subscribed(&mut self, slot: Slot) {
        self.end_phase(slot, |phases| &mut phases.subscribe);
        self.conns[slot.0 as usize].state = State::Handshaking;
        self.post(slot, Errand::Handshake);
    }

    /// A poll has its answer: the next one goes out at once.
    pub(crate) fn poll_answered(&mut self, slot: Slot, answered: Answered) {
        let state = self.conns[slot.0 as usize].state;
        if matches!(state, State::Empty | State::Renewing | State::Closing) {
            return;
        }
        match answered.status {
            200 if answered.last => self.break_off(slot, "an answer to a poll ends its socket".to_owned()),
            200 => {
                if answered.body_bytes > 0 {
                    add(&self.setup.shared.counters[self.index as usize].answers, 1);
                }
                if state == State::Subscribing {
                    self.subscribed(slot);
                }
                self.poll_again(slot);
            }
            204 if state == State::Leaving => self.end_farewell(slot),
            204 => self.break_off(slot, format!("the server ended the connection {}", state.doing())),
            status => self.break_off(slot, format!("a poll was answered with status {status} {}", state.doing())),
        }
    }
}

/// The body of an answer to a request for events.
fn event_stream(head: &ResponseHead<'_>) -> Result<EventStream, String> {
    if head.status() != 200 {
        return Err(format!("the request for events was answered with status {}", head.status()));
    }
    let kind = head.header("content-type").unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.eq_ignore_ascii_case(b"text/event-stream") {
        return Err(format!("events came as '{}'", String::from_utf8_lossy(kind)));
    }
    if head.ends_with_connection() {
        return Ok(EventStream::default());
    }
    Ok(EventStream::in_body(BodyDecoder::new(head.body_length(), usize::MAX)))
}
