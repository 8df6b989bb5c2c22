//! Load generator for SignalR and WebSocket servers.

pub mod cli;
pub mod failure;
pub mod job;
pub mod latency;
pub mod ledger;
mod os;
mod outgoing;
pub mod payload;
pub mod plan;
pub mod procfs;
pub mod quantity;
pub mod reader;
pub mod target;
pub mod threshold;
pub mod wire;
