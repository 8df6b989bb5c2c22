//! The program as it is started: what it answers without flags, what it costs, how it ends.

mod hub;

use fanfare_loadgen::cli::Cli;
use hub::Hub;
use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;

/// User memory of the generator for one more idle connection, bytes.
const IDLE_BYTES_MAX: f64 = 400.0;

fn start(hub: &Hub, arguments: &[&str]) -> Output {
    let target = format!("http://{}/hub", hub.address);
    let (command, flags) = arguments.split_first().expect("a command");
    Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args([command, "--target", &target])
        .args(flags)
        .output()
        .expect("the program starts")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_broadcast_needs_a_target_only_and_ends_within_half_a_minute() {
    // The plan has an end: what it may take at most is in the job, whatever this machine makes of it.
    let line = ["fanfare-loadgen", "broadcast", "--target", "http://127.0.0.1:1/hub"];
    let job = <Cli as clap::Parser>::try_parse_from(line).expect("no other flag").command.into_job().expect("a job");
    let load = job.task.load().expect("a load");
    let planned = load.warmup + Duration::from_nanos(load.plan.duration_ns()) + load.drain;
    assert!(planned < Duration::from_secs(20), "{planned:?}");
    // 0, or 7 where the machine starves the generator. Nothing may be missing.
    let output = start(&Hub::start(), &["broadcast"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!([Some(0), Some(7)].contains(&output.status.code()), "{said}");
    for part in [
        "connect   1 001 open",
        "messages of 512 B = ",
        "| 0 missing | 0 duplicate | 0 out of order | 0 corrupt | 0 misrouted",
        "latency   from intended p50",
        "fan-out   last",
        "rate      ",
        "verdict   ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn an_idle_connection_costs_little_memory() {
    let hub = Hub::start();
    let private = |connections: &str| {
        let flags = ["-n", connections, "--hold", "200ms", "--no-baseline", "--quiet", "--json", "-", "--workers", "1"];
        let output = start(&hub, &[&["idle"], &flags[..]].concat());
        let report = json(&output);
        assert_eq!(report["connect"]["opened"].to_string(), connections, "{report}");
        report["generator"]["private_bytes"].as_u64().expect("bytes") as f64
    };
    // What there is but once is in both, and drops out. Pages and pools grow in steps, so the distance is large.
    let each = (private("9000") - private("1000")) / 8_000.0;
    assert!(each <= IDLE_BYTES_MAX, "{each:.0} bytes for one more idle connection");
}

#[test]
fn a_self_check_needs_no_server_and_its_exit_tells_what_it_found() {
    let check = |flags: &str| {
        let words = format!("self-check --period 20ms --json - {flags}");
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
            .args(words.split_whitespace())
            .output()
            .expect("the program starts");
        (output.status.code(), output)
    };
    let (code, output) = check("--connections 10 --rate 1/s");
    let found = json(&output);
    assert_eq!((code, found["verdict"]["fit"].as_bool()), (Some(0), Some(true)), "{found}");
    assert_eq!(found["verdict"]["deliveries_per_s"].as_f64(), Some(10.0));
    assert!(["booking", "reading", "sockets"].iter().all(|part| found[part]["wrong"] == 0), "{found}");
    let (code, output) = check("--connections 10000 --rate 1M/s");
    assert_eq!((code, json(&output)["verdict"]["fit"].as_bool()), (Some(7), Some(false)));
    let (code, output) = check("--size 3");
    assert_eq!(code, Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("where: --size"));
}

#[test]
fn shipped_scenarios_are_listed_shown_and_refused_by_name() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
            .arg("run")
            .args(arguments)
            .output()
            .expect("the program starts")
    };
    let list = String::from_utf8(run(&["--list"]).stdout).expect("text");
    assert_eq!(list.lines().count(), 12, "{list}");
    for name in list.lines().map(|line| line.split(' ').next().expect("a name")) {
        let shown = run(&["--show", name]);
        assert!(String::from_utf8_lossy(&shown.stdout).starts_with(&format!("name = \"{name}\"\n")));
        // Without a target none of them begins.
        let output = run(&[name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--target"));
    }
    let output = run(&["chess"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no scenario 'chess'"));
}
