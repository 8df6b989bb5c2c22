//! One connection of the fleet: 28 bytes while it idles, a boxed state only while something is half done.

use crate::answers::Answers;
use crate::latency::{Distribution, Summary};
use crate::reader::Carry;
use fanfare_engine::io::Generation;
use serde::Serialize;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not dialled yet, or given up.
    #[default]
    Empty,
    /// TCP connect under way.
    Connecting,
    /// `POST negotiate` sent.
    Negotiating,
    /// The negotiate connection is closing; the same slot is dialled again with the token.
    Renewing,
    /// Upgrade request sent.
    Upgrading,
    /// Events are asked for, or the first poll is.
    Subscribing,
    /// Hub handshake sent.
    Handshaking,
    /// Groups are being joined, or the id is asked for.
    Entering,
    /// In use.
    Open,
    /// Our farewell is sent, the server's is awaited.
    Leaving,
    /// The slot is being closed.
    Closing,
}

impl State {
    /// On its way to open.
    pub fn is_opening(self) -> bool {
        matches!(
            self,
            Self::Connecting
                | Self::Negotiating
                | Self::Renewing
                | Self::Upgrading
                | Self::Subscribing
                | Self::Handshaking
                | Self::Entering
        )
    }

    /// For error texts.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Empty => "before connecting",
            Self::Connecting => "while connecting",
            Self::Negotiating | Self::Renewing => "while negotiating",
            Self::Upgrading => "during the WebSocket upgrade",
            Self::Subscribing => "while subscribing",
            Self::Handshaking => "during the hub handshake",
            Self::Entering => "while entering groups or asking for its id",
            Self::Open => "while open",
            Self::Leaving | Self::Closing => "while closing",
        }
    }
}

impl State {
    /// Whether what comes is read: there is a socket, and it is not being closed.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Empty | Self::Renewing | Self::Closing)
    }
}

impl Role {
    /// Whether it belongs to the fleet.
    pub fn receives(self) -> bool {
        matches!(self, Self::Receiver | Self::Guest)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Receives, and has a line in the ledger.
    #[default]
    Receiver,
    /// Receives while it is there, and comes and goes: no line in the ledger.
    Guest,
    /// Publishes over its WebSocket.
    Publisher,
    /// Publishes by HTTP POST.
    HttpPublisher,
    /// Posts what receivers without a WebSocket have to say. One a worker, and no member of the fleet.
    Poster,
}

/// Where the receive of a connection is: there is one of it at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reading {
    /// Nothing has come that was not read.
    #[default]
    Idle,
    /// Something has come, and waits for its turn.
    Waiting,
    /// The receive is with the ring.
    UnderWay,
    /// The same, and more has come meanwhile.
    UnderWayAgain,
}

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conn {
    /// Which tenant of the slot.
    pub generation: Generation,
    /// Start of the current phase, microseconds of the run's clock, wraps after 71 minutes.
    pub phase_us: u32,
    /// Start of the first phase.
    pub start_us: u32,
    /// Slab handle of what is half done, 0 = nothing.
    pub mid: u32,
    /// Slab handle of what is owed, 0 = nothing.
    pub outbox: u32,
    /// Where it stands.
    pub state: State,
    /// What it is for.
    pub role: Role,
    /// A send is queued, its completion has not come.
    pub sending: bool,
    /// The multishot poll is armed.
    pub poll_armed: bool,
    /// The poll for room is armed.
    pub poll_out_armed: bool,
    /// Its end has been counted.
    pub counted: bool,
    /// Where its receive is.
    pub reading: Reading,
    /// Class in the fleet; of publishers one behind the last.
    pub class: u8,
    /// A guest that was open before: its attempts to come back, 0 when it is not trying.
    pub attempt: u8,
}

const _: () = assert!(size_of::<Conn>() == 32);

/// What a connection keeps only while something is half done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives in a box of its own")]
pub enum Mid {
    /// An HTTP answer, as far as it has come.
    Answer(Vec<u8>),
    /// The connection token, until the upgrade is sent.
    Token(String),
    /// A message or a frame cut by the end of a buffer.
    Carry(Carry),
    /// A publisher's HTTP conversation.
    Http(Box<HttpAnswers>),
}

/// The answers an HTTP publisher waits for.
#[derive(Debug, Default)]
pub struct HttpAnswers {
    /// Requests without an answer yet.
    pub outstanding: u64,
    /// The answers.
    pub answers: Answers,
    /// The server closes after this answer.
    pub last: bool,
}

/// How long the phases of opening and closing took.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    /// Connect to connected.
    pub tcp: Distribution,
    /// Negotiate request to its answer, its own TCP connection not counted.
    pub negotiate: Distribution,
    /// Upgrade request to 101.
    pub upgrade: Distribution,
    /// Request for events, or first poll, to its answer.
    pub subscribe: Distribution,
    /// Hub handshake to its answer.
    pub handshake: Distribution,
    /// First packet to open.
    pub total: Distribution,
    /// Farewell to the server's end.
    pub close: Distribution,
    /// From a cut to being open again.
    pub back: Distribution,
}

impl Phases {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.tcp.add(&other.tcp);
        self.negotiate.add(&other.negotiate);
        self.upgrade.add(&other.upgrade);
        self.subscribe.add(&other.subscribe);
        self.handshake.add(&other.handshake);
        self.total.add(&other.total);
        self.close.add(&other.close);
        self.back.add(&other.back);
    }

    /// The figures of the report; phases that did not happen are left out.
    pub fn summary(&self) -> PhasesSummary {
        let some = |phase: &Distribution| (phase.count() > 0).then(|| phase.summary());
        PhasesSummary {
            tcp: some(&self.tcp),
            negotiate: some(&self.negotiate),
            upgrade: some(&self.upgrade),
            subscribe: some(&self.subscribe),
            handshake: some(&self.handshake),
            total: some(&self.total),
            close: some(&self.close),
            back: some(&self.back),
        }
    }
}

/// Microseconds by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PhasesSummary {
    /// TCP connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Summary>,
    /// Negotiate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negotiate: Option<Summary>,
    /// WebSocket upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Summary>,
    /// Request for events, or first poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Summary>,
    /// Hub handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Summary>,
    /// All of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Summary>,
    /// Farewell to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<Summary>,
    /// Cut to open again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Summary>,
}
