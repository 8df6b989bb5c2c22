//! The handshake (spec 3, checklist lines 78-87).

mod hub_common;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::handshake::{self, HandshakeRequest};
use fanfare_protocol::hub::{Format, HandshakeError};
use hub_common::{hex, record, written};

type Parsed<'a> = Result<Progress<HandshakeRequest<'a>>, HandshakeError>;

/// Parses the request with every prefix: none before the whole may say more than "need more", or say it otherwise.
fn parse(bytes: &[u8], bytes_max: usize) -> Parsed<'_> {
    let whole = handshake::parse(bytes, bytes_max);
    let end = match &whole {
        Ok(Progress::Done(_, used)) => *used,
        Ok(Progress::NeedMore) => bytes.len(),
        Err(_) => bytes.iter().position(|byte| *byte == 0x1e).map_or(bytes.len(), |at| at + 1),
    };
    for cut in 0..end {
        let piece = handshake::parse(&bytes[..cut], bytes_max);
        assert!(piece == Ok(Progress::NeedMore) || piece == whole, "cut at {cut}: {piece:?}");
    }
    assert_eq!(handshake::parse(&bytes[..end], bytes_max), whole);
    whole
}

/// The answer that a request earns over a WebSocket.
fn answer(text: &str, detailed: bool) -> String {
    let bytes = record(text);
    let checked = parse(&bytes, 32_768).and_then(|parsed| match parsed {
        Progress::Done(request, _) => request.check(true),
        Progress::NeedMore => panic!("a whole record"),
    });
    let out = written(|out| match checked {
        Ok(_) => handshake::write_ok(out),
        Err(error) => handshake::write_error(out, &error.text(detailed)),
    });
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn line_078_the_plain_request() {
    let bytes = hex("7b 22 70 72 6f 74 6f 63 6f 6c 22 3a 22 6a 73 6f 6e 22 2c 22 76 65 72 73 69 6f 6e 22 3a 31 7d 1e");
    assert_eq!(written(|out| handshake::write_request(out, Format::Json, 1)), bytes);
    let request = HandshakeRequest { protocol: "json".into(), version: 1 };
    assert_eq!(parse(&bytes, 32), Ok(Progress::Done(request.clone(), 32)));
    assert_eq!(request.check(true), Ok(Format::Json));
    assert_eq!(written(handshake::write_ok), hex("7b 7d 1e"));
    let bytes = written(|out| handshake::write_request(out, Format::MessagePack, 1));
    assert_eq!(bytes, record(r#"{"protocol":"messagepack","version":1}"#));
    let Ok(Progress::Done(request, _)) = parse(&bytes, 0) else { panic!("not parsed") };
    assert_eq!(request.check(true), Ok(Format::MessagePack));
}

#[test]
fn line_079_order_white_space_and_unknown_properties() {
    for text in [
        r#"{"version":1,"protocol":"json"}"#,
        r#"{"protocol": "json", "version": 1}"#,
        " {\r\n\t\"protocol\" : \"json\" , \"version\" : 1 } ",
        r#"{"x":{"protocol":"y","z":[1,{}]},"protocol":"json","minorVersion":0,"version":1,"type":null}"#,
        r#"{"protocol":"JSON","version":1}"#,
        r#"{"proto\u0063ol":"js\u006fn","version":1}"#,
        r#"{"protocol":"x","protocol":"json","version":9,"version":1}"#,
    ] {
        assert_eq!(answer(text, true), "{}\u{1e}", "{text}");
    }
}

#[test]
fn line_080_hub_messages_may_follow_at_once() {
    let bytes = [record(r#"{"protocol":"json","version":1}"#), record(r#"{"type":6}"#)].concat();
    let Ok(Progress::Done(request, used)) = parse(&bytes, 0) else { panic!("not parsed") };
    assert_eq!((&*request.protocol, &bytes[used..]), ("json", &record(r#"{"type":6}"#)[..]));
}

#[test]
fn line_081_unknown_protocol() {
    let text = answer(r#"{"protocol":"x","version":1}"#, false);
    assert_eq!(text, "{\"error\":\"The protocol 'x' is not supported.\"}\u{1e}");
    // Whatever the name, the answer is JSON.
    let text = answer(r#"{"protocol":"a\"\u001e\n","version":1}"#, false);
    assert_eq!(text, "{\"error\":\"The protocol 'a\\\"\\u001e\\n' is not supported.\"}\u{1e}");
}

#[test]
fn line_082_version_3() {
    let text = answer(r#"{"protocol":"json","version":3}"#, false);
    assert_eq!(text, "{\"error\":\"The server does not support version 3 of the 'json' protocol.\"}\u{1e}");
    // The protocol is looked at first.
    assert!(answer(r#"{"protocol":"x","version":3}"#, false).contains("'x' is not supported"));
}

#[test]
fn line_083_earlier_versions_and_2_are_fine() {
    for version in [-1, 0, 1, 2] {
        assert_eq!(answer(&format!(r#"{{"protocol":"messagepack","version":{version}}}"#), false), "{}\u{1e}");
    }
}

#[test]
fn line_084_malformed_requests() {
    let general = "An unexpected error occurred during connection handshake.";
    for (text, detail) in [
        (r#"{"protocol":"json"}"#, "Missing required property 'version'."),
        (r#"{"version":1}"#, "Missing required property 'protocol'."),
        (r#"{}"#, "Missing required property 'protocol'."),
        (r#"{"type":6}"#, "Missing required property 'protocol'."),
        (r#"{"protocol":5,"version":1}"#, "Expected 'protocol' to be of type String."),
        (r#"{"protocol":"json","version":"1"}"#, "Expected 'version' to be of type Number."),
        (r#"{"protocol":"json","version":1.0}"#, "Expected 'version' to be of type Number."),
        (r#"{"protocol":"json","version":2147483648}"#, "Expected 'version' to be of type Number."),
        (r#"{"protocol":"json","version":null}"#, "Expected 'version' to be of type Number."),
        (r#"{"protocol":"json","version":1"#, "Error reading JSON."),
        (r#"{"protocol":"json","version":1}}"#, "Error reading JSON."),
        ("", "Error reading JSON."),
        ("GET / HTTP/1.1", "Error reading JSON."),
        ("[]", "Unexpected JSON Token Type. Expected a JSON Object."),
    ] {
        assert_eq!(answer(text, false), format!("{{\"error\":\"{general}\"}}\u{1e}"), "{text}");
        let detailed = format!("{{\"error\":\"{general} InvalidDataException: {detail}\"}}\u{1e}");
        assert_eq!(answer(text, true), detailed, "{text}");
    }
}

#[test]
fn line_085_and_086_too_late_and_too_long() {
    assert_eq!(HandshakeError::Canceled.text(true), "Handshake was canceled.");
    let endless = vec![b' '; 40 << 10];
    assert_eq!(handshake::parse(&endless, 32_768), Err(HandshakeError::TooLarge));
    assert_eq!(HandshakeError::TooLarge.text(true), "Handshake was canceled.");
    assert_eq!(parse(&endless[..100], 100), Err(HandshakeError::TooLarge));
    assert_eq!(parse(&endless[..99], 100), Ok(Progress::NeedMore));
    assert_eq!(handshake::parse(&endless, 0), Ok(Progress::NeedMore));
}

#[test]
fn line_062_binary_over_a_text_transport() {
    let request = HandshakeRequest { protocol: "messagepack".into(), version: 1 };
    let error = request.check(false).expect_err("binary");
    let text = "Cannot use the 'messagepack' protocol on the current transport. \
                The transport does not support 'Binary' transfer format.";
    assert_eq!(error.text(false), text);
    let request = HandshakeRequest { protocol: "json".into(), version: 1 };
    assert_eq!(request.check(false), Ok(Format::Json));
}

#[test]
fn line_087_what_a_client_makes_of_the_answer() {
    let parse = |text: &str| {
        let bytes = record(text);
        for cut in 0..bytes.len() {
            assert_eq!(handshake::parse_response(&bytes[..cut]), Ok(Progress::NeedMore));
        }
        match handshake::parse_response(&bytes) {
            Ok(Progress::Done(response, used)) => {
                assert_eq!(used, bytes.len());
                Ok(response)
            }
            Ok(Progress::NeedMore) => panic!("a whole record"),
            Err(error) => Err(error),
        }
    };
    assert_eq!(parse("{}"), Ok(Ok(())));
    assert_eq!(parse(r#"{"minorVersion":0,"error":null}"#), Ok(Ok(())));
    assert_eq!(parse(r#"{"error":"bo\"om"}"#), Ok(Err("bo\"om".to_owned())));
    assert_eq!(parse(r#"{"type":6}"#), Err(HandshakeError::NotAResponse));
    assert_eq!(HandshakeError::NotAResponse.to_string(), "Expected a handshake response from the server.");
    assert!(matches!(parse(r#"{"error":5}"#), Err(HandshakeError::WrongType { property: "error", .. })));
    assert_eq!(parse("[]"), Err(HandshakeError::NotAnObject));
    assert!(matches!(parse("{"), Err(HandshakeError::Json(_))));
}
