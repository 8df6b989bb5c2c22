//! The physical floor as a server of its own: see `fanfare_bench::floor`.
#![allow(clippy::print_stdout)] // the one line of output is what a harness waits for

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use fanfare_bench::floor::{Floor, FloorOptions, Mode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Broadcasts every WebSocket message to all connections at the least possible cost. Prints `listening` when ready and
/// its counts under `GET /stats`.
#[derive(Debug, Parser)]
#[command(name = "floor")]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// How to send.
    #[arg(long, value_enum, default_value_t = ModeName::Send)]
    mode: ModeName,
    /// Largest frame in bytes, its 4-byte header included; longer messages are cut. Fanfare cuts at 2048. Without it
    /// every message is one frame.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(8..))]
    fragment: Option<u32>,
    /// Messages that may share one buffer when they arrive together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    burst_max: u32,
    /// With `--mode ring`: sends handed to the kernel in one enter.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=4096))]
    enter_max: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    /// send(2) for each connection.
    Send,
    /// io_uring sends on registered files.
    Ring,
    /// Accept, upgrade, hold: nothing is read or sent after that.
    Idle,
}

/// Bytes of a frame header for payloads of 126 to 65,535 bytes, unmasked (RFC 6455 5.2).
const FRAME_HEADER_BYTES: usize = 4;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<()> {
    let descriptors = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, maximum: descriptors.maximum })?;
    let mode = match arguments.mode {
        ModeName::Send => Mode::Send,
        ModeName::Ring => Mode::Ring { enter_sends_max: arguments.enter_max },
        ModeName::Idle => Mode::Idle,
    };
    let mut options = FloorOptions::new(arguments.listen, mode);
    options.burst_max = arguments.burst_max as usize;
    if let Some(frame_bytes_max) = arguments.fragment {
        options.fragment_payload_max = frame_bytes_max as usize - FRAME_HEADER_BYTES;
    }
    let floor = Floor::bind(options)?;
    println!("listening {}", floor.local_addr());
    floor.run().map(drop)
}
