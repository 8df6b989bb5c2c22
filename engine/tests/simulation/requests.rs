//! A client without a WebSocket: events or polls on one socket, POSTs on another, which may lead to another shard.

use fanfare_engine::io::sim::{PeerId, Rng};
use std::collections::VecDeque;

/// What the client's messages come on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Events,
    Polls,
}

/// What a socket brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The connection is there.
    Begun,
    /// Whole hub messages.
    Messages(Vec<u8>),
    /// The server will have no more to do with the connection: the status.
    Ended(u16),
    /// It has no room for it now.
    Refused,
}

/// One direction's worth of HTTP on each of two sockets.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) carrier: Carrier,
    pub(crate) post_peer: PeerId,
    pub(crate) post_output: VecDeque<u8>,
    /// Messages that are still to be posted.
    pub(crate) unposted: Vec<u8>,
    /// Answers to polls that brought something.
    pub(crate) answers: u32,
    /// A socket may fail to go where its connection is.
    pub(crate) may_be_refused: bool,
    query: String,
    token: Option<String>,
    /// It posts before its connection begins.
    early: bool,
    begun: bool,
    /// Requests under way.
    posting: bool,
    polling: bool,
    deleting: bool,
    main_input: Vec<u8>,
    post_input: Vec<u8>,
}

impl Requests {
    pub(crate) fn new(carrier: Carrier, post_peer: PeerId, query: String, early: bool) -> Self {
        let mut requests = Self {
            carrier,
            post_peer,
            post_output: VecDeque::new(),
            unposted: Vec::new(),
            answers: 0,
            may_be_refused: false,
            query,
            token: None,
            early,
            begun: false,
            posting: true,
            polling: false,
            deleting: false,
            main_input: Vec::new(),
            post_input: Vec::new(),
        };
        let head = format!(
            "POST /hub/negotiate?negotiateVersion=1&{} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            requests.query
        );
        requests.post_output.extend(head.as_bytes());
        requests
    }

    /// Whether a POST, or the negotiation, has no answer yet.
    pub(crate) fn is_posting(&self) -> bool {
        self.posting
    }

    /// Whether everything said has been heard, as far as the client knows.
    pub(crate) fn is_idle(&self) -> bool {
        self.unposted.is_empty() && !self.posting
    }

    fn url(&self) -> String {
        format!("/hub?id={}&{}", self.token.as_deref().unwrap_or_default(), self.query)
    }

    /// The next request on the socket of events or polls, if one is due.
    pub(crate) fn next_get(&mut self) -> Option<String> {
        let hurried = self.early && !self.begun && self.posting;
        if self.token.is_none() || self.polling || hurried {
            return None;
        }
        self.polling = true;
        let accept = if self.carrier == Carrier::Events { "text/event-stream" } else { "*/*" };
        Some(format!("GET {} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n", self.url()))
    }

    /// Begins to post some of what is to be posted, if nothing is under way. Messages may be cut anywhere.
    pub(crate) fn post(&mut self, rng: &mut Rng) {
        if self.posting || self.unposted.is_empty() || self.token.is_none() || !(self.begun || self.early) {
            return;
        }
        let all = self.unposted.len();
        let n = if rng.chance(800) { all } else { 1 + rng.below(all as u64) as usize };
        let body: Vec<u8> = self.unposted.drain(..n).collect();
        self.posting = true;
        if rng.chance(700) {
            let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {n}\r\n\r\n", self.url());
            self.post_output.extend(head.as_bytes());
            self.post_output.extend(&body);
        } else {
            let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", self.url());
            self.post_output.extend(head.as_bytes());
            for chunk in body.chunks(1 + rng.below(n as u64) as usize) {
                self.post_output.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                self.post_output.extend(chunk);
                self.post_output.extend(b"\r\n");
            }
            self.post_output.extend(b"0\r\n\r\n");
        }
    }

    /// Ends the connection from the socket of POSTs. `false`: that socket is busy.
    pub(crate) fn delete(&mut self) -> bool {
        let can = !self.posting && self.token.is_some() && self.begun;
        if can {
            (self.posting, self.deleting) = (true, true);
            let head = format!("DELETE {} HTTP/1.1\r\nHost: x\r\n\r\n", self.url());
            self.post_output.extend(head.as_bytes());
        }
        can
    }

    /// The socket of POSTs was closed between two of them: here is another one.
    pub(crate) fn reconnect(&mut self, post_peer: PeerId) {
        self.post_peer = post_peer;
        self.post_input.clear();
    }

    /// Bytes on the socket of POSTs.
    pub(crate) fn handle_post_bytes(&mut self, bytes: &[u8]) -> Option<News> {
        self.post_input.extend_from_slice(bytes);
        let (status, body) = take_response(&mut self.post_input)?;
        assert!(std::mem::take(&mut self.posting), "an answer to nothing: {status}");
        match status {
            200 if self.token.is_none() => {
                let text = String::from_utf8(body).expect("JSON");
                let token = text.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
                self.token = Some(token.expect("a token").to_owned());
                None
            }
            200 => None,
            202 if self.deleting => None,
            429 | 503 => Some(News::Refused),
            status => Some(News::Ended(status)),
        }
    }

    /// Bytes on the socket of events or polls.
    pub(crate) fn handle_main_bytes(&mut self, bytes: &[u8]) -> Option<News> {
        self.main_input.extend_from_slice(bytes);
        match self.carrier {
            Carrier::Events if self.begun => self.take_events(),
            Carrier::Events => self.take_head_of_events(),
            Carrier::Polls => self.take_poll(),
        }
    }

    fn take_head_of_events(&mut self) -> Option<News> {
        if self.main_input.starts_with(b"HTTP/1.1 200 ") {
            let end = find(&self.main_input, b"\r\n\r\n:\r\n")?;
            self.main_input.drain(..end + 7);
            self.begun = true;
            return Some(News::Begun);
        }
        let (status, _) = take_response(&mut self.main_input)?;
        Some(if matches!(status, 429 | 503) { News::Refused } else { News::Ended(status) })
    }

    /// Every whole event that is there, each with whole messages in it.
    fn take_events(&mut self) -> Option<News> {
        let mut messages = Vec::new();
        while let Some(end) = find(&self.main_input, b"\r\n\r\n") {
            let event: Vec<u8> = self.main_input.drain(..end + 4).collect();
            let payload = event[..end].strip_prefix(b"data: ").expect("an event of one line");
            assert!(find(payload, b"\n").is_none(), "an event of one line");
            messages.extend_from_slice(payload);
        }
        (!messages.is_empty()).then_some(News::Messages(messages))
    }

    fn take_poll(&mut self) -> Option<News> {
        let (status, body) = take_response(&mut self.main_input)?;
        assert!(std::mem::take(&mut self.polling), "an answer to no poll: {status}");
        match status {
            200 if !self.begun => {
                assert!(body.is_empty(), "the first poll is answered at once, with nothing");
                self.begun = true;
                Some(News::Begun)
            }
            200 => {
                self.answers += u32::from(!body.is_empty());
                Some(News::Messages(body))
            }
            429 | 503 => Some(News::Refused),
            status => Some(News::Ended(status)),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Takes one whole response with a Content-Length, or without a body, off the front.
fn take_response(input: &mut Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let end = find(input, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let length: usize = length.map_or(0, |text| text.parse().expect("a length"));
    if input.len() < end + length {
        return None;
    }
    let body = input[end..end + length].to_vec();
    input.drain(..end + length);
    Some((status, body))
}
