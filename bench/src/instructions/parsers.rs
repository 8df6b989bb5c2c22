//! Bytes to meaning. One operation is one head, body, message or handshake, as the name says.

use super::Case;
use super::meter::Meter;
use crate::inputs::{
    MASK, NO_LIMIT, SMALL_REQUEST, arguments, browser_upgrade, chunked, framed, invocation, lent, quotes, shapes,
    text_beyond_ascii,
};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{BodyLength, HeadLimits, parse_request, parse_response};
use fanfare_protocol::hub::{self, Format, Raw, Value, encode, handshake as hub_handshake};
use fanfare_protocol::negotiate::{self, Transport};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::deflate::deflater::Deflater;
use fanfare_protocol::ws::deflate::inflater::Inflater;
use fanfare_protocol::ws::{DataKind, OpCode, encode as ws_encode, handshake};
use std::hint::black_box;

/// Operations of each case. A multiple of 20, so that 5 % of them are whole ones.
const ITERATIONS: u32 = 100;
/// The same for inputs of 64 KiB and more.
const ITERATIONS_LARGE: u32 = 20;
const LARGE_BYTES: usize = 65_536;
/// Bytes that a decoder gets at once where the input is cut, as from the engine's receive buffers.
const PIECE_BYTES: usize = 2048;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    http(&mut cases);
    frames(&mut cases);
    compression(&mut cases);
    messages(&mut cases);
    openings(&mut cases);
    cases
}

fn http(cases: &mut Vec<Case>) {
    let mut request = |name: &str, bytes: Vec<u8>, whole: bool| {
        cases.push(Case::new(format!("http/request/{name}"), move |meter: &mut Meter| {
            let limits = HeadLimits::default();
            meter.repeat(ITERATIONS, || match parse_request(black_box(&bytes), &limits) {
                Ok(Progress::Done(head, length)) => {
                    assert!(whole && length == bytes.len());
                    black_box(head);
                }
                Ok(Progress::NeedMore) => assert!(!whole),
                Err(error) => panic!("a correct head, not {error:?}"),
            });
        }));
    };
    let upgrade = browser_upgrade();
    request("small", SMALL_REQUEST.to_vec(), true);
    // The last byte is missing: what a head cut by the network costs each time.
    request("browser_upgrade_cut", upgrade[..upgrade.len() - 1].to_vec(), false);
    request("browser_upgrade", upgrade, true);

    let plain = vec![b'x'; LARGE_BYTES];
    let chunks = chunked(&plain);
    for (name, length, bytes) in
        [("length_64k", BodyLength::Length(LARGE_BYTES as u64), plain), ("chunked_64k", BodyLength::Chunked, chunks)]
    {
        cases.push(Case::new(format!("http/body/{name}"), move |meter: &mut Meter| {
            meter.repeat(ITERATIONS, || {
                let mut decoder = BodyDecoder::new(length, LARGE_BYTES);
                let (mut rest, mut data_bytes) = (black_box(&bytes[..]), 0);
                while !decoder.is_done() {
                    let piece = decoder.handle_bytes(rest).expect("a correct body");
                    data_bytes += piece.data.len();
                    rest = &rest[piece.consumed..];
                }
                assert_eq!(data_bytes, LARGE_BYTES);
            });
        }));
    }
}

/// Decodes all of `bytes`, `piece_bytes` at a time, and gives the payload bytes seen.
fn decode(role: Role, bytes: &mut [u8], piece_bytes: usize) -> usize {
    let mut decoder = Decoder::new(role);
    let mut payload_bytes = 0;
    for piece in bytes.chunks_mut(piece_bytes) {
        for event in decoder.handle_bytes(piece) {
            match event.expect("correct frames") {
                Event::Data { payload, .. } => payload_bytes += black_box(payload).len(),
                Event::Ping(payload) | Event::Pong(payload) => payload_bytes += payload.as_slice().len(),
                Event::Close { .. } => {}
            }
        }
    }
    assert!(decoder.at_rest());
    payload_bytes
}

