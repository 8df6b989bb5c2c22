//! The files of `--out`: each is read back by somebody else's reader, and all tell the same.

mod output;
#[expect(dead_code, reason = "this file needs only some of the lies")]
mod support;

use base64::Engine as _;
use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::failure::Exit;
use fanfare_loadgen::latency::Distribution;
use fanfare_loadgen::report::{hlog, timeline};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use output::{Output, Published, figures_read_again, scratch};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::{Fault, Relay};

fn run(name: &str, relay: &Relay, flags: &str) -> Output {
    Output::of(name, &format!("ws://{}/hub", relay.address), flags)
}

fn good() -> Output {
    let pid = std::process::id();
    let flags = format!(
        "broadcast -n 20 --rate 60/s --duration 2500ms --warmup 300ms --workers 2 --threshold last.p99<1us \
         --threshold deliveries>0 --header Authorization:s3cret --server-pid {pid}"
    );
    run("good", &Relay::honest(), &flags)
}

/// Drops, a stall, a hang-up: everything after the first drop is merged only at the end.
fn bad() -> Output {
    let relay = Relay::start(|receiver, message| match (receiver, message) {
        (3, 20) | (7, 21) => Fault::Drop,
        (5, 60) => Fault::Hangup,
        (0, 40) => Fault::Stall(Duration::from_millis(300)),
        _ => Fault::None,
    });
    run("bad", &relay, "broadcast -n 20 --rate 40/s --duration 2500ms --warmup 0 --drain 300ms --deadline 100ms")
}

#[test]
fn a_folder_holds_all_files() {
    let output = good();
    let mut names: Vec<String> = fs::read_dir(&output.path)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let all = ["junit.xml", "latency.hlog", "report.html", "result.json", "summary.txt", "timeline.csv"];
    assert_eq!(names, all);
    assert_eq!(output.read("summary.txt"), output.report.summary());
    for name in all {
        assert!(!output.read(name).contains("s3cret"), "{name} tells a secret");
    }
    let command = output.report.run.as_ref().and_then(|run| run.command.as_deref()).expect("a command line");
    assert!(command.starts_with("fanfare-loadgen broadcast --target ws://"), "{command}");
    assert!(command.contains("--header 'Authorization: REDACTED'"), "{command}");
}

#[test]
fn no_secret_is_in_any_file() {
    let relay = Relay::honest();
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJzM2NyZXQifQ.c2lnbmF0dXJlLXMzY3JldA";
    for query in [format!("access_token={token}"), "AccessKey=czNjcmV0==&x=1".to_owned(), format!("other={token}")] {
        let target = format!("ws://{}/hub?{query}", relay.address);
        let flags =
            format!("broadcast -n 2 --window --messages 3 --warmup 0 --header Cookie:{token} --header X-Key:s3cret");
        let output = Output::of("secret", &target, &flags);
        for entry in fs::read_dir(&output.path).expect("a folder") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text");
            for secret in [token, "c2lnbmF0dXJl", "czNjcmV0", "s3cret"] {
                assert!(!text.contains(secret), "{secret} is in {}", path.display());
            }
        }
        assert!(output.read("report.html").contains("REDACTED"), "{query}");
    }
}

#[test]
fn results_follow_the_published_schema() {
    let published = Published::read();
    let relay = Relay::honest();
    let pid = std::process::id();
    let outputs = [
        good(),
        bad(),
        run("window", &relay, "broadcast -n 4 --window --messages 6 --warmup 0 --stalled 1 --stalled-rcvbuf 64KiB"),
        run("polls", &relay, "broadcast -n 4 --window --messages 6 --warmup 0 --transport long-polling"),
        run("connect", &relay, "connect -n 10 --hold 50ms"),
        run("idle", &relay, &format!("idle -n 10 --hold 50ms --server-pid {pid}")),
        run("negotiate", &relay, &format!("negotiate -n 3 --requests 50 --server-pid {pid}")),
    ];
    for output in &outputs {
        let result = output.result();
        published.check(&result, &output.path.display().to_string());
        // What --json writes is the same without the series.
        let text = serde_json::to_string(&output.report).expect("JSON");
        let plain: Value = serde_json::from_str(&text).expect("JSON");
        published.check(&plain, "without a series");
        let mut whole = result;
        whole.as_object_mut().expect("an object").remove("series").expect("a series");
        assert_eq!(whole, plain);
    }
    // The check can fail.
    let mut odd = outputs[0].result();
    odd["surprise"] = json!(1);
    assert!(published.open.is_valid(&odd) && !published.closed.is_valid(&odd));
    odd["seed"] = json!("seven");
    assert!(!published.open.is_valid(&odd));
}

