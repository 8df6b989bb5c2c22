//! From an empty slot to an open connection, and from an open one to its end.

use crate::client::{Mid, Reading, Role, State};
use crate::job::{Task, Via};
use crate::latency::Distribution;
use crate::negotiating::negotiated;
use crate::phrases::tag;
use crate::posting::Errand;
use crate::reader::Other;
use crate::shared::Stage;
use crate::wire::{Own, Wire};
use crate::worker::{TICK_NS, Worker, after};
use fanfare_engine::io::{Dial, Errno, Slot};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::head::{HeadLimits, parse_response};
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::handshake::check_upgrade_response;
use std::time::Duration;

/// How often the connect rate is looked at.
const DIAL_LOOK: Duration = Duration::from_millis(1);

/// What a connection is broken off for when the worker's log takes no more.
pub(crate) const LOG_FULL: &str = "the generator's log is full";

impl<D: Dial> Worker<D> {
    /// Dials as many connections as rate and concurrency allow now.
    pub(crate) fn dial(&mut self) {
        if self.stage == Stage::Ready || self.stage >= Stage::Close {
            return;
        }
        let slots = self.members();
        let workers = self.fleet().workers;
        let concurrency = self.fleet().connect_concurrency.div_ceil(workers).max(1);
        let allowed = match self.fleet().connect_rate {
            None => slots,
            Some(rate) => {
                let elapsed_s = (self.now_ns - self.dial_started_ns) as f64 / 1e9;
                (elapsed_s * rate / f64::from(workers)) as u32 + 1
            }
        };
        while self.next_dial < slots.min(allowed) && self.opening < concurrency {
            let slot = Slot(self.next_dial);
            self.next_dial += 1;
            self.opening += 1;
            self.conns[slot.0 as usize].start_us = self.now_us();
            self.count_occupied(1);
            self.connect(slot);
        }
    }

    pub(crate) fn connect(&mut self, slot: Slot) {
        let now_us = self.now_us();
        let http = self.conns[slot.0 as usize].role == Role::HttpPublisher;
        let remote = match self.setup.job.task.load().map(|load| &load.via) {
            Some(Via::HttpPost { address, .. }) if http => *address,
            _ => self.setup.job.server.address,
        };
        let local = self.fleet().sources.local_for(self.first + slot.0, remote);
        let conn = &mut self.conns[slot.0 as usize];
        conn.state = State::Connecting;
        conn.phase_us = now_us;
        conn.poll_armed = false;
        conn.poll_out_armed = false;
        conn.sending = false;
        conn.counted = false;
        self.io.connect(slot, conn.generation, local, remote);
    }

