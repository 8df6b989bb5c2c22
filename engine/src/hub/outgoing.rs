//! What we say to a client, before it has a format. None of it is compressed here.

use crate::conn::wire::Variation;
use fanfare_protocol::cursor::{Count, Sink};
use fanfare_protocol::hub::error::PayloadError;
use fanfare_protocol::hub::raw::Raw;
use fanfare_protocol::hub::value::Value;
use fanfare_protocol::hub::{Format, Item, Payload, encode as hub_encode};
use fanfare_protocol::negotiate::Transport;
use fanfare_protocol::sse::EventWriter;
use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::{self, MessageWriter};

/// How long a message is in one variation: found out by writing it to nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    variation: Variation,
    body_bytes: usize,
    bytes: usize,
}

impl Measured {
    /// Bytes before the WebSocket's frame heads are added.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Bytes that [`Self::write`] will write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The variation.
    pub fn variation(&self) -> Variation {
        self.variation
    }

    /// Writes the message that was measured, not wrapped at all.
    pub fn write_body<S: Sink>(&self, message: &Outgoing<'_>, sink: &mut S) {
        // Measuring has shown that this message can be written.
        let _ = message.write(self.variation.format(), sink);
    }

    /// Writes the message that was measured, uncompressed, wrapped as its transport wants it.
    pub fn write<S: Sink>(&self, message: &Outgoing<'_>, sink: &mut S) {
        let format = self.variation.format();
        // Measuring has shown that this message can be written.
        match self.variation.transport() {
            Transport::WebSockets => {
                let _ = message.write(format, &mut MessageWriter::new(sink, data_kind(format), self.body_bytes));
            }
            Transport::ServerSentEvents => {
                let mut event = EventWriter::new(sink);
                let _ = message.write(format, &mut event);
                event.finish();
            }
            Transport::LongPolling => drop(message.write(format, sink)),
        }
    }
}

/// One message of bytes that are encoded already, wrapped as its transport wants it.
pub fn wrap(variation: Variation, body: &[u8]) -> Vec<u8> {
    let mut wrapped = Vec::with_capacity(body.len() + 16);
    match variation.transport() {
        Transport::WebSockets => {
            let kind = data_kind(variation.format());
            MessageWriter::new(&mut wrapped, kind, body.len()).put(body);
        }
        Transport::ServerSentEvents => {
            let mut event = EventWriter::new(&mut wrapped);
            event.put(body);
            event.finish();
        }
        Transport::LongPolling => wrapped.extend_from_slice(body),
    }
    wrapped
}

/// The frame type of a hub format (spec 2.3).
pub(crate) fn data_kind(format: Format) -> DataKind {
    match format {
        Format::Json => DataKind::Text,
        Format::MessagePack => DataKind::Binary,
    }
}

/// One hub message to a client.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// A call of a client method.
    Invocation {
        /// The client method.
        target: &'a str,
        /// Its arguments.
        arguments: &'a Payload<'a>,
    },
    /// A call of a client method that must be answered.
    Ask {
        /// Under which id.
        id: &'a str,
        /// The client method.
        target: &'a str,
        /// Its arguments.
        arguments: &'a Payload<'a>,
    },
    /// One item of a stream.
    StreamItem {
        /// The stream's invocation.
        id: &'a str,
        /// The item.
        item: Item<'a>,
    },
    /// A stream has ended, and has not failed.
    StreamEnd {
        /// The stream's invocation.
        id: &'a str,
    },
    /// A method without result is done.
    Void {
        /// The invocation.
        id: &'a str,
    },
    /// A method's result.
    Result {
        /// The invocation.
        id: &'a str,
        /// The result.
        value: &'a Value,
    },
    /// A method's result that exists in encoded form.
    RawResult {
        /// The invocation.
        id: &'a str,
        /// The result, in any format.
        value: Raw<'a>,
    },
    /// A method failed.
    Failure {
        /// The invocation.
        id: &'a str,
        /// What the client may know.
        error: &'a str,
    },
    /// Keep-alive.
    Ping,
    /// What we have acted on (stateful reconnect).
    Ack {
        /// The number of the client's last message.
        sequence_id: u64,
    },
    /// Where we go on (stateful reconnect).
    Sequence {
        /// The number of our next message.
        sequence_id: u64,
    },
    /// The end.
    Close {
        /// Why, if it was not in order.
        error: Option<&'a str>,
        /// The client may come back.
        allow_reconnect: bool,
    },
}

impl Outgoing<'_> {
    /// Writes the message in `format`, with its hub framing.
    pub fn write<S: Sink>(&self, format: Format, sink: &mut S) -> Result<(), PayloadError> {
        match *self {
            Outgoing::Invocation { target, arguments } => {
                hub_encode::invocation(format, sink, None, target, arguments)?;
            }
            Outgoing::Ask { id, target, arguments } => {
                hub_encode::invocation(format, sink, Some(id), target, arguments)?;
            }
            Outgoing::StreamItem { id, item } => hub_encode::stream_item(format, sink, id, item)?,
            Outgoing::StreamEnd { id } => hub_encode::completion_end(format, sink, id)?,
            Outgoing::Void { id } => hub_encode::completion_void(format, sink, id)?,
            Outgoing::Result { id, value } => hub_encode::completion_result(format, sink, id, value)?,
            Outgoing::RawResult { id, value } => hub_encode::completion_result(format, sink, id, value)?,
            Outgoing::Failure { id, error } => hub_encode::completion_error(format, sink, id, error)?,
            Outgoing::Ping => hub_encode::ping(format, sink),
            Outgoing::Ack { sequence_id } => hub_encode::ack(format, sink, sequence_id),
            Outgoing::Sequence { sequence_id } => hub_encode::sequence(format, sink, sequence_id),
            Outgoing::Close { error, allow_reconnect } => hub_encode::close(format, sink, error, allow_reconnect),
        }
        Ok(())
    }

    /// Whether stateful reconnect numbers it (spec 7.2).
    pub fn is_numbered(&self) -> bool {
        !matches!(self, Outgoing::Ping | Outgoing::Ack { .. } | Outgoing::Sequence { .. } | Outgoing::Close { .. })
    }

    /// How long it is in `variation`.
    pub fn measure(&self, variation: Variation) -> Result<Measured, PayloadError> {
        let format = variation.format();
        let mut count = Count::default();
        let (body_bytes, bytes) = match variation.transport() {
            Transport::WebSockets => {
                self.write(format, &mut count)?;
                (count.0, encode::message_len(count.0))
            }
            Transport::ServerSentEvents => {
                let mut event = EventWriter::new(count);
                self.write(format, &mut event)?;
                let bytes = event.finish().0;
                (bytes, bytes)
            }
            Transport::LongPolling => {
                self.write(format, &mut count)?;
                (count.0, count.0)
            }
        };
        Ok(Measured { variation, body_bytes, bytes })
    }
}
