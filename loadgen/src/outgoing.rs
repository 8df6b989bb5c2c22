//! What waits to be sent: bytes in the worker's own log, and per connection the runs it still owes.
//!
//! Bytes that a whole fleet says (upgrade, handshake, ping) lie in the log once, as one extent, for ever. Bytes of
//! one connection are appended and held until the kernel has taken them.

use fanfare_engine::buf::{Extent, Holdings, Log, LogFull, Logs, SegmentOwner};
use fanfare_protocol::cursor::Sink;
use std::collections::VecDeque;

/// One worker's log.
#[derive(Debug)]
pub(crate) struct Outgoing {
    owner: SegmentOwner,
    holdings: Holdings,
    shared: Log,
    private: Log,
}

impl Outgoing {
    /// The log of `shard`; `None` when it was given out before.
    pub(crate) fn new(logs: &Logs, shard: u8) -> Option<Self> {
        let owner = logs.owner(shard)?;
        Some(Self { owner, holdings: Holdings::new(shard, logs), shared: Log::new(), private: Log::new() })
    }

    /// Bytes that stay for ever, in one run. `bytes` is at most a quarter of a segment (64 KiB).
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Result<Extent, LogFull> {
        let extents = self.shared.append(&mut self.owner, bytes.len(), 0, |writer| writer.put(bytes))?;
        let extent = extents[0];
        self.holdings.hold(extent.segment);
        Ok(extent)
    }

    /// Bytes that somebody owes; each run is held until [`Outgoing::release`].
    pub(crate) fn owe(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Result<(), LogFull> {
        let extents = self.private.append(&mut self.owner, bytes.len(), 0, |writer| writer.put(bytes))?;
        for &extent in extents.iter() {
            self.holdings.hold(extent.segment);
            outbox.runs.push_back(extent);
        }
        Ok(())
    }

    /// Puts the rest of a shared run into an outbox.
    pub(crate) fn owe_rest(&mut self, rest: Extent, outbox: &mut Outbox) {
        self.holdings.hold(rest.segment);
        outbox.runs.push_front(rest);
    }

    /// Appends a shared run to an outbox.
    pub(crate) fn owe_shared(&mut self, run: Extent, outbox: &mut Outbox) {
        self.holdings.hold(run.segment);
        outbox.runs.push_back(run);
    }

    /// Takes `bytes` sent bytes off the front of an outbox.
    pub(crate) fn sent(&mut self, outbox: &mut Outbox, mut bytes: u32) {
        while bytes > 0 {
            let Some(front) = outbox.runs.front_mut() else { return };
            if front.len > bytes {
                front.advance(bytes);
                return;
            }
            bytes -= front.len;
            self.holdings.release(front.segment);
            outbox.runs.pop_front();
        }
    }

    /// Forgets all an outbox owes.
    pub(crate) fn drop_all(&mut self, outbox: &mut Outbox) {
        for run in outbox.runs.drain(..) {
            self.holdings.release(run.segment);
        }
    }

    /// Makes segments that nobody owes any more writable again. Right after an `enter`.
    pub(crate) fn retire(&mut self) {
        // No shard reads another's log here, so there are no notes to wait for.
        self.owner.stamp(|_| 0);
        self.owner.retire(|_| u64::MAX);
    }
}

/// What one connection still has to send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    runs: VecDeque<Extent>,
    /// The socket is full; `Writable` will come.
    pub waiting: bool,
    /// Bytes of the send under way.
    pub given: u32,
}

impl Outbox {
    /// Bytes owed.
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.len)).sum()
    }

    /// The first runs, neighbours merged, at most as many as one gathered send takes.
    pub(crate) fn front(&self) -> ([Extent; fanfare_engine::io::GATHER_MAX], usize) {
        let mut out = [Extent::default(); fanfare_engine::io::GATHER_MAX];
        let mut used = 0;
        for run in &self.runs {
            if used > 0 && out[used - 1].merge(run) {
                continue;
            }
            if used == out.len() {
                break;
            }
            out[used] = *run;
            used += 1;
        }
        (out, used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_leave_together_and_sent_bytes_are_let_go() {
        let logs = Logs::new(1, 1 << 20).expect("log");
        let mut outgoing = Outgoing::new(&logs, 0).expect("first owner");
        let mut outbox = Outbox::default();
        for text in ["one ", "two ", "three"] {
            outgoing.owe(text.as_bytes(), &mut outbox).expect("room");
        }
        let (runs, used) = outbox.front();
        assert_eq!(used, 1);
        assert_eq!(logs.bytes(runs[0]), b"one two three");
        outgoing.sent(&mut outbox, 6);
        assert_eq!(logs.bytes(outbox.front().0[0]), b"o three");
        assert_eq!(outbox.bytes(), 7);
        outgoing.sent(&mut outbox, 7);
        assert_eq!(outbox.bytes(), 0);
        assert_eq!(outgoing.holdings.total(), 0);
    }

    #[test]
    fn a_long_run_of_bursts_reuses_its_segments() {
        let logs = Logs::new(1, 2 << 20).expect("log");
        let mut outgoing = Outgoing::new(&logs, 0).expect("first owner");
        let shared = outgoing.keep(b"hello").expect("room");
        let burst = vec![7; 300_000];
        for _ in 0..100 {
            let mut outbox = Outbox::default();
            outgoing.owe(&burst, &mut outbox).expect("room: old segments were retired");
            outgoing.sent(&mut outbox, burst.len() as u32);
            outgoing.retire();
        }
        assert_eq!(logs.bytes(shared), b"hello");
    }

    #[test]
    fn a_log_that_nobody_drains_is_full_in_the_end() {
        let logs = Logs::new(1, 1 << 20).expect("log");
        let mut outgoing = Outgoing::new(&logs, 0).expect("first owner");
        let mut outbox = Outbox::default();
        let full = (0..100).find_map(|_| outgoing.owe(&[1; 50_000], &mut outbox).err());
        assert!(full.is_some());
        outgoing.drop_all(&mut outbox);
        outgoing.retire();
        assert!(outgoing.owe(&[1; 50_000], &mut outbox).is_ok());
    }
}
