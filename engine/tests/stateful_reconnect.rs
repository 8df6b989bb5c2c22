//! Stateful reconnect on the wire, line by line of the client specification's checklist (136 to 147). The simulation
//! plays it with every fault there is; engine/tests/resume.rs has what the two directions do to each other.

mod hub_support;

use fanfare_engine::{
    Answer, CloseReason, Context, EndpointOptions, Engine, HandlerError, HubHandler, HubOptions, Invocation, Payload,
    Publisher, StreamHandle, Value,
};
use hub_support::http::{UPGRADE, ask, negotiate};
use hub_support::{Client, call, end, item, result, stream, wait_until};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Above this many bytes that are not acknowledged sends wait.
const WINDOW_BYTES: usize = 1_000;
/// How long a lost client may stay away.
const AWAY_MS: u32 = 1_500;

#[derive(Default)]
struct Seen {
    connected: AtomicU64,
    disconnected: AtomicU64,
    calls: AtomicU64,
    stream: Mutex<Option<StreamHandle>>,
}

struct Hub(Arc<Seen>);

impl HubHandler for Hub {
    fn connected(&self, _: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.connected.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn disconnected(&self, _: &mut Context<'_>, _: CloseReason) {
        self.0.disconnected.fetch_add(1, Ordering::SeqCst);
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        self.dispatch(cx, call).into()
    }
}

impl Hub {
    fn dispatch(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match call.target() {
            "Echo" => return Ok(Answer::echo(call.arg(0)?)),
            "Id" => return Ok(Answer::Value(Value::from(cx.connection_id()))),
            "Join" => cx.join("group").map_err(|error| HandlerError::Hub(error.to_string()))?,
            "Abort" => cx.abort(),
            "Open" => {
                *self.0.stream.lock().unwrap() = Some(cx.open_stream()?);
                return Ok(Answer::Later);
            }
            _ => return Ok(Answer::Unknown),
        }
        Ok(Answer::Void)
    }
}

struct House {
    engine: Engine,
    publisher: Publisher,
    seen: Arc<Seen>,
}

impl House {
    fn new() -> Self {
        let endpoint = EndpointOptions {
            resumable: true,
            resume_bytes_max: WINDOW_BYTES,
            disconnect_timeout_ms: AWAY_MS,
            detailed_errors: true,
            ..EndpointOptions::default()
        };
        let seen = Arc::new(Seen::default());
        let builder = Engine::builder().shards(2).listen("127.0.0.1:0");
        let engine = builder.hub("hub", HubOptions { endpoint }, Hub(seen.clone())).start().unwrap();
        Self { publisher: engine.publisher(), engine, seen }
    }

    /// A token, and a client of it that has shaken hands in this version and has said something.
    fn client(&self, version: u8) -> (String, Client) {
        let (token, mut client) = self.silent(version);
        client.send(&["{\"type\":6}"]);
        (token, client)
    }

    /// The same, silent since its handshake.
    fn silent(&self, version: u8) -> (String, Client) {
        let (token, _) = negotiate(self.engine.local_addrs()[0], "/hub", "&useStatefulReconnect=true");
        let mut client = self.upgraded(&token);
        client.send(&[&format!("{{\"protocol\":\"json\",\"version\":{version}}}")]);
        assert_eq!(client.next(), "{}");
        (token, client)
    }

    fn upgraded(&self, token: &str) -> Client {
        Client::upgraded(self.engine.local_addrs()[0], &format!("/hub?id={token}"))
    }

    /// Another WebSocket for the connection; both sides say where they go on.
    fn resumed(&self, token: &str, sequence_id: u64) -> Client {
        let mut client = self.upgraded(token);
        client.send(&[&sequence(sequence_id)]);
        client
    }

    fn upgrade_status(&self, token: &str) -> u16 {
        ask(self.engine.local_addrs()[0], "GET", &format!("/hub?id={token}"), UPGRADE, "").status
    }

    fn disconnected(&self) -> u64 {
        self.seen.disconnected.load(Ordering::SeqCst)
    }

