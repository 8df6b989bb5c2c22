//! Reading arguments in place, building values, and one format as the other.

mod hub_common;

use fanfare_protocol::cursor::Count;
use fanfare_protocol::hub::error::{Kind, Unsayable};
use fanfare_protocol::hub::transcode::transcode;
use fanfare_protocol::hub::{Arguments, BindError, Format, Item, Payload, PayloadError, Raw, Timestamp, Value, encode};
use hub_common::{hex, record, written};

const JSON: Format = Format::Json;
const PACK: Format = Format::MessagePack;

fn raw(format: Format, bytes: &[u8]) -> Raw<'_> {
    Raw::parse(format, bytes).unwrap_or_else(|error| panic!("{bytes:?}: {error}"))
}

fn other_than(format: Format) -> Format {
    if format == JSON { PACK } else { JSON }
}

fn transcoded(from: Format, bytes: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let mut out = Vec::new();
    transcode(from, other_than(from), bytes, &mut out).map(|()| out)
}

fn to_json(bytes: &str) -> Result<String, PayloadError> {
    transcoded(PACK, &hex(bytes)).map(|out| String::from_utf8(out).expect("UTF-8"))
}

fn unsayable<T>(format: Format, what: Unsayable) -> Result<T, PayloadError> {
    Err(PayloadError::NotRepresentable { format, what })
}

