//! The physical floor: the least work that still broadcasts.
//!
//! A server of the raw dialect: whatever message a WebSocket sends goes to all WebSockets, the sender included. There
//! is no hub, no format, no keep-alive and no policy. A message is framed once; all messages that arrived together (at
//! most [`FloorOptions::burst_max`]) become **one** buffer, and each connection gets that buffer in one send. What it
//! costs is therefore nearly all kernel TCP, and what another server costs above it is that server's own.
//!
//! Two ways to send: [`Mode::Send`], a `send(2)` for each ordinary descriptor, and [`Mode::Ring`], io_uring sends on
//! registered files. Both are non-blocking, and both cope with a partial send by keeping the rest in a plain backlog
//! for that connection, so a slow reader never sees a torn stream. [`Mode::Idle`] sends nothing at all: it upgrades
//! and holds, unwatched, which makes it the memory of a bare accepted socket.

mod batch;
mod fan;
mod peer;
mod receivers;
mod ring;
mod server;

pub use fan::Mode;
pub use receivers::{Received, ReceiversOptions, receive};
pub use server::{Floor, FloorCounts, FloorOptions, Stopper};
