//! Each command against a real engine in this process, with counts.

mod hub;

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::{Exit, Failure};
use fanfare_loadgen::report::{BroadcastReport, Report};
use hub::Hub;

fn try_run(hub: &Hub, flags: &str) -> Result<Report, Failure> {
    let (command, flags) = flags.split_once(' ').expect("a command and flags");
    let target = format!("http://{}/hub", hub.address);
    let line = ["fanfare-loadgen", command, "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    fanfare_loadgen::run(Cli::try_parse_from(words).expect("good flags").command.into_job()?)
}

fn run(hub: &Hub, flags: &str) -> Report {
    try_run(hub, flags).unwrap_or_else(|failure| panic!("{flags}: {failure}"))
}

/// The load of a report whose ledger is clean.
fn clean(report: &Report) -> &BroadcastReport {
    let found = report.broadcast.as_ref().expect("a load");
    let ledger = (found.missing, found.duplicate, found.out_of_order, found.corrupt, found.misrouted);
    assert_eq!(ledger, (0, 0, 0, 0, 0), "{:?}", report.connect);
    assert_eq!(found.expected, found.deliveries);
    let warmup = found.warmup;
    assert_eq!(warmup.missing + warmup.duplicate + warmup.out_of_order + warmup.corrupt + warmup.misrouted, 0);
    assert_eq!((report.connect.failed, report.connect.lost), (0, 0), "{:?}", report.connect.troubles);
    found
}

/// The amount of all runs here.
const SMALL: &str = "--rate 400/s --messages 120 --warmup 100ms";

#[test]
fn a_group_hears_its_messages_and_nobody_elses() {
    let hub = Hub::start();
    for flags in ["", "--protocol messagepack", "--transport sse", "--transport lp", "--workers 2 --publishers 3"] {
        // 6 groups of 4: every message has 4 receivers.
        let report = run(&hub, &format!("group -n 24 --group-size 4 {SMALL} {flags}"));
        let found = clean(&report);
        assert_eq!((found.messages, found.deliveries), (120, 480), "{flags}");
        assert_eq!((found.first_receiver_us.count, found.last_receiver_us.count), (120, 120), "{flags}");
    }
    // 8 groups, each connection in 3 of them: 36 seats in groups of different sizes.
    let report = run(&hub, &format!("group -n 12 --groups 8 --groups-each 3 {SMALL}"));
    let found = clean(&report);
    assert_eq!(found.messages, 120);
    assert!((120..=960).contains(&found.deliveries), "{}", found.deliveries);
}

#[test]
fn what_reaches_those_it_is_not_for_is_misrouted() {
    let hub = Hub::start();
    let report = run(&hub, &format!("group -n 12 --groups 3 --publish-method SendToWrongGroup {SMALL}"));
    let found = report.broadcast.as_ref().expect("a load");
    // Each message is for 4 and reaches 12.
    assert_eq!((found.deliveries, found.missing, found.misrouted), (480, 0, 960));
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn a_user_hears_on_all_connections() {
    let hub = Hub::start();
    for flags in ["", "--transport lp", "--negotiate --workers 2"] {
        let report = run(&hub, &format!("user -n 20 --users 5 {SMALL} {flags}"));
        assert_eq!((clean(&report).messages, clean(&report).deliveries), (120, 480), "{flags}");
    }
}

#[test]
fn one_connection_hears_what_is_for_it() {
    let hub = Hub::start();
    for flags in ["", "--transport sse", "--workers 2 --publishers 2"] {
        let report = run(&hub, &format!("p2p -n 15 {SMALL} {flags}"));
        assert_eq!((clean(&report).messages, clean(&report).deliveries), (120, 120), "{flags}");
    }
}

#[test]
fn every_connection_calls_and_is_answered() {
    let hub = Hub::start();
    for flags in ["", "--protocol messagepack", "--workers 2", "--size 20000"] {
        let report = run(&hub, &format!("echo -n 15 {SMALL} {flags}"));
        assert_eq!((clean(&report).messages, clean(&report).deliveries), (120, 120), "{flags}");
    }
}

#[test]
fn every_connection_streams_and_gets_its_items_back() {
    let hub = Hub::start();
    for flags in ["", "--protocol messagepack", "--workers 2"] {
        let report = run(&hub, &format!("stream -n 15 {SMALL} {flags}"));
        assert_eq!((clean(&report).messages, clean(&report).deliveries), (120, 120), "{flags}");
    }
}

#[test]
fn a_mix_of_transports_and_protocols_is_told_apart() {
    let hub = Hub::start();
    let mix = "--transport ws=80,sse=10,lp=10 --protocol json=50,messagepack=50";
    let report = run(&hub, &format!("broadcast -n 40 --workers 2 {SMALL} {mix}"));
    assert_eq!(clean(&report).deliveries, 4800);
    let classes: Vec<_> = report.classes.iter().map(|class| (class.name.as_str(), class.connections)).collect();
    assert_eq!(
        classes,
        [("ws-json", 16), ("ws-messagepack", 16), ("sse-json", 4), ("lp-json", 2), ("lp-messagepack", 2)]
    );
    for class in &report.classes {
        assert_eq!(class.ledger.received, 120 * u64::from(class.connections), "{}", class.name);
        assert_eq!(class.latency_us.count, class.ledger.received, "{}", class.name);
        assert_eq!(class.last_receiver_us.count, 120, "{}", class.name);
    }
    assert_eq!((report.transport, report.dialect.as_str()), ("mixed", "mixed"));
}

#[test]
fn other_hubs_are_reached_by_naming_their_methods() {
    let hub = Hub::start();
    let methods = "--publish-method BroadcastAll --arguments payload --publish-target Broadcast";
    let report = run(&hub, &format!("broadcast -n 10 {SMALL} {methods}"));
    assert_eq!(clean(&report).deliveries, 1200);
}

#[test]
fn a_method_that_is_not_there_is_named() {
    let hub = Hub::start();
    for (flags, part) in [
        ("group -n 4 --join-method Enter", "Enter refused"),
        ("group -n 4 --publish-method Shout", "--publish-method Shout"),
        ("p2p -n 4 --id-method WhoAmI", "WhoAmI refused"),
        ("echo -n 4 --method Parrot", "--method Parrot"),
        ("stream -n 4 --method River", "--method River"),
    ] {
        let failure = try_run(&hub, flags).expect_err(flags).to_string();
        assert!(failure.contains(part), "{flags}: {failure}");
    }
}
