//! A SignalR client over a real socket, JSON over WebSocket: std's TcpStream and this project's own protocol crate.

#![allow(dead_code, reason = "every test program uses its own part of it")]

pub(crate) mod http;

use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long anything that must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    pending: String,
    ended: bool,
}

impl Client {
    /// A client of `/hub` that has shaken hands.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self::upgraded(address, "/hub");
        client.send(&["{\"protocol\":\"json\",\"version\":1}"]);
        assert_eq!(client.next(), "{}");
        client
    }

    /// A client that has a WebSocket of this path and query.
    pub(crate) fn upgraded(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Self { stream, decoder: Decoder::new(Role::Client), pending: String::new(), ended: false }
    }

    /// Its socket. What it has read and not returned is gone.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// These hub messages in one frame.
    pub(crate) fn send(&mut self, messages: &[&str]) {
        let bytes: String = messages.iter().flat_map(|message| [message, "\u{1e}"]).collect();
        let mut frame = Vec::new();
        write_masked_message(&mut frame, DataKind::Text, bytes.as_bytes(), [1, 2, 3, 4]);
        self.stream.write_all(&frame).unwrap();
    }

    /// The next hub message, without its separator; pings are left out.
    pub(crate) fn next(&mut self) -> String {
        loop {
            let message = self.next_or_end().expect("the server has ended the connection");
            if message != "{\"type\":6}" {
                return message;
            }
        }
    }

    /// The same; `None`: there is an end instead.
    pub(crate) fn next_or_end(&mut self) -> Option<String> {
        loop {
            if let Some((message, rest)) = self.pending.split_once('\u{1e}') {
                let message = message.to_owned();
                self.pending = rest.to_owned();
                return Some(message);
            }
            if self.ended {
                return None;
            }
            let mut bytes = [0; 4096];
            let n = self.stream.read(&mut bytes).unwrap();
            self.ended |= n == 0;
            for event in self.decoder.handle_bytes(&mut bytes[..n]) {
                match event.unwrap() {
                    Event::Data { payload, .. } => self.pending.push_str(std::str::from_utf8(payload).unwrap()),
                    Event::Close { .. } => self.ended = true,
                    _ => {}
                }
            }
        }
    }

    /// Whether another message comes before the read time-out of the stream; the message stays.
    pub(crate) fn has_more(&mut self) -> bool {
        if self.pending.contains('\u{1e}') {
            return true;
        }
        self.stream.peek(&mut [0]).is_ok_and(|peeked| peeked > 0)
    }

    /// Expects these messages, in this order.
    pub(crate) fn hears(&mut self, messages: &[&str]) {
        for message in messages {
            assert_eq!(self.next(), *message);
        }
    }

    /// Nothing but what the server says to this comes: whatever was sent before has been dealt with, and said nothing.
    pub(crate) fn hears_nothing_more(&mut self) {
        self.send(&[&call("end", "Echo", "1")]);
        self.hears(&[&result("end", "1")]);
    }

    /// Calls a method, arguments as JSON; what comes up to its completion, which is the last.
    pub(crate) fn call(&mut self, method: &str, arguments: &str) -> Vec<String> {
        self.send(&[&call("c", method, arguments)]);
        let mut told = vec![self.next()];
        while !told.last().unwrap().starts_with("{\"type\":3,\"invocationId\":\"c\"") {
            told.push(self.next());
        }
        told
    }

    /// Its connection id.
    pub(crate) fn id(&mut self) -> String {
        let answer = self.call("Id", "").pop().unwrap();
        answer.split('"').rev().nth(1).unwrap().to_owned()
    }
}

/// The connection token for a client of `/hub` that would like to resume.
pub(crate) fn negotiate(address: SocketAddr) -> String {
    http::negotiate(address, "/hub", "&useStatefulReconnect=true").0
}

pub(crate) fn call(id: &str, method: &str, arguments: &str) -> String {
    format!("{{\"type\":1,\"invocationId\":\"{id}\",\"target\":\"{method}\",\"arguments\":[{arguments}]}}")
}

/// A call with client streams of these ids.
pub(crate) fn call_with(id: &str, method: &str, arguments: &str, streams: &[&str]) -> String {
    let ids = streams.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
    let id = if id.is_empty() { String::new() } else { format!("\"invocationId\":\"{id}\",") };
    format!("{{\"type\":1,{id}\"target\":\"{method}\",\"arguments\":[{arguments}],\"streamIds\":[{ids}]}}")
}

pub(crate) fn stream(id: &str, method: &str, arguments: &str) -> String {
    format!("{{\"type\":4,\"invocationId\":\"{id}\",\"target\":\"{method}\",\"arguments\":[{arguments}]}}")
}

pub(crate) fn item(id: &str, item: &str) -> String {
    format!("{{\"type\":2,\"invocationId\":\"{id}\",\"item\":{item}}}")
}

pub(crate) fn end(id: &str) -> String {
    format!("{{\"type\":3,\"invocationId\":\"{id}\"}}")
}

pub(crate) fn result(id: &str, value: &str) -> String {
    format!("{{\"type\":3,\"invocationId\":\"{id}\",\"result\":{value}}}")
}

pub(crate) fn failure(id: &str, text: &str) -> String {
    format!("{{\"type\":3,\"invocationId\":\"{id}\",\"error\":\"{text}\"}}")
}

pub(crate) fn cancel(id: &str) -> String {
    format!("{{\"type\":5,\"invocationId\":\"{id}\"}}")
}

/// Waits until `holds`, which must come true.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}
