//! From a URL to an open WebSocket: connect, negotiate, upgrade.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{HeadLimits, ResponseHead, parse_response};
use fanfare_protocol::http::{request, response};
use fanfare_protocol::negotiate::{self, NegotiateResponse, Transport};
use fanfare_protocol::ws::handshake;

use crate::failure::{Code, Failure};
use crate::units::printable;
use crate::url::{ServerUrl, query_value};

/// Time one address may take to accept us.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Silence allowed while a server answers a request.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Characters of a foreign answer that are shown.
const EXCERPT_CHARS: usize = 200;

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// The socket, past the 101.
    pub(crate) stream: TcpStream,
    /// Bytes that came right behind the 101.
    pub(crate) rest: Vec<u8>,
    /// The public id of the connection.
    pub(crate) connection_id: String,
}

/// Whom we say that we are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credentials<'a> {
    /// Sent as a query value.
    pub(crate) user: Option<&'a str>,
    /// A bearer token. Sent in a header, never in a URL.
    pub(crate) token: Option<&'a str>,
}

impl Credentials<'_> {
    fn authorization(&self) -> Option<String> {
        self.token.map(|token| format!("Bearer {token}"))
    }
}

/// The token in a file, without the white space around it.
///
/// # Errors
/// `FF1009` when there is none, or one that no header can hold.
pub(crate) fn read_token(path: &Path) -> Result<String, Failure> {
    let refuse = |why: String| {
        Failure::new(Code::BadToken, format!("cannot read a token from {}", path.display()))
            .fact("why", why)
            .fact("accepted", "a file with nothing but the token in it")
    };
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let token = text.trim();
    let sound = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(token.to_owned()) } else { Err(refuse("it is empty, or has more than one word".to_owned())) }
}

/// Negotiates with `hub` and opens a WebSocket to it.
///
/// # Errors
/// `FF4001` when nobody listens, `FF4002` when it is not a hub of ours to talk to.
pub(crate) fn open(url: &ServerUrl, hub: &str, who: Credentials<'_>) -> Result<Dialled, Failure> {
    let place = format!("http://{}{}", url.authority(), url.hub_path(hub));
    let user = who.user.map(|user| format!("&user={}", query_value(user))).unwrap_or_default();
    let authorization = who.authorization();
    let more: Vec<(&str, &str)> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
    let (connection_id, token) = ask_negotiate(url, hub, &user, &place, &more)?;
    let target = format!("{}?id={}{user}", url.hub_path(hub), query_value(&token));
    let mut nonce = [0; 16];
    random(&mut nonce).map_err(|error| lost(&place, &error))?;
    let key = handshake::encode_key(nonce);
    let mut bytes = Vec::new();
    handshake::write_upgrade_request(&mut bytes, &target, &url.authority(), &key, &more);
    let mut exchange = Exchange::begin(url, &place, &bytes)?;
    let ((status, checked), at) =
        exchange.answer(&place, |head| (head.status(), handshake::check_upgrade_response(head, &key)))?;
    if let Err(error) = checked {
        return Err(Failure::new(Code::NotAHub, format!("{place} did not switch to WebSocket"))
            .fact("status", format!("{status} {}", response::reason_phrase(status)))
            .fact("why", error.to_string()));
    }
    let Exchange { stream, received } = exchange;
    Ok(Dialled { stream, rest: received[at..].to_vec(), connection_id })
}

