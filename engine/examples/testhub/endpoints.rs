//! The plain HTTP paths of the contract: health, counts, the redirecting negotiate.

use fanfare_engine::{HttpAnswer, HttpHandler, HttpRequest};

/// Every negotiate answer of this server carries it.
pub(crate) const NEGOTIATE_COOKIE: (&str, &str) = ("Set-Cookie", "testCookie=testValue; path=/");

/// Everything that is no hub and no echo.
pub(crate) struct Endpoints;

impl HttpHandler for Endpoints {
    fn handle(&self, request: &HttpRequest<'_>) -> HttpAnswer {
        match (request.method(), request.path()) {
            ("GET" | "HEAD", "/health") => HttpAnswer::text(200, "healthy"),
            ("GET", "/stats") => HttpAnswer::json(200, format!("{{\"connections\":{}}}", request.connections())),
            ("POST", "/redirecthub/negotiate") => redirect(request),
            (_, "/health" | "/stats" | "/redirecthub/negotiate") => HttpAnswer::text(405, ""),
            ("GET", path) if path.starts_with("/clientresult/") => {
                HttpAnswer::text(200, "This build of testhub does not ask clients for results yet.")
            }
            _ => HttpAnswer::not_found(),
        }
    }
}

/// Sends the client to `/testhub` of the host it asked. The empty token leaves the client's own in force.
fn redirect(request: &HttpRequest<'_>) -> HttpAnswer {
    let Some(host) = request.header("Host").filter(|host| is_host(host)) else {
        return HttpAnswer::text(400, "A Host header is needed to say where the redirect goes.");
    };
    let body = format!("{{\"url\":\"http://{host}/testhub?numRedirects=1\",\"accessToken\":\"\"}}");
    let mut answer = HttpAnswer::json(200, body);
    answer.headers.push((NEGOTIATE_COOKIE.0.to_owned(), NEGOTIATE_COOKIE.1.to_owned()));
    answer
}

/// Only what a host and port are written with goes back into the JSON.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}
