//! The shard's provided-buffer ring: lent to the kernel, given back within the turn.

/// Fixed-size receive buffers, shared with the kernel through a provided-buffer ring.
#[derive(Debug)]
pub struct RecvPool {}
