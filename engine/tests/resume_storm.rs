//! A thousand clients that may resume, each cut ten times at random bytes in either direction, while everybody is called
//! all the time: nobody misses a call, and no call comes twice, in either direction.

mod hub_support;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/resumption.rs"]
mod resumption;

use fanfare_engine::{
    Answer, Context, EndpointOptions, Engine, Format, HubHandler, HubOptions, Invocation, Payload, Value,
};
use fanfare_protocol::hub::decode_one;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;
use hub_support::{Client, negotiate};
use resumption::{Counted, Resumption};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLIENTS: usize = 1_000;
const CUTS: u32 = 10;
/// Bytes between two cuts.
const BYTES_BETWEEN_CUTS: u64 = 12_000;
/// Calls that a client hears before it calls itself, and before it acknowledges.
const HEARD_PER_CALL: i64 = 16;
const HEARD_PER_ACK: i64 = 8;
const THREADS: usize = 8;
/// The whole test.
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls of each connection, which number them.
#[derive(Clone, Default)]
struct Hub {
    called: Arc<Mutex<HashMap<String, i64>>>,
    out_of_order: Arc<AtomicU32>,
}

impl HubHandler for Hub {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        if call.target() != "Count" {
            return Answer::Unknown;
        }
        let n = call.arg(0).unwrap().as_i64().unwrap();
        let mut called = self.called.lock().unwrap();
        let last = called.entry(cx.connection_id()).or_default();
        self.out_of_order.fetch_add(u32::from(n != *last + 1), Ordering::Relaxed);
        *last = n;
        Answer::Value(Value::Int(n))
    }
}

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

struct Caller {
    address: SocketAddr,
    path: String,
    dice: Dice,
    resumption: Resumption,
    stream: TcpStream,
    decoder: Decoder,
    pending: Vec<u8>,
    /// Bytes to read before the next cut.
    budget: u64,
    /// The last call heard.
    heard: i64,
    called: i64,
    answered: i64,
    faults: Vec<String>,
}

impl Caller {
    fn new(address: SocketAddr, seed: u64) -> Self {
        let mut resumption = Resumption::new(Format::Json);
        let token = negotiate(address);
        resumption.negotiated(&format!("{{\"useStatefulReconnect\":true,\"connectionToken\":\"{token}\"}}"));
        let path = format!("/hub?id={token}");
        let mut client = Client::upgraded(address, &path);
        client.send(&["{\"protocol\":\"json\",\"version\":2}"]);
        assert_eq!(client.next(), "{}");
        client.send(&["{\"type\":6}"]);
        let mut dice = Dice(seed);
        let budget = 1 + dice.below(BYTES_BETWEEN_CUTS);
        let stream = client.into_stream();
        stream.set_nonblocking(true).unwrap();
        let decoder = Decoder::new(Role::Client);
        let pending = Vec::new();
        let faults = Vec::new();
        Self {
            address,
            path,
            dice,
            resumption,
            stream,
            decoder,
            pending,
            budget,
            heard: 0,
            called: 0,
            answered: 0,
            faults,
        }
    }

    /// Sends messages in one frame; `whole`: or a part of it.
    fn send(&mut self, messages: &[u8], whole: bool) {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, messages, [7, 1, 5, 9]);
        let len = if whole { frame.len() } else { self.dice.below(frame.len() as u64) as usize };
        // A socket that cannot take so little is one that was cut at the other end: the replay makes up for it.
        let _ = self.stream.write_all(&frame[..len]);
    }

    fn call(&mut self, whole: bool) {
        self.called += 1;
        let n = self.called;
        let message = format!("{{\"type\":1,\"invocationId\":\"{n}\",\"target\":\"Count\",\"arguments\":[{n}]}}\u{1e}")
            .into_bytes();
        self.resumption.say(&message);
        self.send(&message, whole);
    }

    /// The socket goes, in half of the cases in the middle of what we are saying; another one comes.
    fn cut(&mut self) {
        if self.dice.below(2) == 0 {
            self.call(false);
        }
        self.resumption.lose();
        let stream = Client::upgraded(self.address, &self.path).into_stream();
        stream.set_nonblocking(true).unwrap();
        self.stream = stream;
        self.decoder = Decoder::new(Role::Client);
        self.pending.clear();
        self.budget = if self.resumption.losses < CUTS { 1 + self.dice.below(BYTES_BETWEEN_CUTS) } else { u64::MAX };
        let replay = self.resumption.replay().concat();
        self.send(&replay, true);
    }

    /// Reads what is there.
    fn turn(&mut self) {
        let mut bytes = [0; 8192];
        let room = bytes.len().min(usize::try_from(self.budget).unwrap_or(usize::MAX));
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => self.faults.push(format!("ended after {} cuts", self.resumption.losses)),
            Ok(n) => {
                self.budget -= n as u64;
                self.take(&mut bytes[..n]);
                if self.budget == 0 {
                    self.cut();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.faults.push(error.to_string()),
        }
    }

    fn take(&mut self, bytes: &mut [u8]) {
        for event in self.decoder.handle_bytes(bytes) {
            match event.unwrap() {
                Event::Data { payload, .. } => self.pending.extend_from_slice(payload),
                event => self.faults.push(format!("{event:?}")),
            }
        }
        while let Some(end) = self.pending.iter().position(|&byte| byte == 0x1e) {
            let message: Vec<u8> = self.pending.drain(..=end).collect();
            self.hear(&message);
        }
    }

    fn hear(&mut self, raw: &[u8]) {
        let message = decode_one(Format::Json, raw).unwrap();
        if self.resumption.hear(&message) == Counted::Done {
            return;
        }
        match message {
            Message::Invocation { .. } => {
                let text = std::str::from_utf8(raw).unwrap();
                let n: i64 = text.split(['[', ',']).nth(3).unwrap().parse().unwrap();
                if n != self.heard + 1 {
                    self.faults.push(format!("call {n} after {}", self.heard));
                }
                self.heard = n;
                if n % HEARD_PER_CALL == 0 {
                    self.call(true);
                }
                if n % HEARD_PER_ACK == 0
                    && let Some(ack) = self.resumption.acknowledge()
                {
                    self.send(&ack, true);
                }
            }
            Message::Completion { invocation_id, .. } => {
                if invocation_id != (self.answered + 1).to_string() {
                    self.faults.push(format!("answer {invocation_id} after {}", self.answered));
                }
                self.answered += 1;
            }
            Message::Ping => {}
            message => self.faults.push(format!("{message:?}")),
        }
    }

    fn is_done(&self, calls: i64) -> bool {
        !self.faults.is_empty() || self.heard == calls && self.answered == self.called
    }
}

