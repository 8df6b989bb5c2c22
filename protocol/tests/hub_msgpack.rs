//! The MessagePack hub protocol, byte for byte (spec 5, checklist lines 100-107).

mod hub_common;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::error::MsgpackRule;
use fanfare_protocol::hub::{
    BindError, Format, Message, MessageError, Outcome, Payload, Raw, Timestamp, Value, decode, encode, msgpack,
    transcode,
};
use hub_common::{fault, hex, one, read_every_way, written};

const PACK: Format = Format::MessagePack;

/// A body with its length prefix.
fn framed(body: &[u8]) -> Vec<u8> {
    let (prefix, used) = msgpack::length_prefix(body.len()).expect("short");
    [&prefix[..used], body].concat()
}

fn fault_of(body: &str) -> MessageError {
    fault(PACK, &framed(&hex(body)))
}

fn value(bytes: &[u8]) -> Value {
    Raw::parse(PACK, bytes).expect("well-formed").value().expect("decodable")
}

#[test]
fn line_100_examples_decode_and_encode_exactly() {
    let encoders: Vec<(&str, Vec<u8>)> = vec![
        ("02 91 06", written(|out| encode::ping(PACK, out))),
        (
            "0b 96 01 80 c0 a1 6d 91 a2 68 69 90",
            written(|out| encode::invocation(PACK, out, None, "m", &Payload::Values(&["hi".into()])).expect("plain")),
        ),
        (
            "0d 96 01 80 a2 73 31 a1 6d 91 a2 68 69 90",
            written(|out| {
                encode::invocation(PACK, out, Some("s1"), "m", &Payload::Values(&["hi".into()])).expect("plain")
            }),
        ),
        (
            "0a 96 04 80 a1 30 a1 53 91 02 90",
            written(|out| {
                encode::stream_invocation(PACK, out, "0", "S", &Payload::Values(&[2.into()])).expect("plain")
            }),
        ),
        ("06 94 02 80 a1 30 07", written(|out| encode::stream_item(PACK, out, "0", &Value::Int(7)).expect("plain"))),
        (
            "0b 95 03 80 a1 30 01 a4 62 6f 6f 6d",
            written(|out| encode::completion_error(PACK, out, "0", "boom").expect("plain")),
        ),
        ("06 94 03 80 a1 30 02", written(|out| encode::completion_void(PACK, out, "0").expect("plain"))),
        ("06 94 03 80 a1 30 02", written(|out| encode::completion_end(PACK, out, "0").expect("plain"))),
        (
            "09 95 03 80 a1 30 03 a2 68 69",
            written(|out| encode::completion_result(PACK, out, "0", &Value::from("hi")).expect("plain")),
        ),
        (
            "07 95 03 80 a1 30 03 c0",
            written(|out| encode::completion_result(PACK, out, "0", &Value::Null).expect("plain")),
        ),
        ("05 93 05 80 a1 30", written(|out| encode::cancel(PACK, out, "0").expect("plain"))),
        ("04 93 07 c0 c2", written(|out| encode::close(PACK, out, None, false))),
        ("08 93 07 a4 62 6f 6f 6d c3", written(|out| encode::close(PACK, out, Some("boom"), true))),
        ("03 92 08 24", written(|out| encode::ack(PACK, out, 36))),
        ("03 92 09 13", written(|out| encode::sequence(PACK, out, 19))),
    ];
    for (expected, bytes) in encoders {
        assert_eq!(bytes, hex(expected), "{expected}");
        let message = one(PACK, &bytes);
        let again = written(|out| encode::decoded(PACK, out, &message).expect("same format"));
        assert_eq!(again, bytes, "{message:?}");
    }
}

