//! Bodies of the fuzz targets for HTTP. They assert; the targets, and seeded tests, only bring the bytes.

use super::body::BodyDecoder;
use super::head::{BodyLength, HeadEnd, HeadLimits, RequestHead, parse_request, parse_response};
use super::{query, request, response};
use crate::cursor::Progress;
use crate::error::HttpError;
use crate::ws::handshake;

/// Tight enough for a fuzzer to reach each of them.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 600, target_bytes_max: 100, headers_max: 12 };

/// Any bytes as a request head.
pub fn fuzz_request(data: &[u8]) {
    let whole = parse_request(data, &LIMITS);
    // The same verdict when the head drips in, at the very byte that decides.
    let mut search = HeadEnd::new();
    let mut dripped = Ok(Progress::NeedMore);
    for len in 0..=data.len() {
        dripped = match search.find(&data[..len], &LIMITS) {
            Ok(None) => Ok(Progress::NeedMore),
            Ok(Some(end)) => {
                assert_eq!(end, len, "the end is found when its last byte is there");
                parse_request(&data[..len], &LIMITS)
            }
            Err(error) => Err(error),
        };
        if !matches!(dripped, Ok(Progress::NeedMore)) {
            break;
        }
    }
    match (whole, dripped) {
        (Ok(Progress::Done(head, len)), Ok(Progress::Done(again, again_len))) => {
            assert_eq!(len, again_len);
            assert_eq!(lines_of(&head), lines_of(&again));
            check_request(&data[..len], &head);
        }
        (Ok(Progress::NeedMore), Ok(Progress::NeedMore)) => {
            assert!(data.len() < LIMITS.head_bytes_max, "no limit is passed in silence");
        }
        (whole, dripped) => assert_eq!(whole.err(), dripped.err()),
    }
}

fn lines_of<'a>(head: &RequestHead<'a>) -> Vec<(&'a str, &'a [u8])> {
    head.headers().collect()
}

/// Compares what was parsed with a plain splitting of the same bytes.
fn check_request(bytes: &[u8], head: &RequestHead<'_>) {
    assert!(bytes.len() <= LIMITS.head_bytes_max);
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line").split("\r\n");
    let parts: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    assert_eq!(parts[..2], [head.method(), head.target()]);
    assert_eq!(parts.len(), 3);
    assert!(head.target().len() <= LIMITS.target_bytes_max);
    assert!(head.path().starts_with('/') || head.path() == "*");
    assert!(head.target() == "*" || head.path() == "/" || head.target().contains(head.path()));
    let plain: Vec<(String, Vec<u8>)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a colon in each header line");
            let value = value.trim_matches([' ', '\t']);
            (name.to_owned(), value.chars().map(|char| char as u8).collect())
        })
        .collect();
    let parsed: Vec<(String, Vec<u8>)> = head.headers().map(|(name, value)| (name.into(), value.into())).collect();
    assert_eq!(parsed, plain);
    assert!(plain.len() <= LIMITS.headers_max);
    let named = |name: &str| plain.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name)).count();
    let framed = named("content-length") + named("transfer-encoding");
    assert_eq!(framed, usize::from(head.body_length() != BodyLength::None), "exactly one line frames a body");
    assert!(named("host") == 1 || parts[2] == "HTTP/1.0");
    if handshake::check_upgrade(head).is_ok() {
        assert!(handshake::is_upgrade(head) && head.header("sec-websocket-key").is_some_and(|key| key.len() == 24));
    }
}

/// Any bytes as a response head.
pub fn fuzz_response(data: &[u8]) {
    match parse_response(data, &LIMITS) {
        Ok(Progress::Done(head, len)) => {
            for cut in 0..len {
                assert!(matches!(parse_response(&data[..cut], &LIMITS), Ok(Progress::NeedMore)));
            }
            assert!((100..=999).contains(&head.status()));
            assert!(
                data.starts_with(
                    format!("{:?} {}", head.version(), head.status()).replace("Http1", "HTTP/1.").as_bytes()
                )
            );
            for (name, value) in head.headers() {
                assert!(super::scan::is_token(name.as_bytes()));
                assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
            let _ = handshake::check_upgrade_response(&head, "dGhlIHNhbXBsZSBub25jZQ==");
        }
        Ok(Progress::NeedMore) => assert!(data.len() < LIMITS.head_bytes_max),
        Err(error) => {
            // Found at some byte, and never taken back.
            let found = (0..=data.len()).find_map(|len| parse_response(&data[..len], &LIMITS).err());
            assert_eq!(found, Some(error));
        }
    }
}

/// What a body decoder made of a stream: the data, the bytes it took, and how it ended.
type BodyRun = (Vec<u8>, usize, Result<bool, HttpError>);

/// Decodes `stream` in pieces of at most `piece_len` bytes.
fn decode_body(length: BodyLength, body_bytes_max: usize, stream: &[u8], piece_len: usize) -> BodyRun {
    let mut decoder = BodyDecoder::new(length, body_bytes_max);
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let piece = &stream[at..stream.len().min(at + piece_len)];
        match decoder.handle_bytes(piece) {
            Ok(taken) => {
                assert_eq!(taken.done, decoder.is_done());
                assert!(taken.done || taken.consumed == piece.len() || !taken.data.is_empty(), "no call is in vain");
                data.extend_from_slice(taken.data);
                at += taken.consumed;
                if taken.done || at == stream.len() {
                    return (data, at, Ok(taken.done));
                }
            }
            Err(error) => {
                assert_eq!(decoder.handle_bytes(b"0\r\n\r\n"), Err(error), "an error stays");
                return (data, at, Err(error));
            }
        }
    }
}

