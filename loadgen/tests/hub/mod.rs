//! A real engine in this process, with the methods that the generator expects by default.

mod methods;

use fanfare_engine::{Authenticator, ConnectRequest, Engine, HubOptions, Identity, Limits, Refusal};
use methods::Methods;
use std::net::SocketAddr;

/// A server that ends with the test.
pub(crate) struct Hub {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _engine: Engine,
}

impl Hub {
    /// Hub `/hub` on a free port.
    pub(crate) fn start() -> Self {
        Self::with(Limits::default(), 2)
    }

    /// The same under other limits.
    pub(crate) fn with(limits: Limits, shards: usize) -> Self {
        let engine = Engine::builder()
            .listen("127.0.0.1:0")
            .shards(shards)
            .limits(limits)
            .hub("hub", HubOptions::default(), Methods)
            .authenticator("/hub", ByQuery)
            .start()
            .expect("an engine");
        Self { address: engine.local_addrs()[0], _engine: engine }
    }
}

struct ByQuery;

impl Authenticator for ByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        let user = request.query_value("user").map(|user| user.into_owned());
        Ok(Identity { user, ..Identity::default() })
    }
}
