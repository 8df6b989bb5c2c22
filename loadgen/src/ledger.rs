//! Who has received what: one line per receiver, one column per lane that it must get everything of.
//!
//! A receiver that gets everything in order costs 4 bytes and one comparison a delivery. Only when a number is
//! skipped does it get a list of holes. The books are kept for two periods, warm-up and measured, told apart by the
//! sequence number at which measuring began.

use crate::audience::Seats;
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
    /// A message that was for others.
    Misrouted,
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
    /// Arrived after a later one of the same lane.
    pub out_of_order: u64,
    /// Arrived, but not as sent.
    pub corrupt: u64,
    /// Arrived at somebody it was not for.
    pub misrouted: u64,
}

impl Tally {
    /// Adds another worker's sums.
    pub fn add(&mut self, other: &Tally) {
        self.received += other.received;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.misrouted += other.misrouted;
    }

    /// Everything arrived once, in order, as sent.
    pub fn is_clean(&self) -> bool {
        self.missing + self.duplicate + self.out_of_order + self.corrupt + self.misrouted == 0
    }
}

/// A run of numbers not seen yet, `from..until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    from: u32,
    until: u32,
}

/// Both periods of one class of receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Probe and warm-up.
    pub warmup: Tally,
    /// From the split on.
    pub measured: Tally,
}

impl Books {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Books) {
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
    }
}

/// The books of one worker's receivers.
#[derive(Debug)]
pub struct Ledger {
    receivers: u32,
    publishers: u32,
    lanes: u32,
    /// Who has which lines; `None`: every receiver one of each lane.
    seats: Option<Seats>,
    /// Class by receiver; empty: all are of class 0.
    classes: Vec<u8>,
    /// The number expected next, row by receiver.
    next: Vec<u32>,
    holes: HashMap<u32, Vec<Hole>>,
    /// Sequence at which the measured period begins, by lane.
    base: Vec<u32>,
    /// Numbers published so far, by lane.
    published: Vec<u32>,
    /// By class.
    books: Vec<Books>,
}

impl Ledger {
    /// An empty ledger in which every receiver expects everything.
    pub fn new(receivers: u32, publishers: u16) -> Self {
        Self::with_seats(receivers, u32::from(publishers), u32::from(publishers), None, Vec::new(), 1)
    }

    /// An empty ledger. `classes` names a class below `class_count` for each receiver, or is empty.
    pub fn with_seats(
        receivers: u32,
        publishers: u32,
        lanes: u32,
        seats: Option<Seats>,
        classes: Vec<u8>,
        class_count: usize,
    ) -> Self {
        let cells = seats
            .as_ref()
            .map_or(receivers as usize * lanes as usize, |seats| seats.len() as usize * publishers as usize);
        Self {
            receivers,
            publishers,
            lanes,
            seats,
            classes,
            next: vec![0; cells],
            holes: HashMap::new(),
            base: vec![u32::MAX; lanes as usize],
            published: vec![0; lanes as usize],
            books: vec![Books::default(); class_count.max(1)],
        }
    }

    /// From `first` (one number per lane) on, deliveries belong to the measured period.
    pub fn begin_measured(&mut self, first: &[u32]) {
        self.base.copy_from_slice(first);
    }

    /// All numbers of `lane` below `sequences` were given to the wire. Must be told before they can arrive.
    pub fn note_published(&mut self, lane: u32, sequences: u32) {
        let known = &mut self.published[lane as usize];
        *known = sequences.max(*known);
    }

    /// Whether `sequence` belongs to the measured period.
    pub fn is_measured(&self, lane: u32, sequence: u32) -> bool {
        self.base.get(lane as usize).is_some_and(|&base| sequence >= base)
    }

    /// Where this receiver's line for `lane` is.
    fn cell(&self, receiver: u32, lane: u32) -> Option<u32> {
        match &self.seats {
            None => Some(receiver * self.lanes + lane),
            Some(seats) => {
                let seat = seats.seat(receiver, lane / self.publishers)?;
                Some(seat * self.publishers + lane % self.publishers)
            }
        }
    }

    fn class_of(&self, receiver: u32) -> usize {
        self.classes.get(receiver as usize).map_or(0, |&class| usize::from(class))
    }

