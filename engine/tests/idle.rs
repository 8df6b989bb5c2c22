//! Ten thousand connections that do nothing (line 160 of the client specification's checklist).
//!
//! One test, and the only one of its program: it looks at the process's own memory.

mod hub_support;

use fanfare_engine::{Answer, Context, Engine, HubHandler, HubOptions, Invocation, Payload, Value};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use hub_support::http::UPGRADE;
use hub_support::{PATIENCE, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const CONNECTIONS: usize = 10_000;
/// Resident bytes of the engine for each of them, whatever the tables' growth has left behind. The records of one are 100
/// bytes; what the kernel holds is not in here (docs/performance.md has it).
const BYTES_EACH_MAX: usize = 512;

struct Hub;

impl HubHandler for Hub {
    fn invoke(&self, _: &mut Context<'_>, _: &Invocation<'_>) -> Answer {
        Answer::Unknown
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

/// What the client reads up to and with `end`.
fn read_up_to(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        bytes.push(byte[0]);
    }
    bytes
}

/// A client that has shaken hands and holds nothing but its socket.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut bytes = format!("GET /hub HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n").into_bytes();
    let handshake = b"{\"protocol\":\"json\",\"version\":1}\x1e";
    write_masked_message(&mut bytes, DataKind::Text, handshake, [1, 2, 3, 4]);
    stream.write_all(&bytes).expect("a handshake");
    assert!(read_up_to(&mut stream, b"\r\n\r\n").starts_with(b"HTTP/1.1 101 "));
    assert_eq!(read_up_to(&mut stream, b"\x1e"), b"\x81\x03{}\x1e");
    stream
}

#[test]
fn line_160_ten_thousand_idle_connections_cost_little_memory() {
    let engine = Engine::builder().shards(1).listen("127.0.0.1:0").hub("hub", HubOptions::default(), Hub).start();
    let engine = engine.expect("an engine");
    let address = engine.local_addrs()[0];
    let mut clients = Vec::with_capacity(CONNECTIONS);
    clients.extend((0..100).map(|_| connect(address)));
    let before = resident_bytes();
    clients.extend((100..CONNECTIONS).map(|_| connect(address)));
    assert_eq!(engine.metrics().total().connections_open, CONNECTIONS as u64);
    let each = resident_bytes().saturating_sub(before) / (CONNECTIONS - 100);
    assert!(each <= BYTES_EACH_MAX, "{each} bytes for each of {CONNECTIONS} idle connections");
    // They are connections, and not forgotten ones: each hears what is said.
    engine.publisher().all("hub").send("m", &Payload::Values(&[Value::Int(7)])).expect("room");
    for client in &mut clients {
        let said = read_up_to(client, b"\x1e");
        assert_eq!(&said[2..], b"{\"type\":1,\"target\":\"m\",\"arguments\":[7]}\x1e");
    }
    drop(clients);
    wait_until("all are gone", || engine.metrics().total().connections_open == 0);
}
