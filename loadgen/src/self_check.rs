//! `self-check`: what this generator can do here, before any server is blamed.
//!
//! Three bare loops, each without a server: the clock and its timers; the way of a delivery from bytes to the ledger,
//! over and over from one buffer; and the same bytes through loopback sockets, sent by a thread that does nothing else.
//! The last is a bound for both ends together: no server on this machine can deliver more to one worker.

use crate::failure::{Exit, Failure};
use crate::job::{Dialect, Via};
use crate::latency::{Distribution, Summary, Tracks};
use crate::ledger::{Entry, Ledger};
use crate::os;
use crate::payload::{Head, Padding};
use crate::quantity::{bytes_text, grouped, micros_text};
use crate::reader::{Carry, Event, Framing, Reader};
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::hub::{self, Format, Payload, Value};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::MessageWriter;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Names the schema.
pub const SCHEMA: &str = "fanfare-loadgen-self-check/1";

/// Sockets of the last loop.
const SOCKETS: usize = 32;

/// Messages in the buffer that is read over and over.
const MESSAGES: u32 = 64;

/// Timers waited for.
const TIMERS: u32 = 300;

/// A timer this late is too coarse for the latencies of a fast server, microseconds.
const TIMER_P99_US_MAX: u64 = 1_000;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Payload bytes.
    pub payload_bytes: usize,
    /// Length of each loop.
    pub period: Duration,
    /// Where to run; `None`: anywhere.
    pub core: Option<usize>,
}

/// One loop of receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Receives {
    /// Deliveries verified.
    pub deliveries: u64,
    /// Of which damaged or unknown; anything but 0 is a bug here.
    pub wrong: u64,
    /// In a second.
    pub per_s: f64,
    /// Wire bytes in a second.
    pub bytes_per_s: f64,
    /// Time of each, nanoseconds.
    pub ns_each: f64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SelfCheck {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Nanoseconds that asking for the time takes.
    pub clock_ns: f64,
    /// The smallest step the clock was seen to make, nanoseconds.
    pub clock_step_ns: u64,
    /// How late timers of 1 ms end, microseconds.
    pub timer_late_us: Summary,
    /// From bytes in memory to the ledger.
    pub reading: Receives,
    /// The same through loopback sockets, with the sender on this machine as well.
    pub sockets: Receives,
    /// Cores this process may use.
    pub cores: usize,
    /// Descriptors it may have.
    pub descriptors: u64,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Runs the three loops.
pub fn run(options: Options) -> Result<SelfCheck, Failure> {
    if let Some(core) = options.core {
        os::pin_to_core(core)?;
    }
    let cores = os::allowed_cores().len();
    os::sharpen_timers();
    let (clock_ns, clock_step_ns) = clock();
    let timer_late_us = timers();
    let reading = reading(options);
    let sockets = sockets(options)?;
    let mut notes = Vec::new();
    if timer_late_us.p99 > TIMER_P99_US_MAX {
        notes.push(format!(
            "one timer in a hundred is {} late: this machine is busy, or virtual; latencies below that mean nothing",
            micros_text(timer_late_us.p99)
        ));
    }
    if cores < 2 && options.core.is_none() {
        notes.push("there is one core: a server on this machine shares it with the generator".to_owned());
    }
    if reading.wrong + sockets.wrong > 0 {
        notes.push("payloads did not arrive as sent: do not trust this machine".to_owned());
    }
    let descriptors = os::raise_descriptor_limit();
    let payload_bytes = options.payload_bytes;
    Ok(SelfCheck { schema: SCHEMA, payload_bytes, clock_ns, clock_step_ns, timer_late_us, reading, sockets, cores, descriptors, notes })
}

/// (cost of a look, smallest step), nanoseconds.
fn clock() -> (f64, u64) {
    const LOOKS: u32 = 200_000;
    let began = Instant::now();
    let (mut last, mut step) = (began, u64::MAX);
    for _ in 0..LOOKS {
        let now = Instant::now();
        let passed = (now - last).as_nanos() as u64;
        if passed > 0 {
            step = step.min(passed);
        }
        last = now;
    }
    (began.elapsed().as_nanos() as f64 / f64::from(LOOKS), step)
}

fn timers() -> Summary {
    const WAIT: Duration = Duration::from_millis(1);
    let mut late = Distribution::default();
    for _ in 0..TIMERS {
        let due = Instant::now() + WAIT;
        std::thread::sleep(WAIT);
        late.record_ns(due.elapsed().as_nanos() as u64, 1);
    }
    late.summary()
}

/// Deliveries as a server frames them, and what reads them.
struct Bench {
    wire: Vec<u8>,
    reader: Reader,
}

const RUN: u32 = 0x5e1f_c4ec;

fn bench(payload_bytes: usize) -> Bench {
    let padding = Arc::new(Padding::new(1, payload_bytes));
    let mut wire = Vec::new();
    for sequence in 0..MESSAGES {
        let head =
            Head { run: RUN, lane: 0, sequence, length: payload_bytes as u32, intended_ns: 0, actual_ns: 0 };
        let (mut payload, mut record) = (Vec::new(), Vec::new());
        padding.write_payload(&head, &mut payload);
        let text = Value::Str(String::from_utf8_lossy(&payload).into_owned());
        // Text of our own alphabet always encodes.
        let _ = hub::encode::invocation(Format::Json, &mut record, None, "m", &Payload::Values(&[text]));
        let mut message = MessageWriter::new(&mut wire, DataKind::Text, record.len());
        message.put(&record);
    }
    let via = Via::Invocation { method: String::new(), target: "m".to_owned(), arguments: Vec::new() };
    let reader = Reader::new(Dialect::SignalrJson, Some(&via), RUN, payload_bytes, padding);
    Bench { wire, reader }
}

fn rate(deliveries: u64, wrong: u64, wire_bytes: u64, elapsed: Duration) -> Receives {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    Receives {
        deliveries,
        wrong,
        per_s: deliveries as f64 / seconds,
        bytes_per_s: wire_bytes as f64 / seconds,
        ns_each: seconds * 1e9 / deliveries.max(1) as f64,
    }
}

fn reading(options: Options) -> Receives {
    let Bench { wire, mut reader } = bench(options.payload_bytes);
    let (mut carry, mut events) = (Carry::new(Framing::frames(), false), Vec::new());
    let (mut deliveries, mut wrong, mut bytes) = (0, 0, 0);
    let began = Instant::now();
    while began.elapsed() < options.period {
        // Fresh books for each round, as the numbers begin again.
        let (mut ledger, mut tracks) = (Ledger::new(1, 1), Tracks::new(0, vec![1], 1));
        ledger.note_published(0, MESSAGES);
        let mut received = wire.clone();
        reader.read(&mut carry, &mut received, &mut events);
        bytes += wire.len() as u64;
        for event in events.drain(..) {
            match event {
                Event::Delivery(head) if ledger.enter(0, head.lane, head.sequence) == Entry::Fresh => {
                    tracks.note(&head, head.sequence.into());
                    deliveries += 1;
                }
                _ => wrong += 1,
            }
        }
    }
    rate(deliveries, wrong, bytes, began.elapsed())
}

fn sockets(options: Options) -> Result<Receives, Failure> {
    let broken = |error: std::io::Error| {
        let cause = format!("loopback sockets could not be opened: {error}");
        Failure::new(Exit::HostUnfit, cause, "self-check", "look for a firewall, or raise the descriptor limit (ulimit -n)")
    };
    let listener = TcpListener::bind("127.0.0.1:0").map_err(broken)?;
    let address = listener.local_addr().map_err(broken)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SOCKETS {
        ours.push(TcpStream::connect(address).map_err(broken)?);
        let (socket, _) = listener.accept().map_err(broken)?;
        socket.set_nonblocking(true).map_err(broken)?;
        theirs.push(socket);
    }
    let Bench { wire, mut reader } = bench(options.payload_bytes);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sender = std::thread::spawn(move || send(&mut theirs, &wire, &stopped));
    let mut carries: Vec<Carry> = ours.iter().map(|_| Carry::new(Framing::frames(), false)).collect();
    let (mut buffer, mut events) = (vec![0; 64 << 10], Vec::new());
    let (mut deliveries, mut wrong, mut bytes) = (0u64, 0u64, 0u64);
    for socket in &ours {
        socket.set_nonblocking(true).map_err(broken)?;
    }
    let began = Instant::now();
    while began.elapsed() < options.period {
        let mut idle = true;
        for (socket, carry) in ours.iter_mut().zip(&mut carries) {
            let read = match socket.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(broken(error)),
            };
            idle = false;
            bytes += read as u64;
            reader.read(carry, &mut buffer[..read], &mut events);
            for event in events.drain(..) {
                match event {
                    Event::Delivery(_) => deliveries += 1,
                    _ => wrong += 1,
                }
            }
        }
        if idle {
            std::thread::yield_now();
        }
    }
    let elapsed = began.elapsed();
    stop.store(true, Ordering::Release);
    drop(ours);
    // It has nothing to tell.
    let _ = sender.join();
    Ok(rate(deliveries, wrong, bytes, elapsed))
}

