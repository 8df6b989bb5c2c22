//! What a bare socket costs the kernel, measured beside the fleet in the same run.
//!
//! Kernel memory can only be read for the whole system, and on one machine both ends are in it. Two steps take them
//! apart, both held open until the run ends, so that every difference is pure growth:
//!
//! ```text
//!  A  plain pairs: an ordinary connect() beside an ordinary accept(), nothing armed.  bare = growth / pairs / 2
//!  B  a generator's connection (ring, poll armed) to an ordinary accept().            mixed = growth / pairs
//!     generator's end = mixed - bare
//!  fleet: growth / connections - generator's end = the server's end
//! ```
//! The accepting side is a listener in this process: kernel memory does not know whose a socket is, and a process of
//! its own would change nothing but the noise. The bare server needs no user memory for a connection.

use crate::failure::{Exit, Failure};
use crate::procfs::KernelSample;
use fanfare_engine::buf::{Logs, RecvPool};
use fanfare_engine::io::uring::{Uring, UringOptions};
use fanfare_engine::io::wake::RingFds;
use fanfare_engine::io::{Completion, Dial, Generation, Io, Slot, Wait};
use serde::Serialize;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Plain pairs: two descriptors each, so not more than the usual limit of 20,000 allows beside the rest.
const PLAIN_PAIRS_MAX: u32 = 4_000;

/// Generator-to-accept pairs: one descriptor each.
const MIXED_PAIRS_MAX: u32 = 8_000;

/// Connections that wait to be accepted at a time: below any listener's backlog.
const BATCH: u32 = 64;

/// What the kernel needs to finish its own bookkeeping before it is asked.
const SETTLE: Duration = Duration::from_millis(300);

/// Figures of the bare sockets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BaselineReport {
    /// Kernel bytes of one bare socket.
    pub bare_socket_bytes: f64,
    /// Kernel bytes of one end of the generator.
    pub generator_end_bytes: f64,
    /// Plain pairs measured.
    pub plain_pairs: u32,
    /// Generator-to-accept pairs measured.
    pub mixed_pairs: u32,
}

/// The bare sockets, open as long as this lives.
pub(crate) struct Baseline {
    /// The figures.
    pub report: BaselineReport,
    _sockets: Vec<TcpStream>,
    _ring: Uring,
}

/// Samples the kernel after it has settled.
pub(crate) fn settled_sample() -> Result<KernelSample, Failure> {
    std::thread::sleep(SETTLE);
    KernelSample::take()
}

impl Baseline {
    /// Measures with at most `connections` pairs of each kind, fewer when descriptors are short.
    pub(crate) fn measure(connections: u32) -> Result<Self, Failure> {
        /// Descriptors for everything else.
        const OTHER_DESCRIPTORS: u64 = 1_000;
        let descriptors = crate::os::raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS) as u32;
        let plain = connections.min(PLAIN_PAIRS_MAX).min(descriptors / 4).max(1);
        let mixed = connections.min(MIXED_PAIRS_MAX).min(descriptors / 2).max(1);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(broken)?;
        let address = listener.local_addr().map_err(broken)?;
        let mut sockets = Vec::with_capacity((plain * 2 + mixed) as usize);

        let empty = settled_sample()?;
        for _ in 0..plain {
            sockets.push(TcpStream::connect(address).map_err(broken)?);
            sockets.push(listener.accept().map_err(broken)?.0);
        }
        let after_plain = settled_sample()?;
        let bare = after_plain.since(&empty) as f64 / f64::from(plain) / 2.0;

        let mut dialler = Dialler::new(mixed)?;
        let before_mixed = settled_sample()?;
        for first in (0..mixed).step_by(BATCH as usize) {
            let batch = BATCH.min(mixed - first);
            dialler.connect(first..first + batch, address)?;
            for _ in 0..batch {
                sockets.push(listener.accept().map_err(broken)?.0);
            }
        }
        let after_mixed = settled_sample()?;
        let pair = after_mixed.since(&before_mixed) as f64 / f64::from(mixed);
        let report = BaselineReport {
            bare_socket_bytes: bare,
            generator_end_bytes: pair - bare,
            plain_pairs: plain,
            mixed_pairs: mixed,
        };
        Ok(Self { report, _sockets: sockets, _ring: dialler.ring })
    }
}

fn broken(error: std::io::Error) -> Failure {
    Failure::new(
        Exit::HostUnfit,
        format!("bare sockets for comparison could not be opened: {error}"),
        "baseline",
        "leave them out with --no-baseline",
    )
}

/// The generator's way of connecting, without anything behind it.
struct Dialler {
    ring: Uring,
    pool: RecvPool,
}

impl Dialler {
    fn new(slots: u32) -> Result<Self, Failure> {
        let logs = Logs::new(1, 1 << 20).map_err(broken)?;
        let ring_fds = RingFds::new(1).map_err(broken)?;
        let pool = RecvPool::new(16, 4096);
        let options = UringOptions { shard: 0, slots, sq_entries: 256, cq_entries: 1024, logs, ring_fds };
        let ring = Uring::new(options, &pool).map_err(|error| {
            Failure::new(Exit::NotStarted, error.to_string(), "baseline", "leave it out with --no-baseline")
        })?;
        Ok(Self { ring, pool })
    }

    fn connect(&mut self, slots: std::ops::Range<u32>, address: SocketAddr) -> Result<(), Failure> {
        let generation = Generation::new(1);
        let mut waiting = slots.len();
        for slot in slots {
            self.ring.connect(Slot(slot), generation, None, address);
        }
        let mut completions = Vec::new();
        let limit_us = self.ring.now_us() + 5_000_000;
        while waiting > 0 {
            if self.ring.now_us() > limit_us {
                return Err(broken(std::io::ErrorKind::TimedOut.into()));
            }
            completions.clear();
            let wait = Wait { want: waiting as u32, min_wait_us: 1_000, deadline_us: limit_us };
            self.ring.enter(wait, &mut self.pool, &mut completions).map_err(broken)?;
            for completion in &completions {
                if let Completion::Connected { slot, result, .. } = completion {
                    result.map_err(|errno| broken(std::io::Error::from_raw_os_error(errno.0)))?;
                    self.ring.poll(*slot, generation);
                    waiting -= 1;
                }
            }
        }
        // The polls go out now, so that they are part of what is measured.
        let wait = Wait { want: 0, min_wait_us: 0, deadline_us: self.ring.now_us() };
        self.ring.enter(wait, &mut self.pool, &mut Vec::new()).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests run beside this one, so only what is certain is asserted.
    #[test]
    fn bare_sockets_can_be_opened_and_counted() {
        let baseline = Baseline::measure(200).expect("bare sockets");
        assert_eq!((baseline.report.plain_pairs, baseline.report.mixed_pairs), (200, 200));
        assert_eq!(baseline._sockets.len(), 600);
        assert!(baseline.report.bare_socket_bytes.is_finite());
    }
}
