//! `fanfare-loadgen`, and what it says.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fanfare_protocol::negotiate::Transport;
use serde_json::Value;

use super::case::Metric;
use super::contender::{Contender, Dialect};
use super::process::{ProcessError, Program};

/// What the hub message around its one argument takes in JSON, where Fanfare's clients get `m(payload)`. Servers of
/// the raw dialect get this much more payload, so that the same number of bytes goes over every wire.
pub const HUB_MESSAGE_BYTES: u32 = br#"{"type":1,"target":"m","arguments":[""]}"#.len() as u32 + 1;

/// The longest a visit may take. The slowest peer needs some twenty seconds for the longest case.
const VISIT_LIMIT: Duration = Duration::from_secs(180);
/// The same load before, not measured: sockets grow their buffers, servers their tables, V8 its code.
const WARMUP_MS: u32 = 500;
/// How long connections are idle before their memory is read: allocators and the kernel have given back what they will.
const IDLE_HOLD_MS: u32 = 3000;

/// The load generator on this machine.
#[derive(Clone, Debug)]
pub struct Loadgen {
    /// Where it is.
    pub executable: PathBuf,
    /// The core it may use.
    pub core: u32,
    /// For its output.
    pub scratch: PathBuf,
}

/// The server of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Who.
    pub contender: Contender,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whose CPU and memory are measured.
    pub pid: u32,
    /// Where Fanfare tells its metrics.
    pub admin: SocketAddr,
}

/// Flags of one run.
#[derive(Clone, Debug)]
pub struct Flags(Vec<String>);

impl Flags {
    /// `broadcast`: `argument_bytes` is the argument of the hub message.
    pub fn broadcast(connections: u32, argument_bytes: u32, burst: u32, messages: u32) -> Flags {
        let mut flags = Flags::new("broadcast", connections);
        flags.add("--size", argument_bytes).add("--burst", burst).add("--messages", messages);
        flags.add("--warmup", format!("{WARMUP_MS}ms"));
        flags
    }

    /// `connect`: opened, held for a moment, closed.
    pub fn connect(connections: u32) -> Flags {
        Flags::new("connect", connections)
    }

    /// `idle`: opened, held, weighed.
    pub fn idle(connections: u32) -> Flags {
        let mut flags = Flags::new("idle", connections);
        flags.add("--hold", format!("{IDLE_HOLD_MS}ms"));
        flags
    }

    /// `negotiate`: so many requests on so many sockets, and no connection.
    pub fn negotiate(sockets: u32, requests: u32) -> Flags {
        let mut flags = Flags::new("negotiate", sockets);
        flags.add("--requests", requests);
        flags
    }

    /// The next burst when every receiver has the last one.
    pub fn window(mut self) -> Flags {
        self.0.push("--window".to_owned());
        self
    }

    /// Send times fixed beforehand.
    pub fn messages_per_s(mut self, rate: u32) -> Flags {
        self.add("--rate", rate);
        self
    }

    /// Further connections that never read, with so much room to receive.
    pub fn stalled(mut self, connections: u32, recv_bytes: u32) -> Flags {
        self.add("--stalled", connections).add("--stalled-rcvbuf", recv_bytes);
        self
    }

    /// No load before the measured one.
    pub fn cold(mut self) -> Flags {
        let value = self.0.iter().position(|flag| flag == "--warmup").map(|at| at + 1);
        value.into_iter().for_each(|at| self.0[at] = "0".to_owned());
        self
    }

    fn new(command: &str, connections: u32) -> Flags {
        let mut flags = Flags(vec![command.to_owned()]);
        flags.add("--connections", connections);
        flags
    }

    fn add(&mut self, flag: &str, value: impl ToString) -> &mut Flags {
        self.0.extend([flag.to_owned(), value.to_string()]);
        self
    }
}

/// Why a run gave nothing.
#[derive(Debug)]
pub enum LoadgenError {
    /// The process.
    Process(ProcessError),
    /// Its output.
    Output(io::Error),
    /// It ended without a result.
    NoResult(ProcessError),
}

impl std::fmt::Display for LoadgenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadgenError::Process(error) | LoadgenError::NoResult(error) => error.fmt(f),
            LoadgenError::Output(error) => write!(f, "cannot read what the load generator wrote: {error}"),
        }
    }
}

impl std::error::Error for LoadgenError {}

