//! From single deliveries to distributions: tracks per message on each worker, merged by the coordinator.
//!
//! All deliveries that one turn of a worker brings carry one time stamp (taken after the receive, so never too
//! early). A worker therefore keeps, per message, a short list of (time, how many). When every receiver of the worker
//! has the message, or too many are open, the list goes to the coordinator, which merges the workers' lists and
//! records histograms: no histogram is touched on the receive path.

use crate::gaps::{Gaps, QUICK_US_MAX, STALL_NS};
use crate::report::intervals::Intervals;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};

/// Messages of one lane that one worker keeps open at a time. Older ones are handed over incomplete.
pub const OPEN_MESSAGES_MAX: usize = 65_536;

/// Longest latency a histogram tells apart, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// One worker's part of one message's arrivals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Lane.
    pub lane: u32,
    /// Class of the receivers.
    pub class: u8,
    /// Sequence.
    pub sequence: u32,
    /// When the plan wanted it sent. 0 while no delivery has told.
    pub intended_ns: u64,
    /// When it was sent.
    pub actual_ns: u64,
    /// (time, deliveries), in order of time.
    pub arrivals: Vec<(u64, u32)>,
}

/// The open messages of one worker's receivers of one class.
#[derive(Debug)]
pub struct Tracks {
    class: u8,
    publishers: u32,
    /// Receivers of this class on this worker, by destination.
    sizes: Vec<u32>,
    lanes: Vec<Lane>,
    /// Complete, waiting to be taken by the coordinator.
    done: Vec<Track>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Sequence of the front track.
    first: u32,
    open: VecDeque<(u32, Track)>,
}

impl Tracks {
    /// For receivers of `class`, so many of each destination.
    pub fn new(class: u8, sizes: Vec<u32>, publishers: u32) -> Self {
        let lanes = (0..sizes.len() * publishers as usize).map(|_| Lane::default()).collect();
        Self { class, publishers, sizes, lanes, done: Vec::new() }
    }

    /// One receiver has the message for the first time. Returns `false` when the message was handed over already
    /// (it came more than [`OPEN_MESSAGES_MAX`] messages late).
    pub fn note(&mut self, head: &crate::payload::Head, now_ns: u64) -> bool {
        let receivers = self.sizes[(head.lane / self.publishers) as usize];
        let lane = &mut self.lanes[head.lane as usize];
        let Some(at) = head.sequence.checked_sub(lane.first) else { return false };
        if at as usize >= OPEN_MESSAGES_MAX {
            lane.retire_until(head.sequence - (OPEN_MESSAGES_MAX as u32 - 1), &mut self.done);
        }
        let at = (head.sequence - lane.first) as usize;
        while lane.open.len() <= at {
            let sequence = lane.first + lane.open.len() as u32;
            lane.open.push_back((0, Track { lane: head.lane, class: self.class, sequence, ..Track::default() }));
        }
        let (count, track) = &mut lane.open[at];
        (track.intended_ns, track.actual_ns) = (head.intended_ns, head.actual_ns);
        match track.arrivals.last_mut() {
            Some((time_ns, deliveries)) if *time_ns == now_ns => *deliveries += 1,
            _ => track.arrivals.push((now_ns, 1)),
        }
        *count += 1;
        if at == 0 && *count >= receivers {
            lane.retire_complete(receivers, &mut self.done);
        }
        true
    }

    /// Whether there is something to take.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Moves what is complete to the end of `out`.
    pub fn take_done(&mut self, out: &mut Vec<Track>) {
        out.append(&mut self.done);
    }

    /// Gives up waiting: everything open is done as it is.
    pub fn retire_all(&mut self) {
        for lane in &mut self.lanes {
            let until = lane.first + lane.open.len() as u32;
            lane.retire_until(until, &mut self.done);
        }
    }
}

impl Lane {
    fn retire_complete(&mut self, receivers: u32, done: &mut Vec<Track>) {
        while self.open.front().is_some_and(|(count, _)| *count >= receivers) {
            done.extend(self.open.pop_front().map(|(_, track)| track));
            self.first += 1;
        }
    }

    fn retire_until(&mut self, sequence: u32, done: &mut Vec<Track>) {
        while self.first < sequence {
            // A gap that no delivery has opened yet is nobody's: skip it in one step.
            let Some((_, track)) = self.open.pop_front() else {
                self.first = sequence;
                break;
            };
            done.push(track);
            self.first += 1;
        }
    }
}

/// A distribution of microseconds, 3 significant digits, up to 60 s.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
}

impl Default for Distribution {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("constant bounds are valid");
        Self { histogram }
    }
}

