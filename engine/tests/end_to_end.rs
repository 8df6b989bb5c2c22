//! The engine over real sockets: one test per promise, with a client made of std's TcpStream and this project's own
//! protocol crate. The stock clients judge elsewhere.

use fanfare_engine::{
    Answer, Context, Engine, HandlerError, HubHandler, HubOptions, Invocation, Limits, Payload, Value,
};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Three times what a client may owe by default (`Limits::outbox_bytes_max`), said in one turn.
const BURST_MESSAGES: usize = 30;
const BURST_MESSAGE_BYTES: usize = 100_000;

struct Relay;

impl HubHandler for Relay {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        relay(cx, call).into()
    }
}

fn relay(cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
    let publish = |error: fanfare_engine::PublishError| HandlerError::Hub(error.to_string());
    match call.target() {
        "Echo" => {
            call.expect(1)?;
            Ok(Answer::echo(call.arg(0)?))
        }
        "Broadcast" => {
            cx.all().send("m", &Payload::Raw(call.arguments())).map_err(publish)?;
            Ok(Answer::Void)
        }
        "Burst" => {
            for _ in 0..BURST_MESSAGES {
                let large = [Value::from("x".repeat(BURST_MESSAGE_BYTES).as_str())];
                cx.all().send("m", &Payload::Values(&large)).map_err(publish)?;
            }
            Ok(Answer::Void)
        }
        "Id" => Ok(Answer::Value(Value::from(cx.connection_id()))),
        "Except" => {
            let ids: Vec<_> = call.arg(0)?.array()?.map(|id| id.as_str()).collect::<Result<_, _>>()?;
            let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
            cx.all_except(&ids).send("m", &Payload::Values(&[])).map_err(publish)?;
            Ok(Answer::Void)
        }
        "OnTheSpot" => {
            let reply = cx.defer();
            cx.reply(reply, &Answer::Value(Value::from("now")));
            Ok(Answer::Later)
        }
        "Later" => {
            let reply = cx.defer();
            std::thread::spawn(move || reply.reply(Answer::Value(Value::from("later"))));
            Ok(Answer::Later)
        }
        _ => Ok(Answer::Unknown),
    }
}

struct Client {
    stream: TcpStream,
    decoder: Decoder,
    pending: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let mut client = Self { stream, decoder: Decoder::new(Role::Client), pending: String::new() };
        client.send("{\"protocol\":\"json\",\"version\":1}\u{1e}");
        assert_eq!(client.next(), "{}");
        client
    }

    fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.stream.write_all(&frame).unwrap();
    }

    /// The next hub message, without its separator.
    fn next(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.pending.split_once('\u{1e}') {
                let message = message.to_owned();
                self.pending = rest.to_owned();
                return message;
            }
            let mut bytes = [0; 4096];
            let n = self.stream.read(&mut bytes).unwrap();
            let tail = self.pending.get(self.pending.len().saturating_sub(200)..);
            assert_ne!(n, 0, "the server has closed; pending: {tail:?}");
            for event in self.decoder.handle_bytes(&mut bytes[..n]) {
                if let Event::Data { payload, .. } = event.unwrap() {
                    self.pending.push_str(std::str::from_utf8(payload).unwrap());
                }
            }
        }
    }
}

impl Client {
    /// Calls a method with arguments as JSON; everything that comes up to its answer.
    fn call(&mut self, method: &str, arguments: &str) -> Vec<String> {
        self.send(&format!(
            "{{\"type\":1,\"invocationId\":\"c\",\"target\":\"{method}\",\"arguments\":[{arguments}]}}\u{1e}"
        ));
        let mut told = vec![self.next()];
        while !told.last().unwrap().starts_with("{\"type\":3,") {
            told.push(self.next());
        }
        told
    }

    fn id(&mut self) -> String {
        let answer = self.call("Id", "").pop().unwrap();
        answer.split('"').rev().nth(1).unwrap().to_owned()
    }
}

fn engine(shards: usize) -> Engine {
    Engine::builder()
        .shards(shards)
        .listen("127.0.0.1:0")
        .hub("hub", HubOptions::default(), Relay)
        .limits(Limits { connections_max: 400, log_bytes_max: 16 << 20, ..Limits::default() })
        .start()
        .unwrap()
}

#[test]
fn an_invocation_is_answered() {
    let engine = engine(1);
    let mut client = Client::connect(engine.local_addrs()[0]);
    client.send("{\"type\":1,\"invocationId\":\"7\",\"target\":\"Echo\",\"arguments\":[\"h\u{e9}\"]}\u{1e}");
    assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"7\",\"result\":\"h\u{e9}\"}");
    client.send("{\"type\":1,\"invocationId\":\"8\",\"target\":\"Later\",\"arguments\":[]}\u{1e}{\"type\":1,\"invocationId\":\"9\",\"target\":\"Echo\",\"arguments\":[1]}\u{1e}");
    assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"8\",\"result\":\"later\"}");
    assert_eq!(client.next(), "{\"type\":3,\"invocationId\":\"9\",\"result\":1}");
}

