//! A whole engine in one thread: its shards on one simulated world, its clients, the oracle, and who acts next.

use crate::simulation::client::{Client, Stage};
use crate::simulation::deflate::Deflate;
use crate::simulation::door::Door;
use crate::simulation::flows::Over;
use crate::simulation::hub::{Books, ByQuery, Hub, arguments};
use crate::simulation::ledger::{Aim, OUTSIDE, Verdict};
use crate::simulation::methods;
use crate::simulation::plan::{Act, Plan};
use crate::simulation::requests::{Carrier, Requests};
use crate::simulation::resumption::Resumption;
use crate::simulation::secure::{self, Network};
use fanfare_engine::buf::RecvPool;
use fanfare_engine::buf::segment::Logs;
use fanfare_engine::engine::ManualShard;
use fanfare_engine::io::sim::{PeerState, Rng, World};
use fanfare_engine::io::{Io, WakeHandle};
use fanfare_engine::{
    Answer, CloseReason, Engine, EngineHandle, Format, HandlerError, HubOptions, Payload, PublishError, Publisher,
    ShardMetrics, StreamError, Value,
};

/// What a run came to: what was counted, for the proof that a scenario does what its name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) metrics: ShardMetrics,
    /// Messages that clients heard.
    pub(crate) heard: u64,
    /// Messages refused because the log was full.
    pub(crate) failed: u64,
    /// Items of streams that clients heard, and that came from clients.
    pub(crate) items_heard: u64,
    pub(crate) items_came: u64,
    /// Client results.
    pub(crate) results: u64,
    /// Streams cancelled by their clients.
    pub(crate) cancelled: u64,
    /// Items that found no room.
    pub(crate) full: u64,
    /// Fetches from more items than may wait.
    pub(crate) crowded: u64,
    /// Messages refused because a mailbox was full.
    pub(crate) mailbox_full: u64,
    /// Wakes between shards.
    pub(crate) wakes: u64,
    /// Sends from the log's pages.
    pub(crate) send_files: u64,
    /// Completions of a tenant that has gone, met by the next one.
    pub(crate) stale: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.metrics.add(&other.metrics);
        self.heard += other.heard;
        self.failed += other.failed;
        self.items_heard += other.items_heard;
        self.items_came += other.items_came;
        self.results += other.results;
        self.cancelled += other.cancelled;
        self.full += other.full;
        self.crowded += other.crowded;
        self.mailbox_full += other.mailbox_full;
        self.wakes += other.wakes;
        self.send_files += other.send_files;
        self.stale += other.stale;
    }

    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.metrics.closed_total[reason as usize]
    }
}

/// Ends that need no permission: the client's own doing, and the stop at the end of every run.
const ORDINARY: [CloseReason; 7] = [
    CloseReason::Normal,
    CloseReason::Lost,
    CloseReason::HttpDone,
    CloseReason::ClosedByServer,
    CloseReason::Shutdown,
    CloseReason::Drain,
    CloseReason::Moved,
];
/// Rounds within which everything that needs no time has happened.
const ROUNDS_MAX: u32 = 20_000;
/// Time in which whoever said more than the pace allows is heard to the end.
const PACED_US: u64 = 12_000_000;

/// See the module.
pub(crate) struct House {
    pub(crate) plan: Plan,
    pub(crate) world: Network,
    pub(crate) rng: Rng,
    pub(crate) clients: Vec<Client>,
    pub(crate) handle: EngineHandle,
    pub(crate) books: Books,
    shards: Vec<ManualShard<Door>>,
    running: Vec<bool>,
    publishers: Vec<Publisher>,
    /// The server is going: whoever is there may be sent away, whoever comes may be refused.
    pub(crate) ending: bool,
    mailbox_full: u64,
    crowded: u64,
}

