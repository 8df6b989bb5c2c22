//! The JSON hub protocol, byte for byte (spec 4, checklist lines 89-99).

mod hub_common;

use fanfare_protocol::hub::error::{Expected, JsonRule};
use fanfare_protocol::hub::{
    Arguments, BindError, Format, Message, MessageError, Outcome, Payload, Raw, Value, encode,
};
use hub_common::{fault, one, read_every_way, record, written};

const JSON: Format = Format::Json;

fn fault_of(text: &str) -> MessageError {
    fault(JSON, &record(text))
}

fn json_rule(text: &[u8]) -> JsonRule {
    match fault(JSON, &[text, b"\x1e"].concat()) {
        MessageError::Json(fault) => fault.rule,
        other => panic!("{other:?}"),
    }
}

/// The first argument of an invocation with this text as its only argument.
fn echoed(argument: &str) -> String {
    let bytes = record(&format!(r#"{{"type":1,"target":"t","arguments":[{argument}]}}"#));
    let Message::Invocation { arguments, .. } = one(JSON, &bytes) else { panic!("not an invocation") };
    let out = written(|out| {
        encode::completion_result(JSON, out, "0", arguments.get(0).expect("an argument")).expect("same format")
    });
    let text = String::from_utf8(out).expect("UTF-8");
    let result = text.strip_prefix(r#"{"type":3,"invocationId":"0","result":"#).expect("a result");
    result.strip_suffix("}\u{1e}").expect("the end").to_owned()
}

#[test]
fn every_type_of_message() {
    let id = || "0".into();
    let args = |text: &'static str| Arguments::parse(JSON, text.as_bytes()).expect("an array");
    let Message::Invocation { invocation_id: None, target, arguments, stream_ids } =
        one(JSON, b"{\"type\":1,\"target\":\"Send\",\"arguments\":[42,\"x\"]}\x1e")
    else {
        panic!("not an invocation")
    };
    assert_eq!((&*target, arguments, stream_ids.len()), ("Send", args("[42,\"x\"]"), 0));

    let bytes = record(r#"{"type":4,"invocationId":"0","target":"S","arguments":[],"streamIds":["1","\u0032"]}"#);
    let Message::StreamInvocation { invocation_id, stream_ids, .. } = one(JSON, &bytes) else { panic!("not a stream") };
    assert_eq!((&*invocation_id, stream_ids.iter().collect::<Vec<_>>()), ("0", vec!["1".into(), "2".into()]));

    let seven = Raw::parse(JSON, b"7").expect("a number");
    let null = Raw::parse(JSON, b"null").expect("null");
    let expected = [
        (r#"{"type":2,"invocationId":"0","item":7}"#, Message::StreamItem { invocation_id: id(), item: seven }),
        (r#"{"type":2,"invocationId":"0","item":null}"#, Message::StreamItem { invocation_id: id(), item: null }),
        (r#"{"type":3,"invocationId":"0"}"#, Message::Completion { invocation_id: id(), outcome: Outcome::Void }),
        (
            r#"{"type":3,"invocationId":"0","result": 7 }"#,
            Message::Completion { invocation_id: id(), outcome: Outcome::Result(seven) },
        ),
        (
            r#"{"type":3,"invocationId":"0","result":null}"#,
            Message::Completion { invocation_id: id(), outcome: Outcome::Result(null) },
        ),
        (
            r#"{"type":3,"invocationId":"0","error":"text"}"#,
            Message::Completion { invocation_id: id(), outcome: Outcome::Error("text".into()) },
        ),
        (
            r#"{"type":3,"invocationId":"0","error":null,"result":7}"#,
            Message::Completion { invocation_id: id(), outcome: Outcome::Result(seven) },
        ),
        (r#"{"type":5,"invocationId":"0"}"#, Message::CancelInvocation { invocation_id: id() }),
        (r#"{"type":6}"#, Message::Ping),
        (r#"{"type":7}"#, Message::Close { error: None, allow_reconnect: false }),
        (r#"{"type":7,"error":""}"#, Message::Close { error: Some("".into()), allow_reconnect: false }),
        (
            r#"{"type":7,"error":"text","allowReconnect":true}"#,
            Message::Close { error: Some("text".into()), allow_reconnect: true },
        ),
        (r#"{"type":8,"sequenceId":1394}"#, Message::Ack { sequence_id: 1394 }),
        (r#"{"type":9,"sequenceId":18446744073709551615}"#, Message::Sequence { sequence_id: u64::MAX }),
    ];
    for (text, message) in expected {
        assert_eq!(one(JSON, &record(text)), message, "{text}");
    }
}

#[test]
fn captured_conversation_of_the_javascript_client() {
    let stream = [
        r#"{"type":6}"#,
        r#"{"target":"Fire","arguments":[1,"two",{"a":null},3.5,"1970-01-01T00:00:00.000Z"],"type":1}"#,
        r#"{"target":"Echo","arguments":["h\u00e9\n\"x"],"invocationId":"0","type":1}"#,
        r#"{"target":"Up","arguments":[5],"streamIds":["1"],"type":1}"#,
        r#"{"target":"St","arguments":[2],"invocationId":"2","type":4}"#,
        r#"{"invocationId":"1","item":"i1","type":2}"#,
        r#"{"invocationId":"2","type":5}"#,
        r#"{"invocationId":"1","type":3}"#,
        r#"{"type":7}"#,
    ];
    let bytes: Vec<u8> = stream.iter().flat_map(|text| record(text)).collect();
    let told = read_every_way(JSON, &bytes, 32_768);
    assert_eq!((told.messages.len(), told.left, told.error), (stream.len(), 0, None));
    for (message, text) in told.messages.iter().zip(stream) {
        assert_eq!(*message, format!("{:?}", one(JSON, &record(text))));
    }
}

#[test]
fn line_089_invocation_without_id_has_none_to_answer() {
    for text in [
        r#"{"type":1,"target":"t","arguments":[]}"#,
        r#"{"type":1,"target":"t","arguments":[],"invocationId":null}"#,
        r#"{"type":1,"target":"t","arguments":[],"invocationId":""}"#,
    ] {
        let bytes = record(text);
        assert!(matches!(one(JSON, &bytes), Message::Invocation { invocation_id: None, .. }), "{text}");
    }
    // Going out, it is left out: clients refuse an empty one.
    let out = written(|out| encode::invocation(JSON, out, None, "t", &Payload::Values(&[])).expect("plain"));
    assert_eq!(out, record(r#"{"type":1,"target":"t","arguments":[]}"#));
}

#[test]
fn line_090_ids_come_back_identical() {
    for id in ["0", "a b", "\u{e9}\u{1f600}", "\"\\\u{1e}", "s1"] {
        let bytes = written(|out| encode::invocation(JSON, out, Some(id), "t", &Payload::Values(&[])).expect("plain"));
        let Message::Invocation { invocation_id: Some(seen), .. } = one(JSON, &bytes) else { panic!("no id") };
        assert_eq!(seen, id);
        let answer = written(|out| encode::completion_void(JSON, out, &seen).expect("plain"));
        let Message::Completion { invocation_id, .. } = one(JSON, &answer) else { panic!("not a completion") };
        assert_eq!(invocation_id, id);
    }
}

#[test]
fn line_091_void_result_is_null_and_the_end_of_a_stream_has_none() {
    let void = written(|out| encode::completion_void(JSON, out, "0").expect("plain"));
    assert_eq!(void, record(r#"{"type":3,"invocationId":"0","result":null}"#));
    let end = written(|out| encode::completion_end(JSON, out, "0").expect("plain"));
    assert_eq!(end, record(r#"{"type":3,"invocationId":"0"}"#));
}

#[test]
fn line_092_arguments_before_target() {
    let bytes = record(r#" { "arguments" : [ 1 , [2] ] , "target" : "t" , "invocationId" : "9" , "type" : 1 } "#);
    let Message::Invocation { invocation_id, target, arguments, .. } = one(JSON, &bytes) else { panic!("not one") };
    assert_eq!((invocation_id.as_deref(), &*target), (Some("9"), "t"));
    assert_eq!(arguments.bytes(), b"[ 1 , [2] ]");
    assert_eq!(arguments.iter().map(|raw| raw.bytes()).collect::<Vec<_>>(), [&b"1"[..], b"[2]"]);
    let bytes = record(r#"{"result":{"a":[]},"invocationId":"3","type":3}"#);
    let Message::Completion { outcome: Outcome::Result(result), .. } = one(JSON, &bytes) else { panic!("no result") };
    assert_eq!(result.bytes(), br#"{"a":[]}"#);
}

#[test]
fn line_093_unknown_properties_and_types() {
    let unknown_property = record(r#"{"x":{"type":7,"y":[null,true,-1.5e3]},"type":6,"Type":1,"":0}"#);
    assert_eq!(one(JSON, &unknown_property), Message::Ping);
    for kind in [42, 0, -1, 10, i64::from(i32::MAX)] {
        let bytes = record(&format!(r#"{{"type":{kind},"target":false,"arguments":{{}}}}"#));
        assert_eq!(one(JSON, &bytes), Message::Unknown { kind });
    }
    let bytes = [record(r#"{"type":42}"#), record(r#"{"type":6}"#)].concat();
    assert_eq!(read_every_way(JSON, &bytes, 0).messages, ["Unknown { kind: 42 }", "Ping"]);
}

#[test]
fn line_093_the_last_of_duplicates_wins() {
    let bytes =
        record(r#"{"type":7,"target":"a","arguments":[1],"type":1,"target":"b","arguments":[],"\u0074arget":"c"}"#);
    let Message::Invocation { target, arguments, .. } = one(JSON, &bytes) else { panic!("not an invocation") };
    assert_eq!((&*target, arguments.len()), ("c", 0));
}

#[test]
fn line_094_what_is_missing_is_named() {
    let missing = [
        (r#"{}"#, "Missing required property 'type'."),
        (r#"{"target":"t"}"#, "Missing required property 'type'."),
        (r#"{"type":null}"#, "Missing required property 'type'."),
        (r#"{"type":1,"arguments":[]}"#, "Missing required property 'target'."),
        (r#"{"type":1,"arguments":[],"target":""}"#, "Missing required property 'target'."),
        (r#"{"type":1,"arguments":[],"target":null}"#, "Missing required property 'target'."),
        (r#"{"type":1,"target":"t"}"#, "Missing required property 'arguments'."),
        (r#"{"type":1,"target":"t","arguments":null}"#, "Missing required property 'arguments'."),
        (r#"{"type":2,"invocationId":"0"}"#, "Missing required property 'item'."),
        (r#"{"type":2,"item":0}"#, "Missing required property 'invocationId'."),
        (r#"{"type":3}"#, "Missing required property 'invocationId'."),
        (r#"{"type":4,"target":"t","arguments":[]}"#, "Missing required property 'invocationId'."),
        (r#"{"type":4,"target":"t","arguments":[],"invocationId":""}"#, "Missing required property 'invocationId'."),
        (r#"{"type":5}"#, "Missing required property 'invocationId'."),
        (r#"{"type":8}"#, "Missing required property 'sequenceId'."),
        (r#"{"type":9,"sequenceId":null}"#, "Missing required property 'sequenceId'."),
    ];
    for (text, expected) in missing {
        assert_eq!(fault_of(text).to_string(), expected, "{text}");
    }
}

#[test]
fn line_094_what_has_the_wrong_type_is_named() {
    let wrong = [
        (r#"{"type":"1"}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":1.5}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":6e0}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":2147483648}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":1,"target":5,"arguments":[]}"#, "Expected 'target' to be of type String."),
        (r#"{"type":6,"target":5}"#, "Expected 'target' to be of type String."),
        (r#"{"type":1,"target":"t","arguments":{}}"#, "Expected 'arguments' to be of type Array."),
        (r#"{"type":1,"target":"t","arguments":[],"invocationId":0}"#, "Expected 'invocationId' to be of type String."),
        (r#"{"type":1,"target":"t","arguments":[],"streamIds":"1"}"#, "Expected 'streamIds' to be of type Array."),
        (r#"{"type":1,"target":"t","arguments":[],"streamIds":[1]}"#, "Expected 'streamIds' to be of type String."),
        (r#"{"type":1,"target":"t","arguments":[],"headers":[]}"#, "Expected 'headers' to be of type Object."),
        (r#"{"type":1,"target":"t","arguments":[],"headers":{"a":1}}"#, "Expected 'headers' to be of type String."),
        (r#"{"type":3,"invocationId":"0","error":{}}"#, "Expected 'error' to be of type String."),
        (r#"{"type":7,"allowReconnect":1}"#, "Expected 'allowReconnect' to be true or false."),
        (r#"{"type":8,"sequenceId":"1"}"#, "Expected 'sequenceId' to be of type Number."),
        (r#"{"type":8,"sequenceId":-1}"#, "Expected 'sequenceId' to be of type Number."),
        (r#"{"type":8,"sequenceId":18446744073709551616}"#, "Expected 'sequenceId' to be of type Number."),
    ];
    for (text, expected) in wrong {
        assert_eq!(fault_of(text).to_string(), expected, "{text}");
    }
    let error = MessageError::WrongType { property: "type", expected: Expected::Number };
    assert_eq!(fault_of(r#"{"type":true}"#), error);
    for text in ["[]", "5", "null", "\"x\"", " [1] "] {
        assert_eq!(fault_of(text), MessageError::NotAnObject, "{text}");
    }
}

#[test]
fn line_094_broken_json_is_refused_by_rule() {
    let prefix = r#"{"type":6,"x":"#;
    let broken: [(&[u8], JsonRule); 40] = [
        (b"", JsonRule::UnexpectedEnd),
        (b"  ", JsonRule::UnexpectedEnd),
        (b"{", JsonRule::UnexpectedEnd),
        (b"{\"type\"", JsonRule::UnexpectedEnd),
        (b"{\"type\":6", JsonRule::UnexpectedEnd),
        (b"{\"type\":6,", JsonRule::UnexpectedEnd),
        (b"{\"type\":6,}", JsonRule::UnexpectedByte),
        (b"{,\"type\":6}", JsonRule::UnexpectedByte),
        (b"{\"type\" 6}", JsonRule::UnexpectedByte),
        (b"{\"type\":6]", JsonRule::UnexpectedByte),
        (b"{type:6}", JsonRule::UnexpectedByte),
        (b"{'type':6}", JsonRule::UnexpectedByte),
        (b"{\"type\":6}}", JsonRule::TrailingBytes),
        (b"{\"type\":6}{\"type\":6}", JsonRule::TrailingBytes),
        (b"{\"type\":6} x", JsonRule::TrailingBytes),
        (b"/**/{\"type\":6}", JsonRule::UnexpectedByte),
        (b"{\"type\":6/*c*/}", JsonRule::UnexpectedByte),
        (b"\xEF\xBB\xBF{\"type\":6}", JsonRule::UnexpectedByte),
        (b"{\"type\":06}", JsonRule::Number),
        (b"{\"type\":+6}", JsonRule::UnexpectedByte),
        (b"{\"type\":6.}", JsonRule::Number),
        (b"{\"type\":.6}", JsonRule::UnexpectedByte),
        (b"{\"type\":6e}", JsonRule::Number),
        (b"{\"type\":6e+}", JsonRule::Number),
        (b"{\"type\":-}", JsonRule::Number),
        (b"{\"type\":-x}", JsonRule::Number),
        (b"{\"type\":0x6}", JsonRule::UnexpectedByte),
        (b"{\"type\":Infinity}", JsonRule::UnexpectedByte),
        (b"{\"type\":NaN}", JsonRule::UnexpectedByte),
        (b"nul", JsonRule::UnexpectedEnd),
        (b"{\"a\":nulL}", JsonRule::UnexpectedByte),
        (b"{\"a\":True}", JsonRule::UnexpectedByte),
        (b"{\"a\":fals}", JsonRule::UnexpectedByte),
        (b"{\"a\":\"\\x\"}", JsonRule::Escape),
        (b"{\"a\":\"\\u12g4\"}", JsonRule::Escape),
        (b"{\"a\":\"\\u123\"}", JsonRule::Escape),
        (b"{\"a\":\"\n\"}", JsonRule::ControlInString),
        (b"{\"a\":\"\x00\"}", JsonRule::ControlInString),
        (b"{\"a\":\"abcdefg\x1f\"}", JsonRule::ControlInString),
        (b"{\"a\":\"unfinished", JsonRule::UnexpectedEnd),
    ];
    for (text, rule) in broken {
        assert_eq!(json_rule(text), rule, "{}", String::from_utf8_lossy(text));
    }
    for tail in ["[1,]", "[,1]", "[1 2]", "{\"a\":1,}", "{\"a\"}", "{1:1}", "[}", "{]", "[1}"] {
        assert_eq!(json_rule(format!("{prefix}{tail}}}").as_bytes()), JsonRule::UnexpectedByte, "{tail}");
    }
    assert_eq!(fault_of("").to_string(), "Error reading JSON.");
    // Two separators in a row are an empty record.
    let told = read_every_way(JSON, b"{\"type\":6}\x1e\x1e{\"type\":6}\x1e", 0);
    assert_eq!((told.messages.len(), told.error.is_some()), (1, true));
}

#[test]
fn line_094_strings_are_utf8() {
    for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"abcdefgh\x80"] {
        for template in [r#"{"type":1,"arguments":[],"target":"@"}"#, r#"{"type":6,"x":["@"]}"#, r#"{"@":1,"type":6}"#]
        {
            let (front, back) = template.split_once('@').expect("a place");
            let text = [front.as_bytes(), bad, back.as_bytes()].concat();
            assert_eq!(json_rule(&text), JsonRule::Utf8, "{template} {bad:?}");
        }
    }
}

#[test]
fn line_094_close_text_shows_the_rule_only_on_demand() {
    let error = fault_of("{}");
    assert_eq!(error.close_text(false), "Connection closed with an error.");
    let detailed = "Connection closed with an error. InvalidDataException: Missing required property 'type'.";
    assert_eq!(error.close_text(true), detailed);
    let out = written(|out| encode::close(JSON, out, Some(&error.close_text(false)), true));
    let expected = r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#;
    assert_eq!(out, record(expected));
}

#[test]
fn line_095_headers_are_accepted_and_never_sent() {
    for headers in ["{}", "null", r#"{"traceparent":"00-ab","x":"y"}"#] {
        for message in [
            r#""type":1,"target":"t","arguments":[1]"#,
            r#""type":2,"invocationId":"0","item":1"#,
            r#""type":3,"invocationId":"0""#,
            r#""type":4,"invocationId":"0","target":"t","arguments":[1]"#,
            r#""type":5,"invocationId":"0""#,
        ] {
            let (with, without) =
                (record(&format!(r#"{{"headers":{headers},{message}}}"#)), record(&format!("{{{message}}}")));
            let decoded = one(JSON, &with);
            assert_eq!(decoded, one(JSON, &without));
            let out = written(|out| encode::decoded(JSON, out, &decoded).expect("same format"));
            assert!(!String::from_utf8_lossy(&out).contains("headers"));
        }
    }
}

#[test]
fn line_096_sixty_four_levels_and_no_more() {
    // The message and its list of arguments are the first two.
    let nested = |levels: usize, open: &str, close: &str| {
        record(&format!(
            r#"{{"type":1,"target":"t","arguments":[{}0{}]}}"#,
            open.repeat(levels - 2),
            close.repeat(levels - 2)
        ))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let levels_per_pair = close.len();
        assert!(matches!(one(JSON, &nested(2 + 62 / levels_per_pair, open, close)), Message::Invocation { .. }));
        let MessageError::Json(fault) = fault(JSON, &nested(2 + 62 / levels_per_pair + 1, open, close)) else {
            panic!("not JSON's fault")
        };
        assert_eq!(fault.rule, JsonRule::Depth);
    }
    let unclosed = [b"{\"type\":6,\"x\":".as_slice(), &b"[".repeat(100_000), b"\x1e"].concat();
    assert_eq!(
        fanfare_protocol::hub::decode(JSON, &unclosed, 0),
        Err(MessageError::Json(fanfare_protocol::hub::error::JsonFault { rule: JsonRule::Depth, at: 14 + 63 }))
    );
    // Empty containers are levels, too.
    let text = format!("{}{{}}{}", "[".repeat(62), "]".repeat(62));
    assert!(matches!(Raw::parse(JSON, text.as_bytes()), Err(BindError::Malformed)));
    assert!(Raw::parse(JSON, &text.as_bytes()[1..text.len() - 1]).is_ok());
}

#[test]
fn line_097_record_separator_in_a_string_is_escaped() {
    let values = [Value::from("a\u{1e}b\u{0}\u{1f}\u{8}\u{c}\n\r\t\"\\/\u{7f}\u{e9}\u{2028}\u{1f600}")];
    let out = written(|out| encode::invocation(JSON, out, None, "x\u{1e}", &Payload::Values(&values)).expect("plain"));
    let expected = "{\"type\":1,\"target\":\"x\\u001e\",\"arguments\":[\"a\\u001eb\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\u{7f}\u{e9}\u{2028}\u{1f600}\"]}";
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&record(expected)));
    let Message::Invocation { target, arguments, .. } = one(JSON, &out) else { panic!("not an invocation") };
    assert_eq!(target, "x\u{1e}");
    assert_eq!(arguments.get(0).expect("one").value(), Ok(values[0].clone()));
}

#[test]
fn line_098_error_or_result_but_never_both() {
    let both = fault_of(r#"{"type":3,"invocationId":"0","error":"e","result":null}"#);
    assert_eq!(both.to_string(), "The 'error' and 'result' properties are mutually exclusive.");
    let error = written(|out| encode::completion_error(JSON, out, "0", "bo\"om").expect("plain"));
    assert_eq!(error, record(r#"{"type":3,"invocationId":"0","error":"bo\"om"}"#));
    let result = written(|out| encode::completion_result(JSON, out, "0", &Value::Int(42)).expect("plain"));
    assert_eq!(result, record(r#"{"type":3,"invocationId":"0","result":42}"#));
    let close = written(|out| encode::close(JSON, out, None, false));
    assert_eq!(close, record(r#"{"type":7}"#));
    let close = written(|out| encode::close(JSON, out, None, true));
    assert_eq!(close, record(r#"{"type":7,"allowReconnect":true}"#));
}

#[test]
fn line_099_values_pass_through_unchanged() {
    for text in [
        "9007199254740993",
        "18446744073709551616",
        "-123456789012345678901234567890",
        "1E400",
        "-0",
        "-0.0",
        "0.1e-7",
        "1.10",
        "2e+5",
        r#""\ud83d\ude00""#,
        r#""\ud800""#,
        "\"\u{1f600}\"",
        r#""\/""#,
        r#"{"b":1,"a":[ ],"b":2}"#,
        "[[],{},[null,true,false]]",
    ] {
        assert_eq!(echoed(text), text);
        // White space around a value is not part of it.
        assert_eq!(echoed(&format!(" \t{text}\r\n ")), text);
    }
}

#[test]
fn line_099_exact_numbers() {
    let raw = |text: &'static str| Raw::parse(JSON, text.as_bytes()).expect(text);
    assert_eq!(raw("9007199254740993").as_i64(), Ok(9_007_199_254_740_993));
    assert_eq!(raw("18446744073709551615").as_u64(), Ok(u64::MAX));
    assert_eq!(raw("18446744073709551615").as_i64(), Err(BindError::Range));
    assert_eq!(raw("-9223372036854775808").as_i64(), Ok(i64::MIN));
    assert_eq!(raw("-9223372036854775809").as_i64(), Err(BindError::Range));
    assert_eq!(raw("-9223372036854775809").as_f64(), Ok(-9_223_372_036_854_775_808.0));
    assert_eq!(raw("1e3").as_i64(), Ok(1000));
    assert_eq!(raw("1.5").as_i64(), Err(BindError::Range));
    assert_eq!(raw("1e400").as_f64(), Err(BindError::Range));
    assert_eq!(raw("0.1").as_f64(), Ok(0.1));
    assert_eq!(raw("-0.0").as_f64().map(f64::to_bits), Ok((-0.0f64).to_bits()));
}

#[test]
fn line_099_lone_surrogates_fail_the_binding_and_not_the_connection() {
    let bytes = record(r#"{"type":1,"target":"t","arguments":["\ud83d","\udc00\ud800","\ud83d\u0041"]}"#);
    let Message::Invocation { arguments, .. } = one(JSON, &bytes) else { panic!("not an invocation") };
    for argument in arguments {
        assert_eq!(argument.as_str(), Err(BindError::Text));
        assert_eq!(argument.value(), Err(BindError::Text));
    }
    assert_eq!(json_rule(br#"{"type":1,"target":"\ud83d","arguments":[]}"#), JsonRule::LoneSurrogate);
    assert_eq!(json_rule(br#"{"type":5,"invocationId":"\udfff"}"#), JsonRule::LoneSurrogate);
}

#[test]
fn line_111_the_limit_counts_the_separator() {
    let sized = |bytes: usize| {
        let frame = r#"{"type":1,"target":"t","arguments":[""]}"#.len() + 1;
        record(&format!(r#"{{"type":1,"target":"t","arguments":["{}"]}}"#, "x".repeat(bytes - frame)))
    };
    for limit in [64, 100] {
        assert_eq!(read_every_way(JSON, &sized(limit), limit).messages.len(), 1);
        let told = read_every_way(JSON, &sized(limit + 1), limit);
        assert_eq!(told.error, Some(MessageError::TooLarge { message_bytes_max: limit }));
        // Without an end in sight the bytes are not collected beyond the limit.
        let endless = vec![b' '; limit];
        assert_eq!(read_every_way(JSON, &endless, limit).error.map(|error| error.is_too_large()), Some(true));
        assert_eq!(read_every_way(JSON, &endless[1..], limit).left, limit - 1);
    }
    let text = "The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions.";
    assert_eq!(MessageError::TooLarge { message_bytes_max: 32_768 }.to_string(), text);
    let large = sized(5 << 20);
    assert!(fanfare_protocol::hub::decode(JSON, &large, 0).is_ok());
}
