//! Messages out, in both formats.
//!
//! JSON is minimal, with the property order of spec 4.4. MessagePack always has six items in an invocation and three
//! in a Close, which every known client wants (spec 5.4). Headers are never sent, nor is a null error.
//!
//! Nothing is allocated unless a payload has to be transcoded. On an error the sink may hold a part of the message:
//! the error is the same in a counting pass ([`Count`]), which whoever needs the length makes first anyway.

use super::error::PayloadError;
use super::json::RECORD_SEPARATOR;
use super::message::{Message, Outcome};
use super::payload::{Item, Payload, Prepared};
use super::raw::StreamIds;
use super::{Format, json, msgpack};
use crate::cursor::{Count, Sink};

/// Type 1. With `invocation_id` (not empty) the receiver has to answer.
pub fn invocation<S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: Option<&str>,
    target: &str,
    payload: &Payload<'_>,
) -> Result<(), PayloadError> {
    call(format, sink, Call { kind: 1, invocation_id, target, stream_ids: StreamIds::NONE }, payload)
}

/// Type 4, which only clients send.
pub fn stream_invocation<S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: &str,
    target: &str,
    payload: &Payload<'_>,
) -> Result<(), PayloadError> {
    let invocation_id = Some(invocation_id);
    call(format, sink, Call { kind: 4, invocation_id, target, stream_ids: StreamIds::NONE }, payload)
}

/// Type 2: one item of a stream.
pub fn stream_item<'a, S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: &str,
    item: impl Into<Item<'a>>,
) -> Result<(), PayloadError> {
    let body = StreamItem { invocation_id, item: item.into() };
    message(format, sink, &body)
}

/// Type 3, the end of a stream that did not fail: no result at all.
pub fn completion_end<S: Sink + ?Sized>(format: Format, sink: &mut S, invocation_id: &str) -> Result<(), PayloadError> {
    message(format, sink, &Completion { invocation_id, how: How::End })
}

/// Type 3, the answer of a method that returns nothing: `"result":null` in JSON, as the reference writes it, and the
/// result kind "void" in MessagePack.
pub fn completion_void<S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: &str,
) -> Result<(), PayloadError> {
    message(format, sink, &Completion { invocation_id, how: How::Void })
}

/// Type 3, the answer of a method that returned `result`.
pub fn completion_result<'a, S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: &str,
    result: impl Into<Item<'a>>,
) -> Result<(), PayloadError> {
    message(format, sink, &Completion { invocation_id, how: How::Result(result.into()) })
}

/// Type 3, the answer of an invocation (or the end of a stream) that failed.
pub fn completion_error<S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    invocation_id: &str,
    error: &str,
) -> Result<(), PayloadError> {
    message(format, sink, &Completion { invocation_id, how: How::Error(error) })
}

/// Type 5: no more of that stream, please.
pub fn cancel<S: Sink + ?Sized>(format: Format, sink: &mut S, invocation_id: &str) -> Result<(), PayloadError> {
    message(format, sink, &Cancel { invocation_id })
}

/// Type 6.
pub fn ping<S: Sink + ?Sized>(format: Format, sink: &mut S) {
    sink.put(match format {
        Format::Json => b"{\"type\":6}\x1e",
        Format::MessagePack => &[0x02, 0x91, 0x06],
    });
}

/// Type 7, after which nothing else may be sent. An error text longer than MessagePack can carry is left out; no
/// such text exists in practice.
pub fn close<S: Sink + ?Sized>(format: Format, sink: &mut S, error: Option<&str>, allow_reconnect: bool) {
    if message(format, sink, &Close { error, allow_reconnect }).is_err() {
        // Too long is found before the first byte is written, and without an error there is nothing to fail.
        let _ = message(format, sink, &Close { error: None, allow_reconnect });
    }
}

/// Type 8: everything up to `sequence_id` has arrived.
pub fn ack<S: Sink + ?Sized>(format: Format, sink: &mut S, sequence_id: u64) {
    // Numbers cannot fail.
    let _ = message(format, sink, &Numbered { kind: 8, sequence_id });
}

/// Type 9: the next trackable message is number `sequence_id`.
pub fn sequence<S: Sink + ?Sized>(format: Format, sink: &mut S, sequence_id: u64) {
    // Numbers cannot fail.
    let _ = message(format, sink, &Numbered { kind: 9, sequence_id });
}

