//! The result as people read it on a terminal.

use super::{BroadcastReport, ClassReport, NegotiateReport, Report};
use crate::latency::Summary;
use crate::quantity::{bytes_text, grouped, micros_text};
use std::fmt::Write;

impl Report {
    /// The summary for people, without control characters.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let Self { target, command, dialect, transport, seed, .. } = self;
        if let Some(scenario) = &self.scenario {
            writeln!(out, "scenario  {scenario}")?;
        }
        writeln!(out, "target    {target} | {command} | {dialect} over {transport} | seed {seed}")?;
        self.write_connect(out)?;
        if let Some(negotiate) = &self.negotiate {
            negotiate.write_summary(out)?;
        }
        if let Some(broadcast) = &self.broadcast {
            broadcast.write_summary(out)?;
        }
        for class in &self.classes {
            class.write_summary(out)?;
        }
        self.write_costs(out)?;
        if let Some(stalled) = &self.stalled {
            writeln!(
                out,
                "slow      {} readers | {} messages read, {} corrupt, {} ended | {} unread in their receive queues | {} seen closed",
                stalled.connections,
                grouped(stalled.messages_read),
                stalled.corrupt,
                stalled.ended,
                bytes_text(stalled.unread_bytes),
                stalled.seen_closed
            )?;
        }
        if let Some(soak) = &self.soak {
            soak.write_summary(out)?;
        }
        if let Some(guests) = &self.guests {
            guests.write_summary(out)?;
        }
        for checked in &self.thresholds {
            let word = if checked.met { "ok" } else { "MISSED" };
            writeln!(out, "threshold {} | {word} | {}", checked.threshold, checked.value_text())?;
        }
        for fault in &self.verdict.faults {
            writeln!(out, "fault     {}: {}", fault.name, fault.text)?;
        }
        for note in &self.verdict.notes {
            writeln!(out, "note      {note}")?;
        }
        for reason in &self.verdict.reasons {
            writeln!(out, "invalid   {reason}")?;
        }
        writeln!(out, "verdict   {}", if self.verdict.valid { "valid" } else { "INVALID" })
    }

    fn write_connect(&self, out: &mut String) -> std::fmt::Result {
        let connect = &self.connect;
        writeln!(
            out,
            "connect   {} open in {:.2} s ({}/s) | failed {} | lost {}",
            grouped(u64::from(connect.opened)),
            connect.elapsed_s,
            grouped(connect.per_s as u64),
            connect.failed,
            connect.lost
        )?;
        let phases = &connect.phases_us;
        for (name, phase) in [
            ("tcp", phases.tcp),
            ("negotiate", phases.negotiate),
            ("upgrade", phases.upgrade),
            ("subscribe", phases.subscribe),
            ("handshake", phases.handshake),
            ("total", phases.total),
            ("close", phases.close),
            ("back", phases.back),
        ] {
            if let Some(phase) = phase {
                writeln!(out, "  {name:<13} {}", line(&phase))?;
            }
        }
        for trouble in &connect.troubles {
            writeln!(out, "trouble   {} x {}", grouped(trouble.count), trouble.what)?;
        }
        Ok(())
    }

    fn write_costs(&self, out: &mut String) -> std::fmt::Result {
        if let Some(server) = &self.server {
            write!(out, "server    {:.2} s CPU ({:.2} cores)", server.cpu_s, server.cores)?;
            if let Some(us) = server.cpu_us_per_delivery {
                write!(out, " | {us:.3} us per delivery")?;
            }
            if let Some(us) = server.cpu_us_per_connection {
                write!(out, " | {us:.1} us per connection")?;
            }
            writeln!(
                out,
                " | {} RSS, {} private, {:.0} B per connection | {} threads",
                bytes_text(server.memory.rss_bytes),
                bytes_text(server.memory.private_bytes),
                server.bytes_per_connection,
                server.memory.threads
            )?;
        }
        if let Some(kernel) = &self.kernel {
            write!(out, "kernel    {:.0} B per connection, both ends", kernel.bytes_per_connection_both_ends)?;
            if let (Some(server), Some(baseline)) = (kernel.bytes_per_connection_server, kernel.baseline) {
                write!(out, " | server's end {server:.0} B | bare socket {:.0} B", baseline.bare_socket_bytes)?;
            }
            if let Some(ratio) = kernel.ratio_to_bare_socket {
                write!(out, " | kernel + user = {ratio:.3} x bare")?;
            }
            writeln!(out)?;
        }
        let generator = &self.generator;
        write!(out, "generator {} workers", generator.workers)?;
        if !generator.cores.is_empty() {
            let cores: Vec<String> = generator.cores.iter().map(usize::to_string).collect();
            write!(out, " on cores {}", cores.join(","))?;
        }
        write!(
            out,
            " | {:.2} s CPU, busiest {:.0} %, waiting for a CPU {:.0} % | {:.0} B per connection",
            generator.cpu_s,
            generator.busy_ratio * 100.0,
            generator.waiting_ratio * 100.0,
            generator.bytes_per_connection
        )?;
        match &generator.send_delay_us {
            Some(delay) => writeln!(out, " | own delay p99 {}", micros_text(delay.p99)),
            None => writeln!(out),
        }
    }
}

