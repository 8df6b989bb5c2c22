//! The floor's loop: accept, read, fan out, flush.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::batch::Batch;
use super::fan::{Fan, Mode};
use super::peer::{Heard, Peer, Sent};

/// Bytes read from a socket in one call.
const READ_BYTES: usize = 256 * 1024;
/// Reads from one socket in one turn: a publisher that never pauses does not starve the others.
const READS_PER_TURN_MAX: usize = 64;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Readiness reports taken in one turn.
const EVENTS_PER_TURN_MAX: usize = 1024;
/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 4096;
/// Descriptors left for everything that is not a connection.
const DESCRIPTORS_RESERVED: u64 = 64;

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// What a floor is asked to be.
#[derive(Clone, Copy, Debug)]
pub struct FloorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to send.
    pub mode: Mode,
    /// Messages that may share one buffer, at least 1. Sixteen is the floor of "sixteen under way".
    pub burst_max: usize,
    /// Payload bytes of one frame at most; `usize::MAX` sends every message as one frame. Fanfare uses 2044, which
    /// makes a frame of 2048 bytes.
    pub fragment_payload_max: usize,
}

impl FloorOptions {
    /// Unfragmented, up to 16 messages in one buffer.
    pub fn new(listen: SocketAddr, mode: Mode) -> Self {
        FloorOptions { listen, mode, burst_max: 16, fragment_payload_max: usize::MAX }
    }
}

/// What a floor did so far. Served as JSON under `GET /stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FloorCounts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that became WebSockets.
    pub opened: u64,
    /// Messages received.
    pub messages: u64,
    /// Buffers sent to all; `messages / buffers` is how many shared one.
    pub buffers: u64,
    /// Sends that the kernel took only in part or not at all at once.
    pub partial_sends: u64,
    /// Connections dropped because they owed too much or broke.
    pub dropped: u64,
}

/// A bound floor, ready to run on some thread.
#[derive(Debug)]
pub struct Floor {
    options: FloorOptions,
    listener: OwnedFd,
    local_addr: SocketAddr,
    stop: Arc<OwnedFd>,
}

/// Ends a running [`Floor`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    /// The floor returns from [`Floor::run`] soon.
    pub fn stop(&self) {
        // Fails only if the counter is full, and then the floor has been told already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Floor {
    /// Listens. Connections wait in the kernel until [`Floor::run`].
    pub fn bind(options: FloorOptions) -> io::Result<Floor> {
        let family = match options.listen {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &options.listen)?;
        net::listen(&listener, LISTEN_BACKLOG)?;
        let bound = net::getsockname(&listener)?;
        let local_addr = SocketAddr::try_from(bound)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Floor { options, listener, local_addr, stop })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle that ends [`Floor::run`].
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Serves until stopped and says what was done. An error is one of the floor's own descriptors failing; what a
    /// connection does wrong ends that connection only.
    pub fn run(self) -> io::Result<FloorCounts> {
        let mut turns = Turns::new(self)?;
        while turns.turn()? {}
        Ok(turns.counts)
    }
}

/// The running state.
struct Turns {
    floor: Floor,
    epoll: OwnedFd,
    listening: bool,
    connections_max: usize,
    /// By slot. Fanning out walks it in order.
    peers: Vec<Option<Peer>>,
    free_slots: Vec<u32>,
    fan: Fan,
    batch: Batch,
    counts: FloorCounts,
    read_buffer: Vec<u8>,
    /// To be closed at the end of the turn, when no event of this turn can name their slots any more.
    dying: Vec<u32>,
    unsent: Vec<(u32, Sent)>,
}

