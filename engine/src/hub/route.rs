//! Whom a message is for, on which shards; and what other shards tell us of theirs.

use crate::buf::log::Extents;
use crate::buf::{Extent, segment::Logs};
use crate::conn::wire::{ByVariation, Variation};
use crate::event::CloseReason;
use crate::hub::directory::ConnRef;
use crate::hub::fanout::Crowd;
use crate::hub::note::{NameKind, Note, Packed, Span};
use crate::hub::outgoing::Outgoing;
use crate::hub::publisher::PublishError;
use crate::hub::registry::{GroupError, HubId};
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::error::CloseCode;

/// One addressee of a message (spec 6.9).
#[derive(Clone, Copy, Debug)]
pub enum Audience<'a> {
    /// Everybody in the hub.
    All,
    /// A group.
    Group(&'a str),
    /// A user's connections.
    User(&'a str),
    /// One connection.
    Connection(ConnRef),
}

/// What one addressee comes to, on this shard and the others.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    crowd: Option<Crowd>,
    slot: Option<Slot>,
    /// Shards that may have somebody, one bit each.
    remote: u64,
}

/// The variations that somebody needs.
type Needed = ByVariation<bool>;
/// A message in those.
type Encoded = ByVariation<Option<Extents>>;

/// Connections that a message may leave out.
pub const EXCLUDED_MAX: usize = 8192;

