//! The text of a message: a function of who said it and which of his messages it is, so that no byte of another
//! message, and none of another place of the same one, can pass for it.

use fanfare_engine::io::sim::Rng;

/// Bytes that share one random stamp.
const BLOCK_BYTES: usize = 64;
/// What follows the stamp: letters, and what formats must escape or may cut in two.
const TAIL: &str = "abcdefghijklmnopqrstuvwxyz \\\"/\t\u{e9}\u{20ac}";

/// `len` bytes or up to three more, to end a character.
pub(crate) fn filler(publisher: u32, serial: u64, len: usize) -> String {
    let mut text = String::with_capacity(len + BLOCK_BYTES);
    let mut rng = Rng::new(u64::from(publisher) << 40 ^ serial);
    while text.len() < len {
        let stamp = rng.bits();
        for digit in (0..16).rev() {
            text.push(char::from(b'A' + (stamp >> (4 * digit) & 15) as u8));
        }
        text.push_str(TAIL);
    }
    let end = (len..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    text.truncate(end);
    text
}
