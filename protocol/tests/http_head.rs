//! Promise: heads are read strictly. Whatever two parsers could read differently is refused with its own error, every
//! length has a bound, and the verdict does not depend on where the bytes were cut.

mod http_ws;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::fuzz::{fuzz_request, fuzz_response};
use fanfare_protocol::http::head::{
    BodyLength, HeadEnd, HeadLimits, RequestHead, ResponseHead, Version, parse_request, parse_response,
};
use http_ws::Random;

fn limits() -> HeadLimits {
    HeadLimits::default()
}

/// The verdict on `bytes`, the same whole, byte by byte, and cut in two at every place.
fn request(bytes: &[u8]) -> Result<Progress<RequestHead<'_>>, HttpError> {
    let whole = parse_request(bytes, &limits());
    http_ws::every_cut(bytes, |pieces| {
        let (mut search, mut len) = (HeadEnd::new(), 0);
        let mut found = Ok(None);
        for piece in pieces {
            len += piece.len();
            found = search.find(&bytes[..len], &limits());
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        let cut = match found {
            Ok(None) => Ok(Progress::NeedMore),
            Ok(Some(_)) => parse_request(&bytes[..len], &limits()),
            Err(error) => Err(error),
        };
        match (&whole, &cut) {
            (Ok(Progress::Done(head, end)), Ok(Progress::Done(again, again_end))) => {
                assert_eq!((end, head.headers().collect::<Vec<_>>()), (again_end, again.headers().collect()));
            }
            (Ok(Progress::NeedMore), Ok(Progress::NeedMore)) => {}
            (whole, cut) => assert_eq!(whole.as_ref().err(), cut.as_ref().err()),
        }
    });
    whole
}