impl Distribution {
    /// One that takes memory as its values grow. For the many that are kept by interval.
    pub fn growing() -> Self {
        Self { histogram: Histogram::new(3).expect("a constant precision is valid") }
    }

    /// What standard tools know it as.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Records `times` values of `ns` nanoseconds; above 60 s they count as 60 s.
    pub fn record_ns(&mut self, ns: u64, times: u64) {
        self.histogram.record_n((ns / 1_000).min(LATENCY_MAX_US), times).expect("within the bounds, or growing");
    }

    /// Adds another one's values.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("same bounds, or growing");
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Microseconds at `quantile` (0 to 1); 0 when empty.
    pub fn at_us(&self, quantile: f64) -> u64 {
        if self.histogram.is_empty() { 0 } else { self.histogram.value_at_quantile(quantile) }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// The figures of the report.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            mean: if self.histogram.is_empty() { 0.0 } else { self.histogram.mean() },
            p50: self.at_us(0.50),
            p90: self.at_us(0.90),
            p99: self.at_us(0.99),
            p99_9: self.at_us(0.999),
            max: if self.histogram.is_empty() { 0 } else { self.histogram.max() },
        }
    }
}

/// What a report says of a distribution. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Half are at or below.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
    /// The largest, rounded up within 0.1 %.
    pub max: u64,
}

impl Summary {
    /// The figure by its name in the report.
    pub fn point(&self, name: &str) -> Option<f64> {
        Some(match name {
            "mean" => self.mean,
            "p50" => self.p50 as f64,
            "p90" => self.p90 as f64,
            "p99" => self.p99 as f64,
            "p99_9" => self.p99_9 as f64,
            "max" => self.max as f64,
            _ => return None,
        })
    }
}

/// All distributions of one measured period.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// Every delivery, from its planned time.
    pub from_intended: Distribution,
    /// Every delivery, from the moment of sending.
    pub from_actual: Distribution,
    /// Each message's first receiver, from the planned time.
    pub first: Distribution,
    /// The receiver that made it half of them.
    pub half: Distribution,
    /// The last receiver; only of messages that reached everybody.
    pub last: Distribution,
    /// From first to last; only of messages that reached everybody.
    pub spread: Distribution,
    /// The generator's own lateness: sent minus planned.
    pub send_delay: Distribution,
    /// Messages that reached everybody.
    pub complete_messages: u64,
    /// Messages that did not.
    pub incomplete_messages: u64,
    /// Deliveries later than the deadline, from the planned time.
    pub late: u64,
    /// When the last delivery came.
    pub last_arrival_ns: u64,
    /// The same by time of arrival, where somebody asked for it.
    pub intervals: Option<Intervals>,
    /// Messages that reached nobody for long, from their sending to their first receiver.
    pub waits: Gaps,
}

impl Latencies {
    /// Times in which a server that otherwise is quick reached nobody; those in which the generator itself stood still
    /// are not blamed on it.
    pub fn stalls(&self, own: &Gaps) -> Gaps {
        if self.from_actual.at_us(0.5) > QUICK_US_MAX { Gaps::default() } else { self.waits.apart_from(own) }
    }
}

/// How many receivers there are of each destination, and how many workers have some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    publishers: u32,
    /// Receivers by destination.
    sizes: Vec<u32>,
    /// Tracks that make a message whole, by destination.
    parts: Vec<u32>,
}

impl Crowd {
    /// Nobody yet; lanes of one destination are next to each other.
    pub fn new(destinations: usize, publishers: u32) -> Self {
        Self { publishers, sizes: vec![0; destinations], parts: vec![0; destinations] }
    }

    /// One worker's receivers of one class, by destination.
    pub fn add(&mut self, sizes: &[u32]) {
        for (at, &size) in sizes.iter().enumerate() {
            self.sizes[at] += size;
            self.parts[at] += u32::from(size > 0);
        }
    }

    fn of(&self, lane: u32) -> (u64, u32) {
        let destination = (lane / self.publishers) as usize;
        (u64::from(self.sizes[destination]), self.parts[destination])
    }
}

/// Puts the workers' tracks together.
#[derive(Debug)]
pub struct Merger {
    crowd: Crowd,
    deadline_ns: u64,
    /// Sequence at which measuring began, by lane.
    base: Vec<u32>,
    pending: HashMap<(u32, u32), (u32, Track)>,
    latencies: Latencies,
    /// Last-receiver times since the last look, for the progress line.
    recent_last: Distribution,
    /// Last-receiver times since the last noted interval.
    interval_last: Distribution,
}

