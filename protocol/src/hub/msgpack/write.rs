//! MessagePack out: every head in its shortest form (spec 5.4).

use rmp::encode;

use crate::cursor::Sink;
use crate::hub::timestamp::Timestamp;

/// The extension type of timestamps (MessagePack specification, "Timestamp extension type").
pub(crate) const TIMESTAMP_EXT: i8 = -1;

/// The longest head: a marker and eight bytes.
const HEAD_BYTES_MAX: usize = 9;

/// Writes a head with `rmp` and puts it in one piece. `write` gets [`HEAD_BYTES_MAX`] bytes of room, which every head
/// fits in, so its result is of no interest.
fn head<S: Sink + ?Sized, R>(sink: &mut S, write: impl FnOnce(&mut &mut [u8]) -> R) {
    let mut room = [0u8; HEAD_BYTES_MAX];
    let mut rest = &mut room[..];
    write(&mut rest);
    let written = HEAD_BYTES_MAX - rest.len();
    sink.put(&room[..written]);
}

pub(crate) fn nil<S: Sink + ?Sized>(sink: &mut S) {
    sink.put(&[rmp::Marker::Null.to_u8()]);
}

pub(crate) fn boolean<S: Sink + ?Sized>(sink: &mut S, value: bool) {
    let marker = if value { rmp::Marker::True } else { rmp::Marker::False };
    sink.put(&[marker.to_u8()]);
}

pub(crate) fn integer<S: Sink + ?Sized>(sink: &mut S, value: i64) {
    head(sink, |room| encode::write_sint(room, value));
}

pub(crate) fn unsigned<S: Sink + ?Sized>(sink: &mut S, value: u64) {
    head(sink, |room| encode::write_uint(room, value));
}

pub(crate) fn float<S: Sink + ?Sized>(sink: &mut S, value: f64) {
    head(sink, |room| encode::write_f64(room, value));
}

/// False, and nothing written, when the text is longer than the format allows (2^32-1 bytes).
#[must_use]
pub(crate) fn string<S: Sink + ?Sized>(sink: &mut S, text: &str) -> bool {
    let Ok(length) = u32::try_from(text.len()) else { return false };
    head(sink, |room| encode::write_str_len(room, length));
    sink.put(text.as_bytes());
    true
}

/// False, and nothing written, when the data is longer than the format allows (2^32-1 bytes).
#[must_use]
pub(crate) fn binary<S: Sink + ?Sized>(sink: &mut S, bytes: &[u8]) -> bool {
    let Ok(length) = u32::try_from(bytes.len()) else { return false };
    head(sink, |room| encode::write_bin_len(room, length));
    sink.put(bytes);
    true
}

/// False, and nothing written, when the data is longer than the format allows (2^32-1 bytes).
#[must_use]
pub(crate) fn extension<S: Sink + ?Sized>(sink: &mut S, kind: i8, bytes: &[u8]) -> bool {
    let Ok(length) = u32::try_from(bytes.len()) else { return false };
    head(sink, |room| encode::write_ext_meta(room, length, kind));
    sink.put(bytes);
    true
}

pub(crate) fn array<S: Sink + ?Sized>(sink: &mut S, count: u32) {
    head(sink, |room| encode::write_array_len(room, count));
}

pub(crate) fn map<S: Sink + ?Sized>(sink: &mut S, count: u32) {
    head(sink, |room| encode::write_map_len(room, count));
}

/// The shortest of the three timestamp forms that holds the value.
pub(crate) fn timestamp<S: Sink + ?Sized>(sink: &mut S, time: Timestamp) {
    // 64-bit form: 30 bits of nanoseconds above 34 bits of seconds.
    const SECONDS_MAX: i64 = (1 << 34) - 1;
    match u32::try_from(time.seconds) {
        Ok(seconds) if time.nanos == 0 => {
            let _ = extension(sink, TIMESTAMP_EXT, &seconds.to_be_bytes());
        }
        _ if (0..=SECONDS_MAX).contains(&time.seconds) && time.nanos < 1 << 30 => {
            let packed = u64::from(time.nanos) << 34 | time.seconds.unsigned_abs();
            let _ = extension(sink, TIMESTAMP_EXT, &packed.to_be_bytes());
        }
        _ => {
            let mut bytes = [0u8; 12];
            bytes[..4].copy_from_slice(&time.nanos.to_be_bytes());
            bytes[4..].copy_from_slice(&time.seconds.to_be_bytes());
            let _ = extension(sink, TIMESTAMP_EXT, &bytes);
        }
    }
}
