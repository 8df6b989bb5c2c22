//! Hub messages in both formats, the handshake, transcoding and negotiate.
#![allow(missing_docs)] // criterion's macros make items without docs

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_bench::inputs::{NO_LIMIT, arguments, invocation, lent, shapes};
use fanfare_protocol::cursor::{Count, Progress};
use fanfare_protocol::hub::transcode::transcode;
use fanfare_protocol::hub::{self, Arguments, Format, Payload, Raw, Value, encode, handshake};
use fanfare_protocol::negotiate::{self, Transport};

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub_decode");
    for format in Format::ALL {
        let mut bench = |what: &str, message: Vec<u8>| {
            group.throughput(Throughput::Bytes(message.len() as u64));
            group.bench_function(format!("{}/{what}", format.name()), |b| {
                b.iter(|| match hub::decode(format, black_box(&message), NO_LIMIT) {
                    Ok(Progress::Done(decoded, length)) => {
                        assert_eq!(length, message.len());
                        black_box(decoded);
                    }
                    other => panic!("one message, not {other:?}"),
                });
            });
        };
        for (what, values) in shapes() {
            bench(&format!("invocation/{what}"), invocation(format, &values));
        }
        let mut message = Vec::new();
        encode::ping(format, &mut message);
        bench("ping", message);
        let mut message = Vec::new();
        encode::completion_result(format, &mut message, "17", &Value::from("done")).expect("an ordinary value");
        bench("completion", message);
        let mut message = Vec::new();
        encode::stream_item(format, &mut message, "17", &Value::from(3)).expect("an ordinary value");
        bench("stream_item", message);
        let mut message = Vec::new();
        encode::close(format, &mut message, Some("going away"), true);
        bench("close", message);
    }
    group.finish();
}

fn binding(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub_bind");
    for format in Format::ALL {
        let message = invocation(format, &arguments(512, true));
        let arguments = lent(format, &message);
        let (text, records) = (argument(arguments, 0), argument(arguments, 1));
        group.throughput(Throughput::Bytes(text.bytes().len() as u64));
        group.bench_function(format!("{}/text", format.name()), |b| {
            b.iter(|| black_box(text).as_str().expect("a text").len());
        });
        group.throughput(Throughput::Bytes(records.bytes().len() as u64));
        group.bench_function(format!("{}/field_of_each_record", format.name()), |b| {
            b.iter(|| {
                let items = black_box(records).array().expect("a list");
                let fields = items.map(|record| record.field("id").expect("a record").expect("it has one"));
                let sum: i64 = fields.map(|field| field.as_i64().expect("a number")).sum();
                assert_eq!(sum, 190);
            });
        });
        group.bench_function(format!("{}/whole_value", format.name()), |b| {
            b.iter(|| black_box(records).value().expect("ordinary values"));
        });
    }
    group.finish();
}

fn argument(arguments: Arguments<'_>, index: usize) -> Raw<'_> {
    arguments.get(index).expect("two arguments were sent")
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub_encode");
    let mut out = Vec::with_capacity(1 << 16);
    for format in Format::ALL {
        for (what, values) in shapes() {
            let message = invocation(format, &values);
            group.throughput(Throughput::Bytes(message.len() as u64));
            let raw = Payload::Raw(lent(format, &message));
            for (source, payload) in [("values", Payload::Values(&values)), ("raw", raw)] {
                group.bench_function(format!("{}/invocation/{what}/{source}", format.name()), |b| {
                    b.iter(|| {
                        out.clear();
                        encode::invocation(format, &mut out, None, "receive", black_box(&payload)).expect("ordinary");
                        out.len()
                    });
                });
            }
        }
        let (message, values) = (invocation(format, &arguments(512, false)), arguments(512, false));
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(format!("{}/count/text_512", format.name()), |b| {
            b.iter(|| {
                let mut count = Count::default();
                let payload = Payload::Values(black_box(&values));
                encode::invocation(format, &mut count, None, "receive", &payload).expect("ordinary");
                assert_eq!(count.0, message.len());
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{}/completion_void", format.name()), |b| {
            b.iter(|| {
                out.clear();
                encode::completion_void(format, &mut out, black_box("17")).expect("a short id");
                out.len()
            });
        });
        group.bench_function(format!("{}/ping", format.name()), |b| {
            b.iter(|| {
                out.clear();
                encode::ping(black_box(format), &mut out);
                out.len()
            });
        });
        group.bench_function(format!("{}/close", format.name()), |b| {
            b.iter(|| {
                out.clear();
                encode::close(format, &mut out, black_box(Some("going away")), true);
                out.len()
            });
        });
    }
    group.finish();
}

fn transcoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub_transcode");
    let mut out = Vec::with_capacity(1 << 16);
    for (from, to) in [(Format::Json, Format::MessagePack), (Format::MessagePack, Format::Json)] {
        for (what, values) in shapes() {
            let message = invocation(from, &values);
            let bytes = lent(from, &message).bytes();
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(format!("{}_to_{}/{what}", from.name(), to.name()), |b| {
                b.iter(|| {
                    out.clear();
                    transcode(from, to, black_box(bytes), &mut out).expect("ordinary values");
                    out.len()
                });
            });
        }
    }
    group.finish();
}

fn opening(c: &mut Criterion) {
    const HANDSHAKE_BYTES_MAX: usize = 4096;
    let mut request = Vec::new();
    handshake::write_request(&mut request, Format::Json, 1);
    let mut group = c.benchmark_group("hub_handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse_and_check", |b| {
        b.iter(|| match handshake::parse(black_box(&request), HANDSHAKE_BYTES_MAX) {
            Ok(Progress::Done(request, _)) => request.check(true).expect("a served protocol"),
            other => panic!("a handshake, not {other:?}"),
        });
    });
    let mut out = Vec::with_capacity(1024);
    group.bench_function("write_request", |b| {
        b.iter(|| {
            out.clear();
            handshake::write_request(&mut out, black_box(Format::MessagePack), 1);
            out.len()
        });
    });
    group.finish();

    let transports = [Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling];
    let (id, token) = ("f3kQhZ1nQm2Y8v0aXb7cDw", "Zm9vYmFyYmF6cXV4MTIzNA");
    let mut group = c.benchmark_group("negotiate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse_query", |b| {
        b.iter(|| negotiate::parse_query(black_box("access_token=abc&negotiateVersion=1&useStatefulReconnect=true")));
    });
    group.bench_function("write_response", |b| {
        b.iter(|| {
            out.clear();
            negotiate::write_response(&mut out, 1, black_box(id), token, &transports, false);
            out.len()
        });
    });
    let mut answer = Vec::new();
    negotiate::write_response(&mut answer, 1, id, token, &transports, false);
    group.bench_function("parse_response", |b| {
        b.iter(|| assert!(negotiate::parse_response(black_box(&answer)).is_ok()));
    });
    group.finish();
}

criterion_group!(benches, decoding, binding, encoding, transcoding, opening);
criterion_main!(benches);
