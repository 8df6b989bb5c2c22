//! What a client is owed: a queue of runs of log bytes, in order.
//!
//! One run lives in the hot record, the rest in a pooled queue. A run in an outbox holds its segment: that is what
//! keeps the log from being reused under a slow reader, and all that a slow reader costs.
//!
//! ```text
//! clear   no run                                   a delivery writes no state at all
//! behind  the last send was short                  runs queue, a one-shot poll waits for room
//! late    more than outbox_soft_bytes owed         sent from the log's pages; no longer read from
//! over    outbox_bytes_max, runs or age exceeded   the slow policy acts
//! ```

use crate::buf::segment::Holdings;
use crate::buf::slab::Slab;
use crate::buf::{Extent, SegmentId};
use crate::conn::slots::{Flags, Hot};
use crate::io::GATHER_MAX;
use std::collections::VecDeque;

/// The queues behind the first runs.
#[derive(Debug)]
pub struct Runs {
    queues: Slab<VecDeque<Extent>>,
    spare: Vec<VecDeque<Extent>>,
}

/// Emptied queues kept for the next slow reader; more than that go back to the allocator.
const SPARE_QUEUES_MAX: usize = 256;
/// A kept queue has room for at most so many runs.
const SPARE_RUNS_MAX: usize = 64;

impl Runs {
    /// At most one queue per connection.
    pub fn new(connections_max: usize) -> Self {
        Self { queues: Slab::new(connections_max as u32), spare: Vec::new() }
    }

    /// Queues in use: connections that are more than one run behind.
    pub fn len(&self) -> usize {
        self.queues.len() as usize
    }

    /// Whether no connection has more than one run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queue(&mut self, handle: &mut u32) -> &mut VecDeque<Extent> {
        if *handle == 0 {
            let queue = self.spare.pop().unwrap_or_default();
            *handle = self.queues.insert(queue).expect("one queue per slot");
        }
        self.queues.get_mut(*handle).expect("a queue's handle is live")
    }

    fn give_back(&mut self, handle: &mut u32) {
        let queue = self.queues.remove(*handle).expect("a queue's handle is live");
        *handle = 0;
        debug_assert!(queue.is_empty());
        if self.spare.len() < SPARE_QUEUES_MAX && queue.capacity() <= SPARE_RUNS_MAX {
            self.spare.push(queue);
        }
    }
}

/// Whether a connection is owed nothing.
pub fn is_clear(hot: &Hot) -> bool {
    hot.first.is_empty()
}

/// Whether the last message owed is not complete yet: what comes next must follow, whatever the bounds.
pub fn is_mid_message(hot: &Hot, runs: &Runs) -> bool {
    let last = if hot.more == 0 { None } else { runs.queues.get(hot.more).and_then(VecDeque::back) };
    last.unwrap_or(&hot.first).flags & Extent::CONTINUES != 0
}

/// Runs owed.
pub fn run_count(hot: &Hot, runs: &Runs) -> usize {
    let behind = if hot.more == 0 { 0 } else { runs.queues.get(hot.more).map_or(0, VecDeque::len) };
    usize::from(!is_clear(hot)) + behind
}

/// Appends `run`, joined to the last one where they are adjacent, and holds its segment.
pub fn push(hot: &mut Hot, runs: &mut Runs, holdings: &mut Holdings, run: Extent) {
    if run.is_empty() {
        return;
    }
    hot.owed_bytes = hot.owed_bytes.saturating_add(run.len);
    // A send in flight covers the first run as it was: it must not grow meanwhile.
    let first_is_last = hot.more == 0 && !hot.flags.has(Flags::SEND_INFLIGHT);
    if is_clear(hot) {
        hot.first = run;
    } else if first_is_last && hot.first.merge(&run) {
        return;
    } else {
        let queue = runs.queue(&mut hot.more);
        if let Some(last) = queue.back_mut()
            && !hot.flags.has(Flags::SEND_INFLIGHT)
            && last.merge(&run)
        {
            return;
        }
        queue.push_back(run);
    }
    holdings.hold(run.segment);
}

/// Puts back what a send without state could not deliver: it goes before everything queued since.
pub fn push_front(hot: &mut Hot, runs: &mut Runs, holdings: &mut Holdings, run: Extent) {
    if run.is_empty() {
        return;
    }
    hot.owed_bytes = hot.owed_bytes.saturating_add(run.len);
    if !is_clear(hot) {
        let first = hot.first;
        runs.queue(&mut hot.more).push_front(first);
    }
    hot.first = run;
    holdings.hold(run.segment);
}

