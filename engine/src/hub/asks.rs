//! Client results (spec 6.7): the server asks one client, and the answer comes later.
//!
//! A question is an invocation with an id of its own, `s` and a number that no other question of this process has. It
//! is kept on the shard of the client that is asked, where the answer comes in, or the client goes, or the time runs
//! out. What comes of it is brought to whoever asked: to the asking connection, on its shard, or to a function.

use crate::event::CloseReason;
use crate::hub::context::Context;
use crate::hub::directory::ConnRef;
use crate::hub::outgoing::Outgoing;
use crate::hub::publisher::{Command, OwnedPayload, PublishError, Publisher, Wish, payload_bytes};
use crate::hub::registry::HubId;
use crate::hub::switchboard::{Shared, Switchboard, TellError};
use crate::io::Slot;
use fanfare_protocol::hub::Payload;
use fanfare_protocol::hub::error::BindError;
use fanfare_protocol::hub::message::Outcome;
use fanfare_protocol::hub::raw::{Raw, RawOwned};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why there is no result. `Display` has the texts of spec 6.7.
#[derive(Debug)]
#[non_exhaustive]
pub enum AskError {
    /// There is no connection of that id in the asker's hub.
    Unknown(String),
    /// The client went before it answered.
    Disconnected(String),
    /// The client failed, or has no handler: its words.
    Client(String),
    /// The client did not answer in time.
    TimedOut,
    /// [`AskHandle::cancel`] was called.
    Canceled,
    /// Nobody can be asked inside `connected`.
    InsideConnected,
    /// The client's shard awaits `Limits::client_results_max` results already.
    TooMany,
    /// The result is not of the type that was asked for; see [`AskError::bind`].
    Bind {
        /// The type.
        wanted: &'static str,
        /// What is wrong.
        error: BindError,
    },
    /// The question could not be sent.
    NotSent(PublishError),
}

impl AskError {
    /// For `map_err` where a result is bound: `raw.as_i64().map_err(AskError::bind("int"))`.
    pub fn bind(wanted: &'static str) -> impl FnOnce(BindError) -> Self {
        move |error| Self::Bind { wanted, error }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "Connection '{id}' does not exist."),
            Self::Disconnected(id) => write!(f, "Connection '{id}' disconnected."),
            Self::Client(text) => f.write_str(text),
            Self::TimedOut => f.write_str("The client gave no result in time (limits.client_result_timeout_ms)."),
            Self::Canceled => f.write_str("Invocation canceled by the server."),
            Self::InsideConnected => f.write_str("Client results inside OnConnectedAsync Hub methods are not allowed."),
            Self::TooMany => f.write_str("Too many client results are awaited (limits.client_results_max)."),
            Self::Bind { wanted, error } => write!(f, "Error trying to deserialize result to {wanted}. {error}"),
            Self::NotSent(error) => write!(f, "The client was not asked: {error}."),
        }
    }
}

impl std::error::Error for AskError {}

/// What a client's result comes to.
pub type ClientResult<'a> = Result<Raw<'a>, AskError>;

type Work = Box<dyn FnOnce(&mut Context<'_>, ClientResult<'_>) + Send>;

/// Who is told.
enum Then {
    /// A connection, if it is still there.
    Member { asker: ConnRef, work: Work },
    /// Whoever listens, on the shard of the client.
    Anybody(Box<dyn FnOnce(ClientResult<'_>) + Send>),
}

/// What other shards and threads want of the shard of a client that is asked, or of one that has asked.
pub(crate) enum AskWish {
    Ask { question: Question, target: Box<str>, payload: OwnedPayload },
    Cancel { number: u64 },
    Settled { asker: ConnRef, work: Work, result: Result<RawOwned, AskError> },
}

impl fmt::Debug for AskWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask { .. } => "Ask",
            Self::Cancel { .. } => "Cancel",
            Self::Settled { .. } => "Settled",
        })
    }
}

/// A question on its way to its client.
pub(crate) struct Question {
    number: u64,
    hub: HubId,
    to: ConnRef,
    /// As the asker wrote it, for the texts.
    id: Box<str>,
    timeout_us: u64,
    then: Then,
}

/// Numbers of questions, and which client each is for: what tells a wrong answer from a late one.
#[derive(Debug, Default)]
pub struct Asked {
    numbers: AtomicU64,
    /// Touched when a question is asked and settled, and when a completion fits nothing else.
    pending: Mutex<HashMap<u64, ConnRef>>,
}

