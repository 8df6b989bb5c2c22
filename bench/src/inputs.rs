//! What the benches and the instruction counts feed to parsers and encoders: the same bytes for both.

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::hub::{self, Arguments, Format, Message, Payload, Value, encode};
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::MessageWriter;

/// As in a hub that takes messages of any size.
pub const NO_LIMIT: usize = 0;
/// The mask of every masked frame.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The head of a health check.
pub const SMALL_REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// What Chromium sends to open a WebSocket, with an access token of usual length in the target.
pub fn browser_upgrade() -> Vec<u8> {
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

/// `body` as chunks of 1 KiB.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunked = Vec::new();
    for chunk in body.chunks(1024) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked
}

/// 80 KiB of text beyond ASCII, which takes the longer way through the UTF-8 check.
pub fn text_beyond_ascii() -> String {
    "gr\u{fc}\u{df}e, \u{4e16}\u{754c} ".repeat(4096)
}

/// 2 KB of text, somewhat as applications write it, for compression.
pub fn quotes() -> String {
    (0..34)
        .map(|n| format!("symbol {n:03} bid {:06} ask {:06} volume {:08}; ", n * 7_919, n * 7_927, n * 104_729))
        .collect()
}

/// A message as a server sends it.
pub fn framed(kind: DataKind, payload: &[u8]) -> Vec<u8> {
    use fanfare_protocol::cursor::Sink;
    let mut writer = MessageWriter::new(Vec::new(), kind, payload.len());
    writer.put(payload);
    writer.finish()
}

/// Arguments as applications have them: a text of `text_bytes`, and where `nested` a list of small records.
pub fn arguments(text_bytes: usize, nested: bool) -> Vec<Value> {
    let mut arguments = vec![Value::from("x".repeat(text_bytes))];
    if nested {
        let record = |index: i64| {
            Value::object([
                ("id", Value::from(index)),
                ("symbol", Value::from("MSFT")),
                ("price", Value::from(412.25)),
                ("note", Value::from("gr\u{fc}\u{df}e \"quoted\"\n")),
                ("open", Value::from(index % 2 == 0)),
            ])
        };
        arguments.push(Value::Array((0..20).map(record).collect()));
    }
    arguments
}

/// The shapes of invocations: name and arguments.
pub fn shapes() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("text_16", arguments(16, false)),
        ("text_512", arguments(512, false)),
        ("text_16k", arguments(16 * 1024, false)),
        ("records", arguments(16, true)),
    ]
}

/// A call of the client method `receive`.
pub fn invocation(format: Format, values: &[Value]) -> Vec<u8> {
    let mut message = Vec::new();
    encode::invocation(format, &mut message, None, "receive", &Payload::Values(values)).expect("ordinary values");
    message
}

/// The arguments of an encoded invocation, as a client's message lends them.
///
/// # Panics
/// If `message` is no invocation.
pub fn lent(format: Format, message: &[u8]) -> Arguments<'_> {
    match hub::decode(format, message, NO_LIMIT) {
        Ok(Progress::Done(Message::Invocation { arguments, .. }, _)) => arguments,
        other => panic!("an invocation, not {other:?}"),
    }
}
