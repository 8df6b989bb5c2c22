//! Lines of the client specification's checklist for which a hub needs options, or code, that `testhub` does not have.
//! docs/conformance.md says where the other lines are.

mod hub_support;

use fanfare_engine::{
    Answer, Authenticator, CloseReason, ConnectRequest, Context, EndpointOptions, Engine, HandlerError, HubHandler,
    HubOptions, Identity, Invocation, Limits, Origins, Payload, Refusal, ReplyHandle, Transports, Value,
};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::ws::encode::write_masked_close;
use hub_support::http::{EVENTS, UPGRADE, ask, negotiate};
use hub_support::{Client, PATIENCE, call, failure, result, stream, wait_until};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Everybody is who they say they are.
struct ByQuery;

impl Authenticator for ByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        Ok(Identity { user: request.query_value("user").map(Into::into), ..Identity::default() })
    }
}

/// What the hub was told of its clients.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Connected,
    Disconnected(CloseReason),
}

struct Hub {
    told: Arc<Mutex<Vec<Told>>>,
    held: Mutex<Sender<ReplyHandle>>,
}

impl HubHandler for Hub {
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError> {
        match cx.query("fails").as_deref() {
            Some("hub") => Err(HandlerError::Hub("not today".to_owned())),
            Some(_) => Err(HandlerError::failed("InvalidOperationException", "boom")),
            None => {
                self.told.lock().unwrap().push(Told::Connected);
                Ok(())
            }
        }
    }

    fn disconnected(&self, _: &mut Context<'_>, reason: CloseReason) {
        self.told.lock().unwrap().push(Told::Disconnected(reason));
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        self.dispatch(cx, call).into()
    }
}

impl Hub {
    fn dispatch(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match call.target() {
            "Echo" => Ok(Answer::echo(call.arg(0)?)),
            "Length" => Ok(Answer::Value(Value::Int(call.arg(0)?.as_str()?.len() as i64))),
            "Id" => Ok(Answer::Value(Value::from(cx.connection_id()))),
            "Join" => {
                cx.join(&call.arg(0)?.as_str()?).map(|()| Answer::Void).map_err(|e| HandlerError::Hub(e.to_string()))
            }
            "Hold" => {
                self.held.lock().unwrap().send(cx.defer()).unwrap();
                Ok(Answer::Later)
            }
            "Abort" => {
                cx.abort();
                Ok(Answer::Void)
            }
            "Say" => say(cx, call),
            "Relay" => {
                let arguments = Payload::Raw(call.arguments());
                cx.all().send("m", &arguments).map_err(|error| HandlerError::Hub(error.to_string()))?;
                Ok(Answer::Void)
            }
            _ => Ok(Answer::Unknown),
        }
    }
}

/// `Say(how, names)`: calls `m` on whomever they mean.
fn say(cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
    let names: Vec<_> = call.arg(1)?.array()?.map(|name| name.as_str()).collect::<Result<_, _>>()?;
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let first = names.first().copied().unwrap_or_default();
    let target = match &*call.arg(0)?.as_str()? {
        "All" => cx.all(),
        "AllExcept" => cx.all_except(&names),
        "Caller" => cx.caller(),
        "Others" => cx.others(),
        "Client" => cx.connection(first),
        "Clients" => cx.connections(&names),
        "Group" => cx.group(first),
        "Groups" => cx.groups(&names),
        "GroupExcept" => cx.group_except(first, &names[1..]),
        "OthersInGroup" => cx.others_in_group(first),
        "User" => cx.user_named(first),
        "Users" => cx.users(&names),
        how => panic!("no such target: {how}"),
    };
    target.send("m", &Payload::Values(&[])).map_err(|error| HandlerError::Hub(error.to_string()))?;
    Ok(Answer::Void)
}

struct House {
    engine: Engine,
    told: Arc<Mutex<Vec<Told>>>,
    held: Receiver<ReplyHandle>,
}

