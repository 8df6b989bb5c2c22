//! Flags of `self-check`.

use crate::failure::{Exit, Failure};
use crate::quantity::{parse_bytes, parse_duration, parse_rate};
use crate::self_check::{self, Options};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `self-check`. It needs no server.
#[derive(Debug, Args)]
pub struct SelfCheckArgs {
    /// Connections that are to be held
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    connections: u32,
    /// Messages per second that are to reach all of them
    #[arg(long, value_name = "RATE", default_value = "50/s", value_parser = parse_rate)]
    rate: f64,
    /// Payload bytes, at least 64
    #[arg(long, value_name = "BYTES", default_value = "512", value_parser = parse_bytes)]
    size: usize,
    /// Length of each of the loops
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    period: Duration,
    /// Measure on this core
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// Write the result as JSON to a file, or to standard output with -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Longest loop: nobody waits longer for an answer that does not get better.
const PERIOD_MAX: Duration = Duration::from_secs(60);

impl SelfCheckArgs {
    /// Measures, prints, and says how it went.
    pub fn execute(&self) -> Result<Exit, Failure> {
        let (least, most) = (crate::payload::HEAD_BYTES, crate::payload::PAYLOAD_BYTES_MAX);
        if !(least..=most).contains(&self.size) {
            let cause = format!("a payload of {} bytes is not between {least} and {most}", self.size);
            return Err(Failure::usage(cause, "--size", format!("choose at least {least}")));
        }
        if self.period.is_zero() || self.period > PERIOD_MAX {
            let cause = format!("loops of {:?} are not between 1ms and {PERIOD_MAX:?}", self.period);
            return Err(Failure::usage(cause, "--period", "1s is enough"));
        }
        if self.connections == 0 {
            return Err(Failure::usage("no connections carry nothing", "--connections", "use at least 1"));
        }
        let found = self_check::run(Options {
            payload_bytes: self.size,
            connections: self.connections,
            messages_per_s: self.rate,
            period: self.period,
            core: self.core,
        })?;
        crate::write_result(&found, &found.summary(), self.json.as_deref())?;
        Ok(found.exit())
    }
}
