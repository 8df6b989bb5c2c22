//! The oracle: who came, who joined what, who said what to whom, and whether what a client hears can be true.
//!
//! The hub's handler writes down what it is asked to do, in one order for the whole house (there is one thread). For
//! each message and client that gives two answers: whether the client *may* hear it, and whether it *must*, should
//! it hear anything later of the same publisher, or stay to the end. Within the publisher's shard both are the same;
//! for other shards a note is under way, so who comes or leaves meanwhile may or may not hear.
//!
//! Under a slow policy that drops, a client that has ever been behind may miss messages, but never the newest: of all, or
//! of each client method. Everybody else still hears everything.

use crate::simulation::filler::filler;
use crate::simulation::flows::Flows;
use fanfare_engine::{ReplyHandle, SlowPolicy};
use std::collections::{BTreeMap, BTreeSet};

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    All,
    Others,
    Group(String),
    RestOfGroup(String),
    User(String),
    One(u32),
    Except(u32),
}

impl Aim {
    /// The two arguments that name it on the wire.
    pub(crate) fn words(&self) -> (&'static str, String) {
        match self {
            Self::All => ("all", String::new()),
            Self::Others => ("others", String::new()),
            Self::Group(name) => ("group", name.clone()),
            Self::RestOfGroup(name) => ("rest", name.clone()),
            Self::User(name) => ("user", name.clone()),
            Self::One(client) => ("one", client.to_string()),
            Self::Except(client) => ("except", client.to_string()),
        }
    }

    pub(crate) fn from_words(kind: &str, name: &str) -> Self {
        let client = || name.parse().expect("the number of a client");
        match kind {
            "all" => Self::All,
            "others" => Self::Others,
            "group" => Self::Group(name.to_owned()),
            "rest" => Self::RestOfGroup(name.to_owned()),
            "user" => Self::User(name.to_owned()),
            "one" => Self::One(client()),
            "except" => Self::Except(client()),
            _ => panic!("no such aim: {kind}"),
        }
    }
}

/// What became of a message where it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Accepted: whoever it is for gets it.
    Accepted,
    /// Refused half-way (the log was full): somebody may have got it.
    Failed,
    /// Refused before anything happened.
    Refused,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    at: u64,
    aim: Aim,
    bytes: usize,
    verdict: Verdict,
}

/// A stay, in a hub or group: from when, and until when if it is over.
type Stay = (u64, Option<u64>);

fn includes(stay: &Stay, at: u64) -> bool {
    stay.0 < at && stay.1.is_none_or(|end| end > at)
}

#[derive(Debug)]
struct Member {
    id: String,
    user: String,
    stay: Stay,
    groups: BTreeMap<String, Vec<Stay>>,
}

/// Publishers that are not clients have these bits in their number.
pub(crate) const FLOOD: u32 = 1 << 20;
/// See [`FLOOD`].
pub(crate) const PACED: u32 = 1 << 21;
/// See [`FLOOD`].
pub(crate) const OUTSIDE: u32 = 1 << 22;

/// What a slow policy may keep from whom.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    pub(crate) policy: SlowPolicy,
    /// Messages come from one shard, in the order of the ledger: which is the newest is certain.
    pub(crate) in_order: bool,
    /// Clients that have been behind.
    pub(crate) behind: BTreeSet<u32>,
    /// Clients whose host was told that they have missed something.
    told: BTreeSet<u32>,
    /// What each client has heard of each publisher.
    heard: BTreeSet<(u32, u32, u64)>,
}

impl Losses {
    fn may_miss(&self, client: u32) -> bool {
        self.policy != SlowPolicy::Disconnect && self.behind.contains(&client)
    }

    /// The client method that a message calls.
    pub(crate) fn target(&self, serial: u64) -> &'static str {
        match self.policy {
            SlowPolicy::Disconnect => TARGETS[0],
            _ => TARGETS[(serial % TARGETS.len() as u64) as usize],
        }
    }
}

/// The methods that clients are called with.
const TARGETS: [&str; 3] = ["m", "n", "another"];

/// What has happened, and what was heard of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    clock: u64,
    shards: BTreeMap<u32, u8>,
    members: BTreeMap<u32, Member>,
    said: BTreeMap<(u32, u64), Said>,
    serials: BTreeMap<u32, u64>,
    /// Messages that a publisher has promised to say in the end.
    promised: BTreeMap<u32, u64>,
    /// The last message of each publisher that each client has heard.
    heard: BTreeMap<(u32, u32), u64>,
    /// What may be missing.
    pub(crate) losses: Losses,
    /// Answers that somebody owes.
    pub(crate) pending: Vec<(ReplyHandle, String)>,
    /// Streams and questions.
    pub(crate) flows: Flows,
    /// Messages heard, in all.
    pub(crate) heard_total: u64,
    /// Messages refused because the log was full.
    pub(crate) failed_total: u64,
}

impl Ledger {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    // -- what happens ---------------------------------------------------------------------------------------------

