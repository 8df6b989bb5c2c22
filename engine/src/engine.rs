//! Building and running an engine: what an embedder meets first.

use crate::buf::RecvPool;
use crate::buf::segment::Logs;
use crate::conn::certificates::Certificates;
use crate::conn::endpoint::{Authenticator, EchoOptions, Endpoint, EndpointOptions, Service};
use crate::conn::tls::TlsSetup;
use crate::event::{ShardMetrics, SharedCounters};
use crate::hub::admission::Admission;
use crate::hub::asks::Asked;
use crate::hub::bursts::Bursts;
use crate::hub::directory::Directory;
use crate::hub::host::{Host, HubHandler, InProcess};
use crate::hub::http::HttpHandler;
use crate::hub::interest::Interest;
use crate::hub::parcels::Parcels;
use crate::hub::pending::Pending;
use crate::hub::publisher::{Mailbox, Publisher};
use crate::hub::shedding::Targets;
use crate::hub::switchboard::{HubSpec, Shared};
use crate::ids::IdKeys;
use crate::interconnect::{Sleepers, ring};
use crate::io::uring::{RingError, Uring, UringOptions, pin_to_core};
use crate::io::{Io, IoCounters, LISTENERS_MAX, RingFds, WakeHandle};
use crate::limits::{self, Limits, Plan};
use crate::shard::{Links, Shard};
use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Which cores the shards run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreSet {
    /// Wherever the scheduler likes.
    #[default]
    Any,
    /// Shard n on the nth of the cores that this process may use (modulo their number).
    Pinned,
    /// Shard n on the nth of these cores (modulo their number).
    List(Vec<usize>),
}

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

