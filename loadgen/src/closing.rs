//! From an open connection to its end: farewells, losses, time-outs.

use crate::client::{Conn, Role, State};
use crate::phrases::tag;
use crate::posting::Errand;
use crate::shared::{Stage, add_u32};
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::negotiate::Transport;

/// Farewells said per turn: a storm would be measured, not the server.
const FAREWELLS_PER_TURN: u32 = 256;

/// How long the server may take to say good-bye too.
const FAREWELL_LIMIT_US: u32 = 5_000_000;

impl<D: Dial> Worker<D> {
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
        if conn.role.receives() {
            let elapsed_us = self.now_us().wrapping_sub(conn.phase_us);
            self.phases.close.record_ns(u64::from(elapsed_us) * 1_000, 1);
        }
        self.leave(slot);
    }

    /// Counts the end of a connection once, with its first reason.
    pub(crate) fn count_end(&mut self, slot: Slot, text: String) {
        let conn = &mut self.conns[slot.0 as usize];
        if std::mem::replace(&mut conn.counted, true) {
            return;
        }
        match conn.state {
            state if state.is_opening() => self.give_up(slot, text),
            State::Open => {
                let conn = *conn;
                if !conn.role.receives() {
                    self.setup.shared.refuse(format!("the publishing connection ended: {text}"));
                }
                self.setup.shared.trouble(text);
                self.count_open(u32::MAX);
                if conn.role == Role::Guest {
                    self.dropped(slot);
                }
                add_u32(&self.setup.shared.counters[self.index as usize].lost, 1);
            }
            _ => {}
        }
    }

    pub(crate) fn give_up(&mut self, slot: Slot, text: String) {
        let conn = &mut self.conns[slot.0 as usize];
        conn.counted = true;
        self.opening -= 1;
        self.setup.shared.trouble(text);
        self.entering.remove(&slot.0);
        if !self.refused(slot) {
            add_u32(&self.counters().failed, 1);
        }
    }

    /// Counts the end and closes the slot.
    pub(crate) fn break_off(&mut self, slot: Slot, text: String) {
        self.count_end(slot, text);
        self.leave(slot);
    }

    /// Closes the slot without counting anything.
    pub(crate) fn leave(&mut self, slot: Slot) {
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
            self.vacated(slot);
        }
    }

    pub(crate) fn time_out(&mut self) {
        let leaving = self.stage == Stage::Close;
        if self.opening == 0 && !leaving && !self.fleet().has_guests() {
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

    pub(crate) fn say_farewells(&mut self) {
        // Farewells that are posted go one after the other; a queue of them would eat up its last one's time.
        let posted = self.posts_waiting();
        let until = (self.close_cursor + FAREWELLS_PER_TURN.saturating_sub(posted)).min(self.members());
        for index in self.close_cursor..until {
            let slot = Slot(index);
            self.heard(slot);
            let conn = self.conns[index as usize];
            if conn.state == State::Open && conn.role != Role::HttpPublisher && !self.is_asking_only() {
                self.count_open(u32::MAX);
                let now_us = self.now_us();
                let conn = &mut self.conns[index as usize];
                conn.counted = true;
                conn.state = State::Leaving;
                conn.phase_us = now_us;
                match self.transport(slot) {
                    Transport::WebSockets => self.say(slot, self.voice(slot).phrases.close, tag::CLOSE),
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
}
