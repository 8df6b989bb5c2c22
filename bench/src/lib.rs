//! What Fanfare is measured with.
//!
//! * [`alloc`]: an allocator that counts, for budgets (`tests/budgets.rs`) that must not depend on the machine's speed.
//! * [`floor`]: the least a server can do to broadcast over the same sockets. Ratios to it mean something on any
//!   machine; microseconds do not.
//! * [`instructions`]: how many instructions parsers, encoders and deliveries take, kept in a checked-in file.
//! * [`compare`]: Fanfare, the floor and other people's servers, measured in turns by one load generator.
//!
//! `benches/` times every parser and encoder of `fanfare-protocol` with criterion, on the same [`inputs`].

pub mod alloc;
pub mod compare;
pub mod floor;
pub mod inputs;
pub mod instructions;