impl House {
    pub(crate) fn new(plan: Plan) -> Self {
        let books = Books::default();
        books.open().flows.timeout_us = u64::from(plan.limits.client_result_timeout_ms) * 1_000;
        books.open().losses.policy = plan.endpoint.slow_policy;
        books.open().losses.in_order = plan.shards == 1;
        let mut world = None;
        let options = HubOptions { endpoint: plan.endpoint.clone() };
        let mut builder = Engine::builder();
        if plan.tls > 0 {
            let certificates = secure::identity().certificates();
            builder = builder.listen(secure::PLAIN).listen_tls(secure::SECURE).certificates(certificates);
        }
        let built = builder
            .hub("hub", options, Hub(books.clone()))
            .authenticator("/hub", ByQuery)
            .limits(plan.limits.clone())
            .build_on(
                |logs, _| doors(&plan, world.insert(World::new(plan.seed, plan.world.clone(), logs)), logs),
                plan.shards,
            );
        let (shards, handle) = built.expect("an engine");
        let mut house = Self {
            world: Network::new(world.expect("made with the doors"), plan.tls),
            rng: Rng::new(!plan.seed),
            clients: Vec::new(),
            publishers: (0..plan.shards as u8).map(|shard| handle.publisher_on(shard)).collect(),
            handle,
            books,
            running: vec![true; shards.len()],
            shards,
            ending: false,
            mailbox_full: 0,
            crowded: 0,
            plan,
        };
        for _ in 0..house.plan.clients {
            house.arrive();
        }
        house
    }

    // -- who acts next --------------------------------------------------------------------------------------------

    /// Plays the plan's steps, with whatever its seed makes of them.
    pub(crate) fn play(&mut self) {
        for _ in 0..self.plan.steps {
            self.step();
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..45 => self.turn_somebody(),
            45..64 => self.read_somebody(),
            64..83 => self.write_somebody(),
            83..84 => self.world.advance(self.rng.clone().below(2_000)),
            _ => self.act_somehow(),
        }
        if self.plan.attentive {
            self.read_at_once();
        }
    }

    /// Whoever is not stalled leaves nothing unread, so that no socket of theirs is ever full.
    fn read_at_once(&mut self) {
        for at in 0..self.clients.len() {
            while self.clients[at].stage != Stage::Gone && !self.clients[at].stalled {
                if self.world.peer_unread_bytes(self.clients[at].peer) == 0 {
                    break;
                }
                self.read(at);
            }
        }
    }

    fn turn_somebody(&mut self) {
        let runnable: Vec<usize> = (0..self.shards.len()).filter(|&shard| self.is_runnable(shard)).collect();
        if let Some(&shard) = self.pick(&runnable) {
            self.turn(shard);
        } else if self.rng.chance(50) {
            self.world.advance_to_next_deadline();
        }
    }

    fn is_runnable(&self, shard: usize) -> bool {
        self.running[shard] && self.world.runnable(shard as u8)
    }

    /// What all clients of the first shard are owed, as counted by its table.
    pub(crate) fn owed_bytes(&self) -> u64 {
        self.shards[0].owed_bytes()
    }

