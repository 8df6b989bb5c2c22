//! `fanfare serve`: a server for real, which speaks to its log.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fanfare_engine::auth::{Algorithm, Audience, ClaimPath, TokenRules};
use fanfare_engine::{CoreSet, Limits, Origins, SlowPolicy, Transports, UplinkOver};

use crate::cli::{AuthArgs, Carrier, LimitArgs, Over, SecretAlgorithm, ServeArgs, SlowArg, Switch, distinct};
use crate::control::rt::Sender;
use crate::failure::{Code, Failure};
use crate::key_url::REFRESH_PERIOD;
use crate::keyring::{Anonymous, KeyFiles, TokenSettings};
use crate::life::{self, End, Wish};
use crate::node::{Node, Settings, hub_path, not_delivered};
use crate::output::log;
use crate::tls_files::{self, TlsFiles};
use crate::units::{grouped, human_duration};

/// Runs the verb; `started` is when the process did.
pub(crate) fn run(args: &ServeArgs, started: Instant) -> Result<ExitCode, Failure> {
    let cores = match &args.cores {
        Some(list) => CoreSet::List(list.0.clone()),
        None if args.pin => CoreSet::Pinned,
        None => CoreSet::Any,
    };
    let settings = Settings {
        listen: plain_addresses(args),
        tls_listen: args.tls.addresses.clone(),
        tls_files: TlsFiles::named(&args.tls.files)?,
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
        limits: limits(args),
        message_bytes_max: args.message_size_max,
        keep_alive: args.keep_alive,
        client_timeout: client_timeout(args)?,
        compression: args.compression == Switch::On,
        slow_policy: match args.slow_policy {
            SlowArg::Disconnect => SlowPolicy::Disconnect,
            SlowArg::DropOldest => SlowPolicy::DropOldest,
            SlowArg::KeepLatest => SlowPolicy::KeepLatest,
        },
        logs_losses: true,
        drain_period: args.drain_period,
        tokens: token_settings(&args.auth, &args.hubs)?,
    };
    life::run(settings, &mut Serve { started }).map(End::exit_code)
}

/// What silence of a client is too much, if no flag says so: twice the keep-alive, and no less than usual.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// # Errors
/// A client that pings as seldom as the server does must be able to miss one.
fn client_timeout(args: &ServeArgs) -> Result<Duration, Failure> {
    let least = args.keep_alive * 2;
    let timeout = args.client_timeout.unwrap_or(least.max(CLIENT_TIMEOUT));
    if timeout >= least {
        return Ok(timeout);
    }
    let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
    Err(Failure::new(Code::BadValue, "bad value for `--client-timeout <TIME>`")
        .fact("given", seconds(timeout))
        .fact("accepted", format!("{} and more: twice --keep-alive", seconds(least)))
        .fix("raise --client-timeout, or lower --keep-alive"))
}

/// Port for clients where no address is given.
const PORT: u16 = 8888;

fn plain_addresses(args: &ServeArgs) -> Vec<SocketAddr> {
    if args.listen.is_empty() && args.tls.addresses.is_empty() {
        return vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))];
    }
    args.listen.clone()
}

/// The engine's limits, where a flag does not say otherwise.
fn limits(args: &ServeArgs) -> Limits {
    let default = Limits::default();
    let LimitArgs {
        connect_rate,
        negotiate_rate,
        handshakes_max,
        connections_per_user,
        connections_per_address,
        ref trusted_proxies,
        uplink_messages,
        uplink_bytes,
        uplink_over,
        message_timeout,
    } = args.limits;
    Limits {
        connections_max: args.connections_max.map_or(default.connections_max, |max| max as usize),
        outbox_bytes_max: args.outbox_max.unwrap_or(default.outbox_bytes_max),
        outbox_messages_max: args.outbox_messages_max.map_or(default.outbox_messages_max, |n| n as usize),
        // The flags' parsers have seen to it that times fit.
        outbox_age_max_ms: args.outbox_age_max.map_or(default.outbox_age_max_ms, |age| age.as_millis() as u32),
        outbox_total_bytes_max: args.outbox_total_max.unwrap_or(default.outbox_total_bytes_max),
        connect_rate: connect_rate.unwrap_or(default.connect_rate),
        negotiate_rate: negotiate_rate.unwrap_or(default.negotiate_rate),
        handshakes_pending_max: handshakes_max.map_or(default.handshakes_pending_max, |max| max as usize),
        connections_per_user_max: connections_per_user.unwrap_or(default.connections_per_user_max),
        connections_per_address_max: connections_per_address.unwrap_or(default.connections_per_address_max),
        trusted_proxies: trusted_proxies.clone(),
        uplink_messages_rate: uplink_messages.unwrap_or(default.uplink_messages_rate),
        uplink_bytes_rate: uplink_bytes.unwrap_or(default.uplink_bytes_rate),
        uplink_over: match uplink_over {
            Over::Wait => UplinkOver::Wait,
            Over::Close => UplinkOver::Close,
        },
        message_timeout_ms: message_timeout.map_or(default.message_timeout_ms, |timeout| timeout.as_millis() as u32),
        ..default
    }
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
    if args.key_files.is_empty() && args.jwks_file.is_none() && args.jwks_url.is_none() {
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
            Some((flag, _)) => Err(Failure::new(Code::Missing, format!("`{flag}` needs keys to judge tokens by")).fix(
                "add --jwks-url URL, --jwks-file FILE or --auth-key-file FILE; without keys everybody may come in",
            )),
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
        url: args.jwks_url.clone().map(|url| (url, args.jwks_refresh.unwrap_or(REFRESH_PERIOD))),
        rules,
        anonymous,
        close_on_expiry: args.close_on_expiry == Some(Switch::On),
    }))
}

/// What becomes of slow clients, if it is not the ordinary.
fn slow_summary(policy: SlowPolicy, limits: &Limits) -> Option<String> {
    let messages = format!("{} from {} messages a client", policy.as_str(), grouped(limits.outbox_messages_max as u64));
    let total = format!("at most {} MiB for all clients", limits.outbox_total_bytes_max.div_ceil(1 << 20));
    match (policy, limits.outbox_total_bytes_max) {
        (SlowPolicy::Disconnect, 0) => None,
        (SlowPolicy::Disconnect, _) => Some(format!("{} · {total}", policy.as_str())),
        (_, 0) => Some(messages),
        _ => Some(format!("{messages} · {total}")),
    }
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
        if let Some(text) = slow_summary(settings.slow_policy, &node.plan().limits) {
            log(&format!("slow  {text}"));
        }
        for hub in &settings.hubs {
            let who = match &settings.tokens {
                Some(tokens) if tokens.anonymous.at(hub) => "a token names its user",
                Some(_) => "needs a token",
                None => "open to everybody",
            };
            log(&format!("hub   {hub} at {} · {publish} · {who}", hub_path(hub)));
        }
        if let Some(certificates) = node.certificates() {
            log(&format!("tls   {}", tls_files::summary(&settings.tls_files, certificates)));
            tls_files::warn_if_ending(certificates);
        }
        for address in node.addresses() {
            log(&format!("listening on http://{address}"));
        }
        for address in node.tls_addresses() {
            log(&format!("listening on https://{address}"));
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
            grouped(not_delivered(&total)),
        ));
    }
}
