//! What we receive: from bytes to deliveries, without building messages.
//!
//! All deliveries of a run look alike: the same bytes before the payload, a payload of the same length, the same
//! bytes after it. The first one is decoded in full and leaves a template; the others are compared with it, byte
//! by byte, payload included, where they lie in the receive buffer. Whatever does not match (pings, completions,
//! closes, damaged messages, other shapes) is collected and decoded in full. Input may be cut anywhere: what is
//! carried from one buffer to the next is a position in the template, not the bytes.

use crate::answers::{self, Answered, Answers};
use crate::events::{self, EventStream};
use crate::job::{Dialect, Via};
use crate::payload::{HEAD_BYTES, Head, MAGIC, PAYLOAD_BYTES_MAX, Padding};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::{self, Format, Message, Outcome};
use fanfare_protocol::ws::decoder::{ControlPayload, Decoder, Event as Frame, Role};
use std::sync::Arc;

/// Longest hub message or raw message that is collected.
const RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (1 << 16);

/// Longest handshake answer.
const HANDSHAKE_BYTES_MAX: usize = 4096;

/// Heads remembered as already parsed: more than are in flight at a time, a power of two.
const RECENT_HEADS: usize = 64;

/// What the bytes meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One message, every byte as it should be.
    Delivery(Head),
    /// One message that is not as it was sent; with its head when that can still be read.
    Corrupt(Option<Head>),
    /// Long polling: the end of an answer. What it held has been told before.
    Answered(Answered),
    /// Anything else.
    Other(Box<Other>),
}

/// The rare events.
#[derive(Clone, Debug, PartialEq)]
pub enum Other {
    /// The hub accepted the handshake, or refused with this text.
    Handshake(Result<(), String>),
    /// Hub Ping.
    HubPing,
    /// Hub Close, with its error.
    HubClose(Option<String>),
    /// The answer to an invocation of ours: an error text, or fine.
    Completion(Option<String>),
    /// WebSocket Ping: answer with the same payload.
    Ping(ControlPayload),
    /// WebSocket Close.
    Close(String),
    /// The server has ended the stream of events.
    StreamEnd,
    /// A well-formed message that is none of ours.
    Stranger,
    /// The server broke a rule; the connection is of no use any more.
    Broken(String),
}

impl From<Other> for Event {
    fn from(other: Other) -> Self {
        Self::Other(Box::new(other))
    }
}

/// The bytes around the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    prefix: Vec<u8>,
    payload_bytes: usize,
    suffix: Vec<u8>,
}

impl Template {
    fn total(&self) -> usize {
        self.prefix.len() + self.payload_bytes + self.suffix.len()
    }
}

/// A head that was parsed, beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Recent {
    bytes: [u8; HEAD_BYTES],
    head: Head,
}

/// What hub messages are wrapped in.
#[derive(Debug)]
pub enum Framing {
    /// WebSocket frames.
    Frames(Decoder),
    /// Server-sent events.
    Events(EventStream),
    /// Answers to polls.
    Answers(Answers),
}

impl Framing {
    /// Frames from a server.
    pub fn frames() -> Self {
        Self::Frames(Decoder::new(Role::Client))
    }

    fn at_rest(&self) -> bool {
        match self {
            Self::Frames(decoder) => decoder.at_rest(),
            Self::Events(stream) => stream.at_rest(),
            Self::Answers(answers) => answers.at_rest(),
        }
    }
}

/// What a connection carries from one buffer to the next. A connection at rest has none.
#[derive(Debug)]
pub struct Carry {
    framing: Framing,
    /// The handshake answer is still to come.
    handshake: bool,
    /// The message is collected in `spill` because it does not match the template.
    spilling: bool,
    /// Bytes of the message matched so far.
    at: usize,
    /// The payload's head, as far as it has come.
    head_bytes: [u8; HEAD_BYTES],
    /// The head, once it is whole.
    head: Option<Head>,
    spill: Vec<u8>,
    /// Bytes of `spill` known not to hold the end of a record.
    searched: usize,
}