impl Asked {
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, ConnRef>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Questions that await their answers.
    pub(crate) fn len(&self) -> usize {
        self.pending().len()
    }
}

/// A question that was asked. Dropping it changes nothing.
pub struct AskHandle {
    shared: Arc<Shared>,
    /// Where, under which number; `None`: it is settled already.
    at: Option<(u8, u64)>,
}

impl fmt::Debug for AskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskHandle").field("at", &self.at).finish_non_exhaustive()
    }
}

impl AskHandle {
    /// Does not want the result any more: the asker is told [`AskError::Canceled`], and what the client still answers is
    /// ignored (spec 6.7). Nothing happens if the question is settled.
    ///
    /// # Errors
    /// [`PublishError::Full`], [`PublishError::Stopped`]: the question stands.
    pub fn cancel(&self) -> Result<(), PublishError> {
        match self.at {
            Some((shard, number)) => self.shared.command(shard, Wish::Ask(AskWish::Cancel { number }).into()),
            None => Ok(()),
        }
    }
}

// -- asking -----------------------------------------------------------------------------------------------------------

impl Context<'_> {
    /// Calls the client method `target` of one connection of this hub, on any shard, for its result. `then` is called
    /// with it, as the calling connection, on its shard; before this returns if the client cannot be asked, and not at
    /// all if the calling connection has gone by then. A client may ask itself through a method that puts its answer off
    /// ([`Context::defer`]): results are taken while invocations run. Clients have
    /// `Limits::client_result_timeout_ms`; old ones never answer.
    pub fn ask(
        &mut self,
        connection_id: &str,
        target: &str,
        arguments: &Payload<'_>,
        then: impl FnOnce(&mut Context<'_>, ClientResult<'_>) + Send + 'static,
    ) -> AskHandle {
        let timeout_ms = self.board().0.limits.client_result_timeout_ms;
        self.ask_within(Duration::from_millis(timeout_ms.into()), connection_id, target, arguments, then)
    }

    /// The same, for a result within `timeout`.
    pub fn ask_within(
        &mut self,
        timeout: Duration,
        connection_id: &str,
        target: &str,
        arguments: &Payload<'_>,
        then: impl FnOnce(&mut Context<'_>, ClientResult<'_>) + Send + 'static,
    ) -> AskHandle {
        let then = Then::Member { asker: self.reference(), work: Box::new(then) };
        let (hub, connecting) = (self.hub_id(), self.is_connecting());
        let (board, _) = self.board();
        let shared = board.shared.clone();
        let Some(to) = board.find_connection(connection_id) else {
            board.settle_ask(then, Err(AskError::Unknown(connection_id.to_owned())));
            return AskHandle { shared, at: None };
        };
        if connecting {
            board.settle_ask(then, Err(AskError::InsideConnected));
            return AskHandle { shared, at: None };
        }
        let timeout_us = timeout.as_micros().min(u128::from(u64::MAX / 2)) as u64;
        let question = Question { number: shared.asked.next(), hub, to, id: connection_id.into(), timeout_us, then };
        let at = Some((to.shard(), question.number));
        if to.shard() == board.shard {
            board.ask(question, target, arguments);
        } else if let Err((then, error)) = shared.post_question(question, target, arguments) {
            board.settle_ask(then, Err(error));
        }
        AskHandle { shared, at }
    }
}

