//! Servers that are wrong in known ways, each caught and named in the verdict; and a generator that is starved, which
//! calls its own run invalid. Names and counts only: nothing here depends on how fast the machine is.

#[allow(dead_code, reason = "shared with honesty.rs, which uses all of it")]
mod support;

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::Exit;
use fanfare_loadgen::report::Report;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use support::{Fault, PUBLISHER, Relay};

fn run(relay: &Relay, path: &str, flags: &str) -> Report {
    let (command, flags) = flags.split_once(' ').expect("a command and flags");
    let target = format!("ws://{}{path}", relay.address);
    let line = ["fanfare-loadgen", command, "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    let job = Cli::try_parse_from(words).expect("good flags").command.into_job();
    job.and_then(fanfare_loadgen::run).expect("a report")
}

/// (name, count) of what the verdict says of the server. Stalls are left out: a busy machine can make some.
fn named(report: &Report) -> Vec<(&'static str, u64)> {
    report.verdict.faults.iter().map(|fault| (fault.name, fault.count)).filter(|(name, _)| *name != "stalls").collect()
}

/// 30,100 deliveries.
const MANY: &str = "broadcast -n 100 --rate 300/s --messages 300 --warmup 0 --drain 1s";

/// Does `fault` to one delivery in 10,000 to receivers, and counts how often.
fn rarely(fault: Fault) -> (Relay, Arc<AtomicU64>) {
    let done = Arc::new(AtomicU64::new(0));
    let count = done.clone();
    let relay = Relay::start(move |receiver, message| {
        // The last message is left alone: nothing comes after it that it could be later than.
        if receiver != PUBLISHER && message < 300 && (message * 100 + receiver as u64) % 10_000 == 4_242 {
            count.fetch_add(1, Ordering::Relaxed);
            fault
        } else {
            Fault::None
        }
    });
    (relay, done)
}

#[test]
fn one_wrong_delivery_in_ten_thousand_is_caught_and_named() {
    for (fault, name) in [
        (Fault::Drop, "missing"),
        (Fault::Duplicate, "duplicate"),
        (Fault::Swap, "reordered"),
        (Fault::Corrupt(300), "corrupt"),
    ] {
        let (relay, done) = rarely(fault);
        let report = run(&relay, "/hub", MANY);
        let wrong = done.load(Ordering::Relaxed);
        assert_eq!(wrong, 3, "{fault:?}");
        assert_eq!(named(&report), [(name, wrong)], "{fault:?}");
        assert_eq!(report.exit(), Exit::ThresholdMissed, "{fault:?}");
        assert!(report.summary().contains(&format!("fault     {name}: 3 ")), "{}", report.summary());
    }
}

#[test]
fn an_honest_server_has_no_faults() {
    assert_eq!(named(&run(&Relay::honest(), "/hub", MANY)), []);
}

#[test]
fn a_server_that_stalls_every_second_is_named() {
    // 100 messages a second, each hundredth held up for 200 ms; what is published meanwhile waits behind it.
    let relay = Relay::start(|receiver, message| {
        let stalls = receiver == 0 && message % 100 == 50;
        if stalls { Fault::Stall(Duration::from_millis(200)) } else { Fault::None }
    });
    let report = run(&relay, "/hub", "broadcast -n 5 --rate 100/s --messages 400 --warmup 0 --threshold stalls==0");
    let stalls = report.verdict.faults.iter().find(|fault| fault.name == "stalls").expect("named");
    // A busy machine may add some of its own to the four, or hide one behind a standstill of the generator.
    assert!(stalls.count >= 2, "{:?}", report.verdict);
    assert!(report.broadcast.as_ref().is_some_and(|found| found.stall_us_max >= 199_000), "{:?}", report.verdict);
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn pings_that_come_too_late_are_named() {
    // The server pings every 700 ms; these clients give a connection up after 300 ms of silence.
    let flags = "connect -n 8 --hold 1600ms --server-timeout 300ms";
    let report = run(&Relay::honest(), "/late", flags);
    assert_eq!((report.connect.opened, report.connect.lost), (8, 0));
    assert!(named(&report).iter().any(|&(name, count)| name == "late pings" && count >= 8), "{:?}", report.verdict);
    assert_eq!(report.exit(), Exit::Failed);
    // No ping at all: the silence ends with the farewell.
    let report = run(&Relay::honest(), "/hub", "connect -n 8 --hold 900ms --server-timeout 300ms");
    assert_eq!(named(&report), [("late pings", 8)]);
    // In time.
    let report = run(&Relay::honest(), "/late", "connect -n 8 --hold 900ms --server-timeout 20s");
    assert_eq!((named(&report), report.exit()), (vec![], Exit::Done));
}

#[test]
fn a_server_that_ends_connections_is_named() {
    let relay =
        Relay::start(|receiver, message| if (receiver, message) == (3, 20) { Fault::Hangup } else { Fault::None });
    let report = run(&relay, "/hub", "broadcast -n 5 --rate 200/s --messages 60 --warmup 0 --drain 300ms");
    let found = named(&report);
    assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["missing", "lost connections"], "{found:?}");
}

#[test]
fn a_generator_that_was_stopped_calls_its_run_invalid() {
    let pid = Arc::new(AtomicI32::new(0));
    let victim = pid.clone();
    // In the middle of the measured period the server has the generator stopped, and lets it go on after 700 ms.
    let relay = Relay::start(move |receiver, message| {
        if (receiver, message) == (0, 30) {
            let victim = Pid::from_raw(victim.load(Ordering::Acquire)).expect("started");
            kill_process(victim, Signal::STOP).expect("ours");
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(700));
                kill_process(victim, Signal::CONT).expect("ours");
            });
        }
        Fault::None
    });
    let target = format!("ws://{}/hub", relay.address);
    let flags = "--quiet --json - -n 5 --rate 100/s --messages 150 --warmup 0".split(' ');
    let child = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args(["broadcast", "--target", &target])
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a generator");
    pid.store(child.id() as i32, Ordering::Release);
    let output = child.wait_with_output().expect("an end");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a result");
    let reasons = report["verdict"]["reasons"].as_array().expect("reasons");
    let stopped = |reason: &serde_json::Value| reason.as_str().is_some_and(|text| text.contains("stood still"));
    assert!(reasons.iter().any(stopped), "{reasons:?}");
    assert!(report["generator"]["standstill_us_max"].as_u64().is_some_and(|us| us >= 600_000), "{report}");
    assert_eq!((report["missing"].as_u64(), output.status.code()), (Some(0), Some(7)), "{reasons:?}");
}

#[test]
fn a_generator_without_cpu_to_spare_calls_its_run_invalid() {
    // Each turn of the worker takes 20 ms longer than it must.
    let report =
        run(&Relay::honest(), "/hub", "broadcast -n 20 --rate 200/s --messages 200 --warmup 0 --handicap 20ms");
    assert!(!report.verdict.valid, "{:?}", report.verdict);
    let own = |reason: &String| reason.contains("the generator") || reason.contains("own send delay");
    assert!(report.verdict.reasons.iter().all(own) && !report.verdict.reasons.is_empty(), "{:?}", report.verdict);
    assert_eq!((named(&report), report.exit()), (vec![], Exit::Invalid));
}
