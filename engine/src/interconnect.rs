//! Between shards of one process: one bounded ring per ordered pair, a mailbox per shard for everybody else, and the
//! sleeping flags that make a wake-up cost nothing when nobody sleeps.
//!
//! A note never carries payload. It names runs in the sender's log; the sender wrote the bytes before it published
//! the note (Release), the reader took the note (Acquire) before it looks.

use crate::limits::{NOTES_MAX, NOTES_OVERFLOW_MAX};
use crate::sync::{Atomic, Machine, Place, Std};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(all(test, not(miri)))]
mod models;

/// One direction between two shards: single producer, single consumer, `NOTES_MAX` places.
struct Ring<N, M: Machine> {
    /// Notes ever published. Written by the producer.
    tail: CachePadded<M::Word>,
    /// Notes ever taken. Written by the consumer.
    head: CachePadded<M::Word>,
    /// A power of two of them.
    places: Box<[M::Place<MaybeUninit<N>>]>,
}

// SAFETY: a place is written by the one producer before `tail` passes it (Release) and read by the one consumer
// after it saw that (Acquire); it is written again only after `head` passed it (Release) and the producer saw that
// (Acquire). `Sender` and `Receiver` are not Clone, so there is one of each.
unsafe impl<N: Copy + Send, M: Machine> Sync for Ring<N, M> {}
// SAFETY: the ring owns its places; notes are `Send`.
unsafe impl<N: Copy + Send, M: Machine> Send for Ring<N, M> {}

impl<N, M: Machine> Ring<N, M> {
    fn place(&self, position: u64) -> &M::Place<MaybeUninit<N>> {
        &self.places[position as usize & (self.places.len() - 1)]
    }
}

/// The producing end, with the notes that did not fit.
pub struct Sender<N, M: Machine = Std> {
    ring: Arc<Ring<N, M>>,
    tail: u64,
    head_seen: u64,
    overflow: VecDeque<N>,
    overflowed_total: u64,
}

/// The consuming end.
pub struct Receiver<N, M: Machine = Std> {
    ring: Arc<Ring<N, M>>,
    head: u64,
    tail_seen: u64,
}

/// Makes one direction.
pub fn ring<N: Copy + Send>() -> (Sender<N>, Receiver<N>) {
    ring_of(NOTES_MAX)
}

pub(crate) fn ring_of<N: Copy + Send, M: Machine>(places: usize) -> (Sender<N, M>, Receiver<N, M>) {
    assert!(places.is_power_of_two());
    let places = (0..places).map(|_| M::Place::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { tail: CachePadded::default(), head: CachePadded::default(), places });
    (
        Sender { ring: ring.clone(), tail: 0, head_seen: 0, overflow: VecDeque::new(), overflowed_total: 0 },
        Receiver { ring, head: 0, tail_seen: 0 },
    )
}

impl<N: Copy + Send, M: Machine> Sender<N, M> {
    /// Sends `note`, in order. A full ring makes it wait on our side; `Err`: that, too, is full
    /// (`NOTES_OVERFLOW_MAX`) and the note was not taken.
    pub fn send(&mut self, note: N) -> Result<(), N> {
        if !self.overflow.is_empty() {
            self.flush();
        }
        if self.overflow.is_empty() && self.publish(note) {
            return Ok(());
        }
        if self.overflow.len() >= NOTES_OVERFLOW_MAX {
            return Err(note);
        }
        self.overflowed_total += 1;
        self.overflow.push_back(note);
        Ok(())
    }

    /// Moves waiting notes into the ring. Returns whether any moved.
    pub fn flush(&mut self) -> bool {
        let mut moved = false;
        while let Some(&note) = self.overflow.front() {
            if !self.publish(note) {
                break;
            }
            self.overflow.pop_front();
            moved = true;
        }
        moved
    }

    fn publish(&mut self, note: N) -> bool {
        let places = self.ring.places.len() as u64;
        if self.tail - self.head_seen == places {
            self.head_seen = self.ring.head.load(Ordering::Acquire);
            if self.tail - self.head_seen == places {
                return false;
            }
        }
        // SAFETY: the consumer has passed this place (`head_seen`, Acquire) or it was never used; we are the only
        // producer, and the consumer reads it only after the store to `tail` below.
        self.ring.place(self.tail).write(|place| unsafe { (*place).write(note) });
        self.tail += 1;
        self.ring.tail.store(self.tail, Ordering::Release);
        true
    }

