//! Promise: the frame decoder accepts every shape RFC 6455 allows and names the rule every other shape breaks,
//! wherever the bytes are cut.

mod http_ws;

use fanfare_protocol::error::{CloseCode, FrameError};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use http_ws::every_cut;

/// What a stream said. Text payloads are shown as they are, so that a failure can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Message(DataKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Failed(FrameError),
}
use DataKind::{Binary, Text};
use Said::{Close, Failed, Message, Ping, Pong};

fn decode(role: Role, pieces: &[&[u8]]) -> (Vec<Said>, Decoder) {
    let (mut said, mut open) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::new(role);
    for piece in pieces {
        let mut piece = piece.to_vec();
        for event in decoder.handle_bytes(&mut piece) {
            match event {
                Ok(Event::Data { kind, payload, fin, .. }) => {
                    open.extend_from_slice(payload);
                    if fin {
                        said.push(Message(kind, std::mem::take(&mut open)));
                    }
                }
                Ok(Event::Ping(payload)) => said.push(Ping(payload.as_slice().into())),
                Ok(Event::Pong(payload)) => said.push(Pong(payload.as_slice().into())),
                Ok(Event::Close { code, reason }) => {
                    said.push(Close(code.map(|code| code.0), reason.as_slice().into()));
                }
                Err(error) => said.push(Failed(error)),
            }
        }
    }
    (said, decoder)
}

/// `stream` comes from a server, however it is cut, and says `expected`.
fn from_server(stream: &[u8], expected: &[Said]) {
    every_cut(stream, |pieces| {
        let (said, decoder) = decode(Role::Client, pieces);
        assert_eq!(said, expected, "in {} pieces", pieces.len());
        let over = matches!(said.last(), Some(Failed(_) | Close(..)));
        assert_eq!(decoder.is_over(), over);
        assert_eq!(decoder.at_rest(), !over, "a whole stream ends at rest");
    });
}

/// The same frames, masked, come from a client. `frames` are unmasked, each with a minimal length.
fn both_ways(frames: &[&[u8]], expected: &[Said]) {
    from_server(&frames.concat(), expected);
    let key = [0x9A, 0x00, 0xFF, 0x5C];
    let masked: Vec<u8> = frames.iter().flat_map(|frame| masked(frame, key)).collect();
    every_cut(&masked, |pieces| assert_eq!(decode(Role::Server, pieces).0, expected));
}

fn masked(frame: &[u8], key: [u8; 4]) -> Vec<u8> {
    let header_len = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut bytes = frame[..header_len].to_vec();
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&key);
    bytes.extend(frame[header_len..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    bytes
}

/// An unmasked frame with a short payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, payload.len() as u8], payload].concat()
}

fn refused(frame: &[u8], error: FrameError) {
    both_ways(&[frame], &[Failed(error)]);
}

