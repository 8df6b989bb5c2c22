//! SignalR, and the transports it rides on, as bytes <-> meaning.
//!
//! Nothing in this crate owns a socket, reads a clock or starts a thread: bytes and times come in as parameters,
//! messages and bytes go out as values. Every decoder takes input cut anywhere.
#![forbid(unsafe_code)]

pub mod cursor;
pub mod error;
pub mod http;
pub mod hub;
pub mod negotiate;
pub mod sse;
pub mod ws;
