//! `self-check`: what this generator can do here, before any server is blamed.
//!
//! Bare loops, each without a server: the clock and its timers; entries into the ledger; the way of a delivery from
//! bytes to the ledger, over and over from one buffer; and the same bytes through loopback sockets, sent by a thread
//! that does nothing else. The last is a bound for both ends together: no server on this machine can deliver more to
//! one worker. What was asked for is held against it.

mod loops;

use crate::failure::{Exit, Failure};
use crate::job::{Fleet, SLOTS_PER_RING_MAX, WORKERS_MAX};
use crate::latency::Summary;
use crate::os;
use crate::quantity::{bytes_text, grouped, micros_text};
use crate::verdict::{BUSY_RATIO_MAX, SEND_DELAY_PART_MAX};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Names the schema.
pub const SCHEMA: &str = "fanfare-loadgen-self-check/1";

/// A timer this late is too coarse for the latencies of a fast server, microseconds.
const TIMER_P99_US_MAX: u64 = 1_000;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Payload bytes.
    pub payload_bytes: usize,
    /// Connections to hold.
    pub connections: u32,
    /// Messages in a second, each to all connections.
    pub messages_per_s: f64,
    /// Length of each loop.
    pub period: Duration,
    /// Where to run; `None`: anywhere.
    pub core: Option<usize>,
}

/// One loop of receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Receives {
    /// Deliveries verified.
    pub deliveries: u64,
    /// Of which damaged or unknown; anything but 0 is a bug here.
    pub wrong: u64,
    /// In a second.
    pub per_s: f64,
    /// Bytes in a second, on the wire where there is one.
    pub bytes_per_s: f64,
    /// Time of each, nanoseconds.
    pub ns_each: f64,
}