    /// Calls a client method of everybody.
    fn tell(&self, argument: &str) {
        self.publisher.all("hub").send("m", &Payload::Values(&[Value::from(argument)])).unwrap();
    }
}

fn sequence(sequence_id: u64) -> String {
    format!("{{\"type\":9,\"sequenceId\":{sequence_id}}}")
}

fn ack(sequence_id: u64) -> String {
    format!("{{\"type\":8,\"sequenceId\":{sequence_id}}}")
}

fn told(argument: &str) -> String {
    format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{argument}\"]}}")
}

fn is_ack(message: &str) -> bool {
    message.starts_with("{\"type\":8,")
}

/// The next message that is no acknowledgement.
fn next(client: &mut Client) -> String {
    loop {
        let message = client.next();
        if !is_ack(&message) {
            return message;
        }
    }
}

#[test]
fn line_136_a_handshake_of_version_1_turns_it_off() {
    let house = House::new();
    let (token, mut client) = house.client(1);
    client.send(&[&call("0", "Echo", "1")]);
    client.hears(&[&result("0", "1")]);
    assert_eq!(house.upgrade_status(&token), 409, "its WebSocket cannot be taken over");
    drop(client);
    wait_until("a lost WebSocket is the end", || house.disconnected() == 1);
    assert_eq!(house.upgrade_status(&token), 404);
}

#[test]
fn line_137_a_lost_websocket_is_not_the_end() {
    let house = House::new();
    let (token, mut client) = house.client(2);
    let id = client.id();
    client.send(&[&call("j", "Join", ""), &call("0", "Echo", "1"), &call("1", "Echo", "2")]);
    let answers = [result("j", "null"), result("0", "1"), result("1", "2")];
    for answer in &answers {
        assert_eq!(next(&mut client), *answer);
    }
    drop(client);
    // The answer with the id was its first message; nothing was acknowledged.
    let mut client = house.resumed(&token, 5);
    assert_eq!(client.next(), sequence(1));
    assert!(next(&mut client).contains(&id));
    for answer in &answers {
        assert_eq!(next(&mut client), *answer);
    }
    client.send(&[&call("again", "Id", "")]);
    assert_eq!(next(&mut client), result("again", &format!("\"{id}\"")), "the same connection");
    house.publisher.group("hub", "group").send("m", &Payload::Values(&[Value::from("group")])).unwrap();
    assert_eq!(next(&mut client), told("group"), "in the same group");
    assert_eq!((house.seen.connected.load(Ordering::SeqCst), house.disconnected()), (1, 0), "nobody was told");
}

/// Whatever runs the messages lie in: those up to the acknowledged one are forgotten, no more and no fewer.
#[test]
fn lines_137_and_141_what_is_acknowledged_is_not_sent_again() {
    let house = House::new();
    for acknowledged in 0..=5 {
        let (token, mut client) = house.client(2);
        let calls: Vec<String> = (1..=5).map(|n: u32| call(&n.to_string(), "Echo", &n.to_string())).collect();
        client.send(&calls.iter().map(String::as_str).collect::<Vec<_>>());
        for n in 1..=5 {
            assert_eq!(next(&mut client), result(&n.to_string(), &n.to_string()));
        }
        // Heard before the answer to the call behind it, which is number 6.
        client.send(&[&ack(acknowledged), &call("6", "Echo", "6")]);
        assert_eq!(next(&mut client), result("6", "6"));
        drop(client);
        let mut client = house.resumed(&token, 7);
        assert_eq!(client.next(), sequence(acknowledged + 1));
        for n in acknowledged + 1..=6 {
            assert_eq!(next(&mut client), result(&n.to_string(), &n.to_string()));
        }
    }
}

#[test]
fn line_138_the_sequence_of_an_empty_buffer_is_the_next_number() {
    let house = House::new();
    let (token, client) = house.client(2);
    drop(client);
    let mut client = house.resumed(&token, 1);
    assert_eq!(client.next(), sequence(1), "nothing was ever sent");
    client.send(&[&call("0", "Echo", "1"), &call("1", "Echo", "2")]);
    assert_eq!((next(&mut client), next(&mut client)), (result("0", "1"), result("1", "2")));
    client.send(&[&ack(2), &call("2", "Echo", "3")]);
    assert_eq!(next(&mut client), result("2", "3"));
    client.send(&[&ack(3)]);
    // The acknowledgement is heard before the call behind it has an effect on somebody else.
    client.send(&["{\"type\":1,\"target\":\"Nobody\",\"arguments\":[]}"]);
    wait_until("it is heard", || house.seen.calls.load(Ordering::SeqCst) == 4);
    drop(client);
    let mut client = house.resumed(&token, 5);
    assert_eq!(client.next(), sequence(4));
    client.send(&[&call("4", "Echo", "5")]);
    assert_eq!(next(&mut client), result("4", "5"));
}

