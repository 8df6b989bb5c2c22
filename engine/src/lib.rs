//! Thread-per-core io_uring message fan-out engine for SignalR clients.
//!
//! An [`Engine`] runs *shards*: threads with one ring each, their own listener, connections, log and timers. A hub is
//! a [`HubHandler`] in this process; a [`Publisher`] speaks to clients from any other thread. No runtime is needed,
//! none is in the way, and two engines in one process do not know of each other.
//!
//! ```no_run
//! use fanfare_engine::{Answer, Context, Engine, HubHandler, HubOptions, Invocation, Payload, Value};
//!
//! struct Chat;
//!
//! impl HubHandler for Chat {
//!     fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
//!         if !call.is("Say") {
//!             return Answer::Unknown;
//!         }
//!         match cx.all().send("said", &Payload::Raw(call.arguments())) {
//!             Ok(()) => Answer::Void,
//!             Err(error) => Answer::Error(fanfare_engine::HandlerError::Hub(error.to_string())),
//!         }
//!     }
//! }
//!
//! let engine = Engine::builder().listen("127.0.0.1:9000").hub("chat", HubOptions::default(), Chat).start()?;
//! engine.publisher().all("chat").send("said", &Payload::Values(&[Value::from("hello")])).unwrap();
//! # Ok::<(), fanfare_engine::StartError>(())
//! ```
//!
//! The way of a byte: `io` (the ring) gives completions to `shard` (the corridor), which lets `conn` and
//! `fanfare_protocol` make messages of them and hands those to `hub`; what is said goes once into the log (`buf`),
//! and out of it, from the same bytes, to everybody.

pub mod auth;
pub mod buf;
pub mod conn;
pub mod engine;
pub mod event;
pub mod hub;
pub mod ids;
pub mod interconnect;
pub mod io;
pub mod limits;
mod shard;
mod sync;

pub use conn::address::Network;
pub use conn::certificates::{CertificateError, Certificates};
pub use conn::endpoint::{
    Authenticator, ConnectRequest, EchoOptions, EndpointOptions, Identity, Origins, Refusal, SlowPolicy, Transports,
};
pub use engine::{Builder, CoreSet, Engine, EngineHandle, HubMetrics, HubOptions, MetricsSnapshot, StartError};
pub use event::{CloseReason, RefuseReason, ShardMetrics, TlsFailure};
pub use fanfare_protocol::hub::{BindError, RawOwned};
pub use fanfare_protocol::hub::{Format, Payload, Raw, Value};
pub use hub::asks::{AskError, AskHandle, ClientResult};
pub use hub::context::{Context, Target};
pub use hub::host::{Answer, ClientMessage, HandlerError, Host, HubHandler, Invocation};
pub use hub::http::{HttpAnswer, HttpHandler, HttpReplyHandle, HttpRequest};
pub use hub::publisher::{PublishError, PublishTarget, Publisher};
pub use hub::registry::GroupError;
pub use hub::replies::ReplyHandle;
pub use hub::streams::{StreamEnd, StreamError, StreamHandle};
pub use hub::uploads::{StreamReader, UploadHandle, Uploaded};
pub use limits::{Limits, Plan, UplinkOver};

/// The examples of the documentation, compiled with the doctests of this crate.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../docs/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../../README.md")]
    struct Readme;
}
