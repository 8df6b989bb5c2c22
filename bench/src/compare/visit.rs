//! One visit: a fresh server, one load, one sample.

use std::fs;
use std::io;
use std::time::Duration;

use fanfare_protocol::negotiate::Transport;

use super::case::{Metric, Work};
use super::contender::{CHAIN_FILE, Contender, Dialect, KEY_FILE, Places, free_address};
use super::kernel::HighWater;
use super::loadgen::{Flags, Loadgen, LoadgenError, Report, Served};
use super::metrics;
use super::process::{ProcessError, Running};
use super::relay::{self, Identity};
use super::report::Sample;

/// How long a server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Messages in a visit of a quick run: this fraction of a full one.
const QUICK_DIVISOR: u32 = 4;
/// Seconds of a steady visit in a quick run: this fraction of a full one.
const QUICK_STEADY_DIVISOR: u32 = 12;

/// Connections opened and closed before memory is weighed.
const REHEARSAL_CONNECTIONS: u32 = 100;

/// Messages that tell the capacity of a server.
const CAPACITY_MESSAGES: u32 = 400;
/// `SO_RCVBUF` of stalled readers: small, as what lies in their queues is theirs and not the server's.
const STALLED_RECV_BYTES: u32 = 4096;

/// A broadcast that leaves nobody in doubt who is too slow: three times what may wait for one client, beside what its
/// socket takes.
const FLOOD_BYTES: u32 = 16 << 10;
/// So many of them.
const FLOOD_MESSAGES: u32 = 240;
/// Receivers that read meanwhile.
const FLOOD_HEALTHY: u32 = 100;

/// Why a visit gave no sample.
#[derive(Debug)]
pub enum VisitError {
    /// The server.
    Server(ProcessError),
    /// The load generator.
    Loadgen(LoadgenError),
    /// The machine: files, ports, `/proc`.
    System(io::Error),
}

impl std::fmt::Display for VisitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VisitError::Server(error) => error.fmt(f),
            VisitError::Loadgen(error) => error.fmt(f),
            VisitError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for VisitError {}

impl From<io::Error> for VisitError {
    fn from(error: io::Error) -> Self {
        VisitError::System(error)
    }
}

/// Makes visits.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Where the servers are.
    pub places: Places,
    /// Who loads them.
    pub loadgen: Loadgen,
    /// Fewer messages.
    pub quick: bool,
}

impl Visitor {
    /// Starts `contender`, does `work` to it, ends it. A failure becomes a sample without values.
    pub fn visit(&self, contender: Contender, work: Work) -> Sample {
        match self.measure(contender, work) {
            Ok(sample) => sample,
            Err(error) => Sample { remarks: vec![error.to_string()], ..Sample::default() },
        }
    }

