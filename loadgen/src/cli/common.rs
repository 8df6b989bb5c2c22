//! Flags of every command, and the way from them to a job.

use crate::connection_string::{Entrance, Tokens, is_connection_string};
use crate::failure::Failure;
use crate::fleet::{Class, Fleet, Stay, split};
use crate::job::{Dialect, Entry, Job, Output, Server, Task, Visits};
use crate::quantity::{parse_duration, parse_rate};
use crate::target::{SourceAddresses, Url};
use crate::threshold::Threshold;
use clap::Args;
use fanfare_protocol::negotiate::Transport;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of every command: the other end, the connections, the output.
#[derive(Clone, Debug, Args)]
pub struct CommonArgs {
    /// Where to connect: ws://HOST:PORT/PATH, http://HOST:PORT/PATH, or a connection string together with --hub
    #[arg(long, value_name = "URL", help_heading = "Target")]
    pub(super) target: String,
    /// What is spoken
    #[arg(long, value_enum, default_value_t = Dialect::SignalrJson, help_heading = "Target")]
    pub(super) dialect: Dialect,
    /// Hub protocol: json, messagepack, or a mix as json=50,messagepack=50 [default: that of --dialect]
    #[arg(long, value_name = "MIX", value_parser = parse_protocols, conflicts_with = "dialect", help_heading = "Target")]
    pub(super) protocol: Option<Mix<Dialect>>,
    /// What receivers receive over: web-sockets (ws), server-sent-events (sse), long-polling (lp), or a mix as
    /// ws=90,sse=5,lp=5. All but web-sockets negotiate first. Publishers have a WebSocket always
    #[arg(long, value_name = "MIX", default_value = "web-sockets", value_parser = parse_transports, help_heading = "Target")]
    pub(super) transport: Mix<Transport>,
    /// Receiving connections
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000, help_heading = "Connections")]
    pub(super) connections: u32,
    /// New connections per second [default: as fast as the concurrency allows]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Connections")]
    pub(super) connect_rate: Option<f64>,
    #[command(flatten)]
    pub(super) way: WayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// How connections are made and carried, the same for flags and scenarios.
#[derive(Clone, Debug, Args)]
pub struct WayArgs {
    /// Ask POST negotiate for each connection first, instead of going straight to the WebSocket
    #[arg(long, help_heading = "Target")]
    pub(super) negotiate: bool,
    /// With a connection string: the hub
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    pub(super) hub: Option<String>,
    /// Extra header on all requests that open connections, "Name: value"; may be repeated
    #[arg(long = "header", value_name = "HEADER", value_parser = parse_header, help_heading = "Target")]
    pub(super) headers: Vec<(String, String)>,
    /// The server's process(es) on this machine: CPU and memory are measured
    #[arg(long = "server-pid", value_name = "PID", value_delimiter = ',', help_heading = "Target")]
    pub(super) server_pids: Vec<u32>,

    /// Connections being set up at a time
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Connections")]
    pub(super) connect_concurrency: u32,
    /// Give a connection up when it is not open after this long
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration, help_heading = "Connections")]
    pub(super) connect_timeout: Duration,
    /// A connection that hears nothing for longer is counted as silent: a client of the SDK would have given it up
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Connections")]
    pub(super) server_timeout: Duration,
    /// Draw each turn of each worker out by this time: the run must then call itself invalid
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration, hide = true)]
    pub(super) handicap: Duration,
    /// Local addresses: auto (127.0.0.x for loopback targets), kernel, or a list
    #[arg(long, value_name = "IPS", default_value = "auto", value_parser = SourceAddresses::parse, help_heading = "Connections")]
    pub(super) source_ips: SourceAddresses,
    /// Between two hub Pings of one connection, spread evenly over the fleet
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_ping_interval, help_heading = "Connections")]
    pub(super) ping_interval: Duration,
    /// Send no hub Pings
    #[arg(long, help_heading = "Connections")]
    pub(super) no_pings: bool,
    /// Threads, one ring of 18,000 connections each [default: as many as needed]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    pub(super) workers: Option<u32>,
    /// Pin the threads to these cores, in turn
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Connections")]
    pub(super) cores: Vec<usize>,
}

