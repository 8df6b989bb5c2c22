//! A run as it will be done: everything that can be refused has been refused before a socket is opened.

use crate::failure::{Exit, Failure};
use crate::payload;
use crate::plan::{Arrival, PlanOptions};
use crate::target::{SourceAddresses, Url};
use crate::threshold::Threshold;
use fanfare_protocol::negotiate::Transport;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Slots of one ring: below the usual descriptor limit of 20,000 with room for listeners and files.
pub const SLOTS_PER_RING_MAX: u32 = 18_000;

/// Rings of one process (a bit each in the log's books).
pub const WORKERS_MAX: u32 = 64;

/// Ledger cells (receivers x publishers): 4 bytes each.
pub const LEDGER_CELLS_MAX: u64 = 1 << 28;

/// What is spoken on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// SignalR, hub protocol `json`.
    SignalrJson,
    /// SignalR, hub protocol `messagepack`.
    SignalrMessagepack,
    /// Plain WebSocket messages, for any server that broadcasts what it gets.
    Raw,
}

impl Dialect {
    /// Whether hub messages are spoken.
    pub fn is_signalr(self) -> bool {
        self != Self::Raw
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignalrJson => "signalr-json",
            Self::SignalrMessagepack => "signalr-messagepack",
            Self::Raw => "raw",
        })
    }
}

/// The other end.
#[derive(Clone, Debug)]
pub struct Server {
    /// As given, for the report.
    pub target: String,
    /// Taken apart.
    pub url: Url,
    /// Resolved once.
    pub address: SocketAddr,
    /// What is spoken.
    pub dialect: Dialect,
    /// What receivers receive over; publishers and stalled readers have a WebSocket always.
    pub transport: Transport,
    /// Ask `POST negotiate` first (SignalR) where the transport does not need it anyway.
    pub negotiate: bool,
    /// Extra headers on negotiate and upgrade.
    pub headers: Vec<(String, String)>,
    /// Processes to sample, empty when the server is elsewhere.
    pub pids: Vec<u32>,
}

/// The receiving connections and who drives them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Receivers.
    pub connections: u32,
    /// New connections per second over all workers; `None`: as fast as the concurrency allows.
    pub connect_rate: Option<f64>,
    /// Connections being set up at a time, over all workers.
    pub connect_concurrency: u32,
    /// From the first packet to an open connection.
    pub connect_timeout: Duration,
    /// Local addresses.
    pub sources: SourceAddresses,
    /// Threads, one ring each.
    pub workers: u32,
    /// Cores the workers are pinned to, in turn; empty: not pinned.
    pub cores: Vec<usize>,
    /// Hub Ping every 15 s.
    pub pings: bool,
}

impl Fleet {
    /// Workers for `connections` and `cores` when the user does not say: one a core, more when the slots demand it.
    pub fn workers_needed(connections: u32, cores: usize) -> u32 {
        connections.div_ceil(SLOTS_PER_RING_MAX).max(cores as u32).max(1)
    }

    /// Receivers of worker `index`.
    pub fn share(&self, index: u32) -> u32 {
        self.connections / self.workers + u32::from(index < self.connections % self.workers)
    }
}

/// Where results go.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// A file, or `-` for standard output (which then carries nothing else).
    pub json: Option<PathBuf>,
    /// A folder for all files of the result. Only with one is kept what the run looked like over time.
    pub folder: Option<PathBuf>,
    /// The command line, for the result; empty when there was none.
    pub arguments: Vec<String>,
    /// No progress.
    pub quiet: bool,
    /// What must be reached.
    pub thresholds: Vec<Threshold>,
}

/// How messages are published.
#[derive(Clone, Debug, PartialEq)]
pub enum Via {
    /// A hub method is invoked: `method(target, payload)`.
    Invocation {
        /// For example `Broadcast`.
        method: String,
        /// First argument, the client method that the server calls.
        target: String,
    },
    /// The payload is one WebSocket message, behind a literal prefix.
    Message {
        /// Put in front of the payload; the server may strip it or keep it.
        prefix: String,
        /// Binary frame instead of text.
        binary: bool,
    },
    /// The payload is the body of a POST.
    HttpPost {
        /// Where to.
        url: Url,
        /// Resolved.
        address: SocketAddr,
    },
}

