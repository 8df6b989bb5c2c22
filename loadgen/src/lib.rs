//! Load generator for SignalR and WebSocket servers: open loop, a ledger for every receiver, every payload verified.
//!
//! ```text
//!  target, connection_string  where the server is, and what lets us in
//!  cli, scenario -> job  flags and files, checked before a socket is opened
//!  run, broadcast        the coordinator: stages, samples of both sides, report
//!    | shared            the board between them: figures, plans, finished tracks
//!  worker                one thread, one ring: the turn
//!    opening             empty slot -> open connection -> end
//!      subscribing       the part of it that has no WebSocket: events, polls
//!      negotiating       asking for tokens, also without using them
//!      posting           what receivers without a WebSocket say, over one socket
//!    receiving           one receive per connection at a time, as many in a turn as there are buffers
//!    sending, outgoing   one send per connection at a time; bytes in a log of their own
//!    publishing          follows the plan: stamp, encode, send
//!    events, answers     what hub messages are wrapped in when it is not WebSocket frames
//!    reader -> ledger    compares deliveries in place, then books them per receiver
//!             latency    times per message, merged over workers into histograms
//!  procfs, baseline      what the server and the kernel pay
//!  gaps, silence          stretches in which nothing happened, on either side
//!  verdict, fault, threshold, report (its own map is there)
//! ```
//!
//! It runs on the engine's `io` rooms with direct descriptors, so that a fleet is not bound by the descriptor limit
//! and an idle connection costs a few dozen bytes.
#![forbid(unsafe_code)]

pub mod answers;
pub mod audience;
mod baseline;
mod broadcast;
pub mod cli;
pub mod client;
mod closing;
pub mod connection_string;
mod delivering;
mod entering;
pub mod events;
pub mod failure;
pub mod fault;
pub mod fleet;
pub mod gaps;
mod http_publishing;
pub mod job;
pub mod latency;
pub mod ledger;
mod mergers;
mod negotiating;
mod opening;
mod os;
mod outcome;
mod outgoing;
pub mod payload;
mod phrases;
pub mod plan;
mod posting;
pub mod procfs;
mod progress;
mod publishing;
pub mod quantity;
pub mod reader;
mod receiving;
pub mod report;
mod run;
pub mod scenario;
pub mod search;
pub mod self_check;
mod sending;
pub mod shared;
mod silence;
pub mod soak;
pub mod sock_diag;
mod stalled;
pub mod storm;
mod subscribing;
pub mod target;
pub mod threshold;
pub mod verdict;
mod visiting;
pub mod wire;
pub mod worker;

use crate::cli::Command;
use crate::failure::{Exit, Failure};
use crate::job::Job;
use crate::report::folder::Folder;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub use crate::run::run;

/// Runs one command as its own program would: progress and errors on standard error, the summary (or the JSON, with
/// `--json -`) on standard output. The exit code is that of [`failure::Exit`].
pub fn execute(command: Command) -> ExitCode {
    let done = match command {
        Command::Report(args) => report::verbs::report(&args),
        Command::Compare(args) => report::verbs::compare(&args),
        Command::SelfCheck(args) => args.execute(),
        Command::Search(args) => args.execute(),
        Command::Run(args) if args.prints() => args.print(),
        command => measure(command),
    };
    let exit = done.unwrap_or_else(|failure| {
        // Nowhere is left to report that standard error is gone.
        let _ = writeln!(std::io::stderr(), "{failure}");
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn measure(command: Command) -> Result<Exit, Failure> {
    measure_job(command.into_job()?)
}

/// One job from start to its printed report and its files.
pub(crate) fn measure_job(mut job: Job) -> Result<Exit, Failure> {
    job.output.arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let json = job.output.json.clone();
    let folder = job.output.folder.as_deref().map(Folder::claim).transpose()?;
    let report = run(job).inspect_err(|_| folder.iter().for_each(Folder::give_up))?;
    write_result(&report, &report.summary(), json.as_deref())?;
    if let Some(folder) = &folder {
        folder.write(&report)?;
        let page = folder.page();
        // With --json - standard output holds the result and nothing else.
        if json.as_deref() != Some(Path::new("-")) {
            let line = format!("report    {}\n", page.display());
            std::io::stdout().write_all(line.as_bytes()).map_err(|error| unwritten(Path::new("-"), &error))?;
        }
    }
    Ok(report.exit())
}

fn unwritten(place: &Path, error: &dyn std::fmt::Display) -> Failure {
    let cause = format!("the result cannot be written: {error}");
    Failure::new(Exit::Failed, cause, place.display().to_string(), "choose a writable file with --json")
}

/// Writes a result as JSON where the user wants it, and the summary to standard output unless the JSON goes there.
pub(crate) fn write_result(result: &impl Serialize, summary: &str, json: Option<&Path>) -> Result<(), Failure> {
    let stdout = Path::new("-");
    if let Some(path) = json {
        let mut text = serde_json::to_string_pretty(result).map_err(|error| unwritten(path, &error))?;
        text.push('\n');
        if path == stdout {
            return std::io::stdout().write_all(text.as_bytes()).map_err(|error| unwritten(path, &error));
        }
        std::fs::write(path, text).map_err(|error| unwritten(path, &error))?;
    }
    std::io::stdout().write_all(summary.as_bytes()).map_err(|error| unwritten(stdout, &error))
}
