//! The `fanfare-loadgen` program; everything is in the library.

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fanfare_loadgen::execute(Cli::parse().command)
}
