//! Policies for clients that do not keep up: which of the messages that wait for one are dropped, and when.
//!
//! What may be dropped is told by the class of its run ([`Extent::class`]), which the publisher's shard gives it and notes
//! carry along. Boundaries are kept by not merging: a fan knows its messages one by one (`Fans::parts`), and an outbox of
//! a path with a policy gets them so. Nothing is looked up in the bytes. A path without a policy, and a client that owes
//! nothing, get the fan's one run as ever; where no path has a policy no message has a class and no fan has parts.
//!
//! ```text
//! class  0, 1       must be delivered: answers, items, questions, pings, closes; what a session's client counts
//!        2          may be dropped
//!        3 to 255   may be dropped, and is a call of this client method (`Targets`)
//! ```
//!
//! Only a full client loses anything: one whose socket takes no more, a long-polling client without a poll, a session whose
//! window is full. What has moved on, to the answer of a poll or into a window, has been promised and is delivered.

use crate::buf::Extent;
use crate::buf::segment::SEGMENT_BYTES;
use crate::conn::endpoint::{Endpoint, SlowPolicy};
use crate::conn::outbox::{self, Dropped, Verdict};
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::hub::context::Context;
use crate::hub::directory::ConnRef;
use crate::hub::outgoing::Outgoing;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Client methods of an engine that can be told apart: one class each. Calls of further ones are delivered all, under
/// `SlowPolicy::KeepLatest` as well.
pub const TARGETS_MAX: usize = (u8::MAX - Extent::DROPPABLE) as usize;

/// Classes of client methods, the same on all shards: notes carry them.
#[derive(Debug, Default)]
pub struct Targets(Mutex<HashMap<Box<str>, u8>>);

impl Targets {
    /// The class of a method, new or not. `None`: there are as many as there may be.
    fn class_of(&self, target: &str) -> Option<u8> {
        let mut classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&class) = classes.get(target) {
            return Some(class);
        }
        let next = classes.len();
        let class = (next < TARGETS_MAX).then(|| Extent::DROPPABLE + 1 + next as u8)?;
        classes.insert(target.into(), class);
        Some(class)
    }
}

/// What a shard knows of policies.
#[derive(Debug)]
pub(crate) struct Shedding {
    /// Of each endpoint.
    policies: Vec<SlowPolicy>,
    /// Some path has one that drops.
    is_on: bool,
    /// Some path keeps the latest of each method.
    by_target: bool,
    /// Classes that were asked for before.
    classes: HashMap<Box<str>, u8>,
    /// Connections that have lost messages, and whose hosts are to be told.
    lossy: Vec<ConnRef>,
}

impl Shedding {
    pub(crate) fn new(endpoints: &[Endpoint]) -> Self {
        let policy = |endpoint: &Endpoint| endpoint.hub_options().map_or_else(SlowPolicy::default, |o| o.slow_policy);
        let policies: Vec<SlowPolicy> = endpoints.iter().map(policy).collect();
        Self {
            is_on: policies.iter().any(|policy| *policy != SlowPolicy::Disconnect),
            by_target: policies.contains(&SlowPolicy::KeepLatest),
            policies,
            classes: HashMap::new(),
            lossy: Vec::new(),
        }
    }
}

/// First runs of messages that may be dropped.
fn droppable(runs: impl Iterator<Item = Extent>) -> impl Iterator<Item = Extent> {
    let mut continued = false;
    runs.filter(move |run| {
        let is_first = !std::mem::replace(&mut continued, run.flags & Extent::CONTINUES != 0);
        is_first && run.may_drop()
    })
}

fn is_begun(run: &Extent) -> bool {
    run.flags & Extent::BEGUN != 0
}

impl Switchboard {
    /// The class of a message for many.
    pub(crate) fn class_of(&mut self, message: &Outgoing<'_>) -> u8 {
        let Outgoing::Invocation { target, .. } = *message else { return 0 };
        if !self.shedding.by_target {
            return if self.shedding.is_on { Extent::DROPPABLE } else { 0 };
        }
        if let Some(&class) = self.shedding.classes.get(target) {
            return class;
        }
        if self.shedding.classes.len() == TARGETS_MAX {
            return Extent::DROPPABLE;
        }
        let Some(class) = self.shared.targets.class_of(target) else { return Extent::DROPPABLE };
        self.shedding.classes.insert(target.into(), class);
        class
    }

    /// The policy that applies to what is in the outbox of `slot` now.
    fn policy(&self, slot: Slot) -> SlowPolicy {
        let hot = self.slots.hot(slot);
        if !self.shedding.is_on || hot.state != State::Open {
            return SlowPolicy::Disconnect;
        }
        self.shedding.policies[hot.endpoint as usize]
    }

