//! The oracle of streams and client results: every item once and in order, every stream ended once on both sides,
//! every question settled once and by what its client has said.

use crate::simulation::filler::filler;
use fanfare_engine::{AskError, ReplyHandle, StreamEnd, StreamHandle, UploadHandle};
use std::collections::BTreeMap;

/// What is sent in a stream to a client is the text of this publisher; see `ledger`.
const GIVEN: u32 = 1 << 23;
/// In a stream of a client.
const TAKEN: u32 = 1 << 24;
/// In a question.
const ASKED: u32 = 1 << 25;
/// Items of one stream, at most.
const ITEMS_MAX: u64 = 1 << 20;

/// A turn may be so much longer than the clock shows that the house looks at before it.
const TURN_US: u64 = 10_000;

/// A stream: whose, and which of his.
pub(crate) type Which = (u32, u64);

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Ended,
    Failed,
    Told(StreamEnd),
}

/// A stream to a client.
#[derive(Debug, Default)]
struct Given {
    bytes: usize,
    said: u64,
    heard: u64,
    over: Option<Over>,
    /// The client has heard of the end.
    closed: bool,
    /// Only its client ends it.
    endless: bool,
}

/// A stream of a client.
#[derive(Debug, Default)]
struct Taken {
    came: u64,
    over: bool,
}

/// What became of a question.
#[derive(Debug)]
struct Question {
    to: u32,
    bytes: usize,
    /// What its client has answered: a text, or an error.
    answered: Option<bool>,
    settled: bool,
    asked_us: u64,
}

/// Somebody outside the shards who feeds a stream.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) stream: StreamHandle,
    pub(crate) which: Which,
    pub(crate) left: u64,
}

/// Somebody outside the shards who fetches a client's stream.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) upload: UploadHandle,
    pub(crate) reply: ReplyHandle,
    pub(crate) which: Which,
    pub(crate) count: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    given: BTreeMap<Which, Given>,
    taken: BTreeMap<Which, Taken>,
    questions: BTreeMap<Which, Question>,
    pub(crate) producers: Vec<Producer>,
    pub(crate) fetchers: Vec<Fetcher>,
    pub(crate) now_us: u64,
    /// How long clients have for an answer.
    pub(crate) timeout_us: u64,
    /// When clients went.
    gone_us: BTreeMap<u32, u64>,
    /// Items that clients heard, items that came from clients, questions with a result, in all.
    pub(crate) heard_total: u64,
    pub(crate) came_total: u64,
    pub(crate) answered_total: u64,
    /// Streams that clients cancelled while they ran.
    pub(crate) cancelled_total: u64,
    /// Items that found no room.
    pub(crate) full_total: u64,
}

pub(crate) fn given_text(which: Which, at: u64, bytes: usize) -> String {
    filler(which.0 | GIVEN, which.1 * ITEMS_MAX + at, bytes)
}

pub(crate) fn taken_text(which: Which, at: u64, bytes: usize) -> String {
    filler(which.0 | TAKEN, which.1 * ITEMS_MAX + at, bytes)
}

pub(crate) fn asked_text(which: Which, bytes: usize) -> String {
    filler(which.0 | ASKED, which.1, bytes)
}

impl Flows {
    // -- streams to clients ---------------------------------------------------------------------------------------

    pub(crate) fn opens(&mut self, which: Which, bytes: usize, endless: bool) {
        let fresh = self.given.insert(which, Given { bytes, endless, ..Given::default() }).is_none();
        assert!(fresh, "stream {which:?} is opened twice");
    }

    fn of(&mut self, which: Which) -> &mut Given {
        self.given.get_mut(&which).unwrap_or_else(|| panic!("nobody opened stream {which:?}"))
    }

    /// The text of the next item.
    pub(crate) fn next(&mut self, which: Which) -> String {
        let given = self.of(which);
        given_text(which, given.said, given.bytes)
    }

    /// It was taken.
    pub(crate) fn says(&mut self, which: Which) {
        self.of(which).said += 1;
    }

    pub(crate) fn is_over(&mut self, which: Which) -> bool {
        self.of(which).over.is_some()
    }

    /// Its producer ends it, having heard of no other end.
    pub(crate) fn finishes(&mut self, which: Which, over: Over) {
        let given = self.of(which);
        assert!(given.over.is_none(), "stream {which:?} ends twice: {given:?}, {over:?}");
        given.over = Some(over);
    }

    /// Its producer is told that nobody wants the rest: never of a stream that was ended on its shard, and once.
    pub(crate) fn told(&mut self, which: Which, end: StreamEnd, from_outside: bool) {
        self.cancelled_total += u64::from(end == StreamEnd::Cancelled);
        let given = self.of(which);
        let on_its_way = from_outside && matches!(given.over, Some(Over::Ended | Over::Failed));
        assert!(given.over.is_none() || on_its_way, "stream {which:?} ends twice: {given:?}, {end:?}");
        given.over = Some(Over::Told(end));
    }

