//! One message, many connections: what was published in this turn, and who already has it.
//!
//! A publish records a *fan*: the runs of the message (one per variation) and the crowd it is for. Adjacent
//! messages for the same crowd grow the same fan, so sixteen broadcasts of one turn leave as one send each. At the
//! end of the turn:
//!
//! - one fan, and a member that owes nothing: its send goes straight to the ring and writes no state at all;
//! - otherwise, and where it speaks TLS, the runs go into the member's outbox, in the order of the fans, and the outbox
//!   is sent once.
//!
//! Something for one connection only (an answer, a join, a goodbye) must stay in order with fans recorded before
//! it: `Switchboard::catch_up` first gives that connection its share, and stamps it so that the end of the turn
//! skips it.

use crate::buf::segment::Holdings;
use crate::buf::{Extent, SegmentId};
use crate::conn::outbox;
use crate::conn::slots::{Flags, Hot, State};
use crate::conn::wire::ByVariation;
use crate::hub::registry::{GroupId, HubId, Registry};
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;

/// Whom a fan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Every member of a hub.
    Hub(HubId),
    /// Every member of a group, or every connection of a user.
    Group(GroupId),
    /// The group has gone since; its members had caught up.
    Nobody,
}

/// One or more adjacent messages for one crowd.
#[derive(Clone, Copy, Debug)]
pub struct Fan {
    stamp: u32,
    crowd: Crowd,
    runs: ByVariation<Extent>,
    excluded: (u32, u32),
    /// Its messages one by one, in [`Fans::parts`]. None where no path has a policy that drops.
    parts: (u32, u32),
}

/// What was published in this turn.
#[derive(Debug, Default)]
pub struct Fans {
    list: Vec<Fan>,
    excluded: Vec<Slot>,
    last_stamp: u32,
    /// Somebody has caught up with the last fan: it must not grow.
    sealed: bool,
    /// Segments of fans that are with the kernel.
    flying: Vec<SegmentId>,
    /// Messages that may be dropped, one by one, and those of the fan that is with the kernel.
    parts: Vec<ByVariation<Extent>>,
    flying_parts: Vec<ByVariation<Extent>>,
}

impl Fans {
    /// Whether nothing was published since the last flush.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether fans are with the kernel.
    pub fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Bytes per member that wait for the flush.
    pub fn pending_bytes(&self) -> usize {
        self.list.iter().map(|fan| fan.runs.0.iter().map(|run| run.len as usize).max().unwrap_or(0)).sum()
    }

    /// Adds one message for a crowd. `excluded` ascends.
    pub fn record(&mut self, holdings: &mut Holdings, crowd: Crowd, runs: ByVariation<Extent>, excluded: &[Slot]) {
        debug_assert!(excluded.is_sorted());
        if !runs.0.iter().any(Extent::may_drop) {
            return self.record_runs(holdings, crowd, runs, excluded);
        }
        self.record_runs(holdings, crowd, ByVariation(runs.0.map(Extent::undroppable)), excluded);
        self.parts.push(runs);
        if let Some(fan) = self.list.last_mut() {
            fan.parts.1 = self.parts.len() as u32;
        }
    }

    fn record_runs(&mut self, holdings: &mut Holdings, crowd: Crowd, runs: ByVariation<Extent>, excluded: &[Slot]) {
        if self.grow(crowd, &runs, excluded) {
            return;
        }
        let from = self.excluded.len() as u32;
        self.excluded.extend_from_slice(excluded);
        self.last_stamp = self.last_stamp.wrapping_add(1);
        self.sealed = false;
        for run in runs.0.iter().filter(|run| !run.is_empty()) {
            holdings.hold(run.segment);
        }
        let excluded = (from, self.excluded.len() as u32);
        let parts = (self.parts.len() as u32, self.parts.len() as u32);
        self.list.push(Fan { stamp: self.last_stamp, crowd, runs, excluded, parts });
    }

