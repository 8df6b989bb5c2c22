//! Who is in which hub, group and user on this shard; who answers; how one message becomes a thousand sends.

pub(crate) mod asker;
pub mod asks;
pub(crate) mod compressor;
pub(crate) mod connect;
pub mod context;
pub mod directory;
pub mod fanout;
pub mod host;
pub mod http;
pub mod interest;
pub mod later;
pub(crate) mod long_poll;
pub mod note;
pub mod outgoing;
pub mod parcels;
pub mod pending;
pub(crate) mod post;
pub mod publisher;
pub mod registry;
pub mod replies;
pub(crate) mod resume;
pub mod route;
pub mod streams;
pub mod switchboard;
pub mod uploads;
pub(crate) mod waiting;
