//! The two tables of a shard: what every delivery looks at (`Hot`) and what it does not (`Cold`).

use crate::buf::Extent;
use crate::conn::outbox::Runs;
use crate::conn::partial::Partials;
use crate::conn::wire::Variation;
use crate::io::{Generation, Slot};
use fanfare_protocol::hub::session::Session;
use std::ops::{BitOr, Not};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No connection here.
    #[default]
    Free,
    /// HTTP: a request head or body is awaited.
    Http,
    /// HTTP: a request is complete, and its answer waits for something: a poll for news, a POST for room.
    Waiting,
    /// HTTP: on its way to another shard.
    Moving,
    /// A WebSocket that carries a session.
    Carrying,
    /// A hub connection; the hub handshake is awaited.
    Handshake,
    /// A hub connection.
    Open,
    /// An upgraded plain WebSocket that returns what it gets.
    Echo,
    /// Our last bytes are in the outbox; the peer's end, or the deadline, is awaited.
    Farewell,
    /// The close is with the kernel.
    Closing,
}

/// A set of one-bit facts.
macro_rules! bit_set {
    ($(#[$about:meta])* $name:ident($bits:ty)) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name($bits);

        impl $name {
            /// Whether any of `other`'s facts holds.
            pub fn has(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Makes `other`'s facts true.
            pub fn set(&mut self, other: Self) {
                self.0 |= other.0;
            }

            /// Makes `other`'s facts false.
            pub fn clear(&mut self, other: Self) {
                self.0 &= !other.0;
            }

            /// Makes `other`'s facts false and returns whether one was true.
            pub fn take(&mut self, other: Self) -> bool {
                let had = self.has(other);
                self.clear(other);
                had
            }
        }

        impl BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl Not for $name {
            type Output = Self;
            fn not(self) -> Self {
                Self(!self.0)
            }
        }
    };
}

bit_set! {
    /// Facts that deliveries look at.
    Flags(u16)
}

impl Flags {
    /// The kernel holds our multishot poll for input.
    pub const POLL_ARMED: Flags = Flags(1 << 0);
    /// The kernel holds our one-shot poll for room.
    pub const POLL_OUT_ARMED: Flags = Flags(1 << 1);
    /// A receive is with the kernel.
    pub const RECV_INFLIGHT: Flags = Flags(1 << 2);
    /// Input came while it could not be read.
    pub const READ_AGAIN: Flags = Flags(1 << 3);
    /// Not read from until what it owes, or what it has waiting, shrinks.
    pub const PAUSED: Flags = Flags(1 << 4);
    /// On this turn's list of connections to send to.
    pub const DIRTY: Flags = Flags(1 << 5);
    /// A send of the outbox is with the kernel.
    pub const SEND_INFLIGHT: Flags = Flags(1 << 6);
    /// A hub method of this client is running, as many as may run.
    pub const BUSY: Flags = Flags(1 << 7);
    /// Somebody waits for the outbox to become empty.
    pub const NOTIFY_DRAINED: Flags = Flags(1 << 8);
    /// A process descriptor is lent for `sendfile`.
    pub const LENT: Flags = Flags(1 << 9);
    /// A process descriptor has been asked for.
    pub const LEND_PENDING: Flags = Flags(1 << 10);
    /// Close as soon as the outbox is empty, do not wait for the peer.
    pub const CLOSE_WHEN_SENT: Flags = Flags(1 << 11);
    /// The peer has finished sending, or said goodbye.
    pub const PEER_DONE: Flags = Flags(1 << 12);
    /// Counted as slow.
    pub const SLOW: Flags = Flags(1 << 13);
    /// A member of its hub: the handler has been told that it connected.
    pub const MEMBER: Flags = Flags(1 << 14);
    /// On the list of connections to read from again next turn.
    pub const RETRY: Flags = Flags(1 << 15);
}

bit_set! {
    /// Facts that deliveries do not look at.
    ColdFlags(u8)
}

impl ColdFlags {
    /// The receive that is with the kernel was queued because the socket said there is more.
    pub const MORE_READ: ColdFlags = ColdFlags(1 << 0);
    /// On the list of late connections whose sockets have room again.
    pub const RESUMED: ColdFlags = ColdFlags(1 << 1);
    /// Its id is claimed in the directory.
    pub const CLAIMED: ColdFlags = ColdFlags(1 << 2);
    /// It was given a token by negotiate before it connected.
    pub const NEGOTIATED: ColdFlags = ColdFlags(1 << 3);
    /// Our direction ends as soon as everything is sent; then the peer's end is awaited. Its input is not looked at.
    pub const HALF_CLOSE: ColdFlags = ColdFlags(1 << 4);
    /// On the list of connections whose input goes on, for compressed messages that were read and not taken.
    pub const UNREAD_LISTED: ColdFlags = ColdFlags(1 << 5);
}

/// What every delivery reads: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Hot {
    /// The tenant of the slot.
    pub generation: Generation,
    /// Where it is in its life.
    pub state: State,
    /// How hub messages go out; only meaningful once open.
    pub variation: Variation,
    /// One-bit facts.
    pub flags: Flags,
    /// Index into the engine's endpoints.
    pub endpoint: u16,
    /// Tick (100 ms) of the last byte that the client took, while it owes us reading.
    pub progress_tick: u16,
    /// Handshake, pings, time-outs.
    pub session: Session,
    /// Bytes in the outbox.
    pub owed_bytes: u32,
    /// Handle of the runs behind the first one, 0 if there are none.
    pub more: u32,
    /// The first run of the outbox, empty if there is none.
    pub first: Extent,
    /// Handle of unfinished input, 0 if there is none.
    pub partial: u32,
    /// Handle of the list of groups, 0 if there are none.
    pub groups: u32,
    /// The last fan of this turn that this connection already has in its outbox.
    pub fan_stamp: u32,
    /// Position in the hub's list of members.
    pub member_position: u32,
}

const _: () = assert!(size_of::<Hot>() == 64);

/// What deliveries do not look at.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Cold {
    /// The connection id.
    pub id: [u8; 16],
    /// Handle of the user's group, 0 for anonymous.
    pub user: u32,
    /// Handle of the kept request head, 0 if none is kept.
    pub request: u32,
    /// Seconds since the engine started.
    pub connected_at_s: u32,
    /// Bytes thrown away since our farewell.
    pub lingered_bytes: u32,
    /// Invocations that are running.
    pub running: u16,
    /// One-bit facts.
    pub flags: ColdFlags,
    /// Why it is being closed (`CloseReason as u8`), 0 while it is not.
    pub close_reason: u8,
}

