//! TLS listeners over real sockets, with rustls as the client: one test per promise.

#[path = "tls_support/mod.rs"]
mod tls_support;

use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, HandlerError, HubHandler, HubOptions, Invocation, Limits, Payload,
    StartError, TlsFailure,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls_support::{Identity, client_of};

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(20);
const LARGE_BYTES: usize = 200_000;
/// The answer to a call that returns nothing.
const VOID: &str = "{\"type\":3,\"invocationId\":\"c\",\"result\":null}";

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match call.target() {
            "Echo" => call.arg(0).map(Answer::echo).unwrap_or(Answer::Unknown),
            "Broadcast" => match cx.all().send("m", &Payload::Raw(call.arguments())) {
                Ok(()) => Answer::Void,
                Err(error) => Answer::Error(HandlerError::Hub(error.to_string())),
            },
            _ => Answer::Unknown,
        }
    }
}

fn engine(shards: usize, identity: &Identity, limits: Limits) -> Engine {
    let endpoint = EndpointOptions { message_bytes_max: 1 << 20, ..EndpointOptions::default() };
    Engine::builder()
        .shards(shards)
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0")
        .certificates(identity.certificates())
        .limits(Limits { log_bytes_max: 32 << 20, ..limits })
        .hub("hub", HubOptions { endpoint }, Relay)
        .start()
        .unwrap()
}

fn tls_address(engine: &Engine) -> SocketAddr {
    engine.local_addrs()[1]
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn failed(engine: &Engine, reason: TlsFailure) -> u64 {
    engine.metrics().total().tls_failed_total[reason as usize]
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Records of one call leave one by one.
    socket.set_nodelay(true).unwrap();
    socket
}

fn secure(address: SocketAddr, identity: &Identity) -> Secure {
    StreamOwned::new(identity.client(), dial(address))
}

/// A request and its answer's head.
fn ask<S: Read + Write>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The same with its body.
fn ask_whole<S: Read + Write>(stream: &mut S, request: &str) -> (String, String) {
    let head = ask(stream, request);
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A client of the hub on a WebSocket, over anything.
struct Client<S> {
    stream: S,
    decoder: Decoder,
    pending: String,
}

impl<S: Read + Write> Client<S> {
    fn over(mut stream: S) -> Self {
        let head = ask(
            &mut stream,
            "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut client = Self { stream, decoder: Decoder::new(Role::Client), pending: String::new() };
        client.send("{\"protocol\":\"json\",\"version\":1}");
        assert_eq!(client.next(), "{}");
        client
    }

    fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, format!("{text}\u{1e}").as_bytes(), [1, 2, 3, 4]);
        self.stream.write_all(&frame).unwrap();
    }

    fn call(&mut self, method: &str, text: &str) {
        self.send(&format!("{{\"type\":1,\"invocationId\":\"c\",\"target\":\"{method}\",\"arguments\":[\"{text}\"]}}"));
    }

    /// The next hub message that is no ping.
    fn next(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.pending.split_once('\u{1e}') {
                let message = message.to_owned();
                self.pending = rest.to_owned();
                if message != "{\"type\":6}" {
                    return message;
                }
                continue;
            }
            let mut bytes = [0; 16 << 10];
            let n = self.stream.read(&mut bytes).unwrap();
            assert_ne!(n, 0, "the server has closed");
            for event in self.decoder.handle_bytes(&mut bytes[..n]) {
                if let Event::Data { payload, .. } = event.unwrap() {
                    self.pending.push_str(std::str::from_utf8(payload).unwrap());
                }
            }
        }
    }
}

fn said(text: &str) -> String {
    format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{text}\"]}}")
}

