//! The search for the highest load against a real engine in this process.

mod hub;

use clap::Parser;
use fanfare_loadgen::cli::{Cli, Command};
use fanfare_loadgen::failure::{Exit, Failure};
use fanfare_loadgen::search::{Outcome, SearchReport};
use hub::Hub;

fn search(hub: &Hub, flags: &str) -> Result<(SearchReport, Vec<String>), Failure> {
    let target = format!("http://{}/hub", hub.address);
    let line = ["fanfare-loadgen", "search", "--target", &target, "--quiet"];
    let words = line.into_iter().chain(flags.split_whitespace());
    let Command::Search(args) = Cli::try_parse_from(words).expect("good flags").command else { panic!("a search") };
    let mut lines = Vec::new();
    let found = args.search(|line| lines.push(line.to_owned()))?;
    Ok((found, lines))
}

/// A closed loop: nothing here depends on time. Ten messages make ten deliveries for each connection.
const COUNTED: &str = "--vary connections --window --messages 10 --warmup 0 --drain 300ms --slo deliveries<=400";

#[test]
fn the_most_connections_that_meet_an_objective_are_found_and_confirmed() {
    let hub = Hub::start();
    let (found, lines) = search(&hub, &format!("{COUNTED} --from 5 --to 1000")).expect("a report");
    assert_eq!((found.found, found.confirmed, found.exit()), (Some(40.0), 3, Exit::Done), "{found:?}");
    let tried: Vec<(f64, Outcome)> = found.steps.iter().map(|step| (step.value, step.outcome)).collect();
    assert_eq!(
        tried[..5],
        [5.0, 10.0, 20.0, 40.0, 80.0].map(|n| (n, if n > 40.0 { Outcome::Missed } else { Outcome::Met }))
    );
    assert!(tried.iter().all(|&(value, outcome)| (value <= 40.0) == (outcome == Outcome::Met)), "{tried:?}");
    assert_eq!(lines.len(), tried.len());
    assert!(lines[4].contains("MISSED") && lines[4].contains("deliveries<=400 is 800"), "{}", lines[4]);
    let last = found.result_line();
    assert!(last.contains("highest number of connections that meets deliveries<=400: 40"), "{last}");
    assert!(last.contains("44 misses it"), "{last}");
}

#[test]
fn an_objective_that_nothing_meets_ends_the_search_with_a_missed_threshold() {
    let hub = Hub::start();
    let (found, _) = search(&hub, &format!("{COUNTED} --slo deliveries<1 --from 4 --to 8")).expect("a report");
    assert_eq!((found.found, found.exit()), (None, Exit::ThresholdMissed));
    assert!(found.steps.len() <= 4 && found.steps.iter().all(|step| step.outcome == Outcome::Missed), "{found:?}");
    assert!(found.result_line().contains("no number of connections was found"), "{}", found.result_line());
}

#[test]
fn rates_are_searched_with_a_bound_on_runs() {
    let hub = Hub::start();
    let flags = "-n 5 --vary rate --from 50 --to 200 --duration 200ms --warmup 0 --steps 4 --slo last.p99<1m";
    let (found, lines) = search(&hub, flags).expect("a report");
    // On a busy machine the generator may call its own runs invalid; it never runs more often than it may.
    assert!((1..=4).contains(&lines.len()) && found.steps[0].value == 50.0, "{found:?}");
    assert!(found.steps.iter().all(|step| step.outcome != Outcome::Missed), "{found:?}");
    assert!(found.result_line().starts_with("result    "));
}

#[test]
fn what_is_met_in_spite_of_a_late_generator_is_met() {
    let hub = Hub::start();
    let flags = "-n 5 --from 100 --to 100 --duration 300ms --warmup 0 --handicap 20ms --slo last.p99<1m";
    let (found, lines) = search(&hub, flags).expect("a report");
    assert_eq!((found.found, found.confirmed, lines.len()), (Some(100.0), 3, 3), "{found:?}");
    assert!(found.result_line().contains("nothing higher was tried"), "{}", found.result_line());
}

#[test]
fn searches_that_cannot_be_made_are_explained() {
    let hub = Hub::start();
    let failure = search(&hub, "--window --slo last.p99<1s").expect_err("no rate");
    assert!(failure.place.contains("--window"), "{failure}");
    let failure = search(&hub, "--from 10 --to 5 --slo last.p99<1s").expect_err("nothing between");
    assert!(failure.place.contains("--from"), "{failure}");
    let failure = search(&hub, &format!("{COUNTED} --publish-method Shout")).expect_err("no such method");
    assert!(failure.place.contains("--publish-method"), "{failure}");
}