#[test]
fn a_broadcast_reaches_members_on_every_shard_in_order() {
    let engine = engine(3);
    let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    for n in 0..50 {
        clients[0].send(&format!("{{\"type\":1,\"target\":\"Broadcast\",\"arguments\":[{n}]}}\u{1e}"));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        for n in 0..50 {
            let expected = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[{n}]}}");
            assert_eq!(client.next(), expected, "client {index}");
        }
    }
    let shards = engine.metrics().shards;
    assert!(shards.iter().all(|shard| shard.connections_open > 0), "the kernel spreads connections over shards");
    let total = engine.metrics().total();
    assert_eq!((total.deliveries_total, total.encodings_total), (3000, 50));
}

/// The slots of excluded connections must ascend, whatever their tenancies: references ascend by tenancy first.
#[test]
fn exclusions_hold_whatever_the_age_of_a_slot() {
    for shards in [1, 3] {
        let engine = engine(shards);
        let address = engine.local_addrs()[0];
        let early: Vec<Client> = (0..12).map(|_| Client::connect(address)).collect();
        // These take slots that were used before, those after them fresh ones: low slots of a late tenancy.
        drop(early.into_iter().step_by(2).collect::<Vec<_>>());
        let gone = std::time::Instant::now() + Duration::from_secs(5);
        while engine.metrics().total().sockets_open > 0 && std::time::Instant::now() < gone {
            std::thread::yield_now();
        }
        let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(address)).collect();
        let ids: Vec<String> = clients.iter_mut().map(Client::id).collect();
        for excluded in 1..clients.len() {
            let listed = ids[1..=excluded].iter().rev().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
            clients[0].send(&format!("{{\"type\":1,\"target\":\"Except\",\"arguments\":[[{listed}]]}}\u{1e}"));
            assert_eq!(clients[0].next(), "{\"type\":1,\"target\":\"m\",\"arguments\":[]}");
            for (index, client) in clients.iter_mut().enumerate().skip(1) {
                // A shard takes what others tell it after what its own clients say: the second answer is behind it.
                let told = [client.call("Echo", "1"), client.call("Echo", "2")].concat();
                let reached = told.iter().any(|message| message.contains("\"m\""));
                assert_eq!(reached, index > excluded, "client {index}, {excluded} excluded: {told:?}");
            }
        }
    }
}

