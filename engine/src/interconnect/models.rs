//! The ring and the sleeping flags under `loom`: each promise in every order of events, and each ordering and fence
//! left out once to see that its absence is noticed.

use super::*;
use crate::sync::modelled::{Loom, Weakness, explore, explore_some, failure, weaken};
use loom::thread;

/// Two places and four notes: the ring is full, overflows, and goes round while both ends are at it.
fn notes_arrive_once_in_order(producer: Option<Weakness>, consumer: Option<Weakness>) {
    const NOTES: u64 = 4;
    let (mut tx, mut rx) = ring_of::<u64, Loom>(2);
    let sending = thread::spawn(move || {
        weaken(producer);
        for n in 0..NOTES {
            tx.send(n).unwrap();
        }
        tx
    });
    weaken(consumer);
    let mut expected = 0;
    let mut take = || {
        let note = rx.peek();
        if let Some(n) = note {
            assert_eq!(n, expected);
            expected += 1;
            rx.advance();
        }
        note.is_some()
    };
    for _ in 0..NOTES {
        take();
    }
    // What is left now is taken without haste.
    let mut tx = sending.join().unwrap();
    while take() || tx.flush() {}
    assert!(rx.is_empty() && !tx.is_backed_up());
    assert_eq!([expected, tx.position(), tx.read_position()], [NOTES; 3]);
}

#[test]
fn the_ring_in_every_order() {
    explore(|| notes_arrive_once_in_order(None, None));
}

#[test]
fn the_ring_needs_each_of_its_orderings() {
    for broken in [Weakness::Loads, Weakness::Stores] {
        let text = failure(move || notes_arrive_once_in_order(Some(broken), None));
        assert!(text.contains("Causality violation"), "producer without {broken:?}: {text}");
        let text = failure(move || notes_arrive_once_in_order(None, Some(broken)));
        assert!(text.contains("Causality violation"), "consumer without {broken:?}: {text}");
    }
}

/// What a sleeper may do wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    AsItShould,
    /// It does not look at its rings once more.
    Blindly,
    /// It looks before it says that it sleeps.
    LookFirst,
}

/// A shard with one ring from each of `producers`, which wakes only when it must be woken; a wake-up that is lost
/// leaves it asleep for ever. The wake itself is one that waits for a sleeper who is not there yet, as the kernel's.
fn everything_is_taken(producers: usize, notes: u64, sleep: Sleep, sleeper: Option<Weakness>, waker: Option<Weakness>) {
    let sleepers = Arc::new(Sleepers::<Loom>::new(1));
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..producers).map(|_| ring_of::<u64, Loom>(2)).unzip();
    let shard = thread::spawn({
        let sleepers = sleepers.clone();
        move || {
            weaken(sleeper);
            let mut left = notes * producers as u64;
            loop {
                sleepers.awake(0);
                for receiver in &mut receivers {
                    while receiver.peek().is_some() {
                        receiver.advance();
                        left -= 1;
                    }
                }
                if left == 0 {
                    return;
                }
                let seen_before = receivers.iter().any(|receiver| !receiver.is_empty());
                sleepers.about_to_sleep(0);
                let mail = match sleep {
                    Sleep::AsItShould => receivers.iter().any(|receiver| !receiver.is_empty()),
                    Sleep::Blindly => false,
                    Sleep::LookFirst => seen_before,
                };
                if !mail {
                    thread::park();
                }
            }
        }
    });
    let wakers: Vec<_> = senders
        .into_iter()
        .map(|mut tx| {
            let (sleepers, thread) = (sleepers.clone(), shard.thread().clone());
            move || {
                weaken(waker);
                for n in 0..notes {
                    tx.send(n).unwrap();
                    if sleepers.must_wake(0) {
                        thread.unpark();
                    }
                }
            }
        })
        .collect();
    let mut wakers = wakers.into_iter();
    let mut here = wakers.next().unwrap();
    let elsewhere: Vec<_> = wakers.map(thread::spawn).collect();
    here();
    elsewhere.into_iter().for_each(|thread| thread.join().unwrap());
    shard.join().unwrap();
}

#[test]
fn no_wake_up_is_lost() {
    explore(|| everything_is_taken(1, 2, Sleep::AsItShould, None, None));
}

#[test]
fn no_wake_up_is_lost_between_two_wakers() {
    explore_some(4, || everything_is_taken(2, 1, Sleep::AsItShould, None, None));
}

#[test]
fn both_sides_need_their_fence() {
    let no_fence = Some(Weakness::Fences);
    let text = failure(move || everything_is_taken(1, 1, Sleep::AsItShould, no_fence, None));
    assert!(text.contains("deadlock"), "sleeper: {text}");
    let text = failure(move || everything_is_taken(1, 1, Sleep::AsItShould, None, no_fence));
    assert!(text.contains("deadlock"), "waker: {text}");
}

#[test]
fn a_sleeper_looks_once_more_after_it_said_so() {
    for wrong in [Sleep::Blindly, Sleep::LookFirst] {
        let text = failure(move || everything_is_taken(1, 1, wrong, None, None));
        assert!(text.contains("deadlock"), "{text}");
    }
}
