//! Memory: what the kernel lends to us, what we lend to the kernel, and who may reuse it when.

pub mod extent;
mod holders;
pub mod log;
mod mapping;
pub mod recv_pool;
pub mod segment;
pub mod slab;

pub use extent::{Extent, SegmentId};
pub use log::{Extents, Log, LogFull, LogWriter};
pub use recv_pool::RecvPool;
pub use segment::{Holdings, Logs, SEGMENT_BYTES, SegmentOwner};
pub use slab::Slab;

#[cfg(test)]
mod tests;
