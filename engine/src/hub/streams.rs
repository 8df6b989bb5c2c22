//! Streams to clients (spec 6.5): a `StreamInvocation` is answered with items, and with one completion at the end.
//!
//! ```text
//!               item, item, ...                       end, fail, cancelled by the client
//! open_stream --------------------> open -------------------------------------------------> over
//!                                                     disconnect, dropped handle
//! ```
//!
//! A stream is known to its shard until it is over; afterwards nothing is sent under its id. Its producer holds a
//! [`StreamHandle`], on the shard or on any other thread. What threads send is bounded per stream: an item counts from
//! the moment it is sent until the client owes us little enough ([`StreamHandle::wait_for_room`]).

use crate::conn::wire::Variation;
use crate::event::CloseReason;
use crate::hub::context::Context;
use crate::hub::directory::ConnRef;
use crate::hub::host::{HandlerError, already_in_use};
use crate::hub::outgoing::Outgoing;
use crate::hub::publisher::Wish;
use crate::hub::switchboard::{Shared, Switchboard, TellError};
use crate::io::Slot;
use crate::limits::Limits;
use fanfare_protocol::hub::Item;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::raw::{Raw, RawOwned};
use fanfare_protocol::hub::value::Value;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// As much is under way as may be (`Limits::stream_items_max`, `Limits::outbox_soft_bytes`): the client takes it
    /// slower than it is produced. Wait ([`StreamHandle::wait_for_room`]), or leave the item out.
    Full,
    /// The stream is over: cancelled, the client has gone, the engine has stopped, or an item could not be encoded.
    Over,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the client takes the stream slower than it is produced (limits.stream_items_max)",
            Self::Over => "the stream is over",
        })
    }
}

impl std::error::Error for StreamError {}

/// Why nobody wants the rest of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The client has cancelled it.
    Cancelled,
    /// The client has gone.
    Disconnected,
}

/// What a producer runs when nobody wants the rest.
pub(crate) type Cancelled = Box<dyn FnOnce(&mut Context<'_>, StreamEnd) + Send>;

// -- how much is under way --------------------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Window {
    /// Items in the shard's mailbox.
    posted: usize,
    /// Those, and items that the client owes us reading.
    items: usize,
    bytes: usize,
    over: bool,
}

impl Window {
    fn is_full(&self, limits: &Limits) -> bool {
        self.items >= limits.stream_items_max || self.bytes >= limits.outbox_soft_bytes
    }
}

/// What the two ends of a stream share.
#[derive(Debug, Default)]
pub(crate) struct StreamFlow {
    window: Mutex<Window>,
    changed: Condvar,
}

impl StreamFlow {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for an item, if there is any: the last one may be of any size.
    fn reserve(&self, bytes: usize, limits: &Limits) -> Result<(), StreamError> {
        let mut window = self.window();
        if window.over {
            return Err(StreamError::Over);
        }
        if window.is_full(limits) {
            return Err(StreamError::Full);
        }
        window.posted += 1;
        window.items += 1;
        window.bytes += bytes;
        Ok(())
    }

    fn arrived(&self) {
        self.window().posted -= 1;
    }

    fn release(&self, items: usize, bytes: usize) {
        let mut window = self.window();
        window.items -= items;
        window.bytes -= bytes;
        drop(window);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.window().over = true;
        self.changed.notify_all();
    }
}

/// An item that outlives the call.
#[derive(Debug)]
pub(crate) enum OwnedItem {
    Value(Value),
    Raw(RawOwned),
}

impl OwnedItem {
    fn new(item: Item<'_>) -> Self {
        match item {
            Item::Value(value) => Self::Value(value.clone()),
            Item::Raw(raw) => Self::Raw(Raw::to_owned(&raw)),
        }
    }

    fn as_item(&self) -> Item<'_> {
        match self {
            Self::Value(value) => Item::Value(value),
            Self::Raw(raw) => Item::Raw(raw.as_raw()),
        }
    }
}

