//! Speaking to clients from outside the engine's threads: commands into bounded mailboxes, never waiting.

use crate::conn::wire::Variation;
use crate::hub::asks::AskWish;
use crate::hub::directory::ConnRef;
use crate::hub::host::Answer;
use crate::hub::http::HttpAnswer;
use crate::hub::outgoing::Outgoing;
use crate::hub::registry::HubId;
use crate::hub::replies::Debt;
use crate::hub::route::{Audience, EXCLUDED_MAX};
use crate::hub::streams::StreamWish;
use crate::hub::switchboard::{Shared, Switchboard};
use crate::ids::ConnectionId;
use crossbeam_queue::{ArrayQueue, SegQueue};
use fanfare_protocol::hub::value::Value;
use fanfare_protocol::hub::{Format, Payload, PayloadError};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Why something was not published.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The shard's mailbox is full (`Limits::commands_max`): it is not keeping up.
    Full,
    /// There is no hub of that name.
    UnknownHub(String),
    /// Over `Limits::publish_bytes_max`.
    TooLarge {
        /// Bytes of the encoded message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More excluded connections than a message may have.
    TooManyExcluded {
        /// How many were given.
        given: usize,
    },
    /// The client method has no name: stock clients end a connection that says so.
    EmptyTarget,
    /// The arguments cannot be written in a format that somebody needs.
    BadPayload(PayloadError),
    /// The broadcast log is full (`Limits::log_bytes_max`): readers are too slow for what is published.
    LogFull,
    /// The engine has stopped.
    Stopped,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the engine is not keeping up: its mailbox is full (limits.commands_max)"),
            Self::UnknownHub(name) => write!(f, "there is no hub named `{name}`"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "the message has {bytes} bytes; {bytes_max} are allowed (limits.publish_bytes_max)")
            }
            Self::TooManyExcluded { given } => {
                write!(f, "{given} connections are excluded; {} are possible", crate::hub::route::EXCLUDED_MAX)
            }
            Self::EmptyTarget => f.write_str("the client method has no name"),
            Self::BadPayload(error) => write!(f, "the arguments cannot be encoded: {error}"),
            Self::LogFull => f.write_str("the broadcast log is full (limits.log_bytes_max)"),
            Self::Stopped => f.write_str("the engine has stopped"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Arguments that outlive the call.
#[derive(Debug)]
pub(crate) enum OwnedPayload {
    Values(Vec<Value>),
    Ready { json: Option<Box<[u8]>>, messagepack: Option<Box<[u8]>> },
}

impl OwnedPayload {
    pub(super) fn from_payload(payload: &Payload<'_>) -> Self {
        match *payload {
            Payload::Values(values) => Self::Values(values.to_vec()),
            Payload::Ready { json, messagepack } => {
                Self::Ready { json: json.map(Into::into), messagepack: messagepack.map(Into::into) }
            }
            Payload::Raw(arguments) if arguments.format() == Format::Json => {
                Self::Ready { json: Some(arguments.bytes().into()), messagepack: None }
            }
            Payload::Raw(arguments) => Self::Ready { json: None, messagepack: Some(arguments.bytes().into()) },
        }
    }

    pub(super) fn as_payload(&self) -> Payload<'_> {
        match self {
            Self::Values(values) => Payload::Values(values),
            Self::Ready { json, messagepack } => {
                Payload::Ready { json: json.as_deref(), messagepack: messagepack.as_deref() }
            }
        }
    }
}

/// Bytes that the arguments take at least, in the longer of the formats they are there in.
pub(super) fn payload_bytes(payload: &Payload<'_>) -> usize {
    match *payload {
        Payload::Values(_) => {
            let message = Outgoing::Invocation { target: "", arguments: payload };
            message.measure(Variation::JsonWebSocket).map_or(0, |measured| measured.body_bytes())
        }
        Payload::Ready { json, messagepack } => json.map_or(0, <[u8]>::len).max(messagepack.map_or(0, <[u8]>::len)),
        Payload::Raw(arguments) => arguments.bytes().len(),
    }
}

/// [`Audience`] that outlives the call.
#[derive(Clone, Debug)]
pub(crate) enum OwnedAudience {
    All,
    Group(Box<str>),
    User(Box<str>),
    Connection(ConnRef),
}

impl OwnedAudience {
    fn as_audience(&self) -> Audience<'_> {
        match self {
            Self::All => Audience::All,
            Self::Group(name) => Audience::Group(name),
            Self::User(id) => Audience::User(id),
            Self::Connection(connection) => Audience::Connection(*connection),
        }
    }
}

/// What somebody outside a shard's thread wants of it.
#[derive(Debug)]
pub struct Command {
    wish: Wish,
    /// Bytes of the publisher's that it holds; 0 for all but messages.
    payload_bytes: usize,
}