/// Readers that do not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalled {
    /// How many, beside the receivers.
    pub connections: u32,
    /// `SO_RCVBUF`; `None`: the system's.
    pub receive_buffer_bytes: Option<usize>,
}

/// What `broadcast` sends.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections that publish, beside the receivers.
    pub publishers: u16,
    /// Payload bytes.
    pub payload_bytes: usize,
    /// The measured part.
    pub plan: PlanOptions,
    /// How long the same load runs before.
    pub warmup: Duration,
    /// How long to wait for the rest after the last message.
    pub drain: Duration,
    /// A delivery later than this is counted as late.
    pub deadline: Duration,
    /// How messages are published.
    pub via: Via,
    /// Readers that do not read.
    pub stalled: Stalled,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// Set up, hold, close; phases timed.
    Connect {
        /// How long to hold.
        hold: Duration,
    },
    /// Set up, hold, tell what it costs.
    Idle {
        /// How long to hold before memory is read.
        hold: Duration,
        /// Measure bare sockets beside it.
        baseline: bool,
    },
    /// Publish to everybody.
    Broadcast(Box<Load>),
    /// Ask for tokens and leave them unused.
    Negotiate {
        /// How often, all sockets together.
        requests: u64,
    },
}

impl Task {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Idle { .. } => "idle",
            Self::Broadcast(_) => "broadcast",
            Self::Negotiate { .. } => "negotiate",
        }
    }

    /// The load, when there is one.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Broadcast(load) => Some(load),
            _ => None,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The other end.
    pub server: Server,
    /// Connections and threads.
    pub fleet: Fleet,
    /// Where results go.
    pub output: Output,
    /// What is to be done.
    pub task: Task,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Job {
    /// Whether workers wait for deliveries awake: in a window, with a core for each of them.
    pub fn stays_awake(&self) -> bool {
        let window = matches!(&self.task, Task::Broadcast(load) if load.is_window());
        window && self.fleet.workers as usize <= self.fleet.cores.len()
    }

    /// Whether somebody must post what receivers have to say.
    pub fn needs_poster(&self) -> bool {
        self.server.transport != Transport::WebSockets && !matches!(self.task, Task::Negotiate { .. })
    }

    /// Negotiates of worker `index`.
    pub fn negotiates_of(&self, index: u32) -> u64 {
        let Task::Negotiate { requests } = self.task else { return 0 };
        let workers = u64::from(self.fleet.workers);
        requests / workers + u64::from(u64::from(index) < requests % workers)
    }

    /// Refuses what no part of the run could do.
    pub fn check(&self) -> Result<(), Failure> {
        self.fleet.sources.check(self.fleet.connections, self.server.address)?;
        let fleet = &self.fleet;
        let most = SLOTS_PER_RING_MAX * WORKERS_MAX;
        if fleet.connections == 0 || fleet.connections > most {
            let cause = format!("{} connections are not between 1 and {most}", fleet.connections);
            return Err(Failure::usage(cause, "--connections", "choose fewer, or use several machines"));
        }
        if fleet.workers > WORKERS_MAX || fleet.share(0) > SLOTS_PER_RING_MAX {
            let needed = Fleet::workers_needed(fleet.connections, 1);
            return Err(Failure::usage(
                format!("{} workers cannot hold {} connections", fleet.workers, fleet.connections),
                "--workers",
                format!("use {needed} to {WORKERS_MAX}: one ring holds {SLOTS_PER_RING_MAX}"),
            ));
        }
        if self.server.negotiate && !self.server.dialect.is_signalr() {
            return Err(Failure::usage(
                "a plain WebSocket has no negotiate request",
                "--negotiate",
                "leave it out, or use --dialect signalr-json",
            ));
        }
        self.check_transport()?;
        self.task.load().map_or(Ok(()), |load| load.check(self))
    }

    fn check_transport(&self) -> Result<(), Failure> {
        let Server { transport, dialect, .. } = &self.server;
        if matches!(self.task, Task::Negotiate { .. }) && !dialect.is_signalr() {
            let cause = "a plain WebSocket has no negotiate request";
            return Err(Failure::usage(cause, "--dialect", "use --dialect signalr-json"));
        }
        if *transport != Transport::WebSockets && !dialect.is_signalr() {
            return Err(Failure::usage(
                format!("{} is a way of SignalR", transport.name()),
                "--transport",
                "use --dialect signalr-json, or leave --transport out",
            ));
        }
        if *dialect == Dialect::SignalrMessagepack && !transport.accepts_binary() {
            return Err(Failure::usage(
                format!("{} carries text, MessagePack is binary", transport.name()),
                "--transport",
                "use --dialect signalr-json, or --transport long-polling",
            ));
        }
        Ok(())
    }
}

