//! The `fanfare` binary: reads the command line, does one verb, says how it went.

mod cli;
mod client;
mod control;
mod dev;
mod dial;
mod failure;
mod file_watch;
mod interrupt;
mod key_url;
mod keyring;
mod life;
mod listen;
mod node;
mod output;
mod public;
mod refusals;
mod relay;
mod send;
mod serve;
mod slow_log;
mod terminal;
mod tls_files;
mod units;
mod url;

use std::process::ExitCode;
use std::time::Instant;

use cli::{Parsed, Verb};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Without it everything works, with a larger figure in `top`.
    let _ = fanfare_engine::io::uring::refuse_huge_pages();
    run().unwrap_or_else(|failure| {
        output::log(&failure.to_string());
        ExitCode::from(failure.code().exit_status())
    })
}

fn run() -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let verb = match cli::parse(std::env::args_os())? {
        Parsed::Verb(verb) => verb,
        Parsed::Text(text) => {
            return Ok(print(&text));
        }
    };
    match verb {
        Verb::Dev(args) => dev::run(&args, started),
        Verb::Serve(args) => serve::run(&args, started),
        Verb::Listen(args) => listen::run(&args),
        Verb::Send(args) => send::run(&args),
        Verb::Bench { command } => Ok(fanfare_loadgen::execute(*command)),
        Verb::Version(args) => Ok(print(&version(args.verbose))),
    }
}

/// A text that was asked for. Whoever has stopped reading has what he wanted (`fanfare --help | head`).
fn print(text: &str) -> ExitCode {
    match output::say(text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            output::log(&format!("error  cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn version(verbose: bool) -> String {
    let mut text = format!("fanfare {}\n", env!("CARGO_PKG_VERSION"));
    if verbose {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        text.push_str(&format!("rustc   {}\n", env!("FANFARE_RUSTC")));
        text.push_str(&format!("target  {}\n", env!("FANFARE_TARGET")));
        text.push_str(&format!("kernel  {}\n", kernel.trim()));
    }
    text
}
