//! Client results over real sockets (checklist 125 and 126), and plain HTTP answers that come later.

mod hub_support;

use fanfare_engine::{
    Answer, AskError, AskHandle, ClientResult, Context, EndpointOptions, Engine, HandlerError, HttpAnswer, HttpHandler,
    HttpRequest, HubHandler, HubOptions, Invocation, Limits, Payload, Value,
};
use hub_support::{Client, PATIENCE, call, failure, result, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long clients have.
const TIMEOUT_MS: u32 = 700;

#[derive(Clone, Default)]
struct Hub {
    asked: Arc<Mutex<Option<AskHandle>>>,
    /// What asking inside `connected` came to.
    inside: Arc<Mutex<Option<String>>>,
}

impl HubHandler for Hub {
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError> {
        let (id, inside) = (cx.connection_id(), self.inside.clone());
        cx.ask(&id, "Never", &Payload::Values(&[]), move |_, result| {
            *inside.lock().unwrap() = result.err().map(|error| error.to_string());
        });
        Ok(())
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        self.dispatch(cx, call).into()
    }
}

impl Hub {
    fn dispatch(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match call.target() {
            "Id" => Ok(Answer::Value(Value::from(cx.connection_id()))),
            "Echo" => Ok(Answer::echo(call.arg(0)?)),
            "Ask" => {
                let (id, value) = (call.arg(0)?.as_str()?, call.arg(1)?.as_i64()?);
                let reply = cx.defer();
                let handle = cx.ask(&id, "Answer", &Payload::Values(&[Value::Int(value)]), move |cx, result| {
                    cx.reply(reply, &int(result).into());
                });
                *self.asked.lock().unwrap() = Some(handle);
                Ok(Answer::Later)
            }
            "Abort" => {
                cx.abort();
                Ok(Answer::Void)
            }
            _ => Ok(Answer::Unknown),
        }
    }
}

fn int(result: ClientResult<'_>) -> Result<Value, HandlerError> {
    let number = result.and_then(|raw| raw.as_i64().map_err(AskError::bind("int")));
    number.map(Value::Int).map_err(|error| HandlerError::Hub(error.to_string()))
}

fn engine(shards: usize, hub: &Hub, limits: Limits) -> Engine {
    let endpoint = EndpointOptions { detailed_errors: true, ..EndpointOptions::default() };
    Engine::builder()
        .shards(shards)
        .listen("127.0.0.1:0")
        .hub("hub", HubOptions { endpoint }, hub.clone())
        .http(Pages)
        .limits(Limits {
            connections_max: 100,
            log_bytes_max: 16 << 20,
            client_result_timeout_ms: TIMEOUT_MS,
            ..limits
        })
        .start()
        .unwrap()
}

fn ask(id: &str, value: i32) -> String {
    call("c", "Ask", &format!("\"{id}\",{value}"))
}

/// The client is asked; the id of the question.
fn is_asked(client: &mut Client, value: i32) -> String {
    let message = client.next();
    let (id, rest) = message.strip_prefix("{\"type\":1,\"invocationId\":\"").unwrap().split_once('"').unwrap();
    assert_eq!(rest, format!(",\"target\":\"Answer\",\"arguments\":[{value}]}}"));
    assert!(id.strip_prefix('s').is_some_and(|number| number.parse::<u64>().is_ok()), "{id}");
    id.to_owned()
}

fn failed(text: &str) -> String {
    failure("c", &format!("An unexpected error occurred invoking 'Ask' on the server. HubException: {text}"))
}

#[test]
fn line_125_a_result_comes_back_from_any_shard() {
    let engine = engine(3, &Hub::default(), Limits::default());
    let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(engine.local_addrs()[0])).collect();
    let ids: Vec<String> = clients.iter_mut().map(Client::id).collect();
    for (of, id) in ids.iter().enumerate().skip(1) {
        let value = of as i32;
        clients[0].send(&[&ask(id, value)]);
        let question = is_asked(&mut clients[of], value);
        clients[of].send(&[&result(&question, &(value * 2).to_string())]);
        clients[0].hears(&[&result("c", &(value * 2).to_string())]);
    }
    assert!(engine.metrics().shards.iter().all(|shard| shard.client_results_total > 0), "every shard was asked");
    assert_eq!(engine.metrics().total().client_results_pending, 0);
}

