//! Streams from clients (spec 6.6): the arguments of an invocation that come item by item.
//!
//! A method takes each of them in one of two ways. A [`StreamReader`] is given every item as it comes, borrowed from
//! the received bytes. An [`UploadHandle`] lets somebody else fetch items at their own pace, also on another thread:
//! `EndpointOptions::stream_buffer_items` are kept for it, and with one more the connection is not read from until half
//! of them have been fetched. What was received by then is kept, and messages of other kinds in it are acted on.
//!
//! Streams end with their invocation. What comes for a stream that nobody reads is ignored.

use crate::conn::slots::Flags;
use crate::hub::context::Context;
use crate::hub::directory::ConnRef;
use crate::hub::host::{HandlerError, already_in_use};
use crate::hub::publisher::Wish;
use crate::hub::switchboard::{Shared, Switchboard};
use crate::io::Slot;
use fanfare_protocol::hub::error::BindError;
use fanfare_protocol::hub::message::Outcome;
use fanfare_protocol::hub::raw::{Raw, RawOwned};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Reads one stream of a client, on the connection's shard: it must not block.
pub trait StreamReader: Send + 'static {
    /// The next item, as it came. An error ends the stream: [`Self::end`] is then told that it could not be bound
    /// (spec 6.6). The connection lives on.
    fn item(&mut self, cx: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError>;

    /// The stream has ended; an error is the client's, as a [`HandlerError::Hub`]. Not called when the invocation has
    /// ended first, or the client has gone: then the reader is dropped.
    fn end(self: Box<Self>, cx: &mut Context<'_>, how: Result<(), HandlerError>);
}

/// A reader that folds the items into a state, and hands that over at the end.
struct Fold<S, F, D> {
    state: S,
    fold: F,
    done: D,
}

impl<S, F, D> StreamReader for Fold<S, F, D>
where
    S: Send + 'static,
    F: FnMut(&mut S, Raw<'_>) -> Result<(), BindError> + Send + 'static,
    D: FnOnce(&mut Context<'_>, Result<S, HandlerError>) + Send + 'static,
{
    fn item(&mut self, _: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError> {
        (self.fold)(&mut self.state, item)
    }

    fn end(self: Box<Self>, cx: &mut Context<'_>, how: Result<(), HandlerError>) {
        let Self { state, done, .. } = *self;
        done(cx, how.map(|()| state));
    }
}

// -- items that wait to be fetched ------------------------------------------------------------------------------------

/// What an [`UploadHandle`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Uploaded {
    /// The next item.
    Item(RawOwned),
    /// There are no more; an error is the client's, or says that the stream was dropped: its invocation has ended, or
    /// its client has gone.
    End(Result<(), HandlerError>),
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<RawOwned>,
    bytes: usize,
    end: Option<Result<(), HandlerError>>,
    /// The connection is not read from until some have been fetched.
    full: bool,
}

#[derive(Debug, Default)]
struct Buffer {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// How much may wait in one buffer before its connection is not read from.
#[derive(Clone, Copy, Debug)]
struct Room {
    items: usize,
    bytes: usize,
}

impl Buffer {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an item. `false`: there was no room for it, and the connection must not be read from.
    fn push(&self, item: RawOwned, room: Room) -> bool {
        let mut waiting = self.waiting();
        waiting.bytes += item.as_raw().bytes().len();
        waiting.items.push_back(item);
        waiting.full |= waiting.items.len() > room.items || waiting.bytes > room.bytes;
        let full = waiting.full;
        drop(waiting);
        self.changed.notify_all();
        !full
    }

    /// The next item or the end, and whether the connection may be read from again.
    fn pop(waiting: &mut Waiting, room: Room) -> (Option<Uploaded>, bool) {
        let Some(item) = waiting.items.pop_front() else { return (waiting.end.clone().map(Uploaded::End), false) };
        waiting.bytes -= item.as_raw().bytes().len();
        let short = waiting.items.len() <= room.items / 2 && waiting.bytes <= room.bytes / 2;
        let read_on = short && std::mem::take(&mut waiting.full);
        (Some(Uploaded::Item(item)), read_on)
    }

    fn end(&self, how: Result<(), HandlerError>) {
        self.waiting().end.get_or_insert(how);
        self.changed.notify_all();
    }

    /// Nobody will read it any more, or nobody may.
    fn drop_items(&self) {
        let mut waiting = self.waiting();
        let text = "The stream was dropped: its invocation has ended, or its client has gone.";
        waiting.items.clear();
        waiting.bytes = 0;
        waiting.full = false;
        waiting.end = Some(Err(HandlerError::failed("OperationCanceledException", text)));
        drop(waiting);
        self.changed.notify_all();
    }
}

/// One stream of a client, to be fetched item by item, from any thread.
pub struct UploadHandle {
    shared: Arc<Shared>,
    from: ConnRef,
    buffer: Arc<Buffer>,
    room: Room,
}

impl fmt::Debug for UploadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadHandle").field("from", &self.from).finish_non_exhaustive()
    }
}

impl UploadHandle {
    /// The next item or the end; `None`: it has not come yet. Never waits.
    pub fn try_next(&self) -> Option<Uploaded> {
        let (next, read_on) = Buffer::pop(&mut self.buffer.waiting(), self.room);
        if read_on {
            self.read_on();
        }
        next
    }

    /// The same, after waiting for it, at most for `timeout`. Not for shard threads, which must not block.
    pub fn next(&self, timeout: Duration) -> Option<Uploaded> {
        let until = Instant::now() + timeout;
        let mut waiting = self.buffer.waiting();
        while waiting.items.is_empty() && waiting.end.is_none() {
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            (waiting, _) = self.buffer.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        }
        let (next, read_on) = Buffer::pop(&mut waiting, self.room);
        drop(waiting);
        if read_on {
            self.read_on();
        }
        next
    }

    /// Items that wait to be fetched.
    pub fn len(&self) -> usize {
        self.buffer.waiting().items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read_on(&self) {
        self.shared.reply(self.from.shard(), Wish::ReadOn { who: self.from });
    }
}

impl Drop for UploadHandle {
    fn drop(&mut self) {
        // Nobody will fetch the rest: it must not hold up the connection.
        let full = self.buffer.waiting().full;
        self.buffer.drop_items();
        if full {
            self.read_on();
        }
    }
}

// -- what a method does -----------------------------------------------------------------------------------------------

impl Context<'_> {
    /// Gives the client's stream `index` of this invocation (in the order of its ids) to `reader`. Put the answer off
    /// first (`defer`, `open_stream`): streams end with their invocation.
    ///
    /// # Errors
    /// The client sent no such stream, its id is in use, or the connection has `EndpointOptions::upload_streams_max`
    /// already. Return it as the answer.
    pub fn read_stream(&mut self, index: usize, reader: impl StreamReader) -> Result<(), HandlerError> {
        self.take_upload(index, Sink::Reader(Some(Box::new(reader))))
    }

    /// Folds the items of stream `index` into `state`, and hands that to `done` when the stream has ended.
    ///
    /// # Errors
    /// As of [`Context::read_stream`].
    pub fn fold_stream<S: Send + 'static>(
        &mut self,
        index: usize,
        state: S,
        fold: impl FnMut(&mut S, Raw<'_>) -> Result<(), BindError> + Send + 'static,
        done: impl FnOnce(&mut Context<'_>, Result<S, HandlerError>) + Send + 'static,
    ) -> Result<(), HandlerError> {
        self.read_stream(index, Fold { state, fold, done })
    }

    /// Keeps the items of stream `index` until they are fetched from the handle.
    ///
    /// # Errors
    /// As of [`Context::read_stream`].
    pub fn take_stream(&mut self, index: usize) -> Result<UploadHandle, HandlerError> {
        let buffer = Arc::<Buffer>::default();
        self.take_upload(index, Sink::Buffer(buffer.clone()))?;
        let from = self.reference();
        let (board, slot) = self.board();
        Ok(UploadHandle { shared: board.shared.clone(), from, buffer, room: board.upload_room(slot) })
    }

    fn take_upload(&mut self, index: usize, sink: Sink) -> Result<(), HandlerError> {
        let ids = self.calling().map(|calling| calling.stream_ids);
        let given = ids.map_or(0, |ids| ids.len());
        let id = ids.and_then(|ids| ids.iter().nth(index));
        let id = id.ok_or_else(|| HandlerError::stream_count(given, index + 1))?;
        let call = self.taken().uploads;
        let (board, slot) = self.board();
        board.take_upload(slot, Upload { id: id.into(), call, sink })
    }
}

// -- the shard's tables -----------------------------------------------------------------------------------------------

/// It keeps its place until its invocation has ended, so that the places bound what a client can have waiting.
struct Upload {
    /// Empty once the client has ended it.
    id: Box<str>,
    /// The invocation that it ends with.
    call: u64,
    sink: Sink,
}

enum Sink {
    /// `None` while it is being called, and after its end.
    Reader(Option<Box<dyn StreamReader>>),
    Buffer(Arc<Buffer>),
}

/// The streams of clients that somebody reads: nothing for connections that have none.
#[derive(Default)]
pub(crate) struct Uploads {
    by_connection: HashMap<ConnRef, Vec<Upload>>,
    calls: u64,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("connections", &self.by_connection.len()).finish_non_exhaustive()
    }
}

impl Uploads {
    /// All that are open.
    pub(crate) fn len(&self) -> usize {
        self.by_connection.values().map(Vec::len).sum()
    }

    /// A name for an invocation that has streams.
    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// The one of that id that the client has not ended. (Ids on the wire are never empty.)
    fn find(&mut self, connection: ConnRef, id: &str) -> Option<&mut Upload> {
        self.by_connection.get_mut(&connection)?.iter_mut().find(|upload| *upload.id == *id)
    }

    /// Whether items of the connection wait to be fetched, more than may.
    fn hold_back(&self, connection: ConnRef) -> bool {
        let of = self.by_connection.get(&connection).map_or(&[][..], Vec::as_slice);
        of.iter().any(|upload| matches!(&upload.sink, Sink::Buffer(buffer) if buffer.waiting().full))
    }
}

impl Switchboard {
    fn upload_room(&self, slot: Slot) -> Room {
        let items = self.options(slot).map_or(1, |options| options.stream_buffer_items.max(1));
        Room { items: usize::from(items), bytes: self.limits.held_bytes_max }
    }

    fn take_upload(&mut self, slot: Slot, upload: Upload) -> Result<(), HandlerError> {
        let connection = self.reference(slot);
        let uploads_max = usize::from(self.options(slot).map_or(0, |options| options.upload_streams_max));
        if self.uploads.find(connection, &upload.id).is_some() {
            return Err(already_in_use(&upload.id));
        }
        let of = self.uploads.by_connection.entry(connection).or_default();
        if of.len() >= uploads_max {
            self.counters.streams_refused_total.add(1);
            if of.is_empty() {
                self.uploads.by_connection.remove(&connection);
            }
            let text = format!("One stream too many: {uploads_max} of this connection are open (upload_streams_max).");
            return Err(HandlerError::Hub(text));
        }
        of.push(upload);
        self.counters.upload_streams_open.add(1);
        Ok(())
    }

    /// Whether the connection must not be read from until its items have been fetched.
    pub(crate) fn uploads_hold_back(&self, slot: Slot) -> bool {
        self.uploads.hold_back(self.reference(slot))
    }

    /// An item of a stream of the client's. `false`: nobody reads a stream of that id.
    pub(crate) fn handle_stream_item(&mut self, slot: Slot, id: &str, item: Raw<'_>) -> bool {
        let connection = self.reference(slot);
        let room = self.upload_room(slot);
        let Some(upload) = self.uploads.find(connection, id) else { return false };
        let call = upload.call;
        let mut reader = match &mut upload.sink {
            Sink::Buffer(buffer) => {
                if !buffer.push(item.to_owned(), room) {
                    self.slots.hot_mut(slot).flags.set(Flags::PAUSED);
                }
                return true;
            }
            Sink::Reader(place) => match place.take() {
                Some(reader) => reader,
                None => return true,
            },
        };
        let bound = reader.item(&mut Context::new(self, slot), item);
        // It may have ended its own invocation meanwhile.
        match self.uploads.find(connection, id).filter(|upload| upload.call == call) {
            None => {}
            Some(upload) if bound.is_ok() => upload.sink = Sink::Reader(Some(reader)),
            Some(upload) => {
                upload.id = "".into();
                reader.end(&mut Context::new(self, slot), Err(HandlerError::stream_item()));
            }
        }
        true
    }

    /// The client's stream has ended. `false`: nobody reads a stream of that id.
    pub(crate) fn handle_stream_end(&mut self, slot: Slot, id: &str, outcome: &Outcome<'_>) -> bool {
        let connection = self.reference(slot);
        let Some(upload) = self.uploads.find(connection, id) else { return false };
        let how = match outcome {
            Outcome::Error(text) => Err(HandlerError::Hub(text.clone().into_owned())),
            Outcome::Void | Outcome::Result(_) => Ok(()),
        };
        upload.id = "".into();
        match &mut upload.sink {
            Sink::Buffer(buffer) => buffer.end(how),
            Sink::Reader(reader) => {
                if let Some(reader) = reader.take() {
                    reader.end(&mut Context::new(self, slot), how);
                }
            }
        }
        true
    }

    /// An invocation has ended, and its streams with it (spec 6.6).
    pub(crate) fn drop_uploads(&mut self, connection: ConnRef, call: u64) {
        if call == 0 {
            return;
        }
        let Some(of) = self.uploads.by_connection.get_mut(&connection) else { return };
        let dropped: Vec<Upload> = of.extract_if(.., |upload| upload.call == call).collect();
        if of.is_empty() {
            self.uploads.by_connection.remove(&connection);
        }
        self.dropped(&dropped);
        if !dropped.is_empty() {
            // They may have kept the connection from being read.
            self.unheld.push(connection);
        }
    }

    /// The client has gone, and its streams with it.
    pub(crate) fn drop_all_uploads(&mut self, slot: Slot) {
        let connection = self.reference(slot);
        let dropped = self.uploads.by_connection.remove(&connection).unwrap_or_default();
        self.dropped(&dropped);
    }

    fn dropped(&self, uploads: &[Upload]) {
        self.counters.upload_streams_open.sub(uploads.len() as u64);
        for upload in uploads {
            if let Sink::Buffer(buffer) = &upload.sink {
                buffer.drop_items();
            }
        }
    }
}
