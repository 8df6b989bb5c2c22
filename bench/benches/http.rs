//! HTTP/1.1 heads and bodies: what a connection costs before it is a WebSocket.
#![allow(missing_docs)] // criterion's macros make items without docs

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_bench::inputs::{SMALL_REQUEST, browser_upgrade, chunked};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{BodyLength, HeadLimits, parse_request, parse_response};
use fanfare_protocol::http::response;

fn heads(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let upgrade = browser_upgrade();
    let mut group = c.benchmark_group("http_head");
    for (name, bytes) in [("small", SMALL_REQUEST), ("browser_upgrade", &upgrade[..])] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("request/{name}"), |b| {
            b.iter(|| match parse_request(black_box(bytes), &limits) {
                Ok(Progress::Done(head, length)) => (head.path().len(), length),
                _ => panic!("a correct head"),
            });
        });
    }
    // The last byte is missing: what a head cut by the network costs each time.
    let cut = &upgrade[..upgrade.len() - 1];
    group.throughput(Throughput::Bytes(cut.len() as u64));
    group.bench_function("request/browser_upgrade_cut", |b| {
        b.iter(|| assert!(matches!(parse_request(black_box(cut), &limits), Ok(Progress::NeedMore))));
    });

    let mut answer = Vec::new();
    response::write(&mut answer, 200, &[("Content-Type", "application/json")], b"{}");
    let head_bytes = answer.len() - 2;
    group.throughput(Throughput::Bytes(head_bytes as u64));
    group.bench_function("response/parse", |b| {
        b.iter(|| match parse_response(black_box(&answer), &limits) {
            Ok(Progress::Done(head, length)) => (head.keep_alive(), length),
            _ => panic!("a correct head"),
        });
    });
    group.throughput(Throughput::Bytes(answer.len() as u64));
    let mut out = Vec::with_capacity(answer.len());
    group.bench_function("response/write", |b| {
        b.iter(|| {
            out.clear();
            response::write(&mut out, black_box(200), &[("Content-Type", "application/json")], black_box(b"{}"));
            out.len()
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    const BODY_BYTES: usize = 64 * 1024;
    let plain = vec![b'x'; BODY_BYTES];
    let chunked = chunked(&plain);
    let mut group = c.benchmark_group("http_body");
    group.throughput(Throughput::Bytes(BODY_BYTES as u64));
    for (name, length, bytes) in
        [("length", BodyLength::Length(BODY_BYTES as u64), &plain), ("chunked_1k", BodyLength::Chunked, &chunked)]
    {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut decoder = BodyDecoder::new(length, BODY_BYTES);
                let (mut rest, mut data_bytes) = (black_box(&bytes[..]), 0);
                while !decoder.is_done() {
                    let piece = decoder.handle_bytes(rest).expect("a correct body");
                    data_bytes += piece.data.len();
                    rest = &rest[piece.consumed..];
                }
                assert_eq!(data_bytes, BODY_BYTES);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