impl Loadgen {
    /// Runs to the end and gives the whole result.
    pub fn run(&self, served: Served, flags: &Flags) -> Result<Report, LoadgenError> {
        let output = self.scratch.join("loadgen.json");
        let stdout = File::create(&output).map_err(LoadgenError::Output)?;
        let program = self.program(served, flags);
        let mut running = program
            .start("loadgen", self.core, &self.scratch, Some(Stdio::from(stdout)))
            .map_err(LoadgenError::Process)?;
        let status = running.wait_end(VISIT_LIMIT).map_err(LoadgenError::Process)?;
        let mut text = String::new();
        File::open(&output).and_then(|mut file| file.read_to_string(&mut text)).map_err(LoadgenError::Output)?;
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Report(value)),
            Err(_) => Err(LoadgenError::NoResult(running.failed(format!("ended with {status} and no result")))),
        }
    }

    fn program(&self, served: Served, flags: &Flags) -> Program {
        let target = format!("ws://{}{}", served.addr, served.contender.path());
        let dialect = match served.contender.dialect() {
            Dialect::Raw => "raw",
            Dialect::SignalRJson => "signalr-json",
        };
        let mut arguments = flags.0.clone();
        if served.contender.dialect() == Dialect::Raw {
            pad_size(&mut arguments);
        }
        let pid = served.pid.to_string();
        let core = self.core.to_string();
        let rest = ["--target", &target, "--dialect", dialect, "--server-pid", &pid, "--cores", &core];
        arguments.extend(rest.map(str::to_owned));
        let transport = match served.contender.transport() {
            Transport::WebSockets => "web-sockets",
            Transport::ServerSentEvents => "server-sent-events",
            Transport::LongPolling => "long-polling",
        };
        arguments.extend(["--transport", transport].map(str::to_owned));
        arguments.extend(["--quiet", "--json", "-"].map(str::to_owned));
        Program { executable: self.executable.clone(), arguments, directory: self.scratch.clone() }
    }
}

/// Adds to `--size` what the hub message around the argument would take.
fn pad_size(arguments: &mut [String]) {
    let Some(flag) = arguments.iter().position(|argument| argument == "--size") else { return };
    let bytes: u32 = arguments[flag + 1].parse().expect("Flags wrote a number");
    arguments[flag + 1] = (bytes + HUB_MESSAGE_BYTES).to_string();
}

/// What the load generator said about one run (`fanfare-loadgen/1`).
#[derive(Clone, Debug)]
pub struct Report(Value);

/// What every receiver's ledger must have none of.
const LEDGER: [&str; 4] = ["missing", "duplicate", "out_of_order", "corrupt"];