    fn grow(&mut self, crowd: Crowd, runs: &ByVariation<Extent>, excluded: &[Slot]) -> bool {
        let sealed = self.sealed;
        let Some(last) = self.list.last_mut() else { return false };
        let same_crowd = last.crowd == crowd && excluded.is_empty() && last.excluded.0 == last.excluded.1;
        let joins = |(run, next): (&Extent, &Extent)| {
            if run.is_empty() || next.is_empty() { run.is_empty() && next.is_empty() } else { run.joins(next) }
        };
        if sealed || !same_crowd || !last.runs.0.iter().zip(&runs.0).all(joins) {
            return false;
        }
        for (run, next) in last.runs.0.iter_mut().zip(&runs.0) {
            run.merge(next);
        }
        true
    }

    /// The crowd of a group is gone.
    pub fn forget_group(&mut self, group: GroupId) {
        for fan in self.list.iter_mut().filter(|fan| fan.crowd == Crowd::Group(group)) {
            fan.crowd = Crowd::Nobody;
        }
    }

    fn excludes(&self, fan: &Fan, slot: Slot) -> bool {
        let (from, to) = fan.excluded;
        from != to && self.excluded[from as usize..to as usize].binary_search(&slot).is_ok()
    }

    /// The stamp of everything recorded so far.
    pub fn stamp(&self) -> u32 {
        self.last_stamp
    }

    /// Bytes of this segment are with the kernel, too, although no fan of the last flush is.
    pub fn keep_flying(&mut self, holdings: &mut Holdings, segment: SegmentId) {
        holdings.hold(segment);
        self.flying.push(segment);
    }

    /// The kernel has answered for everything of the last flush.
    pub fn landed(&mut self, holdings: &mut Holdings) {
        for segment in self.flying.drain(..) {
            holdings.release(segment);
        }
    }

    fn take_off(&mut self) {
        for fan in self.list.drain(..) {
            self.flying.extend(fan.runs.0.iter().filter(|run| !run.is_empty()).map(|run| run.segment));
        }
        self.excluded.clear();
        std::mem::swap(&mut self.parts, &mut self.flying_parts);
        self.parts.clear();
    }

    /// Messages of a fan, of which there are `fan.parts`.
    fn part(&self, index: u32) -> &ByVariation<Extent> {
        &self.parts[index as usize]
    }

    /// The messages of the fan that is with the kernel, the last one first.
    pub(super) fn flying_parts(&self) -> impl Iterator<Item = &ByVariation<Extent>> {
        self.flying_parts.iter().rev()
    }
}

/// Whether a connection stamped `stamp` already has the fan.
fn has(stamp: u32, fan: &Fan) -> bool {
    stamp.wrapping_sub(fan.stamp) as i32 >= 0
}

fn in_crowd(hot: &Hot, hub: HubId, registry: &Registry, crowd: Crowd) -> bool {
    match crowd {
        Crowd::Hub(id) => id == hub,
        Crowd::Group(group) => registry.memberships(hot.groups).iter().any(|m| m.group == group),
        Crowd::Nobody => false,
    }
}

/// Members that one send without state serves, by variation.
#[derive(Debug, Default)]
pub struct Ready {
    /// The members.
    pub slots: ByVariation<Vec<Slot>>,
    /// What they get.
    pub runs: ByVariation<Extent>,
}

impl Switchboard {
    /// Gives `slot` its share of what was published so far in this turn, ahead of what comes next for it alone.
    pub(crate) fn catch_up(&mut self, slot: Slot) {
        if self.fans.is_empty() {
            return;
        }
        let hot = *self.slots.hot(slot);
        if hot.state == State::Open && hot.flags.has(Flags::MEMBER) {
            let hub = self.hub_of(hot.endpoint);
            // Stamps ascend: what it has comes before what it has not.
            let first = self.fans.list.partition_point(|fan| has(hot.fan_stamp, fan));
            for index in first..self.fans.list.len() {
                let fan = self.fans.list[index];
                if in_crowd(&hot, hub, &self.registry, fan.crowd) && !self.fans.excludes(&fan, slot) {
                    self.owe_fan(slot, &fan);
                }
            }
        }
        self.slots.hot_mut(slot).fan_stamp = self.fans.stamp();
        self.fans.sealed = true;
    }

