//! Promise: a body ends where its head says, wherever it was cut, and never grows beyond its limit.

mod http_ws;

use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::body::{BodyDecoder, CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
use fanfare_protocol::http::fuzz::fuzz_body;
use fanfare_protocol::http::head::BodyLength;
use http_ws::{Random, every_cut};

/// Decodes `pieces`: data, bytes taken in all, and whether the body ended.
fn decode(length: BodyLength, body_bytes_max: usize, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), HttpError> {
    let mut decoder = BodyDecoder::new(length, body_bytes_max);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        loop {
            let got = decoder.handle_bytes(&piece[at..])?;
            data.extend_from_slice(got.data);
            at += got.consumed;
            taken += got.consumed;
            if got.done {
                return Ok((data, taken, true));
            }
            if at == piece.len() {
                break;
            }
        }
    }
    Ok((data, taken, decoder.is_done()))
}

/// `body` is a whole body with this data, and the next message after it is left alone.
fn chunked(body: &[u8], data: &[u8]) {
    every_cut(&[body, b"next"].concat(), |pieces| {
        let decoded = decode(BodyLength::Chunked, 1000, pieces);
        assert_eq!(decoded, Ok((data.to_vec(), body.len(), true)), "{}", body.escape_ascii());
    });
}

fn refused(stream: impl AsRef<[u8]>, error: HttpError) {
    every_cut(stream.as_ref(), |pieces| {
        let verdict = decode(BodyLength::Chunked, 1000, pieces);
        assert_eq!(verdict, Err(error), "{}", stream.as_ref().escape_ascii());
    });
}

#[test]
fn no_body() {
    assert_eq!(decode(BodyLength::None, 0, &[b"next"]), Ok((vec![], 0, true)));
    assert_eq!(decode(BodyLength::Length(0), 0, &[b"next"]), Ok((vec![], 0, true)));
    assert_eq!(BodyDecoder::new(BodyLength::None, 0).handle_bytes(b"").map(|piece| piece.done), Ok(true));
}

#[test]
fn content_length() {
    every_cut(b"hello+next", |pieces| {
        assert_eq!(decode(BodyLength::Length(5), 5, pieces), Ok((b"hello".to_vec(), 5, true)));
        assert_eq!(decode(BodyLength::Length(20), 20, pieces), Ok((b"hello+next".to_vec(), 10, false)));
    });
    let mut decoder = BodyDecoder::new(BodyLength::Length(5), 4);
    assert_eq!(decoder.handle_bytes(b""), Err(HttpError::BodyTooLong), "before a byte of it");
    assert_eq!(BodyDecoder::new(BodyLength::Length(u64::MAX), 4).handle_bytes(b"x"), Err(HttpError::BodyTooLong));
    assert_eq!(HttpError::BodyTooLong.status(), 413);
}

