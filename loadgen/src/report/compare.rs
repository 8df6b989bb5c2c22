//! `compare A B`: ratios of every figure that two results share, those that matter first, each with the range in which
//! it lies when both runs wander as they did from interval to interval.

use super::document::Document;
use super::fail_if::FailIf;
use super::spread::{Quartiles, ratio_range};
use crate::failure::Exit;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Differences within this part are called the same.
pub const SAME_PART: f64 = 0.05;

/// Intervals that each side needs before their spread says anything.
pub const SPREAD_INTERVALS_MIN: usize = 4;

/// Other figures that are shown unless all are asked for.
pub const OTHERS_SHOWN_MAX: usize = 16;

/// Figures a reader asks for first, by their place in the result.
const HEADLINES: [&str; 20] = [
    "latency_us.from_intended.p50",
    "latency_us.from_intended.p99",
    "latency_us.from_intended.p99_9",
    "latency_us.from_intended.max",
    "last_receiver_us.p50",
    "last_receiver_us.p99",
    "last_receiver_us.max",
    "deliveries_per_s",
    "server.cpu_us_per_delivery",
    "server.cpu_us_per_connection",
    "server.bytes_per_connection",
    "server.rss_bytes",
    "connect.per_s",
    "connect.phases_us.total.p99",
    "negotiate.per_s",
    "guests.all_back_s",
    "guests.back_us.p99",
    "guests.refused",
    "soak.last_p99_ratio",
    "soak.server_private_bytes_per_h",
];

/// Any of these is a fault, whatever the other run had.
const FAULTS: [&str; 14] = [
    "missing",
    "duplicate",
    "out_of_order",
    "corrupt",
    "misrouted",
    "late",
    "strangers",
    "stalls",
    "connect.silent",
    "connect.failed",
    "connect.lost",
    "guests.away",
    "guests.gave_up",
    "guests.dropped",
];

/// What was asked for: runs that differ here answer different questions.
const QUESTION: [&str; 12] = [
    "/command",
    "/scenario",
    "/dialect",
    "/transport",
    "/connections",
    "/pace",
    "/rate",
    "/publishers",
    "/payload_bytes",
    "/burst",
    "/guests/guests",
    "/stalled/connections",
];

/// What and where it was done with.
const ENVIRONMENT: [&str; 13] = [
    "/target",
    "/seed",
    "/generator/workers",
    "/generator/cores",
    "/run/version",
    "/run/host/name",
    "/run/host/kernel",
    "/run/host/architecture",
    "/run/host/cpu_model",
    "/run/host/cpus",
    "/run/host/cpu_governor",
    "/run/host/memory_bytes",
    "/run/server_processes",
];

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    More,
    Neither,
}

/// One figure of both results.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    name: String,
    a: f64,
    b: f64,
    /// Where the ratio may lie, when that is known.
    range: Option<(f64, f64)>,
}

impl Pair {
    fn ratio(&self) -> f64 {
        if self.a == self.b { 1.0 } else { self.b / self.a }
    }

    /// How far apart: 0 for the same, the same for twice and for half.
    fn distance(&self) -> f64 {
        let distance = self.ratio().ln().abs();
        if distance.is_nan() { f64::INFINITY } else { distance }
    }

    fn is_same(&self) -> bool {
        self.distance() <= (1.0 + SAME_PART).ln()
    }

    fn is_within_spread(&self) -> bool {
        self.range.is_some_and(|(low, high)| low <= 1.0 && 1.0 <= high)
    }

    fn better(&self) -> Better {
        let name = self.name.as_str();
        let last = name.rsplit('.').next().unwrap_or_default();
        if FAULTS.contains(&name) || name.starts_with("warmup.") && last != "received" {
            Better::Less
        } else if last.ends_with("per_s") && !name.ends_with("rate") || name == "connect.opened" {
            Better::More
        } else if last == "count" {
            Better::Neither
        } else if name.contains("_us.")
            || ["cpu", "bytes_per", "ratio", "rss", "private", "growth"].iter().any(|part| last.contains(part))
        {
            Better::Less
        } else {
            Better::Neither
        }
    }