    fn measure(&self, contender: Contender, work: Work) -> Result<Sample, VisitError> {
        let mut sample = Sample::default();
        match work {
            Work::Broadcast { connections, argument_bytes, burst, messages } => {
                let messages = if self.quick { (messages / QUICK_DIVISOR).next_multiple_of(burst) } else { messages };
                let flags = Flags::broadcast(connections, argument_bytes, burst, messages).window();
                let report = self.run(contender, &flags)?;
                take_faults(&mut sample, &report, messages);
                let polls = contender.transport() == Transport::LongPolling;
                let metrics = [Metric::CpuUsPerDelivery, Metric::PollAnswersPerBurst];
                take(&mut sample, &report, &metrics[..1 + usize::from(polls)]);
                sample.loadgen.push(report.into_json());
            }
            Work::Connect { connections } => {
                let report = self.run(contender, &Flags::connect(connections))?;
                take(&mut sample, &report, &[Metric::CpuUsPerConnection]);
                sample.loadgen.push(report.into_json());
            }
            Work::Idle { connections } => {
                let report = self.run_idle(contender, connections)?;
                let metrics =
                    [Metric::UserBytesPerConnection, Metric::TotalBytesPerConnection, Metric::TotalPerBareSocket];
                take(&mut sample, &report, &metrics);
                sample.loadgen.push(report.into_json());
            }
            Work::Negotiate { sockets, requests } => {
                let report = self.run(contender, &Flags::negotiate(sockets, requests))?;
                take(&mut sample, &report, &[Metric::ResidentGrowthBytes, Metric::CpuUsPerNegotiate]);
                sample.loadgen.push(report.into_json());
            }
            Work::Stalled { healthy, stalled, argument_bytes, messages, messages_per_s } => {
                let flags = Flags::broadcast(healthy, argument_bytes, 1, messages).messages_per_s(messages_per_s);
                let (without, without_bytes) = self.run_watched(contender, &flags)?;
                let (with, with_bytes) = self.run_watched(contender, &flags.stalled(stalled, STALLED_RECV_BYTES))?;
                let sound = with.problems().is_empty() && without.problems().is_empty();
                let p99_us = with.healthy_p99_us().zip(without.healthy_p99_us());
                if let Some((p99_with, p99_without)) = p99_us.filter(|_| sound) {
                    sample.values.insert(Metric::HealthyP99Ratio.key(), p99_with / p99_without);
                }
                let stalled_bytes = (with_bytes as f64 - without_bytes as f64) / f64::from(stalled);
                sample.values.insert(Metric::BytesPerStalledReader.key(), stalled_bytes);
                let mut reports = vec![without, with];
                if contender.dialect() == Dialect::SignalRJson {
                    let (report, closed) = self.run_flood(contender, stalled)?;
                    sample.values.insert(Metric::StalledLeft.key(), f64::from(stalled) - closed);
                    reports.push(report);
                }
                for report in reports {
                    note_problems(&mut sample, &report);
                    sample.loadgen.push(report.into_json());
                }
            }
            Work::Reach { connections, argument_bytes, messages } => {
                let flags = Flags::broadcast(connections, argument_bytes, 1, messages).window().cold();
                let report = self.run(contender, &flags)?;
                take_faults(&mut sample, &report, messages);
                take(&mut sample, &report, &[Metric::CpuUsPerDelivery, Metric::CpuUsPerConnection]);
                sample.loadgen.push(report.into_json());
            }
            Work::Steady { connections, argument_bytes, load_percent, seconds } => {
                let seconds = if self.quick { seconds.div_ceil(QUICK_STEADY_DIVISOR) } else { seconds };
                let flags = Flags::broadcast(connections, argument_bytes, 1, CAPACITY_MESSAGES).window();
                let capacity = self.run(contender, &flags)?.capacity_messages_per_s(connections);
                let Some(capacity) = capacity.filter(|&capacity| capacity >= 2.0) else {
                    sample.remarks.push("its capacity could not be measured".to_owned());
                    return Ok(sample);
                };
                let messages_per_s = (capacity * f64::from(load_percent) / 100.0) as u32;
                let messages = messages_per_s * seconds;
                let flags = Flags::broadcast(connections, argument_bytes, 1, messages);
                let report = self.run(contender, &flags.messages_per_s(messages_per_s))?;
                take_faults(&mut sample, &report, messages);
                note_problems(&mut sample, &report);
                sample.loadgen.push(report.into_json());
            }
        }
        Ok(sample)
    }

    fn start(&self, contender: Contender) -> Result<(Running, Served), VisitError> {
        let (addr, admin) = (free_address()?, free_address()?);
        let identity = (contender == Contender::FanfareTls).then(Identity::new).transpose()?;
        if let Some(identity) = &identity {
            fs::write(self.places.scratch.join(CHAIN_FILE), &identity.chain)?;
            fs::write(self.places.scratch.join(KEY_FILE), &identity.key)?;
        }
        let program = contender.program(addr, admin, &self.places)?;
        let name = contender.to_string();
        let started = program.start(&name, self.places.server_core, &self.places.scratch, None);
        let mut running = started.map_err(VisitError::Server)?;
        running.wait_listening(addr, START_LIMIT).map_err(VisitError::Server)?;
        let pid = running.pid();
        let addr = if contender.is_relayed() {
            let tls = identity.map(|identity| identity.client()).transpose()?;
            relay::start(addr, tls, self.loadgen.core)?
        } else {
            addr
        };
        Ok((running, Served { contender, addr, pid, admin }))
    }

