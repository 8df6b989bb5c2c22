//! Answers that are given later: what is owed to whom, and how an answer finds its way back from any thread.

use crate::hub::context::Calling;
use crate::hub::directory::ConnRef;
use crate::hub::host::{Answer, HandlerError};
use crate::hub::publisher::Wish;
use crate::hub::streams::wrong_invocation;
use crate::hub::switchboard::{Shared, Switchboard};
use crate::io::Slot;
use std::fmt;
use std::sync::Arc;

/// One invocation whose answer is owed.
#[derive(Debug)]
pub(crate) struct Debt {
    /// Which of its shard's; given by [`Switchboard::defer`].
    pub(crate) number: u64,
    pub(crate) to: ConnRef,
    /// `None`: the client does not wait for the answer.
    pub(crate) id: Option<String>,
    pub(crate) target: String,
    /// The invocation is one of those of which only so many may run at a time.
    pub(crate) counts: bool,
    /// The client wants a stream: a result would be one that it cannot take.
    pub(crate) streaming: bool,
    /// Whose upload streams end with it, 0 for nobody's.
    pub(crate) uploads: u64,
}

/// The answer to one invocation, to be given later, from any thread. Dropped without one, it answers with an error:
/// no client waits for ever.
pub struct ReplyHandle {
    shared: Arc<Shared>,
    /// `None`: answered already.
    debt: Option<Debt>,
}

impl fmt::Debug for ReplyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.debt.as_ref().map(|debt| &debt.target);
        f.debug_struct("ReplyHandle").field("target", &target).finish_non_exhaustive()
    }
}

impl ReplyHandle {
    fn new(shared: Arc<Shared>, debt: Option<Debt>) -> Self {
        Self { shared, debt }
    }

    /// Which of its shard's; `None`: it is answered already.
    pub(crate) fn number(&self) -> Option<u64> {
        self.debt.as_ref().map(|debt| debt.number)
    }

    /// Gives the answer. [`Answer::Later`] counts as no answer.
    pub fn reply(mut self, answer: Answer) {
        self.give(answer);
    }

    /// The same on a shard's thread: at once, if it is the connection's shard.
    pub(crate) fn settle_here(mut self, board: &mut Switchboard, answer: &Answer) {
        match self.debt.take_if(|debt| debt.to.shard() == board.shard) {
            Some(debt) => board.settle(debt, answer),
            None => self.give(answer.clone()),
        }
    }

    fn give(&mut self, answer: Answer) {
        if let Some(debt) = self.debt.take() {
            self.shared.reply(debt.to.shard(), Wish::Reply { debt, answer });
        }
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        self.give(Answer::Error(HandlerError::failed("InvalidOperationException", "The method gave no answer.")));
    }
}

impl Switchboard {
    /// Answers that handles owe, to invocations and to plain requests.
    pub(crate) fn answers_owed(&self) -> usize {
        self.owed.len() + self.http_waits.len()
    }

    /// A handle for `debt`. With `Limits::deferred_max` of them out already, the client is told so at once, and what
    /// the handle is given later goes nowhere.
    pub(crate) fn defer(&mut self, mut debt: Debt) -> ReplyHandle {
        if self.answers_owed() >= self.limits.deferred_max {
            self.counters.deferred_refused_total.add(1);
            if let Some(slot) = self.resolve(debt.to) {
                let text = "The server owes too many answers (limits.deferred_max).".to_owned();
                let answer = Answer::Error(HandlerError::Hub(text));
                self.answer(slot, debt.id.as_deref(), &debt.target, &answer);
                self.drop_uploads(debt.to, debt.uploads);
            }
            return ReplyHandle::new(self.shared.clone(), None);
        }
        self.owed_serial += 1;
        debt.number = self.owed_serial;
        self.owed.insert(debt.number);
        if debt.counts {
            self.invocation_begun(debt.to.slot());
        }
        ReplyHandle::new(self.shared.clone(), Some(debt))
    }

    /// A deferred answer has come.
    pub(crate) fn settle(&mut self, debt: Debt, answer: &Answer) {
        if !self.owed.remove(&debt.number) {
            // The call that put it off has failed, and that was the answer.
            return;
        }
        let Some(slot) = self.resolve(debt.to).filter(|&slot| self.is_member(slot)) else { return };
        match answer {
            Answer::Void | Answer::Value(_) | Answer::Raw(_) if debt.streaming => {
                let answer = Answer::Error(wrong_invocation("non-streaming", &debt.target, "streaming"));
                self.answer(slot, debt.id.as_deref(), &debt.target, &answer);
            }
            answer => self.answer(slot, debt.id.as_deref(), &debt.target, answer),
        }
        self.drop_uploads(debt.to, debt.uploads);
        if debt.counts && self.is_member(slot) {
            self.invocation_ended(slot);
        }
    }

    /// Whether a handle that a call has taken still owes its answer.
    pub(crate) fn is_owed(&self, slot: Slot, taken: Taken) -> bool {
        let streams = || taken.stream.is_some_and(|serial| self.streams.is_open(self.reference(slot), serial));
        taken.debt.is_some_and(|(number, _)| self.owed.contains(&number)) || streams()
    }

    /// A call has put its answer off and then failed: its error is the answer, unless a handle has given one. `taken`
    /// are the handles that it took.
    pub(crate) fn settle_failed(&mut self, slot: Slot, calling: Calling<'_>, taken: Taken, answer: &Answer) {
        let (id, connection) = (calling.id, self.reference(slot));
        let owed = taken.debt.filter(|(number, _)| self.owed.remove(number));
        let open = taken.stream.is_some_and(|serial| self.forget_stream(connection, serial));
        if owed.is_none() && !open {
            return;
        }
        self.answer(slot, id, calling.target, answer);
        self.drop_uploads(connection, taken.uploads);
        if owed.is_some_and(|(_, counts)| counts) && self.is_member(slot) {
            self.invocation_ended(slot);
        }
    }
}

/// What the code of a call has taken in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// The first deferred answer, and whether its invocation counts as running.
    pub(crate) debt: Option<(u64, bool)>,
    /// The stream that it opened.
    pub(crate) stream: Option<u64>,
    /// The name of the invocation that its upload streams end with, 0 for none.
    pub(crate) uploads: u64,
}

impl Taken {
    /// Whether a handle answers.
    pub(crate) fn is_deferred(&self) -> bool {
        self.debt.is_some() || self.stream.is_some()
    }
}