#[test]
fn broadcasts_reach_clients_with_and_without_tls_on_every_shard() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(2, &identity, Limits::default());
    let mut secure: Vec<_> = (0..6).map(|_| Client::over(secure(tls_address(&engine), &identity))).collect();
    let mut plain: Vec<_> = (0..2).map(|_| Client::over(dial(engine.local_addrs()[0]))).collect();
    for round in 0..20 {
        let text = format!("round {round}");
        secure[round % 6].call("Broadcast", &text);
        for (at, client) in secure.iter_mut().enumerate() {
            // The publisher's own answer comes behind what it published.
            assert_eq!(client.next(), said(&text));
            if at == round % 6 {
                assert_eq!(client.next(), VOID);
            }
        }
        plain.iter_mut().for_each(|client| assert_eq!(client.next(), said(&text)));
    }
    let total = engine.metrics().total();
    assert_eq!((total.tls_handshakes_total, total.tls_sockets, total.tls_broken_total), (6, 6, 0));
    assert_eq!(total.tls_failed_total.iter().sum::<u64>(), 0);
    assert_eq!(total.encodings_total, 20, "one for all, whether they speak TLS or not");
    assert!(engine.plan().to_string().contains("TLS about"), "{}", engine.plan());
}

#[test]
fn both_versions_are_spoken_and_http_1_1_agreed_on() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let versions =
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)];
    for (version, name) in versions {
        let config = Arc::new(identity.client_config(&[version]));
        let mut client = Client::over(StreamOwned::new(client_of(config, "localhost"), dial(tls_address(&engine))));
        client.call("Echo", "x");
        assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"c\",\"result\":\"x\"}");
        assert_eq!(client.stream.conn.protocol_version(), Some(name));
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let mut config = identity.client_config(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = StreamOwned::new(client_of(Arc::new(config), "localhost"), dial(tls_address(&engine)));
    let error = stream.write_all(b"x").and_then(|()| stream.flush()).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    wait_until("a refusal", || failed(&engine, TlsFailure::Incompatible) == 1);
}

#[test]
fn a_ticket_makes_the_next_handshake_short() {
    let identity = Identity::new(&["localhost"]);
    // The ticket of one shard is good on the other.
    let engine = engine(2, &identity, Limits::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = identity.client_config(&[version]);
        config.resumption = Resumption::in_memory_sessions(8);
        let config: Arc<ClientConfig> = Arc::new(config);
        let kinds: Vec<_> = (0..4)
            .map(|_| {
                let stream = StreamOwned::new(client_of(config.clone(), "localhost"), dial(tls_address(&engine)));
                Client::over(stream).stream.conn.handshake_kind().unwrap()
            })
            .collect();
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
    assert_eq!(engine.metrics().total().tls_resumed_total, 6);
}

#[test]
fn large_messages_go_both_ways_and_slow_readers_get_all_of_them() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { outbox_bytes_max: 16 << 20, ..Limits::default() });
    let mut reader = Client::over(secure(tls_address(&engine), &identity));
    let mut writer = Client::over(secure(tls_address(&engine), &identity));
    let texts: Vec<String> = (0..24).map(|n| format!("{n:02}").repeat(LARGE_BYTES / 2)).collect();
    for text in &texts {
        writer.call("Broadcast", text);
        assert_eq!(writer.next(), said(text));
        assert_eq!(writer.next(), VOID);
    }
    // Nothing of it has been read yet: the reader's socket is full, and it is late.
    wait_until("a late reader", || engine.metrics().total().slow_connections == 1);
    assert!(engine.metrics().total().short_sends_total > 0);
    for text in &texts {
        assert_eq!(reader.next(), said(text));
    }
    reader.call("Echo", &texts[7]);
    assert_eq!(reader.next(), format!("{{\"type\":3,\"invocationId\":\"c\",\"result\":\"{}\"}}", texts[7]));
    wait_until("nobody late", || engine.metrics().total().slow_connections == 0);
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_what_it_was_owed_is_counted() {
    let identity = Identity::new(&["localhost"]);
    let limits = Limits { outbox_bytes_max: 1 << 20, outbox_age_max_ms: 1_000, ..Limits::default() };
    let engine = engine(1, &identity, limits);
    let _reader = Client::over(secure(tls_address(&engine), &identity));
    let mut writer = Client::over(secure(tls_address(&engine), &identity));
    for n in 0..30 {
        let text = format!("{n:02}").repeat(LARGE_BYTES / 2);
        writer.call("Broadcast", &text);
        assert_eq!(writer.next(), said(&text));
        assert_eq!(writer.next(), VOID);
    }
    wait_until("its end", || engine.metrics().total().tls_sockets == 1);
    let total = engine.metrics().total();
    assert!(total.dropped_slow_total > 0);
    assert_eq!(total.closed_total[fanfare_engine::CloseReason::SlowClient as usize], 1);
}

