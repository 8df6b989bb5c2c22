//! What clients see of the limits: refusals with a reason and a time to come back, waiting, and farewells.

mod hub_support;

use fanfare_engine::{
    Answer, Authenticator, CloseReason, ConnectRequest, Context, EchoOptions, EndpointOptions, Engine, HubHandler,
    HubOptions, Identity, Invocation, Limits, Payload, Refusal, RefuseReason, UplinkOver,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::{write_masked_fragment, write_masked_message};
use hub_support::{Client, call, result, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

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

/// Everybody is who they say they are.
struct ByQuery;

impl Authenticator for ByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        Ok(Identity { user: request.query_value("user").map(Into::into), ..Identity::default() })
    }
}

fn engine(limits: Limits) -> Engine {
    let endpoint = EndpointOptions { resumable: true, ..EndpointOptions::default() };
    let builder = Engine::builder().shards(2).listen("127.0.0.1:0").hub("hub", HubOptions { endpoint }, Relay);
    let echo = EchoOptions { idle_timeout_ms: 300, ..EchoOptions::default() };
    builder.authenticator("/hub", ByQuery).echo("/echo", echo).limits(limits).start().expect("an engine")
}

/// A socket on which these bytes were said.
fn say(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(hub_support::PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("a request");
    stream
}

/// The head of an answer, and its body if it says how long that is.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).expect("text");
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).expect("a body");
    head + &String::from_utf8_lossy(&body)
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn negotiate(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
}

/// Asks, and gives the socket and the answer.
fn ask(address: SocketAddr, request: &str) -> (TcpStream, String) {
    let mut stream = say(address, request.as_bytes());
    let text = answer(&mut stream);
    (stream, text)
}

/// A refusal that says why, and when to come again.
fn assert_refused(text: &str, status: u16, limit: &str) {
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    let after = text.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let after: u32 = after.unwrap_or_else(|| panic!("no Retry-After: {text}")).parse().expect("seconds");
    assert!((2..=4).contains(&after), "{text}");
    assert!(text.contains(&format!("(limits.{limit})")), "{text}");
}

fn refused(engine: &Engine, reason: RefuseReason) -> u64 {
    engine.metrics().total().refused_total[reason as usize]
}

fn closed(engine: &Engine, reason: CloseReason) -> u64 {
    engine.metrics().total().closed_total[reason as usize]
}

