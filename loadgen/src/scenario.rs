//! Scenarios: a TOML file that says who connects, what is sent, what happens and what must be reached.
//!
//! ```text
//!  shipped               the ones that come with the generator, by name
//!  file                  what may be written, every key known
//!  timetable, crowd      durations and rates; clients as classes, groups, slow readers
//!  load_part             what is sent
//! ```
//!
//! Every refusal names the file, the line, the cause and the remedy. Nothing of a scenario is a guess: a key that this
//! generator does not know is refused.

mod crowd;
mod file;
mod load_part;
mod shipped;
mod timetable;

use self::crowd::Crowd;
use self::file::{File, Text};
use self::shipped::SHIPPED;
use self::timetable::Timetable;
use crate::cli::{Parts, SEED};
use crate::failure::{Exit, Failure};
use crate::job::{Load, Task, Visits};
use crate::threshold::Threshold;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// Longest file: scenarios are written by people.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// What helps with a value that no parser takes.
const REMEDY: &str = "write it as a flag takes it: 30s, 500/s, 2KiB, ws=90,sse=10; docs/bench.md has every key";

/// How the command line changes a scenario.
#[derive(Clone, Debug)]
pub struct Adjustments {
    /// In place of the scenario's target.
    pub target: Option<String>,
    /// Factor on connections, groups and users, and on rates of messages that go to a part of them.
    pub scale: f64,
    /// In place of the scenario's duration; all other times of the measured period keep their proportion to it.
    pub duration: Option<Duration>,
    /// In place of the scenario's warm-up.
    pub warmup: Option<Duration>,
    /// In place of the scenario's seed.
    pub seed: Option<u64>,
}

impl Default for Adjustments {
    fn default() -> Self {
        Self { target: None, scale: 1.0, duration: None, warmup: None, seed: None }
    }
}

/// A scenario as text, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The path, or the name of a shipped one.
    pub place: String,
    /// TOML.
    pub text: String,
}

impl Scenario {
    /// Names and subjects of the shipped ones.
    pub fn shipped() -> impl Iterator<Item = (&'static str, String)> {
        SHIPPED
            .iter()
            .map(|&(name, text)| (name, toml::from_str::<File>(text).map_or(String::new(), |file| file.about)))
    }