#[test]
fn examples_of_rfc_6455_5_7() {
    from_server(b"\x81\x05Hello", &[Message(Text, b"Hello".into())]);
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    every_cut(&masked, |pieces| {
        assert_eq!(decode(Role::Server, pieces).0, [Message(Text, b"Hello".into())]);
    });
    from_server(b"\x01\x03Hel\x80\x02lo", &[Message(Text, b"Hello".into())]);
    from_server(b"\x89\x05Hello", &[Ping(b"Hello".into())]);
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    every_cut(&pong, |pieces| assert_eq!(decode(Role::Server, pieces).0, [Pong(b"Hello".into())]));
    let bytes = vec![0xA5; 256];
    from_server(&[b"\x82\x7E\x01\x00", &bytes[..]].concat(), &[Message(Binary, bytes.clone())]);
    let bytes = vec![0x5A; 65_536];
    let stream = [b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", &bytes[..]].concat();
    assert_eq!(decode(Role::Client, &[&stream]).0, [Message(Binary, bytes.clone())]);
    for cut in 1..20 {
        let (front, back) = stream.split_at(cut);
        assert_eq!(decode(Role::Client, &[front, back]).0, [Message(Binary, bytes.clone())]);
    }
    assert_eq!(decode(Role::Client, &stream.chunks(1).collect::<Vec<_>>()).0, [Message(Binary, bytes)]);
}

#[test]
fn every_payload_length_near_a_boundary() {
    for len in [0, 1, 2, 3, 4, 5, 7, 8, 9, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let mut stream = Vec::new();
        fanfare_protocol::ws::encode::write_masked_message(&mut stream, Binary, &payload, [1, 2, 3, 4]);
        for cut in (1..stream.len().min(40)).chain([stream.len() - 1]) {
            let (front, back) = stream.split_at(cut);
            assert_eq!(decode(Role::Server, &[front, back]).0, [Message(Binary, payload.clone())]);
        }
    }
}

#[test]
fn empty_messages_and_empty_fragments() {
    both_ways(&[b"\x81\x00"], &[Message(Text, vec![])]);
    both_ways(&[b"\x82\x00"], &[Message(Binary, vec![])]);
    both_ways(&[b"\x01\x00", b"\x00\x00", b"\x80\x00"], &[Message(Text, vec![])]);
    both_ways(&[b"\x02\x00", b"\x00\x02ab", b"\x00\x00", b"\x80\x00"], &[Message(Binary, b"ab".into())]);
}

#[test]
fn pieces_tell_where_a_message_begins_and_ends() {
    let mut decoder = Decoder::new(Role::Client);
    let mut pieces = Vec::new();
    for piece in [&b"\x01"[..], b"\x00", b"\x00\x03a", b"bc\x89\x01!", b"\x00\x00", b"\x80\x01d\x82\x00"] {
        let mut piece = piece.to_vec();
        for event in decoder.handle_bytes(&mut piece) {
            if let Event::Data { kind, payload, first, fin } = event.expect("a good stream") {
                pieces.push((kind, payload.to_vec(), first, fin));
            }
        }
    }
    let expected = [
        (Text, b"a".to_vec(), true, false),
        (Text, b"bc".to_vec(), false, false),
        (Text, b"d".to_vec(), false, true),
        (Binary, vec![], true, true),
    ];
    assert_eq!(pieces, expected);
}

#[test]
fn payload_is_unmasked_where_it_lies() {
    let mut bytes = masked(&frame(0x82, b"in place"), [7, 7, 7, 7]);
    let start = bytes.as_ptr() as usize;
    let mut decoder = Decoder::new(Role::Server);
    let mut frames = decoder.handle_bytes(&mut bytes);
    let Some(Ok(Event::Data { payload, .. })) = frames.next() else { panic!("data") };
    assert_eq!(payload.as_ptr() as usize, start + 6);
    assert_eq!(payload, b"in place");
}

#[test]
fn control_frames_between_fragments() {
    both_ways(
        &[b"\x01\x02He", b"\x89\x01?", b"\x00\x02ll", b"\x8A\x00", b"\x80\x01o", b"\x88\x00"],
        &[Ping(b"?".into()), Pong(vec![]), Message(Text, b"Hello".into()), Close(None, vec![])],
    );
    let longest = frame(0x89, &[b'x'; 125]);
    both_ways(&[b"\x02\x01a", &longest, b"\x80\x00"], &[Ping(vec![b'x'; 125]), Message(Binary, b"a".into())]);
}

#[test]
fn several_messages_in_one_piece() {
    both_ways(
        &[b"\x81\x01a", b"\x82\x01b", b"\x81\x01c"],
        &[Message(Text, b"a".into()), Message(Binary, b"b".into()), Message(Text, b"c".into())],
    );
}

#[test]
fn reserved_bits() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for first in [0x81, 0x82, 0x88, 0x89, 0x8A] {
            refused(&frame(first | bits, b"x"), FrameError::ReservedBits);
        }
    }
}

#[test]
fn reserved_opcodes() {
    for op_code in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        refused(&frame(0x80 | op_code, b""), FrameError::ReservedOpCode);
        refused(&frame(op_code, b"x"), FrameError::ReservedOpCode);
        both_ways(&[b"\x01\x01a", &frame(0x80 | op_code, b"")], &[Failed(FrameError::ReservedOpCode)]);
    }
}

#[test]
fn control_frames_stay_whole_and_short() {
    for op_code in [8, 9, 10] {
        refused(&frame(op_code, b""), FrameError::ControlFragmented);
        refused(&[&[0x80 | op_code, 126, 0, 126], &[b'a'; 126][..]].concat(), FrameError::ControlTooLong);
        refused(&[0x80 | op_code, 127, 0, 0, 0, 0, 0, 1, 0, 0], FrameError::ControlTooLong);
    }
}

