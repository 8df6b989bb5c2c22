//! What must hold of any value and any message: seeded random round trips. Each failure names its seed.

mod hub_common;

use fanfare_protocol::cursor::Count;
use fanfare_protocol::hub::transcode::transcode;
use fanfare_protocol::hub::{Format, Message, Payload, Raw, Value, encode, fuzz};
use hub_common::{Random, one, read_every_way, written};

const JSON: Format = Format::Json;
const PACK: Format = Format::MessagePack;

fn bytes_of(format: Format, value: &Value) -> Vec<u8> {
    let bytes = written(|out| value.write(format, out).expect("sayable"));
    let mut count = Count(0);
    value.write(format, &mut count).expect("sayable");
    assert_eq!(count.0, bytes.len());
    bytes
}

#[test]
fn plain_values_survive_both_formats() {
    for seed in 0..3_000 {
        let value = Random(seed).plain_value(4);
        let (json, pack) = (bytes_of(JSON, &value), bytes_of(PACK, &value));
        for (format, bytes) in [(JSON, &json), (PACK, &pack)] {
            let raw = Raw::parse(format, bytes).expect("well-formed");
            assert_eq!(raw.value().as_ref(), Ok(&value), "seed {seed}, {format:?}");
        }
        assert_eq!(written(|out| transcode(JSON, PACK, &json, out).expect("sayable")), pack, "seed {seed}");
        assert_eq!(written(|out| transcode(PACK, JSON, &pack, out).expect("sayable")), json, "seed {seed}");
    }
}

#[test]
fn any_value_survives_messagepack() {
    for seed in 0..3_000 {
        let value = Random(seed).any_value(3);
        let bytes = bytes_of(PACK, &value);
        let raw = Raw::parse(PACK, &bytes).expect("well-formed");
        assert_eq!(raw.value().as_ref(), Ok(&value), "seed {seed}");
        // The tree and the transcoder agree on what JSON can say, and how.
        let (mut from_tree, mut from_bytes) = (Vec::new(), Vec::new());
        let results = (value.write(JSON, &mut from_tree), transcode(PACK, JSON, &bytes, &mut from_bytes));
        assert_eq!(results.0, results.1, "seed {seed}");
        assert_eq!(from_tree, from_bytes, "seed {seed}");
    }
}

/// A stream of random messages, and what it says.
fn conversation(random: &mut Random, format: Format) -> (Vec<u8>, usize) {
    let count = 1 + random.below(6) as usize;
    let mut bytes = Vec::new();
    for _ in 0..count {
        let id = format!("{}{}", random.text(), random.below(9));
        let out = &mut bytes;
        let values: Vec<Value> = (0..random.below(4)).map(|_| random.plain_value(2)).collect();
        let (payload, value) = (Payload::Values(&values), random.plain_value(3));
        match random.below(11) {
            0 => encode::invocation(format, out, None, &id, &payload),
            1 => encode::invocation(format, out, Some(&id), &id, &payload),
            2 => encode::stream_invocation(format, out, &id, &id, &payload),
            3 => encode::stream_item(format, out, &id, &value),
            4 => encode::completion_result(format, out, &id, &value),
            5 => encode::completion_error(format, out, &id, &random.text()),
            6 => encode::completion_void(format, out, &id),
            7 => encode::cancel(format, out, &id),
            8 => {
                encode::close(format, out, random.chance(50).then_some("text"), random.chance(50));
                Ok(())
            }
            9 => {
                encode::ack(format, out, random.next());
                encode::sequence(format, &mut Count(0), random.next());
                Ok(())
            }
            _ => {
                encode::ping(format, out);
                Ok(())
            }
        }
        .expect("sayable");
    }
    (bytes, count)
}

#[test]
fn conversations_cut_anywhere() {
    for seed in 0..300 {
        for format in Format::ALL {
            let (bytes, count) = conversation(&mut Random(seed), format);
            let told = read_every_way(format, &bytes, 0);
            assert_eq!((told.messages.len(), told.left, told.error), (count, 0, None), "seed {seed}");
        }
    }
}

#[test]
fn messages_say_the_same_in_the_other_format() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let id = format!("{}1", random.text());
        let values: Vec<Value> = (0..random.below(4)).map(|_| random.plain_value(3)).collect();
        let bytes =
            written(|out| encode::invocation(JSON, out, Some(&id), &id, &Payload::Values(&values)).expect("sayable"));
        let packed = written(|out| encode::decoded(PACK, out, &one_of(JSON, &bytes)).expect("sayable"));
        let again = written(|out| encode::decoded(JSON, out, &one_of(PACK, &packed)).expect("sayable"));
        assert_eq!(again, bytes, "seed {seed}");
    }
}

fn one_of(format: Format, bytes: &[u8]) -> Message<'_> {
    match fanfare_protocol::hub::decode(format, bytes, 0) {
        Ok(fanfare_protocol::cursor::Progress::Done(message, used)) if used == bytes.len() => message,
        other => panic!("{other:?}"),
    }
}

/// The bodies of the fuzz targets, over valid conversations with a few bytes changed: what a fuzzer would try first.
#[test]
fn broken_conversations_break_nothing() {
    for seed in 0..4_000 {
        let mut random = Random(seed);
        let format = Format::ALL[random.below(2) as usize];
        let (mut bytes, _) = conversation(&mut random, format);
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.insert(at, b"\"\\{}[],:0\x1e\xc1\xff"[random.below(12) as usize]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        fuzz::fuzz_json(&bytes);
        fuzz::fuzz_msgpack(&bytes);
        fuzz::fuzz_transcode(&bytes);
        fuzz::fuzz_handshake(&bytes);
        fanfare_protocol::negotiate::fuzz_negotiate(&bytes);
    }
}

#[test]
fn ids_of_streams_survive() {
    let bytes = hub_common::record(r#"{"type":1,"target":"t","arguments":[],"streamIds":["a","\u0062","\"\u001e"]}"#);
    let message = one(JSON, &bytes);
    let packed = written(|out| encode::decoded(PACK, out, &message).expect("sayable"));
    let Message::Invocation { stream_ids, .. } = one(PACK, &packed) else { panic!("not an invocation") };
    assert_eq!(stream_ids.iter().collect::<Vec<_>>(), ["a", "b", "\"\u{1e}"]);
}
