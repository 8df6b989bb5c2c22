//! Receives: one of each connection at a time, and no more in a turn than there are buffers.
//!
//! Whoever has something to read when all buffers are spoken for waits in line. Were its receive given to the ring all the
//! same it would fail and come back turn after turn, and a worker that has fallen behind would do little else.

use crate::client::Reading;
use crate::job::Job;
use crate::shared::add;
use crate::worker::Worker;
use fanfare_engine::buf::RecvPool;
use fanfare_engine::io::{Dial, Errno, Generation, Received, Slot};
use std::collections::VecDeque;

/// What the buffers of one turn have together: what the kernel has just written is still near when it is compared.
const TURN_BYTES: usize = 512 << 10;

/// Buffers at least and at most, powers of two as the ring wants them.
const BUFFERS: std::ops::RangeInclusive<usize> = 32..=256;

/// Buffers for one worker: one is large enough for a burst, so that it needs few receives.
pub(crate) fn pool_for(job: &Job) -> RecvPool {
    let burst = job.task.load().map_or(0, |load| load.size.most() * load.plan.burst as usize);
    let bytes = (burst + 512).next_power_of_two().clamp(4 << 10, 64 << 10);
    let buffers = (TURN_BYTES / bytes).clamp(*BUFFERS.start(), *BUFFERS.end());
    RecvPool::new(buffers as u16, bytes as u32)
}

/// Receives of one worker.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    /// Connections in line, each once. Some may have a new tenant by now.
    line: VecDeque<(Slot, Generation)>,
    /// How many receives the next enter may still be given.
    room: u32,
}

impl Receiving {
    /// The ring has been entered: what it was given is done.
    pub(crate) fn begin_turn(&mut self, pool: &RecvPool) {
        self.room = u32::from(pool.free()) + u32::from(pool.lent());
    }

    /// Whether somebody is in line.
    pub(crate) fn is_behind(&self) -> bool {
        !self.line.is_empty()
    }
}

impl<D: Dial> Worker<D> {
    /// Something has come for an open slot: reads it, now or when it is its turn.
    pub(crate) fn receive(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot.0 as usize];
        match conn.reading {
            Reading::Waiting => {}
            Reading::UnderWay | Reading::UnderWayAgain => conn.reading = Reading::UnderWayAgain,
            Reading::Idle if self.receiving.room > 0 && self.receiving.line.is_empty() => {
                conn.reading = Reading::UnderWay;
                self.receiving.room -= 1;
                self.io.recv(slot, conn.generation);
            }
            Reading::Idle => {
                conn.reading = Reading::Waiting;
                self.receiving.line.push_back((slot, conn.generation));
            }
        }
    }

    /// Gives the ring as many receives of those in line as there are buffers left.
    pub(crate) fn go_on_receiving(&mut self) {
        while self.receiving.room > 0
            && let Some((slot, generation)) = self.receiving.line.pop_front()
        {
            let conn = &mut self.conns[slot.0 as usize];
            if conn.generation != generation || conn.reading != Reading::Waiting || !conn.state.reads() {
                continue;
            }
            conn.reading = Reading::UnderWay;
            self.receiving.room -= 1;
            self.io.recv(slot, generation);
        }
    }

    pub(crate) fn received(&mut self, slot: Slot, generation: Generation, received: Received, pool: &mut RecvPool) {
        let conn = self.conns.get_mut(slot.0 as usize).filter(|conn| conn.generation == generation);
        let again = conn.is_some_and(|conn| std::mem::take(&mut conn.reading) == Reading::UnderWayAgain);
        let current = self.is_read_from(slot, generation);
        match received {
            Received::Data { buffer, len, more } => {
                if current {
                    add(&self.counters().bytes, u64::from(len));
                    self.heard(slot);
                    self.take_bytes(slot, pool.slice_mut(buffer, len));
                }
                pool.give_back(buffer);
                if (more || again) && self.is_read_from(slot, generation) {
                    self.receive(slot);
                }
            }
            Received::NoBuffers if current => self.receive(slot),
            Received::WouldBlock if current && again => self.receive(slot),
            Received::End if current => self.ended(slot, None),
            Received::Failed(Errno(errno)) if current => {
                self.ended(slot, Some(std::io::Error::from_raw_os_error(errno)));
            }
            Received::WouldBlock | Received::NoBuffers | Received::End | Received::Failed(_) => {}
        }
    }

    /// Whether what comes for this tenant of a slot is of interest.
    fn is_read_from(&self, slot: Slot, generation: Generation) -> bool {
        self.conns.get(slot.0 as usize).is_some_and(|conn| conn.generation == generation && conn.state.reads())
    }
}
