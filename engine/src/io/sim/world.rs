//! The other side of every simulated connection, the network between, and the clock.

use super::options::{Rng, SimOptions};
use crate::buf::{Extent, Logs};
use crate::io::{Errno, Generation, Slot};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where peers connect from, in turn: so many hosts of one network.
const HOSTS: u32 = 4;
/// See [`HOSTS`].
const NETWORK: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// A simulated client, numbered in the order of `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// What a peer sees of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Open, or not yet accepted.
    Open,
    /// The server has closed, or finished sending, and everything it sent was read.
    Ended,
    /// The server has reset the connection, or there was nobody to accept it.
    Reset,
}

/// Bytes on their way from server to peer.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Copied at the time of the send.
    Copied(VecDeque<u8>),
    /// Pages of the log: read when the peer reads. `kept` is what the kernel would still have if the pages were
    /// taken out of the file (punched) meanwhile.
    Lent { bytes: Extent, punches: u32, kept: VecDeque<u8> },
    /// Bytes of the log that the back end reads again when it needs them, with no protection at all.
    Retained { bytes: Extent },
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Lent { bytes, .. } | Self::Retained { bytes } => bytes.len as usize,
        }
    }

    /// Takes up to `max` bytes from the front.
    fn take(&mut self, max: usize, logs: &Logs, into: &mut Vec<u8>) -> usize {
        let n = self.len().min(max);
        match self {
            Self::Copied(bytes) => into.extend(bytes.drain(..n)),
            Self::Lent { bytes, punches, kept } => {
                if logs.punches(bytes.segment) == *punches {
                    logs.peek(Extent { len: n as u32, ..*bytes }, into);
                    kept.drain(..n);
                } else {
                    into.extend(kept.drain(..n));
                }
                bytes.advance(n as u32);
            }
            Self::Retained { bytes } => {
                logs.peek(Extent { len: n as u32, ..*bytes }, into);
                bytes.advance(n as u32);
            }
        }
        n
    }
}

/// One connection, both ends and the wire.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shard: u8,
    pub(super) address: IpAddr,
    /// Bytes the peer wrote that have not reached the server's socket.
    pub(super) under_way: VecDeque<u8>,
    /// The peer has finished sending; arrives behind `under_way`.
    pub(super) peer_finished: bool,
    /// The peer's socket is gone: what the server sends is answered by a reset.
    pub(super) peer_gone: bool,
    /// A reset is on its way to the server.
    pub(super) reset_under_way: bool,
    pub(super) stalled: bool,
    /// In the server's socket, not yet received.
    pub(super) inbound: VecDeque<u8>,
    pub(super) finish_arrived: bool,
    pub(super) reset_arrived: bool,
    /// The error of the reset was reported; from now on the end is.
    pub(super) reset_reported: bool,
    pub(super) outbound: VecDeque<Chunk>,
    pub(super) outbound_bytes: u32,
    pub(super) send_buffer_bytes: u32,
    /// Bytes read by the peer whose release was not reported (`release_when_read`).
    pub(super) unreported_bytes: u32,
    /// The server has finished sending.
    pub(super) server_finished: bool,
    pub(super) server_closed: bool,
    pub(super) server_reset: bool,
    /// The peer did something since the shard last looked.
    pub(super) touched: bool,
}

impl Connection {
    pub(super) fn send_room(&self) -> u32 {
        self.send_buffer_bytes.saturating_sub(self.outbound_bytes)
    }

    /// Mostly drained: what POLLOUT reports.
    pub(super) fn writable(&self) -> bool {
        self.reset_arrived || self.peer_gone || self.outbound_bytes <= self.send_buffer_bytes / 2
    }

    pub(super) fn readable(&self) -> bool {
        !self.inbound.is_empty() || self.finish_arrived || self.reset_arrived
    }
}

/// A shard as the world knows it.
#[derive(Debug)]
pub(super) struct ShardView {
    pub(super) woken: Arc<AtomicBool>,
    pub(super) wakes: u64,
    /// The deadline of the last `enter`.
    pub(super) deadline_us: u64,
    /// Completions or requests are waiting.
    pub(super) pending: bool,
    /// Nothing was there at the last `enter`, although it was willing to wait.
    pub(super) asleep: bool,
    pub(super) open: u32,
    /// Sockets that other shards have handed over to this one.
    pub(super) arrivals: VecDeque<HandOver>,
    /// What became of those that this one has handed over.
    pub(super) answers: VecDeque<(HandOver, Result<(), Errno>)>,
}

/// A socket on its way from one shard to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    pub(super) connection: usize,
    pub(super) from: u8,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) parcel: u32,
}