    fn run(&self, contender: Contender, flags: &Flags) -> Result<Report, VisitError> {
        let (mut running, served) = self.start(contender)?;
        let report = self.loadgen.run(served, flags).map_err(VisitError::Loadgen)?;
        match running.ended().map_err(VisitError::Server)? {
            None => Ok(report),
            Some(status) => Err(VisitError::Server(running.failed(format!("ended under load with {status}")))),
        }
    }

    /// Weighs idle connections of a server that has had some before: what it allocates and maps once, and the code it
    /// reads for the first time, is no connection's.
    fn run_idle(&self, contender: Contender, connections: u32) -> Result<Report, VisitError> {
        let (running, served) = self.start(contender)?;
        let rehearsal =
            self.loadgen.run(served, &Flags::connect(REHEARSAL_CONNECTIONS)).map_err(VisitError::Loadgen)?;
        let report = self.loadgen.run(served, &Flags::idle(connections)).map_err(VisitError::Loadgen)?;
        drop((running, rehearsal));
        Ok(report)
    }

    /// Publishes to `stalled` readers more than may wait for them. Also gives how many the server says it has closed for
    /// that: how it looks from the other end nobody can tell without reading what is owed.
    fn run_flood(&self, contender: Contender, stalled: u32) -> Result<(Report, f64), VisitError> {
        let (running, served) = self.start(contender)?;
        let flags = Flags::broadcast(FLOOD_HEALTHY, FLOOD_BYTES, 1, FLOOD_MESSAGES).window().cold();
        let flags = flags.stalled(stalled, STALLED_RECV_BYTES);
        let report = self.loadgen.run(served, &flags).map_err(VisitError::Loadgen)?;
        let page = metrics::page(served.admin)?;
        drop(running);
        let closed = metrics::value(&page, r#"fanfare_connections_closed_total{reason="slow_client"}"#);
        Ok((report, closed.unwrap_or(0.0)))
    }

    /// Also gives what the server's own memory and all TCP queues took at most, in bytes.
    fn run_watched(&self, contender: Contender, flags: &Flags) -> Result<(Report, u64), VisitError> {
        let (running, served) = self.start(contender)?;
        let queues = HighWater::watch()?;
        let report = self.loadgen.run(served, flags).map_err(VisitError::Loadgen)?;
        let queued_bytes = queues.peak_bytes()?;
        drop(running);
        let bytes = queued_bytes + report.private_bytes();
        Ok((report, bytes))
    }
}

/// Takes the count of faults, also out of a report that has some: that is what it is for.
fn take_faults(sample: &mut Sample, report: &Report, messages: u32) {
    match report.ledger_faults(messages) {
        Some(faults) => drop(sample.values.insert(Metric::LedgerFaults.key(), faults)),
        None => sample.remarks.push(format!("of {messages} messages not all were published, or not at their pace")),
    }
}

/// Takes these metrics out of a report that is any good.
fn take(sample: &mut Sample, report: &Report, metrics: &[Metric]) {
    note_problems(sample, report);
    if !sample.remarks.is_empty() {
        return;
    }
    for &metric in metrics {
        match report.value(metric) {
            Some(value) => drop(sample.values.insert(metric.key(), value)),
            None => sample.remarks.push(format!("the load generator did not report {}", metric.title())),
        }
    }
}

fn note_problems(sample: &mut Sample, report: &Report) {
    sample.remarks.extend(report.problems());
}
