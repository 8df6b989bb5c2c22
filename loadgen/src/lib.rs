//! Load generator for SignalR and WebSocket servers.

pub mod failure;
pub mod latency;
pub mod ledger;
mod os;
pub mod payload;
pub mod plan;
pub mod procfs;
pub mod quantity;
pub mod target;
pub mod threshold;