    fn word(&self) -> &'static str {
        let grew = self.b > self.a;
        match self.better() {
            _ if self.is_same() => "same",
            _ if self.is_within_spread() => "within spread",
            Better::Neither => "differs",
            Better::Less if grew => self.said("worse", "worse?"),
            Better::More if !grew => self.said("worse", "worse?"),
            _ => self.said("better", "better?"),
        }
    }

    /// One value of each side does not tell a change from a mood; a fault is one, however often.
    fn said(&self, surely: &'static str, perhaps: &'static str) -> &'static str {
        if self.range.is_some() || FAULTS.contains(&self.name.as_str()) { surely } else { perhaps }
    }
}

/// What two results have to say about each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    faults: Vec<Pair>,
    headlines: Vec<Pair>,
    others: Vec<Pair>,
    /// Why the two cannot be compared; empty when they can.
    questions: Vec<String>,
    warnings: Vec<String>,
    checks: Vec<Check>,
    both_valid: bool,
}

/// One `--fail-if`, answered.
#[derive(Clone, Debug, PartialEq)]
struct Check {
    text: String,
    broken: bool,
    why: String,
}

impl Comparison {
    /// `a` is the base: ratios are `b / a`.
    pub fn of(a: &Document, b: &Document, fail_if: &[FailIf]) -> Self {
        let (of_a, of_b) = (figures(&a.value), figures(&b.value));
        let (of_a_value, of_b_value) = (&a.value, &b.value);
        let mut comparison = Self {
            faults: Vec::new(),
            headlines: Vec::new(),
            others: Vec::new(),
            questions: differences(a, b, &QUESTION),
            warnings: warnings(a, b),
            checks: Vec::new(),
            both_valid: a.is_valid() && b.is_valid(),
        };
        for (name, a) in of_a {
            let Some(&b) = of_b.get(&name) else { continue };
            let range = Quartiles::of(of_a_value, &name).zip(Quartiles::of(of_b_value, &name));
            let pair = Pair { range: range.and_then(|(a, b)| ratio_range(a, b)), name, a, b };
            let name = pair.name.as_str();
            if FAULTS.contains(&name) {
                if pair.a + pair.b > 0.0 {
                    comparison.faults.push(pair);
                }
            } else if HEADLINES.contains(&name) {
                comparison.headlines.push(pair);
            } else if !QUESTION.iter().chain(&ENVIRONMENT).any(|place| name_of(place) == name) {
                comparison.others.push(pair);
            }
        }
        for pairs in [&mut comparison.faults, &mut comparison.headlines, &mut comparison.others] {
            pairs.sort_by(|left, right| right.distance().total_cmp(&left.distance()));
        }
        comparison.checks = fail_if
            .iter()
            .map(|rule| {
                let (broken, why) = rule.check(a, b);
                Check { text: rule.to_string(), broken, why }
            })
            .collect();
        comparison
    }

    /// 7 when the two answer different questions: then a ratio of theirs breaks no rule. Else 6 when a rule is broken,
    /// else 7 when one of the runs means nothing by its own word.
    pub fn exit(&self) -> Exit {
        if !self.questions.is_empty() {
            Exit::Invalid
        } else if self.checks.iter().any(|check| check.broken) {
            Exit::ThresholdMissed
        } else if !self.both_valid {
            Exit::Invalid
        } else {
            Exit::Done
        }
    }