#[test]
fn line_139_what_the_client_sends_again_runs_once() {
    let house = House::new();
    let (token, mut client) = house.client(2);
    client.send(&[&call("1", "Echo", "1"), &call("2", "Echo", "2")]);
    assert_eq!((next(&mut client), next(&mut client)), (result("1", "1"), result("2", "2")));
    client.send(&[&ack(2)]);
    drop(client);
    let mut client = house.resumed(&token, 1);
    client.send(&[&call("1", "Echo", "1"), &call("2", "Echo", "2"), &call("3", "Echo", "3")]);
    assert!(client.next().starts_with("{\"type\":9,"));
    loop {
        let message = next(&mut client);
        if message == result("3", "3") {
            break;
        }
        assert!(message == result("1", "1") || message == result("2", "2"), "{message}");
    }
    assert_eq!(house.seen.calls.load(Ordering::SeqCst), 3, "each call ran once");
}

#[test]
fn line_140_a_sequence_beyond_what_was_sent_ends_the_connection() {
    let house = House::new();
    let (token, mut client) = house.client(2);
    client.send(&[&call("1", "Echo", "1")]);
    assert_eq!(next(&mut client), result("1", "1"));
    drop(client);
    let mut client = house.resumed(&token, 3);
    assert_eq!(client.next(), sequence(1));
    let mut last = String::new();
    while let Some(message) = client.next_or_end() {
        last = message;
    }
    assert!(last.starts_with("{\"type\":7,\"error\":\"Connection closed with an error."), "{last}");
    assert!(last.contains("Sequence ID greater than amount of messages we've received."), "{last}");
    wait_until("it has ended", || house.disconnected() == 1);
    assert_eq!(house.upgrade_status(&token), 404);
}

