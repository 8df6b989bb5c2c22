//! Streams both ways over real sockets: one test per line of the checklist (114, 118 to 124), and the bounds.

mod hub_support;

use fanfare_engine::{
    Answer, BindError, Context, EndpointOptions, Engine, HandlerError, HubHandler, HubOptions, Invocation, Limits,
    Payload, Raw, ReplyHandle, StreamEnd, StreamError, StreamHandle, StreamReader, UploadHandle, Uploaded, Value,
};
use hub_support::{Client, PATIENCE, call, call_with, cancel, end, failure, item, result, stream, wait_until};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What methods hand to their test.
enum Given {
    Reply(ReplyHandle),
    Stream(StreamHandle),
    Upload(UploadHandle),
    Cancelled(StreamEnd),
}

struct Hub(Mutex<Sender<Given>>);

impl HubHandler for Hub {
    fn streams_expected(&self, target: &str) -> Option<usize> {
        match target {
            "Concat" | "Sum" | "Told" | "Take" | "Mirror" | "HoldWith" => Some(1),
            "Two" => Some(2),
            "Unknown" => None,
            _ => Some(0),
        }
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        self.dispatch(cx, call).into()
    }
}

impl Hub {
    fn give(&self, given: Given) {
        self.0.lock().unwrap().send(given).unwrap();
    }

    fn dispatch(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match call.target() {
            "Echo" => return Ok(Answer::echo(call.arg(0)?)),
            "Hold" | "HoldWith" => self.give(Given::Reply(cx.defer())),
            "Count" => {
                let stream = cx.open_stream()?;
                count(cx, stream, 0, call.arg(0)?.as_i64()?);
            }
            "Feed" => self.give(Given::Stream(cx.open_stream()?)),
            // The same stream from a thread's side and from the shard's, by turns.
            "Mixed" => {
                let stream = cx.open_stream()?;
                for n in 0..4 {
                    stream.send(&Value::Int(2 * n)).unwrap();
                    cx.send_item(&stream, &Value::Int(2 * n + 1)).unwrap();
                }
                cx.end_stream(stream);
            }
            "Forever" => {
                let stream = cx.open_stream()?;
                let (kept, told) = (stream.clone(), self.0.lock().unwrap().clone());
                cx.on_cancel(&stream, move |cx, end| {
                    drop(kept);
                    let _ = cx.caller().send("StreamCanceled", &Payload::Values(&[]));
                    told.send(Given::Cancelled(end)).unwrap();
                });
            }
            "Fails" => {
                let stream = cx.open_stream()?;
                cx.send_item(&stream, &Value::Int(0)).unwrap();
                let error = match &*call.arg(0)?.as_str()? {
                    "hub" => HandlerError::Hub("nope".into()),
                    _ => HandlerError::failed("InvalidOperationException", "boom"),
                };
                cx.fail_stream(stream, error);
            }
            "Refuses" => return Err(HandlerError::failed("InvalidOperationException", "boom")),
            "Unsayable" => {
                let stream = cx.open_stream()?;
                cx.send_item(&stream, &Value::Int(1)).unwrap();
                assert_eq!(cx.send_item(&stream, &Value::Float(f64::NAN)), Err(StreamError::Over));
            }
            "Concat" => {
                let reply = cx.defer();
                cx.fold_stream(0, String::new(), push, move |cx, text| answer(cx, reply, text))?;
            }
            "Sum" => {
                let reply = cx.defer();
                let add = |sum: &mut i64, item: Raw<'_>| item.as_i64().map(|item| *sum += item);
                cx.fold_stream(0, 0, add, move |cx, sum| answer(cx, reply, sum))?;
            }
            "Told" => {
                let reply = cx.defer();
                cx.fold_stream(0, String::new(), push, move |cx, text| {
                    let text = Value::from(text.unwrap_or_else(|error| error.to_string()));
                    cx.caller().send("Uploaded", &Payload::Values(&[text])).unwrap();
                    cx.reply(reply, &Answer::Void);
                })?;
            }
            "Two" => {
                let both = Arc::new(Mutex::new((vec![None, None], Some(cx.defer()))));
                for index in 0..2 {
                    let both = both.clone();
                    cx.fold_stream(index, String::new(), push, move |cx, text| {
                        let (texts, reply) = &mut *both.lock().unwrap();
                        texts[index] = text.ok();
                        if let [Some(first), Some(second)] = &texts[..]
                            && let Some(reply) = reply.take()
                        {
                            cx.reply(reply, &Answer::Value(Value::from(format!("{first}+{second}"))));
                        }
                    })?;
                }
            }
            "Mirror" => {
                let stream = cx.open_stream()?;
                cx.read_stream(0, Mirror(stream))?;
            }
            "Take" => {
                self.give(Given::Reply(cx.defer()));
                self.give(Given::Upload(cx.take_stream(0)?));
            }
            _ => return Ok(Answer::Unknown),
        }
        Ok(Answer::Later)
    }
}

