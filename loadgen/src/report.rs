//! The result: one structure, written as JSON (`loadgen/schema/result.schema.json`) and as a summary for people.
//!
//! ```text
//!  recorder, intervals   kept while a run goes: the board by interval, latencies by interval of arrival
//!  series                both as rows, heat map, spectra: what result.json has over the summary
//!  environment, redact   where and how it was done, without secrets
//!  summary               for people
//!  folder                --out: the files, written by
//!    timeline, hlog, junit, page
//!  document              a result file read again, for the verbs
//!    compare, spread, fail_if
//! ```

pub mod compare;
pub mod document;
pub mod environment;
pub mod fail_if;
pub mod folder;
pub mod hlog;
pub mod intervals;
pub mod junit;
pub mod page;
pub mod recorder;
pub mod redact;
pub mod series;
pub mod spread;
mod summary;
pub mod timeline;
pub mod verbs;

use crate::baseline::BaselineReport;
use crate::client::PhasesSummary;
use crate::failure::Exit;
use crate::latency::Summary;
use crate::ledger::Tally;
use crate::procfs::Memory;
use crate::report::environment::RunInfo;
use crate::report::series::Record;
use crate::soak::SoakReport;
use crate::stalled::StalledReport;
use crate::storm::GuestReport;
use crate::threshold::{Checked, IMPLIED, Threshold};
use crate::verdict::Verdict;
use serde::Serialize;

/// Names the schema; the number grows when a field changes its meaning.
pub const SCHEMA: &str = "fanfare-loadgen/1";

/// Everything a run found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The command, for example `broadcast`.
    pub command: &'static str,
    /// The scenario it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// As given.
    pub target: String,
    /// As given.
    pub dialect: String,
    /// What receivers received over, by its name on the wire; `mixed` when not all over the same.
    pub transport: &'static str,
    /// As given.
    pub seed: u64,
    /// Receivers asked for.
    pub connections: u32,
    /// When, where and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunInfo>,
    /// What was kept of the run over time, for the files of `--out`.
    #[serde(skip)]
    pub record: Record,
    /// Setting up and closing.
    pub connect: ConnectReport,
    /// What was published and received.
    #[serde(flatten)]
    pub broadcast: Option<BroadcastReport>,
    /// Each class of receivers apart; empty when they are all alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassReport>,
    /// What was negotiated without connecting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negotiate: Option<NegotiateReport>,
    /// The server's processes, when given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Kernel memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelReport>,
    /// This process.
    pub generator: GeneratorReport,
    /// Readers that did not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled: Option<StalledReport>,
    /// The course of a long run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<SoakReport>,
    /// Connections that came and went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guests: Option<GuestReport>,
    /// What had to be reached.
    pub thresholds: Vec<Checked>,
    /// Whether the figures mean anything.
    pub verdict: Verdict,
}

/// Connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectReport {
    /// Receivers and publishers opened.
    pub opened: u32,
    /// Not opened.
    pub failed: u32,
    /// Opened and lost before the end.
    pub lost: u32,
    /// Times a connection heard nothing for longer than `--server-timeout`: the SDK would have given it up.
    pub silent: u64,
    /// From the first packet to the last connection open.
    pub elapsed_s: f64,
    /// Opened per second.
    pub per_s: f64,
    /// Phases of the receivers, microseconds.
    pub phases_us: PhasesSummary,
    /// What went wrong, and how often.
    pub troubles: Vec<Trouble>,
}

/// One kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// Negotiates that nobody followed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NegotiateReport {
    /// Asked for.
    pub requests: u64,
    /// Answered with a token.
    pub answered: u64,
    /// From the first request to the last answer.
    pub elapsed_s: f64,
    /// answered / elapsed_s.
    pub per_s: f64,
    /// The server's CPU for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_negotiate: Option<f64>,
    /// How much the server's resident set has grown from before the first request, sockets open, to after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_growth_bytes: Option<i64>,
    /// The same of its private pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_growth_bytes: Option<i64>,
}

