//! The command line: commands, their flags, and the way from flags to a [`Job`].

mod common;
mod load;
mod run;
mod search;
mod self_check;

pub use self::common::{CommonArgs, Mix, OutputArgs, Parts, SEED, WayArgs, classes, parse_protocols, parse_transports};
pub use self::load::{AmountArgs, PublishArgs, default_arguments, default_method};
pub use self::run::RunArgs;
pub use self::search::SearchArgs;
pub use self::self_check::SelfCheckArgs;
use crate::audience::Shape;
use crate::failure::Failure;
use crate::fleet::{Lifetime, Stay};
use crate::job::{Entry, Job, Load, Task, Via, Visits};
use crate::quantity::{parse_byte_rate, parse_duration};
use crate::report::verbs::{CompareArgs, ReportArgs};
use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// Load generator for SignalR and WebSocket servers.
#[derive(Debug, Parser)]
#[command(name = "fanfare-loadgen", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open connections, hold them, close them; every phase timed.
    Connect(ConnectArgs),
    /// Open connections and tell what the server pays for each while nothing happens.
    Idle(IdleArgs),
    /// Publish messages that every connection must receive once, in order and intact.
    Broadcast(Box<BroadcastArgs>),
    /// Publish to groups: only members must receive, and they everything.
    Group(Box<GroupArgs>),
    /// Publish to users with several connections each.
    User(Box<UserArgs>),
    /// Publish to single connections, by their ids.
    P2p(Box<P2pArgs>),
    /// Every connection invokes a hub method that returns its argument.
    Echo(Box<EchoArgs>),
    /// Every connection sends items of a stream, and gets them back as items of another.
    Stream(Box<StreamArgs>),
    /// Part of the connections come and go, each after a life of its own; the others are broadcast to.
    Churn(Box<ChurnArgs>),
    /// Cut connections all at once; they come back as the SDK does: at once, then after 2, 10 and 30 s.
    Storm(Box<StormArgs>),
    /// Part of the connections reads slowly or not at all; the others must not notice.
    Slow(Box<SlowArgs>),
    /// Broadcast for long, and tell how memory and latency drift.
    Soak(Box<SoakArgs>),
    /// Run a scenario: one that comes with the generator, by name, or a TOML file.
    Run(Box<RunArgs>),
    /// Find the highest rate, or the most connections, that meets an objective.
    Search(Box<SearchArgs>),
    /// Negotiate over and over without connecting, and tell what that costs the server.
    Negotiate(NegotiateArgs),
    /// Make the page of a result anew.
    Report(ReportArgs),
    /// Tell how one result differs from another, and whether the two can be compared.
    Compare(CompareArgs),
    /// Measure this generator on this machine, without a server: can it carry what is to be asked of it?
    SelfCheck(SelfCheckArgs),
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
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
}

/// Flags of `group`.
#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Groups there are [default: as many as --group-size needs]
    #[arg(long, value_name = "N", conflicts_with = "group_size", help_heading = "Groups")]
    groups: Option<u32>,
    /// Members of each group
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Groups")]
    group_size: u32,
    /// Groups that each connection is in
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Groups")]
    groups_each: u32,
    /// The hub method that a connection joins with: METHOD(group)
    #[arg(long, value_name = "METHOD", default_value = "JoinGroup", help_heading = "Groups")]
    join_method: String,
}

/// Flags of `user`.
#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Users there are [default: half as many as connections]
    #[arg(long, value_name = "N", help_heading = "Users")]
    users: Option<u32>,
    /// A connection names its user in its URL, as KEY=u17. `fanfare dev` takes that; a server with tokens does not. With
    /// a connection string each connection has a token of its own instead
    #[arg(long, value_name = "KEY", default_value = "user", help_heading = "Users")]
    user_query: String,
}

/// Flags of `p2p`.
#[derive(Debug, Args)]
pub struct P2pArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// The hub method that returns the caller's connection id: METHOD()
    #[arg(long, value_name = "METHOD", default_value = "ConnectionId", help_heading = "Connections")]
    id_method: String,
}

/// Flags of `echo`.
#[derive(Debug, Args)]
pub struct EchoArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    /// The hub method: METHOD(payload) returns the payload
    #[arg(long, value_name = "METHOD", default_value = "Echo", help_heading = "Load")]
    method: String,
}

/// Flags of `stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    /// The hub method: METHOD(stream) returns a stream of the same items
    #[arg(long, value_name = "METHOD", default_value = "MirrorStream", help_heading = "Load")]
    method: String,
}

