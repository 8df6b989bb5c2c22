//! Which load to try next. No clock, no runs: what was tried goes in, what to try comes out.

use serde::Serialize;

/// What a run said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The objective was met.
    Met,
    /// It was not.
    Missed,
    /// The generator was the bottleneck: nothing can be said.
    Invalid,
}

impl Outcome {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Invalid => "INVALID",
        }
    }
}

/// Where to look, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HuntOptions {
    /// The first load, above 0.
    pub from: f64,
    /// The highest, not below `from`.
    pub to: f64,
    /// Whole numbers only.
    pub whole: bool,
    /// Runs at most.
    pub runs_max: u32,
    /// How often the best must have met the objective, at least 1.
    pub confirm: u32,
}

/// How near the lowest that missed must be to the highest that met.
const NEAR: f64 = 1.1;

/// A best one that does not hold is tried again so much lower.
const STEP_DOWN: f64 = 0.9;

/// Below this part of the first load it is not worth looking.
const FLOOR_PART: f64 = 1.0 / 1024.0;

/// Runs at one load that may be invalid one after the other: a busy moment is no limit.
const TRIES: u32 = 3;

/// A search under way.
#[derive(Clone, Debug)]
pub struct Hunt {
    options: HuntOptions,
    runs: u32,
    next: Option<f64>,
    /// The highest that met, and how often it has.
    best: Option<(f64, u32)>,
    /// The lowest that did not.
    worst: Option<f64>,
    /// Invalid runs one after the other.
    invalid: u32,
}

impl Hunt {
    /// Begins with the first load.
    pub fn new(options: HuntOptions) -> Self {
        Self { options, runs: 0, next: Some(options.from), best: None, worst: None, invalid: 0 }
    }

    /// What to try, if anything.
    pub fn next(&self) -> Option<f64> {
        self.next.filter(|_| self.runs < self.options.runs_max)
    }

    /// What became of it.
    pub fn note(&mut self, value: f64, outcome: Outcome) {
        self.runs += 1;
        self.invalid = if outcome == Outcome::Invalid { self.invalid + 1 } else { 0 };
        if (1..TRIES).contains(&self.invalid) {
            self.next = Some(value);
            return;
        }
        self.invalid = 0;
        if outcome == Outcome::Met {
            self.best = match self.best {
                Some((best, times)) if best == value => Some((best, times + 1)),
                Some((best, times)) if best > value => Some((best, times)),
                _ => Some((value, 1)),
            };
        } else {
            self.worst = Some(self.worst.map_or(value, |worst| worst.min(value)));
            // One that has met and then did not is no best.
            self.best = self.best.filter(|&(best, _)| best < value);
        }
        self.next = self.plan(value, outcome);
    }

    fn plan(&self, last: f64, outcome: Outcome) -> Option<f64> {
        let HuntOptions { from, to, confirm, .. } = self.options;
        let lower = |value: f64, factor: f64| {
            let next = self.rounded(value * factor).min(if self.options.whole { value - 1.0 } else { value });
            (next >= from * FLOOR_PART && next > 0.0).then_some(next)
        };
        let Some((best, times)) = self.best else {
            // Nothing has met yet, or the best has not held: lower, by much at first and by little near what had met.
            let held_before = outcome != Outcome::Met && self.runs > 1 && last > from;
            return lower(self.worst.unwrap_or(last), if held_before { STEP_DOWN } else { 0.5 });
        };
        let between = match self.worst {
            None if best >= to => None,
            None => Some(self.rounded((best * 2.0).min(to))),
            Some(worst) if worst / best <= NEAR => None,
            Some(worst) => Some(self.rounded((best * worst).sqrt())).filter(|middle| *middle > best && *middle < worst),
        };
        between.or_else(|| (times < confirm).then_some(best))
    }

    fn rounded(&self, value: f64) -> f64 {
        if self.options.whole { value.round() } else { value }
    }

    /// The highest that has met the objective as often as was asked for.
    pub fn found(&self) -> Option<f64> {
        self.best.filter(|&(_, times)| times >= self.options.confirm).map(|(best, _)| best)
    }