impl Load {
    fn check(&self, job: &Job) -> Result<(), Failure> {
        let (least, most) = (payload::HEAD_BYTES, payload::PAYLOAD_BYTES_MAX);
        if !(least..=most).contains(&self.payload_bytes) {
            return Err(Failure::usage(
                format!("a payload of {} bytes is not between {least} and {most}", self.payload_bytes),
                "--size",
                format!("the first {least} bytes name the message; choose at least that"),
            ));
        }
        if self.publishers == 0 || usize::from(self.publishers) > 1024 {
            let cause = format!("{} publishers are not between 1 and 1024", self.publishers);
            return Err(Failure::usage(cause, "--publishers", "one publisher is enough for most questions"));
        }
        let cells = u64::from(job.fleet.share(0)) * u64::from(self.publishers);
        if cells > LEDGER_CELLS_MAX {
            return Err(Failure::usage(
                format!("{} receivers x {} publishers need {cells} ledger lines", job.fleet.share(0), self.publishers),
                "--publishers",
                "use fewer publishers, or more workers",
            ));
        }
        if self.plan.burst == 0 || self.plan.burst as usize * self.payload_bytes > 64 << 20 {
            return Err(Failure::usage(
                format!("{} messages of {} bytes in one write", self.plan.burst, self.payload_bytes),
                "--burst",
                "keep burst x size between one message and 64 MiB",
            ));
        }
        self.check_via(job.server.dialect)?;
        let descriptors = crate::os::raise_descriptor_limit();
        /// Rings, files, /proc and the like.
        const OTHER_DESCRIPTORS: u64 = 400;
        if u64::from(self.stalled.connections) + OTHER_DESCRIPTORS > descriptors {
            return Err(Failure::new(
                Exit::HostUnfit,
                format!("{} stalled readers need more descriptors than {descriptors}", self.stalled.connections),
                "--stalled",
                "raise the limit (ulimit -n) or use fewer: stalled readers are ordinary sockets",
            ));
        }
        Ok(())
    }

    fn check_via(&self, dialect: Dialect) -> Result<(), Failure> {
        match (&self.via, dialect.is_signalr()) {
            (Via::Invocation { .. }, true) | (Via::Message { .. } | Via::HttpPost { .. }, false) => Ok(()),
            (Via::Invocation { .. }, false) => Err(Failure::usage(
                "a plain WebSocket server has no methods to invoke",
                "--publish-method",
                "use --publish-prefix or --raw-publish-http with --dialect raw",
            )),
            (_, true) => Err(Failure::usage(
                "plain messages mean nothing to a SignalR server",
                "--publish-prefix / --raw-publish-http",
                "add --dialect raw, or publish with --publish-method",
            )),
        }
    }

    /// Whether the pace is the server's.
    pub fn is_window(&self) -> bool {
        self.plan.pace == crate::plan::Pace::Window
    }

    /// Spacing, for the report.
    pub fn arrival(&self) -> Option<Arrival> {
        match self.plan.pace {
            crate::plan::Pace::Open { arrival, .. } => Some(arrival),
            crate::plan::Pace::Window => None,
        }
    }
}