/// Everybody is called until each has been cut as often as it should.
fn call_everybody(engine: &Engine, all_cut: &AtomicBool) -> i64 {
    let publisher = engine.publisher();
    let until = Instant::now() + PATIENCE / 2;
    let mut calls = 0;
    while !all_cut.load(Ordering::Relaxed) && Instant::now() < until {
        calls += 1;
        let arguments = [Value::Int(calls), Value::Str("x".repeat((calls % 200) as usize))];
        publisher.all("hub").send("tick", &Payload::Values(&arguments)).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    calls
}

#[test]
fn a_thousand_clients_cut_ten_times_each_miss_nothing_and_hear_nothing_twice() {
    let hub = Hub::default();
    let endpoint = EndpointOptions { resumable: true, ..EndpointOptions::default() };
    let engine = Engine::builder().shards(2).listen("127.0.0.1:0").hub("hub", HubOptions { endpoint }, hub.clone());
    let engine = engine.start().unwrap();
    let address = engine.local_addrs()[0];
    let seed: u64 = std::env::var("FANFARE_STORM_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("FANFARE_STORM_SEED={seed}");

    let (all_here, all_cut, calls) = (AtomicU32::new(0), AtomicBool::new(false), Mutex::new(None));
    let still_to_cut = AtomicU32::new(CLIENTS as u32);
    let faults = Mutex::new(Vec::new());
    let resumed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (all_here, all_cut, calls) = (&all_here, &all_cut, &calls);
            let (still_to_cut, faults, resumed) = (&still_to_cut, &faults, &resumed);
            scope.spawn(move || {
                let mine = (thread..CLIENTS).step_by(THREADS);
                let mut callers: Vec<_> = mine.map(|n| Caller::new(address, seed << 32 | n as u64)).collect();
                all_here.fetch_add(callers.len() as u32, Ordering::Relaxed);
                let mut cutting = callers.len() as u32;
                let until = Instant::now() + PATIENCE;
                loop {
                    let last: Option<i64> = *calls.lock().unwrap();
                    callers.iter_mut().filter(|caller| caller.faults.is_empty()).for_each(Caller::turn);
                    let now = callers.iter().filter(|caller| caller.resumption.losses < CUTS).count() as u32;
                    if still_to_cut.fetch_sub(cutting - now, Ordering::Relaxed) == cutting - now {
                        all_cut.store(true, Ordering::Relaxed);
                    }
                    cutting = now;
                    let done = last.is_some_and(|last| callers.iter().all(|caller| caller.is_done(last)));
                    if done || Instant::now() > until {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                let last = calls.lock().unwrap().unwrap_or(-1);
                for (n, caller) in callers.iter().enumerate() {
                    resumed.fetch_add(caller.resumption.losses, Ordering::Relaxed);
                    if !caller.faults.is_empty() || !caller.is_done(last) {
                        let Caller { heard, called, answered, faults: why, .. } = caller;
                        let losses = caller.resumption.losses;
                        // Those that lag behind are the cause; the others were given up while these were waited for.
                        let lags = losses < CUTS || *heard < last || answered < called;
                        let text = format!(
                            "{n} of {thread}, cut {losses} times: heard {heard} of {last}, {answered} of {called}: {why:?}"
                        );
                        faults.lock().unwrap().push((!lags, text));
                    }
                }
            });
        }
        hub_support::wait_until("everybody", || all_here.load(Ordering::Relaxed) as usize == CLIENTS);
        let last = call_everybody(&engine, &all_cut);
        *calls.lock().unwrap() = Some(last);
    });
    let mut faults = faults.into_inner().unwrap();
    faults.sort();
    assert!(faults.is_empty(), "{} of {CLIENTS}, among them {:#?}", faults.len(), &faults[..faults.len().min(5)]);
    assert_eq!(resumed.load(Ordering::Relaxed), CLIENTS as u32 * CUTS);
    assert_eq!(engine.metrics().total().resumed_total, (CLIENTS as u64) * u64::from(CUTS));
    assert_eq!(hub.out_of_order.load(Ordering::Relaxed), 0, "calls of clients were lost or ran twice");
}
