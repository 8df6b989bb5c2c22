//! One shard of the real engine on the simulated kernel, and its clients. What the simulation costs is not counted.

use super::meter::uncounted;
use fanfare_engine::buf::{Extent, RecvPool};
use fanfare_engine::engine::ManualShard;
use fanfare_engine::io::sim::{PeerId, Sim, SimOptions, World};
use fanfare_engine::io::{Completion, Errno, Generation, Io, IoCounters, Slot, Tag, Wait};
use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, EngineHandle, HandlerError, HubHandler, HubOptions, Invocation, Limits,
    Payload, limits,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use std::io;
use std::net::SocketAddr;

/// Turns within which everything that needs no time has happened.
const TURNS_MAX: usize = 1000;
/// Bytes that one client reads at once: more than any case leaves unread.
const READ_BYTES: usize = 1 << 20;
/// Sockets of a house: 1,000 clients, and as many that post for them.
const SOCKETS_MAX: usize = 2_100;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WebSocket { protocol: &'static str, deflated: bool },
    Events,
    Polls,
}

/// The usual one.
pub(super) const JSON: Kind = Kind::WebSocket { protocol: "json", deflated: false };

struct Hub;

impl HubHandler for Hub {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match call.target() {
            "Broadcast" => cx
                .all()
                .send("m", &Payload::Raw(call.arguments()))
                .map_or_else(|error| Answer::Error(HandlerError::Hub(error.to_string())), |()| Answer::Void),
            "Echo" => call.arg(0).map_or(Answer::Unknown, Answer::echo),
            _ => Answer::Unknown,
        }
    }
}

/// See the module.
pub(super) struct House {
    pub(super) world: World,
    /// In the order of their kinds; the first one publishes.
    pub(super) clients: Vec<Client>,
    shard: ManualShard<Door>,
    handle: EngineHandle,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) peer: PeerId,
    /// Target of its requests, if it has no WebSocket.
    target: String,
}

impl House {
    pub(super) fn new(kinds: &[Kind]) -> Self {
        let mut world = None;
        let endpoint = EndpointOptions { compression: true, ..EndpointOptions::default() };
        let (mut shards, handle) = Engine::builder()
            .hub("hub", HubOptions { endpoint }, Hub)
            .limits(Limits { connections_max: SOCKETS_MAX, ..Limits::default() })
            .build_on(
                |logs, _| {
                    let options = SimOptions { slots: SOCKETS_MAX as u32 + 64, ..SimOptions::calm() };
                    let world = world.insert(World::new(1, options, logs));
                    let mut door = Door(world.sim(0));
                    let waker = door.0.wake_handle();
                    door.listen("127.0.0.1:9000".parse().expect("an address")).expect("a listener");
                    let pool = RecvPool::new(limits::RECV_BUFFERS, limits::RECV_BUFFER_BYTES as u32);
                    vec![(door, pool, Some(waker))]
                },
                1,
            )
            .expect("an engine");
        let shard = shards.pop().expect("one shard");
        let mut house = Self { world: world.expect("made with the door"), clients: Vec::new(), shard, handle };
        house.settle();
        let polled: Vec<Kind> = kinds.iter().copied().filter(|kind| !matches!(kind, Kind::WebSocket { .. })).collect();
        for &kind in kinds {
            if let Kind::WebSocket { protocol, deflated } = kind {
                let peer = house.open(&upgrade(protocol, deflated));
                house.clients.push(Client { kind, peer, target: String::new() });
            }
        }
        house.settle();
        house.come_without_websockets(&polled);
        assert_eq!(house.handle.connections(), kinds.len(), "every client is there");
        house.read_all();
        house
    }

    /// A socket on which so much is written at once.
    pub(super) fn open(&self, bytes: &[u8]) -> PeerId {
        let peer = self.world.connect();
        self.world.peer_write(peer, bytes);
        peer
    }

    fn come_without_websockets(&mut self, kinds: &[Kind]) {
        let negotiate = b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        let sockets: Vec<PeerId> = kinds.iter().map(|_| self.open(negotiate)).collect();
        self.settle();
        let mut arrived = Vec::new();
        for (&kind, peer) in kinds.iter().zip(sockets) {
            let answer = String::from_utf8(self.read(peer)).expect("JSON");
            let token = answer.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let client = Client { kind, peer, target: format!("/hub?id={}", token.expect("a token")) };
            self.get(&client);
            arrived.push(client);
        }
        self.settle();
        let posts: Vec<PeerId> = arrived.iter().map(|client| self.open(&handshake(&client.target))).collect();
        self.settle();
        for peer in posts {
            self.world.peer_close(peer);
        }
        // The first poll was answered at once; the next brings the answer to the handshake; then one waits.
        for _ in 0..2 {
            for client in arrived.iter().filter(|client| client.kind == Kind::Polls) {
                self.read(client.peer);
                self.get(client);
            }
            self.settle();
        }
        self.clients.extend(arrived);
    }

    /// Asks for events, or for the next messages.
    pub(super) fn get(&self, client: &Client) {
        let accept = if client.kind == Kind::Events { "text/event-stream" } else { "*/*" };
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n", client.target);
        self.world.peer_write(client.peer, request.as_bytes());
    }