    /// How often it has.
    pub fn confirmed(&self) -> u32 {
        self.best.map_or(0, |(_, times)| times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: HuntOptions = HuntOptions { from: 10.0, to: 10_000.0, whole: true, runs_max: 40, confirm: 3 };

    /// All tries with a server that meets the objective up to `limit`.
    fn hunt(options: HuntOptions, mut outcome: impl FnMut(f64, usize) -> Outcome) -> (Hunt, Vec<f64>) {
        let (mut hunt, mut tried) = (Hunt::new(options), Vec::new());
        while let Some(value) = hunt.next() {
            tried.push(value);
            hunt.note(value, outcome(value, tried.len()));
        }
        (hunt, tried)
    }

    fn up_to(limit: f64) -> impl FnMut(f64, usize) -> Outcome {
        move |value, _| if value <= limit { Outcome::Met } else { Outcome::Missed }
    }

    #[test]
    fn the_limit_is_found_from_any_side() {
        for limit in [1.0, 7.0, 10.0, 11.0, 137.0, 4_000.0, 9_999.0] {
            let (hunt, tried) = hunt(OPTIONS, up_to(limit));
            let found = hunt.found().expect("found");
            assert!(found <= limit && (found * NEAR >= limit - 1.0), "{limit}: {found} of {tried:?}");
            assert_eq!(tried.iter().filter(|&&value| value == found).count(), 3);
            assert!(tried.len() <= 24, "{limit}: {tried:?}");
        }
    }

    #[test]
    fn the_upper_end_is_an_end() {
        let (hunt, tried) = hunt(OPTIONS, up_to(f64::MAX));
        assert_eq!(hunt.found(), Some(10_000.0));
        assert_eq!(tried[tried.len() - 3..], [10_000.0; 3]);
    }

    #[test]
    fn what_never_meets_ends_as_well() {
        let (hunt, tried) = hunt(HuntOptions { whole: false, ..OPTIONS }, up_to(0.0));
        assert_eq!(hunt.found(), None);
        assert!(tried.len() <= 12, "{tried:?}");
        let (hunt, tried) = super::tests::hunt(OPTIONS, |_, _| Outcome::Invalid);
        assert_eq!((hunt.found(), hunt.confirmed()), (None, 0));
        assert!(tried.len() <= 36 && tried.chunks(3).all(|three| three == [three[0]; 3]), "{tried:?}");
        assert!(tried.chunks(3).zip(tried.chunks(3).skip(1)).all(|(one, next)| next[0] < one[0]), "{tried:?}");
    }

    #[test]
    fn a_best_one_that_does_not_hold_is_given_up_for_a_lower_one() {
        // 100 meets once by luck.
        let mut lucky = true;
        let options = HuntOptions { from: 100.0, to: 100.0, ..OPTIONS };
        let (hunt, tried) = hunt(options, |value, _| match value {
            100.0 if std::mem::take(&mut lucky) => Outcome::Met,
            100.0.. => Outcome::Missed,
            _ => Outcome::Met,
        });
        let found = hunt.found().expect("found");
        assert!((50.0..100.0).contains(&found), "{tried:?}");
        assert_eq!(hunt.confirmed(), 3);
    }

    #[test]
    fn one_invalid_run_is_no_limit() {
        // Each load is invalid at its first try.
        let mut seen = Vec::new();
        let (hunt, tried) = hunt(OPTIONS, |value, _| {
            if seen.contains(&value) {
                return up_to(137.0)(value, 0);
            }
            seen.push(value);
            Outcome::Invalid
        });
        assert!(hunt.found().is_some_and(|found| (124.0..=137.0).contains(&found)), "{tried:?}");
    }

    #[test]
    fn runs_are_bounded_whatever_happens() {
        for runs_max in [1, 2, 5, 9] {
            let mut flip = false;
            let (hunt, tried) = hunt(HuntOptions { runs_max, ..OPTIONS }, |_, _| {
                flip = !flip;
                if flip { Outcome::Met } else { Outcome::Missed }
            });
            assert!(tried.len() <= runs_max as usize, "{tried:?} {hunt:?}");
        }
    }
}
