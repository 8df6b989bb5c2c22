//! Connection strings as targets, against a real engine that lets in nobody without a good token.

#[path = "hub/methods.rs"]
mod methods;

use clap::Parser;
use fanfare_engine::auth::{Algorithm, Audience, ClaimPath, Key, KeySet, TokenRules, Tokens};
use fanfare_engine::{EndpointOptions, Engine, HubOptions};
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::{Exit, Failure};
use fanfare_loadgen::report::Report;
use methods::Methods;
use std::net::SocketAddr;

const KEY: &str = "a key of the tests that is long enough";

/// Where a service of connection strings has its clients: `/client/?hub=hub`, for those with a token only.
struct Service {
    address: SocketAddr,
    _engine: Engine,
}

impl Service {
    fn start() -> Self {
        let keys = KeySet::new(vec![Key::secret(Algorithm::Hs256, KEY.as_bytes()).expect("long enough")]);
        let rules = TokenRules {
            audience: Audience::OneOf(vec!["http://127.0.0.1/client/?hub=hub".to_owned()]),
            user_from: vec![ClaimPath::new("nameid")],
            ..TokenRules::default()
        };
        let engine = Engine::builder()
            .listen("127.0.0.1:0")
            .shards(2)
            .hub("hub", HubOptions::default(), Methods)
            .endpoint("/client", "hub", EndpointOptions::default())
            .authenticator("/client", Tokens::new(keys.expect("one key"), rules).required())
            .start()
            .expect("an engine");
        Self { address: engine.local_addrs()[0], _engine: engine }
    }
}

fn try_run(service: &Service, key: &str, flags: &str) -> Result<Report, Failure> {
    let (command, flags) = flags.split_once(' ').expect("a command and flags");
    let port = service.address.port();
    let target = format!("Endpoint=http://127.0.0.1;Port={port};AccessKey={key};Version=1.0;");
    let line = ["fanfare-loadgen", command, "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    fanfare_loadgen::run(Cli::try_parse_from(words).expect("good flags").command.into_job()?)
}

fn run(service: &Service, flags: &str) -> Report {
    try_run(service, KEY, flags).unwrap_or_else(|failure| panic!("{flags}: {failure}"))
}

/// The amount of all runs here.
const SMALL: &str = "--rate 400/s --messages 120 --warmup 100ms";

#[test]
fn everybody_comes_with_a_token() {
    let service = Service::start();
    for flags in ["", "--negotiate --workers 2", "--transport sse", "--transport lp", "--hub HUB"] {
        let name = if flags.contains("--hub") { "" } else { "--hub hub" };
        let report = run(&service, &format!("broadcast -n 20 {SMALL} {name} {flags}"));
        let found = report.broadcast.as_ref().expect("a load");
        assert_eq!((report.connect.failed, found.deliveries, found.missing), (0, 2_400, 0), "{flags}");
        assert!(!serde_json::to_string(&report).expect("JSON").contains(KEY));
        assert_eq!(report.target, format!("http://{}/client/?hub=hub", service.address));
    }
}

#[test]
fn each_user_has_a_token_of_its_own() {
    let service = Service::start();
    for flags in ["", "--negotiate", "--transport lp"] {
        let report = run(&service, &format!("user -n 20 --users 5 {SMALL} --hub hub {flags}"));
        let found = report.broadcast.as_ref().expect("a load");
        assert_eq!((report.connect.failed, found.deliveries, found.missing), (0, 480, 0), "{flags}");
    }
}

#[test]
fn a_wrong_key_is_not_let_in() {
    let service = Service::start();
    let report = try_run(&service, "another key", "idle -n 3 --hold 100ms --no-baseline --hub hub").expect("a report");
    assert_eq!((report.connect.failed, report.exit()), (3, Exit::Failed));
    let text = format!("{:?} {}", report.connect.troubles, report.summary());
    assert!(text.contains("401") && !text.contains("another key"), "{text}");
}

#[test]
fn a_hub_belongs_to_a_connection_string() {
    let service = Service::start();
    let none = try_run(&service, KEY, "connect -n 3").map(|_| ()).expect_err("which hub?");
    assert!(none.to_string().contains("--hub NAME"), "{none}");
    let line = ["fanfare-loadgen", "connect", "--target", "ws://127.0.0.1:9/hub", "--hub", "hub"];
    let other = Cli::try_parse_from(line).expect("good flags").command.into_job().map(|_| ()).expect_err("a URL");
    assert_eq!(other.place, "--hub", "{other}");
}
