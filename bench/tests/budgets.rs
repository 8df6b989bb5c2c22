//! What one broadcast may cost, counted: allocations, encodings, requests, system calls, copies. No clock.
//!
//! One shard of the real engine, on a real ring, turned by this test's own thread, so that every allocation and every
//! request of the turn is this test's to count; 1,000 real sockets.

use fanfare_bench::alloc::{self, CountingAllocator};
use fanfare_bench::inputs::quotes;
use fanfare_engine::buf::RecvPool;
use fanfare_engine::engine::ManualShard;
use fanfare_engine::io::uring::{Uring, UringOptions};
use fanfare_engine::io::{Io, IoCounters, RingFds};
use fanfare_engine::limits;
use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, EngineHandle, HandlerError, HubHandler, HubOptions, Invocation, Limits,
    Payload,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MEMBERS: usize = 1000;
/// A turn without events lasts 100 ms: something that needs more turns than this does not happen.
const TURNS_MAX: usize = 100;

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match cx.all().send("m", &Payload::Raw(call.arguments())) {
            Ok(()) => Answer::Void,
            Err(error) => Answer::Error(HandlerError::Hub(error.to_string())),
        }
    }
}

struct House {
    shard: ManualShard<Uring>,
    handle: EngineHandle,
    clients: Vec<TcpStream>,
}

/// Whom a house is full of: so many members of these kinds, the rest speaks JSON, uncompressed.
#[derive(Clone, Copy, Default)]
struct Members {
    binary: usize,
    deflated: usize,
    binary_deflated: usize,
}

impl Members {
    /// The hub protocol of a member, and whether it has compression. The first one publishes, and is of no kind.
    fn nth(self, index: usize) -> (&'static str, bool) {
        let left = MEMBERS - index;
        if left <= self.binary {
            ("messagepack", false)
        } else if left <= self.binary + self.deflated {
            ("json", true)
        } else if left <= self.binary + self.deflated + self.binary_deflated {
            ("messagepack", true)
        } else {
            ("json", false)
        }
    }
}

impl House {
    /// A shard with [`MEMBERS`] members, all at rest.
    fn new(members: Members) -> Self {
        let mut bound: Option<SocketAddr> = None;
        let endpoint = EndpointOptions { compression: true, ..EndpointOptions::default() };
        let (mut shards, handle) = Engine::builder()
            .hub("hub", HubOptions { endpoint }, Relay)
            .limits(Limits { connections_max: MEMBERS + 8, ..Limits::default() })
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
        let mut house = Self { shard, handle, clients: Vec::new() };
        for index in 0..MEMBERS {
            house.connect(bound.expect("bound above"), members.nth(index));
        }
        house
    }

    fn connect(&mut self, address: SocketAddr, (protocol, deflated): (&str, bool)) {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_nonblocking(true).expect("non-blocking");
        let offer = if deflated { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let mut hello = format!(
            "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offer}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        let handshake = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}");
        write_masked_message(&mut hello, DataKind::Text, handshake.as_bytes(), [9; 4]);
        stream.write_all(&hello).expect("room for a head");
        let before = self.handle.connections();
        self.clients.push(stream);
        self.turn_until(|house| house.handle.connections() > before);
        let index = self.clients.len() - 1;
        self.turn_until(|house| house.read(index).ends_with(b"{}\x1e"));
    }

    fn turn_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.shard.turn().expect("a turn");
        }
        panic!("not done after {TURNS_MAX} turns");
    }

    fn read(&mut self, index: usize) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let n = self.clients[index].read(&mut bytes).unwrap_or(0);
        bytes.truncate(n);
        bytes
    }

    /// Has member 0 invoke `Broadcast(payload)` `count` times in one write.
    fn publish(&mut self, payload: &str, count: usize) {
        let text = format!("{{\"type\":1,\"target\":\"Broadcast\",\"arguments\":[\"{payload}\"]}}\u{1e}");
        let mut frames = Vec::new();
        for _ in 0..count {
            write_masked_message(&mut frames, DataKind::Text, text.as_bytes(), [7; 4]);
        }
        self.clients[0].write_all(&frames).expect("room for the publisher");
    }

    /// Turns until `count` broadcasts have gone to everybody; what that cost.
    fn measure(&mut self, payload: &str, count: usize) -> Cost {
        self.publish(payload, count);
        let before = self.handle.metrics().total();
        let io_before = self.shard.io_counters();
        let goal = before.deliveries_total + (count * MEMBERS) as u64;
        let counters = {
            let handle = self.handle.clone();
            move || handle.metrics().total().deliveries_total
        };
        // The metrics snapshot allocates; it is taken outside the counted turns.
        let mut allocations = 0;
        for _ in 0..TURNS_MAX {
            if counters() >= goal {
                break;
            }
            let (turned, counts) = alloc::count(|| self.shard.turn());
            assert!(turned.expect("a turn"));
            allocations += counts.allocations;
        }
        // The turn that lands the sends.
        let (_, counts) = alloc::count(|| self.shard.turn());
        allocations += counts.allocations;
        let after = self.handle.metrics().total();
        let io = self.shard.io_counters();
        assert_eq!(after.deliveries_total, goal);
        self.shard.check().expect("the books balance");
        Cost {
            allocations,
            encodings: after.encodings_total - before.encodings_total,
            compressions: after.compressions_total - before.compressions_total,
            log_bytes: after.log_bytes_written_total - before.log_bytes_written_total,
            io: IoCounters {
                enters: io.enters - io_before.enters,
                sends: io.sends - io_before.sends,
                send_files: io.send_files - io_before.send_files,
                ..io
            },
        }
    }

    fn drain_clients(&mut self) -> usize {
        (0..self.clients.len()).map(|index| self.read(index).len()).sum()
    }
}