    /// One turn of one shard, after which its books must balance.
    pub(crate) fn turn(&mut self, shard: usize) {
        self.books.open().flows.now_us = self.world.now_us();
        self.running[shard] = self.shards[shard].turn().expect("the simulated ring never fails");
        self.shards[shard].check().unwrap_or_else(|error| panic!("shard {shard}: {error}"));
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.rng.below(from.len() as u64) as usize)
    }

    fn somebody(&mut self, fits: impl Fn(&Client) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.clients.len()).filter(|&at| fits(&self.clients[at])).collect();
        self.pick(&fitting).copied()
    }

    fn read_somebody(&mut self) {
        if let Some(at) = self.somebody(|client| client.stage != Stage::Gone && !client.stalled) {
            self.read(at);
        }
    }

    fn write_somebody(&mut self) {
        if let Some(at) = self.somebody(Client::has_output) {
            self.write(at);
        }
    }

    /// The client takes some of what has arrived, and looks whether that was all.
    pub(crate) fn read(&mut self, at: usize) -> bool {
        self.clients[at].server_goes = self.ending || self.plan.reasons.contains(&CloseReason::SlowClient);
        let posts = self.read_post(at);
        if self.clients[at].requests.is_some() && self.clients[at].stage == Stage::Gone {
            self.hang_up_if_gone(at);
            return true;
        }
        let client = &mut self.clients[at];
        let most = 1 + self.rng.below(self.plan.gulp) as usize;
        let read = self.world.peer_unread_bytes(client.peer) > 0;
        if read {
            client.handle_bytes(self.world.peer_read(client.peer, most));
        }
        let ended = self.world.peer_state(client.peer) != PeerState::Open;
        if ended && client.stage != Stage::Gone {
            let explained = client.leaving || self.ending || !self.plan.reasons.is_empty();
            let refused = client.dismissed && client.stage == Stage::Closing;
            // It shakes hands before it knows whether it is let in: where it is not, that makes no sense.
            let unheard = client.stage == Stage::Head && self.plan.limits.connect_rate > 0;
            assert!(explained || refused || unheard, "client {} is cut off without a reason", client.number);
            client.stage = Stage::Gone;
            client.output.clear();
        }
        self.hang_up_if_gone(at);
        read || ended || posts
    }

    /// The same on the socket of POSTs, if it has one.
    fn read_post(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        client.go_on(&mut self.rng);
        let Some(peer) = client.requests.as_ref().map(|requests| requests.post_peer) else { return false };
        client.go_on(&mut self.rng);
        let most = 1 + self.rng.below(self.plan.gulp) as usize;
        let read = self.world.peer_unread_bytes(peer) > 0;
        if read {
            client.handle_post_bytes(&self.world.peer_read(peer, most));
        }
        if client.stage != Stage::Gone && self.world.peer_state(peer) != PeerState::Open {
            let posting = client.requests.as_ref().is_some_and(Requests::is_posting);
            let refused = client.requests.as_ref().is_some_and(|requests| requests.may_be_refused);
            let explained = client.leaving || client.dismissed || self.ending || !self.plan.reasons.is_empty();
            // A refusal may be lost in the end of its socket.
            let explained = explained || refused;
            client.dismissed |= posting && refused;
            assert!(!posting || explained, "client {}: a POST is cut off without a reason", client.number);
            if posting || self.ending {
                client.stage = Stage::Gone;
            } else {
                // Idle for too long: an ordinary client opens another.
                let another = self.world.connect();
                client.requests.as_mut().expect("looked at above").reconnect(another);
            }
        }
        let client = &mut self.clients[at];
        client.go_on(&mut self.rng);
        read
    }

    /// A client that has no connection any more needs no sockets.
    fn hang_up_if_gone(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(requests) = client.requests.as_mut().filter(|_| client.stage == Stage::Gone) else { return };
        requests.post_output.clear();
        client.output.clear();
        for peer in [client.peer, requests.post_peer] {
            if self.world.peer_state(peer) == PeerState::Open {
                self.world.peer_close(peer);
            }
        }
    }

    fn write(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let most = 1 + self.rng.below(self.plan.gulp) as usize;
        let (peer, output) = match &mut client.requests {
            Some(requests) if !requests.post_output.is_empty() => (requests.post_peer, &mut requests.post_output),
            _ => (client.peer, &mut client.output),
        };
        let n = most.min(output.len());
        let bytes: Vec<u8> = output.drain(..n).collect();
        self.world.peer_write(peer, &bytes);
    }

    // -- what they do ---------------------------------------------------------------------------------------------

    fn act_somehow(&mut self) {
        let total: u32 = self.plan.acts.iter().map(|(weight, _)| weight).sum();
        let mut left = self.rng.below(total.into()) as u32;
        let drawn = self.plan.acts.iter().find(|(weight, _)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        if let Some((_, act)) = drawn.copied() {
            self.act(act);
        }
    }

    /// Does it now.
    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Arrive => self.arrive(),
            Act::ArriveMute => self.arrive_mute(),
            Act::Answer => self.answer(),
            Act::Feed => {
                let (producers, _) = self.books.open().outsiders();
                let at = self.rng.below(producers.max(1) as u64) as usize;
                self.feed(at);
            }
            Act::Fetch => {
                let (_, fetchers) = self.books.open().outsiders();
                let at = self.rng.below(fetchers.max(1) as u64) as usize;
                self.fetch(at);
            }
            Act::Publish => self.publish(),
            Act::Pause(ms) => self.pass(u64::from(ms) * 1_000),
            Act::Resume => {
                if let Some(at) = self.somebody(|client| client.stalled) {
                    self.stall(at, false);
                }
            }
            Act::Stall => {
                if let Some(at) = self.somebody(|client| !client.stalled && client.can_speak()) {
                    self.stall(at, true);
                }
            }
            Act::Cut => {
                if let Some(at) = self.somebody(Client::may_lose) {
                    self.cut(at);
                }
            }
            Act::Vanish | Act::Reset | Act::HalfClose | Act::CloseSocket | Act::Goodbye | Act::Abort => {
                if let Some(at) = self.somebody(Client::can_speak) {
                    self.depart(at, act);
                }
            }
            _ => {
                if let Some(at) = self.somebody(Client::can_speak) {
                    self.talk(at, act);
                }
            }
        }
    }

    pub(crate) fn arrive(&mut self) {
        if self.clients.len() >= self.plan.clients_max as usize || self.running.contains(&false) {
            return;
        }
        let peer = self.world.connect();
        let format = if self.rng.chance(self.plan.binary) { Format::MessagePack } else { Format::Json };
        let number = self.clients.len() as u32 + 1;
        self.books.open().connects(number, self.world.peer_shard(peer));
        let mut client = Client::new(number, peer, format, self.books.clone());
        if self.rng.chance(self.plan.requests) {
            let carrier = if self.rng.chance(500) { Carrier::Events } else { Carrier::Polls };
            if carrier == Carrier::Events {
                client.format = Format::Json;
            }
            let (post_peer, early) = (self.world.connect(), self.rng.chance(200));
            let mut requests = Requests::new(carrier, post_peer, client.query(), early);
            requests.may_be_refused = self.plan.world.hand_over_fails > 0;
            client.requests = Some(requests);
        }
        if client.requests.is_none() && self.rng.chance(self.plan.resumable) {
            client.resumption = Some(Resumption::new(client.format));
        }
        // Asked first, so that the runs of plans without it stay what they were.
        if self.plan.deflate > 0 && client.requests.is_none() && self.rng.chance(self.plan.deflate) {
            client.deflate = Some(Box::new(Deflate::new()));
        }
        client.ask_in();
        client.shake_hands(&mut self.rng);
        client.rude = self.rng.chance(200);
        // Between two polls a client is behind as one that does not read.
        let polls = client.requests.as_ref().is_some_and(|requests| requests.carrier == Carrier::Polls);
        if polls || !self.plan.attentive {
            self.books.open().losses.behind.insert(number);
        }
        self.clients.push(client);
    }

    fn arrive_mute(&mut self) {
        let before = self.clients.len();
        self.arrive();
        if let Some(client) = self.clients.get_mut(before) {
            let said = match &mut client.requests {
                Some(requests) => &mut requests.unposted,
                None => &mut Vec::new(),
            };
            said.truncate(self.rng.below(said.len() as u64) as usize);
            if client.requests.is_none() {
                let said = self.rng.below(client.output.len() as u64) as usize;
                client.output.truncate(said);
            }
            client.leaving = true;
            // Its handshake does not get further than a hello.
            let stalls = self.world.is_secure(client.peer) && self.rng.chance(500);
            if stalls {
                self.stall(before, true);
            }
        }
    }

    pub(crate) fn stall(&mut self, at: usize, stalled: bool) {
        self.clients[at].stalled = stalled;
        if stalled {
            self.books.open().losses.behind.insert(self.clients[at].number);
        }
        self.world.set_stalled(self.clients[at].peer, stalled);
    }

    /// Its WebSocket is cut, in mid-word or in order; it comes back at once, perhaps before the server has noticed.
    fn cut(&mut self, at: usize) {
        let peer = self.clients[at].peer;
        match self.rng.below(3) {
            0 => self.world.peer_reset(peer),
            1 => self.world.peer_close(peer),
            // Half open: the server hears of it only by the other one.
            _ => self.world.set_stalled(peer, true),
        }
        let another = self.world.connect();
        self.clients[at].resume_on(another);
    }

    pub(crate) fn depart(&mut self, at: usize, how: Act) {
        let how = if self.clients[at].is_between() && how != Act::Reset { Act::Vanish } else { how };
        let client = &mut self.clients[at];
        if let Some(requests) = &mut client.requests
            && matches!(how, Act::CloseSocket | Act::Vanish | Act::Reset | Act::HalfClose)
        {
            client.leaving = true;
            if how == Act::CloseSocket && requests.carrier == Carrier::Polls && requests.delete() {
                return;
            }
            client.stage = Stage::Gone;
            if how == Act::Reset {
                self.world.peer_reset(client.peer);
            }
            return self.hang_up_if_gone(at);
        }
        match how {
            Act::CloseSocket => return client.close_socket(),
            Act::Goodbye => return client.say_goodbye(&mut self.rng),
            Act::Abort => return client.ask_out(&mut self.rng),
            Act::HalfClose => self.world.peer_shutdown(client.peer),
            Act::Reset => self.world.peer_reset(client.peer),
            _ => self.world.peer_close(client.peer),
        }
        client.leaving = true;
        client.output.clear();
        if how != Act::HalfClose {
            client.stage = Stage::Gone;
        }
    }

    fn draw_bytes(&mut self) -> usize {
        let bound = 1 + self.rng.below(self.plan.bytes - self.plan.bytes_min);
        (self.plan.bytes_min + self.rng.below(bound)) as usize
    }

    fn group(&mut self) -> String {
        format!("g{}", self.rng.below(3))
    }

    fn aim(&mut self) -> Aim {
        let anybody = 1 + self.rng.below(self.clients.len() as u64) as u32;
        match self.rng.below(8) {
            0 => Aim::All,
            1 => Aim::Others,
            2 | 3 => Aim::Group(self.group()),
            4 => Aim::RestOfGroup(self.group()),
            5 => Aim::User(format!("user{}", self.rng.below(2))),
            6 => Aim::One(anybody),
            _ => Aim::Except(anybody),
        }
    }

    pub(crate) fn talk(&mut self, at: usize, act: Act) {
        let (bytes, group, aim) = (self.draw_bytes(), self.group(), self.aim());
        let crowd = self.clients.len() as u64;
        let (client, rng) = (&mut self.clients[at], &mut self.rng);
        match act {
            Act::Ask(method) => client.ask(method, bytes, rng),
            Act::SayAll => client.say(&Aim::All, bytes, rng),
            Act::SayAny => client.say(&aim, bytes, rng),
            Act::Join => client.call("Join", &[Value::Str(group)], rng),
            Act::Leave => client.call("Leave", &[Value::Str(group)], rng),
            Act::Flood(count) => client.call("Flood", &[Value::Int(count.into()), Value::Int(bytes as i64)], rng),
            Act::Pace(count) => client.call("Pace", &[Value::Int(count.into()), Value::Int(bytes as i64)], rng),
            Act::Throw => client.fail(if bytes % 2 == 0 { "Throw" } else { "Nonsense" }, rng),
            Act::BeginDown | Act::Cancel | Act::BeginUp | Act::GoOnUp => {
                let (format, streamer) = (client.format, &mut client.streamer);
                let messages = match act {
                    Act::BeginDown => streamer.begin_down(format, bytes, rng),
                    Act::Cancel => streamer.cancel(format, rng),
                    Act::BeginUp => streamer.begin_up(format, rng),
                    _ => streamer.go_on_up(format, bytes, rng),
                };
                client.say_encoded(&messages, rng);
            }
            Act::Question => {
                let somebody = 1 + rng.below(crowd) as u32;
                client.question(somebody, bytes, rng);
            }
            Act::AnswerQuestion => drop(client.answer_question(rng)),
            Act::PingHub => client.ping_hub(rng),
            Act::PingSocket => client.ping_socket(rng),
            other => unreachable!("{other:?} is not talk"),
        }
    }

    fn answer(&mut self) {
        let owed = self.books.open().pending.len() as u64;
        if owed > 0 {
            let which = self.rng.below(owed) as usize;
            let (handle, text) = self.books.open().pending.swap_remove(which);
            handle.reply(Answer::Value(Value::Str(text)));
        }
    }

    /// Somebody outside sends the next item of a stream, or its end. `false`: there is nobody, or no room.
    fn feed(&mut self, at: usize) -> bool {
        if at >= self.books.open().flows.producers.len() {
            return false;
        }
        let mut producer = self.books.open().flows.producers.remove(at);
        if self.books.open().flows.is_over(producer.which) {
            return true;
        }
        if producer.left == 0 {
            let failed = self.rng.chance(200);
            self.books.open().flows.finishes(producer.which, if failed { Over::Failed } else { Over::Ended });
            match failed {
                true => producer.stream.fail(HandlerError::Hub("failed".to_owned())),
                false => producer.stream.end(),
            }
            return true;
        }
        let text = self.books.open().flows.next(producer.which);
        let sent = producer.stream.send(&Value::Str(text));
        let mut books = self.books.open();
        match sent {
            Ok(()) => {
                producer.left -= 1;
                books.flows.says(producer.which);
            }
            Err(StreamError::Full) => books.flows.full_total += 1,
            Err(error) => panic!("{:?}: {error}, but nobody was told", producer.which),
        }
        books.flows.producers.push(producer);
        sent.is_ok()
    }

    /// Somebody outside fetches an item. `false`: there is nobody, or nothing.
    fn fetch(&mut self, at: usize) -> bool {
        if at >= self.books.open().flows.fetchers.len() {
            return false;
        }
        let fetcher = self.books.open().flows.fetchers.remove(at);
        // One receive may bring more than there is room for, of at least eight bytes each.
        let (waiting, items) = (fetcher.upload.len(), usize::from(self.plan.endpoint.stream_buffer_items));
        let most = items + 1 + self.plan.buffers.1 as usize / 8;
        assert!(waiting <= most, "{waiting} items of {:?} wait: its connection is read from", fetcher.which);
        self.crowded += u64::from(waiting > items);
        methods::fetch(&self.books, fetcher)
    }

    fn publish(&mut self) {
        let bytes = self.draw_bytes();
        let shard = self.rng.below(self.publishers.len() as u64) as usize;
        let publisher = OUTSIDE | shard as u32;
        let serial = self.books.open().next_serial(publisher);
        self.books.open().says(publisher, serial, Aim::All, bytes);
        let values = arguments(&Aim::All, publisher, serial, bytes);
        let target = self.books.open().losses.target(serial);
        match self.publishers[shard].all("hub").send(target, &Payload::Values(&values)) {
            Ok(()) => {}
            Err(PublishError::Full) => {
                self.mailbox_full += 1;
                self.books.open().ruled(publisher, serial, Verdict::Refused);
            }
            Err(error) => panic!("a publisher is refused: {error}"),
        }
    }

    // -- until nothing more happens -------------------------------------------------------------------------------

    /// Everything that needs no time happens: everybody reads and writes, whoever owes an answer gives it.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.settle_once() {
                return;
            }
        }
        panic!("no rest after {ROUNDS_MAX} rounds");
    }

    fn settle_once(&mut self) -> bool {
        let mut busy = false;
        for shard in 0..self.shards.len() {
            if self.is_runnable(shard) {
                self.turn(shard);
                busy = true;
            }
        }
        for at in 0..self.clients.len() {
            if self.clients[at].has_output() {
                self.write(at);
                busy = true;
            }
            if self.clients[at].stage != Stage::Gone && !self.clients[at].stalled {
                busy |= self.read(at) || self.clients[at].will_go_on() || self.clients[at].has_output();
            }
        }
        if !self.books.open().pending.is_empty() {
            self.answer();
            busy = true;
        }
        let (producers, fetchers) = self.books.open().outsiders();
        // Whoever had his turn goes to the end of the line.
        (0..producers).for_each(|_| busy |= self.feed(0));
        (0..fetchers).for_each(|_| busy |= self.fetch(0));
        for client in &mut self.clients {
            busy |= client.can_speak() && client.answer_question(&mut self.rng);
        }
        busy
    }

    /// Lets time pass, from one deadline to the next, with everything that becomes due.
    pub(crate) fn pass(&mut self, us: u64) {
        let until = self.world.now_us() + us;
        loop {
            self.settle();
            let now = self.world.now_us();
            if now >= until {
                return;
            }
            if !self.world.advance_to_next_deadline() {
                self.world.advance(until - now);
            }
        }
    }

    /// Time passes, clients say that they live, and no shard has a turn.
    pub(crate) fn stand_still(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.everybody_lives();
            self.world.advance(1_000_000);
        }
    }

    /// Every client on a WebSocket sends a ping of the hub protocol.
    pub(crate) fn everybody_lives(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].can_speak() {
                self.talk(at, Act::PingHub);
            }
            while self.clients[at].has_output() {
                self.write(at);
            }
        }
    }

    /// Whoever stays has heard everything, and every question is answered.
    pub(crate) fn check_complete(&self) {
        for client in self.clients.iter().filter(|client| client.is_faithful() && !client.stalled) {
            self.books.open().is_complete(client.number).unwrap_or_else(|error| panic!("{error}"));
            if let Some(what) = client.waits_for() {
                panic!("client {} waits for {what}", client.number);
            }
        }
    }

    /// Whoever came in order gets in, unless its shard's table is full. A slot may be held by a peer that has gone
    /// without a word, until its deadline and the sweep after it.
    fn check_admitted(&mut self) {
        for _ in 0..6 {
            if self.uninvited().is_none() {
                return;
            }
            self.pass(500_000);
        }
        if let Some(number) = self.uninvited() {
            panic!("client {number} never gets in: {:?}", self.clients[number as usize - 1].requests);
        }
    }

    /// Somebody who came in order, is not in, and for whom there is room.
    fn uninvited(&self) -> Option<u32> {
        let shard = |client: &Client| self.world.peer_shard(client.peer);
        let is_there = |client: &&Client| client.stage != Stage::Gone;
        let crowd = |of: u8| self.clients.iter().filter(is_there).filter(|client| shard(client) == of).count();
        let mut waiting = self.clients.iter().filter(|client| matches!(client.stage, Stage::Head | Stage::Handshake));
        let unfair = waiting.find(|client| {
            let full = crowd(shard(client)) > self.plan.world.slots as usize;
            !(full || client.leaving || client.dismissed)
        });
        unfair.map(|client| client.number)
    }

    /// The end of every run: what was said arrives, everybody leaves, nothing is left, the shards stop.
    pub(crate) fn finish(mut self) -> Tally {
        for at in 0..self.clients.len() {
            self.stall(at, false);
        }
        // No time passes: what needs the next sweep to wake a shard has lost its own wake.
        self.settle();
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.can_speak() {
                let ends = client.streamer.end_all(client.format);
                client.say_encoded(&ends, &mut self.rng);
            }
        }
        self.settle();
        let slow = |act: &Act| matches!(act, Act::Ask("Soon") | Act::Question | Act::BeginDown);
        let paced = self.plan.limits.uplink_messages_rate > 0;
        if !paced && !self.plan.acts.iter().any(|(_, act)| slow(act)) {
            self.check_complete();
        }
        if paced {
            // What was said too fast is heard in time.
            self.pass(PACED_US);
        }
        // Time for those that waited for a slot, or for a method that takes its time.
        self.pass(2_500_000);
        self.check_complete();
        self.check_admitted();
        self.leave_all();
        self.check_empty();
        self.handle.begin_stop();
        self.ending = true;
        self.wait_for_stop();
        self.tally()
    }

    /// The end of a run whose server is going already.
    pub(crate) fn finish_stopped(mut self) -> Tally {
        self.wait_for_stop();
        self.check_empty();
        self.tally()
    }

    fn leave_all(&mut self) {
        let ways = [Act::Vanish, Act::Reset, Act::HalfClose, Act::CloseSocket, Act::Goodbye, Act::Abort];
        for at in 0..self.clients.len() {
            if self.clients[at].can_speak() {
                let how = ways[self.rng.below(ways.len() as u64) as usize];
                self.depart(at, how);
            }
        }
        for _ in 0..200 {
            self.pass(100_000);
            let somebody = self.clients.iter().any(|client| self.world.peer_state(client.peer) == PeerState::Open);
            let sockets = self.handle.metrics().total().sockets_open;
            if !somebody && sockets == 0 {
                return;
            }
            // Whoever was waiting for a slot until now, and whoever is waited for by a rude peer's deadline.
            if let Some(at) = self.somebody(Client::can_speak) {
                self.depart(at, Act::Vanish);
            }
        }
        panic!("somebody is still there after all have left: {:?}", self.handle.metrics().total());
    }

    fn check_empty(&mut self) {
        // The last notes are read and the last segments come back within a sweep.
        self.pass(1_000_000);
        if self.plan.requests > 0 || self.plan.resumable > 0 {
            // Whoever does not poll any more is given up by its deadline.
            self.pass(u64::from(self.plan.endpoint.disconnect_timeout_ms) * 1_000 + 1_100_000);
        }
        for (number, shard) in self.shards.iter().enumerate() {
            shard.check_empty().unwrap_or_else(|error| panic!("shard {number}: {error}"));
        }
        let total = self.handle.metrics().total();
        assert_eq!((total.sockets_open, total.connections_open, total.groups, total.notes_lost_total), (0, 0, 0, 0));
        for reason in CloseReason::ALL {
            // Whoever was refused may have kept its socket, and nothing to ask on it.
            let refused = self.plan.limits.connect_rate > 0 && *reason == CloseReason::HttpTimeout;
            let allowed = refused || ORDINARY.contains(reason) || self.plan.reasons.contains(reason);
            let count = total.closed_total[*reason as usize];
            assert!(allowed || count == 0, "{count} connections closed as {}", reason.as_str());
        }
    }

    fn wait_for_stop(&mut self) {
        for _ in 0..200 {
            self.settle();
            if !self.running.contains(&true) {
                return;
            }
            if !self.world.advance_to_next_deadline() {
                self.world.advance(100_000);
            }
        }
        panic!("the shards do not stop: {:?}", self.handle.metrics().total());
    }

    fn tally(mut self) -> Tally {
        self.books.open().pending.clear();
        // Handles give their last words when they go, and those may be written down.
        let left = std::mem::take(&mut self.books.open().flows.producers);
        drop(left);
        let left = std::mem::take(&mut self.books.open().flows.fetchers);
        drop(left);
        let shards = 0..self.shards.len() as u8;
        let mut tally = Tally::default();
        {
            let books = self.books.open();
            (tally.heard, tally.failed) = (books.heard_total, books.failed_total);
            (tally.items_heard, tally.items_came) = (books.flows.heard_total, books.flows.came_total);
            (tally.results, tally.cancelled) = (books.flows.answered_total, books.flows.cancelled_total);
            tally.full = books.flows.full_total;
        }
        let tally = Tally {
            metrics: self.handle.metrics().total(),
            crowded: self.crowded,
            mailbox_full: self.mailbox_full,
            wakes: shards.clone().map(|shard| self.world.wakes(shard)).sum(),
            stale: self.shards.iter_mut().map(|shard| shard.io_mut().stale_total()).sum(),
            send_files: self.shards.iter_mut().map(|shard| shard.io_counters().send_files).sum(),
            ..tally
        };
        // A socket that was handed over to a shard while that stopped goes with its ring.
        self.shards.clear();
        let open: u32 = shards.map(|shard| self.world.open_connections(shard)).sum();
        assert_eq!(open, 0, "the simulated kernel still has sockets");
        tally
    }
}

/// The shards' doors to one world, bound and listening.
fn doors(plan: &Plan, world: &World, logs: &Logs) -> Vec<(Door, RecvPool, Option<WakeHandle>)> {
    let door = |shard| {
        let sim = world.sim(shard);
        let waker = sim.wake_handle();
        let mut door = Door::new(sim, plan.lie, logs, shard);
        door.listen(secure::PLAIN.parse().expect("an address")).expect("a listener");
        if plan.tls > 0 {
            door.listen(secure::SECURE.parse().expect("an address")).expect("a listener");
        }
        (door, RecvPool::new(plan.buffers.0, plan.buffers.1), Some(waker))
    };
    (0..plan.shards as u8).map(door).collect()
}
