//! A run as it will be done: everything that can be refused has been refused before a socket is opened.

use crate::audience::{Shape, lanes_fit};
use crate::connection_string::Tokens;
use crate::failure::{Exit, Failure};
pub use crate::fleet::Fleet;
use crate::payload::{self, Size};
use crate::plan::{Arrival, PlanOptions};
use crate::target::Url;
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
    /// What publishers and stalled readers speak; receivers have that of their class.
    pub dialect: Dialect,
    /// Ask `POST negotiate` first (SignalR) where the transport does not need it anyway.
    pub negotiate: bool,
    /// Extra headers on negotiate and upgrade.
    pub headers: Vec<(String, String)>,
    /// With a connection string: what lets clients in. Where connections name users, each has a token of its own;
    /// otherwise all have the same one among `headers`.
    pub tokens: Option<Tokens>,
    /// Processes to sample, empty when the server is elsewhere.
    pub pids: Vec<u32>,
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

/// What a publishing method is given, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The group, the user or the connection.
    To,
    /// The client method that the server calls.
    Target,
    /// The payload.
    Payload,
}

impl Argument {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::Target => "target",
            Self::Payload => "payload",
        }
    }

    /// Parses `to,target,payload`; the payload must be in it once.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let one = |word: &str| match word.trim() {
            "to" => Ok(Self::To),
            "target" => Ok(Self::Target),
            "payload" => Ok(Self::Payload),
            other => Err(format!("'{other}' is not an argument: choose from to, target, payload")),
        };
        let list = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        if list.iter().filter(|&&argument| argument == Self::Payload).count() != 1 {
            return Err("the payload must be passed once".to_owned());
        }
        Ok(list)
    }
}

/// How messages are published.
#[derive(Clone, Debug, PartialEq)]
pub enum Via {
    /// A hub method is invoked, and the server calls `target(..., payload)` on the clients.
    Invocation {
        /// For example `Broadcast`.
        method: String,
        /// The client method that the server calls.
        target: String,
        /// What the method is given.
        arguments: Vec<Argument>,
    },
    /// A hub method is invoked with the payload and returns it.
    Call {
        /// For example `Echo`.
        method: String,
    },
    /// Items of a stream to a hub method that gives each of them back as an item of its own stream.
    Items {
        /// For example `MirrorStream`.
        method: String,
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

/// Readers that do not read, or too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stalled {
    /// How many, beside the receivers.
    pub connections: u32,
    /// Bytes that each of them reads in a second; 0: none.
    pub read_bytes_per_s: f64,
    /// `SO_RCVBUF`; `None`: the system's.
    pub receive_buffer_bytes: Option<usize>,
}

/// How a receiver becomes a member of its destinations, or learns what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// It need not do anything.
    #[default]
    Nothing,
    /// It invokes `method(group)` for each of its groups.
    Join {
        /// For example `JoinGroup`.
        method: String,
    },
    /// Its URL has `key=user`.
    User {
        /// For example `user`.
        key: String,
    },
    /// It invokes `method()`, which returns its connection id.
    AskId {
        /// For example `ConnectionId`.
        method: String,
    },
    /// It opens the stream that it sends its items to.
    OpenStream {
        /// For example `MirrorStream`.
        method: String,
    },
}

/// What is sent, and to whom.
#[derive(Clone, Debug)]
pub struct Load {
    /// What one publish reaches.
    pub shape: Shape,
    /// How receivers become members.
    pub entry: Entry,
    /// Connections that publish, beside the receivers; 1 in name only where receivers speak for themselves.
    pub publishers: u16,
    /// How long payloads are.
    pub size: Size,
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
    /// Readers that do not read, or too slowly.
    pub stalled: Stalled,
    /// `soak`: how often the course of memory and latency is noted.
    pub soak_interval: Option<Duration>,
}

/// When guests are cut, and how long they have to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visits {
    /// From the beginning of the measured period.
    pub cuts: Vec<Duration>,
    /// After the measured period: how long to wait for those that are away.
    pub patience: Duration,
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
    /// Publish, or have every connection speak for itself.
    Load(&'static str, Box<Load>),
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
            Self::Load(name, _) => name,
            Self::Negotiate { .. } => "negotiate",
        }
    }

    /// The load, when there is one.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Load(_, load) => Some(load),
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
    /// What happens to guests.
    pub visits: Visits,
    /// Everything random follows from it.
    pub seed: u64,
    /// The scenario that it was made from.
    pub scenario: Option<String>,
}

impl Job {
    /// Whether workers wait for deliveries awake: in a window, with a core for each of them.
    pub fn stays_awake(&self) -> bool {
        self.task.load().is_some_and(Load::is_window) && self.fleet.workers as usize <= self.fleet.cores.len()
    }

    /// Whether somebody must post what receivers have to say.
    pub fn needs_poster(&self) -> bool {
        self.fleet.needs_poster() && !matches!(self.task, Task::Negotiate { .. })
    }

    /// Connections that publish and do nothing else.
    pub fn publishers(&self) -> u32 {
        self.task.load().filter(|load| !load.is_own()).map_or(0, |load| u32::from(load.publishers))
    }

