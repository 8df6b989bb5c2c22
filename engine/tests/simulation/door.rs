//! The engine's door to the simulated kernel, which can be made to lie.
//!
//! Every scenario goes through it with [`Lie::None`]. The other lies are the seeded bugs: each hides from the engine
//! what one of its checks is for, as if the check were missing, and the suite must notice.

use fanfare_engine::buf::segment::Logs;
use fanfare_engine::buf::{Extent, RecvPool};
use fanfare_engine::io::sim::Sim;
use fanfare_engine::io::{Completion, Errno, Generation, Io, IoCounters, Sent, Slot, Tag, Wait};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

/// What the engine is told that is not so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Every short send was a whole one: the engine forgets the rest.
    ShortSends,
    /// Every late completion belongs to the present tenant: the engine's look at the generation finds nothing.
    Generations,
    /// Nobody holds any segment: the log is written again under its readers.
    HeldSegments,
    /// Wakes of other shards were carried out.
    Wakes,
}

/// The simulated kernel behind a door that may lie.
pub(crate) struct Door {
    sim: Sim,
    lie: Lie,
    logs: Logs,
    shard: u8,
    tenants: HashMap<Slot, Generation>,
    lengths: HashMap<Slot, u32>,
    /// Completions of a tenant that has gone, met by the next one.
    stale_total: u64,
}

impl Door {
    pub(crate) fn new(sim: Sim, lie: Lie, logs: &Logs, shard: u8) -> Self {
        let (tenants, lengths) = (HashMap::new(), HashMap::new());
        Self { sim, lie, logs: logs.clone(), shard, tenants, lengths, stale_total: 0 }
    }

    /// See [`Door::stale_total`].
    pub(crate) fn stale_total(&self) -> u64 {
        self.stale_total
    }

    fn twist(&mut self, completion: &mut Completion) {
        match completion {
            Completion::Sent { slot, sent, .. } if self.lie == Lie::ShortSends => {
                let whole = self.lengths[slot];
                if sent.result.is_ok_and(|taken| taken < whole) {
                    *sent = Sent { result: Ok(whole), released: whole };
                }
            }
            Completion::Readable { slot, generation, .. }
            | Completion::Received { slot, generation, .. }
            | Completion::Writable { slot, generation } => {
                let present = self.tenants.get(slot).copied().unwrap_or(*generation);
                self.stale_total += u64::from(present != *generation);
                if self.lie == Lie::Generations {
                    *generation = present;
                }
            }
            _ => {}
        }
    }
}

impl Io for Door {
    fn now_us(&self) -> u64 {
        self.sim.now_us()
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.sim.listen(address)
    }

    fn accept(&mut self) -> u8 {
        self.sim.accept()
    }

    fn cancel_accept(&mut self) {
        self.sim.cancel_accept();
    }

    fn poll(&mut self, slot: Slot, generation: Generation) {
        self.tenants.insert(slot, generation);
        self.sim.poll(slot, generation);
    }

    fn recv(&mut self, slot: Slot, generation: Generation) {
        self.sim.recv(slot, generation);
    }

    fn send(&mut self, slot: Slot, tag: Tag, bytes: Extent) {
        self.lengths.insert(slot, bytes.len);
        self.sim.send(slot, tag, bytes);
    }

    fn send_gather(&mut self, slot: Slot, tag: Tag, runs: &[Extent]) {
        self.lengths.insert(slot, runs.iter().map(|run| run.len).sum());
        self.sim.send_gather(slot, tag, runs);
    }

    fn send_copy(&mut self, slot: Slot, tag: Tag, bytes: &[u8]) {
        self.lengths.insert(slot, bytes.len() as u32);
        self.sim.send_copy(slot, tag, bytes);
    }

    fn poll_out(&mut self, slot: Slot, generation: Generation) {
        self.sim.poll_out(slot, generation);
    }

    fn lend(&mut self, slot: Slot, generation: Generation) {
        self.sim.lend(slot, generation);
    }

    fn introduce(&mut self, slot: Slot, generation: Generation) {
        self.sim.introduce(slot, generation);
    }

    fn unlend(&mut self, slot: Slot) -> bool {
        self.sim.unlend(slot)
    }

    fn send_file(&mut self, slot: Slot, bytes: Extent) -> Result<u32, Errno> {
        self.sim.send_file(slot, bytes)
    }

    fn shutdown(&mut self, slot: Slot) {
        self.sim.shutdown(slot);
    }

    fn hand_over(&mut self, slot: Slot, generation: Generation, shard: u8, parcel: u32) {
        self.sim.hand_over(slot, generation, shard, parcel);
    }

    fn close(&mut self, slot: Slot, generation: Generation, poll_armed: bool, poll_out_armed: bool) {
        self.sim.close(slot, generation, poll_armed, poll_out_armed);
    }

    fn wake(&mut self, shard: u8) {
        if self.lie != Lie::Wakes {
            self.sim.wake(shard);
        }
    }

    fn enter(&mut self, wait: Wait, pool: &mut RecvPool, completions: &mut Vec<Completion>) -> io::Result<()> {
        if self.lie == Lie::HeldSegments {
            self.logs.forget_holders(self.shard);
        }
        let before = completions.len();
        self.sim.enter(wait, pool, completions)?;
        for completion in &mut completions[before..] {
            self.twist(completion);
        }
        Ok(())
    }

    fn counters(&self) -> IoCounters {
        self.sim.counters()
    }
}