/// Our last words reach a peer that goes on sending: no reset overtakes them.
#[test]
fn last_words_arrive_however_much_is_sent_after_the_offence() {
    let engine = engine(1);
    let read_all = |stream: &mut TcpStream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an end, not a reset");
        bytes
    };
    for _ in 0..20 {
        let mut client = Client::connect(engine.local_addrs()[0]);
        // A frame without a mask, and much behind it.
        client.stream.write_all(&[0x01; 200_000]).unwrap();
        assert_eq!(read_all(&mut client.stream), [0x88, 2, 0x03, 0xEA]);
        let mut stream = TcpStream::connect(engine.local_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").unwrap();
        stream.write_all(&[b'x'; 200_000]).unwrap();
        let answer = String::from_utf8(read_all(&mut stream)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let patience = std::time::Instant::now() + Duration::from_secs(5);
    while engine.metrics().total().sockets_open > 0 {
        assert!(std::time::Instant::now() < patience, "connections whose peers have gone are closed");
        std::thread::yield_now();
    }
}

/// What is said in one turn has not been offered to the kernel yet: nobody is slow for it.
#[test]
fn a_burst_over_the_outbox_drops_nobody_who_reads() {
    assert!(BURST_MESSAGES * BURST_MESSAGE_BYTES > 2 * Limits::default().outbox_bytes_max);
    let engine = engine(1);
    let mut speaker = Client::connect(engine.local_addrs()[0]);
    let mut listener = Client::connect(engine.local_addrs()[0]);
    let expected = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}", "x".repeat(BURST_MESSAGE_BYTES));
    let told = speaker.call("Burst", "");
    assert_eq!(told.len(), BURST_MESSAGES + 1);
    assert!(told[..BURST_MESSAGES].iter().all(|message| *message == expected));
    assert!((0..BURST_MESSAGES).all(|_| listener.next() == expected));
    assert_eq!(engine.metrics().total().dropped_slow_total, 0);
}

#[test]
fn a_publisher_speaks_from_any_thread() {
    let engine = engine(2);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    let publisher = engine.publisher();
    std::thread::spawn(move || {
        for n in 0..100 {
            publisher.all("hub").send("tick", &Payload::Values(&[Value::from(n)])).unwrap();
        }
    })
    .join()
    .unwrap();
    for client in &mut clients {
        for n in 0..100 {
            assert_eq!(client.next(), format!("{{\"type\":1,\"target\":\"tick\",\"arguments\":[{n}]}}"));
        }
    }
}

#[test]
fn a_message_of_many_segments_arrives_whole() {
    let engine = engine(2);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    let text = "0123456789abcdef".repeat(100_000);
    engine.publisher().all("hub").send("big", &Payload::Values(&[Value::from(text.as_str())])).unwrap();
    for client in &mut clients {
        assert_eq!(client.next(), format!("{{\"type\":1,\"target\":\"big\",\"arguments\":[\"{text}\"]}}"));
    }
}

#[test]
fn a_drain_says_goodbye_and_ends() {
    let mut engine = engine(2);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    let reader = std::thread::spawn(move || {
        for client in &mut clients {
            assert_eq!(client.next(), "{\"type\":7,\"allowReconnect\":true}");
        }
    });
    engine.drain(Duration::from_secs(8));
    reader.join().unwrap();
    let total = engine.metrics().total();
    assert_eq!((total.sockets_open, total.connections_open), (0, 0));
}

#[test]
fn two_engines_do_not_know_of_each_other() {
    let (one, two) = (engine(1), engine(1));
    let (mut a, mut b) = (Client::connect(one.local_addrs()[0]), Client::connect(two.local_addrs()[0]));
    one.publisher().all("hub").send("from", &Payload::Values(&[Value::from(1)])).unwrap();
    two.publisher().all("hub").send("from", &Payload::Values(&[Value::from(2)])).unwrap();
    assert_eq!(a.next(), "{\"type\":1,\"target\":\"from\",\"arguments\":[1]}");
    assert_eq!(b.next(), "{\"type\":1,\"target\":\"from\",\"arguments\":[2]}");
}

#[test]
fn a_taken_port_is_an_error_with_a_remedy() {
    let one = engine(1);
    let error = Engine::builder().shards(1).listen(one.local_addrs()[0]).start().unwrap_err().to_string();
    assert!(error.contains("FF2011") && error.contains("another program listens"), "{error}");
}

/// One plain request; the whole answer.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// As with ASP.NET Core's routes.
#[test]
fn a_slash_behind_a_path_changes_nothing() {
    let engine = engine(1);
    let address = engine.local_addrs()[0];
    for request in ["POST /hub/negotiate", "POST /hub//negotiate", "POST /hub/negotiate/"] {
        assert!(ask(address, request).starts_with("HTTP/1.1 200 "), "{request}");
    }
    for request in ["GET /hub", "GET /hub/", "GET /hub/?x=1"] {
        let answer = ask(address, request);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection ID required"),
            "{request}: {answer}"
        );
    }
    for request in ["GET /", "GET //", "GET /hub//", "GET /hubs/"] {
        assert!(ask(address, request).starts_with("HTTP/1.1 404 "), "{request}");
    }
}

#[test]
fn an_answer_on_the_spot_lets_the_next_invocation_run() {
    let engine = engine(1);
    let mut client = Client::connect(engine.local_addrs()[0]);
    for _ in 0..3 {
        assert_eq!(client.call("OnTheSpot", ""), ["{\"type\":3,\"invocationId\":\"c\",\"result\":\"now\"}"]);
    }
}

#[test]
fn whoever_finds_no_room_is_told_so() {
    for shards in [1, 2] {
        let limits = Limits { connections_max: 3, ..Limits::default() };
        let builder = Engine::builder().shards(shards).listen("127.0.0.1:0").hub("hub", HubOptions::default(), Relay);
        let engine = builder.limits(limits).start().unwrap();
        let address = engine.local_addrs()[0];
        let held: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
        for _ in 0..20 {
            let answer = ask(address, "POST /hub/negotiate?negotiateVersion=1");
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
        }
        let refused = engine.metrics().total().refused().find(|(reason, _)| *reason == "full").unwrap().1;
        assert_eq!(refused, 20);
        drop(held);
    }
}

