//! How a connection ends: in order, at once, for being slow, for breaking a rule. Whatever the way, it leaves everything it
//! was in, and its host is told once.

use crate::conn::outbox;
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::event::CloseReason;
use crate::hub::context::Context;
use crate::hub::host::CLOSED_WITH_ERROR;
use crate::hub::outgoing::Outgoing;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::session::ticks_from_ms;
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::encode;

impl Switchboard {
    /// Takes a member out of everything and tells its host. The id of a session that still has something to say stays
    /// its own: the next poll asks for it.
    fn depart(&mut self, slot: Slot, reason: CloseReason, forget: bool) {
        self.end_handshake(slot);
        if forget {
            self.forget_identity(slot);
        }
        if !self.slots.hot_mut(slot).flags.take(Flags::MEMBER) {
            return;
        }
        // It named a group. Who is no member has it name an entry of `requests`, by now somebody else's.
        self.slots.cold_mut(slot).user = 0;
        let (endpoint, position, variation) = {
            let hot = self.slots.hot(slot);
            (hot.endpoint, hot.member_position, hot.variation)
        };
        let hub = self.hub_of(endpoint);
        if let Some(moved) = self.registry.remove_member(hub, position, variation) {
            self.slots.hot_mut(moved).member_position = position;
        }
        self.shared.interest.member(self.shard, hub.0, variation, -1);
        loop {
            let hot = self.slots.hot_mut(slot);
            let Some(last) = self.registry.memberships(hot.groups).last().map(|m| m.group) else { break };
            let Some(change) = self.registry.leave_last(&mut hot.groups, variation) else { break };
            self.after_leaving(last, change);
        }
        self.counters.connections_open.sub(1);
        self.take_drained_work(slot);
        self.cancel_streams(slot);
        self.drop_all_uploads(slot);
        self.forget_asks(slot);
        let host = self.hosts[hub.0 as usize].clone();
        host.disconnected(&mut Context::new(self, slot), reason);
    }

    /// Its hub handshake is awaited no longer: it has come, or will not.
    pub(super) fn end_handshake(&mut self, slot: Slot) {
        if self.slots.cold_mut(slot).flags.take(ColdFlags::PENDING) {
            self.counters.handshakes_pending.sub(1);
        }
    }

    fn forget_identity(&mut self, slot: Slot) {
        let reference = self.reference(slot);
        let cold = *self.slots.cold(slot);
        let id = cold.id;
        if self.slots.cold_mut(slot).flags.take(ColdFlags::CLAIMED) {
            self.claimed -= 1;
            self.tickets.remove(&slot);
            let now_s = self.now_s();
            // A longer life than the token's leaves nothing to remember.
            let negotiated = cold.flags.has(ColdFlags::NEGOTIATED);
            let token_good = negotiated && now_s.saturating_sub(cold.connected_at_s) <= self.limits.negotiate_ttl_s;
            if token_good {
                let until_s = now_s + self.limits.negotiate_ttl_s + 1;
                let forgotten = self.shared.directory.spend(&id, reference, now_s, until_s);
                self.counters.spent_forgotten_total.add(u64::from(forgotten));
            } else {
                self.shared.directory.release(&id, reference);
            }
        }
        if !self.is_member(slot) {
            // Never admitted: the user id is still with the requests.
            let user = std::mem::take(&mut self.slots.cold_mut(slot).user);
            self.requests.remove(user);
        }
    }

