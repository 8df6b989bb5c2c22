//! Meaning to bytes. One operation is one message, event or answer, as the name says.

use super::Case;
use super::meter::Meter;
use crate::inputs::{MASK, arguments, invocation, lent, shapes};
use fanfare_protocol::cursor::{Count, Sink};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::http::response;
use fanfare_protocol::hub::transcode::transcode;
use fanfare_protocol::hub::{Format, Payload, encode};
use fanfare_protocol::negotiate::{self, Transport};
use fanfare_protocol::sse::EventWriter;
use fanfare_protocol::ws::encode::{self as ws_encode, MessageWriter};
use fanfare_protocol::ws::{DataKind, OpCode, handshake};
use std::hint::black_box;

/// Operations of each case. A multiple of 20, so that 5 % of them are whole ones.
const ITERATIONS: u32 = 100;
/// Room that no case outgrows.
const OUT_BYTES: usize = 1 << 18;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    frames(&mut cases);
    messages(&mut cases);
    transcoding(&mut cases);
    http(&mut cases);
    cases
}

/// A case that writes the same bytes over and over into one buffer.
fn writing(name: impl Into<String>, write: impl Fn(&mut Vec<u8>) + 'static) -> Case {
    Case::new(name, move |meter: &mut Meter| {
        let mut out = Vec::with_capacity(OUT_BYTES);
        meter.repeat(ITERATIONS, || {
            out.clear();
            write(&mut out);
            assert!(!black_box(&out).is_empty());
        });
    })
}

fn frames(cases: &mut Vec<Case>) {
    // 2,044 bytes of payload are one frame; 64 KiB are 33 fragments.
    for (name, size) in [("16", 16), ("512", 512), ("2044", 2044), ("64k", 65_536)] {
        let payload = vec![b'x'; size];
        cases.push(writing(format!("ws/encode/{name}"), move |out| {
            let mut writer = MessageWriter::new(out, DataKind::Text, payload.len());
            writer.put(black_box(&payload));
            writer.finish();
        }));
    }
    cases.push(writing("ws/encode/masked_512", |out| {
        ws_encode::write_masked_message(out, DataKind::Text, black_box(&[b'x'; 512]), MASK);
    }));
    cases.push(writing("ws/encode/16_pings", |out| {
        (0..16).for_each(|_| ws_encode::write_control(out, OpCode::Ping, black_box(b"12345678")));
    }));
    cases.push(writing("ws/encode/close", |out| {
        ws_encode::write_close(out, black_box(Some(CloseCode::GOING_AWAY)), "bye");
    }));
    cases.push(writing("ws/encode/upgrade_request", |out| {
        handshake::write_upgrade_request(out, "/hub?id=x", "localhost", black_box("dGhlIHNhbXBsZSBub25jZQ=="), &[]);
    }));
}

fn messages(cases: &mut Vec<Case>) {
    for format in Format::ALL {
        let name = format.name();
        for (what, values) in shapes() {
            let message = invocation(format, &values);
            cases.push(writing(format!("hub/{name}/encode/{what}"), move |out| {
                let payload = Payload::Values(black_box(&values));
                encode::invocation(format, out, None, "receive", &payload).expect("ordinary");
            }));
            cases.push(writing(format!("hub/{name}/encode/{what}_as_it_came"), move |out| {
                let payload = Payload::Raw(lent(format, black_box(&message)));
                encode::invocation(format, out, None, "receive", &payload).expect("ordinary");
            }));
        }
        cases.push(Case::new(format!("hub/{name}/count/records"), move |meter: &mut Meter| {
            let values = arguments(16, true);
            let length = invocation(format, &values).len();
            meter.repeat(ITERATIONS, || {
                let mut count = Count::default();
                let payload = Payload::Values(black_box(&values));
                encode::invocation(format, &mut count, None, "receive", &payload).expect("ordinary");
                assert_eq!(count.0, length);
            });
        }));
        cases.push(writing(format!("hub/{name}/encode/completion_void"), move |out| {
            encode::completion_void(format, out, black_box("17")).expect("a short id");
        }));
        cases.push(writing(format!("hub/{name}/encode/16_pings"), move |out| {
            (0..16).for_each(|_| encode::ping(black_box(format), out));
        }));
        cases.push(writing(format!("hub/{name}/encode/close"), move |out| {
            encode::close(format, out, black_box(Some("going away")), true);
        }));
    }
    for (what, values) in shapes() {
        let message = invocation(Format::Json, &values);
        cases.push(writing(format!("sse/wrap/{what}"), move |out| {
            let mut event = EventWriter::new(out);
            event.put(black_box(&message));
            event.finish();
        }));
    }
}

fn transcoding(cases: &mut Vec<Case>) {
    for (from, to) in [(Format::Json, Format::MessagePack), (Format::MessagePack, Format::Json)] {
        for (what, values) in shapes() {
            let message = invocation(from, &values);
            cases.push(writing(format!("hub/{}_to_{}/{what}", from.name(), to.name()), move |out| {
                transcode(from, to, black_box(lent(from, &message).bytes()), out).expect("ordinary values");
            }));
        }
    }
}

fn http(cases: &mut Vec<Case>) {
    cases.push(writing("http/response", |out| {
        response::write(out, black_box(200), &[("Content-Type", "application/json")], black_box(b"{}"));
    }));
    cases.push(writing("negotiate/answer", |out| {
        let transports = [Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling];
        negotiate::write_response(out, 1, black_box("f3kQhZ1nQm2Y8v0aXb7cDw"), "Zm9vYmFyYmF6", &transports, false);
    }));
}
