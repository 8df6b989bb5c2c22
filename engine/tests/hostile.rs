//! Clients that mean harm, against one engine, while clients that mean none must notice nothing: every broadcast, once,
//! in order. Afterwards the process is what it was: alive, its memory and descriptors back, nothing kept for anybody.
//!
//! One test, and the only one of its program: it looks at the process's own memory and descriptors.

mod hub_support;

use fanfare_engine::{
    Answer, CloseReason, Context, EndpointOptions, Engine, HubHandler, HubOptions, Invocation, Limits, Payload, Value,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::{write_masked_fragment, write_masked_message};
use hub_support::{Client, call, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Memory that may be left over the start, in all: what the allocator keeps of a peak, and tables that have grown. Far
/// below what the attacks would hold if anything of them were kept.
const RESIDENT_LEFT_MAX: usize = 16 << 20;
/// Sockets that are reset, with or without a request, a hub connection, half a message.
const RESETS: usize = 10_000;
/// Readers that never read, on each transport.
const DEAF: usize = 20;
/// Broadcasts of 8 KiB that they are owed: more than the 1 MiB that one may be, and more than the kernel takes for them.
const BROADCASTS: u64 = 1_500;

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match call.target() {
            "Echo" => call.arg(0).map(Answer::echo).into(),
            "All" => cx.all().send("m", &Payload::Raw(call.arguments())).map_or(Answer::Unknown, |()| Answer::Void),
            _ => Answer::Unknown,
        }
    }
}

