//! The payload of one message: a 64-byte head that says which message this is, then padding that can be checked.
//!
//! ```text
//!  0      4        12     17         25       32             44             56         64
//!  | FAN1 | run    | lane | sequence | length | intended ns  | actual ns    | check    | padding ...
//!         | 8 hex  | 5 hex| 8 hex    | 7 hex  | 12 hex       | 12 hex       | 8 hex    |
//! ```
//! Only characters that neither JSON nor MessagePack nor HTTP change, so the payload stands literally in every frame
//! and can be compared byte by byte without decoding. Times are nanoseconds since the run's clock began (48 bits:
//! 78 hours). The check covers the head, so a flipped digit in a time is caught too. The padding is cut from one
//! random text at an offset that depends on lane and sequence, so two messages never have the same padding.

/// Bytes before the padding, and the smallest payload.
pub const HEAD_BYTES: usize = 64;

/// Largest payload: a bound for buffers, far above what any hub accepts.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What every payload begins with.
pub const MAGIC: &[u8; 4] = b"FAN1";

/// Lanes that five hex digits can tell apart: publishers x destinations.
pub const LANES_MAX: u32 = 0xf_ffff;

/// Distinct padding offsets; a prime, so that neither bursts nor publishers fall into step with it.
const ROTATE: usize = 251;

/// Times fit in 48 bits.
const TIME_MASK: u64 = (1 << 48) - 1;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which run: payloads of an earlier run are strangers.
    pub run: u32,
    /// From which publisher to which destination: see [`crate::audience`].
    pub lane: u32,
    /// Counts from 0 in each lane.
    pub sequence: u32,
    /// Whole payload in bytes, this head included.
    pub length: u32,
    /// When the plan wanted it sent, nanoseconds of the run's clock.
    pub intended_ns: u64,
    /// When it was given to the socket.
    pub actual_ns: u64,
}

impl Head {
    /// Writes the head as 64 ASCII bytes.
    pub fn write(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..4].copy_from_slice(MAGIC);
        put_hex(&mut out[4..12], u64::from(self.run));
        put_hex(&mut out[12..17], u64::from(self.lane));
        put_hex(&mut out[17..25], u64::from(self.sequence));
        put_hex(&mut out[25..32], u64::from(self.length));
        put_hex(&mut out[32..44], self.intended_ns & TIME_MASK);
        put_hex(&mut out[44..56], self.actual_ns & TIME_MASK);
        let check = checksum(&out[..56]);
        put_hex(&mut out[56..], u64::from(check));
        out
    }

    /// Reads a head. `None`: not one of ours, or damaged.
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        if &bytes[..4] != MAGIC || hex(&bytes[56..])? != u64::from(checksum(&bytes[..56])) {
            return None;
        }
        Some(Self {
            run: hex(&bytes[4..12])? as u32,
            lane: hex(&bytes[12..17])? as u32,
            sequence: hex(&bytes[17..25])? as u32,
            length: hex(&bytes[25..32])? as u32,
            intended_ns: hex(&bytes[32..44])?,
            actual_ns: hex(&bytes[44..56])?,
        })
    }
}

