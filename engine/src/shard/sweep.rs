//! Time: pings, time-outs, deadlines. No timer per connection: a sweep over the table, a tenth of it every 100 ms.

use crate::buf::Extent;
use crate::conn::endpoint::{EndpointOptions, Service};
use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::conn::wire::{ByVariation, Variation};
use crate::event::CloseReason;
use crate::hub::outgoing::Outgoing;
use crate::hub::switchboard::Switchboard;
use crate::io::{Io, Slot};
use crate::shard::{Phase, Shard};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::session::{Tick, Timeout, Timing, ticks_from_ms};
use fanfare_protocol::negotiate::Transport;

/// Microseconds between two steps.
const STEP_US: u64 = 100_000;
/// Steps for the whole table.
const STEPS: usize = 10;
/// Microseconds between two looks at an empty table.
const IDLE_STEP_US: u64 = 1_000_000;
/// A sweep that is later than this: the shard was away. Its process was stopped, its machine stood still, or others had
/// the core.
const AWAY_US: u64 = 2_000_000;
/// A shard that was away judges nobody for so long: what its clients have said meanwhile is still to be read.
const MERCY_US: u64 = 2_000_000;
/// A shard that writes less than so many bytes to its log in [`QUIET_LOG_US`] is quiet.
const QUIET_LOG_BYTES: u64 = 64 << 10;
/// See [`QUIET_LOG_BYTES`].
const QUIET_LOG_US: u64 = 2_000_000;
/// More fans than one turn can have: an older stamp says no more than one of this age.
const STAMP_AGE_MAX: u32 = 1 << 30;
/// A segment that is still held so long after it was to be taken is asked for again.
const EVICT_AGAIN_US: u64 = 10_000;
/// A lent descriptor is taken back after so long without need of it.
const LENT_QUIET_TICKS: u16 = 100;

/// Where the sweep is.
#[derive(Debug)]
pub(super) struct Sweeper {
    next_us: u64,
    step: usize,
    /// What the clients in each tenth of the table were owed when it was last swept.
    owed_bytes: [u64; STEPS],
    /// Log bytes written, and when, at the last moment that was not quiet.
    log_mark: (u64, u64),
    /// Until then nobody has missed a deadline.
    mercy_until_us: u64,
}

impl Sweeper {
    pub(super) fn new(now_us: u64) -> Self {
        Self { next_us: now_us + STEP_US, step: 0, owed_bytes: [0; STEPS], log_mark: (0, now_us), mercy_until_us: 0 }
    }

    /// When the next step is due.
    pub(super) fn next_us(&self, anybody: bool) -> u64 {
        if anybody { self.next_us } else { self.next_us + IDLE_STEP_US }
    }
}

/// What an endpoint's options mean in ticks.
fn timing(options: &EndpointOptions) -> Timing {
    Timing::from_ms(options.handshake_timeout_ms, options.keep_alive_ms, options.client_timeout_ms)
}

impl<I: Io> Shard<I> {
    /// Does the steps that are due.
    pub(super) fn sweep(&mut self) {
        self.accept_again();
        if self.board.now_us < self.sweeper.next_us {
            return;
        }
        if self.board.now_us - self.sweeper.next_us > AWAY_US {
            self.sweeper.mercy_until_us = self.board.now_us + MERCY_US;
            self.board.counters.absences_total.add(1);
        }
        // After a long turn one step makes up for all that were missed: it is only later, not less.
        self.sweeper.next_us = self.board.now_us + STEP_US;
        let step = self.sweeper.step;
        self.sweeper.step = (step + 1) % STEPS;
        for slot in self.step_slots(step) {
            self.sweep_slot(slot);
        }
        self.end_stuck_records(step);
        self.give_quiet_log_back();
        self.sweeper.owed_bytes[step] = self.board.owed_bytes(self.step_slots(step));
        let owed_bytes = self.sweeper.owed_bytes.iter().sum();
        self.board.counters.outbox_bytes.set(owed_bytes);
        self.board.keep_total(owed_bytes);
    }