/// Writes the same messages to all sockets in turn, as fast as they take them.
fn send(sockets: &mut [TcpStream], wire: &[u8], stopped: &AtomicBool) {
    let mut sent = vec![0; sockets.len()];
    while !stopped.load(Ordering::Acquire) {
        let mut idle = true;
        for (socket, at) in sockets.iter_mut().zip(&mut sent) {
            match socket.write(&wire[*at..]) {
                Ok(bytes) => {
                    idle = false;
                    *at = (*at + bytes) % wire.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        if idle {
            std::thread::yield_now();
        }
    }
}

impl SelfCheck {
    /// For people.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let late = &self.timer_late_us;
        writeln!(out, "clock     {:.0} ns a look | smallest step {} ns", self.clock_ns, self.clock_step_ns)?;
        writeln!(
            out,
            "timers    of 1 ms end late by p50 {}  p99 {}  max {}",
            micros_text(late.p50),
            micros_text(late.p99),
            micros_text(late.max)
        )?;
        for (name, loop_) in [("reading", &self.reading), ("sockets", &self.sockets)] {
            writeln!(
                out,
                "{name:<9} {} deliveries/s of {} | {}/s | {:.0} ns each | {} wrong",
                grouped(loop_.per_s as u64),
                bytes_text(self.payload_bytes as u64),
                bytes_text(loop_.bytes_per_s as u64),
                loop_.ns_each,
                loop_.wrong
            )?;
        }
        writeln!(out, "host      {} cores | {} descriptors", self.cores, grouped(self.descriptors))?;
        writeln!(
            out,
            "meaning   one worker takes at most about {} deliveries/s here, a sender on the same machine included",
            grouped(self.sockets.per_s as u64)
        )?;
        self.notes.iter().try_for_each(|note| writeln!(out, "note      {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_delivers_and_nothing_is_wrong() {
        let options = Options { payload_bytes: 300, period: Duration::from_millis(50), core: None };
        let found = run(options).expect("loops");
        for receives in [found.reading, found.sockets] {
            assert!(receives.deliveries > 0 && receives.wrong == 0, "{receives:?}");
        }
        assert_eq!(found.timer_late_us.count, u64::from(TIMERS));
        assert!(found.clock_step_ns > 0 && found.cores > 0);
        assert!(found.summary().contains("one worker takes at most"));
    }
}
