//! What must hold, looked at the slow way: for simulations and other tests.

use crate::conn::outbox;
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::hub::registry::HubId;
use crate::hub::switchboard::Switchboard;
use crate::io::Io;
use crate::shard::{Phase, Shard};

impl<I: Io> Shard<I> {
    /// Bytes that its clients are owed.
    pub(crate) fn owed_bytes(&self) -> u64 {
        self.board.owed_bytes(self.board.slots.all())
    }

    /// What must hold between turns.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.board.check_tables()?;
        self.board.check_runs()
    }

    /// What must hold, besides, when every connection has gone: nothing is kept for anybody.
    pub(crate) fn check_empty(&self) -> Result<(), String> {
        self.check()?;
        self.board.check_nobody()?;
        if self.phase == Phase::Stopping {
            // A shard that has stopped waits neither for late answers, ours or the kernel's, nor for the last broadcast to
            // land.
            return Ok(());
        }
        none_of(&[
            ("receive buffers", usize::from(self.pool.lent())),
            ("sends with the kernel", self.flights.outstanding() as usize),
            ("lent descriptors", self.lent),
            ("sockets that nobody has answered for", self.handed_over.len()),
            ("parcels", self.board.shared.parcels[self.board.shard as usize].len()),
            ("answers owed", self.board.answers_owed()),
            ("sockets nobody has introduced", self.strangers()),
        ])?;
        self.board.check_log()
    }
}

impl Switchboard {
    /// What the tables say of each other between turns.
    fn check_tables(&self) -> Result<(), String> {
        let mut runs_owed = 0;
        let (mut members, mut memberships) = (0, 0);
        for slot in self.slots.all() {
            let hot = self.slots.hot(slot);
            let owed: u64 = outbox::iter(hot, &self.slots.runs).map(|run| u64::from(run.len)).sum();
            runs_owed += outbox::run_count(hot, &self.slots.runs) as u64;
            if owed != u64::from(hot.owed_bytes) {
                return Err(format!("{slot:?}: {owed} bytes in runs, {} counted", hot.owed_bytes));
            }
            if matches!(hot.state, State::Free | State::Closing) && (owed > 0 || hot.partial != 0 || hot.groups != 0) {
                return Err(format!("{slot:?} is {:?} and still owns something", hot.state));
            }
            let sealed = self.tls.get(slot).map_or(0, |stream| stream.sealed());
            if sealed > hot.owed_bytes {
                return Err(format!("{slot:?}: {sealed} bytes encrypted, {} owed", hot.owed_bytes));
            }
            if self.tls.has(slot) && matches!(hot.state, State::Free | State::Closing) {
                return Err(format!("{slot:?} is {:?} and still speaks TLS", hot.state));
            }
            members += usize::from(hot.flags.has(Flags::MEMBER));
            memberships += self.registry.memberships(hot.groups).len();
            if hot.flags.has(Flags::MEMBER) {
                let hub = self.hub_of(hot.endpoint);
                if self.registry.hub(hub).slots.get(hot.member_position as usize) != Some(&slot) {
                    return Err(format!("{slot:?} is not where its record says in the hub's list"));
                }
            }
        }
        runs_owed += self.windows.values().map(|window| window.runs().count() as u64).sum::<u64>();
        if self.holdings.total() < runs_owed {
            return Err(format!("{runs_owed} runs are owed, {} held", self.holdings.total()));
        }
        if self.fans.is_empty() && !self.fans.is_flying() && self.holdings.total() != runs_owed {
            return Err(format!("{runs_owed} runs are owed, {} held, nothing is flying", self.holdings.total()));
        }
        let listed: usize = (0..self.hosts.len()).map(|hub| self.registry.hub(HubId(hub as u16)).slots.len()).sum();
        if listed != members || self.counters.connections_open.get() != members as u64 {
            return Err(format!(
                "{members} members, {listed} listed, {} counted",
                self.counters.connections_open.get()
            ));
        }
        for (what, kept, counted) in [
            ("streams", self.streams.len(), self.counters.streams_open.get()),
            ("streams of clients", self.uploads.len(), self.counters.upload_streams_open.get()),
            ("client results", self.asks.len(), self.counters.client_results_pending.get()),
        ] {
            if kept as u64 != counted {
                return Err(format!("{kept} {what} kept, {counted} counted"));
            }
        }
        let pending = self.slots.all().filter(|&slot| self.slots.cold(slot).flags.has(ColdFlags::PENDING)).count();
        if self.counters.handshakes_pending.get() != pending as u64 {
            return Err(format!("{pending} handshakes awaited, {} counted", self.counters.handshakes_pending.get()));
        }
        let shaking = self.slots.all().filter(|&slot| self.tls.is_handshaking(slot)).count();
        if self.tls.handshaking() != shaking {
            return Err(format!("{shaking} handshakes of TLS, {} counted", self.tls.handshaking()));
        }
        if self.registry.membership_count() != memberships {
            return Err(format!("{memberships} memberships reachable, {} kept", self.registry.membership_count()));
        }
        Ok(())
    }

    /// Every run owed lies in written bytes of a segment that this shard holds: it cannot be reused under the run.
    fn check_runs(&self) -> Result<(), String> {
        for slot in self.slots.all() {
            let hot = self.slots.hot(slot);
            for run in outbox::iter(hot, &self.slots.runs) {
                if self.holdings.held(run.segment) == 0 {
                    return Err(format!("{slot:?} owes {run:?}, whose segment is not held"));
                }
                if !self.logs.has_written(run) {
                    return Err(format!("{slot:?} owes {run:?}, which outlived its segment"));
                }
            }
        }
        Ok(())
    }

    /// No table knows anybody.
    fn check_nobody(&self) -> Result<(), String> {
        let tenants = self.slots.all().filter(|&slot| self.slots.hot(slot).state != State::Free);
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
            ("requests without an answer", self.waiting.len()),
            ("carriers", self.carriers.len()),
            ("windows", self.windows.len()),
            ("POSTs under way", self.posting.len()),
            ("POSTs waiting for room", self.held_posts.len()),
            ("POSTs on their way elsewhere", self.lost_posts.len()),
            ("sockets on their way elsewhere", self.moving.len()),
            ("streams to clients", self.streams.len()),
            ("streams of clients", self.uploads.len()),
            ("client results awaited", self.asks.len()),
            ("client results awaited by all shards", self.shared.asked.len()),
            ("late connections", self.counters.slow_connections.get() as usize),
            ("handshakes awaited", self.counters.handshakes_pending.get() as usize),
            ("TLS connections", self.tls.len()),
            ("handshakes of TLS", self.tls.handshaking()),
            ("bytes of unfinished records", self.tls.inbound_bytes()),
            ("addresses of sockets", self.peers.len()),
            ("tickets", self.tickets.len()),
            ("places of users and addresses", self.shared.admission.taken()),
            ("accounts of clients", self.uplinks.len()),
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