/// Collects what an engine is made of.
#[derive(Default)]
pub struct Builder {
    shards: Option<usize>,
    cores: CoreSet,
    listen: Vec<Result<SocketAddr, StartError>>,
    /// Those of them whose clients speak TLS, one bit each.
    tls_listeners: u8,
    certificates: Option<Certificates>,
    hubs: Vec<HubSpec>,
    own_paths: Vec<(usize, EndpointOptions)>,
    endpoints: Vec<(String, String, EndpointOptions)>,
    echoes: Vec<(String, EchoOptions)>,
    authenticators: Vec<(String, Arc<dyn Authenticator>)>,
    http: Option<Arc<dyn HttpHandler>>,
    limits: Limits,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("shards", &self.shards).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Builder {
    /// Threads, each with a ring of its own. Default: the cores this process may use. More than cores is useful where
    /// the limit of open files is small: every shard brings another table of connections.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Where the shards run.
    #[must_use]
    pub fn cores(mut self, cores: CoreSet) -> Self {
        self.cores = cores;
        self
    }

    /// An address to listen on, up to 8 times. Port 0: the system chooses, see [`Engine::local_addrs`].
    #[must_use]
    pub fn listen(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Self {
        let text = format!("{address:?}");
        let resolved = match address.to_socket_addrs() {
            Ok(mut found) => found.next().ok_or_else(|| {
                let error = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "the name has no address");
                StartError::Listen { address: text, error }
            }),
            Err(error) => Err(StartError::Listen { address: text, error }),
        };
        self.listen.push(resolved);
        self
    }

    /// The same for clients that speak TLS (`https://`, `wss://`); needs [`Self::certificates`]. Counts as one of the 8.
    #[must_use]
    pub fn listen_tls(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.tls_listeners |= 1_u8.checked_shl(self.listen.len() as u32).unwrap_or(0);
        self.listen(address)
    }

    /// What [`Self::listen_tls`] proves this server's name with. Keep a clone to replace it while the engine runs.
    #[must_use]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// A hub that lives in this process, under `/name` unless [`Self::endpoint`] gives it paths.
    #[must_use]
    pub fn hub(self, name: &str, options: HubOptions, handler: impl HubHandler) -> Self {
        self.hub_on(name, options, Arc::new(InProcess(handler)))
    }

    /// A hub whose clients any [`Host`] answers.
    #[must_use]
    pub fn hub_on(mut self, name: &str, options: HubOptions, host: Arc<dyn Host>) -> Self {
        self.own_paths.push((self.hubs.len(), options.endpoint));
        self.hubs.push(HubSpec { name: name.to_owned(), host });
        self
    }

    /// Another path for a hub, with options of its own; all paths of a hub share connections, groups and users.
    #[must_use]
    pub fn endpoint(mut self, path: &str, hub: &str, options: EndpointOptions) -> Self {
        self.endpoints.push((path.to_owned(), hub.to_owned(), options));
        self
    }

    /// A plain WebSocket under `path` that returns what it gets.
    #[must_use]
    pub fn echo(mut self, path: &str, options: EchoOptions) -> Self {
        self.echoes.push((path.to_owned(), options));
        self
    }

    /// Who decides about negotiate and connects under `path`. Without one, everybody may.
    #[must_use]
    pub fn authenticator(mut self, path: &str, authenticator: impl Authenticator) -> Self {
        self.authenticators.push((path.to_owned(), Arc::new(authenticator)));
        self
    }

    /// Who answers plain requests for paths that nothing else serves. Without one: 404.
    #[must_use]
    pub fn http(mut self, handler: impl HttpHandler) -> Self {
        self.http = Some(Arc::new(handler));
        self
    }

    /// Every bound.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the shards; returns when all of them listen.
    pub fn start(self) -> Result<Engine, StartError> {
        let shards = self.shards.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let mut addresses = Vec::new();
        let mut this = self;
        for address in std::mem::take(&mut this.listen) {
            addresses.push(address?);
        }
        if addresses.is_empty() || addresses.len() > LISTENERS_MAX {
            let count = addresses.len();
            return Err(StartError::Config(format!("{count} addresses to listen on; 1 to {LISTENERS_MAX} are needed")));
        }
        let twice = addresses
            .iter()
            .enumerate()
            .find(|(at, address)| address.port() != 0 && addresses[..*at].contains(address));
        if let Some((_, address)) = twice {
            return Err(StartError::Config(format!("{address} is to be listened on twice; name it once")));
        }
        let mut plan = Plan::derive(&this.limits, shards, descriptors_max()).map_err(StartError::Config)?;
        if this.tls_listeners != 0 {
            plan = plan.with_tls();
        }
        check_free(&addresses)?;
        let core_set = this.cores.clone();
        let shared = this.share(&plan)?;
        let ring_fds = RingFds::new(shards as u8).map_err(|error| StartError::System(error.to_string()))?;
        let mut engine = Engine { shared, threads: Vec::new(), addresses: Vec::new(), plan };
        for (number, links) in link(shards).into_iter().enumerate() {
            let seat = Seat {
                number: number as u8,
                core: core_for(&core_set, number),
                // The first shard's answer tells the port where the system chose it.
                addresses: if number == 0 { addresses.clone() } else { engine.addresses.clone() },
                links,
            };
            let bound = engine.seat(seat, ring_fds.clone())?;
            if number == 0 {
                engine.addresses = bound;
            }
        }
        Ok(engine)
    }

    /// The same engine without threads: one shard per given [`Io`], to be turned by the caller. For latency-critical
    /// processes with a loop of their own, for tests on a simulated kernel, for measurements. The caller makes the
    /// listeners of each `Io`; the nth speaks TLS if the nth call of [`Self::listen`] and [`Self::listen_tls`] says so.
    pub fn build_on<I: Io>(
        self,
        ios: impl FnOnce(&Logs, usize) -> Vec<(I, RecvPool, Option<WakeHandle>)>,
        shards: usize,
    ) -> Result<(Vec<ManualShard<I>>, EngineHandle), StartError> {
        let plan = Plan::derive(&self.limits, shards, descriptors_max()).map_err(StartError::Config)?;
        let shared = self.share(&plan)?;
        let ios = ios(&shared.logs, plan.slots_per_shard);
        if ios.len() != shards {
            return Err(StartError::Config(format!("{} rings for {shards} shards", ios.len())));
        }
        let mut manual = Vec::new();
        for (number, ((io, pool, waker), links)) in ios.into_iter().zip(link(shards)).enumerate() {
            if let Some(waker) = waker {
                shared.mailboxes[number].set_waker(Box::new(move || waker.wake()));
            }
            let shard = Shard::new(number as u8, io, pool, shared.clone(), plan.slots_per_shard, links);
            manual.push(ManualShard(shard.ok_or_else(|| StartError::System("the log has an owner".into()))?));
        }
        Ok((manual, EngineHandle(shared)))
    }

    /// Checks what was collected and builds what all shards share.
    fn share(self, plan: &Plan) -> Result<Arc<Shared>, StartError> {
        let limits = plan.limits.clone();
        let shards = plan.shards;
        if self.hubs.len() > limits::HUBS_MAX {
            return Err(StartError::Config(format!("{} hubs; {} are possible", self.hubs.len(), limits::HUBS_MAX)));
        }
        let endpoints = self.paths()?;
        let tls = self.tls()?;
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let keys = IdKeys::random(epoch).map_err(|error| StartError::System(format!("no randomness: {error}")))?;
        Ok(Arc::new(Shared {
            interest: Interest::new(shards, self.hubs.len()),
            hubs: self.hubs,
            endpoints,
            http: self.http,
            tls,
            directory: Directory::default(),
            pending: Pending::new(limits.negotiate_ttl_s),
            admission: Admission::new(&limits),
            keys: Arc::new(keys),
            asked: Asked::default(),
            targets: Targets::default(),
            sleepers: Sleepers::new(shards),
            bursts: Bursts::default(),
            parcels: (0..shards).map(|_| Parcels::default()).collect(),
            mailboxes: (0..shards).map(|_| Mailbox::new(limits.commands_max)).collect(),
            logs: Logs::new(shards as u8, limits.log_bytes_max).map_err(StartError::Log)?,
            counters: (0..shards).map(|_| Arc::new(SharedCounters::default())).collect(),
            draining: AtomicBool::new(false),
            started_us: OnceLock::new(),
            backed_up: (0..shards).map(|_| Default::default()).collect(),
            limits,
        }))
    }

    fn tls(&self) -> Result<Option<TlsSetup>, StartError> {
        if self.tls_listeners == 0 {
            return Ok(None);
        }
        let Some(certificates) = &self.certificates else {
            return Err(StartError::Config("listen_tls needs certificates (Builder::certificates)".into()));
        };
        let config = certificates.server_config().map_err(|error| StartError::Config(error.to_string()))?;
        Ok(Some(TlsSetup { config, listeners: self.tls_listeners }))
    }

    fn paths(&self) -> Result<Vec<Endpoint>, StartError> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut add = |path: &str, service: Service| {
            let path = check_path(path)?;
            if endpoints.iter().any(|endpoint| endpoint.path == path) {
                return Err(StartError::Config(format!("two services under the path {path}")));
            }
            endpoints.push(Endpoint { path, service });
            Ok(())
        };
        let guard = |path: &str| self.authenticators.iter().find(|(of, _)| of == path).map(|(_, who)| who.clone());
        for (index, options) in &self.own_paths {
            let name = &self.hubs[*index].name;
            if self.hubs[..*index].iter().any(|hub| hub.name == *name) {
                return Err(StartError::Config(format!("two hubs of the name {name}")));
            }
            if !self.endpoints.iter().any(|(_, hub, _)| hub == name) {
                let path = format!("/{name}");
                check_options(&path, options)?;
                let authenticator = guard(&path);
                add(&path, Service::Hub { hub: *index as u16, options: options.clone(), authenticator })?;
            }
        }
        for (path, name, options) in &self.endpoints {
            let hub = self.hubs.iter().position(|hub| hub.name == *name);
            let hub =
                hub.ok_or_else(|| StartError::Config(format!("the path {path} is for the unknown hub {name}")))?;
            check_options(path, options)?;
            add(path, Service::Hub { hub: hub as u16, options: options.clone(), authenticator: guard(path) })?;
        }
        for (path, options) in &self.echoes {
            add(path, Service::Echo(*options))?;
        }
        for (path, _) in &self.authenticators {
            if !endpoints.iter().any(|endpoint| endpoint.path == *path) {
                return Err(StartError::Config(format!("an authenticator for {path}, which nothing serves")));
            }
        }
        Ok(endpoints)
    }
}

