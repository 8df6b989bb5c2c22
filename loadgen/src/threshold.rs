//! `--threshold 'last.p99<20ms'`: what a run must reach, checked against the finished report.

use crate::quantity;
use serde::Serialize;
use std::fmt;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
}

impl Relation {
    pub(crate) fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::LessEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterEqual => value >= bound,
            Self::Equal => value == bound,
        }
    }
}

/// A figure of the report, an operator, a bound. Displays as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    class: Option<String>,
    metric: String,
    relation: Relation,
    bound: f64,
}

/// Distributions of a report that a threshold may name, with a percentile behind the dot.
pub const DISTRIBUTIONS: [&str; 7] = ["from_intended", "from_actual", "first", "half", "last", "spread", "send_delay"];

/// Percentiles and other figures of a distribution.
pub const POINTS: [&str; 6] = ["p50", "p90", "p99", "p99_9", "max", "mean"];

/// Plain figures that a threshold may name.
pub const FIGURES: [&str; 18] = [
    "missing",
    "duplicate",
    "out_of_order",
    "corrupt",
    "misrouted",
    "late",
    "deliveries",
    "silent",
    "stalls",
    "connected",
    "refused",
    "away",
    "all_back_s",
    "last_p99_ratio",
    "server_private_bytes_per_h",
    "cpu_us_per_delivery",
    "cpu_us_per_connection",
    "bytes_per_connection",
];

/// Distributions that each class has for itself.
pub const CLASS_DISTRIBUTIONS: [&str; 2] = ["from_intended", "last"];

/// Plain figures that each class has for itself.
pub const CLASS_FIGURES: [&str; 7] =
    ["missing", "duplicate", "out_of_order", "corrupt", "misrouted", "late", "deliveries"];

impl Threshold {
    /// Parses `METRIC<BOUND` with one of `< <= > >= ==`. Bounds of distributions take units (`20ms`), bytes take
    /// sizes (`2KiB`), the rest are numbers.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (at, len, relation) = find_relation(text)
            .ok_or_else(|| format!("'{text}' has no comparison: write for example last.p99<20ms or missing==0"))?;
        let metric = text[..at].trim().to_owned();
        let bound_text = text[at + len..].trim();
        check_metric(&metric)?;
        let bound = if metric.contains('.') {
            quantity::parse_duration(bound_text)?.as_secs_f64() * 1e6
        } else if metric == "bytes_per_connection" {
            quantity::parse_bytes(bound_text)? as f64
        } else {
            bound_text.parse().map_err(|_| format!("'{bound_text}' is not a number"))?
        };
        Ok(Self { text: text.to_owned(), class: None, metric, relation, bound })
    }

    /// The same, where the figure may be that of one class: `CLASS.last.p99<25ms`.
    pub fn parse_for(text: &str, classes: &[&str]) -> Result<Self, String> {
        let of_class = |class: &&&str| text.strip_prefix(**class).is_some_and(|rest| rest.starts_with('.'));
        // A name may begin with another: the longest is meant.
        let Some(class) = classes.iter().filter(of_class).max_by_key(|class| class.len()) else {
            return Self::parse(text);
        };
        let threshold = Self::parse(&text[class.len() + 1..])?;
        let metric = threshold.metric.as_str();
        let known =
            metric.split_once('.').map_or(CLASS_FIGURES.contains(&metric), |(of, _)| CLASS_DISTRIBUTIONS.contains(&of));
        if !known {
            return Err(format!(
                "'{metric}' is not a figure of one class: choose from {}, {}",
                CLASS_DISTRIBUTIONS.join(", "),
                CLASS_FIGURES.join(", ")
            ));
        }
        Ok(Self { text: text.to_owned(), class: Some((*class).to_string()), ..threshold })
    }

    /// The class of receivers it is about; `None`: all.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// The figure it is about.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// Compares. `None`: this run has no such figure, which counts as missed.
    pub fn check(&self, value: Option<f64>) -> Checked {
        let met = value.is_some_and(|value| self.relation.holds(value, self.bound));
        Checked { threshold: self.text.clone(), value, met }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a report may have such a figure; else why not.
pub(crate) fn check_metric(metric: &str) -> Result<(), String> {
    if let Some((distribution, point)) = metric.split_once('.') {
        if !DISTRIBUTIONS.contains(&distribution) || !POINTS.contains(&point) {
            return Err(format!(
                "'{metric}' is not a figure of the report: distributions are {}; points are {}",
                DISTRIBUTIONS.join(", "),
                POINTS.join(", ")
            ));
        }
    } else if !FIGURES.contains(&metric) {
        return Err(format!("'{metric}' is not a figure of the report: choose from {}", FIGURES.join(", ")));
    }
    Ok(())
}

/// (place, length, which) of the comparison in a text.
pub(crate) fn find_relation(text: &str) -> Option<(usize, usize, Relation)> {
    let at = text.find(['<', '>', '='])?;
    let rest = &text[at..];
    let (len, relation) = match rest.as_bytes() {
        [b'<', b'=', ..] => (2, Relation::LessEqual),
        [b'<', ..] => (1, Relation::Less),
        [b'>', b'=', ..] => (2, Relation::GreaterEqual),
        [b'>', ..] => (1, Relation::Greater),
        [b'=', b'=', ..] => (2, Relation::Equal),
        _ => return None,
    };
    Some((at, len, relation))
}

/// A threshold beside the figure it met or missed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// As written.
    pub threshold: String,
    /// The figure, microseconds for distributions; absent when the run has none.
    pub value: Option<f64>,
    /// Whether it holds.
    pub met: bool,
}