/// Flags of `churn`.
#[derive(Debug, Args)]
pub struct ChurnArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// The part of the connections that comes and goes, above 0 and at most 1
    #[arg(long, value_name = "PART", default_value_t = 0.5, value_parser = parse_part, help_heading = "Guests")]
    part: f64,
    /// How long each of them stays: 5s, exp:5s (exponential with that mean), or uniform:1s-9s
    #[arg(long, value_name = "LIFE", default_value = "exp:5s", value_parser = Lifetime::parse, help_heading = "Guests")]
    life: Lifetime,
}

/// Flags of `storm`.
#[derive(Debug, Args)]
pub struct StormArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// The part of the connections that is cut, above 0 and at most 1; the others are broadcast to
    #[arg(long, value_name = "PART", default_value_t = 1.0, value_parser = parse_part, help_heading = "Guests")]
    part: f64,
    /// When, from the beginning of the measured period
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, help_heading = "Guests")]
    after: Duration,
    /// How long to wait for those that are not back when the measured period has ended
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration, help_heading = "Guests")]
    patience: Duration,
}

/// Flags of `slow`.
#[derive(Debug, Args)]
pub struct SlowArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// The part of the connections that is slow, above 0 and below 1. They are ordinary sockets with a WebSocket
    #[arg(long, value_name = "PART", default_value_t = 0.05, value_parser = parse_part, help_heading = "Slow readers")]
    part: f64,
    /// What each of them reads in a second, for example 20KiB/s; 0 = nothing
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = parse_byte_rate, help_heading = "Slow readers")]
    read_rate: f64,
}

/// Flags of `soak`.
#[derive(Debug, Args)]
pub struct SoakArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// How often memory and latency are noted
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Load")]
    interval: Duration,
}

/// A part: above 0, at most 1.
fn parse_part(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part| *part > 0.0 && *part <= 1.0)
        .ok_or_else(|| format!("'{text}' is not a part: write a number above 0 and at most 1, for example 0.5"))
}

/// How many `part` of `connections` are: at least one.
fn part_of(connections: u32, part: f64) -> u32 {
    ((f64::from(connections) * part).round() as u32).clamp(1, connections.max(1))
}

impl Command {
    /// Turns flags into a checked job. Resolves names; opens nothing.
    pub fn into_job(self) -> Result<Job, Failure> {
        let steady = |common: &CommonArgs| common.classes(0, Stay::Whole);
        let mut visits = Visits::default();
        let (classes, common, task) = match self {
            Self::Connect(args) => (steady(&args.common), args.common, Task::Connect { hold: args.hold }),
            Self::Idle(args) => {
                let task = Task::Idle { hold: args.hold, baseline: !args.no_baseline };
                (steady(&args.common), args.common, task)
            }
            Self::Run(args) => return args.into_job(),
            Self::SelfCheck(_) | Self::Search(_) => {
                return Err(Failure::usage(
                    "this command is not one run",
                    "self-check, search",
                    "pass it to execute()",
                ));
            }
            Self::Negotiate(args) => {
                let task = Task::Negotiate { requests: args.requests };
                (steady(&args.common), args.common, task)
            }
            Self::Broadcast(args) => {
                let load = args.publish.load(&args.common, &args.amount, Shape::All, Entry::Nothing)?;
                (steady(&args.common), args.common, of_load("broadcast", load))
            }
            Self::Group(args) => {
                let load = args.load()?;
                (steady(&args.common), args.common, of_load("group", load))
            }
            Self::User(args) => {
                let of = args.users.unwrap_or(args.common.connections.div_ceil(2));
                let entry = Entry::User { key: args.user_query.clone() };
                let load = args.publish.load(&args.common, &args.amount, Shape::Users { of }, entry)?;
                (steady(&args.common), args.common, of_load("user", load))
            }
            Self::P2p(args) => {
                let entry = Entry::AskId { method: args.id_method.clone() };
                let load = args.publish.load(&args.common, &args.amount, Shape::Connections, entry)?;
                (steady(&args.common), args.common, of_load("p2p", load))
            }
            Self::Churn(args) => {
                let guests = part_of(args.common.connections, args.part);
                let classes = args.common.classes(guests, Stay::Life(args.life));
                let load = args.publish.load(&args.common, &args.amount, Shape::All, Entry::Nothing)?;
                (classes, args.common, of_load("churn", load))
            }
            Self::Storm(args) => {
                let guests = part_of(args.common.connections, args.part);
                let classes = args.common.classes(guests, Stay::UntilCut);
                visits = Visits { cuts: vec![args.after], patience: args.patience };
                let load = args.publish.load(&args.common, &args.amount, Shape::All, Entry::Nothing)?;
                (classes, args.common, of_load("storm", load))
            }
            Self::Slow(args) => {
                let victims = part_of(args.common.connections, args.part);
                let mut load = args.publish.load(&args.common, &args.amount, Shape::All, Entry::Nothing)?;
                load.stalled.connections = victims;
                load.stalled.read_bytes_per_s = args.read_rate;
                let common = args.common.without(victims);
                (steady(&common), common, of_load("slow", load))
            }
            Self::Soak(args) => {
                let amount = args.amount.with_duration(Duration::from_secs(3600));
                let mut load = args.publish.load(&args.common, &amount, Shape::All, Entry::Nothing)?;
                load.soak_interval = Some(args.interval.max(Duration::from_millis(50)));
                (steady(&args.common), args.common, of_load("soak", load))
            }
            Self::Echo(args) => {
                let via = Via::Call { method: args.method.clone() };
                let load = args.amount.own_load(&args.common, Entry::Nothing, via);
                (steady(&args.common), args.common, of_load("echo", load))
            }
            Self::Stream(args) => {
                let entry = Entry::OpenStream { method: args.method.clone() };
                let load = args.amount.own_load(&args.common, entry, Via::Items { method: args.method.clone() });
                (steady(&args.common), args.common, of_load("stream", load))
            }
            Self::Report(_) | Self::Compare(_) => {
                return Err(Failure::usage(
                    "this command reads results and measures nothing",
                    "report, compare",
                    "pass it to execute(), or choose a command that measures",
                ));
            }
        };
        let job = Job { visits, ..common.into_job(classes, task)? };
        job.check()?;
        Ok(job)
    }
}

