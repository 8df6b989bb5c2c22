//! Between the handshake and the load: joining groups, learning one's id, opening one's stream.
//!
//! A connection counts as open when all its calls are answered, so that nothing is published to a group that is not
//! complete. What each has to say follows from its number in the fleet alone, and is the same when it comes back.

use crate::audience::{Shape, destinations_of};
use crate::client::{Role, State};
use crate::job::Entry;
use crate::opening::LOG_FULL;
use crate::posting::Errand;
use crate::wire::Own;
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::negotiate::Transport;

impl<D: Dial> Worker<D> {
    /// A receiver's number in the whole fleet.
    pub(crate) fn number(&self, slot: Slot) -> u32 {
        self.first + slot.0
    }

    /// What the requests of a connection have that those of others have not: users, where there are some.
    pub(crate) fn own(&self, slot: Slot) -> Own {
        let Entry::User { key } = self.setup.entry() else { return Own::default() };
        let user = self.conns[slot.0 as usize].role.receives().then(|| {
            let shape = self.setup.audience.shape();
            shape.name_of(destinations_of(shape, self.number(slot), self.setup.job.seed)[0])
        });
        if let Some(tokens) = &self.setup.job.server.tokens {
            let authorization = Some(format!("Bearer {}", tokens.mint(user.as_deref())));
            return Own { authorization, ..Own::default() };
        }
        Own { query: user.map(|user| format!("{key}={user}")).unwrap_or_default(), ..Own::default() }
    }

    fn groups_of(&self, slot: Slot) -> Vec<String> {
        let shape = self.setup.audience.shape();
        let class = usize::from(self.conns[slot.0 as usize].class);
        if !self.fleet().classes.get(class).is_some_and(|class| class.member) {
            return Vec::new();
        }
        match shape {
            Shape::Groups { .. } => destinations_of(shape, self.number(slot), self.setup.job.seed)
                .into_iter()
                .map(|group| shape.name_of(group))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The hub messages a receiver enters with.
    pub(crate) fn entry_calls(&self, slot: Slot) -> Vec<u8> {
        let calls = self.voice(slot).wire.entry_calls(self.setup.entry(), &self.groups_of(slot));
        calls.map(|(bytes, _)| bytes).unwrap_or_default()
    }

    /// The handshake is done: says what there is to say, or is open.
    pub(crate) fn enter(&mut self, slot: Slot) {
        if !self.conns[slot.0 as usize].role.receives() {
            return self.opened(slot);
        }
        let calls = self.voice(slot).wire.entry_calls(self.setup.entry(), &self.groups_of(slot));
        let (bytes, answers) = match calls {
            Ok(calls) => calls,
            Err(failure) => return self.break_off(slot, failure.cause),
        };
        if answers > 0 {
            self.conns[slot.0 as usize].state = State::Entering;
            self.entering.insert(slot.0, answers);
        }
        if !bytes.is_empty() {
            if self.transport(slot) != Transport::WebSockets {
                self.post(slot, Errand::Enter);
            } else {
                let frame = self.voice(slot).wire.frame(&bytes);
                if !self.say_own(slot, &frame) {
                    return self.break_off(slot, LOG_FULL.to_owned());
                }
            }
        }
        if answers == 0 {
            self.opened(slot);
        }
    }

    /// The answer to a call.
    pub(crate) fn completed(&mut self, slot: Slot, role: Role, answer: Result<Option<String>, String>) {
        if self.conns[slot.0 as usize].state == State::Entering {
            return self.entered(slot, answer);
        }
        let Err(text) = answer else { return };
        let speaks = self.setup.job.task.load().is_some_and(crate::job::Load::is_own);
        if role == Role::Publisher || speaks {
            self.setup.shared.refuse(text);
        }
    }

    fn entered(&mut self, slot: Slot, answer: Result<Option<String>, String>) {
        match (answer, self.setup.entry()) {
            (Err(text), entry) => {
                let what = match entry {
                    Entry::Join { method } | Entry::AskId { method } => method.clone(),
                    _ => "the first call".to_owned(),
                };
                return self.break_off(slot, format!("{what} refused: {text}"));
            }
            (Ok(Some(id)), Entry::AskId { .. }) => self.setup.shared.set_name(self.number(slot), &id),
            (Ok(None), Entry::AskId { method }) => {
                let text = format!("{method} did not return a connection id");
                return self.break_off(slot, text);
            }
            _ => {}
        }
        let left = self.entering.get_mut(&slot.0).map_or(0, |left| {
            *left -= 1;
            *left
        });
        if left == 0 {
            self.entering.remove(&slot.0);
            self.opened(slot);
        }
    }
}
