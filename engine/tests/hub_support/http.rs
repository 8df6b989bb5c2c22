//! Plain requests, each on a socket of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    /// Status and body.
    pub(crate) fn brief(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub(crate) const EVENTS: &str = "Accept: text/event-stream\r\n";

/// Asks and reads the answer; its body as far as its head tells how long that is. `headers`: whole lines.
pub(crate) fn ask(address: SocketAddr, method: &str, target: &str, headers: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let length = body.len();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: String::new() };
    let length = reply.header("Content-Length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    reply.body = String::from_utf8(body).unwrap();
    reply
}

/// The connection token and the body of an answered negotiate.
pub(crate) fn negotiate(address: SocketAddr, hub: &str, query: &str) -> (String, String) {
    let reply = ask(address, "POST", &format!("{hub}/negotiate?negotiateVersion=1{query}"), "", "");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let token = reply.body.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
    (token.expect("a token").to_owned(), reply.body)
}