impl Switchboard {
    /// Sends one message to each of `to` except the connections `except` (ascending). Encodes it once per variation
    /// that anybody needs. A connection that is reached by two addressees gets it twice (spec 6.9).
    pub(crate) fn publish(
        &mut self,
        hub: HubId,
        to: &[Audience<'_>],
        except: &[ConnRef],
        message: &Outgoing<'_>,
    ) -> Result<(), PublishError> {
        if except.len() > EXCLUDED_MAX {
            return Err(PublishError::TooManyExcluded { given: except.len() });
        }
        let mut legs = std::mem::take(&mut self.legs_scratch);
        legs.clear();
        let mut needed = Needed::default();
        for audience in to {
            let leg = self.resolve_audience(hub, audience, &mut needed);
            legs.push(leg);
        }
        let result = self.publish_legs(hub, to, &legs, except, message, needed);
        self.legs_scratch = legs;
        self.counters.publishes_total.add(1);
        result
    }

    fn publish_legs(
        &mut self,
        hub: HubId,
        to: &[Audience<'_>],
        legs: &[Leg],
        except: &[ConnRef],
        message: &Outgoing<'_>,
        needed: Needed,
    ) -> Result<(), PublishError> {
        let for_many = !matches!(to, [Audience::Connection(_)]);
        let mut encoded = Encoded::default();
        for variation in Variation::ALL.into_iter().filter(|&variation| needed[variation]) {
            encoded[variation] = Some(self.encode(variation, message, for_many)?);
        }
        let mut excluded_here = [Slot::default(); 1];
        let many: Vec<Slot>;
        let excluded = match except {
            [] => &excluded_here[..0],
            [one] if one.shard() == self.shard => {
                excluded_here[0] = one.slot();
                &excluded_here[..]
            }
            _ => {
                many = slots_on(self.shard, except);
                &many[..]
            }
        };
        // Everything that can fail comes before anybody is given anything: a message is for all of them, or for none.
        let mut notes = std::mem::take(&mut self.notes_scratch);
        notes.clear();
        let noted = self.write_notes(&mut notes, hub, to, legs, except, &encoded);
        if noted.is_ok() {
            for leg in legs {
                self.give_here(leg, &encoded, excluded);
            }
            for &(shard, note) in &notes {
                self.note(shard, note);
            }
        }
        self.notes_scratch = notes;
        noted
    }

    /// This shard's share of one message, piece after piece.
    fn give_here(&mut self, leg: &Leg, encoded: &Encoded, excluded: &[Slot]) {
        let parts = parts(encoded);
        for part in 0..parts {
            let runs = ByVariation(std::array::from_fn(|index| part_of(&encoded.0[index], part)));
            if let Some(crowd) = leg.crowd {
                self.fans.record(&mut self.holdings, crowd, runs, excluded);
            }
            if let Some(slot) = leg.slot {
                if part == 0 {
                    self.catch_up(slot);
                }
                self.owe(slot, runs[self.slots.hot(slot).variation]);
                self.counters.deliveries_total.add(u64::from(part + 1 == parts));
            }
        }
    }

    /// One note for each shard and addressee.
    fn write_notes(
        &mut self,
        notes: &mut Vec<(u8, Note)>,
        hub: HubId,
        to: &[Audience<'_>],
        legs: &[Leg],
        except: &[ConnRef],
        encoded: &Encoded,
    ) -> Result<(), PublishError> {
        if legs.iter().all(|leg| leg.remote == 0) {
            return Ok(());
        }
        let message = self.pack(encoded)?;
        for (audience, leg) in to.iter().zip(legs) {
            self.write_leg_notes(notes, hub, audience, leg.remote, message, except)?;
        }
        Ok(())
    }

    /// The message small enough for a note.
    fn pack(&mut self, encoded: &Encoded) -> Result<Packed, PublishError> {
        let mut written = encoded.iter().filter_map(|(variation, runs)| Some((variation, runs.as_deref()?)));
        if let (Some((variation, [run])), None) = (written.next(), written.next()) {
            return Ok(Packed::one(variation, *run));
        }
        let mut list = Vec::new();
        for part in 0..parts(encoded) {
            for (variation, runs) in encoded.iter() {
                if let Some(run) = runs.as_ref().and_then(|runs| runs.get(part)) {
                    Packed::list(&mut list, variation, run);
                }
            }
        }
        Ok(Packed::listed(self.span(&list)?))
    }

    fn encode(
        &mut self,
        variation: Variation,
        message: &Outgoing<'_>,
        for_many: bool,
    ) -> Result<Extents, PublishError> {
        let measured = message.measure(variation).map_err(PublishError::BadPayload)?;
        let (bytes, bytes_max) = (measured.body_bytes(), self.limits.publish_bytes_max);
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        let appended = if for_many && variation.is_deflated() {
            self.append_deflated(&measured, message)
        } else {
            self.append_broadcast(&measured, message)
        };
        appended.map_err(|_| PublishError::LogFull)
    }

    fn resolve_audience(&mut self, hub: HubId, audience: &Audience<'_>, needed: &mut Needed) -> Leg {
        let mut leg = Leg { crowd: None, slot: None, remote: 0 };
        match *audience {
            Audience::All => {
                let variations = self.registry.hub(hub).variations;
                leg.crowd = need(needed, variations).then_some(Crowd::Hub(hub));
                leg.remote = self.interested(hub, needed, |_| true);
            }
            Audience::Group(name) => self.resolve_name(hub, NameKind::Group, name, needed, &mut leg),
            Audience::User(id) => self.resolve_name(hub, NameKind::User, id, needed, &mut leg),
            Audience::Connection(connection) if connection.shard() == self.shard => {
                leg.slot = self.resolve(connection).filter(|&slot| self.is_member(slot));
                if let Some(slot) = leg.slot {
                    needed[self.slots.hot(slot).variation] = true;
                }
            }
            Audience::Connection(connection) => {
                leg.remote = self.interested(hub, needed, |shard| shard == connection.shard());
            }
        }
        leg
    }

    fn resolve_name(&mut self, hub: HubId, kind: NameKind, name: &str, needed: &mut Needed, leg: &mut Leg) {
        if let Some(group) = self.registry.find(hub, kind, name) {
            let variations = self.registry.group(group).map_or(ByVariation::default(), |group| group.variations);
            leg.crowd = need(needed, variations).then_some(Crowd::Group(group));
        }
        if self.senders.len() > 1 {
            let hash = self.registry.name_hash(hub, kind, name);
            let shared = self.shared.clone();
            leg.remote = self.interested(hub, needed, |shard| shared.interest.may_have(shard, hash));
        }
    }

    /// The other shards that `filter` admits and that have members of the hub, as bits.
    fn interested(&self, hub: HubId, needed: &mut Needed, filter: impl Fn(u8) -> bool) -> u64 {
        let mut bits = 0;
        for shard in 0..self.senders.len() as u8 {
            if shard != self.shard && filter(shard) && need(needed, self.shared.interest.members(shard, hub.0)) {
                bits |= 1 << shard;
            }
        }
        bits
    }

    fn write_leg_notes(
        &mut self,
        notes: &mut Vec<(u8, Note)>,
        hub: HubId,
        audience: &Audience<'_>,
        remote: u64,
        message: Packed,
        except: &[ConnRef],
    ) -> Result<(), PublishError> {
        if remote == 0 {
            return Ok(());
        }
        let name = match *audience {
            Audience::Group(name) | Audience::User(name) => self.span(name.as_bytes())?,
            _ => Span::default(),
        };
        for shard in (0..self.senders.len() as u8).filter(|shard| remote >> shard & 1 == 1) {
            let excluded = self.excluded_span(shard, except)?;
            let note = match *audience {
                Audience::All => Note::Hub { hub: hub.0, message, excluded },
                Audience::Group(_) => Note::Named { hub: hub.0, kind: NameKind::Group, message, name, excluded },
                Audience::User(_) => Note::Named { hub: hub.0, kind: NameKind::User, message, name, excluded },
                Audience::Connection(to) => Note::One { to, message },
            };
            notes.push((shard, note));
        }
        Ok(())
    }

    fn excluded_span(&mut self, shard: u8, except: &[ConnRef]) -> Result<Span, PublishError> {
        if !except.iter().any(|connection| connection.shard() == shard) {
            return Ok(Span::default());
        }
        let slots = slots_on(shard, except).into_iter().flat_map(|slot| slot.0.to_le_bytes());
        self.span(&slots.collect::<Vec<u8>>())
    }

    /// Bytes that go with a note, in the private log.
    pub(crate) fn span(&mut self, bytes: &[u8]) -> Result<Span, PublishError> {
        if bytes.is_empty() {
            return Ok(Span::default());
        }
        let runs = self.append_private(bytes.len(), |writer| writer.put(bytes)).map_err(|_| PublishError::LogFull)?;
        debug_assert_eq!(runs.len(), 1, "names and lists are shorter than what the log keeps whole");
        Ok(runs[0].into())
    }

    /// Sends a note to another shard. A note that finds no room at all is lost and counted.
    pub(crate) fn note(&mut self, shard: u8, note: Note) {
        let Some(sender) = self.senders.get_mut(shard as usize).and_then(Option::as_mut) else { return };
        let before = sender.overflowed_total();
        if sender.send(note).is_err() {
            self.counters.notes_lost_total.add(1);
        }
        self.counters.notes_overflowed_total.add(sender.overflowed_total() - before);
        self.noted |= 1 << shard;
    }

    // -- what comes from other shards -----------------------------------------------------------------------------

    /// Acts on one note. What is kept of the sender's log is held before this returns.
    pub(crate) fn handle_note(&mut self, note: &Note) {
        match *note {
            Note::Hub { hub, message, excluded } => {
                let excluded = self.excluded_slots(excluded);
                self.record_message(Crowd::Hub(HubId(hub)), message, &excluded);
            }
            Note::Named { hub, kind, message, name, excluded } => {
                let logs = self.logs.clone();
                let Some(group) = self.registry.find(HubId(hub), kind, text(&logs, name)) else { return };
                let excluded = self.excluded_slots(excluded);
                self.record_message(Crowd::Group(group), message, &excluded);
            }
            Note::One { to, message } => {
                if let Some(slot) = self.resolve(to).filter(|&slot| self.is_member(slot)) {
                    self.catch_up(slot);
                    let variation = self.slots.hot(slot).variation;
                    self.counters.deliveries_total.add(1);
                    let logs = self.logs.clone();
                    message.for_each(&logs, |piece| self.owe(slot, piece[variation]));
                }
            }
            Note::Membership { who, join, name } => {
                let logs = self.logs.clone();
                let name = text(&logs, name);
                // A full group table on this shard cannot be told to whoever asked, any more.
                let _ = self.change_membership(who, name, join);
            }
            Note::Close { who, allow_reconnect } => self.close_connection(who, allow_reconnect),
            Note::Evict { segment } => self.evict(segment),
        }
    }

    /// A message from another shard, whole, whatever the number of its pieces.
    fn record_message(&mut self, crowd: Crowd, message: Packed, excluded: &[Slot]) {
        let (fans, holdings) = (&mut self.fans, &mut self.holdings);
        message.for_each(&self.logs, |runs| fans.record(holdings, crowd, runs, excluded));
    }

    fn excluded_slots(&self, span: Span) -> Vec<Slot> {
        if span.is_empty() {
            return Vec::new();
        }
        let bytes = self.logs.bytes(span.into());
        bytes.chunks_exact(4).map(|b| Slot(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    }

    // -- things that concern one connection, wherever it is -------------------------------------------------------

    /// Joins a connection to a group, or takes it out. Of an unknown connection: nothing (spec 6.9).
    pub(crate) fn change_membership(&mut self, who: ConnRef, name: &str, join: bool) -> Result<(), GroupError> {
        if name.len() > self.limits.name_bytes_max {
            return Err(GroupError::NameTooLong);
        }
        if who.shard() != self.shard {
            if let Ok(name) = self.span(name.as_bytes()) {
                self.note(who.shard(), Note::Membership { who, join, name });
            }
            return Ok(());
        }
        match self.resolve(who) {
            Some(slot) if join => self.join_named(slot, NameKind::Group, name),
            Some(slot) => {
                self.leave_group(slot, name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Ends a connection in order, on behalf of the application.
    pub(crate) fn close_connection(&mut self, who: ConnRef, allow_reconnect: bool) {
        if who.shard() != self.shard {
            return self.note(who.shard(), Note::Close { who, allow_reconnect });
        }
        if let Some(slot) = self.resolve(who) {
            self.farewell(slot, CloseReason::ClosedByServer, Some((None, allow_reconnect)), CloseCode::NORMAL);
        }
    }

    /// Connections by id, those that are connected, ascending.
    pub(crate) fn find_all(&self, ids: &[&str]) -> Vec<ConnRef> {
        let mut found: Vec<ConnRef> = ids.iter().filter_map(|id| self.find_connection(id)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A connection by its public id.
    pub(crate) fn find_connection(&self, id: &str) -> Option<ConnRef> {
        self.shared.directory.find(&crate::ids::ConnectionId::from_text(id)?.0)
    }
}

/// Marks the variations that `members` need; whether there is anybody at all.
fn need(needed: &mut Needed, members: ByVariation<u32>) -> bool {
    for (variation, &count) in members.iter() {
        needed[variation] |= count > 0;
    }
    members.0.iter().any(|&count| count > 0)
}

/// Pieces that the message has in the variation where it has most.
fn parts(encoded: &Encoded) -> usize {
    encoded.0.iter().flatten().map(|runs| runs.len()).max().unwrap_or(0)
}

/// The slots of those of `connections` that are on `shard`, ascending. References ascend by tenancy before slot.
fn slots_on(shard: u8, connections: &[ConnRef]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = connections.iter().filter(|c| c.shard() == shard).map(|c| c.slot()).collect();
    slots.sort_unstable();
    slots
}

fn part_of(runs: &Option<Extents>, part: usize) -> Extent {
    runs.as_ref().and_then(|runs| runs.get(part)).copied().unwrap_or_default()
}

fn text(logs: &Logs, span: Span) -> &str {
    if span.is_empty() { "" } else { std::str::from_utf8(logs.bytes(span.into())).unwrap_or_default() }
}
