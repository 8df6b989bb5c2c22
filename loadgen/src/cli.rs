//! The command line: flags, their defaults, and the way from flags to a [`Job`].

use crate::failure::Failure;
use crate::job::{Dialect, Fleet, Job, Load, Output, Server, Stalled, Task, Via};
use crate::plan::{Arrival, Pace, PlanOptions, Until};
use crate::report::verbs::{CompareArgs, ReportArgs};
use crate::quantity::{parse_bytes, parse_duration, parse_rate};
use crate::target::{SourceAddresses, Url};
use crate::threshold::Threshold;
use clap::{Args, Parser, Subcommand};
use fanfare_protocol::negotiate::Transport;
use std::path::PathBuf;
use std::time::Duration;

/// Load generator for SignalR and WebSocket servers.
#[derive(Debug, Parser)]
#[command(name = "fanfare-loadgen", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, also reached as `fanfare bench ...`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open connections, hold them, close them; every phase timed.
    Connect(ConnectArgs),
    /// Open connections and tell what the server pays for each while nothing happens.
    Idle(IdleArgs),
    /// Publish messages that every connection must receive once, in order and intact.
    Broadcast(BroadcastArgs),
    /// Negotiate over and over without connecting, and tell what that costs the server.
    Negotiate(NegotiateArgs),
    /// Make the page of a result anew
    Report(ReportArgs),
    /// Tell how one result differs from another
    Compare(CompareArgs),
}

/// Flags of every command: the other end, the connections, the output.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Where to connect: ws://HOST:PORT/PATH or http://HOST:PORT/PATH
    #[arg(long, value_name = "URL", help_heading = "Target")]
    target: String,
    /// What is spoken
    #[arg(long, value_enum, default_value_t = Dialect::SignalrJson, help_heading = "Target")]
    dialect: Dialect,
    /// What receivers receive over; all but web-sockets negotiate first. Publishers have a WebSocket always
    #[arg(long, value_enum, default_value = "web-sockets", help_heading = "Target")]
    transport: TransportArg,
    /// Ask POST negotiate for each connection first, instead of going straight to the WebSocket
    #[arg(long, help_heading = "Target")]
    negotiate: bool,
    /// Extra header on all requests that open connections, "Name: value"; may be repeated
    #[arg(long = "header", value_name = "HEADER", value_parser = parse_header, help_heading = "Target")]
    headers: Vec<(String, String)>,
    /// The server's process(es) on this machine: CPU and memory are measured
    #[arg(long = "server-pid", value_name = "PID", value_delimiter = ',', help_heading = "Target")]
    server_pids: Vec<u32>,

    /// Receiving connections
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000, help_heading = "Connections")]
    connections: u32,
    /// New connections per second [default: as fast as the concurrency allows]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Connections")]
    connect_rate: Option<f64>,
    /// Connections being set up at a time
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Connections")]
    connect_concurrency: u32,
    /// Give a connection up when it is not open after this long
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration, help_heading = "Connections")]
    connect_timeout: Duration,
    /// Local addresses: auto (127.0.0.x for loopback targets), kernel, or a list
    #[arg(long, value_name = "IPS", default_value = "auto", value_parser = SourceAddresses::parse, help_heading = "Connections")]
    source_ips: SourceAddresses,
    /// Send no hub Ping every 15 s
    #[arg(long, help_heading = "Connections")]
    no_pings: bool,
    /// Threads, one ring of 18,000 connections each [default: as many as needed]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    workers: Option<u32>,
    /// Pin the threads to these cores, in turn
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Connections")]
    cores: Vec<usize>,

    /// Write the result as JSON to a file, or to standard output with -
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Make this folder and write everything into it: summary, result, latency log, timeline, JUnit, report.html
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    /// No progress on standard error
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// What must be reached, for example 'last.p99<20ms' or 'missing==0'; may be repeated
    #[arg(long = "threshold", value_name = "EXPR", value_parser = Threshold::parse, help_heading = "Output")]
    thresholds: Vec<Threshold>,
    /// Everything random follows from this number
    #[arg(long, value_name = "N", default_value_t = 7, help_heading = "Output")]
    seed: u64,
}