impl Merger {
    /// For the receivers of `crowd`.
    pub fn new(crowd: Crowd, deadline_ns: u64) -> Self {
        Self {
            base: vec![u32::MAX; crowd.sizes.len() * crowd.publishers as usize],
            crowd,
            deadline_ns,
            pending: HashMap::new(),
            latencies: Latencies::default(),
            recent_last: Distribution::default(),
            interval_last: Distribution::default(),
        }
    }

    /// From these sequences on, messages are measured.
    pub fn begin_measured(&mut self, first: &[u32]) {
        self.base.copy_from_slice(first);
    }

    /// Keeps latencies by time of arrival as well, from `origin_ns` on.
    pub fn keep_intervals(&mut self, origin_ns: u64) {
        self.latencies.intervals = Some(Intervals::new(origin_ns));
    }

    /// Takes one worker's part of one message.
    pub fn take(&mut self, track: Track) {
        let (_, needed) = self.crowd.of(track.lane);
        if needed == 1 {
            self.finish(track);
            return;
        }
        let key = (track.lane, track.sequence);
        let (parts, sum) = self.pending.entry(key).or_insert_with(|| (0, Track::default()));
        *parts += 1;
        if !track.arrivals.is_empty() {
            (sum.intended_ns, sum.actual_ns) = (track.intended_ns, track.actual_ns);
        }
        sum.arrivals.extend_from_slice(&track.arrivals);
        (sum.lane, sum.sequence) = key;
        if *parts == needed
            && let Some((_, mut whole)) = self.pending.remove(&key)
        {
            whole.arrivals.sort_unstable();
            self.finish(whole);
        }
    }

    fn finish(&mut self, track: Track) {
        if track.sequence < self.base[track.lane as usize] {
            return;
        }
        let (receivers, _) = self.crowd.of(track.lane);
        let out = &mut self.latencies;
        let Some(&(first_ns, _)) = track.arrivals.first() else {
            out.incomplete_messages += 1;
            return;
        };
        out.send_delay.record_ns(track.actual_ns.saturating_sub(track.intended_ns), 1);
        if first_ns.saturating_sub(track.actual_ns) > STALL_NS {
            out.waits.add(track.actual_ns, first_ns);
        }
        out.last_arrival_ns = out.last_arrival_ns.max(track.arrivals.last().map_or(0, |&(time_ns, _)| time_ns));
        let mut have = 0u64;
        let half = receivers.div_ceil(2);
        for &(time_ns, deliveries) in &track.arrivals {
            let from_intended = time_ns.saturating_sub(track.intended_ns);
            let deliveries = u64::from(deliveries);
            out.from_intended.record_ns(from_intended, deliveries);
            out.from_actual.record_ns(time_ns.saturating_sub(track.actual_ns), deliveries);
            if let Some(intervals) = &mut out.intervals {
                intervals.note_deliveries(time_ns, from_intended, deliveries);
            }
            if from_intended > self.deadline_ns {
                out.late += deliveries;
            }
            if have < half && have + deliveries >= half {
                out.half.record_ns(from_intended, 1);
            }
            have += deliveries;
        }
        out.first.record_ns(first_ns.saturating_sub(track.intended_ns), 1);
        if have < receivers {
            out.incomplete_messages += 1;
            return;
        }
        out.complete_messages += 1;
        if let Some(&(last_ns, _)) = track.arrivals.last() {
            if let Some(intervals) = &mut out.intervals {
                intervals.note_last(last_ns, last_ns.saturating_sub(track.intended_ns));
            }
            out.last.record_ns(last_ns.saturating_sub(track.intended_ns), 1);
            out.spread.record_ns(last_ns - first_ns, 1);
            self.recent_last.record_ns(last_ns.saturating_sub(track.intended_ns), 1);
            self.interval_last.record_ns(last_ns.saturating_sub(track.intended_ns), 1);
        }
    }

    /// The 99th percentile of last-receiver times since the last call, microseconds. `None`: no message finished.
    pub fn recent_last_p99_us(&mut self) -> Option<u64> {
        let p99 = (self.recent_last.count() > 0).then(|| self.recent_last.at_us(0.99));
        self.recent_last.clear();
        p99
    }

    /// Last-receiver times since the last call.
    pub fn take_interval(&mut self) -> Summary {
        let summary = self.interval_last.summary();
        self.interval_last.clear();
        summary
    }

