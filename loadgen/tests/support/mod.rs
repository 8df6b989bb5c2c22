//! A small relay server on std threads that can be told to misbehave, message by message.

mod sessions;

use fanfare_protocol::cursor::{Progress, Sink};
use fanfare_protocol::http::head::{BodyLength, HeadLimits, RequestHead, parse_request};
use fanfare_protocol::hub::{self, Format, Message, Payload, Value};
use fanfare_protocol::negotiate::{self, Transport};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::{MessageWriter, write_close};
use fanfare_protocol::ws::{DataKind, handshake};
use sessions::{Polls, Sessions, write_event};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does to one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Never sends it.
    Drop,
    /// Sends it twice.
    Duplicate,
    /// Sends it, and once more after a while.
    DuplicateAfter(Duration),
    /// Sends it after the next one.
    Swap,
    /// Changes one byte of the payload, so far from its start.
    Corrupt(usize),
    /// Cuts the connection instead.
    Hangup,
    /// Sleeps first.
    Stall(Duration),
    /// Without a WebSocket: what it is wrapped in ends in the middle of it.
    Torn,
    /// Long polling: the answer that holds it is given twice.
    AnsweredTwice,
}

/// In place of a receiver's number: a connection that has published.
pub(crate) const PUBLISHER: usize = usize::MAX;

/// Decides by (receiver in order of connecting, message in order of publishing). Connections that publish are not
/// counted among the receivers, wherever the scheduler lets them come.
pub(crate) type Mischief = Arc<dyn Fn(usize, u64) -> Fault + Send + Sync>;

/// The server. Its threads end when their connections do.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// How a delivery gets to a client.
enum Way {
    Frames(TcpStream),
    Events(TcpStream),
    Polls(Polls),
}

struct Peer {
    way: Way,
    /// In order of connecting, publishers included.
    id: usize,
    /// In order of connecting, publishers not counted; [`PUBLISHER`] for them.
    number: usize,
    format: Option<Format>,
    /// A delivery held back to come after the next.
    held: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Peers {
    present: Vec<Peer>,
    /// How many ever came.
    joined: usize,
    /// How many of them are receivers, as far as one can tell.
    receivers: usize,
}

impl Peers {
    fn join(&mut self, way: Way, format: Option<Format>) -> usize {
        let id = self.joined;
        self.present.push(Peer { way, id, number: self.receivers, format, held: Vec::new() });
        self.joined += 1;
        self.receivers += 1;
        id
    }

    /// Takes a connection out of the receivers when it publishes for the first time. The generator's publishers do so
    /// before anything is measured.
    fn note_publisher(&mut self, id: usize) {
        let Some(at) = self.present.iter().position(|peer| peer.id == id && peer.number != PUBLISHER) else { return };
        self.present[at].number = PUBLISHER;
        self.receivers -= 1;
        self.present[at + 1..].iter_mut().filter(|peer| peer.number != PUBLISHER).for_each(|peer| peer.number -= 1);
    }
}

struct Room {
    peers: Mutex<Peers>,
    sessions: Mutex<Sessions>,
    published: Mutex<u64>,
    mischief: Mischief,
}

impl Relay {
    /// Listens on a free port.
    pub(crate) fn start(mischief: impl Fn(usize, u64) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let room = Arc::new(Room {
            peers: Mutex::default(),
            sessions: Mutex::default(),
            published: Mutex::new(0),
            mischief: Arc::new(mischief),
        });
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let room = room.clone();
                std::thread::spawn(move || serve(&room, socket));
            }
        });
        Self { address }
    }

    /// A server without faults.
    pub(crate) fn honest() -> Self {
        Self::start(|_, _| Fault::None)
    }
}

/// One connection. Any error ends it.
fn serve(room: &Room, mut socket: TcpStream) -> Option<()> {
    let _ = socket.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        let head_end = read_head(&mut socket, &mut bytes)?;
        let Ok(Progress::Done(head, _)) = parse_request(&bytes, &HeadLimits::default()) else { return None };
        let body_bytes = match head.body_length() {
            BodyLength::None => 0,
            BodyLength::Length(length) => length as usize,
            BodyLength::Chunked => return None,
        };
        if head.header("upgrade").is_some() {
            return upgrade(room, socket.try_clone().ok()?, &head, bytes[head_end..].to_vec());
        }
        let path = head.path().to_owned();
        let request = sessions::Request::of(&head);
        while bytes.len() < head_end + body_bytes {
            more(&mut socket, &mut bytes)?;
        }
        let body = bytes[head_end..head_end + body_bytes].to_vec();
        bytes.drain(..head_end + body_bytes);
        match request {
            Some(request) => sessions::answer(room, &mut socket, &request, &body)?,
            None => answer_post(room, &mut socket, &path, &body)?,
        }
    }
}