    /// Ends sockets whose TLS record does not end. A pass of its own: most of the time nobody has one under way.
    fn end_stuck_records(&mut self, step: usize) {
        if self.board.tls.inbound_bytes() == 0 || self.board.now_us < self.sweeper.mercy_until_us {
            return;
        }
        for slot in self.step_slots(step) {
            if self.board.is_record_stuck(slot) {
                self.board.hang_up(slot, CloseReason::MessageTimeout);
            }
        }
    }

    /// The slots of one step.
    fn step_slots(&self, step: usize) -> impl Iterator<Item = Slot> + use<I> {
        let part = |all: usize| (all * step / STEPS) as u32..(all * (step + 1) / STEPS) as u32;
        let slots = &self.board.slots;
        part(slots.sessions()).map(Slot::session).chain(part(slots.sockets()).map(Slot))
    }

    fn sweep_slot(&mut self, slot: Slot) {
        let is_merciful = self.board.now_us < self.sweeper.mercy_until_us;
        let tick = self.board.tick();
        let stamp = self.board.fans.stamp();
        let expired = self.board.expiries.is_due(slot, self.board.now_s());
        let hot = self.board.slots.hot_mut(slot);
        if matches!(hot.state, State::Free | State::Closing) {
            return;
        }
        let hot_is_paused = hot.flags.has(Flags::PAUSED);
        // Stamps are compared by distance: none may grow old enough to look new.
        if stamp.wrapping_sub(hot.fan_stamp) > STAMP_AGE_MAX {
            hot.fan_stamp = stamp.wrapping_sub(STAMP_AGE_MAX);
        }
        if expired && hot.state == State::Open {
            // Until the hub handshake there is no way to say so, and that is over in seconds.
            return self.board.farewell(slot, CloseReason::AuthExpired, Some((None, true)), CloseCode::NORMAL);
        }
        let since_progress = tick.since(Tick(hot.progress_tick));
        if outbox::is_clear(hot) {
            if hot.flags.has(Flags::LENT) && since_progress > LENT_QUIET_TICKS {
                self.take_back(slot);
            }
        } else if !is_merciful
            && !slot.is_session()
            && since_progress > ticks_from_ms(self.board.limits.outbox_age_max_ms)
        {
            return self.board.drop_slow(slot);
        }
        if slot.is_session() && !is_merciful {
            self.board.sweep_polling(slot);
        }
        if hot_is_paused && self.board.uplinks.is_on() {
            self.board.unpause(slot);
        }
        if !is_merciful && self.is_stuck(slot, tick) {
            let limit_ms = self.board.limits.message_timeout_ms;
            return self.board.give_up_message(slot, limit_ms);
        }
        self.sweep_session(slot, tick);
    }

    /// Whether a message is under way for longer than it may be. Whoever is not read from is not to blame.
    fn is_stuck(&mut self, slot: Slot, tick: Tick) -> bool {
        let limit_ms = self.board.limits.message_timeout_ms;
        let (hot, partials) = self.board.slots.input(slot);
        let on_websocket = matches!(hot.state, State::Handshake | State::Open | State::Echo | State::Carrying);
        if limit_ms == 0 || hot.partial == 0 || !on_websocket {
            return false;
        }
        let Some(since) = partials.since_mut(hot.partial) else { return false };
        if hot.flags.has(Flags::PAUSED) && since.is_some() {
            *since = Some(tick);
        }
        since.is_some_and(|since| tick.since(since) >= ticks_from_ms(limit_ms))
    }

