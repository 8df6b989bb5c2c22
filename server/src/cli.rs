//! The command line: `fanfare <verb> [flags]`, what each verb takes, and how a mistake is answered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fanfare_engine::Network;
use fanfare_engine::limits::TIMEOUT_MS_MAX;

use crate::failure::{Code, Failure};
use crate::key_url::{self, KeyUrl};
use crate::units;

/// What a bare `fanfare` prints.
pub(crate) const WELCOME: &str = "\
fanfare: a self-hosted SignalR fan-out server

  try    fanfare dev                                     a throw-away server with a demo, on loopback
         fanfare listen --hub demo                       be a client, print what arrives
         fanfare send --hub demo --all greet '\"hello\"'   send to every client

  start  dev, serve
  use    listen, send
  measure bench: the load generator, for this server or any other
  help   help VERB, version

  fanfare help VERB explains one verb with examples.
";

/// Self-hosted SignalR fan-out server
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, disable_help_subcommand = false, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do; without one, a short guide is printed.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Shown by `fanfare help bench`.
const BENCH_EXAMPLES: &str = "\
Examples:
  fanfare bench self-check                                            what this machine can ask of a server
  fanfare bench broadcast --target http://localhost:8888/demo         does every message reach everybody, and when
  fanfare bench run chat --target http://localhost:8888/demo          a scenario; run --list has all
  fanfare bench search --slo 'last.p99<20ms' --target http://localhost:8888/demo

fanfare bench COMMAND --help has the flags. Exit status: 0 measured and met, 1 the server failed, 3 a scenario cannot be
understood, 6 a threshold was missed, 7 the generator was the bottleneck.";

/// Everything the binary can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a throw-away server with demo pages, on loopback only
    Dev(DevArgs),
    /// Start a server for real
    Serve(Box<ServeArgs>),
    /// Be a client of a hub and print what arrives
    Listen(ListenArgs),
    /// Send one message through a hub that lets clients publish
    Send(SendArgs),
    /// Measure a SignalR server: the load generator, as `fanfare-loadgen` has it
    #[command(after_long_help = BENCH_EXAMPLES)]
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: Box<fanfare_loadgen::cli::Command>,
    },
    /// Print the version
    Version(VersionArgs),
}

/// Arguments of `fanfare dev`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  fanfare dev                          hub `demo` at http://localhost:8888/demo, pages at http://localhost:8889/
  fanfare dev --port 9000 --hub chat   hub `chat` at http://localhost:9000/chat, pages at http://localhost:9001/

Clients may publish, and a client may name itself with ?user=NAME in the hub URL. Neither is meant for production:
see `fanfare help serve`.")]
pub(crate) struct DevArgs {
    /// Port for clients; the pages are on the next one. 0 takes free ports
    #[arg(long, default_value_t = 8888, value_name = "PORT")]
    pub port: u16,
    /// Hub to serve at /NAME; may be repeated
    #[arg(long = "hub", value_name = "NAME", default_value = "demo", value_parser = parse_hub_name)]
    pub hubs: Vec<String>,
    /// Threads that serve clients, each with its own ring [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=SHARDS_MAX))]
    pub shards: Option<u8>,
    /// Port for clients that speak TLS, on loopback as well; 0 takes a free one
    #[arg(long, value_name = "PORT", group = "tls", requires_all = ["tls_cert_files", "tls_key_files"])]
    pub tls_port: Option<u16>,
    /// What it proves this server's name with
    #[command(flatten)]
    pub tls_files: TlsFileArgs,
}

/// Largest number of shards one process takes, as in the engine.
const SHARDS_MAX: i64 = 64;

/// Arguments of `fanfare serve`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  fanfare serve --hub quotes --listen 0.0.0.0:8888
  fanfare serve --hub quotes --listen 0.0.0.0:8888 --cores 2-5 --connections-max 50000 --drain-period 30s
  fanfare serve --hub quotes --tls-listen 0.0.0.0:443 --tls-cert-file chain.pem --tls-key-file key.pem
  fanfare serve --hub quotes --jwks-file keys.json --audience https://push.example --issuer https://id.example