fn frames(cases: &mut Vec<Case>) {
    let mut case = |name: &str, role: Role, frames: Vec<u8>, payload_bytes: usize, piece_bytes: usize| {
        let iterations = if frames.len() > LARGE_BYTES { ITERATIONS_LARGE } else { ITERATIONS };
        cases.push(Case::new(format!("ws/decode/{name}"), move |meter: &mut Meter| {
            // Unmasking happens in place: every operation has bytes of its own.
            let mut buffer = frames.clone();
            let decode = |bytes: &mut Vec<u8>| assert_eq!(decode(role, bytes, piece_bytes), payload_bytes);
            meter.measure(iterations, &mut buffer, |bytes| bytes.copy_from_slice(&frames), decode);
        }));
    };
    let masked = |kind: DataKind, payload: &[u8]| {
        let mut frames = Vec::new();
        ws_encode::write_masked_message(&mut frames, kind, payload, MASK);
        frames
    };
    for (name, size) in [("16", 16), ("512", 512), ("64k", LARGE_BYTES)] {
        let payload = vec![b'x'; size];
        case(&format!("text_{name}"), Role::Server, masked(DataKind::Text, &payload), size, usize::MAX);
        case(&format!("binary_{name}"), Role::Server, masked(DataKind::Binary, &payload), size, usize::MAX);
    }
    let text = text_beyond_ascii();
    let bytes = masked(DataKind::Text, text.as_bytes());
    case("utf8_80k", Role::Server, bytes.clone(), text.len(), usize::MAX);
    case("utf8_80k_in_pieces", Role::Server, bytes, text.len(), PIECE_BYTES);
    let many: Vec<u8> = (0..64).flat_map(|_| masked(DataKind::Text, &[b'x'; 64])).collect();
    case("64_texts_of_64", Role::Server, many, 64 * 64, usize::MAX);
    let mut pings = Vec::new();
    (0..16).for_each(|_| ws_encode::write_masked_control(&mut pings, OpCode::Ping, b"12345678", MASK));
    case("16_pings", Role::Server, pings, 16 * 8, usize::MAX);
    case("unmasked_text_512", Role::Client, framed(DataKind::Text, &[b'x'; 512]), 512, usize::MAX);
}

fn compression(cases: &mut Vec<Case>) {
    cases.push(Case::new("ws/deflate/2k", |meter: &mut Meter| {
        let (plain, mut deflater) = (quotes(), Deflater::new());
        meter.repeat(ITERATIONS_LARGE, || {
            let deflated = deflater.deflate(black_box(plain.as_bytes())).expect("it gets shorter");
            assert!(deflated.len() * 2 < plain.len());
        });
    }));
    cases.push(Case::new("ws/inflate/2k", |meter: &mut Meter| {
        let plain = quotes();
        let deflated = Deflater::new().deflate(plain.as_bytes()).expect("it gets shorter").to_vec();
        let mut inflater = Inflater::new(1 << 16);
        meter.repeat(ITERATIONS, || {
            let inflated = inflater.inflate(black_box(&deflated)).expect("what was deflated");
            assert_eq!(inflated.len(), plain.len());
        });
    }));
}

fn messages(cases: &mut Vec<Case>) {
    for format in Format::ALL {
        let mut case = |what: &str, message: Vec<u8>| {
            cases.push(Case::new(format!("hub/{}/decode/{what}", format.name()), move |meter: &mut Meter| {
                meter.repeat(ITERATIONS, || match hub::decode(format, black_box(&message), NO_LIMIT) {
                    Ok(Progress::Done(decoded, length)) => {
                        assert_eq!(length, message.len());
                        black_box(decoded);
                    }
                    other => panic!("one message, not {other:?}"),
                });
            }));
        };
        for (what, values) in shapes() {
            case(what, invocation(format, &values));
        }
        let mut message = Vec::new();
        encode::ping(format, &mut message);
        case("ping", message);
        let mut message = Vec::new();
        encode::completion_result(format, &mut message, "17", &Value::from("done")).expect("an ordinary value");
        case("completion", message);
        let mut message = Vec::new();
        encode::stream_item(format, &mut message, "17", &Value::from(3)).expect("an ordinary value");
        case("stream_item", message);
        bindings(cases, format);
    }
}

