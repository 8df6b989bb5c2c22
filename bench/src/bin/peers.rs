//! The peer study: see `fanfare_bench::study`.
#![allow(clippy::print_stdout)] // the table is the output

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fanfare_bench::compare::contender::Contender;
use fanfare_bench::compare::prepare::Machine;
use fanfare_bench::compare::process::Scratch;
use fanfare_bench::compare::visit::Visitor;
use fanfare_bench::compare::{measure, setup};
use fanfare_bench::study::page::{self, Facts};
use fanfare_bench::study::{Measured, Question, all, plot};

/// Asks Fanfare and its peers the same questions in turns, and writes for each a page with a table, a plot and all that
/// was measured.
#[derive(Debug, Parser)]
#[command(name = "fanfare-peers", max_term_width = 110)]
struct Arguments {
    /// Only these questions; may be repeated. --list names them
    #[arg(long = "question", value_name = "NAME")]
    questions: Vec<String>,
    /// Only these points of them, as in the table, for example "512 B" or 1,000; may be repeated
    #[arg(long = "point", value_name = "LABEL")]
    points: Vec<String>,
    /// Only these servers, and Fanfare
    #[arg(long = "servers", value_name = "LIST", value_delimiter = ',')]
    servers: Vec<Contender>,
    /// Visits to each server at each point
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A quarter of the messages
    #[arg(long)]
    quick: bool,
    /// Core for the server
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: u32,
    /// Core for the load generator
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: u32,
    /// Where pages (NAME.md), plots (NAME.svg) and samples (NAME.json) go
    #[arg(long, value_name = "FOLDER", default_value = "target/peers")]
    out: PathBuf,
    /// Measure what is built and installed already
    #[arg(long)]
    no_build: bool,
    /// Print the questions and their points, and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanfare-peers: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every question has an answer.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let questions = choose(arguments)?;
    if arguments.list {
        for question in questions {
            let labels: Vec<&str> = question.points.iter().map(|point| point.label.as_str()).collect();
            println!("{}: {} {}: {}", question.name, question.asks, question.axis, labels.join("; "));
        }
        return Ok(true);
    }
    let scratch = Scratch::new().map_err(|error| format!("no temporary directory: {error}"))?;
    let visitor = setup::visitor(arguments.server_core, arguments.load_core, arguments.quick, scratch.path())?;
    let descriptors = setup::raise_descriptors().map_err(|error| format!("descriptors: {error}"))?;
    fs::create_dir_all(&arguments.out).map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    if !arguments.no_build {
        setup::provide(|what| eprintln!("fanfare-peers: {what}"))?;
    }
    let mut answered = true;
    for question in questions {
        answered &= answer(&question, arguments, &visitor, descriptors)?;
    }
    Ok(answered)
}

fn choose(arguments: &Arguments) -> Result<Vec<Question>, String> {
    let mut questions = all();
    let unknown = arguments.questions.iter().find(|name| !questions.iter().any(|question| question.name == **name));
    if let Some(name) = unknown {
        return Err(format!("no question is called '{name}'; --list names all"));
    }
    questions.retain(|question| {
        arguments.questions.is_empty() || arguments.questions.iter().any(|name| name == question.name)
    });
    for question in &mut questions {
        question.points.retain(|point| arguments.points.is_empty() || arguments.points.contains(&point.label));
    }
    questions.retain(|question| !question.points.is_empty());
    if questions.is_empty() {
        return Err(format!("no question has a point {:?}; --list names all", arguments.points));
    }
    Ok(questions)
}

/// Measures one question and writes its files. `false` if no server gave a value.
fn answer(question: &Question, arguments: &Arguments, visitor: &Visitor, descriptors: u64) -> Result<bool, String> {
    let wanted =
        |who: Contender| arguments.servers.is_empty() || who.shards().is_some() || arguments.servers.contains(&who);
    let asked = question.points.iter().flat_map(|point| &point.case.contenders).copied().filter(|&who| wanted(who));
    let absent = setup::absent(asked, &visitor.places);
    let takes_part = |who: Contender| wanted(who) && !absent.iter().any(|(missing, _)| *missing == who);
    absent.iter().for_each(|(_, why)| eprintln!("fanfare-peers: going on without {why}"));
    let before = load_average();
    let mut measured = Vec::new();
    for point in &question.points {
        let progress = |what: &str| eprintln!("{what}");
        let result = measure(point.case.clone(), arguments.rounds, visitor, takes_part, progress);
        measured.push(Measured { point: point.clone(), result });
    }
    let facts = Facts {
        machine: Machine::look(&setup::peers()),
        rounds: arguments.rounds,
        quick: arguments.quick,
        descriptors,
        load: [before, load_average()],
        command: command(question, arguments),
        absent: absent.into_iter().map(|(_, why)| why).collect(),
    };
    write_file(arguments, &format!("{}.json", question.name), &json(question, &measured, &facts))?;
    let (Some(page), Some(plot)) = (page::write(question, &measured, &facts), plot::draw(question, &measured)) else {
        eprintln!("fanfare-peers: {}: no server gave a value; the samples are in the JSON file", question.name);
        return Ok(false);
    };
    write_file(arguments, &format!("{}.md", question.name), &page)?;
    write_file(arguments, &format!("{}.svg", question.name), &plot)?;
    println!("{page}");
    Ok(true)
}

/// How to measure it again.
fn command(question: &Question, arguments: &Arguments) -> String {
    let mut command =
        format!("cargo run --release -p fanfare-bench --bin fanfare-peers -- --question {}", question.name);
    command.push_str(&format!(" --rounds {}", arguments.rounds));
    if arguments.quick {
        command.push_str(" --quick");
    }
    for point in &arguments.points {
        command.push_str(&format!(" --point \"{point}\""));
    }
    if !arguments.servers.is_empty() {
        let servers: Vec<String> = arguments.servers.iter().map(Contender::to_string).collect();
        command.push_str(&format!(" --servers {}", servers.join(",")));
    }
    command
}

fn json(question: &Question, measured: &[Measured], facts: &Facts) -> String {
    let points = measured.iter().map(
        |Measured { point, result }| serde_json::json!({ "label": point.label, "at": point.at, "case": result.json() }),
    );
    let document = serde_json::json!({
        "format": 1, "question": question.name, "asks": question.asks,
        "machine": facts.machine, "load": facts.load, "absent": facts.absent, "command": facts.command,
        "points": points.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

fn write_file(arguments: &Arguments, name: &str, text: &str) -> Result<(), String> {
    let path = arguments.out.join(name);
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