Signals: TERM tells every client to reconnect elsewhere, sends what is owed, then exits with 0. A second TERM, or INT,
stops at once and exits with 130. HUP has keys and certificates read again.")]
pub(crate) struct ServeArgs {
    /// Address for clients, as IP:PORT; may be repeated, up to 8 times, those with TLS included [default: 0.0.0.0:8888,
    /// or none with --tls-listen]
    #[arg(long, value_name = "ADDR", num_args = 1.., value_parser = parse_address)]
    pub listen: Vec<SocketAddr>,
    /// Addresses where clients speak TLS
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Address for health, metrics and the status page
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8889", value_parser = parse_address)]
    pub admin: SocketAddr,
    /// Hub to serve at /NAME; may be repeated
    #[arg(long = "hub", value_name = "NAME", num_args = 1.., default_value = "demo", value_parser = parse_hub_name)]
    pub hubs: Vec<String>,
    /// Threads that serve clients, each with its own ring [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=SHARDS_MAX))]
    pub shards: Option<u8>,
    /// Keep each shard on one core of this list (0-3,8), in turn
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub cores: Option<CoreList>,
    /// Keep each shard on one of the cores this process may use
    #[arg(long, conflicts_with = "cores")]
    pub pin: bool,
    /// May clients of a hub send to other clients of it
    #[arg(long, value_enum, default_value_t = Switch::Off, value_name = "on|off")]
    pub client_publish: Switch,
    /// What may carry clients, by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST",
          default_values_t = [Carrier::WebSockets, Carrier::ServerSentEvents, Carrier::LongPolling])]
    pub transports: Vec<Carrier>,
    /// Origin whose pages may come in, as `SCHEME://HOST[:PORT]`, beside those of the server's own host; may be repeated.
    /// `*` lets in everybody's
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = parse_origin)]
    pub allowed_origins: Vec<String>,
    /// May clients that ask for it resume a lost WebSocket
    #[arg(long, value_enum, default_value_t = Switch::On, value_name = "on|off")]
    pub stateful_reconnect: Switch,
    /// Client connections at once [default: what open files and memory allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_max: Option<u32>,
    /// Largest hub message a client may send, with framing; 0 = any
    #[arg(long, value_name = "SIZE", default_value = "32KiB", value_parser = units::parse_size_bytes)]
    pub message_size_max: usize,
    /// Between two pings to a client that hears nothing else; the clients' server time-out should be twice that
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_keep_alive)]
    pub keep_alive: Duration,
    /// Silence after which a client is given up; at least twice --keep-alive [default: 30s, or twice --keep-alive]
    #[arg(long, value_name = "TIME", value_parser = parse_client_timeout)]
    pub client_timeout: Option<Duration>,
    /// Are broadcasts compressed for WebSockets that offer permessage-deflate
    #[arg(long, value_enum, default_value_t = Switch::Off, value_name = "on|off")]
    pub compression: Switch,
    /// What may wait for one client before it counts as too slow [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size_bytes)]
    pub outbox_max: Option<usize>,
    /// What becomes of a client that is too slow
    #[arg(long, value_enum, default_value_t = SlowArg::Disconnect, value_name = "POLICY")]
    pub slow_policy: SlowArg,
    /// Messages that may wait for one client where the policy drops some [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub outbox_messages_max: Option<u32>,
    /// Time that a client may take nothing of what waits for it, before it is closed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_outbox_age)]
    pub outbox_age_max: Option<Duration>,
    /// What may wait for all clients together, beyond which the slowest lose first [default: any]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size_bytes)]
    pub outbox_total_max: Option<usize>,
    /// Time that clients get to leave after TERM
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub drain_period: Duration,
    /// How many may come in, and how much they may say
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Who may come in
    #[command(flatten)]
    pub auth: AuthArgs,
}