#[test]
fn line_141_one_acknowledgement_for_what_was_heard_and_none_when_nothing_was() {
    let house = House::new();
    let (_, mut client) = house.client(2);
    let began = Instant::now();
    let messages: Vec<String> = (0..10).map(|_| "{\"type\":1,\"target\":\"Nobody\",\"arguments\":[]}".into()).collect();
    client.send(&messages.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(client.next(), ack(10), "one for all of them");
    assert!(began.elapsed() < Duration::from_secs(3), "within about a second");
    // Two sweeps without anything to acknowledge; pings are no messages that count.
    for _ in 0..25 {
        client.send(&["{\"type\":6}"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    client.send(&[&call("end", "Echo", "1")]);
    client.hears(&[&result("end", "1"), &ack(11)]);
}

#[test]
fn line_142_above_the_limit_sends_wait_and_nothing_is_lost() {
    const MESSAGES: usize = 40;
    let house = House::new();
    let (token, mut client) = house.client(2);
    let argument = |n: usize| format!("{n} {}", "x".repeat(100));
    for n in 1..=MESSAGES {
        house.tell(&argument(n));
    }
    let fits = WINDOW_BYTES / told(&argument(MESSAGES)).len();
    let mut heard = 0;
    while heard < fits || client.has_more() {
        heard += 1;
        assert_eq!(next(&mut client), told(&argument(heard)));
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    // The one that goes beyond the limit is sent.
    assert!(heard <= fits + 1, "{heard} of {MESSAGES} without an acknowledgement, {fits} fit");
    client.stream.set_read_timeout(Some(hub_support::PATIENCE)).unwrap();
    // The rest comes as it is acknowledged, over a switch.
    client.send(&[&ack(heard as u64)]);
    assert_eq!(next(&mut client), told(&argument(heard + 1)));
    drop(client);
    let mut client = house.resumed(&token, 1);
    assert_eq!(client.next(), sequence(heard as u64 + 1));
    for n in heard + 1..=MESSAGES {
        assert_eq!(next(&mut client), told(&argument(n)));
        client.send(&[&ack(n as u64)]);
    }
    client.send(&[&call("end", "Echo", "1")]);
    assert_eq!(next(&mut client), result("end", "1"), "and nothing else");
}

#[test]
fn line_143_another_websocket_replaces_one_that_is_still_open() {
    let house = House::new();
    let (token, mut old) = house.client(2);
    old.send(&[&call("1", "Echo", "1")]);
    assert_eq!(next(&mut old), result("1", "1"));
    let mut new = house.resumed(&token, 2);
    assert_eq!((new.next(), next(&mut new)), (sequence(1), result("1", "1")));
    let rest: Vec<String> = std::iter::from_fn(|| old.next_or_end()).collect();
    assert!(rest.iter().all(|message| is_ack(message)), "the old one ends without a word: {rest:?}");
    new.send(&[&call("2", "Echo", "2")]);
    assert_eq!(next(&mut new), result("2", "2"));
    assert_eq!(house.disconnected(), 0);
}

#[test]
fn line_144_whoever_stays_away_too_long_is_gone() {
    let house = House::new();
    let began = Instant::now();
    let (token, client) = house.client(2);
    drop(client);
    wait_until("it is given up", || house.disconnected() == 1);
    assert!(began.elapsed() >= Duration::from_millis(u64::from(AWAY_MS) - 100), "not before its time");
    assert_eq!(house.upgrade_status(&token), 404);
}

#[test]
fn line_145_what_has_ended_is_not_resumed() {
    let house = House::new();
    for (last_words, answer) in [("{\"type\":7}", "{\"type\":7}"), (&call("0", "Abort", ""), "{\"type\":7}")] {
        let (token, mut client) = house.client(2);
        client.send(&[last_words]);
        let message = loop {
            let message = next(&mut client);
            if message.starts_with("{\"type\":7") {
                break message;
            }
        };
        assert_eq!(message, answer);
        let status = house.upgrade_status(&token);
        assert!([204, 404].contains(&status), "answered {status}");
        assert_eq!(client.next_or_end(), None);
    }
    // Ended by the server while nobody carries it.
    let (token, mut client) = house.client(2);
    let id = client.id();
    drop(client);
    house.publisher.close(&id, false).unwrap();
    wait_until("all three are gone", || house.disconnected() == 3);
    assert_eq!(house.upgrade_status(&token), 404);
}

/// Whoever is silent behind its handshake may not count yet; engine/tests/resume.rs connects at every phase of a second.
#[test]
fn line_146_nothing_that_counts_comes_with_the_answer_to_the_handshake() {
    let house = House::new();
    let began = Instant::now();
    let (_, mut silent) = house.silent(2);
    house.tell("early");
    assert_eq!(next(&mut silent), told("early"));
    assert!(began.elapsed() >= Duration::from_millis(200), "after {:?}", began.elapsed());
    // Its first word is enough: the answer to it is a message that counts, behind the one that was held.
    let (_, mut client) = house.silent(2);
    house.tell("held");
    client.send(&[&call("1", "Echo", "1")]);
    let heard = [next(&mut client), next(&mut client)];
    assert!(heard.contains(&told("held")) && heard.contains(&result("1", "1")), "{heard:?}");
}

#[test]
fn line_147_a_stream_goes_on_over_a_switch() {
    let house = House::new();
    let (token, mut client) = house.client(2);
    client.send(&[&stream("s", "Open", "")]);
    wait_until("it is open", || house.seen.stream.lock().unwrap().is_some());
    let handle = house.seen.stream.lock().unwrap().take().unwrap();
    let give = |n: i64| handle.send(&Value::Int(n)).unwrap();
    (0..3).for_each(give);
    for n in 0..3 {
        assert_eq!(next(&mut client), item("s", &n.to_string()));
    }
    client.send(&[&ack(2)]);
    drop(client);
    (3..6).for_each(give);
    let mut client = house.resumed(&token, 2);
    let first = client.next();
    // Whether the acknowledgement came before the loss is the network's affair.
    let next_number = if first == sequence(3) { 2 } else { 0 };
    assert_eq!(first, sequence(next_number as u64 + 1));
    (6..8).for_each(give);
    for n in next_number..8 {
        assert_eq!(next(&mut client), item("s", &n.to_string()));
    }
    handle.end();
    assert_eq!(next(&mut client), end("s"));
}
