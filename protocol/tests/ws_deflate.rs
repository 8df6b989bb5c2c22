//! Promise: compressed messages are heard as RFC 7692 says wherever the bytes are cut, never larger than allowed; what we
//! compress, anyone can read.

mod http_ws;

use fanfare_protocol::cursor::Sink;
use fanfare_protocol::error::FrameError;
use fanfare_protocol::ws::DataKind::{self, Binary, Text};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::deflate::decoder::DeflateDecoder;
use fanfare_protocol::ws::deflate::deflater::{Deflater, PLAIN_BYTES_MAX, PLAIN_BYTES_MIN};
use fanfare_protocol::ws::deflate::fuzz::{fuzz_deflate_decoder, fuzz_deflate_round_trip, fuzz_inflater};
use fanfare_protocol::ws::deflate::inflater::{Inflater, deflated_bytes_max};
use fanfare_protocol::ws::encode::{
    FRAGMENT_BYTES, MessageWriter, message_len, write_masked_deflated_message, write_masked_message,
};
use http_ws::{Random, every_cut};

const BYTES_MAX: usize = 64 << 10;

/// RFC 7692 7.2.3.1: "Hello" in one compressed block.
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Message(DataKind, Vec<u8>),
    Ping(Vec<u8>),
    Close,
    Failed(FrameError),
}
use Said::{Close, Failed, Message, Ping};

fn hello() -> Said {
    Message(Text, b"Hello".into())
}

fn decode(role: Role, inflater: &mut Inflater, pieces: &[&[u8]]) -> (Vec<Said>, DeflateDecoder) {
    let (mut said, mut open) = (Vec::new(), Vec::new());
    let mut decoder = DeflateDecoder::new(role);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut frames = decoder.handle_bytes(inflater, &mut piece);
        while let Some(event) = frames.next_event() {
            match event {
                Ok(Event::Data { kind, payload, fin, .. }) => {
                    open.extend_from_slice(payload);
                    if fin {
                        said.push(Message(kind, std::mem::take(&mut open)));
                    }
                }
                Ok(Event::Ping(payload)) => said.push(Ping(payload.as_slice().into())),
                Ok(Event::Close { .. }) => said.push(Close),
                Ok(Event::Pong(_)) => panic!("never said"),
                Err(error) => said.push(Failed(error)),
            }
        }
    }
    (said, decoder)
}