/// See [`Command`].
#[derive(Debug)]
pub(crate) enum Wish {
    Publish { hub: HubId, to: Vec<OwnedAudience>, except: Vec<ConnRef>, target: Box<str>, payload: OwnedPayload },
    Membership { who: ConnRef, group: Box<str>, join: bool },
    Close { who: ConnRef, allow_reconnect: bool },
    Reply { debt: Debt, answer: Answer },
    HttpReply { to: ConnRef, answer: HttpAnswer },
    Stream(StreamWish),
    ReadOn { who: ConnRef },
    Ask(AskWish),
    Drain { deadline_us_from_now: u64 },
    Stop,
}

impl Command {
    /// A wish that brings so many bytes of its sender's.
    pub(super) fn with_payload(wish: Wish, payload_bytes: usize) -> Self {
        Self { wish, payload_bytes }
    }

    pub(super) fn into_wish(self) -> Wish {
        self.wish
    }
}

impl From<Wish> for Command {
    fn from(wish: Wish) -> Self {
        Self { wish, payload_bytes: 0 }
    }
}

/// One shard's mailbox, and how to wake its owner.
pub struct Mailbox {
    queue: ArrayQueue<Command>,
    /// What was promised, so that none of it finds its queue full: answers (`Limits::deferred_max`), items and ends of
    /// streams (`EndpointOptions::streams_max`, `Limits::stream_items_max` each), client results
    /// (`Limits::client_results_max`).
    replies: SegQueue<Command>,
    /// Payload bytes in `queue`.
    bytes: AtomicUsize,
    /// How often something was asked for.
    taken: AtomicUsize,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    closed: AtomicBool,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("len", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Room for `commands_max`.
    pub(crate) fn new(commands_max: usize) -> Self {
        Self {
            queue: ArrayQueue::new(commands_max.max(1)),
            replies: SegQueue::new(),
            bytes: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            waker: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// How to wake the shard when it sleeps; set once, by the shard.
    pub(crate) fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let _ = self.waker.set(waker);
    }

    /// The shard has gone: nothing is taken any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.take().is_some() {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.replies.is_empty()
    }

    /// The next of either queue: answers first, but every fourth time a command, so that no stream, however fast it is
    /// fed, keeps out a publisher or an order to stop. Only the owner takes.
    pub(crate) fn take(&self) -> Option<Command> {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        if turn % 4 == 3 {
            self.take_command().or_else(|| self.replies.pop())
        } else {
            self.replies.pop().or_else(|| self.take_command())
        }
    }

    fn take_command(&self) -> Option<Command> {
        let command = self.queue.pop()?;
        self.bytes.fetch_sub(command.payload_bytes, Ordering::Relaxed);
        Some(command)
    }

    /// Takes a command in, or gives it back if as many, or as many bytes, wait already.
    fn put(&self, command: Command, bytes_max: usize) -> Result<(), Box<Command>> {
        let bytes = command.payload_bytes;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let over = before > 0 && before + bytes > bytes_max;
        let pushed = if over { Err(command) } else { self.queue.push(command) };
        pushed.map_err(|command| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            Box::new(command)
        })
    }
}

impl Shared {
    /// Puts a command into a shard's mailbox and wakes it if it sleeps.
    pub(crate) fn command(&self, shard: u8, command: Command) -> Result<(), PublishError> {
        self.command_or_back(shard, command).map_err(|(_, error)| error)
    }

    /// The same, for a command that is still of use where it is refused.
    pub(super) fn command_or_back(&self, shard: u8, command: Command) -> Result<(), (Box<Command>, PublishError)> {
        let mailbox = &self.mailboxes[shard as usize];
        if mailbox.closed.load(Ordering::SeqCst) {
            return Err((Box::new(command), PublishError::Stopped));
        }
        mailbox.put(command, self.limits.commands_bytes_max).map_err(|command| (command, PublishError::Full))?;
        if self.sleepers.must_wake(shard)
            && let Some(wake) = mailbox.waker.get()
        {
            wake();
        }
        Ok(())
    }

    /// Asks every shard to say goodbye to everybody, within `within_us`.
    pub(crate) fn command_drain(&self, within_us: u64) {
        self.draining.store(true, Ordering::SeqCst);
        self.command_all(|| Wish::Drain { deadline_us_from_now: within_us });
    }

    /// Asks every shard to stop now.
    pub(crate) fn command_stop(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.command_all(|| Wish::Stop);
    }

