//! The whole generator against a server that lies in every known way: each lie is caught and named.

mod support;

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::{Exit, Failure};
use fanfare_loadgen::report::{BroadcastReport, Report};
use std::time::Duration;
use support::{Fault, PUBLISHER, Relay};

/// Messages before the measured ones: the probe.
const PROBE: u64 = 1;

fn try_run(relay: &Relay, path: &str, flags: &str) -> Result<Report, Failure> {
    let (command, flags) = flags.split_once(' ').expect("a command and flags");
    let target = format!("ws://{}{path}", relay.address);
    let line = ["fanfare-loadgen", command, "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    fanfare_loadgen::run(Cli::try_parse_from(words).expect("good flags").command.into_job()?)
}

fn run(relay: &Relay, path: &str, flags: &str) -> Report {
    try_run(relay, path, flags).expect("a report")
}

fn broadcast(report: &Report) -> &BroadcastReport {
    report.broadcast.as_ref().expect("a broadcast")
}

/// (missing, duplicate, out of order, corrupt)
fn ledger(report: &Report) -> (u64, u64, u64, u64) {
    let found = broadcast(report);
    (found.missing, found.duplicate, found.out_of_order, found.corrupt)
}

const SMALL: &str = "broadcast -n 20 --window --messages 30 --warmup 0 --drain 300ms";

/// Every dialect, and SignalR over every transport that carries it.
const WAYS: [(&str, &str); 6] = [
    ("/hub", "--dialect signalr-json"),
    ("/hub", "--dialect signalr-messagepack"),
    ("/raw", "--dialect raw --publish-prefix pub:"),
    ("/hub", EVENTS),
    ("/hub", JSON_POLLS),
    ("/hub", "--dialect signalr-messagepack --transport long-polling"),
];

const EVENTS: &str = "--transport server-sent-events";
const JSON_POLLS: &str = "--transport long-polling";

/// One lie to receiver 5 about the tenth measured message, in every way.
fn one_lie(fault: Fault) -> Vec<Report> {
    WAYS.map(|(path, flags)| lie_to(path, flags, fault)).into()
}

fn lie_to(path: &str, flags: &str, fault: Fault) -> Report {
    let lie = move |receiver, message| if (receiver, message) == (5, PROBE + 10) { fault } else { Fault::None };
    run(&Relay::start(lie), path, &format!("{SMALL} {flags} --burst 5"))
}

#[test]
fn an_honest_server_is_believed() {
    for report in one_lie(Fault::None) {
        assert_eq!(ledger(&report), (0, 0, 0, 0));
        let found = broadcast(&report);
        assert_eq!((found.messages, found.expected, found.deliveries), (30, 600, 600));
        assert_eq!(found.latency_us.from_intended.count, 600);
        assert_eq!((found.first_receiver_us.count, found.last_receiver_us.count), (30, 30));
        assert_eq!(report.connect.opened, 21);
        assert!(report.verdict.valid, "{:?}", report.verdict);
        assert_eq!(report.exit(), Exit::Done);
    }
}

#[test]
fn a_dropped_delivery_is_missing() {
    for report in one_lie(Fault::Drop) {
        assert_eq!(ledger(&report), (1, 0, 0, 0));
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
}

#[test]
fn a_repeated_delivery_is_a_duplicate() {
    for report in one_lie(Fault::Duplicate) {
        assert_eq!(ledger(&report), (0, 1, 0, 0));
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
}

#[test]
fn a_late_repetition_of_the_last_message_is_a_duplicate() {
    let last = PROBE + 29;
    let again = Fault::DuplicateAfter(Duration::from_millis(50));
    let relay =
        Relay::start(move |receiver, message| if (receiver, message) == (5, last) { again } else { Fault::None });
    let report = run(&relay, "/hub", SMALL);
    assert_eq!(ledger(&report), (0, 1, 0, 0));
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn a_late_delivery_is_out_of_order() {
    for report in one_lie(Fault::Swap) {
        assert_eq!(ledger(&report), (0, 0, 1, 0));
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
}

#[test]
fn a_changed_byte_is_corrupt() {
    for report in one_lie(Fault::Corrupt(300)) {
        assert_eq!(ledger(&report), (0, 0, 0, 1));
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
    // In the head: which message it was cannot be told, so it is missing as well.
    for report in one_lie(Fault::Corrupt(50)) {
        assert_eq!(ledger(&report), (1, 0, 0, 1));
    }
}

#[test]
fn a_changed_byte_on_the_way_back_to_the_publisher_is_corrupt() {
    let relay = Relay::start(|receiver, message| match (receiver, message) {
        (PUBLISHER, 12) => Fault::Corrupt(300),
        _ => Fault::None,
    });
    let report = run(&relay, "/hub", SMALL);
    assert_eq!(ledger(&report), (0, 0, 0, 1));
    assert_eq!((broadcast(&report).deliveries, broadcast(&report).publisher_echoes), (600, 29));
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn a_lost_connection_is_counted_and_its_messages_are_missing() {
    for report in one_lie(Fault::Hangup) {
        let found = broadcast(&report);
        assert_eq!(report.connect.lost, 1);
        // The window waits in vain, so the run ends early; what was published by then is accounted for.
        assert_eq!(found.expected, found.deliveries + found.missing);
        assert!(found.missing >= 1);
        assert!(!report.connect.troubles.is_empty());
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
}

/// (lost connections, whether a trouble says so)
fn lost(report: &Report, part: &str) -> (u32, bool) {
    (report.connect.lost, report.connect.troubles.iter().any(|trouble| trouble.what.contains(part)))
}

#[test]
fn a_torn_event_is_named() {
    let report = lie_to("/hub", EVENTS, Fault::Torn);
    assert_eq!(lost(&report, "a hub message does not end with its event"), (1, true), "{:?}", report.connect);
    assert!(broadcast(&report).corrupt == 1 && broadcast(&report).missing >= 1, "{:?}", ledger(&report));
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn an_answer_with_a_wrong_length_is_named() {
    let report = lie_to("/hub", JSON_POLLS, Fault::Torn);
    assert_eq!(lost(&report, "a hub message does not end with its answer"), (1, true), "{:?}", report.connect);
    assert!(broadcast(&report).corrupt == 1 && broadcast(&report).missing >= 1, "{:?}", ledger(&report));
    assert_eq!(report.exit(), Exit::ThresholdMissed);
}

#[test]
fn a_poll_that_is_answered_twice_is_named() {
    for flags in [JSON_POLLS, "--dialect signalr-messagepack --transport long-polling"] {
        let report = lie_to("/hub", flags, Fault::AnsweredTwice);
        assert_eq!(lost(&report, "answered twice"), (1, true), "{:?}", report.connect);
        assert_eq!(report.exit(), Exit::ThresholdMissed);
    }
}

#[test]
fn answers_to_polls_are_counted() {
    let relay = Relay::honest();
    let report = run(&relay, "/hub", &format!("{SMALL} {JSON_POLLS}"));
    assert_eq!(ledger(&report), (0, 0, 0, 0));
    assert_eq!(broadcast(&report).poll_answers, Some(600));
    assert_eq!(broadcast(&report).poll_answers_per_burst, Some(1.0));
    // This relay answers after each message of a burst, and a client may be back in time for the next.
    let report = run(&relay, "/hub", &format!("{SMALL} {JSON_POLLS} --burst 5"));
    assert!(broadcast(&report).poll_answers_per_burst.is_some_and(|count| (1.0..=5.0).contains(&count)));
    let report = run(&relay, "/hub", SMALL);
    assert_eq!(broadcast(&report).poll_answers, None);
}

#[test]
fn receivers_without_a_websocket_open_and_end_well() {
    let relay = Relay::honest();
    for flags in [EVENTS, JSON_POLLS, "--dialect signalr-messagepack --transport long-polling"] {
        let report = run(&relay, "/hub", &format!("connect -n 40 --hold 50ms --workers 2 {flags}"));
        let phases = report.connect.phases_us;
        let happened = [phases.tcp, phases.negotiate, phases.subscribe, phases.handshake, phases.total, phases.close];
        for phase in happened {
            assert_eq!(phase.map(|phase| phase.count), Some(40), "{flags}: {phases:?}");
        }
        assert_eq!((report.connect.opened, report.connect.failed, report.connect.lost), (40, 0, 0), "{flags}");
        assert!(report.connect.troubles.is_empty(), "{flags}: {:?}", report.connect.troubles);
        assert_eq!(report.exit(), Exit::Done);
    }
}

#[test]
fn a_post_that_meets_the_end_of_its_socket_is_sent_again() {
    let relay = Relay::honest();
    for flags in [EVENTS, JSON_POLLS] {
        let report = run(&relay, "/once", &format!("connect -n 60 --hold 50ms {flags}"));
        assert_eq!((report.connect.opened, report.connect.failed, report.connect.lost), (60, 0, 0), "{flags}");
        assert!(report.connect.troubles.is_empty(), "{flags}: {:?}", report.connect.troubles);
    }
}

#[test]
fn negotiates_are_counted_and_timed() {
    let relay = Relay::honest();
    let pid = std::process::id();
    let report = run(&relay, "/hub", &format!("negotiate -n 7 --requests 500 --workers 2 --server-pid {pid}"));
    let found = report.negotiate.expect("negotiates");
    assert_eq!((found.requests, found.answered), (500, 500));
    assert_eq!(report.connect.phases_us.negotiate.map(|phase| phase.count), Some(500));
    assert!(found.per_s > 0.0 && found.cpu_us_per_negotiate.is_some() && found.resident_growth_bytes.is_some());
    assert_eq!(report.exit(), Exit::Done);

    // A hub that is not there: the sockets are lost, and nothing is answered.
    let report = run(&relay, "/nowhere", "negotiate -n 2 --requests 50");
    assert_eq!(report.negotiate.map(|found| found.answered), Some(0));
    assert_eq!(report.exit(), Exit::Failed);
}

#[test]
fn stalls_show_in_the_honest_latency_only() {
    // Every 20th message is held up for 60 ms; those behind it are late from their planned time as well.
    let relay = Relay::start(|receiver, message| {
        let stall = receiver == 0 && message % 20 == 10;
        if stall { Fault::Stall(Duration::from_millis(60)) } else { Fault::None }
    });
    let report = run(&relay, "/hub", "broadcast -n 5 --rate 200/s --messages 100 --warmup 0 --deadline 20ms");
    let found = broadcast(&report);
    assert_eq!(ledger(&report), (0, 0, 0, 0));
    assert!(found.latency_us.from_intended.max >= 60_000, "{:?}", found.latency_us);
    assert!(found.latency_us.from_intended.p90 >= 20_000, "{:?}", found.latency_us);
    assert!(found.late > 50, "late {}", found.late);
}

#[test]
fn several_publishers_and_workers_share_one_truth() {
    let relay = Relay::start(|receiver, message| match (receiver, message) {
        (3, 40) => Fault::Drop,
        (7, 41) => Fault::Duplicate,
        _ => Fault::None,
    });
    let flags =
        "broadcast -n 30 --workers 3 --publishers 4 --rate 400/s --messages 80 --burst 2 --warmup 100ms --drain 500ms";
    let report = run(&relay, "/hub", flags);
    let found = broadcast(&report);
    let warmup = found.warmup;
    assert_eq!(found.missing + warmup.missing, 1);
    assert_eq!(found.duplicate + warmup.duplicate, 1);
    assert_eq!((found.messages, found.expected), (80, 2400));
    assert_eq!(found.first_receiver_us.count, 80);
    assert_eq!(report.generator.workers, 3);
    assert!(warmup.received >= 30 * 4);
}

#[test]
fn large_messages_in_fragments_over_negotiated_connections() {
    let relay = Relay::honest();
    let flags = "broadcast -n 10 --negotiate --size 100000 --window --messages 6 --burst 3 --warmup 0";
    let report = run(&relay, "/token", flags);
    assert_eq!(ledger(&report), (0, 0, 0, 0));
    assert_eq!(broadcast(&report).deliveries, 60);
    assert_eq!(report.connect.phases_us.negotiate.map(|phase| phase.count), Some(10));
}

#[test]
fn publishing_by_http_post() {
    let relay = Relay::honest();
    let flags = format!(
        "broadcast -n 10 --dialect raw --raw-publish-http http://{}/publish --window --messages 12 --burst 4 --warmup 0",
        relay.address
    );
    let report = run(&relay, "/raw", &flags);
    assert_eq!(ledger(&report), (0, 0, 0, 0));
    assert_eq!(broadcast(&report).deliveries, 120);
}

#[test]
fn stalled_readers_are_reported_apart() {
    let relay = Relay::honest();
    let flags = "broadcast -n 8 --window --messages 10 --warmup 0 --stalled 3 --stalled-rcvbuf 64KiB --size 1000";
    let report = run(&relay, "/hub", flags);
    assert_eq!(ledger(&report), (0, 0, 0, 0));
    let stalled = report.stalled.expect("stalled readers");
    assert_eq!((stalled.connections, stalled.seen_closed), (3, 0));
    assert_eq!(stalled.published_payload_bytes, 10_000);
    // Probe and ten messages lie in each receive queue.
    assert!(stalled.unread_bytes > 3 * 11 * 1000, "{stalled:?}");
}

#[test]
fn connect_and_idle_time_their_phases_and_end_well() {
    let relay = Relay::honest();
    let report = run(&relay, "/hub", "connect -n 40 --hold 50ms --workers 2");
    let phases = report.connect.phases_us;
    for phase in [phases.tcp, phases.upgrade, phases.handshake, phases.total, phases.close] {
        assert_eq!(phase.map(|phase| phase.count), Some(40));
    }
    assert_eq!((report.connect.opened, report.connect.failed, report.connect.lost), (40, 0, 0));
    assert_eq!(report.exit(), Exit::Done);

    let pid = std::process::id();
    let report = run(&relay, "/hub", &format!("idle -n 40 --hold 50ms --server-pid {pid}"));
    let kernel = report.kernel.expect("kernel figures");
    assert_eq!(kernel.baseline.map(|bare| bare.plain_pairs), Some(40));
    assert!(report.server.is_some_and(|server| server.memory.rss_bytes > 0));
}

#[test]
fn a_refused_publish_ends_the_run_with_the_servers_words() {
    let failure = try_run(&Relay::honest(), "/hub", "broadcast -n 3 --publish-method Shout").expect_err("refused");
    assert!(failure.cause.contains("Method does not exist"), "{failure}");
    assert!(failure.place.contains("--publish-method"), "{failure}");
    assert_eq!(failure.exit, Exit::Failed);
}

#[test]
fn a_message_that_reaches_nobody_ends_the_run() {
    let relay = Relay::start(|_, _| Fault::Drop);
    let failure = try_run(&relay, "/hub", "broadcast -n 3 --drain 100ms").expect_err("nobody");
    assert!(failure.cause.contains("reached nobody"), "{failure}");
    assert!(failure.remedy.contains("--publish-target"), "{failure}");
}

#[test]
fn connections_that_cannot_be_opened_say_why() {
    let relay = Relay::honest();
    let failure = try_run(&relay, "/nowhere", "broadcast -n 5").expect_err("404");
    assert!(failure.cause.contains("404") && failure.cause.contains("6 of 6"), "{failure}");

    // A port that nobody listens on: bound, and free again.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let failure = try_run(&Relay { address }, "/hub", "broadcast -n 5").expect_err("refused");
    assert!(failure.cause.to_lowercase().contains("refused"), "{failure}");

    let report = run(&relay, "/nowhere", "connect -n 5");
    assert_eq!((report.connect.opened, report.connect.failed), (0, 5));
    assert_eq!(report.exit(), Exit::Failed);
}

#[test]
fn thresholds_decide_the_exit_code() {
    let relay = Relay::honest();
    let flags = "broadcast -n 4 --window --messages 5 --warmup 0 --threshold last.p99<1us --threshold deliveries==20";
    let report = run(&relay, "/hub", flags);
    assert_eq!(report.exit(), Exit::ThresholdMissed);
    let met: Vec<bool> = report.thresholds.iter().map(|checked| checked.met).collect();
    // The clean ledger goes without saying.
    assert_eq!(met, [false, true, true, true, true, true, true]);
}
