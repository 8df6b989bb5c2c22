//! Masking (RFC 6455 5.3): byte `i` of the payload XOR byte `i mod 4` of the key. Masking and unmasking are the same.

/// Masks `bytes` in place with `key` (its byte 0 in the low bits) and returns the key for the byte that follows.
pub(super) fn apply(bytes: &mut [u8], key: u32) -> u32 {
    let wide = u64::from(key) | u64::from(key) << 32;
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
    // Words of eight do not move the key, so only the tail does.
    key.rotate_right(8 * (tail.len() as u32 % 4))
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
                let next = apply(head, u32::from_le_bytes(key));
                let after = apply(tail, next);
                assert_eq!(bytes, expected);
                assert_eq!(after.to_le_bytes()[0], key[len % 4]);
            }
        }
    }
}
