//! What a scenario is made of: how rough the world, how large the house, what its clients like to do.

use crate::simulation::door::Lie;
use fanfare_engine::io::sim::SimOptions;
use fanfare_engine::{CloseReason, EndpointOptions, Limits};

/// Something that may happen next. Who does it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A client calls `Echo`, `Later` or `Soon` with a text.
    Ask(&'static str),
    /// Somebody answers a deferred invocation, from outside the shards.
    Answer,
    /// A client says something to everybody.
    SayAll,
    /// To anybody: everybody, the others, a group, a user, one client, all but one.
    SayAny,
    Join,
    Leave,
    Throw,
    /// One call, this many messages to everybody.
    Flood(u32),
    /// This many messages to the caller, at its own pace.
    Pace(u32),
    PingHub,
    PingSocket,
    /// A client asks for a stream, of any kind.
    BeginDown,
    /// A client cancels a stream, or one that there is not.
    Cancel,
    /// Somebody outside the shards sends the next item of a stream.
    Feed,
    /// A client begins a stream of its own.
    BeginUp,
    /// A client sends some items of one of its streams, perhaps its end.
    GoOnUp,
    /// Somebody outside the shards fetches an item of a client's stream.
    Fetch,
    /// A client has another one asked.
    Question,
    /// A client answers a question.
    AnswerQuestion,
    /// A publisher outside the shards says something to everybody.
    Publish,
    /// A client stops reading.
    Stall,
    Resume,
    /// A client is gone without a word, its unread bytes answered with a reset.
    Vanish,
    Reset,
    /// A client ends its side of the transport and reads on.
    HalfClose,
    /// A WebSocket that may be resumed is lost, and resumed.
    Cut,
    CloseSocket,
    /// A client sends the hub's close message.
    Goodbye,
    /// The hub's code ends a connection.
    Abort,
    /// Somebody comes.
    Arrive,
    /// Somebody comes and never gets as far as a whole handshake.
    ArriveMute,
    /// Nobody does anything for so many milliseconds.
    Pause(u32),
}

/// Everything about one run but its seed's consequences.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    pub(crate) world: SimOptions,
    pub(crate) limits: Limits,
    pub(crate) endpoint: EndpointOptions,
    pub(crate) lie: Lie,
    /// Receive buffers of a shard, and bytes of each.
    pub(crate) buffers: (u16, u32),
    pub(crate) clients: u32,
    pub(crate) clients_max: u32,
    /// In thousandths: how many clients speak MessagePack.
    pub(crate) binary: u32,
    /// In thousandths: how many clients have no WebSocket.
    pub(crate) requests: u32,
    /// In thousandths of those that have one: how many may resume it.
    pub(crate) resumable: u32,
    /// In thousandths: how many WebSockets ask for compression. The endpoint must have it.
    pub(crate) deflate: u32,
    /// In thousandths: how many sockets speak TLS.
    pub(crate) tls: u32,
    pub(crate) steps: u32,
    /// What happens, by weight.
    pub(crate) acts: Vec<(u32, Act)>,
    /// Texts are at least so long, and shorter than `bytes`.
    pub(crate) bytes_min: u64,
    pub(crate) bytes: u64,
    /// The most that a client writes or reads at once.
    pub(crate) gulp: u64,
    /// Whoever is not stalled reads at once all that comes.
    pub(crate) attentive: bool,
    /// Why the server may end a connection that has done nothing wrong.
    pub(crate) reasons: &'static [CloseReason],
}

/// Clients that talk, and nothing else.
const TALK: [(u32, Act); 8] = [
    (6, Act::SayAny),
    (4, Act::SayAll),
    (4, Act::Ask("Echo")),
    (3, Act::Join),
    (1, Act::Leave),
    (1, Act::Throw),
    (1, Act::PingSocket),
    (1, Act::PingHub),
];

impl Plan {
    /// One shard, four clients that talk, a calm world.
    pub(crate) fn calm(seed: u64) -> Self {
        let slots = 12;
        Self {
            seed,
            shards: 1,
            world: SimOptions { slots, ..SimOptions::calm() },
            limits: Limits {
                slots_per_shard: slots as usize,
                log_bytes_max: 0,
                close_timeout_ms: 1_000,
                ..Limits::default()
            },
            endpoint: EndpointOptions { keep_request: true, ..EndpointOptions::default() },
            lie: Lie::None,
            buffers: (16, 512),
            clients: 4,
            clients_max: 24,
            binary: 400,
            requests: 0,
            resumable: 0,
            deflate: 0,
            tls: 0,
            steps: 250,
            acts: TALK.to_vec(),
            bytes_min: 0,
            bytes: 120,
            gulp: 4_000,
            attentive: false,
            reasons: &[],
        }
    }

    /// The same in a world where everything goes wrong often.
    pub(crate) fn rough(seed: u64) -> Self {
        let mut plan = Self::calm(seed);
        plan.world = SimOptions { slots: plan.world.slots, ..SimOptions::rough() };
        plan
    }

    pub(crate) fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    pub(crate) fn slots(mut self, slots: u32) -> Self {
        self.world.slots = slots;
        self.limits.slots_per_shard = slots as usize;
        self
    }

    /// Something more that happens, with this weight.
    pub(crate) fn also(mut self, weight: u32, act: Act) -> Self {
        self.acts.push((weight, act));
        self
    }

    /// So many sockets of a thousand speak TLS.
    pub(crate) fn tls(mut self, share: u32) -> Self {
        self.tls = share;
        self
    }

    /// Only this happens.
    pub(crate) fn only(mut self, acts: &[(u32, Act)]) -> Self {
        self.acts = acts.to_vec();
        self
    }

    /// Streams to clients.
    pub(crate) fn downs(self) -> Self {
        self.also(8, Act::BeginDown).also(3, Act::Cancel).also(16, Act::Feed)
    }

    /// Streams of clients.
    pub(crate) fn ups(self) -> Self {
        self.also(6, Act::BeginUp).also(24, Act::GoOnUp).also(16, Act::Fetch)
    }

    /// Questions.
    pub(crate) fn questions(mut self) -> Self {
        self.limits.client_result_timeout_ms = 800;
        self.also(8, Act::Question).also(8, Act::AnswerQuestion)
    }

    /// People come and go in every way there is.
    pub(crate) fn churn(self) -> Self {
        self.also(4, Act::Arrive)
            .also(1, Act::Vanish)
            .also(1, Act::Reset)
            .also(1, Act::HalfClose)
            .also(1, Act::CloseSocket)
            .also(1, Act::Goodbye)
            .also(1, Act::Abort)
    }
}
