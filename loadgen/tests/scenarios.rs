//! Every scenario that comes with the generator, in miniature, against a real engine in this process.

mod hub;

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::{Exit, Failure};
use fanfare_loadgen::report::Report;
use hub::Hub;

fn try_run(hub: &Hub, flags: &str) -> Result<Report, Failure> {
    let target = format!("http://{}/hub", hub.address);
    let line = ["fanfare-loadgen", "run", "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    fanfare_loadgen::run(Cli::try_parse_from(words).expect("good flags").command.into_job()?)
}

fn run(hub: &Hub, flags: &str) -> Report {
    try_run(hub, flags).unwrap_or_else(|failure| panic!("{flags}: {failure}"))
}

/// The ledger of a small run is clean, and everything came.
fn assert_clean(report: &Report) {
    let found = report.broadcast.as_ref().expect("a load");
    let ledger = (found.missing, found.duplicate, found.out_of_order, found.corrupt, found.misrouted);
    assert_eq!(ledger, (0, 0, 0, 0, 0), "{:?} {:?}", report.scenario, report.connect.troubles);
    assert!(found.messages > 0 && found.expected == found.deliveries, "{:?} {found:?}", report.scenario);
    assert_eq!((report.connect.failed, report.connect.lost), (0, 0), "{:?}", report.connect.troubles);
}

#[test]
fn every_shipped_scenario_runs_in_miniature() {
    let hub = Hub::start();
    for (name, scale, command, connections) in [
        ("azure-echo", "0.02", "echo", 20),
        ("azure-broadcast", "0.02", "broadcast", 20),
        ("azure-small-group", "0.03", "group", 30),
        ("azure-big-group", "0.2", "group", 200),
        ("azure-p2p", "0.02", "p2p", 20),
        ("chat", "0.01", "group", 45),
        ("quotes", "0.02", "group", 40),
        ("notifications", "0.01", "user", 100),
        ("slow-readers", "0.02", "broadcast", 38),
    ] {
        // Long enough for one message a second.
        let report = run(&hub, &format!("{name} --scale {scale} --duration 1500ms --warmup 100ms"));
        assert_eq!((report.command, report.connections), (command, connections), "{name}");
        assert_eq!(report.scenario.as_deref(), Some(name));
        assert_clean(&report);
    }
}

#[test]
fn slow_readers_and_guests_of_a_scenario_are_there() {
    let hub = Hub::start();
    let report = run(&hub, "slow-readers --scale 0.02 --duration 500ms --warmup 0");
    assert_eq!(report.stalled.expect("sleepers").connections, 2);
    let report = run(&hub, "chat --scale 0.02 --duration 500ms --warmup 0");
    let names: Vec<&str> = report.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names[0], "members-ws-json");
    assert_eq!(names.last(), Some(&"passers-by"));
    assert_eq!(report.guests.expect("passers-by").guests, 10);
}

#[test]
fn storms_of_scenarios_cut_their_part_and_everybody_comes_back() {
    let hub = Hub::start();
    for (name, guests, cuts) in [("storm", 10, 1), ("deploy", 10, 3)] {
        let scale = if name == "storm" { "0.002" } else { "0.01" };
        // Proportions are kept: a storm is cut after a sixth, deploys after a sixth, 5/12 and 2/3.
        let report = run(&hub, &format!("{name} --scale {scale} --duration 6s --warmup 0"));
        let found = report.guests.expect("guests");
        assert_eq!((found.guests, found.away, found.gave_up), (guests, 0, 0), "{name}: {found:?}");
        assert_eq!((found.cut, found.returned), (u64::from(guests) * cuts, u64::from(guests) * cuts), "{name}");
        assert_clean(&report);
    }
}

#[test]
fn a_million_idle_is_a_number_like_any_other() {
    let hub = Hub::start();
    let report = run(&hub, "million-idle --scale 0.0001 --duration 200ms");
    assert_eq!((report.command, report.connections, report.connect.opened), ("idle", 100, 100));
    assert_eq!(report.exit(), Exit::Done);
}

#[test]
fn a_threshold_of_one_class_is_checked_against_that_class() {
    let hub = Hub::start();
    let path = std::env::temp_dir().join(format!("fanfare-loadgen-classes-{}.toml", std::process::id()));
    let text = format!(
        r#"
        name = "two sorts"
        target = "http://{}/hub"
        duration = "300ms"
        warmup = "0s"
        [[clients]]
        name = "old"
        count = 3
        transport = "long-polling"
        [[clients]]
        name = "new"
        count = 5
        [[load]]
        kind = "broadcast"
        rate = "100/s"
        [thresholds]
        "old.deliveries" = ">= 30"
        "new.missing" = "== 0"
        "new.deliveries" = "< 1"
        "#,
        hub.address
    );
    std::fs::write(&path, text).expect("a file");
    let line = ["fanfare-loadgen", "run", "--quiet", path.to_str().expect("a path")];
    let job = Cli::try_parse_from(line).expect("good flags").command.into_job();
    let report = job.and_then(fanfare_loadgen::run);
    std::fs::remove_file(&path).expect("still there");
    let report = report.expect("a report");
    assert_clean(&report);
    let found: Vec<_> = report.thresholds.iter().map(|checked| (checked.threshold.as_str(), checked.met)).collect();
    assert_eq!(found[..3], [("new.deliveries< 1", false), ("new.missing== 0", true), ("old.deliveries>= 30", true)]);
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}
