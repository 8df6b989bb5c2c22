//! The other side's floor: a fleet that receives whatever a server of the raw dialect broadcasts, and does nothing with
//! it. What a load generator costs above this is what its ledgers, clocks and checks cost.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Events fetched at once.
const EVENTS_MAX: usize = 1024;
/// Read at once from one socket.
const READ_BYTES: usize = 64 << 10;
/// An answer to an upgrade is shorter.
const HEAD_BYTES_MAX: usize = 4096;
/// After the last message, so long until what is missing counts as lost.
const DRAIN: Duration = Duration::from_secs(5);

/// What is received.
#[derive(Clone, Copy, Debug)]
pub struct ReceiversOptions {
    /// The server.
    pub target: SocketAddr,
    /// How many receive; the first of them publishes.
    pub connections: u32,
    /// Bytes of each message.
    pub payload_bytes: usize,
    /// Published in one write.
    pub burst: u32,
    /// Messages in a second.
    pub messages_per_s: u32,
    /// Messages before the clock of the processor is read for the first time.
    pub warmup_messages: u32,
    /// Messages that count.
    pub messages: u32,
    /// Every byte is looked at once: what no check can do without.
    pub looks: bool,
}

/// What it took.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Received {
    /// Messages times connections.
    pub deliveries: u64,
    /// User and system time of this thread.
    pub cpu_s: f64,
}

/// Connects, receives, and tells what that took.
///
/// # Errors
/// What a socket says; [`io::ErrorKind::TimedOut`] if something did not arrive.
pub fn receive(options: ReceiversOptions) -> io::Result<Received> {
    let mut fleet = Fleet::connect(options)?;
    fleet.run(options.warmup_messages)?;
    let before = cpu_s();
    fleet.run(options.messages)?;
    std::hint::black_box(fleet.seen);
    let deliveries = u64::from(options.messages) * u64::from(options.connections);
    Ok(Received { deliveries, cpu_s: cpu_s() - before })
}

struct Fleet {
    options: ReceiversOptions,
    sockets: Vec<TcpStream>,
    epoll: rustix::fd::OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// One burst, as it is published.
    burst: Vec<u8>,
    /// Bytes that one burst is on one receiver's wire.
    burst_wire_bytes: u64,
    /// Of every byte that was looked at, so that none can be left out.
    seen: u64,
}

impl Fleet {
    fn connect(options: ReceiversOptions) -> io::Result<Fleet> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sockets: Vec<TcpStream> =
            (0..options.connections).map(|_| upgraded(options.target)).collect::<io::Result<_>>()?;
        for (index, socket) in sockets.iter().enumerate() {
            epoll::add(&epoll, socket.as_fd(), epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        let payload = vec![b'x'; options.payload_bytes];
        let mut burst = Vec::new();
        (0..options.burst).for_each(|_| write_masked_message(&mut burst, DataKind::Text, &payload, [1, 2, 3, 4]));
        let masks_bytes = 4 * u64::from(options.burst);
        let burst_wire_bytes = burst.len() as u64 - masks_bytes;
        let (events, buffer) = (Vec::with_capacity(EVENTS_MAX), vec![0; READ_BYTES]);
        Ok(Fleet { options, sockets, epoll, events, buffer, burst, burst_wire_bytes, seen: 0 })
    }

    /// Publishes so many messages at the pace, and receives all of them.
    fn run(&mut self, messages: u32) -> io::Result<()> {
        let bursts = messages / self.options.burst;
        let gap = Duration::from_secs(1) * self.options.burst / self.options.messages_per_s;
        let mut missing = u64::from(bursts) * self.burst_wire_bytes * u64::from(self.options.connections);
        let (began, mut published) = (Instant::now(), 0);
        while missing > 0 {
            let due = gap * published;
            let elapsed = began.elapsed();
            if published < bursts && elapsed >= due {
                self.sockets[0].write_all(&self.burst)?;
                published += 1;
                continue;
            }
            let wait = if published < bursts { due - elapsed } else { DRAIN };
            if !self.receive(wait, &mut missing)? && published == bursts {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{missing} bytes have not arrived")));
            }
        }
        Ok(())
    }

    /// Receives what is there, or comes within `wait`. Whether anything did.
    fn receive(&mut self, wait: Duration, missing: &mut u64) -> io::Result<bool> {
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&wait))?;
        for event in &self.events {
            let n = self.sockets[event.data.u64() as usize].read(&mut self.buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.options.looks {
                self.seen ^= fold(&self.buffer[..n]);
            }
            *missing = missing.saturating_sub(n as u64);
        }
        Ok(!self.events.is_empty())
    }
}

/// All of `bytes` in one number.
fn fold(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let seen = words.iter().fold(0, |seen, word| seen ^ u64::from_ne_bytes(*word));
    rest.iter().fold(seen, |seen, byte| seen ^ u64::from(*byte))
}

/// A WebSocket, its head read.
fn upgraded(target: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: floor\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("the answer to the upgrade does not end"));
        }
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(format!("no upgrade: {}", String::from_utf8_lossy(&head))));
    }
    Ok(stream)
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Floor, FloorOptions, Mode};

    #[test]
    fn everything_that_is_published_is_received() {
        let options = FloorOptions::new("127.0.0.1:0".parse().unwrap(), Mode::Send);
        let floor = Floor::bind(options).expect("a floor");
        let target = floor.local_addr();
        let stopper = floor.stopper();
        let served = std::thread::spawn(move || floor.run());
        for (burst, looks) in [(1, false), (4, true)] {
            let options = ReceiversOptions {
                target,
                connections: 20,
                payload_bytes: 512,
                burst,
                messages_per_s: 4_000,
                warmup_messages: 8,
                messages: 40,
                looks,
            };
            let received = receive(options).expect("all of it");
            assert!(received.deliveries == 800 && received.cpu_s > 0.0, "{received:?}");
        }
        stopper.stop();
        served.join().expect("no panic").expect("it ends well");
    }
}
