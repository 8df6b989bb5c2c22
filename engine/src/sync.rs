//! The atomics between shards, behind traits: `std`'s in production, `loom`'s in the models that try every order in
//! which two shards may see each other's writes.
//!
//! Only what [`crate::interconnect`] and the holders of a segment need. Everything is a plain call to `std` once
//! compiled.

use std::cell::UnsafeCell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

// `loom` switches stacks by hand, which Miri cannot follow.
#[cfg(all(test, not(miri)))]
pub(crate) mod modelled;

/// Where atomics and memory shared between threads come from.
pub trait Machine: Debug + 'static {
    /// An atomic flag.
    type Flag: Atomic<bool>;
    /// An atomic word, as a counter or as bits.
    type Word: Bits;
    /// Plain memory that one thread writes and another reads, each in its time.
    type Place<T>: Place<T>;

    /// `std::sync::atomic::fence`.
    fn fence(order: Ordering);
}

/// An atomic `T`, `T::default()` at first.
pub trait Atomic<T>: Debug + Default + Send + Sync {
    /// As in `std::sync::atomic`.
    fn load(&self, order: Ordering) -> T;
    /// As in `std::sync::atomic`.
    fn store(&self, value: T, order: Ordering);
    /// As in `std::sync::atomic`.
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;
}

/// An atomic set of bits.
pub trait Bits: Atomic<u64> {
    /// As in `std::sync::atomic`.
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    /// As in `std::sync::atomic`.
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
}

/// An `UnsafeCell`. Whoever follows the pointers answers for it that nobody else does at the same time.
pub trait Place<T> {
    /// Holds `value`.
    fn new(value: T) -> Self;
    /// Lends the value to a reader.
    fn read<R>(&self, look: impl FnOnce(*const T) -> R) -> R;
    /// Lends the value to its one writer.
    fn write<R>(&self, change: impl FnOnce(*mut T) -> R) -> R;
}

/// The machine itself.
#[derive(Debug)]
pub struct Std;

impl Machine for Std {
    type Flag = AtomicBool;
    type Word = AtomicU64;
    type Place<T> = UnsafeCell<T>;

    fn fence(order: Ordering) {
        fence(order);
    }
}

impl Atomic<bool> for AtomicBool {
    fn load(&self, order: Ordering) -> bool {
        AtomicBool::load(self, order)
    }

    fn store(&self, value: bool, order: Ordering) {
        AtomicBool::store(self, value, order);
    }

    fn compare_exchange(&self, current: bool, new: bool, success: Ordering, failure: Ordering) -> Result<bool, bool> {
        AtomicBool::compare_exchange(self, current, new, success, failure)
    }
}

impl Atomic<u64> for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, current, new, success, failure)
    }
}

impl Bits for AtomicU64 {
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_or(self, bits, order)
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_and(self, bits, order)
    }
}

impl<T> Place<T> for UnsafeCell<T> {
    fn new(value: T) -> Self {
        UnsafeCell::new(value)
    }

    fn read<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.get())
    }

    fn write<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.get())
    }
}