fn more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let n = socket.read(&mut piece).ok().filter(|&n| n > 0)?;
    bytes.extend_from_slice(&piece[..n]);
    Some(())
}

fn read_head(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        match parse_request(bytes, &HeadLimits::default()) {
            Ok(Progress::Done(_, length)) => return Some(length),
            Ok(Progress::NeedMore) => more(socket, bytes)?,
            Err(_) => return None,
        }
    }
}

fn answer_post(room: &Room, socket: &mut TcpStream, path: &str, body: &[u8]) -> Option<()> {
    let mut answer = Vec::new();
    if path.ends_with("/negotiate") && !path.starts_with("/nowhere") {
        let token = room.sessions.lock().ok()?.new_token();
        negotiate::write_response(&mut answer, 1, "c", &token, &Transport::ALL, false);
    } else if path == "/publish" {
        publish(room, None, body);
    } else {
        return socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    socket.write_all(&[head.as_bytes(), &answer].concat()).ok()
}

/// Paths: `/raw` broadcasts what it gets behind `pub:`; `/hub` is a relay hub; `/token` a hub that wants a token; `/once`
/// one that closes a socket after a POST, without saying so in its answer; `/late` one that pings, every 700 ms.
fn upgrade(room: &Room, mut socket: TcpStream, head: &RequestHead<'_>, early: Vec<u8>) -> Option<()> {
    let known = match head.path() {
        "/raw" | "/hub" | "/once" | "/late" => true,
        "/token" => head.query_value("id").is_some_and(|id| id.starts_with("tok")),
        _ => false,
    };
    let Some(accept) = handshake::check_upgrade(head).ok().filter(|_| known) else {
        return socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
    };
    let mut answer = Vec::new();
    handshake::write_switching_protocols(&mut answer, &accept);
    socket.write_all(&answer).ok()?;
    let raw = head.path() == "/raw";
    let way = Way::Frames(socket.try_clone().ok()?);
    let id = if raw { Some(room.peers.lock().ok()?.join(way, None)) } else { None };
    let mut client = Client {
        decoder: Decoder::new(Role::Server),
        format: None,
        raw,
        id,
        message: Vec::new(),
        kind: DataKind::Text,
    };
    if head.path() == "/late" {
        ping_late(socket.try_clone().ok()?);
    }
    let mut bytes = early;
    loop {
        client.take(room, &mut socket, &mut bytes)?;
        bytes.clear();
        more(&mut socket, &mut bytes)?;
    }
}

/// Pings until the connection is gone. A ping before the answer to the handshake would be an error, and this is not.
fn ping_late(mut socket: TcpStream) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(700));
            let ping = frame(Some(Format::Json), b"{\"type\":6}\x1e");
            if socket.write_all(&ping).is_err() {
                return;
            }
        }
    });
}

struct Client {
    decoder: Decoder,
    format: Option<Format>,
    raw: bool,
    id: Option<usize>,
    message: Vec<u8>,
    kind: DataKind,
}

impl Client {
    fn take(&mut self, room: &Room, socket: &mut TcpStream, bytes: &mut [u8]) -> Option<()> {
        let mut whole = Vec::new();
        for event in self.decoder.handle_bytes(bytes) {
            match event.ok()? {
                Event::Data { kind, payload, fin, .. } => {
                    self.kind = kind;
                    self.message.extend_from_slice(payload);
                    if fin {
                        whole.push(std::mem::take(&mut self.message));
                    }
                }
                Event::Close { .. } => {
                    let mut farewell = Vec::new();
                    write_close(&mut farewell, None, "");
                    let _ = socket.write_all(&farewell);
                    return None;
                }
                Event::Ping(_) | Event::Pong(_) => {}
            }
        }
        whole.into_iter().try_for_each(|message| self.message(room, socket, &message))
    }