#[test]
fn accessors_in_both_formats() {
    let pairs: [(&[u8], &str); 8] = [
        (b"null", "c0"),
        (b"true", "c3"),
        (b"-5", "fb"),
        (b"2.5", "cb 4004000000000000"),
        (br#""h\u00e9""#, "a3 68c3a9"),
        (b"[1,[2]]", "92 01 91 02"),
        (br#"{"a":1,"b":"x","a":2}"#, "83 a161 01 a162 a178 a161 02"),
        (b"18446744073709551615", "cf ffffffffffffffff"),
    ];
    for (json, pack) in pairs {
        let pack = hex(pack);
        let (json, pack) = (raw(JSON, json), raw(PACK, &pack));
        assert_eq!(json.kind(), pack.kind());
        assert_eq!(json.is_null(), pack.is_null());
        assert_eq!(json.as_str(), pack.as_str());
        assert_eq!(json.as_bool(), pack.as_bool());
        assert_eq!(json.as_i64(), pack.as_i64());
        assert_eq!(json.as_u64(), pack.as_u64());
        assert_eq!(json.as_f64(), pack.as_f64());
        assert_eq!(json.value(), pack.value());
        assert_eq!(json.array().map(Iterator::count), pack.array().map(Iterator::count));
        assert_eq!(json.entries().map(Iterator::count), pack.entries().map(Iterator::count));
        let field = |raw: Raw<'_>| raw.field("a").map(|field| field.map(|field| field.as_i64()));
        assert_eq!(field(json), field(pack));
    }
    let object = raw(JSON, br#"{"a":1,"b":"x","\u0061":2}"#);
    assert_eq!(object.field("a").map(|field| field.map(|field| field.as_i64())), Ok(Some(Ok(2))), "the last one");
    assert_eq!(object.field("c"), Ok(None));
    assert_eq!(object.field("A"), Ok(None));
    assert_eq!(object.as_str(), Err(BindError::Kind { expected: Kind::String, found: Kind::Map }));
    assert_eq!(object.as_str().expect_err("an object").to_string(), "expected a string, found an object");
    let owned = object.to_owned();
    assert_eq!(owned.as_raw(), object);
}

#[test]
fn texts_borrow_unless_they_are_escaped() {
    use std::borrow::Cow;
    assert!(matches!(raw(JSON, b"\"plain\"").as_str(), Ok(Cow::Borrowed("plain"))));
    assert!(matches!(raw(JSON, "\"\u{e9}\"".as_bytes()).as_str(), Ok(Cow::Borrowed("\u{e9}"))));
    assert!(matches!(raw(PACK, b"\xa1x").as_str(), Ok(Cow::Borrowed("x"))));
    let escapes = raw(JSON, br#""\"\\\/\b\f\n\r\t\u0000\u00E9\ud83d\ude00x""#).as_str();
    assert_eq!(escapes, Ok(Cow::Owned("\"\\/\u{8}\u{c}\n\r\t\0\u{e9}\u{1f600}x".to_owned())));
}

#[test]
fn numbers_bind_only_where_they_fit() {
    let float = |value: f64| written(|out| Value::Float(value).write(PACK, out).expect("plain"));
    for (value, expected) in [
        (3.0, Ok(3)),
        (-0.0, Ok(0)),
        (9_223_372_036_854_774_784.0, Ok(9_223_372_036_854_774_784)),
        (-9_223_372_036_854_775_808.0, Ok(i64::MIN)),
        (9_223_372_036_854_775_808.0, Err(BindError::Range)),
        (0.5, Err(BindError::Range)),
        (f64::NAN, Err(BindError::Range)),
        (f64::INFINITY, Err(BindError::Range)),
    ] {
        assert_eq!(raw(PACK, &float(value)).as_i64(), expected, "{value}");
    }
    assert_eq!(raw(PACK, &float(18_446_744_073_709_549_568.0)).as_u64(), Ok(18_446_744_073_709_549_568));
    assert_eq!(raw(PACK, &float(18_446_744_073_709_551_616.0)).as_u64(), Err(BindError::Range));
    assert_eq!(raw(JSON, b"-1").as_u64(), Err(BindError::Range));
    assert_eq!(raw(JSON, b"\"1\"").as_i64(), Err(BindError::Kind { expected: Kind::Number, found: Kind::String }));
    assert_eq!(raw(PACK, &hex("ca 3dcccccd")).as_f64(), Ok(f64::from(0.1f32)));
}

#[test]
fn bytes_and_times() {
    for (text, bytes) in
        [("", &b""[..]), ("AQID", b"\x01\x02\x03"), ("AQI=", b"\x01\x02"), ("AQ", b"\x01"), ("/+8=", b"\xff\xef")]
    {
        let json = format!("\"{text}\"");
        assert_eq!(raw(JSON, json.as_bytes()).as_bytes().as_deref(), Ok(bytes));
    }
    for bad in ["A", "AQ=I", "AQI_", "AQID ", "\u{e9}"] {
        assert_eq!(raw(JSON, format!("\"{bad}\"").as_bytes()).as_bytes(), Err(BindError::Base64), "{bad}");
    }
    assert_eq!(raw(PACK, &hex("c4 02 ff00")).as_bytes().as_deref(), Ok(&b"\xff\x00"[..]));
    assert_eq!(raw(PACK, &hex("a2 ff00")).as_bytes().as_deref(), Ok(&b"\xff\x00"[..]), "old encoders");
    assert_eq!(raw(PACK, &hex("a2 ff00")).as_str(), Err(BindError::Text));
    assert_eq!(raw(PACK, &hex("05")).as_bytes(), Err(BindError::Kind { expected: Kind::Binary, found: Kind::Number }));
    assert_eq!(raw(PACK, &hex("d4 07 00")).kind(), Kind::Extension);
    assert_eq!(raw(PACK, &hex("d6 ff 00000000")).kind(), Kind::Timestamp);
    let text = raw(JSON, b"\"2000-01-01T00:00:00Z\"");
    assert_eq!(text.as_timestamp(), Ok(Timestamp { seconds: 946_684_800, nanos: 0 }));
    assert_eq!(raw(JSON, b"\"yesterday\"").as_timestamp(), Err(BindError::Timestamp));
    assert_eq!(raw(JSON, b"1").as_timestamp(), Err(BindError::Kind { expected: Kind::Timestamp, found: Kind::Number }));
}

#[test]
fn times_as_text() {
    let exact = [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2000-01-01T00:00:00Z", 946_684_800, 0),
        ("2000-02-29T23:59:59.999Z", 951_868_799, 999_000_000),
        ("1969-12-31T23:59:59.999999Z", -1, 999_999_000),
        ("2038-01-19T03:14:08.000000001Z", 2_147_483_648, 1),
        ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
        ("+010000-01-01T00:00:00Z", 253_402_300_800, 0),
        ("0000-01-01T00:00:00Z", -62_167_219_200, 0),
        ("-000001-12-31T23:59:59Z", -62_167_219_201, 0),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("1900-03-01T00:00:00Z", -2_203_891_200, 0),
    ];
    for (text, seconds, nanos) in exact {
        let time = Timestamp { seconds, nanos };
        let out = written(|out| Value::from(time).write(JSON, out).expect("sayable"));
        assert_eq!(String::from_utf8_lossy(&out), format!("\"{text}\""));
        assert_eq!(Timestamp::parse_iso8601(text), Some(time), "{text}");
    }
    let seconds = |text| Timestamp::parse_iso8601(text).map(|time| (time.seconds, time.nanos));
    assert_eq!(seconds("1970-01-01T02:00:00+02:00"), Some((0, 0)));
    assert_eq!(seconds("1970-01-01t00:00:00.5-0130"), Some((5_400, 500_000_000)));
    assert_eq!(seconds("1970-01-02"), Some((86_400, 0)));
    assert_eq!(seconds("1970-01-01 00:01"), Some((60, 0)));
    assert_eq!(seconds("1970-01-01T00:00:00.1234567899Z"), Some((0, 123_456_789)));
    for bad in [
        "",
        "1970",
        "1970-13-01",
        "1970-00-01",
        "1970-02-30",
        "1900-02-29",
        "1970-01-01T",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:60Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00Zx",
        "1970-01-01T00:00:00+2",
        "19700101T000000Z",
        "+1970-01-01",
        "1970-1-1",
        "1970-01-01T0:00:00",
        " 1970-01-01",
        "1970-01-0\u{e9}",
    ] {
        assert_eq!(seconds(bad), None, "{bad}");
    }
    for seconds in [i64::MIN, i64::MAX, 40_000_000_000_000] {
        let value = Value::Timestamp { seconds, nanos: 0 };
        assert_eq!(value.write(JSON, &mut Count(0)), unsayable(JSON, Unsayable::Timestamp));
    }
    let value = Value::Timestamp { seconds: 0, nanos: 1_000_000_000 };
    assert_eq!(value.write(JSON, &mut Count(0)), unsayable(JSON, Unsayable::Timestamp));
}

#[test]
fn line_099_numbers_keep_their_value_in_the_other_format() {
    for (json, pack) in [
        ("0", "00"),
        ("-0", "00"),
        ("9007199254740993", "cf 0020000000000001"),
        ("18446744073709551615", "cf ffffffffffffffff"),
        ("-9223372036854775808", "d3 8000000000000000"),
        ("0.1", "cb 3fb999999999999a"),
        ("1.0", "cb 3ff0000000000000"),
        ("1e3", "cb 408f400000000000"),
        ("-0.0", "cb 8000000000000000"),
        ("5e-324", "cb 0000000000000001"),
        ("1.7976931348623157e308", "cb 7fefffffffffffff"),
        ("18446744073709551616", "cb 43f0000000000000"),
        ("1e-400", "cb 0000000000000000"),
    ] {
        assert_eq!(transcoded(JSON, json.as_bytes()), Ok(hex(pack)), "{json}");
    }
    assert_eq!(transcoded(JSON, b"[1e309]"), unsayable(PACK, Unsayable::Number));
    for (pack, json) in [
        ("cb 3ff0000000000000", "1.0"),
        ("cb 44b52d02c7e14af6", "1e23"),
        ("cb 3eb0c6f7a0b5ed8d", "1e-6"),
        ("ca 3dcccccd", "0.10000000149011612"),
        ("cb 8000000000000000", "-0.0"),
        ("d3 ffffffffffffffff", "-1"),
        ("cf ffffffffffffffff", "18446744073709551615"),
    ] {
        assert_eq!(to_json(pack).as_deref(), Ok(json), "{pack}");
    }
    for bits in ["7ff0000000000000", "fff0000000000000", "7ff8000000000000"] {
        assert_eq!(to_json(&format!("92 01 cb {bits}")), unsayable(JSON, Unsayable::NotFinite));
    }
}

#[test]
fn everything_else_in_the_other_format() {
    for (pack, json) in [
        ("93 c0 c2 c3", "[null,false,true]"),
        ("82 a161 90 a162 80", r#"{"a":[],"b":{}}"#),
        ("83 05 01 ff 02 c3 03", r#"{"5":1,"-1":2,"true":3}"#),
        ("c4 05 0102030405", r#""AQIDBAU=""#),
        ("d7 ff 0000000038 6d4380", r#""2000-01-01T00:00:00Z""#),
        ("a4 221e0a5c", r#""\"\u001e\n\\""#),
        ("dc 0001 dd 00000001 de 0001 d9 01 61 da 0001 62", r#"[[{"a":"b"}]]"#),
    ] {
        assert_eq!(to_json(pack).as_deref(), Ok(json), "{pack}");
    }
    let long = written(|out| Value::Bin(vec![0xff; 2_000]).write(PACK, out).expect("plain"));
    let text = transcoded(PACK, &long).expect("plain");
    assert_eq!(raw(JSON, &text).as_bytes().as_deref(), Ok(&[0xff; 2_000][..]));
    for (pack, what) in [
        ("d4 07 00", Unsayable::Extension),
        ("81 c0 01", Unsayable::MapKey),
        ("81 90 01", Unsayable::MapKey),
        ("81 cb 0000000000000000 01", Unsayable::MapKey),
        ("91 a1 ff", Unsayable::Text),
        ("81 a1 ff 00", Unsayable::Text),
        ("d7 ff ffffffff00000000", Unsayable::Timestamp),
    ] {
        assert_eq!(to_json(pack), unsayable(JSON, what), "{pack}");
    }
    assert_eq!(transcoded(JSON, br#"["\ud800"]"#), unsayable(PACK, Unsayable::Text));
    assert_eq!(transcoded(JSON, br#"{"\udc00":1}"#), unsayable(PACK, Unsayable::Text));
    let object = transcoded(JSON, br#" { "b" : [ 1 , { } ] , "a" : "\u00e9" , "b" : [ ] } "#);
    assert_eq!(object, Ok(hex("83 a162 92 01 80 a161 a2c3a9 a162 90")));
    // Sizes that change the heads.
    for items in [15usize, 16, 65_535, 65_536] {
        let json = format!("[{}0]", "0,".repeat(items - 1));
        let pack = transcoded(JSON, json.as_bytes()).expect("plain");
        assert_eq!(Arguments::parse(PACK, &pack).map(|arguments| arguments.len()), Ok(items));
        assert_eq!(transcoded(PACK, &pack), Ok(json.into_bytes()));
    }
}

#[test]
fn payloads_in_both_formats() {
    let values = [Value::from("x"), Value::Int(1)];
    let (json, pack) = (&b"[\"x\",1]"[..], hex("92 a178 01"));
    let arguments = Arguments::parse(JSON, json).expect("an array");
    let packed = Arguments::parse(PACK, &pack).expect("an array");
    let payloads = [
        Payload::Values(&values),
        Payload::Raw(arguments),
        Payload::Raw(packed),
        Payload::Ready { json: Some(json), messagepack: None },
        Payload::Ready { json: None, messagepack: Some(&pack) },
        Payload::Ready { json: Some(json), messagepack: Some(&pack) },
    ];
    for payload in payloads {
        assert_eq!(payload.check(), Ok(()));
        assert_eq!(payload.encoded(JSON).as_deref(), Ok(json), "{payload:?}");
        assert_eq!(payload.encoded(PACK).as_deref(), Ok(&pack[..]), "{payload:?}");
        let out = written(|out| encode::invocation(JSON, out, None, "m", &payload).expect("plain"));
        assert_eq!(out, record(r#"{"type":1,"target":"m","arguments":["x",1]}"#));
        let out = written(|out| encode::invocation(PACK, out, Some("7"), "m", &payload).expect("plain"));
        assert_eq!(out, hex("0c 96 01 80 a1 37 a1 6d 92 a178 01 90"));
        for format in Format::ALL {
            let mut count = Count(0);
            encode::invocation(format, &mut count, None, "m", &payload).expect("plain");
            let out = written(|out| encode::invocation(format, out, None, "m", &payload).expect("plain"));
            assert_eq!(count.0, out.len());
        }
    }
    // Each format is taken as it is when it is at hand.
    let unlike = Payload::Ready { json: Some(b"[1]"), messagepack: Some(b"\x91\x02") };
    assert_eq!(unlike.encoded(JSON).as_deref(), Ok(&b"[1]"[..]));
    assert_eq!(unlike.encoded(PACK).as_deref(), Ok(&b"\x91\x02"[..]));
}

#[test]
fn payloads_that_cannot_be_sent() {
    let empty = Payload::Ready { json: None, messagepack: None };
    assert_eq!(empty.check(), Err(PayloadError::Empty));
    assert_eq!(empty.encoded(JSON), Err(PayloadError::Empty));
    for bad in ["", "{}", "1", "[1", "[1]]", "[1]\u{1e}", "[\"\u{1e}\"]"] {
        let payload = Payload::Ready { json: Some(bad.as_bytes()), messagepack: None };
        assert_eq!(payload.check(), Err(PayloadError::Malformed { format: JSON }), "{bad}");
    }
    for bad in ["", "80", "01", "92 01", "91 01 01", "91 c1"] {
        let bad = hex(bad);
        let payload = Payload::Ready { json: None, messagepack: Some(&bad) };
        assert_eq!(payload.check(), Err(PayloadError::Malformed { format: PACK }), "{bad:?}");
    }
    // Transcoding does not rely on the check.
    for bad in ["", "[1", "[1]]", "[}"] {
        let payload = Payload::Ready { json: Some(bad.as_bytes()), messagepack: None };
        assert_eq!(payload.encoded(PACK), Err(PayloadError::Malformed { format: JSON }), "{bad}");
    }
    for bad in ["", "92 01", "91 01 01", "91 c1"] {
        let bad = hex(bad);
        let payload = Payload::Ready { json: None, messagepack: Some(&bad) };
        assert_eq!(payload.encoded(JSON), Err(PayloadError::Malformed { format: PACK }), "{bad:?}");
    }
    let values = [Value::Float(f64::NAN)];
    assert_eq!(Payload::Values(&values).encoded(JSON), unsayable(JSON, Unsayable::NotFinite));
    assert!(Payload::Values(&values).encoded(PACK).is_ok());
    let value = Value::Ext { kind: 5, bytes: vec![1] };
    let result = encode::completion_result(JSON, &mut Count(0), "0", &value);
    assert_eq!(result, unsayable(JSON, Unsayable::Extension));
    let text = PayloadError::NotRepresentable { format: JSON, what: Unsayable::NotFinite }.to_string();
    assert_eq!(text, "json cannot carry NaN and infinite numbers");
}

#[test]
fn results_and_items_in_the_other_format() {
    let bytes = hex("c4 01 00");
    let item: Item<'_> = raw(PACK, &bytes).into();
    let out = written(|out| encode::stream_item(JSON, out, "1", item).expect("sayable"));
    assert_eq!(out, record(r#"{"type":2,"invocationId":"1","item":"AA=="}"#));
    let out = written(|out| encode::completion_result(PACK, out, "1", raw(JSON, br#"{"a":[1]}"#)).expect("sayable"));
    assert_eq!(out, hex("0b 95 03 80 a1 31 03 81 a161 91 01"));
}

#[test]
fn values_from_rust() {
    let value = Value::object([
        ("null", Value::from(None::<i32>)),
        ("some", Some(1u8).into()),
        ("list", vec![Value::from(true), 2.5f32.into()].into()),
        ("bin", vec![1u8].into()),
        ("big", u64::MAX.into()),
        ("small", 5u64.into()),
        ("size", 7usize.into()),
    ]);
    let out = written(|out| value.write(JSON, out).expect("plain"));
    let text = r#"{"null":null,"some":1,"list":[true,2.5],"bin":"AQ==","big":18446744073709551615,"small":5,"size":7}"#;
    assert_eq!(String::from_utf8_lossy(&out), text);
    assert_eq!(Value::from(5u64), Value::Int(5));
}

#[test]
fn parsing_takes_one_value_and_nothing_else() {
    assert_eq!(Raw::parse(JSON, b" 1 ").map(|raw| raw.bytes()), Ok(&b"1"[..]));
    for bad in [&b""[..], b" ", b"1 2", b"1,", b"[", b"\x1e"] {
        assert_eq!(Raw::parse(JSON, bad), Err(BindError::Malformed));
    }
    for bad in [&b""[..], b"\x01\x02", b"\x91", b"\xc1"] {
        assert_eq!(Raw::parse(PACK, bad), Err(BindError::Malformed));
    }
    assert_eq!(Arguments::parse(JSON, b"{}"), Err(BindError::Kind { expected: Kind::Array, found: Kind::Map }));
    assert_eq!(Arguments::parse(PACK, b"\x01"), Err(BindError::Kind { expected: Kind::Array, found: Kind::Number }));
    let arguments = Arguments::parse(JSON, b" [ 1 , 2 ] ").expect("an array");
    assert_eq!(
        (arguments.bytes(), arguments.len(), arguments.get(1).map(|raw| raw.as_i64())),
        (&b"[ 1 , 2 ]"[..], 2, Some(Ok(2)))
    );
    assert_eq!((arguments.get(2), arguments.as_raw().kind()), (None, Kind::Array));
}