impl NegotiateReport {
    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let (answered, requests) = (grouped(self.answered), grouped(self.requests));
        write!(
            out,
            "negotiate {answered} of {requests} in {:.2} s ({}/s)",
            self.elapsed_s,
            grouped(self.per_s as u64)
        )?;
        if let Some(us) = self.cpu_us_per_negotiate {
            write!(out, " | server {us:.2} us each")?;
        }
        if let Some(bytes) = self.resident_growth_bytes {
            write!(out, " | its resident set {bytes:+} B")?;
        }
        writeln!(out)
    }
}

impl ClassReport {
    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let Self { name, connections, transport, dialect, ledger, .. } = self;
        write!(out, "class     {name} | {} x {dialect} over {transport}", grouped(u64::from(*connections)))?;
        if !self.steady {
            return writeln!(out, " | come and go, no ledger");
        }
        let received = grouped(ledger.received);
        writeln!(out, " | {received} received | {} missing | {}", ledger.missing, line(&self.latency_us))
    }
}

impl BroadcastReport {
    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "delivery  {} messages of {} = {} expected | {} received | {} missing | {} duplicate | {} out of order | {} corrupt | {} misrouted | {} late",
            grouped(self.messages),
            bytes_text(self.payload_bytes as u64),
            grouped(self.expected),
            grouped(self.deliveries),
            grouped(self.missing),
            grouped(self.duplicate),
            grouped(self.out_of_order),
            grouped(self.corrupt),
            grouped(self.misrouted),
            grouped(self.late)
        )?;
        if let (Some(answers), Some(per_burst)) = (self.poll_answers, self.poll_answers_per_burst) {
            writeln!(out, "polls     {} answered with news | {per_burst:.4} per receiver and burst", grouped(answers))?;
        }
        writeln!(out, "latency   from intended {}", line(&self.latency_us.from_intended))?;
        writeln!(out, "          from actual   {}", line(&self.latency_us.from_actual))?;
        for (name, summary) in [
            ("first", &self.first_receiver_us),
            ("half", &self.half_receiver_us),
            ("last", &self.last_receiver_us),
            ("spread", &self.spread_us),
        ] {
            writeln!(out, "fan-out   {name:<13} {}", line(summary))?;
        }
        let bytes_per_s = self.deliveries_per_s * self.payload_bytes as f64;
        writeln!(
            out,
            "rate      {} deliveries/s | {}/s of payload | {:.2} s",
            grouped(self.deliveries_per_s as u64),
            bytes_text(bytes_per_s as u64),
            self.elapsed_s
        )
    }
}

fn line(summary: &Summary) -> String {
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        micros_text(summary.p50),
        micros_text(summary.p90),
        micros_text(summary.p99),
        micros_text(summary.p99_9),
        micros_text(summary.max)
    )
}
