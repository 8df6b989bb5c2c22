//! What an idle TLS connection weighs, counted: the heap bytes that its shard holds for it. No clock.

use fanfare_bench::alloc::{self, CountingAllocator};
use fanfare_bench::compare::relay::{Identity, NAME};
use fanfare_engine::buf::RecvPool;
use fanfare_engine::engine::ManualShard;
use fanfare_engine::io::uring::{Uring, UringOptions};
use fanfare_engine::io::{Io, RingFds};
use fanfare_engine::limits;
use fanfare_engine::{
    Answer, Certificates, Context, Engine, HandlerError, HubHandler, HubOptions, Invocation, Limits, Payload,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MEMBERS: usize = 200;
/// As many again first: tables and scratch space grow for them, and nothing of that is one connection's.
const WARM: usize = 40;
const TURNS_MAX: usize = 200;

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match cx.all().send("m", &Payload::Raw(call.arguments())) {
            Ok(()) => Answer::Void,
            Err(error) => Answer::Error(HandlerError::Hub(error.to_string())),
        }
    }
}

struct Client {
    socket: TcpStream,
    tls: ClientConnection,
    heard: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nonblocking(true).expect("non-blocking");
        let name = ServerName::try_from(NAME).expect("a name");
        Self { socket, tls: ClientConnection::new(config, name).expect("a client"), heard: Vec::new() }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("room");
    }

    /// Moves what can be moved.
    fn pump(&mut self) {
        let blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        loop {
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.socket).expect("room in a socket");
            }
            match self.tls.read_tls(&mut self.socket) {
                Ok(n) => assert_ne!(n, 0, "the server has closed"),
                Err(error) if blocked(&error) => return,
                Err(error) => panic!("{error}"),
            }
            let state = self.tls.process_new_packets().expect("records in order");
            let at = self.heard.len();
            self.heard.resize(at + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.heard[at..]).expect("so many there are");
        }
    }
}

/// A shard that only this thread turns, and what its turns hold on the heap.
struct House {
    shard: ManualShard<Uring>,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    clients: Vec<Client>,
    live_bytes: i64,
}

impl House {
    fn new() -> Self {
        let identity = Identity::new().expect("a certificate");
        let certificates = Certificates::from_pem(identity.chain.as_bytes(), identity.key.as_bytes()).expect("a pair");
        let mut bound: Option<SocketAddr> = None;
        let (mut shards, _) = Engine::builder()
            .listen_tls("127.0.0.1:0")
            .certificates(certificates)
            .hub("hub", HubOptions::default(), Relay)
            .limits(Limits { connections_max: MEMBERS + WARM + 8, ..Limits::default() })
            .build_on(
                |logs, slots| {
                    let pool = RecvPool::new(limits::RECV_BUFFERS, limits::RECV_BUFFER_BYTES as u32);
                    let options = UringOptions {
                        shard: 0,
                        slots: slots as u32,
                        sq_entries: limits::SQ_ENTRIES,
                        cq_entries: limits::CQ_ENTRIES,
                        logs: logs.clone(),
                        ring_fds: RingFds::new(1).expect("an eventfd"),
                    };
                    let mut io = Uring::new(options, &pool).expect("a ring");
                    bound = Some(io.listen("127.0.0.1:0".parse().expect("an address")).expect("a listener"));
                    let waker = io.wake_handle();
                    vec![(io, pool, Some(waker))]
                },
                1,
            )
            .expect("an engine");
        let shard = shards.pop().expect("one shard");
        let config = identity.client().expect("a client's settings");
        Self { shard, address: bound.expect("bound above"), config, clients: Vec::new(), live_bytes: 0 }
    }

    fn turn(&mut self) {
        let (turned, counts) = alloc::count(|| self.shard.turn());
        assert!(turned.expect("a turn"));
        self.live_bytes += counts.live_bytes();
    }

    fn turn_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            self.clients.iter_mut().for_each(Client::pump);
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("not done after {TURNS_MAX} turns");
    }

    fn open(&mut self, count: usize) {
        for _ in 0..count {
            let mut client = Client::new(self.address, self.config.clone());
            client.say(
                b"GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            );
            let mut handshake = Vec::new();
            write_masked_message(&mut handshake, DataKind::Text, b"{\"protocol\":\"json\",\"version\":1}\x1e", [9; 4]);
            client.say(&handshake);
            self.clients.push(client);
            self.turn_until(|house| house.clients.last().is_some_and(|client| client.heard.ends_with(b"{}\x1e")));
        }
        self.shard.check().expect("the books balance");
    }
}

#[test]
fn an_idle_tls_connection_weighs_what_the_plan_says() {
    alloc::assert_installed();
    let mut house = House::new();
    house.open(WARM);
    let before = house.live_bytes;
    house.open(MEMBERS);
    let each = (house.live_bytes - before) / MEMBERS as i64;
    eprintln!("{each} heap bytes for each idle TLS connection");
    assert!(each <= limits::TLS_CONNECTION_BYTES as i64, "{each} B, the plan counts {}", limits::TLS_CONNECTION_BYTES);
    // The plan is not far off either.
    assert!(
        each * 2 > limits::TLS_CONNECTION_BYTES as i64,
        "{each} B, the plan counts {}",
        limits::TLS_CONNECTION_BYTES
    );

    // After a broadcast they hold no more than before it.
    let heard: Vec<usize> = house.clients.iter().map(|client| client.heard.len()).collect();
    let mut call = Vec::new();
    let text = format!("{{\"type\":1,\"target\":\"B\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(4_000));
    write_masked_message(&mut call, DataKind::Text, text.as_bytes(), [7; 4]);
    house.clients[0].say(&call);
    house.turn_until(|house| {
        house.clients.iter().zip(&heard).all(|(client, &before)| client.heard.len() > before + 4_000)
    });
    house.turn();
    let after = (house.live_bytes - before) / MEMBERS as i64;
    assert!(after <= limits::TLS_CONNECTION_BYTES as i64, "{after} B after a broadcast, {each} before");
}
