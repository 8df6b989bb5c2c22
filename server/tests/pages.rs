//! What the two listeners answer to plain HTTP.

mod support;

use support::{Server, ask, exchange, get};

#[test]
fn dev_prints_one_screen_and_serves_its_pages() {
    let server = Server::dev(&[]);
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "Status"),
        ("/demo", "text/html; charset=utf-8", "Frames"),
        ("/demo/meter", "text/html; charset=utf-8", "Fan-out meter"),
        ("/assets/hub.js", "text/javascript; charset=utf-8", "class Hub"),
        ("/assets/style.css", "text/css; charset=utf-8", "--ground"),
        ("/assets/icon.svg", "image/svg+xml", "<svg"),
        ("/livez", "text/plain; charset=utf-8", "live"),
        ("/readyz", "text/plain; charset=utf-8", "ready"),
        ("/health", "application/json", "\"status\":\"ready\""),
        ("/status", "application/json", "\"hubs\":[{"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "fanfare_connections{hub=\"demo\"} 0"),
    ] {
        let answer = get(server.admin, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn pages_forbid_everything_that_is_not_their_own() {
    let server = Server::dev(&[]);
    let policy = get(server.admin, "/demo");
    let policy = policy.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(policy.contains(&format!("ws://localhost:{}", server.public.port())), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
}

#[test]
fn status_tells_the_pages_where_the_hub_is() {
    let server = Server::dev(&["--hub", "red", "--hub", "blue"]);
    let status: serde_json::Value = serde_json::from_str(&get(server.admin, "/status").body).expect("JSON");
    assert_eq!(status["public_port"], server.public.port());
    assert_eq!(status["hubs"][1]["path"], "/blue");
    assert_eq!(status["state"], "ready");
    assert!(status["connections_max"].as_u64().is_some_and(|room| room > 0), "{status}");
}

#[test]
fn unknown_pages_and_methods_are_refused_as_problems() {
    let server = Server::dev(&[]);
    for (address, method, path, status, code) in [
        (server.admin, "GET", "/nothing", 404, "FF3001"),
        (server.admin, "GET", "/assets/../Cargo.toml", 404, "FF3001"),
        (server.admin, "POST", "/metrics", 405, "FF3002"),
        (server.admin, "DELETE", "/demo", 405, "FF3002"),
        (server.public, "GET", "/nothing", 404, "FF3001"),
        (server.public, "POST", "/health", 405, "FF3002"),
    ] {
        let answer = ask(address, method, path);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(problem["code"], code, "{method} {path}");
        assert_eq!(problem["type"], format!("urn:fanfare:{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}

#[test]
fn the_public_listener_tells_its_health_too() {
    let server = Server::dev(&[]);
    for path in ["/health", "/api/health"] {
        let answer = get(server.public, path);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains("\"status\":\"ready\""), "{}", answer.body);
        assert_eq!(ask(server.public, "HEAD", path).status, 200, "{path}");
    }
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let server = Server::dev(&[]);
    let head = ask(server.admin, "HEAD", "/demo");
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    assert_eq!(head.header("content-length"), get(server.admin, "/demo").header("content-length"));
}

#[test]
fn requests_under_a_foreign_name_are_refused_on_loopback() {
    let server = Server::dev(&[]);
    let answer = exchange(server.admin, "GET /status HTTP/1.1\nHost: evil.example\nConnection: close\n\n");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("FF3006"), "{}", answer.body);
}

#[test]
fn broken_requests_are_named_and_counted() {
    let server = Server::dev(&[]);
    for (request, status) in [
        ("GET / HTTP/1.1\nHost: localhost\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", 400),
        ("GET / HTTP/1.1\n\n", 400),
        ("GET /a b HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET / HTTP/3.0\nHost: localhost\n\n", 505),
    ] {
        let answer = exchange(server.admin, request);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.body.contains("FF3003"), "{request}: {}", answer.body);
    }
    let long = format!("GET / HTTP/1.1\nHost: localhost\nX: {}\n\n", "x".repeat(20_000));
    assert_eq!(exchange(server.admin, &long).status, 431);
    let metrics = get(server.admin, "/metrics").body;
    assert!(metrics.contains("fanfare_admin_refused_total{reason=\"bad_request\"} 5"), "{metrics}");
}

#[test]
fn several_requests_share_a_connection() {
    let server = Server::dev(&[]);
    let request = "GET /livez HTTP/1.1\nHost: localhost\n\nGET /livez HTTP/1.1\nHost: localhost\nConnection: close\n\n";
    let answer = exchange(server.admin, request);
    assert_eq!(answer.header("connection"), Some("keep-alive"));
    assert_eq!(answer.body.matches("HTTP/1.1 200").count(), 1, "{answer:?}");
    assert!(answer.body.ends_with("live\n"), "{answer:?}");
}

#[test]
fn a_bad_upgrade_of_a_hub_says_what_would_do() {
    let server = Server::dev(&[]);
    let upgrade = |version: &str| {
        format!(
            "GET /demo HTTP/1.1\nHost: {}\nUpgrade: websocket\nConnection: Upgrade, close\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: {version}\n\n",
            server.public
        )
    };
    let answer = exchange(server.public, &upgrade("12"));
    assert_eq!(answer.status, 426, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    let answer = exchange(server.public, &upgrade("13").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(ask(server.public, "GET", "/demo/negotiate").status, 405);
}

#[test]
fn serve_has_no_demo() {
    let server = Server::serve(&[]);
    for path in ["/demo", "/demo/meter", "/assets/chat.js"] {
        assert_eq!(get(server.admin, path).status, 404, "{path}");
    }
    assert_eq!(get(server.admin, "/").status, 200);
}