    /// Enters one delivery. `receiver` is below the number given to `new`.
    pub fn enter(&mut self, receiver: u32, lane: u32, sequence: u32) -> Entry {
        if lane >= self.lanes || sequence >= self.published[lane as usize] {
            return Entry::Impossible;
        }
        let measured = sequence >= self.base[lane as usize];
        let class = self.class_of(receiver);
        let cell = self.cell(receiver, lane);
        let books = &mut self.books[class];
        let tally = if measured { &mut books.measured } else { &mut books.warmup };
        let Some(cell) = cell else {
            tally.misrouted += 1;
            return Entry::Misrouted;
        };
        let next = self.next[cell as usize];
        if sequence >= next {
            if sequence > next {
                self.holes.entry(cell).or_default().push(Hole { from: next, until: sequence });
            }
            self.next[cell as usize] = sequence + 1;
            tally.received += 1;
            return Entry::Fresh;
        }
        if fill(&mut self.holes, cell, sequence) {
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
    pub fn enter_corrupt(&mut self, receiver: u32, named: Option<(u32, u32)>) -> bool {
        self.note_corrupt_of(self.class_of(receiver), named);
        named.is_some_and(|(lane, sequence)| matches!(self.enter(receiver, lane, sequence), Entry::Fresh | Entry::Late))
    }

    /// Counts a damaged message of somebody without a line of its own: a publisher that hears its echo.
    pub fn note_corrupt(&mut self, named: Option<(u32, u32)>) {
        self.note_corrupt_of(0, named);
    }

    fn note_corrupt_of(&mut self, class: usize, named: Option<(u32, u32)>) {
        let measured = match named {
            Some((lane, sequence)) => self.is_measured(lane, sequence),
            None => self.base.iter().any(|&base| base != u32::MAX),
        };
        let books = &mut self.books[class];
        let tally = if measured { &mut books.measured } else { &mut books.warmup };
        tally.corrupt += 1;
    }

    /// Closes the books, by class: what was published and never came is missing.
    pub fn close_all(&self) -> Vec<Books> {
        let mut all = self.books.clone();
        let mut cell = 0;
        for receiver in 0..self.receivers {
            let books = &mut all[self.class_of(receiver)];
            let mut close = |lane: u32| {
                let mut count = |hole: Hole| {
                    let base = self.base[lane as usize].clamp(hole.from, hole.until);
                    books.warmup.missing += u64::from(base - hole.from);
                    books.measured.missing += u64::from(hole.until - base);
                };
                let next = self.next[cell as usize];
                count(Hole { from: next, until: self.published[lane as usize].max(next) });
                self.holes.get(&cell).into_iter().flatten().for_each(|&hole| count(hole));
                cell += 1;
            };
            match &self.seats {
                None => (0..self.lanes).for_each(&mut close),
                Some(seats) => {
                    let lanes = |to: &u32| to * self.publishers..(to + 1) * self.publishers;
                    seats.of(receiver).iter().flat_map(lanes).for_each(&mut close);
                }
            }
        }
        all
    }

    /// The same over all classes. (warm-up, measured)
    pub fn close(&self) -> (Tally, Tally) {
        let mut sum = Books::default();
        self.close_all().iter().for_each(|books| sum.add(books));
        (sum.warmup, sum.measured)
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
        assert_eq!(measured, Tally { received: 3, missing: 2, duplicate: 2, out_of_order: 1, ..Tally::default() });
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

    #[test]
    fn members_of_a_group_have_lines_and_others_hear_what_is_not_theirs() {
        use crate::audience::{Audience, Shape};
        let audience = Audience::new(Shape::Groups { of: 2, pick: 1, skew_milli: 0 }, 2, &[true; 3], 1);
        let (lanes, seats) = (audience.lanes(), audience.seats(0, 3));
        let mut books = Ledger::with_seats(3, 2, lanes, seats, vec![0, 1, 0], 2);
        books.begin_measured(&[0; 4]);
        (0..lanes).for_each(|lane| books.note_published(lane, 2));
        // Group 0 has receivers 0 and 2, group 1 has receiver 1.
        for receiver in [0, 2] {
            for (lane, sequence) in [(0, 0), (0, 1), (1, 0)] {
                assert_eq!(books.enter(receiver, lane, sequence), Entry::Fresh);
            }
        }
        assert_eq!(books.enter(1, 0, 0), Entry::Misrouted);
        assert_eq!(books.enter(1, 3, 1), Entry::Fresh);
        let closed = books.close_all();
        assert_eq!(closed[0].measured, Tally { received: 6, missing: 2, ..Tally::default() });
        assert_eq!(closed[1].measured, Tally { received: 1, missing: 3, misrouted: 1, ..Tally::default() });
        assert_eq!(books.close().1.received, 7);
    }
}