    fn command_all(&self, wish: impl Fn() -> Wish) {
        for shard in 0..self.mailboxes.len() as u8 {
            // A full mailbox empties within a turn or two; a closed one needs no telling.
            while let Err(PublishError::Full) = self.command(shard, wish().into()) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

/// What the shard's loop itself must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Drain { deadline_us: u64 },
    Stop,
}

impl Switchboard {
    /// Acts on one command; what concerns the loop itself is returned.
    pub(crate) fn handle_command(&mut self, command: Command) -> Option<Order> {
        match command.wish {
            Wish::Publish { hub, to, except, target, payload } => {
                let arguments = payload.as_payload();
                let message = Outgoing::Invocation { target: &target, arguments: &arguments };
                let published = match &to[..] {
                    [one] => self.publish(hub, &[one.as_audience()], &except, &message),
                    many => {
                        let to: Vec<Audience<'_>> = many.iter().map(OwnedAudience::as_audience).collect();
                        self.publish(hub, &to, &except, &message)
                    }
                };
                // The publisher has gone on long ago: all that can be done is to count.
                self.counters.publishes_failed_total.add(u64::from(published.is_err()));
            }
            Wish::Membership { who, group, join } => {
                let _ = self.change_membership(who, &group, join);
            }
            Wish::Close { who, allow_reconnect } => self.close_connection(who, allow_reconnect),
            Wish::Reply { debt, answer } => self.settle(debt, &answer),
            Wish::HttpReply { to, answer } => self.handle_http_reply(to, &answer),
            Wish::Stream(wish) => self.handle_stream_wish(wish),
            Wish::ReadOn { who } => {
                if let Some(slot) = self.resolve(who) {
                    self.unpause(slot);
                }
            }
            Wish::Ask(wish) => self.handle_ask_wish(wish),
            Wish::Drain { deadline_us_from_now } => {
                return Some(Order::Drain { deadline_us: self.now_us + deadline_us_from_now });
            }
            Wish::Stop => return Some(Order::Stop),
        }
        None
    }
}

impl Shared {
    /// Brings what was promised to a shard: an answer, the next item of a stream. `false`: it has stopped, and needs none.
    pub(crate) fn reply(&self, shard: u8, wish: Wish) -> bool {
        let mailbox = &self.mailboxes[shard as usize];
        if mailbox.closed.load(Ordering::SeqCst) {
            return false;
        }
        mailbox.replies.push(wish.into());
        if self.sleepers.must_wake(shard)
            && let Some(wake) = mailbox.waker.get()
        {
            wake();
        }
        true
    }
}

/// Speaks to clients from any thread. Cheap to clone; what one clone says to one target arrives in that order.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    shard: u8,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let shard = NEXT.fetch_add(1, Ordering::Relaxed) % shared.mailboxes.len() as u8;
        Self::on_shard(shared, shard)
    }

    pub(crate) fn on_shard(shared: Arc<Shared>, shard: u8) -> Self {
        Self { shared, shard }
    }

    fn target(&self, hub: &str, to: Vec<OwnedAudience>, except: &[&str]) -> PublishTarget<'_> {
        let mut except: Vec<ConnRef> = except.iter().filter_map(|id| self.find(id)).collect();
        except.sort_unstable();
        except.dedup();
        let hub = self.shared.hub(hub).ok_or_else(|| hub.to_owned());
        PublishTarget { publisher: self, hub, to, except }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn find(&self, id: &str) -> Option<ConnRef> {
        self.shared.directory.find(&ConnectionId::from_text(id)?.0)
    }