/// From arguments as they came to what a method works with.
fn bindings(cases: &mut Vec<Case>, format: Format) {
    let mut case = |what: &str, at: usize, bind: fn(Raw<'_>)| {
        cases.push(Case::new(format!("hub/{}/bind/{what}", format.name()), move |meter: &mut Meter| {
            let message = invocation(format, &arguments(512, true));
            let argument = lent(format, &message).get(at).expect("two arguments were sent");
            meter.repeat(ITERATIONS, || bind(black_box(argument)));
        }));
    };
    case("text_512", 0, |text| assert_eq!(text.as_str().expect("a text").len(), 512));
    case("field_of_each_record", 1, |records| {
        let items = records.array().expect("a list");
        let fields = items.map(|record| record.field("id").expect("a record").expect("it has one"));
        let sum: i64 = fields.map(|field| field.as_i64().expect("a number")).sum();
        assert_eq!(sum, 190);
    });
    case("records_whole", 1, |records| {
        black_box(records.value().expect("ordinary values"));
    });
}

fn openings(cases: &mut Vec<Case>) {
    cases.push(Case::new("ws/upgrade", |meter: &mut Meter| {
        let (request, limits) = (browser_upgrade(), HeadLimits::default());
        let mut out = Vec::with_capacity(512);
        meter.repeat(ITERATIONS, || {
            let Ok(Progress::Done(head, _)) = parse_request(black_box(&request), &limits) else { panic!("correct") };
            let accept = handshake::check_upgrade(&head).expect("a correct upgrade");
            out.clear();
            handshake::write_switching_protocols(&mut out, &accept);
            black_box(&out);
        });
    }));
    cases.push(Case::new("ws/upgrade_as_client", |meter: &mut Meter| {
        let (request, limits, key) = (browser_upgrade(), HeadLimits::default(), "dGhlIHNhbXBsZSBub25jZQ==");
        let Ok(Progress::Done(head, _)) = parse_request(&request, &limits) else { panic!("a correct head") };
        let mut answer = Vec::new();
        let accept = handshake::check_upgrade(&head).expect("a correct upgrade");
        handshake::write_switching_protocols(&mut answer, &accept);
        meter.repeat(ITERATIONS, || {
            let Ok(Progress::Done(head, _)) = parse_response(black_box(&answer), &limits) else { panic!("correct") };
            handshake::check_upgrade_response(&head, key).expect("the right key");
        });
    }));
    cases.push(Case::new("hub/handshake", |meter: &mut Meter| {
        let mut request = Vec::new();
        hub_handshake::write_request(&mut request, Format::Json, 1);
        meter.repeat(ITERATIONS, || match hub_handshake::parse(black_box(&request), 4096) {
            Ok(Progress::Done(request, _)) => {
                black_box(request.check(true).expect("a served protocol"));
            }
            other => panic!("a handshake, not {other:?}"),
        });
    }));
    cases.push(Case::new("negotiate/query", |meter: &mut Meter| {
        let query = "access_token=abc&negotiateVersion=1&useStatefulReconnect=true";
        meter.repeat(ITERATIONS, || {
            assert!(negotiate::parse_query(black_box(query)).is_ok());
        });
    }));
    cases.push(Case::new("negotiate/answer_as_client", |meter: &mut Meter| {
        let transports = [Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling];
        let mut answer = Vec::new();
        negotiate::write_response(&mut answer, 1, "f3kQhZ1nQm2Y8v0aXb7cDw", "Zm9vYmFyYmF6", &transports, false);
        meter.repeat(ITERATIONS, || assert!(negotiate::parse_response(black_box(&answer)).is_ok()));
    }));
}