    /// The table for people; `all`: every figure.
    pub fn text(&self, all: bool) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, all);
        out
    }

    fn write(&self, out: &mut String, all: bool) -> std::fmt::Result {
        for question in &self.questions {
            writeln!(out, "differs   {question}")?;
        }
        if !self.questions.is_empty() {
            writeln!(out, "verdict   NOT COMPARABLE: the two runs answer different questions")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning   {warning}")?;
        }
        writeln!(out, "{:<38} {:>13} {:>13} {:>9} {:>15}", "figure", "A", "B", "B/A", "spread")?;
        let others: Vec<&Pair> = if all {
            self.others.iter().collect()
        } else {
            self.others.iter().filter(|pair| !pair.is_same()).take(OTHERS_SHOWN_MAX).collect()
        };
        for pair in self.faults.iter().chain(&self.headlines).chain(others.iter().copied()) {
            let ratio = match pair.ratio() {
                ratio if ratio.is_finite() => format!("{ratio:.3}x"),
                _ => "new".to_owned(),
            };
            let (a, b) = (number(pair.a), number(pair.b));
            let spread = pair.range.map_or(String::new(), |(low, high)| format!("{low:.2}..{high:.2}x"));
            writeln!(out, "{:<38} {a:>13} {b:>13} {ratio:>9} {spread:>15}  {}", pair.name, pair.word())?;
        }
        let hidden = self.others.len() - others.len();
        if hidden > 0 {
            writeln!(out, "{hidden} more figures: --all")?;
        }
        for check in &self.checks {
            let word = if check.broken { "BROKEN" } else { "ok" };
            writeln!(out, "fail-if   {} | {word} | {}", check.text, check.why)?;
        }
        Ok(())
    }
}

/// Four digits, and no more than a reader compares.
fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.4}")
    }
}