const _: () = assert!(size_of::<Cold>() <= 36);

/// The records of one kind of slots.
#[derive(Debug)]
struct Records {
    hot: Vec<Hot>,
    cold: Vec<Cold>,
}

impl Records {
    /// Address space is taken now, memory as slots are used.
    fn new(slots_max: usize) -> Self {
        Self { hot: Vec::with_capacity(slots_max), cold: Vec::with_capacity(slots_max) }
    }

    fn occupy(&mut self, index: usize) -> &mut Hot {
        while self.hot.len() <= index {
            self.hot.push(Hot::default());
            self.cold.push(Cold::default());
        }
        debug_assert_eq!(self.hot[index].state, State::Free, "slot {index} was handed out twice");
        let generation = self.hot[index].generation;
        self.hot[index] = Hot { generation, state: State::Http, ..Hot::default() };
        self.cold[index] = Cold::default();
        &mut self.hot[index]
    }

    fn vacate(&mut self, index: usize) {
        let generation = self.hot[index].generation.next();
        self.hot[index] = Hot { generation, ..Hot::default() };
    }
}

/// All connections of a shard: sockets, whose slots the kernel hands out, and sessions, whose slots we do.
#[derive(Debug)]
pub struct Slots {
    sockets: Records,
    sessions: Records,
    /// Sessions that have been and gone.
    free_sessions: Vec<u32>,
    slots_max: usize,
    /// Runs behind the first one.
    pub runs: Runs,
    /// Unfinished input.
    pub partials: Partials,
}