fn decoded(encoded: &str) -> Histogram<u64> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
    Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram")
}

/// The sum of the log's lines with this tag, and how many there are.
fn sum(log: &str, wanted: Option<&str>) -> (Histogram<u64>, usize) {
    let (mut sum, mut lines, mut until_s) = (Histogram::new(3).expect("three digits"), 0, 0.0);
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        let LogEntry::Interval(line) = entry.expect("a good line") else { continue };
        if line.tag().as_deref() != wanted {
            continue;
        }
        assert!(line.start_timestamp().as_secs_f64() >= until_s, "lines are in order and do not overlap");
        until_s = (line.start_timestamp() + line.duration()).as_secs_f64() - 0.002;
        sum.add(decoded(line.encoded_histogram())).expect("it grows");
        lines += 1;
    }
    (sum, lines)
}

#[test]
fn the_latency_log_adds_up_to_the_result() {
    for output in [good(), bad()] {
        let log = output.read("latency.hlog");
        let head: Vec<&str> = log.lines().take(5).collect();
        assert_eq!(head[1], "#[Histogram log format version 1.3]");
        assert!(head[2].starts_with("#[StartTime: ") && head[3].starts_with("#[BaseTime: "), "{head:?}");
        assert!(head[4].starts_with("\"StartTimestamp\","), "{head:?}");
        let latencies = output.report.record.latencies.as_ref().expect("latencies");
        let equal = |tag, whole: &Distribution| {
            let (sum, lines) = sum(&log, tag);
            assert!(lines >= 2, "one line a second");
            assert!(sum == *whole.histogram(), "{tag:?}: {} against {}", sum.len(), whole.count());
        };
        equal(None, &latencies.from_intended);
        equal(Some(hlog::LAST), &latencies.last);
        assert!(latencies.from_intended.count() > 1000);
    }
}

/// The table, column by column.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn of(output: &Output) -> Self {
        let text = output.read("timeline.csv");
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(lines.next().expect("a head"), timeline::COLUMNS);
        let rows: Vec<Vec<String>> = lines.collect();
        assert!(rows.iter().all(|row| row.len() == timeline::COLUMNS.len()));
        Self { rows }
    }

    fn column(&self, name: &str, period: Option<&str>) -> Vec<f64> {
        let place = |name: &str| timeline::COLUMNS.iter().position(|&column| column == name).expect("a column");
        let (at, period_at) = (place(name), place("period"));
        let rows = self.rows.iter().filter(|row| period.is_none_or(|period| row[period_at] == period));
        rows.filter(|row| !row[at].is_empty()).map(|row| row[at].parse().expect("a number")).collect()
    }
}

#[test]
fn the_timeline_adds_up_to_the_result() {
    for output in [good(), bad()] {
        let (table, found) = (Table::of(&output), output.report.broadcast.as_ref().expect("a broadcast"));
        let sum = |name, period| table.column(name, period).iter().sum::<f64>() as u64;
        let measured = Some("measured");
        assert_eq!(sum("sent", measured), found.messages);
        assert_eq!(sum("received", measured), found.deliveries);
        assert_eq!(sum("received", None), found.deliveries + found.warmup.received);
        assert_eq!(table.column("missing_so_far", measured).last().copied(), Some(found.missing as f64));
        assert_eq!(sum("last_count", measured), found.last_receiver_us.count);
        let largest = table.column("max_us", measured).into_iter().fold(0.0, f64::max);
        assert_eq!(largest as u64, found.latency_us.from_intended.max);
        let lost = table.column("connections_lost", measured).last().copied();
        assert_eq!(lost, Some(f64::from(output.report.connect.lost)));
        assert!(table.column("seconds", measured).len() >= 3, "one row a second");
        // Rows follow each other without a gap.
        let (starts, lengths) = (table.column("start_s", None), table.column("seconds", None));
        for at in 1..starts.len() {
            assert!((starts[at - 1] + lengths[at - 1] - starts[at]).abs() < 0.0021, "row {at}");
        }
    }
}

