//! Deliveries cut anywhere, in every wrapping.

use super::*;
use crate::payload::Random;
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::hub::{Payload, Value};
use fanfare_protocol::ws::encode::{MessageWriter, write_close, write_control};
use fanfare_protocol::ws::{DataKind, OpCode};

const RUN: u32 = 0xabcd_0001;

fn head(sequence: u32, length: usize) -> Head {
    Head { run: RUN, lane: 0, sequence, length: length as u32, intended_ns: 1_000, actual_ns: 2_000 }
}

fn padding(length: usize) -> Arc<Padding> {
    Arc::new(Padding::new(3, length))
}

fn payload(sequence: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    padding(length).write_payload(&head(sequence, length), &mut out);
    out
}

/// One hub invocation as a server frames it.
fn invocation(format: Format, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    let arguments = [Value::Str(String::from_utf8_lossy(payload).into_owned())];
    hub::encode::invocation(format, &mut record, None, "m", &Payload::Values(&arguments)).expect("encodes");
    record
}

fn frame(dialect: Dialect, message: &[u8]) -> Vec<u8> {
    let kind = if dialect == Dialect::SignalrMessagepack { DataKind::Binary } else { DataKind::Text };
    let mut writer = MessageWriter::new(Vec::new(), kind, message.len());
    writer.put(message);
    writer.finish()
}

fn message(dialect: Dialect, payload: &[u8]) -> Vec<u8> {
    frame(dialect, &dialect.format().map_or(payload.to_vec(), |format| invocation(format, payload)))
}

fn reader(dialect: Dialect, length: usize) -> Reader {
    Reader::new(dialect, None, RUN, length, padding(length))
}

/// Reads `bytes` in pieces that end at `cuts`.
fn read_cut(reader: &mut Reader, carry: &mut Carry, bytes: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let mut piece = bytes[from..cut].to_vec();
        reader.read(carry, &mut piece, &mut events);
        from = cut;
    }
    events
}

fn deliveries(range: std::ops::Range<u32>, length: usize) -> Vec<Event> {
    range.map(|sequence| Event::Delivery(head(sequence, length))).collect()
}

const DIALECTS: [Dialect; 3] = [Dialect::SignalrJson, Dialect::SignalrMessagepack, Dialect::Raw];

#[test]
fn every_cut_gives_the_same_deliveries() {
    for dialect in DIALECTS {
        // The last length needs two fragments.
        for length in [64, 300, 2500] {
            let bytes: Vec<u8> = (0..3).flat_map(|sequence| message(dialect, &payload(sequence, length))).collect();
            for cut in 0..=bytes.len() {
                let (mut reader, mut carry) = (reader(dialect, length), Carry::new(Framing::frames(), false));
                let events = read_cut(&mut reader, &mut carry, &bytes, &[cut]);
                assert_eq!(events, deliveries(0..3, length), "{dialect} {length} cut at {cut}");
                assert!(carry.at_rest());
            }
            let (mut reader, mut carry) = (reader(dialect, length), Carry::new(Framing::frames(), false));
            let all: Vec<usize> = (1..bytes.len()).collect();
            assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &all), deliveries(0..3, length));
        }
    }
}