#[test]
fn events_and_polls_with_posts_that_land_on_any_shard() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(3, &identity, Limits::default());
    let address = tls_address(&engine);
    let mut moved = 0;
    for accept in ["text/event-stream", "*/*"] {
        for _ in 0..6 {
            let (_, answer) = ask_whole(
                &mut secure(address, &identity),
                "POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            );
            let token = answer.split("\"connectionToken\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            let get = format!("GET /hub?id={token} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
            let mut down = secure(address, &identity);
            let events = accept.starts_with("text");
            let head = if events { ask(&mut down, &get) } else { ask_whole(&mut down, &get).0 };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            // A socket of its own for each: some of them land on another shard, and move.
            for body in [
                "{\"protocol\":\"json\",\"version\":1}\u{1e}",
                "{\"type\":1,\"invocationId\":\"c\",\"target\":\"Echo\",\"arguments\":[\"over TLS\"]}\u{1e}",
            ] {
                let mut up = secure(address, &identity);
                let length = body.len();
                let post =
                    format!("POST /hub?id={token} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
                let (head, _) = ask_whole(&mut up, &post);
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                // The same socket is good for more, wherever it is now.
                let (head, _) = ask_whole(
                    &mut up,
                    &post
                        .replace(body, "{\"type\":6}\u{1e}")
                        .replace(&format!("Content-Length: {length}"), "Content-Length: 11"),
                );
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            }
            let answer = "{\"type\":3,\"invocationId\":\"c\",\"result\":\"over TLS\"}\u{1e}";
            let mut heard = String::new();
            while !heard.contains(answer) {
                if events {
                    let mut bytes = [0; 1024];
                    let n = down.read(&mut bytes).unwrap();
                    heard.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
                } else {
                    heard.push_str(&ask_whole(&mut down, &get).1);
                }
            }
        }
        moved = engine.metrics().total().adopted_total;
        assert!(moved > 0, "every socket has landed where its connection is: this run shows nothing");
    }
    assert_eq!(engine.metrics().total().tls_broken_total, 0, "{moved} sockets moved");
}

#[test]
fn a_replaced_certificate_is_for_whoever_comes_next() {
    let (old, new) = (Identity::new(&["localhost"]), Identity::new(&["localhost"]));
    let certificates = old.certificates();
    let engine = Engine::builder()
        .shards(1)
        .listen_tls("127.0.0.1:0")
        .certificates(certificates.clone())
        .limits(Limits { log_bytes_max: 0, ..Limits::default() })
        .hub("hub", HubOptions::default(), Relay)
        .start()
        .unwrap();
    let address = engine.local_addrs()[0];
    let mut before = Client::over(secure(address, &old));
    certificates.replace_pem(new.chain.as_bytes(), new.key.as_bytes()).unwrap();
    let mut after = Client::over(secure(address, &new));
    after.call("Broadcast", "both");
    assert_eq!(before.next(), said("both"));
    // Who trusts only the old one says so.
    let mut refused = secure(address, &old);
    assert!(refused.write_all(b"x").and_then(|()| refused.flush()).is_err());
    wait_until("an alert", || failed(&engine, TlsFailure::Alert) == 1);
    // What is no pair changes nothing.
    let error = certificates.replace_pem(old.chain.as_bytes(), new.key.as_bytes()).unwrap_err();
    assert_eq!(error, fanfare_engine::CertificateError::KeyMismatch);
    Client::over(secure(address, &new));
}

#[test]
fn names_choose_among_certificates() {
    let (first, second) = (Identity::new(&["localhost"]), Identity::new(&["second.example"]));
    let pairs = [&first, &second].map(|identity| (identity.chain.as_bytes(), identity.key.as_bytes()));
    let engine = Engine::builder()
        .shards(1)
        .listen_tls("127.0.0.1:0")
        .certificates(fanfare_engine::Certificates::from_pem_pairs(&pairs).unwrap())
        .hub("hub", HubOptions::default(), Relay)
        .start()
        .unwrap();
    for (identity, name) in [(&second, "second.example"), (&first, "localhost")] {
        let config = Arc::new(identity.client_config(rustls::ALL_VERSIONS));
        Client::over(StreamOwned::new(client_of(config, name), dial(engine.local_addrs()[0])));
    }
}

#[test]
fn a_tls_listener_without_certificates_is_refused_at_the_start() {
    let error = Engine::builder().listen_tls("127.0.0.1:0").hub("hub", HubOptions::default(), Relay).start();
    assert!(matches!(error.unwrap_err(), StartError::Config(text) if text.contains("certificates")));
}

#[test]
fn a_plain_request_on_the_tls_port_is_told_so() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut plain = dial(tls_address(&engine));
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    // What is neither gets TLS's own word for it: a fatal alert.
    let mut noise = dial(tls_address(&engine));
    noise.write_all(&[0; 64]).unwrap();
    let mut answer = Vec::new();
    noise.read_to_end(&mut answer).unwrap();
    assert!(answer.len() == 7 && answer[0] == 0x15 && answer[5] == 2, "{answer:?}");
    // A hello that makes no sense.
    let mut broken = dial(tls_address(&engine));
    broken.write_all(b"\x16\x03\x01\x00\x08\x01\x00\x00\x04abcd").unwrap();
    let mut answer = Vec::new();
    broken.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    assert_eq!((failed(&engine, TlsFailure::NotTls), failed(&engine, TlsFailure::Malformed)), (2, 1));
    drop((plain, noise, broken));
    wait_until("their ends", || engine.metrics().total().sockets_open == 0);
    assert_eq!(engine.metrics().total().tls_sockets, 0);
}

#[test]
fn handshakes_that_do_not_end_are_ended() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { head_timeout_ms: 500, ..Limits::default() });
    let mut silent = dial(tls_address(&engine));
    let mut half = dial(tls_address(&engine));
    half.write_all(b"\x16\x03\x01\x02").unwrap();
    for socket in [&mut silent, &mut half] {
        assert!(is_at_its_end(socket));
    }
    assert_eq!(failed(&engine, TlsFailure::Timeout), 2);
    drop(dial(tls_address(&engine)));
    wait_until("one that went away", || failed(&engine, TlsFailure::Gone) == 1);
}

