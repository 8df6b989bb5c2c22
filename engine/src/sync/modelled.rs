//! `loom` as the machine, with a way to break it: a model is worth something only if it fails when a thread leaves
//! out what it relies on.

use super::{Atomic, Bits, Machine, Place};
use std::cell::Cell;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering;

/// What a thread of a model leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// Its loads are Relaxed.
    Loads,
    /// Its stores are Relaxed.
    Stores,
    /// Its read-modify-writes are Relaxed.
    Changes,
    /// It has no fences.
    Fences,
}

loom::thread_local! {
    static WEAKNESS: Cell<Option<Weakness>> = Cell::new(None);
}

/// The calling thread of a model has this weakness from now on.
pub(crate) fn weaken(weakness: Option<Weakness>) {
    WEAKNESS.with(|mine| mine.set(weakness));
}

fn has(weakness: Weakness) -> bool {
    WEAKNESS.with(Cell::get) == Some(weakness)
}

fn unless(weakness: Weakness, order: Ordering) -> Ordering {
    if has(weakness) { Ordering::Relaxed } else { order }
}

/// Runs `model` in every order that its threads can get into.
///
/// # Panics
/// If any of them fails, and so, too, if threads wait for each other for ever or touch a place at the same time.
pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_some(None, model);
}

/// As [`explore`], with at most so many interruptions of a thread that could go on: for models that are too large.
pub(crate) fn explore_some(interruptions: impl Into<Option<usize>>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions.into();
    builder.check(model);
}

/// What [`explore`] says about a model that must fail.
///
/// # Panics
/// If it does not fail.
pub(crate) fn failure(model: impl Fn() + Sync + Send + std::panic::UnwindSafe + 'static) -> String {
    let error = catch_unwind(|| explore(model)).expect_err("the model does not see what was broken");
    let text = error.downcast_ref::<String>().cloned();
    text.or_else(|| error.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a panic with a text")
}

#[derive(Debug)]
pub(crate) struct Loom;

impl Machine for Loom {
    type Flag = loom::sync::atomic::AtomicBool;
    type Word = loom::sync::atomic::AtomicU64;
    type Place<T> = loom::cell::UnsafeCell<T>;

    fn fence(order: Ordering) {
        if !has(Weakness::Fences) {
            loom::sync::atomic::fence(order);
        }
    }
}

impl Atomic<bool> for loom::sync::atomic::AtomicBool {
    fn load(&self, order: Ordering) -> bool {
        self.load(unless(Weakness::Loads, order))
    }

    fn store(&self, value: bool, order: Ordering) {
        self.store(value, unless(Weakness::Stores, order));
    }

    fn compare_exchange(&self, current: bool, new: bool, success: Ordering, failure: Ordering) -> Result<bool, bool> {
        let [success, failure] = [success, failure].map(|order| unless(Weakness::Changes, order));
        self.compare_exchange(current, new, success, failure)
    }
}

impl Atomic<u64> for loom::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(unless(Weakness::Loads, order))
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, unless(Weakness::Stores, order));
    }

    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        let [success, failure] = [success, failure].map(|order| unless(Weakness::Changes, order));
        self.compare_exchange(current, new, success, failure)
    }
}

impl Bits for loom::sync::atomic::AtomicU64 {
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_or(bits, unless(Weakness::Changes, order))
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_and(bits, unless(Weakness::Changes, order))
    }
}

impl<T> Place<T> for loom::cell::UnsafeCell<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn read<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        self.with(look)
    }

    fn write<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        self.with_mut(change)
    }
}
