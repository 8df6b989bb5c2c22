//! The control thread: pages, health and metrics beside the shards, never in their way.

pub(crate) mod assets;
pub(crate) mod exposition;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod problem;
pub(crate) mod process;
pub(crate) mod rt;