fn put_hex(out: &mut [u8], value: u64) {
    let mut rest = value;
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

/// FNV-1a, 32 bits. Catches damage, not malice.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The text all padding of a run is cut from. The same seed gives the same text on both ends.
#[derive(Clone, Debug)]
pub struct Padding {
    text: Vec<u8>,
}

impl Padding {
    /// Room for payloads up to `payload_bytes_max`.
    pub fn new(seed: u64, payload_bytes_max: usize) -> Self {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = Random::new(seed ^ 0x7061_6464_696e_6721);
        let len = payload_bytes_max.saturating_sub(HEAD_BYTES) + ROTATE;
        Self { text: (0..len).map(|_| ALPHABET[(random.next_u64() >> 58) as usize]).collect() }
    }

    /// The padding of one message: `length - 64` bytes. `None` when longer than this run sends.
    pub fn of(&self, head: &Head) -> Option<&[u8]> {
        let start = (head.sequence as usize + head.lane as usize * 7) % ROTATE;
        let len = (head.length as usize).checked_sub(HEAD_BYTES)?;
        self.text.get(start..start + len)
    }

    /// Appends the whole payload.
    pub fn write_payload(&self, head: &Head, out: &mut Vec<u8>) {
        out.extend_from_slice(&head.write());
        out.extend_from_slice(self.of(head).unwrap_or_default());
    }
}

/// How long payloads are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// All the same.
    Fixed(usize),
    /// Log-normal around a median, cut at [`HEAD_BYTES`] and twenty medians.
    LogNormal {
        /// Half are at or below.
        median: usize,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
}

impl Size {
    /// Parses `2KiB` or `lognormal:300B:1.2`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("lognormal:") else {
            return crate::quantity::parse_bytes(text).map(Self::Fixed);
        };
        let bad = || format!("'{text}' is not a size: write 2KiB, or lognormal:MEDIAN:SIGMA as lognormal:300B:1.2");
        let (median, sigma) = rest.split_once(':').ok_or_else(bad)?;
        let median = crate::quantity::parse_bytes(median)?;
        let sigma = sigma.parse().ok().filter(|sigma| (0.0..=4.0).contains(sigma)).ok_or_else(bad)?;
        Ok(Self::LogNormal { median, sigma })
    }

    /// The longest.
    pub fn most(self) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::LogNormal { median, .. } => (median * 20).clamp(HEAD_BYTES, PAYLOAD_BYTES_MAX),
        }
    }

    /// What a payload has on average, before the cuts.
    pub fn mean(self) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::LogNormal { median, sigma } => (median as f64 * (sigma * sigma / 2.0).exp()) as usize,
        }
    }

    /// One length.
    pub fn draw(self, random: &mut Random) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::LogNormal { median, sigma } => {
                let (first, second) = (random.next_unit(), random.next_unit());
                let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
                ((median as f64 * (sigma * normal).exp()) as usize).clamp(HEAD_BYTES, self.most())
            }
        }
    }
}

/// SplitMix64: small, seedable, good enough for plans and padding.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in (0, 1].
    pub fn next_unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head =
        Head { run: 0xdead_beef, lane: 3, sequence: 77, length: 300, intended_ns: 123_456_789, actual_ns: 123_460_000 };

    #[test]
    fn a_head_survives_the_wire() {
        assert_eq!(Head::parse(&HEAD.write()), Some(HEAD));
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_noticed() {
        let good = HEAD.write();
        for at in 0..HEAD_BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert_eq!(Head::parse(&bad), None, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn neighbours_have_different_padding() {
        let padding = Padding::new(7, 300);
        let next = Head { sequence: 78, ..HEAD };
        let other = Head { lane: 4, ..HEAD };
        assert_eq!(padding.of(&HEAD).map(<[u8]>::len), Some(300 - HEAD_BYTES));
        assert_ne!(padding.of(&HEAD), padding.of(&next));
        assert_ne!(padding.of(&HEAD), padding.of(&other));
        assert_eq!(padding.of(&Head { length: 301 + ROTATE as u32, ..HEAD }), None);
        assert_eq!(padding.of(&Head { length: 3, ..HEAD }), None);
    }

    #[test]
    fn the_payload_needs_no_escaping_in_json() {
        let mut payload = Vec::new();
        Padding::new(1, 4096).write_payload(&Head { length: 4096, ..HEAD }, &mut payload);
        assert_eq!(payload.len(), 4096);
        let text = String::from_utf8(payload).expect("ASCII");
        assert_eq!(serde_json::to_string(&text).expect("json"), format!("\"{text}\""));
    }

    #[test]
    fn sizes_are_drawn_around_their_median() {
        let size = Size::parse("lognormal:300B:1.2").expect("good");
        let mut random = Random::new(3);
        let mut all: Vec<usize> = (0..4001).map(|_| size.draw(&mut random)).collect();
        all.sort_unstable();
        assert!((260..340).contains(&all[2000]), "{}", all[2000]);
        assert!(all[0] >= HEAD_BYTES && all[4000] <= size.most() && size.most() == 6000);
        assert_eq!(Size::parse("2KiB"), Ok(Size::Fixed(2048)));
        for text in ["lognormal:300B", "lognormal:300B:x", "lognormal:300B:9", "big"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        assert_eq!(Padding::new(9, 500).text, Padding::new(9, 500).text);
        assert_ne!(Padding::new(9, 500).text, Padding::new(10, 500).text);
    }
}
