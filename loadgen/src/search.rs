//! `search`: the highest load that still meets an objective.
//!
//! Doubles until it is missed, halves the gap between the highest that met it and the lowest that did not, and repeats
//! the best one until it has met it several times. The number of runs has a bound, and each is told as it ends.

mod hunt;

pub use self::hunt::{Hunt, HuntOptions, Outcome};
use crate::failure::{Exit, Failure};
use crate::quantity::grouped;
use crate::report::Report;
use crate::threshold::{Checked, Threshold};
use serde::Serialize;
use std::fmt::Write as _;

/// Names the schema.
pub const SCHEMA: &str = "fanfare-loadgen-search/1";

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Vary {
    /// Messages per second, all connections together.
    Rate,
    /// Receiving connections.
    Connections,
}

impl Vary {
    fn text(self, value: f64) -> String {
        match self {
            Self::Rate if value < 100.0 => format!("{value:.1}/s"),
            Self::Rate => format!("{}/s", grouped(value.round() as u64)),
            Self::Connections => grouped(value.round() as u64),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Connections => "number of connections",
        }
    }
}

/// One run of the search.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The load.
    pub value: f64,
    /// Whether it met the objective.
    pub outcome: Outcome,
    /// The objective, and the clean ledger that goes without saying.
    pub thresholds: Vec<Checked>,
    /// Why it says nothing about the server, or could not be run.
    pub reasons: Vec<String>,
}

/// What the search found.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// As given.
    pub target: String,
    /// What was varied.
    pub vary: Vary,
    /// As given.
    pub objective: Vec<String>,
    /// All runs, in order.
    pub steps: Vec<Step>,
    /// The highest load that met the objective as often as was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// How often it did.
    pub confirmed: u32,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the report.
    pub target: String,
    /// What is varied.
    pub vary: Vary,
    /// What must be met; not empty.
    pub objective: Vec<Threshold>,
    /// Where to look, and how often.
    pub hunt: HuntOptions,
}

/// Runs `attempt` with one load after the other. `tell` gets a line for each.
pub fn run(
    options: Options,
    mut attempt: impl FnMut(f64) -> Result<Report, Failure>,
    mut tell: impl FnMut(&str),
) -> Result<SearchReport, Failure> {
    let Options { target, vary, objective, hunt } = options;
    let mut hunt = Hunt::new(hunt);
    let mut steps: Vec<Step> = Vec::new();
    while let Some(value) = hunt.next() {
        let step = match attempt(value) {
            Ok(report) => judge(value, report),
            // What cannot be had at all is said at once; what cannot be had any more is an upper end.
            Err(failure) if steps.is_empty() || !matches!(failure.exit, Exit::Failed | Exit::HostUnfit) => {
                return Err(failure);
            }
            Err(failure) => Step {
                value,
                outcome: if failure.exit == Exit::Failed { Outcome::Missed } else { Outcome::Invalid },
                thresholds: Vec::new(),
                reasons: vec![failure.cause],
            },
        };
        hunt.note(value, step.outcome);
        steps.push(step);
        tell(&line(vary, steps.len(), &steps[steps.len() - 1]));
    }
    Ok(SearchReport {
        schema: SCHEMA,
        target,
        vary,
        objective: objective.iter().map(ToString::to_string).collect(),
        steps,
        found: hunt.found(),
        confirmed: hunt.confirmed(),
    })
}

/// An invalid run says nothing about the server, whatever it missed. But what is met in spite of a generator that was
/// late is met: it makes latencies longer, never shorter.
fn judge(value: f64, report: Report) -> Step {
    let met = report.thresholds.iter().all(|checked| checked.met);
    let outcome = match (met, report.verdict.valid) {
        (true, true) => Outcome::Met,
        (true, false) if report.verdict.overstated => Outcome::Met,
        (false, true) => Outcome::Missed,
        (_, false) => Outcome::Invalid,
    };
    Step { value, outcome, thresholds: report.thresholds, reasons: report.verdict.reasons }
}

fn line(vary: Vary, number: usize, step: &Step) -> String {
    let mut text = format!("step {number:<3} {:>12}  {:<8}", vary.text(step.value), step.outcome.name());
    // What was missed if anything was; else what was asked for.
    let missed = step.thresholds.iter().any(|checked| !checked.met);
    let shown = step.thresholds.iter().filter(|checked| !checked.met || !missed && !checked.is_implied());
    for checked in shown {
        // Writing to a String cannot fail.
        let _ = write!(text, " | {} is {}", checked.threshold, checked.value_text());
    }
    step.reasons.iter().for_each(|reason| {
        let _ = write!(text, " | {reason}");
    });
    text.push('\n');
    text
}

impl SearchReport {
    /// Found: done. Else whose fault that is.
    pub fn exit(&self) -> Exit {
        match self.found {
            Some(_) => Exit::Done,
            None if self.steps.iter().any(|step| step.outcome == Outcome::Missed) => Exit::ThresholdMissed,
            None => Exit::Invalid,
        }
    }

    /// The last line.
    pub fn result_line(&self) -> String {
        let objective = self.objective.join(" and ");
        let lowest = |outcome| {
            let found = self.found.unwrap_or(0.0);
            let above = self.steps.iter().filter(|step| step.outcome == outcome && step.value > found);
            above.map(|step| step.value).min_by(f64::total_cmp)
        };
        let (missed, invalid) = (lowest(Outcome::Missed), lowest(Outcome::Invalid));
        let text = |value| self.vary.text(value);
        let Some(found) = self.found else {
            return match missed {
                Some(value) => format!(
                    "result    no {} was found that meets {objective}; {} misses it\n",
                    self.vary.name(),
                    text(value)
                ),
                None => {
                    "result    nothing was confirmed: the generator was the limit; try self-check, or more --steps\n"
                        .to_owned()
                }
            };
        };
        let end = match (missed, invalid) {
            (Some(missed), Some(invalid)) if invalid < missed => {
                format!("from {} on the generator is the limit, not the server: it may be more", text(invalid))
            }
            (Some(missed), _) => format!("{} misses it", text(missed)),
            (None, Some(invalid)) => {
                format!("from {} on the generator is the limit, not the server: it may be more", text(invalid))
            }
            (None, None) => "nothing higher was tried: raise --to".to_owned(),
        };
        format!(
            "result    highest {} that meets {objective}: {} (met it {} times; {end})\n",
            self.vary.name(),
            text(found),
            self.confirmed
        )
    }
}