    /// Notes ever sent, waiting ones included: a position that `read_position` reaches when all were taken.
    pub fn position(&self) -> u64 {
        self.tail + self.overflow.len() as u64
    }

    /// Notes ever taken by the other side.
    pub fn read_position(&self) -> u64 {
        self.ring.head.load(Ordering::Acquire)
    }

    /// Notes that had to wait on our side, ever.
    pub fn overflowed_total(&self) -> u64 {
        self.overflowed_total
    }

    /// Whether the ring would take a note.
    pub fn has_room(&self) -> bool {
        self.tail - self.ring.head.load(Ordering::Acquire) < self.ring.places.len() as u64
    }

    /// Whether notes wait on our side.
    pub fn is_backed_up(&self) -> bool {
        !self.overflow.is_empty()
    }
}

impl<N: Copy + Send, M: Machine> Receiver<N, M> {
    /// Looks at the next note without letting its place go: whoever keeps what it names holds it first.
    pub fn peek(&mut self) -> Option<N> {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: the producer wrote this place before the `tail` we saw (Acquire) and leaves it until `head` passes.
        Some(self.ring.place(self.head).read(|place| unsafe { (*place).assume_init() }))
    }

    /// Lets the note of the last `peek` go.
    pub fn advance(&mut self) {
        debug_assert!(self.head < self.tail_seen);
        self.head += 1;
        self.ring.head.store(self.head, Ordering::Release);
    }

    /// Whether there is nothing to take, read from the ring itself.
    pub fn is_empty(&self) -> bool {
        self.ring.tail.load(Ordering::Acquire) == self.head
    }
}

/// Who sleeps. The protocol has two fences, one on each side, or a wake-up gets lost:
///
/// ```text
/// sleeper                          waker
/// sleeping = true                  publish the note
/// -- fence --                      -- fence --
/// look at the rings once more      sleeping == true ? make it false, wake : nothing to do
/// ```
#[derive(Debug)]
pub struct Sleepers<M: Machine = Std>(Box<[CachePadded<M::Flag>]>);

impl<M: Machine> Sleepers<M> {
    /// Everybody awake.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// `shard` is about to sleep: it must look at its rings once more after this, and call [`Self::awake`] after.
    pub fn about_to_sleep(&self, shard: u8) {
        self.0[shard as usize].store(true, Ordering::SeqCst);
        M::fence(Ordering::SeqCst);
    }

    /// `shard` is awake.
    pub fn awake(&self, shard: u8) {
        self.0[shard as usize].store(false, Ordering::SeqCst);
    }

    /// Something was published for `shard`: must the caller wake it?
    pub fn must_wake(&self, shard: u8) -> bool {
        M::fence(Ordering::SeqCst);
        let flag = &self.0[shard as usize];
        flag.load(Ordering::SeqCst) && flag.compare_exchange(true, false, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_their_order_through_overflow() {
        let (mut tx, mut rx) = ring::<u64>();
        let total = 3 * NOTES_MAX as u64;
        for n in 0..total {
            tx.send(n).unwrap();
        }
        assert!(tx.is_backed_up());
        assert_eq!(tx.position(), total);
        for n in 0..total {
            if rx.is_empty() {
                assert!(tx.flush());
            }
            assert_eq!(rx.peek(), Some(n));
            rx.advance();
        }
        assert_eq!(tx.read_position(), total);
        assert_eq!(rx.peek(), None);
    }

    #[test]
    fn a_full_overflow_gives_the_note_back() {
        let (mut tx, _rx) = ring::<u32>();
        for n in 0..(NOTES_MAX + NOTES_OVERFLOW_MAX) as u32 {
            tx.send(n).unwrap();
        }
        assert_eq!(tx.send(7), Err(7));
    }

    #[test]
    fn two_threads_see_every_note_once_in_order() {
        let (mut tx, mut rx) = ring::<u64>();
        let total = if cfg!(miri) { 2_000 } else { 300_000 };
        let producer = std::thread::spawn(move || {
            let mut n = 0;
            while n < total {
                match tx.send(n) {
                    Ok(()) => n += 1,
                    Err(_) => std::thread::yield_now(),
                }
            }
            while tx.is_backed_up() {
                tx.flush();
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < total {
            if let Some(n) = rx.peek() {
                assert_eq!(n, expected);
                expected += 1;
                rx.advance();
            } else {
                std::thread::yield_now();
            }
        }
        producer.join().unwrap();
    }
}
