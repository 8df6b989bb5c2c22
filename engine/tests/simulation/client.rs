//! A client: what it says, in pieces of any size, and what it makes of what it hears, cut anywhere.

use crate::simulation::deflate::{DEFLATE_BIT, Deflate};
use crate::simulation::hub::{Books, HEARD, arguments};
use crate::simulation::ledger::{Aim, Verdict};
use crate::simulation::methods::QUESTION;
use crate::simulation::requests::{News, Requests};
use crate::simulation::resumption::{Counted, Resumption};
use crate::simulation::streamer::{Asked, Streamer};
use fanfare_engine::io::sim::{PeerId, Rng};
use fanfare_engine::{Format, Payload, Value};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::{CloseCode, FrameError};
use fanfare_protocol::hub::message::{Message, Outcome};
use fanfare_protocol::hub::raw::Arguments;
use fanfare_protocol::hub::{decode_one, encode, handshake, message_len};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::deflate::offer::OFFER;
use fanfare_protocol::ws::encode::{write_masked_close, write_masked_control, write_masked_fragment};
use fanfare_protocol::ws::{DataKind, OpCode};
use std::collections::VecDeque;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The answer to its request.
    Head,
    /// The answer to its hub handshake.
    Handshake,
    /// Hub messages.
    Open,
    /// The end of the transport.
    Closing,
    /// Nothing any more.
    Gone,
}

/// The answer that an invocation must get.
#[derive(Clone, Debug)]
enum Expected {
    Text(String),
    Void,
    Error,
    /// Whatever the asker was told, which the ledger has judged.
    Settled,
    /// As the ledger says about this message; and if it was for the client itself, it has been heard by then.
    Said(u64),
}

/// One client.
pub(crate) struct Client {
    pub(crate) number: u32,
    pub(crate) peer: PeerId,
    pub(crate) format: Format,
    pub(crate) stage: Stage,
    /// It does not read.
    pub(crate) stalled: bool,
    /// It has ended the connection itself, or asked for the end: nothing is owed to it.
    pub(crate) leaving: bool,
    /// It does not answer a close frame.
    pub(crate) rude: bool,
    /// Whether the server has turned it away or sent a close message or frame.
    pub(crate) dismissed: bool,
    /// Bytes that it is about to write.
    pub(crate) output: VecDeque<u8>,
    /// The server is going: it may say so at any time.
    pub(crate) server_goes: bool,
    /// How it speaks and listens, if not on a WebSocket.
    pub(crate) requests: Option<Requests>,
    /// What it keeps for the loss of its WebSocket, if it asks for that.
    pub(crate) resumption: Option<Resumption>,
    /// It greets the server as soon as hands are shaken: from then on it counts (spec 7.6).
    greets: bool,
    /// It has asked for compression.
    pub(crate) deflate: Option<Box<Deflate>>,
    said_close: bool,
    decoder: Decoder,
    head: Vec<u8>,
    input: Vec<u8>,
    searched: usize,
    expected: VecDeque<(String, Expected)>,
    pongs: VecDeque<Vec<u8>>,
    invocations: u64,
    serial: u64,
    pub(crate) streamer: Streamer,
    books: Books,
}

impl Client {
    pub(crate) fn new(number: u32, peer: PeerId, format: Format, books: Books) -> Self {
        Self {
            number,
            peer,
            format,
            stage: Stage::Head,
            stalled: false,
            leaving: false,
            rude: false,
            dismissed: false,
            output: VecDeque::new(),
            server_goes: false,
            requests: None,
            resumption: None,
            greets: false,
            deflate: None,
            said_close: false,
            decoder: Decoder::new(Role::Client),
            head: Vec::new(),
            input: Vec::new(),
            searched: 0,
            expected: VecDeque::new(),
            pongs: VecDeque::new(),
            invocations: 0,
            serial: 0,
            streamer: Streamer::new(number),
            books,
        }
    }

    /// Whether it came in order, stays, and has every right to hear everything.
    pub(crate) fn is_faithful(&self) -> bool {
        self.stage == Stage::Open && !self.leaving && !self.dismissed
    }

