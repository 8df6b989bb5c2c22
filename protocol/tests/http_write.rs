//! Promise: what the writers write, the parsers read, and no value can smuggle a line into it.

mod http_ws;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::fuzz::fuzz_writers;
use fanfare_protocol::http::head::{HeadLimits, parse_request};
use fanfare_protocol::http::{query, request, response};
use http_ws::Random;

#[test]
fn responses() {
    let mut bytes = Vec::new();
    response::write(&mut bytes, 200, &[("Content-Type", "application/json")], b"{}");
    assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    bytes.clear();
    response::write(&mut bytes, 401, &[], b"");
    assert_eq!(bytes, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    bytes.clear();
    response::write(&mut bytes, 204, &[], b"dropped");
    assert_eq!(bytes, b"HTTP/1.1 204 No Content\r\n\r\n");
    bytes.clear();
    response::write_head(&mut bytes, 299, &[], None);
    assert_eq!(bytes, b"HTTP/1.1 299 \r\n\r\n");
}

#[test]
fn values_cannot_start_lines() {
    let mut bytes = Vec::new();
    let headers = [("X", "a\r\nSet-Cookie: b\0c"), ("bad name", "x"), ("", "x"), ("Y", "caf\u{e9}")];
    response::write_head(&mut bytes, 200, &headers, Some(7));
    assert_eq!(
        bytes,
        "HTTP/1.1 200 OK\r\nX: a  Set-Cookie: b c\r\nY: caf\u{e9}\r\nContent-Length: 7\r\n\r\n".as_bytes()
    );
}

#[test]
fn requests() {
    let mut bytes = Vec::new();
    request::write(&mut bytes, "POST", "/chat/negotiate?negotiateVersion=1", &[("Host", "h:80")], b"");
    assert_eq!(bytes, b"POST /chat/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h:80\r\nContent-Length: 0\r\n\r\n");
    bytes.clear();
    request::write(&mut bytes, "GET", "", &[("Host", "h")], b"");
    assert_eq!(bytes, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    bytes.clear();
    request::write(&mut bytes, "DELETE", "/a b#c\r\n\u{e9}%20", &[("Host", "h")], b"x");
    assert_eq!(bytes, b"DELETE /a%20b%23c%0D%0A%C3%A9%20 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    assert!(matches!(parse_request(&bytes, &HeadLimits::default()), Ok(Progress::Done(..))));
}

#[test]
fn queries() {
    let value = |query, key| query::value(query, key).map(std::borrow::Cow::into_owned);
    assert_eq!(value("a=1&b=2&a=3", "a").as_deref(), Some("1"));
    assert_eq!(value("A=1", "a").as_deref(), Some("1"));
    assert_eq!(value("a", "a").as_deref(), Some(""));
    assert_eq!(value("&&=x&a=b=c", "a").as_deref(), Some("b=c"));
    assert_eq!(value("", "a"), None);
    assert_eq!(value("ab=1", "a"), None);
    assert_eq!(value("%61=%41%4a%4A+%2B", "a").as_deref(), Some("AJJ +"));
    assert_eq!(value("a=%&b=%4&c=%zz&d=%4z", "a").as_deref(), Some("%"));
    assert_eq!(value("a=%&b=%4&c=%zz&d=%4z", "b").as_deref(), Some("%4"));
    assert_eq!(value("a=%&b=%4&c=%zz&d=%4z%41", "d").as_deref(), Some("%4zA"));
    assert_eq!(value("a=%E2%82%AC", "a").as_deref(), Some("\u{20ac}"));
    assert_eq!(value("a=%FFx", "a").as_deref(), Some("\u{fffd}x"));
    assert!(matches!(query::value("id=plain-value_~.", "id"), Some(std::borrow::Cow::Borrowed(_))));
    assert_eq!(query::pairs("a=1&&b&=c").collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("", "c")]);
}

#[test]
fn reason_phrases() {
    for (status, phrase) in [(101, "Switching Protocols"), (404, "Not Found"), (426, "Upgrade Required"), (599, "")] {
        assert_eq!(response::reason_phrase(status), phrase);
    }
    for error in fanfare_protocol::error::HttpError::ALL {
        assert_ne!(response::reason_phrase(error.status()), "", "{error}");
    }
}

#[test]
fn random_text_stays_where_it_was_put() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let len = random.below(60);
        let mut bytes: Vec<u8> = random.bytes(len).iter().map(|byte| byte & 0x7F).collect();
        for _ in 0..random.below(5) {
            bytes.push(b"\n\r\n:% &=+#"[random.below(10)]);
        }
        let by = random.below(bytes.len());
        bytes.rotate_left(by);
        let shown = std::panic::catch_unwind(|| fuzz_writers(&bytes));
        assert!(shown.is_ok(), "seed {seed}: {}", bytes.escape_ascii());
    }
}