    /// Whether some of what is for this connection may be dropped.
    pub(super) fn may_drop_of(&self, slot: Slot) -> bool {
        self.policy(slot) != SlowPolicy::Disconnect
    }

    /// Before `run` is added to what a connection is owed: a full one loses what its policy says. Returns the run as it
    /// is to be added.
    pub(super) fn make_room(&mut self, slot: Slot, run: Extent) -> Extent {
        if !self.shedding.is_on {
            return run;
        }
        let policy = self.policy(slot);
        if policy == SlowPolicy::Disconnect {
            return run.undroppable();
        }
        let (hot, runs) = self.slots.outbox(slot);
        // What has begun to be said is finished first.
        if !hot.flags.has(Flags::POLL_OUT_ARMED) || outbox::is_mid_message(hot, runs) {
            return run;
        }
        if policy == SlowPolicy::KeepLatest && run.class > Extent::DROPPABLE {
            self.drop_class(slot, run.class);
        }
        let (bytes, messages) = self.excess(slot, run);
        // One that fits into no outbox makes no room worth having.
        if (bytes, messages) == (0, 0) || run.len as usize > self.limits.outbox_bytes_max {
            return run;
        }
        match policy {
            SlowPolicy::DropOldest => self.drop_oldest(slot, bytes as u64, messages, !run.may_drop()),
            // What came before the client was full waits as it came.
            _ => self.conflate(slot),
        };
        run
    }

    /// Bytes and messages that would be too many with `run`.
    fn excess(&mut self, slot: Slot, run: Extent) -> (usize, usize) {
        let messages_max = self.messages_max();
        let (hot, runs) = self.slots.outbox(slot);
        let bytes = hot.owed_bytes as usize + run.len as usize;
        let messages = outbox::run_count(hot, runs) + 1;
        (bytes.saturating_sub(self.limits.outbox_bytes_max), messages.saturating_sub(messages_max))
    }

    /// Messages that one client may owe us reading: so few that the pieces of one more still fit.
    fn messages_max(&self) -> usize {
        let pieces_max = self.limits.publish_bytes_max / SEGMENT_BYTES + 2;
        let runs_max = self.limits.outbox_runs_max.saturating_sub(pieces_max).max(1);
        self.limits.outbox_messages_max.clamp(1, runs_max)
    }

    /// Drops the oldest messages until so many bytes and so many runs are gone; with `spare_newest`, not the newest that may
    /// be dropped: nothing that replaces it comes.
    fn drop_oldest(&mut self, slot: Slot, bytes: u64, runs: usize, spare_newest: bool) -> u64 {
        let (mut bytes_left, mut runs_left) = (bytes, runs);
        let (hot, queues) = self.slots.outbox(slot);
        let spared = spare_newest.then(|| droppable(outbox::iter(hot, queues)).last()).flatten();
        let dropped = outbox::drop_messages(hot, queues, &mut self.holdings, is_begun, |first, runs, bytes| {
            if bytes_left == 0 && runs_left == 0 || spared.as_ref() == Some(first) {
                return Verdict::Stop;
            }
            bytes_left = bytes_left.saturating_sub(u64::from(bytes));
            runs_left = runs_left.saturating_sub(runs);
            Verdict::Drop
        });
        self.counters.dropped_oldest_total.add(u64::from(dropped.messages));
        self.note_loss(slot, dropped)
    }

    /// Drops the calls of one client method: a newer one comes.
    fn drop_class(&mut self, slot: Slot, class: u8) {
        let (hot, queues) = self.slots.outbox(slot);
        let dropped = outbox::drop_messages(hot, queues, &mut self.holdings, is_begun, |first, _, _| {
            if first.class == class { Verdict::Drop } else { Verdict::Keep }
        });
        self.counters.conflated_total.add(u64::from(dropped.messages));
        self.note_loss(slot, dropped);
    }

    /// Drops all calls but the newest of each client method.
    fn conflate(&mut self, slot: Slot) -> u64 {
        let (hot, queues) = self.slots.outbox(slot);
        let mut newest = [Extent::default(); 1 + u8::MAX as usize];
        droppable(outbox::iter(hot, queues)).for_each(|first| newest[first.class as usize] = first);
        let dropped = outbox::drop_messages(hot, queues, &mut self.holdings, is_begun, |first, _, _| {
            let stays = first.class == Extent::DROPPABLE || newest[first.class as usize] == *first;
            if stays { Verdict::Keep } else { Verdict::Drop }
        });
        self.counters.conflated_total.add(u64::from(dropped.messages));
        self.note_loss(slot, dropped)
    }

