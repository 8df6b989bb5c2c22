//! The loops of `self-check`: clock, timers, ledger, reading, sockets.

use super::{Options, Receives};
use crate::failure::{Exit, Failure};
use crate::job::{Dialect, Via};
use crate::latency::{Distribution, Summary, Tracks};
use crate::ledger::{Entry, Ledger};
use crate::payload::{Head, Padding};
use crate::reader::{Carry, Event, Framing, Reader};
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::hub::{self, Format, Payload, Value};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::MessageWriter;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sockets of the last loop.
const SOCKETS: usize = 32;

/// Messages in the buffer that is read over and over.
const MESSAGES: u32 = 64;

/// Timers waited for.
pub(super) const TIMERS: u32 = 300;

/// Receivers of the ledger loop: as many as one ring has in a common run, so that the lines are not all in the cache.
const RECEIVERS: u32 = 10_000;

/// (cost of a look, smallest step), nanoseconds.
pub(super) fn clock() -> (f64, u64) {
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

pub(super) fn timers() -> Summary {
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
        let head = Head { run: RUN, lane: 0, sequence, length: payload_bytes as u32, intended_ns: 0, actual_ns: 0 };
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

/// Entries into a ledger of many receivers, with nothing around them.
pub(super) fn booking(options: Options) -> Receives {
    let (mut deliveries, mut wrong) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < options.period {
        let mut ledger = Ledger::new(RECEIVERS, 1);
        ledger.note_published(0, MESSAGES);
        for sequence in 0..MESSAGES {
            for receiver in 0..RECEIVERS {
                if ledger.enter(receiver, 0, sequence) == Entry::Fresh {
                    deliveries += 1;
                } else {
                    wrong += 1;
                }
            }
        }
    }
    rate(deliveries, wrong, deliveries * options.payload_bytes as u64, began.elapsed())
}

pub(super) fn reading(options: Options) -> Receives {
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

pub(super) fn sockets(options: Options) -> Result<Receives, Failure> {
    let broken = |error: std::io::Error| {
        let cause = format!("loopback sockets could not be opened: {error}");
        Failure::new(
            Exit::HostUnfit,
            cause,
            "self-check",
            "look for a firewall, or raise the descriptor limit (ulimit -n)",
        )
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
