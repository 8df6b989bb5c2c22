//! Who is in which hub, group and user, on this shard.

use crate::buf::slab::Slab;
use crate::conn::wire::{ByVariation, Variation};
use crate::hub::note::NameKind;
use crate::io::Slot;
use std::collections::HashMap;

/// Index of a hub in the engine's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HubId(pub u16);

/// Handle of a group or user that has members on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(pub u32);

/// The members of one hub.
#[derive(Debug, Default)]
pub struct HubMembers {
    /// In no particular order; a member's record knows its position.
    pub slots: Vec<Slot>,
    /// Members by variation.
    pub variations: ByVariation<u32>,
}

/// One member of a group, with the way back to its own list of groups.
#[derive(Clone, Copy, Debug)]
struct Member {
    slot: Slot,
    /// Handle of the member's list.
    list: u32,
    /// Position in that list.
    index: u32,
}

/// A group, or the connections of one user.
#[derive(Debug)]
pub struct Group {
    /// The whole key: hub, kind, name.
    key: Box<[u8]>,
    members: Vec<Member>,
    /// Members by variation.
    pub variations: ByVariation<u32>,
}

impl Group {
    /// The members.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Slot> + '_ {
        self.members.iter().map(|member| member.slot)
    }

    /// The name, without hub and kind.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.key[KEY_PREFIX_BYTES..]).unwrap_or_default()
    }

    /// See [`Registry::name_hash`].
    pub fn name_hash(&self) -> u64 {
        key_hash(&self.key)
    }

    /// The hub it belongs to.
    pub fn hub(&self) -> HubId {
        HubId(u16::from_le_bytes([self.key[0], self.key[1]]))
    }
}

/// One membership, in the member's own list.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// Position in the group's list.
    position: u32,
}

/// Why somebody cannot join.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupError {
    /// `Limits::groups_max`.
    TooManyGroups,
    /// `Limits::groups_per_connection_max`.
    TooManyMemberships,
    /// `Limits::name_bytes_max`.
    NameTooLong,
}

impl std::fmt::Display for GroupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooManyGroups => "too many groups on this shard (limits.groups_max)",
            Self::TooManyMemberships => "too many groups of this connection (limits.groups_per_connection_max)",
            Self::NameTooLong => "the name is too long (limits.name_bytes_max)",
        })
    }
}

impl std::error::Error for GroupError {}

const KEY_PREFIX_BYTES: usize = 3;

/// The key of a name: hub, kind, the bytes of the name.
fn write_key(key: &mut Vec<u8>, hub: HubId, kind: NameKind, name: &str) {
    key.clear();
    key.extend_from_slice(&hub.0.to_le_bytes());
    key.push(kind as u8);
    key.extend_from_slice(name.as_bytes());
}

/// FNV-1a, folded: the same on every shard. For the interest filter only, so nobody gains by colliding.
fn key_hash(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 32)
}

/// Members of everything, on one shard.
#[derive(Debug)]
pub struct Registry {
    hubs: Vec<HubMembers>,
    groups: Slab<Group>,
    by_key: HashMap<Box<[u8]>, GroupId>,
    memberships: Slab<Vec<Membership>>,
    key: Vec<u8>,
    memberships_max: usize,
    name_bytes_max: usize,
}

/// What a change of membership meant for the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No change: was a member already, or was none.
    None,
    /// The group has its first member here.
    First(GroupId),
    /// The group has one more, or one fewer, and others.
    Other(GroupId),
    /// The group has no members here any more and is gone.
    Last {
        /// What it was counted under in the interest filter.
        name_hash: u64,
    },
}

impl Registry {
    /// Nobody in anything. Hubs get address space for an equal share of `connections_max` members each; memory is taken as
    /// they come. A list that doubles leaves its half behind, as that of a hub with more than its share does.
    pub fn new(hubs: usize, connections_max: usize, limits: &crate::limits::Limits) -> Self {
        let share = connections_max.checked_div(hubs).unwrap_or_default();
        let members = || HubMembers { slots: Vec::with_capacity(share), ..HubMembers::default() };
        Self {
            hubs: (0..hubs).map(|_| members()).collect(),
            groups: Slab::new(limits.groups_max as u32),
            by_key: HashMap::new(),
            memberships: Slab::new(connections_max as u32),
            key: Vec::new(),
            memberships_max: limits.groups_per_connection_max,
            name_bytes_max: limits.name_bytes_max,
        }
    }