/// Figures of the ledger that must be 0 even if nobody says so.
pub const IMPLIED: [&str; 5] = ["missing", "duplicate", "out_of_order", "corrupt", "misrouted"];

impl Checked {
    /// The figure for people.
    pub fn value_text(&self) -> String {
        let metric = self.threshold.split(['<', '>', '=']).next().unwrap_or_default().trim();
        let is_time = metric.rsplit_once('.').is_some_and(|(_, point)| POINTS.contains(&point));
        match self.value {
            None => "no such figure in this run".to_owned(),
            Some(us) if is_time => quantity::micros_text(us as u64),
            Some(value) => format!("{value}"),
        }
    }

    /// Whether it is about a figure of the ledger.
    pub fn is_implied(&self) -> bool {
        IMPLIED.iter().any(|figure| self.threshold == format!("{figure}==0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(text: &str, value: f64) -> bool {
        Threshold::parse(text).expect(text).check(Some(value)).met
    }

    #[test]
    fn comparisons() {
        assert!(met("last.p99<20ms", 19_999.0));
        assert!(!met("last.p99<20ms", 20_000.0));
        assert!(met("missing==0", 0.0));
        assert!(!met("missing == 0", 1.0));
        assert!(met("deliveries>=10", 10.0));
        assert!(met("bytes_per_connection<=2KiB", 2048.0));
        assert!(met("cpu_us_per_delivery<0.5", 0.4));
    }

    #[test]
    fn a_figure_the_run_does_not_have_is_a_miss() {
        assert!(!Threshold::parse("missing==0").expect("good").check(None).met);
    }

    #[test]
    fn a_figure_may_be_that_of_one_class() {
        let classes = ["screens", "screens-cut"];
        let parse = |text| Threshold::parse_for(text, &classes);
        let last = parse("screens-cut.last.p99< 25ms").expect("good");
        assert_eq!((last.class(), last.metric()), (Some("screens-cut"), "last.p99"));
        assert_eq!(parse("screens.missing== 0").expect("good").class(), Some("screens"));
        assert_eq!(parse("last.p99<1s").expect("good").class(), None);
        assert!(parse("screens.first.p99<1s").expect_err("no such figure").contains("not a figure of one class"));
        assert!(parse("tables.last.p99<1s").expect_err("no such class").contains("not a figure"));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, part) in [
            ("last.p99", "no comparison"),
            ("last.p98<1ms", "not a figure"),
            ("speed<1", "not a figure"),
            ("last.p99<soon", "does not start with a number"),
            ("missing=0", "no comparison"),
        ] {
            let error = Threshold::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