/// Every number of a result by its place, but for what is no figure.
fn figures(value: &Value) -> BTreeMap<String, f64> {
    fn walk(prefix: &str, value: &Value, out: &mut BTreeMap<String, f64>) {
        let Some(fields) = value.as_object() else { return };
        for (name, value) in fields {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if let Some(number) = value.as_f64() {
                out.insert(name, number);
            } else {
                walk(&name, value, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        if !["run", "series", "thresholds", "verdict"].contains(&name.as_str()) {
            let single = serde_json::json!({ name.as_str(): value });
            walk("", &single, &mut out);
        }
    }
    out
}

fn warnings(a: &Document, b: &Document) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, document) in [("A", a), ("B", b)] {
        if !document.is_valid() {
            let reasons = document.value.pointer("/verdict/reasons").and_then(Value::as_array);
            let reasons: Vec<&str> = reasons.into_iter().flatten().filter_map(Value::as_str).collect();
            warnings.push(format!("{name} is invalid by its own verdict: {}", reasons.join("; ")));
        }
    }
    warnings.extend(differences(a, b, &ENVIRONMENT));
    warnings
}

/// `/run/host/kernel` as `run.host.kernel`.
fn name_of(place: &str) -> String {
    place[1..].replace('/', ".")
}

fn differences(a: &Document, b: &Document, places: &[&str]) -> Vec<String> {
    let text = |value: Option<&Value>| match value {
        None => "unknown".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let differing = |place: &&str| {
        let (a, b) = (a.value.pointer(place), b.value.pointer(place));
        (a != b).then(|| format!("{} is {} in A, {} in B", name_of(place), text(a), text(b)))
    };
    places.iter().filter_map(differing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(value: Value) -> Document {
        Document { path: "r.json".into(), value }
    }

    fn result(p99: f64, missing: u64, cpu: f64) -> Document {
        document(json!({
            "command": "broadcast", "connections": 10, "missing": missing, "late": 0, "deliveries_per_s": 500.0,
            "latency_us": {"from_intended": {"count": 9, "p50": 100, "p99": p99}},
            "generator": {"workers": 1, "ring_enters": 77, "busy_ratio": 0.1},
            "server": {"cpu_us_per_delivery": cpu},
            "run": {"host": {"kernel": "6.1"}},
            "verdict": {"valid": true, "reasons": [], "notes": []},
        }))
    }

    fn rule(text: &str) -> FailIf {
        FailIf::parse(text).expect(text)
    }

    #[test]
    fn faults_come_first_then_what_changed_most() {
        let comparison = Comparison::of(&result(1_000.0, 0, 0.4), &result(2_000.0, 3, 0.41), &[]);
        let text = comparison.text(false);
        let lines: Vec<&str> = text.lines().skip(1).map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(lines[..2], ["missing", "latency_us.from_intended.p99"], "{text}");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains("2.000x worse?") && squeezed.contains("new worse"), "{text}");
        assert!(squeezed.contains("1.025x same"), "{text}");
        assert_eq!(comparison.exit(), Exit::Done);
        assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    }

    #[test]
    fn rules_decide_the_exit_code() {
        let (a, b) = (result(1_000.0, 0, 0.4), result(1_200.0, 0, 0.4));
        let exit = |text: &str| Comparison::of(&a, &b, &[rule(text)]).exit();
        assert_eq!(exit("from_intended.p99>1.1x"), Exit::ThresholdMissed);
        assert_eq!(exit("from_intended.p99>1.3x"), Exit::Done);
        assert_eq!(exit("missing>0"), Exit::Done);
        assert_eq!(exit("last.p99>1.1x"), Exit::ThresholdMissed, "a figure that is not there is not fine");
    }

    #[test]
    fn other_questions_and_other_machines_are_warned_of() {
        let mut other = result(1_000.0, 0, 0.4);
        other.value["connections"] = json!(20);
        other.value["run"]["host"]["kernel"] = json!("6.2");
        other.value["verdict"] = json!({"valid": false, "reasons": ["busy"], "notes": []});
        let comparison = Comparison::of(&result(1_000.0, 0, 0.4), &other, &[]);
        let text = comparison.text(true);
        for part in
            ["B is invalid by its own verdict: busy", "connections is 10 in A, 20 in B", "kernel is 6.1 in A, 6.2 in B"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(comparison.exit(), Exit::Invalid);
    }

    #[test]
    fn runs_that_answer_different_questions_break_no_rule() {
        let mut other = result(9_000.0, 0, 0.4);
        other.value["payload_bytes"] = json!(2048);
        let comparison = Comparison::of(&result(1_000.0, 0, 0.4), &other, &[rule("from_intended.p99>1.1x")]);
        assert_eq!(comparison.exit(), Exit::Invalid);
        // Another machine is worth a warning, no more.
        let mut elsewhere = result(1_000.0, 0, 0.4);
        elsewhere.value["run"]["host"]["kernel"] = json!("6.2");
        let comparison = Comparison::of(&result(1_000.0, 0, 0.4), &elsewhere, &[]);
        assert_eq!((comparison.exit(), comparison.warnings.len()), (Exit::Done, 1));
        assert!(!comparison.text(false).contains("NOT COMPARABLE"));
    }

    #[test]
    fn a_difference_within_the_spread_is_no_news() {
        let with_rows = |p99: &[u64]| {
            let mut document = result(p99[0] as f64, 0, 0.4);
            let row = |&p99: &u64| json!({"period": "measured", "seconds": 1.0, "latency_us": {"p50": 1, "p99": p99}});
            document.value["series"] = json!({"interval_s": 1.0, "rows": p99.iter().map(row).collect::<Vec<_>>()});
            document
        };
        let line = |a: &[u64], b: &[u64]| {
            let text = Comparison::of(&with_rows(a), &with_rows(b), &[]).text(false);
            text.lines().find(|line| line.contains("intended.p99")).expect("the figure").to_owned()
        };
        let unsteady = line(&[1_000, 900, 1_500, 1_200], &[1_200, 1_000, 900, 1_700]);
        assert!(unsteady.contains("1.200x") && unsteady.ends_with("within spread"), "{unsteady}");
        let steady = line(&[1_000; 5], &[1_200; 5]);
        assert!(steady.contains("1.20..1.20x") && steady.ends_with("worse"), "{steady}");
    }

    #[test]
    fn which_way_is_good() {
        let word = |name: &str, a: f64, b: f64| Pair { name: name.to_owned(), a, b, range: None }.word();
        assert_eq!(word("deliveries_per_s", 100.0, 200.0), "better?");
        assert_eq!(word("last_receiver_us.p99", 100.0, 200.0), "worse?");
        assert_eq!(word("connect.lost", 1.0, 2.0), "worse");
        assert_eq!(word("last_receiver_us.count", 100.0, 200.0), "differs");
        assert_eq!(word("server.bytes_per_connection", 200.0, 100.0), "better?");
        assert_eq!(word("generator.ring_enters", 200.0, 100.0), "differs");
        assert_eq!(word("missing", 0.0, 0.0), "same");
    }
}