/// Forgets the first `n` bytes owed: they are released. Returns whole messages that ended in them.
pub fn release(hot: &mut Hot, runs: &mut Runs, holdings: &mut Holdings, mut n: u32) -> u32 {
    debug_assert!(n <= hot.owed_bytes);
    hot.owed_bytes -= n;
    let mut messages = 0;
    while n > 0 {
        let taken = n.min(hot.first.len);
        hot.first.advance(taken);
        n -= taken;
        if hot.first.is_empty() {
            messages += u32::from(hot.first.count);
            holdings.release(hot.first.segment);
            next_run(hot, runs);
        }
    }
    messages
}

/// Forgets everything owed: the connection is gone.
pub fn clear(hot: &mut Hot, runs: &mut Runs, holdings: &mut Holdings) {
    while !is_clear(hot) {
        holdings.release(hot.first.segment);
        next_run(hot, runs);
    }
    hot.owed_bytes = 0;
}

fn next_run(hot: &mut Hot, runs: &mut Runs) {
    hot.first = Extent::default();
    if hot.more == 0 {
        return;
    }
    let queue = runs.queues.get_mut(hot.more).expect("a queue's handle is live");
    if let Some(run) = queue.pop_front() {
        hot.first = run;
    }
    if queue.is_empty() {
        runs.give_back(&mut hot.more);
    }
}

/// The runs of the next send, at most [`GATHER_MAX`]; returns how many were written to `out`.
pub fn next_send(hot: &Hot, runs: &Runs, out: &mut [Extent; GATHER_MAX]) -> usize {
    if is_clear(hot) {
        return 0;
    }
    out[0] = hot.first;
    let mut count = 1;
    if hot.more != 0 {
        let queue = runs.queues.get(hot.more).expect("a queue's handle is live");
        for (place, run) in out[1..].iter_mut().zip(queue) {
            *place = *run;
            count += 1;
        }
    }
    count
}

/// Whether any run owed lies in `segment`.
pub fn touches(hot: &Hot, runs: &Runs, segment: SegmentId) -> bool {
    if is_clear(hot) {
        return false;
    }
    hot.first.segment == segment
        || (hot.more != 0 && runs.queues.get(hot.more).is_some_and(|q| q.iter().any(|run| run.segment == segment)))
}

/// Every run owed, in order: for checks.
pub fn iter<'a>(hot: &'a Hot, runs: &'a Runs) -> impl Iterator<Item = Extent> + 'a {
    let first = (!is_clear(hot)).then_some(hot.first);
    let rest = if hot.more == 0 { None } else { runs.queues.get(hot.more) };
    first.into_iter().chain(rest.into_iter().flatten().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::segment::Logs;

    fn run(offset: u32, len: u32) -> Extent {
        Extent { segment: SegmentId::new(0, 0), offset, len, count: 1, ..Extent::default() }
    }

    /// Any mix of pushes and releases leaves exactly the bytes of a plain queue of byte positions.
    #[test]
    fn behaves_like_a_plain_queue_of_bytes() {
        for seed in 1..if cfg!(miri) { 4 } else { 200u64 } {
            let logs = Logs::new(1, 4 * crate::buf::segment::SEGMENT_BYTES).unwrap();
            let (mut runs, mut holdings) = (Runs::new(1), Holdings::new(0, &logs));
            let mut hot = Hot::default();
            let mut model: VecDeque<u32> = VecDeque::new();
            let (mut rng, mut offset) = (seed, 0u32);
            let mut random = |bound: u32| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                (rng % u64::from(bound)) as u32
            };
            for _ in 0..200 {
                match random(4) {
                    0 | 1 => {
                        offset += random(2) * 3;
                        let len = 1 + random(40);
                        push(&mut hot, &mut runs, &mut holdings, run(offset, len));
                        model.extend(offset..offset + len);
                        offset += len;
                    }
                    2 => {
                        let len = 1 + random(9);
                        push_front(&mut hot, &mut runs, &mut holdings, run(offset, len));
                        (offset..offset + len).rev().for_each(|at| model.push_front(at));
                        offset += len;
                    }
                    _ => {
                        let n = random(hot.owed_bytes + 1);
                        release(&mut hot, &mut runs, &mut holdings, n);
                        model.drain(..n as usize);
                    }
                }
                let owed: Vec<u32> = iter(&hot, &runs).flat_map(|r| r.offset..r.offset + r.len).collect();
                assert!(owed.iter().eq(model.iter()), "seed {seed}");
                assert_eq!(hot.owed_bytes as usize, model.len(), "seed {seed}");
                assert_eq!(hot.more != 0, run_count(&hot, &runs) > 1, "seed {seed}");
            }
            clear(&mut hot, &mut runs, &mut holdings);
            assert!(holdings.total() == 0 && runs.is_empty(), "seed {seed}");
        }
    }
}