/// What the holder of a stream asks of its shard.
#[derive(Debug)]
pub(crate) struct StreamWish {
    to: ConnRef,
    serial: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Item { item: OwnedItem, bytes: usize, flow: Arc<StreamFlow> },
    End(Option<HandlerError>),
}

// -- the producer's end -----------------------------------------------------------------------------------------------

/// A stream that its client waits for, to be fed now or later, from any thread. Clones feed the same stream. When the
/// last of them is dropped before the end, the stream fails: no client waits for ever.
#[derive(Clone)]
pub struct StreamHandle(Arc<Producer>);

struct Producer {
    shared: Arc<Shared>,
    to: ConnRef,
    serial: u64,
    flow: Arc<StreamFlow>,
    ended: AtomicBool,
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle").field("to", &self.0.to).field("serial", &self.0.serial).finish_non_exhaustive()
    }
}

impl StreamHandle {
    /// Sends the next item, from any thread. Never waits; on a shard's thread [`Context::send_item`] is the shorter way.
    /// An item that cannot be written in the client's format fails the stream when it arrives.
    ///
    /// # Errors
    /// [`StreamError::Full`]: too much is under way, and the item was not taken. [`StreamError::Over`]: nobody wants it.
    pub fn send<'i>(&self, item: impl Into<Item<'i>>) -> Result<(), StreamError> {
        let item = item.into();
        let limits = &self.0.shared.limits;
        let measured = Outgoing::StreamItem { id: "", item }.measure(Variation::JsonWebSocket);
        let bytes = measured.map_or(0, |measured| measured.body_bytes());
        self.0.flow.reserve(bytes, limits)?;
        let item = OwnedItem::new(item);
        let taken = self.0.post(What::Item { item, bytes, flow: self.0.flow.clone() });
        if taken { Ok(()) } else { Err(StreamError::Over) }
    }

    /// Waits until [`Self::send`] would take another item, or the stream is over, or `timeout` has passed. `false`: it
    /// has passed. Not for shard threads, which must not block: there, [`Context::when_drained`].
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let limits = &self.0.shared.limits;
        let until = Instant::now() + timeout;
        let mut window = self.0.flow.window();
        while !window.over && window.is_full(limits) {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            let waited = self.0.flow.changed.wait_timeout(window, left);
            (window, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Whether nobody wants the rest: cancelled, or the client has gone.
    pub fn is_over(&self) -> bool {
        self.0.flow.window().over
    }

    /// Ends the stream, after everything that was sent.
    pub fn end(self) {
        self.0.finish(None);
    }

    /// Fails the stream, after everything that was sent, which stays valid (spec 6.5).
    pub fn fail(self, error: HandlerError) {
        self.0.finish(Some(error));
    }
}

impl Producer {
    fn finish(&self, error: Option<HandlerError>) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.post(What::End(error));
        }
    }

    fn post(&self, what: What) -> bool {
        self.shared.reply(self.to.shard(), Wish::Stream(StreamWish { to: self.to, serial: self.serial, what }))
    }

    /// Whether `board` may act on it at once: nothing that was sent before is still in a mailbox.
    fn is_at_hand(&self, board: &Switchboard) -> bool {
        self.to.shard() == board.shard && self.flow.window().posted == 0
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let text = "The stream was dropped before its end.";
        self.finish(Some(HandlerError::failed("InvalidOperationException", text)));
    }
}

