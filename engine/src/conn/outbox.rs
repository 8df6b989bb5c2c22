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
//!
//! On a path whose policy drops messages, what may be dropped stands in the outbox message by message
//! ([`Extent::DROPPABLE`]); adjacent ones leave in one send all the same.

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
/// Runs that one send looks at: adjacent messages that stand apart because they may be dropped are many.
const SEND_RUNS_MAX: usize = 256;

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

/// What becomes of a message that may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken out.
    Drop,
    /// It stays.
    Keep,
    /// It stays, and so does everything behind it.
    Stop,
}

/// What was taken out of an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Whole messages.
    pub messages: u32,
    /// Their bytes.
    pub bytes: u32,
}

/// Asks `judge` about every whole message that may be dropped, oldest first, and takes out what it says. It is told the
/// first run of the message, its runs and its bytes. Not asked about: what must be delivered, what is not complete, and
/// a message of which `begun` says that a part has been sent. No send may be with the kernel.
pub fn drop_messages(
    hot: &mut Hot,
    runs: &mut Runs,
    holdings: &mut Holdings,
    begun: impl Fn(&Extent) -> bool,
    mut judge: impl FnMut(&Extent, usize, u32) -> Verdict,
) -> Dropped {
    let mut dropped = Dropped::default();
    if is_clear(hot) {
        return dropped;
    }
    debug_assert!(!hot.flags.has(Flags::SEND_INFLIGHT));
    let queue = runs.queue(&mut hot.more);
    queue.push_front(hot.first);
    let mut at = 0;
    while let Some(len) = message_runs(queue, at) {
        let first = queue[at];
        let bytes = queue.range(at..at + len).map(|run| run.len).sum();
        let verdict = match first.may_drop() && !begun(&first) {
            true => judge(&first, len, bytes),
            false => Verdict::Keep,
        };
        match verdict {
            Verdict::Drop => {
                queue.drain(at..at + len).for_each(|run| holdings.release(run.segment));
                dropped.messages += 1;
                dropped.bytes += bytes;
            }
            Verdict::Keep => at += len,
            Verdict::Stop => break,
        }
    }
    hot.owed_bytes -= dropped.bytes;
    next_run(hot, runs);
    dropped
}

/// Runs of the message that begins at `at`, if all of it is there.
fn message_runs(queue: &VecDeque<Extent>, at: usize) -> Option<usize> {
    let last = queue.range(at..).position(|run| run.flags & Extent::CONTINUES == 0)?;
    Some(last + 1)
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
            let continues = hot.first.flags & Extent::CONTINUES != 0;
            holdings.release(hot.first.segment);
            next_run(hot, runs);
            if continues && !is_clear(hot) {
                hot.first.flags |= Extent::BEGUN;
            }
        } else {
            hot.first.flags |= Extent::BEGUN;
        }
    }
    messages
}