#[test]
fn whoever_comes_during_a_drain_is_told_to_go_elsewhere() {
    let mut engine = engine(1);
    let address = engine.local_addrs()[0];
    // It does not answer our Close, so the drain goes on until its time is over.
    let silent = Client::connect(address);
    let handle = engine.handle();
    handle.begin_drain(Duration::from_millis(1500));
    while !handle.is_draining() {
        std::thread::yield_now();
    }
    for _ in 0..5 {
        let answer = ask(address, "POST /hub/negotiate?negotiateVersion=1");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    // A request that stays open holds nothing up.
    let _idle = TcpStream::connect(address).unwrap();
    engine.drain(Duration::from_millis(1500));
    drop(silent);
}

#[test]
fn head_has_no_body() {
    let engine = engine(1);
    let answer = ask(engine.local_addrs()[0], "HEAD /nothing");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 404 ") && !head.contains("Content-Length: 0"), "{head}");
    assert_eq!(body, "");
}

#[test]
fn an_address_named_twice_is_an_error() {
    let error = Engine::builder().listen("127.0.0.1:19").listen("127.0.0.1:19").start().unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:19") && error.contains("twice"), "{error}");
}

#[test]
fn what_is_too_large_to_publish_is_refused_where_it_is_published() {
    let engine = engine(1);
    let text = "x".repeat(17 << 20);
    let error = engine.publisher().all("hub").send("m", &Payload::Values(&[Value::from(text.as_str())])).unwrap_err();
    assert!(matches!(error, fanfare_engine::PublishError::TooLarge { bytes_max: 16_777_216, .. }), "{error}");
}

/// The way a crowd comes back: all upgrade before anybody has shaken hands.
#[test]
fn room_is_counted_from_the_upgrade() {
    let limits = Limits { connections_max: 5, ..Limits::default() };
    let builder = Engine::builder().shards(2).listen("127.0.0.1:0").hub("hub", HubOptions::default(), Relay);
    let engine = builder.limits(limits).start().unwrap();
    let upgrade = "GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(engine.local_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(upgrade.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        answers.push(String::from_utf8(status.to_vec()).unwrap());
        streams.push(stream);
    }
    let let_in = answers.iter().filter(|answer| *answer == "HTTP/1.1 101").count();
    assert_eq!((let_in, answers.len() - let_in), (5, 15), "{answers:?}");
    assert!(answers[5..].iter().all(|answer| answer == "HTTP/1.1 503"), "{answers:?}");
}

/// A hundred kilobytes at a time, on shards that say other things in between: no stream is torn.
#[test]
fn messages_in_pieces_stay_whole_between_shards() {
    // The readers here are threads on few cores: none is to be given up.
    let limits = Limits { connections_max: 50, outbox_bytes_max: 64 << 20, ..Limits::default() };
    let builder = Engine::builder().shards(3).listen("127.0.0.1:0").hub("hub", HubOptions::default(), Relay);
    let engine = builder.limits(limits).start().unwrap();
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    let publishers: Vec<_> = (0..3).map(|_| engine.publisher()).collect();
    let text = "0123456789abcdef".repeat(100_000 / 16);
    let speaking = std::thread::spawn(move || {
        for n in 0..60 {
            let large = [Value::from(text.as_str())];
            let payload = Payload::Values(&large);
            let small = [Value::from(n)];
            for publisher in &publishers {
                while let Err(error) = publisher.all("hub").send("m", &payload) {
                    assert!(matches!(error, fanfare_engine::PublishError::Full), "{error}");
                    std::thread::yield_now();
                }
                let _ = publisher.all("hub").send("n", &Payload::Values(&small));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let reading: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut large = 0;
                while large < 180 {
                    // `next` fails on a torn frame, and so does what is not JSON of the expected shape.
                    let message = client.next();
                    let whole = message.starts_with("{\"type\":") && message.ends_with('}');
                    assert!(whole, "{}", &message[..message.len().min(200)]);
                    large += usize::from(message.len() > 100_000 && message.contains("\"m\""));
                }
            })
        })
        .collect();
    speaking.join().unwrap();
    reading.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(engine.metrics().total().publishes_failed_total, 0);
}

#[test]
fn a_method_without_a_name_is_refused() {
    let engine = engine(1);
    let error = engine.publisher().all("hub").send("", &Payload::Values(&[])).unwrap_err();
    assert!(matches!(error, fanfare_engine::PublishError::EmptyTarget), "{error}");
}

/// The end that a failed connection is given must never meet the next tenant of its slot.
#[test]
fn the_next_tenant_of_a_failed_connection_is_left_alone() {
    let engine = engine(1);
    let address = engine.local_addrs()[0];
    for round in 0..200 {
        let mut bad = Client::connect(address);
        bad.stream.write_all(&[0x01; 16]).unwrap();
        drop(bad);
        let mut next = Client::connect(address);
        for _ in 0..5 {
            assert_eq!(next.call("Echo", "1").len(), 1, "round {round}");
        }
    }
}
