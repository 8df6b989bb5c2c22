//! Sending: one send per connection at a time, what the socket does not take waits in an outbox.

use crate::client::State;
use crate::outgoing::Outbox;
use crate::phrases::tag;
use crate::worker::Worker;
use fanfare_engine::buf::Extent;
use fanfare_engine::io::{Dial, Errno, Slot, Tag};

/// `EAGAIN`: the socket is full.
const EAGAIN: i32 = rustix::io::Errno::AGAIN.raw_os_error();

impl<D: Dial> Worker<D> {
    /// Says a phrase of the whole fleet.
    pub(crate) fn say(&mut self, slot: Slot, phrase: Extent, tag: Tag) {
        let conn = &mut self.conns[slot.0 as usize];
        if !conn.sending && conn.outbox == 0 {
            conn.sending = true;
            self.io.send(slot, tag, phrase);
            return;
        }
        let handle = self.outbox_of(slot);
        if let Some(outbox) = self.outboxes.get_mut(handle) {
            self.outgoing.owe_shared(phrase, outbox);
        }
    }

    /// Sends bytes of this connection alone. Returns `false` when the log has no room for them now.
    pub(crate) fn say_own(&mut self, slot: Slot, bytes: &[u8]) -> bool {
        let handle = self.outbox_of(slot);
        let Some(outbox) = self.outboxes.get_mut(handle) else { return false };
        let taken = self.outgoing.owe(bytes, outbox).is_ok();
        self.flush(slot);
        taken
    }

    /// Bytes that the connection still owes.
    pub(crate) fn owed_bytes(&self, slot: Slot) -> u64 {
        self.outboxes.get(self.conns[slot.0 as usize].outbox).map_or(0, Outbox::bytes)
    }

    fn outbox_of(&mut self, slot: Slot) -> u32 {
        let conn = &mut self.conns[slot.0 as usize];
        if conn.outbox == 0 {
            // As many places as slots: there is always one.
            conn.outbox = self.outboxes.insert(Outbox::default()).unwrap_or(0);
        }
        conn.outbox
    }

    /// Sends the front of the outbox, if nothing stands in the way.
    fn flush(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot.0 as usize];
        let Some(outbox) = self.outboxes.get_mut(conn.outbox) else { return };
        if conn.sending || outbox.waiting {
            return;
        }
        let (runs, used) = outbox.front();
        if used == 0 {
            self.outboxes.remove(std::mem::take(&mut conn.outbox));
            return;
        }
        conn.sending = true;
        outbox.given = runs[..used].iter().map(|run| run.len).sum();
        if used == 1 {
            self.io.send(slot, tag::OUTBOX, runs[0]);
        } else {
            self.io.send_gather(slot, tag::OUTBOX, &runs[..used]);
        }
    }

    /// A send has ended.
    pub(crate) fn sent(&mut self, slot: Slot, tag: Tag, result: Result<u32, Errno>) {
        let conn = &mut self.conns[slot.0 as usize];
        conn.sending = false;
        if matches!(conn.state, State::Empty | State::Renewing | State::Closing) {
            return;
        }
        let (bytes, full) = match result {
            Ok(bytes) => (bytes, false),
            Err(Errno(EAGAIN)) => (0, true),
            Err(Errno(errno)) => {
                self.ended(slot, Some(std::io::Error::from_raw_os_error(errno)));
                return;
            }
        };
        let full = full | self.take_off(slot, tag, bytes);
        let generation = self.conns[slot.0 as usize].generation;
        if full {
            let handle = self.outbox_of(slot);
            if let Some(outbox) = self.outboxes.get_mut(handle) {
                outbox.waiting = true;
            }
            self.conns[slot.0 as usize].poll_out_armed = true;
            self.io.poll_out(slot, generation);
        } else {
            self.flush(slot);
        }
    }

    /// Takes what was sent off the books. Returns whether the socket took less than it was given.
    fn take_off(&mut self, slot: Slot, tag: Tag, bytes: u32) -> bool {
        if tag == tag::OUTBOX {
            let handle = self.conns[slot.0 as usize].outbox;
            let Some(outbox) = self.outboxes.get_mut(handle) else { return false };
            self.outgoing.sent(outbox, bytes);
            return bytes < outbox.given;
        }
        let phrases = &self.voice(slot).phrases;
        let phrase = match tag {
            tag::UPGRADE => Some(phrases.upgrade),
            tag::NEGOTIATE => Some(phrases.negotiate),
            tag::HANDSHAKE => phrases.handshake,
            tag::PING => phrases.ping,
            tag::HELLO => Some(phrases.hello),
            tag::POLL => self.sessions.get(slot.0 as usize).map(|session| session.poll),
            _ => Some(phrases.close),
        };
        let Some(mut rest) = phrase else { return false };
        if bytes >= rest.len {
            return false;
        }
        rest.advance(bytes);
        let handle = self.outbox_of(slot);
        if let Some(outbox) = self.outboxes.get_mut(handle) {
            self.outgoing.owe_rest(rest, outbox);
        }
        true
    }

    /// The socket has room again.
    pub(crate) fn writable(&mut self, slot: Slot, generation: fanfare_engine::io::Generation) {
        let conn = &mut self.conns[slot.0 as usize];
        if conn.generation != generation || matches!(conn.state, State::Empty | State::Renewing | State::Closing) {
            return;
        }
        conn.poll_out_armed = false;
        if let Some(outbox) = self.outboxes.get_mut(conn.outbox) {
            outbox.waiting = false;
        }
        self.flush(slot);
    }

    /// Forgets all the connection owes.
    pub(crate) fn drop_outbox(&mut self, slot: Slot) {
        let handle = std::mem::take(&mut self.conns[slot.0 as usize].outbox);
        if let Some(mut outbox) = self.outboxes.remove(handle) {
            self.outgoing.drop_all(&mut outbox);
        }
    }
}
