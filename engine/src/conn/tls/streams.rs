//! All TLS streams of a shard: who shakes hands now, who waits for a turn, and the buffers they share.

use super::{Read, TlsSetup, TlsStream};
use crate::io::{Generation, Slot};
use crate::limits::TLS_HANDSHAKE_STEPS_PER_TURN;
use std::collections::VecDeque;

/// Plaintext that the shard's buffer keeps room for between turns.
const PLAIN_KEPT_BYTES_MAX: usize = 32 << 10;

/// All streams of a shard, by slot. Nothing is kept where no listener speaks TLS.
#[derive(Debug, Default)]
pub struct TlsStreams {
    setup: Option<TlsSetup>,
    streams: Vec<Option<Box<TlsStream>>>,
    count: usize,
    /// Of them those whose handshake has neither ended nor failed.
    handshaking: usize,
    /// Heap bytes of what they have received and not understood.
    inbound_bytes: usize,
    /// Handshakes that came after as many as there may be in a turn.
    waiting: VecDeque<(Slot, Generation)>,
    steps_left: usize,
    /// What was decrypted last. The shard's, empty between reads.
    plain: Vec<u8>,
    /// Where runs that do not lie together are put together for a record.
    scratch: Vec<u8>,
}

impl TlsStreams {
    /// Nobody yet.
    pub fn new(setup: Option<TlsSetup>) -> Self {
        Self { setup, steps_left: TLS_HANDSHAKE_STEPS_PER_TURN, ..Self::default() }
    }

    /// Streams.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Streams that are shaking hands, or have not begun to.
    pub fn handshaking(&self) -> usize {
        self.handshaking
    }

    /// Heap bytes of records that have come in part, or wait for their handshake's turn.
    pub fn inbound_bytes(&self) -> usize {
        self.inbound_bytes
    }

    /// Works on a stream, and keeps the books about it.
    fn change<T>(&mut self, slot: Slot, work: impl FnOnce(&mut TlsStream) -> T) -> Option<T> {
        let stream = self.streams.get_mut(slot.0 as usize)?.as_deref_mut()?;
        self.handshaking -= usize::from(stream.is_handshaking());
        self.inbound_bytes -= stream.inbound.capacity();
        let result = work(stream);
        self.handshaking += usize::from(stream.is_handshaking());
        self.inbound_bytes += stream.inbound.capacity();
        Some(result)
    }

    /// Keeps bytes of a handshake for its turn. `false`: there are too many.
    #[must_use]
    pub fn keep(&mut self, slot: Slot, bytes: &[u8]) -> bool {
        self.change(slot, |stream| stream.keep(bytes)).unwrap_or(true)
    }

    /// Takes what has come, in place where that is possible; appends what it says to `plain`.
    pub fn read(&mut self, slot: Slot, bytes: &mut [u8], plain: &mut Vec<u8>) -> Option<Read> {
        self.change(slot, |stream| stream.read(bytes, plain))
    }

    /// The handshake has failed: only what is in the rest will still be said.
    pub fn fail(&mut self, slot: Slot) {
        self.change(slot, TlsStream::fail);
    }

    /// Heap bytes of what one socket has sent and has not been understood.
    pub fn inbound_bytes_of(&self, slot: Slot) -> usize {
        self.get(slot).map_or(0, |stream| stream.inbound.capacity())
    }

    /// Whether the socket speaks TLS.
    #[inline]
    pub fn has(&self, slot: Slot) -> bool {
        self.get(slot).is_some()
    }

    /// Its stream, if it speaks TLS.
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&TlsStream> {
        // No socket's slot is as high as a session's.
        self.streams.get(slot.0 as usize)?.as_deref()
    }

    /// The same, to send with.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut TlsStream> {
        self.streams.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    /// The stream together with the room to put runs together.
    pub fn with_scratch(&mut self, slot: Slot) -> Option<(&mut TlsStream, &mut Vec<u8>)> {
        Some((self.streams.get_mut(slot.0 as usize)?.as_deref_mut()?, &mut self.scratch))
    }