impl Publisher {
    /// Calls the client method `target` of one connection for its result. `then` is called with it once, on a shard's
    /// thread: it must not block. If the client cannot be asked it is called before this returns, on this thread; if the
    /// engine stops meanwhile it is dropped. Clients have `Limits::client_result_timeout_ms`; old ones never answer.
    pub fn ask(
        &self,
        hub: &str,
        connection_id: &str,
        target: &str,
        arguments: &Payload<'_>,
        then: impl FnOnce(ClientResult<'_>) + Send + 'static,
    ) -> AskHandle {
        let shared = self.shared();
        let then = Then::Anybody(Box::new(then));
        let refused = |then, error| {
            if let Then::Anybody(then) = then {
                then(Err(error));
            }
            AskHandle { shared: shared.clone(), at: None }
        };
        let Some(hub) = shared.hub(hub) else {
            return refused(then, AskError::NotSent(PublishError::UnknownHub(hub.to_owned())));
        };
        let Some(to) = self.find(connection_id) else {
            return refused(then, AskError::Unknown(connection_id.to_owned()));
        };
        let timeout_us = u64::from(shared.limits.client_result_timeout_ms) * 1_000;
        let question = Question { number: shared.asked.next(), hub, to, id: connection_id.into(), timeout_us, then };
        let at = Some((to.shard(), question.number));
        match shared.post_question(question, target, arguments) {
            Ok(()) => AskHandle { shared: shared.clone(), at },
            Err((then, error)) => refused(then, error),
        }
    }
}

impl Shared {
    /// Brings a question to the shard of its client.
    fn post_question(&self, question: Question, target: &str, arguments: &Payload<'_>) -> Result<(), (Then, AskError)> {
        let (bytes, bytes_max) = (payload_bytes(arguments), self.limits.publish_bytes_max);
        if target.is_empty() {
            return Err((question.then, AskError::NotSent(PublishError::EmptyTarget)));
        }
        if bytes > bytes_max {
            return Err((question.then, AskError::NotSent(PublishError::TooLarge { bytes, bytes_max })));
        }
        let shard = question.to.shard();
        let payload = OwnedPayload::from_payload(arguments);
        let wish = Wish::Ask(AskWish::Ask { question, target: target.into(), payload });
        self.command_or_back(shard, Command::with_payload(wish, bytes)).map_err(|(command, error)| {
            match command.into_wish() {
                Wish::Ask(AskWish::Ask { question, .. }) => (question.then, AskError::NotSent(error)),
                _ => unreachable!("what comes back is what was sent"),
            }
        })
    }
}

// -- the shard of the client that is asked ----------------------------------------------------------------------------

struct Pending {
    of: ConnRef,
    id: Box<str>,
    due_us: u64,
    then: Then,
}

/// The questions that clients of a shard have not answered yet.
#[derive(Default)]
pub(crate) struct Asks {
    pending: HashMap<u64, Pending>,
    by_connection: HashMap<ConnRef, Vec<u64>>,
    due: BTreeSet<(u64, u64)>,
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asks").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Asks {
    /// All of them; and none of the tables knows more than the others.
    pub(crate) fn len(&self) -> usize {
        let listed: usize = self.by_connection.values().map(Vec::len).sum();
        self.pending.len().max(self.due.len()).max(listed)
    }

    fn insert(&mut self, number: u64, pending: Pending) {
        self.due.insert((pending.due_us, number));
        self.by_connection.entry(pending.of).or_default().push(number);
        self.pending.insert(number, pending);
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        self.due.remove(&(pending.due_us, number));
        if let Some(of) = self.by_connection.get_mut(&pending.of) {
            of.retain(|other| *other != number);
            if of.is_empty() {
                self.by_connection.remove(&pending.of);
            }
        }
        Some(pending)
    }

    /// When the first of them has waited long enough.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        self.due.first().map(|(due_us, _)| *due_us)
    }
}

/// The number in an id of ours.
fn number_of(id: &str) -> Option<u64> {
    let digits = id.strip_prefix('s').filter(|digits| matches!(digits.as_bytes().first(), Some(b'1'..=b'9')))?;
    digits.parse().ok()
}

impl Switchboard {
    /// Asks a client of this shard.
    fn ask(&mut self, question: Question, target: &str, arguments: &Payload<'_>) {
        let Question { number, hub, to, id, timeout_us, then } = question;
        let member = self.resolve(to).filter(|&slot| self.is_member(slot));
        let member = member.filter(|&slot| self.hub_of(self.slots.hot(slot).endpoint) == hub);
        let Some(slot) = member else {
            return self.settle_ask(then, Err(AskError::Unknown(id.into())));
        };
        if target.is_empty() {
            return self.settle_ask(then, Err(AskError::NotSent(PublishError::EmptyTarget)));
        }
        if self.asks.pending.len() >= self.limits.client_results_max {
            self.counters.client_results_refused_total.add(1);
            return self.settle_ask(then, Err(AskError::TooMany));
        }
        match self.tell(slot, &Outgoing::Ask { id: &format!("s{number}"), target, arguments }) {
            Ok(()) => {}
            Err(TellError::Payload(error)) => {
                return self.settle_ask(then, Err(AskError::NotSent(PublishError::BadPayload(error))));
            }
            Err(TellError::LogFull) => {
                return self.settle_ask(then, Err(AskError::NotSent(PublishError::LogFull)));
            }
        }
        self.shared.asked.pending().insert(number, to);
        self.asks.insert(number, Pending { of: to, id, due_us: self.now_us.saturating_add(timeout_us), then });
        self.counters.client_results_total.add(1);
        self.counters.client_results_pending.add(1);
    }

