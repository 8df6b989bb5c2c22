//! Masking (RFC 6455 5.3): byte `i` of the payload XOR byte `i mod 4` of the key. Masking and unmasking are the same.

/// What [`apply`] leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// The key for the byte that follows.
    pub(super) key: u32,
    /// All bytes are ASCII now: known for free here, and it spares text a second look.
    pub(super) ascii: bool,
}

/// Masks `bytes` in place with `key`, whose byte 0 is in the low bits.
pub(super) fn apply(bytes: &mut [u8], key: u32) -> Applied {
    let wide = u64::from(key) | u64::from(key) << 32;
    let (words, tail) = bytes.as_chunks_mut::<8>();
    let mut seen = 0;
    for word in words {
        let masked = u64::from_le_bytes(*word) ^ wide;
        seen |= masked;
        *word = masked.to_le_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    // Words of eight do not move the key, so only the tail does.
    let key = key.rotate_right(8 * (tail.len() as u32 % 4));
    Applied { key, ascii: seen & 0x8080_8080_8080_8080 == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_at_every_length_and_cut() {
        let key = [0x12, 0x34, 0x56, 0x78];
        for len in 0..70_usize {
            let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            for cut in 0..=len {
                let mut bytes = plain.clone();
                let (head, tail) = bytes.split_at_mut(cut);
                let first = apply(head, u32::from_le_bytes(key));
                let second = apply(tail, first.key);
                assert_eq!(first.ascii, expected[..cut].is_ascii());
                assert_eq!(second.ascii, expected[cut..].is_ascii());
                assert_eq!(bytes, expected);
                assert_eq!(second.key.to_le_bytes()[0], key[len % 4]);
            }
        }
    }
}