fn push(text: &mut String, item: Raw<'_>) -> Result<(), BindError> {
    text.push_str(&item.as_str()?);
    Ok(())
}

fn answer<T: Into<Value>>(cx: &mut Context<'_>, reply: ReplyHandle, result: Result<T, HandlerError>) {
    cx.reply(reply, &result.map(Into::into).into());
}

fn count(cx: &mut Context<'_>, stream: StreamHandle, next: i64, until: i64) {
    if next == until {
        return cx.end_stream(stream);
    }
    if cx.send_item(&stream, &Value::Int(next)).is_ok() {
        cx.when_drained(move |cx| count(cx, stream, next + 1, until));
    }
}

struct Mirror(StreamHandle);

impl StreamReader for Mirror {
    fn item(&mut self, cx: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError> {
        let _ = cx.send_item(&self.0, item);
        Ok(())
    }

    fn end(self: Box<Self>, cx: &mut Context<'_>, how: Result<(), HandlerError>) {
        match how {
            Ok(()) => cx.end_stream(self.0),
            Err(error) => cx.fail_stream(self.0, error),
        }
    }
}

struct House {
    engine: Engine,
    given: Receiver<Given>,
}

impl House {
    fn new() -> Self {
        Self::with(EndpointOptions { detailed_errors: true, ..EndpointOptions::default() }, Limits::default())
    }

    fn with(endpoint: EndpointOptions, limits: Limits) -> Self {
        let (sender, given) = channel();
        let engine = Engine::builder()
            .shards(1)
            .listen("127.0.0.1:0")
            .hub("hub", HubOptions { endpoint }, Hub(Mutex::new(sender)))
            .limits(Limits { connections_max: 50, log_bytes_max: 16 << 20, ..limits })
            .start()
            .unwrap();
        Self { engine, given }
    }

    fn client(&self) -> Client {
        Client::connect(self.engine.local_addrs()[0])
    }

    fn reply(&self) -> ReplyHandle {
        match self.given.recv_timeout(PATIENCE) {
            Ok(Given::Reply(reply)) => reply,
            _ => panic!("no reply handle"),
        }
    }

    fn stream(&self) -> StreamHandle {
        match self.given.recv_timeout(PATIENCE) {
            Ok(Given::Stream(stream)) => stream,
            _ => panic!("no stream"),
        }
    }

    fn upload(&self) -> UploadHandle {
        match self.given.recv_timeout(PATIENCE) {
            Ok(Given::Upload(upload)) => upload,
            _ => panic!("no upload"),
        }
    }

    fn cancelled(&self) -> StreamEnd {
        match self.given.recv_timeout(PATIENCE) {
            Ok(Given::Cancelled(end)) => end,
            _ => panic!("nobody was told of a cancellation"),
        }
    }

    /// Nobody streams, nobody is owed an answer.
    fn is_empty(&self) {
        wait_until("streams of ended invocations are gone", || {
            let total = self.engine.metrics().total();
            (total.streams_open, total.upload_streams_open) == (0, 0)
        });
    }
}

const CANCELLED: &str = "{\"type\":1,\"target\":\"StreamCanceled\",\"arguments\":[]}";

// -- streams to clients -----------------------------------------------------------------------------------------------

#[test]
fn line_114_streams_do_not_block_invocations_and_control_messages_pass_a_running_one() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Forever", "")]);
    client.send(&[&call("1", "Hold", ""), &call("2", "Echo", "2")]);
    let reply = house.reply();
    // While 1 runs and 2 waits: a stream starts and ends, an upload is read, a stream is cancelled.
    client.send(&[&stream("3", "Count", "2")]);
    client.hears(&[&item("3", "0"), &item("3", "1"), &end("3")]);
    client.send(&[&call_with("4", "Concat", "", &["5"]), &item("5", "\"a\""), &end("5")]);
    client.hears(&[&result("4", "\"a\"")]);
    client.send(&[&cancel("0")]);
    client.hears(&[CANCELLED, &end("0")]);
    assert_eq!(house.cancelled(), StreamEnd::Cancelled);
    reply.reply(Answer::Value(Value::from(1)));
    client.hears(&[&result("1", "1"), &result("2", "2")]);
    house.is_empty();
}