#[test]
fn continuations_belong_to_a_message() {
    refused(b"\x80\x01a", FrameError::ContinuationWithoutStart);
    refused(b"\x00\x01a", FrameError::ContinuationWithoutStart);
    both_ways(
        &[b"\x81\x01a", b"\x80\x01b"],
        &[Message(Text, b"a".into()), Failed(FrameError::ContinuationWithoutStart)],
    );
    for second in [b"\x81\x01b", b"\x01\x01b", b"\x82\x01b", b"\x02\x01b"] {
        both_ways(&[b"\x01\x01a", second], &[Failed(FrameError::MessageInsideMessage)]);
        both_ways(&[b"\x02\x01a", b"\x00\x00", second], &[Failed(FrameError::MessageInsideMessage)]);
    }
}

#[test]
fn clients_mask_and_servers_do_not() {
    every_cut(b"\x81\x05Hello", |pieces| {
        assert_eq!(decode(Role::Server, pieces).0, [Failed(FrameError::MaskMissing)]);
    });
    from_server(&masked(b"\x81\x05Hello", [1, 2, 3, 4]), &[Failed(FrameError::MaskForbidden)]);
    // A key of zeros is a key.
    every_cut(&masked(b"\x81\x05Hello", [0; 4]), |pieces| {
        assert_eq!(decode(Role::Server, pieces).0, [Message(Text, b"Hello".into())]);
    });
}

#[test]
fn lengths_are_minimal_and_below_2_63() {
    refused(&[&[0x82, 126, 0, 125], &[0; 125][..]].concat(), FrameError::LengthNotMinimal);
    refused(b"\x82\x7E\x00\x00", FrameError::LengthNotMinimal);
    refused(b"\x82\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF", FrameError::LengthNotMinimal);
    refused(b"\x82\x7F\x00\x00\x00\x00\x00\x00\x00\x00", FrameError::LengthNotMinimal);
    refused(b"\x82\x7F\x80\x00\x00\x00\x00\x00\x00\x00", FrameError::LengthHighBit);
    refused(b"\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", FrameError::LengthHighBit);
    // The longest length there is begins well.
    let mut stream = b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFabc".to_vec();
    let mut decoder = Decoder::new(Role::Client);
    let events: Vec<_> = decoder.handle_bytes(&mut stream).collect();
    assert!(matches!(&events[..], [Ok(Event::Data { payload: [b'a', b'b', b'c'], first: true, fin: false, .. })]));
}