/// Arguments of `fanfare serve` about TLS.
#[derive(Args, Debug)]
pub(crate) struct TlsArgs {
    /// Address for clients that speak TLS, as IP:PORT; may be repeated
    #[arg(long = "tls-listen", value_name = "ADDR", num_args = 1.., value_parser = parse_address, group = "tls",
          requires_all = ["tls_cert_files", "tls_key_files"])]
    pub addresses: Vec<SocketAddr>,
    /// What they prove this server's name with
    #[command(flatten)]
    pub files: TlsFileArgs,
}

/// Arguments about what a server that speaks TLS proves its name with.
#[derive(Args, Debug)]
pub(crate) struct TlsFileArgs {
    /// File with a certificate chain in PEM, the server's own first; may be repeated: a client gets the first one that is
    /// good for the name it asks for, or the first of all
    #[arg(long = "tls-cert-file", id = "tls_cert_files", value_name = "FILE", requires = "tls")]
    pub cert_files: Vec<PathBuf>,
    /// File with the private key of the certificate in the same place, in PEM
    #[arg(long = "tls-key-file", id = "tls_key_files", value_name = "FILE", requires = "tls")]
    pub key_files: Vec<PathBuf>,
}

/// Arguments of `fanfare serve` about how many come in and how much they say.
#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// New connections a second, all shards together; a second's worth may come at once [default: any]
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub connect_rate: Option<u32>,
    /// Negotiates a second, likewise [default: any]
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub negotiate_rate: Option<u32>,
    /// Connections that have not shaken hands yet; 0 = any [default: 10000]
    #[arg(long, value_name = "N")]
    pub handshakes_max: Option<u32>,
    /// Connections of one user, over all hubs [default: any]
    #[arg(long, value_name = "N")]
    pub connections_per_user: Option<u32>,
    /// Connections from one address, or one IPv6 network of 64 bits [default: any]
    #[arg(long, value_name = "N")]
    pub connections_per_address: Option<u32>,
    /// Proxy, or network of proxies, whose X-Forwarded-For tells the client's address; may be repeated
    #[arg(long = "trust-proxy", value_name = "NETWORK", requires = "connections_per_address")]
    pub trusted_proxies: Vec<Network>,
    /// Messages that one client may send a second; two seconds' worth may come at once [default: any]
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub uplink_messages: Option<u32>,
    /// Bytes, likewise, as 64KiB/s [default: any]
    #[arg(long, value_name = "RATE", value_parser = units::parse_byte_rate)]
    pub uplink_bytes: Option<usize>,
    /// What is done about a client that sends more: let it wait, or close it for good
    #[arg(long, value_enum, default_value_t = Over::Wait, value_name = "wait|close")]
    pub uplink_over: Over,
    /// Time that a client's message may take from its first byte to its last; 0s = any [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_message_timeout)]
    pub message_timeout: Option<Duration>,
}

/// What is done about a client that sends more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Over {
    /// It is not read from for a while.
    Wait,
    /// It is closed.
    Close,
}