#[test]
fn many_handshakes_at_once_wait_for_their_turn_and_all_succeed() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let address = tls_address(&engine);
    let config = Arc::new(identity.client_config(rustls::ALL_VERSIONS));
    // Every hello is there before the first is answered.
    let mut streams: Vec<Secure> =
        (0..64).map(|_| StreamOwned::new(client_of(config.clone(), "localhost"), dial(address))).collect();
    for stream in &mut streams {
        let StreamOwned { conn, sock } = stream;
        conn.write_tls(sock).unwrap();
    }
    let mut clients: Vec<_> = streams.into_iter().map(Client::over).collect();
    clients[0].call("Broadcast", "all");
    clients.iter_mut().for_each(|client| assert_eq!(client.next(), said("all")));
    assert_eq!(engine.metrics().total().tls_handshakes_total, 64);
}

#[test]
fn records_that_do_not_decrypt_end_their_connection_only() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut other = Client::over(secure(tls_address(&engine), &identity));
    let mut client = Client::over(secure(tls_address(&engine), &identity));
    client.stream.sock.write_all(b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    wait_until("its end", || engine.metrics().total().tls_broken_total == 1);
    other.call("Broadcast", "still here");
    assert_eq!(other.next(), said("still here"));
}

#[test]
fn a_record_that_does_not_end_ends_its_connection() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { message_timeout_ms: 1_000, ..Limits::default() });
    let mut other = Client::over(secure(tls_address(&engine), &identity));
    // On a hub connection that never pings, so that no other deadline is its end.
    let mut client = Client::over(secure(tls_address(&engine), &identity));
    client.stream.sock.write_all(b"\x17\x03\x03\x40\x00and no more").unwrap();
    let timed_out = || engine.metrics().total().closed_total[fanfare_engine::CloseReason::MessageTimeout as usize];
    for _ in 0..200 {
        // Whoever ends his records may go on for as long as he likes.
        other.call("Echo", "x");
        assert_eq!(other.next(), "{\"type\":3,\"invocationId\":\"c\",\"result\":\"x\"}");
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_until("its end", || timed_out() == 1);
    assert!(is_at_its_end(&mut client.stream.sock));
}