#[test]
fn line_118_the_two_texts_for_the_wrong_kind_of_call() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[
        &call("0", "Count", "3"),
        &stream("1", "Echo", "3"),
        &stream("2", "Concat", ""),
        &stream("3", "No", ""),
    ]);
    client.hears(&[
        &failure("0", "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation."),
        &failure("1", "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation."),
        &failure(
            "2",
            "An unexpected error occurred invoking 'Concat' on the server. HubException: Client sent 0 stream(s), Hub \
             method expects 1.",
        ),
        &failure("3", "Failed to invoke 'No' due to an error on the server. HubException: Method does not exist."),
    ]);
    // A method that puts a plain answer off finds out with it.
    client.send(&[&stream("4", "Hold", "")]);
    house.reply().reply(Answer::Value(Value::from(1)));
    let text = "The client attempted to invoke the non-streaming 'Hold' method with a streaming invocation.";
    client.hears(&[&failure("4", text)]);
}

#[test]
fn line_119_items_then_one_completion_without_result_and_errors_keep_what_came_before() {
    for detailed_errors in [false, true] {
        let house = House::with(EndpointOptions { detailed_errors, ..EndpointOptions::default() }, Limits::default());
        let mut client = house.client();
        client.send(&[&stream("0", "Count", "0")]);
        client.hears(&[&end("0")]);
        client.send(&[&stream("0", "Count", "300")]);
        (0..300).for_each(|n| client.hears(&[&item("0", &n.to_string())]));
        client.hears(&[&end("0")]);
        let detail = |text: &str| if detailed_errors { text.to_owned() } else { String::new() };
        let streaming = "An error occurred on the server while streaming results.";
        client.send(&[&stream("1", "Fails", "\"\""), &stream("2", "Fails", "\"hub\"")]);
        let boom = detail(" InvalidOperationException: boom");
        client.hears(&[&item("1", "0"), &failure("1", &format!("{streaming}{boom}"))]);
        client.hears(&[&item("2", "0"), &failure("2", &format!("{streaming} HubException: nope"))]);
        // Before the first item it is the method that fails.
        client.send(&[&stream("3", "Refuses", "")]);
        client
            .hears(&[&failure("3", &format!("An unexpected error occurred invoking 'Refuses' on the server.{boom}"))]);
        client.send(&[&stream("4", "Unsayable", "")]);
        client.hears(&[&item("4", "1")]);
        assert!(client.next().starts_with(&format!("{{\"type\":3,\"invocationId\":\"4\",\"error\":\"{streaming}")));
        client.hears_nothing_more();
        house.is_empty();
    }
}

#[test]
fn line_120_cancel_ends_the_producer() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&cancel("7"), &cancel("nothing"), &stream("0", "Feed", "")]);
    let producer = house.stream();
    producer.send(&Value::Int(1)).unwrap();
    client.hears(&[&item("0", "1")]);
    let until_over = std::thread::spawn(move || {
        while producer.send(&Value::Int(2)) != Err(StreamError::Over) {
            producer.wait_for_room(PATIENCE);
        }
        assert!(producer.is_over());
    });
    client.hears(&[&item("0", "2")]);
    client.send(&[&cancel("0")]);
    while client.next() != end("0") {}
    until_over.join().unwrap();
    client.send(&[&cancel("0")]);
    client.hears_nothing_more();
    house.is_empty();
}

#[test]
fn line_120_a_client_that_goes_cancels_all_its_streams() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Forever", ""), &stream("1", "Feed", ""), &stream("2", "Forever", "")]);
    client.send(&[&call_with("3", "HoldWith", "", &["4"])]);
    let (producer, reply) = (house.stream(), house.reply());
    drop(client);
    assert_eq!((house.cancelled(), house.cancelled()), (StreamEnd::Disconnected, StreamEnd::Disconnected));
    wait_until("the producer is told", || producer.send(&Value::Int(1)) == Err(StreamError::Over));
    reply.reply(Answer::Void);
    house.is_empty();
}

