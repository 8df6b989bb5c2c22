//! Smoke.
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::encode::write_masked_message;

#[test]
fn one_message() {
    let mut bytes = Vec::new();
    write_masked_message(&mut bytes, DataKind::Text, b"hello", [1, 2, 3, 4]);
    let mut decoder = Decoder::new(Role::Server);
    let mut frames = decoder.handle_bytes(&mut bytes);
    let Some(Ok(Event::Data { payload, first, fin, .. })) = frames.next() else { panic!("data") };
    assert_eq!(payload, b"hello");
    assert!(first && fin);
    assert!(frames.next().is_none());
    assert!(decoder.at_rest());
}