fn of_load(name: &'static str, load: Load) -> Task {
    Task::Load(name, Box::new(load))
}

impl GroupArgs {
    fn load(&self) -> Result<Load, Failure> {
        let seats = self.common.connections.saturating_mul(self.groups_each);
        let of = self.groups.unwrap_or_else(|| seats.div_ceil(self.group_size.max(1)).max(1));
        let shape = Shape::Groups { of, pick: self.groups_each, skew_milli: 0 };
        let entry = Entry::Join { method: self.join_method.clone() };
        self.publish.load(&self.common, &self.amount, shape, entry)
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
        assert_eq!(load.size, crate::payload::Size::Fixed(512));
        let arguments = default_arguments(Shape::All);
        assert_eq!(load.via, Via::Invocation { method: "Broadcast".into(), target: "m".into(), arguments });
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

    const CONNECTION_STRING: &str = "Endpoint=http://127.0.0.1;Port=1;AccessKey=a-key;Version=1.0;";

    #[test]
    fn impossible_jobs_name_the_flag_and_the_way_out() {
        let base = "--target ws://127.0.0.1:1/";
        for (line, place) in [
            ("broadcast --target wss://127.0.0.1:1/".to_owned(), "--target"),
            (format!("idle --target {CONNECTION_STRING} --hub h --header authorization:x"), "--header"),
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
            (format!("broadcast {base} --via rest"), "--via rest"),
            (format!("broadcast {base} --via server"), "--via server"),
            (format!("group {base} --dialect raw"), "--dialect"),
            (format!("group {base} --groups-each 0"), "--groups-each"),
            (format!("user {base} --users 0"), "--users"),
            (format!("p2p {base} -n 600000 --publishers 2"), "--connections"),
            (format!("broadcast {base} --stalled-rcvbuf 4096"), "--stalled-rcvbuf"),
            (format!("slow {base} -n 1"), "--connections"),
            (format!("echo {base} --transport lp"), "--transport"),
            (format!("stream {base} --transport ws=1,sse=1"), "--transport"),
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
            ("--part 2", "unexpected argument"),
            ("--arguments to,target", "the payload must be passed once"),
            ("--arguments to,it", "is not an argument"),
            ("--transport udp", "none of"),
            ("--protocol json,json", "twice"),
            ("--protocol json --dialect raw", "cannot be used with"),
        ] {
            let error = clap_error(&format!("{base} {flags}"));
            assert!(error.contains(part), "{flags}: {error}");
        }
    }
}
