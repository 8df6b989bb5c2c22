//! From a hub handshake to a member, and which groups a member is in.

use crate::conn::slots::{Flags, State};
use crate::event::CloseReason;
use crate::hub::context::Context;
use crate::hub::note::NameKind;
use crate::hub::registry::{Change, GroupError, GroupId};
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use fanfare_protocol::error::CloseCode;

impl Switchboard {
    /// The hub handshake is done and answered: the connection becomes a member and its host is told.
    pub(crate) fn admit(&mut self, slot: Slot) {
        let tick = self.tick();
        let hot = self.slots.hot_mut(slot);
        let variation = hot.variation;
        hot.session.handle_handshake_done(variation.format(), tick);
        hot.state = State::Open;
        hot.flags.set(Flags::MEMBER);
        self.end_handshake(slot);
        let hot = self.slots.hot_mut(slot);
        hot.fan_stamp = self.fans.stamp();
        let hub = self.hub_of(self.slots.hot(slot).endpoint);
        let position = self.registry.add_member(hub, slot, variation);
        self.slots.hot_mut(slot).member_position = position;
        self.shared.interest.member(self.shard, hub.0, variation, 1);
        self.counters.connections_open.add(1);
        self.counters.opened_total.add(1);
        let user = self.slots.cold(slot).user;
        if user != 0 && !self.join_user(slot, user) {
            // To let it in as nobody in particular would give it another's rights, or none.
            let text = "Connection closed: the server has no room for another user (limits.groups_max, limits.name_bytes_max).";
            return self.farewell(slot, CloseReason::Overload, Some((Some(text), true)), CloseCode::NORMAL);
        }
        let host = self.hosts[hub.0 as usize].clone();
        let outcome = host.connected(&mut Context::connecting(self, slot));
        if let Err(error) = outcome {
            let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
            let text = error.close_text(detailed);
            self.farewell(slot, CloseReason::ConnectRefused, Some((Some(&text), false)), CloseCode::NORMAL);
        }
    }

    /// Until it is admitted, a connection's user id is kept with the requests; from then on it names a group.
    fn join_user(&mut self, slot: Slot, handle: u32) -> bool {
        self.slots.cold_mut(slot).user = 0;
        let Some(id) = self.requests.remove(handle) else { return false };
        let Ok(id) = std::str::from_utf8(&id) else { return false };
        if self.join_named(slot, NameKind::User, id).is_err() {
            return false;
        }
        let hub = self.hub_of(self.slots.hot(slot).endpoint);
        let group = self.registry.find(hub, NameKind::User, id);
        self.slots.cold_mut(slot).user = group.map_or(0, |group| group.0);
        true
    }

    /// The user id of a member.
    pub(crate) fn user(&self, slot: Slot) -> Option<&str> {
        let cold = self.slots.cold(slot);
        if cold.user == 0 || !self.is_member(slot) {
            return None;
        }
        self.registry.group(GroupId(cold.user)).map(|group| group.name())
    }

    pub(crate) fn join_named(&mut self, slot: Slot, kind: NameKind, name: &str) -> Result<(), GroupError> {
        if !self.is_member(slot) {
            return Ok(());
        }
        self.catch_up(slot);
        let hub = self.hub_of(self.slots.hot(slot).endpoint);
        let hot = self.slots.hot_mut(slot);
        let change = self.registry.join(slot, &mut hot.groups, hot.variation, (hub, kind, name))?;
        if let Change::First(_) = change {
            let hash = self.registry.name_hash(hub, kind, name);
            self.shared.interest.name(self.shard, hash, 1);
            self.counters.groups.set(self.registry.group_count() as u64);
        }
        Ok(())
    }

    pub(crate) fn leave_group(&mut self, slot: Slot, name: &str) {
        if !self.is_member(slot) {
            return;
        }
        self.catch_up(slot);
        let hub = self.hub_of(self.slots.hot(slot).endpoint);
        let Some(group) = self.registry.find(hub, NameKind::Group, name) else { return };
        let hot = self.slots.hot_mut(slot);
        let change = self.registry.leave(&mut hot.groups, hot.variation, group);
        self.after_leaving(group, change);
    }

    pub(super) fn after_leaving(&mut self, group: GroupId, change: Change) {
        if let Change::Last { name_hash } = change {
            self.fans.forget_group(group);
            self.shared.interest.name(self.shard, name_hash, -1);
            self.counters.groups.set(self.registry.group_count() as u64);
        }
    }
}