/// Flags of `connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How long to hold the connections before they are closed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    hold: Duration,
}

/// Flags of `idle`.
#[derive(Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How long to hold the connections before memory is read
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = parse_duration)]
    hold: Duration,
    /// Do not open bare sockets to compare with
    #[arg(long)]
    no_baseline: bool,
}

/// Flags of `negotiate`. Its connections are keep-alive sockets, each with one request under way.
#[derive(Debug, Args)]
pub struct NegotiateArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How often to ask, all sockets together
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    requests: u64,
}

/// Flags of `broadcast`.
#[derive(Debug, Args)]
pub struct BroadcastArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Messages per second over all publishers (open loop: send times are fixed beforehand)
    #[arg(long, value_name = "RATE", default_value = "50/s", value_parser = parse_rate, conflicts_with = "window", help_heading = "Load")]
    rate: f64,
    /// Closed loop: publish the next burst when every receiver has the last one
    #[arg(long, help_heading = "Load")]
    window: bool,
    /// Messages published together, in one write
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    burst: u32,
    /// Payload bytes, at least 64
    #[arg(long, value_name = "BYTES", default_value = "512", value_parser = parse_bytes, help_heading = "Load")]
    size: usize,
    /// Stop after this many measured messages
    #[arg(long, value_name = "N", conflicts_with = "duration", help_heading = "Load")]
    messages: Option<u64>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, help_heading = "Load")]
    duration: Duration,
    /// The same load before, not measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, help_heading = "Load")]
    warmup: Duration,
    /// How long to wait for what is still missing after the last message
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, help_heading = "Load")]
    drain: Duration,
    /// A delivery later than this is counted as late
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, help_heading = "Load")]
    deadline: Duration,
    /// Spacing of bursts in an open loop
    #[arg(long, value_enum, default_value = "even", help_heading = "Load")]
    arrival: ArrivalArg,
    /// Connections that publish, beside the receivers
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    publishers: u16,

    /// SignalR: the hub method to invoke as METHOD(target, payload) [default: Broadcast]
    #[arg(long, value_name = "METHOD", help_heading = "Publishing")]
    publish_method: Option<String>,
    /// SignalR: its first argument, the client method that the server calls
    #[arg(long, value_name = "TARGET", default_value = "m", help_heading = "Publishing")]
    publish_target: String,
    /// Raw: put this in front of each published payload
    #[arg(long, value_name = "TEXT", conflicts_with = "raw_publish_http", help_heading = "Publishing")]
    publish_prefix: Option<String>,
    /// Raw: publish binary messages instead of text
    #[arg(long, help_heading = "Publishing")]
    raw_binary: bool,
    /// Raw: publish by HTTP POST to this URL instead of over a WebSocket
    #[arg(long, value_name = "URL", help_heading = "Publishing")]
    raw_publish_http: Option<String>,

    /// Connections that shake hands and then never read, reported apart
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Slow readers")]
    stalled: u32,
    /// SO_RCVBUF of those connections
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "stalled", help_heading = "Slow readers")]
    stalled_rcvbuf: Option<usize>,
}

/// Transports as the command line spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TransportArg {
    WebSockets,
    ServerSentEvents,
    LongPolling,
}

impl From<TransportArg> for Transport {
    fn from(transport: TransportArg) -> Self {
        match transport {
            TransportArg::WebSockets => Self::WebSockets,
            TransportArg::ServerSentEvents => Self::ServerSentEvents,
            TransportArg::LongPolling => Self::LongPolling,
        }
    }
}

/// Spacing as the command line spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ArrivalArg {
    Even,
    Poisson,
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

