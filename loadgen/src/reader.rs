//! What we receive: from bytes to deliveries, without building messages.
//!
//! All deliveries of a run look alike: the same bytes before the payload, a payload of the same length, the same
//! bytes after it. The first one is decoded in full and leaves a template; the others are compared with it, byte
//! by byte, payload included, where they lie in the receive buffer. Whatever does not match (pings, completions,
//! closes, damaged messages, other shapes) is collected and decoded in full. Input may be cut anywhere: what is
//! carried from one buffer to the next is a position in the template, not the bytes.

mod carry;

use self::carry::Template;
pub use self::carry::{Carry, Framing};
use crate::answers::{self, Answered, Answers};
use crate::events::{self, EventStream};
use crate::job::{Dialect, Via};
use crate::payload::{HEAD_BYTES, Head, MAGIC, PAYLOAD_BYTES_MAX, Padding};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::{self, Format, Message, Outcome};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{ControlPayload, Decoder, Event as Frame};
use fanfare_protocol::ws::encode::MessageWriter;
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
    /// The answer to an invocation of ours: what it returned, if that is a text, or an error text.
    Completion(Result<Option<String>, String>),
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

/// A head that was parsed, beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Recent {
    bytes: [u8; HEAD_BYTES],
    head: Head,
}

/// Reads for all connections of one worker.
#[derive(Debug)]
pub struct Reader {
    dialect: Dialect,
    /// Raw only: what the server may leave in front of the payload.
    raw_prefix: Vec<u8>,
    /// SignalR only: the client method that deliveries call. Any, when unknown.
    target: Option<String>,
    /// Deliveries are what calls of ours return.
    returned: bool,
    run: u32,
    payload_bytes: usize,
    padding: Arc<Padding>,
    template: Option<Template>,
    recent: Vec<Option<Recent>>,
}

impl Reader {
    /// For payloads of `payload_bytes` (0: none are expected) of run `run`.
    pub fn new(dialect: Dialect, via: Option<&Via>, run: u32, payload_bytes: usize, padding: Arc<Padding>) -> Self {
        let (mut raw_prefix, mut wanted, mut returned) = (Vec::new(), None, false);
        match via {
            Some(Via::Message { prefix, .. }) => raw_prefix = prefix.as_bytes().to_vec(),
            Some(Via::Invocation { target, .. }) => wanted = Some(target.clone()),
            Some(Via::Call { .. }) => returned = true,
            _ => {}
        }
        Self {
            dialect,
            raw_prefix,
            target: wanted,
            returned,
            run,
            payload_bytes,
            padding,
            template: None,
            recent: vec![None; RECENT_HEADS],
        }
    }

    /// WebSockets only, and only between two messages: takes the frames at the front of `bytes` that hold one whole
    /// delivery each, every byte as it should be, and appends those. Returns how many bytes they have. What follows, if
    /// anything, is for [`Reader::read`].
    ///
    /// This is what most deliveries are, and they need neither a decoder nor a carry: the header is compared like the
    /// rest, and text that equals ours is well-formed.
    pub fn read_whole_frames(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> usize {
        let mut taken = 0;
        while let Some((head, total)) = self.whole_frame(&bytes[taken..]) {
            events.push(Event::Delivery(head));
            taken += total;
        }
        taken
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
        let between = decoder.at_rest() && !carry.handshake && !carry.mid_record();
        let taken = if between { self.read_whole_frames(bytes, events) } else { 0 };
        for frame in decoder.handle_bytes(&mut bytes[taken..]) {
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

    /// The fastest path: a frame at the front of `bytes` that holds one delivery and nothing else.
    fn whole_frame(&mut self, bytes: &[u8]) -> Option<(Head, usize)> {
        let header = &self.template.as_ref()?.frame_header;
        let (header_bytes, piece) = (header.len(), bytes.strip_prefix(header.as_slice())?);
        let (head, total) = self.whole(piece)?;
        Some((head, header_bytes + total))
    }

    /// The fast path: a whole delivery at the front of `piece`.
    fn whole(&mut self, piece: &[u8]) -> Option<(Head, usize)> {
        let template = self.template.as_ref()?;
        let total = template.total();
        let (prefix, payload_bytes) = (template.prefix.len(), template.payload_bytes);
        let (before, rest) = piece.get(..total)?.split_at(prefix);
        let (payload, after) = rest.split_at(payload_bytes);
        if !are_equal(before, &template.prefix) || !are_equal(after, &template.suffix) {
            return None;
        }
        let head = self.good_payload(payload)?;
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
            Message::StreamItem { item, .. } => match item.as_str() {
                Ok(text) => self.judge_payload(record, text.as_bytes()),
                Err(_) => Other::Stranger.into(),
            },
            Message::Completion { outcome: Outcome::Error(text), .. } => {
                Other::Completion(Err(text.into_owned())).into()
            }
            Message::Completion { outcome: Outcome::Result(value), .. } => match value.as_str() {
                // Each has an id of its own in front of the payload, so there is no template to learn from it.
                Ok(text) if self.returned => self.judge_known(text.as_bytes()),
                Ok(text) => Other::Completion(Ok(Some(text.into_owned()))).into(),
                Err(_) => Other::Completion(Ok(None)).into(),
            },
            Message::Completion { .. } => Other::Completion(Ok(None)).into(),
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
                    frame_header: frame_header(self.dialect, record),
                    prefix: record[..at].to_vec(),
                    payload_bytes: payload.len(),
                    suffix: record[at + payload.len()..].to_vec(),
                });
            }
            return Event::Delivery(head);
        }
        self.judge_damaged(payload)
    }

    /// Judges a payload whose surroundings teach nothing.
    fn judge_known(&mut self, payload: &[u8]) -> Event {
        match self.good_payload(payload) {
            Some(head) => Event::Delivery(head),
            None => self.judge_damaged(payload),
        }
    }

    fn judge_damaged(&self, payload: &[u8]) -> Event {
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
        let place = usize::from(bytes[24] ^ (bytes[23] << 4)) % RECENT_HEADS;
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

/// The header of a frame that holds `record` and nothing else.
fn frame_header(dialect: Dialect, record: &[u8]) -> Vec<u8> {
    let kind = if dialect.format() == Some(Format::MessagePack) { DataKind::Binary } else { DataKind::Text };
    let mut frame = Vec::new();
    MessageWriter::fragment(&mut frame, kind, true, true, record);
    frame.truncate(frame.len() - record.len());
    frame
}

/// Whether two texts are equal. Where raw messages have nothing around the payload, nothing is compared with nothing: the C
/// library would ask for memory at an address that there is not, without using it, and processors with masked loads take
/// tens of nanoseconds to notice.
fn are_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && (left.is_empty() || left == right)
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
mod tests;