    fn message(&mut self, room: &Room, socket: &mut TcpStream, message: &[u8]) -> Option<()> {
        if self.raw {
            publish(room, self.id, message.strip_prefix(b"pub:")?);
            return Some(());
        }
        let mut rest = message;
        let format = match self.format {
            Some(format) => format,
            None => {
                let Ok(Progress::Done(request, used)) = hub::handshake::parse(rest, 4096) else { return None };
                let format = request.check(true).ok()?;
                rest = &rest[used..];
                // The answer and the membership together: what is broadcast meanwhile comes after the answer.
                let mut peers = room.peers.lock().ok()?;
                socket.write_all(&frame(Some(format), b"{}\x1e")).ok()?;
                self.id = Some(peers.join(Way::Frames(socket.try_clone().ok()?), Some(format)));
                self.format = Some(format);
                format
            }
        };
        while !rest.is_empty() {
            let Ok(Progress::Done(message, used)) = hub::decode(format, rest, 0) else { return None };
            rest = &rest[used..];
            if let Message::Invocation { invocation_id, target, arguments, .. } = message {
                let mut answer = Vec::new();
                let known = target.eq_ignore_ascii_case("Broadcast");
                if let (true, Some(Ok(text))) = (known, arguments.get(1).map(|raw| raw.as_str())) {
                    publish(room, self.id, text.as_bytes());
                }
                if let Some(id) = invocation_id {
                    if known {
                        hub::encode::completion_void(format, &mut answer, &id).ok()?;
                    } else {
                        hub::encode::completion_error(format, &mut answer, &id, "Method does not exist.").ok()?;
                    }
                    // Not between two halves of somebody else's write.
                    let _peers = room.peers.lock().ok()?;
                    socket.write_all(&frame(Some(format), &answer)).ok()?;
                }
            }
        }
        Some(())
    }
}

fn frame(format: Option<Format>, message: &[u8]) -> Vec<u8> {
    let kind = if format == Some(Format::MessagePack) { DataKind::Binary } else { DataKind::Text };
    let mut writer = MessageWriter::new(Vec::new(), kind, message.len());
    writer.put(message);
    writer.finish()
}

fn delivery(format: Option<Format>, payload: &[u8]) -> Vec<u8> {
    let Some(format) = format else { return payload.to_vec() };
    let mut record = Vec::new();
    let arguments = [Value::Str(String::from_utf8_lossy(payload).into_owned())];
    hub::encode::invocation(format, &mut record, None, "m", &Payload::Values(&arguments)).expect("encodes");
    record
}

fn publish(room: &Room, by: Option<usize>, payload: &[u8]) {
    let mut peers = room.peers.lock().expect("no panic");
    by.into_iter().for_each(|id| peers.note_publisher(id));
    let mut published = room.published.lock().expect("no panic");
    let message = *published;
    *published += 1;
    peers.present.retain_mut(|peer| peer.deliver((room.mischief)(peer.number, message), payload).is_some());
}

impl Way {
    fn try_clone(&self) -> Option<Self> {
        Some(match self {
            Way::Frames(socket) => Way::Frames(socket.try_clone().ok()?),
            Way::Events(socket) => Way::Events(socket.try_clone().ok()?),
            Way::Polls(polls) => Way::Polls(polls.clone()),
        })
    }

    /// `None`: the peer is gone.
    fn send(&mut self, format: Option<Format>, records: &[Vec<u8>], fault: Fault) -> Option<()> {
        let socket = match self {
            Way::Polls(polls) => return polls.owe(&records.concat(), fault),
            Way::Frames(socket) | Way::Events(socket) if fault == Fault::Hangup => {
                let _ = socket.shutdown(std::net::Shutdown::Both);
                return None;
            }
            Way::Frames(socket) => {
                let frames: Vec<u8> = records.iter().flat_map(|record| frame(format, record)).collect();
                return socket.write_all(&frames).ok();
            }
            Way::Events(socket) => socket,
        };
        let mut events = Vec::new();
        for record in records {
            let cut = if fault == Fault::Torn { record.len() / 2 } else { record.len() };
            write_event(&mut events, &record[..cut]);
            if cut < record.len() {
                write_event(&mut events, &record[cut..]);
            }
        }
        socket.write_all(&events).ok()
    }
}

impl Peer {
    /// `None`: the peer is gone.
    fn deliver(&mut self, fault: Fault, payload: &[u8]) -> Option<()> {
        let whole = delivery(self.format, payload);
        let mut records = vec![whole.clone()];
        match fault {
            Fault::None | Fault::Hangup | Fault::Torn | Fault::AnsweredTwice => {}
            Fault::Drop => records.clear(),
            Fault::Duplicate => records.push(whole),
            Fault::DuplicateAfter(time) => {
                let (mut way, format) = (self.way.try_clone()?, self.format);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    way.send(format, &[whole], Fault::None)
                });
            }
            Fault::Swap => {
                self.held = records;
                return Some(());
            }
            Fault::Corrupt(at) => {
                let mut damaged = payload.to_vec();
                damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
                records = vec![delivery(self.format, &damaged)];
            }
            Fault::Stall(time) => std::thread::sleep(time),
        }
        records.append(&mut self.held);
        if records.is_empty() {
            return Some(());
        }
        self.way.send(self.format, &records, fault)
    }
}