#[test]
fn line_125_every_way_not_to_get_a_result_has_its_text() {
    for shards in [1, 3] {
        let hub = Hub::default();
        let engine = engine(shards, &hub, Limits::default());
        let address = engine.local_addrs()[0];
        for _ in 0..8 {
            let (mut asker, mut other) = (Client::connect(address), Client::connect(address));
            let id = other.id();
            let answers = [
                ("\"error\":\"Error: boom\"", "Error: boom"),
                ("\"error\":\"Client didn't provide a result.\"", "Client didn't provide a result."),
                ("\"result\":\"x\"", "Error trying to deserialize result to int. expected a number, found a string"),
            ];
            for (answer, text) in answers {
                asker.send(&[&ask(&id, 1)]);
                let question = is_asked(&mut other, 1);
                other.send(&[&format!("{{\"type\":3,\"invocationId\":\"{question}\",{answer}}}")]);
                asker.hears(&[&failed(text)]);
            }
            // No result at all.
            asker.send(&[&ask(&id, 2)]);
            let question = is_asked(&mut other, 2);
            other.send(&[&format!("{{\"type\":3,\"invocationId\":\"{question}\"}}")]);
            asker.hears(&[&failed("Client didn't provide a result.")]);
            // Cancelled by the server; the late answer is ignored.
            hub.asked.lock().unwrap().take();
            asker.send(&[&ask(&id, 3)]);
            let question = is_asked(&mut other, 3);
            // On another shard the client may hear of it before the asker has its handle.
            wait_until("the asker has its handle", || hub.asked.lock().unwrap().is_some());
            hub.asked.lock().unwrap().take().unwrap().cancel().unwrap();
            asker.hears(&[&failed("Invocation canceled by the server.")]);
            other.send(&[&result(&question, "3")]);
            other.hears_nothing_more();
            // It goes first.
            asker.send(&[&ask(&id, 4)]);
            is_asked(&mut other, 4);
            drop(other);
            asker.hears(&[&failed(&format!("Connection '{id}' disconnected."))]);
            asker.send(&[&ask(&id, 5)]);
            asker.hears(&[&failed(&format!("Connection '{id}' does not exist."))]);
            asker.send(&[&ask("nobody", 5)]);
            asker.hears(&[&failed("Connection 'nobody' does not exist.")]);
        }
        assert_eq!(engine.metrics().total().client_results_pending, 0);
    }
}

#[test]
fn line_125_who_does_not_answer_is_given_up_in_time() {
    let engine = engine(2, &Hub::default(), Limits::default());
    let (mut asker, mut other) = (Client::connect(engine.local_addrs()[0]), Client::connect(engine.local_addrs()[0]));
    let id = other.id();
    let begun = Instant::now();
    asker.send(&[&ask(&id, 1)]);
    let question = is_asked(&mut other, 1);
    asker.hears(&[&failed("The client gave no result in time (limits.client_result_timeout_ms).")]);
    let waited = begun.elapsed();
    let least = Duration::from_millis(TIMEOUT_MS.into());
    assert!(waited >= least && waited < least + Duration::from_secs(2), "{waited:?}");
    other.send(&[&result(&question, "1")]);
    other.hears_nothing_more();
}

/// One invocation at a time, and the client that runs it is the one that is asked.
#[test]
fn line_125_a_client_can_answer_while_its_own_invocation_runs() {
    let engine = engine(1, &Hub::default(), Limits::default());
    let mut client = Client::connect(engine.local_addrs()[0]);
    let id = client.id();
    client.send(&[&ask(&id, 7), &call("d", "Echo", "1")]);
    let question = is_asked(&mut client, 7);
    client.send(&[&result(&question, "8")]);
    client.hears(&[&result("c", "8"), &result("d", "1")]);
    // And when it does not, it ends all the same.
    client.send(&[&ask(&id, 9)]);
    is_asked(&mut client, 9);
    client.hears(&[&failed("The client gave no result in time (limits.client_result_timeout_ms).")]);
}

#[test]
fn line_125_nobody_is_asked_inside_connected() {
    let hub = Hub::default();
    let engine = engine(1, &hub, Limits::default());
    let mut client = Client::connect(engine.local_addrs()[0]);
    client.hears_nothing_more();
    let text = "Client results inside OnConnectedAsync Hub methods are not allowed.";
    assert_eq!(hub.inside.lock().unwrap().as_deref(), Some(text));
}

#[test]
fn line_125_a_thread_asks_through_the_publisher() {
    let engine = engine(2, &Hub::default(), Limits { client_results_max: 2, ..Limits::default() });
    let mut client = Client::connect(engine.local_addrs()[0]);
    let id = client.id();
    let publisher = engine.publisher();
    let ask = |id: &str, value: i64| -> (AskHandle, Receiver<String>) {
        let (told, receiver) = channel();
        let handle = publisher.ask("hub", id, "Answer", &Payload::Values(&[Value::Int(value)]), move |result| {
            let _ = told.send(int(result).map_or_else(|error| error.to_string(), |value| format!("{value:?}")));
        });
        (handle, receiver)
    };
    let (_, first) = ask(&id, 1);
    let (_, second) = ask(&id, 2);
    let questions = [is_asked(&mut client, 1), is_asked(&mut client, 2)];
    let (_, third) = ask(&id, 3);
    let many = "Too many client results are awaited (limits.client_results_max).";
    assert_eq!(third.recv_timeout(PATIENCE).unwrap(), many);
    // In any order.
    client.send(&[&result(&questions[1], "20"), &result(&questions[0], "10")]);
    assert_eq!(second.recv_timeout(PATIENCE).unwrap(), "Int(20)");
    assert_eq!(first.recv_timeout(PATIENCE).unwrap(), "Int(10)");
    let (_, unknown) = ask("nobody", 4);
    assert_eq!(unknown.recv_timeout(PATIENCE).unwrap(), "Connection 'nobody' does not exist.");
    let (handle, cancelled) = ask(&id, 5);
    is_asked(&mut client, 5);
    handle.cancel().unwrap();
    assert_eq!(cancelled.recv_timeout(PATIENCE).unwrap(), "Invocation canceled by the server.");
    assert_eq!(engine.metrics().total().client_results_refused_total, 1);
    let (_, gone) = ask(&id, 6);
    is_asked(&mut client, 6);
    drop(client);
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), format!("Connection '{id}' disconnected."));
}

