//! What a delivery means: an entry in the ledger and in a track, or a message that a guest has heard.

use crate::client::{Conn, Mid, Role, State};
use crate::ledger::Entry;
use crate::payload::Head;
use crate::reader::{Carry, Event, Framing};
use crate::shared::{Counters, add};
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::negotiate::Transport;
use std::sync::atomic::Ordering;

impl<D: Dial> Worker<D> {
    pub(crate) fn counters(&self) -> &Counters {
        &self.setup.shared.counters[self.index as usize]
    }

    /// What a connection carries that has no half-done message.
    fn fresh_carry(&self, slot: Slot) -> Carry {
        let framing = match self.transport(slot) {
            Transport::WebSockets => Framing::frames(),
            Transport::ServerSentEvents => Framing::Events(Default::default()),
            Transport::LongPolling => Framing::Answers(Default::default()),
        };
        let state = self.conns[slot.0 as usize].state;
        Carry::new(framing, matches!(state, State::Subscribing | State::Handshaking))
    }

    /// Reads hub messages, whatever they are wrapped in, and acts on what they mean.
    pub(crate) fn take_stream(&mut self, slot: Slot, bytes: &mut [u8]) {
        let mut events = std::mem::take(&mut self.events);
        let Conn { role, class, state, mid, .. } = self.conns[slot.0 as usize];
        let voice = usize::from(self.setup.voice_of_class[usize::from(class)]);
        let between = mid == 0 && state == State::Open && self.transport(slot) == Transport::WebSockets;
        let taken = if between { self.voices[voice].reader.read_whole_frames(bytes, &mut events) } else { 0 };
        if taken < bytes.len() {
            self.read_in_full(slot, voice, &mut bytes[taken..], &mut events);
        }
        let mut delivered = 0;
        for event in events.drain(..) {
            match event {
                Event::Delivery(head) if role == Role::Receiver => {
                    delivered += u64::from(self.deliver(slot, class, &head));
                }
                Event::Delivery(_) if role == Role::Guest => add(&self.counters().guests, 1),
                Event::Delivery(_) => add(&self.counters().echoes, 1),
                Event::Corrupt(head) => {
                    let named = head.map(|head| (head.lane, head.sequence));
                    if role == Role::Receiver { self.corrupt(slot, named) } else { self.ledger.note_corrupt(named) }
                }
                Event::Answered(answered) => self.poll_answered(slot, answered),
                Event::Other(other) => self.other(slot, *other),
            }
        }
        self.events = events;
        add(&self.counters().delivered, delivered);
    }

    /// Reads with all that a connection may carry from one buffer to the next.
    fn read_in_full(&mut self, slot: Slot, voice: usize, bytes: &mut [u8], events: &mut Vec<Event>) {
        let mut carried = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Carry(carry)) => carry,
            _ => self.fresh_carry(slot),
        };
        self.voices[voice].reader.read(&mut carried, bytes, events);
        if !carried.at_rest() {
            self.put_mid(slot, Mid::Carry(carried));
        }
    }

    /// Books a delivery. Returns whether its receiver has it for the first time.
    fn deliver(&mut self, slot: Slot, class: u8, head: &Head) -> bool {
        let mut entry = self.ledger.enter(slot.0, head.lane, head.sequence);
        if entry == Entry::Impossible {
            self.learn_published(head.lane);
            entry = self.ledger.enter(slot.0, head.lane, head.sequence);
        }
        match entry {
            Entry::Fresh | Entry::Late => {
                self.tracks[usize::from(class)].note(head, self.now_ns);
            }
            // The ledger has counted them.
            Entry::Duplicate | Entry::Misrouted => {}
            Entry::Impossible => self.impossible += 1,
        }
        matches!(entry, Entry::Fresh | Entry::Late)
    }

    /// A damaged delivery, with its name if that could be read.
    pub(crate) fn corrupt(&mut self, slot: Slot, named: Option<(u32, u32)>) {
        if let Some((lane, _)) = named {
            self.learn_published(lane);
        }
        if self.ledger.enter_corrupt(slot.0, named) {
            add(&self.counters().delivered, 1);
        }
    }

    /// Brings the ledger up to date with what the publishers say they have sent in one lane.
    fn learn_published(&mut self, lane: u32) {
        if let Some(next) = self.setup.shared.published.get(lane as usize) {
            self.ledger.note_published(lane, next.load(Ordering::Acquire));
        }
    }

    /// The same for all lanes.
    pub(crate) fn learn_all_published(&mut self) {
        (0..self.setup.shared.published.len() as u32).for_each(|lane| self.learn_published(lane));
    }

    pub(crate) fn note_stranger(&mut self) {
        self.strangers += 1;
    }
}