/// Any message that was decoded, in either format. Of the unknown ones only the type is left.
pub fn decoded<S: Sink + ?Sized>(format: Format, sink: &mut S, decoded: &Message<'_>) -> Result<(), PayloadError> {
    match decoded {
        Message::Invocation { invocation_id, target, arguments, stream_ids } => {
            let call_head = Call { kind: 1, invocation_id: invocation_id.as_deref(), target, stream_ids: *stream_ids };
            call(format, sink, call_head, &Payload::Raw(*arguments))
        }
        Message::StreamInvocation { invocation_id, target, arguments, stream_ids } => {
            let call_head = Call { kind: 4, invocation_id: Some(invocation_id), target, stream_ids: *stream_ids };
            call(format, sink, call_head, &Payload::Raw(*arguments))
        }
        Message::StreamItem { invocation_id, item } => stream_item(format, sink, invocation_id, item),
        Message::Completion { invocation_id, outcome } => match outcome {
            Outcome::Void => completion_end(format, sink, invocation_id),
            Outcome::Result(result) => completion_result(format, sink, invocation_id, result),
            Outcome::Error(error) => completion_error(format, sink, invocation_id, error),
        },
        Message::CancelInvocation { invocation_id } => cancel(format, sink, invocation_id),
        Message::Ping => {
            ping(format, sink);
            Ok(())
        }
        Message::Close { error, allow_reconnect } => {
            message(format, sink, &Close { error: error.as_deref(), allow_reconnect: *allow_reconnect })
        }
        Message::Ack { sequence_id } => message(format, sink, &Numbered { kind: 8, sequence_id: *sequence_id }),
        Message::Sequence { sequence_id } => message(format, sink, &Numbered { kind: 9, sequence_id: *sequence_id }),
        Message::Unknown { kind } => message(format, sink, &Bare { kind: *kind }),
    }
}

/// A message without its framing: what goes between the braces of a JSON record, or the array of a MessagePack body.
trait Body {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError>;
    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError>;
}

fn message<S: Sink + ?Sized>(format: Format, sink: &mut S, body: &impl Body) -> Result<(), PayloadError> {
    match format {
        Format::Json => {
            body.json(sink)?;
            sink.put(&[b'}', RECORD_SEPARATOR]);
        }
        Format::MessagePack => {
            let mut length = Count(0);
            body.msgpack(&mut length)?;
            let (prefix, used) = msgpack::length_prefix(length.0).ok_or(PayloadError::TooLarge)?;
            sink.put(&prefix[..used]);
            body.msgpack(sink)?;
        }
    }
    Ok(())
}

fn call<S: Sink + ?Sized>(
    format: Format,
    sink: &mut S,
    head: Call<'_>,
    payload: &Payload<'_>,
) -> Result<(), PayloadError> {
    message(format, sink, &WholeCall { head, arguments: payload.prepare(format)? })
}

/// The empty headers of types 1 to 5.
const NO_HEADERS: u8 = 0x80;

/// The head of a small MessagePack message: `items` at most 15, `kind` at most 127.
fn msgpack_head<S: Sink + ?Sized>(sink: &mut S, items: u8, kind: u8) {
    sink.put(&[0x90 | items, kind]);
}

fn msgpack_text<S: Sink + ?Sized>(sink: &mut S, text: &str) -> Result<(), PayloadError> {
    if msgpack::write::string(sink, text) { Ok(()) } else { Err(PayloadError::TooLarge) }
}

fn json_id<S: Sink + ?Sized>(sink: &mut S, invocation_id: &str) {
    sink.put(b",\"invocationId\":");
    json::write::string(sink, invocation_id);
}

struct Call<'a> {
    kind: u8,
    invocation_id: Option<&'a str>,
    target: &'a str,
    stream_ids: StreamIds<'a>,
}

struct WholeCall<'a> {
    head: Call<'a>,
    arguments: Prepared<'a>,
}

