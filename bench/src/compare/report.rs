//! Samples in, one table and one JSON document out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::case::{Bar, Case, Metric};
use super::contender::Contender;
use super::statistics::Spread;

/// Columns of ratios: against these if they took part, and against whom a bar says.
const REFERENCES: [Contender; 4] =
    [Contender::FloorSend, Contender::FloorIdle, Contender::Uws, Contender::FanfareRelayed];

/// Column of names: the longest and two blanks.
const NAME_WIDTH: usize = "fanfare-relayed".len() + 2;

/// What one visit to one server gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// By [`Metric::key`]. Empty if the visit was no good.
    pub values: BTreeMap<&'static str, f64>,
    /// Why the visit was no good, or what to know about it.
    pub remarks: Vec<String>,
    /// What the load generator said, whole.
    pub loadgen: Vec<serde_json::Value>,
}

/// All rounds of one case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// What was done.
    pub case: Case,
    /// One list for each contender that took part, indexed by round.
    pub samples: Vec<(Contender, Vec<Sample>)>,
}

/// Whether a promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The median is within it, or every round where every round must be.
    Met,
    /// It is not.
    Missed,
    /// One of the two was not measured, or not in a round that must be.
    Unknown,
}

impl CaseResult {
    /// Values of one contender by round.
    fn values(&self, contender: Contender, metric: Metric) -> Vec<Option<f64>> {
        let found = self.samples.iter().find(|(who, _)| *who == contender);
        let samples = found.map_or(&[][..], |(_, samples)| samples);
        samples.iter().map(|sample| sample.values.get(metric.key()).copied()).collect()
    }

    /// Median and spread of one contender.
    pub fn spread(&self, contender: Contender, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(contender, metric).into_iter().flatten())
    }

    /// Median and spread of `contender : reference`, paired by round.
    pub fn ratio(&self, contender: Contender, reference: Contender, metric: Metric) -> Option<Spread> {
        Spread::of_ratios(&self.values(contender, metric), &self.values(reference, metric))
    }

    /// What a bar compares, and whether it holds.
    pub fn judge(&self, bar: &Bar) -> (Option<Spread>, Verdict) {
        let spread = match bar.against {
            Some(reference) => self.ratio(bar.subject, reference, bar.metric),
            None => self.spread(bar.subject, bar.metric),
        };
        let verdict = match spread {
            None => Verdict::Unknown,
            Some(spread) if bar.metric.in_every_round() => {
                let rounds = self.values(bar.subject, bar.metric).len();
                match spread.max <= bar.at_most {
                    true if spread.count == rounds => Verdict::Met,
                    true => Verdict::Unknown,
                    false => Verdict::Missed,
                }
            }
            Some(spread) if spread.median <= bar.at_most => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        (spread, verdict)
    }

    fn references(&self) -> BTreeSet<Contender> {
        let took_part = |who: &Contender| self.samples.iter().any(|(contender, _)| contender == who);
        let named = self.case.bars.iter().filter_map(|bar| bar.against);
        REFERENCES.into_iter().chain(named).filter(took_part).collect()
    }

    fn write_table(&self, metric: Metric, out: &mut String) -> fmt::Result {
        let references = self.references();
        let width = (metric.title().len() + 2).max(30);
        write!(out, "  {:<NAME_WIDTH$}{:<width$}", "", metric.title())?;
        for reference in &references {
            write!(out, "{:<24}", format!("x {reference}"))?;
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        for &(contender, _) in &self.samples {
            write!(
                out,
                "  {contender:<NAME_WIDTH$}{:<width$}",
                cell(self.spread(contender, metric), metric.decimals())
            )?;
            for &reference in &references {
                write!(out, "{:<24}", cell(self.ratio(contender, reference, metric), 2))?;
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        Ok(())
    }

    fn write_bar(&self, bar: &Bar, out: &mut String) -> fmt::Result {
        let (spread, verdict) = self.judge(bar);
        let (of, decimals) = match bar.against {
            Some(reference) => (format!("x {reference}"), 2),
            None => (bar.metric.title().to_owned(), bar.metric.decimals()),
        };
        let verdict = match verdict {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Unknown => "not measured",
        };
        let (subject, row, at_most) = (bar.subject, self.case.row, bar.at_most);
        writeln!(out, "  row {row}: {subject} <= {at_most:.decimals$} {of}: {} {verdict}", cell(spread, decimals))
    }

    /// The table of this case, its bars and its remarks.
    pub fn text(&self) -> String {
        let mut out = format!("\n{}\n", self.case);
        let written = self.case.metrics.iter().try_for_each(|&metric| self.write_table(metric, &mut out));
        let written = written.and_then(|()| self.case.bars.iter().try_for_each(|bar| self.write_bar(bar, &mut out)));
        written.expect("a String takes everything");
        for (contender, samples) in &self.samples {
            for (round, sample) in samples.iter().enumerate() {
                for remark in &sample.remarks {
                    out.push_str(&format!("  {contender}, round {}: {remark}\n", round + 1));
                }
            }
        }
        out
    }

    /// The same for machines.
    pub fn json(&self) -> serde_json::Value {
        let servers: Vec<serde_json::Value> = self.samples.iter().map(|entry| self.server_json(entry)).collect();
        let bars: Vec<serde_json::Value> = self.case.bars.iter().map(|bar| self.bar_json(bar)).collect();
        serde_json::json!({
            "name": self.case.name, "row": self.case.row, "what": self.case.to_string(),
            "servers": servers, "bars": bars,
        })
    }

    fn server_json(&self, (contender, samples): &(Contender, Vec<Sample>)) -> serde_json::Value {
        let mut metrics = serde_json::Map::new();
        for &metric in &self.case.metrics {
            let ratios: BTreeMap<String, Option<Spread>> = self
                .references()
                .into_iter()
                .map(|reference| (reference.to_string(), self.ratio(*contender, reference, metric)))
                .collect();
            let value = self.spread(*contender, metric);
            metrics.insert(metric.key().to_owned(), serde_json::json!({ "value": value, "ratio_to": ratios }));
        }
        serde_json::json!({ "server": contender.to_string(), "metrics": metrics, "samples": samples })
    }

    fn bar_json(&self, bar: &Bar) -> serde_json::Value {
        let (measured, verdict) = self.judge(bar);
        serde_json::json!({
            "metric": bar.metric.key(), "server": bar.subject.to_string(),
            "against": bar.against.map(|reference| reference.to_string()),
            "at_most": bar.at_most, "measured": measured, "verdict": verdict,
        })
    }
}

/// `median (min - max)`, or a dash.
fn cell(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, min, max, .. }) => {
            format!("{median:.decimals$} ({min:.decimals$} - {max:.decimals$})")
        }
    }
}
