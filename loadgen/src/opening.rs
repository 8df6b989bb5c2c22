//! From an empty slot to an open connection, and from an open one to its end.

use crate::answers::Part;
use crate::client::{Conn, HttpAnswers, Mid, Role, State};
use crate::job::{Task, Via};
use crate::latency::Distribution;
use crate::negotiating::negotiated;
use crate::posting::Errand;
use crate::reader::Other;
use crate::shared::{Stage, add_u32};
use crate::wire::Wire;
use crate::worker::{TICK_NS, Worker, after, tag};
use fanfare_engine::io::{Dial, Errno, Slot};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::head::{HeadLimits, parse_response};
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::handshake::check_upgrade_response;
use std::time::Duration;

/// Hub Pings of one connection are this far apart (spec 6.1).
const PING_INTERVAL_NS: u64 = 15_000_000_000;

/// How often the connect rate is looked at.
const DIAL_LOOK: Duration = Duration::from_millis(1);

/// Farewells said per turn: a storm would be measured, not the server.
const FAREWELLS_PER_TURN: u32 = 256;

/// What a connection is broken off for when the worker's log takes no more.
pub(crate) const LOG_FULL: &str = "the generator's log is full";

/// How long the server may take to say good-bye too.
const FAREWELL_LIMIT_US: u32 = 5_000_000;

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
            return;
        }
        self.end_phase(slot, |phases| &mut phases.tcp);
        let conn = &mut self.conns[slot.0 as usize];
        conn.poll_armed = true;
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
            self.say(slot, self.phrases.negotiate, tag::NEGOTIATE);
        } else {
            self.conns[slot.0 as usize].state = State::Upgrading;
            self.say(slot, self.phrases.upgrade, tag::UPGRADE);
        }
    }

    /// What a connection receives over: publishers have a WebSocket always.
    pub(crate) fn transport(&self, slot: Slot) -> Transport {
        match self.conns[slot.0 as usize].role {
            Role::Receiver => self.setup.job.server.transport,
            Role::Publisher | Role::HttpPublisher | Role::Poster => Transport::WebSockets,
        }
    }

    /// Asks for what the token was given for, on a socket that has nothing else under way.
    fn go_in(&mut self, slot: Slot, token: &str) {
        if self.transport(slot) != Transport::WebSockets {
            return self.subscribe(slot, token);
        }
        self.conns[slot.0 as usize].state = State::Upgrading;
        let request = self.setup.wire.upgrade(Some(token));
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
            (State::Subscribing | State::Handshaking | State::Open | State::Leaving, _) => {
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
                if let Err(error) = check_upgrade_response(&head, &self.setup.wire.key) {
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
        match self.phrases.handshake {
            Some(handshake) => {
                self.conns[slot.0 as usize].state = State::Handshaking;
                self.say(slot, handshake, tag::HANDSHAKE);
            }
            None => {
                // A plain receiver also says something back before it only listens: its TCP then acknowledges as a
                // SignalR client's does, and the two can be compared.
                if let Task::Broadcast(_) = self.setup.job.task {
                    self.say(slot, self.phrases.hello, tag::HELLO);
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
                self.opened(slot);
            }
            Other::Handshake(Err(text)) => self.break_off(slot, format!("handshake refused: {text}")),
            Other::Completion(Some(text)) if conn.role == Role::Publisher => self.setup.shared.refuse(text),
            Other::HubPing | Other::Completion(_) => {}
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

    fn opened(&mut self, slot: Slot) {
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        conn.state = State::Open;
        conn.phase_us = now_us;
        let elapsed_us = now_us.wrapping_sub(conn.start_us);
        self.opening -= 1;
        if conn.role == Role::Receiver {
            self.phases.total.record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
        self.count_open(1);
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
        if conn.role == Role::Receiver {
            phase(&mut self.phases).record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
    }

    /// The peer's end of the stream, or an error of the socket.
    pub(crate) fn ended(&mut self, slot: Slot, error: Option<std::io::Error>) {
        let conn = self.conns[slot.0 as usize];
        match conn.state {
            State::Empty | State::Renewing | State::Closing => {}
            State::Leaving => self.end_farewell(slot),
            _ if conn.role == Role::Poster => self.poster_ended(slot),
            State::Open if conn.role == Role::HttpPublisher => self.http_ended(slot),
            state => {
                let what = error.map_or("closed by the server".to_owned(), |error| error.to_string());
                self.break_off(slot, format!("{what} {}", state.doing()));
            }
        }
    }

    /// The server has said good-bye too, or has just gone.
    pub(crate) fn end_farewell(&mut self, slot: Slot) {
        let conn = &self.conns[slot.0 as usize];
        if conn.role == Role::Receiver {
            let elapsed_us = self.now_us().wrapping_sub(conn.phase_us);
            self.phases.close.record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
        self.leave(slot);
    }

    /// Counts the end of a connection once, with its first reason.
    fn count_end(&mut self, slot: Slot, text: String) {
        let conn = &mut self.conns[slot.0 as usize];
        if std::mem::replace(&mut conn.counted, true) {
            return;
        }
        match conn.state {
            state if state.is_opening() => self.give_up(slot, text),
            State::Open => {
                if conn.role != Role::Receiver {
                    self.setup.shared.refuse(format!("the publishing connection ended: {text}"));
                }
                self.setup.shared.trouble(text);
                self.count_open(u32::MAX);
                add_u32(&self.setup.shared.counters[self.index as usize].lost, 1);
            }
            _ => {}
        }
    }

    fn give_up(&mut self, slot: Slot, text: String) {
        let conn = &mut self.conns[slot.0 as usize];
        conn.counted = true;
        self.opening -= 1;
        self.setup.shared.trouble(text);
        add_u32(&self.setup.shared.counters[self.index as usize].failed, 1);
    }

    /// Counts the end and closes the slot.
    pub(crate) fn break_off(&mut self, slot: Slot, text: String) {
        self.count_end(slot, text);
        self.leave(slot);
    }

    /// Closes the slot without counting anything.
    fn leave(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot.0 as usize];
        if matches!(conn.state, State::Closing | State::Empty) {
            return;
        }
        if conn.state == State::Open && !std::mem::replace(&mut conn.counted, true) {
            self.count_open(u32::MAX);
        }
        let conn = &mut self.conns[slot.0 as usize];
        let before = std::mem::replace(&mut conn.state, State::Closing);
        let Conn { generation, poll_armed, poll_out_armed, .. } = *conn;
        drop(self.take_mid(slot));
        self.drop_outbox(slot);
        // A renewing slot is being closed already.
        if before != State::Renewing {
            self.io.close(slot, generation, poll_armed, poll_out_armed);
        }
    }

    pub(crate) fn closed(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot.0 as usize];
        conn.generation = conn.generation.next();
        conn.poll_armed = false;
        conn.poll_out_armed = false;
        if conn.role == Role::Poster {
            conn.state = State::Empty;
            return self.post_next();
        }
        if conn.state == State::Renewing {
            self.connect(slot);
        } else {
            conn.state = State::Empty;
            self.count_occupied(u32::MAX);
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
        if self.fleet().pings && self.stage <= Stage::Measured && !self.is_asking_only() {
            self.ping_some(passed_ns.min(PING_INTERVAL_NS));
        }
        self.time_out();
        self.time_out_poster();
    }

    /// Pings the share of the fleet that belongs to the time passed, so that pings are spread evenly.
    fn ping_some(&mut self, passed_ns: u64) {
        let Some(ping) = self.phrases.ping else { return };
        let slots = u64::from(self.members());
        for _ in 0..(slots * passed_ns).div_ceil(PING_INTERVAL_NS) {
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
            if conn.state == State::Open && conn.role != Role::HttpPublisher && conn.outbox == 0 && !conn.sending {
                self.say(slot, ping, tag::PING);
            }
        }
    }

    fn time_out(&mut self) {
        let leaving = self.stage == Stage::Close;
        if self.opening == 0 && !leaving {
            return;
        }
        let now_us = self.now_us();
        let limit_us = self.fleet().connect_timeout.as_micros().min(u128::from(u32::MAX)) as u32;
        for index in 0..self.members() as usize {
            let conn = self.conns[index];
            let slot = Slot(index as u32);
            if conn.state.is_opening() && now_us.wrapping_sub(conn.start_us) > limit_us {
                self.break_off(slot, format!("timed out {}", conn.state.doing()));
            } else if conn.state == State::Leaving && now_us.wrapping_sub(conn.phase_us) > FAREWELL_LIMIT_US {
                self.setup.shared.trouble("no farewell from the server");
                self.leave(slot);
            }
        }
    }

    fn say_farewells(&mut self) {
        // Farewells that are posted go one after the other; a queue of them would eat up its last one's time.
        let posted = self.posts_waiting();
        let until = (self.close_cursor + FAREWELLS_PER_TURN.saturating_sub(posted)).min(self.members());
        for index in self.close_cursor..until {
            let slot = Slot(index);
            let conn = self.conns[index as usize];
            if conn.state == State::Open && conn.role != Role::HttpPublisher && !self.is_asking_only() {
                self.count_open(u32::MAX);
                let now_us = self.now_us();
                let conn = &mut self.conns[index as usize];
                conn.counted = true;
                conn.state = State::Leaving;
                conn.phase_us = now_us;
                match self.transport(slot) {
                    Transport::WebSockets => self.say(slot, self.phrases.close, tag::CLOSE),
                    Transport::ServerSentEvents => self.post(slot, Errand::Close),
                    Transport::LongPolling => self.post(slot, Errand::Delete),
                }
            } else if !matches!(conn.state, State::Empty | State::Closing) {
                if conn.state.is_opening() {
                    self.opening -= 1;
                    self.conns[index as usize].counted = true;
                }
                self.leave(slot);
            }
        }
        self.close_cursor = until;
    }

    /// Answers to published POSTs.
    fn take_answers(&mut self, slot: Slot, bytes: &[u8]) {
        let mut answers = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Http(answers)) => answers,
            _ => Box::default(),
        };
        let result = answers.take(bytes);
        let last = answers.last && answers.outstanding == 0;
        self.put_mid(slot, Mid::Http(answers));
        match result {
            Err(text) => {
                self.setup.shared.refuse(text.clone());
                self.break_off(slot, text);
            }
            Ok(()) if last => self.http_ended(slot),
            Ok(()) => {}
        }
    }

    /// The server has closed a publishing connection: dial again, unless something was still unanswered.
    fn http_ended(&mut self, slot: Slot) {
        let outstanding = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Http(answers)) => answers.outstanding,
            _ => 0,
        };
        if outstanding > 0 {
            let text = format!(
                "the server closed the publishing connection with {outstanding} POSTs unanswered (raise its keep-alive limit)"
            );
            self.setup.shared.refuse(text.clone());
            self.break_off(slot, text);
            return;
        }
        self.count_open(u32::MAX);
        self.opening += 1;
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        conn.start_us = now_us;
        conn.state = State::Renewing;
        let conn = *conn;
        self.drop_outbox(slot);
        self.io.close(slot, conn.generation, conn.poll_armed, conn.poll_out_armed);
    }

    /// When the publisher must look again at the latest.
    pub(crate) fn next_tick_ns(&self) -> u64 {
        let dialling = self.stage == Stage::Hold && self.next_dial < self.members();
        if dialling { after(self.now_ns, DIAL_LOOK) } else { self.last_tick_ns.saturating_add(TICK_NS) }
    }
}

impl HttpAnswers {
    /// Reads answers to POSTs. An error text when one is not 2xx or not HTTP.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(part) = self.answers.next(&mut bytes).map_err(|text| format!("POST: {text}"))? {
            match part {
                Part::End(answered) if !(200..300).contains(&answered.status) => {
                    return Err(format!("POST answered with status {}", answered.status));
                }
                Part::End(answered) => {
                    self.last |= answered.last;
                    self.outstanding = self.outstanding.saturating_sub(1);
                }
                Part::Body(..) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn post_answers_are_counted_wherever_they_are_cut() {
        let mut bytes = response("202 Accepted", "queued: 1");
        bytes.extend(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        bytes.extend(response("200 OK", ""));
        for cut in 0..=bytes.len() {
            let mut answers = HttpAnswers { outstanding: 3, ..HttpAnswers::default() };
            answers.take(&bytes[..cut]).expect("fine");
            answers.take(&bytes[cut..]).expect("fine");
            assert_eq!(answers.outstanding, 0, "cut at {cut}");
        }
        let mut answers = HttpAnswers { outstanding: 1, ..HttpAnswers::default() };
        assert!(answers.take(&response("403 Forbidden", "")).is_err_and(|text| text.contains("403")));
    }
}