impl Context<'_> {
    /// Answers a `StreamInvocation` with a stream. From here on only the handle answers, unless the call itself
    /// fails: an error that it returns is the answer. Streams do not count against `parallel_invocations_max` (spec 6.3).
    ///
    /// # Errors
    /// The call is no `StreamInvocation` (spec 6.4), or the connection has `EndpointOptions::streams_max` streams open.
    /// Return it as the answer.
    pub fn open_stream(&mut self) -> Result<StreamHandle, HandlerError> {
        let (id, target) = match self.calling() {
            Some(calling) if calling.streaming => (calling.id.unwrap_or_default(), calling.target),
            calling => {
                let target = calling.map_or("", |calling| calling.target);
                return Err(wrong_invocation("streaming", target, "non-streaming"));
            }
        };
        let uploads = self.taken().uploads;
        let (board, slot) = self.board();
        let opened = board.open_stream(slot, id, target, uploads)?;
        self.taken().stream = Some(opened.0.serial);
        Ok(opened)
    }

    /// Sends the next item of a stream of any connection. It goes out with the end of this turn, however much the client
    /// owes us reading: for a stream that is longer than an outbox go on in [`Context::when_drained`].
    ///
    /// # Errors
    /// See [`StreamError`]. An item that cannot be written in the client's format fails the stream. `Full` can only come
    /// to a stream of another shard, or one that was also fed from other threads.
    pub fn send_item<'i>(&mut self, stream: &StreamHandle, item: impl Into<Item<'i>>) -> Result<(), StreamError> {
        let (board, _) = self.board();
        if stream.0.is_at_hand(board) {
            board.send_item(stream.0.to, stream.0.serial, item.into())
        } else {
            stream.send(item)
        }
    }

    /// Ends a stream.
    pub fn end_stream(&mut self, stream: StreamHandle) {
        self.finish_stream(stream, None);
    }

    /// Fails a stream. Items sent before stay valid (spec 6.5).
    pub fn fail_stream(&mut self, stream: StreamHandle, error: HandlerError) {
        self.finish_stream(stream, Some(error));
    }

    fn finish_stream(&mut self, stream: StreamHandle, error: Option<HandlerError>) {
        let (board, _) = self.board();
        let StreamHandle(producer) = stream;
        if producer.is_at_hand(board) {
            producer.ended.store(true, Ordering::Relaxed);
            board.finish_stream(producer.to, producer.serial, error);
        } else {
            producer.finish(error);
        }
    }

    /// Runs `work` once, if the client cancels the stream or goes before its end. After a cancellation `work` may still
    /// speak to the client; the completion follows it. `false`: the stream is over already, or another shard's, and
    /// `work` was dropped. A stream that only waits for that is kept by moving a clone of its handle into `work`.
    pub fn on_cancel(
        &mut self,
        stream: &StreamHandle,
        work: impl FnOnce(&mut Context<'_>, StreamEnd) + Send + 'static,
    ) -> bool {
        let (board, _) = self.board();
        let found = board.streams.find(stream.0.to, stream.0.serial);
        found.map(|open| open.on_cancel = Some(Box::new(work))).is_some()
    }
}

// -- the shard's end --------------------------------------------------------------------------------------------------

struct OpenStream {
    id: Rc<str>,
    serial: u64,
    flow: Arc<StreamFlow>,
    on_cancel: Option<Cancelled>,
    /// Whose upload streams end with it, 0 for nobody's.
    uploads: u64,
    /// Items and bytes sent by threads that the client owes us reading.
    withheld: (usize, usize),
}

/// The open streams of a shard: nothing for connections that have none.
#[derive(Default)]
pub(crate) struct Streams {
    by_connection: HashMap<ConnRef, Vec<OpenStream>>,
    serial: u64,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("connections", &self.by_connection.len()).finish_non_exhaustive()
    }
}

impl Streams {
    /// All open ones.
    pub(crate) fn len(&self) -> usize {
        self.by_connection.values().map(Vec::len).sum()
    }

    fn of(&self, connection: ConnRef) -> &[OpenStream] {
        self.by_connection.get(&connection).map_or(&[], Vec::as_slice)
    }

    fn find(&mut self, connection: ConnRef, serial: u64) -> Option<&mut OpenStream> {
        self.by_connection.get_mut(&connection)?.iter_mut().find(|open| open.serial == serial)
    }

    fn take(&mut self, connection: ConnRef, which: impl Fn(&OpenStream) -> bool) -> Option<OpenStream> {
        let of = self.by_connection.get_mut(&connection)?;
        let taken = of.remove(of.iter().position(which)?);
        if of.is_empty() {
            self.by_connection.remove(&connection);
        }
        Some(taken)
    }