/// Where results go, and what they must be.
#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// Write the result as JSON to a file, or to standard output with -
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) json: Option<PathBuf>,
    /// Make this folder and write everything into it: summary, result, latency log, timeline, JUnit, report.html
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,
    /// No progress on standard error
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,
    /// What must be reached, for example 'last.p99<20ms' or 'missing==0'; may be repeated
    #[arg(long = "threshold", value_name = "EXPR", value_parser = Threshold::parse, help_heading = "Output")]
    pub(super) thresholds: Vec<Threshold>,
    /// Everything random follows from this number [default: 7, or that of the scenario]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) seed: Option<u64>,
}

/// Kinds with their weights, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix<T>(pub Vec<(T, f64)>);

/// Reads `a` or `a=90,b=10`.
fn parse_mix<T: PartialEq>(text: &str, kind: impl Fn(&str) -> Option<T>, kinds: &str) -> Result<Mix<T>, String> {
    let mut parts: Vec<(T, f64)> = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let kind = kind(name.trim()).ok_or_else(|| format!("'{name}' is none of {kinds}"))?;
        let weight: f64 = weight.trim().parse().map_err(|_| format!("'{weight}' is not a weight"))?;
        if !(weight > 0.0 && weight <= 1e6) {
            return Err(format!("the weight of '{name}' is not above 0"));
        }
        if parts.iter().any(|(known, _)| *known == kind) {
            return Err(format!("'{name}' is named twice"));
        }
        parts.push((kind, weight));
    }
    Ok(Mix(parts))
}

/// Transports as the command line and scenario files spell them.
pub fn parse_transports(text: &str) -> Result<Mix<Transport>, String> {
    let kind = |name: &str| match name {
        "web-sockets" | "ws" => Some(Transport::WebSockets),
        "server-sent-events" | "sse" => Some(Transport::ServerSentEvents),
        "long-polling" | "lp" => Some(Transport::LongPolling),
        _ => None,
    };
    parse_mix(text, kind, "web-sockets (ws), server-sent-events (sse), long-polling (lp)")
}

/// Hub protocols as the command line and scenario files spell them.
pub fn parse_protocols(text: &str) -> Result<Mix<Dialect>, String> {
    let kind = |name: &str| match name {
        "json" => Some(Dialect::SignalrJson),
        "messagepack" => Some(Dialect::SignalrMessagepack),
        _ => None,
    };
    parse_mix(text, kind, "json, messagepack")
}

/// The seed when nobody names one.
pub const SEED: u64 = 7;

/// What a part of the mix is called in the report.
fn class_name(transport: Transport, dialect: Dialect) -> String {
    let transport = match transport {
        Transport::WebSockets => "ws",
        Transport::ServerSentEvents => "sse",
        Transport::LongPolling => "lp",
    };
    format!("{transport}-{}", dialect.to_string().trim_start_matches("signalr-"))
}

/// Classes for every combination of two mixes. MessagePack is not spoken where only text is carried: those that would
/// speak it there speak JSON.
pub fn classes(total: u32, transports: &Mix<Transport>, dialects: &Mix<Dialect>, stay: Stay) -> Vec<Class> {
    let mut kinds: Vec<((Transport, Dialect), f64)> = Vec::new();
    for &(transport, part) in &transports.0 {
        for &(dialect, of_it) in &dialects.0 {
            let textual = dialects.0.len() > 1 && dialect == Dialect::SignalrMessagepack && !transport.accepts_binary();
            let kind = (transport, if textual { Dialect::SignalrJson } else { dialect });
            let whole: f64 = dialects.0.iter().map(|(_, weight)| weight).sum();
            let weight = part * of_it / whole;
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => *sum += weight,
                None => kinds.push((kind, weight)),
            }
        }
    }
    let counts = split(total, &kinds.iter().map(|(_, weight)| *weight).collect::<Vec<_>>());
    let class = |(((transport, dialect), _), connections): (((Transport, Dialect), f64), u32)| Class {
        name: class_name(transport, dialect),
        connections,
        transport,
        dialect,
        stay,
        member: true,
    };
    let all = kinds.into_iter().zip(counts).map(class);
    // Too few connections for a part of the mix: better none than half of one.
    let mut all: Vec<Class> = all.filter(|class| class.connections > 0 || total == 0).collect();
    all.truncate(if total == 0 { 1 } else { all.len() });
    all
}

