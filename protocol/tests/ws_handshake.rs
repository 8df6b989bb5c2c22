//! Promise: exactly the upgrades RFC 6455 allows are answered, and a client believes exactly the answers it should.

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::head::{HeadLimits, RequestHead, ResponseHead, parse_request, parse_response};
use fanfare_protocol::ws::handshake::{
    accept_key, check_upgrade, check_upgrade_response, encode_key, is_upgrade, write_switching_protocols,
    write_upgrade_request,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn request(text: &str) -> RequestHead<'_> {
    match parse_request(text.as_bytes(), &HeadLimits::default()) {
        Ok(Progress::Done(head, _)) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn response(text: &str) -> ResponseHead<'_> {
    match parse_response(text.as_bytes(), &HeadLimits::default()) {
        Ok(Progress::Done(head, _)) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn verdict(from: &str, to: &str) -> Result<[u8; 28], HttpError> {
    assert!(GOOD.contains(from), "{from}");
    check_upgrade(&request(&GOOD.replace(from, to)))
}

#[test]
fn the_example_of_rfc_6455_1_3() {
    assert_eq!(&accept_key(KEY.as_bytes()), ACCEPT);
    assert!(is_upgrade(&request(GOOD)));
    assert_eq!(check_upgrade(&request(GOOD)).as_ref(), Ok(ACCEPT));
    assert_eq!(encode_key(*b"the sample nonce"), KEY);
    let mut bytes = Vec::new();
    write_switching_protocols(&mut bytes, ACCEPT);
    assert_eq!(
        bytes,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn what_real_clients_send_is_accepted() {
    for (from, to) in [
        ("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("Connection: Upgrade", "connection: KEEP-ALIVE\r\nConnection: uPGRADE"),
        ("Upgrade: websocket", "Upgrade: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"),
        // The unused bits of the last digit are set.
        ("ZQ==", "ZR=="),
    ] {
        assert!(verdict(from, to).is_ok(), "{to}");
    }
}

#[test]
fn bad_upgrades() {
    for (from, to, error, status) in [
        ("Upgrade: websocket\r\n", "", HttpError::UpgradeMissing, 426),
        ("Upgrade: websocket", "Upgrade: websockets", HttpError::UpgradeMissing, 426),
        ("GET", "POST", HttpError::UpgradeMethod, 400),
        ("HTTP/1.1", "HTTP/1.0", HttpError::UpgradeInHttp10, 400),
        ("Connection: Upgrade\r\n", "", HttpError::UpgradeConnection, 400),
        ("Connection: Upgrade", "Connection: keep-alive", HttpError::UpgradeConnection, 400),
        ("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n", HttpError::UpgradeWithBody, 400),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", HttpError::UpgradeWithBody, 400),
        ("Sec-WebSocket-Version: 13\r\n", "", HttpError::WsVersionMissing, 400),
        ("Version: 13", "Version: 8", HttpError::WsVersionUnsupported, 426),
        ("Version: 13", "Version: 13, 8", HttpError::WsVersionUnsupported, 426),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", HttpError::WsVersionUnsupported, 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", HttpError::KeyMissing, 400),
        ("Host: h", "Host: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", HttpError::KeyRepeated, 400),
        (KEY, "", HttpError::KeyMalformed, 400),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ=", HttpError::KeyMalformed, 400),
        (KEY, "dGhlIHNhbXBsZSBub25jZQQQ", HttpError::KeyMalformed, 400),
        (KEY, "dGhlIHNhbXBsZSBub25jZ===", HttpError::KeyMalformed, 400),
        (KEY, "dGhlIHNhbXBsZSBub25j!Q==", HttpError::KeyMalformed, 400),
        (KEY, "dGhlIHNhbXBsZSBub25j-Q==", HttpError::KeyMalformed, 400),
    ] {
        assert_eq!(verdict(from, to), Err(error), "{to}");
        assert_eq!(error.status(), status);
    }
}

#[test]
fn our_own_request_is_a_good_one() {
    let mut bytes = Vec::new();
    write_upgrade_request(&mut bytes, "/chat?id=1", "push.example:80", KEY, &[("Authorization", "Bearer T")]);
    let text = String::from_utf8(bytes).expect("ASCII");
    let head = request(&text);
    assert_eq!(check_upgrade(&head).as_ref(), Ok(ACCEPT));
    assert_eq!((head.target(), head.header("host")), ("/chat?id=1", Some(&b"push.example:80"[..])));
    assert_eq!(head.header("authorization"), Some(&b"Bearer T"[..]));
}

#[test]
fn answers_to_an_upgrade() {
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(check_upgrade_response(&response(good), KEY), Ok(()));
    for (from, to, error) in [
        ("101", "200", HttpError::UpgradeRefused),
        ("101 Switching Protocols", "404 Not Found", HttpError::UpgradeRefused),
        ("Upgrade: WebSocket", "Upgrade: h2c", HttpError::UpgradeNotEchoed),
        ("Connection: upgrade", "Connection: close", HttpError::UpgradeNotEchoed),
        ("s3pP", "S3pP", HttpError::AcceptMismatch),
        ("Sec-WebSocket-Accept", "X", HttpError::AcceptMismatch),
        ("\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n", HttpError::AcceptMismatch),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", HttpError::ExtensionNotOffered),
    ] {
        assert_eq!(check_upgrade_response(&response(&good.replace(from, to)), KEY), Err(error), "{to}");
    }
    assert_eq!(check_upgrade_response(&response(good), "another key"), Err(HttpError::AcceptMismatch));
}
