//! Readers that do not read, or too slowly: ordinary sockets that shake hands and then leave most of it in the kernel.
//!
//! They are kept apart from the fleet: they have no line in the ledger, and they need a receive buffer size of their
//! own, which must be set before the connection is made. One thread reads for those that read a little, and pings for
//! all of them, as a client does whose reader hangs.

use crate::failure::Failure;
use crate::job::{Job, Stalled};
use crate::negotiating::negotiated;
use crate::reader::{Carry, Event, Framing, Other, Reader};
use crate::wire::Own;
use crate::worker::Setup;
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::head::{HeadLimits, parse_response};
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::ws::handshake::check_upgrade_response;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketType};
use serde::Serialize;
use std::io::{Read as _, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the thread looks at them: what is read at a time is a fiftieth of what is read in a second.
const LOOK: Duration = Duration::from_millis(20);

/// The stalled readers of a run.
#[derive(Debug)]
pub(crate) struct StalledReaders {
    /// With the thread while it runs.
    sockets: Vec<TcpStream>,
    receive_buffer_bytes: Option<usize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Vec<TcpStream>, Read)>>,
}

/// What the thread has read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    bytes: u64,
    messages: u64,
    corrupt: u64,
    ended: u32,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StalledReport {
    /// Opened.
    pub connections: u32,
    /// Of which the server was seen to end. A server's end that stands behind unread bytes is not seen here: ask
    /// the server's own figures.
    pub seen_closed: u32,
    /// Bytes lying unread in the receive queues, all together.
    pub unread_bytes: u64,
    /// Bytes published to each by the end, payload only.
    pub published_payload_bytes: u64,
    /// Bytes read, all together.
    pub bytes_read: u64,
    /// Messages in them, as sent.
    pub messages_read: u64,
    /// Messages in them that were not as sent.
    pub corrupt: u64,
    /// Ended by the server in a way that reading showed.
    pub ended: u32,
    /// What was asked for with `--stalled-rcvbuf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_buffer_bytes: Option<u64>,
}

impl StalledReaders {
    /// Opens them one after the other.
    pub(crate) fn open(setup: &Setup, stalled: Stalled) -> Result<Self, Failure> {
        let mut sockets = Vec::with_capacity(stalled.connections as usize);
        for number in 0..stalled.connections {
            let socket = open(setup, stalled.receive_buffer_bytes).map_err(|error| {
                Failure::failed(
                    format!("stalled reader {} of {} could not be opened: {error}", number + 1, stalled.connections),
                    "--stalled",
                    "look into the server's log; it may limit connections or hand shakes",
                )
            })?;
            sockets.push(socket);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let slow = Slow {
            reader: Reader::new(
                setup.job.server.dialect,
                setup.job.task.load().map(|load| &load.via),
                setup.run,
                setup.job.task.load().map_or(0, crate::job::Load::template_bytes),
                setup.padding.clone(),
            ),
            ping: setup.job.fleet.ping_interval.map(|interval| (interval, setup.wire().ping())),
            bytes_per_look: (stalled.read_bytes_per_s * LOOK.as_secs_f64()).ceil() as usize,
            sockets,
            read: Read::default(),
        };
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("slow-readers".to_owned());
        let thread = thread.spawn(move || slow.run(&stopped)).map_err(|error| {
            Failure::failed(format!("no thread for slow readers: {error}"), "--stalled", "use fewer threads")
        })?;
        let receive_buffer_bytes = stalled.receive_buffer_bytes;
        Ok(Self { sockets: Vec::new(), receive_buffer_bytes, stop, thread: Some(thread) })
    }

    /// Stops reading, and tells what became of them.
    pub(crate) fn report(mut self, published_payload_bytes: u64) -> StalledReport {
        self.stop.store(true, Ordering::Release);
        // A thread that panicked has read nothing that could be told.
        let (sockets, read) = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.sockets = sockets;
        let mut report = StalledReport {
            bytes_read: read.bytes,
            messages_read: read.messages,
            corrupt: read.corrupt,
            ended: read.ended,
            connections: self.sockets.len() as u32,
            published_payload_bytes,
            receive_buffer_bytes: self.receive_buffer_bytes.map(|bytes| bytes as u64),
            ..StalledReport::default()
        };
        for socket in &self.sockets {
            report.unread_bytes += rustix::io::ioctl_fionread(socket).unwrap_or(0);
            report.seen_closed += u32::from(is_closed(socket));
        }
        report
    }
}

impl Drop for StalledReaders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// What the thread works with.
struct Slow {
    reader: Reader,
    /// How often which bytes; `None`: nobody pings.
    ping: Option<(Duration, Vec<u8>)>,
    bytes_per_look: usize,
    sockets: Vec<TcpStream>,
    read: Read,
}

impl Slow {
    /// Reads a little from each at every look, until it is told to stop.
    fn run(mut self, stop: &AtomicBool) -> (Vec<TcpStream>, Read) {
        let mut carries: Vec<Option<Carry>> =
            self.sockets.iter().map(|_| Some(Carry::new(Framing::frames(), false))).collect();
        let mut buffer = vec![0; self.bytes_per_look];
        let mut pinged = Instant::now();
        self.sockets.iter().for_each(|socket| {
            // One that would block is read as far as it blocks: late, but not wrong.
            let _ = socket.set_nonblocking(true);
        });
        while !stop.load(Ordering::Acquire) {
            if let Some((interval, ping)) = &self.ping
                && pinged.elapsed() >= *interval
            {
                pinged = Instant::now();
                for socket in &self.sockets {
                    // A server that takes no more from it will end it, which is what is looked for.
                    let _ = (&mut &*socket).write_all(ping);
                }
            }
            if !buffer.is_empty() {
                for (at, carry) in carries.iter_mut().enumerate() {
                    self.read_some(at, carry, &mut buffer);
                }
            }
            std::thread::sleep(LOOK);
        }
        (self.sockets, self.read)
    }

