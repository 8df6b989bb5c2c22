//! What the public listener answers beside its hubs, and who a client of `fanfare dev` is.

use std::sync::Arc;

use fanfare_engine::{Authenticator, ConnectRequest, HttpAnswer, HttpHandler, HttpRequest, Identity, Refusal};

use crate::control::pages::is_loopback_name;
use crate::control::problem;
use crate::failure::Code;
use crate::node::{Health, SharedPhase};

/// `/health`, and `/api/health` where the SDKs look for it; every other path is unknown.
pub(crate) struct Public {
    phase: Arc<SharedPhase>,
}

impl Public {
    /// Tells the phase of the node it belongs to.
    pub(crate) fn new(phase: &Arc<SharedPhase>) -> Self {
        Public { phase: Arc::clone(phase) }
    }
}

impl HttpHandler for Public {
    fn handle(&self, request: &HttpRequest<'_>) -> HttpAnswer {
        if !matches!(request.path(), "/health" | "/api/health") {
            return refusal(404, Code::NotFound, "There is no such hub or page here.");
        }
        if !matches!(request.method(), "GET" | "HEAD") {
            let mut answer = refusal(405, Code::MethodNotAllowed, "Health can only be read.");
            answer.headers.push(("Allow".to_owned(), "GET, HEAD".to_owned()));
            return answer;
        }
        let health = Health::of(self.phase.get(), request.connections());
        HttpAnswer::json(health.status, health.body)
    }
}

fn refusal(status: u16, code: Code, detail: &str) -> HttpAnswer {
    let headers = vec![("Content-Type".to_owned(), problem::CONTENT_TYPE.to_owned())];
    HttpAnswer { status, headers, body: problem::body(status, code, detail).into_bytes() }
}

/// A client is who it says it is: `?user=NAME`. Only for `fanfare dev`, which strangers cannot reach: neither from
/// another machine nor through the pages of another site that somebody on this machine looks at.
pub(crate) struct UserByQuery;

impl Authenticator for UserByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        if request.header("origin").is_some_and(|origin| !is_loopback_origin(origin)) {
            return Err(Refusal::Forbidden);
        }
        let user = request.query_value("user").map(|name| name.into_owned()).filter(|name| !name.is_empty());
        Ok(Identity { user, ..Identity::default() })
    }
}

/// Whether a page comes from this machine, on whatever port.
fn is_loopback_origin(origin: &[u8]) -> bool {
    let host = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    host.is_some_and(is_loopback_name)
}

#[cfg(test)]
mod tests {
    use super::is_loopback_origin;

    #[test]
    fn pages_of_other_sites_are_strangers() {
        for own in ["http://localhost:8889", "http://127.0.0.1:8889", "http://[::1]:3000", "https://localhost"] {
            assert!(is_loopback_origin(own.as_bytes()), "{own}");
        }
        for foreign in ["https://example.com", "null", "http://localhost.example.com", "file://", "http://10.0.0.1"] {
            assert!(!is_loopback_origin(foreign.as_bytes()), "{foreign}");
        }
    }
}