    /// Whether it is not over.
    pub(crate) fn is_open(&self, connection: ConnRef, serial: u64) -> bool {
        self.of(connection).iter().any(|open| open.serial == serial)
    }

    /// Whether a stream of that id is open.
    pub(crate) fn has(&self, connection: ConnRef, id: &str) -> bool {
        self.of(connection).iter().any(|open| *open.id == *id)
    }
}

impl Switchboard {
    /// What a client says about streams and results that this engine knows of (spec 6.5 to 6.7), at once, whatever else of
    /// that client runs or waits. `false`: it is for the host.
    pub(crate) fn handle_stream_message(&mut self, slot: Slot, message: &Message<'_>) -> bool {
        match message {
            Message::StreamItem { invocation_id, item } => self.handle_stream_item(slot, invocation_id, *item),
            Message::Completion { invocation_id, outcome } => {
                self.handle_stream_end(slot, invocation_id, outcome) || self.handle_result(slot, invocation_id, outcome)
            }
            Message::CancelInvocation { invocation_id } => self.cancel_stream(slot, invocation_id),
            Message::StreamInvocation { invocation_id, .. } => self.refuse_used_id(slot, invocation_id),
            _ => false,
        }
    }

    fn open_stream(&mut self, slot: Slot, id: &str, target: &str, uploads: u64) -> Result<StreamHandle, HandlerError> {
        let connection = self.reference(slot);
        if self.streams.has(connection, id) {
            return Err(already_in_use(id));
        }
        let streams_max = usize::from(self.options(slot).map_or(0, |options| options.streams_max));
        if self.streams.of(connection).len() >= streams_max {
            self.counters.streams_refused_total.add(1);
            let text =
                format!("'{target}' is one stream too many: {streams_max} of this connection are open (streams_max).");
            return Err(HandlerError::Hub(text));
        }
        self.streams.serial += 1;
        let serial = self.streams.serial;
        let flow = Arc::<StreamFlow>::default();
        let open = OpenStream { id: id.into(), serial, flow: flow.clone(), on_cancel: None, uploads, withheld: (0, 0) };
        self.streams.by_connection.entry(connection).or_default().push(open);
        self.counters.streams_open.add(1);
        let shared = self.shared.clone();
        Ok(StreamHandle(Arc::new(Producer { shared, to: connection, serial, flow, ended: AtomicBool::new(false) })))
    }

    /// A `StreamInvocation` under the id of a stream that is still open is refused (spec 6.4). Whether it was.
    fn refuse_used_id(&mut self, slot: Slot, id: &str) -> bool {
        let used = self.streams.has(self.reference(slot), id);
        if used {
            let text = already_in_use(id).to_string();
            self.tell_or_hang_up(slot, &Outgoing::Failure { id, error: &text });
        }
        used
    }

    fn send_item(&mut self, to: ConnRef, serial: u64, item: Item<'_>) -> Result<(), StreamError> {
        let Some(slot) = self.resolve(to) else { return Err(StreamError::Over) };
        let Some(id) = self.streams.find(to, serial).map(|open| open.id.clone()) else {
            return Err(StreamError::Over);
        };
        match self.tell(slot, &Outgoing::StreamItem { id: &id, item }) {
            Ok(()) => Ok(()),
            Err(TellError::Payload(error)) => {
                let error = HandlerError::failed("InvalidDataException", error.to_string());
                self.finish_stream(to, serial, Some(error));
                Err(StreamError::Over)
            }
            Err(TellError::LogFull) => {
                self.hang_up(slot, CloseReason::Overload);
                Err(StreamError::Over)
            }
        }
    }

    fn finish_stream(&mut self, to: ConnRef, serial: u64, error: Option<HandlerError>) {
        let Some(slot) = self.resolve(to) else { return };
        let Some(open) = self.streams.take(to, |open| open.serial == serial) else { return };
        self.complete_stream(slot, &open, error);
    }