    pub(crate) fn hears_item(&mut self, which: Which, text: &str) {
        self.heard_total += 1;
        let given = self.of(which);
        assert!(!given.closed && given.heard < given.said, "an item of stream {which:?} that nobody sent: {given:?}");
        assert!(text == given_text(which, given.heard, given.bytes), "stream {which:?}: not item {}", given.heard);
        given.heard += 1;
    }

    pub(crate) fn hears_end(&mut self, which: Which, failed: bool) {
        let given = self.of(which);
        assert!(!given.closed, "stream {which:?} ends twice for its client");
        given.closed = true;
        let fits = match given.over {
            Some(Over::Ended) => !failed && given.heard == given.said,
            Some(Over::Failed) => failed && given.heard == given.said,
            Some(Over::Told(StreamEnd::Cancelled)) => !failed,
            _ => false,
        };
        assert!(fits, "stream {which:?} ends for its client, failed: {failed}, but {given:?}");
    }

    // -- streams of clients ---------------------------------------------------------------------------------------

    pub(crate) fn takes(&mut self, which: Which) {
        assert!(self.taken.insert(which, Taken::default()).is_none(), "stream {which:?} is taken twice");
    }

    /// An item has come, as long as this.
    pub(crate) fn comes(&mut self, which: Which, text: &str) {
        self.came_total += 1;
        let taken = self.taken.get_mut(&which).expect("taken before anything comes");
        assert!(!taken.over, "an item of stream {which:?} after its end");
        // A text ends at a whole character: of the lengths that give it, its own is one.
        let expected = taken_text(which, taken.came, text.len());
        assert!(text == expected, "stream {which:?}: not item {}: {text} instead of {expected}", taken.came);
        taken.came += 1;
    }

    /// Its end has come; how many items there were.
    pub(crate) fn ends(&mut self, which: Which) -> u64 {
        let taken = self.taken.get_mut(&which).expect("taken before it ends");
        assert!(!std::mem::replace(&mut taken.over, true), "stream {which:?} ends twice for its reader");
        taken.came
    }

    pub(crate) fn came(&self, which: Which) -> u64 {
        self.taken[&which].came
    }

    // -- questions ------------------------------------------------------------------------------------------------

    pub(crate) fn asks(&mut self, which: Which, to: u32, bytes: usize) {
        let question = Question { to, bytes, answered: None, settled: false, asked_us: self.now_us };
        assert!(self.questions.insert(which, question).is_none(), "question {which:?} is asked twice");
    }

    /// A client hears a question that is for it, whole.
    pub(crate) fn is_asked(&mut self, client: u32, which: Which, text: &str) {
        let question = &self.questions[&which];
        assert_eq!(question.to, client, "question {which:?} reaches somebody else");
        assert!(text == asked_text(which, question.bytes), "question {which:?} has other words");
    }

    pub(crate) fn answers(&mut self, which: Which, with_result: bool) {
        self.questions.get_mut(&which).expect("asked").answered = Some(with_result);
    }

    pub(crate) fn goes(&mut self, client: u32) {
        self.gone_us.insert(client, self.now_us);
    }

    /// The asker is told: once, and what is true. `gone`: the client has gone, or was never there.
    pub(crate) fn settles(&mut self, which: Which, result: &Result<String, AskError>, gone: bool) {
        let (now_us, timeout_us) = (self.now_us, self.timeout_us);
        self.answered_total += u64::from(result.is_ok());
        let question = self.questions.get_mut(&which).expect("asked");
        assert!(!std::mem::replace(&mut question.settled, true), "question {which:?} is settled twice");
        let fits = match result {
            Ok(text) => question.answered == Some(true) && *text == asked_text(which, question.bytes),
            Err(AskError::Client(_)) => question.answered == Some(false),
            Err(AskError::Disconnected(_) | AskError::Unknown(_)) => gone,
            Err(AskError::TimedOut) => {
                // Nobody waits for the answer of a client that has gone.
                let until_us = self.gone_us.get(&question.to).copied().unwrap_or(now_us);
                until_us + TURN_US - question.asked_us >= timeout_us
            }
            Err(_) => false,
        };
        assert!(fits, "question {which:?} is settled with {result:?} at {now_us}: {question:?}, gone: {gone}");
    }

    // -- the end --------------------------------------------------------------------------------------------------

    /// Whoever stays has heard the end of every stream, but of those that only he can end.
    pub(crate) fn is_complete(&self, client: u32) -> Result<(), String> {
        let mut of = self.given.range((client, 0)..(client + 1, 0));
        match of.find(|(_, given)| !(given.closed || given.endless && given.over.is_none())) {
            Some((which, given)) => Err(format!("the client never hears the end of stream {which:?}: {given:?}")),
            None => Ok(()),
        }
    }
}