    fn sweep_session(&mut self, slot: Slot, tick: Tick) {
        let hot = *self.board.slots.hot(slot);
        let timing = match hot.state {
            State::Http => {
                let limit = self.board.limits.head_timeout_ms;
                Timing::from_ms(limit, 0, 0)
            }
            State::Waiting | State::Moving | State::Carrying | State::Closing => return,
            // A poll is proof enough that its client lives, and its answer that we do (spec 2.5).
            _ if slot.is_session() && hot.variation.transport() == Transport::LongPolling => {
                let timing = self.board.timings[hot.endpoint as usize];
                Timing { keep_alive_ticks: 0, client_timeout_ticks: 0, ..timing }
            }
            _ => self.board.timings[hot.endpoint as usize],
        };
        match hot.session.poll_timeout(tick, &timing) {
            None => {}
            Some(Timeout::SendPing) => self.board.ping(slot, tick),
            Some(_) if self.board.now_us < self.sweeper.mercy_until_us => {}
            Some(Timeout::HandshakeTimeout) if hot.state == State::Http => self.board.http_timeout(slot),
            Some(Timeout::HandshakeTimeout) if hot.state == State::Echo => {
                self.board.farewell(slot, CloseReason::IdleTimeout, None, CloseCode::NORMAL);
            }
            Some(Timeout::HandshakeTimeout) => {
                self.board.refuse_handshake(slot, "Handshake was canceled.", CloseReason::HandshakeTimeout);
            }
            // What it may have said lies unread in its socket.
            Some(Timeout::ClientTimeout) if hot.flags.has(Flags::PAUSED) => {}
            Some(Timeout::ClientTimeout) => {
                let text = "Client hasn't sent a message/ping within the configured ClientTimeoutInterval.";
                self.board.time_out(slot, text);
            }
            Some(Timeout::CloseDeadline) => self.board.hang_up(slot, CloseReason::Normal),
        }
    }

    /// A shard that has written little for a while keeps no log memory.
    fn give_quiet_log_back(&mut self) {
        let written = self.board.counters.log_bytes_written_total.get();
        let now_us = self.board.now_us;
        if written - self.sweeper.log_mark.0 > QUIET_LOG_BYTES {
            self.sweeper.log_mark = (written, now_us);
        } else if now_us - self.sweeper.log_mark.1 >= QUIET_LOG_US {
            self.sweeper.log_mark = (written, now_us);
            self.board.give_log_back();
        }
    }

    // -- draining -------------------------------------------------------------------------------------------------

    /// Says the next goodbyes of a drain, and stops at its end.
    pub(super) fn go_on_draining(&mut self) {
        let Phase::Draining { deadline_us, next } = self.phase else { return };
        if self.board.now_us >= deadline_us || self.board.counters.sockets_open.get() == 0 {
            return self.stop();
        }
        if self.sweeper.next_us != self.board.now_us + STEP_US && next != 0 {
            return;
        }
        // Once per step: a tenth of a second's share of the rate.
        let share = (self.board.limits.drain_rate as usize / STEPS).max(1);
        let mut said = 0;
        let mut index = next as usize;
        for slot in self.board.slots.all().skip(index) {
            if said == share {
                break;
            }
            said += usize::from(self.dismiss(slot));
            index += 1;
        }
        self.phase = Phase::Draining { deadline_us, next: index as u32 };
        if index == self.board.slots.all().count() && !self.is_anybody_leaving() {
            self.stop();
        }
    }

    /// Whether there are connections besides plain HTTP, which asks and is told, and does not hold up a drain.
    fn is_anybody_leaving(&self) -> bool {
        let plain =
            |state| matches!(state, State::Free | State::Http | State::Waiting | State::Moving | State::Carrying);
        self.board.slots.all().any(|slot| !plain(self.board.slots.hot(slot).state))
    }

    fn dismiss(&mut self, slot: Slot) -> bool {
        match self.board.slots.hot(slot).state {
            State::Free | State::Closing | State::Farewell => return false,
            State::Http | State::Waiting | State::Moving | State::Carrying => return false,
            State::Handshake | State::Echo => {
                self.board.farewell(slot, CloseReason::Drain, None, CloseCode::GOING_AWAY);
            }
            State::Open => self.board.farewell(slot, CloseReason::Drain, Some((None, true)), CloseCode::NORMAL),
        }
        true
    }

