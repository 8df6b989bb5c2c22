//! Who may come in, over real sockets: tokens at negotiate and at the upgrade, and the end of what they are good for.

use fanfare_engine::auth::{Algorithm, Audience, Key, KeySet, TokenRules, Tokens};
use fanfare_engine::{
    Answer, CloseReason, Context, EndpointOptions, Engine, HubHandler, HubOptions, Invocation, Value,
};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_protocol::ws::DataKind;

const SECRET: &[u8] = b"a secret of the tests that is long enough";
/// Longest wait for what should happen at once; the machine may be busy.
const SOON: Duration = Duration::from_secs(10);

struct WhoAmI;

impl HubHandler for WhoAmI {
    fn invoke(&self, cx: &mut Context<'_>, _: &Invocation<'_>) -> Answer {
        Answer::Value(cx.user().map_or(Value::Null, Value::from))
    }
}

/// A token of `user` that expires in so many seconds.
fn token(user: &str, expires_in_s: i64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let claims = format!(r#"{{"sub":"{user}","exp":{}}}"#, now_s + expires_in_s);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// `/hub` wants a token and ends with it, `/lasting` does not end, `/open` takes anybody.
fn engine() -> (Engine, SocketAddr) {
    let keys = KeySet::new(vec![Key::secret(Algorithm::Hs256, SECRET).unwrap()]).unwrap();
    let rules = TokenRules { audience: Audience::Any, clock_skew: Duration::ZERO, ..TokenRules::default() };
    let tokens = Tokens::new(keys, rules);
    let ending = EndpointOptions { close_on_expiry: true, ..EndpointOptions::default() };
    let engine = Engine::builder()
        .listen("127.0.0.1:0")
        .shards(1)
        .hub("hub", HubOptions::default(), WhoAmI)
        .endpoint("/hub", "hub", ending.clone())
        .endpoint("/lasting", "hub", EndpointOptions::default())
        .endpoint("/open", "hub", ending)
        .authenticator("/hub", tokens.required())
        .authenticator("/lasting", tokens.required())
        .authenticator("/open", tokens.optional())
        .start()
        .expect("an engine");
    let address = engine.local_addrs()[0];
    (engine, address)
}

fn expired(engine: &Engine) -> u64 {
    engine.metrics().total().closed_total[CloseReason::AuthExpired as usize]
}

/// Sends a request and returns the status and what of the answer came with the head.
fn request(stream: &mut TcpStream, method: &str, target: &str, headers: &str) -> (u16, String) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
}

fn status(address: SocketAddr, method: &str, target: &str, headers: &str) -> u16 {
    request(&mut TcpStream::connect(address).unwrap(), method, target, headers).0
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

struct Client {
    stream: TcpStream,
    decoder: Decoder,
    pending: String,
    ended: bool,
}

impl Client {
    fn connect(address: SocketAddr, target: &str, headers: &str) -> Client {
        let mut stream = TcpStream::connect(address).unwrap();
        let (status, head) = request(&mut stream, "GET", target, &format!("{UPGRADE}{headers}"));
        assert_eq!(status, 101, "{head}");
        let mut client = Client { stream, decoder: Decoder::new(Role::Client), pending: String::new(), ended: false };
        client.say(r#"{"protocol":"json","version":1}"#);
        assert_eq!(client.hear(), "{}");
        client
    }

    fn say(&mut self, message: &str) {
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, format!("{message}\u{1e}").as_bytes(), [1, 2, 3, 4]);
        self.stream.write_all(&frame).unwrap();
    }

    /// The next message, without its separator. Empty: the server has closed.
    fn hear(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.pending.split_once('\u{1e}') {
                let message = message.to_owned();
                self.pending = rest.to_owned();
                return message;
            }
            if self.ended {
                return String::new();
            }
            let mut bytes = [0; 4096];
            let len = self.stream.read(&mut bytes).expect("a message in time");
            self.ended = len == 0;
            for event in self.decoder.handle_bytes(&mut bytes[..len]) {
                match event.expect("no broken rule") {
                    Event::Data { payload, .. } => self.pending.push_str(std::str::from_utf8(payload).unwrap()),
                    Event::Close { .. } => self.ended = true,
                    _ => {}
                }
            }
        }
    }

    fn user(&mut self) -> String {
        self.say(r#"{"type":1,"target":"WhoAmI","arguments":[],"invocationId":"1"}"#);
        self.hear()
    }
}

#[test]
fn line_148_the_same_policy_holds_on_negotiate_and_on_the_hub() {
    let (_engine, address) = engine();
    let good = token("ann", 600);
    let query = format!("?negotiateVersion=1&access_token={good}");
    assert_eq!(status(address, "POST", "/hub/negotiate", ""), 401);
    assert_eq!(status(address, "POST", "/hub/negotiate", &bearer("rubbish")), 401);
    assert_eq!(status(address, "POST", "/hub/negotiate", &bearer(&token("ann", -1))), 401);
    assert_eq!(status(address, "POST", "/hub/negotiate", &bearer(&good)), 200);
    assert_eq!(status(address, "POST", &format!("/hub/negotiate{query}"), ""), 401, "no token in the URL of a POST");
    assert_eq!(status(address, "POST", &format!("/hub{query}&id=x"), ""), 401);
    assert_eq!(status(address, "POST", &format!("/hub{query}&id=x"), &bearer(&good)), 404, "let in, and unknown");
    assert_eq!(status(address, "DELETE", &format!("/hub{query}&id=x"), ""), 401);
    assert_eq!(status(address, "GET", "/hub", UPGRADE), 401);
    assert_eq!(status(address, "GET", "/hub?access_token=rubbish", UPGRADE), 401);
    for (target, headers, user) in [
        (format!("/hub{query}"), String::new(), "\"ann\""),
        (format!("/hub{query}"), bearer(&token("bob", 600)), "\"bob\""),
        ("/hub".to_owned(), bearer(&good), "\"ann\""),
        ("/open".to_owned(), String::new(), "null"),
        (format!("/open{query}"), String::new(), "\"ann\""),
    ] {
        let heard = Client::connect(address, &target, &headers).user();
        assert!(heard.contains(&format!("\"result\":{user}")), "{target}: {heard}");
    }
    assert_eq!(status(address, "GET", "/open?access_token=rubbish", UPGRADE), 401, "a bad token is not no token");
}

#[test]
fn line_150_an_expired_connection_is_told_to_come_back_and_may_with_a_new_token() {
    let (engine, address) = engine();
    let began = Instant::now();
    let mut short = Client::connect(address, "/hub", &bearer(&token("ann", 2)));
    let mut long = Client::connect(address, "/hub", &bearer(&token("bob", 600)));
    let mut lasting = Client::connect(address, "/lasting", &bearer(&token("cid", 2)));
    let mut nobody = Client::connect(address, "/open", "");
    assert!(short.user().contains("ann"), "it is good until then");
    assert_eq!(short.hear(), r#"{"type":7,"allowReconnect":true}"#);
    assert!(began.elapsed() >= Duration::from_millis(900), "not before the token's last second");
    assert!(began.elapsed() < SOON);
    assert_eq!(short.hear(), "", "and then the connection ends");
    drop(short);
    assert!(Client::connect(address, "/hub", &bearer(&token("ann", 600))).user().contains("ann"), "back again");
    // The others lived through at least one whole sweep since.
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(long.user().contains("bob"));
    assert!(lasting.user().contains("cid"), "without the option a connection outlives its token");
    assert!(nobody.user().contains("null"));
    assert_eq!(expired(&engine), 1);
}