#[test]
fn connects_and_negotiates_have_rates() {
    let engine = engine(Limits { connect_rate: 3, negotiate_rate: 2, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let mut open = Vec::new();
    for _ in 0..3 {
        let (stream, text) = ask(address, &upgrade("/hub", ""));
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        open.push(stream);
    }
    assert_refused(&ask(address, &upgrade("/hub", "")).1, 503, "connect_rate");
    for _ in 0..2 {
        let text = ask(address, &negotiate("/hub/negotiate")).1;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    assert_refused(&ask(address, &negotiate("/hub/negotiate")).1, 503, "negotiate_rate");
    assert_eq!(refused(&engine, RefuseReason::ConnectRate), 1);
    assert_eq!(refused(&engine, RefuseReason::NegotiateRate), 1);
    std::thread::sleep(Duration::from_millis(400));
    let text = ask(address, &upgrade("/hub", "")).1;
    assert!(text.starts_with("HTTP/1.1 101 "), "a third of a second is one more: {text}");
}

#[test]
fn handshakes_that_are_awaited_have_a_bound() {
    let engine = engine(Limits { handshakes_pending_max: 2, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let (silent, _) = ask(address, &upgrade("/hub", ""));
    // Who has shaken hands does not count any more.
    let _client = Client::connect(address);
    let (_another, text) = ask(address, &upgrade("/hub", ""));
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert_refused(&ask(address, &upgrade("/hub", "")).1, 503, "handshakes_pending_max");
    drop(silent);
    wait_until("the one that went", || engine.metrics().total().handshakes_pending == 1);
    let text = ask(address, &upgrade("/hub", "")).1;
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
}

#[test]
fn a_user_has_so_many_connections_and_gets_them_back() {
    let engine = engine(Limits { connections_per_user_max: 2, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let connect = |user: &str| ask(address, &upgrade(&format!("/hub?user={user}"), ""));
    let (first, _second) = (connect("ann").0, connect("ann").0);
    assert_refused(&connect("ann").1, 429, "connections_per_user_max");
    assert_refused(&ask(address, &negotiate("/hub/negotiate?user=ann")).1, 429, "connections_per_user_max");
    assert!(connect("bob").1.starts_with("HTTP/1.1 101 "));
    drop(first);
    let until = Instant::now() + hub_support::PATIENCE;
    while !connect("ann").1.starts_with("HTTP/1.1 101 ") {
        assert!(Instant::now() < until, "the place of the one that went");
    }
    assert!(refused(&engine, RefuseReason::UserConnections) >= 2);
}

#[test]
fn an_address_has_so_many_connections() {
    let engine = engine(Limits { connections_per_address_max: 2, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let open: Vec<_> = (0..2).map(|_| ask(address, &upgrade("/hub", ""))).collect();
    assert!(open.iter().all(|(_, text)| text.starts_with("HTTP/1.1 101 ")));
    // Nobody is believed that no proxy is trusted.
    let elsewhere = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_refused(&ask(address, &upgrade("/hub", elsewhere)).1, 429, "connections_per_address_max");
    assert_refused(&ask(address, &negotiate("/hub/negotiate")).1, 429, "connections_per_address_max");
    assert_eq!(refused(&engine, RefuseReason::AddressConnections), 2);
    drop(open);
    wait_until("both have gone", || engine.metrics().total().handshakes_pending == 0);
    assert!(ask(address, &upgrade("/hub", "")).1.starts_with("HTTP/1.1 101 "));
    assert!(std::fs::read_dir("/proc/self/fd").expect("procfs").count() < 200, "descriptors were given back");
}

#[test]
fn a_trusted_proxy_says_who_its_clients_are() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let engine = engine(Limits { connections_per_address_max: 1, trusted_proxies, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let connect = |client: &str| ask(address, &upgrade("/hub", &format!("X-Forwarded-For: {client}\r\n")));
    let (_one, text) = connect("192.0.2.1");
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert_refused(&connect("198.51.100.9, 192.0.2.1").1, 429, "connections_per_address_max");
    assert!(connect("192.0.2.2").1.starts_with("HTTP/1.1 101 "));
}

#[test]
fn whoever_says_too_much_waits_and_loses_nothing() {
    let engine = engine(Limits { uplink_messages_rate: 50, ..Limits::default() });
    let mut client = Client::connect(engine.local_addrs()[0]);
    let started = Instant::now();
    for n in 0..250 {
        client.send(&[&call(&n.to_string(), "Echo", "1")]);
    }
    for n in 0..250 {
        assert_eq!(client.next(), result(&n.to_string(), "1"));
    }
    // A burst of 100, a buffer of some 30 more, and the rest at 50 a second.
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1_500), "{took:?}");
    assert!(engine.metrics().total().uplink_waits_total > 0);
    assert_eq!(closed(&engine, CloseReason::Throttled), 0);
}

/// Its WebSocket carries the connection and is not it: both are kept from being read.
#[test]
fn whoever_may_resume_waits_like_everybody() {
    let engine = engine(Limits { uplink_messages_rate: 50, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let text = ask(address, &negotiate("/hub/negotiate?negotiateVersion=1&useStatefulReconnect=true")).1;
    let token = text.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let (mut stream, text) = ask(address, &upgrade(&format!("/hub?id={}", token.expect("a token")), ""));
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    let mut say = |message: &str| {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, format!("{message}\u{1e}").as_bytes(), [1, 2, 3, 4]);
        stream.write_all(&frame).expect("it may go on");
    };
    say("{\"protocol\":\"json\",\"version\":2}");
    let started = Instant::now();
    (0..250).for_each(|n| say(&call(&n.to_string(), "Echo", "1")));
    let mut heard = String::new();
    let mut bytes = [0; 4096];
    while !heard.contains(&result("249", "1")) {
        let n = stream.read(&mut bytes).expect("answers");
        assert_ne!(n, 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    assert!(heard.contains(&result("0", "1")) && started.elapsed() > Duration::from_millis(1_500));
    assert!(engine.metrics().total().uplink_waits_total > 0);
}

#[test]
fn whoever_says_too_much_may_be_sent_away_for_good() {
    let limits = Limits { uplink_bytes_rate: 10_000, uplink_over: UplinkOver::Close, ..Limits::default() };
    let engine = engine(limits);
    let mut client = Client::connect(engine.local_addrs()[0]);
    client.send(&[&call("", "Echo", &format!("\"{}\"", "x".repeat(15_000)))]);
    client.send(&[&call("", "Echo", &format!("\"{}\"", "x".repeat(15_000)))]);
    let said = loop {
        match client.next_or_end() {
            Some(message) if message.starts_with("{\"type\":7") => break message,
            Some(_) => {}
            None => panic!("no farewell"),
        }
    };
    assert!(said.contains("limits.uplink_bytes_rate") && !said.contains("\"allowReconnect\":true"), "{said}");
    drop(client);
    wait_until("it has gone", || closed(&engine, CloseReason::Throttled) == 1);
}

#[test]
fn an_unfinished_message_has_a_deadline() {
    let engine = engine(Limits { message_timeout_ms: 500, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let mut quiet = Client::connect(address);
    let mut begun = Client::connect(address);
    let mut frame = Vec::new();
    write_masked_fragment(&mut frame, DataKind::Text, true, false, b"{\"type\":1,\"tar", [1, 2, 3, 4]);
    begun.stream.write_all(&frame).expect("half a message");
    let said = begun.next_or_end().expect("a farewell");
    assert!(said.starts_with("{\"type\":7") && said.contains("\"allowReconnect\":true"), "{said}");
    drop(begun);
    wait_until("it has gone", || closed(&engine, CloseReason::MessageTimeout) == 1);
    // Silence between messages is nobody's fault.
    quiet.hears_nothing_more();
}

#[test]
fn pieces_that_keep_coming_have_the_same_deadline_and_whole_messages_begin_it_anew() {
    let engine = engine(Limits { message_timeout_ms: 1_000, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let mut dripping = Client::connect(address);
    let mut talking = Client::connect(address);
    let whole = format!("{}\u{1e}", call("1", "Echo", "1"));
    let until = Instant::now() + hub_support::PATIENCE;
    let mut first = true;
    while closed(&engine, CloseReason::MessageTimeout) == 0 {
        assert!(Instant::now() < until, "a message that never ends");
        let mut frame = Vec::new();
        write_masked_fragment(&mut frame, DataKind::Text, first, false, b"x", [1, 2, 3, 4]);
        // The end of the connection may be known here before it is counted there.
        let _ = dripping.stream.write_all(&frame);
        // The end of one message and the beginning of the next in every frame.
        let (head, tail) = whole.split_at(20);
        let text = if first { head.to_owned() } else { format!("{tail}{head}") };
        frame.clear();
        write_masked_message(&mut frame, DataKind::Text, text.as_bytes(), [1, 2, 3, 4]);
        talking.stream.write_all(&frame).expect("it may go on");
        first = false;
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut frame = Vec::new();
    write_masked_message(&mut frame, DataKind::Text, &whole.as_bytes()[20..], [1, 2, 3, 4]);
    talking.stream.write_all(&frame).expect("it may go on");
    assert_eq!(talking.next(), result("1", "1"));
    assert_eq!(closed(&engine, CloseReason::MessageTimeout), 1);
}

#[test]
fn an_echo_that_nobody_uses_is_closed() {
    let engine = engine(Limits::default());
    let (mut stream, text) = ask(engine.local_addrs()[0], &upgrade("/echo", ""));
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).expect("a close frame");
    assert_eq!(frame, [0x88, 2, 0x03, 0xe8]);
    drop(stream);
    wait_until("it has gone", || closed(&engine, CloseReason::IdleTimeout) == 1);
}
