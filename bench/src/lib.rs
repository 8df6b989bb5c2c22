//! What Fanfare is measured with.
//!
//! * [`alloc`]: an allocator that counts, for budgets that must not depend on the machine's speed.

pub mod alloc;
