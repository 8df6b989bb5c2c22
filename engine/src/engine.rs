//! Building and running an engine: what an embedder meets first.

mod builder;
mod cores;

pub use builder::Builder;
pub use cores::CoreSet;

use self::cores::allowed_cores;
use crate::buf::RecvPool;
use crate::conn::endpoint::EndpointOptions;
use crate::event::ShardMetrics;
use crate::hub::publisher::Publisher;
use crate::hub::switchboard::{HubSpec, Shared};
use crate::io::uring::{RingError, Uring, UringOptions, pin_to_core};
use crate::io::{Io, IoCounters, RingFds};
use crate::limits::{self, Plan};
use crate::shard::{Links, Shard};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a hub behaves under its own path.
#[derive(Clone, Debug, Default)]
pub struct HubOptions {
    /// See [`EndpointOptions`].
    pub endpoint: EndpointOptions,
}

/// Why an engine did not start. `Display` says what, where and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Something in the builder's settings.
    Config(String),
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The kernel refuses a ring.
    Ring(RingError),
    /// No memory for the broadcast log.
    Log(std::io::Error),
    /// Anything else the system refuses (threads, descriptors, randomness).
    System(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "FF2010  the engine's settings do not fit together: {what}"),
            Self::Listen { address, error } => {
                let remedy = match error.kind() {
                    std::io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another port",
                    std::io::ErrorKind::AddrNotAvailable => "no interface of this host has that address",
                    std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
                    _ => "check the address",
                };
                write!(f, "FF2011  cannot listen on {address}: {error}\n  fix:  {remedy}")
            }
            Self::Ring(error) => write!(f, "{error}"),
            Self::Log(error) => write!(
                f,
                "FF2012  cannot reserve the broadcast log: {error}\n  fix:  lower limits.log_bytes_max, or give the process more memory"
            ),
            Self::System(what) => write!(f, "FF2013  the system refuses: {what}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<RingError> for StartError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

/// The numbers of one hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubMetrics {
    /// Its name.
    pub name: String,
    /// Its open connections.
    pub connections: usize,
}

/// All numbers of an engine at about one moment.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// Per shard.
    pub shards: Vec<ShardMetrics>,
    /// Per hub.
    pub hubs: Vec<HubMetrics>,
}

impl MetricsSnapshot {
    /// Over all shards.
    pub fn total(&self) -> ShardMetrics {
        let mut total = ShardMetrics::default();
        self.shards.iter().for_each(|shard| total.add(shard));
        total
    }
}

/// What a shard's thread starts with.
struct Seat {
    number: u8,
    core: Option<usize>,
    addresses: Vec<SocketAddr>,
    links: Links,
}

