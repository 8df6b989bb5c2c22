//! The `fanfare` binary: reads the command line, does one verb, says how it went.

mod cli;
mod control;
mod failure;
mod terminal;
mod units;
mod url;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _ = cli::parse(std::env::args_os());
    ExitCode::SUCCESS
}
