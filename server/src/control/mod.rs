//! The control thread: pages, health and metrics beside the shards, never in their way.

pub(crate) mod rt;
