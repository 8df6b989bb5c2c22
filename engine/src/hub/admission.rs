//! Who may come in now: rates, handshakes that are awaited, connections of one user and of one address.
//!
//! Everything here is asked when somebody negotiates or connects, never when something is said. Who has come in holds
//! *tickets*: a ticket that goes gives its place back, so that no way out can forget it and none can do it twice.

use crate::conn::address;
use crate::event::RefuseReason;
use crate::hub::asker::Asker;
use crate::hub::bucket::SharedBucket;
use crate::hub::switchboard::{Shared, Switchboard};
use crate::io::Slot;
use crate::limits::{ADMISSION_BURST_S, Limits};
use fanfare_protocol::http::head::RequestHead;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all shards of an engine bound together. A bound that is off is not there.
#[derive(Debug)]
pub struct Admission {
    connects: Option<SharedBucket>,
    negotiates: Option<SharedBucket>,
    users: Option<Census<Box<str>>>,
    addresses: Option<Census<IpAddr>>,
}

impl Admission {
    /// As `limits` say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connects: SharedBucket::new(limits.connect_rate.into(), ADMISSION_BURST_S),
            negotiates: SharedBucket::new(limits.negotiate_rate.into(), ADMISSION_BURST_S),
            users: Census::new(limits.connections_per_user_max),
            addresses: Census::new(limits.connections_per_address_max),
        }
    }

    /// Whether anybody wants to know where sockets come from.
    pub(crate) fn wants_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// Places that are taken, of users and of addresses.
    pub(crate) fn taken(&self) -> usize {
        self.users.as_ref().map_or(0, Census::len) + self.addresses.as_ref().map_or(0, Census::len)
    }
}

const STRIPES: usize = 64;

type Stripes<K> = [Mutex<HashMap<K, u32>>; STRIPES];

/// Places by whose they are. Only those who have some are in it.
#[derive(Debug)]
struct Census<K> {
    stripes: Arc<Stripes<K>>,
    hasher: RandomState,
    places_max: u32,
}

impl<K: Clone + Eq + Hash> Census<K> {
    fn new(places_max: u32) -> Option<Self> {
        let stripes = || Arc::new(std::array::from_fn(|_| Mutex::default()));
        (places_max > 0).then(|| Self { stripes: stripes(), hasher: RandomState::new(), places_max })
    }

    fn stripe_of(&self, of: &K) -> usize {
        self.hasher.hash_one(of) as usize % STRIPES
    }

    /// Whether there is a place for one more.
    fn has_room(&self, of: &K) -> bool {
        let taken = open(&self.stripes[self.stripe_of(of)]).get(of).copied().unwrap_or(0);
        taken < self.places_max
    }

    /// Takes a place.
    fn enter(&self, of: K) -> Option<Ticket<K>> {
        let stripe = self.stripe_of(&of);
        let mut places = open(&self.stripes[stripe]);
        let taken = places.entry(of.clone()).or_insert(0);
        if *taken >= self.places_max {
            return None;
        }
        *taken += 1;
        drop(places);
        Some(Ticket { stripes: self.stripes.clone(), stripe, of })
    }

    fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| open(stripe).values().map(|&n| n as usize).sum::<usize>()).sum()
    }
}

fn open<K>(stripe: &Mutex<HashMap<K, u32>>) -> MutexGuard<'_, HashMap<K, u32>> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in a census, for as long as this lives.
struct Ticket<K: Clone + Eq + Hash> {
    stripes: Arc<Stripes<K>>,
    stripe: usize,
    of: K,
}

impl<K: Clone + Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = open(&self.stripes[self.stripe]).entry(self.of.clone()) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// What one connection holds.
#[derive(Default)]
pub(crate) struct Tickets {
    user: Option<Ticket<Box<str>>>,
    address: Option<Ticket<IpAddr>>,
}

impl Tickets {
    /// Nothing, if it holds none: most connections of most engines.
    fn kept(self) -> Option<Box<Self>> {
        (self.user.is_some() || self.address.is_some()).then(|| Box::new(self))
    }
}

/// Why somebody may not come in now.
struct Bar {
    status: u16,
    reason: RefuseReason,
    text: &'static str,
}

/// The server has its bounds: 503. This client has its own: 429.
const TOO_MANY_HANDSHAKES: Bar = Bar {
    status: 503,
    reason: RefuseReason::Handshakes,
    text: "Too many connections have not shaken hands yet (limits.handshakes_pending_max).\n",
};
const CONNECTS_TOO_FAST: Bar = Bar {
    status: 503,
    reason: RefuseReason::ConnectRate,
    text: "Clients connect faster than this server lets them in (limits.connect_rate).\n",
};
const NEGOTIATES_TOO_FAST: Bar = Bar {
    status: 503,
    reason: RefuseReason::NegotiateRate,
    text: "Clients negotiate faster than this server lets them (limits.negotiate_rate).\n",
};
const USER_HAS_ALL: Bar = Bar {
    status: 429,
    reason: RefuseReason::UserConnections,
    text: "This user has all the connections that a user may have (limits.connections_per_user_max).\n",
};
const ADDRESS_HAS_ALL: Bar = Bar {
    status: 429,
    reason: RefuseReason::AddressConnections,
    text: "This address has all the connections that an address may have (limits.connections_per_address_max).\n",
};

