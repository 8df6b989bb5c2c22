//! Whether a connection hears from the server as often as a client of the SDK must: one that hears nothing for its
//! server time-out gives the connection up. The fleet stays, and counts.

use crate::client::State;
use crate::shared::add;
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::negotiate::Transport;

impl<D: Dial> Worker<D> {
    /// Something has come, or the end has. While a connection is open, its phase began when it heard something last.
    pub(crate) fn heard(&mut self, slot: Slot) {
        let (now_us, limit_us) = (self.now_us(), self.silence_us_max);
        // What this worker has slept through was no silence.
        let own_us = self.stood_still_us;
        let conn = &mut self.conns[slot.0 as usize];
        if conn.state != State::Open || !conn.role.receives() {
            return;
        }
        let quiet_us = now_us.wrapping_sub(conn.phase_us).saturating_sub(own_us);
        conn.phase_us = now_us;
        // Polls are answered when there is nothing to say as well, so their clients set no time-out (spec 2.5).
        if quiet_us > limit_us && self.transport(slot) != Transport::LongPolling && !self.is_asking_only() {
            add(&self.counters().silences, 1);
        }
    }
}
