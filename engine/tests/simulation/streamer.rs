//! A client's side of streams and questions: what it has begun, and what it must hear of it.

use crate::simulation::flows::{Which, taken_text};
use crate::simulation::methods::ENOUGH;
use fanfare_engine::io::sim::Rng;
use fanfare_engine::{Format, Payload, Raw, Value};
use fanfare_protocol::hub::message::Outcome;
use fanfare_protocol::hub::{decode_one, encode};
use std::collections::BTreeMap;

/// A stream that the client sends.
#[derive(Debug)]
struct Upload {
    way: &'static str,
    sent: u64,
    /// With an error, if so.
    ended: Option<bool>,
}

/// A question that waits for the client's answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) which: Which,
    pub(crate) text: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Streamer {
    number: u32,
    begun: u64,
    /// Streams whose end the client has not heard; whether it has cancelled them.
    downs: BTreeMap<u64, bool>,
    ups: BTreeMap<u64, Upload>,
    pub(crate) asked: Vec<Asked>,
}

/// Ids of streams to the client.
const DOWN: &str = "d";
/// Ids of invocations with a stream of the client, and of that stream: two namespaces.
const UP: &str = "u";

const WAYS_DOWN: [&str; 7] = ["burst", "paced", "timed", "outside", "both", "forever", "failing"];
const WAYS_UP: [&str; 3] = ["read", "fetched", "early"];

fn any<'a, T>(rng: &mut Rng, from: &'a [T]) -> Option<&'a T> {
    from.get(rng.below(from.len().max(1) as u64) as usize)
}

fn encoded(write: impl FnOnce(&mut Vec<u8>) -> Result<(), fanfare_protocol::hub::PayloadError>) -> Vec<u8> {
    let mut message = Vec::new();
    write(&mut message).expect("plain values can be encoded");
    message
}

impl Streamer {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    // -- what it says, encoded ------------------------------------------------------------------------------------

    /// Asks for a stream.
    pub(crate) fn begin_down(&mut self, format: Format, bytes: usize, rng: &mut Rng) -> Vec<u8> {
        self.begun += 1;
        self.downs.insert(self.begun, false);
        let way = any(rng, &WAYS_DOWN).copied().unwrap_or_default();
        let count = rng.below(if matches!(way, "outside" | "both") { 60 } else { 12 });
        let words = [Value::Int(self.begun as i64), Value::Int(count as i64), Value::Int(bytes as i64), way.into()];
        let id = format!("{DOWN}{}", self.begun);
        encoded(|out| encode::stream_invocation(format, out, &id, "Give", &Payload::Values(&words)))
    }

    /// Cancels a stream: one that runs, or one that there is not.
    pub(crate) fn cancel(&mut self, format: Format, rng: &mut Rng) -> Vec<u8> {
        let running: Vec<u64> = self.downs.keys().copied().collect();
        let which = any(rng, &running).copied().unwrap_or(u64::MAX);
        if let Some(cancelled) = self.downs.get_mut(&which) {
            *cancelled = true;
        }
        encoded(|out| encode::cancel(format, out, &format!("{DOWN}{which}")))
    }

    /// Begins a stream of its own.
    pub(crate) fn begin_up(&mut self, format: Format, rng: &mut Rng) -> Vec<u8> {
        self.begun += 1;
        let way = any(rng, &WAYS_UP).copied().unwrap_or_default();
        self.ups.insert(self.begun, Upload { way, sent: 0, ended: None });
        let id = format!("{UP}{}", self.begun);
        let json = format!(
            "{{\"type\":1,\"invocationId\":\"{id}\",\"target\":\"Take\",\"arguments\":[{},\"{way}\"],\"streamIds\":[\"{id}\"]}}\u{1e}",
            self.begun
        );
        let message = decode_one(Format::Json, json.as_bytes()).expect("an invocation with a stream");
        encoded(|out| encode::decoded(format, out, &message))
    }

