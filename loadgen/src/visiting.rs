//! Guests: connections that come and go. They say good-bye at the end of a life, or are cut, and come back as the
//! clients of the SDK do: at once, then after 2, 10 and 30 seconds, then not any more.

use crate::client::{Role, State};
use crate::fleet::Stay;
use crate::payload::Random;
use crate::phrases::tag;
use crate::posting::Errand;
use crate::shared::{Stage, add};
use crate::worker::{Worker, after};
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::negotiate::Transport;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Before each attempt to come back: the delays of the SDK's automatic reconnect.
pub(crate) const RETURN_DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// What a guest does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// Its life is over.
    Leave,
    /// It dials again.
    Return,
}

/// One worker's guests. At most one act for each of them is current; others are known by their generation.
#[derive(Debug)]
pub(crate) struct Guests {
    due: BinaryHeap<Reverse<(u64, u32, u32, Act)>>,
    random: Random,
    cuts_seen: u32,
    /// When the last cut was made here.
    cut_ns: Option<u64>,
}

impl Guests {
    pub(crate) fn new(seed: u64, worker: u32) -> Self {
        let random = Random::new(seed ^ 0x6775_6573 ^ u64::from(worker) << 32);
        Self { due: BinaryHeap::new(), random, cuts_seen: 0, cut_ns: None }
    }

    /// When the next act is due.
    pub(crate) fn next_ns(&self) -> u64 {
        self.due.peek().map_or(u64::MAX, |Reverse((due_ns, ..))| *due_ns)
    }
}

impl<D: Dial> Worker<D> {
    /// Does what is due for guests.
    pub(crate) fn visit(&mut self) {
        if self.stage == Stage::Ready || self.stage >= Stage::Close {
            return;
        }
        let cuts = self.setup.shared.cuts();
        if cuts != self.guests.cuts_seen {
            self.guests.cuts_seen = cuts;
            self.cut();
        }
        let now_ns = self.setup.shared.clock.ns();
        while let Some(&Reverse((due_ns, index, generation, act))) = self.guests.due.peek() {
            if due_ns > now_ns {
                return;
            }
            self.guests.due.pop();
            let slot = Slot(index);
            let conn = self.conns[index as usize];
            match act {
                Act::Leave if conn.generation.get() == generation && conn.state == State::Open => self.end_life(slot),
                Act::Return if conn.state == State::Empty && conn.attempt > 0 => self.come_back(slot),
                Act::Leave | Act::Return => {}
            }
        }
    }

    /// Ends all guests that wait for that, without a word.
    fn cut(&mut self) {
        self.guests.cut_ns = Some(self.now_ns);
        for index in 0..self.receivers {
            let conn = self.conns[index as usize];
            let stay = self.fleet().classes[usize::from(conn.class)].stay;
            if stay != Stay::UntilCut || conn.state != State::Open {
                continue;
            }
            self.conns[index as usize].attempt = 1;
            add(&self.counters().guest.cut, 1);
            self.leave(Slot(index));
        }
    }

    /// Lives begin with the measured period.
    pub(crate) fn begin_lives(&mut self) {
        for index in 0..self.receivers {
            let conn = self.conns[index as usize];
            if conn.role == Role::Guest && conn.state == State::Open {
                self.begin_life(Slot(index));
            }
        }
    }

    /// A guest is open.
    pub(crate) fn welcomed(&mut self, slot: Slot) {
        let came_back = std::mem::take(&mut self.conns[slot.0 as usize].attempt) > 0;
        if came_back {
            add(&self.counters().guest.returned, 1);
            if let Some(cut_ns) = self.guests.cut_ns {
                self.phases.back.record_ns(self.now_ns.saturating_sub(cut_ns), 1);
            }
        }
        if self.stage == Stage::Measured {
            self.begin_life(slot);
        }
    }

    fn begin_life(&mut self, slot: Slot) {
        let conn = self.conns[slot.0 as usize];
        if let Stay::Life(lifetime) = self.fleet().classes[usize::from(conn.class)].stay {
            let life = lifetime.draw(&mut self.guests.random);
            self.guests.due.push(Reverse((after(self.now_ns, life), slot.0, conn.generation.get(), Act::Leave)));
        }
    }

    fn end_life(&mut self, slot: Slot) {
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        conn.attempt = 1;
        conn.counted = true;
        conn.state = State::Leaving;
        conn.phase_us = now_us;
        self.count_open(u32::MAX);
        add(&self.counters().guest.lives, 1);
        match self.transport(slot) {
            Transport::WebSockets => self.say(slot, self.voice(slot).phrases.close, tag::CLOSE),
            Transport::ServerSentEvents => self.post(slot, Errand::Close),
            Transport::LongPolling => self.post(slot, Errand::Delete),
        }
    }

    /// The server has ended a guest.
    pub(crate) fn dropped(&mut self, slot: Slot) {
        self.conns[slot.0 as usize].attempt = 1;
        add(&self.counters().guest.dropped, 1);
    }

    /// A guest that wanted to come back was not let in. `false`: it is no such guest.
    pub(crate) fn refused(&mut self, slot: Slot) -> bool {
        let conn = &mut self.conns[slot.0 as usize];
        if conn.attempt == 0 {
            return false;
        }
        conn.attempt += 1;
        let gives_up = usize::from(conn.attempt) > RETURN_DELAYS.len();
        if gives_up {
            conn.attempt = 0;
        }
        add(&self.counters().guest.refused, 1);
        add(&self.counters().guest.gave_up, u64::from(gives_up));
        true
    }

    /// The slot of a connection is free: a guest comes back.
    pub(crate) fn vacated(&mut self, slot: Slot) {
        let conn = self.conns[slot.0 as usize];
        if conn.role != Role::Guest || conn.attempt == 0 || self.stage >= Stage::Close {
            return;
        }
        let due_ns = after(self.now_ns, RETURN_DELAYS[usize::from(conn.attempt) - 1]);
        self.guests.due.push(Reverse((due_ns, slot.0, conn.generation.get(), Act::Return)));
    }

    fn come_back(&mut self, slot: Slot) {
        self.opening += 1;
        self.conns[slot.0 as usize].start_us = self.now_us();
        self.count_occupied(1);
        self.connect(slot);
    }
}