#[test]
fn line_121_an_id_in_use_is_refused() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Feed", ""), &stream("0", "Count", "2")]);
    client.hears(&[&failure("0", "Invocation ID '0' is already in use.")]);
    let producer = house.stream();
    producer.send(&Value::Int(5)).unwrap();
    producer.end();
    client.hears(&[&item("0", "5"), &end("0")]);
    client.send(&[&stream("0", "Count", "1")]);
    client.hears(&[&item("0", "0"), &end("0")]);
    // Ids of the client's own streams are a namespace of their own, with the same rule.
    client.send(&[&call_with("0", "Two", "", &["1", "1"])]);
    client.hears(&[&failure("0", "Invocation ID '1' is already in use.")]);
    client.hears_nothing_more();
}

#[test]
fn a_stream_from_a_thread_goes_at_the_clients_pace() {
    let limits = Limits { stream_items_max: 8, outbox_soft_bytes: 4 << 10, ..Limits::default() };
    let house = House::with(EndpointOptions::default(), limits);
    let mut client = house.client();
    client.send(&[&stream("0", "Feed", "")]);
    let producer = house.stream();
    // The client does not read: sooner or later there is no room, and nothing is lost or dropped for it.
    let text = "x".repeat(1_000);
    let mut sent = 0;
    while producer.wait_for_room(Duration::from_millis(300)) {
        match producer.send(&Value::from(format!("{sent} {text}"))) {
            Ok(()) => sent += 1,
            Err(error) => assert_eq!(error, StreamError::Full, "{sent} {:?}", house.engine.metrics().total()),
        }
        assert!(sent < 1_000_000, "no back-pressure");
    }
    let closed: Vec<_> = house.engine.metrics().total().closed().filter(|(_, n)| *n > 0).collect();
    assert_eq!(producer.send(&Value::Null), Err(StreamError::Full), "{closed:?} {sent}");
    let total = house.engine.metrics().total();
    assert_eq!(total.dropped_slow_total, 0);
    (0..sent).for_each(|n| client.hears(&[&item("0", &format!("\"{n} {text}\""))]));
    assert!(producer.wait_for_room(PATIENCE), "room again once the client has read");
    producer.end();
    client.hears(&[&end("0")]);
}

#[test]
fn a_stream_has_one_order_whoever_feeds_it() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Mixed", "")]);
    (0..8).for_each(|n| client.hears(&[&item("0", &n.to_string())]));
    client.hears(&[&end("0")]);
}

#[test]
fn a_stream_that_is_dropped_fails() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Feed", "")]);
    drop(house.stream());
    let text = "An error occurred on the server while streaming results. InvalidOperationException: The stream was dropped \
                before its end.";
    client.hears(&[&failure("0", text)]);
}

// -- streams of clients -----------------------------------------------------------------------------------------------

#[test]
fn line_122_items_beside_their_invocation_are_not_lost_and_errors_surface() {
    let house = House::new();
    let mut client = house.client();
    let a = item("7", "\"a\"");
    client.send(&[&call_with("0", "Concat", "", &["7"]), &a, &item("7", "\"b\""), &end("7")]);
    client.hears(&[&result("0", "\"ab\"")]);
    client.send(&[&call_with("1", "Concat", "", &["7"]), &a, &failure("7", "went wrong")]);
    let invoking = "An unexpected error occurred invoking 'Concat' on the server. HubException:";
    client.hears(&[&failure("1", &format!("{invoking} went wrong"))]);
    // What cannot be bound ends its stream; the connection lives.
    client.send(&[&call_with("2", "Concat", "", &["7"]), &a, &item("7", "5"), &a, &end("7")]);
    client.hears(&[&failure("2", &format!("{invoking} Failed to bind Stream message."))]);
    // Two streams, mixed; an answer to nobody.
    client.send(&[
        &call_with("3", "Two", "", &["8", "9"]),
        &item("9", "\"y\""),
        &item("8", "\"x\""),
        &end("9"),
        &end("8"),
    ]);
    client.hears(&[&result("3", "\"x+y\"")]);
    client.send(&[&call_with("", "Told", "", &["7"]), &a, &a, &end("7")]);
    client.hears(&["{\"type\":1,\"target\":\"Uploaded\",\"arguments\":[\"aa\"]}"]);
    client.hears_nothing_more();
    house.is_empty();
}

