//! How many instructions parsers, encoders and deliveries take: counts that are the same on a busy machine, so that
//! they can guard against a change that makes something slower without anybody noticing.
//!
//! Each [`Case`] runs in a process of its own under callgrind ([`callgrind`]), which counts instructions between two
//! points ([`meter`]). The counts are compared with a checked-in file ([`baseline`]). The program is
//! `fanfare-instructions`; how to use it and what moves the counts is in `docs/performance.md`.

pub mod baseline;
pub mod callgrind;
mod deliveries;
mod encoders;
mod house;
pub mod meter;
mod parsers;
pub mod tools;

use meter::Meter;
use std::fmt;

/// Something whose instructions are counted.
pub struct Case {
    /// What it is, and the name under which its count is kept.
    pub name: String,
    run: Box<dyn Fn(&mut Meter)>,
}

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&mut Meter) + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// Does it, in this process. The instructions are counted by whoever watches.
    pub fn run(&self, meter: &mut Meter) {
        (self.run)(meter);
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All cases. Those that take longest come first, so that two processes end at about the same time.
pub fn cases() -> Vec<Case> {
    [deliveries::cases(), parsers::cases(), encoders::cases()].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_every_case_does_something() {
        let mut names = HashSet::new();
        for case in cases() {
            assert!(names.insert(case.name.clone()), "{} twice", case.name);
            let mut meter = Meter::default();
            case.run(&mut meter);
            assert!(meter.operations() > 0, "{}", case.name);
        }
    }
}