/// Arguments of `fanfare serve` about tokens of clients. Without keys everybody may come in, as nobody in particular.
#[derive(Args, Debug)]
pub(crate) struct AuthArgs {
    /// File with a secret that signs clients' tokens (HS256); may be repeated. Clients need a token then
    #[arg(long = "auth-key-file", value_name = "FILE")]
    pub key_files: Vec<PathBuf>,
    /// What the secrets in --auth-key-file sign with
    #[arg(long = "auth-key-alg", value_enum, value_name = "ALG", requires = "key_files", ignore_case = true)]
    pub key_algorithm: Option<SecretAlgorithm>,
    /// File with a JWK set whose keys sign clients' tokens (RS256, ES256). Clients need a token then
    #[arg(long, value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,
    /// URL of a JWK set, as an identity provider publishes it (https://, or http:// on this machine). Clients need a token
    /// then
    #[arg(long, value_name = "URL", value_parser = KeyUrl::parse)]
    pub jwks_url: Option<KeyUrl>,
    /// How often that URL is asked again; sooner if a token names a key that is not there [default: 5m]
    #[arg(long, value_name = "TIME", requires = "jwks_url", value_parser = parse_jwks_refresh)]
    pub jwks_refresh: Option<Duration>,
    /// Whom tokens must be for (`aud`); may be repeated. `*` takes any
    #[arg(long = "audience", value_name = "NAME", value_parser = parse_name)]
    pub audiences: Vec<String>,
    /// Whom tokens must be from (`iss`); may be repeated [default: whoever has a key]
    #[arg(long = "issuer", value_name = "NAME", value_parser = parse_name)]
    pub issuers: Vec<String>,
    /// Claim with the user id; may be repeated, the first that a token has counts [default: sub]
    #[arg(long = "user-from", value_name = "CLAIM", value_parser = parse_name)]
    pub user_from: Vec<String>,
    /// How far the clocks of issuers may be off [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_clock_skew)]
    pub clock_skew: Option<Duration>,
    /// May clients without a token come in, as nobody in particular [default: off]
    #[arg(long, value_enum, value_name = "on|off")]
    pub anonymous: Option<Switch>,
    /// Hub that clients without a token may come to; may be repeated
    #[arg(long = "anonymous-hub", value_name = "NAME", conflicts_with = "anonymous", value_parser = parse_hub_name)]
    pub anonymous_hubs: Vec<String>,
    /// Does a connection end when its token expires [default: off]
    #[arg(long, value_enum, value_name = "on|off")]
    pub close_on_expiry: Option<Switch>,
}

/// What may carry a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// WebSockets.
    WebSockets,
    /// Server-sent events, and POSTs.
    ServerSentEvents,
    /// Long polling, and POSTs.
    LongPolling,
}

/// What becomes of clients that are too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SlowArg {
    /// They are closed.
    Disconnect,
    /// Their oldest calls make room for new ones.
    DropOldest,
    /// Only the newest call of each client method waits for them.
    KeepLatest,
}

/// Algorithms of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretAlgorithm {
    /// HMAC with SHA-256.
    #[value(name = "HS256")]
    Hs256,
    /// HMAC with SHA-384.
    #[value(name = "HS384")]
    Hs384,
    /// HMAC with SHA-512.
    #[value(name = "HS512")]
    Hs512,
}

/// Arguments of `fanfare listen`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  fanfare listen --hub demo
  fanfare listen --hub demo --group red --group blue --on greet
  fanfare listen --hub demo --protocol messagepack --frames

Prints one line for each message: the target, then each argument as JSON. Ends with Ctrl-C (exit 130), after --count
messages (exit 0), or when the hub ends the connection (exit 1).")]
pub(crate) struct ListenArgs {
    /// Where the server is
    #[command(flatten)]
    pub hub: HubArgs,
    /// Group to join first; may be repeated
    #[arg(long = "group", value_name = "NAME")]
    pub groups: Vec<String>,
    /// Name to appear under, where the server takes it (`fanfare dev` does)
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// How hub messages are written
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub protocol: Protocol,
    /// Print only messages for this target; may be repeated
    #[arg(long = "on", value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Also print every frame as it went over the wire
    #[arg(long)]
    pub frames: bool,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// Arguments of `fanfare send`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  fanfare send --hub demo --all greet '\"hello\"' '{\"n\":1}'
  fanfare send --hub demo --group red greet '\"only red\"'
  fanfare send --hub demo --connection f3kQhZ1nQm2Y8v0aXb7cDw greet 42

Each ARG is one JSON value; mind the inner quotes of a text. The hub must let clients publish: `fanfare dev` does,
`fanfare serve` does with --client-publish on.")]
pub(crate) struct SendArgs {
    /// Where the server is
    #[command(flatten)]
    pub hub: HubArgs,
    /// Who receives it
    #[command(flatten)]
    pub to: RecipientArgs,
    /// Name of the handler that clients registered
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// One JSON value for each argument of the handler
    #[arg(value_name = "ARG", allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Exactly one of four kinds of recipient.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct RecipientArgs {
    /// Every client of the hub
    #[arg(long)]
    pub all: bool,
    /// The members of a group
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Every connection of a user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// One connection
    #[arg(long, value_name = "ID")]
    pub connection: Option<String>,
}

/// Which hub of which server.
#[derive(Args, Debug)]
pub(crate) struct HubArgs {
    /// The server's address
    #[arg(long, value_name = "URL", default_value = "http://localhost:8888")]
    pub url: String,
    /// The hub, served at URL/NAME
    #[arg(long, value_name = "NAME", default_value = "demo", value_parser = parse_hub_name)]
    pub hub: String,
    /// File with a bearer token for the server. On the command line others could read it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Arguments of `fanfare version`.
#[derive(Args, Debug)]
pub(crate) struct VersionArgs {
    /// Also the compiler, the machine and the kernel
    #[arg(long, short)]
    pub verbose: bool,
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Allowed.
    On,
    /// Refused.
    Off,
}

/// The two ways hub messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Text.
    Json,
    /// Binary.
    #[value(name = "messagepack", alias = "msgpack")]
    MessagePack,
}

/// A list of cores as one value of one flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(pub Vec<usize>);

fn parse_cores(text: &str) -> Result<CoreList, String> {
    units::parse_cores(text).map(CoreList)
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let hint = || "accepted: IP:PORT, as 127.0.0.1:8888, 0.0.0.0:8888 or [::]:8888".to_owned();
    if let Some(port) = text.strip_prefix("localhost:") {
        return format!("127.0.0.1:{port}").parse().map_err(|_| hint());
    }
    text.parse().map_err(|_| hint())
}

/// A name in a token; an empty one is a variable of a script that was not set.
fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("accepted: any text but the empty one".to_owned()) } else { Ok(text.to_owned()) }
}

