//! The checked-in counts, and how new ones are judged by them.

use super::tools::Tools;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Percent by which a count may differ, either way, where the tools are those of the file.
pub const TOLERANCE_PERCENT: f64 = 3.0;
/// Percent by which a count may differ, either way, before it is mentioned where the tools are others. It fails nothing.
pub const MENTIONED_PERCENT: f64 = 25.0;

/// The file: tools, and instructions per operation by name of the case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What the counts were made with.
    pub tools: Tools,
    /// Instructions per operation, to a tenth.
    pub instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// What was counted just now.
    pub fn new(tools: Tools, counts: impl IntoIterator<Item = (String, f64)>) -> Self {
        let tenths = |(name, count): (String, f64)| (name, (count * 10.0).round() / 10.0);
        Self { tools, instructions: counts.into_iter().map(tenths).collect() }
    }

    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{} is not a file of counts: {error}", path.display()))
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let mut text = serde_json::to_string_pretty(self).expect("a table of numbers");
        text.push('\n');
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// What became of one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Percent more or less than recorded, within the tolerance.
    Within(f64),
    /// Percent more than recorded, and too many.
    Worse(f64),
    /// Percent less than recorded (negative), and too many.
    Better(f64),
    /// Percent more or less, by a lot, counted with other tools: mentioned, and nobody's fault.
    Elsewhere(f64),
    /// Not in the file.
    New,
    /// In the file, and no longer counted.
    Gone,
}

/// How the counts compare with the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Whether the tools are those of the file. Only then may a count fail.
    pub same_tools: bool,
    /// By name: recorded, counted, what that means.
    pub changes: BTreeMap<String, (Option<f64>, Option<f64>, Change)>,
}

impl Comparison {
    /// Compares. With `partial`, cases of the file that were not counted are left out.
    pub fn new(recorded: &Baseline, counted: &Baseline, partial: bool) -> Self {
        let same_tools = counted.tools == recorded.tools;
        let names = recorded.instructions.keys().chain(counted.instructions.keys());
        let changes = names.filter_map(|name| {
            let (old, new) = (recorded.instructions.get(name).copied(), counted.instructions.get(name).copied());
            let change = match (old, new) {
                (Some(old), Some(new)) => judge(percent(old, new), same_tools),
                (None, Some(_)) => Change::New,
                (_, None) if partial => return None,
                (_, None) => Change::Gone,
            };
            Some((name.clone(), (old, new, change)))
        });
        Self { same_tools, changes: changes.collect() }
    }

    /// Whether the file is still true.
    pub fn holds(&self) -> bool {
        self.changes.values().all(|(_, _, change)| matches!(change, Change::Within(_) | Change::Elsewhere(_)))
    }

    /// The case that moved most, and by how many percent.
    pub fn largest(&self) -> Option<(&str, f64)> {
        let moved =
            self.changes.iter().filter_map(|(name, (old, new, _))| Some((name.as_str(), percent((*old)?, (*new)?))));
        moved.max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))
    }
}

fn percent(old: f64, new: f64) -> f64 {
    (new - old) / old * 100.0
}

fn judge(percent: f64, same_tools: bool) -> Change {
    match same_tools {
        true if percent > TOLERANCE_PERCENT => Change::Worse(percent),
        true if percent < -TOLERANCE_PERCENT => Change::Better(percent),
        false if percent.abs() > MENTIONED_PERCENT => Change::Elsewhere(percent),
        _ => Change::Within(percent),
    }
}

impl fmt::Display for Comparison {
    /// A line for each case that needs attention, then what to do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (old, new, change)) in &self.changes {
            let count = |count: &Option<f64>| count.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}"));
            let (old, new) = (count(old), count(new));
            match change {
                Change::Within(_) => {}
                Change::Worse(percent) => writeln!(f, "worse   {name}: {old} -> {new} instructions ({percent:+.1} %)")?,
                Change::Better(percent) => {
                    writeln!(f, "better  {name}: {old} -> {new} instructions ({percent:+.1} %)")?
                }
                Change::Elsewhere(percent) => {
                    writeln!(f, "other   {name}: {old} -> {new} instructions ({percent:+.1} %), with other tools")?
                }
                Change::New => writeln!(f, "new     {name}: {new} instructions, and no count in the file")?,
                Change::Gone => writeln!(f, "gone    {name}: in the file, and no such case")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(rustc: &str, processor: &str, counts: &[(&str, f64)]) -> Baseline {
        let tools = Tools { rustc: rustc.to_owned(), processor: processor.to_owned(), ..Tools::default() };
        Baseline::new(tools, counts.iter().map(|&(name, count)| (name.to_owned(), count)))
    }

    fn change(recorded: &Baseline, counted: &Baseline, name: &str) -> Change {
        Comparison::new(recorded, counted, false).changes[name].2
    }

    #[test]
    fn worse_and_better_both_make_the_file_untrue() {
        let recorded = baseline("1", "x", &[("a", 1000.0), ("b", 200.0)]);
        let counted = |a, b| baseline("1", "x", &[("a", a), ("b", b)]);
        assert!(Comparison::new(&recorded, &counted(1030.0, 194.0), false).holds());
        let worse = Comparison::new(&recorded, &counted(1050.0, 200.0), false);
        assert!(!worse.holds());
        assert_eq!(worse.largest(), Some(("a", 5.0)));
        assert_eq!(worse.to_string(), "worse   a: 1000.0 -> 1050.0 instructions (+5.0 %)\n");
        assert_eq!(change(&recorded, &counted(1000.0, 190.0), "b"), Change::Better(-5.0));
    }

    #[test]
    fn cases_must_be_in_the_file_and_the_other_way_round() {
        let (one, two) = (baseline("1", "x", &[("a", 1.0)]), baseline("1", "x", &[("a", 1.0), ("b", 1.0)]));
        assert_eq!(change(&one, &two, "b"), Change::New);
        assert_eq!(change(&two, &one, "b"), Change::Gone);
        assert!(Comparison::new(&two, &one, true).holds(), "only some were counted");
    }

    #[test]
    fn with_other_tools_no_count_fails_and_what_moved_much_is_mentioned() {
        let recorded = baseline("1", "x", &[("a", 100.0)]);
        for (rustc, processor) in [("2", "x"), ("1", "y")] {
            let counted = |a| baseline(rustc, processor, &[("a", a)]);
            assert_eq!(change(&recorded, &counted(120.0), "a"), Change::Within(20.0));
            assert_eq!(change(&recorded, &counted(300.0), "a"), Change::Elsewhere(200.0));
            let comparison = Comparison::new(&recorded, &counted(300.0), false);
            assert!(comparison.holds() && comparison.to_string().contains("with other tools"), "{comparison}");
            let more = baseline(rustc, processor, &[("a", 100.0), ("b", 1.0)]);
            assert!(!Comparison::new(&recorded, &more, false).holds(), "a case without a count is no tool's doing");
        }
    }
}
