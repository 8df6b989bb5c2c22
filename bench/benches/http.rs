//! HTTP/1.1 heads and bodies: what a connection costs before it is a WebSocket.
#![allow(missing_docs)] // criterion's macros make items without docs

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{BodyLength, HeadLimits, parse_request, parse_response};
use fanfare_protocol::http::response;

/// What Chromium sends to open a WebSocket, with an access token of usual length in the target.
fn browser_upgrade() -> Vec<u8> {
    let token = "abcdefgh".repeat(60);
    format!(
        "GET /hub?id=Zm9vYmFyYmF6cXV4MTIzNA&access_token={token} HTTP/1.1\r\nHost: app.example.com\r\n\
         Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
         x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
         Origin: https://app.example.com\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Accept-Language: en-US,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
    .into_bytes()
}

const SMALL_REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

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
    const CHUNK_BYTES: usize = 1024;
    let plain = vec![b'x'; BODY_BYTES];
    let mut chunked = Vec::new();
    for chunk in plain.chunks(CHUNK_BYTES) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
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
