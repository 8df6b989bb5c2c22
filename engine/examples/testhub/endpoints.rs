//! The plain HTTP paths of the contract: health, counts, the redirecting negotiate, client results.

use fanfare_engine::{HttpAnswer, HttpHandler, HttpRequest, Origins};

use super::asks;

/// Every negotiate answer of this server carries it.
pub(crate) const NEGOTIATE_COOKIE: (&str, &str) = ("Set-Cookie", "testCookie=testValue; path=/");

/// Everything that is no hub and no echo.
pub(crate) struct Endpoints;

impl HttpHandler for Endpoints {
    fn handle(&self, request: &HttpRequest<'_>) -> HttpAnswer {
        let mut answer = self.answer(request);
        let text = |name| request.header(name).and_then(|value| std::str::from_utf8(value).ok());
        let origin = text("origin").filter(|origin| Origins::SameHost.allow(origin, text("host")));
        if let Some(origin) = origin {
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            answer.headers.push(header("Access-Control-Allow-Origin", origin));
            answer.headers.push(header("Access-Control-Allow-Credentials", "true"));
            answer.headers.push(header("Vary", "Origin"));
        }
        answer
    }
}

/// A browser asks whether it may ask: what it wants, it may.
fn preflight(request: &HttpRequest<'_>) -> HttpAnswer {
    let wanted = |name| request.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let allowed = [
        ("Access-Control-Allow-Methods", wanted("access-control-request-method")),
        ("Access-Control-Allow-Headers", wanted("access-control-request-headers")),
    ];
    let headers = allowed.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    HttpAnswer { status: 204, headers: headers.collect(), body: Vec::new() }
}

impl Endpoints {
    fn answer(&self, request: &HttpRequest<'_>) -> HttpAnswer {
        match (request.method(), request.path()) {
            ("OPTIONS", "/redirecthub/negotiate") => preflight(request),
            ("GET" | "HEAD", "/health") => HttpAnswer::text(200, "healthy"),
            ("GET", "/stats") => {
                let held = request.connections() + request.pending();
                HttpAnswer::json(200, format!("{{\"connections\":{held}}}"))
            }
            ("POST", "/redirecthub/negotiate") => redirect(request),
            (_, "/health" | "/stats" | "/redirecthub/negotiate") => HttpAnswer::text(405, ""),
            ("GET", path) => match path.strip_prefix("/clientresult/") {
                Some(connection) => asks::client_result(request, connection),
                None => HttpAnswer::not_found(),
            },
            _ => HttpAnswer::not_found(),
        }
    }
}

/// Sends the client to `/testhub` of the host it asked. The empty token leaves the client's own in force.
fn redirect(request: &HttpRequest<'_>) -> HttpAnswer {
    let Some(host) = request.header("host").and_then(host_text) else {
        return HttpAnswer::text(400, "A Host header is needed to say where the redirect goes.");
    };
    let body = format!("{{\"url\":\"http://{host}/testhub?numRedirects=1\",\"accessToken\":\"\"}}");
    let mut answer = HttpAnswer::json(200, body);
    answer.headers.push((NEGOTIATE_COOKIE.0.to_owned(), NEGOTIATE_COOKIE.1.to_owned()));
    answer
}

/// The header as text, if it has only what a host and port are written with: it goes into JSON as it is.
fn host_text(header: &[u8]) -> Option<&str> {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    std::str::from_utf8(header).ok().filter(|host| !host.is_empty() && header.iter().all(sound))
}
