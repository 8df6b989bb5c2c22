//! Promise: what the encoders write is what engine and peers count on: 2 048-byte fragments, minimal lengths, and the
//! same message at the other end.

mod http_ws;

use fanfare_protocol::cursor::{Count, Sink};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::*;
use fanfare_protocol::ws::fuzz::{fuzz_decoder, fuzz_round_trip};
use fanfare_protocol::ws::{DataKind, OpCode};
use http_ws::Random;

fn message(kind: DataKind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = MessageWriter::new(&mut bytes, kind, payload.len());
    writer.put(payload);
    writer.finish();
    bytes
}

#[test]
fn short_messages_are_one_frame() {
    assert_eq!(message(DataKind::Text, b""), b"\x81\x00");
    assert_eq!(message(DataKind::Text, b"Hello"), b"\x81\x05Hello");
    assert_eq!(message(DataKind::Binary, &[7; 125])[..2], [0x82, 125]);
    assert_eq!(message(DataKind::Binary, &[7; 126])[..4], [0x82, 126, 0, 126]);
    assert_eq!(message(DataKind::Binary, &[7; 2044])[..4], [0x82, 126, 0x07, 0xFC]);
    assert_eq!(message(DataKind::Binary, &[7; 2044]).len(), 2048);
}

#[test]
fn long_messages_are_frames_of_2048_bytes() {
    let payload: Vec<u8> = (0..4488).map(|i| (i % 253) as u8).collect();
    let framed = message(DataKind::Text, &payload);
    assert_eq!(framed.len(), 4500, "as drawn in the engine's design");
    assert_eq!(framed[..4], [0x01, 0x7E, 0x07, 0xFC]);
    assert_eq!(framed[2048..2052], [0x00, 0x7E, 0x07, 0xFC]);
    assert_eq!(framed[4096..4100], [0x80, 0x7E, 0x01, 0x90]);
    let plain = [&framed[4..2048], &framed[2052..4096], &framed[4100..]].concat();
    assert_eq!(plain, payload);
    // Whole fragments only: the last one ends the message.
    let framed = message(DataKind::Binary, &[1; 4088]);
    assert_eq!((framed.len(), framed[2048]), (4096, 0x80));
    // One byte more: a last frame with the shortest header.
    let framed = message(DataKind::Binary, &[1; 4089]);
    assert_eq!(framed[4096..], [0x80, 0x01, 1]);
}

/// Whoever has sent any part of a message finds the next frame boundary by arithmetic, without a look at the bytes;
/// and what may stand between the fragments of a message may stand there.
#[test]
fn after_a_cut_at_any_byte_the_next_frame_is_at_the_next_multiple() {
    for len in [0, 1, 125, 126, 2044, 2045, 2169, 2170, 2171, 4088, 4089, 6132, 6133, 9000] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let framed = message(DataKind::Binary, &payload);
        // As a receiver finds them: each header names the next.
        let mut starts = vec![0];
        while *starts.last().unwrap() < framed.len() {
            let at = *starts.last().unwrap();
            let short = usize::from(framed[at + 1]);
            let long = || 4 + usize::from(u16::from_be_bytes([framed[at + 2], framed[at + 3]]));
            starts.push(at + if short < 126 { 2 + short } else { long() });
        }
        assert_eq!(starts.pop(), Some(framed.len()));
        for cut in 0..=framed.len() {
            let boundary = cut.next_multiple_of(FRAGMENT_BYTES).min(framed.len());
            let expected = starts.iter().copied().find(|&start| start >= cut).unwrap_or(framed.len());
            assert_eq!(boundary, expected, "payload of {len}, cut at {cut}");
        }
        for &start in &starts {
            let mut stream = framed[..start].to_vec();
            write_control(&mut stream, OpCode::Ping, b"?");
            stream.extend_from_slice(&framed[start..]);
            let (mut heard, mut pings) = (Vec::new(), 0);
            for event in Decoder::new(Role::Client).handle_bytes(&mut stream) {
                match event.expect("a legal stream") {
                    Event::Data { payload, .. } => heard.extend_from_slice(payload),
                    Event::Ping(_) => pings += 1,
                    _ => panic!("never said"),
                }
            }
            assert_eq!((pings, &heard), (1, &payload), "payload of {len}, ping at {start}");
        }
    }
}

#[test]
fn no_message_has_more_fragments_than_clients_take() {
    for len in [FRAGMENTS_MAX * FRAGMENT_PAYLOAD_MAX, FRAGMENTS_MAX * FRAGMENT_PAYLOAD_MAX + 1, 64 << 20] {
        let framed = message(DataKind::Binary, &vec![7; len]);
        assert_eq!(framed.len(), message_len(len));
        let (mut at, mut frames, mut payload) = (0, 0, 0);
        while at < framed.len() {
            let short = framed[at + 1];
            let (header, rest) = if short < 126 {
                (2, usize::from(short))
            } else {
                (4, usize::from(u16::from_be_bytes([framed[at + 2], framed[at + 3]])))
            };
            let last = at + header + rest == framed.len();
            assert_eq!(framed[at], if frames == 0 { 0x02 } else { 0 } | if last { 0x80 } else { 0 });
            (at, frames, payload) = (at + header + rest, frames + 1, payload + rest);
        }
        assert_eq!(payload, len);
        assert!(frames <= FRAGMENTS_MAX, "{frames} frames for {len} bytes");
    }
}

