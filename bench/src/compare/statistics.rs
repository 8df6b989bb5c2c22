//! Medians and spreads, of values and of ratios paired in time.

use serde::Serialize;

/// A median with its extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// How many values.
    pub count: usize,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, min, max, count: values.len() })
    }

    /// The ratios of values taken in the same round. The speed of a machine drifts from minute to minute, by 1.4 and
    /// more on a shared one; what was measured in one round drifted together. Rounds that lack either are left out.
    pub fn of_ratios(values: &[Option<f64>], references: &[Option<f64>]) -> Option<Spread> {
        let pairs = values.iter().zip(references).filter_map(|(value, reference)| Some(((*value)?, (*reference)?)));
        Spread::of(pairs.filter(|(_, reference)| *reference > 0.0).map(|(value, reference)| value / reference))
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, count: 3 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_paired_by_round() {
        // A machine that halves its speed in the second round changes both values and not their ratio.
        let values = [Some(1.1), Some(2.2), None, Some(9.0)];
        let references = [Some(1.0), Some(2.0), Some(1.0), None];
        let spread = Spread::of_ratios(&values, &references).unwrap();
        assert!((spread.min - 1.1).abs() < 1e-9 && (spread.max - 1.1).abs() < 1e-9);
        assert_eq!(spread.count, 2);
        assert_eq!(Spread::of_ratios(&[Some(1.0)], &[Some(0.0)]), None);
    }
}