#[test]
fn chunks() {
    chunked(b"0\r\n\r\n", b"");
    chunked(b"5\r\nhello\r\n0\r\n\r\n", b"hello");
    chunked(b"1\r\na\r\n00b\r\nhello world\r\nA\r\n0123456789\r\n000\r\n\r\n", b"ahello world0123456789");
    chunked(b"5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n", b"hello");
    chunked(b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n");
    chunked(b"0\r\nTrailer: a\r\nOther: \xE9\r\n\r\n", b"");
    chunked(b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x");
}

#[test]
fn framing_after_data_is_taken_along() {
    // One call sees the end of a body that fits one buffer.
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, 10);
    let piece = decoder.handle_bytes(b"5\r\nhello\r\n0\r\n\r\nnext").expect("a good body");
    assert_eq!((piece.data, piece.consumed, piece.done), (&b"hello"[..], 15, true));
}

#[test]
fn bad_chunk_sizes() {
    refused("\r\n", HttpError::ChunkSizeMissing);
    refused(";x\r\n", HttpError::ChunkSizeMissing);
    refused("1\r\na\r\n\r\n", HttpError::ChunkSizeMissing);
    for bad in ["x\r\n", "-1\r\n", "+1\r\n", " 1\r\n", "1 \r\n", "0x1\r\n", "1g\r\n", "1_0\r\n", "\0\r\n", "\u{b2}\r\n"]
    {
        refused(bad, HttpError::ChunkSizeMalformed);
    }
    refused("00000000000000001\r\n", HttpError::ChunkSizeTooLarge);
    refused("FFFFFFFFFFFFFFFF1\r\n", HttpError::ChunkSizeTooLarge);
    refused("FFFFFFFFFFFFFFFF\r\n", HttpError::BodyTooLong);
    refused("1\n", HttpError::ChunkLineEnd);
    refused("1\rx", HttpError::ChunkLineEnd);
    refused("1;a\n", HttpError::ChunkLineEnd);
    refused("1;a\rb", HttpError::ChunkLineEnd);
    refused("1;a\0b\r\n", HttpError::ChunkExtensionMalformed);
}

#[test]
fn chunk_data_ends_where_it_says() {
    refused("1\r\nab\r\n", HttpError::ChunkDataEnd);
    refused("1\r\na\n0\r\n\r\n", HttpError::ChunkDataEnd);
    refused("1\r\na\rx", HttpError::ChunkDataEnd);
}

#[test]
fn bodies_end_at_their_limit() {
    let stream = [b"3e8\r\n", &[b'a'; 1000][..], b"\r\n1\r\n"].concat();
    refused(&stream, HttpError::BodyTooLong);
    let stream = [b"3e8\r\n", &[b'a'; 1000][..], b"\r\n0\r\n\r\n"].concat();
    chunked(&stream, &[b'a'; 1000]);
}

#[test]
fn extensions_and_trailers_end_at_their_limit() {
    let max = usize::from(CHUNK_EXTENSION_BYTES_MAX);
    let fits = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(max - 1));
    assert_eq!(decode(BodyLength::Chunked, 9, &[fits.as_bytes()]).map(|body| body.2), Ok(true));
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(max));
    assert_eq!(decode(BodyLength::Chunked, 9, &[long.as_bytes()]), Err(HttpError::ChunkExtensionTooLong));
    // Many chunks with a little each are no way around it.
    let many = format!("{}0\r\n\r\n", "1;xxxxxxx\r\na\r\n".repeat(max / 8 + 1));
    assert_eq!(decode(BodyLength::Chunked, 1 << 20, &[many.as_bytes()]), Err(HttpError::ChunkExtensionTooLong));

    let max = usize::from(TRAILER_BYTES_MAX);
    let fits = format!("0\r\nX: {}\r\n\r\n", "y".repeat(max - 5));
    assert_eq!(decode(BodyLength::Chunked, 9, &[fits.as_bytes()]).map(|body| body.2), Ok(true));
    for long in [format!("0\r\nX: {}\r\n\r\n", "y".repeat(max - 4)), format!("0\r\n{}", "a:\r\n".repeat(max))] {
        assert_eq!(decode(BodyLength::Chunked, 9, &[long.as_bytes()]), Err(HttpError::TrailersTooLong));
    }
    for bad in ["0\r\nX: \0\r\n\r\n", "0\r\n\n", "0\r\nX: y\n\r\n", "0\r\nX\rY\r\n\r\n", "0\r\n\rx", "0\r\nX\r\n\x7F"] {
        refused(bad, HttpError::TrailerMalformed);
    }
}

#[test]
fn random_bodies_read_as_the_rfc_says() {
    let words: [&[u8]; 14] =
        [b"0", b"1", b"5", b"a", b"\r\n", b"\r\n", b"\r", b"\n", b";x=y", b"hello", b"0\r\n\r\n", b"F", b" ", b"\0"];
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mut bytes = vec![random.next() as u8, random.next() as u8];
        for _ in 0..random.below(14) {
            bytes.extend_from_slice(words[random.below(words.len())]);
        }
        let shown = std::panic::catch_unwind(|| fuzz_body(&bytes));
        assert!(shown.is_ok(), "seed {seed}: {}", bytes.escape_ascii());
    }
}