    /// The next items of one of its streams, in one piece; perhaps its end.
    pub(crate) fn go_on_up(&mut self, format: Format, bytes: usize, rng: &mut Rng) -> Vec<u8> {
        let open: Vec<u64> = self.ups.iter().filter(|(_, up)| up.ended.is_none()).map(|(which, _)| *which).collect();
        let Some(which) = any(rng, &open).copied() else { return self.item_of_nobody(format) };
        let mut messages = Vec::new();
        for _ in 0..rng.below(8) {
            messages.extend(self.item(format, which, bytes));
        }
        if rng.chance(300) {
            messages.extend(self.end_up(format, which, rng.chance(250)));
        }
        messages
    }

    fn item_of_nobody(&self, format: Format) -> Vec<u8> {
        encoded(|out| encode::stream_item(format, out, "nobody", &Value::Null))
    }

    fn item(&mut self, format: Format, which: u64, bytes: usize) -> Vec<u8> {
        let up = self.ups.get_mut(&which).expect("an open stream");
        let text = Value::Str(taken_text((self.number, which), up.sent, bytes));
        up.sent += 1;
        encoded(|out| encode::stream_item(format, out, &format!("{UP}{which}"), &text))
    }

    fn end_up(&mut self, format: Format, which: u64, failed: bool) -> Vec<u8> {
        self.ups.get_mut(&which).expect("an open stream").ended = Some(failed);
        let id = format!("{UP}{which}");
        encoded(|out| match failed {
            true => encode::completion_error(format, out, &id, "gone wrong"),
            false => encode::completion_end(format, out, &id),
        })
    }

    /// Ends all its streams.
    pub(crate) fn end_all(&mut self, format: Format) -> Vec<u8> {
        let open: Vec<u64> = self.ups.iter().filter(|(_, up)| up.ended.is_none()).map(|(which, _)| *which).collect();
        open.into_iter().flat_map(|which| self.end_up(format, which, false)).collect()
    }

    /// A question to another client: the arguments of the call.
    pub(crate) fn question(&mut self, to: u32, bytes: usize) -> [Value; 3] {
        self.begun += 1;
        [Value::Int(self.begun as i64), Value::Int(to.into()), Value::Int(bytes as i64)]
    }

    /// Its answer to a question.
    pub(crate) fn answer(format: Format, asked: &Asked, with_result: bool) -> Vec<u8> {
        encoded(|out| match with_result {
            true => encode::completion_result(format, out, &asked.id, &Value::Str(asked.text.clone())),
            false => encode::completion_error(format, out, &asked.id, "no"),
        })
    }

    // -- what it hears --------------------------------------------------------------------------------------------

    /// The stream that an id names.
    pub(crate) fn down(&self, id: &str) -> Option<Which> {
        let which: u64 = id.strip_prefix(DOWN)?.parse().ok()?;
        assert!(self.downs.contains_key(&which), "client {}: {id} is over, or was never asked for", self.number);
        Some((self.number, which))
    }

    pub(crate) fn down_ends(&mut self, which: Which) {
        self.downs.remove(&which.1);
    }

    /// Takes the answer of an invocation with a stream. `false`: it is of another.
    pub(crate) fn up_answered(&mut self, id: &str, outcome: &Outcome<'_>) -> bool {
        let Some(which) = id.strip_prefix(UP).and_then(|which| which.parse::<u64>().ok()) else { return false };
        let up = self.ups.remove(&which).unwrap_or_else(|| panic!("client {}: {id} is answered twice", self.number));
        let came = |raw: &Raw<'_>| raw.as_u64().ok();
        let fits = match outcome {
            Outcome::Result(raw) if up.way == "early" && up.sent >= ENOUGH => came(raw) == Some(ENOUGH),
            Outcome::Result(raw) => up.ended == Some(false) && came(raw) == Some(up.sent),
            Outcome::Error(text) => up.ended == Some(true) && text.ends_with("HubException: gone wrong"),
            Outcome::Void => false,
        };
        assert!(fits, "client {}: {outcome:?} answers {up:?}", self.number);
        true
    }

    /// Something whose end it must hear.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let cancelled = self.downs.iter().find(|(_, cancelled)| **cancelled).map(|(which, _)| *which);
        let ended = self.ups.iter().find(|(_, up)| up.ended.is_some());
        cancelled
            .map(|which| format!("the end of stream {which}, which it has cancelled"))
            .or_else(|| ended.map(|(which, up)| format!("the answer to its stream {which}: {up:?}")))
    }
}
