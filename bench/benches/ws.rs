//! WebSocket upgrade and frames, both roles.
#![allow(missing_docs)] // criterion's macros make items without docs

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_bench::inputs::{MASK, framed, text_beyond_ascii};
use fanfare_protocol::cursor::{Progress, Sink};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::http::head::{HeadLimits, parse_request, parse_response};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::{self, MessageWriter};
use fanfare_protocol::ws::{DataKind, OpCode, handshake};

const SIZES: [usize; 4] = [16, 512, 2044, 65_536];
/// Bytes a decoder gets at once where the input is cut, as from the engine's receive buffers.
const PIECE_BYTES: usize = 4096;

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

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("ws_decode");
    let mut bench = |name: String, role: Role, frames: Vec<u8>, payload_bytes: usize, piece_bytes: usize| {
        group.throughput(Throughput::Bytes(frames.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || frames.clone(),
                |bytes| assert_eq!(decode(role, bytes, piece_bytes), payload_bytes),
                BatchSize::SmallInput,
            );
        });
    };
    for kind in [DataKind::Text, DataKind::Binary] {
        for size in SIZES {
            let mut frames = Vec::new();
            encode::write_masked_message(&mut frames, kind, &vec![b'x'; size], MASK);
            bench(format!("masked/{kind:?}/{size}"), Role::Server, frames, size, usize::MAX);
        }
    }
    // Text beyond ASCII takes the longer way through the UTF-8 check.
    let text = text_beyond_ascii();
    let mut frames = Vec::new();
    encode::write_masked_message(&mut frames, DataKind::Text, text.as_bytes(), MASK);
    bench(format!("masked/Text/{}_not_ascii", text.len()), Role::Server, frames.clone(), text.len(), usize::MAX);
    bench(format!("masked/Text/{}_in_pieces", text.len()), Role::Server, frames, text.len(), PIECE_BYTES);

    let mut frames = Vec::new();
    (0..64).for_each(|_| encode::write_masked_message(&mut frames, DataKind::Text, &[b'x'; 64], MASK));
    bench("masked/Text/64_x_64".to_owned(), Role::Server, frames, 64 * 64, usize::MAX);
    let mut frames = Vec::new();
    encode::write_masked_control(&mut frames, OpCode::Ping, b"12345678", MASK);
    bench("masked/Ping".to_owned(), Role::Server, frames, 8, usize::MAX);
    for size in SIZES {
        let frames = framed(DataKind::Text, &vec![b'x'; size]);
        bench(format!("unmasked/Text/{size}"), Role::Client, frames, size, usize::MAX);
    }
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("ws_encode");
    let mut out = Vec::with_capacity(2 * SIZES[SIZES.len() - 1]);
    for size in SIZES {
        let payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(encode::message_len(size) as u64));
        group.bench_function(format!("message/{size}"), |b| {
            b.iter(|| {
                out.clear();
                let mut writer = MessageWriter::new(&mut out, DataKind::Text, payload.len());
                writer.put(black_box(&payload));
                writer.finish().len()
            });
        });
        group.bench_function(format!("masked_message/{size}"), |b| {
            b.iter(|| {
                out.clear();
                encode::write_masked_message(&mut out, DataKind::Text, black_box(&payload), MASK);
                out.len()
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("ping", |b| {
        b.iter(|| {
            out.clear();
            encode::write_control(&mut out, OpCode::Ping, black_box(b"12345678"));
            out.len()
        });
    });
    group.bench_function("close", |b| {
        b.iter(|| {
            out.clear();
            encode::write_close(&mut out, black_box(Some(CloseCode::GOING_AWAY)), "bye");
            out.len()
        });
    });
    group.finish();
}

fn upgrading(c: &mut Criterion) {
    let key = handshake::encode_key([7; 16]);
    let mut request = Vec::new();
    handshake::write_upgrade_request(&mut request, "/hub?id=x", "localhost", &key, &[]);
    let limits = HeadLimits::default();
    let Ok(Progress::Done(head, _)) = parse_request(&request, &limits) else { panic!("a correct head") };
    let mut answer = Vec::new();
    let accept = handshake::check_upgrade(&head).expect("a correct upgrade");
    handshake::write_switching_protocols(&mut answer, &accept);
    let Ok(Progress::Done(answer_head, _)) = parse_response(&answer, &limits) else { panic!("a correct head") };

    let mut group = c.benchmark_group("ws_handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("server_check", |b| b.iter(|| handshake::check_upgrade(black_box(&head))));
    let mut out = Vec::with_capacity(512);
    group.bench_function("server_parse_check_answer", |b| {
        b.iter(|| {
            let Ok(Progress::Done(head, _)) = parse_request(black_box(&request), &limits) else { panic!("correct") };
            let accept = handshake::check_upgrade(&head).expect("a correct upgrade");
            out.clear();
            handshake::write_switching_protocols(&mut out, &accept);
            out.len()
        });
    });
    group.bench_function("client_write_request", |b| {
        b.iter(|| {
            out.clear();
            handshake::write_upgrade_request(&mut out, "/hub?id=x", "localhost", black_box(&key), &[]);
            out.len()
        });
    });
    group.bench_function("client_check_answer", |b| {
        b.iter(|| handshake::check_upgrade_response(black_box(&answer_head), &key));
    });
    group.finish();
}

criterion_group!(benches, decoding, encoding, upgrading);
criterion_main!(benches);
