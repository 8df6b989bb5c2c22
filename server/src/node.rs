//! A running server: the engine, its phase, and what both listeners tell about it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_engine::auth::{TokenFault, Tokens};
use fanfare_engine::{
    Builder, Certificates, CoreSet, EndpointOptions, Engine, EngineHandle, HubOptions, Limits, MetricsSnapshot,
    Origins, Plan, ShardMetrics, SlowPolicy, Transports,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::key_url::FetchCounts;
use crate::keyring::{TokenSettings, Watched};
use crate::public::{Public, UserByQuery};
use crate::relay::Relay;
use crate::slow_log::SlowLog;
use crate::tls_files::{self, TlsFiles};

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Takes clients.
    Ready = 0,
    /// Sends its clients away and takes no new ones.
    Draining = 1,
    /// Has stopped.
    Stopped = 2,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// The phase, shared with the public listener, which exists before the node does.
#[derive(Debug, Default)]
pub(crate) struct SharedPhase(AtomicU8);

impl SharedPhase {
    /// The phase now.
    pub(crate) fn get(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Ready,
            1 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Enters `phase`.
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// The answer to `GET /health`.
pub(crate) struct Health {
    /// 200 or, when no client should come, 503.
    pub(crate) status: u16,
    /// A JSON object.
    pub(crate) body: String,
}

impl Health {
    /// What both listeners say in `phase` with `connections` open.
    pub(crate) fn of(phase: Phase, connections: usize) -> Self {
        let status = if phase == Phase::Ready { 200 } else { 503 };
        let body = json!({
            "status": phase.name(),
            "version": env!("CARGO_PKG_VERSION"),
            "connections": connections,
        });
        Health { status, body: body.to_string() }
    }
}

/// What a node is started with, from the flags of `dev` or `serve`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Addresses for clients.
    pub(crate) listen: Vec<SocketAddr>,
    /// Addresses for clients that speak TLS.
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// What they prove this server's name with.
    pub(crate) tls_files: TlsFiles,
    /// Address for the pages.
    pub(crate) admin: SocketAddr,
    /// Hubs, each at `/NAME`.
    pub(crate) hubs: Vec<String>,
    /// Shards; one per core if none is given.
    pub(crate) shards: Option<u8>,
    /// Where shards may run.
    pub(crate) cores: CoreSet,
    /// Whether clients may send to clients.
    pub(crate) client_publish: bool,
    /// What may carry clients.
    pub(crate) transports: Transports,
    /// Whose pages may come in.
    pub(crate) origins: Origins,
    /// Whether lost WebSockets may be resumed.
    pub(crate) resumable: bool,
    /// Whether a client may name itself with `?user=`, unchecked.
    pub(crate) user_by_query: bool,
    /// Whether the demo pages are served.
    pub(crate) demo: bool,
    /// Every bound.
    pub(crate) limits: Limits,
    /// Bytes of a client's message.
    pub(crate) message_bytes_max: usize,
    /// Between two pings to a client that hears nothing else.
    pub(crate) keep_alive: Duration,
    /// Silence after which a client is given up; at least twice that.
    pub(crate) client_timeout: Duration,
    /// Whether WebSockets that offer permessage-deflate get it.
    pub(crate) compression: bool,
    /// What becomes of clients that are too slow.
    pub(crate) slow_policy: SlowPolicy,
    /// Whether the log says which connections lose messages.
    pub(crate) logs_losses: bool,
    /// Time for a clean end.
    pub(crate) drain_period: Duration,
    /// Whose tokens are good; `None`: nobody needs one.
    pub(crate) tokens: Option<TokenSettings>,
}

/// Messages that were owed and not delivered, for whatever reason.
pub(crate) fn not_delivered(total: &ShardMetrics) -> u64 {
    let dropped = total.dropped_oldest_total + total.conflated_total;
    dropped + total.dropped_slow_total + total.dropped_closed_total + total.notes_lost_total
}

/// A running server, without the power to end it: that is the [`Engine`]'s, which [`start`] returns beside it.
pub(crate) struct Node {
    engine: EngineHandle,
    plan: Plan,
    addresses: Vec<SocketAddr>,
    phase: Arc<SharedPhase>,
    settings: Settings,
    door: Option<Door>,
    certificates: Option<Certificates>,
    tls_reloads: Arc<tls_files::Reloads>,
    /// Taken by whoever watches them.
    tls_watched: Mutex<Option<tls_files::Watched>>,
    started: Instant,
}

/// What verifies tokens, and where its keys came from.
struct Door {
    tokens: Tokens,
    summary: String,
    fetches: Option<Arc<FetchCounts>>,
    /// Taken by whoever watches them.
    watched: Mutex<Option<Watched>>,
}

impl Door {
    /// Reads the keys.
    fn open(settings: &TokenSettings) -> Result<Self, Failure> {
        let (watched, keyring) = Watched::start(settings)?;
        let fetches = watched.fetch_counts();
        let tokens = Tokens::new(keyring.keys, settings.rules.clone());
        Ok(Door { tokens, summary: keyring.summary, fetches, watched: Mutex::new(Some(watched)) })
    }
}

/// Starts the engine, and the node that tells about it.
///
/// # Errors
/// What the engine says: `FF20xx` with cause and remedy; `FF2030` and `FF2031` if keys cannot be used, `FF2032` if
/// certificates cannot.
pub(crate) fn start(settings: Settings) -> Result<(Engine, Node), Failure> {
    let phase = Arc::new(SharedPhase::default());
    let door = settings.tokens.as_ref().map(Door::open).transpose()?;
    let tokens = door.as_ref().map(|door| &door.tokens);
    let with_tls = !settings.tls_listen.is_empty();
    let seen = settings.tls_files.watch();
    let certificates = with_tls.then(|| settings.tls_files.load()).transpose()?;
    let tls_reloads = Arc::new(tls_files::Reloads::default());
    let watch = |certificates| tls_files::Watched { seen, certificates, reloads: Arc::clone(&tls_reloads) };
    let tls_watched = Mutex::new(certificates.clone().map(watch));
    let builder = builder(&settings, &phase, tokens, certificates.clone());
    let engine = builder.start().map_err(|error| Failure::of_engine(&error.to_string()))?;
    let node = Node {
        engine: engine.handle(),
        plan: engine.plan().clone(),
        addresses: engine.local_addrs().to_vec(),
        phase,
        settings,
        door,
        certificates,
        tls_reloads,
        tls_watched,
        started: Instant::now(),
    };
    Ok((engine, node))
}

impl Node {
    /// What it was started with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The engine's plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Addresses for clients, as bound.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses[..self.settings.listen.len()]
    }

    /// Those for clients that speak TLS.
    pub(crate) fn tls_addresses(&self) -> &[SocketAddr] {
        &self.addresses[self.settings.listen.len()..]
    }

    /// What TLS listeners use.
    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Their files, for whoever watches them, once.
    pub(crate) fn take_tls_watched(&self) -> Option<tls_files::Watched> {
        self.tls_watched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How often they were read again, by what came of it.
    pub(crate) fn tls_reloads(&self) -> [(&'static str, u64); 2] {
        self.tls_reloads.by_result()
    }

    /// The port that the demo pages connect to.
    pub(crate) fn public_port(&self) -> u16 {
        self.addresses().first().map_or(0, SocketAddr::port)
    }

    /// Whether the demo pages are served.
    pub(crate) fn has_demo(&self) -> bool {
        self.settings.demo
    }

    /// Client connections there is room for.
    pub(crate) fn connections_max(&self) -> usize {
        self.plan().connections_max
    }

    /// The engine's counters now.
    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        self.engine.metrics()
    }

    /// Open connections of all hubs.
    pub(crate) fn connections(&self) -> usize {
        self.engine.connections()
    }

    /// How many keys for tokens there were at start.
    pub(crate) fn keys_summary(&self) -> Option<&str> {
        self.door.as_ref().map(|door| door.summary.as_str())
    }

    /// The files with keys, for whoever watches them, once.
    pub(crate) fn take_watched(&self) -> Option<(Watched, Tokens)> {
        let door = self.door.as_ref()?;
        let watched = door.watched.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((watched, door.tokens.clone()))
    }

    /// Tokens that were refused, by reason.
    pub(crate) fn tokens_refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.door.as_ref().map(|door| door.tokens.counts());
        TokenFault::ALL.into_iter().map(move |fault| (fault.name(), counts.as_ref().map_or(0, |c| c.refused(fault))))
    }

    /// How often keys came from their URL and how often not, by outcome.
    pub(crate) fn key_fetches(&self) -> [(&'static str, u64); 2] {
        let fetches = self.door.as_ref().and_then(|door| door.fetches.as_deref());
        fetches.map_or_else(|| FetchCounts::default().by_outcome(), FetchCounts::by_outcome)
    }

    /// Why no client should be sent here, if so.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        match self.phase.get() {
            Phase::Ready => None,
            Phase::Draining => Some("The server is draining: it sends its clients away and takes no new ones."),
            Phase::Stopped => Some("The server has stopped."),
        }
    }

    /// The answer to `GET /health`.
    pub(crate) fn health(&self) -> Health {
        Health::of(self.phase.get(), self.connections())
    }

    /// What the pages show, as JSON.
    pub(crate) fn status(&self) -> Value {
        let metrics = self.metrics();
        let total = metrics.total();
        let hubs: Vec<Value> = metrics
            .hubs
            .iter()
            .map(|hub| json!({ "name": hub.name, "path": hub_path(&hub.name), "connections": hub.connections }))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.phase.get().name(),
            "uptime_s": self.started.elapsed().as_secs(),
            "demo": self.settings.demo,
            "public_port": self.public_port(),
            "client_publish": self.settings.client_publish,
            "connections": self.connections(),
            "connections_max": self.connections_max(),
            "bottleneck": self.plan().bottleneck,
            "plan": plan_lines(self.plan()),
            "hubs": hubs,
            "counters": {
                "messages_sent": total.deliveries_total + total.private_messages_total,
                "messages_received": total.messages_received_total,
                "bytes_sent": total.bytes_sent_total,
                "dropped": not_delivered(&total),
                "slow_connections": total.slow_connections,
                "outbox_bytes": total.outbox_bytes,
            },
        })
    }

    /// Enters `phase`, for everybody who asks.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Lets the engine stop at once, also in the middle of a drain.
    pub(crate) fn begin_stop(&self) {
        self.engine.begin_stop();
    }
}

