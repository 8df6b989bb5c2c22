//! permessage-deflate (RFC 7692), for a server that compresses a message once and sends it to many.
//!
//! A compressed message is one for all receivers only if it depends on nothing that was sent before. So the server
//! never takes over context, and asks its clients not to: what a connection costs in memory between messages is
//! nothing, as without compression.
//!
//! ```text
//! negotiation   offer::accept_offer   request head -> Agreement -> the field of the 101
//! in            decoder::DeflateDecoder   bytes -> events as without compression; inflater::Inflater, one per shard
//! out           deflater::Deflater   message -> payload, once; one per shard
//!               encode::MessageWriter::new_deflated   payload -> frames of 2 048 bytes, RSV1 on the first
//! ```
//! The role of a client is spoken too: [`offer::OFFER`], [`offer::check_answer`], and the same decoder and deflater.
//!
//! # Window bits
//! Both ends name the LZ77 window of a *sender* by its power of two, 8 to 15 (RFC 7692 7.1.2).
//! - What we send has a window of [`SERVER_WINDOW_BITS`] or less. A client that asks for less is not compressed for: its
//!   copy would be another one. That includes 8, which no zlib can make without a header anyway.
//! - What we receive is inflated with a window of 15, which reads all. `client_max_window_bits`, 8 included, is taken
//!   note of and not answered, as an answer could only bind the client.

pub mod decoder;
pub mod deflater;
#[doc(hidden)]
pub mod fuzz;
pub mod inflater;
pub mod offer;

/// Window of what is sent: 2^12 bytes. Without context takeover a larger one finds little more: JSON of 2 KB comes out
/// the same as with 15, of 16 KB the same within 0.2 %, of 64 KB 4 % longer; it costs the receivers less memory, and is
/// good enough for those who ask for 12.
pub const SERVER_WINDOW_BITS: u8 = 12;

/// The four bytes that end a flushed stream, and that are not sent (RFC 7692 7.2.1): length and complement of an empty
/// stored block.
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
