//! What the load generator costs above a bare receive loop over the same sockets: both receive what the floor sends at
//! the same pace, in turns, on one core, while the floor has another.
#![allow(clippy::print_stdout)] // what it prints is what it is for

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use fanfare_bench::compare::process::{Program, Running, Scratch};
use fanfare_bench::compare::statistics::Spread;
use fanfare_bench::floor::{Received, ReceiversOptions, receive};

/// Compares the load generator with a bare receive loop, over the same broadcasts. Ends with 1 if it costs more than
/// promised.
#[derive(Clone, Debug, Parser)]
#[command(name = "fanfare-generator-cost")]
struct Arguments {
    /// Receiving connections, the publisher included.
    #[arg(short = 'n', long, default_value_t = 1000)]
    connections: u32,
    /// Bytes of each message.
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Messages published in one write.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    burst: u32,
    /// Messages in a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Messages of one turn.
    #[arg(long, default_value_t = 1000)]
    messages: u32,
    /// Turns of each.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: u32,
    /// Core of the receivers.
    #[arg(long, default_value_t = 1)]
    load_core: u32,
    /// Be the bare receive loop, once, against this server.
    #[arg(long, value_name = "ADDRESS", hide = true)]
    receive: Option<SocketAddr>,
    /// As the bare receive loop, look at every byte once.
    #[arg(long, hide = true, requires = "receive")]
    looks: bool,
}

/// At most so much more than the bare loop.
const RATIO_MAX: f64 = 1.1;
/// How long a server may take to listen, and a turn to end.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
const TURN_LIMIT: Duration = Duration::from_secs(120);
/// A turn that is lost to noise is done again, so often in all.
const RETRIES_MAX: u32 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.receive {
        Some(target) => be_bare(&arguments, target).map(|()| true),
        None => compare(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanfare-generator-cost: {error}");
            ExitCode::from(2)
        }
    }
}

fn be_bare(arguments: &Arguments, target: SocketAddr) -> io::Result<()> {
    let received = receive(ReceiversOptions {
        target,
        connections: arguments.connections,
        payload_bytes: arguments.size,
        burst: arguments.burst,
        messages_per_s: arguments.rate,
        warmup_messages: warmup_messages(arguments),
        messages: arguments.messages,
        looks: arguments.looks,
    })?;
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}

/// Half a second, in whole bursts.
fn warmup_messages(arguments: &Arguments) -> u32 {
    (arguments.rate / 2).next_multiple_of(arguments.burst)
}

fn compare(arguments: &Arguments) -> io::Result<bool> {
    let folder = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let house = House { scratch: Scratch::new()?, arguments: arguments.clone(), folder };
    let mut figures: [Vec<Option<f64>>; 3] = Default::default();
    let mut retries = 0;
    while figures[0].len() < arguments.rounds as usize {
        let server = house.server()?;
        // A B C, then C B A: what drifts hits all.
        let turns = if figures[0].len().is_multiple_of(2) { [0, 1, 2] } else { [2, 1, 0] };
        let mut round = [0.0; 3];
        for who in turns {
            let turn = match who {
                0 => house.bare_us(&server, ""),
                1 => house.bare_us(&server, " --looks"),
                _ => house.generator_us(&server),
            };
            match turn {
                Ok(us) => round[who] = us,
                Err(error) if retries < RETRIES_MAX => {
                    retries += 1;
                    eprintln!("once more: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        if round.iter().all(|&us| us > 0.0) {
            let [bare, looking, generator] = round;
            let number = figures[0].len() + 1;
            println!("round {number}: bare {bare:.3} us, looking {looking:.3} us, generator {generator:.3} us");
            (0..3).for_each(|who| figures[who].push(Some(round[who])));
        }
    }
    let of = |floor: usize| Spread::of_ratios(&figures[2], &figures[floor]).ok_or_else(|| io::Error::other("no round"));
    let (ratio, looking) = (of(0)?, of(1)?);
    let each = figures.map(|values| Spread::of(values.into_iter().flatten()).map_or(0.0, |spread| spread.median));
    println!(
        "generator / bare receive loop: {:.2} ({:.2}-{:.2}), {:.3} and {:.3} us of CPU per received message of {} B; \
         at most {RATIO_MAX}",
        ratio.median, ratio.min, ratio.max, each[2], each[0], arguments.size
    );
    println!(
        "generator / bare receive loop that looks at every byte once: {:.2} ({:.2}-{:.2}), the loop {:.3} us",
        looking.median, looking.min, looking.max, each[1]
    );
    Ok(ratio.median <= RATIO_MAX)
}

struct House {
    scratch: Scratch,
    arguments: Arguments,
    /// Where the programs are.
    folder: PathBuf,
}

/// A floor that listens.
struct Server {
    running: Running,
    address: SocketAddr,
}

impl House {
    fn server(&self) -> io::Result<Server> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let program = self.program("floor", vec!["--listen".to_owned(), address.to_string()]);
        let started = program.start("floor", self.arguments.server_core, self.scratch.path(), None);
        let mut running = started.map_err(io::Error::other)?;
        running.wait_listening(address, LISTEN_LIMIT).map_err(io::Error::other)?;
        Ok(Server { running, address })
    }

    /// CPU for each message that the bare loop received, microseconds.
    fn bare_us(&self, server: &Server, looks: &str) -> io::Result<f64> {
        let Arguments { connections, size, burst, rate, messages, .. } = self.arguments;
        let flags = format!(
            "--receive {} --connections {connections} --size {size} --burst {burst} --rate {rate} --messages {messages}{looks}",
            server.address
        );
        let received: Received = serde_json::from_str(&self.turn("fanfare-generator-cost", &flags)?)?;
        Ok(received.cpu_s * 1e6 / received.deliveries as f64)
    }

    /// The same for the generator, which books, times and checks them.
    fn generator_us(&self, server: &Server) -> io::Result<f64> {
        let Arguments { connections, size, burst, rate, messages, load_core, .. } = self.arguments;
        let flags = format!(
            "broadcast --target ws://{}/ --dialect raw --connections {} --size {size} --burst {burst} --rate {rate} \
             --messages {messages} --warmup 500ms --cores {load_core} --server-pid {} --quiet --json -",
            server.address,
            connections - 1,
            server.running.pid()
        );
        let report: serde_json::Value = serde_json::from_str(&self.turn("fanfare-loadgen", &flags)?)?;
        let number = |at: &str| report.pointer(at).and_then(serde_json::Value::as_f64);
        let received = number("/deliveries").zip(number("/publisher_echoes")).map(|(a, b)| a + b);
        let expected = f64::from(messages) * f64::from(connections);
        match (number("/generator/cpu_s"), received) {
            (Some(cpu_s), Some(received)) if received == expected => Ok(cpu_s * 1e6 / received),
            _ => Err(io::Error::other(format!("the generator received {received:?} of {expected}"))),
        }
    }

    /// What a program prints when it has run to its end.
    fn turn(&self, name: &str, flags: &str) -> io::Result<String> {
        let output = self.scratch.path().join("turn.json");
        let stdout = Stdio::from(std::fs::File::create(&output)?);
        let program = self.program(name, flags.split(' ').map(str::to_owned).collect());
        let started = program.start(name, self.arguments.load_core, self.scratch.path(), Some(stdout));
        let mut running = started.map_err(io::Error::other)?;
        running.wait_end(TURN_LIMIT).map_err(io::Error::other)?;
        std::fs::read_to_string(&output)
    }

    fn program(&self, name: &str, arguments: Vec<String>) -> Program {
        Program { executable: self.folder.join(name), arguments, directory: self.scratch.path().to_path_buf() }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