    /// A socket was accepted. Whether its listener speaks TLS: then so does the socket.
    pub fn begin(&mut self, slot: Slot, listener: u8) -> bool {
        let Some(setup) = self.setup.as_ref().filter(|setup| setup.listeners >> listener & 1 == 1) else {
            return false;
        };
        let stream = Box::new(TlsStream::new(setup.config.clone()));
        self.put(slot, stream);
        true
    }

    /// A stream comes with its socket.
    pub fn put(&mut self, slot: Slot, stream: Box<TlsStream>) {
        let index = slot.0 as usize;
        if self.streams.len() <= index {
            self.streams.resize_with(index + 1, || None);
        }
        debug_assert!(self.streams[index].is_none());
        self.count += 1;
        self.handshaking += usize::from(stream.is_handshaking());
        self.inbound_bytes += stream.inbound.capacity();
        self.streams[index] = Some(stream);
    }

    /// Takes the stream away: its socket goes.
    pub fn take(&mut self, slot: Slot) -> Option<Box<TlsStream>> {
        let stream = self.streams.get_mut(slot.0 as usize)?.take()?;
        self.count -= 1;
        self.handshaking -= usize::from(stream.is_handshaking());
        self.inbound_bytes -= stream.inbound.capacity();
        Some(stream)
    }

    /// Whether the socket has, as far as TLS knows, nothing more to send.
    pub fn is_quiet(&self, slot: Slot) -> bool {
        self.get(slot).is_none_or(|stream| stream.rest().is_empty() && !stream.owes_goodbye())
    }

    /// Whether the socket's peer should be told that nothing more comes.
    pub fn owes_goodbye(&self, slot: Slot) -> bool {
        self.get(slot).is_some_and(TlsStream::owes_goodbye)
    }

    /// Whether the socket is in a handshake of TLS.
    pub fn is_handshaking(&self, slot: Slot) -> bool {
        self.get(slot).is_some_and(TlsStream::is_handshaking)
    }

    /// Whether records wait to be taken by the socket.
    pub fn has_rest(&self, slot: Slot) -> bool {
        self.get(slot).is_some_and(|stream| !stream.rest().is_empty())
    }

    // -- handshakes in turn ---------------------------------------------------------------------------------------

    /// A new turn: so many steps of handshakes may be made.
    pub fn begin_turn(&mut self) {
        self.steps_left = TLS_HANDSHAKE_STEPS_PER_TURN;
    }

    /// Handshakes that wait for a turn.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a step may be made at once. Those that wait come first.
    pub fn may_step(&mut self) -> bool {
        let may = self.steps_left > 0 && self.waiting.is_empty();
        self.steps_left -= usize::from(may);
        may
    }

    /// The next that waited and may make its step now.
    pub fn next_waiting(&mut self) -> Option<(Slot, Generation)> {
        if self.steps_left == 0 {
            return None;
        }
        loop {
            let (slot, generation) = self.waiting.pop_front()?;
            // The connection may have gone, and its slot have another tenant.
            let stream = self.get_mut(slot).filter(|stream| stream.listed == Some(generation));
            if let Some(stream) = stream {
                stream.listed = None;
                self.steps_left -= 1;
                return Some((slot, generation));
            }
        }
    }

    /// Puts a handshake on the list of those that wait.
    pub fn wait(&mut self, slot: Slot, generation: Generation) {
        if let Some(stream) = self.get_mut(slot)
            && stream.listed.replace(generation).is_none()
        {
            self.waiting.push_back((slot, generation));
        }
    }

    // -- the shard's buffer ---------------------------------------------------------------------------------------

    /// The buffer for what is decrypted, to be given back with [`Self::give_plain`].
    pub fn take_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// Gives it back.
    pub fn give_plain(&mut self, mut plain: Vec<u8>) {
        plain.clear();
        if plain.capacity() <= PLAIN_KEPT_BYTES_MAX {
            self.plain = plain;
        }
    }
}
