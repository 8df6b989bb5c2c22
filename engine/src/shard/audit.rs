//! What must hold, looked at the slow way: for simulations and other tests.

use crate::conn::outbox;
use crate::conn::slots::State;
use crate::hub::switchboard::Switchboard;
use crate::io::{Io, Slot};
use crate::shard::{Phase, Shard};

impl<I: Io> Shard<I> {
    /// What must hold between turns.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.board.check()?;
        self.board.check_runs()
    }

    /// What must hold, besides, when every connection has gone: nothing is kept for anybody.
    pub(crate) fn check_empty(&self) -> Result<(), String> {
        self.check()?;
        self.board.check_nobody()?;
        if self.phase == Phase::Stopping {
            // A shard that has stopped waits neither for late answers nor for the last broadcast to land.
            return Ok(());
        }
        none_of(&[
            ("receive buffers", usize::from(self.pool.lent())),
            ("sends with the kernel", self.flights.outstanding() as usize),
            ("lent descriptors", self.lent),
        ])?;
        self.board.check_log()
    }
}

impl Switchboard {
    /// Every run owed lies in written bytes of a segment that this shard holds: it cannot be reused under the run.
    fn check_runs(&self) -> Result<(), String> {
        for index in 0..self.slots.len() {
            let hot = self.slots.hot(Slot(index as u32));
            for run in outbox::iter(hot, &self.slots.runs) {
                if self.holdings.held(run.segment) == 0 {
                    return Err(format!("slot {index} owes {run:?}, whose segment is not held"));
                }
                if !self.logs.has_written(run) {
                    return Err(format!("slot {index} owes {run:?}, which outlived its segment"));
                }
            }
        }
        Ok(())
    }

    /// No table knows anybody.
    fn check_nobody(&self) -> Result<(), String> {
        let tenants = (0..self.slots.len()).filter(|&at| self.slots.hot(Slot(at as u32)).state != State::Free);
        none_of(&[
            ("slots", tenants.count()),
            ("outbox queues", self.slots.runs.len()),
            ("unfinished messages", self.slots.partials.len()),
            ("bytes of unfinished messages", self.slots.partials.bytes()),
            ("kept requests and user ids", self.requests.len() as usize),
            ("groups", self.registry.group_count()),
            ("memberships", self.registry.membership_count()),
            ("connected ids", self.shared.directory.len()),
            ("works waiting for an empty outbox", self.drained_work.len()),
            ("late connections", self.counters.slow_connections.get() as usize),
        ])
    }

    /// Every segment but the open ones is free again.
    fn check_log(&self) -> Result<(), String> {
        let backed_up = self.senders.iter().flatten().filter(|sender| sender.is_backed_up());
        none_of(&[
            ("held runs", self.holdings.total() as usize),
            ("rings to other shards with notes waiting", backed_up.count()),
            ("sealed segments", self.owner.sealed()),
        ])
    }
}

fn none_of(left: &[(&str, usize)]) -> Result<(), String> {
    match left.iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(format!("{count} {what} left although nobody is there")),
        None => Ok(()),
    }
}
