//! One ring with its pool and log, and blocking peers on loopback.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use fanfare_engine::buf::{Extent, Extents, Log, Logs, RecvPool, SEGMENT_BYTES, SegmentOwner};
use fanfare_engine::io::{Completion, Generation, Io, Received, RingFds, Sent, Slot, Tag, Uring, UringOptions, Wait};
use fanfare_protocol::cursor::Sink;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The tenant number that these tests use unless they are about tenants.
pub const FIRST: fn() -> Generation = || Generation::new(1);

/// How long anything on loopback may take before a test fails.
pub const PATIENCE_US: u64 = 5_000_000;

pub struct Station {
    pub uring: Uring,
    pub pool: RecvPool,
    pub logs: Logs,
    pub owner: SegmentOwner,
    pub log: Log,
    pub seen: Vec<Completion>,
}

pub struct Sizes {
    pub slots: u32,
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub pool_entries: u16,
    pub buffer_bytes: u32,
    pub log_segments: usize,
}

pub const USUAL: Sizes =
    Sizes { slots: 256, sq_entries: 256, cq_entries: 1024, pool_entries: 64, buffer_bytes: 2048, log_segments: 16 };

impl Station {
    pub fn new() -> Self {
        Self::sized(&USUAL)
    }

    pub fn sized(sizes: &Sizes) -> Self {
        let logs = Logs::new(1, sizes.log_segments * SEGMENT_BYTES).unwrap();
        Self::of_shard(sizes, 0, &logs, &RingFds::new(1).unwrap())
    }

    pub fn of_shard(sizes: &Sizes, shard: u8, logs: &Logs, ring_fds: &Arc<RingFds>) -> Self {
        let pool = RecvPool::new(sizes.pool_entries, sizes.buffer_bytes);
        let options = UringOptions {
            shard,
            slots: sizes.slots,
            sq_entries: sizes.sq_entries,
            cq_entries: sizes.cq_entries,
            logs: logs.clone(),
            ring_fds: ring_fds.clone(),
        };
        let uring = Uring::new(options, &pool).unwrap_or_else(|error| panic!("{error}"));
        let owner = logs.owner(shard).unwrap();
        Self { uring, pool, logs: logs.clone(), owner, log: Log::new(), seen: Vec::new() }
    }

    /// One enter that waits for `want` completions, `us` microseconds at most. Adds to what was seen.
    pub fn enter(&mut self, want: u32, us: u64) {
        let wait = Wait { want, min_wait_us: 0, deadline_us: self.uring.now_us() + us };
        self.uring.enter(wait, &mut self.pool, &mut self.seen).unwrap();
    }

    /// Enters until `pick` finds what it wants among the completions, and takes that one out.
    pub fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Completion) -> Option<T>) -> T {
        let deadline = self.uring.now_us() + PATIENCE_US;
        loop {
            let found = self.seen.iter().enumerate().find_map(|(at, completion)| Some((at, pick(completion)?)));
            if let Some((at, value)) = found {
                self.seen.remove(at);
                return value;
            }
            assert!(self.uring.now_us() < deadline, "no {what}; seen: {:?}", self.seen);
            self.enter(1, 100_000);
        }
    }

    /// Enters for a while and asserts that nothing like this comes.
    pub fn never(&mut self, what: &str, mut pick: impl FnMut(&Completion) -> bool) {
        for _ in 0..5 {
            self.enter(1, 20_000);
        }
        assert!(!self.seen.iter().any(&mut pick), "unexpected {what}: {:?}", self.seen);
    }

    pub fn listen(&mut self) -> SocketAddr {
        let address = self.uring.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        self.uring.accept();
        self.enter(0, 0);
        address
    }

    /// A blocking peer and the slot that its connection got.
    pub fn peer(&mut self, address: SocketAddr) -> (TcpStream, Slot) {
        let peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let slot = self.until("accept", |completion| match completion {
            Completion::Accepted { slot, .. } => Some(*slot),
            _ => None,
        });
        (peer, slot)
    }

    pub fn write(&mut self, bytes: &[u8]) -> Extents {
        self.log.append(&mut self.owner, bytes.len(), 0, |writer| writer.put(bytes)).unwrap()
    }

    pub fn write_one(&mut self, bytes: &[u8]) -> Extent {
        let extents = self.write(bytes);
        assert_eq!(extents.len(), 1);
        extents[0]
    }

    pub fn sent(&mut self, slot: Slot) -> (Sent, Tag) {
        self.until("sent", |completion| match completion {
            Completion::Sent { slot: at, tag, sent } if *at == slot => Some((*sent, *tag)),
            _ => None,
        })
    }

    pub fn readable(&mut self, slot: Slot) -> bool {
        self.until("readable", |completion| match completion {
            Completion::Readable { slot: at, armed, .. } if *at == slot => Some(*armed),
            _ => None,
        })
    }

    pub fn received(&mut self, slot: Slot) -> Received {
        self.until("received", |completion| match completion {
            Completion::Received { slot: at, received, .. } if *at == slot => Some(*received),
            _ => None,
        })
    }

    /// Queues a receive and gives back the bytes (and the buffer), or whatever else came.
    pub fn recv(&mut self, slot: Slot) -> Result<(Vec<u8>, bool), Received> {
        self.uring.recv(slot, FIRST());
        match self.received(slot) {
            Received::Data { buffer, len, more } => {
                let bytes = self.pool.slice(buffer, len).to_vec();
                self.pool.give_back(buffer);
                Ok((bytes, more))
            }
            other => Err(other),
        }
    }

    pub fn closed(&mut self, slot: Slot) -> Generation {
        self.until("closed", |completion| match completion {
            Completion::Closed { slot: at, generation } if *at == slot => Some(*generation),
            _ => None,
        })
    }
}
