//! What compression costs the server for each delivery: CPU seconds of one shard, turned by this thread, while another
//! thread reads 1,000 sockets empty. Houses with and without compression take turns, as the machine has moods.
//!
//! `cargo bench -p fanfare-bench --bench deflate`
#![allow(clippy::print_stdout)] // the result is what it prints

use fanfare_engine::buf::RecvPool;
use fanfare_engine::engine::ManualShard;
use fanfare_engine::io::uring::{Uring, UringOptions};
use fanfare_engine::io::{Io, RingFds};
use fanfare_engine::limits;
use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, EngineHandle, HandlerError, HubHandler, HubOptions, Invocation, Limits,
    Payload,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use rustix::time::{ClockId, clock_gettime};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const MEMBERS: usize = 1000;
const BROADCASTS: u64 = 300;
const WARM_UP: u64 = 20;
const ROUNDS: usize = 4;
const PAYLOAD_BYTES: [usize; 4] = [300, 512, 2_000, 16_000];

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        let sent = match call.target() {
            "Broadcast" => cx.all().send("m", &Payload::Raw(call.arguments())),
            "Ask" => return call.arg(0).map_or(Answer::Unknown, Answer::echo),
            _ => return Answer::Unknown,
        };
        sent.map_or_else(|error| Answer::Error(HandlerError::Hub(error.to_string())), |()| Answer::Void)
    }
}

/// Reads everything that comes, as fast as it can.
struct Reader {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(mut sockets: Vec<TcpStream>) -> Self {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, total) = (stop.clone(), bytes.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            while !stopped.load(Ordering::Relaxed) {
                let mut idle = true;
                for socket in &mut sockets {
                    match socket.read(&mut buffer) {
                        Ok(n) => {
                            total.fetch_add(n as u64, Ordering::Relaxed);
                            idle = false;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                if idle {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self { stop, bytes, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a reader that ends well");
    }
}

struct House {
    shard: ManualShard<Uring>,
    handle: EngineHandle,
    publisher: TcpStream,
    reader: Reader,
}

impl House {
    fn new(compression: bool) -> Self {
        let mut bound: Option<SocketAddr> = None;
        let endpoint = EndpointOptions { compression, ..EndpointOptions::default() };
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
        let mut shard = shards.pop().expect("one shard");
        let address = bound.expect("bound above");
        let mut sockets: Vec<TcpStream> = (0..MEMBERS)
            .map(|index| {
                let socket = connect(address);
                while handle.connections() <= index {
                    shard.turn().expect("a turn");
                }
                socket
            })
            .collect();
        let publisher = sockets[0].try_clone().expect("another handle");
        sockets.rotate_left(1);
        Self { shard, handle, publisher, reader: Reader::start(sockets) }
    }

    /// CPU seconds of this thread, user and system, for `count` calls with this message of the publisher's.
    fn spend(&mut self, frame: &[u8], count: u64, done: impl Fn(&EngineHandle) -> u64, each: u64) -> f64 {
        let before_s = cpu_s();
        for _ in 0..count {
            let goal = done(&self.handle) + each;
            self.publisher.write_all(frame).expect("room for the publisher");
            while done(&self.handle) < goal {
                self.shard.turn().expect("a turn");
            }
        }
        cpu_s() - before_s
    }

    fn broadcasts(&mut self, payload: &str, count: u64) -> f64 {
        let frame = invocation("Broadcast", payload);
        self.spend(&frame, count, |handle| handle.metrics().total().deliveries_total, MEMBERS as u64)
    }

    fn answers(&mut self, payload: &str, count: u64) -> f64 {
        let text = invocation("Ask", payload);
        self.spend(&text, count, |handle| handle.metrics().total().private_messages_total, 1)
    }

    fn bytes(&self) -> u64 {
        self.reader.bytes.load(Ordering::Relaxed)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("non-blocking");
    let mut hello = b"GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    write_masked_message(&mut hello, DataKind::Text, b"{\"protocol\":\"json\",\"version\":1}\x1e", [9; 4]);
    stream.write_all(&hello).expect("room for a head");
    stream
}

fn invocation(target: &str, payload: &str) -> Vec<u8> {
    let id = if target == "Ask" { "\"invocationId\":\"1\"," } else { "" };
    let text = format!("{{\"type\":1,{id}\"target\":\"{target}\",\"arguments\":[{payload}]}}\u{1e}");
    let mut frame = Vec::new();
    write_masked_message(&mut frame, DataKind::Text, text.as_bytes(), [7; 4]);
    frame
}

/// JSON of about `bytes`, as applications write it: names that repeat, numbers that do not.
fn quotes(bytes: usize) -> String {
    let mut text = String::from("[");
    let mut seed = 1u64;
    while text.len() < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (bid, ask, volume) = (seed >> 48, seed >> 32 & 0xffff, seed >> 40 & 0xff_ffff);
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!(
            "{comma}{{\"symbol\":\"S{:03}\",\"bid\":{bid},\"ask\":{ask},\"volume\":{volume}}}",
            seed >> 54
        ));
    }
    text.push(']');
    text
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let mut houses = [House::new(false), House::new(true)];
    println!(
        "{MEMBERS} members, {BROADCASTS} broadcasts a round, ns of CPU per delivery; plain and compressed in turns"
    );
    for bytes in PAYLOAD_BYTES {
        let payload = quotes(bytes);
        let mut sums = [0.0; 2];
        for round in 1..=ROUNDS {
            let mut line = format!("{bytes:>6} B  round {round} ");
            for (house, sum) in houses.iter_mut().zip(&mut sums) {
                house.broadcasts(&payload, WARM_UP);
                let (bytes_before, compressions) = (house.bytes(), house.handle.metrics().total().compressions_total);
                let spent_s = house.broadcasts(&payload, BROADCASTS);
                std::thread::sleep(Duration::from_millis(100));
                let deliveries = BROADCASTS * MEMBERS as u64;
                let compressions = house.handle.metrics().total().compressions_total - compressions;
                let wire = (house.bytes() - bytes_before) / deliveries;
                *sum += spent_s;
                let ns = spent_s * 1e9 / deliveries as f64;
                line += &format!(" {ns:>7.0} ns ({wire:>5} B, {compressions} compressions)");
            }
            println!("{line}");
        }
        println!("{bytes:>6} B  compressed / plain = {:.3}", sums[1] / sums[0]);
    }
    let payload = quotes(2_000);
    houses[0].answers(&payload, 1_000);
    let spent_s = houses[0].answers(&payload, 10_000);
    println!("one answer of 2,000 B, uncompressed: {:.1} us of CPU, invocation included", spent_s * 1e6 / 10_000.0);
    houses.into_iter().for_each(|house| house.reader.end());
}
