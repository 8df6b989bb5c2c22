//! The comparison's own machinery: children end with it, samples become ratios, ratios are judged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fanfare_bench::compare::case::{self, Metric};
use fanfare_bench::compare::contender::{Contender, free_address};
use fanfare_bench::compare::process::{Program, Running, Scratch};
use fanfare_bench::compare::report::{CaseResult, Sample, Verdict};

const LIMIT: Duration = Duration::from_secs(20);
const FANFARE: Contender = Contender::Fanfare { shards: 1 };

fn start(executable: &str, arguments: &[&str], scratch: &Path) -> Running {
    let program = Program {
        executable: PathBuf::from(executable),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        directory: scratch.to_owned(),
    };
    program.start("child", 0, scratch, None).expect("setpriv and taskset are there")
}

/// Whether a process of that id runs; one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_server_listens_and_dies_with_its_handle() {
    let scratch = Scratch::new().expect("a temporary directory");
    let addr = free_address().expect("a free port");
    let mut floor = start(env!("CARGO_BIN_EXE_floor"), &["--listen", &addr.to_string()], scratch.path());
    floor.wait_listening(addr, LIMIT).expect("the floor listens");
    let pid = floor.pid();
    let core = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(core.contains("Cpus_allowed_list:\t0\n"), "it is pinned under its own pid: {core}");
    drop(floor);
    assert!(!runs(pid));
}

#[test]
fn a_child_dies_with_the_harness_whatever_ended_that() {
    let scratch = Scratch::new().expect("a temporary directory");
    // The harness of this test is a shell that starts a child as `Program` does, then is killed outright.
    let script = "setpriv --pdeathsig KILL taskset --cpu-list 0 sleep 60 & echo $! > pid; wait";
    let harness = start("sh", &["-c", script], scratch.path());
    let pid_file = scratch.path().join("pid");
    let deadline = Instant::now() + LIMIT;
    let pid: u32 = loop {
        assert!(Instant::now() < deadline, "the shell starts its child");
        match std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()) {
            Some(pid) => break pid,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    // Give setpriv the moment it needs to arm the signal: it has become `sleep` by then.
    while std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() != "sleep") {
        assert!(Instant::now() < deadline, "setpriv and taskset become sleep");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(harness);
    while runs(pid) {
        assert!(Instant::now() < deadline, "the kernel ends the child");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_child_that_fails_is_quoted() {
    let scratch = Scratch::new().expect("a temporary directory");
    let addr = free_address().expect("a free port");
    let mut child = start("sh", &["-c", "echo no such hub >&2; exit 3"], scratch.path());
    let error = child.wait_listening(addr, LIMIT).expect_err("it never listens").to_string();
    assert!(error.contains("exit status: 3") && error.contains("no such hub"), "{error}");

    let mut child = start("sleep", &["60"], scratch.path());
    let error = child.wait_end(Duration::from_millis(50)).expect_err("it sleeps on").to_string();
    assert!(error.contains("is not done"), "{error}");
}

fn sample(value: f64) -> Sample {
    let mut sample = Sample::default();
    sample.values.insert(Metric::CpuUsPerDelivery.key(), value);
    sample
}

/// Row 1 with three rounds, in the last of which the machine was twice as slow and uWebSockets could not be measured.
fn result(fanfare: f64) -> CaseResult {
    let case = case::all().into_iter().find(|case| case.name == "w1-512B-1000").expect("row 1");
    let failed = Sample { remarks: vec!["ended under load".to_owned()], ..Sample::default() };
    let samples = vec![
        (Contender::FloorSend, vec![sample(5.0), sample(5.0), sample(10.0)]),
        (Contender::Uws, vec![sample(5.5), sample(5.5), failed]),
        (FANFARE, vec![sample(fanfare), sample(fanfare), sample(2.0 * fanfare)]),
    ];
    CaseResult { case, samples }
}

#[test]
fn promises_are_judged_by_ratios_of_the_same_round() {
    let verdicts = |fanfare: f64| -> Vec<Verdict> {
        let result = result(fanfare);
        result.case.bars.iter().map(|bar| result.judge(bar).1).collect()
    };
    assert_eq!(verdicts(5.25), [Verdict::Met, Verdict::Met]);
    assert_eq!(verdicts(5.5), [Verdict::Met, Verdict::Met]);
    assert_eq!(verdicts(5.51), [Verdict::Missed, Verdict::Missed]);
    let mut without = result(5.0);
    without.samples.retain(|(who, _)| *who != Contender::Uws);
    assert_eq!(without.judge(&without.case.bars[1]).1, Verdict::Unknown);
}

#[test]
fn the_table_shows_values_ratios_promises_and_remarks() {
    let text = result(5.51).text();
    for line in [
        "w1-512B-1000: 512 B to 1000, one broadcast under way",
        "fanfare          5.510 (5.510 - 11.020)        1.10 (1.10 - 1.10)      1.00 (1.00 - 1.00)",
        "row 1: fanfare <= 1.10 x floor-send: 1.10 (1.10 - 1.10) MISSED",
        "uws, round 3: ended under load",
    ] {
        assert!(text.contains(line), "{line}\n in {text}");
    }
    let json = result(5.25).json();
    assert_eq!(json["bars"][0]["verdict"], "met");
    assert_eq!(json["servers"][1]["samples"][2]["remarks"][0], "ended under load");
    assert_eq!(json["servers"][2]["metrics"]["cpu_us_per_delivery"]["ratio_to"]["floor-send"]["median"], 1.05);
}
