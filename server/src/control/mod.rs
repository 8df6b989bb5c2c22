//! The control thread: pages, health and metrics beside the shards, never in their way.

pub(crate) mod assets;
pub(crate) mod http;
pub(crate) mod problem;
pub(crate) mod rt;
