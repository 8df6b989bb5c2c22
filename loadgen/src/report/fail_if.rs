//! `--fail-if 'last.p99>1.1x'`: when a comparison counts as broken.

use super::document::Document;
use crate::threshold::{Relation, Threshold, check_metric, find_relation};
use std::fmt;

/// A figure, an operator, and a ratio (`1.1x`: B against A) or a bound for B alone (`20ms`, `0`).
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf {
    text: String,
    bound: Bound,
}

#[derive(Clone, Debug, PartialEq)]
enum Bound {
    Ratio { metric: String, relation: Relation, ratio: f64 },
    Value(Threshold),
}

impl FailIf {
    /// Parses `METRIC>1.1x` or `METRIC>BOUND`, with the figures and units of `--threshold`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bound = match text.trim().strip_suffix('x') {
            None => Bound::Value(Threshold::parse(text)?),
            Some(front) => {
                let (at, len, relation) = find_relation(front)
                    .ok_or_else(|| format!("'{text}' has no comparison: write for example last.p99>1.1x"))?;
                let metric = front[..at].trim().to_owned();
                check_metric(&metric)?;
                let ratio = front[at + len..].trim();
                let ratio: f64 =
                    ratio.parse().map_err(|_| format!("'{ratio}x' is not a ratio: write for example 1.1x"))?;
                if !ratio.is_finite() || ratio < 0.0 {
                    return Err(format!("'{ratio}x' is not a ratio: write for example 1.1x"));
                }
                Bound::Ratio { metric, relation, ratio }
            }
        };
        Ok(Self { text: text.to_owned(), bound })
    }

    /// Whether it holds, which is bad, and the figures. One that cannot be told counts as broken.
    pub(super) fn check(&self, a: &Document, b: &Document) -> (bool, String) {
        match &self.bound {
            Bound::Value(threshold) => match b.figure(threshold.metric()) {
                None => (true, "B has no such figure".to_owned()),
                Some(value) => (threshold.check(Some(value)).met, format!("{value} in B")),
            },
            Bound::Ratio { metric, relation, ratio } => match (a.figure(metric), b.figure(metric)) {
                (None, _) => (true, "A has no such figure".to_owned()),
                (_, None) => (true, "B has no such figure".to_owned()),
                // Nothing against nothing is the same; something against nothing is beyond any ratio.
                (Some(a), Some(b)) => {
                    let found = if a == b { 1.0 } else { b / a };
                    (relation.holds(found, *ratio), format!("{a} in A, {b} in B"))
                }
            },
        }
    }
}

impl fmt::Display for FailIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn missing(count: u64) -> Document {
        Document { path: "r.json".into(), value: json!({"missing": count}) }
    }

    #[test]
    fn ratios_and_bounds() {
        let broken = |text: &str, a, b| FailIf::parse(text).expect(text).check(&missing(a), &missing(b)).0;
        assert!(broken("missing>1.5x", 10, 16));
        assert!(!broken("missing > 1.5x", 10, 15));
        assert!(broken("missing>1.5x", 0, 1));
        assert!(!broken("missing>1.5x", 0, 0));
        assert!(broken("missing>0", 9, 1));
        assert!(!broken("missing>0", 9, 0));
        assert!(broken("last.p99>20ms", 0, 0), "no such figure");
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, part) in [
            ("last.p99", "no comparison"),
            ("last.p99x", "no comparison"),
            ("speed>1.1x", "not a figure"),
            ("last.p99>fastx", "not a ratio"),
            ("last.p99>-1x", "not a ratio"),
            ("last.p99>soon", "does not start with a number"),
        ] {
            let error = FailIf::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
