//! How rough the simulated world is, and the one number that decides everything in it.

use std::ops::RangeInclusive;

/// Probability in thousandths.
pub type Permille = u32;

/// What may go wrong, and how often. Every field is a legal behaviour of the kernel or of the network.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Slots in each shard's table of connections.
    pub slots: u32,
    /// Bytes that a connection's send buffer takes before `EAGAIN`; drawn for each connection.
    pub send_buffer_bytes: RangeInclusive<u32>,
    /// Bytes of one arrival: what a peer writes reaches the socket in pieces of at most this size.
    pub arrival_bytes: RangeInclusive<u32>,
    /// Time that an `enter` takes.
    pub enter_us: RangeInclusive<u64>,
    /// The clock's first value.
    pub start_us: u64,
    /// Something under way does not arrive before the next `enter`.
    pub late_arrival: Permille,
    /// A receive takes less than is there (and says that there is more).
    pub cut_receive: Permille,
    /// A send takes less than fits.
    pub short_send: Permille,
    /// A send takes nothing although something would fit.
    pub would_block: Permille,
    /// The pool looks empty. Comes in bursts of 1 to 20.
    pub no_buffers: Permille,
    /// A multishot poll ends with an event.
    pub poll_ends: Permille,
    /// An event of a multishot poll is reported twice.
    pub spurious_readable: Permille,
    /// A multishot accept ends after a connection.
    pub accept_ends: Permille,
    /// A completion (other than of a send) is not seen before the next `enter`.
    pub late_completion: Permille,
    /// The same for completions of a connection that is closed already: they then meet the slot's next tenant.
    pub late_after_close: Permille,
    /// The completions of an `enter` come in another legal order.
    pub shuffle: Permille,
    /// The completion queue overflows: all multishot polls of the shard end.
    pub overflow: Permille,
    /// A connection that is closed with unread input loses what its peer has not read, and the peer sees a reset.
    pub reset_on_unread: Permille,
    /// Lending a descriptor fails.
    pub lend_fails: Permille,
    /// A socket cannot be handed over to another shard.
    pub hand_over_fails: Permille,
    /// `Woken` without a reason.
    pub spurious_wake: Permille,
    /// Bytes count as released only when the peer has read them, and are read from the log only then: the
    /// behaviour of a back end that retransmits from our memory.
    pub release_when_read: bool,
}

impl SimOptions {
    /// Nothing goes wrong, everything is at once and in order.
    pub fn calm() -> Self {
        Self {
            slots: 1024,
            send_buffer_bytes: 65_536..=65_536,
            arrival_bytes: u32::MAX..=u32::MAX,
            enter_us: 1..=1,
            start_us: 1_000_000,
            late_arrival: 0,
            cut_receive: 0,
            short_send: 0,
            would_block: 0,
            no_buffers: 0,
            poll_ends: 0,
            spurious_readable: 0,
            accept_ends: 0,
            late_completion: 0,
            late_after_close: 0,
            shuffle: 0,
            overflow: 0,
            reset_on_unread: 0,
            lend_fails: 0,
            hand_over_fails: 0,
            spurious_wake: 0,
            release_when_read: false,
        }
    }

    /// Everything goes wrong often. Bytes are still neither lost nor changed on connections that both sides keep.
    pub fn rough() -> Self {
        Self {
            send_buffer_bytes: 1..=20_000,
            arrival_bytes: 1..=3_000,
            enter_us: 0..=300,
            late_arrival: 300,
            cut_receive: 300,
            short_send: 300,
            would_block: 50,
            no_buffers: 30,
            poll_ends: 100,
            spurious_readable: 50,
            accept_ends: 100,
            late_completion: 200,
            late_after_close: 700,
            shuffle: 800,
            overflow: 5,
            reset_on_unread: 700,
            lend_fails: 100,
            hand_over_fails: 100,
            spurious_wake: 20,
            ..Self::calm()
        }
    }
}

impl Default for SimOptions {
    fn default() -> Self {
        Self::rough()
    }
}

/// A small seeded generator (splitmix64): the same seed gives the same run on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`; any value is fine.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a 64-bit remainder does not matter here.
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// A number of the range, both ends included.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        range.start() + self.below((range.end() - range.start()).saturating_add(1))
    }

    /// True in `permille` of 1000 cases.
    pub fn chance(&mut self, permille: Permille) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// Shuffles in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    pub(super) fn within_u32(&mut self, range: &RangeInclusive<u32>) -> u32 {
        self.within(&(u64::from(*range.start())..=u64::from(*range.end()))) as u32
    }
}
