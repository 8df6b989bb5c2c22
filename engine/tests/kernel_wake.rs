//! Shards wake each other, and threads without a ring wake shards. No wake may get lost.

mod kernel_support;

use fanfare_engine::buf::{Logs, SEGMENT_BYTES};
use fanfare_engine::io::{Completion, Io, RingFds, Wait};
use kernel_support::{FIRST, PATIENCE_US, Sizes, Station, USUAL};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SMALL: Sizes = Sizes { slots: 16, ..USUAL };

/// One side of the ping-pong: waits until its counter has moved, then moves the other's and wakes it.
///
/// The counter stands for the ring between two shards; a side that sleeps while its counter has moved and is not
/// woken has lost a wake, and runs into its deadline.
fn play(shard: u8, rounds: u64, logs: &Logs, ring_fds: &Arc<RingFds>, balls: &[AtomicU64; 2], via_ring: bool) -> u64 {
    let mut station = Station::of_shard(&SMALL, shard, logs, ring_fds);
    let other = 1 - shard;
    let handle = ring_fds.wake_handle(other);
    let mut woken = 0;
    for round in 1..=rounds {
        if shard == 0 {
            balls[1].store(round, Ordering::SeqCst);
            if via_ring { station.uring.wake(other) } else { handle.wake() }
        }
        let deadline = station.uring.now_us() + PATIENCE_US;
        while balls[shard as usize].load(Ordering::SeqCst) < round {
            let wait = Wait { want: 1, min_wait_us: 0, deadline_us: deadline };
            station.uring.enter(wait, &mut station.pool, &mut station.seen).unwrap();
            woken += station.seen.drain(..).filter(|completion| *completion == Completion::Woken).count() as u64;
            assert!(station.uring.now_us() < deadline, "shard {shard}: wake of round {round} was lost");
        }
        if shard == 1 {
            balls[0].store(round, Ordering::SeqCst);
            if via_ring { station.uring.wake(other) } else { handle.wake() }
        }
    }
    // The last wake must leave before the ring does.
    station.enter(0, 0);
    woken
}

fn ping_pong(rounds: u64, via_ring: bool) {
    let logs = Logs::new(2, SEGMENT_BYTES).unwrap();
    let ring_fds = RingFds::new(2).unwrap();
    let balls = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let players: Vec<_> = (0..2)
        .map(|shard| {
            let (logs, ring_fds, balls) = (logs.clone(), ring_fds.clone(), balls.clone());
            std::thread::spawn(move || play(shard, rounds, &logs, &ring_fds, &balls, via_ring))
        })
        .collect();
    let woken: u64 = players.into_iter().map(|player| player.join().unwrap()).sum();
    assert!(woken > 0);
}

#[test]
fn two_rings_wake_each_other_a_hundred_thousand_times() {
    ping_pong(50_000, true);
}

#[test]
fn threads_wake_rings_through_handles() {
    ping_pong(10_000, false);
}

#[test]
fn a_wake_behind_queued_sends_goes_out_at_once() {
    let logs = Logs::new(2, SEGMENT_BYTES).unwrap();
    let ring_fds = RingFds::new(2).unwrap();
    let mut sender = Station::of_shard(&SMALL, 0, &logs, &ring_fds);
    let mut sleeper = Station::of_shard(&SMALL, 1, &logs, &ring_fds);
    let address = sender.listen();
    let (_peer, slot) = sender.peer(address);
    sender.uring.poll(slot, FIRST());
    let extent = sender.write_one(b"x");
    sender.uring.send(slot, 0, extent);
    sender.uring.wake(1);
    // The sender has not entered yet.
    sleeper.until("wake", |completion| (*completion == Completion::Woken).then_some(()));
}

#[test]
fn wakes_before_the_other_side_starts_and_to_oneself_arrive() {
    let logs = Logs::new(2, SEGMENT_BYTES).unwrap();
    let ring_fds = RingFds::new(2).unwrap();
    let mut first = Station::of_shard(&SMALL, 0, &logs, &ring_fds);
    first.uring.wake(1);
    first.uring.wake(0);
    first.until("own wake", |completion| (*completion == Completion::Woken).then_some(()));
    let mut second = Station::of_shard(&SMALL, 1, &logs, &ring_fds);
    second.until("early wake", |completion| (*completion == Completion::Woken).then_some(()));

    drop(second);
    first.uring.wake(1);
    first.enter(0, 0);
    ring_fds.wake_handle(1).wake();
}