impl House {
    /// `/hub` with these options; further paths with theirs.
    fn new(shards: usize, endpoint: EndpointOptions, more: &[(&str, EndpointOptions)]) -> Self {
        let (sender, held) = channel();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hub = Hub { told: told.clone(), held: Mutex::new(sender) };
        let mut builder = Engine::builder()
            .shards(shards)
            .listen("127.0.0.1:0")
            .hub("hub", HubOptions { endpoint: endpoint.clone() }, hub)
            .endpoint("/hub", "hub", endpoint)
            .authenticator("/hub", ByQuery)
            .limits(Limits { connections_max: 100, ..Limits::default() });
        for (path, options) in more {
            builder = builder.endpoint(path, "hub", options.clone());
        }
        Self { engine: builder.start().unwrap(), told, held }
    }

    fn address(&self) -> SocketAddr {
        self.engine.local_addrs()[0]
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    fn client_of(&self, query: &str) -> Client {
        let mut client = Client::upgraded(self.address(), &format!("/hub{query}"));
        client.send(&["{\"protocol\":\"json\",\"version\":1}"]);
        assert_eq!(client.next(), "{}");
        client
    }

    /// Waits until the hub has been told this, and nothing else.
    fn is_told(&self, expected: &[Told]) {
        wait_until("the hub is told", || self.told.lock().unwrap().len() >= expected.len());
        assert_eq!(*self.told.lock().unwrap(), expected);
    }
}

fn keeping_requests() -> EndpointOptions {
    EndpointOptions { keep_request: true, ..EndpointOptions::default() }
}

// -- negotiate and dispatch -------------------------------------------------------------------------------------------

#[test]
fn lines_014_and_015_stateful_reconnect_is_granted_where_it_is_asked_for_and_allowed() {
    let allowed = EndpointOptions { resumable: true, ..EndpointOptions::default() };
    let house = House::new(1, EndpointOptions::default(), &[("/resumable", allowed)]);
    let granted = |hub: &str, query: &str| {
        let (_, body) = negotiate(house.address(), hub, query);
        assert!(!body.contains("useStatefulReconnect\":false"), "absent rather than false: {body}");
        body.contains("\"useStatefulReconnect\":true")
    };
    assert!(granted("/resumable", "&useStatefulReconnect=true"));
    assert!(granted("/resumable", "&USEstatefulRECONNECT=True"));
    assert!(!granted("/resumable", ""));
    assert!(!granted("/resumable", "&useStatefulReconnect=false"));
    assert!(!granted("/hub", "&useStatefulReconnect=true"));
    assert!(!granted("/hub", ""));
}

#[test]
fn line_025_a_wildcard_is_never_sent_together_with_credentials() {
    let any = EndpointOptions { origins: Origins::Any, ..EndpointOptions::default() };
    let house = House::new(1, any, &[]);
    let (token, _) = negotiate(house.address(), "/hub", "");
    let origin = "https://anywhere.example";
    let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-requested-with\r\n";
    for (method, target, more, status) in [
        ("OPTIONS", "/hub/negotiate".to_owned(), preflight, 204),
        ("OPTIONS", "/hub".to_owned(), preflight, 204),
        ("POST", "/hub/negotiate".to_owned(), "", 200),
        ("GET", "/hub/negotiate".to_owned(), "", 405),
        ("GET", "/hub".to_owned(), "", 400),
        ("GET", "/hub?id=x".to_owned(), "", 404),
        ("GET", format!("/hub?id={token}"), "", 200),
    ] {
        let reply = ask(house.address(), method, &target, &format!("Origin: {origin}\r\n{more}"), "");
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(reply.header("Access-Control-Allow-Origin"), Some(origin), "{method} {target}");
        assert_eq!(reply.header("Access-Control-Allow-Credentials"), Some("true"), "{method} {target}");
        for name in ["Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers"] {
            assert_ne!(reply.header(name), Some("*"), "{method} {target}");
        }
    }
}

#[test]
fn line_032_a_disabled_transport_is_not_found_and_says_so() {
    let all = Transports::default();
    let kinds = [
        ("/no-ws", "WebSockets", Transports { websockets: false, ..all }, UPGRADE),
        ("/no-events", "ServerSentEvents", Transports { server_sent_events: false, ..all }, EVENTS),
        ("/no-polls", "LongPolling", Transports { long_polling: false, ..all }, ""),
    ];
    let endpoints = kinds.map(|(path, _, transports, _)| (path, EndpointOptions { transports, ..keeping_requests() }));
    let house = House::new(1, EndpointOptions::default(), &endpoints);
    for (path, name, _, headers) in kinds {
        let (token, body) = negotiate(house.address(), path, "");
        assert!(!body.contains(name), "line 8: not offered: {body}");
        let reply = ask(house.address(), "GET", &format!("{path}?id={token}"), headers, "");
        let text = format!("{name} transport not supported by this end point type");
        assert_eq!(reply.brief(), (404, &*text), "{path}");
        assert_eq!(reply.header("Content-Type").map(|kind| &kind[..10]), Some("text/plain"));
        // The connection is still there, and the other transports take it.
        let (other, status) = if path == "/no-polls" { (EVENTS, 200) } else { ("", 200) };
        assert_eq!(ask(house.address(), "GET", &format!("{path}?id={token}"), other, "").status, status, "{path}");
    }
}

#[test]
fn line_057_line_ends_between_values_are_lines_of_the_event() {
    let house = House::new(1, EndpointOptions::default(), &[]);
    let (token, _) = negotiate(house.address(), "/hub", "");
    let target = format!("/hub?id={token}");
    let mut events = TcpStream::connect(house.address()).unwrap();
    events.set_read_timeout(Some(PATIENCE)).unwrap();
    events.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{EVENTS}\r\n").as_bytes()).unwrap();
    let mut hears = |end: &str| {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            events.read_exact(&mut byte).expect(end);
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).unwrap()
    };
    assert!(hears("\r\n\r\n:\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(ask(house.address(), "POST", &target, "", "{\"protocol\":\"json\",\"version\":1}\u{1e}").status, 200);
    hears("data: {}\u{1e}\r\n\r\n");
    // White space between values comes as the sender wrote it.
    house.client().send(&["{\"type\":1,\"target\":\"Relay\",\"arguments\":[1,\r\n[\n\"a\\n\"]\n,\n\n2]}"]);
    let event = hears("\u{1e}\r\n\r\n");
    let lines: Vec<&str> =
        event.trim_end().split("\r\n").map(|line| line.strip_prefix("data: ").expect(line)).collect();
    assert!(lines.iter().all(|line| !line.contains(['\r', '\n'])), "{event:?}");
    assert_eq!(lines.join("\n"), "{\"type\":1,\"target\":\"m\",\"arguments\":[1,\n[\n\"a\\n\"]\n,\n\n2]}\u{1e}");
}

// -- beginnings and ends ----------------------------------------------------------------------------------------------

#[test]
fn line_088_the_hub_is_not_told_of_failed_handshakes() {
    let fast = EndpointOptions { handshake_timeout_ms: 300, ..EndpointOptions::default() };
    let house = House::new(1, fast, &[]);
    let closed = |reason: CloseReason| house.engine.metrics().total().closed_total[reason as usize];
    for handshake in [
        "{\"protocol\":\"xyz\",\"version\":1}",
        "{\"protocol\":\"json\",\"version\":3}",
        "{\"protocol\":\"json\"}",
        "x",
    ] {
        let mut client = Client::upgraded(house.address(), "/hub");
        client.send(&[handshake]);
        assert!(client.next().starts_with("{\"error\":"), "{handshake}");
        assert_eq!(client.next_or_end(), None);
    }
    let mut silent = Client::upgraded(house.address(), "/hub");
    assert_eq!(silent.next(), "{\"error\":\"Handshake was canceled.\"}");
    drop(silent);
    drop(Client::upgraded(house.address(), "/hub"));
    wait_until("all have ended", || {
        closed(CloseReason::HandshakeError) == 4
            && closed(CloseReason::HandshakeTimeout) == 1
            && closed(CloseReason::Lost) == 1
    });
    house.is_told(&[]);
    drop(house.client());
    house.is_told(&[Told::Connected, Told::Disconnected(CloseReason::Lost)]);
}

#[test]
fn lines_049_070_and_128_whoever_says_goodbye_has_gone_without_an_error() {
    let house = House::new(1, EndpointOptions::default(), &[]);
    let gone = || vec![Told::Connected, Told::Disconnected(CloseReason::Normal)];
    let is_told_and_forgets = || {
        house.is_told(&gone());
        house.told.lock().unwrap().clear();
    };
    // The hub's Close.
    let mut client = house.client();
    client.send(&["{\"type\":7}"]);
    client.hears(&["{\"type\":7}"]);
    assert_eq!(client.next_or_end(), None);
    is_told_and_forgets();
    // A WebSocket Close, without a code and with 1000.
    for code in [None, Some(CloseCode::NORMAL)] {
        let mut client = house.client();
        let mut frame = Vec::new();
        write_masked_close(&mut frame, code, "", [1, 2, 3, 4]);
        client.stream.write_all(&frame).unwrap();
        assert_eq!(client.next_or_end(), None);
        is_told_and_forgets();
    }
    // DELETE.
    let (token, _) = negotiate(house.address(), "/hub", "");
    let target = format!("/hub?id={token}");
    assert_eq!(ask(house.address(), "GET", &target, "", "").brief(), (200, ""));
    assert_eq!(ask(house.address(), "POST", &target, "", "{\"protocol\":\"json\",\"version\":1}\u{1e}").status, 200);
    assert_eq!(ask(house.address(), "GET", &target, "", "").brief(), (200, "{}\u{1e}"));
    assert_eq!(ask(house.address(), "DELETE", &target, "", "").brief(), (202, ""));
    is_told_and_forgets();
}

#[test]
fn line_050_a_reset_is_told_at_once() {
    let house = House::new(1, EndpointOptions { client_timeout_ms: 600_000, ..EndpointOptions::default() }, &[]);
    let mut client = house.client();
    client.send(&[&call("0", "Echo", "1")]);
    // A socket that is closed with something unread in it ends with a reset.
    assert_eq!(client.stream.peek(&mut [0]).unwrap(), 1);
    drop(client);
    house.is_told(&[Told::Connected, Told::Disconnected(CloseReason::Lost)]);
}

#[test]
fn line_127_a_failed_connect_callback_is_a_close_without_leave_to_come_back() {
    let detailed = EndpointOptions { detailed_errors: true, ..keeping_requests() };
    let house = House::new(1, keeping_requests(), &[("/detailed", detailed)]);
    for (target, text) in [
        ("/hub?fails=plain", "Connection closed with an error."),
        ("/hub?fails=hub", "Connection closed with an error. HubException: not today"),
        ("/detailed?fails=plain", "Connection closed with an error. InvalidOperationException: boom"),
        ("/detailed?fails=hub", "Connection closed with an error. HubException: not today"),
    ] {
        let mut client = Client::upgraded(house.address(), target);
        client.send(&["{\"protocol\":\"json\",\"version\":1}", &call("0", "Echo", "1")]);
        client.hears(&["{}", &format!("{{\"type\":7,\"error\":\"{text}\"}}")]);
        assert_eq!(client.next_or_end(), None, "{target}");
    }
    wait_until("all have ended", || house.engine.metrics().total().connections_open == 0);
}

// -- semantics --------------------------------------------------------------------------------------------------------

#[test]
fn line_112_without_a_limit_a_message_of_5_mb_is_taken() {
    let unlimited = EndpointOptions { message_bytes_max: 0, ..EndpointOptions::default() };
    let house = House::new(1, unlimited, &[]);
    let mut client = house.client();
    let text = "x".repeat(5_000_000);
    client.send(&[&call("0", "Length", &format!("\"{text}\""))]);
    client.hears(&[&result("0", "5000000")]);
}

#[test]
fn line_113_with_a_limit_of_two_invocations_two_overlap_and_the_third_waits() {
    let two = EndpointOptions { parallel_invocations_max: 2, ..EndpointOptions::default() };
    let house = House::new(1, two, &[]);
    let mut client = house.client();
    client.send(&[&call("0", "Hold", ""), &call("1", "Hold", ""), &call("2", "Hold", "")]);
    let first = house.held.recv_timeout(PATIENCE).expect("the first runs");
    let second = house.held.recv_timeout(PATIENCE).expect("the second runs beside it");
    // A stream waits for nobody: its answer comes when the third call has been looked at.
    client.send(&[&stream("s", "Echo", "1")]);
    let text = "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation.";
    client.hears(&[&failure("s", text)]);
    assert!(house.held.try_recv().is_err(), "the third waits");
    second.reply(Answer::Value(Value::from("second")));
    client.hears(&[&result("1", "\"second\"")]);
    let third = house.held.recv_timeout(PATIENCE).expect("the third runs");
    third.reply(Answer::Value(Value::from("third")));
    client.hears(&[&result("2", "\"third\"")]);
    first.reply(Answer::Value(Value::from("first")));
    client.hears(&[&result("0", "\"first\"")]);
}

#[test]
fn lines_130_131_and_132_each_target_reaches_exactly_its_own() {
    let house = House::new(2, keeping_requests(), &[]);
    let users = ["ann", "ann", "bob", "Bob", "", ""];
    let mut clients: Vec<Client> = users
        .iter()
        .map(|user| house.client_of(&if user.is_empty() { String::new() } else { format!("?user={user}") }))
        .collect();
    let ids: Vec<String> = clients.iter_mut().map(Client::id).collect();
    for (client, groups) in [(0, "g"), (1, "gh"), (2, "g"), (3, "hG"), (4, "h")] {
        for group in groups.chars() {
            clients[client].call("Join", &format!("\"{group}\""));
            clients[client].call("Join", &format!("\"{group}\""));
        }
    }
    let id = |client: usize| &*ids[client];
    let none = "AAAAAAAAAAAAAAAAAAAAAA";
    let once = |clients: &[usize]| clients.iter().map(|&client| (client, 1)).collect::<BTreeMap<_, _>>();
    for (how, names, expected) in [
        ("All", vec![], once(&[0, 1, 2, 3, 4, 5])),
        ("AllExcept", vec![id(1), id(4), none], once(&[0, 2, 3, 5])),
        ("AllExcept", vec![], once(&[0, 1, 2, 3, 4, 5])),
        ("Caller", vec![], once(&[0])),
        ("Others", vec![], once(&[1, 2, 3, 4, 5])),
        ("Client", vec![id(5)], once(&[5])),
        ("Client", vec![none], once(&[])),
        ("Clients", vec![id(2), none, id(4)], once(&[2, 4])),
        ("Group", vec!["g"], once(&[0, 1, 2])),
        ("Group", vec!["G"], once(&[3])),
        ("Group", vec!["nobody's"], once(&[])),
        // Line 131: the one that is in both gets two.
        ("Groups", vec!["g", "h"], [(0, 1), (1, 2), (2, 1), (3, 1), (4, 1)].into()),
        ("GroupExcept", vec!["g", id(1), id(5)], once(&[0, 2])),
        ("OthersInGroup", vec!["g"], once(&[1, 2])),
        ("OthersInGroup", vec!["h"], once(&[1, 3, 4])),
        ("User", vec!["ann"], once(&[0, 1])),
        ("User", vec!["Bob"], once(&[3])),
        ("Users", vec!["ann", "bob", "nobody"], once(&[0, 1, 2])),
    ] {
        let quoted = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
        let mut told = vec![clients[0].call("Say", &format!("\"{how}\",[{quoted}]"))];
        for client in &mut clients {
            // A shard takes what others tell it after what its own clients say: the second answer is behind it.
            told.push([client.call("Echo", "1"), client.call("Echo", "2")].concat());
        }
        let calls = |told: &[String]| told.iter().filter(|message| message.contains("\"m\"")).count();
        let mut heard = BTreeMap::new();
        for (index, told) in told.iter().enumerate() {
            *heard.entry(index.saturating_sub(1)).or_insert(0) += calls(told);
        }
        heard.retain(|_, count| *count > 0);
        assert_eq!(heard, expected, "{how} {names:?}");
    }
}
