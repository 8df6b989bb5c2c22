//! Thread-per-core io_uring message fan-out engine for SignalR clients.

pub mod buf;
pub mod ids;
pub mod io;