fn parse_outbox_age(text: &str) -> Result<Duration, String> {
    let age = units::parse_duration(text)?;
    let fits = age >= Duration::from_secs(1) && age.as_millis() <= u128::from(TIMEOUT_MS_MAX);
    if fits { Ok(age) } else { Err("accepted: 1s to 50m".to_owned()) }
}

fn parse_keep_alive(text: &str) -> Result<Duration, String> {
    let period = units::parse_duration(text)?;
    let fits = period >= Duration::from_secs(1) && period.as_millis() * 2 <= u128::from(TIMEOUT_MS_MAX);
    if fits { Ok(period) } else { Err("accepted: 1s to 25m".to_owned()) }
}

fn parse_client_timeout(text: &str) -> Result<Duration, String> {
    let timeout = units::parse_duration(text)?;
    let fits = timeout >= Duration::from_secs(2) && timeout.as_millis() <= u128::from(TIMEOUT_MS_MAX);
    if fits { Ok(timeout) } else { Err("accepted: 2s to 50m".to_owned()) }
}

/// The engine counts these in ticks, of which it has so many.
fn parse_message_timeout(text: &str) -> Result<Duration, String> {
    let timeout = units::parse_duration(text)?;
    if timeout.as_millis() > u128::from(TIMEOUT_MS_MAX) { Err("longer than 50m".to_owned()) } else { Ok(timeout) }
}

fn parse_jwks_refresh(text: &str) -> Result<Duration, String> {
    let period = units::parse_duration(text)?;
    if period < key_url::REFRESH_PERIOD_MIN {
        return Err(format!("shorter than {}s", key_url::REFRESH_PERIOD_MIN.as_secs()));
    }
    Ok(period)
}

fn parse_clock_skew(text: &str) -> Result<Duration, String> {
    /// A clock that is further off is broken, and every token that is stolen is good for so much longer.
    const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);
    let skew = units::parse_duration(text)?;
    if skew > CLOCK_SKEW_MAX { Err("longer than 5m".to_owned()) } else { Ok(skew) }
}

