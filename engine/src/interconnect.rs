//! Between shards of one process: one bounded ring per ordered pair, a mailbox per shard for everybody else, and the
//! sleeping flags that make a wake-up cost nothing when nobody sleeps.
//!
//! A note never carries payload. It names runs in the sender's log; the sender wrote the bytes before it published
//! the note (Release), the reader took the note (Acquire) before it looks.

use crate::limits::{NOTES_MAX, NOTES_OVERFLOW_MAX};
use crossbeam_utils::CachePadded;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// One direction between two shards: single producer, single consumer, `NOTES_MAX` places.
struct Ring<N> {
    /// Notes ever published. Written by the producer.
    tail: CachePadded<AtomicU64>,
    /// Notes ever taken. Written by the consumer.
    head: CachePadded<AtomicU64>,
    places: Box<[UnsafeCell<MaybeUninit<N>>]>,
}

// SAFETY: a place is written by the one producer before `tail` passes it (Release) and read by the one consumer
// after it saw that (Acquire); it is written again only after `head` passed it (Release) and the producer saw that
// (Acquire). `Sender` and `Receiver` are not Clone, so there is one of each.
unsafe impl<N: Copy + Send> Sync for Ring<N> {}
// SAFETY: the ring owns its places; notes are `Send`.
unsafe impl<N: Copy + Send> Send for Ring<N> {}

/// The producing end, with the notes that did not fit.
pub struct Sender<N> {
    ring: Arc<Ring<N>>,
    tail: u64,
    head_seen: u64,
    overflow: VecDeque<N>,
    overflowed_total: u64,
}

/// The consuming end.
pub struct Receiver<N> {
    ring: Arc<Ring<N>>,
    head: u64,
    tail_seen: u64,
}

/// Makes one direction.
pub fn ring<N: Copy + Send>() -> (Sender<N>, Receiver<N>) {
    let places = (0..NOTES_MAX).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { tail: CachePadded::default(), head: CachePadded::default(), places });
    (
        Sender { ring: ring.clone(), tail: 0, head_seen: 0, overflow: VecDeque::new(), overflowed_total: 0 },
        Receiver { ring, head: 0, tail_seen: 0 },
    )
}

impl<N: Copy + Send> Sender<N> {
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
        if self.tail - self.head_seen == NOTES_MAX as u64 {
            self.head_seen = self.ring.head.load(Ordering::Acquire);
            if self.tail - self.head_seen == NOTES_MAX as u64 {
                return false;
            }
        }
        let place = &self.ring.places[self.tail as usize % NOTES_MAX];
        // SAFETY: the consumer has passed this place (`head_seen`, Acquire) or it was never used; we are the only
        // producer, and the consumer reads it only after the store to `tail` below.
        unsafe { (*place.get()).write(note) };
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

    /// Whether notes wait on our side.
    pub fn is_backed_up(&self) -> bool {
        !self.overflow.is_empty()
    }
}

impl<N: Copy + Send> Receiver<N> {
    /// Looks at the next note without letting its place go: whoever keeps what it names holds it first.
    pub fn peek(&mut self) -> Option<N> {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let place = &self.ring.places[self.head as usize % NOTES_MAX];
        // SAFETY: the producer wrote this place before the `tail` we saw (Acquire) and leaves it until `head` passes.
        Some(unsafe { (*place.get()).assume_init() })
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
pub struct Sleepers(Box<[CachePadded<AtomicBool>]>);

impl Sleepers {
    /// Everybody awake.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// `shard` is about to sleep: it must look at its rings once more after this, and call [`Self::awake`] after.
    pub fn about_to_sleep(&self, shard: u8) {
        self.0[shard as usize].store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// `shard` is awake.
    pub fn awake(&self, shard: u8) {
        self.0[shard as usize].store(false, Ordering::SeqCst);
    }

    /// Something was published for `shard`: must the caller wake it?
    pub fn must_wake(&self, shard: u8) -> bool {
        fence(Ordering::SeqCst);
        let flag = &self.0[shard as usize];
        flag.load(Ordering::SeqCst) && flag.swap(false, Ordering::SeqCst)
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