    /// A client with a WebSocket calls a method of the hub.
    pub(super) fn call(&self, client: usize, message: &str) {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, message.as_bytes(), [7; 4]);
        self.world.peer_write(self.clients[client].peer, &frame);
    }

    /// The first client publishes `count` times in one write.
    pub(super) fn publish(&self, payload: &str, count: usize) {
        let text = format!("{{\"type\":1,\"target\":\"Broadcast\",\"arguments\":[\"{payload}\"]}}\u{1e}");
        let mut frames = Vec::new();
        for _ in 0..count {
            write_masked_message(&mut frames, DataKind::Text, text.as_bytes(), [7; 4]);
        }
        self.world.peer_write(self.clients[0].peer, &frames);
    }

    /// Turns until nothing is left to do. This is what is counted.
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !uncounted(|| self.world.runnable(0)) {
                return;
            }
            assert!(self.shard.turn().expect("the simulated ring never fails"));
        }
        panic!("not quiet after {TURNS_MAX} turns");
    }

    /// What has come for that socket.
    pub(super) fn read(&self, peer: PeerId) -> Vec<u8> {
        self.world.peer_read(peer, READ_BYTES)
    }

    /// Everybody reads what has come. Gives the bytes.
    pub(super) fn read_all(&self) -> usize {
        self.clients.iter().map(|client| self.read(client.peer).len()).sum()
    }

    /// Messages handed to clients so far.
    pub(super) fn deliveries(&self) -> u64 {
        self.handle.metrics().total().deliveries_total
    }

    /// Open connections of the hub.
    pub(super) fn connections(&self) -> usize {
        self.handle.connections()
    }
}

/// What a client with a WebSocket says first: the upgrade, and the handshake behind it.
pub(super) fn upgrade(protocol: &str, deflated: bool) -> Vec<u8> {
    let offer = if deflated { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let mut hello = format!(
        "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offer}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    let handshake = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}");
    write_masked_message(&mut hello, DataKind::Text, handshake.as_bytes(), [9; 4]);
    hello
}

fn handshake(target: &str) -> Vec<u8> {
    let body = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The simulated kernel, behind a door that stops the counting while it works: a system call has no instructions here.
struct Door(Sim);

impl Io for Door {
    fn now_us(&self) -> u64 {
        uncounted(|| self.0.now_us())
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        uncounted(|| self.0.listen(address))
    }

    fn accept(&mut self) -> u8 {
        uncounted(|| self.0.accept())
    }

    fn cancel_accept(&mut self) {
        uncounted(|| self.0.cancel_accept());
    }

    fn poll(&mut self, slot: Slot, generation: Generation) {
        uncounted(|| self.0.poll(slot, generation));
    }

    fn recv(&mut self, slot: Slot, generation: Generation) {
        uncounted(|| self.0.recv(slot, generation));
    }

    fn send(&mut self, slot: Slot, tag: Tag, bytes: Extent) {
        uncounted(|| self.0.send(slot, tag, bytes));
    }

    fn send_gather(&mut self, slot: Slot, tag: Tag, runs: &[Extent]) {
        uncounted(|| self.0.send_gather(slot, tag, runs));
    }

    fn send_copy(&mut self, slot: Slot, tag: Tag, bytes: &[u8]) {
        uncounted(|| self.0.send_copy(slot, tag, bytes));
    }

    fn fan(&mut self, bytes: Extent, slots: &[Slot], tag: Tag) {
        uncounted(|| self.0.fan(bytes, slots, tag));
    }

    fn poll_out(&mut self, slot: Slot, generation: Generation) {
        uncounted(|| self.0.poll_out(slot, generation));
    }

    fn lend(&mut self, slot: Slot, generation: Generation) {
        uncounted(|| self.0.lend(slot, generation));
    }

    fn unlend(&mut self, slot: Slot) -> bool {
        uncounted(|| self.0.unlend(slot))
    }

    fn introduce(&mut self, slot: Slot, generation: Generation) {
        uncounted(|| self.0.introduce(slot, generation));
    }

    fn send_file(&mut self, slot: Slot, bytes: Extent) -> Result<u32, Errno> {
        uncounted(|| self.0.send_file(slot, bytes))
    }

    fn shutdown(&mut self, slot: Slot) {
        uncounted(|| self.0.shutdown(slot));
    }

    fn hand_over(&mut self, slot: Slot, generation: Generation, shard: u8, parcel: u32) {
        uncounted(|| self.0.hand_over(slot, generation, shard, parcel));
    }

    fn close(&mut self, slot: Slot, generation: Generation, poll_armed: bool, poll_out_armed: bool) {
        uncounted(|| self.0.close(slot, generation, poll_armed, poll_out_armed));
    }

    fn wake(&mut self, shard: u8) {
        uncounted(|| self.0.wake(shard));
    }

    fn enter(&mut self, wait: Wait, pool: &mut RecvPool, completions: &mut Vec<Completion>) -> io::Result<()> {
        uncounted(|| self.0.enter(wait, pool, completions))
    }

    fn counters(&self) -> IoCounters {
        uncounted(|| self.0.counters())
    }
}