    /// Returns the bytes that were dropped.
    fn note_loss(&mut self, slot: Slot, dropped: Dropped) -> u64 {
        if dropped.messages > 0 && !self.slots.cold(slot).flags.has(ColdFlags::LOSSY) {
            let reference = self.reference(slot);
            self.slots.cold_mut(slot).flags.set(ColdFlags::LOSSY);
            self.counters.lossy_connections_total.add(1);
            self.shedding.lossy.push(reference);
        }
        u64::from(dropped.bytes)
    }

    /// Hosts are told of clients that have lost their first messages.
    pub(super) fn tell_hosts_of_losses(&mut self) {
        while let Some(connection) = self.shedding.lossy.pop() {
            let Some(slot) = self.resolve(connection).filter(|&slot| self.is_member(slot)) else { continue };
            let policy = self.policy(slot);
            let host = self.hosts[self.hub_of(self.slots.hot(slot).endpoint).0 as usize].clone();
            host.fell_behind(&mut Context::new(self, slot), policy);
        }
    }

    /// Puts back what a send without state could not deliver of the fan that was with the kernel.
    pub(crate) fn put_back(&mut self, slot: Slot, rest: Extent) {
        let may_drop = self.may_drop_of(slot);
        let (hot, queues) = self.slots.outbox(slot);
        let variation = hot.variation;
        let mut parts = self.fans.flying_parts().map(|part| part[variation]).peekable();
        if !may_drop || parts.peek().is_none() {
            return outbox::push_front(hot, queues, &mut self.holdings, rest);
        }
        // The last one first: each goes before those that are there.
        for mut part in parts {
            let sent = rest.offset.saturating_sub(part.offset).min(part.len);
            if sent == part.len {
                break;
            }
            if sent > 0 {
                part.advance(sent);
                part.flags |= Extent::BEGUN;
            }
            outbox::push_front(hot, queues, &mut self.holdings, part);
        }
    }

    // -- all clients together -------------------------------------------------------------------------------------

    /// Ten times a second: when the clients of this shard owe more than its share of what all may, those that owe most
    /// lose by their policies. `counted_bytes` is what they were owed when they were last swept.
    pub(crate) fn keep_total(&mut self, counted_bytes: u64) {
        let share_bytes = (self.limits.outbox_total_bytes_max / self.senders.len().max(1)) as u64;
        if self.limits.outbox_total_bytes_max == 0 || counted_bytes <= share_bytes {
            return;
        }
        let mut owed_bytes = 0;
        let mut owing: Vec<(u32, Slot)> = Vec::new();
        for slot in self.slots.all() {
            let hot = self.slots.hot(slot);
            owed_bytes += u64::from(hot.owed_bytes);
            if hot.owed_bytes > 0 && hot.flags.has(Flags::POLL_OUT_ARMED) && hot.state != State::Closing {
                owing.push((hot.owed_bytes, slot));
            }
        }
        owing.sort_unstable_by(|a, b| b.cmp(a));
        for (_, slot) in owing {
            if owed_bytes <= share_bytes {
                return;
            }
            owed_bytes -= self.shed(slot, owed_bytes - share_bytes);
        }
    }

    /// Takes up to `bytes` from what a connection is owed, by its policy; everything if that takes nothing. Returns how
    /// many there were. The newest message stays.
    fn shed(&mut self, slot: Slot, bytes: u64) -> u64 {
        let owed_bytes = u64::from(self.slots.hot(slot).owed_bytes);
        let freed_bytes = match self.policy(slot) {
            SlowPolicy::Disconnect => 0,
            SlowPolicy::KeepLatest => self.conflate(slot),
            SlowPolicy::DropOldest => self.drop_oldest(slot, bytes, 0, true),
        };
        if freed_bytes > 0 {
            return freed_bytes;
        }
        self.counters.total_closed_total.add(1);
        self.drop_slow(slot);
        owed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_classes_of_their_own_until_there_are_none_left() {
        let targets = Targets::default();
        let first = targets.class_of("first");
        assert_eq!(first, Some(Extent::DROPPABLE + 1));
        for n in 1..TARGETS_MAX {
            assert!(targets.class_of(&n.to_string()) > first);
        }
        assert_eq!(targets.class_of("one too many"), None);
        assert_eq!(targets.class_of("first"), first);
        assert_eq!(targets.class_of(&(TARGETS_MAX - 1).to_string()), Some(u8::MAX));
    }
}
