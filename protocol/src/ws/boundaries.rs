//! Where messages end in what a server has sent (RFC 6455 5.2): frames without masks, cut anywhere. Payloads are skipped.

use super::{FIN_BIT, LENGTH_16, LENGTH_64, MASK_BIT};

/// Goes through frames, message by message.
#[derive(Debug, Default)]
pub struct Boundaries {
    /// The header under way.
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    /// Payload bytes of the frame under way that are still to come.
    left: u64,
    /// The frame under way is the last one of a message.
    fin: bool,
}

/// Set in the op codes of control frames (RFC 6455 5.5).
const CONTROL_BIT: u8 = 0x08;
/// Two bytes, and a length of eight.
const HEAD_BYTES_MAX: usize = 10;

impl Boundaries {
    /// At the beginning of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on through `bytes` until `messages` have ended, or to the end of `bytes`. Returns how many messages ended, and
    /// how many bytes that took: all of them if there were fewer messages.
    pub fn pass(&mut self, bytes: &[u8], messages: u64) -> (u64, usize) {
        let mut passed = 0;
        let mut at = 0;
        while passed < messages {
            if self.left == 0 && !self.take_head(bytes, &mut at) {
                break;
            }
            let n = self.left.min((bytes.len() - at) as u64);
            self.left -= n;
            at += n as usize;
            if self.left > 0 {
                break;
            }
            passed += u64::from(std::mem::take(&mut self.fin));
        }
        (passed, at)
    }

    /// Reads on in a header. `false`: it is not whole yet.
    fn take_head(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        while self.head_len < self.head_bytes() {
            let Some(&byte) = bytes.get(*at) else { return false };
            self.head[self.head_len] = byte;
            self.head_len += 1;
            *at += 1;
        }
        let head = self.head;
        self.left = match head[1] & !MASK_BIT {
            LENGTH_16 => u64::from(u16::from_be_bytes([head[2], head[3]])),
            LENGTH_64 => u64::from_be_bytes([head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]]),
            short => u64::from(short),
        };
        // Control frames may stand between the frames of a message, and end none.
        self.fin = head[0] & FIN_BIT != 0 && head[0] & CONTROL_BIT == 0;
        self.head_len = 0;
        true
    }

    /// As far as is known.
    fn head_bytes(&self) -> usize {
        match (self.head_len, self.head[1] & !MASK_BIT) {
            (0 | 1, _) => 2,
            (_, LENGTH_16) => 4,
            (_, LENGTH_64) => HEAD_BYTES_MAX,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Sink;
    use crate::ws::encode::{MessageWriter, write_control};
    use crate::ws::{DataKind, OpCode};

    /// Messages of these lengths, with a ping behind each, and where each message ends.
    fn stream(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let ends = lengths.iter().map(|&length| {
            let mut writer = MessageWriter::new(&mut bytes, DataKind::Binary, length);
            writer.put(&vec![7; length]);
            writer.finish();
            let end = bytes.len();
            write_control(&mut bytes, OpCode::Ping, b"between");
            end
        });
        let ends = ends.collect();
        (bytes, ends)
    }

    const LENGTHS: [usize; 9] = [0, 1, 125, 126, 2_043, 2_044, 2_045, 9_000, 3];

    #[test]
    fn messages_end_where_they_were_written_to_end() {
        let (bytes, ends) = stream(&LENGTHS);
        for (index, &end) in ends.iter().enumerate() {
            let count = index as u64 + 1;
            assert_eq!(Boundaries::new().pass(&bytes, count), (count, end));
        }
        assert_eq!(Boundaries::new().pass(&bytes, 100), (LENGTHS.len() as u64, bytes.len()));
        assert_eq!(Boundaries::new().pass(&bytes, 0), (0, 0));
    }

    #[test]
    fn the_same_one_byte_at_a_time() {
        let (bytes, ends) = stream(&LENGTHS);
        let mut boundaries = Boundaries::new();
        let mut found = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            let (passed, used) = boundaries.pass(&[*byte], 100);
            assert_eq!(used, 1);
            (0..passed).for_each(|_| found.push(at + 1));
        }
        assert_eq!(found, ends);
    }

    #[test]
    fn a_length_of_eight_bytes_is_read() {
        let mut bytes = vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        bytes.extend(vec![0; 65_536 + 5]);
        assert_eq!(Boundaries::new().pass(&bytes, 1), (1, 10 + 65_536));
    }
}