impl Body for WholeCall<'_> {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(if self.head.kind == 1 { b"{\"type\":1" } else { b"{\"type\":4" });
        if let Some(invocation_id) = self.head.invocation_id {
            json_id(sink, invocation_id);
        }
        sink.put(b",\"target\":");
        json::write::string(sink, self.head.target);
        sink.put(b",\"arguments\":");
        self.arguments.write(Format::Json, sink)?;
        if !self.head.stream_ids.is_empty() {
            sink.put(b",\"streamIds\":[");
            for (index, id) in self.head.stream_ids.iter().enumerate() {
                sink.put(if index == 0 { b"" } else { b"," });
                json::write::string(sink, &id);
            }
            sink.put(b"]");
        }
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack_head(sink, 6, self.head.kind);
        sink.put(&[NO_HEADERS]);
        match self.head.invocation_id {
            Some(invocation_id) => msgpack_text(sink, invocation_id)?,
            None => msgpack::write::nil(sink),
        }
        msgpack_text(sink, self.head.target)?;
        self.arguments.write(Format::MessagePack, sink)?;
        let stream_ids = self.head.stream_ids;
        msgpack::write::array(sink, u32::try_from(stream_ids.len()).map_err(|_| PayloadError::TooLarge)?);
        for id in stream_ids.iter() {
            msgpack_text(sink, &id)?;
        }
        Ok(())
    }
}

struct StreamItem<'a> {
    invocation_id: &'a str,
    item: Item<'a>,
}

impl Body for StreamItem<'_> {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":2");
        json_id(sink, self.invocation_id);
        sink.put(b",\"item\":");
        self.item.write(Format::Json, sink)
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack_head(sink, 4, 2);
        sink.put(&[NO_HEADERS]);
        msgpack_text(sink, self.invocation_id)?;
        self.item.write(Format::MessagePack, sink)
    }
}

enum How<'a> {
    End,
    Void,
    Result(Item<'a>),
    Error(&'a str),
}

struct Completion<'a> {
    invocation_id: &'a str,
    how: How<'a>,
}

impl Body for Completion<'_> {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":3");
        json_id(sink, self.invocation_id);
        match &self.how {
            How::End => {}
            How::Void => sink.put(b",\"result\":null"),
            How::Result(result) => {
                sink.put(b",\"result\":");
                result.write(Format::Json, sink)?;
            }
            How::Error(error) => {
                sink.put(b",\"error\":");
                json::write::string(sink, error);
            }
        }
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        let (items, result_kind) = match self.how {
            How::Error(_) => (5, 1),
            How::End | How::Void => (4, 2),
            How::Result(_) => (5, 3),
        };
        msgpack_head(sink, items, 3);
        sink.put(&[NO_HEADERS]);
        msgpack_text(sink, self.invocation_id)?;
        sink.put(&[result_kind]);
        match &self.how {
            How::End | How::Void => Ok(()),
            How::Result(result) => result.write(Format::MessagePack, sink),
            How::Error(error) => msgpack_text(sink, error),
        }
    }
}

struct Cancel<'a> {
    invocation_id: &'a str,
}

impl Body for Cancel<'_> {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":5");
        json_id(sink, self.invocation_id);
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack_head(sink, 3, 5);
        sink.put(&[NO_HEADERS]);
        msgpack_text(sink, self.invocation_id)
    }
}

struct Close<'a> {
    error: Option<&'a str>,
    allow_reconnect: bool,
}

impl Body for Close<'_> {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":7");
        if let Some(error) = self.error {
            sink.put(b",\"error\":");
            json::write::string(sink, error);
        }
        // Written only when it is true (spec 4.2).
        if self.allow_reconnect {
            sink.put(b",\"allowReconnect\":true");
        }
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack_head(sink, 3, 7);
        match self.error {
            Some(error) => msgpack_text(sink, error)?,
            None => msgpack::write::nil(sink),
        }
        msgpack::write::boolean(sink, self.allow_reconnect);
        Ok(())
    }
}

struct Numbered {
    kind: u8,
    sequence_id: u64,
}

impl Body for Numbered {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":");
        json::write::unsigned(sink, self.kind.into());
        sink.put(b",\"sequenceId\":");
        json::write::unsigned(sink, self.sequence_id);
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack_head(sink, 2, self.kind);
        msgpack::write::unsigned(sink, self.sequence_id);
        Ok(())
    }
}

struct Bare {
    kind: i64,
}

impl Body for Bare {
    fn json<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        sink.put(b"{\"type\":");
        json::write::integer(sink, self.kind);
        Ok(())
    }

    fn msgpack<S: Sink + ?Sized>(&self, sink: &mut S) -> Result<(), PayloadError> {
        msgpack::write::array(sink, 1);
        msgpack::write::integer(sink, self.kind);
        Ok(())
    }
}