fn parse_ping_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_secs(1) { Err("at least 1s; or --no-pings".to_owned()) } else { Ok(interval) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("'{text}' is not \"Name: value\""))?;
    let (name, value) = (name.trim(), value.trim());
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("'{name}' is not a header name"));
    }
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
        return Err(format!("the value of '{name}' has control characters"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl CommonArgs {
    /// The seed, on which loads depend.
    pub(super) fn seed(&self) -> u64 {
        self.output.seed.unwrap_or(SEED)
    }

    /// So many connections fewer: they are something else.
    pub(super) fn without(mut self, connections: u32) -> Self {
        self.connections = self.connections.saturating_sub(connections);
        self
    }

    /// What publishers speak.
    pub(super) fn dialect(&self) -> Dialect {
        self.protocol.as_ref().map_or(self.dialect, |mix| mix.0[0].0)
    }

    /// Receivers that stay, in the classes of the mix, and `guests` of them that do not.
    pub(super) fn classes(&self, guests: u32, stay: Stay) -> Vec<Class> {
        let dialects = self.protocol.clone().unwrap_or_else(|| Mix(vec![(self.dialect, 1.0)]));
        let steady = self.connections.saturating_sub(guests);
        let mut all = if steady > 0 || guests == 0 {
            classes(steady, &self.transport, &dialects, Stay::Whole)
        } else {
            Vec::new()
        };
        if guests > 0 {
            let mut coming = classes(guests, &self.transport, &dialects, stay);
            coming.iter_mut().for_each(|class| class.name = format!("{}-guests", class.name));
            all.extend(coming);
        }
        all
    }

    pub(super) fn into_job(self, classes: Vec<Class>, task: Task) -> Result<Job, Failure> {
        let seed = self.seed();
        let dialect = self.dialect();
        Parts {
            target: self.target,
            target_place: "--target".to_owned(),
            dialect,
            connections: self.connections,
            connect_rate: self.connect_rate,
            classes,
            task,
            visits: Visits::default(),
            seed,
            scenario: None,
        }
        .into_job(self.way, self.output)
    }
}

/// What every connection sends along: what was `given`, and a token of the connection string where users have none of their
/// own.
fn headers(
    mut given: Vec<(String, String)>,
    tokens: Option<&Tokens>,
    names_users: bool,
) -> Result<Vec<(String, String)>, Failure> {
    const AUTHORIZATION: &str = "Authorization";
    let Some(tokens) = tokens else { return Ok(given) };
    if given.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION)) {
        return Err(Failure::usage(
            "connections cannot come with two tokens",
            "--header Authorization",
            "leave it out: a connection string brings one; or give the URL of the hub with --target instead",
        ));
    }
    if !names_users {
        given.push((AUTHORIZATION.to_owned(), format!("Bearer {}", tokens.mint(None))));
    }
    Ok(given)
}

/// What flags and scenarios are both turned into before they are a job.
#[derive(Debug)]
pub struct Parts {
    /// Where to connect.
    pub target: String,
    /// Who says so.
    pub target_place: String,
    /// What publishers speak.
    pub dialect: Dialect,
    /// Receivers.
    pub connections: u32,
    /// Of them, opened in a second.
    pub connect_rate: Option<f64>,
    /// Their classes.
    pub classes: Vec<Class>,
    /// What is to be done.
    pub task: Task,
    /// What happens to guests.
    pub visits: Visits,
    /// Everything random follows from it.
    pub seed: u64,
    /// Its name, where there is one.
    pub scenario: Option<String>,
}