/// Any bytes as a body. Byte 0: how it is delimited; byte 1: how long it may be.
pub fn fuzz_body(data: &[u8]) {
    let [how, max, stream @ ..] = data else { return };
    let body_bytes_max = usize::from(*max) * 4;
    let length = match how % 4 {
        0 => BodyLength::None,
        1 => BodyLength::Length(u64::from(*how)),
        _ => BodyLength::Chunked,
    };
    let whole = decode_body(length, body_bytes_max, stream, usize::MAX - stream.len());
    for piece_len in [1, 2, 3, 7, 64] {
        let cut = decode_body(length, body_bytes_max, stream, piece_len);
        assert_eq!(cut.2, whole.2);
        // Which data comes out before an error is a matter of cuts.
        if whole.2.is_ok() {
            assert_eq!(cut, whole);
        }
    }
    assert!(whole.0.len() <= body_bytes_max);
    if whole.2 == Ok(true) && length == BodyLength::Chunked {
        assert_eq!(plain_chunks(&stream[..whole.1]).as_deref(), Some(&whole.0[..]), "as RFC 9112 7.1.3 reads");
    }
    // Round trip: the stream itself in chunks.
    let mut chunked = Vec::new();
    for chunk in stream.chunks(1 + usize::from(*how)) {
        chunked.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let expected = (stream.to_vec(), chunked.len(), Ok(true));
    assert_eq!(decode_body(BodyLength::Chunked, stream.len(), &chunked, usize::MAX - chunked.len()), expected);
    assert_eq!(decode_body(BodyLength::Chunked, stream.len(), &chunked, 1), expected);
}

/// The data of a whole chunked body, read by the letter. `None`: it is not one.
fn plain_chunks(body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let mut rest = body;
    loop {
        let line_len = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(rest[..line_len].split(|&byte| byte == b';').next()?).ok()?;
        let size = usize::from_str_radix(line, 16).ok()?;
        rest = &rest[line_len + 2..];
        if size == 0 {
            return if rest == b"\r\n" || rest.ends_with(b"\r\n\r\n") { Some(data) } else { None };
        }
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Any text as target, header value and query: what the writers make of it must parse, with nothing smuggled in.
pub fn fuzz_writers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let target = format!("/{}", parts.next().unwrap_or_default());
    let name = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default();
    let limits = HeadLimits { head_bytes_max: 65_535, target_bytes_max: 65_535, headers_max: 64 };
    if text.len() > 10_000 {
        return;
    }
    let has_name = usize::from(super::scan::is_token(name.as_bytes()));
    let name_is_free = ["host", "connection", "upgrade", "content-length", "transfer-encoding"]
        .iter()
        .all(|taken| !name.eq_ignore_ascii_case(taken))
        && !name.to_ascii_lowercase().starts_with("sec-websocket-");

    let mut bytes = Vec::new();
    handshake::write_upgrade_request(
        &mut bytes,
        &target,
        "push.example",
        &handshake::encode_key([7; 16]),
        &[(name, value)],
    );
    if name_is_free {
        let Ok(Progress::Done(head, len)) = parse_request(&bytes, &limits) else { panic!("an upgrade request parses") };
        assert_eq!(len, bytes.len());
        assert_eq!(head.headers().count(), 5 + has_name);
        assert!(handshake::check_upgrade(&head).is_ok());
        let decoded = percent_decoded(head.target());
        assert_eq!(decoded, percent_decoded(&target), "the target arrives");
    }

    let mut bytes = Vec::new();
    request::write(&mut bytes, "POST", &target, &[("Host", "h"), (name, value)], data);
    if name_is_free {
        let Ok(Progress::Done(head, len)) = parse_request(&bytes, &limits) else { panic!("a request parses") };
        assert_eq!((head.headers().count(), &bytes[len..]), (2 + has_name, data));
        assert_eq!(head.body_length(), BodyLength::Length(data.len() as u64));
    }

    let mut bytes = Vec::new();
    response::write(&mut bytes, 200, &[(name, value)], data);
    if name_is_free {
        let Ok(Progress::Done(head, len)) = parse_response(&bytes, &limits) else { panic!("a response parses") };
        assert_eq!((head.headers().count(), &bytes[len..]), (1 + has_name, data));
    }

    check_query(&text, value);
}

/// The bytes a percent-encoded target stands for; `+` stands for itself here.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let pair = tail.first_chunk::<2>().filter(|pair| *byte == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let number = pair.and_then(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).ok());
        decoded.push(number.unwrap_or(*byte));
        rest = if number.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// Percent-encodes `value` in full and finds it again behind whatever precedes it.
fn check_query(before: &str, value: &str) {
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let query = format!("x{}&needle\u{1}={encoded}", before.replace(['&', '='], "+"));
    assert_eq!(query::value(&query, "NEEDLE%01").as_deref(), None, "keys are given decoded");
    assert_eq!(query::value(&query, "NEEDLE\u{1}").as_deref(), Some(value));
    for (key, value) in query::pairs(before) {
        let _ = (query::decode(key), query::decode(value));
    }
}