/// Marks what the first `n` bytes owed belong to as begun: they have been encrypted, and must go out as they are.
pub fn mark_begun(hot: &mut Hot, runs: &mut Runs, n: u32) {
    let queue = if hot.more == 0 { None } else { runs.queues.get_mut(hot.more) };
    let mut left = n;
    for run in std::iter::once(&mut hot.first).chain(queue.into_iter().flatten()) {
        if left == 0 {
            return;
        }
        run.flags |= Extent::BEGUN;
        left = left.saturating_sub(run.len);
    }
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

/// The runs of the next send, at most [`GATHER_MAX`]; returns how many were written to `out`. What is adjacent is one
/// run there, whether it may be dropped or not.
pub fn next_send(hot: &Hot, runs: &Runs, out: &mut [Extent; GATHER_MAX]) -> usize {
    if is_clear(hot) {
        return 0;
    }
    out[0] = hot.first;
    let mut last = 0;
    if hot.more != 0 {
        let queue = runs.queues.get(hot.more).expect("a queue's handle is live");
        for run in queue.iter().take(SEND_RUNS_MAX) {
            if out[last].is_followed_by(run) {
                out[last].len += run.len;
                continue;
            }
            if last + 1 == GATHER_MAX {
                break;
            }
            last += 1;
            out[last] = *run;
        }
    }
    last + 1
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

    /// What a client that takes any number of bytes at a time hears of messages of one to three runs, of which some may
    /// be dropped and some are, at any time: whole messages, in order, and all that may not be dropped.
    fn dropping(seed: u64, begun: impl Fn(&Extent) -> bool + Copy) -> Result<(), String> {
        let logs = Logs::new(1, 4 * crate::buf::segment::SEGMENT_BYTES).unwrap();
        let (mut runs, mut holdings) = (Runs::new(1), Holdings::new(0, &logs));
        let mut hot = Hot::default();
        let mut rng = crate::io::sim::Rng::new(seed);
        // Of each message: its first byte, its length, whether it may be dropped.
        let (mut said, mut heard): (Vec<(u32, u32, bool)>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut offset, mut dropped) = (0, 0);
        for _ in 0..120 {
            match rng.below(4) {
                0 | 1 => {
                    let (pieces, class) = (1 + rng.below(3) as u32, rng.below(5) as u8);
                    let start = offset;
                    for piece in 0..pieces {
                        let len = 1 + rng.below(20) as u32;
                        let last = piece + 1 == pieces;
                        let flags = if last { 0 } else { Extent::CONTINUES };
                        let run = Extent { class, flags, count: u16::from(last), ..run(offset, len) };
                        push(&mut hot, &mut runs, &mut holdings, run);
                        offset += len;
                    }
                    said.push((start, offset - start, class >= Extent::DROPPABLE));
                }
                2 => {
                    let n = rng.below(u64::from(hot.owed_bytes) + 1) as u32;
                    let mut sent = [Extent::default(); GATHER_MAX];
                    let count = next_send(&hot, &runs, &mut sent);
                    let bytes = sent[..count].iter().flat_map(|run| run.offset..run.offset + run.len).take(n as usize);
                    let before = heard.len();
                    heard.extend(bytes);
                    release(&mut hot, &mut runs, &mut holdings, (heard.len() - before) as u32);
                }
                _ => {
                    let mut verdicts = || match rng.below(5) {
                        0 | 1 => Verdict::Drop,
                        2 | 3 => Verdict::Keep,
                        _ => Verdict::Stop,
                    };
                    let owed_bytes = hot.owed_bytes;
                    let cut = drop_messages(&mut hot, &mut runs, &mut holdings, begun, |_, _, _| verdicts());
                    assert_eq!(owed_bytes - cut.bytes, hot.owed_bytes);
                    dropped += cut.messages;
                }
            }
            let owed: u32 = iter(&hot, &runs).map(|run| run.len).sum();
            assert_eq!(owed, hot.owed_bytes);
            assert_eq!(hot.more != 0, run_count(&hot, &runs) > 1);
        }
        heard.extend(iter(&hot, &runs).flat_map(|run| run.offset..run.offset + run.len));
        clear(&mut hot, &mut runs, &mut holdings);
        assert!(holdings.total() == 0 && runs.is_empty());
        let mut heard = heard.into_iter().peekable();
        for (start, len, may_drop) in said {
            if heard.peek() == Some(&start) {
                if let Some(at) = (start..start + len).find(|&at| heard.next() != Some(at)) {
                    return Err(format!("the message at {start} is torn at {at}"));
                }
            } else if !may_drop {
                return Err(format!("the message at {start} is missing"));
            } else {
                dropped -= 1;
            }
        }
        assert_eq!((heard.next(), dropped), (None, 0));
        Ok(())
    }

    fn is_begun(run: &Extent) -> bool {
        run.flags & Extent::BEGUN != 0
    }

    #[test]
    fn whole_messages_are_dropped_that_may_be_and_nothing_is_torn() {
        for seed in 1..if cfg!(miri) { 4 } else { 500 } {
            dropping(seed, is_begun).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }

    #[test]
    fn a_message_that_is_dropped_although_it_has_begun_is_noticed() {
        let seeds = if cfg!(miri) { 20 } else { 500 };
        let noticed = (1..seeds).find_map(|seed| dropping(seed, |_| false).err());
        assert!(noticed.is_some_and(|error| error.contains("torn")));
    }
}