impl Carry {
    /// The state between two messages, or, with `handshake`, before the hub's answer.
    pub fn new(framing: Framing, handshake: bool) -> Self {
        Self {
            framing,
            handshake,
            spilling: false,
            at: 0,
            head_bytes: [0; HEAD_BYTES],
            head: None,
            spill: Vec::new(),
            searched: 0,
        }
    }

    /// Whether a new one without handshake would do as well.
    pub fn at_rest(&self) -> bool {
        !self.handshake && !self.mid_record() && self.framing.at_rest()
    }

    fn mid_record(&self) -> bool {
        self.spilling || self.at != 0
    }

    fn end_record(&mut self) {
        self.spilling = false;
        self.at = 0;
        self.head = None;
        self.spill.clear();
        self.searched = 0;
    }
}

/// Reads for all connections of one worker.
#[derive(Debug)]
pub struct Reader {
    dialect: Dialect,
    /// Raw only: what the server may leave in front of the payload.
    raw_prefix: Vec<u8>,
    /// SignalR only: the client method that deliveries call. Any, when unknown.
    target: Option<String>,
    run: u32,
    payload_bytes: usize,
    padding: Arc<Padding>,
    template: Option<Template>,
    recent: Vec<Option<Recent>>,
}

impl Reader {
    /// For payloads of `payload_bytes` (0: none are expected) of run `run`.
    pub fn new(dialect: Dialect, via: Option<&Via>, run: u32, payload_bytes: usize, padding: Arc<Padding>) -> Self {
        let (mut raw_prefix, mut wanted) = (Vec::new(), None);
        match via {
            Some(Via::Message { prefix, .. }) => raw_prefix = prefix.as_bytes().to_vec(),
            Some(Via::Invocation { target, .. }) => wanted = Some(target.clone()),
            _ => {}
        }
        Self {
            dialect,
            raw_prefix,
            target: wanted,
            run,
            payload_bytes,
            padding,
            template: None,
            recent: vec![None; RECENT_HEADS],
        }
    }

    /// Reads `bytes` and appends what they meant. After [`Other::Close`], [`Other::StreamEnd`] or [`Other::Broken`]
    /// nothing more comes.
    pub fn read(&mut self, carry: &mut Carry, bytes: &mut [u8], events: &mut Vec<Event>) {
        // The framing is borrowed beside the carry; taking it out is a move of 160 bytes.
        let mut framing = std::mem::replace(&mut carry.framing, Framing::frames());
        let read = match &mut framing {
            Framing::Frames(decoder) => self.read_frames(decoder, carry, bytes, events),
            Framing::Events(stream) => self.read_events(stream, carry, bytes, events),
            Framing::Answers(answers) => self.read_answers(answers, carry, bytes, events),
        };
        carry.framing = framing;
        if let Err(text) = read {
            events.push(Other::Broken(text).into());
        }
    }

    fn read_frames(
        &mut self,
        decoder: &mut Decoder,
        carry: &mut Carry,
        bytes: &mut [u8],
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        for frame in decoder.handle_bytes(bytes) {
            match frame {
                Ok(Frame::Data { payload, fin, .. }) => {
                    self.take(carry, payload, fin, events)?;
                    if fin {
                        end_of("WebSocket message", carry)?;
                    }
                }
                Ok(Frame::Ping(payload)) => events.push(Other::Ping(payload).into()),
                Ok(Frame::Pong(_)) => {}
                Ok(Frame::Close { code, reason }) => {
                    let code = code.map_or("no code".to_owned(), |code| code.0.to_string());
                    let reason = String::from_utf8_lossy(reason.as_slice()).into_owned();
                    let text = if reason.is_empty() { code } else { format!("{code} {reason}") };
                    events.push(Other::Close(text).into());
                }
                Err(error) => return Err(format!("WebSocket: {error}")),
            }
        }
        Ok(())
    }