#[test]
fn arrivals_are_in_their_second_whatever_blocked_their_message() {
    let output = bad();
    // The second drop is before half time. Without the time of arrival all that came later would be in the last row.
    let rows = Table::of(&output).column("p50_us", Some("measured"));
    assert!(rows.len() >= 3, "{rows:?}");
    assert!(output.report.broadcast.as_ref().is_some_and(|found| found.missing > 0 && found.late > 0));
    assert_eq!(output.report.exit(), Exit::ThresholdMissed);
}

#[test]
fn the_series_says_what_the_timeline_says() {
    let output = good();
    let (result, table) = (output.result(), Table::of(&output));
    let rows = result["series"]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), table.rows.len());
    let received: Vec<f64> = rows.iter().filter_map(|row| row["received"].as_f64()).collect();
    assert_eq!(received, table.column("received", None));
    let cells = result["series"]["heat"]["cells"].as_array().expect("cells");
    let counted: u64 = cells.iter().filter_map(|cell| cell[2].as_u64()).sum();
    assert_eq!(Some(counted), result["latency_us"]["from_intended"]["count"].as_u64());
    assert!(table.column("server_rss_bytes", None).iter().all(|&bytes| bytes > 1e6));
    let spectrum = result["series"]["spectra"]["last"].as_array().and_then(|points| points.last());
    assert_eq!(spectrum.map(|point| &point[1]), Some(&result["last_receiver_us"]["max"]));
}

#[test]
fn junit_is_well_formed_and_has_a_case_for_each_threshold_and_the_verdict() {
    let output = good();
    let text = output.read("junit.xml");
    let xml = roxmltree::Document::parse(&text).expect("well-formed XML");
    let suite = xml.descendants().find(|node| node.has_tag_name("testsuite")).expect("a suite");
    let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
    let failed = |case: &roxmltree::Node| case.children().any(|node| node.has_tag_name("failure"));
    let named: Vec<(&str, bool)> =
        cases.iter().map(|case| (case.attribute("name").expect("a name"), !failed(case))).collect();
    let report = &output.report;
    let mut wanted: Vec<(&str, bool)> =
        report.thresholds.iter().map(|checked| (checked.threshold.as_str(), checked.met)).collect();
    wanted.push(("valid", report.verdict.valid));
    assert_eq!(named, wanted);
    assert!(wanted.contains(&("last.p99<1us", false)) && wanted.contains(&("deliveries>0", true)));
    let count = |name: &str| suite.attribute(name).and_then(|text| text.parse::<usize>().ok());
    assert_eq!(count("tests"), Some(cases.len()));
    assert_eq!(count("failures"), Some(cases.iter().filter(|case| failed(case)).count()));
}

/// The embedded result, and the page without it.
fn taken_apart(page: &str) -> (Value, String) {
    const BEGIN: &str = r#"<script id="result" type="application/json">"#;
    let (before, rest) = page.split_once(BEGIN).expect("the result's place");
    let (embedded, after) = rest.split_once("</script>").expect("its end");
    (serde_json::from_str(embedded).expect("JSON"), format!("{before}{after}"))
}

#[test]
fn the_page_needs_nothing_else_and_holds_the_result() {
    let output = good();
    let (embedded, rest) = taken_apart(&output.read("report.html"));
    assert_eq!(embedded, output.result());
    let title = rest.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).expect("a title");
    let rest = rest.replace(title, "");
    for reference in ["http:", "https:", "//cdn", "src=", "href=", "@import", "url(", "fetch(", "import(", "{{"] {
        assert!(!rest.contains(reference), "the page has {reference}");
    }
    assert!(rest.contains("default-src 'none'"), "a browser is told as well");
}

