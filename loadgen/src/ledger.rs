//! Who has received what: one line per receiver, one column per publisher.
//!
//! A receiver that gets everything in order costs 4 bytes and one comparison a delivery. Only when a number is
//! skipped does it get a list of holes. The books are kept for two periods, warm-up and measured, told apart by the
//! sequence number at which measuring began.

use std::collections::HashMap;

/// How one delivery relates to what this receiver had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The next number, or one after a gap.
    Fresh,
    /// A number that was skipped before: out of order.
    Late,
    /// Seen already.
    Duplicate,
    /// A number that has not been published.
    Impossible,
}

/// The sums of one period over all receivers. `expected = received + missing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Different messages that arrived, damaged ones included.
    pub received: u64,
    /// Published, never arrived.
    pub missing: u64,
    /// Arrived again.
    pub duplicate: u64,
    /// Arrived after a later one of the same publisher.
    pub out_of_order: u64,
    /// Arrived, but not as sent.
    pub corrupt: u64,
}

impl Tally {
    /// Adds another worker's sums.
    pub fn add(&mut self, other: &Tally) {
        self.received += other.received;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
    }

    /// Everything arrived once, in order, as sent.
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.duplicate == 0 && self.out_of_order == 0 && self.corrupt == 0
    }
}

/// A run of numbers not seen yet, `from..until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    from: u32,
    until: u32,
}

/// The books of one worker's receivers.
#[derive(Debug)]
pub struct Ledger {
    publishers: usize,
    /// The number expected next, row by receiver.
    next: Vec<u32>,
    holes: HashMap<u32, Vec<Hole>>,
    /// Sequence at which the measured period begins, by publisher.
    base: Vec<u32>,
    /// Numbers published so far, by publisher.
    published: Vec<u32>,
    warmup: Tally,
    measured: Tally,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(receivers: u32, publishers: u16) -> Self {
        let publishers = usize::from(publishers);
        Self {
            publishers,
            next: vec![0; receivers as usize * publishers],
            holes: HashMap::new(),
            base: vec![u32::MAX; publishers],
            published: vec![0; publishers],
            warmup: Tally::default(),
            measured: Tally::default(),
        }
    }

    /// From `first` (one number per publisher) on, deliveries belong to the measured period.
    pub fn begin_measured(&mut self, first: &[u32]) {
        self.base.copy_from_slice(first);
    }

    /// `publisher` has given all numbers below `sequences` to the wire. Must be told before they can arrive.
    pub fn note_published(&mut self, publisher: u16, sequences: u32) {
        let known = &mut self.published[usize::from(publisher)];
        *known = sequences.max(*known);
    }

    /// Whether `sequence` belongs to the measured period.
    pub fn is_measured(&self, publisher: u16, sequence: u32) -> bool {
        self.base.get(usize::from(publisher)).is_some_and(|&base| sequence >= base)
    }

    /// Enters one delivery. `receiver` is below the number given to `new`.
    pub fn enter(&mut self, receiver: u32, publisher: u16, sequence: u32) -> Entry {
        let publisher = usize::from(publisher);
        if publisher >= self.publishers || sequence >= self.published[publisher] {
            return Entry::Impossible;
        }
        let cell = receiver as usize * self.publishers + publisher;
        let measured = sequence >= self.base[publisher];
        let tally = if measured { &mut self.measured } else { &mut self.warmup };
        let next = self.next[cell];
        if sequence >= next {
            if sequence > next {
                self.holes.entry(cell as u32).or_default().push(Hole { from: next, until: sequence });
            }
            self.next[cell] = sequence + 1;
            tally.received += 1;
            return Entry::Fresh;
        }
        if fill(&mut self.holes, cell as u32, sequence) {
            tally.received += 1;
            tally.out_of_order += 1;
            Entry::Late
        } else {
            tally.duplicate += 1;
            Entry::Duplicate
        }
    }

    /// Counts a damaged delivery. `sequence` is `None` when the head itself was unreadable; then the message stays
    /// missing as well. Returns whether the message fills a line that was empty so far.
    pub fn enter_corrupt(&mut self, receiver: u32, named: Option<(u16, u32)>) -> bool {
        self.note_corrupt(named);
        named.is_some_and(|(publisher, sequence)| {
            matches!(self.enter(receiver, publisher, sequence), Entry::Fresh | Entry::Late)
        })
    }

    /// Counts a damaged message of somebody without a line of its own: a publisher that hears its echo.
    pub fn note_corrupt(&mut self, named: Option<(u16, u32)>) {
        let measured = match named {
            Some((publisher, sequence)) => self.is_measured(publisher, sequence),
            None => self.base.iter().any(|&base| base != u32::MAX),
        };
        let tally = if measured { &mut self.measured } else { &mut self.warmup };
        tally.corrupt += 1;
    }

    /// The sums so far without `missing`, which only the end can tell.
    pub fn so_far(&self) -> (Tally, Tally) {
        (self.warmup, self.measured)
    }

    /// Closes the books: what was published and never came is missing. (warm-up, measured)
    pub fn close(&self) -> (Tally, Tally) {
        let (mut warmup, mut measured) = self.so_far();
        let mut count = |publisher: usize, hole: Hole| {
            let base = self.base[publisher].clamp(hole.from, hole.until);
            warmup.missing += u64::from(base - hole.from);
            measured.missing += u64::from(hole.until - base);
        };
        for (cell, &next) in self.next.iter().enumerate() {
            let publisher = cell % self.publishers;
            count(publisher, Hole { from: next, until: self.published[publisher].max(next) });
        }
        for (&cell, holes) in &self.holes {
            for &hole in holes {
                count(cell as usize % self.publishers, hole);
            }
        }
        (warmup, measured)
    }
}

