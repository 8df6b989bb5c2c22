//! The way in for WebSockets with permessage-deflate: as [`super::inbound`], with a decompressor before it.
//!
//! A decompressor is the shard's, and sees whole messages only. Two bounds keep a client from buying much of the shard
//! with few bytes: `Limits::inflated_bytes_max` for one message, [`INFLATED_PER_TURN_MAX`] for what is taken in a turn.
//! There is none for the time it takes to inflate nothing: payloads made of unused tables take 0.1 us a byte, and of any
//! connection 2 KiB are read in a turn, so that is 0.2 ms, as much as some broadcasts of the same length.

use crate::conn::partial::{DeflatedInput, Partial};
use crate::conn::slots::{ColdFlags, Flags, State};
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use crate::limits::INFLATED_PER_TURN_MAX;
use fanfare_protocol::ws::decoder::Event;
use fanfare_protocol::ws::deflate::decoder::DeflateDecoder;
use fanfare_protocol::ws::deflate::inflater::Inflater;

impl Switchboard {
    /// Bytes have come, or there are unread ones.
    pub(crate) fn handle_deflated(&mut self, slot: Slot, bytes: &mut [u8]) {
        let mut partial = self.take_partial(slot);
        let mut input = partial.deflated.take().map_or_else(DeflatedInput::default, |input| *input);
        let mut unread = std::mem::take(&mut input.unread);
        let bytes = if unread.is_empty() {
            bytes
        } else {
            unread.extend_from_slice(bytes);
            &mut unread
        };
        let rest_len = self.inflate(slot, &mut partial, &mut input.decoder, bytes);
        let at = bytes.len() - rest_len;
        let rest = &mut bytes[at..];
        let ends = self.slots.hot(slot).state == State::Farewell;
        if ends {
            // From here on it is only the peer's close frame that matters.
            partial = Partial::default();
        } else if !rest.is_empty() {
            input.unread = rest.to_vec();
            self.slots.hot_mut(slot).flags.set(Flags::PAUSED);
        }
        partial.deflated = (!input.is_vacant()).then(|| Box::new(input));
        self.keep_partial(slot, partial);
        if ends {
            return self.linger(slot, rest);
        }
        self.want_unread(slot);
    }

    /// Takes messages off the front of `bytes`, as many as may be taken in a turn; returns how many bytes are left.
    fn inflate(&mut self, slot: Slot, partial: &mut Partial, decoder: &mut DeflateDecoder, bytes: &mut [u8]) -> usize {
        let message_bytes_max = self.endpoints[self.slots.hot(slot).endpoint as usize].message_bytes_max();
        let inflated_bytes_max = self.limits.inflated_bytes_max.max(message_bytes_max);
        let mut inflater = self.inflater.take().unwrap_or_else(|| Box::new(Inflater::new(inflated_bytes_max)));
        inflater.set_inflated_bytes_max(inflated_bytes_max);
        let mut frames = decoder.handle_bytes(&mut inflater, bytes);
        let mut taken = 0;
        while let Some(event) = frames.next_event() {
            if let Ok(Event::Data { payload, .. }) = &event {
                taken += payload.len();
            }
            if !self.take_event(slot, partial, event) || taken >= INFLATED_PER_TURN_MAX {
                break;
            }
        }
        let rest_len = frames.rest_len();
        self.inflater = Some(inflater);
        rest_len
    }

    /// Goes on with what was read and not taken in the last turn.
    pub(crate) fn read_unread(&mut self, slot: Slot) {
        self.slots.cold_mut(slot).flags.clear(ColdFlags::UNREAD_LISTED);
        match self.slots.hot(slot).state {
            State::Farewell => self.linger(slot, &mut []),
            // Whoever may not be read from may not be heard either: `unpause` comes back to this.
            _ if !self.may_be_read(slot) => {}
            _ => {
                self.handle_deflated(slot, &mut []);
                self.pause_if_it_owes_much(slot);
                self.unpause(slot);
            }
        }
    }

    /// Sees to it that what was read and not taken is looked at in the next turn. `false`: there is nothing.
    pub(crate) fn want_unread(&mut self, slot: Slot) -> bool {
        let partial = self.slots.partials.get(self.slots.hot(slot).partial);
        if !partial.is_some_and(Partial::has_unread) {
            return false;
        }
        let cold = self.slots.cold_mut(slot);
        if !cold.flags.has(ColdFlags::UNREAD_LISTED) {
            cold.flags.set(ColdFlags::UNREAD_LISTED);
            self.again.push(self.reference(slot));
        }
        true
    }

    /// After our farewell: whether the peer's is in what it sent. Inflates nothing.
    pub(crate) fn finds_goodbye(&mut self, slot: Slot, bytes: &mut [u8]) -> bool {
        let mut partial = self.take_partial(slot);
        let mut input = partial.deflated.take().unwrap_or_default();
        let mut unread = std::mem::take(&mut input.unread);
        let goodbye = input.decoder.pass_over(&mut unread) || input.decoder.pass_over(bytes);
        partial.deflated = (!input.is_vacant()).then_some(input);
        self.keep_partial(slot, partial);
        goodbye
    }
}