#[derive(Debug)]
struct Cost {
    allocations: u64,
    encodings: u64,
    compressions: u64,
    log_bytes: u64,
    io: IoCounters,
}

/// The promise of docs/specification.md, counted on one broadcast of 512 bytes to 1,000 members.
#[test]
fn one_broadcast_to_a_thousand() {
    alloc::assert_installed();
    let mut house = House::new(Members::default());
    let payload = "x".repeat(512);
    // The first rounds bring scratch space up to size.
    for _ in 0..3 {
        house.measure(&payload, 1);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 1);
    assert_eq!(cost.allocations, 0, "{cost:?}");
    assert_eq!((cost.encodings, cost.compressions), (1, 0), "{cost:?}");
    assert_eq!(cost.io.sends, MEMBERS as u64, "{cost:?}");
    // One to receive the publish, one to send in slices of the submission queue, one to sleep.
    assert!(cost.io.enters <= 3, "{cost:?}");
    // The payload was written once, with a header of 4 bytes, and copied nowhere.
    let message = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{payload}\"]}}\u{1e}");
    assert_eq!(cost.log_bytes, message.len() as u64 + 4, "{cost:?}");
    assert_eq!(house.drain_clients(), MEMBERS * (message.len() + 4));
}

#[test]
fn both_formats_cost_one_encoding_each() {
    let mut house = House::new(Members { binary: 300, ..Members::default() });
    let payload = "y".repeat(100);
    for _ in 0..3 {
        house.measure(&payload, 1);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 1);
    assert_eq!((cost.encodings, cost.io.sends), (2, MEMBERS as u64), "{cost:?}");
}

#[test]
fn sixteen_broadcasts_leave_as_one_send_each() {
    let mut house = House::new(Members::default());
    let payload = "z".repeat(128);
    for _ in 0..3 {
        house.measure(&payload, 16);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 16);
    assert_eq!((cost.encodings, cost.io.sends), (16, MEMBERS as u64), "{cost:?}");
    assert_eq!(cost.allocations, 0, "{cost:?}");
}

#[test]
fn one_compressed_broadcast_to_a_thousand() {
    alloc::assert_installed();
    // All but the publisher.
    let mut house = House::new(Members { deflated: MEMBERS - 1, ..Members::default() });
    let payload = quotes();
    for _ in 0..3 {
        house.measure(&payload, 1);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 1);
    assert_eq!(cost.allocations, 0, "{cost:?}");
    // One for the publisher, who has no compression.
    assert_eq!((cost.encodings, cost.compressions), (2, 1), "{cost:?}");
    assert_eq!(cost.io.sends, MEMBERS as u64, "{cost:?}");
    let plain = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{payload}\"]}}\u{1e}").len() + 4;
    let compressed = cost.log_bytes as usize - plain;
    assert!(compressed * 2 < plain, "{compressed} of {plain} bytes");
    assert_eq!(house.drain_clients(), plain + (MEMBERS - 1) * compressed);
}

#[test]
fn each_format_is_compressed_once() {
    let mut house = House::new(Members { binary: 200, deflated: 300, binary_deflated: 100 });
    let payload = quotes();
    for _ in 0..3 {
        house.measure(&payload, 1);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 1);
    assert_eq!((cost.encodings, cost.compressions, cost.io.sends), (4, 2, MEMBERS as u64), "{cost:?}");
    house.drain_clients();
    // What is short is not worth it.
    let cost = house.measure("short", 1);
    assert_eq!((cost.encodings, cost.compressions, cost.io.sends), (4, 0, MEMBERS as u64), "{cost:?}");
}

#[test]
fn sixteen_compressed_broadcasts_leave_as_one_send_each() {
    let mut house = House::new(Members { deflated: MEMBERS - 1, ..Members::default() });
    let payload = "a payload of some bytes ".repeat(12);
    for _ in 0..3 {
        house.measure(&payload, 16);
        house.drain_clients();
    }
    let cost = house.measure(&payload, 16);
    assert_eq!((cost.encodings, cost.compressions, cost.io.sends), (32, 16, MEMBERS as u64), "{cost:?}");
    assert_eq!(cost.allocations, 0, "{cost:?}");
}
