//! What a hub message looks like on its way out: a format, wrapped as the transport wants it, and compressed or not.

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
    /// JSON in WebSocket text messages, for clients with permessage-deflate: a message for many is compressed.
    JsonDeflated,
    /// MessagePack in WebSocket binary messages, for the same.
    MessagePackDeflated,
}

impl Variation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Variation; 7] = [
        Variation::JsonWebSocket,
        Variation::MessagePackWebSocket,
        Variation::JsonEvent,
        Variation::JsonPoll,
        Variation::MessagePackPoll,
        Variation::JsonDeflated,
        Variation::MessagePackDeflated,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// How messages of `format` are written for `transport`, uncompressed. `None`: events carry text only (spec 2.4).
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

    /// The same for a client with permessage-deflate, which is an extension of WebSockets: other transports stay what
    /// they are.
    pub fn deflated(self) -> Self {
        match self {
            Variation::JsonWebSocket => Variation::JsonDeflated,
            Variation::MessagePackWebSocket => Variation::MessagePackDeflated,
            other => other,
        }
    }

    /// Whether permessage-deflate was agreed.
    pub fn is_deflated(self) -> bool {
        matches!(self, Variation::JsonDeflated | Variation::MessagePackDeflated)
    }

    /// The same connection with messages of `format`. `None`: its transport cannot carry them.
    pub fn in_format(self, format: Format) -> Option<Self> {
        let plain = Variation::new(format, self.transport())?;
        Some(if self.is_deflated() { plain.deflated() } else { plain })
    }

    /// The hub's format.
    pub fn format(self) -> Format {
        match self {
            Variation::JsonWebSocket | Variation::JsonEvent | Variation::JsonPoll | Variation::JsonDeflated => {
                Format::Json
            }
            Variation::MessagePackWebSocket | Variation::MessagePackPoll | Variation::MessagePackDeflated => {
                Format::MessagePack
            }
        }
    }

    /// What carries it.
    pub fn transport(self) -> Transport {
        match self {
            Variation::JsonWebSocket
            | Variation::MessagePackWebSocket
            | Variation::JsonDeflated
            | Variation::MessagePackDeflated => Transport::WebSockets,
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
            let plain = Variation::new(variation.format(), variation.transport()).expect("there is one");
            assert_eq!(if variation.is_deflated() { plain.deflated() } else { plain }, variation);
            assert!(!plain.is_deflated() && variation.in_format(variation.format()) == Some(variation));
        }
        assert_eq!(Variation::JsonDeflated.in_format(Format::MessagePack), Some(Variation::MessagePackDeflated));
        assert_eq!(Variation::JsonEvent.in_format(Format::MessagePack), None);
        assert_eq!(Variation::JsonPoll.deflated(), Variation::JsonPoll);
        assert_eq!(Variation::from_u8(Variation::COUNT as u8), None);
        assert_eq!(Variation::new(Format::MessagePack, Transport::ServerSentEvents), None);
    }
}
