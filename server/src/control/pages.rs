//! What the admin listener answers: pages, health, metrics, status.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use fanfare_engine::Certificates;

use super::assets::{self, Asset};
use super::exposition;
use super::http::{Answer, Pages, Refused, Request};
use super::metrics::{self, Facts};
use super::problem;
use super::process::ProcessFigures;
use crate::failure::Code;
use crate::node::Node;

/// A page that is computed.
type Computed = (&'static str, fn(&AdminPages) -> Answer);

/// Paths that are computed; the rest are files.
const COMPUTED: [Computed; 5] = [
    ("/health", AdminPages::health),
    ("/readyz", AdminPages::ready),
    ("/livez", AdminPages::live),
    ("/metrics", AdminPages::metrics),
    ("/status", AdminPages::status),
];

/// The pages of one node.
pub(crate) struct AdminPages {
    node: Arc<Node>,
    /// Whether the listener is bound to this machine only; then nobody may reach it under another name.
    loopback: bool,
    policy: String,
    refused: [Cell<u64>; 3],
}

impl AdminPages {
    /// The pages of `node`, served at `address`.
    pub(crate) fn new(node: Arc<Node>, address: SocketAddr) -> Rc<Self> {
        let policy = content_policy(node.public_port());
        Rc::new(AdminPages { node, loopback: address.ip().is_loopback(), policy, refused: Default::default() })
    }

    fn health(&self) -> Answer {
        let health = self.node.health();
        json(health.status, health.body)
    }

    fn ready(&self) -> Answer {
        match self.node.not_ready() {
            None => text("ready\n"),
            Some(why) => problem::answer(503, Code::NotReady, why).header("Retry-After", "5"),
        }
    }

    fn live(&self) -> Answer {
        text("live\n")
    }

    fn metrics(&self) -> Answer {
        let admin_refused = [Refused::Full, Refused::BadRequest, Refused::Silent]
            .map(|reason| (refusal_name(reason), self.refused[reason as usize].get()));
        let tokens_refused: Vec<_> = self.node.tokens_refused().collect();
        let facts = Facts {
            engine: &self.node.metrics(),
            connections_max: self.node.connections_max(),
            process: ProcessFigures::read(),
            tokens_refused: &tokens_refused,
            key_fetches: self.node.key_fetches(),
            admin_refused: &admin_refused,
            tls_reloads: &self.node.tls_reloads(),
            tls_not_after: self.node.certificates().and_then(Certificates::not_after),
        };
        Answer::new(200, exposition::CONTENT_TYPE, metrics::render(&facts).into_bytes())
    }

    fn status(&self) -> Answer {
        json(200, self.node.status().to_string())
    }

    fn file(&self, asset: &'static Asset) -> Answer {
        Answer::new(200, asset.content_type, asset.bytes)
            .header("Content-Security-Policy", self.policy.clone())
            // Both are needed for clocks of full resolution in the fan-out meter.
            .header("Cross-Origin-Opener-Policy", "same-origin")
            .header("Cross-Origin-Embedder-Policy", "require-corp")
    }

    fn find(&self, request: &Request<'_>) -> Answer {
        let path = request.path();
        let computed = COMPUTED.iter().find(|(known, _)| *known == path).map(|(_, page)| page);
        let asset = assets::find(path, self.node.has_demo());
        if computed.is_none() && asset.is_none() {
            return problem::answer(404, Code::NotFound, "There is no such page here; / lists what there is.");
        }
        if !matches!(request.method(), "GET" | "HEAD") {
            return problem::answer(405, Code::MethodNotAllowed, "This page can only be read.")
                .header("Allow", "GET, HEAD");
        }
        match (computed, asset) {
            (Some(page), _) => page(self),
            (None, Some(asset)) => self.file(asset),
            (None, None) => problem::answer(404, Code::NotFound, "There is no such page here."),
        }
    }
}

impl Pages for AdminPages {
    fn answer(&self, request: &Request<'_>) -> Answer {
        let answer = if self.loopback && !request.header("host").is_some_and(is_loopback_name) {
            // A page of another site whose name was made to point at 127.0.0.1 sends that name.
            problem::answer(403, Code::ForeignHost, "This listener answers to localhost, 127.0.0.1 and [::1] only.")
        } else {
            self.find(request)
        };
        answer
            .header("X-Content-Type-Options", "nosniff")
            .header("Referrer-Policy", "no-referrer")
            .header("Cross-Origin-Resource-Policy", "same-origin")
            .header("Cache-Control", "no-store")
    }

    fn refused(&self, reason: Refused) {
        let count = &self.refused[reason as usize];
        count.set(count.get() + 1);
    }
}

fn refusal_name(reason: Refused) -> &'static str {
    match reason {
        Refused::Full => "full",
        Refused::BadRequest => "bad_request",
        Refused::Silent => "silent",
    }
}

fn json(status: u16, body: String) -> Answer {
    Answer::new(status, "application/json", body.into_bytes())
}

fn text(body: &'static str) -> Answer {
    Answer::new(200, "text/plain; charset=utf-8", body.as_bytes())
}

/// Nothing but our own files, and WebSockets to our own public port under the names of this machine.
fn content_policy(public_port: u16) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; worker-src 'self'; \
         connect-src 'self' ws://localhost:{public_port} ws://127.0.0.1:{public_port}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
}

/// Whether a `Host` header names this machine: `localhost`, or an address of its loopback, with or without a port.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_pass_for_it() {
        for own in ["localhost", "LOCALHOST:8889", "127.0.0.1:1", "127.9.9.9", "[::1]:8889", "[::1]"] {
            assert!(is_loopback_name(own), "{own}");
        }
        for foreign in
            ["", "evil.example:8889", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]:1", "10.0.0.1"]
        {
            assert!(!is_loopback_name(foreign), "{foreign}");
        }
    }
}