    /// Keeps some of the log free: when it runs short, the oldest segment that a slow reader holds is taken from it.
    pub(super) fn keep_log_free(&mut self) {
        self.board.retire();
        if self.board.owner.free() >= self.board.log_low_water {
            self.board.evicting = None;
            return;
        }
        let Some(segment) = self.board.owner.oldest_held() else { return };
        let now_us = self.board.now_us;
        // Whoever holds it was told; some may have come to hold it only since.
        if self.board.evicting.is_some_and(|(last, again_us)| last == segment && now_us < again_us) {
            return;
        }
        self.board.evicting = Some((segment, now_us + EVICT_AGAIN_US));
        self.board.evict_everywhere(segment);
    }
}

impl Switchboard {
    /// The client has said that it lives. Soon we would have to say the same: then now, while its socket is in the
    /// processor's cache and its machine awake, and with the acknowledgement that TCP owes it.
    pub(crate) fn answer_ping(&mut self, slot: Slot) {
        let tick = self.tick();
        let hot = self.slots.hot(slot);
        let polls = slot.is_session() && hot.variation.transport() == Transport::LongPolling;
        let answers = hot.session.answers_ping(tick, &self.timings[hot.endpoint as usize]);
        if hot.state == State::Open && answers && !polls {
            self.ping(slot, tick);
        }
    }

    /// Everybody who is pinged in this turn owes the same few bytes.
    fn ping(&mut self, slot: Slot, tick: Tick) {
        let hot = self.slots.hot_mut(slot);
        let variation = hot.variation;
        // What a late client is owed will tell it that we live. What leaves in this turn may be no hub message: a pong.
        let is_late = !outbox::is_clear(hot) && hot.flags.has(Flags::POLL_OUT_ARMED);
        if is_late || slot.is_session() && !self.has_socket(slot) {
            self.slots.hot_mut(slot).session.handle_sent(tick);
            return;
        }
        if self.pings[variation].is_none() {
            self.pings[variation] = Some(self.write_ping(variation));
            self.has_pinged = true;
        }
        // Without room in the log it is due again at the next look.
        let Some(Some(run)) = self.pings[variation] else { return };
        self.slots.hot_mut(slot).session.handle_sent(tick);
        self.catch_up(slot);
        self.owe_unnumbered(slot, &[run]);
        self.counters.pings_sent_total.add(1);
        self.counters.private_messages_total.add(1);
    }

    /// The next turn writes its own: nobody holds those of the last one.
    pub(crate) fn forget_pings(&mut self) {
        if std::mem::take(&mut self.has_pinged) {
            self.pings = ByVariation::default();
        }
    }

    /// A ping in the private log, framed.
    fn write_ping(&mut self, variation: Variation) -> Option<Extent> {
        self.write_private(variation, &Outgoing::Ping).ok().map(|runs| runs[0])
    }

    /// A message that its client has begun and does not end: its room is for others.
    fn give_up_message(&mut self, slot: Slot, limit_ms: u32) {
        let text = format!("A message did not arrive whole within {limit_ms} ms (limits.message_timeout_ms).");
        if self.slots.hot(slot).state == State::Open {
            return self.offend(slot, CloseReason::MessageTimeout, &text);
        }
        self.lose_carrier(slot, CloseReason::MessageTimeout);
        self.farewell(slot, CloseReason::MessageTimeout, None, CloseCode::POLICY);
    }

    /// A client that pinged once has fallen silent (spec 6.8).
    fn time_out(&mut self, slot: Slot, detail: &str) {
        let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
        let text = crate::hub::host::HandlerError::failed("OperationCanceledException", detail).close_text(detailed);
        self.farewell(slot, CloseReason::PingTimeout, Some((Some(&text), true)), CloseCode::NORMAL);
    }
}

/// The timing of every endpoint, by index.
pub(crate) fn timings(endpoints: &[crate::conn::endpoint::Endpoint]) -> Vec<Timing> {
    let of = |service: &Service| match service {
        Service::Hub { options, .. } => timing(options),
        // Being used begins its time anew, like a handshake that is awaited.
        Service::Echo(options) => Timing::from_ms(options.idle_timeout_ms, 0, 0),
    };
    endpoints.iter().map(|endpoint| of(&endpoint.service)).collect()
}