    fn read_events(
        &mut self,
        stream: &mut EventStream,
        carry: &mut Carry,
        bytes: &[u8],
        out: &mut Vec<Event>,
    ) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() && !stream.is_over() {
            let mut run = stream.take_run(&mut rest)?;
            while let Some(part) = stream.lines().next(&mut run) {
                match part {
                    events::Part::Data(piece) => self.take(carry, piece, false, out)?,
                    events::Part::End => end_of("event", carry)?,
                }
            }
        }
        if stream.is_over() {
            out.push(Other::StreamEnd.into());
        }
        Ok(())
    }

    fn read_answers(
        &mut self,
        answers: &mut Answers,
        carry: &mut Carry,
        bytes: &[u8],
        out: &mut Vec<Event>,
    ) -> Result<(), String> {
        let mut rest = bytes;
        while let Some(part) = answers.next(&mut rest).map_err(|text| format!("answer to a poll: {text}"))? {
            match part {
                answers::Part::Body(200, piece) => self.take(carry, piece, false, out)?,
                // A text for people.
                answers::Part::Body(..) => {}
                answers::Part::End(answered) => {
                    end_of("answer", carry)?;
                    out.push(Event::Answered(answered));
                    // The next poll is sent when this event is handled.
                    if !rest.is_empty() {
                        return Err(
                            "more came than one answer to a poll: answered twice, or with a wrong length".to_owned()
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes one piece of the stream of hub messages; `fin` ends a raw message.
    fn take(&mut self, carry: &mut Carry, mut piece: &[u8], fin: bool, out: &mut Vec<Event>) -> Result<(), String> {
        if carry.handshake {
            piece = take_handshake(carry, piece, out)?;
        }
        if self.dialect == Dialect::Raw {
            return self.take_raw(carry, piece, fin, out);
        }
        while !piece.is_empty() {
            if !carry.mid_record()
                && let Some((head, total)) = self.whole(piece)
            {
                out.push(Event::Delivery(head));
                piece = &piece[total..];
            } else if carry.spilling {
                piece = self.spill_record(carry, piece, out)?;
            } else {
                piece = self.follow(carry, piece);
                if let (Some(template), Some(head)) = (&self.template, carry.head)
                    && carry.at == template.total()
                {
                    out.push(Event::Delivery(head));
                    carry.end_record();
                }
            }
        }
        Ok(())
    }

    /// Raw messages have no end of their own: the end of the WebSocket message is it.
    fn take_raw(&mut self, carry: &mut Carry, mut piece: &[u8], fin: bool, out: &mut Vec<Event>) -> Result<(), String> {
        if fin
            && !carry.mid_record()
            && let Some((head, total)) = self.whole(piece)
            && total == piece.len()
        {
            out.push(Event::Delivery(head));
            return Ok(());
        }
        while !piece.is_empty() {
            if carry.spilling {
                carry.spill.extend_from_slice(piece);
                piece = &[];
            } else {
                piece = self.follow(carry, piece);
            }
        }
        if carry.spill.len() > RECORD_BYTES_MAX {
            return Err(format!("a message above {RECORD_BYTES_MAX} bytes"));
        }
        if !fin {
            return Ok(());
        }
        match (&self.template, carry.head) {
            (Some(template), Some(head)) if !carry.spilling && carry.at == template.total() => {
                out.push(Event::Delivery(head));
            }
            _ => {
                let record = self.collected(carry);
                out.push(self.judge_raw(&record));
            }
        }
        carry.end_record();
        Ok(())
    }

    /// The fast path: a whole delivery at the front of `piece`.
    fn whole(&mut self, piece: &[u8]) -> Option<(Head, usize)> {
        let template = self.template.as_ref()?;
        let total = template.total();
        let (prefix, payload_bytes) = (template.prefix.len(), template.payload_bytes);
        let record = piece.get(..total)?;
        if !record.starts_with(&template.prefix) || !record.ends_with(&template.suffix) {
            return None;
        }
        let head = self.good_payload(&record[prefix..prefix + payload_bytes])?;
        Some((head, total))
    }

    /// Follows the template through a piece that does not hold a whole delivery. Ends at the end of the template or
    /// at the first difference, with `carry.spilling` set and the bytes matched so far collected.
    fn follow<'p>(&mut self, carry: &mut Carry, mut piece: &'p [u8]) -> &'p [u8] {
        while !piece.is_empty() {
            let matched = match self.expected(carry) {
                Expected::Literal(bytes) => {
                    let n = bytes.len().min(piece.len());
                    (bytes[..n] == piece[..n]).then_some(n)
                }
                Expected::Head(filled) => {
                    let n = (HEAD_BYTES - filled).min(piece.len());
                    carry.head_bytes[filled..filled + n].copy_from_slice(&piece[..n]);
                    if filled + n == HEAD_BYTES {
                        carry.head = self.head_of(&carry.head_bytes);
                    }
                    Some(n)
                }
                Expected::Nothing => None,
            };
            let Some(n) = matched else {
                carry.spill = self.collected(carry);
                carry.spilling = true;
                return piece;
            };
            carry.at += n;
            piece = &piece[n..];
            if self.template.as_ref().is_some_and(|template| carry.at == template.total())
                && self.dialect != Dialect::Raw
            {
                return piece;
            }
        }
        piece
    }

    /// What must come next.
    fn expected<'e>(&'e self, carry: &Carry) -> Expected<'e> {
        let Some(template) = &self.template else { return Expected::Nothing };
        let payload = template.prefix.len();
        let padding = payload + HEAD_BYTES;
        let suffix = payload + template.payload_bytes;
        match carry.at {
            at if at < payload => Expected::Literal(&template.prefix[at..]),
            at if at < padding => Expected::Head(at - payload),
            at if at < suffix => match carry.head.as_ref().and_then(|head| self.padding.of(head)) {
                Some(bytes) => Expected::Literal(&bytes[at - padding..]),
                None => Expected::Nothing,
            },
            at if at < template.total() => match carry.head {
                Some(_) => Expected::Literal(&template.suffix[at - suffix..]),
                None => Expected::Nothing,
            },
            _ => Expected::Nothing,
        }
    }

    /// The bytes of the current message so far: those collected, or those that matched the template.
    fn collected(&self, carry: &mut Carry) -> Vec<u8> {
        if carry.spilling {
            return std::mem::take(&mut carry.spill);
        }
        let mut bytes = Vec::new();
        let Some(template) = &self.template else { return bytes };
        let padding = carry.head.as_ref().and_then(|head| self.padding.of(head)).unwrap_or_default();
        for part in [template.prefix.as_slice(), carry.head_bytes.as_slice(), padding, template.suffix.as_slice()] {
            let n = part.len().min(carry.at - bytes.len());
            bytes.extend_from_slice(&part[..n]);
        }
        bytes
    }

    /// Collects up to the end of one hub message and judges it. Returns what follows it.
    fn spill_record<'p>(
        &mut self,
        carry: &mut Carry,
        piece: &'p [u8],
        out: &mut Vec<Event>,
    ) -> Result<&'p [u8], String> {
        let Some(format) = self.dialect.format() else { return Ok(piece) };
        let before = carry.spill.len();
        // A record separator ends a record wherever it stands, so no more than one record is copied.
        let cut = match format {
            Format::Json => piece.iter().position(|&byte| byte == SEPARATOR).map_or(piece.len(), |at| at + 1),
            Format::MessagePack => piece.len(),
        };
        carry.spill.extend_from_slice(&piece[..cut]);
        let length = hub::message_len(format, &carry.spill, carry.searched, RECORD_BYTES_MAX)
            .map_err(|error| format!("hub message: {error}"))?;
        let Some(length) = length else {
            carry.searched = if format == Format::Json { carry.spill.len() } else { 0 };
            return Ok(&piece[cut..]);
        };
        let record = std::mem::take(&mut carry.spill);
        carry.end_record();
        out.push(self.judge_hub(format, &record[..length]));
        // The record may end inside what was copied; a record that ended before it would have ended earlier.
        Ok(&piece[length.saturating_sub(before)..])
    }

    /// Decodes one whole hub message.
    fn judge_hub(&mut self, format: Format, record: &[u8]) -> Event {
        let message = match hub::decode_one(format, record) {
            Ok(message) => message,
            // Framing is intact, so the next message can be read: a damaged one, not a broken connection.
            Err(_) => return Event::Corrupt(None),
        };
        match message {
            // A real client has no handler for another method: the message would not arrive.
            Message::Invocation { target, .. }
                if self.target.as_ref().is_some_and(|wanted| !target.eq_ignore_ascii_case(wanted)) =>
            {
                Other::Stranger.into()
            }
            Message::Invocation { arguments, .. } => {
                let text = arguments.iter().last().and_then(|raw| raw.as_str().ok());
                match text {
                    Some(text) => self.judge_payload(record, text.as_bytes()),
                    None => Other::Stranger.into(),
                }
            }
            Message::Ping => Other::HubPing.into(),
            Message::Close { error, .. } => Other::HubClose(error.map(|text| text.into_owned())).into(),
            Message::Completion { outcome: Outcome::Error(text), .. } => {
                Other::Completion(Some(text.into_owned())).into()
            }
            Message::Completion { .. } => Other::Completion(None).into(),
            _ => Other::Stranger.into(),
        }
    }

    fn judge_raw(&mut self, record: &[u8]) -> Event {
        let payload = match record.strip_prefix(self.raw_prefix.as_slice()) {
            Some(rest) if rest.starts_with(MAGIC) => rest,
            _ => record,
        };
        self.judge_payload(record, payload)
    }

    /// Judges a payload that was found the slow way, and learns the template from a good one.
    fn judge_payload(&mut self, record: &[u8], payload: &[u8]) -> Event {
        if let Some(head) = self.good_payload(payload) {
            if self.template.is_none()
                && payload.len() == self.payload_bytes
                && let Some(at) = record.windows(payload.len()).position(|window| window == payload)
            {
                self.template = Some(Template {
                    prefix: record[..at].to_vec(),
                    payload_bytes: payload.len(),
                    suffix: record[at + payload.len()..].to_vec(),
                });
            }
            return Event::Delivery(head);
        }
        match payload.first_chunk::<HEAD_BYTES>().and_then(Head::parse) {
            Some(head) if head.run == self.run => Event::Corrupt(Some(head)),
            Some(_) => Other::Stranger.into(),
            // Damaged in the head, or cut; but a message without any trace of ours is somebody else's.
            None if payload.starts_with(MAGIC) || looks_like_ours(payload, self.payload_bytes) => Event::Corrupt(None),
            None => Other::Stranger.into(),
        }
    }

    /// The head of a payload that is right in every byte.
    fn good_payload(&mut self, payload: &[u8]) -> Option<Head> {
        let head = self.head_of(payload.first_chunk::<HEAD_BYTES>()?)?;
        let padding = self.padding.of(&head)?;
        (&payload[HEAD_BYTES..] == padding).then_some(head)
    }

    /// Parses a head of this run, from memory when it was just seen on another connection.
    fn head_of(&mut self, bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
        // The last digits of the sequence pick the place.
        let place = usize::from(bytes[23] ^ (bytes[22] << 4)) % RECENT_HEADS;
        if let Some(recent) = &self.recent[place]
            && &recent.bytes == bytes
        {
            return Some(recent.head);
        }
        let head = Head::parse(bytes).filter(|head| head.run == self.run)?;
        self.recent[place] = Some(Recent { bytes: *bytes, head });
        Some(head)
    }
}