#[test]
fn the_goodbye_of_tls_comes_before_the_end_of_the_socket() {
    let identity = Identity::new(&["localhost"]);
    let mut engine = engine(1, &identity, Limits::default());
    // rustls reports an end without close_notify as an error.
    let mut once = secure(tls_address(&engine), &identity);
    let head = ask(&mut once, "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(once.read_to_end(&mut Vec::new()).is_ok());
    // The client closes first.
    let mut polite = secure(tls_address(&engine), &identity);
    ask(&mut polite, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    polite.conn.send_close_notify();
    polite.flush().unwrap();
    assert!(polite.read_to_end(&mut Vec::new()).is_ok());
    // As well without a word of TLS.
    let mut curt = secure(tls_address(&engine), &identity);
    ask(&mut curt, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    curt.sock.shutdown(Shutdown::Write).unwrap();
    assert!(curt.read_to_end(&mut Vec::new()).is_ok());
    // A drain says goodbye in the hub's words, the WebSocket's and TLS's.
    let mut client = Client::over(secure(tls_address(&engine), &identity));
    let draining = std::thread::spawn(move || engine.drain(Duration::from_secs(10)));
    assert!(client.next().starts_with("{\"type\":7,"));
    let mut close = Vec::new();
    fanfare_protocol::ws::encode::write_masked_close(
        &mut close,
        Some(fanfare_protocol::error::CloseCode::NORMAL),
        "",
        [3; 4],
    );
    client.stream.write_all(&close).unwrap();
    assert!(client.stream.read_to_end(&mut Vec::new()).is_ok());
    draining.join().unwrap();
}

/// The first bytes that a client says.
fn hello(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::new();
    identity.client().write_tls(&mut bytes).unwrap();
    bytes
}

fn is_at_its_end(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0; 64]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_hello_in_records_of_one_byte_is_understood() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut client = identity.client();
    let mut whole = Vec::new();
    client.write_tls(&mut whole).unwrap();
    let (header, message) = whole.split_at(5);
    let records = message.iter().flat_map(|&byte| [header[0], header[1], header[2], 0, 1, byte]);
    let mut socket = dial(tls_address(&engine));
    // And those in segments of one byte, for as long as that teaches anything.
    let records: Vec<u8> = records.collect();
    for byte in &records[..120] {
        socket.write_all(&[*byte]).unwrap();
    }
    socket.write_all(&records[120..]).unwrap();
    let mut client = Client::over(StreamOwned::new(client, socket));
    client.call("Echo", "x");
    assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"c\",\"result\":\"x\"}");
    assert_eq!(engine.metrics().total().tls_failed_total.iter().sum::<u64>(), 0);
}

/// A handshake message may have 64 KiB, and says how long it will be: nobody keeps more of it, or waits for its end.
#[test]
fn a_hello_that_is_too_large_is_refused_before_it_is_kept() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut socket = dial(tls_address(&engine));
    socket.write_all(b"\x16\x03\x01\x10\x00\x01\xff\xff\xff").unwrap();
    socket.write_all(&[0; 4_092]).unwrap();
    assert!(is_at_its_end(&mut socket));
    assert_eq!(failed(&engine, TlsFailure::Malformed), 1);
    // One of a size that is allowed, in records that blow it up to six times that: 120 KB of them say 20 KB.
    let mut socket = dial(tls_address(&engine));
    socket.write_all(b"\x16\x03\x01\x00\x04\x01\x00\xff\x00").unwrap();
    let records = b"\x16\x03\x01\x00\x01\x00".repeat(20_000);
    let _ = socket.write_all(&records);
    wait_until("a refusal", || failed(&engine, TlsFailure::Malformed) == 2);
}

