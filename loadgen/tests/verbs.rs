//! Each command against a real engine in this process, with counts.

mod hub;

use clap::Parser;
use fanfare_engine::Limits;
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

#[test]
fn guests_come_and_go_while_the_others_lose_nothing() {
    let hub = Hub::start();
    for flags in ["", "--transport ws=50,sse=25,lp=25 --workers 2"] {
        let flags =
            format!("churn -n 40 --part 0.5 --life uniform:50ms-150ms --rate 100/s --duration 1s --warmup 0 {flags}");
        let report = run(&hub, &flags);
        let found = clean(&report);
        assert_eq!(found.deliveries, found.messages * 20);
        let guests = report.guests.expect("guests");
        assert_eq!((guests.guests, guests.dropped, guests.refused, guests.gave_up), (20, 0, 0, 0), "{guests:?}");
        // Twenty guests, about ten lives each.
        assert!((60..600).contains(&guests.lives), "{guests:?}");
        assert!(guests.returned <= guests.lives && guests.returned + 20 >= guests.lives, "{guests:?}");
        assert!(found.guest_deliveries.is_some_and(|count| count > 0));
    }
}

#[test]
fn everybody_is_cut_and_comes_back() {
    let hub = Hub::start();
    let report = run(&hub, "storm -n 60 --after 100ms --duration 300ms --workers 2");
    let guests = report.guests.expect("guests");
    assert_eq!((guests.guests, guests.cut, guests.returned), (60, 60, 60), "{guests:?}");
    assert_eq!((guests.refused, guests.gave_up, guests.away, guests.dropped), (0, 0, 0, 0), "{guests:?}");
    assert!(guests.all_back_s.is_some(), "{guests:?}");
    assert_eq!(guests.back_us.map(|back| back.count), Some(60));
    assert!(report.broadcast.is_none());
    assert_eq!(report.exit(), Exit::Done);

    // Half of them: the other half goes on receiving.
    let flags = "storm -n 40 --part 0.5 --after 200ms --rate 200/s --messages 120 --warmup 0";
    let report = run(&hub, flags);
    assert_eq!(clean(&report).deliveries, 120 * 20);
    let guests = report.guests.expect("guests");
    assert_eq!((guests.cut, guests.returned, guests.away), (20, 20, 0), "{guests:?}");
}

#[test]
fn a_storm_that_is_not_let_in_comes_back_later_and_the_refusals_are_counted() {
    // 30 connections come in a second; 40 that were cut find that out at once, and again after 2 s.
    let limits = Limits { connect_rate: 30, ..Limits::default() };
    let hub = Hub::with(limits, 1);
    let report = run(&hub, "storm -n 40 --connect-rate 20/s --after 1500ms --duration 2s --patience 40s");
    let guests = report.guests.expect("guests");
    assert_eq!((guests.cut, guests.returned, guests.gave_up, guests.away), (40, 40, 0, 0), "{guests:?}");
    assert!((1..=60).contains(&guests.refused) && guests.refused_per_s_max <= guests.refused, "{guests:?}");
    assert!(guests.all_back_s.is_some_and(|seconds| seconds >= 2.0), "{guests:?}");
}

#[test]
fn slow_readers_are_victims_and_the_others_bystanders() {
    let hub = Hub::start();
    // Each victim is sent 60 x 4 KiB in half a second and reads 64 KiB/s: it has some, and cannot have all.
    let flags = "slow -n 10 --part 0.2 --read-rate 64KiB/s --rate 120/s --messages 60 --size 4096 --warmup 0";
    let report = run(&hub, flags);
    assert_eq!(clean(&report).deliveries, 60 * 8);
    let victims = report.stalled.expect("victims");
    assert_eq!((victims.connections, victims.corrupt, victims.ended), (2, 0, 0), "{victims:?}");
    assert!((1..=2 * 61).contains(&victims.messages_read) && victims.bytes_read > 0, "{victims:?}");
    // Those that stop.
    let report = run(&hub, "slow -n 10 --part 0.2 --rate 200/s --messages 60 --size 1000 --warmup 0");
    let victims = report.stalled.expect("victims");
    assert_eq!((victims.connections, victims.messages_read, victims.bytes_read), (2, 0, 0), "{victims:?}");
    assert!(victims.unread_bytes > 60_000, "{victims:?}");
    assert_eq!(clean(&report).deliveries, 60 * 8);
}

#[test]
fn a_soak_has_a_course_and_a_drift() {
    let hub = Hub::start();
    let pid = std::process::id();
    let flags = format!("soak -n 5 --rate 100/s --duration 1500ms --interval 250ms --warmup 0 --server-pid {pid}");
    let report = run(&hub, &flags);
    let found = clean(&report);
    let soak = report.soak.as_ref().expect("a course");
    assert!((4..=7).contains(&soak.points.len()), "{soak:?}");
    assert!(soak.points.iter().map(|point| point.messages).sum::<u64>() <= found.messages);
    assert!(soak.points.iter().all(|point| point.server_private_bytes.is_some_and(|bytes| bytes > 0)), "{soak:?}");
    assert!(soak.last_p99_ratio.is_some_and(|ratio| ratio > 0.0), "{soak:?}");
    assert!(soak.server_private_bytes_per_h.is_some());
}

/// 400 receivers have something to read at once, and there are 32 buffers of this size: whoever waits for one is not tried
/// over and over.
#[test]
fn receives_are_no_more_than_there_is_to_read() {
    let hub = Hub::start();
    let report = run(&hub, "broadcast -n 400 --workers 1 --burst 16 --rate 320/s --messages 320 --warmup 0s");
    let found = clean(&report);
    let bursts = 400 * 320 / 16;
    assert_eq!(found.deliveries, 400 * 320);
    assert!((bursts..3 * bursts).contains(&report.generator.ring_recvs), "{}", report.generator.ring_recvs);
}