    pub(crate) fn connected(&mut self, slot: Slot, result: Result<(), Errno>) {
        if self.conns[slot.0 as usize].state != State::Connecting {
            return;
        }
        if self.conns[slot.0 as usize].role == Role::Poster {
            return self.poster_connected(slot, result);
        }
        if let Err(Errno(errno)) = result {
            let error = std::io::Error::from_raw_os_error(errno);
            self.give_up(slot, format!("{error} {}", State::Connecting.doing()));
            let conn = &mut self.conns[slot.0 as usize];
            conn.state = State::Empty;
            conn.generation = conn.generation.next();
            self.count_occupied(u32::MAX);
            self.vacated(slot);
            return;
        }
        self.end_phase(slot, |phases| &mut phases.tcp);
        let conn = &mut self.conns[slot.0 as usize];
        (conn.poll_armed, conn.reading) = (true, Reading::Idle);
        self.io.poll(slot, conn.generation);
        if conn.role == Role::HttpPublisher {
            self.put_mid(slot, Mid::Http(Box::default()));
            self.opened(slot);
            return;
        }
        if let Task::Negotiate { .. } = self.setup.job.task {
            self.opened(slot);
            return;
        }
        let token = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Token(token)) => Some(token),
            _ => None,
        };
        if let Some(token) = token {
            self.go_in(slot, &token);
        } else if self.setup.job.server.negotiate || self.transport(slot) != Transport::WebSockets {
            self.conns[slot.0 as usize].state = State::Negotiating;
            self.say_opening(slot, |wire, own| wire.negotiate(own), self.voice(slot).phrases.negotiate, tag::NEGOTIATE);
        } else {
            self.conns[slot.0 as usize].state = State::Upgrading;
            self.say_opening(slot, |wire, own| wire.upgrade(None, own), self.voice(slot).phrases.upgrade, tag::UPGRADE);
        }
    }

    /// Says the fleet's phrase, or, to a connection with something of its own, what `write` makes of it.
    fn say_opening(
        &mut self,
        slot: Slot,
        write: impl FnOnce(&Wire, &Own) -> Vec<u8>,
        phrase: fanfare_engine::buf::Extent,
        tag: fanfare_engine::io::Tag,
    ) {
        let own = self.own(slot);
        if own == Own::default() {
            return self.say(slot, phrase, tag);
        }
        let request = write(&self.voice(slot).wire, &own);
        if !self.say_own(slot, &request) {
            self.break_off(slot, LOG_FULL.to_owned());
        }
    }

    /// What a connection receives over: publishers have a WebSocket always.
    pub(crate) fn transport(&self, slot: Slot) -> Transport {
        let class = usize::from(self.conns[slot.0 as usize].class);
        self.fleet().classes.get(class).map_or(Transport::WebSockets, |class| class.transport)
    }

    /// Asks for what the token was given for, on a socket that has nothing else under way.
    fn go_in(&mut self, slot: Slot, token: &str) {
        if self.transport(slot) != Transport::WebSockets {
            return self.subscribe(slot, token);
        }
        self.conns[slot.0 as usize].state = State::Upgrading;
        let own = self.own(slot);
        let request = self.voice(slot).wire.upgrade(Some(token), &own);
        if !self.say_own(slot, &request) {
            self.break_off(slot, LOG_FULL.to_owned());
        }
    }

    /// Received bytes, by what the connection waits for.
    pub(crate) fn take_bytes(&mut self, slot: Slot, bytes: &mut [u8]) {
        let conn = &self.conns[slot.0 as usize];
        match (conn.state, conn.role) {
            (State::Open, Role::HttpPublisher) => self.take_answers(slot, bytes),
            (_, Role::Poster) => self.take_posted(slot, bytes),
            (State::Negotiating, _) => self.take_negotiate(slot, bytes),
            (State::Open, _) if self.is_asking_only() => self.take_negotiate(slot, bytes),
            (State::Upgrading, _) => self.take_upgrade(slot, bytes),
            (State::Subscribing, _) if self.transport(slot) == Transport::ServerSentEvents => {
                self.take_events_head(slot, bytes);
            }
            (State::Subscribing | State::Handshaking | State::Entering | State::Open | State::Leaving, _) => {
                self.take_stream(slot, bytes);
            }
            _ => {}
        }
    }

    /// Adds to the answer collected so far.
    pub(crate) fn collect(&mut self, slot: Slot, bytes: &[u8]) -> Vec<u8> {
        let mut answer = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Answer(answer)) => answer,
            _ => Vec::new(),
        };
        answer.extend_from_slice(bytes);
        answer
    }

    fn take_negotiate(&mut self, slot: Slot, bytes: &[u8]) {
        let answer = self.collect(slot, bytes);
        let transport = self.transport(slot);
        match negotiated(&answer, transport) {
            Ok(None) => self.put_mid(slot, Mid::Answer(answer)),
            Ok(Some(_)) if self.is_asking_only() => self.asked(slot),
            Ok(Some(answer)) => {
                self.end_phase(slot, |phases| &mut phases.negotiate);
                // A WebSocket gets a socket of its own, as clients do it: their HTTP keeps the one that asked.
                if transport != Transport::WebSockets && answer.keeps_alive {
                    return self.go_in(slot, &answer.token);
                }
                self.put_mid(slot, Mid::Token(answer.token));
                let conn = &mut self.conns[slot.0 as usize];
                conn.state = State::Renewing;
                let conn = *conn;
                self.drop_outbox(slot);
                self.io.close(slot, conn.generation, conn.poll_armed, conn.poll_out_armed);
            }
            Err(text) => self.break_off(slot, format!("negotiate: {text}")),
        }
    }

    fn take_upgrade(&mut self, slot: Slot, bytes: &mut [u8]) {
        let answer = self.collect(slot, bytes);
        let limits = HeadLimits::default();
        let head_bytes = match parse_response(&answer, &limits) {
            Ok(Progress::NeedMore) => {
                self.put_mid(slot, Mid::Answer(answer));
                return;
            }
            Ok(Progress::Done(head, head_bytes)) => {
                if let Err(error) = check_upgrade_response(&head, &self.setup.wire().key) {
                    let text = format!("upgrade answered with {} ({error})", head.status());
                    self.break_off(slot, text);
                    return;
                }
                head_bytes
            }
            Err(error) => {
                self.break_off(slot, format!("upgrade: {error}"));
                return;
            }
        };
        self.end_phase(slot, |phases| &mut phases.upgrade);
        // The first frames may share a packet with the 101.
        let early = bytes.len() - (answer.len() - head_bytes);
        match self.voice(slot).phrases.handshake {
            Some(handshake) => {
                self.conns[slot.0 as usize].state = State::Handshaking;
                self.say(slot, handshake, tag::HANDSHAKE);
            }
            None => {
                // A plain receiver also says something back before it only listens: its TCP then acknowledges as a
                // SignalR client's does, and the two can be compared.
                if self.setup.job.task.load().is_some() {
                    self.say(slot, self.voice(slot).phrases.hello, tag::HELLO);
                }
                self.opened(slot);
            }
        }
        if early < bytes.len() {
            self.take_stream(slot, &mut bytes[early..]);
        }
    }

    /// The rare things a server says.
    pub(crate) fn other(&mut self, slot: Slot, other: Other) {
        let conn = self.conns[slot.0 as usize];
        if matches!(conn.state, State::Empty | State::Renewing | State::Closing) {
            return;
        }
        match other {
            Other::Handshake(Ok(())) => {
                self.end_phase(slot, |phases| &mut phases.handshake);
                self.enter(slot);
            }
            Other::Handshake(Err(text)) => self.break_off(slot, format!("handshake refused: {text}")),
            Other::Completion(answer) => self.completed(slot, conn.role, answer),
            Other::HubPing => {}
            Other::HubClose(error) => {
                let text = error.map_or("hub Close".to_owned(), |error| format!("hub Close: {error}"));
                self.count_end(slot, text);
            }
            Other::Ping(payload) => {
                let pong = Wire::pong(payload.as_slice());
                // A full log means that the server does not read; it will not miss a pong.
                let _ = self.say_own(slot, &pong);
            }
            Other::Close(_) if conn.state == State::Leaving => self.end_farewell(slot),
            Other::Close(text) => self.break_off(slot, format!("WebSocket Close {text}")),
            Other::StreamEnd => self.ended(slot, None),
            Other::Stranger => self.note_stranger(),
            Other::Broken(text) => {
                if conn.role == Role::Receiver && conn.state == State::Open {
                    self.corrupt(slot, None);
                }
                self.break_off(slot, text);
            }
        }
    }

    pub(crate) fn opened(&mut self, slot: Slot) {
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        conn.state = State::Open;
        conn.phase_us = now_us;
        let elapsed_us = now_us.wrapping_sub(conn.start_us);
        self.opening -= 1;
        if conn.role.receives() {
            self.phases.total.record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
        self.count_open(1);
        if self.conns[slot.0 as usize].role == Role::Guest {
            self.welcomed(slot);
        }
    }

    pub(crate) fn end_phase(
        &mut self,
        slot: Slot,
        phase: impl FnOnce(&mut crate::client::Phases) -> &mut Distribution,
    ) {
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        let elapsed_us = now_us.wrapping_sub(conn.phase_us);
        conn.phase_us = now_us;
        if conn.role.receives() {
            phase(&mut self.phases).record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
    }

    /// Pings, time-outs and farewells that are due.
    pub(crate) fn tick(&mut self) {
        if self.stage == Stage::Close {
            self.say_farewells();
        }
        if self.now_ns < self.last_tick_ns.saturating_add(TICK_NS) {
            return;
        }
        let passed_ns = self.now_ns - self.last_tick_ns.max(self.dial_started_ns);
        self.last_tick_ns = self.now_ns;
        if let Some(interval) = self.fleet().ping_interval
            && self.stage <= Stage::Measured
            && !self.is_asking_only()
        {
            let interval_ns = interval.as_nanos() as u64;
            self.ping_some(passed_ns.min(interval_ns), interval_ns);
        }
        self.time_out();
        self.time_out_poster();
    }

    /// Pings the share of the fleet that belongs to the time passed, so that pings are spread evenly.
    fn ping_some(&mut self, passed_ns: u64, interval_ns: u64) {
        let slots = u64::from(self.members());
        for _ in 0..(slots * passed_ns).div_ceil(interval_ns) {
            let slot = Slot(self.ping_cursor);
            self.ping_cursor = (self.ping_cursor + 1) % slots as u32;
            // Polls are a sign of life themselves (spec 2.5).
            match self.transport(slot) {
                Transport::WebSockets => {}
                Transport::ServerSentEvents if self.conns[slot.0 as usize].state == State::Open => {
                    self.post(slot, Errand::Ping);
                    continue;
                }
                Transport::ServerSentEvents | Transport::LongPolling => continue,
            }
            let conn = &self.conns[slot.0 as usize];
            // A connection with something to say needs no other sign of life.
            let idles = conn.state == State::Open && conn.outbox == 0 && !conn.sending;
            if let Some(ping) = self.voice(slot).phrases.ping
                && idles
                && conn.role != Role::HttpPublisher
            {
                self.say(slot, ping, tag::PING);
            }
        }
    }

    /// When the publisher must look again at the latest.
    pub(crate) fn next_tick_ns(&self) -> u64 {
        let dialling = self.stage == Stage::Hold && self.next_dial < self.members();
        if dialling { after(self.now_ns, DIAL_LOOK) } else { self.last_tick_ns.saturating_add(TICK_NS) }
    }
}