/// Hub names become a path segment, a metrics label and a log field; so they stay plain.
fn parse_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(sound) {
        return Err("an origin is http://HOST[:PORT] or https://HOST[:PORT], without a path, or *".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_hub_name(text: &str) -> Result<String, String> {
    const NAME_BYTES_MAX: usize = 128;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !plain || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || text.len() > NAME_BYTES_MAX {
        return Err(format!("accepted: up to {NAME_BYTES_MAX} letters, digits, - _ and ., a letter or digit first"));
    }
    if RESERVED_PATHS.contains(&text) {
        return Err(format!("`/{text}` on the public listener is taken by this server"));
    }
    Ok(text.to_owned())
}

/// First path segments of the public listener that no hub may take.
const RESERVED_PATHS: [&str; 3] = ["health", "api", "client"];

/// The hubs of one server, each named once.
///
/// # Errors
/// `FF1006` when a name is given twice.
pub(crate) fn distinct(hubs: &[String]) -> Result<Vec<String>, Failure> {
    let twice = hubs.iter().enumerate().find(|(index, name)| hubs[..*index].contains(name));
    match twice {
        Some((_, name)) => Err(Failure::new(Code::Conflict, format!("`--hub {name}` is given twice"))),
        None => Ok(hubs.to_vec()),
    }
}

/// What came of reading the command line.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Do this.
    Verb(Verb),
    /// Print this on standard output and be done.
    Text(String),
}

/// Reads the command line.
///
/// # Errors
/// A [`Failure`] of the `FF1xxx` family that names what was given and what would be accepted.
pub(crate) fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Parsed, Failure> {
    match Cli::try_parse_from(arguments) {
        Ok(Cli { verb: Some(verb) }) => Ok(Parsed::Verb(verb)),
        Ok(Cli { verb: None }) => Ok(Parsed::Text(WELCOME.to_owned())),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Text(error.render().to_string())),
            _ => Err(explain(&error)),
        },
    }
}

/// Turns clap's error into ours, fact by fact.
fn explain(error: &clap::Error) -> Failure {
    let get = |kind| error.get(kind).map(context_text);
    let argument = get(ContextKind::InvalidArg).unwrap_or_default();
    let given = get(ContextKind::InvalidValue);
    let mut failure = match error.kind() {
        ErrorKind::UnknownArgument => Failure::new(Code::UnknownFlag, format!("unknown flag `{argument}`")),
        ErrorKind::InvalidSubcommand => {
            let verb = get(ContextKind::InvalidSubcommand).unwrap_or_default();
            Failure::new(Code::UnknownVerb, format!("unknown verb `{verb}`"))
        }
        ErrorKind::InvalidValue if given.as_deref().is_some_and(str::is_empty) => {
            Failure::new(Code::Missing, format!("`{argument}` needs a value"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            let failure = Failure::new(Code::BadValue, format!("bad value for `{argument}`"));
            // Some write a password into a URL, or a key behind its question mark.
            if argument.starts_with("--jwks-url") { failure } else { failure.fact("given", given.unwrap_or_default()) }
        }
        ErrorKind::MissingRequiredArgument => Failure::new(Code::Missing, format!("missing: {argument}")),
        ErrorKind::ArgumentConflict => {
            let other = get(ContextKind::PriorArg).unwrap_or_default();
            Failure::new(Code::Conflict, format!("`{argument}` and `{other}` exclude each other"))
        }
        _ => Failure::new(Code::UnknownFlag, first_line(&error.to_string())),
    };
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.fact("why", source.to_string());
    }
    if let Some(values) = get(ContextKind::ValidValue) {
        failure = failure.fact("accepted", values);
    }
    for suggestion in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        if let Some(near) = get(suggestion) {
            failure = failure.fix(format!("did you mean `{near}`?"));
        }
    }
    failure.fact("help", "fanfare help VERB")
}