#[derive(Debug)]
pub(super) struct ListenerView {
    pub(super) address: SocketAddr,
    pub(super) shard: u8,
    /// Connections that wait to be accepted.
    pub(super) backlog: VecDeque<u32>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    pub(super) logs: Logs,
    pub(super) connections: Vec<Connection>,
    pub(super) listeners: Vec<ListenerView>,
    pub(super) shards: Vec<ShardView>,
    pub(super) next_port: u16,
}

/// The simulated world: peers, network, clock. The test's handle; cheap to clone, one thread.
///
/// Peers act when the test says so, and what they do reaches the server at a later `enter` of its shard. Time moves
/// a little with every `enter` and otherwise only by [`World::advance`].
#[derive(Clone, Debug)]
pub struct World(pub(super) Rc<RefCell<State>>);

impl World {
    /// An empty world for as many shards as `logs` has. Everything in it follows from `seed`.
    pub fn new(seed: u64, options: SimOptions, logs: &Logs) -> Self {
        let view = |_| ShardView {
            woken: Arc::new(AtomicBool::new(false)),
            wakes: 0,
            deadline_us: 0,
            pending: false,
            asleep: false,
            open: 0,
            arrivals: VecDeque::new(),
            answers: VecDeque::new(),
        };
        Self(Rc::new(RefCell::new(State {
            rng: Rng::new(seed),
            now_us: options.start_us,
            logs: logs.clone(),
            connections: Vec::new(),
            listeners: Vec::new(),
            shards: (0..logs.shards()).map(view).collect(),
            next_port: 40_000,
            options,
        })))
    }

    /// A client connects to any listener of any shard.
    ///
    /// # Panics
    /// If nobody listens yet.
    pub fn connect(&self) -> PeerId {
        self.connect_where(|_| true)
    }

    /// A client connects to this address; the shard is chosen at random among those that share it.
    ///
    /// # Panics
    /// If nobody listens there.
    pub fn connect_to(&self, address: SocketAddr) -> PeerId {
        self.connect_where(|listener| listener.address == address)
    }

    /// A client connects and lands on this shard.
    ///
    /// # Panics
    /// If the shard does not listen.
    pub fn connect_on(&self, shard: u8) -> PeerId {
        self.connect_where(|listener| listener.shard == shard)
    }

    fn connect_where(&self, fits: impl Fn(&ListenerView) -> bool) -> PeerId {
        let state = &mut *self.0.borrow_mut();
        let fitting: Vec<_> = (0..state.listeners.len()).filter(|&at| fits(&state.listeners[at])).collect();
        assert!(!fitting.is_empty(), "nobody listens there");
        let listener = fitting[state.rng.below(fitting.len() as u64) as usize];
        let range = state.options.send_buffer_bytes.clone();
        let send_buffer_bytes = state.rng.within_u32(&range);
        let peer = state.connections.len() as u32;
        state.listeners[listener].backlog.push_back(peer);
        state.connections.push(Connection {
            shard: state.listeners[listener].shard,
            address: Ipv4Addr::from(NETWORK | (peer % HOSTS)).into(),
            under_way: VecDeque::new(),
            peer_finished: false,
            peer_gone: false,
            reset_under_way: false,
            stalled: false,
            inbound: VecDeque::new(),
            finish_arrived: false,
            reset_arrived: false,
            reset_reported: false,
            outbound: VecDeque::new(),
            outbound_bytes: 0,
            send_buffer_bytes,
            unreported_bytes: 0,
            server_finished: false,
            server_closed: false,
            server_reset: false,
            touched: true,
        });
        PeerId(peer)
    }

    fn with_peer<T>(&self, peer: PeerId, act: impl FnOnce(&mut Connection, &Logs, bool) -> T) -> T {
        let state = &mut *self.0.borrow_mut();
        let connection = &mut state.connections[peer.0 as usize];
        connection.touched = true;
        act(connection, &state.logs, state.options.release_when_read)
    }

    /// The peer sends. Ignored after [`World::peer_shutdown`], [`World::peer_close`] or a reset.
    pub fn peer_write(&self, peer: PeerId, bytes: &[u8]) {
        self.with_peer(peer, |connection, _, _| {
            if !connection.peer_finished && !connection.server_reset {
                connection.under_way.extend(bytes);
            }
        });
    }

    /// The peer reads up to `max` bytes of what the server has sent. Nothing while it is stalled.
    pub fn peer_read(&self, peer: PeerId, max: usize) -> Vec<u8> {
        self.with_peer(peer, |connection, logs, release_when_read| {
            let mut bytes = Vec::new();
            if connection.stalled || connection.peer_gone {
                return bytes;
            }
            while let Some(chunk) = connection.outbound.front_mut()
                && bytes.len() < max
            {
                chunk.take(max - bytes.len(), logs, &mut bytes);
                if chunk.len() == 0 {
                    connection.outbound.pop_front();
                }
            }
            connection.outbound_bytes -= bytes.len() as u32;
            if release_when_read {
                connection.unreported_bytes += bytes.len() as u32;
            }
            bytes
        })
    }