#[test]
fn close_payloads() {
    both_ways(&[b"\x88\x00"], &[Close(None, vec![])]);
    refused(b"\x88\x01\x03", FrameError::ClosePayloadOneByte);
    for code in (0..=5100).chain([6000, 32_768, u16::MAX]) {
        let close = frame(0x88, &[&code.to_be_bytes()[..], b"bye"].concat());
        let said = decode(Role::Client, &[&close]).0;
        let expected = if CloseCode(code).may_be_sent() {
            Close(Some(code), b"bye".into())
        } else {
            Failed(FrameError::CloseCodeForbidden)
        };
        assert_eq!(said, [expected], "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert!(!CloseCode(code).may_be_sent(), "as Autobahn 7.9 has it: {code}");
    }
    let longest = [&[0x03, 0xE8][..], &[b'r'; 123]].concat();
    both_ways(&[&frame(0x88, &longest)], &[Close(Some(1000), vec![b'r'; 123])]);
    refused(&frame(0x88, b"\x03\xE8\xCE\xBA\xE1\xBD"), FrameError::CloseReasonNotUtf8);
    refused(&frame(0x88, b"\x03\xE8\xFF"), FrameError::CloseReasonNotUtf8);
}

#[test]
fn nothing_is_heard_after_close_or_error() {
    both_ways(&[b"\x88\x02\x03\xE8", b"\x89\x00", b"\xFF\xFF"], &[Close(Some(1000), vec![])]);
    both_ways(&[b"\xF1\x00", b"\x89\x00", b"\x81\x01a"], &[Failed(FrameError::ReservedBits)]);
    both_ways(&[b"\x02\x01a", b"\x88\x00", b"\x80\x01b"], &[Close(None, vec![])]);
}

#[test]
fn errors_earn_the_close_code_of_the_rfc() {
    for error in FrameError::ALL {
        let expected = match error {
            FrameError::TextNotUtf8
            | FrameError::TextEndsInCharacter
            | FrameError::CloseReasonNotUtf8
            | FrameError::DeflateMalformed
            | FrameError::DeflateTruncated => CloseCode::INVALID_PAYLOAD,
            FrameError::DeflatedTooLong | FrameError::InflatedTooLong => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        };
        assert_eq!(error.close_code(), expected, "{error}");
    }
}

/// Text in one frame, in a frame per byte, and in two frames cut at every place.
fn text_every_way(text: &[u8], expected: &Said) {
    let fragments = |parts: &[&[u8]]| -> Vec<Vec<u8>> {
        let last = parts.len() - 1;
        let first = |i| u8::from(i == 0) | if i == last { 0x80 } else { 0 };
        parts.iter().enumerate().map(|(i, part)| frame(first(i), part)).collect()
    };
    every_cut(text, |parts| {
        let frames = fragments(parts);
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        both_ways(&frames, std::slice::from_ref(expected));
    });
}

#[test]
fn text_is_utf_8_across_fragments_and_cuts() {
    for text in [
        "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}",
        "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{fffd}\u{10000}",
        "\u{d7ff}\u{e000}\u{ffff}\u{10ffff}",
        "plain ascii, long enough for words of eight",
        "caf\u{e9} then ascii again and again\u{1f600}",
    ] {
        text_every_way(text.as_bytes(), &Message(Text, text.into()));
    }
    for bad in [
        &b"\xCE\xBA\xED\xA0\x80edited"[..], // a surrogate
        b"\x80",                            // a continuation byte alone
        b"\xC0\xAF",                        // overlong
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xF4\x90\x80\x80", // above U+10FFFF
        b"\xF8\x88\x80\x80\x80",
        b"\xFE",
        b"ab\xC3(",
        b"\xE2\x82ab",
        b"\xF0\x9F\x98 ",
    ] {
        text_every_way(bad, &Failed(FrameError::TextNotUtf8));
    }
    for cut in [&b"\xCE"[..], b"abc\xE2\x82", b"\xF0\x9F\x98", b"\xF4\x8F\xBF"] {
        text_every_way(cut, &Failed(FrameError::TextEndsInCharacter));
    }
}

#[test]
fn text_fails_at_the_first_impossible_byte() {
    // Autobahn 6.4: the frame is not complete, the error is certain.
    for (sound, broken) in
        [(&b"\xCE\xBA"[..], &b"\xF5"[..]), (b"\xF4", b"\x90"), (b"\xED", b"\xA0"), (b"\xE2\x82", b"x")]
    {
        let mut decoder = Decoder::new(Role::Client);
        let mut stream = [b"\x01\x64", sound].concat();
        assert!(decoder.handle_bytes(&mut stream).all(|event| event.is_ok()));
        let mut stream = broken.to_vec();
        let events: Vec<_> = decoder.handle_bytes(&mut stream).collect();
        assert_eq!(events, [Err(FrameError::TextNotUtf8)]);
    }
}

#[test]
fn a_new_message_begins_with_a_clean_slate() {
    // Binary may end anywhere; the text after it is judged by itself.
    both_ways(
        &[b"\x82\x01\xE2", b"\x81\x01a", b"\x02\x01\xE2", b"\x80\x01\xFF", b"\x81\x02\xC3\xA9"],
        &[
            Message(Binary, vec![0xE2]),
            Message(Text, b"a".into()),
            Message(Binary, vec![0xE2, 0xFF]),
            Message(Text, vec![0xC3, 0xA9]),
        ],
    );
}

#[test]
fn rest_means_that_nothing_is_carried() {
    let stream = masked(&frame(0x81, b"rest"), [1, 2, 3, 4]);
    for len in 0..=stream.len() {
        let mut decoder = Decoder::new(Role::Server);
        let mut front = stream[..len].to_vec();
        assert!(decoder.handle_bytes(&mut front).all(|event| event.is_ok()));
        assert_eq!(decoder.at_rest(), len == 0 || len == stream.len(), "after {len} bytes");
    }
    // Between the fragments of a message there is no rest, even with nothing held.
    let mut decoder = Decoder::new(Role::Client);
    let mut stream = b"\x01\x00\x89\x00".to_vec();
    assert_eq!(decoder.handle_bytes(&mut stream).count(), 1);
    assert!(!decoder.at_rest());
    assert!(size_of::<Decoder>() <= 192);
}
