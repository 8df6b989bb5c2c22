//! Work that handlers put off: until a time has come, or until a client is owed nothing.

use crate::conn::outbox;
use crate::conn::slots::Flags;
use crate::hub::context::Context;
use crate::hub::directory::ConnRef;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;

/// Work that a handler has put off.
pub type Continuation = Box<dyn FnOnce(&mut Context<'_>) + Send>;

/// A continuation and when it is due.
pub struct Timer {
    due_us: u64,
    serial: u64,
    connection: ConnRef,
    work: Continuation,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Earliest first out of a max-heap.
        (other.due_us, other.serial).cmp(&(self.due_us, self.serial))
    }
}

impl Switchboard {
    /// Runs `work` for the connection once `due_us` has come. `Err`: too much is waiting already.
    pub(crate) fn run_at(&mut self, slot: Slot, due_us: u64, work: Continuation) -> Result<(), Continuation> {
        if self.timers.len() >= self.limits.continuations_max {
            self.forget_timers_of_the_gone();
        }
        if self.timers.len() >= self.limits.continuations_max {
            return Err(work);
        }
        self.timer_serial += 1;
        let connection = self.reference(slot);
        self.timers.push(Timer { due_us, serial: self.timer_serial, connection, work });
        Ok(())
    }

    /// Work of connections that have gone waits until it is due, unless its room is needed. Looked for once a second at
    /// most: it walks them all.
    fn forget_timers_of_the_gone(&mut self) {
        if self.now_us < self.timers_sifted_us + 1_000_000 {
            return;
        }
        self.timers_sifted_us = self.now_us;
        let timers = std::mem::take(&mut self.timers);
        self.timers = timers.into_iter().filter(|timer| self.resolve(timer.connection).is_some()).collect();
    }

    /// When the earliest continuation is due, or the time of a client that was asked is over.
    pub(crate) fn next_timer_us(&self) -> Option<u64> {
        let timer_us = self.timers.peek().map(|timer| timer.due_us);
        [timer_us, self.asks.next_due_us()].into_iter().flatten().min()
    }

    /// Runs what is due. What that puts off in turn waits for the next turn, however soon it is due.
    pub(crate) fn run_timers(&mut self) {
        self.expire_asks();
        let last = self.timer_serial;
        let mut later = Vec::new();
        while self.timers.peek().is_some_and(|timer| timer.due_us <= self.now_us) {
            let Some(timer) = self.timers.pop() else { break };
            if timer.serial > last {
                later.push(timer);
            } else if let Some(slot) = self.resolve(timer.connection).filter(|&slot| self.is_member(slot)) {
                (timer.work)(&mut Context::new(self, slot));
            }
        }
        self.timers.extend(later);
    }

    /// Runs `work` for the connection once it owes its client nothing. `Err`: too much is waiting already.
    pub(crate) fn run_when_drained(&mut self, slot: Slot, work: Continuation) -> Result<(), Continuation> {
        if self.drained_works >= self.limits.continuations_max || !self.is_member(slot) {
            return Err(work);
        }
        self.drained_works += 1;
        let reference = self.reference(slot);
        self.drained_work.entry(reference).or_default().push(work);
        let hot = self.slots.hot_mut(slot);
        hot.flags.set(Flags::NOTIFY_DRAINED);
        if outbox::is_clear(hot) {
            self.drained.push(reference);
        }
        Ok(())
    }

    /// What waits for the connection's outbox to become empty.
    pub(super) fn take_drained_work(&mut self, slot: Slot) -> Vec<Continuation> {
        let reference = self.reference(slot);
        let works = self.drained_work.remove(&reference).unwrap_or_default();
        self.drained_works -= works.len();
        works
    }

    /// Runs what waited for empty outboxes, once each per call: what it starts waits for the next.
    pub(crate) fn run_drained(&mut self) {
        for connection in std::mem::take(&mut self.drained) {
            let Some(slot) = self.resolve(connection) else { continue };
            let hot = self.slots.hot_mut(slot);
            if !outbox::is_clear(hot) || !hot.flags.take(Flags::NOTIFY_DRAINED) {
                continue;
            }
            for work in self.take_drained_work(slot) {
                if self.is_member(slot) {
                    work(&mut Context::new(self, slot));
                }
            }
        }
    }
}