    /// `carry` is `None` once the connection has ended.
    fn read_some(&mut self, at: usize, carry: &mut Option<Carry>, buffer: &mut [u8]) {
        let Some(open) = carry else { return };
        let bytes = match (&mut &self.sockets[at]).read(buffer) {
            Ok(0) => 0,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        let mut over = bytes == 0;
        let mut events = Vec::new();
        self.read.bytes += bytes as u64;
        self.reader.read(open, &mut buffer[..bytes], &mut events);
        for event in events {
            match event {
                Event::Delivery(_) => self.read.messages += 1,
                Event::Corrupt(_) => self.read.corrupt += 1,
                Event::Other(other) => {
                    over |= matches!(*other, Other::Close(_) | Other::HubClose(_) | Other::Broken(_))
                }
                Event::Answered(_) => {}
            }
        }
        if over {
            self.read.ended += 1;
            *carry = None;
        }
    }
}

fn is_closed(socket: &TcpStream) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if rustix::event::poll(&mut polled, Some(&at_once)).is_err() {
        return false;
    }
    polled[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}

fn connect(job: &Job, receive_buffer_bytes: Option<usize>) -> std::io::Result<TcpStream> {
    let address = job.server.address;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    if let Some(bytes) = receive_buffer_bytes {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    rustix::net::connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    let limit = Some(job.fleet.connect_timeout);
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn other(text: impl Into<String>) -> std::io::Error {
    std::io::Error::other(text.into())
}

/// Reads a little more. Small pieces: what is not read now is left to stall.
fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 512];
    match stream.read(&mut piece)? {
        0 => Err(other("the server closed the connection")),
        n => {
            into.extend_from_slice(&piece[..n]);
            Ok(())
        }
    }
}

fn open(setup: &Setup, receive_buffer_bytes: Option<usize>) -> std::io::Result<TcpStream> {
    let token = if setup.job.server.negotiate { Some(negotiate(setup)?) } else { None };
    let mut stream = connect(&setup.job, receive_buffer_bytes)?;
    stream.write_all(&setup.wire().upgrade(token.as_deref(), &Own::default()))?;
    let mut answer = Vec::new();
    let head_bytes = loop {
        read_more(&mut stream, &mut answer)?;
        match parse_response(&answer, &HeadLimits::default()) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Done(head, head_bytes)) => {
                let status = head.status();
                check_upgrade_response(&head, &setup.wire().key)
                    .map_err(|error| other(format!("upgrade answered with {status} ({error})")))?;
                break head_bytes;
            }
            Err(error) => return Err(other(format!("upgrade: {error}"))),
        }
    };
    let handshake = setup.wire().handshake();
    if !handshake.is_empty() {
        stream.write_all(&handshake)?;
        shake_hands(setup, &mut stream, answer.split_off(head_bytes))?;
    }
    Ok(stream)
}

/// Reads up to the hub's answer to the handshake.
fn shake_hands(setup: &Setup, stream: &mut TcpStream, mut bytes: Vec<u8>) -> std::io::Result<()> {
    let mut reader = Reader::new(setup.job.server.dialect, None, setup.run, 0, setup.padding.clone());
    let (mut carry, mut events) = (Carry::new(Framing::frames(), true), Vec::new());
    loop {
        reader.read(&mut carry, &mut bytes, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Other(news) => match *news {
                    Other::Handshake(Ok(())) => return Ok(()),
                    Other::Handshake(Err(text)) => return Err(other(format!("handshake refused: {text}"))),
                    Other::Close(text) | Other::Broken(text) => return Err(other(text)),
                    _ => {}
                },
                Event::Delivery(_) | Event::Corrupt(_) | Event::Answered(_) => {}
            }
        }
        bytes.clear();
        read_more(stream, &mut bytes)?;
    }
}

fn negotiate(setup: &Setup) -> std::io::Result<String> {
    let mut stream = connect(&setup.job, None)?;
    stream.write_all(&setup.wire().negotiate(&Own::default()))?;
    let mut answer = Vec::new();
    loop {
        read_more(&mut stream, &mut answer)?;
        match negotiated(&answer, Transport::WebSockets) {
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(answer.token),
            Err(text) => return Err(other(format!("negotiate: {text}"))),
        }
    }
}
