//! Counts instructions and compares them with a checked-in file: see `fanfare_bench::instructions`.
#![allow(clippy::print_stdout)] // the result is what it prints

use clap::Parser;
use fanfare_bench::instructions::baseline::{Baseline, Comparison, TOLERANCE_PERCENT};
use fanfare_bench::instructions::callgrind::{Callgrind, Count, CountError, report};
use fanfare_bench::instructions::meter::Meter;
use fanfare_bench::instructions::tools::{Tools, processor};
use fanfare_bench::instructions::{Case, cases};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

/// How to accept new counts.
const ACCEPT: &str = "cargo run --profile instructions -p fanfare-bench --bin fanfare-instructions -- --write";

/// Counts the instructions of parsers, encoders and deliveries under valgrind and compares them with a file. Exit
/// status 0: the file is true, or of other tools; 1: something got worse, or better; 2: nothing could be counted.
#[derive(Debug, Parser)]
#[command(name = "fanfare-instructions")]
struct Arguments {
    /// The file with the counts.
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
    baseline: PathBuf,
    /// Only cases whose name has this in it. May be given several times.
    #[arg(long = "case", value_name = "TEXT")]
    only: Vec<String>,
    /// Writes the counts into the file instead of comparing. With --case, the other counts in it stay.
    #[arg(long)]
    write: bool,
    /// Prints every count, not only what moved.
    #[arg(long)]
    all: bool,
    /// Where profiles go, for callgrind_annotate.
    #[arg(long, value_name = "FOLDER", default_value = "target/callgrind")]
    profiles: PathBuf,
    /// Makes every case so many percent slower than it is, to see that it is noticed.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    slower: u32,
    /// Runs one case in this process, uncounted: what valgrind is given.
    #[arg(long, value_name = "NAME", hide = true)]
    run: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.run {
        Some(name) => run_one(name, arguments.slower),
        None => guard(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("fanfare-instructions: {error}");
        ExitCode::from(2)
    })
}

fn run_one(name: &str, slower_percent: u32) -> Result<ExitCode, String> {
    let case = cases().into_iter().find(|case| case.name == name).ok_or_else(|| format!("no case {name}"))?;
    let mut meter = Meter::slower(slower_percent);
    case.run(&mut meter);
    print!("{}", report(meter.operations(), &processor()));
    Ok(ExitCode::SUCCESS)
}

fn guard(arguments: &Arguments) -> Result<ExitCode, String> {
    let wanted = |case: &Case| arguments.only.is_empty() || arguments.only.iter().any(|text| case.name.contains(text));
    let chosen: Vec<String> = cases().into_iter().filter(wanted).map(|case| case.name).collect();
    if chosen.is_empty() {
        return Err(format!("no case has {:?} in its name", arguments.only));
    }
    let callgrind = Callgrind::find(&arguments.profiles).map_err(|CountError(what)| what)?;
    let counts = count_all(&callgrind, &chosen, arguments.slower).map_err(|CountError(what)| what)?;
    let processor = counts[0].1.processor.clone();
    let tools = Tools::here(&callgrind, processor);
    let counted = Baseline::new(tools, counts.into_iter().map(|(name, count)| (name, count.instructions)));
    if arguments.all {
        for (name, instructions) in &counted.instructions {
            println!("{instructions:>14.1}  {name}");
        }
    }
    if arguments.write {
        return write(arguments, counted);
    }
    let recorded = Baseline::read(&arguments.baseline)
        .map_err(|error| format!("{error}. Counts are written with\n    {ACCEPT}"))?;
    compare(&recorded, &counted, arguments, &callgrind)
}

/// Counts the cases, as many at a time as there are cores: what the others do does not change a count.
fn count_all(callgrind: &Callgrind, names: &[String], slower: u32) -> Result<Vec<(String, Count)>, CountError> {
    let program = std::env::current_exe().map_err(|error| CountError(format!("who am I? {error}")))?;
    let (next, counts) = (Mutex::new(names.iter()), Mutex::new(Vec::new()));
    let work = || -> Result<(), CountError> {
        loop {
            let Some(name) = next.lock().expect("no thread panics with it").next() else { return Ok(()) };
            let count = count(callgrind, &program, name, slower)?;
            counts.lock().expect("no thread panics with it").push((name.clone(), count));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a thread that counts"))
    })?;
    Ok(counts.into_inner().expect("no thread panicked with it"))
}

fn count(callgrind: &Callgrind, program: &Path, name: &str, slower: u32) -> Result<Count, CountError> {
    callgrind.count(name, program, &["--run", name, "--slower", &slower.to_string()])
}

fn write(arguments: &Arguments, mut counted: Baseline) -> Result<ExitCode, String> {
    if !arguments.only.is_empty()
        && let Ok(recorded) = Baseline::read(&arguments.baseline)
    {
        let differences = counted.tools.differences(&recorded.tools);
        if !differences.is_empty() {
            let differences = differences.join("; ");
            return Err(format!("the other counts in the file are of other tools: {differences}. Leave out --case."));
        }
        for (name, instructions) in recorded.instructions {
            counted.instructions.entry(name).or_insert(instructions);
        }
    }
    counted.write(&arguments.baseline)?;
    println!("{} counts written to {}", counted.instructions.len(), arguments.baseline.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(
    recorded: &Baseline,
    counted: &Baseline,
    arguments: &Arguments,
    callgrind: &Callgrind,
) -> Result<ExitCode, String> {
    if counted.tools.profile != recorded.tools.profile {
        return Err(format!(
            "this program was made with the profile `{}`, and the counts are of `{}`. Run it with\n    {}",
            counted.tools.profile,
            recorded.tools.profile,
            ACCEPT.trim_end_matches(" -- --write")
        ));
    }
    let comparison = Comparison::new(recorded, counted, !arguments.only.is_empty());
    let tolerance = match comparison.same_tools {
        true => format!("tolerance {TOLERANCE_PERCENT} %"),
        false => "other tools than recorded: no count fails".to_owned(),
    };
    let differences = counted.tools.differences(&recorded.tools);
    if !differences.is_empty() {
        println!("counted with {}", differences.join("; "));
        println!("so no count can be held against the code. Write new ones with the tools that are used from now on:");
        println!("    {ACCEPT}");
    }
    print!("{comparison}");
    let held = comparison.holds();
    if !held {
        println!(
            "A count that moved by more than the tolerance needs a reason. If the change is meant (also if it is for the \
             better: the gain would be lost again unnoticed), write the new counts and commit them with it:\n    \
             {ACCEPT}\nWhere the instructions are: callgrind_annotate {}",
            callgrind.profile("CASE-NAME").display(),
        );
    }
    let largest = comparison.largest().map_or_else(String::new, |(name, percent)| format!("{percent:+.2} % ({name})"));
    println!("instructions: {} cases, largest deviation {largest}, {tolerance}", counted.instructions.len());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