fn accept(bytes: &[u8]) -> RequestHead<'_> {
    match request(bytes) {
        Ok(Progress::Done(head, _)) => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn refuse(bytes: impl AsRef<[u8]>, error: HttpError) {
    let bytes = bytes.as_ref();
    assert_eq!(request(bytes).err(), Some(error), "{}", bytes.escape_ascii());
}

/// A GET with these header lines after Host.
fn with_lines(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_browser_upgrade() {
    let bytes = b"GET /chat?id=abc%20d&access_token=x.y+z HTTP/1.1\r\nHost: push.example:8888\r\n\
        Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nOrigin:http://x\r\nX-Empty:\r\nCookie: \ta=1; b=\xE9 \t \r\n\
        \r\n\x81\x80next";
    let head = accept(bytes);
    assert_eq!((head.method(), head.path(), head.version()), ("GET", "/chat", Version::Http11));
    assert_eq!(head.query(), "id=abc%20d&access_token=x.y+z");
    assert_eq!(head.query_value("ID").as_deref(), Some("abc d"));
    assert_eq!(head.query_value("access_token").as_deref(), Some("x.y z"));
    assert_eq!(head.query_value("none"), None);
    assert_eq!(head.header("host"), Some(&b"push.example:8888"[..]));
    assert_eq!(head.header("ORIGIN"), Some(&b"http://x"[..]));
    assert_eq!(head.header("x-empty"), Some(&b""[..]));
    assert_eq!(head.header("cookie"), Some(&b"a=1; b=\xE9"[..]));
    assert_eq!(head.header("absent"), None);
    assert!(head.header_has_token("connection", "upgrade") && head.header_has_token("Upgrade", "websocket"));
    assert!(!head.header_has_token("connection", "close") && !head.header_has_token("connection", "keep"));
    assert!(head.keep_alive());
    assert_eq!(head.body_length(), BodyLength::None);
    assert_eq!(head.headers().count(), 6);
    assert_eq!(head.headers().next(), Some(("Host", &b"push.example:8888"[..])));
    let Ok(Progress::Done(_, len)) = parse_request(bytes, &limits()) else { unreachable!() };
    assert_eq!(&bytes[len..], b"\x81\x80next");
}

#[test]
fn a_prefix_needs_more() {
    let bytes = with_lines("Content-Length: 3\r\n");
    for len in 0..bytes.len() {
        assert!(matches!(parse_request(&bytes[..len], &limits()), Ok(Progress::NeedMore)), "{len}");
    }
}

#[test]
fn targets() {
    for (target, path, query) in [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("/a/b?c=d?e", "/a/b", "c=d?e"),
        ("//double", "//double", ""),
        ("http://host:1/p?q", "/p", "q"),
        ("HTTPS://host", "/", ""),
        ("http://host?q=1", "/", "q=1"),
        ("/%00%zz|{}\"<>\\^`", "/%00%zz|{}\"<>\\^`", ""),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = accept(bytes.as_bytes());
        assert_eq!((head.path(), head.query(), head.target()), (path, query, target));
    }
    assert_eq!(accept(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path(), "*");
    for target in ["*", "chat", "host:80", "ftp://host/", "http://", "http:///p", "?q"] {
        refuse(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), HttpError::TargetForm);
    }
    refuse("CONNECT host:443 HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetForm);
    refuse("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetWhitespace);
    refuse("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetWhitespace);
    refuse("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetWhitespace);
    refuse("GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetWhitespace);
    refuse("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetForbiddenByte);
    refuse("GET /caf\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::TargetForbiddenByte);
}

#[test]
fn request_lines() {
    refuse("GET\r\nHost: h\r\n\r\n", HttpError::RequestLineMalformed);
    refuse("GET /\r\nHost: h\r\n\r\n", HttpError::RequestLineMalformed);
    refuse("GET  HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::RequestLineMalformed);
    refuse(" GET / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::MethodMalformed);
    refuse("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::MethodMalformed);
    refuse("G\u{e9}T / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::MethodMalformed);
    let method = "M".repeat(32);
    assert_eq!(accept(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).method(), method);
    refuse(format!("M{method} / HTTP/1.1\r\nHost: h\r\n\r\n"), HttpError::MethodTooLong);
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
        refuse(format!("GET / {version}\r\nHost: h\r\n\r\n"), HttpError::VersionUnsupported);
    }
    refuse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HttpError::VersionUnsupported);
    for version in ["HTTP/1", "http/1.1", "HTTP/1.1x", "HTTP/11", "HTTP/1,1", "HTTP/x.1", "ICY/1.1", ""] {
        refuse(format!("GET / {version}\r\nHost: h\r\n\r\n"), HttpError::VersionMalformed);
    }
    assert_eq!(HttpError::VersionUnsupported.status(), 505);
}

#[test]
fn one_empty_line_before_the_request_is_forgiven() {
    let bytes = b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
    let Ok(Progress::Done(head, len)) = request(bytes) else { panic!("accepted") };
    assert_eq!((head.path(), head.header("host"), len), ("/", Some(&b"h"[..]), bytes.len() - 4));
    refuse("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::RequestLineMalformed);
}

#[test]
fn line_endings() {
    refuse("GET / HTTP/1.1\nHost: h\n\n", HttpError::BareLf);
    refuse("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", HttpError::BareLf);
    refuse("GET / HTTP/1.1\r\nHost: h\r\n\n", HttpError::BareLf);
    refuse("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::BareLf);
    refuse("GET / HTTP/1.1\rHost: h\r\n\r\n", HttpError::BareCr);
    refuse("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", HttpError::BareCr);
    refuse("GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", HttpError::BareCr);
    // Long before the end of the head.
    assert_eq!(parse_request(b"GET /\n", &limits()).err(), Some(HttpError::BareLf));
}

#[test]
fn control_characters() {
    for at in [
        "GET /\u{0} HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\u{0}\r\n\r\n",
        "GET / HTTP/1.1\r\nHo\u{0}st: h\r\n\r\n",
    ] {
        refuse(at, HttpError::NulByte);
        for control in (1..0x20).chain([0x7F]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
            refuse(at.replace('\0', &char::from(control).to_string()), HttpError::ControlByte);
        }
    }
    assert_eq!(accept(&with_lines("X: a\tb\r\n")).header("x"), Some(&b"a\tb"[..]));
}

#[test]
fn header_lines() {
    refuse(with_lines("X: a\r\n b\r\n"), HttpError::ObsFold);
    refuse(with_lines("X: a\r\n\tb\r\n"), HttpError::ObsFold);
    refuse("GET / HTTP/1.1\r\n Host: h\r\n\r\n", HttpError::ObsFold);
    refuse(with_lines(" \r\n"), HttpError::ObsFold);
    refuse(with_lines("X : a\r\n"), HttpError::SpaceBeforeColon);
    refuse(with_lines("X\t: a\r\n"), HttpError::SpaceBeforeColon);
    refuse(with_lines("Content-Length : 3\r\n"), HttpError::SpaceBeforeColon);
    refuse(with_lines("Transfer-Encoding : chunked\r\n"), HttpError::SpaceBeforeColon);
    refuse(with_lines("X a\r\n"), HttpError::HeaderColonMissing);
    refuse(with_lines(": a\r\n"), HttpError::HeaderNameEmpty);
    refuse(with_lines("X Y: a\r\n"), HttpError::HeaderNameMalformed);
    refuse(with_lines("X(: a\r\n"), HttpError::HeaderNameMalformed);
    refuse(with_lines("X\u{e9}: a\r\n"), HttpError::HeaderNameMalformed);
    refuse(with_lines("X@Y: a\r\n"), HttpError::HeaderNameMalformed);
}

#[test]
fn host() {
    refuse("GET / HTTP/1.1\r\n\r\n", HttpError::HostMissing);
    refuse("GET / HTTP/1.1\r\nX-Host: h\r\n\r\n", HttpError::HostMissing);
    refuse("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", HttpError::HostRepeated);
    refuse("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HttpError::HostRepeated);
    assert_eq!(accept(b"GET / HTTP/1.0\r\n\r\n").header("host"), None);
    for host in ["", "push.example", "push.example:8888", "[::1]:80", "127.0.0.1", "a_b~c", "x%2Ey"] {
        accept(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
    for host in ["a b", "a/b", "user@h", "h?x", "h#x", "a\\b", "h\u{e9}", "<h>", "a\tb"] {
        refuse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), HttpError::HostMalformed);
    }
}

#[test]
fn smuggling_shapes() {
    refuse(with_lines("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), HttpError::LengthWithTransferEncoding);
    refuse(with_lines("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), HttpError::LengthWithTransferEncoding);
    refuse(with_lines("Content-Length: 3\r\nContent-Length: 4\r\n"), HttpError::LengthRepeated);
    refuse(with_lines("Content-Length: 3\r\ncontent-length: 3\r\n"), HttpError::LengthRepeated);
    for length in ["3, 3", "+3", "-1", "0x3", "3 ", "", "3 4", "1e3", "3;", "\u{b2}", "3.0"] {
        let lines = format!("Content-Length: {length}\r\n");
        if length.trim() == "3" {
            assert_eq!(accept(&with_lines(&lines)).body_length(), BodyLength::Length(3));
        } else {
            refuse(with_lines(&lines), HttpError::LengthMalformed);
        }
    }
    let largest = format!("Content-Length: {}\r\n", u64::MAX);
    assert_eq!(accept(&with_lines(&largest)).body_length(), BodyLength::Length(u64::MAX));
    refuse(with_lines("Content-Length: 18446744073709551616\r\n"), HttpError::LengthTooLarge);
    refuse(with_lines("Content-Length: 99999999999999999999999999\r\n"), HttpError::LengthTooLarge);

    assert_eq!(accept(&with_lines("Transfer-Encoding: Chunked\r\n")).body_length(), BodyLength::Chunked);
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "chunked, chunked",
        "",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
    ] {
        refuse(with_lines(&format!("Transfer-Encoding: {coding}\r\n")), HttpError::TransferEncodingUnsupported);
    }
    refuse(
        with_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        HttpError::TransferEncodingRepeated,
    );
    refuse(
        with_lines("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        HttpError::TransferEncodingRepeated,
    );
    refuse(with_lines("Transfer-Encoding: \u{b}chunked\r\n"), HttpError::ControlByte);
    refuse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HttpError::TransferEncodingInHttp10);
    assert_eq!(HttpError::TransferEncodingUnsupported.status(), 501);
}

#[test]
fn keep_alive() {
    for (line, version, expected) in [
        ("", "1.1", true),
        ("Connection: close\r\n", "1.1", false),
        ("Connection: Keep-Alive\r\nConnection: x, CLOSE\r\n", "1.1", false),
        ("", "1.0", false),
        ("Connection: keep-alive\r\n", "1.0", true),
        ("Connection: keep-alive, close\r\n", "1.0", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: h\r\n{line}\r\n");
        assert_eq!(accept(bytes.as_bytes()).keep_alive(), expected, "{bytes}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = HeadLimits { head_bytes_max: 200, target_bytes_max: 50, headers_max: 3 };
    let verdict = |bytes: &str| {
        parse_request(bytes.as_bytes(), &limits).map(|progress| match progress {
            Progress::Done(_, len) => len,
            Progress::NeedMore => 0,
        })
    };
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 1));
    assert_eq!(verdict(&target(50)), Ok(target(50).len()));
    assert_eq!(verdict(&target(51)), Err(HttpError::TargetTooLong));
    // A target without end is refused before the head is.
    assert_eq!(verdict(&format!("GET /{}", "a".repeat(100))), Err(HttpError::TargetTooLong));
    assert_eq!(verdict(&format!("GET /{}", "a".repeat(60))), Ok(0));
    // To the byte: the longest request line is 32 + 1 + 50 + 1 + 8 bytes, and two more must be its CR LF.
    let endless = "a".repeat(200);
    assert_eq!(verdict(&endless[..93]), Ok(0));
    assert_eq!(verdict(&endless[..94]), Err(HttpError::TargetTooLong));
    assert_eq!(verdict(&format!("\r\n{}", &endless[..93])), Ok(0));
    assert_eq!(verdict(&format!("\r\n{}", &endless[..94])), Err(HttpError::TargetTooLong));
    let longest = format!("{} /{} HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(32), "a".repeat(49));
    assert_eq!(verdict(&longest), Ok(longest.len()));

    let head = |len: usize| {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
        format!("{start}{}\r\n\r\n", "a".repeat(len - start.len() - 4))
    };
    assert_eq!(verdict(&head(200)), Ok(200));
    assert_eq!(verdict(&head(201)), Err(HttpError::HeadTooLong));
    assert_eq!(verdict(&head(300)[..199]), Ok(0));
    assert_eq!(verdict(&head(300)[..200]), Err(HttpError::HeadTooLong));

    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(verdict(&lines(3)), Ok(lines(3).len()));
    assert_eq!(verdict(&lines(4)), Err(HttpError::TooManyHeaders));

    for (error, status) in
        [(HttpError::TargetTooLong, 414), (HttpError::HeadTooLong, 431), (HttpError::TooManyHeaders, 431)]
    {
        assert_eq!(error.status(), status);
    }
}

#[test]
fn limits_have_limits() {
    let limits = HeadLimits { head_bytes_max: usize::MAX, target_bytes_max: usize::MAX, headers_max: usize::MAX };
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(parse_request(lines(64).as_bytes(), &limits).is_ok());
    assert_eq!(parse_request(lines(65).as_bytes(), &limits).err(), Some(HttpError::TooManyHeaders));
    let long = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 27));
    let Ok(Progress::Done(head, 65_535)) = parse_request(long(65_535).as_bytes(), &limits).map(|p| match p {
        Progress::Done(head, len) => Progress::Done(head.header("host") == Some(b"h"), len),
        Progress::NeedMore => Progress::NeedMore,
    }) else {
        panic!("65 535 bytes are a head");
    };
    assert!(head, "the last header of the longest head is found");
    assert_eq!(parse_request(long(65_536).as_bytes(), &limits).err(), Some(HttpError::HeadTooLong));
}

#[test]
fn a_head_that_drips_in_is_looked_at_once() {
    // Each byte is looked at once if a search over n bytes in n steps takes time in proportion to n; what can be
    // tested without a clock is that the search never goes back: it still finds the end when what it has seen is gone.
    let bytes = with_lines(&format!("X: {}\r\n", "a".repeat(3000)));
    let mut search = HeadEnd::new();
    let mut seen = bytes.clone();
    for len in 1..=bytes.len() {
        let found = search.find(&seen[..len], &limits()).expect("a good head");
        assert_eq!(found, (len == bytes.len()).then_some(len));
        // All but the last two bytes become poison.
        seen[..len.saturating_sub(2)].fill(b'\n');
    }
    assert_eq!(size_of::<HeadEnd>(), 8);
}

#[test]
fn debug_shows_no_secrets() {
    let bytes = b"GET /chat?access_token=s3cret HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer s3cret\r\n\r\n";
    let shown = format!("{:?}", accept(bytes));
    assert!(shown.contains("Authorization") && !shown.contains("s3cret"), "{shown}");
}

fn response(bytes: &[u8]) -> Result<Progress<ResponseHead<'_>>, HttpError> {
    parse_response(bytes, &limits())
}

#[test]
fn responses() {
    let bytes = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer\r\n\r\n";
    let Ok(Progress::Done(head, len)) = response(bytes) else { panic!("accepted") };
    assert_eq!((head.status(), head.reason(), len), (401, &b"Unauthorized"[..], bytes.len()));
    assert_eq!((head.body_length(), head.ends_with_connection()), (BodyLength::Length(0), false));
    assert!(head.keep_alive() && head.header("www-authenticate") == Some(b"Bearer"));
    for len in 0..bytes.len() {
        assert!(matches!(response(&bytes[..len]), Ok(Progress::NeedMore)));
    }
    for line in ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 All is well"] {
        let text = format!("{line}\r\n\r\n");
        let Ok(Progress::Done(head, _)) = response(text.as_bytes()) else { panic!("{line}") };
        assert!(head.status() == 200 && head.ends_with_connection());
    }
    for status in [101, 204, 304] {
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        let Ok(Progress::Done(head, _)) = response(text.as_bytes()) else { panic!("{status}") };
        assert_eq!((head.body_length(), head.ends_with_connection()), (BodyLength::None, false));
    }
    for (line, error) in [
        ("HTTP/1.1", HttpError::StatusLineMalformed),
        ("HTTP/1.1 20", HttpError::StatusLineMalformed),
        ("HTTP/1.1  200 OK", HttpError::StatusMalformed),
        ("HTTP/1.1 2000 OK", HttpError::StatusMalformed),
        ("HTTP/1.1 099 OK", HttpError::StatusMalformed),
        ("HTTP/1.1 2x0 OK", HttpError::StatusMalformed),
        ("HTTP/2.0 200 OK", HttpError::VersionUnsupported),
        ("JUNK/1.1 200 OK", HttpError::VersionMalformed),
        ("", HttpError::StatusLineMalformed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2", HttpError::LengthRepeated),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", HttpError::LengthWithTransferEncoding),
        ("HTTP/1.1 200 OK\nX: y", HttpError::BareLf),
    ] {
        assert_eq!(response(format!("{line}\r\n\r\n").as_bytes()).err(), Some(error), "{line}");
    }
}

#[test]
fn mangled_heads_get_one_verdict() {
    let seeds = [
        &b"GET /chat?id=x HTTP/1.1\r\nHost: push.example\r\nConnection: Upgrade\r\nContent-Length: 12\r\nX: y\r\n\r\nbody"[..],
        b"\r\nPOST http://h/p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    let spice = b"\r\n\r\n\t \0:,;=?#\x7F\xFFaZ09";
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            let with = spice[random.below(spice.len())];
            match random.below(3) {
                0 => bytes[at] = with,
                1 => bytes.insert(at, with),
                _ => drop(bytes.remove(at)),
            }
        }
        let shown = std::panic::catch_unwind(|| {
            fuzz_request(&bytes);
            fuzz_response(&bytes);
        });
        assert!(shown.is_ok(), "seed {seed}: {}", bytes.escape_ascii());
    }
}