/// `frames`, unmasked and with short lengths, say `expected` to a client, and masked to a server, however they are cut.
fn both_ways(frames: &[&[u8]], expected: &[Said]) {
    let key = [0x9A, 0x00, 0xFF, 0x5C];
    let mut masked = Vec::new();
    for frame in frames {
        assert_eq!(usize::from(frame[1]), frame.len() - 2, "a short frame");
        masked.extend_from_slice(&[frame[0], frame[1] | 0x80]);
        masked.extend_from_slice(&key);
        masked.extend(frame[2..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    }
    let mut inflater = Inflater::new(BYTES_MAX);
    for (role, stream) in [(Role::Client, frames.concat()), (Role::Server, masked)] {
        every_cut(&stream, |pieces| {
            let (said, decoder) = decode(role, &mut inflater, pieces);
            assert_eq!(said, expected, "{role:?}, in {} pieces", pieces.len());
            let over = matches!(said.last(), Some(Failed(_) | Close));
            assert_eq!((decoder.is_over(), decoder.at_rest(), decoder.held_bytes()), (over, !over, 0));
        });
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// `payload` as one compressed message of text.
fn text(payload: &[u8], expected: Said) {
    both_ways(&[&frame(0xC1, payload)], &[expected]);
}

#[test]
fn examples_of_rfc_7692_7_2_3() {
    // 7.2.3.1, in one frame and in two.
    both_ways(&[b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"], &[hello()]);
    both_ways(&[b"\x41\x03\xf2\x48\xcd", b"\x80\x04\xc9\xc9\x07\x00"], &[hello()]);
    // 7.2.3.2 takes over context: without, there is nothing at that distance.
    let shared = [&b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\xc1\x05\xf2\x00\x11\x00\x00"];
    both_ways(&shared, &[hello(), Failed(FrameError::DeflateMalformed)]);
    // 7.2.3.3: a block without compression.
    text(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", hello());
    // 7.2.3.4: a final block.
    text(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", hello());
    // 7.2.3.5: two blocks in one message.
    text(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", hello());
    // 7.2.3.6: an empty fragment at the end.
    both_ways(&[b"\x41\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"\x80\x00"], &[hello()]);
    text(b"\x00", Message(Text, vec![]));
}

#[test]
fn nothing_in_all_its_shapes() {
    text(b"", Message(Text, vec![]));
    both_ways(&[b"\x42\x00", b"\x00\x00", b"\x80\x00"], &[Message(Binary, vec![])]);
    both_ways(&[b"\x42\x00", b"\x00\x01\x00", b"\x80\x00"], &[Message(Binary, vec![])]);
    // Final blocks without content, with and without what should follow.
    text(b"\x03\x00", Message(Text, vec![]));
    text(b"\x03\x00\x00", Message(Text, vec![]));
    text(b"\x01\x00\x00\xff\xff\x01\x00\x00\xff\xff\x00", Message(Text, vec![]));
}

#[test]
fn messages_that_are_not_compressed_pass_as_ever() {
    both_ways(
        &[b"\x81\x05Hello", &frame(0xC1, HELLO), b"\x02\x01a", b"\x80\x01b", &frame(0xC2, HELLO)],
        &[hello(), hello(), Message(Binary, b"ab".into()), Message(Binary, b"Hello".into())],
    );
    both_ways(&[&frame(0xC1, HELLO), b"\x81\x01\xff"], &[hello(), Failed(FrameError::TextNotUtf8)]);
    // Where they lay, and in pieces as they come.
    let mut bytes = *b"\x81\x05Hello";
    let (start, mut inflater) = (bytes.as_ptr().wrapping_add(2), Inflater::new(0));
    let mut decoder = DeflateDecoder::new(Role::Client);
    let mut frames = decoder.handle_bytes(&mut inflater, &mut bytes);
    let Some(Ok(Event::Data { payload, .. })) = frames.next_event() else { panic!("data") };
    assert_eq!(payload.as_ptr(), start);
    // The bound is for what is inflated.
    assert_eq!((payload.len(), frames.rest_len()), (5, 0));
}

#[test]
fn control_frames_between_fragments() {
    both_ways(
        &[b"\x89\x00", b"\x41\x03\xf2\x48\xcd", b"\x89\x01!", b"\x00\x00", b"\x89\x02!!", b"\x80\x04\xc9\xc9\x07\x00"],
        &[Ping(vec![]), Ping(b"!".into()), Ping(b"!!".into()), hello()],
    );
    both_ways(&[b"\x41\x03\xf2\x48\xcd", b"\x88\x00"], &[Close]);
}

#[test]
fn the_bit_stands_on_first_frames_only() {
    let misplaced = [Failed(FrameError::DeflateBitMisplaced)];
    for control in [b"\xC8\x00", b"\xC9\x00", b"\xCA\x00", b"\xC0\x00"] {
        both_ways(&[control], &misplaced);
    }
    both_ways(&[b"\x41\x03\xf2\x48\xcd", b"\xC0\x04\xc9\xc9\x07\x00"], &misplaced);
    both_ways(&[b"\x01\x01a", b"\x40\x01b"], &misplaced);
    both_ways(&[b"\x01\x01a", b"\xC9\x00"], &misplaced);
    both_ways(&[b"\x41\x01a", b"\xC1\x01b"], &[Failed(FrameError::MessageInsideMessage)]);
    both_ways(&[b"\xC3\x00"], &[Failed(FrameError::ReservedOpCode)]);
    for other in [b"\xA1\x00", b"\x91\x00", b"\xE1\x00", b"\xD1\x00", b"\xF1\x00", b"\xB9\x00"] {
        both_ways(&[other], &[Failed(FrameError::ReservedBits)]);
    }
    // Not agreed: no bit at all.
    let mut bytes = frame(0xC1, HELLO);
    let events: Vec<_> = Decoder::new(Role::Client).handle_bytes(&mut bytes).collect();
    assert_eq!(events, [Err(FrameError::ReservedBits)]);
}

#[test]
fn text_is_judged_after_it_was_inflated() {
    // Payloads that are no UTF-8 say text that is, and the other way round; blocks without compression show it.
    let stored = |bytes: &[u8]| [&[0, bytes.len() as u8, 0, !(bytes.len() as u8), 0xff], bytes, &[0]].concat();
    text(&stored("gr\u{fc}\u{df}e".as_bytes()), Message(Text, "gr\u{fc}\u{df}e".into()));
    text(&stored(b"abc\xff"), Failed(FrameError::TextNotUtf8));
    text(&stored(b"\xed\xa0\x80"), Failed(FrameError::TextNotUtf8));
    text(&stored(b"abc\xe2\x82"), Failed(FrameError::TextEndsInCharacter));
    both_ways(&[&frame(0xC2, &stored(b"abc\xff"))], &[Message(Binary, b"abc\xff".into())]);
}

#[test]
fn what_is_not_deflate() {
    let malformed = Failed(FrameError::DeflateMalformed);
    text(b"\x06", malformed.clone()); // a reserved type of block
    text(b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00", malformed.clone()); // length against complement
    text(b"\x04\xff\xff\xff", malformed.clone()); // codes that no tree has
    text(b"\x02\x02", malformed); // a match before the beginning
    // An error ends it all, and a decompressor that has seen it is as good as before.
    both_ways(&[b"\xc1\x01\x06", b"\x89\x00"], &[Failed(FrameError::DeflateMalformed)]);
    let mut inflater = Inflater::new(BYTES_MAX);
    assert_eq!(inflater.inflate(b"\x06"), Err(FrameError::DeflateMalformed));
    assert_eq!(inflater.inflate(HELLO).as_deref(), Ok(&b"Hello"[..]));
}

#[test]
fn truncated_streams() {
    let payload = deflated(&json(3000));
    let mut inflater = Inflater::new(BYTES_MAX);
    for len in 1..payload.len() {
        let error = inflater.inflate(&payload[..len]).expect_err("it ends in a block");
        assert!(matches!(error, FrameError::DeflateTruncated | FrameError::DeflateMalformed), "{len}: {error}");
    }
    assert_eq!(inflater.inflate(&payload).as_deref(), Ok(&json(3000)[..]));
    for len in 1..HELLO.len() - 1 {
        text(&HELLO[..len], Failed(FrameError::DeflateTruncated));
    }
    // The tail that should have been cut off is a block of its own.
    text(&[HELLO, &[0x00, 0x00, 0xff, 0xff, 0x00]].concat(), hello());
    text(&[HELLO, &[0x00, 0x00, 0xff, 0xff]].concat(), Failed(FrameError::DeflateTruncated));
}

#[test]
fn bombs_are_stopped_at_the_bound() {
    let bomb = deflated(&vec![b'a'; PLAIN_BYTES_MAX]);
    assert!(bomb.len() < 2000, "{}", bomb.len());
    for bound in [0, 1, 4095, 4096, 4097, 65_536, PLAIN_BYTES_MAX - 1] {
        let mut inflater = Inflater::new(bound);
        assert_eq!(inflater.inflate(&bomb).err(), refusal(bomb.len(), bound), "{bound}");
        assert!(format!("{inflater:?}").contains("buffer_bytes"));
        // Its neighbours are heard.
        let expected = if bound < 5 { Err(FrameError::InflatedTooLong) } else { Ok(b"Hello".to_vec()) };
        assert_eq!(inflater.inflate(HELLO).map(|message| message.to_vec()), expected);
    }
    let mut inflater = Inflater::new(PLAIN_BYTES_MAX);
    assert_eq!(inflater.inflate(&bomb).map(|message| message.len()), Ok(PLAIN_BYTES_MAX));
    // At the bound and one above, to the byte.
    for len in [1, 2, 255, 4095, 4096, 4097, 8192, 10_000] {
        let payload = stored_blocks(&vec![b'x'; len]);
        assert_eq!(Inflater::new(len).inflate(&payload).map(|message| message.len()), Ok(len));
        assert_eq!(Inflater::new(len - 1).inflate(&payload).err(), refusal(payload.len(), len - 1), "{len}");
    }
}

/// What a payload of `len` bytes is refused for that says too much for `bound`.
fn refusal(len: usize, bound: usize) -> Option<FrameError> {
    let too_long = len > deflated_bytes_max(bound);
    Some(if too_long { FrameError::DeflatedTooLong } else { FrameError::InflatedTooLong })
}

/// `bytes` in blocks without compression.
fn stored_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for block in bytes.chunks(65_535) {
        let len = block.len() as u16;
        payload.push(0);
        payload.extend_from_slice(&len.to_le_bytes());
        payload.extend_from_slice(&(!len).to_le_bytes());
        payload.extend_from_slice(block);
    }
    payload.push(0);
    payload
}

#[test]
fn the_bound_may_be_another_one_for_the_next_message() {
    let payload = deflated(&json(2_000));
    let mut inflater = Inflater::new(1_000);
    for bound in [1_000, 2_000, 1_999, 64 << 10] {
        inflater.set_inflated_bytes_max(bound);
        let expected = if bound < 2_000 { Err(FrameError::InflatedTooLong) } else { Ok(2_000) };
        assert_eq!(inflater.inflate(&payload).map(|message| message.len()), expected, "bound {bound}");
    }
}

#[test]
fn a_goodbye_is_found_behind_messages_that_nobody_inflates() {
    let stream = [
        frame(0x41, &HELLO[..3]),
        frame(0x89, b"ping"),
        frame(0x80, &HELLO[3..]),
        // Neither DEFLATE nor UTF-8, and nobody looks.
        frame(0xC1, &[0xFF; 20]),
        frame(0x81, b"plain"),
        frame(0x88, &[]),
    ]
    .concat();
    for cut in 0..=stream.len() {
        let (mut before, mut after) = (stream[..cut].to_vec(), stream[cut..].to_vec());
        let mut decoder = DeflateDecoder::new(Role::Client);
        // In the middle of a message that was still wanted when it began.
        let mut wanted = HELLO[..3].to_vec();
        let mut begun = frame(0x01 | 0x40, &wanted);
        assert!(decoder.handle_bytes(&mut Inflater::new(BYTES_MAX), &mut begun).next_event().is_none());
        wanted = frame(0x80, &HELLO[3..]);
        assert!(decoder.held_bytes() > 0 && !decoder.pass_over(&mut wanted));
        assert_eq!(decoder.held_bytes(), 0);
        let early = decoder.pass_over(&mut before);
        assert_eq!((early, decoder.pass_over(&mut after)), (cut == stream.len(), true), "cut at {cut}");
    }
    let mut decoder = DeflateDecoder::new(Role::Client);
    assert!(decoder.pass_over(&mut frame(0x83, &[])), "nonsense is a last word");
}

#[test]
fn blocks_without_content_do_not_go_on_for_ever() {
    let bound = deflated_bytes_max(1000);
    assert_eq!(bound, 1189);
    let empty: Vec<u8> = b"\x00\x00\x00\xff\xff".iter().copied().cycle().take(bound).chain([0]).collect();
    let mut inflater = Inflater::new(1000);
    assert_eq!(inflater.inflate(&empty[..1186]).as_deref(), Ok(&b""[..]));
    assert_eq!(inflater.inflate(&empty), Err(FrameError::DeflatedTooLong));
    // In fragments it is known before the end, and what was held is let go.
    let mut stream = vec![0x42, 0];
    for byte in &empty {
        stream.extend_from_slice(&[0x00, 1, *byte]);
    }
    for pieces in [vec![&stream[..]], stream.chunks(1).collect(), stream.chunks(700).collect()] {
        let (said, decoder) = decode(Role::Client, &mut inflater, &pieces);
        assert_eq!((said, decoder.held_bytes()), (vec![Failed(FrameError::DeflatedTooLong)], 0));
    }
    let (said, decoder) = decode(Role::Client, &mut inflater, &[&stream[..2 + 3 * bound]]);
    assert!(said.is_empty() && (bound..=2 * bound).contains(&decoder.held_bytes()), "{}", decoder.held_bytes());
}

#[test]
fn payloads_of_another_implementation() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        if hex == "-" { Vec::new() } else { (0..hex.len()).step_by(2).map(digit).collect() }
    };
    let (mut message, mut payloads) = (Vec::new(), 0);
    let mut inflater = Inflater::new(BYTES_MAX);
    for line in include_str!("deflate_vectors/vectors.txt").lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["=", _, hex] => message = bytes(hex),
            [how, hex] => {
                let payload = bytes(hex);
                assert_eq!(inflater.inflate(&payload).as_deref(), Ok(&message[..]), "{how}");
                let mut stream = Vec::new();
                write_masked_deflated_message(&mut stream, Binary, &payload, [7, 0, 0xfe, 1]);
                let expected = [Message(Binary, message.clone())];
                for pieces in [vec![&stream[..]], stream.chunks(1).collect(), stream.chunks(613).collect()] {
                    assert_eq!(decode(Role::Server, &mut inflater, &pieces).0, expected, "{how}");
                }
                payloads += 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(payloads, 9 * 12);
}

/// Something like a broadcast of `len` bytes.
fn json(len: usize) -> Vec<u8> {
    let mut random = Random::new(len as u64);
    let mut text = b"{\"type\":1,\"target\":\"tick\",\"arguments\":[[".to_vec();
    while text.len() < len {
        let (id, price) = (random.below(500), random.below(100_000));
        text.extend_from_slice(format!("{{\"id\":{id},\"price\":{price},\"currency\":\"EUR\"}},").as_bytes());
    }
    text.truncate(len);
    text
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    Deflater::new().deflate(plain).expect("worth it").to_vec()
}

#[test]
fn a_message_is_compressed_once_and_heard_by_both_roles() {
    let mut deflater = Deflater::new();
    let mut inflater = Inflater::new(PLAIN_BYTES_MAX);
    for len in [PLAIN_BYTES_MIN, 257, 2000, 2044, 16_384, 65_536, 300_000, PLAIN_BYTES_MAX] {
        let plain = json(len);
        let payload = deflater.deflate(&plain).expect("worth it").to_vec();
        assert!(payload.len() < len, "{len}");
        assert_eq!(payload, deflated(&plain), "it depends on nothing before it");
        let mut framed = Vec::new();
        let mut writer = MessageWriter::new_deflated(&mut framed, Text, payload.len());
        writer.put(&payload);
        writer.finish();
        assert_eq!(framed.len(), message_len(payload.len()));
        let first = if payload.len() > 2044 { 0x41 } else { 0xC1 };
        assert_eq!(framed[0], first, "the bit is on the first frame");
        for boundary in (FRAGMENT_BYTES..framed.len()).step_by(FRAGMENT_BYTES) {
            assert_eq!(framed[boundary] & 0x7F, 0, "and on no other");
        }
        let mut masked = Vec::new();
        write_masked_deflated_message(&mut masked, Text, &payload, [1, 2, 3, 4]);
        for (role, stream) in [(Role::Client, &framed), (Role::Server, &masked)] {
            let (said, _) = decode(role, &mut inflater, &[stream]);
            assert_eq!(said, [Message(Text, plain.clone())]);
            let (said, _) = decode(role, &mut inflater, &stream.chunks(4096).collect::<Vec<_>>());
            assert_eq!(said, [Message(Text, plain.clone())]);
        }
    }
}

#[test]
fn what_is_not_worth_compressing() {
    let mut deflater = Deflater::new();
    assert_eq!(deflater.deflate(b""), None);
    assert_eq!(deflater.deflate(&vec![b'a'; PLAIN_BYTES_MIN - 1]), None);
    assert_eq!(deflater.deflate(&vec![b'a'; PLAIN_BYTES_MAX + 1]), None);
    for len in [256, 300, 2048, 70_000] {
        assert_eq!(deflater.deflate(&Random::new(1).bytes(len)), None, "noise of {len}");
        // Whatever came before.
        assert!(deflater.deflate(&json(len)).is_some());
    }
    // It is never longer, down to the byte: noise with ever longer runs at its end.
    let (mut sent_plain, mut compressed) = (0, 0);
    for run in 0..40 {
        let plain = [Random::new(2).bytes(400), vec![0; run]].concat();
        match deflater.deflate(&plain).map(<[u8]>::len) {
            None => sent_plain += 1,
            Some(len) => {
                assert!(len < plain.len());
                compressed += 1;
            }
        }
    }
    assert!(sent_plain > 3 && compressed > 10, "{sent_plain} {compressed}");
}

/// The shapes of Autobahn's cases 12 and 13: many messages of doubling length, some in fragments, back and forth.
#[test]
fn many_messages_of_every_length() {
    let mut deflater = Deflater::new();
    let mut inflater = Inflater::new(128 << 10);
    let mut random = Random::new(12);
    for len in [16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072] {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let plain = json(len - random.below(len / 4));
            match deflater.deflate(&plain) {
                Some(payload) if random.below(2) == 0 => write_fragments(&mut stream, payload, &mut random),
                Some(payload) => write_masked_deflated_message(&mut stream, Text, payload, [9, 8, 7, 6]),
                None => write_masked_message(&mut stream, Text, &plain, [9, 8, 7, 6]),
            }
            expected.push(Message(Text, plain));
        }
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (now, after) = rest.split_at(1 + random.below(rest.len().min(9000)));
            pieces.push(now);
            rest = after;
        }
        let (said, decoder) = decode(Role::Server, &mut inflater, &pieces);
        assert!(said == expected, "{len}: {} of {}", said.len(), expected.len());
        assert!(decoder.at_rest());
    }
}

/// A compressed message in masked fragments of up to 1,000 bytes.
fn write_fragments(stream: &mut Vec<u8>, payload: &[u8], random: &mut Random) {
    let (mut rest, mut first) = (payload, true);
    while first || !rest.is_empty() {
        let (now, after) = rest.split_at(random.below(1000).min(rest.len()));
        let start = stream.len();
        let key = [random.below(256) as u8; 4];
        fanfare_protocol::ws::encode::write_masked_fragment(stream, Text, first, after.is_empty(), now, key);
        stream[start] |= if first { 0x40 } else { 0 };
        (rest, first) = (after, false);
    }
}

#[test]
fn fuzz_bodies_hold_on_seeded_input() {
    let mut random = Random::new(7692);
    let vectors = [HELLO, &deflated(&json(600)), &deflated(&json(3000)), b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"];
    for round in 0..3000 {
        let mut payload = vectors[round % vectors.len()].to_vec();
        for _ in 0..random.below(3) {
            let at = random.below(payload.len());
            payload[at] ^= 1 << random.below(8);
        }
        payload.truncate(payload.len() - random.below(4));
        fuzz_inflater(&[&[round as u8], &payload[..]].concat());
        let mut stream = vec![random.below(256) as u8];
        for _ in 0..1 + random.below(3) {
            match stream[0] & 1 {
                0 => write_fragments(&mut stream, &payload, &mut random),
                _ => {
                    let mut writer = MessageWriter::new_deflated(&mut stream, Text, payload.len());
                    writer.put(&payload);
                    writer.finish();
                }
            }
        }
        fuzz_deflate_decoder(&stream);
        let len = random.below(90);
        fuzz_deflate_round_trip(&[&[round as u8, random.below(100) as u8], &random.bytes(len)[..]].concat());
    }
    // Long enough for matches beyond any window.
    fuzz_deflate_round_trip(&[&[0, 2], &json(50_000)[..]].concat());
}