    pub(crate) fn connects(&mut self, client: u32, shard: u8) {
        self.shards.insert(client, shard);
    }

    pub(crate) fn comes(&mut self, client: u32, id: String, user: String) {
        let member = Member { id, user, stay: (self.now(), None), groups: BTreeMap::new() };
        assert!(self.members.insert(client, member).is_none(), "client {client} came twice");
    }

    pub(crate) fn goes(&mut self, client: u32) {
        self.flows.goes(client);
        let now = self.now();
        let member = self.members.get_mut(&client).expect("only who came can go");
        assert!(member.stay.1.is_none(), "client {client} went twice");
        member.stay.1 = Some(now);
        for stay in member.groups.values_mut().filter_map(|stays| stays.last_mut()) {
            stay.1.get_or_insert(now);
        }
    }

    pub(crate) fn joins(&mut self, client: u32, group: &str) {
        let now = self.now();
        let stays = self.members.get_mut(&client).expect("a member").groups.entry(group.to_owned()).or_default();
        if stays.last().is_none_or(|stay| stay.1.is_some()) {
            stays.push((now, None));
        }
    }

    pub(crate) fn leaves(&mut self, client: u32, group: &str) {
        let now = self.now();
        let stays = self.members.get_mut(&client).expect("a member").groups.get_mut(group);
        if let Some(stay) = stays.and_then(|stays| stays.last_mut()) {
            stay.1.get_or_insert(now);
        }
    }

    /// Somebody is about to publish.
    pub(crate) fn says(&mut self, publisher: u32, serial: u64, aim: Aim, bytes: usize) {
        let said = Said { at: self.now(), aim, bytes, verdict: Verdict::Accepted };
        assert!(self.said.insert((publisher, serial), said).is_none(), "{publisher} says {serial} twice");
    }

    /// What became of it.
    pub(crate) fn ruled(&mut self, publisher: u32, serial: u64, verdict: Verdict) {
        self.failed_total += u64::from(verdict != Verdict::Accepted);
        self.said.get_mut(&(publisher, serial)).expect("said before").verdict = verdict;
    }

    /// So many messages more will be said by `publisher`.
    pub(crate) fn promises(&mut self, publisher: u32, count: u64) {
        *self.promised.entry(publisher).or_default() += count;
    }

    pub(crate) fn next_serial(&mut self, publisher: u32) -> u64 {
        let serial = self.serials.entry(publisher).or_default();
        *serial += 1;
        *serial
    }

    /// The id of a client that is there; one that nobody has if it is not.
    pub(crate) fn id_of(&self, client: u32) -> String {
        let member = self.members.get(&client).filter(|member| member.stay.1.is_none());
        member.map_or_else(|| "nobody-has-this-id-ever".to_owned(), |member| member.id.clone())
    }

    /// How many feed and fetch streams outside the shards.
    pub(crate) fn outsiders(&self) -> (usize, usize) {
        (self.flows.producers.len(), self.flows.fetchers.len())
    }

    /// Whether a client is not there.
    pub(crate) fn is_gone(&self, client: u32) -> bool {
        self.members.get(&client).is_none_or(|member| member.stay.1.is_some())
    }

    pub(crate) fn verdict(&self, publisher: u32, serial: u64) -> Verdict {
        self.said[&(publisher, serial)].verdict
    }

    // -- what can be true -----------------------------------------------------------------------------------------

    /// Whether publisher and client live on the same shard, so that nothing is under way between them.
    fn is_local(&self, client: u32, publisher: u32) -> bool {
        let who = publisher & (FLOOD - 1);
        publisher & OUTSIDE == 0 && self.shards.get(&who) == self.shards.get(&client)
    }

