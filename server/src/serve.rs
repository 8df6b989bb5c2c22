//! `fanfare serve`: a server for real, which speaks to its log.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fanfare_engine::auth::{Algorithm, Audience, ClaimPath, TokenRules};
use fanfare_engine::{CoreSet, Origins, Transports};

use crate::cli::{AuthArgs, Carrier, SecretAlgorithm, ServeArgs, Switch, distinct};
use crate::control::rt::Sender;
use crate::failure::{Code, Failure};
use crate::keyring::{Anonymous, KeyFiles, TokenSettings};
use crate::life::{self, End, Wish};
use crate::node::{Node, Settings, hub_path};
use crate::units::{grouped, human_duration};

/// Runs the verb; `started` is when the process did.
pub(crate) fn run(args: &ServeArgs, started: Instant) -> Result<ExitCode, Failure> {
    let cores = match &args.cores {
        Some(list) => CoreSet::List(list.0.clone()),
        None if args.pin => CoreSet::Pinned,
        None => CoreSet::Any,
    };
    let settings = Settings {
        listen: args.listen.clone(),
        admin: args.admin,
        hubs: distinct(&args.hubs)?,
        shards: args.shards,
        cores,
        client_publish: args.client_publish == Switch::On,
        transports: Transports {
            websockets: args.transports.contains(&Carrier::WebSockets),
            server_sent_events: args.transports.contains(&Carrier::ServerSentEvents),
            long_polling: args.transports.contains(&Carrier::LongPolling),
        },
        origins: origins(&args.allowed_origins),
        resumable: args.stateful_reconnect == Switch::On,
        user_by_query: false,
        demo: false,
        connections_max: args.connections_max,
        message_bytes_max: args.message_size_max,
        compression: args.compression == Switch::On,
        outbox_bytes_max: args.outbox_max,
        drain_period: args.drain_period,
        tokens: token_settings(&args.auth, &args.hubs)?,
    };
    life::run(settings, &mut Serve { started }).map(End::exit_code)
}

fn origins(allowed: &[String]) -> Origins {
    if allowed.iter().any(|origin| origin == "*") {
        Origins::Any
    } else if allowed.is_empty() {
        Origins::SameHost
    } else {
        Origins::Listed(allowed.to_vec())
    }
}

/// What the flags about tokens come to. `None`: everybody may come in.
///
/// # Errors
/// Flags that mean nothing without others, and keys without a word on whom tokens are for.
fn token_settings(args: &AuthArgs, hubs: &[String]) -> Result<Option<TokenSettings>, Failure> {
    if args.key_files.is_empty() && args.jwks_file.is_none() {
        let given = [
            ("--audience", !args.audiences.is_empty()),
            ("--issuer", !args.issuers.is_empty()),
            ("--user-from", !args.user_from.is_empty()),
            ("--clock-skew", args.clock_skew.is_some()),
            ("--anonymous", args.anonymous.is_some()),
            ("--anonymous-hub", !args.anonymous_hubs.is_empty()),
            ("--close-on-expiry", args.close_on_expiry.is_some()),
        ];
        return match given.iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => Err(Failure::new(Code::Missing, format!("`{flag}` needs keys to judge tokens by"))
                .fix("add --jwks-file FILE or --auth-key-file FILE; without keys everybody may come in")),
        };
    }
    if args.audiences.is_empty() {
        return Err(Failure::new(Code::Missing, "missing: --audience <NAME>")
            .fact("why", "a key may sign for others as well; their tokens must not be good here")
            .fix(
                "--audience with what your tokens have in `aud`, or --audience '*' if the keys sign for nobody else",
            ));
    }
    if let Some(unknown) = args.anonymous_hubs.iter().find(|name| !hubs.contains(name)) {
        return Err(Failure::new(Code::BadValue, "bad value for `--anonymous-hub <NAME>`")
            .fact("given", unknown)
            .fact("accepted", hubs.join(" ")));
    }
    let audience = if args.audiences.iter().any(|name| name == "*") {
        Audience::Any
    } else {
        Audience::OneOf(args.audiences.clone())
    };
    let mut rules = TokenRules { audience, issuers: args.issuers.clone(), ..TokenRules::default() };
    if !args.user_from.is_empty() {
        rules.user_from = args.user_from.iter().map(|claim| ClaimPath::new(claim)).collect();
    }
    rules.clock_skew = args.clock_skew.unwrap_or(rules.clock_skew);
    let algorithm = match args.key_algorithm {
        None | Some(SecretAlgorithm::Hs256) => Algorithm::Hs256,
        Some(SecretAlgorithm::Hs384) => Algorithm::Hs384,
        Some(SecretAlgorithm::Hs512) => Algorithm::Hs512,
    };
    let anonymous = match args.anonymous {
        Some(Switch::On) => Anonymous::Everywhere,
        _ => Anonymous::At(args.anonymous_hubs.clone()),
    };
    Ok(Some(TokenSettings {
        files: KeyFiles { secrets: args.key_files.clone(), algorithm, jwks: args.jwks_file.clone() },
        rules,
        anonymous,
        close_on_expiry: args.close_on_expiry == Some(Switch::On),
    }))
}

struct Serve {
    started: Instant,
}

impl life::Verb for Serve {
    fn ready(&mut self, node: &Node, admin: SocketAddr, _: &Sender<Wish>) {
        let settings = node.settings();
        log(&format!("fanfare {}", env!("CARGO_PKG_VERSION")));
        log(&node.plan().to_string());
        let publish = if settings.client_publish { "clients may publish" } else { "clients may not publish" };
        if let Some(keys) = node.keys_summary() {
            log(&format!("keys  {keys}"));
        }
        for hub in &settings.hubs {
            let who = match &settings.tokens {
                Some(tokens) if tokens.anonymous.at(hub) => "a token names its user",
                Some(_) => "needs a token",
                None => "open to everybody",
            };
            log(&format!("hub   {hub} at {} · {publish} · {who}", hub_path(hub)));
        }
        for address in node.addresses() {
            log(&format!("listening on http://{address}"));
        }
        log(&format!("pages on http://{admin}/ · health /health · metrics /metrics"));
        log(&format!("ready in {}", human_duration(self.started.elapsed())));
    }

    fn draining(&mut self, node: &Node) {
        let connections = grouped(node.connections() as u64);
        let period = human_duration(node.settings().drain_period);
        log(&format!("draining {connections} connections, at most {period}; TERM or INT again stops at once"));
    }

    fn stopped(&mut self, node: &Node, end: End, ending: Duration) {
        let total = node.metrics().total();
        let how = match end {
            End::Drained => "drained",
            End::Interrupted | End::Quit => "stopped without farewell",
        };
        log(&format!(
            "{how} in {} · {} connections served · {} messages in, {} out · {} not delivered",
            human_duration(ending),
            grouped(total.opened_total),
            grouped(total.messages_received_total),
            grouped(total.deliveries_total + total.private_messages_total),
            grouped(total.dropped_slow_total + total.dropped_closed_total + total.notes_lost_total),
        ));
    }
}

/// The log of a server is its standard error.
fn log(text: &str) {
    eprintln!("{text}");
}