    /// Ends a connection in order: the hub's close message if `close` says so (error text, may reconnect), the
    /// WebSocket's close frame, and the time a peer has to answer it.
    pub(crate) fn farewell(
        &mut self,
        slot: Slot,
        reason: CloseReason,
        close: Option<(Option<&str>, bool)>,
        code: CloseCode,
    ) {
        let state = self.slots.hot(slot).state;
        if matches!(state, State::Farewell | State::Closing | State::Free) {
            return;
        }
        if let (State::Open, Some((error, allow_reconnect))) = (state, close) {
            let _ = self.tell(slot, &Outgoing::Close { error, allow_reconnect });
        }
        let transport = self.slots.hot(slot).variation.transport();
        let is_upgraded =
            matches!(state, State::Open | State::Handshake | State::Echo | State::Carrying) && !slot.is_session();
        if is_upgraded && transport == Transport::WebSockets {
            let mut frame = Vec::new();
            encode::write_close(&mut frame, Some(code), "");
            let _ = self.tell_bytes(slot, &frame);
        }
        self.catch_up(slot);
        if slot.is_session() {
            self.retire_session(slot);
        } else {
            let tick = self.tick();
            let limit = ticks_from_ms(self.limits.close_timeout_ms);
            let hot = self.slots.hot_mut(slot);
            hot.state = State::Farewell;
            hot.session.begin_close(tick, limit);
            hot.flags.clear(Flags::PAUSED);
            // HTTP has no goodbye to wait for: its last byte is the end.
            if !is_upgraded || transport != Transport::WebSockets {
                hot.flags.set(Flags::CLOSE_WHEN_SENT);
            }
            // What waits to be read, and the peer's goodbye, is still to come: it is read and thrown away.
            self.want_read(slot);
            self.want_unread(slot);
            self.make_dirty(slot);
        }
        self.answer_posts(self.reference(slot), 200);
        self.slots.cold_mut(slot).close_reason = reason as u8;
        self.depart(slot, reason, !slot.is_session());
    }

    /// Ends a connection whose input makes no sense any more (RFC 6455 7.1.7, HTTP errors): says why, ends our
    /// direction, and throws away what still comes until the peer's end. Closing at once would make the kernel answer
    /// unread bytes with a reset, which can overtake our last words.
    pub(crate) fn fail(&mut self, slot: Slot, reason: CloseReason, code: CloseCode) {
        self.farewell(slot, reason, None, code);
        if self.slots.hot(slot).state == State::Farewell {
            self.slots.hot_mut(slot).flags.set(Flags::CLOSE_WHEN_SENT);
            self.slots.cold_mut(slot).flags.set(ColdFlags::HALF_CLOSE);
        }
    }

    /// Ends a connection now: whatever it is owed is lost.
    pub(crate) fn hang_up(&mut self, slot: Slot, reason: CloseReason) {
        let state = self.slots.hot(slot).state;
        if matches!(state, State::Closing | State::Free) {
            return;
        }
        // A farewell that ends as planned keeps its own reason.
        let reason = match CloseReason::from_u8(self.slots.cold(slot).close_reason) {
            Some(planned) if state == State::Farewell => planned,
            _ => reason,
        };
        self.depart(slot, reason, true);
        self.answer_posts(self.reference(slot), 404);
        if slot.is_session() {
            self.leave_session(slot, reason);
        } else {
            self.forget_waiting(slot);
            self.posting.remove(&slot);
            self.lost_posts.remove(&slot);
            self.lose_carrier(slot, reason);
            self.forget_tls(slot, reason);
        }
        let request = std::mem::take(&mut self.slots.cold_mut(slot).request);
        self.requests.remove(request);
        let (hot, runs) = self.slots.outbox(slot);
        let lost: u64 = outbox::iter(hot, runs).map(|run| u64::from(run.count)).sum();
        match reason {
            CloseReason::SlowClient => self.counters.dropped_slow_total.add(lost),
            _ => self.counters.dropped_closed_total.add(lost),
        }
        outbox::clear(hot, runs, &mut self.holdings);
        self.peers.remove(&slot);
        self.tickets.remove(&slot);
        self.uplinks.forget(slot);
        let (hot, partials) = self.slots.input(slot);
        partials.drop_handle(&mut hot.partial);
        if hot.flags.take(Flags::SLOW) {
            self.counters.slow_connections.sub(1);
        }
        hot.state = State::Closing;
        self.counters.closed_total[reason as usize].add(1);
        self.closing.push(slot);
    }

    /// The slow policy: the client is closed.
    pub(crate) fn drop_slow(&mut self, slot: Slot) {
        if matches!(self.slots.hot(slot).state, State::Closing | State::Free) {
            return;
        }
        self.slots.cold_mut(slot).close_reason = CloseReason::SlowClient as u8;
        self.hang_up(slot, CloseReason::SlowClient);
    }

    /// A protocol error of an open hub connection (spec 6.8).
    pub(crate) fn offend(&mut self, slot: Slot, reason: CloseReason, detail: &str) {
        let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
        let text = if detailed && !detail.is_empty() {
            format!("{CLOSED_WITH_ERROR} InvalidDataException: {detail}")
        } else {
            CLOSED_WITH_ERROR.to_owned()
        };
        self.farewell(slot, reason, Some((Some(&text), true)), CloseCode::NORMAL);
    }
}