#[test]
fn line_100_captures_of_clients_decode() {
    // A header, which we never send.
    let with_header = hex("0d 96 01 81 a1 61 a1 62 a1 31 a1 6d 90 90");
    let Message::Invocation { invocation_id: Some(id), target, arguments, .. } = one(PACK, &with_header) else {
        panic!("not an invocation")
    };
    assert_eq!((&*id, &*target, arguments.len()), ("1", "m", 0));

    let javascript_send =
        hex("22 95 01 80 c0 a4 46697265 95 01 a3 74776f 81 a1 61 c0 cb 400c000000000000 d6 ff 00000000");
    let Message::Invocation { invocation_id: None, target, arguments, stream_ids } = one(PACK, &javascript_send) else {
        panic!("not an invocation")
    };
    assert_eq!((&*target, stream_ids.len()), ("Fire", 0));
    let values: Vec<Value> = arguments.iter().map(|raw| raw.value().expect("decodable")).collect();
    let epoch = Value::Timestamp { seconds: 0, nanos: 0 };
    assert_eq!(values, [1.into(), "two".into(), Value::object([("a", Value::Null)]), 3.5.into(), epoch]);

    let javascript_upload = hex("0c 96 01 80 c0 a2 5570 91 05 91 a1 31");
    let Message::Invocation { stream_ids, .. } = one(PACK, &javascript_upload) else { panic!("not an invocation") };
    assert_eq!(stream_ids.iter().collect::<Vec<_>>(), ["1"]);

    let conversation = hex("02 91 06 08 94 02 80 a1 30 a2 69 31 06 94 03 80 a1 30 02 05 93 05 80 a1 31 03 92 07 c0");
    let told = read_every_way(PACK, &conversation, 32_768);
    assert_eq!((told.messages.len(), told.left, told.error), (5, 0, None));
    assert_eq!(one(PACK, &hex("03 92 07 c0")), Message::Close { error: None, allow_reconnect: false });
}

#[test]
fn line_101_longer_arrays_are_tolerated_and_shorter_are_not() {
    for body in ["95 01 80 c0 a1 6d 91 01", "96 01 80 c0 a1 6d 91 01 90", "97 01 80 c0 a1 6d 91 01 90 81 a1 78 01"] {
        let frame = framed(&hex(body));
        let Message::Invocation { target, arguments, .. } = one(PACK, &frame) else { panic!("not an invocation") };
        assert_eq!((&*target, arguments.len()), ("m", 1));
    }
    // Nil in place of stream ids or headers, longer heads than needed, bytes after the array.
    for body in ["96 01 c0 c0 a1 6d 90 c0", "dc 0006 d1 0001 de 0000 d9 00 da 0001 6d dd 00000000 dc 0000 c0 c0"] {
        let frame = framed(&hex(body));
        assert!(matches!(one(PACK, &frame), Message::Invocation { invocation_id: None, .. }), "{body}");
    }
    let too_few = [
        ("94 01 80 c0 a1 6d", 1, 4, 5),
        ("93 02 80 a1 30", 2, 3, 4),
        ("93 03 80 a1 30", 3, 3, 4),
        ("94 03 80 a1 30 03", 3, 4, 5),
        ("94 03 80 a1 30 01", 3, 4, 5),
        ("94 04 80 a1 30 a1 6d", 4, 4, 5),
        ("92 05 80", 5, 2, 3),
        ("91 07", 7, 1, 2),
        ("91 08", 8, 1, 2),
        ("91 09", 9, 1, 2),
    ];
    for (body, kind, items, items_min) in too_few {
        assert_eq!(fault_of(body), MessageError::TooFewItems { kind, items, items_min }, "{body}");
    }
}

#[test]
fn line_102_nil_and_empty_ids_mean_nobody_waits() {
    for id in ["c0", "a0"] {
        let frame = framed(&hex(&format!("96 01 80 {id} a1 6d 90 90")));
        assert!(matches!(one(PACK, &frame), Message::Invocation { invocation_id: None, .. }));
        for body in ["96 04 80 @ a1 6d 90 90", "94 02 80 @ 07", "94 03 80 @ 02", "93 05 80 @"] {
            let error = fault_of(&body.replace('@', id));
            assert_eq!(error.to_string(), "Reading 'invocationId' as String failed.", "{body}");
        }
    }
}

#[test]
fn line_103_six_items_in_an_invocation_and_three_in_a_close() {
    let values = [Value::Null];
    for payload in [Payload::Values(&values), Payload::Ready { json: Some(b"[null]"), messagepack: None }] {
        let bytes = written(|out| encode::invocation(PACK, out, None, "m", &payload).expect("plain"));
        assert_eq!(bytes, hex("09 96 01 80 c0 a1 6d 91 c0 90"));
    }
    for (allow_reconnect, flag) in [(false, "c2"), (true, "c3")] {
        assert_eq!(written(|out| encode::close(PACK, out, None, allow_reconnect)), hex(&format!("04 93 07 c0 {flag}")));
    }
}

