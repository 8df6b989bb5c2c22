//! The example server that the tests with real SignalR clients run against.
//!
//! `cargo run --release -p fanfare-engine --example testhub -- --listen 127.0.0.1:9000`
//!
//! One hub class, mapped on several endpoints with different limits, and a plain WebSocket echo. Prints one line with
//! `listening` once it serves; SIGTERM or SIGINT drains it. With `--tls` it also listens for clients that speak TLS, with
//! a certificate for `localhost` by an authority made at start, whose own certificate is written to `--ca-file`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use fanfare_engine::auth::Tokens;
use fanfare_engine::{
    Answer, Builder, EchoOptions, EndpointOptions, Engine, HandlerError, HubOptions, Limits, Transports,
};

#[path = "testhub/asks.rs"]
mod asks;
#[path = "testhub/bind.rs"]
mod bind;
#[path = "testhub/endpoints.rs"]
mod endpoints;
#[path = "testhub/methods.rs"]
mod methods;
#[path = "testhub/sends.rs"]
mod sends;
#[path = "testhub/signals.rs"]
mod signals;
#[path = "testhub/streams.rs"]
mod streams;
#[path = "testhub/tls.rs"]
mod tls;
#[path = "testhub/token.rs"]
mod token;

/// What every hub method gives back.
pub(crate) type Outcome = Result<Answer, HandlerError>;

const USAGE: &str = "usage: testhub --listen ADDRESS:PORT [--tls ADDRESS:PORT --ca-file FILE] [--shards N]";
/// The one hub behind all endpoints.
const HUB: &str = "testhub";
/// `/testhub-large`.
const LARGE_MESSAGE_BYTES_MAX: usize = 32 << 20;
/// `/ws-echo`.
const ECHO_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What `SendLargeString` may be asked for, framed.
const PUBLISH_BYTES_MAX: usize = 65 << 20;
/// What one client may owe: the largest echo, framed, and some.
const OUTBOX_BYTES_MAX: usize = 80 << 20;
/// Several of the largest answers at once.
const LOG_BYTES_MAX: usize = 512 << 20;
/// How long a client may leave what it is owed unread: SignalR's TransportSendTimeout.
const OUTBOX_AGE_MAX_MS: u32 = 10_000;
/// Asking oneself must end within 5 s, whatever the client does.
const CLIENT_RESULT_TIMEOUT_MS: u32 = 4_000;
/// SignalR's grace for closing all connections.
const DRAIN: Duration = Duration::from_secs(5);

struct Options {
    listen: SocketAddr,
    tls: Option<Secure>,
    shards: Option<usize>,
}

struct Secure {
    listen: SocketAddr,
    /// Written at start, for clients to trust.
    ca_file: String,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("testhub: {reason}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Before the shards start: their threads inherit the mask, so that the signal waits for this thread.
    let signals = match signals::Termination::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("testhub: SIGTERM and SIGINT cannot be held back: {error}");
            return ExitCode::FAILURE;
        }
    };
    let tokens = match token::tokens() {
        Ok(tokens) => tokens,
        Err(fault) => {
            eprintln!("testhub: its key for tokens cannot be used: {fault}");
            return ExitCode::FAILURE;
        }
    };
    let builder = match &options.tls {
        None => build(&options, &tokens),
        Some(secure) => match tls::certificates(&secure.ca_file) {
            Ok(certificates) => build(&options, &tokens).listen_tls(secure.listen).certificates(certificates),
            Err(reason) => {
                eprintln!("testhub: no TLS: {reason}");
                return ExitCode::FAILURE;
            }
        },
    };
    let mut engine = match builder.start() {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("testhub: {error}");
            return ExitCode::FAILURE;
        }
    };
    announce(engine.local_addrs(), options.tls.is_some());
    signals.wait();
    engine.drain(DRAIN);
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut listen = None;
    let (mut tls, mut ca_file) = (None, None);
    let mut shards = None;
    let address = |value: &str| value.parse().map_err(|_| format!("{value} is not an address and a port"));
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => listen = Some(address(&value)?),
            "--tls" => tls = Some(address(&value)?),
            "--ca-file" => ca_file = Some(value),
            "--shards" => shards = Some(value.parse().map_err(|_| format!("{value} is not a number of shards"))?),
            _ => return Err(format!("{name} is not an option")),
        }
    }
    let tls = match (tls, ca_file) {
        (Some(listen), Some(ca_file)) => Some(Secure { listen, ca_file }),
        (None, None) => None,
        _ => return Err("--tls and --ca-file go together".to_owned()),
    };
    Ok(Options { listen: listen.ok_or("--listen is missing")?, tls, shards })
}

/// What all endpoints of the hub have in common.
fn common() -> EndpointOptions {
    EndpointOptions {
        detailed_errors: true,
        keep_request: true,
        resumable: true,
        negotiate_headers: vec![(endpoints::NEGOTIATE_COOKIE.0.to_owned(), endpoints::NEGOTIATE_COOKIE.1.to_owned())],
        ..EndpointOptions::default()
    }
}

fn build(options: &Options, tokens: &Tokens) -> Builder {
    let fast = EndpointOptions {
        keep_alive_ms: 1_000,
        client_timeout_ms: 3_000,
        handshake_timeout_ms: 2_000,
        poll_timeout_ms: 2_000,
        ..common()
    };
    let limits = Limits {
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        outbox_age_max_ms: OUTBOX_AGE_MAX_MS,
        log_bytes_max: LOG_BYTES_MAX,
        publish_bytes_max: PUBLISH_BYTES_MAX,
        client_result_timeout_ms: CLIENT_RESULT_TIMEOUT_MS,
        ..Limits::default()
    };
    let echo = EchoOptions { message_bytes_max: ECHO_MESSAGE_BYTES_MAX, ..EchoOptions::default() };
    let mut builder = Engine::builder()
        .listen(options.listen)
        .limits(limits)
        .hub(HUB, HubOptions { endpoint: common() }, methods::TestHub)
        .endpoint("/testhub", HUB, common())
        .endpoint(
            "/testhub-nowebsockets",
            HUB,
            EndpointOptions { transports: Transports { websockets: false, ..Transports::default() }, ..common() },
        )
        .endpoint("/testhub-large", HUB, EndpointOptions { message_bytes_max: LARGE_MESSAGE_BYTES_MAX, ..common() })
        .endpoint("/testhub-fast", HUB, fast)
        .endpoint("/testhub-deflate", HUB, EndpointOptions { compression: true, ..common() })
        .endpoint("/authorizedhub", HUB, EndpointOptions { detailed_errors: false, ..common() })
        .echo("/ws-echo", echo)
        .echo("/ws-echo-deflate", EchoOptions { compression: true, ..echo })
        .authenticator("/authorizedhub", tokens.required())
        .http(endpoints::Endpoints);
    for open in ["/testhub", "/testhub-nowebsockets", "/testhub-large", "/testhub-fast", "/testhub-deflate"] {
        builder = builder.authenticator(open, token::Lenient(tokens.clone()));
    }
    match options.shards {
        Some(shards) => builder.shards(shards),
        None => builder,
    }
}

/// The line the tests wait for. The one with TLS comes first: whoever has read the last line knows that all listen.
fn announce(addresses: &[SocketAddr], with_tls: bool) {
    let mut out = std::io::stdout();
    for (at, address) in addresses.iter().enumerate().rev() {
        let scheme = if with_tls && at == 1 { "https" } else { "http" };
        // Whoever started this server may have closed its end: it serves all the same.
        let _ = writeln!(out, "testhub listening on {scheme}://{address}");
    }
    let _ = out.flush();
}