impl Slots {
    /// Room for `slots_max` sockets and as many sessions.
    pub fn new(slots_max: usize, partial_bytes_max: usize) -> Self {
        Self {
            sockets: Records::new(slots_max),
            sessions: Records::new(slots_max),
            free_sessions: Vec::new(),
            slots_max,
            runs: Runs::new(2 * slots_max),
            partials: Partials::new(2 * slots_max, partial_bytes_max),
        }
    }

    /// Sockets there is room for.
    pub fn capacity(&self) -> usize {
        self.slots_max
    }

    /// Slots of sockets that have ever been used; every used slot is below it.
    pub fn sockets(&self) -> usize {
        self.sockets.hot.len()
    }

    /// The same for sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.hot.len()
    }

    /// Sessions that there are.
    pub fn open_sessions(&self) -> usize {
        self.sessions() - self.free_sessions.len()
    }

    /// Every slot that has ever been used. Sessions first: when all are ended, their requests are answered before the
    /// sockets go.
    pub fn all(&self) -> impl Iterator<Item = Slot> + use<> {
        let sessions = (0..self.sessions() as u32).map(Slot::session);
        sessions.chain((0..self.sockets() as u32).map(Slot))
    }

    fn records(&self, slot: Slot) -> &Records {
        if slot.is_session() { &self.sessions } else { &self.sockets }
    }

    fn records_mut(&mut self, slot: Slot) -> &mut Records {
        if slot.is_session() { &mut self.sessions } else { &mut self.sockets }
    }

    /// Makes the record of a slot that the kernel has just handed out.
    pub fn occupy(&mut self, slot: Slot) -> &mut Hot {
        debug_assert!(!slot.is_session() && slot.index() < self.slots_max);
        self.sockets.occupy(slot.index())
    }

    /// Makes the record of a new session. `None`: there are as many as there may be.
    pub fn occupy_session(&mut self) -> Option<Slot> {
        let next = self.sessions() as u32;
        let index = self.free_sessions.pop().or_else(|| (self.sessions() < self.slots_max).then_some(next))?;
        self.sessions.occupy(index as usize);
        Some(Slot::session(index))
    }

    /// Frees the slot: the kernel has closed it, or its session is over. Completions for the old tenant are stale from
    /// now on.
    pub fn vacate(&mut self, slot: Slot) {
        self.records_mut(slot).vacate(slot.index());
        if slot.is_session() {
            self.free_sessions.push(slot.index() as u32);
        }
    }

    /// The record of `slot`, which has been used before.
    pub fn hot(&self, slot: Slot) -> &Hot {
        &self.records(slot).hot[slot.index()]
    }

    /// The same, to change.
    pub fn hot_mut(&mut self, slot: Slot) -> &mut Hot {
        &mut self.records_mut(slot).hot[slot.index()]
    }

    /// The record of `slot` together with the queues behind first runs.
    pub fn outbox(&mut self, slot: Slot) -> (&mut Hot, &mut Runs) {
        let records = if slot.is_session() { &mut self.sessions } else { &mut self.sockets };
        (&mut records.hot[slot.index()], &mut self.runs)
    }

    /// The record of `slot` together with the unfinished input.
    pub fn input(&mut self, slot: Slot) -> (&mut Hot, &mut Partials) {
        let records = if slot.is_session() { &mut self.sessions } else { &mut self.sockets };
        (&mut records.hot[slot.index()], &mut self.partials)
    }

    /// The cold record of `slot`, which has been used before.
    pub fn cold(&self, slot: Slot) -> &Cold {
        &self.records(slot).cold[slot.index()]
    }

    /// The same, to change.
    pub fn cold_mut(&mut self, slot: Slot) -> &mut Cold {
        &mut self.records_mut(slot).cold[slot.index()]
    }

    /// The record, if the slot still has this tenant and it is neither free nor with the kernel for closing.
    pub fn live(&mut self, slot: Slot, generation: Generation) -> Option<&mut Hot> {
        let hot = self.records_mut(slot).hot.get_mut(slot.index())?;
        let live = hot.generation == generation && !matches!(hot.state, State::Free | State::Closing);
        live.then_some(hot)
    }
}