impl Report {
    /// Why its figures cannot be used. Empty if they can.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.0["verdict"]["valid"] != true {
            let reasons = self.0["verdict"]["reasons"].as_array().map_or(&[][..], Vec::as_slice);
            let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
            problems.push(format!("the load generator calls its run invalid: {}", reasons.join("; ")));
        }
        problems.extend(self.faults().map(|(name, count)| format!("{count} {name}")));
        let asked = self.number("/negotiate/requests").zip(self.number("/negotiate/answered"));
        if let Some((requests, answered)) = asked.filter(|(requests, answered)| answered < requests) {
            problems.push(format!("{answered} of {requests} negotiates answered"));
        }
        problems
    }

    /// What went wrong with deliveries and connections, and how often. Nothing if nothing did, or if this kind of run
    /// does not count it.
    fn faults(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let ledgers = ["", "/warmup"].into_iter().flat_map(|place| LEDGER.map(|name| (place, name)));
        ledgers.chain([("/connect", "failed"), ("/connect", "lost")]).filter_map(|(place, name)| {
            let count = self.number(&format!("{place}/{name}")).filter(|&count| count > 0.0)?;
            Some((name, count))
        })
    }

    /// [`Metric::LedgerFaults`] of a run that was to publish `messages`. `None` if there are none and the run was less
    /// than that. Whether its latencies mean anything is another question: a ledger is right on a busy machine too.
    pub fn ledger_faults(&self, messages: u32) -> Option<f64> {
        let faults = self.faults().fold(0.0, |sum, (_, count)| sum + count);
        let whole = self.number("/messages") == Some(f64::from(messages)) && messages > 0;
        let arrived = self.number("/expected").is_some_and(|expected| self.number("/deliveries") == Some(expected));
        (faults > 0.0 || whole && arrived && self.kept_pace()).then_some(faults)
    }

    /// Whether an open loop took no longer than it should.
    fn kept_pace(&self) -> bool {
        /// A second of drain in a run of 60.
        const PART_MIN: f64 = 0.97;
        let Some(rate) = self.number("/rate") else { return true };
        let figures = self.number("/messages").zip(self.number("/elapsed_s"));
        figures.is_some_and(|(messages, elapsed_s)| messages / elapsed_s >= rate * PART_MIN)
    }

    /// Publishes of one message a second, if one core spends all its time on them.
    pub fn capacity_messages_per_s(&self, connections: u32) -> Option<f64> {
        // The publisher receives as well.
        Some(1e6 / self.number("/server/cpu_us_per_delivery")? / f64::from(connections + 1))
    }

    /// A figure, if this kind of run has it.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::CpuUsPerDelivery => self.number("/server/cpu_us_per_delivery"),
            Metric::CpuUsPerConnection => self.number("/server/cpu_us_per_connection"),
            Metric::UserBytesPerConnection => self.number("/server/bytes_per_connection"),
            Metric::TotalBytesPerConnection => {
                let kernel_bytes = self.number("/kernel/bytes_per_connection_server")?;
                Some(kernel_bytes + self.number("/server/bytes_per_connection")?)
            }
            Metric::TotalPerBareSocket => self.number("/kernel/ratio_to_bare_socket"),
            Metric::PollAnswersPerBurst => self.number("/poll_answers_per_burst"),
            Metric::CpuUsPerNegotiate => self.number("/negotiate/cpu_us_per_negotiate"),
            Metric::ResidentGrowthBytes => self.number("/negotiate/resident_growth_bytes"),
            // These need two runs, ask the server, or depend on what was to be done.
            Metric::HealthyP99Ratio | Metric::StalledLeft | Metric::LedgerFaults => None,
            Metric::BytesPerStalledReader | Metric::UserBytesPerStalledReader => None,
        }
    }

    /// 99th percentile of the delay from the intended send time to the arrival at those that read.
    pub fn healthy_p99_us(&self) -> Option<f64> {
        self.number("/latency_us/from_intended/p99").filter(|&p99_us| p99_us > 0.0)
    }

    /// Memory of the server that nobody shares, at the end.
    pub fn private_bytes(&self) -> u64 {
        self.number("/server/private_bytes").unwrap_or(0.0) as u64
    }

    /// All of it.
    pub fn into_json(self) -> Value {
        self.0
    }

    fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer)?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::{HUB_MESSAGE_BYTES, Metric, Report, pad_size};
    use fanfare_protocol::hub::{Format, Payload, Value, encode};
    use serde_json::json;

    #[test]
    fn raw_payloads_are_as_long_as_the_hub_message() {
        for argument_bytes in [64, 128, 2048] {
            let arguments = [Value::from("x".repeat(argument_bytes))];
            let mut message = Vec::new();
            encode::invocation(Format::Json, &mut message, None, "m", &Payload::Values(&arguments)).expect("a text");
            let mut flags = ["--size".to_owned(), argument_bytes.to_string()];
            pad_size(&mut flags);
            assert_eq!(flags[1], message.len().to_string());
            assert_eq!(message.len(), argument_bytes + HUB_MESSAGE_BYTES as usize);
        }
    }

    #[test]
    fn a_good_report_has_figures_and_no_problems() {
        let report = Report(json!({
            "connect": { "failed": 0, "lost": 0 },
            "missing": 0, "duplicate": 0, "out_of_order": 0, "corrupt": 0,
            "latency_us": { "from_intended": { "p99": 1200 } },
            "server": { "cpu_us_per_delivery": 5.5, "bytes_per_connection": 180.0 },
            "kernel": { "bytes_per_connection_server": 4000.0 },
            "verdict": { "valid": true, "reasons": [], "notes": ["generator 95 % busy"] },
        }));
        assert_eq!(report.problems(), Vec::<String>::new());
        assert_eq!(report.value(Metric::CpuUsPerDelivery), Some(5.5));
        assert_eq!(report.value(Metric::TotalBytesPerConnection), Some(4180.0));
        assert_eq!(report.value(Metric::CpuUsPerConnection), None);
        assert_eq!(report.healthy_p99_us(), Some(1200.0));
    }

    #[test]
    fn faults_are_counted_and_none_is_believed_only_of_a_whole_run() {
        let report = |deliveries: u32, doubled_before: u32, lost: u32, elapsed_s: f64| {
            Report(json!({
                "connect": { "failed": 0, "lost": lost },
                "messages": 50, "rate": 10.0, "elapsed_s": elapsed_s,
                "expected": 100, "deliveries": deliveries, "missing": 100 - deliveries,
                "duplicate": 0, "out_of_order": 0, "corrupt": 0, "warmup": { "duplicate": doubled_before },
                "verdict": { "valid": false, "reasons": ["its own delay"] },
            }))
        };
        assert_eq!(report(100, 0, 0, 5.1).ledger_faults(50), Some(0.0));
        assert_eq!(report(98, 1, 0, 5.1).ledger_faults(50), Some(3.0));
        assert_eq!(report(100, 0, 1, 9.0).ledger_faults(80), Some(1.0));
        assert_eq!(report(100, 0, 0, 5.1).ledger_faults(60), None, "ten were not published");
        assert_eq!(report(100, 0, 0, 5.3).ledger_faults(50), None, "it was a lighter load");
        assert_eq!(Report(json!({ "connect": {}, "messages": 5 })).ledger_faults(5), None);
    }

    #[test]
    fn bad_reports_say_why() {
        let report = Report(json!({
            "connect": { "failed": 3, "lost": 0 },
            "missing": 0, "duplicate": 2, "out_of_order": 0, "corrupt": 0,
            "verdict": { "valid": false, "reasons": ["the generator was busy"] },
        }));
        let problems = report.problems().join(" | ");
        for part in ["the generator was busy", "2 duplicate", "3 failed"] {
            assert!(problems.contains(part), "{problems}");
        }
        let report = Report(json!({
            "negotiate": { "requests": 50, "answered": 49, "resident_growth_bytes": -4096 }, "verdict": { "valid": true },
        }));
        assert_eq!(report.problems(), ["49 of 50 negotiates answered"]);
        assert_eq!(report.value(Metric::ResidentGrowthBytes), Some(-4096.0));
        assert_eq!(Report(json!({})).problems().len(), 1, "a report without a verdict is not believed");
    }
}
