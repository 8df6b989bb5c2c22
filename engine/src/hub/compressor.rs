//! Messages for many, compressed once for all clients with permessage-deflate.
//!
//! Only what goes to several is compressed. An answer of 2 KB takes its shard 16 us, system calls and invocation
//! included (`bench/benches/deflate.rs`); it would take 13 us more to save one client a kilobyte.

use crate::buf::log::{Extents, LogFull};
use crate::hub::outgoing::{Measured, Outgoing, data_kind};
use crate::hub::switchboard::Switchboard;
use fanfare_protocol::cursor::Sink;
use fanfare_protocol::ws::deflate::deflater::{Deflater, PLAIN_BYTES_MAX, PLAIN_BYTES_MIN};
use fanfare_protocol::ws::encode::{self, MessageWriter};

/// What a shard compresses with. Made for the first message that wants it, kept since, and so is its memory.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    deflater: Deflater,
    /// The message as it is, [`PLAIN_BYTES_MAX`] at most: a compressor reads it in one piece, and its length is known only
    /// when it has been compressed.
    plain: Vec<u8>,
}

impl Compressor {
    /// The payload that says `message`; `None` if it does not become shorter.
    fn compress(&mut self, measured: &Measured, message: &Outgoing<'_>) -> Option<&[u8]> {
        self.plain.clear();
        measured.write_body(message, &mut self.plain);
        self.deflater.deflate(&self.plain)
    }

    /// The same for bytes that are a message.
    pub(crate) fn compress_bytes(&mut self, plain: &[u8]) -> Option<&[u8]> {
        self.deflater.deflate(plain)
    }
}

impl Switchboard {
    /// Appends a message for many to the log of its variation, compressed if that makes it shorter: a client with
    /// permessage-deflate takes both.
    pub(crate) fn append_deflated(&mut self, measured: &Measured, message: &Outgoing<'_>) -> Result<Extents, LogFull> {
        if !(PLAIN_BYTES_MIN..=PLAIN_BYTES_MAX).contains(&measured.body_bytes()) {
            return self.append_broadcast(measured, message);
        }
        self.counters.compressions_total.add(1);
        let mut compressor = self.compressor.take().unwrap_or_default();
        let appended = match compressor.compress(measured, message) {
            None => self.append_broadcast(measured, message),
            Some(payload) => {
                let kind = data_kind(measured.variation().format());
                self.append_for_many(measured.variation(), encode::message_len(payload.len()), |writer| {
                    MessageWriter::new_deflated(writer, kind, payload.len()).put(payload);
                })
            }
        };
        self.compressor = Some(compressor);
        appended
    }

    /// For what is compressed for one client, for whatever reason.
    pub(crate) fn compressor(&mut self) -> &mut Compressor {
        self.compressor.get_or_insert_default()
    }
}
