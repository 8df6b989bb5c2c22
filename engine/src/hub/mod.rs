//! Who is in which hub, group and user on this shard; who answers; how one message becomes a thousand sends.

pub mod asks;
pub mod connect;
pub mod context;
pub mod directory;
pub mod fanout;
pub mod host;
pub mod http_replies;
pub mod interest;
pub mod later;
pub mod note;
pub mod outgoing;
pub mod pending;
pub mod publisher;
pub mod registry;
pub mod replies;
pub mod route;
pub mod streams;
pub mod switchboard;
pub mod uploads;
