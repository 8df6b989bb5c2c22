//! What the coordinator sees of guests: cuts at their time, how long until all are back, how many were refused meanwhile.

use crate::latency::Summary;
use crate::quantity::{grouped, micros_text};
use crate::shared::Shared;
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Attempts that failed are counted in steps of this.
const REFUSALS_STEP: Duration = Duration::from_secs(1);

/// Connections that came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GuestReport {
    /// How many there are.
    pub guests: u32,
    /// Lives that ended with a farewell.
    pub lives: u64,
    /// Cut by us.
    pub cut: u64,
    /// Ended by the server.
    pub dropped: u64,
    /// Open again, summed over all returns.
    pub returned: u64,
    /// Attempts to come back that failed.
    pub refused: u64,
    /// The most of them in one second.
    pub refused_per_s_max: u64,
    /// Guests that do not try any more.
    pub gave_up: u64,
    /// Connections not open at the end.
    pub away: u32,
    /// From the last cut until all were open again; absent when they never were, or nothing was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_back_s: Option<f64>,
    /// The fewest connections seen open since the measured period began; looked at every 5 ms.
    pub open_min: u32,
    /// Times from a cut to being open again, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_us: Option<Summary>,
}

impl GuestReport {
    pub(crate) fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "guests    {}", grouped(u64::from(self.guests)))?;
        if self.lives > 0 {
            write!(out, " | {} lives ended", grouped(self.lives))?;
        }
        if self.cut > 0 {
            write!(out, " | {} cut", grouped(self.cut))?;
        }
        if self.dropped > 0 {
            write!(out, " | {} ended by the server", grouped(self.dropped))?;
        }
        write!(
            out,
            " | {} came back | refused {} (at most {}/s), gave up {} | fewest open {} | away at the end {}",
            grouped(self.returned),
            grouped(self.refused),
            grouped(self.refused_per_s_max),
            grouped(self.gave_up),
            grouped(u64::from(self.open_min)),
            grouped(u64::from(self.away))
        )?;
        match self.all_back_s {
            Some(seconds) => writeln!(out, " | all back after {}", micros_text((seconds * 1e6) as u64)),
            None => writeln!(out),
        }
    }
}

/// Watches guests, and cuts them when it is time.
#[derive(Debug)]
pub(crate) struct Storm {
    /// Times of cuts, from the beginning of the measured period, latest first.
    cuts: Vec<Duration>,
    began: Instant,
    cut_at: Option<Instant>,
    /// Guests cut before the last cut was asked for.
    cut_before: u64,
    report: GuestReport,
    step: (Instant, u64),
    /// Connections there should be.
    all: u32,
}

impl Storm {
    /// Begins now. `all` is what should be open, publishers included.
    pub(crate) fn new(mut cuts: Vec<Duration>, guests: u32, all: u32) -> Self {
        cuts.sort_unstable_by(|left, right| right.cmp(left));
        let now = Instant::now();
        let report = GuestReport { guests, open_min: all, ..GuestReport::default() };
        Self { cuts, began: now, cut_at: None, cut_before: 0, report, step: (now, 0), all }
    }

    /// Looks at the board. Returns whether no cut is to come and everybody is there, or will not come any more.
    pub(crate) fn look(&mut self, shared: &Shared) -> bool {
        if self.cuts.last().is_some_and(|&at| self.began.elapsed() >= at) {
            self.cuts.pop();
            self.cut_before = shared.sum(|worker| &worker.guest.cut);
            shared.cut();
            self.cut_at = Some(Instant::now());
            self.report.all_back_s = None;
        }
        let open = shared.sum_u32(|worker| &worker.open);
        let gave_up = shared.sum(|worker| &worker.guest.gave_up);
        let refused = shared.sum(|worker| &worker.guest.refused);
        self.report.open_min = self.report.open_min.min(open);
        let (since, before) = self.step;
        self.report.refused_per_s_max = self.report.refused_per_s_max.max(refused - before);
        if since.elapsed() >= REFUSALS_STEP {
            self.step = (Instant::now(), refused);
        }
        let begun = self.cut_at.is_none() || shared.sum(|worker| &worker.guest.cut) > self.cut_before;
        if let Some(cut_at) = self.cut_at.filter(|_| begun && open >= self.all && self.report.all_back_s.is_none()) {
            self.report.all_back_s = Some(cut_at.elapsed().as_secs_f64());
        }
        self.cuts.is_empty() && begun && u64::from(open) + gave_up >= u64::from(self.all)
    }

    /// What has happened so far.
    pub(crate) fn report(&self, shared: &Shared) -> GuestReport {
        let open = shared.sum_u32(|worker| &worker.open);
        GuestReport {
            lives: shared.sum(|worker| &worker.guest.lives),
            cut: shared.sum(|worker| &worker.guest.cut),
            dropped: shared.sum(|worker| &worker.guest.dropped),
            returned: shared.sum(|worker| &worker.guest.returned),
            refused: shared.sum(|worker| &worker.guest.refused),
            gave_up: shared.sum(|worker| &worker.guest.gave_up),
            away: self.all.saturating_sub(open),
            ..self.report
        }
    }
}
