//! Stateful reconnect over real sockets, where the two directions wait for each other. The simulation plays the rest.

mod hub_support;

use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, HubHandler, HubOptions, Invocation, Limits, Payload, ReplyHandle, Value,
};
use hub_support::{Client, call, negotiate, result};
use std::time::{Duration, Instant};

struct Hub;

/// What is left of one `Flood`: each call waits until the one before has left this process.
struct Flood {
    left: i64,
    reply: ReplyHandle,
}

impl Flood {
    fn go_on(mut self, cx: &mut Context<'_>) {
        if self.left == 0 {
            return cx.reply(self.reply, &Answer::Void);
        }
        self.left -= 1;
        let arguments = [Value::Str("x".repeat(100))];
        cx.caller().send("Flood", &Payload::Values(&arguments)).unwrap();
        cx.when_drained(move |cx| self.go_on(cx));
    }
}

impl HubHandler for Hub {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        match call.target() {
            "Echo" => call.arg(0).map_or(Answer::Unknown, Answer::echo),
            "Flood" => {
                let left = call.arg(0).unwrap().as_i64().unwrap();
                Flood { left, reply: cx.defer() }.go_on(cx);
                Answer::Later
            }
            _ => Answer::Unknown,
        }
    }
}

fn resumable(limits: Limits) -> Engine {
    let endpoint = EndpointOptions { resumable: true, resume_bytes_max: 300, ..EndpointOptions::default() };
    let engine = Engine::builder().shards(1).listen("127.0.0.1:0").hub("hub", HubOptions { endpoint }, Hub);
    engine.limits(limits).start().unwrap()
}

fn client(engine: &Engine) -> Client {
    let address = engine.local_addrs()[0];
    let mut client = Client::upgraded(address, &format!("/hub?id={}", negotiate(address)));
    client.send(&["{\"protocol\":\"json\",\"version\":2}", "{\"type\":6}"]);
    assert_eq!(client.next(), "{}");
    client
}

/// Line 146: a client may not count yet what comes on the heels of the answer to its handshake. Until it has said
/// something, or for a moment that is the same whenever it comes, it is not called.
#[test]
fn calls_keep_their_distance_from_the_answer_to_the_handshake() {
    let engine = resumable(Limits::default());
    let (address, publisher) = (engine.local_addrs()[0], engine.publisher());
    // At all times of the second in which the server looks after its connections.
    let callee = &|n: u64| {
        std::thread::sleep(Duration::from_millis(100 * n));
        let mut client = Client::upgraded(address, &format!("/hub?id={}", negotiate(address)));
        let asked = Instant::now();
        client.send(&["{\"protocol\":\"json\",\"version\":2}"]);
        assert_eq!(client.next(), "{}");
        publisher.all("hub").send("tick", &Payload::Values(&[])).unwrap();
        assert!(client.next().contains("tick"));
        asked.elapsed()
    };
    std::thread::scope(|scope| {
        let callees: Vec<_> = (0..12).map(|n| scope.spawn(move || callee(n))).collect();
        for distance in callees.into_iter().map(|callee| callee.join().unwrap()) {
            // Times are counted in tenths of a second.
            assert!(distance >= Duration::from_millis(190), "called {distance:?} after it asked");
        }
    });
}

/// The window is full, and what would empty it lies behind calls that are not read while the first one waits for it.
#[test]
fn calls_ahead_of_acknowledgements_do_not_hold_up_what_waits_for_these() {
    const FLOOD: u64 = 40;
    const ECHOS: u64 = 30;
    let engine = resumable(Limits { held_bytes_max: 1_000, ..Limits::default() });
    let mut client = client(&engine);
    client.send(&[&call("flood", "Flood", &FLOOD.to_string())]);
    let long = format!("\"{}\"", "y".repeat(200));
    for n in 0..ECHOS {
        client.send(&[&call(&n.to_string(), "Echo", &long)]);
    }
    let mut heard = 0;
    let mut next = |client: &mut Client| loop {
        let message = client.next();
        if message.starts_with("{\"type\":8") {
            continue;
        }
        heard += 1;
        client.send(&[&format!("{{\"type\":8,\"sequenceId\":{heard}}}")]);
        return message;
    };
    for _ in 0..FLOOD {
        let message = next(&mut client);
        assert!(message.contains("\"target\":\"Flood\""), "{message}");
    }
    assert_eq!(next(&mut client), "{\"type\":3,\"invocationId\":\"flood\",\"result\":null}");
    for n in 0..ECHOS {
        assert_eq!(next(&mut client), result(&n.to_string(), &long));
    }
}

/// Where widening the window does not help either, the connection ends, instead of waiting for ever.
#[test]
fn two_directions_that_wait_for_each_other_end() {
    let limits =
        Limits { held_bytes_max: 1_000, outbox_bytes_max: 2_000, outbox_soft_bytes: 1_000, ..Limits::default() };
    let engine = resumable(limits);
    let mut client = client(&engine);
    client.send(&[&call("flood", "Flood", "1000")]);
    let long = format!("\"{}\"", "y".repeat(200));
    for n in 0..30 {
        client.send(&[&call(&n.to_string(), "Echo", &long)]);
    }
    while client.next_or_end().is_some() {}
    let metrics = engine.metrics();
    assert_eq!(metrics.total().closed_total[fanfare_engine::CloseReason::SlowClient as usize], 1);
}