impl Shared {
    /// Connections that were let in and have not shaken hands yet, over all shards.
    fn handshakes_pending(&self) -> usize {
        self.counters.iter().map(|counters| counters.handshakes_pending.get() as usize).sum()
    }

    /// Sockets that are shaking hands in TLS, over all shards. Counted apart from the others, so that neither kind keeps
    /// the other out.
    pub(crate) fn tls_handshakes_pending(&self) -> usize {
        self.counters.iter().map(|counters| counters.tls_handshakes_pending.get() as usize).sum()
    }
}

impl Switchboard {
    /// The refusal of a negotiate that should not be made now. Who would be refused a place afterwards is told so
    /// already here: a page cannot see why its WebSocket was refused.
    pub(crate) fn hold_back(
        &mut self,
        socket: Slot,
        head: &RequestHead<'_>,
        user: Option<&str>,
        asker: &Asker,
    ) -> Option<Vec<u8>> {
        let bar = self.bar_to_negotiate(socket, head, user)?;
        Some(self.come_again(asker, bar.status, bar.reason, bar.text))
    }

    fn bar_to_negotiate(&self, socket: Slot, head: &RequestHead<'_>, user: Option<&str>) -> Option<Bar> {
        let admission = &self.shared.admission;
        if let Some((users, user)) = admission.users.as_ref().zip(user)
            && !users.has_room(&user.into())
        {
            return Some(USER_HAS_ALL);
        }
        if let Some((addresses, client)) = admission.addresses.as_ref().zip(self.client_address(socket, head))
            && !addresses.has_room(&client)
        {
            return Some(ADDRESS_HAS_ALL);
        }
        // Last: whoever is refused for another reason takes nothing from the others.
        let too_fast = admission.negotiates.as_ref().is_some_and(|bucket| !bucket.take(self.now_us));
        too_fast.then_some(NEGOTIATES_TOO_FAST)
    }

    /// Lets a connection in, or says why not.
    pub(crate) fn let_in(
        &mut self,
        socket: Slot,
        head: &RequestHead<'_>,
        user: Option<&str>,
        asker: &Asker,
    ) -> Result<Option<Box<Tickets>>, Vec<u8>> {
        let tickets = self.tickets(socket, head, user).map(Tickets::kept);
        tickets.map_err(|bar| self.come_again(asker, bar.status, bar.reason, bar.text))
    }

    fn tickets(&self, socket: Slot, head: &RequestHead<'_>, user: Option<&str>) -> Result<Tickets, Bar> {
        let pending_max = self.limits.handshakes_pending_max;
        if pending_max > 0 && self.shared.handshakes_pending() >= pending_max {
            return Err(TOO_MANY_HANDSHAKES);
        }
        let admission = &self.shared.admission;
        let mut tickets = Tickets::default();
        if let Some((users, user)) = admission.users.as_ref().zip(user) {
            tickets.user = Some(users.enter(user.into()).ok_or(USER_HAS_ALL)?);
        }
        if let Some((addresses, client)) = admission.addresses.as_ref().zip(self.client_address(socket, head)) {
            tickets.address = Some(addresses.enter(client).ok_or(ADDRESS_HAS_ALL)?);
        }
        match &admission.connects {
            Some(bucket) if !bucket.take(self.now_us) => Err(CONNECTS_TOO_FAST),
            _ => Ok(tickets),
        }
    }

    /// The connection in `slot` holds its places until it ends.
    pub(crate) fn keep_tickets(&mut self, slot: Slot, tickets: Option<Box<Tickets>>) {
        if let Some(tickets) = tickets {
            self.tickets.insert(slot, tickets);
        }
    }

    /// What counts as the client's address. `None` only where nobody wants to know.
    fn client_address(&self, socket: Slot, head: &RequestHead<'_>) -> Option<IpAddr> {
        let peer = *self.peers.get(&socket)?;
        let lines = head.header_all("x-forwarded-for");
        Some(address::household(address::client(peer, &self.limits.trusted_proxies, lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_gives_its_place_back_however_it_goes() {
        let census: Census<Box<str>> = Census::new(2).expect("a bound");
        let ann = || Box::from("ann");
        let first = census.enter(ann()).expect("a place");
        let second = census.enter(ann()).expect("a place");
        assert!(!census.has_room(&ann()) && census.enter(ann()).is_none());
        assert!(census.has_room(&"bob".into()));
        drop(first);
        assert!(census.has_room(&ann()));
        let moved = Tickets { user: Some(second), address: None };
        assert_eq!(census.len(), 1);
        drop(moved);
        assert_eq!(census.len(), 0);
        assert!(census.stripes.iter().all(|stripe| open(stripe).is_empty()), "nobody is remembered");
        assert!(Census::<Box<str>>::new(0).is_none());
    }

    #[test]
    fn threads_share_a_census() {
        let census: Census<u8> = Census::new(3).expect("a bound");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| drop(census.enter(7))));
            }
        });
        assert_eq!(census.len(), 0);
    }
}
