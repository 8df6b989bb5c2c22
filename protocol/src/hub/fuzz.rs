//! Bodies of the fuzz targets in `protocol/fuzz`: what must hold of any bytes whatever. The targets are one line each.

use super::message::{Message, Outcome};
use super::raw::{Arguments, Raw};
use super::transcode::transcode;
use super::value::Value;
use super::{Format, MessageError, PayloadError, decode, decode_one, encode, handshake, message_len};
use crate::cursor::{Count, Progress, Sink as _};

/// JSON messages, cut everywhere and whole.
pub fn fuzz_json(data: &[u8]) {
    messages(Format::Json, data);
    unvalidated(Raw::new(Format::Json, data));
}

/// MessagePack messages, cut everywhere and whole.
pub fn fuzz_msgpack(data: &[u8]) {
    messages(Format::MessagePack, data);
    // The framing rarely survives mutation, so feed bodies as well.
    let mut framed = Vec::new();
    if let Some((prefix, used)) = super::msgpack::length_prefix(data.len()) {
        framed.put(&prefix[..used]);
        framed.put(data);
        messages(Format::MessagePack, &framed);
    }
    unvalidated(Raw::new(Format::MessagePack, data));
}

/// A stream of messages gives the same whole and byte by byte, and everything decoded can be encoded again.
fn messages(format: Format, data: &[u8]) {
    for limit in [0, 64] {
        let (whole, whole_end) = read_whole(format, data, limit);
        let (piecewise, piecewise_end) = read_bytewise(format, data, limit);
        assert_eq!(whole, piecewise);
        assert_eq!(whole_end, piecewise_end);
        for message in &whole {
            encodes_back(format, message);
            others(message);
        }
    }
}

fn read_whole(format: Format, data: &[u8], limit: usize) -> (Vec<Message<'_>>, Result<usize, MessageError>) {
    let mut messages = Vec::new();
    let mut at = 0;
    loop {
        match decode(format, &data[at..], limit) {
            Ok(Progress::Done(message, used)) => {
                assert!(used > 0 && used <= data.len() - at && (limit == 0 || used <= limit));
                messages.push(message);
                at += used;
            }
            Ok(Progress::NeedMore) => return (messages, Ok(at)),
            Err(error) => return (messages, Err(error)),
        }
    }
}

fn read_bytewise(format: Format, data: &[u8], limit: usize) -> (Vec<Message<'_>>, Result<usize, MessageError>) {
    let mut messages = Vec::new();
    let mut start = 0;
    for end in 1..=data.len() {
        let piece = &data[start..end];
        let decoded = message_len(format, piece, piece.len() - 1, limit)
            .and_then(|length| length.map(|length| decode_one(format, &piece[..length])).transpose());
        match decoded {
            Ok(Some(message)) => {
                messages.push(message);
                start = end;
            }
            Ok(None) => {}
            Err(error) => return (messages, Err(error)),
        }
    }
    (messages, Ok(start))
}

/// In its own format a message comes back as it was; in the other one at least in the same shape, if it can be said.
fn encodes_back(format: Format, message: &Message<'_>) {
    let mut encoded = Vec::new();
    if encode::decoded(format, &mut encoded, message).is_ok() {
        let mut count = Count(0);
        assert!(encode::decoded(format, &mut count, message).is_ok());
        assert_eq!(count.0, encoded.len());
        assert_eq!(decode(format, &encoded, 0), Ok(Progress::Done(message.clone(), encoded.len())));
    }
    for other in Format::ALL.into_iter().filter(|other| *other != format) {
        let mut encoded = Vec::new();
        if matches!(message, Message::Unknown { .. }) || encode::decoded(other, &mut encoded, message).is_err() {
            continue;
        }
        let Ok(Progress::Done(again, used)) = decode(other, &encoded, 0) else {
            panic!("{message:?} does not decode as {other:?}: {encoded:?}")
        };
        assert_eq!(used, encoded.len());
        assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(message));
        if let (Some(arguments), Some(before)) = (arguments(&again), arguments(message)) {
            assert_eq!(arguments.len(), before.len());
        }
    }
}

fn arguments<'a>(message: &Message<'a>) -> Option<Arguments<'a>> {
    match message {
        Message::Invocation { arguments, .. } | Message::StreamInvocation { arguments, .. } => Some(*arguments),
        _ => None,
    }
}

/// What is inside of a message can be read.
fn others(message: &Message<'_>) {
    if let Some(arguments) = arguments(message) {
        assert_eq!(arguments.iter().count(), arguments.len());
        let parsed = Arguments::parse(arguments.format(), arguments.bytes());
        assert_eq!(parsed, Ok(arguments));
        arguments.iter().for_each(validated);
    }
    match message {
        Message::StreamItem { item, .. } => validated(*item),
        Message::Completion { outcome: Outcome::Result(result), .. } => validated(*result),
        Message::Invocation { stream_ids, .. } | Message::StreamInvocation { stream_ids, .. } => {
            assert_eq!(stream_ids.iter().count(), stream_ids.len());
        }
        _ => {}
    }
}