fn engine() -> Engine {
    let limits = Limits {
        head_timeout_ms: 1_000,
        message_timeout_ms: 1_000,
        outbox_age_max_ms: 2_000,
        close_timeout_ms: 1_000,
        ..Limits::default()
    };
    let endpoint =
        EndpointOptions { handshake_timeout_ms: 1_000, disconnect_timeout_ms: 2_000, ..EndpointOptions::default() };
    let builder = Engine::builder().shards(2).listen("127.0.0.1:0").limits(limits);
    builder.hub("hub", HubOptions { endpoint }, Relay).start().expect("an engine")
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

// -- who means no harm ------------------------------------------------------------------------------------------------

/// Hears every broadcast, in order, until the last one.
fn honest(address: SocketAddr) -> JoinHandle<()> {
    let mut client = Client::connect(address);
    client.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    std::thread::spawn(move || {
        for number in 0..=BROADCASTS {
            let said = client.next();
            let start = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[{number},");
            assert!(said.starts_with(&start), "expected {number}: {}", &said[..said.len().min(80)]);
        }
    })
}

/// Calls and is answered, for as long as the attacks go on.
fn caller(address: SocketAddr, over: Arc<AtomicBool>) -> JoinHandle<u64> {
    let mut client = Client::connect(address);
    std::thread::spawn(move || {
        let mut calls = 0;
        while !over.load(Ordering::Relaxed) {
            client.send(&[&call("c", "Echo", "\"still there\"")]);
            while !client.next().starts_with("{\"type\":3,\"invocationId\":\"c\",\"result\":\"still there\"") {}
            calls += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        calls
    })
}

// -- who does ---------------------------------------------------------------------------------------------------------

const UPGRADE: &str = "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn socket(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    stream
}

/// Reads to the end that the server makes. `false`: it made none.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Says it, whether or not the server listens to the end, and expects to be thrown out.
fn thrown_out(address: SocketAddr, what: &str, bytes: &[u8]) {
    let mut stream = socket(address);
    let _ = stream.write_all(bytes);
    assert!(is_ended(&mut stream), "{what}: the server let it stay");
}

/// The same from a hub connection that has shaken hands.
fn thrown_out_of_hub(address: SocketAddr, what: &str, bytes: &[u8]) {
    let mut client = Client::connect(address);
    client.stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    let _ = client.stream.write_all(bytes);
    assert!(is_ended(&mut client.stream), "{what}: the server let it stay");
}

fn heads(address: SocketAddr) {
    let long = format!("GET /hub HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    thrown_out(address, "an oversized head", long.as_bytes());
    let many = format!("GET /hub HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    thrown_out(address, "a head of many lines", many.as_bytes());
    thrown_out(address, "nonsense", &[0xff; 5_000]);
    thrown_out(
        address,
        "a body that never ends",
        b"POST /hub/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    );
    let mut dripping = socket(address);
    for byte in UPGRADE.bytes().cycle() {
        // Longer than a head may take, however steadily it comes.
        if dripping.write_all(&[byte & 0x5f | 0x40]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_message(&mut frame, DataKind::Text, payload, [1, 2, 3, 4]);
    frame
}

fn frames(address: SocketAddr) {
    thrown_out_of_hub(address, "an unmasked frame", b"\x81\x05hello");
    thrown_out_of_hub(address, "a frame of 2^62 bytes", &[&[0x82, 0xff, 0x40][..], &[0; 11]].concat());
    thrown_out_of_hub(address, "a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0]);
    thrown_out_of_hub(address, "an oversized message", &text(&vec![b'x'; 200_000]));
    thrown_out_of_hub(address, "deep JSON", &text(&[&vec![b'['; 30_000][..], b"\x1e"].concat()));
    let deep = format!(
        "{{\"type\":1,\"target\":\"Echo\",\"arguments\":[{}{}]}}\u{1e}",
        "[".repeat(15_000),
        "]".repeat(15_000)
    );
    thrown_out_of_hub(address, "deep arguments", &text(deep.as_bytes()));
    let mut half = Vec::new();
    write_masked_fragment(&mut half, DataKind::Text, true, false, b"{\"type\":", [1, 2, 3, 4]);
    thrown_out_of_hub(address, "half a message", &half);
}

/// Lengths that no message can have, after a handshake that asks for MessagePack.
fn messagepack(address: SocketAddr) {
    let array_32 = [&[9, 0x95, 0x01, 0x80, 0xdd][..], &[0xff; 5]].concat();
    let lengths: [&[u8]; 4] =
        [&[0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 10], &[5, 0xdd, 0xff, 0xff, 0xff, 0xff], &array_32];
    for (number, message) in lengths.into_iter().enumerate() {
        let mut stream = socket(address);
        let mut bytes = UPGRADE.as_bytes().to_vec();
        bytes.extend(text(b"{\"protocol\":\"messagepack\",\"version\":1}\x1e"));
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Binary, message, [1, 2, 3, 4]);
        bytes.extend(frame);
        stream.write_all(&bytes).expect("a message");
        assert!(is_ended(&mut stream), "MessagePack length {number}: the server let it stay");
    }
}

/// Goes with a reset: what lies unread at the other end is thrown away.
fn reset(stream: &TcpStream) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `now`, which lives on this stack frame; the descriptor is open.
    unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const now).cast(), len);
    }
}

fn resets(address: SocketAddr) {
    let handshake = text(b"{\"protocol\":\"json\",\"version\":1}\x1e");
    let whole = [UPGRADE.as_bytes(), &handshake].concat();
    for number in 0..RESETS {
        // Of the many ports that this takes none is left waiting: a reset ends at once.
        let mut stream = TcpStream::connect(address).expect("a connection");
        reset(&stream);
        let said = match number % 4 {
            0 => 0,
            1 => 40,
            2 => UPGRADE.len(),
            _ => whole.len() - number % 3,
        };
        stream.write_all(&whole[..said]).expect("something");
        if number % 8 == 7 {
            // Far enough in to be a member, and owed an answer.
            let _ = stream.read(&mut [0; 64]);
        }
    }
}

/// The token of a negotiated connection.
fn negotiated(address: SocketAddr) -> String {
    let mut stream = socket(address);
    let request =
        "POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token").to_owned()
}

fn post(address: SocketAddr, token: &str, body: &str) {
    let mut stream = socket(address);
    let length = body.len();
    let head =
        format!("POST /hub?id={token} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("a POST");
    assert!(is_ended(&mut stream));
}

/// Connections on every transport that listen to everything and read nothing.
fn deaf(address: SocketAddr) -> Vec<TcpStream> {
    const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
    let mut sockets = Vec::new();
    for _ in 0..DEAF {
        sockets.push(Client::connect(address).stream);
        let token = negotiated(address);
        let mut events = socket(address);
        let get = format!("GET /hub?id={token} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        events.write_all(get.as_bytes()).expect("a request");
        let _ = events.read(&mut [0; 4]);
        post(address, &token, HANDSHAKE);
        sockets.push(events);
        let token = negotiated(address);
        let get = format!("GET /hub?id={token} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut polls = socket(address);
        polls.write_all(get.as_bytes()).expect("the first poll");
        let _ = polls.read(&mut [0; 4]);
        post(address, &token, HANDSHAKE);
        // Two more, of which the second asks for all that is to be said.
        polls.write_all((get.clone() + &get).as_bytes()).expect("two polls");
        sockets.push(polls);
    }
    sockets
}

#[test]
fn hostile_clients_harm_nobody_and_leave_nothing() {
    let mut engine = engine();
    let address = engine.local_addrs()[0];
    // What everybody needs once is there before the measure is taken.
    drop(Client::connect(address));
    let metrics = || engine.metrics().total();
    wait_until("the first has gone", || metrics().sockets_open == 0);
    let (files, resident) = (open_files(), resident_bytes());

    let over = Arc::new(AtomicBool::new(false));
    let listeners: Vec<_> = (0..3).map(|_| honest(address)).collect();
    let callers: Vec<_> = (0..2).map(|_| caller(address, over.clone())).collect();
    let deaf = deaf(address);
    let publisher = engine.publisher();
    let say = |number: u64| {
        let large = [Value::from(number as i64), Value::from("x".repeat(8_000).as_str())];
        publisher.all("hub").send("m", &Payload::Values(&large)).expect("room in the mailbox");
    };
    std::thread::scope(|scope| {
        for attack in [heads, frames, messagepack, resets] {
            scope.spawn(move || attack(address));
        }
        for number in 0..BROADCASTS {
            say(number);
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    say(BROADCASTS);
    for listener in listeners {
        listener.join().expect("a ledger without a gap");
    }
    over.store(true, Ordering::Relaxed);
    let calls: u64 = callers.into_iter().map(|caller| caller.join().expect("answers")).sum();
    assert!(calls > 100, "{calls} calls were answered");
    let slow = || metrics().closed_total[CloseReason::SlowClient as usize];
    wait_until("the deaf are given up, on every transport", || slow() >= 3 * DEAF as u64);
    for stream in &deaf {
        let _ = stream.shutdown(Shutdown::Both);
    }
    drop(deaf);

    wait_until("everybody has gone", || {
        let total = metrics();
        (total.sockets_open, total.connections_open, total.handshakes_pending) == (0, 0, 0)
    });
    let total = metrics();
    assert_eq!((total.groups, total.slow_connections, total.notes_lost_total), (0, 0, 0));
    let closed = |reason: CloseReason| total.closed_total[reason as usize];
    assert!(closed(CloseReason::Lost) >= RESETS as u64, "a reset is noticed at once, not at a deadline");
    assert!(closed(CloseReason::MessageTimeout) > 0 && closed(CloseReason::HttpTimeout) > 0);
    wait_until("descriptors are back", || open_files() <= files);
    // Log memory goes back when the shards have been quiet for two seconds.
    wait_until("memory is back", || resident_bytes() < resident + RESIDENT_LEFT_MAX);
    eprintln!(
        "closed {:?}\nrefused {:?}\n{} sockets, {calls} calls answered; resident {} KiB at the start, {} KiB at the end",
        total.closed().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
        total.refused().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
        total.accepted_total,
        resident >> 10,
        resident_bytes() >> 10
    );
    engine.stop();
}