#[test]
fn message_len_is_what_is_written() {
    let mut random = Random::new(7);
    let near = [0, 125, 126, 2043, 2044, 2045, 2169, 2170, 2171, 4088, 4089, 65_535, 65_536, 1 << 20];
    let lens: Vec<usize> = near.into_iter().chain((0..200).map(|_| random.below(100_000))).collect();
    for len in lens {
        let mut count = Count(0);
        let mut writer = MessageWriter::new(&mut count, DataKind::Text, len);
        let mut rest = len;
        while rest > 0 {
            let piece = 1 + random.below(rest.min(5000));
            writer.put(&vec![b'x'; piece]);
            rest -= piece;
        }
        writer.finish();
        assert_eq!(count.0, message_len(len), "payload of {len}");
    }
}

#[test]
fn fragments_as_they_pass_through() {
    let mut bytes = Vec::new();
    MessageWriter::fragment(&mut bytes, DataKind::Text, true, false, b"a");
    MessageWriter::fragment(&mut bytes, DataKind::Text, false, false, b"");
    MessageWriter::fragment(&mut bytes, DataKind::Text, false, true, b"b");
    MessageWriter::fragment(&mut bytes, DataKind::Binary, true, true, b"c");
    assert_eq!(bytes, b"\x01\x01a\x00\x00\x80\x01b\x82\x01c");
    bytes.clear();
    MessageWriter::fragment(&mut bytes, DataKind::Binary, true, true, &[0; 65_536]);
    assert_eq!(bytes[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn control_frames() {
    let mut bytes = Vec::new();
    write_control(&mut bytes, OpCode::Pong, b"p");
    write_close(&mut bytes, Some(CloseCode::NORMAL), "");
    write_close(&mut bytes, Some(CloseCode::TOO_BIG), "big");
    write_close(&mut bytes, None, "unsaid");
    write_close(&mut bytes, Some(CloseCode(1005)), "never travels");
    assert_eq!(bytes, b"\x8A\x01p\x88\x02\x03\xE8\x88\x05\x03\xF1big\x88\x00\x88\x00");
}

#[test]
fn close_reasons_are_cut_at_a_character() {
    let mut bytes = Vec::new();
    write_close(&mut bytes, Some(CloseCode::INTERNAL), &"\u{20ac}".repeat(50));
    assert_eq!(bytes[1], 2 + 123, "41 characters of 3 bytes fit exactly");
    bytes.clear();
    write_close(&mut bytes, Some(CloseCode::INTERNAL), &format!("a{}", "\u{20ac}".repeat(50)));
    assert_eq!(bytes[1], 2 + 121);
    assert!(std::str::from_utf8(&bytes[4..]).is_ok());
}

#[test]
fn clients_mask() {
    let mut bytes = Vec::new();
    write_masked_message(&mut bytes, DataKind::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
    assert_eq!(bytes, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], "RFC 6455 5.7");
    bytes.clear();
    write_masked_control(&mut bytes, OpCode::Ping, b"", [1, 2, 3, 4]);
    write_masked_close(&mut bytes, Some(CloseCode::NORMAL), "", [0; 4]);
    assert_eq!(bytes, [0x89, 0x80, 1, 2, 3, 4, 0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]);
}

#[test]
fn fragmentation_is_reassembly() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let len = 1 + random.below(40);
        let orders = random.bytes(len);
        // A failure inside names no seed, so it is printed before.
        let shown = std::panic::catch_unwind(|| fuzz_round_trip(&orders));
        assert!(shown.is_ok(), "seed {seed}");
    }
}

#[test]
fn random_streams_read_as_the_rfc_says() {
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mut stream = vec![random.next() as u8];
        for _ in 0..random.below(12) {
            let op_code = [0, 1, 2, 0, 8, 9, 10, 3][random.below(8)];
            let fin = if random.below(3) == 0 { 0 } else { 0x80 };
            let reserved = if random.below(40) == 0 { 0x40 } else { 0 };
            let len_max = [128, 12, 12, 12][random.below(4)];
            let len = random.below(len_max);
            let mask = if (stream[0] & 1 == 0) != (random.below(60) == 0) { 0x80 } else { 0 };
            stream.extend_from_slice(&[op_code | fin | reserved, len as u8 | mask]);
            if mask != 0 {
                stream.extend_from_slice(&[0; 4]);
            }
            let ascii = random.below(4) != 0;
            stream.extend(random.bytes(len).iter().map(|byte| if ascii { byte & 0x7F } else { *byte }));
        }
        let shown = std::panic::catch_unwind(|| fuzz_decoder(&stream));
        assert!(shown.is_ok(), "seed {seed}");
    }
}
