//! The HTTP upgrade that begins a WebSocket (RFC 6455 4), both roles.

use super::deflate::offer::Agreement;
use crate::cursor::Sink;
use crate::error::HttpError;
use crate::http::head::{BodyLength, RequestHead, ResponseHead, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a server appends to the key before hashing (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of a `Sec-WebSocket-Key`: 16 in base64.
const KEY_BYTES: usize = 24;

/// Bytes of a `Sec-WebSocket-Accept`: the 20 of a SHA-1 in base64.
const ACCEPT_BYTES: usize = 28;

/// Whether the request asks for a WebSocket: `websocket` is one of the protocols in its Upgrade header. Whether it asks
/// properly, [`check_upgrade`] tells.
#[must_use]
pub fn is_upgrade(head: &RequestHead<'_>) -> bool {
    head.header_has_token("upgrade", "websocket")
}

/// Checks a WebSocket upgrade and gives the `Sec-WebSocket-Accept` to answer with.
///
/// # Errors
/// The first rule of RFC 6455 4.2.1 the request breaks. Answers with status 426 should carry `Upgrade: websocket` and
/// `Sec-WebSocket-Version: 13` (RFC 6455 4.4, RFC 9110 15.5.22).
pub fn check_upgrade(head: &RequestHead<'_>) -> Result<[u8; ACCEPT_BYTES], HttpError> {
    if !is_upgrade(head) {
        return Err(HttpError::UpgradeMissing);
    }
    if head.method() != "GET" {
        return Err(HttpError::UpgradeMethod);
    }
    if head.version() != Version::Http11 {
        return Err(HttpError::UpgradeInHttp10);
    }
    if !head.header_has_token("connection", "upgrade") {
        return Err(HttpError::UpgradeConnection);
    }
    if !matches!(head.body_length(), BodyLength::None | BodyLength::Length(0)) {
        return Err(HttpError::UpgradeWithBody);
    }
    match head.header_only("sec-websocket-version", HttpError::WsVersionUnsupported)? {
        Some(b"13") => {}
        Some(_) => return Err(HttpError::WsVersionUnsupported),
        None => return Err(HttpError::WsVersionMissing),
    }
    let key = head.header_only("sec-websocket-key", HttpError::KeyRepeated)?.ok_or(HttpError::KeyMissing)?;
    if !is_key(key) {
        return Err(HttpError::KeyMalformed);
    }
    Ok(accept_key(key))
}

/// Whether `key` is 16 bytes in base64. The bits that do not matter in its last digit are not looked at, as nobody ever
/// decodes a key.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_BYTES && key[..KEY_BYTES - 2].iter().all(is_digit) && key.ends_with(b"==")
}

/// The `Sec-WebSocket-Accept` that proves a server has read `key`.
#[must_use]
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut accept = [0; ACCEPT_BYTES];
    let written = STANDARD.encode_slice(hash.digest().bytes(), &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_BYTES), "20 bytes are 28 base64 digits");
    accept
}

/// Writes the 101 that ends the upgrade; frames may follow at once. None of them is compressed.
pub fn write_switching_protocols<S: Sink + ?Sized>(sink: &mut S, accept: &[u8; ACCEPT_BYTES]) {
    put_switching_protocols(sink, accept, None);
}

/// The same with permessage-deflate as agreed: from here on frames are read with
/// [`super::deflate::decoder::DeflateDecoder`], and messages may be sent compressed.
pub fn write_switching_protocols_deflate<S: Sink + ?Sized>(
    sink: &mut S,
    accept: &[u8; ACCEPT_BYTES],
    agreement: Agreement,
) {
    put_switching_protocols(sink, accept, Some(agreement));
}

fn put_switching_protocols<S: Sink + ?Sized>(sink: &mut S, accept: &[u8; ACCEPT_BYTES], agreement: Option<Agreement>) {
    sink.put(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    sink.put(accept);
    sink.put(b"\r\n");
    if let Some(agreement) = agreement {
        agreement.put_field(sink);
    }
    sink.put(b"\r\n");
}

/// The `Sec-WebSocket-Key` for 16 random bytes.
#[must_use]
pub fn encode_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Writes the request for a WebSocket. `key` is that of [`encode_key`]; `headers` come on top and are cleaned as in
/// [`crate::http::response::write_head`]. Extensions must
/// not be asked for, as [`super::decoder::Decoder`] speaks none; but for
/// `("Sec-WebSocket-Extensions", deflate::offer::OFFER)`, if the answer is read with [`check_upgrade_response_deflate`].
pub fn write_upgrade_request<S: Sink + ?Sized>(
    sink: &mut S,
    target: &str,
    host: &str,
    key: &str,
    headers: &[(&str, &str)],
) {
    crate::http::request::write_line(sink, "GET", target);
    crate::http::put_field(sink, "Host", host);
    sink.put(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    crate::http::put_field(sink, "Sec-WebSocket-Key", key);
    for (name, value) in headers {
        crate::http::put_field(sink, name, value);
    }
    sink.put(b"\r\n");
}

/// Checks the answer to an upgrade that asked with `key` and for no extensions. A subprotocol is not looked at: whoever
/// asked for one knows which.
///
/// # Errors
/// The first rule of RFC 6455 4.1 the response breaks; [`HttpError::UpgradeRefused`] for any status but 101.
pub fn check_upgrade_response(head: &ResponseHead<'_>, key: &str) -> Result<(), HttpError> {
    check_switched(head, key)?;
    if head.header("sec-websocket-extensions").is_some() {
        return Err(HttpError::ExtensionNotOffered);
    }
    Ok(())
}

/// The same if [`super::deflate::offer::OFFER`] was asked for. Returns whether the server agreed to it, and frames are to
/// be read with [`super::deflate::decoder::DeflateDecoder`].
///
/// # Errors
/// As [`check_upgrade_response`], and those of [`super::deflate::offer::check_answer`].
pub fn check_upgrade_response_deflate(head: &ResponseHead<'_>, key: &str) -> Result<bool, HttpError> {
    check_switched(head, key)?;
    super::deflate::offer::check_answer(head)
}

/// All but the extensions.
fn check_switched(head: &ResponseHead<'_>, key: &str) -> Result<(), HttpError> {
    if head.status() != 101 {
        return Err(HttpError::UpgradeRefused);
    }
    if !head.header_has_token("upgrade", "websocket") || !head.header_has_token("connection", "upgrade") {
        return Err(HttpError::UpgradeNotEchoed);
    }
    match head.header_only("sec-websocket-accept", HttpError::AcceptMismatch)? {
        Some(accept) if accept == accept_key(key.as_bytes()) => Ok(()),
        _ => Err(HttpError::AcceptMismatch),
    }
}