#[test]
fn several_hub_messages_in_one_websocket_message() {
    for dialect in [Dialect::SignalrJson, Dialect::SignalrMessagepack] {
        let format = dialect.format().expect("hub");
        let mut records = Vec::new();
        for sequence in 0..4 {
            records.extend(invocation(format, &payload(sequence, 700)));
            hub::encode::ping(format, &mut records);
        }
        let bytes = frame(dialect, &records);
        let mut want = Vec::new();
        for delivery in deliveries(0..4, 700) {
            want.extend([delivery, Other::HubPing.into()]);
        }
        for cut in 0..=bytes.len() {
            let (mut reader, mut carry) = (reader(dialect, 700), Carry::new(Framing::frames(), false));
            assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &[cut]), want, "{dialect} cut at {cut}");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_payload_is_noticed() {
    for dialect in DIALECTS {
        for at in 0..200 {
            let mut damaged = payload(1, 200);
            damaged[at] = if damaged[at] == b'x' { b'y' } else { b'x' };
            let mut bytes = message(dialect, &payload(0, 200));
            let second = bytes.len();
            bytes.extend(message(dialect, &damaged));
            bytes.extend(message(dialect, &payload(2, 200)));
            for cuts in [vec![], vec![second], vec![second + 60], (1..bytes.len()).collect()] {
                let (mut reader, mut carry) = (reader(dialect, 200), Carry::new(Framing::frames(), false));
                let events = read_cut(&mut reader, &mut carry, &bytes, &cuts);
                let named = (at >= HEAD_BYTES).then_some(head(1, 200));
                let want = [Event::Delivery(head(0, 200)), Event::Corrupt(named), Event::Delivery(head(2, 200))];
                assert_eq!(events, want, "{dialect} byte {at}");
            }
        }
    }
}

#[test]
fn whole_frames_need_no_decoder_and_others_are_left_to_it() {
    for dialect in DIALECTS {
        let (mut reader, mut carry) = (reader(dialect, 300), Carry::new(Framing::frames(), false));
        let bytes: Vec<u8> = (1..4).flat_map(|sequence| message(dialect, &payload(sequence, 300))).collect();
        let mut events = Vec::new();
        assert_eq!(reader.read_whole_frames(&bytes, &mut events), 0, "nothing is known yet");
        reader.read(&mut carry, &mut message(dialect, &payload(0, 300)), &mut events);
        assert_eq!(reader.read_whole_frames(&bytes, &mut events), bytes.len());
        assert_eq!(events, deliveries(0..4, 300), "{dialect}");

        let one = bytes.len() / 3;
        let mut ping = Vec::new();
        write_control(&mut ping, OpCode::Ping, b"");
        let with_ping = [&bytes[..one], &ping, &bytes[one..]].concat();
        assert_eq!(reader.read_whole_frames(&with_ping, &mut events), one, "up to what is not a delivery");
        assert_eq!(reader.read_whole_frames(&bytes[..one - 1], &mut events), 0, "a frame that is not whole");
        // FIN, the reserved bits, the opcode, MASK and the length: no bit of the header may differ.
        for bit in 0..32 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(reader.read_whole_frames(&other, &mut events), 0, "{dialect} bit {bit}");
        }
    }
}

#[test]
fn a_shortened_payload_is_corrupt() {
    for dialect in DIALECTS {
        let (mut reader, mut carry) = (reader(dialect, 200), Carry::new(Framing::frames(), false));
        let mut bytes = message(dialect, &payload(0, 200));
        bytes.extend(message(dialect, &payload(1, 200)[..199]));
        bytes.extend(message(dialect, &[payload(2, 200), b"x".to_vec()].concat()));
        let events = read_cut(&mut reader, &mut carry, &bytes, &[]);
        let corrupt = |sequence| Event::Corrupt(Some(head(sequence, 200)));
        assert_eq!(events, [Event::Delivery(head(0, 200)), corrupt(1), corrupt(2)], "{dialect}");
    }
}

#[test]
fn the_handshake_answer_may_share_a_frame_with_messages() {
    let mut bytes = b"{}\x1e".to_vec();
    bytes.extend(invocation(Format::Json, &payload(0, 80)));
    let bytes = frame(Dialect::SignalrJson, &bytes);
    for cut in 0..=bytes.len() {
        let (mut reader, mut carry) = (reader(Dialect::SignalrJson, 80), Carry::new(Framing::frames(), true));
        let events = read_cut(&mut reader, &mut carry, &bytes, &[cut]);
        assert_eq!(events, [Other::Handshake(Ok(())).into(), Event::Delivery(head(0, 80))]);
    }
    let refusal = frame(Dialect::SignalrJson, b"{\"error\":\"no\"}\x1e");
    let events =
        read_cut(&mut reader(Dialect::SignalrJson, 80), &mut Carry::new(Framing::frames(), true), &refusal, &[5]);
    assert_eq!(events, [Other::Handshake(Err("no".into())).into()]);
}

