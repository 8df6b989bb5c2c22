//! What Fanfare is measured with.
//!
//! * [`alloc`]: an allocator that counts, for budgets (`tests/budgets.rs`) that must not depend on the machine's speed.
//! * [`floor`]: the least a server can do to broadcast over the same sockets. Ratios to it mean something on any
//!   machine; microseconds do not.
//!
//! `benches/` times every parser and encoder of `fanfare-protocol` with criterion.

pub mod alloc;
pub mod floor;
