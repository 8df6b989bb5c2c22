//! A client whose connection outlives its WebSocket: what it keeps, and what it makes of numbers (spec 7).

use fanfare_engine::Format;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::{decode_one, encode, message_len};
use std::collections::VecDeque;

/// What a message means to a client that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// To be acted on.
    New,
    /// Acted on before, on an earlier WebSocket; or about the counting itself.
    Done,
}

/// Both directions of one client's connection.
#[derive(Debug)]
pub(crate) struct Resumption {
    token: Option<String>,
    format: Format,
    /// Said and not acknowledged; the first has this number.
    kept: VecDeque<Vec<u8>>,
    first: u64,
    hears: u64,
    heard: u64,
    /// The server does not know what has been heard.
    owes_ack: bool,
    /// Nothing may come before a Sequence.
    awaits_sequence: bool,
    /// WebSockets lost.
    pub(crate) losses: u32,
}

impl Resumption {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            token: None,
            format,
            kept: VecDeque::new(),
            first: 1,
            hears: 0,
            heard: 0,
            owes_ack: false,
            awaits_sequence: false,
            losses: 0,
        }
    }

    /// The connection's token, once it has one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Takes the token out of the answer to negotiate.
    pub(crate) fn negotiated(&mut self, body: &str) {
        assert!(body.contains("\"useStatefulReconnect\":true"), "asked for and not granted: {body}");
        let token = body.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.token = Some(token.expect("a token").to_owned());
    }

    /// Keeps what is about to be said, if it counts.
    pub(crate) fn say(&mut self, mut messages: &[u8]) {
        while !messages.is_empty() {
            let length = message_len(self.format, messages, 0, 0).expect("its own").expect("a whole one");
            let (message, rest) = messages.split_at(length);
            if decode_one(self.format, message).expect("its own").is_trackable() {
                self.kept.push_back(message.to_vec());
            }
            messages = rest;
        }
    }

    /// The WebSocket is gone.
    pub(crate) fn lose(&mut self) {
        self.losses += 1;
        self.awaits_sequence = true;
    }

    /// What is said first on a new WebSocket.
    pub(crate) fn replay(&self) -> Vec<Vec<u8>> {
        let mut sequence = Vec::new();
        encode::sequence(self.format, &mut sequence, self.first);
        std::iter::once(sequence).chain(self.kept.iter().cloned()).collect()
    }

    /// Whether anything is to be acknowledged.
    pub(crate) fn owes_ack(&self) -> bool {
        self.owes_ack
    }

    /// What is to be acknowledged, if anything is.
    pub(crate) fn acknowledge(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.owes_ack) {
            return None;
        }
        let mut ack = Vec::new();
        encode::ack(self.format, &mut ack, self.heard);
        Some(ack)
    }

    pub(crate) fn hear(&mut self, message: &Message<'_>) -> Counted {
        match *message {
            Message::Sequence { sequence_id } => {
                assert!(std::mem::take(&mut self.awaits_sequence), "a Sequence that nobody waits for");
                assert!(sequence_id <= self.hears + 1, "it goes on with {sequence_id} after {}", self.hears);
                self.hears = sequence_id - 1;
                return Counted::Done;
            }
            _ => assert!(!self.awaits_sequence, "{message:?} before the Sequence"),
        }
        match *message {
            Message::Ack { sequence_id } => {
                while self.first <= sequence_id {
                    self.kept.pop_front().expect("only what was said can be acknowledged");
                    self.first += 1;
                }
                Counted::Done
            }
            _ if !message.is_trackable() => Counted::New,
            _ => {
                self.hears += 1;
                // Sent again up to the last one: what was said of it went with the WebSocket.
                self.owes_ack |= self.hears >= self.heard;
                let new = self.hears > self.heard;
                self.heard = self.heard.max(self.hears);
                if new { Counted::New } else { Counted::Done }
            }
        }
    }
}