#[test]
fn line_126_a_completion_for_anothers_question_closes_its_sender() {
    for shards in [1, 3] {
        let engine = engine(shards, &Hub::default(), Limits::default());
        let address = engine.local_addrs()[0];
        for _ in 0..8 {
            let mut clients = [(); 3].map(|()| Client::connect(address));
            let id = clients[1].id();
            clients[0].send(&[&ask(&id, 1)]);
            let question = is_asked(&mut clients[1], 1);
            // Ids that nobody was asked under are ignored.
            clients[2].send(&[&result("s999999", "1"), &result("sx", "1"), &result("17", "1"), &result("s01", "1")]);
            clients[2].hears_nothing_more();
            clients[2].send(&[&result(&question, "666")]);
            let text = format!(
                "Connection closed with an error. InvalidDataException: Invocation ID '{question}' is not one that this \
                 connection was called with."
            );
            clients[2].hears(&[&format!("{{\"type\":7,\"error\":\"{text}\",\"allowReconnect\":true}}")]);
            assert_eq!(clients[2].next_or_end(), None);
            clients[1].send(&[&result(&question, "1")]);
            clients[0].hears(&[&result("c", "1")]);
        }
    }
}

// -- plain HTTP answers that come later -------------------------------------------------------------------------------

struct Pages;

impl HttpHandler for Pages {
    fn handle(&self, request: &HttpRequest<'_>) -> HttpAnswer {
        let Some(id) = request.path().strip_prefix("/ask/") else { return HttpAnswer::text(200, "at once") };
        let Some(reply) = request.defer() else { return HttpAnswer::text(503, "too many") };
        request.publisher().ask("hub", id, "Answer", &Payload::Values(&[Value::Int(0)]), move |result| {
            reply
                .reply(HttpAnswer::text(200, int(result).map_or_else(|e| e.to_string(), |value| format!("{value:?}"))));
        });
        HttpAnswer::not_found()
    }
}

fn read_to_end(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_plain_answer_that_comes_later_keeps_its_place() {
    let engine = engine(2, &Hub::default(), Limits::default());
    let address = engine.local_addrs()[0];
    let mut client = Client::connect(address);
    let id = client.id();
    let mut stream = TcpStream::connect(address).unwrap();
    let asks =
        format!("GET /ask/{id} HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(asks.as_bytes()).unwrap();
    let question = is_asked(&mut client, 0);
    client.send(&[&result(&question, "42")]);
    let answers = read_to_end(stream);
    let (first, second) = answers.split_once("Int(42)").expect("the deferred answer");
    assert!(first.starts_with("HTTP/1.1 200 ") && !first.contains("at once"), "{answers}");
    assert!(second.starts_with("HTTP/1.1 200 ") && second.ends_with("at once"), "{answers}");
    // A body nobody reads; a HEAD; a client that does not answer.
    for (request, body) in [("POST", "12345"), ("HEAD", ""), ("GET", "")] {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        let head =
            format!("{request} /ask/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let question = is_asked(&mut client, 0);
        if request != "GET" {
            client.send(&[&result(&question, "42")]);
        }
        let answer = read_to_end(stream);
        let end = match request {
            "POST" => "Int(42)",
            "HEAD" => "\r\n\r\n",
            _ => "The client gave no result in time (limits.client_result_timeout_ms).",
        };
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(end), "{request}: {answer}");
    }
    // Whoever asks and goes leaves nothing behind.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET /ask/{id} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let question = is_asked(&mut client, 0);
    drop(stream);
    client.send(&[&result(&question, "42")]);
    client.hears_nothing_more();
}

#[test]
fn more_deferred_answers_than_may_be_are_refused_at_once() {
    let engine = engine(1, &Hub::default(), Limits { deferred_max: 1, ..Limits::default() });
    let address = engine.local_addrs()[0];
    let mut client = Client::connect(address);
    let id = client.id();
    let request = |id: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("GET /ask/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let first = request(&id);
    let question = is_asked(&mut client, 0);
    assert!(read_to_end(request(&id)).starts_with("HTTP/1.1 503 "));
    let owed = "The server owes too many answers (limits.deferred_max).";
    client.send(&[&ask(&id, 1)]);
    client.hears(&[&failed(owed)]);
    is_asked(&mut client, 1);
    client.send(&[&result(&question, "1")]);
    assert!(read_to_end(first).ends_with("Int(1)"));
}
