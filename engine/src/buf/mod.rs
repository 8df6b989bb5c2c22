//! Memory: what the kernel lends to us, what we lend to the kernel, and who may reuse it when.

pub mod extent;
pub mod recv_pool;

pub use extent::{Extent, SegmentId};
pub use recv_pool::RecvPool;