impl Command {
    /// Turns flags into a checked job. Resolves names; opens nothing.
    pub fn into_job(self) -> Result<Job, Failure> {
        let (common, task) = match self {
            Self::Connect(args) => (args.common, Task::Connect { hold: args.hold }),
            Self::Idle(args) => (args.common, Task::Idle { hold: args.hold, baseline: !args.no_baseline }),
            Self::Broadcast(args) => {
                let load = args.load()?;
                (args.common, Task::Broadcast(Box::new(load)))
            }
            Self::Negotiate(args) => (args.common, Task::Negotiate { requests: args.requests }),
            Self::Report(_) | Self::Compare(_) => {
                return Err(Failure::usage(
                    "this command reads results and measures nothing",
                    "report, compare",
                    "pass it to execute(), or choose a command that measures",
                ));
            }
        };
        let job = common.into_job(task)?;
        job.check()?;
        Ok(job)
    }
}

impl CommonArgs {
    fn into_job(self, task: Task) -> Result<Job, Failure> {
        let url = Url::parse(&self.target, "--target")?;
        let server = Server {
            address: url.resolve("--target")?,
            target: self.target,
            url,
            dialect: self.dialect,
            transport: self.transport.into(),
            negotiate: self.negotiate,
            headers: self.headers,
            pids: self.server_pids,
        };
        let workers = self.workers.unwrap_or_else(|| Fleet::workers_needed(self.connections, self.cores.len()));
        // A worker without connections would only get in the way.
        let workers = workers.min(self.connections.max(1));
        if workers == 0 {
            return Err(Failure::usage("no worker can do no work", "--workers", "use at least 1"));
        }
        let fleet = Fleet {
            connections: self.connections,
            connect_rate: self.connect_rate,
            connect_concurrency: self.connect_concurrency.max(1),
            connect_timeout: self.connect_timeout,
            sources: self.source_ips,
            workers,
            cores: self.cores,
            pings: !self.no_pings,
        };
        let output = Output {
            json: self.json,
            folder: self.out,
            arguments: Vec::new(),
            quiet: self.quiet,
            thresholds: self.thresholds,
        };
        Ok(Job { server, fleet, output, task, seed: self.seed })
    }
}

impl BroadcastArgs {
    fn load(&self) -> Result<Load, Failure> {
        let pace = if self.window {
            Pace::Window
        } else {
            let arrival = match self.arrival {
                ArrivalArg::Even => Arrival::Even,
                ArrivalArg::Poisson => Arrival::Poisson,
            };
            Pace::Open { messages_per_s: self.rate, arrival }
        };
        let until = match self.messages {
            Some(messages) => Until::Messages(messages),
            None => Until::Elapsed { ns: self.duration.as_nanos() as u64 },
        };
        let plan = PlanOptions { pace, burst: self.burst, publishers: self.publishers, until, seed: self.common.seed };
        Ok(Load {
            publishers: self.publishers,
            payload_bytes: self.size,
            plan,
            warmup: self.warmup,
            drain: self.drain,
            deadline: self.deadline,
            via: self.via()?,
            stalled: Stalled { connections: self.stalled, receive_buffer_bytes: self.stalled_rcvbuf },
        })
    }