    fn complete_stream(&mut self, slot: Slot, open: &OpenStream, error: Option<HandlerError>) {
        self.counters.streams_open.sub(1);
        open.flow.close();
        let detailed = self.options(slot).is_some_and(|options| options.detailed_errors);
        let text = error.map(|error| error.stream_text(detailed));
        let message = match &text {
            None => Outgoing::StreamEnd { id: &open.id },
            Some(error) => Outgoing::Failure { id: &open.id, error },
        };
        self.tell_or_hang_up(slot, &message);
        let connection = self.reference(slot);
        self.drop_uploads(connection, open.uploads);
    }

    /// Takes a stream off the table without a word. Whether it was there.
    pub(crate) fn forget_stream(&mut self, connection: ConnRef, serial: u64) -> bool {
        let open = self.streams.take(connection, |open| open.serial == serial);
        open.inspect(|open| {
            self.counters.streams_open.sub(1);
            open.flow.close();
        })
        .is_some()
    }

    /// The client does not want the rest (spec 6.5). `false`: no stream of its has that id.
    pub(crate) fn cancel_stream(&mut self, slot: Slot, id: &str) -> bool {
        let connection = self.reference(slot);
        let Some(mut open) = self.streams.take(connection, |open| *open.id == *id) else { return false };
        open.flow.close();
        if let Some(work) = open.on_cancel.take() {
            work(&mut Context::new(self, slot), StreamEnd::Cancelled);
        }
        if self.is_member(slot) {
            self.complete_stream(slot, &open, None);
        } else {
            // What was to be told has ended the connection.
            self.counters.streams_open.sub(1);
        }
        true
    }

    /// The client has gone: nobody wants the rest of its streams.
    pub(crate) fn cancel_streams(&mut self, slot: Slot) {
        let connection = self.reference(slot);
        for mut open in self.streams.by_connection.remove(&connection).unwrap_or_default() {
            self.counters.streams_open.sub(1);
            open.flow.close();
            if let Some(work) = open.on_cancel.take() {
                work(&mut Context::new(self, slot), StreamEnd::Disconnected);
            }
        }
    }

    /// What the holder of a stream has sent from elsewhere.
    pub(crate) fn handle_stream_wish(&mut self, wish: StreamWish) {
        let StreamWish { to, serial, what } = wish;
        match what {
            What::End(error) => self.finish_stream(to, serial, error),
            What::Item { item, bytes, flow } => {
                flow.arrived();
                if self.send_item(to, serial, item.as_item()).is_ok() {
                    self.withhold(to, serial, bytes);
                }
            }
        }
    }

    /// An item gives its room back at once, if the client owes us little; else when it owes nothing.
    fn withhold(&mut self, to: ConnRef, serial: u64, bytes: usize) {
        let Some(slot) = self.resolve(to) else { return };
        let owes_little = self.slots.hot(slot).owed_bytes as usize <= self.limits.outbox_soft_bytes;
        let Some(open) = self.streams.find(to, serial) else { return };
        if owes_little && open.withheld.0 == 0 {
            return open.flow.release(1, bytes);
        }
        open.withheld = (open.withheld.0 + 1, open.withheld.1 + bytes);
        let first = open.withheld.0 == 1;
        if first && self.run_when_drained(slot, Box::new(move |cx| cx.board().0.release_withheld(to, serial))).is_err()
        {
            // Too much waits already. The outbox has its own bounds.
            self.release_withheld(to, serial);
        }
    }

    fn release_withheld(&mut self, to: ConnRef, serial: u64) {
        if let Some(open) = self.streams.find(to, serial) {
            let (items, bytes) = std::mem::take(&mut open.withheld);
            open.flow.release(items, bytes);
        }
    }
}

/// The method and the call disagree about streaming (spec 6.4).
pub(crate) fn wrong_invocation(method: &str, target: &str, invocation: &str) -> HandlerError {
    let text = format!("The client attempted to invoke the {method} '{target}' method with a {invocation} invocation.");
    HandlerError::WrongStreaming(text)
}