/// The load and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct BroadcastReport {
    /// `open` or `window`.
    pub pace: &'static str,
    /// Messages per second asked for; absent in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Connections that publish.
    pub publishers: u16,
    /// Bytes of each payload; where they differ, what one has on average.
    pub payload_bytes: usize,
    /// Messages in one write.
    pub burst: u32,
    /// Measured messages published.
    pub messages: u64,
    /// Deliveries that they make: summed over the messages, the receivers each is for.
    pub expected: u64,
    /// Different messages received, summed over the receivers.
    pub deliveries: u64,
    /// Published, never received.
    pub missing: u64,
    /// Received again.
    pub duplicate: u64,
    /// Received after a later one.
    pub out_of_order: u64,
    /// Received, but not as sent.
    pub corrupt: u64,
    /// Received by somebody it was not for.
    pub misrouted: u64,
    /// Received later than the deadline.
    pub late: u64,
    /// Times in which a server that otherwise is quick reached nobody for more than 100 ms.
    pub stalls: u64,
    /// The longest of them, microseconds.
    pub stall_us_max: u64,
    /// Well-formed messages that were not ours.
    pub strangers: u64,
    /// Messages that came back to publishers.
    pub publisher_echoes: u64,
    /// Messages received by connections that come and go, which have no line in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_deliveries: Option<u64>,
    /// Long polling only: polls that were answered with something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_answers: Option<u64>,
    /// The same per receiver and burst: 1 when each burst left as one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_answers_per_burst: Option<f64>,
    /// The ledger of probe and warm-up.
    pub warmup: TallyReport,
    /// Length of the measured period, to the last delivery.
    pub elapsed_s: f64,
    /// deliveries / elapsed_s.
    pub deliveries_per_s: f64,
    /// Every delivery.
    pub latency_us: LatencyReport,
    /// Each message's first receiver.
    pub first_receiver_us: Summary,
    /// The receiver that made it half.
    pub half_receiver_us: Summary,
    /// The last receiver.
    pub last_receiver_us: Summary,
    /// From first to last.
    pub spread_us: Summary,
}

/// Receivers that are alike.
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// How many.
    pub connections: u32,
    /// What they received over.
    pub transport: &'static str,
    /// What was spoken.
    pub dialect: String,
    /// They have lines in the ledger.
    pub steady: bool,
    /// received + missing.
    pub expected: u64,
    /// The ledger of the measured period.
    pub ledger: TallyReport,
    /// Received later than the deadline.
    pub late: u64,
    /// Every delivery, from the planned time.
    pub latency_us: Summary,
    /// The last receiver of this class.
    pub last_receiver_us: Summary,
}

/// A ledger in the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TallyReport {
    /// See [`Tally`].
    pub received: u64,
    /// See [`Tally`].
    pub missing: u64,
    /// See [`Tally`].
    pub duplicate: u64,
    /// See [`Tally`].
    pub out_of_order: u64,
    /// See [`Tally`].
    pub corrupt: u64,
    /// See [`Tally`].
    pub misrouted: u64,
}

impl From<Tally> for TallyReport {
    fn from(tally: Tally) -> Self {
        let Tally { received, missing, duplicate, out_of_order, corrupt, misrouted } = tally;
        Self { received, missing, duplicate, out_of_order, corrupt, misrouted }
    }
}

impl TallyReport {
    fn is_clean(&self) -> bool {
        self.missing + self.duplicate + self.out_of_order + self.corrupt + self.misrouted == 0
    }
}

/// Latency of deliveries, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyReport {
    /// From the planned time: the honest one.
    pub from_intended: Summary,
    /// From the moment of sending.
    pub from_actual: Summary,
}

/// The server's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ServerReport {
    /// User + system, in the measured period (`connect`: while connecting; `idle`: while holding).
    pub cpu_s: f64,
    /// Cores used on average in that period.
    pub cores: f64,
    /// Part of that period its most delayed thread was ready but had no CPU, 0 to 1.
    pub waiting_ratio: f64,
    /// CPU per delivery, publishers' echoes included in the deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU from the first packet to the last open connection, per connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_connection: Option<f64>,
    /// Memory at the end of the period.
    #[serde(flatten)]
    pub memory: Memory,
    /// Growth of private memory since before the first connection, per connection.
    pub bytes_per_connection: f64,
}

/// Kernel memory, system-wide growth since before the first connection (slab and queued bytes).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    /// Both ends, per connection.
    pub bytes_per_connection_both_ends: f64,
    /// The server's end alone; needs the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection_server: Option<f64>,
    /// Kernel and user memory of the server's end against a bare accepted socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_bare_socket: Option<f64>,
    /// The bare sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineReport>,
}

/// This process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GeneratorReport {
    /// Threads, one ring each.
    pub workers: u32,
    /// Cores pinned to; empty: not pinned.
    pub cores: Vec<usize>,
    /// CPU in the measured period.
    pub cpu_s: f64,
    /// The busiest core or thread.
    pub busy_ratio: f64,
    /// Part of the period its most delayed worker was ready but had no CPU, 0 to 1.
    pub waiting_ratio: f64,
    /// Own lateness, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_delay_us: Option<Summary>,
    /// Times in the measured period in which a worker did not run for more than 100 ms.
    pub standstills: u64,
    /// The longest of them, microseconds.
    pub standstill_us_max: u64,
    /// Bursts that waited because the server did not take them.
    pub pushed_back: u64,
    /// Growth of private memory since before the first connection, per connection.
    pub bytes_per_connection: f64,
    /// All private memory at the end of the period, tables and rings included.
    pub private_bytes: u64,
    /// Ring entries (system calls).
    pub ring_enters: u64,
    /// Receives.
    pub ring_recvs: u64,
}