impl Parts {
    /// Resolves the target.
    pub(super) fn into_job(self, way: WayArgs, output: OutputArgs) -> Result<Job, Failure> {
        let names_users = self.task.load().is_some_and(|load| matches!(load.entry, Entry::User { .. }));
        let door = Door::find(self.target, &self.target_place, way.hub.as_deref())?;
        let headers = headers(way.headers, door.tokens.as_ref(), names_users)?;
        let server = Server {
            address: door.url.resolve(&self.target_place)?,
            url: door.url,
            dialect: self.dialect,
            negotiate: way.negotiate,
            target: door.shown,
            headers,
            tokens: door.tokens,
            pids: way.server_pids,
        };
        let workers = way.workers.unwrap_or_else(|| Fleet::workers_needed(self.connections, way.cores.len()));
        // A worker without connections would only get in the way.
        let workers = workers.min(self.connections.max(1));
        if workers == 0 {
            return Err(Failure::usage("no worker can do no work", "--workers", "use at least 1"));
        }
        let fleet = Fleet {
            connections: self.connections,
            classes: self.classes,
            connect_rate: self.connect_rate,
            connect_concurrency: way.connect_concurrency.max(1),
            connect_timeout: way.connect_timeout,
            server_timeout: way.server_timeout,
            handicap: way.handicap,
            sources: way.source_ips,
            workers,
            cores: way.cores,
            ping_interval: (!way.no_pings).then_some(way.ping_interval),
        };
        let output = Output {
            json: output.json,
            folder: output.out,
            arguments: Vec::new(),
            quiet: output.quiet,
            thresholds: output.thresholds,
        };
        let Self { task, visits, seed, scenario, .. } = self;
        Ok(Job { server, fleet, output, task, visits, seed, scenario })
    }
}

/// What a target comes to.
struct Door {
    url: Url,
    tokens: Option<Tokens>,
    /// For the report: of a connection string the URL that it leads to, without its key.
    shown: String,
}

impl Door {
    fn find(target: String, place: &str, hub: Option<&str>) -> Result<Self, Failure> {
        if is_connection_string(&target) {
            let Entrance { url, tokens } = Entrance::parse(&target, hub, place)?;
            let shown = format!("http://{}{}", url.authority, url.request_target(""));
            return Ok(Self { url, tokens: Some(tokens), shown });
        }
        if hub.is_some() {
            let cause = "a URL names its hub by its path";
            return Err(Failure::usage(cause, "--hub", "leave it out, or give a connection string to --target"));
        }
        Ok(Self { url: Url::parse(&target, place)?, tokens: None, shown: target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_split_over_every_combination() {
        let transports = parse_transports("ws=90,sse=5,lp=5").expect("good");
        let dialects = parse_protocols("json=50,messagepack=50").expect("good");
        let all = classes(200, &transports, &dialects, Stay::Whole);
        let found: Vec<(&str, u32)> = all.iter().map(|class| (class.name.as_str(), class.connections)).collect();
        // Events carry text only, so that part speaks JSON altogether.
        assert_eq!(
            found,
            [("ws-json", 90), ("ws-messagepack", 90), ("sse-json", 10), ("lp-json", 5), ("lp-messagepack", 5)]
        );
        // Every connection is somewhere, and no class is empty.
        let few = classes(3, &transports, &dialects, Stay::Whole);
        assert!(few.iter().all(|class| class.connections > 0));
        assert_eq!(few.iter().map(|class| class.connections).sum::<u32>(), 3);
    }

    #[test]
    fn bad_mixes_are_explained() {
        for (text, part) in [("udp", "none of"), ("ws=x", "not a weight"), ("ws=0", "above 0"), ("ws,ws=2", "twice")] {
            let error = parse_transports(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
