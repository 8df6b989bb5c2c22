//! The part of a case that is counted, and the part that is not.
//!
//! Callgrind switches counting over whenever one of two functions is entered or left
//! (`--toggle-collect`, see [`super::callgrind`]). Counting is off at first. [`Meter::measure`] runs each operation in
//! the first function: on. [`uncounted`] runs something in the second, in the middle of an operation: off again.
//! Switching over is all that callgrind knows, so the second one must not be entered while counting is off.

use std::cell::Cell;
use std::hint::black_box;

/// The functions that switch, as callgrind's patterns name them, however the compiler mangles names.
pub const SWITCHES: [&str; 2] = ["*fanfare_counted_part*", "*fanfare_uncounted_part*"];

/// Runs before an operation is counted: buffers grow to their size, caches fill.
const WARM_UP: u32 = 3;

thread_local! {
    /// Whether an operation is being counted, and not in a part of it that is left out.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

/// Runs the operations of one case.
#[derive(Debug, Default)]
pub struct Meter {
    slower_percent: u32,
    operations: u64,
}

impl Meter {
    /// One that makes every case slower than it is, to show that this is noticed: of 100 operations so many are done
    /// twice and counted as one. 0 to 100.
    pub fn slower(slower_percent: u32) -> Self {
        Self { slower_percent, operations: 0 }
    }

    /// Operations measured so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Counts `operation` so many times; `prepare` comes before each and is not counted.
    pub fn measure<S>(
        &mut self,
        iterations: u32,
        state: &mut S,
        mut prepare: impl FnMut(&mut S),
        mut operation: impl FnMut(&mut S),
    ) {
        for _ in 0..WARM_UP {
            prepare(state);
            warm_up(&mut || operation(state));
        }
        let mut owed_percent = 0;
        for _ in 0..iterations {
            prepare(state);
            counted(&mut || operation(state));
            owed_percent += self.slower_percent;
            if owed_percent >= 100 {
                owed_percent -= 100;
                prepare(state);
                counted(&mut || operation(state));
            }
        }
        self.operations += u64::from(iterations);
    }

    /// Counts `operation` so many times, where nothing has to be prepared.
    pub fn repeat(&mut self, iterations: u32, mut operation: impl FnMut()) {
        self.measure(iterations, &mut (), |()| {}, |()| operation());
    }

    /// Says that each operation so far was `parts` of what the case is about: broadcasts to so many answers.
    pub fn divide(&mut self, parts: u64) {
        self.operations *= parts;
    }
}

// Three functions with a body of their own each: equal ones would become one, and a call at the end a jump.

#[inline(never)]
fn warm_up(work: &mut dyn FnMut()) {
    work();
    black_box(0u8);
}

#[inline(never)]
fn fanfare_counted_part(work: &mut dyn FnMut()) {
    work();
    black_box(1u8);
}

#[inline(never)]
fn fanfare_uncounted_part(work: &mut dyn FnMut()) {
    work();
    black_box(2u8);
}

fn counted(work: &mut dyn FnMut()) {
    COUNTING.set(true);
    fanfare_counted_part(work);
    COUNTING.set(false);
}

/// Does something that is not to be counted with the operation in whose middle it is.
#[inline]
pub fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    if !COUNTING.replace(false) {
        return work();
    }
    let value = switched_off(work);
    COUNTING.set(true);
    value
}

#[inline]
fn switched_off<T>(work: impl FnOnce() -> T) -> T {
    let (mut work, mut value) = (Some(work), None);
    fanfare_uncounted_part(&mut || value = work.take().map(|work| work()));
    value.expect("it was called once")
}