#[test]
fn line_104_length_prefixes_at_their_boundaries() {
    let boundaries = [
        (0, "00"),
        (2, "02"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (16_383, "ff 7f"),
        (16_384, "80 80 01"),
        (32_768, "80 80 02"),
        (2_097_151, "ff ff 7f"),
        (2_097_152, "80 80 80 01"),
        (268_435_455, "ff ff ff 7f"),
        (268_435_456, "80 80 80 80 01"),
        (msgpack::BODY_BYTES_MAX, "ff ff ff ff 07"),
    ];
    for (length, expected) in boundaries {
        let (prefix, used) = msgpack::length_prefix(length).expect("in range");
        assert_eq!(prefix[..used], hex(expected)[..]);
        assert_eq!(msgpack::read_length(&prefix[..used]), Ok(Some((length, used))));
        for cut in 0..used {
            assert_eq!(msgpack::read_length(&prefix[..cut]), Ok(None), "{expected} cut at {cut}");
        }
    }
    assert_eq!(msgpack::length_prefix(msgpack::BODY_BYTES_MAX + 1), None);
    for refused in ["ff ff ff ff 08", "80 80 80 80 80", "80 80 80 80 80 01", "ff ff ff ff ff 0f"] {
        assert_eq!(fault(PACK, &hex(refused)), MessageError::LengthPrefix, "{refused}");
    }
    // The same through whole messages: an argument that fills the frame to the length.
    for length in [127usize, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let frame = [hex("91 07"), vec![0; length - 2]].concat();
        let frame = [hex("92 07 c0"), frame[3..].to_vec()].concat();
        let bytes = framed(&frame);
        let Ok(Progress::Done(message, used)) = decode(PACK, &bytes, 0) else { panic!("not decoded") };
        assert_eq!((message, used), (Message::Close { error: None, allow_reconnect: false }, bytes.len()));
        assert_eq!(decode(PACK, &bytes[..bytes.len() - 1], 0), Ok(Progress::NeedMore));
    }
}

#[test]
fn line_105_a_frame_cut_anywhere() {
    let values = [Value::from("text"), Value::Bin(vec![1; 300]), Value::object([("a", vec![Value::Int(-1)])])];
    let bytes = written(|out| {
        encode::invocation(PACK, out, Some("id"), "target", &Payload::Values(&values)).expect("plain");
        encode::ping(PACK, out);
        encode::completion_error(PACK, out, "7", &"e".repeat(200)).expect("plain");
    });
    let told = read_every_way(PACK, &bytes, 0);
    assert_eq!((told.messages.len(), told.left, told.error), (3, 0, None));
}

#[test]
fn line_106_timestamps_and_binary_survive() {
    let exact = [
        ("d6 ff 00000000", Timestamp { seconds: 0, nanos: 0 }),
        ("d6 ff ffffffff", Timestamp { seconds: u32::MAX.into(), nanos: 0 }),
        ("d7 ff 0000000100000000", Timestamp { seconds: 1 << 32, nanos: 0 }),
        ("d7 ff ee6b27fc00000001", Timestamp { seconds: 1, nanos: 999_999_999 }),
        ("d7 ff ee6b27ffffffffff", Timestamp { seconds: (1 << 34) - 1, nanos: 999_999_999 }),
        ("c7 0c ff 00000000 0000000400000000", Timestamp { seconds: 1 << 34, nanos: 0 }),
        ("c7 0c ff 3b9ac9ff ffffffffffffffff", Timestamp { seconds: -1, nanos: 999_999_999 }),
        ("c7 0c ff 00000000 8000000000000000", Timestamp { seconds: i64::MIN, nanos: 0 }),
    ];
    for (bytes, time) in exact {
        let raw = hex(bytes);
        assert_eq!(value(&raw), time.into(), "{bytes}");
        assert_eq!(Raw::parse(PACK, &raw).expect("well-formed").as_timestamp(), Ok(time));
        assert_eq!(written(|out| Value::from(time).write(PACK, out).expect("plain")), raw, "{bytes}");
    }
    // Longer than needed is read as well; nonsense is not.
    assert_eq!(value(&hex("c7 04 ff 00000001")), Timestamp { seconds: 1, nanos: 0 }.into());
    for nonsense in ["d7 ff ffffffff00000000", "c7 0c ff 3b9aca00 0000000000000000", "d4 ff 00", "c7 00 ff"] {
        let raw = hex(nonsense);
        let raw = Raw::parse(PACK, &raw).expect("well-formed");
        assert_eq!(raw.as_timestamp(), Err(BindError::Timestamp), "{nonsense}");
        assert_eq!(raw.value(), Err(BindError::Timestamp), "{nonsense}");
    }
    for length in [0usize, 1, 255, 256, 65_535, 65_536] {
        let bin = Value::Bin((0..length).map(|index| index as u8).collect());
        let bytes = written(|out| bin.write(PACK, out).expect("plain"));
        let head = [0xc4, 0xc5, 0xc6][usize::from(length > 255) + usize::from(length > 65_535)];
        assert_eq!((bytes[0], value(&bytes)), (head, bin));
    }
    // A client's own bytes go back as they are, whatever their type.
    for bytes in
        ["d7 ff 0000000000000000", "c4 03 010203", "d4 05 aa", "c8 0001 07 01", "ca 3f800000", "d3 0000000000000001"]
    {
        let raw = hex(bytes);
        let raw = Raw::parse(PACK, &raw).expect("well-formed");
        let out = written(|out| encode::completion_result(PACK, out, "0", raw).expect("same format"));
        let Message::Completion { outcome: Outcome::Result(again), .. } = one(PACK, &out) else { panic!("no result") };
        assert_eq!(again, raw);
    }
}

#[test]
fn line_107_result_kinds_and_unknown_types() {
    for kind in [0, 4, 127] {
        let error = fault_of(&format!("94 03 80 a1 30 {kind:02x}"));
        assert_eq!(
            (error, error.to_string().as_str()),
            (MessageError::ResultKind { kind }, "Invalid invocation result kind.")
        );
    }
    let bytes = [framed(&hex("93 2a c0 c3")), hex("02 91 06"), framed(&hex("91 ff")), framed(&hex("91 00"))].concat();
    let told = read_every_way(PACK, &bytes, 0);
    assert_eq!(told.messages, ["Unknown { kind: 42 }", "Ping", "Unknown { kind: -1 }", "Unknown { kind: 0 }"]);
    // An error is a string, be it an empty one.
    let frame = framed(&hex("95 03 80 a1 30 01 a0"));
    assert!(matches!(one(PACK, &frame), Message::Completion { outcome: Outcome::Error(text), .. } if text.is_empty()));
    assert_eq!(fault_of("95 03 80 a1 30 01 c0").to_string(), "Reading 'error' as String failed.");
}

#[test]
fn malformed_bodies_are_refused_by_rule() {
    let rule = |body: &str| match fault_of(body) {
        MessageError::Msgpack(fault) => fault.rule,
        other => panic!("{body}: {other:?}"),
    };
    assert_eq!(rule(""), MsgpackRule::UnexpectedEnd);
    assert_eq!(rule("91 d1 00"), MsgpackRule::UnexpectedEnd);
    assert_eq!(rule("95 01 80 c0 a4 6d 00 00"), MsgpackRule::UnexpectedEnd);
    assert_eq!(rule("95 01 80 c0 a1 6d 91 c1"), MsgpackRule::Marker);
    assert_eq!(rule("dd ffffffff 01"), MsgpackRule::Count);
    assert_eq!(rule("95 01 df ffffffff 00"), MsgpackRule::Count);
    assert_eq!(rule("95 01 80 c0 a1 6d dd 7fffffff 00 00"), MsgpackRule::Count);
    assert_eq!(rule("95 01 80 c0 a1 ff 90"), MsgpackRule::Utf8);
    assert_eq!(rule("95 01 80 a1 ff a1 6d 90"), MsgpackRule::Utf8);
    assert_eq!(rule("93 07 a1 80 c2"), MsgpackRule::Utf8);
    let items = [
        ("95 01 90 c0 a1 6d 90", "Reading 'headers' as Object failed."),
        ("95 01 81 a1 61 01 c0 a1 6d 90", "Reading 'headers' as Object failed."),
        ("95 01 80 01 a1 6d 90", "Reading 'invocationId' as String failed."),
        ("95 01 80 c0 01 90", "Reading 'target' as String failed."),
        ("95 01 80 c0 a0 90", "Reading 'target' as String failed."),
        ("95 01 80 c0 c0 90", "Reading 'target' as String failed."),
        ("95 01 80 c0 a1 6d 80", "Reading 'arguments' as Array failed."),
        ("95 01 80 c0 a1 6d c0", "Reading 'arguments' as Array failed."),
        ("96 01 80 c0 a1 6d 90 01", "Reading 'streamIds' as Array failed."),
        ("96 01 80 c0 a1 6d 90 91 01", "Reading 'streamIds' as String failed."),
        ("94 03 80 a1 30 c0", "Reading 'resultKind' as Number failed."),
        ("93 07 01 c2", "Reading 'error' as String failed."),
        ("93 07 c0 01", "Reading 'allowReconnect' as Boolean failed."),
        ("92 08 ff", "Reading 'sequenceId' as Number failed."),
        ("92 09 a1 31", "Reading 'sequenceId' as Number failed."),
        ("91 a1 36", "Reading 'type' as Number failed."),
        ("90", "Reading array length failed."),
        ("80", "Reading array length failed."),
        ("06", "Reading array length failed."),
    ];
    for (body, text) in items {
        assert_eq!(fault_of(body).to_string(), text, "{body}");
    }
}

#[test]
fn sixty_four_levels_and_no_more() {
    // The message and its list of arguments are the first two.
    let nested = |levels: usize| framed(&[hex("95 01 80 c0 a1 6d 91"), vec![0x91; levels - 2], vec![0xc0]].concat());
    assert!(matches!(one(PACK, &nested(64)), Message::Invocation { .. }));
    let MessageError::Msgpack(fault) = fault(PACK, &nested(65)) else { panic!("not MessagePack's fault") };
    assert_eq!(fault.rule, MsgpackRule::Depth);
    // What JSON accepts fits MessagePack and the other way round.
    let frame = nested(64);
    let Message::Invocation { arguments, .. } = one(PACK, &frame) else { panic!("not an invocation") };
    let json = Payload::Raw(arguments).encoded(Format::Json).expect("plain");
    let out = written(|out| {
        let payload = Payload::Ready { json: Some(&json), messagepack: None };
        encode::invocation(PACK, out, None, "m", &payload).expect("not too deep");
    });
    assert_eq!(out[1..], [hex("96"), frame[2..].to_vec(), hex("90")].concat()[..]);
    let mut deep = Value::Null;
    for _ in 0..62 {
        deep = Value::Array(vec![deep]);
    }
    let values = [deep];
    for format in Format::ALL {
        assert!(Payload::Values(&values).encoded(format).is_ok());
        let deeper = [Value::Array(values.to_vec())];
        assert!(Payload::Values(&deeper).encoded(format).is_err());
    }
}

#[test]
fn line_111_the_limit_counts_the_prefix() {
    let sized = |bytes: usize| framed(&[hex("91 06"), vec![0xc0; bytes - 4]].concat());
    for limit in [200, 300] {
        assert_eq!(sized(limit).len(), limit);
        assert_eq!(read_every_way(PACK, &sized(limit), limit).messages, ["Ping"]);
        let told = read_every_way(PACK, &sized(limit + 1), limit);
        assert_eq!(told.error, Some(MessageError::TooLarge { message_bytes_max: limit }));
        // Told by the prefix alone.
        assert!(decode(PACK, &sized(limit + 1)[..2], limit).is_err());
    }
}

#[test]
fn integers_take_the_shortest_form() {
    let forms: [(i64, &str); 14] = [
        (0, "00"),
        (127, "7f"),
        (128, "cc 80"),
        (255, "cc ff"),
        (256, "cd 0100"),
        (65_536, "ce 00010000"),
        (1 << 32, "cf 0000000100000000"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0 df"),
        (-129, "d1 ff7f"),
        (-32_769, "d2 ffff7fff"),
        (-2_147_483_649, "d3 ffffffff7fffffff"),
        (i64::MIN, "d3 8000000000000000"),
    ];
    for (number, bytes) in forms {
        assert_eq!(written(|out| Value::Int(number).write(PACK, out).expect("plain")), hex(bytes), "{number}");
        let json = number.to_string();
        let out = written(|out| transcode::transcode(Format::Json, PACK, json.as_bytes(), out).expect("plain"));
        assert_eq!(out, hex(bytes), "{number}");
        assert_eq!(value(&hex(bytes)), Value::Int(number));
    }
    assert_eq!(value(&hex("cf ffffffffffffffff")), Value::UInt(u64::MAX));
}
