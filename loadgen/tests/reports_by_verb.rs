//! The files of `--out` for every command, against a real engine in this process.

mod hub;
mod output;

use fanfare_loadgen::report::Report;
use hub::Hub;
use output::{Output, Published, figures_read_again};
use serde_json::Value;

/// What a reader of the series wants to find, whatever the command.
fn check(output: &Output) {
    let (result, report) = (output.result(), &output.report);
    for name in ["summary.txt", "result.json", "latency.hlog", "timeline.csv", "junit.xml", "report.html"] {
        assert!(!output.read(name).is_empty(), "{name} of {}", report.command);
    }
    let rows = result["series"]["rows"].as_array().expect("rows");
    let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    let last = rows.last().expect("a row");
    assert_eq!(last["connections_lost"].as_u64(), Some(u64::from(report.connect.lost)), "{}", report.command);
    assert_eq!(last["connections"], 0, "everybody has said good-bye");
    let most = rows.iter().filter_map(|row| row["connections"].as_u64()).max();
    assert_eq!(most, Some(u64::from(report.connect.opened)), "{}", report.command);
    assert!(!result["series"]["ramp"].as_array().expect("a ramp").is_empty());
    if let Some(load) = &report.broadcast {
        let measured = rows.iter().filter(|row| row["period"] == "measured");
        let received: u64 = measured.clone().filter_map(|row| row["received"].as_u64()).sum();
        let sent: u64 = measured.filter_map(|row| row["sent"].as_u64()).sum();
        assert_eq!((sent, received), (load.messages, load.deliveries), "{}", report.command);
        assert_eq!(sum("received"), load.deliveries + load.warmup.received, "{}", report.command);
        let cells = result["series"]["heat"]["cells"].as_array().expect("a heat map");
        let counted: u64 = cells.iter().filter_map(|cell| cell[2].as_u64()).sum();
        assert_eq!(counted, load.latency_us.from_intended.count, "{}", report.command);
    }
}

/// The curve of connections that come and go: the fewest and the last of it.
fn visits(result: &Value) -> (u64, u64) {
    let points = result["series"]["visits"].as_array().expect("a curve");
    let open: Vec<u64> = points.iter().filter_map(|point| point["connections"].as_u64()).collect();
    (open.iter().copied().min().expect("points"), open.last().copied().expect("points"))
}

#[test]
fn every_command_has_a_report_that_follows_the_schema() {
    let published = Published::read();
    let hub = Hub::start();
    let target = format!("http://{}/hub", hub.address);
    let pid = std::process::id();
    let small = format!("-n 12 --rate 200/s --messages 60 --warmup 100ms --server-pid {pid}");
    let lines = [
        "connect -n 10 --hold 50ms".to_owned(),
        format!("idle -n 10 --hold 50ms --server-pid {pid}"),
        format!("negotiate -n 3 --requests 50 --server-pid {pid}"),
        format!("broadcast {small} --transport ws=80,sse=10,lp=10"),
        format!("group {small} --group-size 4"),
        format!("user {small} --users 4"),
        format!("p2p {small}"),
        format!("echo {small}"),
        format!("stream {small}"),
        "churn -n 20 --part 0.5 --life uniform:50ms-150ms --rate 100/s --duration 600ms --warmup 0".to_owned(),
        "storm -n 30 --after 100ms --duration 400ms".to_owned(),
        "storm -n 30 --part 0.5 --after 100ms --rate 200/s --messages 60 --warmup 0".to_owned(),
        "slow -n 10 --part 0.2 --read-rate 64KiB/s --rate 120/s --messages 60 --size 4096 --warmup 0".to_owned(),
        "run slow-readers --scale 0.02 --duration 900ms --warmup 0".to_owned(),
        format!("soak -n 5 --rate 100/s --duration 900ms --interval 200ms --warmup 0 --server-pid {pid}"),
    ];
    for line in lines {
        let command = line.split(' ').next().expect("a command");
        let output = Output::of(command, &target, &line);
        published.check(&output.result(), &line);
        check(&output);
        assert!(figures_read_again(&output) > 0, "{line}");
        let has = |part: fn(&Report) -> bool| part(&output.report);
        match command {
            "broadcast" => assert!(has(|report| report.classes.len() > 1), "{line}"),
            "churn" => assert!(has(|report| report.guests.is_some()) && visits(&output.result()).1 > 0, "{line}"),
            // All there again at the end.
            "storm" => assert_eq!(visits(&output.result()).1, u64::from(output.report.connect.opened), "{line}"),
            "slow" => assert!(has(|report| report.stalled.is_some()), "{line}"),
            "run" => assert!(has(|report| report.scenario.is_some() && report.stalled.is_some()), "{line}"),
            "soak" => assert!(has(|report| report.soak.is_some()), "{line}"),
            _ => assert!(output.result()["series"].get("visits").is_none(), "{line}"),
        }
    }
}
