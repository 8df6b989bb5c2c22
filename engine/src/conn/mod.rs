//! One connection: its records, its life, its bytes. Knows `buf`, `io`'s names, `limits` and `protocol`; never a hub.

pub mod address;
pub mod certificates;
pub mod endpoint;
pub mod expiries;
pub mod outbox;
pub mod partial;
pub mod slots;
pub mod tls;
pub mod wire;