#[test]
fn a_page_is_made_anew_from_folder_or_file() {
    let output = good();
    let first = output.read("report.html");
    fs::remove_file(output.path.join("report.html")).expect("removed");
    let elsewhere = output.path.join("r.html");
    for (from, to) in [(output.path.clone(), None), (output.path.join("result.json"), Some(elsewhere.clone()))] {
        let mut words = vec!["fanfare-loadgen".into(), "report".into(), from.into_os_string()];
        words.extend(to.iter().flat_map(|to| ["-o".into(), to.clone().into_os_string()]));
        fanfare_loadgen::execute(Cli::try_parse_from(words).expect("good flags").command);
    }
    // Not assert_eq: two pages are no message.
    assert!(output.read("report.html") == first);
    assert!(output.read("r.html") == first);
}

#[test]
fn a_result_read_again_has_the_figures_of_the_run() {
    let output = good();
    assert!(figures_read_again(&output) > 40);
}

/// What a verb ends with, as a shell sees it.
fn exit_of(words: &[&str]) -> (Option<i32>, String) {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen")).args(words).output().expect("it runs");
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.code(), text)
}

#[test]
fn verbs_end_with_the_code_that_scripts_wait_for() {
    let output = good();
    let folder = output.path.to_str().expect("a path");
    let mut slower = output.result();
    slower["verdict"] = json!({"valid": true, "reasons": [], "notes": []});
    let base = output.path.join("base.json");
    fs::write(&base, slower.to_string()).expect("a file");
    for place in ["p50", "p99", "p99_9", "max"] {
        slower["last_receiver_us"][place] = json!(2 * slower["last_receiver_us"][place].as_u64().expect("a number"));
    }
    let other = output.path.join("slower.json");
    fs::write(&other, slower.to_string()).expect("a file");
    let (base, other) = (base.to_str().expect("a path"), other.to_str().expect("a path"));

    let (code, text) = exit_of(&["compare", base, other]);
    assert_eq!(code, Some(0), "{text}");
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed.contains("last_receiver_us.p99") && squeezed.contains("2.000x"), "{text}");
    assert_eq!(exit_of(&["compare", base, other, "--fail-if", "last.p99>1.1x"]).0, Some(6));
    assert_eq!(exit_of(&["compare", base, other, "--fail-if", "missing>0"]).0, Some(0));
    assert_eq!(exit_of(&["compare", base, other, "--fail-if", "nonsense"]).0, Some(2));

    let newer = output.path.join("newer.json");
    fs::write(&newer, r#"{"schema":"fanfare-loadgen/2"}"#).expect("a file");
    let (code, text) = exit_of(&["report", newer.to_str().expect("a path")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("fanfare-loadgen/2") && text.contains("help:"), "{text}");
    let (code, text) = exit_of(&["report", output.path.join("summary.txt").to_str().expect("a path")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("this is not a result"), "{text}");

    // A folder with something in it is refused before a socket is opened.
    let (code, text) = exit_of(&["connect", "--target", "ws://127.0.0.1:9/", "--out", folder]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("not empty") && text.contains("--out"), "{text}");
    // One that was made for nothing goes again.
    let nothing = scratch("nothing");
    let path = nothing.to_str().expect("a path");
    let (code, _) = exit_of(&["broadcast", "--target", "ws://127.0.0.1:9/", "-n", "1", "--out", path, "--quiet"]);
    assert_eq!((code, nothing.exists()), (Some(1), false));
}

#[test]
fn without_a_folder_nothing_is_kept_over_time() {
    let relay = Relay::honest();
    let target = format!("ws://{}/hub", relay.address);
    let line =
        ["fanfare-loadgen", "broadcast", "--target", &target, "--quiet", "-n", "4", "--window", "--messages", "5"];
    let job = Cli::try_parse_from(line).expect("good flags").command.into_job().expect("a job");
    let report = fanfare_loadgen::run(job).expect("a report");
    assert!(!report.record.is_kept());
    assert!(report.record.latencies.as_ref().is_none_or(|latencies| latencies.intervals.is_none()));
    assert!(report.run.is_some_and(|run| run.command.is_none() && run.host.cpus > 0));
    assert!(!Path::new("report.html").exists());
}
