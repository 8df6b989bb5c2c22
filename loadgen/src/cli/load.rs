//! Flags of every command with a load: how much, how long, and through which hub methods.

use super::common::CommonArgs;
use crate::audience::Shape;
use crate::failure::Failure;
use crate::job::{Argument, Dialect, Entry, Load, Stalled, Via};
use crate::payload::Size;
use crate::plan::{Arrival, Order, Pace, PlanOptions, Until};
use crate::quantity::{parse_bytes, parse_duration, parse_rate};
use crate::target::Url;
use clap::Args;
use std::time::Duration;

/// How much and how long.
#[derive(Clone, Debug, Args)]
pub struct AmountArgs {
    /// Messages per second, all connections together (open loop: send times are fixed beforehand)
    /// [default: 50/s; p2p, echo, stream: one for each connection]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Load")]
    rate: Option<f64>,
    /// Payload bytes, at least 64
    #[arg(long, value_name = "BYTES", default_value = "512", value_parser = parse_bytes, help_heading = "Load")]
    size: usize,
    /// Stop after this many measured messages
    #[arg(long, value_name = "N", conflicts_with = "duration", help_heading = "Load")]
    messages: Option<u64>,
    /// How long to measure [default: 10s; soak: 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Load")]
    duration: Option<Duration>,
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
}

/// Who publishes, and how the server is told.
#[derive(Clone, Debug, Args)]
pub struct PublishArgs {
    /// Closed loop: publish the next burst when every receiver has the last one
    #[arg(long, conflicts_with = "rate", help_heading = "Load")]
    window: bool,
    /// Messages published together, in one write
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    burst: u32,
    /// Connections that publish, beside the receivers
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    publishers: u16,

    /// Who publishes: client (a connection that invokes a hub method). rest and server do not exist yet
    #[arg(long, value_enum, default_value = "client", help_heading = "Publishing")]
    via: ViaArg,
    /// SignalR: the hub method to invoke [default: Broadcast; group: SendToGroup; user: SendToUser; p2p: SendToConnection]
    #[arg(long, value_name = "METHOD", help_heading = "Publishing")]
    publish_method: Option<String>,
    /// SignalR: the client method that the server calls
    #[arg(long, value_name = "TARGET", default_value = "m", help_heading = "Publishing")]
    publish_target: String,
    /// SignalR: what the hub method is given, in order: to (group, user, connection), target, payload
    /// [default: target,payload; with a destination: to,target,payload]
    #[arg(long, value_name = "LIST", value_parser = ArgumentList::parse, help_heading = "Publishing")]
    arguments: Option<ArgumentList>,
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
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Slow readers")]
    stalled_rcvbuf: Option<usize>,
}

/// Spacing as the command line spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ArrivalArg {
    Even,
    Poisson,
}

/// Publishers as the command line spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ViaArg {
    Client,
    Rest,
    Server,
}

/// A parsed `--arguments`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ArgumentList(Vec<Argument>);

impl ArgumentList {
    fn parse(text: &str) -> Result<Self, String> {
        Argument::parse_list(text).map(Self)
    }
}

/// The hub method that publishes to a shape where nobody says otherwise: that of `fanfare dev` and `fanfare serve`.
pub fn default_method(shape: Shape) -> &'static str {
    match shape {
        Shape::All | Shape::Own => "Broadcast",
        Shape::Groups { .. } => "SendToGroup",
        Shape::Users { .. } => "SendToUser",
        Shape::Connections => "SendToConnection",
    }
}

/// What that method is given.
pub fn default_arguments(shape: Shape) -> Vec<Argument> {
    match shape {
        Shape::All | Shape::Own => vec![Argument::Target, Argument::Payload],
        _ => vec![Argument::To, Argument::Target, Argument::Payload],
    }
}

impl AmountArgs {
    /// A load whose messages nobody but the receivers themselves publish.
    pub(super) fn own_load(&self, common: &CommonArgs, entry: Entry, via: Via) -> Load {
        let pace = self.pace(f64::from(common.connections));
        self.load_of(common, Shape::Own, entry, via, pace, 1, 1)
    }

    fn pace(&self, rate: f64) -> Pace {
        let arrival = match self.arrival {
            ArrivalArg::Even => Arrival::Even,
            ArrivalArg::Poisson => Arrival::Poisson,
        };
        Pace::Open { messages_per_s: self.rate.unwrap_or(rate), arrival }
    }

    /// How long to measure; `otherwise` when the user does not say.
    pub(super) fn with_duration(mut self, otherwise: Duration) -> Self {
        self.duration = Some(self.duration(otherwise));
        self
    }

    fn duration(&self, otherwise: Duration) -> Duration {
        self.duration.unwrap_or(otherwise)
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers differ in all of them")]
    fn load_of(
        &self,
        common: &CommonArgs,
        shape: Shape,
        entry: Entry,
        via: Via,
        pace: Pace,
        burst: u32,
        publishers: u16,
    ) -> Load {
        let until = match self.messages {
            Some(messages) => Until::Messages(messages),
            None => Until::Elapsed { ns: self.duration(DURATION).as_nanos() as u64 },
        };
        // Destinations are put in when the plan is handed out: their number follows from the fleet.
        let (destinations, order, seed) = (1, Order::Random, common.seed());
        Load {
            shape,
            entry,
            publishers,
            size: Size::Fixed(self.size),
            plan: PlanOptions { pace, burst, publishers, destinations, order, steps: None, until, seed },
            warmup: self.warmup,
            drain: self.drain,
            deadline: self.deadline,
            via,
            stalled: Stalled::default(),
            soak_interval: None,
        }
    }
}

/// How long to measure when nobody says.
const DURATION: Duration = Duration::from_secs(10);

impl PublishArgs {
    pub(super) fn load(
        &self,
        common: &CommonArgs,
        amount: &AmountArgs,
        shape: Shape,
        entry: Entry,
    ) -> Result<Load, Failure> {
        if self.via != ViaArg::Client {
            let (name, what) =
                if self.via == ViaArg::Rest { ("rest", "the REST API") } else { ("server", "app-server connections") };
            return Err(Failure::usage(
                format!("{what} cannot be published through yet"),
                format!("--via {name}"),
                "use --via client: a connection that invokes a hub method",
            ));
        }
        let rate = if shape == Shape::Connections { f64::from(common.connections) } else { 50.0 };
        let pace = if self.window { Pace::Window } else { amount.pace(rate) };
        let via = self.via(common.dialect(), shape)?;
        let load = amount.load_of(common, shape, entry, via, pace, self.burst, self.publishers);
        let stalled =
            Stalled { connections: self.stalled, read_bytes_per_s: 0.0, receive_buffer_bytes: self.stalled_rcvbuf };
        Ok(Load { stalled, ..load })
    }

    fn via(&self, dialect: Dialect, shape: Shape) -> Result<Via, Failure> {
        if let Some(text) = &self.raw_publish_http {
            let url = Url::parse(text, "--raw-publish-http")?;
            let address = url.resolve("--raw-publish-http")?;
            return Ok(Via::HttpPost { url, address });
        }
        let plain = self.publish_prefix.is_some() || self.raw_binary || !dialect.is_signalr();
        if plain && self.publish_method.is_none() {
            let prefix = self.publish_prefix.clone().unwrap_or_default();
            return Ok(Via::Message { prefix, binary: self.raw_binary });
        }
        Ok(Via::Invocation {
            method: self.publish_method.clone().unwrap_or_else(|| default_method(shape).to_owned()),
            target: self.publish_target.clone(),
            arguments: self.arguments.clone().map_or_else(|| default_arguments(shape), |list| list.0),
        })
    }
}
