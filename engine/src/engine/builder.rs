//! What an engine is made of, checked and put together.

use super::cores::core_for;
use super::{CoreSet, Engine, EngineHandle, HubOptions, ManualShard, Seat, StartError};
use crate::buf::RecvPool;
use crate::buf::segment::Logs;
use crate::conn::certificates::Certificates;
use crate::conn::endpoint::{Authenticator, EchoOptions, Endpoint, EndpointOptions, Service};
use crate::conn::tls::TlsSetup;
use crate::event::SharedCounters;
use crate::hub::admission::Admission;
use crate::hub::asks::Asked;
use crate::hub::bursts::Bursts;
use crate::hub::directory::Directory;
use crate::hub::host::{Host, HubHandler, InProcess};
use crate::hub::http::HttpHandler;
use crate::hub::interest::Interest;
use crate::hub::parcels::Parcels;
use crate::hub::pending::Pending;
use crate::hub::publisher::Mailbox;
use crate::hub::shedding::Targets;
use crate::hub::switchboard::{HubSpec, Shared};
use crate::ids::IdKeys;
use crate::interconnect::{Sleepers, ring};
use crate::io::{Io, LISTENERS_MAX, RingFds, WakeHandle};
use crate::limits::{self, Limits, Plan};
use crate::shard::{Links, Shard};
use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
            // A shard has as many sessions without a socket, at most, as sockets.
            directory: Directory::with_room_for(shards * plan.slots_per_shard * 2),
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
