//! The `fanfare-loadgen` program; everything is in the library.

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whole huge pages for tables of a few hundred kilobytes would be most of what an idle fleet costs. Without this
    // everything works, and costs more.
    let _ = fanfare_engine::io::uring::refuse_huge_pages();
    fanfare_loadgen::execute(Cli::parse().command)
}