#[test]
fn line_123_items_of_unknown_streams_are_ignored_and_missing_streams_are_named() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&item("1", "1"), &end("1"), &failure("1", "x"), &call("0", "Sum", "")]);
    let text = |method: &str, given: usize, expected: usize| {
        format!(
            "An unexpected error occurred invoking '{method}' on the server. HubException: Client sent {given} \
             stream(s), Hub method expects {expected}."
        )
    };
    client.hears(&[&failure("0", &text("Sum", 0, 1))]);
    client.send(&[&call_with("1", "Sum", "", &["5", "6"]), &item("5", "1"), &end("5")]);
    client.hears(&[&failure("1", &text("Sum", 2, 1))]);
    client.send(&[&call_with("2", "Echo", "1", &["5"]), &item("5", "1")]);
    client.hears(&[&failure("2", &text("Echo", 1, 0))]);
    client.send(&[&call_with("3", "Unknown", "", &["5"])]);
    let unknown = "Failed to invoke 'Unknown' due to an error on the server. HubException: Method does not exist.";
    client.hears(&[&failure("3", unknown)]);
    // When the invocation has ended, so have its streams.
    client.send(&[&call_with("4", "HoldWith", "", &["5"])]);
    house.reply().reply(Answer::Void);
    client.hears(&[&result("4", "null")]);
    client.send(&[&item("5", "1"), &end("5"), &call_with("5", "Sum", "", &["5"]), &item("5", "4"), &end("5")]);
    client.hears(&[&result("5", "4")]);
    house.is_empty();
}

#[test]
fn line_124_the_eleventh_unread_item_is_back_pressure_and_not_loss() {
    let house = House::new();
    let mut client = house.client();
    client.send(&[&stream("0", "Forever", ""), &call_with("1", "Take", "", &["2"])]);
    let (reply, upload) = (house.reply(), house.upload());
    for n in 0..10 {
        client.send(&[&item("2", &n.to_string())]);
    }
    // Ten are read ahead: the connection is heard.
    client.send(&[&stream("3", "Count", "1")]);
    client.hears(&[&item("3", "0"), &end("3")]);
    // With the eleventh it is not read from any more, but what came in the same frame counts.
    client.send(&[&item("2", "10"), &cancel("0")]);
    client.hears(&[CANCELLED, &end("0")]);
    let mut ahead = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut items = Vec::new();
        for n in 11..2_000 {
            let message = item("2", &format!("\"{n} {}\"", "x".repeat(1_000))) + "\u{1e}";
            let kind = fanfare_protocol::ws::DataKind::Text;
            fanfare_protocol::ws::encode::write_masked_message(&mut items, kind, message.as_bytes(), [1, 2, 3, 4]);
        }
        std::io::Write::write_all(&mut ahead, &items).unwrap();
    });
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(upload.len(), 11, "the connection is not read from");
    for n in 0..2_000 {
        let Some(Uploaded::Item(next)) = upload.next(PATIENCE) else { panic!("item {n} is lost") };
        match n {
            0..11 => assert_eq!(next.as_raw().as_i64(), Ok(n)),
            _ => assert!(next.as_raw().as_str().unwrap().starts_with(&format!("{n} "))),
        }
        assert!(upload.len() <= 13, "{} items wait: one receive on top of eleven", upload.len());
    }
    writer.join().unwrap();
    client.send(&[&end("2")]);
    assert_eq!(upload.next(PATIENCE), Some(Uploaded::End(Ok(()))));
    reply.reply(Answer::Void);
    client.hears(&[&result("1", "null")]);
    wait_until("and is told that it is over", || matches!(upload.try_next(), Some(Uploaded::End(Err(_)))));
    house.is_empty();
}

#[test]
fn a_full_upload_whose_reader_goes_lets_the_connection_go_on() {
    let house = House::new();
    let mut client = house.client();
    for round in 0..2 {
        client.send(&[&call_with("1", "Take", "", &["2"])]);
        let (reply, upload) = (house.reply(), house.upload());
        let items: Vec<String> = (0..30).map(|n| item("2", &n.to_string())).collect();
        client.send(&items.iter().map(String::as_str).collect::<Vec<_>>());
        wait_until("more than may wait", || upload.len() == 30);
        client.send(&[&call_with("3", "Concat", "", &["4"]), &item("4", "\"a\""), &end("4")]);
        if round == 0 {
            drop(upload);
            client.hears(&[&result("3", "\"a\"")]);
            reply.reply(Answer::Void);
            client.hears(&[&result("1", "null")]);
        } else {
            reply.reply(Answer::Void);
            client.hears(&[&result("1", "null"), &result("3", "\"a\"")]);
        }
    }
}

