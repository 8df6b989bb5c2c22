//! Clients of the relay without a WebSocket: server-sent events and long polling.

use super::{Fault, Room, Way};
use fanfare_protocol::cursor::{Progress, Sink};
use fanfare_protocol::http::head::RequestHead;
use fanfare_protocol::hub;
use fanfare_protocol::sse::{EventWriter, write_head};
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// A request that belongs to a token.
pub(super) struct Request {
    method: String,
    token: String,
    wants_events: bool,
    /// The path says that a socket carries one POST.
    one_post: bool,
}

impl Request {
    /// `None`: it has no token.
    pub(super) fn of(head: &RequestHead<'_>) -> Option<Self> {
        Some(Self {
            method: head.method().to_owned(),
            token: head.query_value("id")?.into_owned(),
            one_post: head.path() == "/once",
            wants_events: head.header("accept") == Some(b"text/event-stream"),
        })
    }
}

#[derive(Default)]
pub(super) struct Sessions {
    negotiated: usize,
    /// By token.
    present: HashMap<String, Session>,
}

struct Session {
    way: Way,
    /// The handshake has come.
    joined: bool,
}

impl Sessions {
    pub(super) fn new_token(&mut self) -> String {
        self.negotiated += 1;
        format!("tok{}", self.negotiated)
    }
}

/// What a client that polls is owed, and the socket that waits for it.
#[derive(Clone, Default)]
pub(super) struct Polls(Arc<Mutex<Poll>>);

#[derive(Default)]
struct Poll {
    owed: Vec<u8>,
    waiting: Option<TcpStream>,
    ended: bool,
    fault: Option<Fault>,
}

impl Polls {
    /// `None`: the peer is gone.
    pub(super) fn owe(&self, bytes: &[u8], fault: Fault) -> Option<()> {
        let mut poll = self.0.lock().ok()?;
        poll.owed.extend_from_slice(bytes);
        if fault != Fault::None {
            poll.fault = Some(fault);
        }
        poll.answer()
    }

    fn wait(&self, socket: TcpStream) -> Option<()> {
        let mut poll = self.0.lock().ok()?;
        poll.waiting = Some(socket);
        poll.answer()
    }

    fn end(&self) -> Option<()> {
        let mut poll = self.0.lock().ok()?;
        poll.ended = true;
        poll.answer()
    }
}

impl Poll {
    /// Answers the poll that waits, if there is something to say.
    fn answer(&mut self) -> Option<()> {
        if self.owed.is_empty() && !self.ended {
            return Some(());
        }
        let Some(mut socket) = self.waiting.take() else { return Some(()) };
        if self.owed.is_empty() {
            return socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
        }
        let body = std::mem::take(&mut self.owed);
        match self.fault.take() {
            Some(Fault::Hangup) => {
                let _ = socket.shutdown(std::net::Shutdown::Both);
                None
            }
            Some(Fault::Torn) => socket.write_all(&answer_of(&body, body.len() - 10)).ok(),
            Some(Fault::AnsweredTwice) => socket.write_all(&answer_of(&body, body.len()).repeat(2)).ok(),
            _ => socket.write_all(&answer_of(&body, body.len())).ok(),
        }
    }
}

fn answer_of(body: &[u8], announced_bytes: usize) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {announced_bytes}\r\n\r\n").as_bytes(), body].concat()
}

pub(super) fn write_event(out: &mut Vec<u8>, record: &[u8]) {
    let mut writer = EventWriter::new(std::mem::take(out));
    writer.put(record);
    *out = writer.finish();
}

/// Answers one request of a client without a WebSocket. `None` ends its socket.
pub(super) fn answer(room: &Room, socket: &mut TcpStream, request: &Request, body: &[u8]) -> Option<()> {
    match request.method.as_str() {
        "GET" if request.wants_events => {
            let mut head = Vec::new();
            write_head(&mut head, &[]);
            let session = Session { way: Way::Events(socket.try_clone().ok()?), joined: false };
            // Known before the client knows: it will post at once.
            room.sessions.lock().ok()?.present.insert(request.token.clone(), session);
            socket.write_all(&head).ok()
        }
        "GET" => {
            let mut sessions = room.sessions.lock().ok()?;
            match sessions.present.get(&request.token).map(|session| &session.way) {
                Some(Way::Polls(polls)) => polls.wait(socket.try_clone().ok()?),
                _ => {
                    let session = Session { way: Way::Polls(Polls::default()), joined: false };
                    sessions.present.insert(request.token.clone(), session);
                    socket.write_all(&answer_of(b"", 0)).ok()
                }
            }
        }
        "DELETE" => {
            if let Some(Session { way: Way::Polls(polls), .. }) =
                room.sessions.lock().ok()?.present.remove(&request.token)
            {
                polls.end()?;
            }
            socket.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").ok()
        }
        _ => {
            socket.write_all(&answer_of(b"", 0)).ok()?;
            hear(room, &request.token, body).filter(|()| !request.one_post)
        }
    }
}

/// What a client has posted.
fn hear(room: &Room, token: &str, body: &[u8]) -> Option<()> {
    let mut sessions = room.sessions.lock().ok()?;
    let session = sessions.present.get_mut(token)?;
    if session.joined {
        if let (Way::Events(socket), true) = (&session.way, body.starts_with(b"{\"type\":7")) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        return Some(());
    }
    let Ok(Progress::Done(request, _)) = hub::handshake::parse(body, 4096) else { return None };
    let format = request.check(true).ok()?;
    session.joined = true;
    let mut way = session.way.try_clone()?;
    // The answer and the membership together: what is broadcast meanwhile comes after the answer.
    let mut peers = room.peers.lock().ok()?;
    way.send(Some(format), &[b"{}\x1e".to_vec()], Fault::None)?;
    peers.join(way, Some(format));
    Some(())
}