impl Turns {
    fn new(floor: Floor) -> io::Result<Turns> {
        let descriptors_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX));
        let connections_max = descriptors_max.saturating_sub(DESCRIPTORS_RESERVED).clamp(1, 1 << 20) as u32;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &floor.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &*floor.stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let FloorOptions { mode, burst_max, fragment_payload_max, .. } = floor.options;
        Ok(Turns {
            epoll,
            listening: true,
            connections_max: connections_max as usize,
            peers: Vec::new(),
            free_slots: Vec::new(),
            fan: Fan::new(mode, connections_max)?,
            batch: Batch::new(burst_max, fragment_payload_max),
            counts: FloorCounts::default(),
            read_buffer: vec![0; READ_BYTES],
            dying: Vec::new(),
            unsent: Vec::new(),
            floor,
        })
    }

    /// Waits for something to happen and handles all of it. `false` when told to stop.
    fn turn(&mut self) -> io::Result<bool> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN_MAX);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut accepting = false;
        for event in &events {
            match event.data.u64() {
                STOP => return Ok(false),
                LISTENER => accepting = true,
                slot => self.handle_readiness(slot as u32, event.flags)?,
            }
        }
        if accepting {
            self.accept()?;
        }
        self.fan_out()?;
        self.bury()?;
        Ok(true)
    }

    fn handle_readiness(&mut self, slot: u32, flags: EventFlags) -> io::Result<()> {
        if flags.contains(EventFlags::OUT) {
            self.flush(slot)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(slot)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if self.peers.len() - self.free_slots.len() >= self.connections_max {
                return self.stop_listening();
            }
            match net::accept_with(&self.floor.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.add(socket)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return self.stop_listening(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Until a connection ends: with the listener watched and nothing to accept it with, every turn would be in vain.
    fn stop_listening(&mut self) -> io::Result<()> {
        self.listening = false;
        Ok(epoll::delete(&self.epoll, &self.floor.listener)?)
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        if sockopt::set_tcp_nodelay(&socket, true).is_err() {
            return Ok(()); // it is gone already
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() as u32 - 1
        });
        epoll::add(&self.epoll, &socket, EventData::new_u64(u64::from(slot)), EventFlags::IN)?;
        self.fan.add(slot, socket.as_fd())?;
        self.peers[slot as usize] = Some(Peer::new(socket));
        self.counts.accepted += 1;
        Ok(())
    }

    /// Reads until the socket is empty, a full group of messages is there, or the turn is over.
    fn read(&mut self, slot: u32) -> io::Result<()> {
        for _ in 0..READS_PER_TURN_MAX {
            let Some(peer) = self.peers[slot as usize].as_mut().filter(|peer| !peer.is_dead()) else { return Ok(()) };
            let heard = match net::recv(&peer.socket, &mut self.read_buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => Heard::Dead,
                Ok((count, _)) => peer.handle_bytes(&mut self.read_buffer[..count], &mut self.batch),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => Heard::Fine,
                Err(_) => Heard::Dead,
            };
            let behind = peer.is_behind();
            match heard {
                Heard::Fine => {}
                Heard::Opened => {
                    self.counts.opened += 1;
                    if self.floor.options.mode == Mode::Idle {
                        return Ok(epoll::delete(&self.epoll, &peer.socket)?);
                    }
                }
                Heard::StatsAsked => {
                    let json = serde_json::to_string(&self.counts).expect("six integers have a JSON text");
                    peer.answer_stats(&json);
                    self.condemn(slot);
                }
                Heard::Dead => self.condemn(slot),
            }
            if behind {
                self.watch_writable(slot, true)?;
            }
            if self.batch.has_full_group() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn flush(&mut self, slot: u32) -> io::Result<()> {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return Ok(()) };
        match peer.flush() {
            Sent::Whole => self.watch_writable(slot, false)?,
            Sent::FellBehind | Sent::StillBehind => {}
            Sent::Dead => self.drop_peer(slot),
        }
        Ok(())
    }

    fn fan_out(&mut self) -> io::Result<()> {
        let mut unsent = std::mem::take(&mut self.unsent);
        self.counts.messages += self.batch.messages() as u64;
        for group in self.batch.groups() {
            self.counts.buffers += 1;
            self.fan.deliver(&mut self.peers, group, &mut unsent);
        }
        self.batch.clear();
        for (slot, sent) in unsent.drain(..) {
            match sent {
                Sent::Whole | Sent::StillBehind => {}
                Sent::FellBehind => {
                    self.counts.partial_sends += 1;
                    self.watch_writable(slot, true)?;
                }
                Sent::Dead => self.drop_peer(slot),
            }
        }
        self.unsent = unsent;
        Ok(())
    }

    fn watch_writable(&mut self, slot: u32, writable: bool) -> io::Result<()> {
        let Some(peer) = self.peers[slot as usize].as_ref().filter(|peer| !peer.is_dead()) else { return Ok(()) };
        let flags = if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, &peer.socket, EventData::new_u64(u64::from(slot)), flags)?)
    }

    fn drop_peer(&mut self, slot: u32) {
        self.counts.dropped += 1;
        self.condemn(slot);
    }

    /// Nothing more for this connection; it is closed at the end of the turn.
    fn condemn(&mut self, slot: u32) {
        let Some(peer) = self.peers[slot as usize].as_mut().filter(|peer| !peer.is_dead()) else { return };
        peer.kill();
        self.dying.push(slot);
    }

    fn bury(&mut self) -> io::Result<()> {
        for slot in std::mem::take(&mut self.dying) {
            self.fan.remove(slot)?;
            self.peers[slot as usize] = None; // closes it, which also ends epoll's interest
            self.free_slots.push(slot);
            if !self.listening {
                epoll::add(&self.epoll, &self.floor.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
                self.listening = true;
            }
        }
        Ok(())
    }
}
