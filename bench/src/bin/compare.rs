//! Measures Fanfare and its peers in one run and prints a table of ratios: see `fanfare_bench::compare`.
#![allow(clippy::print_stdout)] // the table is the output

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fanfare_bench::compare::case::{self, Case};
use fanfare_bench::compare::contender::{Contender, Places};
use fanfare_bench::compare::loadgen::Loadgen;
use fanfare_bench::compare::measure;
use fanfare_bench::compare::prepare::{self, Machine};
use fanfare_bench::compare::process::Scratch;
use fanfare_bench::compare::report::{CaseResult, Verdict};
use fanfare_bench::compare::visit::Visitor;

/// Starts Fanfare, the physical floor and peer servers in turns on one core, loads them from another, and prints the
/// ratios of what they cost. Ends with 1 if Fanfare missed a promised ratio that was measured.
#[derive(Debug, Parser)]
#[command(name = "fanfare-compare", max_term_width = 110)]
struct Arguments {
    /// Only cases whose name begins so, for example w1-512B-1000 or w16, or those of one promise: row1 to row13; may be
    /// repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Only these servers: floor-send, floor-ring, floor-idle, uws, ws, nchan, fanfare, fanfare-sse,
    /// fanfare-poll, fanfare-tls, fanfare-relayed, fanfare-2, fanfare-4
    #[arg(long = "servers", value_name = "LIST", value_delimiter = ',')]
    servers: Vec<Contender>,
    /// Visits to each server [default: 7, with --quick 3; row 6 is done once, row 9 ten times]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// A few cases, fewer rounds, shorter visits
    #[arg(long)]
    quick: bool,
    /// Core for the server
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: u32,
    /// Core for the load generator
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: u32,
    /// Write everything measured as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure what is built and installed already
    #[arg(long)]
    no_build: bool,
    /// Print the names of the cases and end
    #[arg(long)]
    list: bool,
}

const ROUNDS: u32 = 7;
const ROUNDS_QUICK: u32 = 3;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanfare-compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether no promise was found broken.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let cases = choose(arguments)?;
    if arguments.list {
        cases.iter().for_each(|case| println!("row {}  {case}", case.row));
        return Ok(true);
    }
    if cfg!(debug_assertions) {
        return Err("this is a debug build, and so would be its numbers: run it with --release".to_owned());
    }
    if arguments.server_core == arguments.load_core {
        return Err("--server-core and --load-core must differ, or each measures the other as well".to_owned());
    }
    let scratch = Scratch::new().map_err(|error| format!("no temporary directory: {error}"))?;
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
    let visitor = visitor(arguments, &peers, scratch.path())?;
    if !arguments.no_build {
        let workspace = peers.ancestors().nth(2).expect("compare is two levels below the workspace");
        prepare::build(workspace)?;
        if let Err(error) = prepare::install_peers(&peers) {
            eprintln!("fanfare-compare: going on without peers of npm: {error}");
        }
    }
    let absent = absent(&cases, arguments, &visitor.places);
    let rounds = |case: &Case| {
        let usual = case.rounds.unwrap_or(ROUNDS);
        arguments.rounds.unwrap_or(if arguments.quick { usual.min(ROUNDS_QUICK) } else { usual })
    };
    let takes_part = |who| is_wanted(who, arguments) && !absent.contains(&who);
    let mut results = Vec::new();
    for case in cases {
        let rounds = rounds(&case);
        let result = measure(case, rounds, &visitor, takes_part, |what| eprintln!("{what}"));
        print!("{}", result.text());
        results.push(result);
        // After every case: a long run that is interrupted keeps what it has.
        write_json(arguments, &peers, &results)?;
    }
    let missed = |result: &CaseResult| result.case.bars.iter().any(|bar| result.judge(bar).1 == Verdict::Missed);
    Ok(!results.iter().any(missed))
}

fn choose(arguments: &Arguments) -> Result<Vec<Case>, String> {
    let all = case::all();
    let unknown = arguments.cases.iter().find(|&selector| !all.iter().any(|case| case.is_meant_by(selector)));
    if let Some(selector) = unknown {
        return Err(format!("no case begins with '{selector}'; --list shows all"));
    }
    let named = |case: &Case| arguments.cases.iter().any(|selector| case.is_meant_by(selector));
    let chosen = |case: &Case| if arguments.cases.is_empty() { !arguments.quick || case.in_quick } else { named(case) };
    Ok(all.into_iter().filter(chosen).collect())
}

fn visitor(arguments: &Arguments, peers: &Path, scratch: &Path) -> Result<Visitor, String> {
    let this = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let binaries = this.parent().expect("a program lies in a directory").to_owned();
    let loadgen = Loadgen {
        executable: binaries.join("fanfare-loadgen"),
        core: arguments.load_core,
        scratch: scratch.to_owned(),
    };
    let places =
        Places { binaries, peers: peers.to_owned(), scratch: scratch.to_owned(), server_core: arguments.server_core };
    Ok(Visitor { places, loadgen, quick: arguments.quick })
}

fn is_wanted(who: Contender, arguments: &Arguments) -> bool {
    arguments.servers.is_empty() || arguments.servers.contains(&who)
}

/// Those that are wanted and cannot take part, each named once with the remedy.
fn absent(cases: &[Case], arguments: &Arguments, places: &Places) -> Vec<Contender> {
    let mut absent = Vec::new();
    for who in cases.iter().flat_map(|case| &case.contenders).copied() {
        if !is_wanted(who, arguments) || absent.contains(&who) {
            continue;
        }
        if let Err(why) = who.check(places) {
            eprintln!("fanfare-compare: going on without {why}");
            absent.push(who);
        }
    }
    absent
}

fn write_json(arguments: &Arguments, peers: &Path, results: &[CaseResult]) -> Result<(), String> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let document = serde_json::json!({
        "format": 1,
        "machine": Machine::look(peers),
        "options": {
            "quick": arguments.quick,
            "server_core": arguments.server_core, "load_core": arguments.load_core,
        },
        "cases": results.iter().map(CaseResult::json).collect::<Vec<_>>(),
    });
    fs::write(path, format!("{document:#}\n")).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