/// A context value of clap as one readable text.
fn context_text(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(many) => many.join(" "),
        ContextValue::String(one) => one.clone(),
        ContextValue::StyledStr(one) => one.to_string(),
        ContextValue::StyledStrs(many) => many.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Parsed, Failure> {
        parse(line.split_whitespace().map(Into::into))
    }

    fn refused(line: &str) -> String {
        match read(line) {
            Err(failure) => failure.to_string(),
            Ok(parsed) => panic!("`{line}` was accepted: {parsed:?}"),
        }
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bare_call_prints_a_short_guide() {
        let Ok(Parsed::Text(text)) = read("fanfare") else { panic!("not a text") };
        assert!(text.lines().count() <= 13, "{text}");
        assert!(text.contains("fanfare dev"));
    }

    #[test]
    fn serve_takes_lists_units_and_switches() {
        let line = "fanfare serve --listen 127.0.0.1:1 --listen [::1]:2 --hub a --hub b --shards 2 --cores 0-1 \
                    --client-publish on --drain-period 250ms --message-size-max 1MiB --compression on \
                    --connect-rate 500/s --connections-per-address 5 --trust-proxy 10.0.0.0/8 --uplink-bytes 64KiB/s";
        let Ok(Parsed::Verb(Verb::Serve(serve))) = read(line) else { panic!("not serve") };
        assert_eq!(serve.listen.len(), 2);
        assert_eq!(serve.hubs, ["a", "b"]);
        assert_eq!(serve.cores, Some(CoreList(vec![0, 1])));
        assert_eq!(serve.client_publish, Switch::On);
        assert_eq!(serve.drain_period, Duration::from_millis(250));
        assert_eq!(serve.message_size_max, 1 << 20);
        assert_eq!(serve.compression, Switch::On);
        assert_eq!(serve.limits.connect_rate, Some(500));
        assert_eq!(serve.limits.uplink_bytes, Some(65_536));
        assert_eq!(serve.limits.trusted_proxies.len(), 1);
    }

    #[test]
    fn dev_has_no_way_to_listen_beyond_loopback() {
        assert!(refused("fanfare dev --listen 0.0.0.0:80").contains("FF1001  unknown flag `--listen`"));
    }

    #[test]
    fn mistakes_name_place_cause_and_remedy() {
        let text = refused("fanfare serve --drain-period 10");
        assert!(text.starts_with("error FF1002  bad value for `--drain-period <TIME>`"), "{text}");
        assert!(text.contains("given  10") && text.contains("needs a unit"), "{text}");

        let text = refused("fanfare serve --drain-perid 10s");
        assert!(text.starts_with("error FF1001  unknown flag `--drain-perid`"), "{text}");
        assert!(text.contains("did you mean `--drain-period`?"), "{text}");

        let text = refused("fanfare sevre");
        assert!(text.contains("FF1005  unknown verb `sevre`") && text.contains("`serve`"), "{text}");

        let text = refused("fanfare serve --client-publish maybe");
        assert!(text.contains("FF1002") && text.contains("on off"), "{text}");

        let text = refused("fanfare serve --pin --cores 0");
        assert!(text.contains("FF1006") && text.contains("exclude each other"), "{text}");

        let text = refused("fanfare send --hub demo greet");
        assert!(text.contains("FF1004  missing") && text.contains("--all"), "{text}");

        let text = refused("fanfare send --hub demo --all --group g greet");
        assert!(text.contains("FF1006"), "{text}");

        let text = refused("fanfare dev --hub /etc");
        assert!(text.contains("FF1002") && text.contains("letter or digit first"), "{text}");

        let text = refused("fanfare dev --hub health");
        assert!(text.contains("is taken by this server"), "{text}");

        let text = refused("fanfare dev --shards 0");
        assert!(text.contains("FF1002") && text.contains("1..=64"), "{text}");

        let text = refused("fanfare serve --connect-rate 500");
        assert!(text.contains("FF1002") && text.contains("500/s"), "{text}");

        let text = refused("fanfare serve --listen nowhere");
        assert!(text.contains("FF1002") && text.contains("127.0.0.1:8888"), "{text}");
    }

    #[test]
    fn every_verb_has_long_help_with_an_example() {
        for verb in ["dev", "serve", "listen", "send"] {
            let Ok(Parsed::Text(text)) = read(&format!("fanfare help {verb}")) else { panic!("no help for {verb}") };
            assert!(text.contains(&format!("fanfare {verb}")) && text.contains("Examples:"), "{text}");
        }
    }
}
