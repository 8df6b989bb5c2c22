//! Flags of `run`: a scenario, and what the command line changes of it.

use super::common::{OutputArgs, WayArgs};
use crate::failure::{Exit, Failure};
use crate::job::Job;
use crate::quantity::parse_duration;
use crate::scenario::{Adjustments, Scenario};
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A scenario by name (see --list), or a TOML file
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["list", "show"])]
    scenario: Option<String>,
    /// Names of the scenarios that come with the generator
    #[arg(long, conflicts_with_all = ["scenario", "show"])]
    list: bool,
    /// Print one of them, to be changed and run as a file
    #[arg(long, value_name = "NAME", conflicts_with = "scenario")]
    show: Option<String>,
    /// Where to connect, in place of the scenario's target: a URL, or a connection string together with --hub
    #[arg(long, value_name = "URL", help_heading = "Target")]
    target: Option<String>,
    /// Factor on connections, groups and users, and on rates of messages that go to a part of them
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = parse_scale, help_heading = "Load")]
    scale: f64,
    /// How long to measure, in place of the scenario's duration; faults and steps keep their proportion to it
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Load")]
    duration: Option<Duration>,
    /// The same load before, not measured, in place of the scenario's
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Load")]
    warmup: Option<Duration>,
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|scale| (1e-6..=1e4).contains(scale))
        .ok_or_else(|| format!("'{text}' is not a factor: write a number above 0, for example 0.1"))
}

impl RunArgs {
    /// Whether it only prints.
    pub fn prints(&self) -> bool {
        self.list || self.show.is_some()
    }

    /// Prints the list, or one of the shipped scenarios.
    pub fn print(&self) -> Result<Exit, Failure> {
        let text = match &self.show {
            Some(name) => Scenario::find(name)?.text,
            None => list(),
        };
        std::io::stdout().write_all(text.as_bytes()).map_err(|error| {
            Failure::failed(format!("nothing can be written: {error}"), "standard output", "see where it leads")
        })?;
        Ok(Exit::Done)
    }

    /// The scenario as a job.
    pub(super) fn into_job(mut self) -> Result<Job, Failure> {
        let Some(wanted) = &self.scenario else {
            return Err(Failure::usage("no scenario is named", "run", "name one; run --list has them"));
        };
        let scenario = Scenario::find(wanted)?;
        let adjust = Adjustments {
            target: self.target.take(),
            scale: self.scale,
            duration: self.duration.filter(|duration| !duration.is_zero()),
            warmup: self.warmup,
            seed: self.output.seed,
        };
        let (parts, mut thresholds) = scenario.parts(&adjust)?;
        // What the command line says of a figure takes the place of what the scenario says.
        thresholds.retain(|own| self.output.thresholds.iter().all(|given| given.metric() != own.metric()));
        self.output.thresholds.append(&mut thresholds);
        let job = parts.into_job(self.way, self.output)?;
        // What is refused here has a flag's name; it stands in the file.
        job.check()
            .map_err(|failure| Failure { place: format!("{} ({})", scenario.place, failure.place), ..failure })?;
        Ok(job)
    }
}

fn list() -> String {
    let mut text = String::new();
    for (name, about) in Scenario::shipped() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<18} {about}");
    }
    text
}
