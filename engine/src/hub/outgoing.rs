//! What we say to a client, before it has a format.

use fanfare_protocol::cursor::{Count, Sink};
use fanfare_protocol::hub::error::PayloadError;
use fanfare_protocol::hub::raw::Raw;
use fanfare_protocol::hub::value::Value;
use fanfare_protocol::hub::{Format, encode};
use fanfare_protocol::hub::{Item, Payload};

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
                encode::invocation(format, sink, None, target, arguments)?;
            }
            Outgoing::Ask { id, target, arguments } => {
                encode::invocation(format, sink, Some(id), target, arguments)?;
            }
            Outgoing::StreamItem { id, item } => encode::stream_item(format, sink, id, item)?,
            Outgoing::StreamEnd { id } => encode::completion_end(format, sink, id)?,
            Outgoing::Void { id } => encode::completion_void(format, sink, id)?,
            Outgoing::Result { id, value } => encode::completion_result(format, sink, id, value)?,
            Outgoing::RawResult { id, value } => encode::completion_result(format, sink, id, value)?,
            Outgoing::Failure { id, error } => encode::completion_error(format, sink, id, error)?,
            Outgoing::Ping => encode::ping(format, sink),
            Outgoing::Close { error, allow_reconnect } => encode::close(format, sink, error, allow_reconnect),
        }
        Ok(())
    }

    /// Bytes that [`Self::write`] will write.
    pub fn len(&self, format: Format) -> Result<usize, PayloadError> {
        let mut count = Count::default();
        self.write(format, &mut count)?;
        Ok(count.0)
    }
}
