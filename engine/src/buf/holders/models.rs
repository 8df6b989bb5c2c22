//! The holders' bits against the ring's head under `loom`: a segment is never written while somebody reads it.

use super::*;
use crate::interconnect::{Receiver, ring_of};
use crate::sync::Place;
use crate::sync::modelled::{Loom, Weakness, explore, failure, weaken};
use loom::thread;
use std::sync::Arc;

const OLD: u64 = 0;
const NEW: u64 = 1;

/// A segment of one word. `loom` fails when it is written while it is read, or before the reader is known to be done.
struct Segment {
    holders: Holders<Loom>,
    lent: <Loom as Machine>::Flag,
    bytes: <Loom as Machine>::Place<u64>,
}

// SAFETY: the threads of a model take turns on one; whether they would race on `bytes` is what `loom` checks.
unsafe impl Sync for Segment {}

/// What a reader or the owner may do wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    AsItShould,
    /// The reader gives the note back before it holds the segment.
    HoldLate,
    /// The reader keeps the bytes and does not hold the segment.
    HoldNever,
    /// The owner looks at the bits before it looks at the heads.
    HeadsLate,
}

/// The shard `shard` reads what its note names, lends it to a socket, and keeps it beyond the turn if it `keeps`.
fn read(segment: &Segment, mut notes: Receiver<(), Loom>, shard: u8, keeps: bool, turn: Turn) {
    notes.peek().expect("noted before this thread began");
    let look = || {
        segment.lent.store(true, Ordering::Relaxed);
        // SAFETY: the value is a plain number; `loom` checks that nobody writes it meanwhile.
        segment.bytes.read(|bytes| assert_eq!(unsafe { *bytes }, OLD));
    };
    if !keeps {
        look();
        notes.advance();
        return;
    }
    match turn {
        Turn::HoldLate => {
            notes.advance();
            segment.holders.set(shard);
        }
        Turn::HoldNever => notes.advance(),
        _ => {
            segment.holders.set(shard);
            notes.advance();
        }
    }
    look();
    segment.holders.clear(shard);
}

/// One shard writes, notes, and at some moment writes again if it may; one other shard for each of `keeps` reads.
fn kept_bytes_do_not_change(keeps: &[bool], turn: Turn, owner: Option<Weakness>, reader: Option<Weakness>) {
    let segment = Arc::new(Segment { holders: Holders::default(), lent: Default::default(), bytes: Place::new(OLD) });
    let (senders, readers): (Vec<_>, Vec<_>) = (1..)
        .zip(keeps)
        .map(|(shard, &keeps)| {
            let (mut tx, rx) = ring_of::<(), Loom>(2);
            tx.send(()).unwrap();
            let segment = segment.clone();
            let body = move || {
                weaken(reader);
                read(&segment, rx, shard, keeps, turn);
            };
            (tx, thread::spawn(body))
        })
        .unzip();
    weaken(owner);
    let notes: Vec<u64> = senders.iter().map(|tx| tx.position()).collect();
    let heads = || senders.iter().map(|tx| tx.read_position()).collect::<Vec<u64>>();
    let let_go = || match turn {
        Turn::HeadsLate => segment.holders.none() && notes == heads(),
        _ => segment.holders.let_go(&notes, &heads()),
    };
    if let_go() {
        assert!(segment.lent.load(Ordering::Relaxed), "pages that were lent would not be punched");
        // SAFETY: the value is a plain number; `loom` checks that nobody touches it meanwhile.
        segment.bytes.write(|bytes| unsafe { *bytes = NEW });
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(let_go(), "a segment is lost to the log");
}

#[test]
fn a_segment_is_written_again_only_when_nobody_reads_it() {
    for keeps in [false, true] {
        explore(move || kept_bytes_do_not_change(&[keeps], Turn::AsItShould, None, None));
    }
}

#[test]
fn bits_of_two_shards_do_not_hide_each_other() {
    for keeps in [[true, false], [true, true]] {
        explore(move || kept_bytes_do_not_change(&keeps, Turn::AsItShould, None, None));
    }
}

#[test]
fn owner_and_reader_need_each_of_their_orderings() {
    let cases = [
        (Some(Weakness::Loads), None, "an owner that loads heads and bits Relaxed"),
        (None, Some(Weakness::Stores), "a reader whose head moves Relaxed"),
        (None, Some(Weakness::Changes), "a reader that clears its bit Relaxed"),
    ];
    for (owner, reader, what) in cases {
        let text = failure(move || kept_bytes_do_not_change(&[true], Turn::AsItShould, owner, reader));
        let seen = ["Causality violation", "lent", "left == right"].iter().any(|sign| text.contains(sign));
        assert!(seen, "{what}: {text}");
    }
}

#[test]
fn the_bit_goes_before_the_head_and_the_heads_before_the_bits() {
    for wrong in [Turn::HoldLate, Turn::HoldNever, Turn::HeadsLate] {
        let text = failure(move || kept_bytes_do_not_change(&[true], wrong, None, None));
        let seen = ["Causality violation", "lent", "left == right"].iter().any(|sign| text.contains(sign));
        assert!(seen, "{text}");
    }
}