#[test]
fn control_frames_and_hub_messages_that_are_not_ours() {
    let mut bytes = Vec::new();
    write_control(&mut bytes, OpCode::Ping, b"hi");
    bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":3,\"invocationId\":\"1\",\"error\":\"no method\"}\x1e"));
    bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":3,\"invocationId\":\"1\",\"result\":null}\x1e"));
    bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":1,\"target\":\"x\",\"arguments\":[\"hello\"]}\x1e"));
    bytes.extend(frame(Dialect::SignalrJson, b"{\"type\":7,\"error\":\"bye\"}\x1e"));
    write_close(&mut bytes, Some(fanfare_protocol::error::CloseCode::GOING_AWAY), "later");
    let events =
        read_cut(&mut reader(Dialect::SignalrJson, 80), &mut Carry::new(Framing::frames(), false), &bytes, &[3, 9, 40]);
    let mut kinds = events.into_iter();
    assert!(
        matches!(kinds.next(), Some(Event::Other(other)) if matches!(&*other, Other::Ping(p) if p.as_slice() == b"hi"))
    );
    let want = [
        Other::Completion(Err("no method".into())),
        Other::Completion(Ok(None)),
        Other::Stranger,
        Other::HubClose(Some("bye".into())),
        Other::Close("1001 later".into()),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), want.map(Event::from));
}

#[test]
fn a_raw_server_may_keep_or_strip_the_prefix() {
    let via = Via::Message { prefix: "pub:".into(), binary: false };
    for keep in [true, false] {
        let mut reader = Reader::new(Dialect::Raw, Some(&via), RUN, 100, padding(100));
        let mut bytes = Vec::new();
        for sequence in 0..3 {
            let kept = if keep { b"pub:".as_slice() } else { b"" };
            bytes.extend(frame(Dialect::Raw, &[kept, &payload(sequence, 100)].concat()));
        }
        let mut carry = Carry::new(Framing::frames(), false);
        assert_eq!(read_cut(&mut reader, &mut carry, &bytes, &[120, 130]), deliveries(0..3, 100));
    }
}

#[test]
fn a_hub_message_over_two_websocket_messages_breaks_the_connection() {
    let record = invocation(Format::Json, &payload(0, 80));
    let mut bytes = frame(Dialect::SignalrJson, &record[..50]);
    bytes.extend(frame(Dialect::SignalrJson, &record[50..]));
    let events =
        read_cut(&mut reader(Dialect::SignalrJson, 80), &mut Carry::new(Framing::frames(), false), &bytes, &[]);
    assert!(matches!(&events[..], [Event::Other(other)] if matches!(**other, Other::Broken(_))), "{events:?}");
}

#[test]
fn payloads_of_another_run_are_strangers() {
    let mut reader = Reader::new(Dialect::Raw, None, RUN + 1, 100, padding(100));
    let bytes = message(Dialect::Raw, &payload(0, 100));
    let events = read_cut(&mut reader, &mut Carry::new(Framing::frames(), false), &bytes, &[]);
    assert_eq!(events, [Other::Stranger.into()]);
}

#[test]
fn a_call_of_another_method_is_not_a_delivery() {
    let via = Via::Invocation { method: "Broadcast".into(), target: "other".into(), arguments: Vec::new() };
    let mut reader = Reader::new(Dialect::SignalrJson, Some(&via), RUN, 100, padding(100));
    let bytes = message(Dialect::SignalrJson, &payload(0, 100));
    assert_eq!(read_cut(&mut reader, &mut Carry::new(Framing::frames(), false), &bytes, &[]), [Other::Stranger.into()]);
}

/// Random bytes and random damage: no panic, and never a delivery that was not sent.
#[test]
fn garbage_is_never_a_delivery() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let dialect = DIALECTS[(random.next_u64() % 3) as usize];
        let mut bytes: Vec<u8> = (0..3).flat_map(|s| message(dialect, &payload(s, 120))).collect();
        for _ in 0..1 + random.next_u64() % 4 {
            let at = (random.next_u64() % bytes.len() as u64) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        let mut cuts: Vec<usize> = (0..3).map(|_| (random.next_u64() % bytes.len() as u64) as usize).collect();
        cuts.sort_unstable();
        let (mut reader, mut carry) = (reader(dialect, 120), Carry::new(Framing::frames(), false));
        for event in read_cut(&mut reader, &mut carry, &bytes, &cuts) {
            if let Event::Delivery(found) = event {
                assert_eq!(found, head(found.sequence, 120), "seed {seed}");
                assert!(found.sequence < 3, "seed {seed}");
            }
        }
    }
}
