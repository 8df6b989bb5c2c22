//! WebSocket (RFC 6455): upgrade, frames in, frames out, both roles. One extension is spoken, by whoever asks for it:
//! [`deflate`].
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| length      | 126: 16 bits of length        |
//! |I|S|S|S|  (4)  |A|  (7)        | 127: 64 bits of length        |
//! |N|V|V|V|       |S|             |                               |
//! | |1|2|3|       |K|             | then 4 bytes of key if masked |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! ```

pub mod boundaries;
pub mod decoder;
pub mod deflate;
pub mod encode;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
mod mask;

/// Longest payload of a control frame (RFC 6455 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// Longest frame header: 2 bytes, 8 of length, 4 of masking key.
pub const HEADER_BYTES_MAX: usize = 14;

const FIN_BIT: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
/// RSV1: with permessage-deflate, the message that begins here is compressed (RFC 7692 6).
const DEFLATE_BIT: u8 = 0x40;
const MASK_BIT: u8 = 0x80;
/// Lengths up to this stand in the second header byte itself.
const LENGTH_7_MAX: u64 = 125;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message begun by an earlier frame.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its beginning.
    Text = 0x1,
    /// A message of bytes, or its beginning.
    Binary = 0x2,
    /// The sender has said all it will say.
    Close = 0x8,
    /// Asks for a Pong with the same payload.
    Ping = 0x9,
    /// Answers a Ping, or tells that the sender lives.
    Pong = 0xA,
}

impl OpCode {
    /// The opcode with these four bits; `None` for the ten reserved ones.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, Ping and Pong: never fragmented, short, and allowed between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

impl DataKind {
    /// The opcode of the first frame of such a message.
    #[must_use]
    pub const fn op_code(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}
