//! From a run to its report: what both sides paid, and whether the figures mean anything.

use crate::baseline::settled_sample;
use crate::client::Phases;
use crate::failure::Failure;
use crate::fault;
use crate::procfs::{KernelSample, Memory, ProcessSample};
use crate::report::redact;
use crate::report::series::Record;
use crate::report::{ConnectReport, GeneratorReport, KernelReport, Report, SCHEMA, ServerReport, Trouble};
use crate::run::{Run, Spent};
use crate::verdict::{BUSY_RATIO_MAX, Verdict};
use crate::worker::WorkerReport;

impl Run {
    pub(crate) fn judge_connect(&self, cost: &Spent) -> Verdict {
        let mut verdict = Verdict::default();
        if cost.wanting_ratio.max(cost.busy_ratio) > BUSY_RATIO_MAX {
            let text = format!(
                "the generator ran {:.0} % and waited for a CPU {:.0} % of the time while connecting",
                cost.busy_ratio * 100.0,
                cost.waiting_ratio * 100.0
            );
            if self.setup.job.fleet.connect_rate.is_some() {
                verdict.reasons.push(format!("{text}: use more --cores or a lower --connect-rate"));
            } else {
                verdict.notes.push(format!("{text}: rate and phases are its own; CPU per connection is the server's"));
            }
        }
        verdict.valid = verdict.reasons.is_empty();
        verdict
    }

    /// Private memory of the server now, against before the first connection, per connection.
    fn server_growth(&self, memory: &Memory) -> f64 {
        let before = self.before.server.as_ref().map_or(0, |sample| sample.memory.private_bytes);
        (memory.private_bytes as f64 - before as f64) / f64::from(self.setup.job.fleet.connections)
    }

    pub(crate) fn kernel_report(&self, before: &KernelSample, spent: &Spent) -> Result<KernelReport, Failure> {
        let connections = f64::from(self.setup.job.fleet.connections);
        let both = settled_sample()?.since(before) as f64 / connections;
        let baseline = self.baseline.as_ref().map(|baseline| baseline.report);
        let server = baseline.map(|bare| both - bare.generator_end_bytes);
        let ratio = baseline
            .zip(server)
            .filter(|_| spent.server_cpu_s.is_some())
            .map(|(bare, server)| (server + self.server_growth(&spent.server_memory)) / bare.bare_socket_bytes)
            // A few sockets fit into what the kernel had at hand: then a bare one has cost nothing.
            .filter(|ratio| ratio.is_finite());
        Ok(KernelReport {
            bytes_per_connection_both_ends: both,
            bytes_per_connection_server: server,
            ratio_to_bare_socket: ratio,
            baseline,
        })
    }

    pub(crate) fn report(
        &self,
        connect: ConnectReport,
        cost: Spent,
        spent: Spent,
        kernel: Option<KernelReport>,
        verdict: Verdict,
    ) -> Report {
        let job = &self.setup.job;
        let opened = f64::from(connect.opened.max(1));
        let server = spent.server_cpu_s.map(|cpu_s| ServerReport {
            cpu_s,
            cores: cpu_s / spent.wall_s,
            waiting_ratio: spent.server_waiting_ratio,
            cpu_us_per_delivery: None,
            cpu_us_per_connection: cost.server_cpu_s.map(|cpu_s| cpu_s * 1e6 / opened),
            memory: spent.server_memory,
            bytes_per_connection: self.server_growth(&spent.server_memory),
        });
        let own_now = ProcessSample::take(&[std::process::id()]).unwrap_or_default().memory.private_bytes;
        let own_before = self.before.own.memory.private_bytes;
        let generator = GeneratorReport {
            workers: job.fleet.workers,
            cores: job.fleet.cores.clone(),
            cpu_s: spent.own_cpu_s,
            busy_ratio: spent.busy_ratio,
            waiting_ratio: spent.waiting_ratio,
            private_bytes: own_now,
            bytes_per_connection: own_now.saturating_sub(own_before) as f64 / f64::from(job.fleet.connections),
            ..GeneratorReport::default()
        };
        Report {
            schema: SCHEMA,
            command: job.task.name(),
            scenario: job.scenario.clone(),
            target: redact::target(&job.server.target),
            dialect: one_of(job.fleet.classes.iter().map(|class| class.dialect.to_string())),
            transport: one_of(job.fleet.classes.iter().map(|class| class.transport.name())),
            seed: job.seed,
            connections: job.fleet.connections,
            run: None,
            record: Record::default(),
            connect,
            broadcast: None,
            classes: Vec::new(),
            negotiate: None,
            server,
            kernel,
            generator,
            stalled: None,
            soak: None,
            guests: None,
            thresholds: Vec::new(),
            verdict,
        }
    }

    /// Adds what only the ended workers know.
    pub(crate) fn complete(&mut self, report: &mut Report, workers: &[WorkerReport]) {
        let mut phases = Phases::default();
        for worker in workers {
            phases.add(&worker.phases);
            report.generator.ring_enters += worker.io.enters;
            report.generator.ring_recvs += worker.io.recvs;
        }
        report.connect.phases_us = phases.summary();
        if let Some(guests) = &mut report.guests {
            guests.back_us = report.connect.phases_us.back;
            // The workers' clocks are finer than the looks of the coordinator.
            let last_us = guests.back_us.map(|back| back.max as f64 / 1e6);
            guests.all_back_s = guests.all_back_s.map(|seen| last_us.filter(|&last| last <= seen).unwrap_or(seen));
        }
        let troubles = self.shared().troubles();
        report.record.samples = self.recorder.finish(&self.setup.shared);
        report.connect.troubles =
            troubles.into_iter().map(|(what, count)| Trouble { what: redact::text(&what), count }).collect();
        report.connect.silent = self.shared().sum(|worker| &worker.silences);
        if let Some(measured) = self.broadcast.take() {
            measured.complete(self.shared(), &self.setup.job, workers, report);
        }
        report.verdict.faults = fault::all(report);
    }
}

/// What all are, or that they are not all the same.
fn one_of<T: PartialEq + From<&'static str>>(mut all: impl Iterator<Item = T>) -> T {
    match all.next() {
        Some(first) if all.all(|other| other == first) => first,
        _ => T::from("mixed"),
    }
}