    /// The peer finishes sending and goes on reading.
    pub fn peer_shutdown(&self, peer: PeerId) {
        self.with_peer(peer, |connection, _, _| connection.peer_finished = true);
    }

    /// The peer closes: what it wrote still arrives, what it gets from now on is answered by a reset.
    pub fn peer_close(&self, peer: PeerId) {
        self.with_peer(peer, |connection, _, release_when_read| {
            // Unread bytes turn a close into a reset, as everywhere.
            connection.reset_under_way |= connection.outbound_bytes > 0;
            connection.peer_finished = true;
            connection.peer_gone = true;
            drop_outbound(connection, release_when_read);
        });
    }

    /// The peer resets: what it wrote may be lost.
    pub fn peer_reset(&self, peer: PeerId) {
        self.with_peer(peer, |connection, _, release_when_read| {
            connection.under_way.clear();
            connection.reset_under_way = true;
            connection.peer_finished = true;
            connection.peer_gone = true;
            drop_outbound(connection, release_when_read);
        });
    }

    /// A stalled peer does not read, so that the server's sends fill its buffer and stop.
    pub fn set_stalled(&self, peer: PeerId, stalled: bool) {
        self.with_peer(peer, |connection, _, _| connection.stalled = stalled);
    }

    /// What the peer sees of its connection. Looking is not acting: no shard has a reason to run because of it.
    pub fn peer_state(&self, peer: PeerId) -> PeerState {
        match self.0.borrow().connections[peer.0 as usize] {
            Connection { server_reset: true, .. } => PeerState::Reset,
            Connection { server_closed: true, outbound_bytes: 0, .. }
            | Connection { server_finished: true, outbound_bytes: 0, .. } => PeerState::Ended,
            _ => PeerState::Open,
        }
    }

    /// Bytes sent by the server that the peer has not read.
    pub fn peer_unread_bytes(&self, peer: PeerId) -> usize {
        self.0.borrow().connections[peer.0 as usize].outbound_bytes as usize
    }

    /// The shard on which the peer's connection landed.
    pub fn peer_shard(&self, peer: PeerId) -> u8 {
        self.0.borrow().connections[peer.0 as usize].shard
    }

    /// Everything the peer wrote has been received by the server.
    pub fn peer_drained(&self, peer: PeerId) -> bool {
        let state = self.0.borrow();
        let connection = &state.connections[peer.0 as usize];
        connection.under_way.is_empty() && connection.inbound.is_empty()
    }

    /// Virtual time.
    pub fn now_us(&self) -> u64 {
        self.0.borrow().now_us
    }

    /// Lets time pass.
    pub fn advance(&self, us: u64) {
        self.0.borrow_mut().now_us += us;
    }

    /// Whether `enter` of this shard would have something to return: something arrived, was asked for, or is due.
    /// A scheduler that runs only such shards finds lost wakes.
    pub fn runnable(&self, shard: u8) -> bool {
        let state = self.0.borrow();
        let view = &state.shards[shard as usize];
        !view.asleep
            || view.pending
            || view.woken.load(Ordering::Acquire)
            || view.deadline_us <= state.now_us
            || state.connections.iter().any(|connection| connection.shard == shard && connection.touched)
    }

    /// The deadline of the shard's last `enter`.
    pub fn deadline_us(&self, shard: u8) -> u64 {
        self.0.borrow().shards[shard as usize].deadline_us
    }

    /// Lets time pass until the earliest deadline, if no shard is runnable before. Returns whether it did.
    pub fn advance_to_next_deadline(&self) -> bool {
        let shards = self.0.borrow().shards.len() as u8;
        if (0..shards).any(|shard| self.runnable(shard)) {
            return false;
        }
        let mut state = self.0.borrow_mut();
        let next = state.shards.iter().map(|view| view.deadline_us).min().unwrap_or(u64::MAX);
        if next == u64::MAX {
            return false;
        }
        state.now_us = state.now_us.max(next);
        true
    }

    /// Times that other shards woke this one.
    pub fn wakes(&self, shard: u8) -> u64 {
        self.0.borrow().shards[shard as usize].wakes
    }

    /// Connections that hold a slot of the shard, those whose `Closed` was not delivered included.
    pub fn open_connections(&self, shard: u8) -> u32 {
        self.0.borrow().shards[shard as usize].open
    }

    /// A random number below `bound` from the world's seed, for the test's own decisions.
    pub fn random(&self, bound: u64) -> u64 {
        self.0.borrow_mut().rng.below(bound)
    }
}

/// Nobody will read what is under way to the peer.
pub(super) fn drop_outbound(connection: &mut Connection, release_when_read: bool) {
    if release_when_read {
        connection.unreported_bytes += connection.outbound_bytes;
    }
    connection.outbound.clear();
    connection.outbound_bytes = 0;
}