    /// A shipped one by name, or a file. What has a dot or a slash in it is a file.
    pub fn find(wanted: &str) -> Result<Self, Failure> {
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == wanted) {
            return Ok(Self { place: (*name).to_owned(), text: (*text).to_owned() });
        }
        if !wanted.contains(['.', '/']) {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            return Err(Failure::usage(
                format!("there is no scenario '{wanted}'"),
                "run",
                format!("choose from {}; or name a file, as {wanted}.toml or ./{wanted}", names.join(", ")),
            ));
        }
        let unread = |cause: String, remedy: &str| Failure::new(Exit::BadFile, cause, wanted, remedy);
        let size = std::fs::metadata(wanted)
            .map_err(|error| {
                unread(format!("cannot read the scenario: {error}"), "check the path; run --list has the shipped ones")
            })?
            .len();
        if size > FILE_BYTES_MAX {
            let cause = format!("{size} bytes are no scenario: {FILE_BYTES_MAX} are the most");
            return Err(unread(cause, "name a scenario file; run --show chat prints one"));
        }
        let text = std::fs::read_to_string(wanted).map_err(|error| {
            unread(format!("cannot read the scenario: {error}"), "it must be a file of text in UTF-8")
        })?;
        Ok(Self { place: wanted.to_owned(), text })
    }

    /// Understands it. Returns what a job is made of, and the scenario's own thresholds.
    pub fn parts(&self, adjust: &Adjustments) -> Result<(Parts, Vec<Threshold>), Failure> {
        let file: File = toml::from_str(&self.text).map_err(|error| {
            let place = self.place_of(error.span().unwrap_or(0..0));
            let remedy = "keys and values are in docs/bench.md, section Scenarios; run --show chat prints an example";
            Failure::new(Exit::BadFile, error.message().trim().replace('\n', "; "), place, remedy)
        })?;
        let timetable = Timetable::new(self, &file, adjust)?;
        let crowd = Crowd::new(self, &file, adjust.scale, &timetable)?;
        let seed = adjust.seed.or(file.seed).unwrap_or(SEED);
        let task = self.task(&file, &crowd, &timetable, adjust.scale, seed)?;
        let thresholds = self.thresholds(&file, &crowd)?;
        let (target, target_place) = self.target(&file, adjust)?;
        let visits = Visits { cuts: timetable.cuts, patience: timetable::PATIENCE };
        let parts = Parts {
            target,
            target_place,
            dialect: crowd.dialect,
            connections: crowd.connections,
            connect_rate: crowd.connect_rate,
            classes: crowd.classes,
            task,
            visits,
            seed,
            scenario: Some(file.name),
        };
        Ok((parts, thresholds))
    }

    fn task(&self, file: &File, crowd: &Crowd, timetable: &Timetable, scale: f64, seed: u64) -> Result<Task, Failure> {
        match &file.load[..] {
            [] if crowd.stalled.connections > 0 => {
                let remedy = "add a [[load]] of kind \"broadcast\", or leave read out";
                Err(self.bad(0..0, "slow readers, and nothing to read", remedy))
            }
            [] if !timetable.cuts.is_empty() => {
                let remedy = "add a [[load]], for example kind = \"broadcast\" with rate = \"1/s\"";
                Err(self.bad(file.fault[0].span(), "a fault without a load", remedy))
            }
            [] => Ok(Task::Idle { hold: timetable.duration, baseline: false }),
            [part] => {
                let load: Load = self.load(part, crowd, timetable, scale, seed)?;
                Ok(Task::Load(load_part::kind_name(&load), Box::new(load)))
            }
            [_, second, ..] => {
                let remedy = "keep one; run two scenarios side by side for two loads";
                Err(self.bad(second.span(), "one scenario carries one [[load]]", remedy))
            }
        }
    }

    fn target(&self, file: &File, adjust: &Adjustments) -> Result<(String, String), Failure> {
        if let Some(target) = &adjust.target {
            return Ok((target.clone(), "--target".to_owned()));
        }
        let Some(target) = &file.target else {
            let cause = "the scenario has no target, and the command line names none";
            return Err(Failure::usage(cause, &self.place, "add --target http://HOST:PORT/HUB"));
        };
        let place = self.place_of(target.span());
        let Some(name) = target.get_ref().strip_prefix('$') else { return Ok((target.get_ref().clone(), place)) };
        match std::env::var(name) {
            Ok(value) => Ok((value, format!("{place} (${name})"))),
            Err(_) => {
                let remedy = format!("set {name}, or add --target http://HOST:PORT/HUB");
                Err(self.bad(target.span(), format!("the environment has no {name}"), remedy))
            }
        }
    }

    fn thresholds(&self, file: &File, crowd: &Crowd) -> Result<Vec<Threshold>, Failure> {
        let names: Vec<&str> = crowd.classes.iter().map(|class| class.name.as_str()).collect();
        let one = |(figure, bound): (&String, &Text)| {
            Threshold::parse_for(&format!("{figure}{}", bound.get_ref()), &names).map_err(|error| {
                let remedy = format!(
                    "write \"last.p99\" = \"< 25ms\", or of one class \"CLASS.last.p99\"; classes are {}",
                    names.join(", ")
                );
                self.bad(bound.span(), error, remedy)
            })
        };
        file.thresholds.iter().map(one).collect()
    }

    /// `chat.toml:12`; without a line where there is none.
    fn place_of(&self, span: Range<usize>) -> String {
        if span.end == 0 {
            return self.place.clone();
        }
        let line =
            self.text.as_bytes()[..span.start.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count();
        format!("{}:{}", self.place, line + 1)
    }

    /// A value that cannot be obeyed.
    fn bad(&self, span: Range<usize>, cause: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure::new(Exit::BadFile, cause, self.place_of(span), remedy)
    }

    /// Reads one value with the parser that the flag of the same meaning has.
    fn value<T>(&self, text: &Text, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        parse(text.get_ref()).map_err(|error| self.bad(text.span(), error, REMEDY))
    }

    fn value_or<T>(
        &self,
        text: Option<&Text>,
        parse: impl Fn(&str) -> Result<T, String>,
        otherwise: T,
    ) -> Result<T, Failure> {
        text.map_or(Ok(otherwise), |text| self.value(text, parse))
    }
}

/// `count` of a thing that there is, times the scale: at least one.
fn scaled(count: u32, scale: f64) -> u32 {
    if count == 0 { 0 } else { ((f64::from(count) * scale).round() as u32).max(1) }
}

#[cfg(test)]
mod tests;
