//! Slow policies over real sockets: who is told, what a session that may resume loses, and what comes through whatever
//! is dropped. The simulation plays the rest.

mod hub_support;

use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, HubHandler, HubOptions, Invocation, Limits, Payload, Publisher,
    ShardMetrics, SlowPolicy, Value,
};
use hub_support::{Client, call, negotiate, result, wait_until};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What a session may have sent and not acknowledged.
const RESUME_BYTES_MAX: usize = 300;

#[derive(Clone, Default)]
struct Hub {
    /// Connections whose first losses were told.
    told: Arc<Mutex<Vec<(String, SlowPolicy)>>>,
}

impl HubHandler for Hub {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match call.target() {
            "Echo" => call.arg(0).map_or(Answer::Unknown, Answer::echo),
            "Id" => Answer::Value(Value::Str(cx.connection_id())),
            _ => Answer::Unknown,
        }
    }

    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        self.told.lock().unwrap().push((cx.connection_id(), policy));
    }
}

struct House {
    engine: Engine,
    hub: Hub,
    address: SocketAddr,
    publisher: Publisher,
}

impl House {
    fn new(slow_policy: SlowPolicy, limits: Limits) -> Self {
        let hub = Hub::default();
        let endpoint = EndpointOptions {
            slow_policy,
            resumable: true,
            resume_bytes_max: RESUME_BYTES_MAX,
            ..EndpointOptions::default()
        };
        let engine = Engine::builder()
            .shards(1)
            .listen("127.0.0.1:0")
            .hub("hub", HubOptions { endpoint }, hub.clone())
            .limits(limits)
            .start()
            .unwrap();
        let (address, publisher) = (engine.local_addrs()[0], engine.publisher());
        Self { engine, hub, address, publisher }
    }

    fn total(&self) -> ShardMetrics {
        self.engine.metrics().total()
    }

    /// Calls `target(n, text)` of everybody, and waits until the shard has done so.
    fn say(&self, target: &str, n: i64, text: &str) {
        let before = self.total().publishes_total;
        let arguments = [Value::Int(n), Value::Str(text.to_owned())];
        self.publisher.all("hub").send(target, &Payload::Values(&arguments)).unwrap();
        wait_until("a publish", || self.total().publishes_total > before);
    }
}

fn heard(target: &str, n: i64, text: &str) -> String {
    format!("{{\"type\":1,\"target\":\"{target}\",\"arguments\":[{n},\"{text}\"]}}")
}

/// What has gone into the window has its number and comes again; what waits behind it is conflated, and has none yet.
#[test]
fn a_session_that_may_resume_loses_only_what_was_not_sent() {
    let house = House::new(SlowPolicy::KeepLatest, Limits::default());
    let path = format!("/hub?id={}", negotiate(house.address));
    let mut client = Client::upgraded(house.address, &path);
    client.send(&["{\"protocol\":\"json\",\"version\":2}", "{\"type\":6}"]);
    assert_eq!(client.next(), "{}");
    wait_until("the ping", || house.total().messages_received_total > 0);
    (1..=30).for_each(|n| house.say("tick", n, ""));
    house.say("other", 31, "");
    // Nothing is acknowledged: sending stops with the message that goes over the window's bound.
    let message_bytes = heard("tick", 1, "").len() + "\u{1e}".len() + 2;
    let sent = (RESUME_BYTES_MAX / message_bytes + 1) as i64;
    (1..=sent).for_each(|n| client.hears(&[&heard("tick", n, "")]));
    let conflated = |count: i64| wait_until("losses", || house.total().conflated_total as i64 == count);
    conflated(30 - sent - 1);
    drop(client);
    wait_until("the loss of the socket", || house.total().sockets_open == 0);
    house.say("tick", 32, "");
    conflated(30 - sent);
    let mut client = Client::upgraded(house.address, &path);
    client.hears(&["{\"type\":9,\"sequenceId\":1}"]);
    client.send(&["{\"type\":9,\"sequenceId\":1}"]);
    (1..=sent).for_each(|n| client.hears(&[&heard("tick", n, "")]));
    client.send(&[&format!("{{\"type\":8,\"sequenceId\":{sent}}}")]);
    client.hears(&[&heard("other", 31, ""), &heard("tick", 32, "")]);
    assert_eq!(house.hub.told.lock().unwrap().len(), 1);
}

/// A reader that stalls loses the oldest calls and none of its answers, hears the newest, and is not closed.
#[test]
fn a_reader_that_stalls_loses_calls_and_no_answers() {
    let limits = Limits { outbox_bytes_max: 256 << 10, outbox_soft_bytes: 1 << 20, ..Limits::default() };
    let house = House::new(SlowPolicy::DropOldest, limits);
    let mut client = Client::connect(house.address);
    let id = client.id();
    let text = "x".repeat(60_000);
    let mut said = 0;
    // Until the kernel's buffers and the outbox are full.
    while house.total().dropped_oldest_total < 5 {
        said += 1;
        house.say("tick", said, &text);
        assert!(said < 2_000, "nothing is ever dropped");
        if said % 10 == 0 {
            client.send(&[&call(&said.to_string(), "Echo", "1")]);
        }
    }
    client.send(&[&call("last", "Echo", "2")]);
    let (mut calls, mut answers, mut last) = (0, 0, 0);
    loop {
        let message = client.next();
        if message == result("last", "2") {
            break;
        }
        if message.starts_with("{\"type\":3") {
            answers += 1;
            continue;
        }
        let n: i64 = message.split(['[', ',']).nth(3).unwrap().parse().unwrap();
        assert!(n > last && message == heard("tick", n, &text));
        (calls, last) = (calls + 1, n);
    }
    let total = house.total();
    assert_eq!((last, answers), (said, said / 10));
    assert_eq!(calls + total.dropped_oldest_total as i64, said);
    assert_eq!((total.dropped_slow_total, total.lossy_connections_total), (0, 1));
    assert_eq!(*house.hub.told.lock().unwrap(), [(id, SlowPolicy::DropOldest)]);
}
