//! The `fanfare` binary: reads the command line, does one verb, says how it went.

mod cli;
mod client;
mod control;
mod dial;
mod failure;
mod interrupt;
mod listen;
mod send;
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
