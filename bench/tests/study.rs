//! The peer study: what is measured is on the page, what is not is said to be absent, and nothing else is there.

use std::process::Command;

use fanfare_bench::compare::case::Metric;
use fanfare_bench::compare::contender::Contender;
use fanfare_bench::compare::prepare::Machine;
use fanfare_bench::compare::report::{CaseResult, Sample};
use fanfare_bench::study::page::{self, Facts};
use fanfare_bench::study::{Measured, Question, all, plot};

fn question() -> Question {
    all().into_iter().find(|question| question.name == "one-by-size").expect("it is asked")
}

fn sample(value: f64) -> Sample {
    let mut sample = Sample::default();
    sample.values.insert(Metric::CpuUsPerDelivery.key(), value);
    sample
}

/// Two rounds at the first two points; uWebSockets fails once, `ws` is not there, and the machine slows down to a half.
fn measured(question: &Question) -> Vec<Measured> {
    let failed = || Sample { remarks: vec!["ended under load\nmore of that".to_owned()], ..Sample::default() };
    let samples = || {
        vec![
            (Contender::FloorSend, vec![sample(4.0), sample(8.0)]),
            (Contender::Uws, vec![sample(6.0), failed()]),
            (Contender::Fanfare { shards: 1 }, vec![sample(5.0), sample(10.0)]),
        ]
    };
    let points = question.points.iter().take(2).cloned();
    points
        .map(|point| Measured { result: CaseResult { case: point.case.clone(), samples: samples() }, point })
        .collect()
}

fn facts() -> Facts {
    let machine = Machine {
        processor: "A processor".to_owned(),
        cores: 2,
        kernel: "6.8.0-x".to_owned(),
        node: Some("v20.1.0".to_owned()),
        nginx: None,
        npm: serde_json::json!({ "ws": "8.0.0" }),
        crates: vec!["tokio 1.2.3".to_owned()],
    };
    Facts {
        machine,
        rounds: 2,
        quick: true,
        descriptors: 20_000,
        load: [1.5, 9.25],
        command: "how to repeat it".to_owned(),
        absent: vec!["ws: node_modules/ws/package.json is missing (install it)".to_owned()],
    }
}

#[test]
fn a_page_has_ratios_of_the_same_round_and_says_what_is_missing() {
    let question = question();
    let page = page::write(&question, &measured(&question), &facts()).expect("something was measured");
    for part in [
        "| payload, bytes | fanfare: CPU us per delivery | floor-send : fanfare | uws : fanfare |\n|---|---|---|---|\n",
        "| 64 B | 7.500 (5.000-10.000) | 0.80 (0.80-0.80) | 1.20 (1.20-1.20) |\n",
        "- Absent: ws: node_modules/ws/package.json is missing (install it).\n",
        "- uws at 64 B: ended under load (round 2)\n",
        "2 rounds of visits with a quarter of the messages",
        "tokio 1.2.3, ws 8.0.0, Node.js v20.1.0",
        "1.5, 9.2: other programs ran on both cores",
        "```text\nhow to repeat it\n```",
    ] {
        assert!(page.contains(part), "{part}\n in {page}");
    }
    assert!(!page.contains("2 KB"), "a point that was not measured has no row: {page}");
}

#[test]
fn nothing_measured_makes_neither_page_nor_plot() {
    let question = question();
    let mut measured = measured(&question);
    let samples = measured.iter_mut().flat_map(|measured| &mut measured.result.samples);
    samples.for_each(|(_, samples)| samples.fill(Sample::default()));
    assert_eq!(page::write(&question, &measured, &facts()), None);
    assert_eq!(plot::draw(&question, &measured), None);
    assert_eq!(plot::draw(&question, &[]), None);
}

#[test]
fn a_plot_has_a_line_for_everybody_and_needs_nothing_else() {
    let question = question();
    let plot = plot::draw(&question, &measured(&question)).expect("something was measured");
    for name in ["fanfare", "floor-send", "uws"] {
        assert_eq!(plot.matches(&format!(">{name}</text>")).count(), 1, "{plot}");
    }
    assert_eq!(plot.matches("class=\"line s\"").count(), 3, "{plot}");
    assert_eq!(plot.matches("class=\"range s\"").count(), 6, "one for each of two points");
    assert!(plot.contains("prefers-color-scheme:dark"), "{plot}");
    assert!(!plot.contains("href") && !plot.contains("url(") && !plot.contains("NaN"), "{plot}");
    assert_eq!(plot.matches("<text").count(), plot.matches("</text>").count());
}

#[test]
fn questions_are_listed_and_wrong_ones_refused() {
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_fanfare-peers");
        let output = Command::new(program).args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = run(&["--list"]);
    assert_eq!((code, said.lines().count()), (Some(0), all().len()), "{said}");
    let (code, said) = run(&["--question", "speed"]);
    assert!(code == Some(2) && said.contains("no question is called 'speed'"), "{said}");
    let (code, said) = run(&["--question", "idle", "--point", "7"]);
    assert!(code == Some(2) && said.contains("no question has a point [\"7\"]"), "{said}");
}