    /// The members of a hub.
    pub fn hub(&self, hub: HubId) -> &HubMembers {
        &self.hubs[hub.0 as usize]
    }

    /// Groups and users with members.
    pub fn group_count(&self) -> usize {
        self.groups.len() as usize
    }

    /// Memberships of everybody. Walks all lists: for tests.
    pub fn membership_count(&self) -> usize {
        self.by_key.values().filter_map(|id| self.group(*id)).map(|group| group.members.len()).sum()
    }

    /// A group by handle.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(group.0)
    }

    /// A group by name.
    pub fn find(&mut self, hub: HubId, kind: NameKind, name: &str) -> Option<GroupId> {
        write_key(&mut self.key, hub, kind, name);
        self.by_key.get(&self.key[..]).copied()
    }

    /// What a name is counted under in the interest filter.
    pub fn name_hash(&mut self, hub: HubId, kind: NameKind, name: &str) -> u64 {
        write_key(&mut self.key, hub, kind, name);
        key_hash(&self.key)
    }

    /// Adds a member to a hub; returns its position for its own record.
    pub fn add_member(&mut self, hub: HubId, slot: Slot, variation: Variation) -> u32 {
        let members = &mut self.hubs[hub.0 as usize];
        members.variations[variation] += 1;
        members.slots.push(slot);
        (members.slots.len() - 1) as u32
    }

    /// Takes the member at `position` out. Returns the slot that has moved to that position, if one has.
    pub fn remove_member(&mut self, hub: HubId, position: u32, variation: Variation) -> Option<Slot> {
        let members = &mut self.hubs[hub.0 as usize];
        members.variations[variation] -= 1;
        members.slots.swap_remove(position as usize);
        members.slots.get(position as usize).copied()
    }

    /// Adds `slot` to a group; `list` is the handle in its record. Idempotent.
    pub fn join(
        &mut self,
        slot: Slot,
        list: &mut u32,
        variation: Variation,
        (hub, kind, name): (HubId, NameKind, &str),
    ) -> Result<Change, GroupError> {
        if name.len() > self.name_bytes_max {
            return Err(GroupError::NameTooLong);
        }
        let existing = self.find(hub, kind, name);
        if let (Some(group), true) = (existing, *list != 0)
            && self.memberships(*list).iter().any(|m| m.group == group)
        {
            return Ok(Change::None);
        }
        if self.memberships(*list).len() >= self.memberships_max {
            return Err(GroupError::TooManyMemberships);
        }
        let group = match existing {
            Some(group) => group,
            None => self.create().ok_or(GroupError::TooManyGroups)?,
        };
        if *list == 0 {
            *list = self.memberships.insert(Vec::new()).expect("one list per slot");
        }
        let memberships = self.memberships.get_mut(*list).expect("a list's handle is live");
        let record = self.groups.get_mut(group.0).expect("found or made above");
        memberships.push(Membership { group, position: record.members.len() as u32 });
        record.members.push(Member { slot, list: *list, index: (memberships.len() - 1) as u32 });
        record.variations[variation] += 1;
        Ok(if existing.is_some() { Change::Other(group) } else { Change::First(group) })
    }

    /// Makes the group whose key is in the scratch.
    fn create(&mut self) -> Option<GroupId> {
        let key: Box<[u8]> = self.key.as_slice().into();
        let group = Group { key: key.clone(), members: Vec::new(), variations: ByVariation::default() };
        let id = GroupId(self.groups.insert(group).ok()?);
        self.by_key.insert(key, id);
        Some(id)
    }

    /// The groups of the record whose list is `list`.
    pub fn memberships(&self, list: u32) -> &[Membership] {
        if list == 0 { &[] } else { self.memberships.get(list).map_or(&[], Vec::as_slice) }
    }

    /// Takes a member out of one group. Idempotent.
    pub fn leave(&mut self, list: &mut u32, variation: Variation, group: GroupId) -> Change {
        let Some(index) = self.memberships(*list).iter().position(|m| m.group == group) else {
            return Change::None;
        };
        self.remove_membership(list, index, variation)
    }

    /// Takes a member out of the last group in its list. `None`: it is in none.
    pub fn leave_last(&mut self, list: &mut u32, variation: Variation) -> Option<Change> {
        let index = self.memberships(*list).len().checked_sub(1)?;
        Some(self.remove_membership(list, index, variation))
    }

    fn remove_membership(&mut self, list: &mut u32, index: usize, variation: Variation) -> Change {
        let memberships = self.memberships.get_mut(*list).expect("a list's handle is live");
        let membership = memberships.swap_remove(index);
        let moved = memberships.get(index).copied();
        if memberships.is_empty() {
            self.memberships.remove(*list);
            *list = 0;
        }
        if let Some(moved) = moved {
            // The membership that took this one's place tells its group where it is now.
            let group = self.groups.get_mut(moved.group.0).expect("a member's group is live");
            group.members[moved.position as usize].index = index as u32;
        }
        let id = membership.group;
        let group = self.groups.get_mut(id.0).expect("a member's group is live");
        group.variations[variation] -= 1;
        group.members.swap_remove(membership.position as usize);
        if group.members.is_empty() {
            let group = self.groups.remove(id.0).expect("looked at above");
            self.by_key.remove(&group.key);
            return Change::Last { name_hash: group.name_hash() };
        }
        if let Some(&moved) = group.members.get(membership.position as usize) {
            let list = self.memberships.get_mut(moved.list).expect("a member's list is live");
            list[moved.index as usize].position = membership.position;
        }
        Change::Other(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use std::collections::{BTreeMap, BTreeSet};

    const HUB: HubId = HubId(0);
    const JSON: Variation = Variation::JsonWebSocket;

    /// Random joins and leaves agree with plain sets, and every way back stays right.
    #[test]
    fn groups_agree_with_plain_sets() {
        for seed in 1..60u64 {
            let mut registry = Registry::new(1, 8, &Limits::default());
            let mut lists = [0u32; 8];
            let mut model: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
            let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |bound: u64| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                (rng % bound) as u32
            };
            for _ in 0..300 {
                let (slot, group) = (random(8), random(5));
                let (name, list) = (format!("g{group}"), &mut lists[slot as usize]);
                if random(2) == 0 {
                    let change = registry.join(Slot(slot), list, JSON, (HUB, NameKind::Group, &name)).unwrap();
                    let is_new = model.entry(group).or_default().insert(slot);
                    assert_eq!(change != Change::None, is_new, "seed {seed}");
                } else if let Some(id) = registry.find(HUB, NameKind::Group, &name) {
                    let change = registry.leave(list, JSON, id);
                    let was = model.entry(group).or_default().remove(&slot);
                    assert_eq!(change != Change::None, was, "seed {seed}");
                }
                for (group, expected) in &model {
                    let found = registry.find(HUB, NameKind::Group, &format!("g{group}"));
                    let members: BTreeSet<u32> =
                        found.map(|id| registry.group(id).unwrap().slots().map(|s| s.0).collect()).unwrap_or_default();
                    assert_eq!(&members, expected, "seed {seed}");
                }
            }
            for list in &mut lists {
                while registry.leave_last(list, JSON).is_some() {}
            }
            assert_eq!((registry.group_count(), registry.memberships.len()), (0, 0), "seed {seed}");
        }
    }

    #[test]
    fn bounds_have_names() {
        let limits = Limits { groups_max: 1, name_bytes_max: 4, ..Limits::default() };
        let mut registry = Registry::new(1, 4, &limits);
        let mut list = 0;
        let mut join = |name| registry.join(Slot(0), &mut list, JSON, (HUB, NameKind::Group, name));
        assert_eq!(join("12345"), Err(GroupError::NameTooLong));
        assert!(join("a").is_ok());
        assert_eq!(join("b"), Err(GroupError::TooManyGroups));
    }
}
