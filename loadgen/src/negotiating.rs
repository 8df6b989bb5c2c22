//! Asking for tokens: as the beginning of a connection, and, with the command `negotiate`, for its own sake.

use crate::client::State;
use crate::job::Task;
use crate::phrases::tag;
use crate::shared::add;
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{HeadLimits, parse_response};
use fanfare_protocol::negotiate::{self, NegotiateResponse, Transport};

/// Longest answer to a negotiate request.
const NEGOTIATE_BYTES_MAX: usize = 64 << 10;

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The connection token.
    pub token: String,
    /// The socket can carry another request.
    pub keeps_alive: bool,
}

/// Reads the answer of a server that must offer `transport`: `None` while incomplete.
pub(crate) fn negotiated(answer: &[u8], transport: Transport) -> Result<Option<Negotiated>, String> {
    let (head, head_bytes) = match parse_response(answer, &HeadLimits::default()) {
        Ok(Progress::NeedMore) => return Ok(None),
        Ok(Progress::Done(head, _)) if head.ends_with_connection() => {
            return Err("an answer without a length".to_owned());
        }
        Ok(Progress::Done(head, head_bytes)) => (head, head_bytes),
        Err(error) => return Err(error.to_string()),
    };
    let mut decoder = BodyDecoder::new(head.body_length(), NEGOTIATE_BYTES_MAX);
    let (mut body, mut rest) = (Vec::new(), &answer[head_bytes..]);
    while !decoder.is_done() && !rest.is_empty() {
        let piece = decoder.handle_bytes(rest).map_err(|error| error.to_string())?;
        body.extend_from_slice(piece.data);
        rest = &rest[piece.consumed..];
    }
    if !decoder.is_done() {
        return Ok(None);
    }
    if head.status() != 200 {
        return Err(format!("status {}", head.status()));
    }
    match negotiate::parse_response(&body).map_err(|error| error.to_string())? {
        NegotiateResponse::Accepted { connection_token, transports, .. } => {
            if !transports.contains(&transport) {
                return Err(format!("the server does not offer {}", transport.name()));
            }
            Ok(Some(Negotiated { token: connection_token.into_owned(), keeps_alive: head.keep_alive() }))
        }
        NegotiateResponse::Redirect { url, .. } => {
            Err(format!("the server redirects to {url}, which this generator does not follow"))
        }
        NegotiateResponse::Refused { error } => Err(error.into_owned()),
    }
}

impl<D: Dial> Worker<D> {
    /// Whether sockets negotiate and never connect.
    pub(crate) fn is_asking_only(&self) -> bool {
        matches!(self.setup.job.task, Task::Negotiate { .. })
    }

    /// The measured period begins: every socket asks.
    pub(crate) fn ask_all(&mut self) {
        if !self.is_asking_only() {
            return;
        }
        for index in 0..self.members() {
            if self.conns[index as usize].state == State::Open {
                self.ask(Slot(index));
            }
        }
    }

    /// One socket asks, if there is anything left to ask for.
    fn ask(&mut self, slot: Slot) {
        let now_us = self.now_us();
        if self.to_ask == 0 {
            return;
        }
        self.to_ask -= 1;
        self.conns[slot.0 as usize].phase_us = now_us;
        self.say(slot, self.voice(slot).phrases.negotiate, tag::NEGOTIATE);
    }

    /// A socket has been answered well: it asks again.
    pub(crate) fn asked(&mut self, slot: Slot) {
        self.end_phase(slot, |phases| &mut phases.negotiate);
        add(&self.setup.shared.counters[self.index as usize].negotiated, 1);
        self.ask(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"negotiateVersion":1,"connectionId":"c","connectionToken":"t0ken","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]}"#;

    fn response(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn read(answer: &[u8]) -> Result<Option<Negotiated>, String> {
        negotiated(answer, Transport::WebSockets)
    }

    #[test]
    fn an_answer_cut_anywhere_gives_its_token() {
        let whole = response("200 OK", BODY);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(read(&whole), Ok(Some(Negotiated { token: "t0ken".to_owned(), keeps_alive: true })));
        let closing = response("200 OK\r\nConnection: close", BODY);
        assert!(read(&closing).is_ok_and(|answer| answer.is_some_and(|answer| !answer.keeps_alive)));
    }

    #[test]
    fn refusals_are_told() {
        assert_eq!(read(&response("404 Not Found", "")), Err("status 404".to_owned()));
        assert_eq!(read(&response("200 OK", r#"{"error":"too full"}"#)), Err("too full".to_owned()));
        assert!(read(&response("200 OK", r#"{"url":"http://b/"}"#)).is_err_and(|text| text.contains("redirects")));
        assert!(read(b"SSH-2.0-x\r\n\r\n").is_err());
        let answer = response("200 OK", BODY);
        assert_eq!(
            negotiated(&answer, Transport::LongPolling),
            Err("the server does not offer LongPolling".to_owned())
        );
    }
}