#[test]
fn a_hello_that_trickles_in_does_not_buy_time() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { head_timeout_ms: 1_000, ..Limits::default() });
    let mut socket = dial(tls_address(&engine));
    let hello = hello(&identity);
    assert!(hello.len() > 150);
    let mut sent = 0;
    for byte in &hello {
        if socket.write_all(&[*byte]).is_err() || failed(&engine, TlsFailure::Timeout) > 0 {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sent < hello.len(), "all of it was taken");
    assert_eq!(failed(&engine, TlsFailure::Timeout), 1);
}

#[test]
fn handshakes_under_way_have_a_bound() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { handshakes_pending_max: 3, ..Limits::default() });
    let pending = || engine.metrics().total().tls_handshakes_pending;
    let mut silent: Vec<TcpStream> = (0..3).map(|_| dial(tls_address(&engine))).collect();
    wait_until("three of them", || pending() == 3);
    let mut fourth = dial(tls_address(&engine));
    assert!(is_at_its_end(&mut fourth), "the fourth is sent away");
    let refused = || engine.metrics().total().refused_total[fanfare_engine::RefuseReason::Handshakes as usize];
    assert_eq!(refused(), 1);
    // Sockets without TLS are not in their way, and a place that becomes free is somebody's.
    Client::over(dial(engine.local_addrs()[0]));
    silent.pop();
    wait_until("a free place", || pending() == 2);
    let mut client = Client::over(secure(tls_address(&engine), &identity));
    wait_until("who has shaken hands has none", || pending() == 2);
    client.call("Echo", "x");
    client.next();
    assert_eq!(refused(), 1);
}

#[test]
fn unfinished_records_of_all_clients_have_a_bound() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits { partial_bytes_max: 64 << 10, ..Limits::default() });
    let mut healthy = Client::over(secure(tls_address(&engine), &identity));
    // A record of 16 KiB each that lacks its last byte.
    let mut record = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc".to_vec();
    record.resize(5 + 0x4000 - 1, 0);
    let sockets: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut socket = dial(tls_address(&engine));
            let _ = socket.write_all(&record);
            socket
        })
        .collect();
    let overload = || engine.metrics().total().closed_total[fanfare_engine::CloseReason::Overload as usize];
    wait_until("an end to that", || overload() >= 3);
    drop(sockets);
    wait_until("their ends", || engine.metrics().total().tls_handshakes_pending == 0);
    healthy.call("Echo", "x");
    assert_eq!(healthy.next(), "{\"type\":3,\"invocationId\":\"c\",\"result\":\"x\"}");
}

#[test]
fn new_keys_are_taken_and_given() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut client = Client::over(secure(tls_address(&engine), &identity));
    // The client asks for the server's new keys along with its own.
    for round in 0..200 {
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.call("Echo", &round.to_string());
        assert_eq!(client.next(), format!("{{\"type\":3,\"invocationId\":\"c\",\"result\":\"{round}\"}}"));
    }
    // Some in a row are answered once; whoever does nothing else is sent away.
    for _ in 0..20 {
        client.stream.conn.refresh_traffic_keys().unwrap();
    }
    client.call("Echo", "x");
    assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"c\",\"result\":\"x\"}");
    assert_eq!(engine.metrics().total().tls_broken_total, 0);
    for _ in 0..1_000 {
        client.stream.conn.refresh_traffic_keys().unwrap();
    }
    let _ = client.stream.flush();
    wait_until("its end", || engine.metrics().total().tls_broken_total == 1);
}

/// An end without close_notify may be somebody else's doing: what is cut is not taken for a whole.
#[test]
fn a_truncated_request_is_no_request() {
    let identity = Identity::new(&["localhost"]);
    let engine = engine(1, &identity, Limits::default());
    let mut cut = secure(tls_address(&engine), &identity);
    cut.write_all(b"POST /hub/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc").unwrap();
    cut.sock.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = cut.read_to_end(&mut answer);
    assert_eq!(String::from_utf8_lossy(&answer), "");
}