    /// The stays that make `client` one of those the message is for.
    fn stays<'a>(&self, member: &'a Member, client: u32, publisher: u32, said: &Said) -> &'a [Stay] {
        let whole = std::slice::from_ref(&member.stay);
        let group = |name: &String| member.groups.get(name).map_or(&[][..], |stays| &stays[..]);
        let was_there = includes(&member.stay, said.at);
        match &said.aim {
            Aim::All => whole,
            Aim::Others if client != publisher => whole,
            Aim::Group(name) => group(name),
            Aim::RestOfGroup(name) if client != publisher => group(name),
            Aim::User(name) if member.user == *name => whole,
            Aim::One(one) if client == *one && was_there => whole,
            Aim::Except(one) if client != *one || !was_there => whole,
            _ => &[],
        }
    }

    fn may(&self, client: u32, publisher: u32, said: &Said) -> bool {
        let Some(member) = self.members.get(&client) else { return false };
        let stays = self.stays(member, client, publisher, said);
        let later = !self.is_local(client, publisher);
        said.verdict != Verdict::Refused
            && stays.iter().any(|stay| includes(stay, said.at) || (later && stay.0 > said.at))
    }

    fn must(&self, client: u32, publisher: u32, said: &Said) -> bool {
        let Some(member) = self.members.get(&client) else { return false };
        let in_group = matches!(said.aim, Aim::Group(_) | Aim::RestOfGroup(_));
        let under_way = in_group && !self.is_local(client, publisher);
        let stays = self.stays(member, client, publisher, said);
        let mut at_the_time = stays.iter().filter(|stay| includes(stay, said.at));
        said.verdict == Verdict::Accepted && at_the_time.any(|stay| !under_way || stay.1.is_none())
    }

    /// A message that `client` should have heard after the last one of `publisher` that it did hear, before `until`.
    fn missing(&self, client: u32, publisher: u32, until: u64) -> Option<u64> {
        let last = self.heard.get(&(client, publisher)).copied().unwrap_or(0);
        let after = self.said.range((publisher, last + 1)..(publisher, until.max(last + 1)));
        let mut musts = after.filter(|(_, said)| self.must(client, publisher, said));
        musts.next().map(|((_, serial), _)| *serial)
    }

    // -- what is heard --------------------------------------------------------------------------------------------

    /// A client hears a message: it exists, is for this client, is the next one for it, and every byte is right.
    pub(crate) fn hears(&mut self, client: u32, aim: &Aim, publisher: u32, serial: u64, text: &str) {
        let said = self.said.get(&(publisher, serial));
        let said = said.unwrap_or_else(|| panic!("client {client} hears {publisher}/{serial}, which nobody said"));
        assert_eq!(said.aim, *aim, "client {client} hears {publisher}/{serial} for somebody else");
        assert!(self.may(client, publisher, said), "client {client} hears {publisher}/{serial}, not for it: {said:?}");
        let last = self.heard.get(&(client, publisher)).copied().unwrap_or(0);
        assert!(serial > last, "client {client} hears {publisher}/{serial} after {last}");
        assert!(text == filler(publisher, serial, said.bytes), "client {client}: wrong bytes in {publisher}/{serial}");
        self.losses.heard.insert((client, publisher, serial));
        if let Some(gap) = self.missing(client, publisher, serial).filter(|_| !self.losses.may_miss(client)) {
            panic!("client {client} hears {publisher}/{serial} but not {gap}: {:?}", self.said[&(publisher, gap)]);
        }
        self.heard.insert((client, publisher), serial);
        self.heard_total += 1;
    }

    /// Everything that was said to `client` by `publisher` up to `serial` must have been heard by now.
    pub(crate) fn is_complete_up_to(&self, client: u32, publisher: u32, serial: u64) -> Result<(), String> {
        match self.missing(client, publisher, serial + 1) {
            Some(_) if self.losses.may_miss(client) => Ok(()),
            Some(gap) => {
                Err(format!("client {client} never hears {publisher}/{gap}: {:?}", self.said[&(publisher, gap)]))
            }
            None => Ok(()),
        }
    }

    /// A client of this number has missed something for the first time.
    pub(crate) fn falls_behind(&mut self, client: u32, policy: SlowPolicy) {
        assert_eq!(policy, self.losses.policy);
        assert!(self.losses.may_miss(client), "client {client} has missed something and was never behind");
        assert!(self.losses.told.insert(client), "client {client} falls behind for the first time, again");
    }

    /// Whatever the policy has dropped, the newest message was heard by now; with `KeepLatest`, the newest for each method.
    fn has_the_newest(&self, client: u32) -> Result<(), String> {
        if !self.losses.in_order || !self.losses.may_miss(client) {
            return Ok(());
        }
        let mut newest: BTreeMap<&str, (u64, u32, u64)> = BTreeMap::new();
        for (&(publisher, serial), said) in &self.said {
            let kind = match self.losses.policy {
                SlowPolicy::KeepLatest => self.losses.target(serial),
                _ => "",
            };
            let last = newest.entry(kind).or_default();
            if self.must(client, publisher, said) && said.at > last.0 {
                *last = (said.at, publisher, serial);
            }
        }
        let mut missing = newest
            .into_values()
            .filter(|&(at, publisher, serial)| at > 0 && !self.losses.heard.contains(&(client, publisher, serial)));
        match missing.next() {
            Some((_, publisher, serial)) => {
                Err(format!("client {client} never hears {publisher}/{serial}, the newest"))
            }
            None => Ok(()),
        }
    }

    /// Everything that was said to `client` must have been heard by now.
    pub(crate) fn is_complete(&self, client: u32) -> Result<(), String> {
        let paced = client | PACED;
        let (said, promised) = (self.serials.get(&paced), self.promised.get(&paced));
        if said != promised {
            return Err(format!("client {client} was promised {promised:?} messages at its pace and got {said:?}"));
        }
        self.flows.is_complete(client)?;
        self.has_the_newest(client)?;
        let mut publishers: Vec<u32> = self.said.keys().map(|(publisher, _)| *publisher).collect();
        publishers.dedup();
        publishers.into_iter().try_for_each(|publisher| self.is_complete_up_to(client, publisher, u64::MAX - 1))
    }
}