    /// Whether it is about to write.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.requests.as_ref().is_some_and(|requests| !requests.post_output.is_empty())
    }

    /// Whether it can still say something.
    pub(crate) fn can_speak(&self) -> bool {
        !self.leaving && !self.dismissed && !self.said_close && !matches!(self.stage, Stage::Closing | Stage::Gone)
    }

    /// Everything that it waits for, if anything.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let unsaid = self.requests.as_ref().filter(|requests| !requests.is_idle());
        if unsaid.is_some() {
            return Some("the answer to a POST".to_owned());
        }
        let answers = self.expected.front().map(|(id, expected)| format!("the answer to {id}, {expected:?}"));
        let pong = || self.pongs.front().map(|_| "a pong".to_owned());
        answers.or_else(pong).or_else(|| self.streamer.waits_for())
    }

    pub(crate) fn user(&self) -> String {
        format!("user{}", self.number % 2)
    }

    // -- speaking -------------------------------------------------------------------------------------------------

    /// Who it is, for every request.
    pub(crate) fn query(&self) -> String {
        format!("client={}&user={}", self.number, self.user())
    }

    /// The request to upgrade, unless it is no WebSocket that it asks for.
    pub(crate) fn ask_in(&mut self) {
        if self.requests.is_some() {
            return;
        }
        let id = match &self.resumption {
            Some(resumption) => match resumption.token() {
                Some(token) => format!("id={token}&"),
                None => return self.negotiate(),
            },
            None => String::new(),
        };
        let offer = match self.deflate {
            Some(_) => format!("Sec-WebSocket-Extensions: {OFFER}\r\n"),
            None => String::new(),
        };
        let request = format!(
            "GET /hub?{id}{} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offer}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.query()
        );
        self.output.extend(request.as_bytes());
    }

    fn negotiate(&mut self) {
        let query = self.query();
        let head = format!(
            "POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true&{query} HTTP/1.1\r\nHost: x\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.output.extend(head.as_bytes());
    }

    /// The hub handshake. Whoever has to negotiate first shakes hands when that is done.
    pub(crate) fn shake_hands(&mut self, rng: &mut Rng) {
        let version = match &self.resumption {
            Some(resumption) if resumption.token().is_none() => return,
            Some(_) => handshake::VERSION_MAX,
            None => handshake::VERSION_PLAIN,
        };
        let mut request = Vec::new();
        handshake::write_request(&mut request, self.format, version);
        // The request is JSON in either format, and travels in the format's kind of frame.
        self.frame_bytes(&request, rng);
    }

    /// Whether it has something to say that nobody has asked it for.
    pub(crate) fn will_go_on(&self) -> bool {
        let counts = self.resumption.as_ref().is_some_and(|resumption| self.greets || resumption.owes_ack());
        counts && self.stage == Stage::Open
    }

    /// Whether it has no WebSocket to speak on just now.
    pub(crate) fn is_between(&self) -> bool {
        self.resumption.is_some() && (self.stage == Stage::Head || self.greets)
    }

    /// Whether its WebSocket may be lost without harm.
    pub(crate) fn may_lose(&self) -> bool {
        let counts = self.resumption.as_ref().is_some_and(|resumption| resumption.token().is_some());
        counts && self.stage == Stage::Open && !self.greets && !self.leaving && !self.dismissed
    }

    /// Its WebSocket is lost, here is another. Everything half said or half heard is forgotten.
    pub(crate) fn resume_on(&mut self, peer: PeerId) {
        self.resumption.as_mut().expect("it counts").lose();
        self.peer = peer;
        self.stage = Stage::Head;
        self.decoder = Decoder::new(Role::Client);
        self.output.clear();
        self.head.clear();
        self.input.clear();
        self.searched = 0;
        // Whoever was asked for a pong is gone.
        self.pongs.clear();
        self.ask_in();
    }

    fn kind(&self) -> DataKind {
        if self.format.is_text() { DataKind::Text } else { DataKind::Binary }
    }

    /// One WebSocket message of one or more frames, with pings between them.
    fn frame(&mut self, bytes: &[u8], rng: &mut Rng) {
        if let Some(resumption) = &mut self.resumption {
            resumption.say(bytes);
            if self.stage == Stage::Head || self.greets {
                // Said when there is a WebSocket.
                return;
            }
        }
        self.frame_bytes(bytes, rng);
    }

    /// The same, whether it counts or not.
    fn frame_bytes(&mut self, bytes: &[u8], rng: &mut Rng) {
        if let Some(requests) = &mut self.requests {
            return requests.unposted.extend_from_slice(bytes);
        }
        let compressed = self.deflate.as_mut().and_then(|deflate| deflate.compress(bytes, rng));
        let (bytes, deflate_bit) = match &compressed {
            Some(payload) => (&payload[..], DEFLATE_BIT),
            None => (bytes, 0),
        };
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            let n = if rng.chance(700) { left } else { 1 + rng.below(left as u64) as usize };
            let key = (rng.bits() as u32).to_le_bytes();
            let mut frame = Vec::with_capacity(n + 14);
            write_masked_fragment(&mut frame, self.kind(), at == 0, n == left, &bytes[at..at + n], key);
            if at == 0 {
                frame[0] |= deflate_bit;
            }
            self.output.extend(&frame);
            at += n;
            if at < bytes.len() && rng.chance(100) {
                self.ping_socket(rng);
            }
        }
    }

    pub(crate) fn ping_socket(&mut self, rng: &mut Rng) {
        if self.requests.is_some() || self.is_between() {
            return;
        }
        let payload: Vec<u8> = (0..rng.below(126)).map(|_| rng.bits() as u8).collect();
        let mut frame = Vec::new();
        write_masked_control(&mut frame, OpCode::Ping, &payload, [7; 4]);
        self.output.extend(&frame);
        self.pongs.push_back(payload);
    }

    pub(crate) fn ping_hub(&mut self, rng: &mut Rng) {
        let mut message = Vec::new();
        encode::ping(self.format, &mut message);
        self.frame(&message, rng);
    }

    /// Calls a method; `wanted` is the answer that it waits for, if it waits for one.
    fn invoke(&mut self, target: &str, arguments: &[Value], wanted: Option<Expected>, rng: &mut Rng) {
        let id = wanted.map(|expected| {
            self.invocations += 1;
            let id = self.invocations.to_string();
            self.expected.push_back((id.clone(), expected));
            id
        });
        let mut message = Vec::new();
        encode::invocation(self.format, &mut message, id.as_deref(), target, &Payload::Values(arguments))
            .expect("plain values can be encoded");
        self.frame(&message, rng);
    }

    /// Asks for its own text back, now, when somebody answers (`Later`) or after some milliseconds (`Soon`).
    pub(crate) fn ask(&mut self, method: &str, bytes: usize, rng: &mut Rng) {
        let text = crate::simulation::filler::filler(self.number, u64::MAX - self.invocations, bytes);
        let mut arguments = vec![Value::Str(text.clone())];
        if method == "Soon" {
            arguments.push(Value::Int(rng.below(300) as i64));
        }
        self.invoke(method, &arguments, Some(Expected::Text(text)), rng);
    }

    /// Says something to somebody.
    pub(crate) fn say(&mut self, aim: &Aim, bytes: usize, rng: &mut Rng) {
        self.serial += 1;
        let arguments = arguments(aim, self.number, self.serial, bytes);
        let wanted = rng.chance(500).then_some(Expected::Said(self.serial));
        self.invoke("Say", &arguments, wanted, rng);
    }

    /// Says something of streams that is encoded already.
    pub(crate) fn say_encoded(&mut self, messages: &[u8], rng: &mut Rng) {
        self.frame(messages, rng);
    }

    /// Has another client asked.
    pub(crate) fn question(&mut self, to: u32, bytes: usize, rng: &mut Rng) {
        let arguments = self.streamer.question(to, bytes);
        self.invoke("Question", &arguments, Some(Expected::Settled), rng);
    }

    /// Answers a question that it was asked. `false`: there is none.
    pub(crate) fn answer_question(&mut self, rng: &mut Rng) -> bool {
        let waiting = self.streamer.asked.len() as u64;
        if waiting == 0 {
            return false;
        }
        let asked = self.streamer.asked.swap_remove(rng.below(waiting) as usize);
        let with_result = rng.chance(800);
        self.books.open().flows.answers(asked.which, with_result);
        let message = Streamer::answer(self.format, &asked, with_result);
        self.frame(&message, rng);
        true
    }

    /// Calls a method that returns nothing.
    pub(crate) fn call(&mut self, method: &str, arguments: &[Value], rng: &mut Rng) {
        self.invoke(method, arguments, Some(Expected::Void), rng);
    }

    /// Calls a method that fails.
    pub(crate) fn fail(&mut self, method: &str, rng: &mut Rng) {
        self.invoke(method, &[], Some(Expected::Error), rng);
    }

    /// Has the hub's code end the connection.
    pub(crate) fn ask_out(&mut self, rng: &mut Rng) {
        self.invoke("Abort", &[], None, rng);
        self.leaving = true;
    }

    /// Says goodbye in the hub's words.
    pub(crate) fn say_goodbye(&mut self, rng: &mut Rng) {
        let mut message = Vec::new();
        encode::close(self.format, &mut message, None, false);
        self.frame(&message, rng);
        self.leaving = true;
    }

    /// Sends its close frame.
    pub(crate) fn close_socket(&mut self) {
        if !std::mem::replace(&mut self.said_close, true) {
            let mut frame = Vec::new();
            write_masked_close(&mut frame, Some(CloseCode::NORMAL), "", [3; 4]);
            self.output.extend(&frame);
            self.leaving |= !self.dismissed;
        }
    }

    // -- listening ------------------------------------------------------------------------------------------------

    /// Takes what has arrived, cut anywhere.
    pub(crate) fn handle_bytes(&mut self, mut bytes: Vec<u8>) {
        while let Some(requests) = &mut self.requests {
            match requests.handle_main_bytes(&std::mem::take(&mut bytes)) {
                Some(news) => self.handle_news(news),
                None => return,
            }
        }
        if self.stage == Stage::Head {
            self.head.extend_from_slice(&bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            bytes = self.head.split_off(end + 4);
            if self.head.starts_with(b"HTTP/1.1 200 ") {
                return self.handle_negotiated(bytes);
            }
            self.handle_head();
        }
        if matches!(self.stage, Stage::Handshake | Stage::Open) {
            self.handle_frames(&mut bytes);
        }
    }

    /// Bytes on the socket of POSTs.
    pub(crate) fn handle_post_bytes(&mut self, bytes: &[u8]) {
        let requests = self.requests.as_mut().expect("a client that posts");
        if let Some(news) = requests.handle_post_bytes(bytes) {
            self.handle_news(news);
        }
    }

    /// What is due on its sockets, without anybody having asked for it.
    pub(crate) fn go_on(&mut self, rng: &mut Rng) {
        if matches!(self.stage, Stage::Closing | Stage::Gone) {
            return;
        }
        if self.resumption.is_some() {
            return self.go_on_counting(rng);
        }
        let Some(requests) = &mut self.requests else { return };
        if let Some(get) = requests.next_get() {
            self.output.extend(get.as_bytes());
        }
        requests.post(rng);
    }

    /// First words on a WebSocket: the handshake, or what may not have been heard on the last one. Later, now and then, what was heard.
    fn go_on_counting(&mut self, rng: &mut Rng) {
        let Some(resumption) = &mut self.resumption else { return };
        if self.greets && self.stage != Stage::Head {
            let again = resumption.losses > 0;
            let replay = resumption.replay();
            self.greets = false;
            if !again {
                self.shake_hands(rng);
                self.ping_hub(rng);
            }
            // On the first WebSocket there is nothing to go on with.
            for message in replay.iter().skip(usize::from(!again)) {
                self.frame_bytes(message, rng);
            }
        } else if self.stage == Stage::Open
            && rng.chance(100)
            && let Some(ack) = resumption.acknowledge()
        {
            self.frame_bytes(&ack, rng);
        }
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Begun => self.stage = Stage::Handshake,
            News::Messages(bytes) => {
                self.input.extend_from_slice(&bytes);
                self.handle_messages();
                assert!(self.input.is_empty(), "client {}: an answer ends inside a message", self.number);
            }
            News::Refused => {
                let explained =
                    self.server_goes || self.requests.as_ref().is_some_and(|requests| requests.may_be_refused);
                assert!(explained, "client {} is refused although there is room", self.number);
                self.dismissed = true;
                self.stage = Stage::Gone;
            }
            News::Ended(status) => {
                let fits = matches!(status, 204 | 404) && (self.leaving || self.dismissed || self.server_goes);
                assert!(fits || self.stage == Stage::Gone, "client {}: ended with {status}", self.number);
                self.stage = Stage::Gone;
            }
        }
    }

    /// The answer to negotiate: its head has been taken off.
    fn handle_negotiated(&mut self, body: Vec<u8>) {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let length = text.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        if body.len() < length {
            self.head.extend(body);
            return;
        }
        self.head.clear();
        let resumption = self.resumption.as_mut().expect("only they negotiate");
        resumption.negotiated(&String::from_utf8(body).expect("JSON"));
        self.ask_in();
    }

    fn handle_head(&mut self) {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        if text.starts_with("HTTP/1.1 101 ") {
            let resumed = self.resumption.as_ref().is_some_and(|resumption| resumption.losses > 0);
            self.stage = if resumed { Stage::Open } else { Stage::Handshake };
            self.greets = self.resumption.is_some();
            self.head.clear();
            let agreed = text.contains(OFFER);
            assert_eq!(agreed, self.deflate.is_some(), "client {}: {text}", self.number);
            if let Some(deflate) = &mut self.deflate {
                deflate.agreed = true;
            }
        } else {
            let fits = text.starts_with("HTTP/1.1 503 ") || self.leaving;
            assert!(fits, "client {}: {text}", self.number);
            self.stage = Stage::Closing;
            self.dismissed = true;
        }
    }

    fn handle_frames(&mut self, bytes: &mut [u8]) {
        if let Some(mut deflate) = self.deflate.take() {
            let mut frames = deflate.decoder.handle_bytes(&mut deflate.inflater, bytes);
            while let Some(event) = frames.next_event() {
                self.handle_event(event);
            }
            self.deflate = Some(deflate);
            return;
        }
        let mut decoder = self.decoder.clone();
        for event in decoder.handle_bytes(bytes) {
            self.handle_event(event);
        }
        self.decoder = decoder;
    }

    fn handle_event(&mut self, event: Result<Event<'_>, FrameError>) {
        match event.unwrap_or_else(|error| panic!("client {}: torn frames: {error}", self.number)) {
            Event::Data { kind, payload, fin, .. } => {
                assert!(kind == self.kind() || self.stage == Stage::Handshake, "a frame of the wrong kind");
                self.input.extend_from_slice(payload);
                self.handle_messages();
                assert!(!fin || self.input.is_empty(), "client {}: a frame ends inside a message", self.number);
            }
            Event::Ping(_) => panic!("nobody pings here"),
            Event::Pong(payload) => {
                let sent = self.pongs.pop_front().expect("a pong only answers a ping");
                assert_eq!(sent, payload.as_slice(), "client {}: a pong with other bytes", self.number);
            }
            Event::Close { .. } => {
                self.dismissed |= !self.leaving;
                self.stage = Stage::Closing;
                if !self.rude {
                    self.close_socket();
                }
            }
        }
    }

    fn handle_messages(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while at < input.len() {
            let used = match self.stage {
                Stage::Handshake => self.handle_handshake(&input[at..]),
                Stage::Open => self.handle_message(&input[at..]),
                // Behind the close message an answer may carry what was said in the same breath.
                _ => panic!("client {}: hub messages behind the last one", self.number),
            };
            if used == 0 {
                break;
            }
            at += used;
        }
        self.input = input;
        self.input.drain(..at);
    }

    fn handle_handshake(&mut self, bytes: &[u8]) -> usize {
        match handshake::parse_response(bytes).expect("a well-formed answer to the handshake") {
            Progress::NeedMore => 0,
            Progress::Done(Ok(()), used) => {
                self.stage = Stage::Open;
                used
            }
            Progress::Done(Err(_), used) => {
                self.dismissed = true;
                self.stage = Stage::Closing;
                used
            }
        }
    }

    fn handle_message(&mut self, bytes: &[u8]) -> usize {
        let searched = std::mem::take(&mut self.searched);
        let length = message_len(self.format, bytes, searched, 0).expect("a well-formed message");
        let Some(used) = length else {
            self.searched = bytes.len();
            return 0;
        };
        let message = decode_one(self.format, &bytes[..used])
            .unwrap_or_else(|error| panic!("client {}: a torn message: {error}", self.number));
        if let Some(resumption) = &mut self.resumption
            && resumption.hear(&message) == Counted::Done
        {
            return used;
        }
        match message {
            Message::Invocation { invocation_id: Some(id), target, arguments, .. } => {
                assert_eq!(target, QUESTION);
                self.handle_question(&id, arguments);
            }
            Message::StreamItem { invocation_id, item } => {
                let which = self.streamer.down(&invocation_id).expect("a stream to this client");
                self.books.open().flows.hears_item(which, &item.as_str().expect("text"));
            }
            Message::Invocation { target, arguments, .. } => {
                assert_eq!(target, HEARD);
                let word = |index: usize| arguments.get(index).expect("five arguments");
                let text = |index: usize| word(index).as_str().expect("text").into_owned();
                let aim = Aim::from_words(&text(0), &text(1));
                let publisher = word(2).as_u64().expect("a number") as u32;
                let serial = word(3).as_u64().expect("a number");
                self.books.open().hears(self.number, &aim, publisher, serial, &text(4));
            }
            Message::Completion { invocation_id, outcome } => self.handle_answer(&invocation_id, &outcome),
            Message::Ping => {}
            Message::Close { .. } => self.dismissed = true,
            other => panic!("client {}: {other:?}", self.number),
        }
        used
    }

    fn handle_question(&mut self, id: &str, arguments: Arguments<'_>) {
        let word = |index: usize| arguments.get(index).expect("three arguments");
        let which = (word(0).as_u64().expect("a client") as u32, word(1).as_u64().expect("which of its"));
        let text = word(2).as_str().expect("text").into_owned();
        self.books.open().flows.is_asked(self.number, which, &text);
        self.streamer.asked.push(Asked { id: id.to_owned(), which, text });
    }

    fn handle_answer(&mut self, id: &str, outcome: &Outcome<'_>) {
        if let Some(which) = self.streamer.down(id) {
            self.streamer.down_ends(which);
            let failed = match outcome {
                Outcome::Void => false,
                Outcome::Error(_) => true,
                Outcome::Result(_) => panic!("client {}: stream {id} ends with a result", self.number),
            };
            return self.books.open().flows.hears_end(which, failed);
        }
        if self.streamer.up_answered(id, outcome) {
            return;
        }
        let (asked, expected) = self.expected.pop_front().expect("an answer only to a question");
        assert_eq!(asked, id, "client {}: answers out of order", self.number);
        let fits = match (&expected, outcome) {
            (Expected::Text(text), Outcome::Result(raw)) => raw.as_str().is_ok_and(|result| *result == **text),
            (Expected::Void, outcome) => is_void(outcome),
            (Expected::Error, Outcome::Error(_)) => true,
            (Expected::Settled, Outcome::Result(_) | Outcome::Error(_)) => true,
            (Expected::Said(serial), outcome) => {
                let books = self.books.open();
                books.is_complete_up_to(self.number, self.number, *serial).expect("heard before it is answered");
                (books.verdict(self.number, *serial) == Verdict::Accepted) == is_void(outcome)
            }
            _ => false,
        };
        assert!(fits, "client {}: {outcome:?} answers {id}, {expected:?}", self.number);
    }
}

/// JSON has no result that is nothing: there it is null.
fn is_void(outcome: &Outcome<'_>) -> bool {
    match outcome {
        Outcome::Void => true,
        Outcome::Result(raw) => raw.is_null(),
        Outcome::Error(_) => false,
    }
}
