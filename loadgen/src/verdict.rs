//! Whether the figures mean anything: a generator that was the bottleneck measures itself.

use crate::fault::Fault;
use serde::Serialize;

/// A core busier than this is not waiting for the server any more.
pub const BUSY_RATIO_MAX: f64 = 0.90;

/// Waiting for a CPU for more than this part of the time is worth a note.
pub const WAITING_RATIO_NOTED: f64 = 0.05;

/// The generator's own lateness may be this part of what it measures.
pub const SEND_DELAY_PART_MAX: f64 = 0.10;

/// Below this lateness no server can be told apart anyway, microseconds.
pub const SEND_DELAY_FLOOR_US: u64 = 20;

/// What the judgement rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The pace was the server's: latencies are not the question.
    pub window: bool,
    /// The busiest core or thread of the generator, 0 to 1.
    pub busy_ratio: f64,
    /// The part of the time its most delayed worker was ready but had no CPU, 0 to 1.
    pub waiting_ratio: f64,
    /// The largest sum of running and waiting of one worker.
    pub wanting_ratio: f64,
    /// The same waiting of the server, when it was sampled.
    pub server_waiting_ratio: f64,
    /// Own lateness, 99th percentile, microseconds.
    pub send_delay_p99_us: u64,
    /// From the planned time, 99th percentile, microseconds.
    pub measured_p99_us: u64,
    /// Bursts that had to wait because the server did not take them.
    pub pushed_back: u64,
    /// Measured deliveries.
    pub deliveries: u64,
    /// Messages that the plan held.
    pub planned: Option<u64>,
    /// Messages that were published.
    pub published: u64,
    /// A window did not fill.
    pub stalled: bool,
    /// Times its workers did not run, in the measured period.
    pub standstills: u64,
    /// The longest of them, microseconds.
    pub standstill_us_max: u64,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The figures mean what they say.
    pub valid: bool,
    /// Invalid only because the generator was late: latencies are more than the server's, never less, and everything
    /// was sent. What such a run has met was met.
    #[serde(skip)]
    pub overstated: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What the server did wrong, each kind by its name.
    pub faults: Vec<Fault>,
    /// What a reader should know all the same.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Judges connections that were held: what one costs can only be told when all are open.
    pub fn of_idle(missing: u32) -> Self {
        let reason = || format!("{missing} of the connections are not open: what one of them costs was not measured");
        Self { valid: missing == 0, reasons: (missing > 0).then(reason).into_iter().collect(), ..Self::default() }
    }

    /// Judges requests that follow each other as fast as they are answered: their rate may be the generator's own, the
    /// server's CPU and memory are the server's.
    pub fn of_closed_loop(busy_ratio: f64, waiting_ratio: f64) -> Self {
        let mut verdict = Self { valid: true, ..Self::default() };
        if busy_ratio + waiting_ratio > BUSY_RATIO_MAX {
            verdict.notes.push(format!(
                "the generator ran {:.0} % and waited for a CPU {:.0} % of the time: the rate is its own",
                busy_ratio * 100.0,
                waiting_ratio * 100.0
            ));
        }
        verdict
    }

    /// Judges a broadcast.
    pub fn of(evidence: &Evidence) -> Self {
        let mut verdict = Self::default();
        let busy = evidence.busy_ratio > BUSY_RATIO_MAX;
        let percent = evidence.busy_ratio * 100.0;
        if busy && evidence.window {
            verdict.notes.push(format!(
                "generator {percent:.0} % busy: latencies include its own queueing; CPU per delivery does not"
            ));
        } else if busy {
            verdict.reasons.push(format!(
                "the generator was {percent:.0} % busy (limit {:.0} %): use more --cores, fewer --connections or a lower --rate",
                BUSY_RATIO_MAX * 100.0
            ));
        }
        verdict.judge_standstills(evidence);
        verdict.judge_waiting(evidence);
        if evidence.pushed_back > 0 && !evidence.window {
            verdict.notes.push(format!(
                "{} bursts waited because the server did not take them: it is beyond its capacity",
                evidence.pushed_back
            ));
        }
        let limit_us = (evidence.measured_p99_us as f64 * SEND_DELAY_PART_MAX).max(SEND_DELAY_FLOOR_US as f64);
        if !evidence.window && evidence.pushed_back == 0 && evidence.send_delay_p99_us as f64 > limit_us {
            verdict.reasons.push(format!(
                "own send delay p99 {} us is above a tenth of the measured p99 {} us",
                evidence.send_delay_p99_us, evidence.measured_p99_us
            ));
        }
        if evidence.deliveries == 0 {
            verdict.reasons.push("nothing was delivered in the measured period".to_owned());
        }
        if evidence.stalled {
            verdict.notes.push("publishing ended early: deliveries stopped coming".to_owned());
        } else if let Some(planned) = evidence.planned.filter(|&planned| evidence.published < planned) {
            verdict.reasons.push(format!("only {} of {planned} messages could be published", evidence.published));
        }
        verdict.valid = verdict.reasons.is_empty();
        let all_sent = evidence.planned.is_none_or(|planned| evidence.published >= planned);
        verdict.overstated = !verdict.valid && evidence.deliveries > 0 && all_sent && !evidence.stalled;
        verdict
    }

    /// A generator that did not run sent nothing and saw nothing.
    fn judge_standstills(&mut self, evidence: &Evidence) {
        if evidence.standstills == 0 {
            return;
        }
        let text = format!(
            "the generator stood still {} times, up to {} ms: something stopped it, or took its CPU",
            evidence.standstills,
            evidence.standstill_us_max / 1_000
        );
        if evidence.window { self.notes.push(text) } else { self.reasons.push(text) }
    }

    /// Somebody else on the cores: a starved generator sees late what came in time.
    fn judge_waiting(&mut self, evidence: &Evidence) {
        let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
        let starved = evidence.wanting_ratio > BUSY_RATIO_MAX && evidence.busy_ratio <= BUSY_RATIO_MAX;
        let waited = format!("the generator waited for a CPU {} of the time", percent(evidence.waiting_ratio));
        if starved && !evidence.window {
            self.reasons.push(format!("{waited} and ran {}: something else runs there", percent(evidence.busy_ratio)));
        } else if evidence.waiting_ratio > WAITING_RATIO_NOTED {
            self.notes.push(format!("{waited}: latencies include that"));
        }
        if evidence.server_waiting_ratio > WAITING_RATIO_NOTED {
            let waited = percent(evidence.server_waiting_ratio);
            self.notes.push(format!("a thread of the server waited for a CPU {waited} of the time"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Evidence = Evidence {
        window: false,
        busy_ratio: 0.4,
        waiting_ratio: 0.01,
        wanting_ratio: 0.41,
        server_waiting_ratio: 0.0,
        send_delay_p99_us: 30,
        measured_p99_us: 4_000,
        pushed_back: 0,
        deliveries: 1_000,
        planned: Some(10),
        published: 10,
        stalled: false,
        standstills: 0,
        standstill_us_max: 0,
    };

    fn reasons(evidence: Evidence) -> Vec<String> {
        Verdict::of(&evidence).reasons
    }

    #[test]
    fn connections_that_are_not_open_have_no_weight() {
        assert!(Verdict::of_idle(0).valid);
        let verdict = Verdict::of_idle(3);
        assert!(!verdict.valid && verdict.reasons[0].starts_with("3 of the connections"), "{verdict:?}");
    }

    #[test]
    fn a_quiet_generator_is_believed() {
        let verdict = Verdict::of(&FINE);
        assert!(verdict.valid && verdict.notes.is_empty(), "{verdict:?}");
    }

    #[test]
    fn each_way_of_being_the_bottleneck_is_named() {
        assert!(reasons(Evidence { busy_ratio: 0.95, ..FINE })[0].contains("95 % busy"));
        let starved = Evidence { waiting_ratio: 0.7, wanting_ratio: 0.95, busy_ratio: 0.25, ..FINE };
        assert!(reasons(starved)[0].contains("waited for a CPU 70 % of the time and ran 25 %"));
        assert!(reasons(Evidence { send_delay_p99_us: 500, ..FINE })[0].contains("own send delay"));
        let stopped = Evidence { standstills: 2, standstill_us_max: 730_000, ..FINE };
        assert!(reasons(stopped)[0].contains("stood still 2 times, up to 730 ms"));
        assert!(reasons(Evidence { deliveries: 0, ..FINE })[0].contains("nothing was delivered"));
        assert!(Verdict::of(&stopped).overstated && !Verdict::of(&FINE).overstated);
        assert!(!Verdict::of(&Evidence { published: 3, busy_ratio: 0.95, ..FINE }).overstated);
        assert!(reasons(Evidence { published: 3, ..FINE })[0].contains("3 of 10"));
    }

    #[test]
    fn waiting_for_a_cpu_is_noted_on_both_sides() {
        let verdict = Verdict::of(&Evidence { waiting_ratio: 0.2, server_waiting_ratio: 0.3, ..FINE });
        assert!(verdict.valid);
        assert_eq!(verdict.notes.len(), 2, "{verdict:?}");
    }

    #[test]
    fn a_closed_loop_is_not_judged_by_latency() {
        let window = Evidence { window: true, busy_ratio: 0.99, send_delay_p99_us: 9_999, ..FINE };
        let verdict = Verdict::of(&window);
        assert!(verdict.valid);
        assert_eq!(verdict.notes.len(), 1);
    }

    #[test]
    fn a_server_that_pushes_back_is_not_the_generators_fault() {
        let verdict = Verdict::of(&Evidence { pushed_back: 7, send_delay_p99_us: 90_000, ..FINE });
        assert!(verdict.valid);
        assert!(verdict.notes[0].contains("beyond its capacity"));
    }
}