/// Takes `sequence` out of the cell's holes. Returns whether it was in one.
fn fill(holes: &mut HashMap<u32, Vec<Hole>>, cell: u32, sequence: u32) -> bool {
    let Some(list) = holes.get_mut(&cell) else { return false };
    let Some(at) = list.iter().position(|hole| (hole.from..hole.until).contains(&sequence)) else { return false };
    let Hole { from, until } = list.swap_remove(at);
    list.extend(
        [Hole { from, until: sequence }, Hole { from: sequence + 1, until }].iter().filter(|h| h.from < h.until),
    );
    if list.is_empty() {
        holes.remove(&cell);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Random;
    use std::collections::HashSet;

    fn ledger(receivers: u32, published: u32) -> Ledger {
        let mut ledger = Ledger::new(receivers, 1);
        ledger.note_published(0, published);
        ledger.begin_measured(&[0]);
        ledger
    }

    #[test]
    fn everything_in_order_is_clean() {
        let mut books = ledger(3, 5);
        for sequence in 0..5 {
            for receiver in 0..3 {
                assert_eq!(books.enter(receiver, 0, sequence), Entry::Fresh);
            }
        }
        let (_, measured) = books.close();
        assert_eq!(measured, Tally { received: 15, ..Tally::default() });
        assert!(measured.is_clean());
    }

    #[test]
    fn a_dropped_message_is_missing() {
        let mut books = ledger(1, 5);
        for sequence in [0, 1, 3] {
            books.enter(0, 0, sequence);
        }
        let (_, measured) = books.close();
        assert_eq!(measured, Tally { received: 3, missing: 2, ..Tally::default() });
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_also_after_a_gap() {
        let mut books = ledger(1, 5);
        assert_eq!(books.enter(0, 0, 0), Entry::Fresh);
        assert_eq!(books.enter(0, 0, 0), Entry::Duplicate);
        assert_eq!(books.enter(0, 0, 3), Entry::Fresh);
        assert_eq!(books.enter(0, 0, 1), Entry::Late);
        assert_eq!(books.enter(0, 0, 1), Entry::Duplicate);
        let (_, measured) = books.close();
        assert_eq!(measured, Tally { received: 3, missing: 2, duplicate: 2, out_of_order: 1, corrupt: 0 });
    }

    #[test]
    fn swapped_messages_are_out_of_order_and_not_missing() {
        let mut books = ledger(1, 4);
        for sequence in [1, 0, 3, 2] {
            books.enter(0, 0, sequence);
        }
        let (_, measured) = books.close();
        assert_eq!(measured, Tally { received: 4, out_of_order: 2, ..Tally::default() });
        assert!(books.holes.is_empty());
    }

    #[test]
    fn warm_up_and_measured_are_kept_apart() {
        let mut books = Ledger::new(1, 2);
        books.note_published(0, 4);
        books.note_published(1, 2);
        books.begin_measured(&[2, 1]);
        for (publisher, sequence) in [(0, 0), (0, 3), (1, 1)] {
            books.enter(0, publisher, sequence);
        }
        let (warmup, measured) = books.close();
        assert_eq!(warmup, Tally { received: 1, missing: 2, ..Tally::default() });
        assert_eq!(measured, Tally { received: 2, missing: 1, ..Tally::default() });
    }

    #[test]
    fn strangers_are_not_entered() {
        let mut books = ledger(1, 2);
        assert_eq!(books.enter(0, 0, 2), Entry::Impossible);
        assert_eq!(books.enter(0, 9, 0), Entry::Impossible);
        assert_eq!(books.close().1.missing, 2);
    }

    #[test]
    fn a_damaged_message_is_corrupt_and_missing_only_if_nameless() {
        let mut books = ledger(1, 2);
        assert!(books.enter_corrupt(0, Some((0, 0))));
        assert!(!books.enter_corrupt(0, None));
        let (_, measured) = books.close();
        assert_eq!(measured, Tally { received: 1, missing: 1, corrupt: 2, ..Tally::default() });
    }

    #[test]
    fn a_damaged_echo_is_corrupt_and_nobodys_delivery() {
        let mut books = Ledger::new(1, 1);
        books.note_published(0, 3);
        books.note_corrupt(None);
        books.begin_measured(&[1]);
        books.note_corrupt(Some((0, 0)));
        books.note_corrupt(Some((0, 1)));
        books.note_corrupt(None);
        let (warmup, measured) = books.close();
        assert_eq!(warmup, Tally { missing: 1, corrupt: 2, ..Tally::default() });
        assert_eq!(measured, Tally { missing: 2, corrupt: 2, ..Tally::default() });
    }

    /// Random arrivals against a plain set.
    #[test]
    fn agrees_with_a_set() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let published = 1 + (random.next_u64() % 40) as u32;
            let mut books = ledger(1, published);
            let (mut seen, mut highest) = (HashSet::new(), None);
            let mut want = Tally::default();
            for _ in 0..random.next_u64() % 80 {
                let sequence = (random.next_u64() % u64::from(published)) as u32;
                if !seen.insert(sequence) {
                    want.duplicate += 1;
                } else {
                    want.received += 1;
                    want.out_of_order += u64::from(highest.is_some_and(|high| sequence < high));
                }
                highest = highest.max(Some(sequence));
                books.enter(0, 0, sequence);
            }
            want.missing = u64::from(published) - seen.len() as u64;
            assert_eq!(books.close().1, want, "seed {seed}");
        }
    }
}