fn check_path(path: &str) -> Result<String, StartError> {
    let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let printable = trimmed.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%'));
    if trimmed.starts_with('/') && printable {
        Ok(trimmed.to_owned())
    } else {
        Err(StartError::Config(format!("`{path}` is no path: it must begin with / and hold printable ASCII only")))
    }
}

fn check_options(path: &str, options: &EndpointOptions) -> Result<(), StartError> {
    let longest = options.keep_alive_ms.max(options.client_timeout_ms).max(options.handshake_timeout_ms);
    if longest > limits::TIMEOUT_MS_MAX {
        let max = limits::TIMEOUT_MS_MAX;
        return Err(StartError::Config(format!("{path}: a time of {longest} ms; at most {max} ms are possible")));
    }
    if options.keep_alive_ms == 0 || options.client_timeout_ms < 2 * options.keep_alive_ms {
        return Err(StartError::Config(format!(
            "{path}: client_timeout_ms ({}) must be at least twice keep_alive_ms ({}), which must not be 0",
            options.client_timeout_ms, options.keep_alive_ms
        )));
    }
    Ok(())
}

/// Shards bind with `SO_REUSEPORT`, which would share a port silently with another server of the same user: this
/// looks first. A predecessor that was killed holds its port until the kernel has taken its ring apart, which happens
/// after the process is gone: a taken port is asked for again for a while.
fn check_free(addresses: &[SocketAddr]) -> Result<(), StartError> {
    let last_try = Instant::now() + Duration::from_millis(LISTEN_WAIT_MS_MAX);
    for address in addresses.iter().filter(|address| address.port() != 0) {
        while let Err(error) = TcpListener::bind(address) {
            if error.kind() != std::io::ErrorKind::AddrInUse || Instant::now() >= last_try {
                return Err(StartError::Listen { address: address.to_string(), error });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// How long a start waits for a taken port to become free.
const LISTEN_WAIT_MS_MAX: u64 = 2_000;

/// The soft limit of open files, from procfs; 1024 where it cannot be read.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    match soft {
        Some("unlimited") => usize::MAX,
        Some(number) => number.parse().unwrap_or(1024),
        None => 1024,
    }
}

fn core_for(cores: &CoreSet, shard: usize) -> Option<usize> {
    match cores {
        CoreSet::Any => None,
        CoreSet::Pinned => {
            let allowed = allowed_cores();
            (!allowed.is_empty()).then(|| allowed[shard % allowed.len()])
        }
        CoreSet::List(list) if list.is_empty() => None,
        CoreSet::List(list) => Some(list[shard % list.len()]),
    }
}

/// The cores that this process may use, from procfs; none if that cannot be read.
fn allowed_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    parse_cores(list.trim())
}

/// `0-3,8` in the kernel's way of writing it.
fn parse_cores(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<usize>().ok()?..=to.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Rings between every two shards.
fn link(shards: usize) -> Vec<Links> {
    let none =
        || Links { senders: (0..shards).map(|_| None).collect(), receivers: (0..shards).map(|_| None).collect() };
    let mut links: Vec<Links> = (0..shards).map(|_| none()).collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (sender, receiver) = ring();
            links[from].senders[to] = Some(sender);
            links[to].receivers[from] = Some(receiver);
        }
    }
    links
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cores("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cores("1"), [1]);
        assert_eq!(parse_cores(""), [0usize; 0]);
        assert!(!allowed_cores().is_empty());
    }
}