/// Connection id and token from `POST {hub}/negotiate`.
fn ask_negotiate(
    url: &ServerUrl,
    hub: &str,
    user: &str,
    place: &str,
    more: &[(&str, &str)],
) -> Result<(String, String), Failure> {
    let target = format!("{}/negotiate?negotiateVersion=1{user}", url.hub_path(hub));
    let mut bytes = Vec::new();
    let authority = url.authority();
    let headers = [&[("Host", authority.as_str()), ("Connection", "close")], more].concat();
    request::write(&mut bytes, "POST", &target, &headers, b"");
    let mut exchange = Exchange::begin(url, place, &bytes)?;
    let ((status, length), at) = exchange.answer(place, |head| (head.status(), head.body_length()))?;
    let body = exchange.body(at, BodyDecoder::new(length, BODY_BYTES_MAX), place)?;
    if status != 200 {
        let failure = Failure::new(Code::NotAHub, format!("{place} is not a hub: negotiate was refused"))
            .fact("status", format!("{status} {}", response::reason_phrase(status)))
            .fact("body", excerpt(&body));
        return Err(match status {
            404 => failure.fix("name a hub that the server serves, with --hub"),
            401 => failure.fix("the server wants a good token; give one with --token-file"),
            _ => failure,
        });
    }
    let not_a_hub = |why: String| Failure::new(Code::NotAHub, format!("{place} does not negotiate")).fact("why", why);
    match negotiate::parse_response(&body).map_err(|error| not_a_hub(error.to_string()))? {
        NegotiateResponse::Accepted { connection_id, connection_token, transports, .. } => {
            if !transports.contains(&Transport::WebSockets) {
                return Err(not_a_hub("it offers no WebSockets, and this client speaks nothing else".to_owned()));
            }
            Ok((connection_id.into_owned(), connection_token.into_owned()))
        }
        NegotiateResponse::Redirect { url, .. } => {
            Err(not_a_hub(format!("it sends its clients on to {}", printable(&url))))
        }
        NegotiateResponse::Refused { error } => Err(not_a_hub(printable(&error))),
    }
}

/// One request and its answer on a connection of its own.
struct Exchange {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Exchange {
    fn begin(url: &ServerUrl, place: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let mut stream = connect(url)?;
        stream.write_all(bytes).map_err(|error| lost(place, &error))?;
        Ok(Exchange { stream, received: Vec::new() })
    }

    /// Reads the head of the answer; what `read` made of it, and where the body starts.
    fn answer<R>(&mut self, place: &str, read: impl Fn(&ResponseHead<'_>) -> R) -> Result<(R, usize), Failure> {
        let not_http =
            |why: String| Failure::new(Code::NotAHub, format!("{place} does not speak HTTP")).fact("why", why);
        loop {
            match parse_response(&self.received, &HeadLimits::default()) {
                Ok(Progress::Done(head, end)) => return Ok((read(&head), end)),
                Ok(Progress::NeedMore) => {}
                Err(error) => return Err(not_http(error.to_string())),
            }
            if self.receive().map_err(|error| lost(place, &error))? == 0 {
                return Err(not_http("it closed the connection instead of answering".to_owned()));
            }
        }
    }

    fn body(mut self, mut at: usize, mut decoder: BodyDecoder, place: &str) -> Result<Vec<u8>, Failure> {
        let broken =
            |why: String| Failure::new(Code::PeerRule, format!("the answer of {place} is broken")).fact("why", why);
        let mut body = Vec::new();
        while !decoder.is_done() {
            if at == self.received.len() && self.receive().map_err(|error| lost(place, &error))? == 0 {
                return Err(broken("it ends in the middle".to_owned()));
            }
            let piece = decoder.handle_bytes(&self.received[at..]).map_err(|error| broken(error.to_string()))?;
            body.extend_from_slice(piece.data);
            at += piece.consumed;
        }
        Ok(body)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// A socket to the first address of the host that takes us.
fn connect(url: &ServerUrl) -> Result<TcpStream, Failure> {
    let failure = |why: &io::Error| {
        Failure::new(Code::CannotConnect, format!("cannot connect to {}", url.authority()))
            .fact("why", why.to_string())
            .fix("start a server (fanfare dev), or say where it is with --url")
    };
    let addresses = (url.host.as_str(), url.port).to_socket_addrs().map_err(|error| failure(&error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                let set_up = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(ANSWER_MAX)))
                    .and_then(|()| stream.set_write_timeout(Some(ANSWER_MAX)));
                return set_up.map(|()| stream).map_err(|error| failure(&error));
            }
            Err(error) => last = error,
        }
    }
    Err(failure(&last))
}

fn lost(place: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no answer within {} s", ANSWER_MAX.as_secs()),
        _ => error.to_string(),
    };
    Failure::new(Code::Lost, format!("lost {place}")).fact("why", why)
}

/// The beginning of a body, fit for a terminal.
fn excerpt(body: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(body);
    let short: String = text.chars().take(EXCERPT_CHARS).collect();
    printable(short.trim())
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // Up to 256 bytes come whole, says getrandom(2).
    rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}