/// Ends every JSON hub message and every handshake.
const SEPARATOR: u8 = 0x1e;

/// What must come next in a message that follows the template.
enum Expected<'e> {
    /// These bytes.
    Literal(&'e [u8]),
    /// The payload's head, of which so many bytes are there.
    Head(usize),
    /// Nothing: it is not the template's kind of message.
    Nothing,
}

/// Whether a payload without a readable head has the size and the alphabet of ours.
fn looks_like_ours(payload: &[u8], payload_bytes: usize) -> bool {
    payload_bytes != 0 && payload.len() == payload_bytes
}

/// Clients take what one message, event or answer holds for whole hub messages (the JavaScript client refuses a cut one).
fn end_of(wrapper: &str, carry: &Carry) -> Result<(), String> {
    if carry.mid_record() {
        return Err(format!("a hub message does not end with its {wrapper}"));
    }
    Ok(())
}

/// Collects the hub's answer to the handshake. Returns what follows it.
fn take_handshake<'p>(carry: &mut Carry, piece: &'p [u8], out: &mut Vec<Event>) -> Result<&'p [u8], String> {
    let cut = piece.iter().position(|&byte| byte == SEPARATOR).map_or(piece.len(), |at| at + 1);
    carry.spill.extend_from_slice(&piece[..cut]);
    if carry.spill.len() > HANDSHAKE_BYTES_MAX {
        return Err(format!("a handshake answer above {HANDSHAKE_BYTES_MAX} bytes"));
    }
    match hub::handshake::parse_response(&carry.spill) {
        Ok(Progress::NeedMore) => {}
        Ok(Progress::Done(answer, _)) => {
            carry.handshake = false;
            carry.spill.clear();
            out.push(Other::Handshake(answer).into());
        }
        Err(error) => return Err(format!("handshake answer: {error}")),
    }
    Ok(&piece[cut..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Random;
    use fanfare_protocol::cursor::Sink;
    use fanfare_protocol::hub::{Payload, Value};
    use fanfare_protocol::ws::encode::{MessageWriter, write_close, write_control};
    use fanfare_protocol::ws::{DataKind, OpCode};

    const RUN: u32 = 0xabcd_0001;

    fn head(sequence: u32, length: usize) -> Head {
        Head { run: RUN, publisher: 0, sequence, length: length as u32, intended_ns: 1_000, actual_ns: 2_000 }
    }

    fn padding(length: usize) -> Arc<Padding> {
        Arc::new(Padding::new(3, length))
    }

    fn payload(sequence: u32, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        padding(length).write_payload(&head(sequence, length), &mut out);
        out
    }

    /// One hub invocation as a server frames it.
    fn invocation(format: Format, payload: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        let arguments = [Value::Str(String::from_utf8_lossy(payload).into_owned())];
        hub::encode::invocation(format, &mut record, None, "m", &Payload::Values(&arguments)).expect("encodes");
        record
    }

    fn frame(dialect: Dialect, message: &[u8]) -> Vec<u8> {
        let kind = if dialect == Dialect::SignalrMessagepack { DataKind::Binary } else { DataKind::Text };
        let mut writer = MessageWriter::new(Vec::new(), kind, message.len());
        writer.put(message);
        writer.finish()
    }

    fn message(dialect: Dialect, payload: &[u8]) -> Vec<u8> {
        frame(dialect, &dialect.format().map_or(payload.to_vec(), |format| invocation(format, payload)))
    }

    fn reader(dialect: Dialect, length: usize) -> Reader {
        Reader::new(dialect, None, RUN, length, padding(length))
    }

    /// Reads `bytes` in pieces that end at `cuts`.
    fn read_cut(reader: &mut Reader, carry: &mut Carry, bytes: &[u8], cuts: &[usize]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let mut piece = bytes[from..cut].to_vec();
            reader.read(carry, &mut piece, &mut events);
            from = cut;
        }
        events
    }

    fn deliveries(range: std::ops::Range<u32>, length: usize) -> Vec<Event> {
        range.map(|sequence| Event::Delivery(head(sequence, length))).collect()
    }

    const DIALECTS: [Dialect; 3] = [Dialect::SignalrJson, Dialect::SignalrMessagepack, Dialect::Raw];

    #[test]
    fn every_cut_gives_the_same_deliveries() {
        for dialect in DIALECTS {
            // The last length needs two fragments.
            for length in [64, 300, 2500] {
                let bytes: Vec<u8> = (0..3).flat_map(|sequence| message(dialect, &payload(sequence, length))).collect();
                for cut in 0..=bytes.len() {
                    let (mut reader, mut carry) = (reader(dialect, length), Carry::new(Framing::frames(), false));
                    let events = read_cut(&mut reader, &mut carry, &bytes, &[cut]);
                    assert_eq!(events, deliveries(0..3, length), "{dialect} {length} cut at {cut}");
                    assert!(carry.at_rest());
                }
                let (mut reader, mut carry) = (reader(dialect, length), Carry::new(Framing::frames(), false));
                let all: Vec<usize> = (1..bytes.len()).collect();
                assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &all), deliveries(0..3, length));
            }
        }
    }

    #[test]
    fn several_hub_messages_in_one_websocket_message() {
        for dialect in [Dialect::SignalrJson, Dialect::SignalrMessagepack] {
            let format = dialect.format().expect("hub");
            let mut records = Vec::new();
            for sequence in 0..4 {
                records.extend(invocation(format, &payload(sequence, 700)));
                hub::encode::ping(format, &mut records);
            }
            let bytes = frame(dialect, &records);
            let mut want = Vec::new();
            for delivery in deliveries(0..4, 700) {
                want.extend([delivery, Other::HubPing.into()]);
            }
            for cut in 0..=bytes.len() {
                let (mut reader, mut carry) = (reader(dialect, 700), Carry::new(Framing::frames(), false));
                assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &[cut]), want, "{dialect} cut at {cut}");
            }
        }
    }

    #[test]
    fn every_damaged_byte_of_a_payload_is_noticed() {
        for dialect in DIALECTS {
            for at in 0..200 {
                let mut damaged = payload(1, 200);
                damaged[at] = if damaged[at] == b'x' { b'y' } else { b'x' };
                let mut bytes = message(dialect, &payload(0, 200));
                let second = bytes.len();
                bytes.extend(message(dialect, &damaged));
                bytes.extend(message(dialect, &payload(2, 200)));
                for cuts in [vec![], vec![second + 60], (1..bytes.len()).collect()] {
                    let (mut reader, mut carry) = (reader(dialect, 200), Carry::new(Framing::frames(), false));
                    let events = read_cut(&mut reader, &mut carry, &bytes, &cuts);
                    let named = (at >= HEAD_BYTES).then_some(head(1, 200));
                    let want = [Event::Delivery(head(0, 200)), Event::Corrupt(named), Event::Delivery(head(2, 200))];
                    assert_eq!(events, want, "{dialect} byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_shortened_payload_is_corrupt() {
        for dialect in DIALECTS {
            let (mut reader, mut carry) = (reader(dialect, 200), Carry::new(Framing::frames(), false));
            let mut bytes = message(dialect, &payload(0, 200));
            bytes.extend(message(dialect, &payload(1, 200)[..199]));
            bytes.extend(message(dialect, &[payload(2, 200), b"x".to_vec()].concat()));
            let events = read_cut(&mut reader, &mut carry, &bytes, &[]);
            let corrupt = |sequence| Event::Corrupt(Some(head(sequence, 200)));
            assert_eq!(events, [Event::Delivery(head(0, 200)), corrupt(1), corrupt(2)], "{dialect}");
        }
    }

    #[test]
    fn the_handshake_answer_may_share_a_frame_with_messages() {
        let mut bytes = b"{}\x1e".to_vec();
        bytes.extend(invocation(Format::Json, &payload(0, 80)));
        let bytes = frame(Dialect::SignalrJson, &bytes);
        for cut in 0..=bytes.len() {
            let (mut reader, mut carry) = (reader(Dialect::SignalrJson, 80), Carry::new(Framing::frames(), true));
            let events = read_cut(&mut reader, &mut carry, &bytes, &[cut]);
            assert_eq!(events, [Other::Handshake(Ok(())).into(), Event::Delivery(head(0, 80))]);
        }
        let refusal = frame(Dialect::SignalrJson, b"{\"error\":\"no\"}\x1e");
        let events =
            read_cut(&mut reader(Dialect::SignalrJson, 80), &mut Carry::new(Framing::frames(), true), &refusal, &[5]);
        assert_eq!(events, [Other::Handshake(Err("no".into())).into()]);
    }

    #[test]
    fn control_frames_and_hub_messages_that_are_not_ours() {
        let mut bytes = Vec::new();
        write_control(&mut bytes, OpCode::Ping, b"hi");
        bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":3,\"invocationId\":\"1\",\"error\":\"no method\"}\x1e"));
        bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":3,\"invocationId\":\"1\",\"result\":null}\x1e"));
        bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":1,\"target\":\"x\",\"arguments\":[\"hello\"]}\x1e"));
        bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":7,\"error\":\"bye\"}\x1e"));
        write_close(&mut bytes, Some(fanfare_protocol::error::CloseCode::GOING_AWAY), "later");
        let events = read_cut(
            &mut reader(Dialect::SignalrJson, 80),
            &mut Carry::new(Framing::frames(), false),
            &bytes,
            &[3, 9, 40],
        );
        let mut kinds = events.into_iter();
        assert!(
            matches!(kinds.next(), Some(Event::Other(other)) if matches!(&*other, Other::Ping(p) if p.as_slice() == b"hi"))
        );
        let want = [
            Other::Completion(Some("no method".into())),
            Other::Completion(None),
            Other::Stranger,
            Other::HubClose(Some("bye".into())),
            Other::Close("1001 later".into()),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), want.map(Event::from));
    }

    #[test]
    fn a_raw_server_may_keep_or_strip_the_prefix() {
        let via = Via::Message { prefix: "pub:".into(), binary: false };
        for keep in [true, false] {
            let mut reader = Reader::new(Dialect::Raw, Some(&via), RUN, 100, padding(100));
            let mut bytes = Vec::new();
            for sequence in 0..3 {
                let kept = if keep { b"pub:".as_slice() } else { b"" };
                bytes.extend(frame(Dialect::Raw, &[kept, &payload(sequence, 100)].concat()));
            }
            let mut carry = Carry::new(Framing::frames(), false);
            assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &[120, 130]), deliveries(0..3, 100));
        }
    }

    #[test]
    fn a_hub_message_over_two_websocket_messages_breaks_the_connection() {
        let record = invocation(Format::Json, &payload(0, 80));
        let mut bytes = frame(Dialect::SignalrJson, &record[..50]);
        bytes.extend(frame(Dialect::SignalrJson, &record[50..]));
        let events =
            read_cut(&mut reader(Dialect::SignalrJson, 80), &mut Carry::new(Framing::frames(), false), &bytes, &[]);
        assert!(matches!(&events[..], [Event::Other(other)] if matches!(**other, Other::Broken(_))), "{events:?}");
    }

    #[test]
    fn payloads_of_another_run_are_strangers() {
        let mut reader = Reader::new(Dialect::Raw, None, RUN + 1, 100, padding(100));
        let bytes = message(Dialect::Raw, &payload(0, 100));
        let events = read_cut(&mut reader, &mut Carry::new(Framing::frames(), false), &bytes, &[]);
        assert_eq!(events, [Other::Stranger.into()]);
    }

    #[test]
    fn a_call_of_another_method_is_not_a_delivery() {
        let via = Via::Invocation { method: "Broadcast".into(), target: "other".into() };
        let mut reader = Reader::new(Dialect::SignalrJson, Some(&via), RUN, 100, padding(100));
        let bytes = message(Dialect::SignalrJson, &payload(0, 100));
        assert_eq!(
            read_cut(&mut reader, &mut Carry::new(Framing::frames(), false), &bytes, &[]),
            [Other::Stranger.into()]
        );
    }

    /// Random bytes and random damage: no panic, and never a delivery that was not sent.
    #[test]
    fn garbage_is_never_a_delivery() {
        for seed in 0..3_000 {
            let mut random = Random::new(seed);
            let dialect = DIALECTS[(random.next_u64() % 3) as usize];
            let mut bytes: Vec<u8> = (0..3).flat_map(|s| message(dialect, &payload(s, 120))).collect();
            for _ in 0..1 + random.next_u64() % 4 {
                let at = (random.next_u64() % bytes.len() as u64) as usize;
                bytes[at] = random.next_u64() as u8;
            }
            let mut cuts: Vec<usize> = (0..3).map(|_| (random.next_u64() % bytes.len() as u64) as usize).collect();
            cuts.sort_unstable();
            let (mut reader, mut carry) = (reader(dialect, 120), Carry::new(Framing::frames(), false));
            for event in read_cut(&mut reader, &mut carry, &bytes, &cuts) {
                if let Event::Delivery(found) = event {
                    assert_eq!(found, head(found.sequence, 120), "seed {seed}");
                    assert!(found.sequence < 3, "seed {seed}");
                }
            }
        }
    }
}
