//! Flags of `search`, and its way through the runs.

use super::common::CommonArgs;
use super::load::{AmountArgs, PublishArgs};
use crate::audience::Shape;
use crate::failure::{Exit, Failure};
use crate::fleet::Stay;
use crate::job::{Entry, Job, Task, Via, Visits};
use crate::plan::Pace;
use crate::report::Report;
use crate::search::{self, HuntOptions, Options, SearchReport, Vary};
use crate::threshold::Threshold;
use clap::Args;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Flags of `search`: those of the load it varies, and where to look.
#[derive(Debug, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    amount: AmountArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// What must be met, for example 'last.p99<20ms'; may be repeated. A clean ledger goes without saying
    #[arg(long = "slo", value_name = "EXPR", required = true, value_parser = Threshold::parse, help_heading = "Search")]
    slo: Vec<Threshold>,
    /// What is varied
    #[arg(long, value_enum, default_value = "rate", help_heading = "Search")]
    vary: Vary,
    /// The load
    #[arg(long, value_enum, default_value = "broadcast", help_heading = "Search")]
    load: LoadArg,
    /// The first value [default: 10 messages/s, or 100 connections]
    #[arg(long, value_name = "N", help_heading = "Search")]
    from: Option<f64>,
    /// The highest value [default: 1000000 messages/s, or 1000000 connections]
    #[arg(long, value_name = "N", help_heading = "Search")]
    to: Option<f64>,
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Search",
          value_parser = clap::value_parser!(u32).range(1..=200))]
    steps: u32,
    /// How often the best value must meet the objective
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Search",
          value_parser = clap::value_parser!(u32).range(1..=20))]
    confirm: u32,
}

/// Loads that can be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LoadArg {
    Broadcast,
    P2p,
    Echo,
}

/// How long each run measures when nobody says.
const DURATION: Duration = Duration::from_secs(5);

impl SearchArgs {
    /// Searches, prints, and says how it went.
    pub fn execute(self) -> Result<Exit, Failure> {
        if self.common.output.out.is_some() {
            return Err(Failure::usage(
                "a search has many runs, a folder has room for one",
                "--out",
                "use --json for the search, and --out when you repeat the run that it ends with",
            ));
        }
        let json = self.common.output.json.clone();
        let quiet = json.as_deref() == Some(Path::new("-"));
        let found = self.search(|line| {
            if !quiet {
                // A reader that is gone is noticed at the end.
                let _ = std::io::stdout().write_all(line.as_bytes());
            }
        })?;
        crate::write_result(&found, &found.result_line(), json.as_deref())?;
        Ok(found.exit())
    }

    /// The search itself; `tell` gets a line for each run.
    pub fn search(self, tell: impl FnMut(&str)) -> Result<SearchReport, Failure> {
        let whole = self.vary == Vary::Connections;
        let from = self.from.unwrap_or(if whole { 100.0 } else { 10.0 });
        let to = self.to.unwrap_or(1e6);
        if !(from > 0.0 && from <= to && to <= 1e9) || whole && from < 1.0 {
            let cause = format!("there is nothing between {from} and {to}");
            return Err(Failure::usage(
                cause,
                "--from / --to",
                "write numbers above 0, the first not above the second",
            ));
        }
        let hunt = HuntOptions { from, to, whole, runs_max: self.steps, confirm: self.confirm };
        let (target, vary, objective) = (self.common.target.clone(), self.vary, self.slo.clone());
        let options = Options { target, vary, objective, hunt };
        search::run(options, |value| self.attempt(value), tell)
    }

    fn attempt(&self, value: f64) -> Result<Report, Failure> {
        crate::run(self.job(value)?)
    }

    /// One run of the search.
    fn job(&self, value: f64) -> Result<Job, Failure> {
        let mut common = self.common.clone();
        if self.vary == Vary::Connections {
            common.connections = value as u32;
        }
        common.output.thresholds.extend(self.slo.iter().cloned());
        let amount = self.amount.clone().with_duration(DURATION);
        let (name, mut load) = match self.load {
            LoadArg::Broadcast => ("broadcast", self.publish.load(&common, &amount, Shape::All, Entry::Nothing)?),
            LoadArg::P2p => {
                let entry = Entry::AskId { method: "ConnectionId".to_owned() };
                ("p2p", self.publish.load(&common, &amount, Shape::Connections, entry)?)
            }
            LoadArg::Echo => {
                ("echo", amount.own_load(&common, Entry::Nothing, Via::Call { method: "Echo".to_owned() }))
            }
        };
        match &mut load.plan.pace {
            Pace::Open { messages_per_s, .. } if self.vary == Vary::Rate => *messages_per_s = value,
            Pace::Window if self.vary == Vary::Rate => {
                let cause = "in a window the server makes the rate";
                return Err(Failure::usage(cause, "--window", "leave it out, or use --vary connections"));
            }
            _ => {}
        }
        let classes = common.classes(0, Stay::Whole);
        let job = Job { visits: Visits::default(), ..common.into_job(classes, Task::Load(name, Box::new(load)))? };
        job.check()?;
        Ok(job)
    }
}