/// What was asked for, beside what was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judgement {
    /// Connections asked for.
    pub connections: u32,
    /// Messages in a second asked for.
    pub messages_per_s: f64,
    /// Deliveries in a second that they make.
    pub deliveries_per_s: f64,
    /// Threads that would share them.
    pub workers: u32,
    /// What those threads can take and still be believed.
    pub deliveries_per_s_max: f64,
    /// deliveries_per_s / deliveries_per_s_max.
    pub load_ratio: f64,
    /// A latency whose 99th percentile is below this cannot be told from the generator's own timers, microseconds.
    pub latency_floor_us: u64,
    /// Whether this machine can carry it.
    pub fit: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SelfCheck {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Nanoseconds that asking for the time takes.
    pub clock_ns: f64,
    /// The smallest step the clock was seen to make, nanoseconds.
    pub clock_step_ns: u64,
    /// How late timers of 1 ms end, microseconds.
    pub timer_late_us: Summary,
    /// Entries into a ledger alone.
    pub booking: Receives,
    /// From bytes in memory to the ledger.
    pub reading: Receives,
    /// The same through loopback sockets, with the sender on this machine as well.
    pub sockets: Receives,
    /// Cores this process may use.
    pub cores: usize,
    /// Descriptors it may have.
    pub descriptors: u64,
    /// What was asked for.
    pub verdict: Judgement,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Runs the loops and judges.
pub fn run(options: Options) -> Result<SelfCheck, Failure> {
    let cores = os::allowed_cores().len();
    if let Some(core) = options.core {
        os::pin_to_core(core)?;
    }
    os::sharpen_timers();
    let (clock_ns, clock_step_ns) = loops::clock();
    let mut found = SelfCheck {
        schema: SCHEMA,
        payload_bytes: options.payload_bytes,
        clock_ns,
        clock_step_ns,
        timer_late_us: loops::timers(),
        booking: loops::booking(options),
        reading: loops::reading(options),
        sockets: loops::sockets(options)?,
        cores,
        descriptors: os::raise_descriptor_limit(),
        verdict: Judgement::default(),
        notes: Vec::new(),
    };
    found.note(options);
    found.verdict = found.judge(options);
    Ok(found)
}

impl SelfCheck {
    fn note(&mut self, options: Options) {
        if self.timer_late_us.p99 > TIMER_P99_US_MAX {
            self.notes.push(format!(
                "one timer in a hundred is {} late: this machine is busy, or virtual",
                micros_text(self.timer_late_us.p99)
            ));
        }
        if self.cores < 2 && options.core.is_none() {
            self.notes.push("there is one core: a server on this machine shares it with the generator".to_owned());
        }
    }

    fn wrong(&self) -> u64 {
        self.booking.wrong + self.reading.wrong + self.sockets.wrong
    }

    /// Holds what was asked for against what was found.
    fn judge(&self, options: Options) -> Judgement {
        let Options { connections, messages_per_s, .. } = options;
        let workers = Fleet::workers_needed(connections, 0);
        // Workers beyond the cores share them.
        let side_by_side = workers.min(self.cores.max(1) as u32);
        let deliveries_per_s = f64::from(connections) * messages_per_s;
        let deliveries_per_s_max = self.sockets.per_s * f64::from(side_by_side) * BUSY_RATIO_MAX;
        let mut reasons = Vec::new();
        if self.wrong() > 0 {
            reasons.push(format!("{} payloads did not arrive as sent: do not trust this machine", self.wrong()));
        }
        if deliveries_per_s > deliveries_per_s_max {
            reasons.push(format!(
                "{} deliveries/s are more than {}: lower --rate or --connections, add --cores, or use several machines",
                grouped(deliveries_per_s as u64),
                grouped(deliveries_per_s_max as u64)
            ));
        }
        if workers > WORKERS_MAX {
            let most = SLOTS_PER_RING_MAX * WORKERS_MAX;
            reasons.push(format!("{} connections are more than {}", grouped(connections.into()), grouped(most.into())));
        }
        let slots = u64::from(connections.div_ceil(workers)) + 1;
        if slots > self.descriptors {
            reasons.push(format!(
                "a ring of {} connections needs a descriptor limit of as many, it is {}: raise it (ulimit -n)",
                grouped(slots),
                grouped(self.descriptors)
            ));
        }
        Judgement {
            connections,
            messages_per_s,
            deliveries_per_s,
            workers,
            deliveries_per_s_max,
            load_ratio: deliveries_per_s / deliveries_per_s_max.max(1e-9),
            latency_floor_us: (self.timer_late_us.p99 as f64 / SEND_DELAY_PART_MAX) as u64,
            fit: reasons.is_empty(),
            reasons,
        }
    }

    /// How the process should end: a loop that damages payloads has failed; a host that cannot hold the connections is
    /// unfit; a rate beyond this generator would make every run invalid.
    pub fn exit(&self) -> Exit {
        if self.wrong() > 0 {
            Exit::Failed
        } else if self.verdict.deliveries_per_s > self.verdict.deliveries_per_s_max {
            Exit::Invalid
        } else if !self.verdict.fit {
            Exit::HostUnfit
        } else {
            Exit::Done
        }
    }

    /// For people.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let late = &self.timer_late_us;
        writeln!(out, "clock     {:.0} ns a look | smallest step {} ns", self.clock_ns, self.clock_step_ns)?;
        writeln!(
            out,
            "timers    of 1 ms end late by p50 {}  p99 {}  max {}",
            micros_text(late.p50),
            micros_text(late.p99),
            micros_text(late.max)
        )?;
        for (name, receives) in [("ledger", &self.booking), ("reading", &self.reading), ("sockets", &self.sockets)] {
            writeln!(
                out,
                "{name:<9} {} deliveries/s of {} | {}/s | {:.0} ns each | {} wrong",
                grouped(receives.per_s as u64),
                bytes_text(self.payload_bytes as u64),
                bytes_text(receives.bytes_per_s as u64),
                receives.ns_each,
                receives.wrong
            )?;
        }
        writeln!(out, "host      {} cores | {} descriptors", self.cores, grouped(self.descriptors))?;
        let asked = &self.verdict;
        writeln!(
            out,
            "asked     {} connections x {}/s = {} deliveries/s | {} workers take {} deliveries/s here ({:.1} % used)",
            grouped(asked.connections.into()),
            asked.messages_per_s,
            grouped(asked.deliveries_per_s as u64),
            asked.workers,
            grouped(asked.deliveries_per_s_max as u64),
            asked.load_ratio * 100.0
        )?;
        writeln!(out, "latency   a p99 below {} cannot be measured here", micros_text(asked.latency_floor_us))?;
        self.notes.iter().try_for_each(|note| writeln!(out, "note      {note}"))?;
        asked.reasons.iter().try_for_each(|reason| writeln!(out, "unfit     {reason}"))?;
        writeln!(out, "verdict   {}", if asked.fit { "this machine can carry it" } else { "CANNOT CARRY IT" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        payload_bytes: 300,
        connections: 100,
        messages_per_s: 1.0,
        period: Duration::from_millis(50),
        core: None,
    };

    /// As if the loops had run so.
    fn found(per_s: f64, descriptors: u64) -> SelfCheck {
        let sockets = Receives { per_s, ..Receives::default() };
        let timer_late_us = Summary { p99: 60, ..Summary::default() };
        SelfCheck { sockets, timer_late_us, cores: 2, descriptors, ..SelfCheck::default() }
    }

    #[test]
    fn every_loop_delivers_and_nothing_is_wrong() {
        let found = run(OPTIONS).expect("loops");
        for receives in [found.booking, found.reading, found.sockets] {
            assert!(receives.deliveries > 0 && receives.wrong == 0, "{receives:?}");
        }
        assert_eq!(found.timer_late_us.count, u64::from(loops::TIMERS));
        assert!(found.clock_step_ns > 0 && found.cores > 0);
        assert!(found.summary().contains("verdict   this machine can carry it"), "{}", found.summary());
        assert_eq!(found.exit(), Exit::Done);
    }

    #[test]
    fn what_is_asked_is_held_against_what_was_found() {
        let asked = |found: &SelfCheck, connections, messages_per_s| {
            let verdict = found.judge(Options { connections, messages_per_s, ..OPTIONS });
            SelfCheck { verdict, ..found.clone() }
        };
        let fast = found(1_000_000.0, 20_000);
        let fits = asked(&fast, 1_000, 50.0);
        assert_eq!((fits.verdict.fit, fits.exit(), fits.verdict.workers), (true, Exit::Done, 1));
        assert_eq!((fits.verdict.deliveries_per_s, fits.verdict.latency_floor_us), (50_000.0, 600));
        // More than 90 % of one worker.
        let too_fast = asked(&fast, 1_000, 950.0);
        assert_eq!((too_fast.verdict.fit, too_fast.exit()), (false, Exit::Invalid));
        assert!(too_fast.verdict.reasons[0].starts_with("950 000 deliveries/s are more than 900 000"));
        // Two workers side by side take twice as much.
        assert!(asked(&fast, 30_000, 50.0).verdict.fit);
        let few = asked(&found(1e6, 1024), 5_000, 1.0);
        assert_eq!((few.verdict.fit, few.exit()), (false, Exit::HostUnfit));
        assert!(few.verdict.reasons[0].contains("ulimit -n"), "{:?}", few.verdict.reasons);
        let many = asked(&fast, 2_000_000, 0.0);
        assert!(many.verdict.reasons[0].contains("2 000 000 connections are more than 1 152 000"));
        let broken = SelfCheck { reading: Receives { wrong: 1, ..Receives::default() }, ..fast };
        assert_eq!(asked(&broken, 1, 1.0).exit(), Exit::Failed);
    }
}