/// A running engine. Dropping it stops it.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    plan: Plan,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// A panic on a shard's thread may have torn its tables: the process ends, a supervisor starts a new one.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Engine {
    /// Begins a new one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts one shard and waits until it listens.
    fn seat(&mut self, seat: Seat, ring_fds: Arc<RingFds>) -> Result<Vec<SocketAddr>, StartError> {
        let (shared, slots) = (self.shared.clone(), self.plan.slots_per_shard);
        let (report, reported) = channel();
        let name = format!("fanfare-{}", seat.number);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _guard = AbortOnPanic;
            match prepare(&seat, shared.clone(), slots, ring_fds) {
                Err(error) => {
                    let _ = report.send(Err(error));
                }
                Ok((io, pool, addresses)) => {
                    let Some(mut shard) = Shard::new(seat.number, io, pool, shared, slots, seat.links) else {
                        let _ = report.send(Err(StartError::System("a shard of this number exists".into())));
                        return;
                    };
                    let _ = report.send(Ok(addresses));
                    if let Err(error) = shard.run() {
                        // Its connections cannot be served and its mailbox would fill: as bad as a bug.
                        panic!("FF9001  shard {} lost its ring: {error}", seat.number);
                    }
                }
            }
        });
        self.threads.push(thread.map_err(|error| StartError::System(format!("no thread: {error}")))?);
        wait_for(&reported)
    }

    /// The addresses listened on, in the order they were given.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What the limits come to.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Somebody who can speak to clients, from any thread.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.shared.clone())
    }

    /// All numbers.
    pub fn metrics(&self) -> MetricsSnapshot {
        EngineHandle(self.shared.clone()).metrics()
    }

    /// A handle to the numbers that can go to another thread.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle(self.shared.clone())
    }

    /// Says goodbye to everybody (clients may reconnect, elsewhere or later), waits until all have gone or `within`
    /// has passed, and stops.
    pub fn drain(&mut self, within: Duration) {
        self.shared.command_drain(within.as_micros().min(u128::from(u64::MAX / 2)) as u64);
        self.join();
    }

    /// Closes everything and stops.
    pub fn stop(&mut self) {
        if !self.threads.is_empty() {
            self.shared.command_stop();
            self.join();
        }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A shard that fails ends the process, so there is no error to pass on.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The ring, on the thread that will use it, bound and listening.
fn prepare(
    seat: &Seat,
    shared: Arc<Shared>,
    slots: usize,
    ring_fds: Arc<RingFds>,
) -> Result<(Uring, RecvPool, Vec<SocketAddr>), StartError> {
    if let Some(core) = seat.core {
        pin_to_core(core).map_err(|error| {
            StartError::Config(format!(
                "shard {} cannot run on core {core} ({error}); this process may use the cores {}",
                seat.number,
                allowed_cores().iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
            ))
        })?;
    }
    let pool = RecvPool::new(limits::RECV_BUFFERS, limits::RECV_BUFFER_BYTES as u32);
    let options = UringOptions {
        shard: seat.number,
        slots: slots as u32,
        sq_entries: limits::SQ_ENTRIES,
        cq_entries: limits::CQ_ENTRIES,
        logs: shared.logs.clone(),
        ring_fds,
    };
    let mut io = Uring::new(options, &pool)?;
    // What the kernel still holds of what a client was sent counts like what we hold.
    io.set_user_timeout(Duration::from_millis(shared.limits.outbox_age_max_ms.into()));
    let waker = io.wake_handle();
    shared.mailboxes[seat.number as usize].set_waker(Box::new(move || waker.wake()));
    let mut bound = Vec::new();
    for address in &seat.addresses {
        let listened = io.listen(*address);
        bound.push(listened.map_err(|error| StartError::Listen { address: address.to_string(), error })?);
    }
    Ok((io, pool, bound))
}

fn wait_for(reported: &Receiver<Result<Vec<SocketAddr>, StartError>>) -> Result<Vec<SocketAddr>, StartError> {
    reported.recv().unwrap_or_else(|_| Err(StartError::System("a shard's thread ended before it listened".into())))
}

/// The numbers of an engine, and a way to speak through it, without owning it.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").finish_non_exhaustive()
    }
}

impl EngineHandle {
    /// All numbers.
    pub fn metrics(&self) -> MetricsSnapshot {
        let shared = &self.0;
        let hub = |(index, hub): (usize, &HubSpec)| HubMetrics {
            name: hub.name.clone(),
            connections: shared.interest.connections(index as u16),
        };
        MetricsSnapshot {
            shards: shared.counters.iter().map(|counters| counters.snapshot()).collect(),
            hubs: shared.hubs.iter().enumerate().map(hub).collect(),
        }
    }

    /// Somebody who can speak to clients, from any thread.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.0.clone())
    }

    /// Somebody who speaks through the mailbox of this shard: for simulations, where nothing may depend on what else
    /// the process does.
    ///
    /// # Panics
    /// If there is no such shard.
    #[doc(hidden)]
    pub fn publisher_on(&self, shard: u8) -> Publisher {
        assert!((shard as usize) < self.0.mailboxes.len(), "no such shard");
        Publisher::on_shard(self.0.clone(), shard)
    }

    /// Hub connections open.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }

    /// Whether new connections are turned away.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Begins a drain without waiting for its end.
    pub fn begin_drain(&self, within: Duration) {
        self.0.command_drain(within.as_micros().min(u128::from(u64::MAX / 2)) as u64);
    }

    /// Begins to stop without waiting for the end.
    pub fn begin_stop(&self) {
        self.0.command_stop();
    }
}

/// One shard without a thread: the caller turns it.
pub struct ManualShard<I: Io>(Shard<I>);

impl<I: Io> fmt::Debug for ManualShard<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualShard").finish_non_exhaustive()
    }
}

impl<I: Io> ManualShard<I> {
    /// One turn: takes what has happened, acts on it, hands over what follows. `false`: the shard has stopped.
    pub fn turn(&mut self) -> std::io::Result<bool> {
        self.0.turn()
    }

    /// The shard's door to the kernel.
    pub fn io_mut(&mut self) -> &mut I {
        self.0.io_mut()
    }

    /// What the door has counted.
    pub fn io_counters(&mut self) -> IoCounters {
        self.0.io_mut().counters()
    }

    /// Bytes that its clients are owed, counted the slow way: for tests.
    pub fn owed_bytes(&self) -> u64 {
        self.0.owed_bytes()
    }

    /// What must hold between turns, checked the slow way: for tests. Returns what does not hold.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()
    }

    /// The same, and that nothing is kept for anybody: for tests, when every connection has gone.
    pub fn check_empty(&self) -> Result<(), String> {
        self.0.check_empty()
    }
}