    fn take_ask(&mut self, number: u64) -> Option<Pending> {
        let pending = self.asks.remove(number)?;
        self.shared.asked.pending().remove(&number);
        self.counters.client_results_pending.sub(1);
        Some(pending)
    }

    /// A completion that ends no stream. Whether it is one for a question, in whatever way.
    pub(crate) fn handle_result(&mut self, slot: Slot, id: &str, outcome: &Outcome<'_>) -> bool {
        let Some(number) = number_of(id) else { return false };
        let sender = self.reference(slot);
        if self.asks.pending.get(&number).is_none_or(|pending| pending.of != sender) {
            let of_another = self.shared.asked.pending().get(&number).is_some_and(|of| *of != sender);
            if of_another {
                let text = format!("Invocation ID '{id}' is not one that this connection was called with.");
                self.offend(slot, CloseReason::ProtocolError, &text);
            }
            return of_another;
        }
        let Some(pending) = self.take_ask(number) else { return false };
        let result = match outcome {
            Outcome::Result(raw) => Ok(*raw),
            Outcome::Error(text) => Err(AskError::Client(text.clone().into_owned())),
            Outcome::Void => Err(AskError::Client("Client didn't provide a result.".to_owned())),
        };
        self.settle_ask(pending.then, result);
        true
    }

    /// Tells whoever asked.
    fn settle_ask(&mut self, then: Then, result: ClientResult<'_>) {
        match then {
            Then::Anybody(work) => work(result),
            Then::Member { asker, work } if asker.shard() == self.shard => self.resume_asker(asker, work, result),
            Then::Member { asker, work } => {
                let result = result.map(|raw| raw.to_owned());
                self.shared.reply(asker.shard(), Wish::Ask(AskWish::Settled { asker, work, result }));
            }
        }
    }

    fn resume_asker(&mut self, asker: ConnRef, work: Work, result: ClientResult<'_>) {
        if let Some(slot) = self.resolve(asker).filter(|&slot| self.is_member(slot)) {
            work(&mut Context::new(self, slot), result);
        }
    }

    /// A client has gone: it owes nobody an answer any more. Askers are told through their mailboxes: this may be in the
    /// middle of something.
    pub(crate) fn forget_asks(&mut self, slot: Slot) {
        let connection = self.reference(slot);
        for number in self.asks.by_connection.get(&connection).cloned().unwrap_or_default() {
            let Some(Pending { id, then, .. }) = self.take_ask(number) else { continue };
            let error = AskError::Disconnected(id.into());
            match then {
                Then::Anybody(work) => work(Err(error)),
                Then::Member { asker, work } => {
                    let wish = AskWish::Settled { asker, work, result: Err(error) };
                    self.shared.reply(asker.shard(), Wish::Ask(wish));
                }
            }
        }
    }

    /// Gives up clients that have not answered in time.
    pub(crate) fn expire_asks(&mut self) {
        while self.asks.next_due_us().is_some_and(|due_us| due_us <= self.now_us) {
            let Some(&(_, number)) = self.asks.due.first() else { return };
            let Some(pending) = self.take_ask(number) else { return };
            self.settle_ask(pending.then, Err(AskError::TimedOut));
        }
    }

    pub(crate) fn handle_ask_wish(&mut self, wish: AskWish) {
        match wish {
            AskWish::Ask { question, target, payload } => self.ask(question, &target, &payload.as_payload()),
            AskWish::Cancel { number } => {
                if let Some(pending) = self.take_ask(number) {
                    self.settle_ask(pending.then, Err(AskError::Canceled));
                }
            }
            AskWish::Settled { asker, work, result } => match result {
                Ok(raw) => self.resume_asker(asker, work, Ok(raw.as_raw())),
                Err(error) => self.resume_asker(asker, work, Err(error)),
            },
        }
    }
}