    /// Ends the merge: parts of which some worker never saw anything are finished as they are.
    pub fn close(mut self) -> Latencies {
        for (_, (_, mut track)) in std::mem::take(&mut self.pending) {
            track.arrivals.sort_unstable();
            self.finish(track);
        }
        self.latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Head;

    /// One publisher, so many receivers on each worker.
    fn crowd(workers: &[u32]) -> Crowd {
        let mut crowd = Crowd::new(1, 1);
        workers.iter().for_each(|&receivers| crowd.add(&[receivers]));
        crowd
    }

    fn head(sequence: u32, sent_ns: u64) -> Head {
        Head { run: 1, lane: 0, sequence, length: 64, intended_ns: sent_ns - 1_000_000, actual_ns: sent_ns }
    }

    fn within(value: u64, want: u64) -> bool {
        value.abs_diff(want) * 1000 <= want * 2
    }

    #[test]
    fn first_half_and_last_are_those_of_the_deliveries() {
        let mut tracks = Tracks::new(0, vec![4], 1);
        let mut merger = Merger::new(crowd(&[4]), 45_000_000);
        merger.begin_measured(&[0]);
        for time_ms in [20u64, 30, 40, 50] {
            tracks.note(&head(0, 10_000_000), time_ms * 1_000_000);
        }
        assert!(tracks.has_done());
        let mut done = Vec::new();
        tracks.take_done(&mut done);
        done.into_iter().for_each(|track| merger.take(track));
        let out = merger.close();
        assert!(within(out.first.at_us(0.5), 11_000));
        assert!(within(out.half.at_us(0.5), 21_000));
        assert!(within(out.last.at_us(0.5), 41_000));
        assert!(within(out.spread.at_us(0.5), 30_000));
        assert!(within(out.send_delay.at_us(0.5), 1_000));
        assert!(within(out.from_actual.summary().max, 40_000));
        assert_eq!((out.from_intended.count(), out.complete_messages, out.late), (4, 1, 0));
    }

    #[test]
    fn parts_of_several_workers_are_one_message() {
        let mut merger = Merger::new(crowd(&[2, 2]), 5_000_000);
        merger.begin_measured(&[0]);
        for times in [[20u64, 50], [30, 40]] {
            let mut tracks = Tracks::new(0, vec![2], 1);
            let mut done = Vec::new();
            times.iter().for_each(|ms| assert!(tracks.note(&head(0, 10_000_000), ms * 1_000_000)));
            tracks.take_done(&mut done);
            done.into_iter().for_each(|track| merger.take(track));
        }
        assert!(merger.recent_last_p99_us().is_some_and(|us| within(us, 41_000)));
        let out = merger.close();
        assert!(within(out.half.at_us(0.5), 21_000));
        assert_eq!((out.complete_messages, out.late), (1, 4));
    }

    #[test]
    fn an_incomplete_message_has_no_last_receiver() {
        let mut tracks = Tracks::new(0, vec![2], 1);
        let mut merger = Merger::new(crowd(&[2]), u64::MAX);
        merger.begin_measured(&[0]);
        tracks.note(&head(0, 10_000_000), 20_000_000);
        tracks.note(&head(2, 10_000_000), 20_000_000);
        tracks.note(&head(2, 10_000_000), 20_000_000);
        assert!(!tracks.has_done(), "a complete message behind an open one waits for it");
        tracks.retire_all();
        let mut done = Vec::new();
        tracks.take_done(&mut done);
        assert_eq!(done.len(), 3);
        done.into_iter().for_each(|track| merger.take(track));
        let out = merger.close();
        assert_eq!((out.complete_messages, out.incomplete_messages, out.last.count()), (1, 2, 1));
        assert_eq!(out.from_intended.count(), 3);
    }

    #[test]
    fn warm_up_is_not_measured() {
        let mut merger = Merger::new(crowd(&[1]), u64::MAX);
        merger.begin_measured(&[1]);
        for sequence in 0..2 {
            let mut tracks = Tracks::new(0, vec![1], 1);
            tracks.note(&head(sequence, 10_000_000), 20_000_000);
            tracks.retire_all();
            let mut done = Vec::new();
            tracks.take_done(&mut done);
            done.into_iter().filter(|t| !t.arrivals.is_empty()).for_each(|track| merger.take(track));
        }
        assert_eq!(merger.close().from_intended.count(), 1);
    }

    #[test]
    fn the_number_of_open_messages_is_bounded() {
        let mut tracks = Tracks::new(0, vec![2], 1);
        let far = OPEN_MESSAGES_MAX as u32 * 3;
        assert!(tracks.note(&head(0, 10_000_000), 11_000_000));
        assert!(tracks.note(&head(far, 10_000_000), 11_000_000));
        assert!(!tracks.note(&head(0, 10_000_000), 11_000_000), "handed over already");
        let mut done = Vec::new();
        tracks.take_done(&mut done);
        assert_eq!(done.len(), 1);
        assert!(tracks.lanes[0].open.len() <= OPEN_MESSAGES_MAX);
    }
}