#[test]
fn a_mirror_streams_both_ways() {
    let house = House::new();
    let mut client = house.client();
    let mirror = "{\"type\":4,\"invocationId\":\"0\",\"target\":\"Mirror\",\"arguments\":[],\"streamIds\":[\"0\"]}";
    client.send(&[mirror, &item("0", "{\"a\":[1]}")]);
    client.hears(&[&item("0", "{\"a\":[1]}")]);
    client.send(&[&item("0", "null"), &end("0")]);
    client.hears(&[&item("0", "null"), &end("0")]);
    client.send(&[mirror, &item("0", "1"), &failure("0", "x")]);
    client.hears(&[
        &item("0", "1"),
        &failure("0", "An error occurred on the server while streaming results. HubException: x"),
    ]);
    client.send(&[mirror, &item("0", "2")]);
    client.hears(&[&item("0", "2")]);
    client.send(&[&cancel("0"), &item("0", "3"), &end("0")]);
    client.hears(&[&end("0")]);
    client.hears_nothing_more();
    house.is_empty();
}

// -- bounds -----------------------------------------------------------------------------------------------------------

#[test]
fn bounds_have_names_and_are_counted() {
    let endpoint = EndpointOptions { streams_max: 2, upload_streams_max: 2, ..EndpointOptions::default() };
    let house = House::with(endpoint, Limits { deferred_max: 1, ..Limits::default() });
    let mut client = house.client();
    let forever = |id| stream(id, "Forever", "");
    client.send(&[&forever("0"), &forever("1"), &forever("2"), &cancel("0"), &forever("2"), &cancel("1")]);
    let refused = "An unexpected error occurred invoking 'Forever' on the server. HubException:";
    let many = format!("{refused} 'Forever' is one stream too many: 2 of this connection are open (streams_max).");
    client.hears(&[&failure("2", &many), CANCELLED, &end("0"), CANCELLED, &end("1")]);
    assert_eq!([house.cancelled(), house.cancelled()], [StreamEnd::Cancelled; 2]);
    client.send(&[&call_with("3", "HoldWith", "", &["1"]), &call_with("4", "Two", "", &["5", "6"])]);
    let owed = "An unexpected error occurred invoking 'Two' on the server. HubException: The server owes too many answers \
                (limits.deferred_max).";
    client.hears(&[&failure("4", owed)]);
    house.reply().reply(Answer::Void);
    client.hears(&[&result("3", "null")]);
    client.send(&[&call_with("5", "Take", "", &["1"]), &item("1", "1"), &end("1")]);
    let (reply, upload) = (house.reply(), house.upload());
    assert!(matches!(upload.next(PATIENCE), Some(Uploaded::Item(_))));
    drop(reply);
    client.next();
    let total = house.engine.metrics().total();
    assert_eq!((total.streams_refused_total, total.deferred_refused_total), (1, 1));
}

#[test]
fn upload_streams_are_bounded_until_their_invocations_end() {
    let endpoint = EndpointOptions { upload_streams_max: 2, ..EndpointOptions::default() };
    let house = House::with(endpoint, Limits::default());
    let mut client = house.client();
    client.send(&[&call_with("0", "Take", "", &["1"]), &end("1"), &call_with("1", "Take", "", &["2"])]);
    let held = [(house.reply(), house.upload()), (house.reply(), house.upload())];
    client.send(&[&call_with("2", "Concat", "", &["3"]), &end("3")]);
    let many = "An unexpected error occurred invoking 'Concat' on the server. HubException: One stream too many: 2 of this \
                connection are open (upload_streams_max).";
    client.hears(&[&failure("2", many)]);
    drop(held);
    let mut answers = [client.next(), client.next()];
    answers.sort();
    assert!(answers[0].contains("\"0\"") && answers[1].contains("\"1\""), "{answers:?}");
    client.send(&[&call_with("3", "Concat", "", &["3"]), &end("3")]);
    client.hears(&[&result("3", "\"\"")]);
    house.is_empty();
}