    fn via(&self) -> Result<Via, Failure> {
        if let Some(text) = &self.raw_publish_http {
            let url = Url::parse(text, "--raw-publish-http")?;
            let address = url.resolve("--raw-publish-http")?;
            return Ok(Via::HttpPost { url, address });
        }
        if self.common.dialect.is_signalr() && self.publish_prefix.is_none() && !self.raw_binary {
            let method = self.publish_method.clone().unwrap_or_else(|| "Broadcast".to_owned());
            return Ok(Via::Invocation { method, target: self.publish_target.clone() });
        }
        if let Some(method) = &self.publish_method {
            return Ok(Via::Invocation { method: method.clone(), target: self.publish_target.clone() });
        }
        Ok(Via::Message { prefix: self.publish_prefix.clone().unwrap_or_default(), binary: self.raw_binary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str) -> Result<Job, Failure> {
        let words = std::iter::once("fanfare-loadgen").chain(line.split_whitespace());
        Cli::try_parse_from(words).expect("clap accepts it").command.into_job()
    }

    fn clap_error(line: &str) -> String {
        let words = std::iter::once("fanfare-loadgen").chain(line.split_whitespace());
        Cli::try_parse_from(words).expect_err("clap refuses it").to_string()
    }

    #[test]
    fn the_command_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_target_is_all_that_is_needed() {
        let job = job("broadcast --target ws://127.0.0.1:9000/quotes").expect("job");
        let load = job.task.load().expect("load");
        assert_eq!(job.fleet.connections, 1000);
        assert_eq!(job.fleet.workers, 1);
        assert_eq!(load.payload_bytes, 512);
        assert_eq!(load.via, Via::Invocation { method: "Broadcast".into(), target: "m".into() });
        assert!(!load.is_window());
    }

    #[test]
    fn more_connections_than_a_ring_holds_get_more_workers() {
        let job = job("idle --target ws://127.0.0.1:9000/ -n 100000").expect("job");
        assert_eq!(job.fleet.workers, 6);
        assert_eq!((0..6).map(|index| job.fleet.share(index)).sum::<u32>(), 100_000);
        assert!(job.fleet.share(0) <= crate::job::SLOTS_PER_RING_MAX);
    }

    #[test]
    fn raw_publishing() {
        let job = job("broadcast --target ws://127.0.0.1:1/ --dialect raw --publish-prefix P --raw-binary --window")
            .expect("job");
        let load = job.task.load().expect("load");
        assert_eq!(load.via, Via::Message { prefix: "P".into(), binary: true });
        assert!(load.is_window());
    }

    #[test]
    fn impossible_jobs_name_the_flag_and_the_way_out() {
        let base = "--target ws://127.0.0.1:1/";
        for (line, place) in [
            ("broadcast --target wss://127.0.0.1:1/".to_owned(), "--target"),
            (format!("broadcast {base} --size 10"), "--size"),
            (format!("broadcast {base} --size 64MiB"), "--size"),
            (format!("broadcast {base} --publishers 0"), "--publishers"),
            (format!("broadcast {base} --burst 0"), "--burst"),
            (format!("broadcast {base} --publish-prefix x"), "--publish-prefix"),
            (format!("broadcast {base} --dialect raw --publish-method M"), "--publish-method"),
            (format!("broadcast {base} --raw-publish-http ftp://x/"), "--raw-publish-http"),
            (format!("connect {base} --dialect raw --negotiate"), "--negotiate"),
            (format!("idle {base} -n 0"), "--connections"),
            (format!("idle {base} -n 100000 --workers 1"), "--workers"),
            (format!("idle {base} -n 2000000"), "--connections"),
            (format!("idle {base} --workers 0"), "--workers"),
            (format!("idle {base} --dialect raw --transport long-polling"), "--transport"),
            (format!("connect {base} --dialect signalr-messagepack --transport server-sent-events"), "--transport"),
            (format!("negotiate {base} --dialect raw"), "--dialect"),
        ] {
            let failure = job(&line).expect_err(&line);
            assert!(failure.place.contains(place), "{line}: {failure}");
            assert!(!failure.cause.is_empty() && !failure.remedy.is_empty());
            assert_eq!(failure.exit, crate::failure::Exit::Usage, "{line}: {failure}");
        }
    }

    #[test]
    fn values_that_are_no_values_are_explained() {
        let base = "broadcast --target ws://127.0.0.1:1/";
        for (flags, part) in [
            ("--size 12x", "not a size"),
            ("--rate fast", "does not start with a number"),
            ("--duration 5weeks", "not a duration"),
            ("--threshold speed<1", "not a figure"),
            ("--header nonsense", "Name: value"),
            ("--source-ips home", "not an IP address"),
            ("--rate 5 --window", "cannot be used with"),
            ("--messages 5 --duration 1s", "cannot be used with"),
        ] {
            let error = clap_error(&format!("{base} {flags}"));
            assert!(error.contains(part), "{flags}: {error}");
        }
    }
}