    /// Whether worker `index` follows plans.
    pub fn publishes(&self, index: u32) -> bool {
        self.task.load().is_some_and(|load| load.is_own() || index == 0)
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
        self.fleet.check_classes()?;
        self.check_dialect()?;
        self.task.load().map_or(Ok(()), |load| load.check(self))
    }

    fn check_dialect(&self) -> Result<(), Failure> {
        if matches!(self.task, Task::Negotiate { .. }) && !self.server.dialect.is_signalr() {
            let cause = "a plain WebSocket has no negotiate request";
            return Err(Failure::usage(cause, "--dialect", "use --dialect signalr-json"));
        }
        Ok(())
    }
}

impl Load {
    fn check(&self, job: &Job) -> Result<(), Failure> {
        let (least, most) = (payload::HEAD_BYTES, payload::PAYLOAD_BYTES_MAX);
        let least_drawn = match self.size {
            Size::Fixed(bytes) => bytes,
            Size::LogNormal { median, .. } => median,
        };
        if !(least..=most).contains(&least_drawn) {
            return Err(Failure::usage(
                format!("a payload of {least_drawn} bytes is not between {least} and {most}"),
                "--size",
                format!("the first {least} bytes name the message; choose at least that"),
            ));
        }
        if self.publishers == 0 || usize::from(self.publishers) > 1024 {
            let cause = format!("{} publishers are not between 1 and 1024", self.publishers);
            return Err(Failure::usage(cause, "--publishers", "one publisher is enough for most questions"));
        }
        self.check_shape(job)?;
        let lines = match self.shape {
            Shape::Groups { pick, .. } => u64::from(pick),
            _ => 1,
        };
        let cells = u64::from(job.fleet.share(0)) * u64::from(self.publishers) * lines;
        if cells > LEDGER_CELLS_MAX {
            return Err(Failure::usage(
                format!("{} receivers x {} publishers need {cells} ledger lines", job.fleet.share(0), self.publishers),
                "--publishers",
                "use fewer publishers, or more workers",
            ));
        }
        if self.plan.burst == 0 || self.plan.burst as usize * self.size.most() > 64 << 20 {
            return Err(Failure::usage(
                format!("{} messages of {} bytes in one write", self.plan.burst, self.size.most()),
                "--burst",
                "keep burst x size between one message and 64 MiB",
            ));
        }
        self.check_via(job.server.dialect)?;
        if self.stalled.connections == 0 && self.stalled.receive_buffer_bytes.is_some() {
            let cause = "a receive buffer for slow readers, and no slow readers";
            return Err(Failure::usage(cause, "--stalled-rcvbuf", "add --stalled N, or leave it out"));
        }
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

    /// Refuses destinations that nothing could name or fill.
    fn check_shape(&self, job: &Job) -> Result<(), Failure> {
        let receivers = job.fleet.connections;
        let (destinations, flag) = match self.shape {
            Shape::Groups { of, pick, .. } if pick == 0 || pick > of => {
                let cause = format!("{pick} groups for each receiver cannot be picked from {of}");
                return Err(Failure::usage(cause, "--groups-each", "use at least 1 and at most --groups"));
            }
            Shape::Groups { of, .. } => (of, "--groups / --group-size"),
            Shape::Users { of } => (of, "--users"),
            shape => (shape.destinations(receivers), "--connections"),
        };
        if destinations == 0 || destinations > receivers && matches!(self.shape, Shape::Users { .. }) {
            let cause = format!("{destinations} destinations for {receivers} receivers");
            return Err(Failure::usage(cause, flag, "use at least 1, and not more users than connections"));
        }
        if !lanes_fit(destinations, self.publishers) {
            return Err(Failure::usage(
                format!(
                    "{destinations} destinations x {} publishers are more than {}",
                    self.publishers,
                    payload::LANES_MAX
                ),
                flag,
                "use fewer of one or the other",
            ));
        }
        let http = job.fleet.classes.iter().find(|class| class.transport != Transport::WebSockets);
        if let Some(class) = http.filter(|_| self.is_own()) {
            return Err(Failure::usage(
                format!("connections that speak for themselves need a WebSocket, and '{}' has none", class.name),
                "--transport",
                "leave --transport out: receivers without a WebSocket are measured by broadcast, group, user and p2p",
            ));
        }
        if self.shape != Shape::All && !job.server.dialect.is_signalr() {
            let cause = "a plain WebSocket server knows neither groups, users, connections nor calls";
            return Err(Failure::usage(cause, "--dialect", "use --dialect signalr-json"));
        }
        Ok(())
    }

    /// What all payloads have, where all have the same; else 0: deliveries then have no common shape.
    pub fn template_bytes(&self) -> usize {
        match self.size {
            Size::Fixed(bytes) => bytes,
            Size::LogNormal { .. } => 0,
        }
    }

    /// Whether receivers speak for themselves.
    pub fn is_own(&self) -> bool {
        self.shape == Shape::Own
    }

    fn check_via(&self, dialect: Dialect) -> Result<(), Failure> {
        match (&self.via, dialect.is_signalr()) {
            (Via::Invocation { .. } | Via::Call { .. } | Via::Items { .. }, true)
            | (Via::Message { .. } | Via::HttpPost { .. }, false) => Ok(()),
            (Via::Invocation { .. } | Via::Call { .. } | Via::Items { .. }, false) => Err(Failure::usage(
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