    /// The end of the turn: everybody gets what was published. Members that one plain send serves are listed in
    /// `ready`, the others have it in their outboxes.
    pub(crate) fn spread(&mut self, ready: &mut Ready) {
        ready.slots.0.iter_mut().for_each(Vec::clear);
        let fans = std::mem::take(&mut self.fans.list);
        let plain = match &fans[..] {
            [only] if !self.wants_send_file(&only.runs) => {
                ready.runs = only.runs;
                true
            }
            _ => false,
        };
        for fan in &fans {
            self.spread_one(fan, plain.then_some(&mut *ready));
        }
        let served =
            ready.slots.0.iter().zip(ready.runs.0).map(|(slots, run)| slots.len() as u64 * u64::from(run.count));
        self.counters.deliveries_total.add(served.sum());
        self.fans.list = fans;
        self.fans.take_off();
    }

    fn wants_send_file(&self, runs: &ByVariation<Extent>) -> bool {
        let least = self.limits.send_file_bytes_min;
        least != 0 && runs.0.iter().any(|run| run.len as usize >= least)
    }

    fn spread_one(&mut self, fan: &Fan, ready: Option<&mut Ready>) {
        let mut members = std::mem::take(&mut self.crowd_scratch);
        members.clear();
        match fan.crowd {
            Crowd::Hub(hub) => members.extend_from_slice(&self.registry.hub(hub).slots),
            Crowd::Group(group) => members.extend(self.registry.group(group).into_iter().flat_map(|g| g.slots())),
            Crowd::Nobody => {}
        }
        match ready {
            Some(ready) => self.sort_out(fan, &members, ready),
            None => members.iter().for_each(|&slot| self.give(fan, slot)),
        }
        self.crowd_scratch = members;
    }

    /// The hot loop: one cache line read per member, four bytes written.
    fn sort_out(&mut self, fan: &Fan, members: &[Slot], ready: &mut Ready) {
        // Looked at once: without TLS and exclusions nobody pays for either.
        let special = fan.excluded.0 != fan.excluded.1 || !self.tls.is_empty();
        let stateful = Flags::DIRTY | Flags::SEND_INFLIGHT | Flags::POLL_OUT_ARMED;
        for &slot in members {
            let hot = self.slots.hot(slot);
            let plain =
                outbox::is_clear(hot) && !hot.flags.has(stateful) && !slot.is_session() && !has(hot.fan_stamp, fan);
            if plain && !(special && (self.tls.has(slot) || self.fans.excludes(fan, slot))) {
                let v = hot.variation;
                if !fan.runs[v].is_empty() {
                    ready.slots[v].push(slot);
                }
            } else {
                self.give(fan, slot);
            }
        }
    }

    fn give(&mut self, fan: &Fan, slot: Slot) {
        let hot = self.slots.hot(slot);
        if has(hot.fan_stamp, fan) || self.fans.excludes(fan, slot) {
            return;
        }
        self.owe_fan(slot, fan);
    }

    /// Into its outbox: in one run, or message by message where its policy may drop some.
    fn owe_fan(&mut self, slot: Slot, fan: &Fan) {
        let variation = self.slots.hot(slot).variation;
        let run = fan.runs[variation];
        self.counters.deliveries_total.add(u64::from(run.count));
        if fan.parts.0 == fan.parts.1 || !self.may_drop_of(slot) {
            return self.owe(slot, run);
        }
        for index in fan.parts.0..fan.parts.1 {
            self.owe(slot, self.fans.part(index)[variation]);
        }
    }
}
