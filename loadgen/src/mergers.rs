//! Tracks to distributions: one merger over all receivers, and one for each class where there are several.

use crate::latency::{Crowd, Latencies, Merger, Track};
use crate::worker::Setup;

/// The mergers of a measured period.
#[derive(Debug)]
pub(crate) struct Mergers {
    /// All receivers with a ledger line.
    pub(crate) all: Merger,
    /// By class; empty when there is only one.
    classes: Vec<Merger>,
}

impl Mergers {
    pub(crate) fn new(setup: &Setup, deadline_ns: u64) -> Self {
        let (fleet, audience) = (&setup.job.fleet, &setup.audience);
        let publishers = audience.publishers();
        let destinations = (audience.lanes() / publishers) as usize;
        let mut all = Crowd::new(destinations, publishers);
        let mut classes = vec![all.clone(); fleet.classes.len()];
        for worker in 0..fleet.workers {
            let (first, share) = (fleet.first(worker), fleet.share(worker));
            for (class, crowd) in classes.iter_mut().enumerate() {
                let is_in = |receiver| usize::from(setup.class_of(receiver)) == class;
                let sizes = audience.sizes_of(first..first + share, is_in);
                // Each worker gives one track for each class that has members there.
                all.add(&sizes);
                crowd.add(&sizes);
            }
        }
        if classes.len() == 1 {
            classes.clear();
        }
        let merger = |crowd| Merger::new(crowd, deadline_ns);
        Self { all: merger(all), classes: classes.into_iter().map(merger).collect() }
    }

    pub(crate) fn begin_measured(&mut self, base: &[u32]) {
        self.all.begin_measured(base);
        self.classes.iter_mut().for_each(|class| class.begin_measured(base));
    }

    pub(crate) fn take(&mut self, track: Track) {
        if let Some(class) = self.classes.get_mut(usize::from(track.class)) {
            class.take(track.clone());
        }
        self.all.take(track);
    }

    /// (all, by class)
    pub(crate) fn close(self) -> (Latencies, Vec<Latencies>) {
        (self.all.close(), self.classes.into_iter().map(Merger::close).collect())
    }
}