/// A well-formed value has all its items, and its tree is written as its transcoding is.
fn validated(raw: Raw<'_>) {
    unvalidated(raw);
    if let Ok(items) = raw.array() {
        items.for_each(validated);
    }
    let Ok(value) = raw.value() else { return };
    for format in Format::ALL {
        let (mut from_tree, mut from_bytes) = (Vec::new(), Vec::new());
        let tree = value.write(format, &mut from_tree);
        if format == raw.format() {
            continue;
        }
        let bytes = transcode(raw.format(), format, raw.bytes(), &mut from_bytes);
        assert_eq!(tree, bytes);
        if tree.is_ok() {
            assert_eq!(from_tree, from_bytes);
        }
    }
}

/// No accessor minds bytes that are no value.
fn unvalidated(raw: Raw<'_>) {
    let _ = (raw.kind(), raw.is_null(), raw.as_str(), raw.as_bool(), raw.as_i64(), raw.as_u64(), raw.as_f64());
    let _ = (raw.as_bytes(), raw.as_timestamp(), raw.field("a"), raw.value());
    if let Ok(entries) = raw.entries() {
        let _ = entries.count();
    }
    let _ = raw.array().map(Iterator::count);
    if let (Ok(text), Ok(time)) = (raw.as_str(), raw.as_timestamp()) {
        let mut written = Vec::new();
        assert!(time.is_sayable(), "{text}");
        time.write_iso8601(&mut written);
        assert_eq!(std::str::from_utf8(&written).ok().and_then(super::Timestamp::parse_iso8601), Some(time));
    }
}

/// Values of both formats: what can be said in the other one comes back, and says the same the second time.
pub fn fuzz_transcode(data: &[u8]) {
    let (Some((first, data)), json, msgpack) = (data.split_first(), Format::Json, Format::MessagePack) else { return };
    let (from, to) = if first % 2 == 0 { (json, msgpack) } else { (msgpack, json) };
    let mut there = Vec::new();
    let result = transcode(from, to, data, &mut there);
    if result.is_err() {
        let mut count = Count(0);
        assert_eq!(transcode(from, to, data, &mut count), result);
        return;
    }
    let (mut back, mut there_again) = (Vec::new(), Vec::new());
    assert_eq!(transcode(to, from, &there, &mut back), Ok(()));
    assert_eq!(transcode(from, to, &back, &mut there_again), Ok(()));
    assert_eq!(there, there_again);
    if from == json {
        let trees = [(json, data), (msgpack, &there)].map(|(format, bytes)| Value::decode(Raw::new(format, bytes)));
        assert!(trees[0].is_ok());
        assert_eq!(trees[0], trees[1]);
    }
    if let Ok(raw) = Raw::parse(from, data) {
        validated(raw);
    }
    let mut encoded = Vec::new();
    let payload = super::Payload::Ready { json: Some(data), messagepack: None };
    let invocation = encode::invocation(msgpack, &mut encoded, None, "t", &payload);
    if payload.check().is_ok() && invocation.is_ok() {
        assert!(matches!(decode(msgpack, &encoded, 0), Ok(Progress::Done(Message::Invocation { .. }, _))));
    } else if payload.check().is_ok() {
        assert!(matches!(invocation, Err(PayloadError::NotRepresentable { .. })));
    }
}

/// Requests and responses of the handshake.
pub fn fuzz_handshake(data: &[u8]) {
    for limit in [0, 40] {
        let whole = handshake::parse(data, limit);
        let first = (0..=data.len()).map(|end| handshake::parse(&data[..end], limit));
        let first = first.into_iter().find(|piece| *piece != Ok(Progress::NeedMore));
        assert_eq!(first.unwrap_or(Ok(Progress::NeedMore)), whole);
        match whole {
            Ok(Progress::Done(request, used)) => {
                assert!(used <= data.len() && data[used - 1] == super::json::RECORD_SEPARATOR);
                for accepts_binary in [false, true] {
                    if let Err(error) = request.check(accepts_binary) {
                        handshake_error_survives(&error.text(true));
                    }
                }
            }
            Ok(Progress::NeedMore) => assert!(limit == 0 || data.len() < limit),
            Err(error) => handshake_error_survives(&error.text(true)),
        }
    }
    let whole = handshake::parse_response(data);
    let first = (0..=data.len()).map(|end| handshake::parse_response(&data[..end]));
    let first = first.into_iter().find(|piece| *piece != Ok(Progress::NeedMore));
    assert_eq!(first.unwrap_or(Ok(Progress::NeedMore)), whole);
}

fn handshake_error_survives(text: &str) {
    let mut written = Vec::new();
    handshake::write_error(&mut written, text);
    let read = handshake::parse_response(&written);
    assert_eq!(read, Ok(Progress::Done(Err(text.to_owned()), written.len())));
}