    /// Everybody in a hub.
    pub fn all(&self, hub: &str) -> PublishTarget<'_> {
        self.target(hub, vec![OwnedAudience::All], &[])
    }

    /// Everybody but these connections.
    pub fn all_except(&self, hub: &str, ids: &[&str]) -> PublishTarget<'_> {
        self.target(hub, vec![OwnedAudience::All], ids)
    }

    /// A group.
    pub fn group(&self, hub: &str, name: &str) -> PublishTarget<'_> {
        self.groups(hub, &[name])
    }

    /// These groups; a member of two gets two copies.
    pub fn groups(&self, hub: &str, names: &[&str]) -> PublishTarget<'_> {
        self.target(hub, names.iter().map(|&name| OwnedAudience::Group(name.into())).collect(), &[])
    }

    /// A group, but not these connections.
    pub fn group_except(&self, hub: &str, name: &str, ids: &[&str]) -> PublishTarget<'_> {
        self.target(hub, vec![OwnedAudience::Group(name.into())], ids)
    }

    /// All connections of a user.
    pub fn user(&self, hub: &str, id: &str) -> PublishTarget<'_> {
        self.users(hub, &[id])
    }

    /// All connections of these users.
    pub fn users(&self, hub: &str, ids: &[&str]) -> PublishTarget<'_> {
        self.target(hub, ids.iter().map(|&id| OwnedAudience::User(id.into())).collect(), &[])
    }

    /// One connection; nobody, if there is none of that id.
    pub fn connection(&self, hub: &str, id: &str) -> PublishTarget<'_> {
        self.connections(hub, &[id])
    }

    /// These connections.
    pub fn connections(&self, hub: &str, ids: &[&str]) -> PublishTarget<'_> {
        let found = ids.iter().filter_map(|id| self.find(id)).map(OwnedAudience::Connection).collect();
        self.target(hub, found, &[])
    }

    /// A connection joins a group. `Ok(false)`: there is none of that id.
    pub fn join(&self, connection_id: &str, group: &str) -> Result<bool, PublishError> {
        self.membership(connection_id, group, true)
    }

    /// A connection leaves a group. `Ok(false)`: there is none of that id.
    pub fn leave(&self, connection_id: &str, group: &str) -> Result<bool, PublishError> {
        self.membership(connection_id, group, false)
    }

    fn membership(&self, connection_id: &str, group: &str, join: bool) -> Result<bool, PublishError> {
        let Some(who) = self.find(connection_id) else { return Ok(false) };
        self.shared.command(self.shard, Wish::Membership { who, group: group.into(), join }.into()).map(|()| true)
    }

    /// Ends a connection in order. `Ok(false)`: there is none of that id.
    pub fn close(&self, connection_id: &str, allow_reconnect: bool) -> Result<bool, PublishError> {
        let Some(who) = self.find(connection_id) else { return Ok(false) };
        self.shared.command(self.shard, Wish::Close { who, allow_reconnect }.into()).map(|()| true)
    }

    /// Connections open in a hub; 0 for an unknown one.
    pub fn connection_count(&self, hub: &str) -> usize {
        self.shared.hub(hub).map_or(0, |hub| self.shared.interest.connections(hub.0))
    }

    /// Whether a connection of that id is there.
    pub fn is_connected(&self, connection_id: &str) -> bool {
        self.find(connection_id).is_some()
    }
}

/// Somebody to speak to.
#[derive(Debug)]
pub struct PublishTarget<'p> {
    publisher: &'p Publisher,
    hub: Result<HubId, String>,
    to: Vec<OwnedAudience>,
    except: Vec<ConnRef>,
}

impl PublishTarget<'_> {
    /// Calls the client method `target`. Never waits. Arguments are copied, unless they are encoded already.
    pub fn send(self, target: &str, arguments: &Payload<'_>) -> Result<(), PublishError> {
        if target.is_empty() {
            return Err(PublishError::EmptyTarget);
        }
        let hub = self.hub.map_err(PublishError::UnknownHub)?;
        if self.to.is_empty() {
            return Ok(());
        }
        if self.except.len() > EXCLUDED_MAX {
            return Err(PublishError::TooManyExcluded { given: self.except.len() });
        }
        let bytes_max = self.publisher.shared.limits.publish_bytes_max;
        let bytes = payload_bytes(arguments);
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        let payload = OwnedPayload::from_payload(arguments);
        let wish = Wish::Publish { hub, to: self.to, except: self.except, target: target.into(), payload };
        self.publisher.shared.command(self.publisher.shard, Command { wish, payload_bytes: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload_bytes: usize) -> Command {
        Command { wish: Wish::Stop, payload_bytes }
    }

    #[test]
    fn a_mailbox_is_bounded_in_bytes_and_gives_them_back() {
        let mailbox = Mailbox::new(8);
        mailbox.put(message(60), 100).expect("60 of 100");
        assert!(mailbox.put(message(41), 100).is_err(), "101 of 100");
        mailbox.put(message(40), 100).expect("100 of 100: a refusal takes no room");
        assert!(mailbox.put(message(1), 100).is_err());
        mailbox.put(Wish::Stop.into(), 100).expect("what holds no bytes is bounded by its number alone");
        while mailbox.take().is_some() {}
        assert_eq!(mailbox.bytes.load(Ordering::Relaxed), 0);
        mailbox.put(message(500), 100).expect("an empty mailbox takes one of any size");
    }

    #[test]
    fn a_mailbox_is_bounded_in_commands_but_answers_always_fit() {
        let mailbox = Mailbox::new(1);
        mailbox.put(message(5), 100).expect("room for one");
        assert!(mailbox.put(message(5), 100).is_err());
        (0..9).for_each(|_| mailbox.replies.push(Wish::Stop.into()));
        let taken: Vec<usize> = std::iter::from_fn(|| mailbox.take()).map(|command| command.payload_bytes).collect();
        assert_eq!(taken, [0, 0, 0, 5, 0, 0, 0, 0, 0, 0], "answers go first, and keep no command out");
        assert_eq!(mailbox.bytes.load(Ordering::Relaxed), 0);
        assert!(mailbox.is_empty());
    }
}