impl Report {
    /// The figure a threshold names; `None` when this run has none.
    pub fn figure(&self, metric: &str) -> Option<f64> {
        let broadcast = self.broadcast.as_ref();
        if let Some((distribution, point)) = metric.split_once('.') {
            let summary = match distribution {
                "from_intended" => broadcast?.latency_us.from_intended,
                "from_actual" => broadcast?.latency_us.from_actual,
                "first" => broadcast?.first_receiver_us,
                "half" => broadcast?.half_receiver_us,
                "last" => broadcast?.last_receiver_us,
                "spread" => broadcast?.spread_us,
                "send_delay" => self.generator.send_delay_us?,
                _ => return None,
            };
            return if summary.count == 0 { None } else { summary.point(point) };
        }
        Some(match metric {
            "missing" => broadcast?.missing as f64,
            "duplicate" => broadcast?.duplicate as f64,
            "out_of_order" => broadcast?.out_of_order as f64,
            "corrupt" => broadcast?.corrupt as f64,
            "misrouted" => broadcast?.misrouted as f64,
            "late" => broadcast?.late as f64,
            "deliveries" => broadcast?.deliveries as f64,
            "silent" => self.connect.silent as f64,
            "stalls" => broadcast?.stalls as f64,
            "connected" => f64::from(self.connect.opened),
            "refused" => self.guests?.refused as f64,
            "away" => self.guests?.away as f64,
            "all_back_s" => self.guests?.all_back_s?,
            "last_p99_ratio" => self.soak.as_ref()?.last_p99_ratio?,
            "server_private_bytes_per_h" => self.soak.as_ref()?.server_private_bytes_per_h?,
            "cpu_us_per_delivery" => self.server?.cpu_us_per_delivery?,
            "cpu_us_per_connection" => self.server?.cpu_us_per_connection?,
            "bytes_per_connection" => self.server?.bytes_per_connection,
            _ => return None,
        })
    }

    /// The same of one class of receivers.
    fn figure_of(&self, class: &str, metric: &str) -> Option<f64> {
        if self.classes.is_empty() {
            // There is one class, which is everybody.
            return self.figure(metric);
        }
        let class = self.classes.iter().find(|found| found.name == class)?;
        if let Some((distribution, point)) = metric.split_once('.') {
            let summary = if distribution == "last" { class.last_receiver_us } else { class.latency_us };
            return if summary.count == 0 { None } else { summary.point(point) };
        }
        Some(match metric {
            "missing" => class.ledger.missing,
            "duplicate" => class.ledger.duplicate,
            "out_of_order" => class.ledger.out_of_order,
            "corrupt" => class.ledger.corrupt,
            "misrouted" => class.ledger.misrouted,
            "late" => class.late,
            "deliveries" => class.ledger.received,
            _ => return None,
        } as f64)
    }

    /// Checks the user's thresholds, and for a broadcast those that go without saying: a clean ledger. One that the
    /// user gave for the same figure takes the place of ours.
    pub fn check_thresholds(&mut self, given: &[Threshold]) {
        let mut all = given.to_vec();
        if self.broadcast.is_some() {
            for metric in IMPLIED {
                if !given.iter().any(|threshold| threshold.class().is_none() && threshold.metric() == metric) {
                    all.extend(Threshold::parse(&format!("{metric}==0")));
                }
            }
        }
        self.thresholds = all
            .iter()
            .map(|threshold| {
                let value = match threshold.class() {
                    Some(class) => self.figure_of(class, threshold.metric()),
                    None => self.figure(threshold.metric()),
                };
                threshold.check(value)
            })
            .collect();
        if let Some(warmup) = self.broadcast.as_ref().map(|broadcast| broadcast.warmup).filter(|w| !w.is_clean()) {
            self.verdict.notes.push(format!(
                "before measuring: {} missing, {} duplicate, {} out of order, {} corrupt",
                warmup.missing, warmup.duplicate, warmup.out_of_order, warmup.corrupt
            ));
        }
    }

    /// How the process should end. Missed thresholds first: they are true whatever the generator did.
    pub fn exit(&self) -> Exit {
        let asked = self.negotiate.is_none_or(|negotiate| negotiate.answered == negotiate.requests);
        let back = self.guests.is_none_or(|guests| guests.away == 0) && self.connect.silent == 0;
        let complete =
            back && (self.broadcast.is_some() || self.connect.failed == 0 && self.connect.lost == 0 && asked);
        if self.thresholds.iter().any(|checked| !checked.met) {
            Exit::ThresholdMissed
        } else if !complete {
            Exit::Failed
        } else if !self.verdict.valid {
            Exit::Invalid
        } else {
            Exit::Done
        }
    }
}
