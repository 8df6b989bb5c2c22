//! What a hub message looks like on its way out: a format, wrapped as the transport wants it.

use fanfare_protocol::hub::Format;
use fanfare_protocol::negotiate::Transport;
use std::array;
use std::ops::{Index, IndexMut};

/// One way to write a message. A message for many is written once in each variation that anybody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Variation {
    /// JSON in WebSocket text messages.
    #[default]
    JsonWebSocket,
    /// MessagePack in WebSocket binary messages.
    MessagePackWebSocket,
    /// JSON in server-sent events.
    JsonEvent,
    /// JSON as it is, for the body of an answered poll.
    JsonPoll,
    /// MessagePack as it is, for the body of an answered poll.
    MessagePackPoll,
}

impl Variation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Variation; 5] = [
        Variation::JsonWebSocket,
        Variation::MessagePackWebSocket,
        Variation::JsonEvent,
        Variation::JsonPoll,
        Variation::MessagePackPoll,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// How messages of `format` are written for `transport`. `None`: events carry text only (spec 2.4).
    pub fn new(format: Format, transport: Transport) -> Option<Self> {
        Some(match (format, transport) {
            (Format::Json, Transport::WebSockets) => Variation::JsonWebSocket,
            (Format::MessagePack, Transport::WebSockets) => Variation::MessagePackWebSocket,
            (Format::Json, Transport::ServerSentEvents) => Variation::JsonEvent,
            (Format::MessagePack, Transport::ServerSentEvents) => return None,
            (Format::Json, Transport::LongPolling) => Variation::JsonPoll,
            (Format::MessagePack, Transport::LongPolling) => Variation::MessagePackPoll,
        })
    }

    /// The hub's format.
    pub fn format(self) -> Format {
        match self {
            Variation::JsonWebSocket | Variation::JsonEvent | Variation::JsonPoll => Format::Json,
            Variation::MessagePackWebSocket | Variation::MessagePackPoll => Format::MessagePack,
        }
    }

    /// What carries it.
    pub fn transport(self) -> Transport {
        match self {
            Variation::JsonWebSocket | Variation::MessagePackWebSocket => Transport::WebSockets,
            Variation::JsonEvent => Transport::ServerSentEvents,
            Variation::JsonPoll | Variation::MessagePackPoll => Transport::LongPolling,
        }
    }

    /// The variation of this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Something for each variation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByVariation<T>(pub [T; Variation::COUNT]);

impl<T: Default> Default for ByVariation<T> {
    fn default() -> Self {
        Self(array::from_fn(|_| T::default()))
    }
}

impl<T> Index<Variation> for ByVariation<T> {
    type Output = T;
    fn index(&self, variation: Variation) -> &T {
        &self.0[variation as usize]
    }
}

impl<T> IndexMut<Variation> for ByVariation<T> {
    fn index_mut(&mut self, variation: Variation) -> &mut T {
        &mut self.0[variation as usize]
    }
}

impl<T> ByVariation<T> {
    /// Every variation with what there is for it.
    pub fn iter(&self) -> impl Iterator<Item = (Variation, &T)> {
        Variation::ALL.into_iter().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variations_are_formats_on_transports() {
        for (number, variation) in Variation::ALL.into_iter().enumerate() {
            assert_eq!(variation as usize, number);
            assert_eq!(Variation::from_u8(number as u8), Some(variation));
            assert_eq!(Variation::new(variation.format(), variation.transport()), Some(variation));
        }
        assert_eq!(Variation::from_u8(Variation::COUNT as u8), None);
        assert_eq!(Variation::new(Format::MessagePack, Transport::ServerSentEvents), None);
    }
}