/// The plan as printed, without the words and blanks that align it in a log.
fn plan_lines(plan: &Plan) -> Vec<String> {
    let text = plan.to_string();
    text.lines().map(|line| line.trim_start_matches("plan").trim().to_owned()).collect()
}

/// The path of a hub on the public listener.
pub(crate) fn hub_path(hub: &str) -> String {
    format!("/{hub}")
}

fn builder(
    settings: &Settings,
    phase: &Arc<SharedPhase>,
    tokens: Option<&Tokens>,
    certificates: Option<Certificates>,
) -> Builder {
    let endpoint = EndpointOptions {
        message_bytes_max: settings.message_bytes_max,
        transports: settings.transports,
        origins: settings.origins.clone(),
        resumable: settings.resumable,
        // The flags' parsers have seen to it that times fit.
        keep_alive_ms: settings.keep_alive.as_millis() as u32,
        client_timeout_ms: settings.client_timeout.as_millis() as u32,
        compression: settings.compression,
        slow_policy: settings.slow_policy,
        close_on_expiry: settings.tokens.as_ref().is_some_and(|tokens| tokens.close_on_expiry),
        ..EndpointOptions::default()
    };
    let mut builder =
        Engine::builder().cores(settings.cores.clone()).limits(settings.limits.clone()).http(Public::new(phase));
    if let Some(shards) = settings.shards {
        builder = builder.shards(usize::from(shards));
    }
    for address in &settings.listen {
        builder = builder.listen(*address);
    }
    for address in &settings.tls_listen {
        builder = builder.listen_tls(*address);
    }
    if let Some(certificates) = certificates {
        builder = builder.certificates(certificates);
    }
    // Without a thread for them the lines are missing, and nothing else.
    let slow_log = if settings.logs_losses { SlowLog::start().ok() } else { None };
    for hub in &settings.hubs {
        let relay =
            Relay { client_publish: settings.client_publish, slow_log: slow_log.clone().map(|log| (log, hub.clone())) };
        builder = builder.hub(hub, HubOptions { endpoint: endpoint.clone() }, relay);
        if let Some((tokens, wanted)) = tokens.zip(settings.tokens.as_ref()) {
            let guard = if wanted.anonymous.at(hub) { tokens.optional() } else { tokens.required() };
            builder = builder.authenticator(&hub_path(hub), guard);
        } else if settings.user_by_query {
            builder = builder.authenticator(&hub_path(hub), UserByQuery);
        }
    }
    builder
}
