//! `fanfare serve` with keys: who comes in, how keys change, and that no token is ever told to anybody.

mod support;

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::{Answer, Fanfare, Folder, SOON, Server, Signal, exchange, get};

const SECRET: &str = "the secret of these tests is long enough";
const OTHER_SECRET: &str = "another secret of these tests, as long as it";
const AUDIENCE: &str = "https://push.example";

/// A set with one secret in it.
fn set(secret: &str) -> String {
    let secret = URL_SAFE_NO_PAD.encode(secret);
    format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{secret}"}}]}}"#)
}

/// A token of `user` for our audience, which expires in so many seconds.
fn token(secret: &str, user: &str, expires_in_s: i64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch").as_secs() as i64;
    let claims = format!(r#"{{"sub":"{user}","aud":"{AUDIENCE}","exp":{}}}"#, now_s + expires_in_s);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

fn ask(server: &Server, method: &str, target: &str, token: Option<&str>) -> Answer {
    let bearer = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\n"));
    let head = format!("{method} {target} HTTP/1.1\nHost: x\nContent-Length: 0\nConnection: close\n{bearer}\n");
    exchange(server.public, &head)
}

fn negotiate(server: &Server, hub: &str, token: Option<&str>) -> u16 {
    ask(server, "POST", &format!("/{hub}/negotiate?negotiateVersion=1"), token).status
}

#[test]
fn a_good_token_comes_in_and_others_are_told_nothing_but_401() {
    let folder = Folder::new("door");
    let key = folder.write("key", &format!("{SECRET}\n"));
    let jwks = folder.write("jwks", &set(OTHER_SECRET));
    let server = Server::serve(
        &[
            &["--hub", "a", "b", "--anonymous-hub", "b", "--auth-key-file", &key, "--jwks-file", &jwks][..],
            &["--audience", AUDIENCE],
        ]
        .concat(),
    );
    for secret in [SECRET, OTHER_SECRET] {
        assert_eq!(negotiate(&server, "a", Some(&token(secret, "ann", 600))), 200);
    }
    let bad = [
        "rubbish".to_owned(),
        token("a secret that nobody has told the server", "ann", 600),
        token(SECRET, "ann", -600),
    ];
    for bad in &bad {
        for hub in ["a", "b"] {
            let answer = ask(&server, "POST", &format!("/{hub}/negotiate"), Some(bad));
            assert_eq!((answer.status, answer.body.as_str()), (401, ""), "{bad}");
        }
    }
    assert_eq!(negotiate(&server, "a", None), 401);
    assert_eq!(negotiate(&server, "b", None), 200, "anybody may come to this one");
    let page = get(server.admin, "/metrics").body;
    for (reason, count) in [("malformed", 2), ("signature", 2), ("expired", 2), ("missing", 1), ("audience", 0)] {
        let line = format!("fanfare_auth_failures_total{{reason=\"{reason}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    server.process.signal(Signal::INT);
    let (_, said) = server.process.end();
    assert!(said.contains("keys  2 for tokens"), "{said}");
    for line in ["clients may not publish · needs a token", "clients may not publish · a token names its user"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn the_client_verbs_bring_a_token_from_a_file() {
    let folder = Folder::new("verbs");
    let jwks = folder.write("jwks", &set(SECRET));
    let server = Server::serve(&["--jwks-file", &jwks, "--audience", AUDIENCE, "--client-publish", "on"]);
    let ann = folder.write("ann", &format!("{}\n", token(SECRET, "ann", 600)));
    let bob = folder.write("bob", &token(SECRET, "bob", 600));
    let mut listener = server.spawn("listen", &["--token-file", &ann, "--count", "1"]);
    listener.line("connected");
    let (code, said) = server.run("send", &["--token-file", &bob, "--user", "ann", "greet", "1"]);
    assert_eq!(code, 0, "{said}");
    listener.line("greet");
    let (code, said) = server.run("send", &["--all", "greet"]);
    assert!(code == 1 && said.contains("FF4002") && said.contains("--token-file"), "{said}");
    for (name, text) in [("empty", "\n"), ("two", "one hidden"), ("line", "one\r\nX: hidden")] {
        let (code, said) = server.run("send", &["--token-file", &folder.write(name, text), "--all", "greet"]);
        assert!(code == 2 && said.contains("FF1009") && !said.contains("hidden"), "{said}");
    }
}

#[test]
fn hup_reads_the_keys_again_and_ends_nothing() {
    let folder = Folder::new("hup");
    let jwks = folder.write("jwks", &set(SECRET));
    let mut server = Server::serve(&["--jwks-file", &jwks, "--audience", AUDIENCE]);
    server.process.signal(Signal::HUP);
    server.process.line("keys  1 for tokens, read again");
    assert_eq!(negotiate(&server, "demo", Some(&token(SECRET, "ann", 600))), 200);
}

#[test]
fn changed_keys_are_in_force_in_seconds_and_broken_ones_change_nothing() {
    let folder = Folder::new("rotation");
    let jwks = folder.write("jwks", &set(SECRET));
    let mut server = Server::serve(&["--jwks-file", &jwks, "--audience", AUDIENCE]);
    let (old, new) = (token(SECRET, "ann", 600), token(OTHER_SECRET, "ann", 600));
    assert_eq!((negotiate(&server, "demo", Some(&old)), negotiate(&server, "demo", Some(&new))), (200, 401));
    folder.write("jwks", "{\"keys\":[{\"kty\":\"oct\"");
    let complaint = server.process.line("FF3101");
    assert!(complaint.contains("stay as they were"), "{complaint}");
    assert!(server.process.line("why").contains("FF2030"));
    assert_eq!(negotiate(&server, "demo", Some(&old)), 200, "the keys before are still in force");
    // As it is done well: the new file is written beside and moved over.
    fs::rename(folder.write("jwks.new", &set(OTHER_SECRET)), &jwks).expect("a new file");
    server.process.line("keys  1 for tokens, read again");
    assert_eq!((negotiate(&server, "demo", Some(&old)), negotiate(&server, "demo", Some(&new))), (401, 200));
}

#[test]
fn flags_that_cannot_be_meant_are_refused_with_a_remedy() {
    let folder = Folder::new("flags");
    let key = folder.write("key", SECRET);
    let missing = folder.0.join("nowhere").to_string_lossy().into_owned();
    let short = folder.write("short", "short");
    for (flags, exit, parts) in [
        (&["--audience", "x"][..], 2, &["FF1004", "`--audience` needs keys", "--jwks-file FILE"][..]),
        (&["--anonymous", "off"], 2, &["FF1004", "`--anonymous` needs keys"]),
        (&["--auth-key-file", &key], 2, &["FF1004", "missing: --audience", "--audience '*'"]),
        (&["--auth-key-file", &key, "--audience", ""], 2, &["FF1002", "--audience"]),
        (&["--auth-key-file", &key, "--audience", "x", "--clock-skew", "6m"], 2, &["FF1002", "longer than 5m"]),
        (&["--auth-key-file", &key, "--audience", "x", "--anonymous-hub", "nope"], 2, &["FF1002", "nope", "demo"]),
        (&["--auth-key-alg", "HS512", "--audience", "x"], 2, &["FF1004"]),
        (&["--auth-key-file", &missing, "--audience", "x"], 5, &["FF2030", "nowhere", "No such file"]),
        (&["--auth-key-file", &short, "--audience", "x"], 5, &["FF2030", "short", "5 bytes", "openssl rand"]),
        (
            &["--auth-key-file", &key, "--auth-key-alg", "HS512", "--audience", "x"],
            5,
            &["FF2030", "HS512 needs at least 64"],
        ),
    ] {
        let common = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"];
        let (code, said) = Fanfare::start(&[&common, flags].concat()).code();
        assert_eq!(code, exit, "{flags:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{flags:?}: no `{part}` in {said}");
        }
    }
}

/// Everything that a server says, on whatever channel, while tokens go by in every place they can be in.
#[test]
fn line_151_access_token_never_appears_in_logs() {
    let folder = Folder::new("silence");
    let jwks = folder.write("jwks", &set(SECRET));
    let flags = ["--jwks-file", &jwks, "--audience", AUDIENCE, "--clock-skew", "0s", "--close-on-expiry", "on"];
    let mut server = Server::serve(&flags);
    let tokens = [
        token(SECRET, "good-user", 600),
        token(SECRET, "expired-user", -600),
        token(OTHER_SECRET, "forged-user", 600),
        "not-even-a-token-but-still-secret".to_owned(),
    ];
    let upgrade = "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
    let mut told = String::new();
    for secret in &tokens {
        let query = format!("access_token={secret}");
        for method in ["GET", "POST", "DELETE", "PUT", "HEAD"] {
            for path in ["/demo", "/demo/negotiate", "/nowhere", "/health", "/demo/../etc", "/metrics"] {
                for bearer in [None, Some(secret.as_str())] {
                    told += &format!("{:?}", ask(&server, method, &format!("{path}?{query}"), bearer));
                }
            }
        }
        // An upgrade that is let in stays open: its end is asked for by closing.
        let head = format!("GET /demo?{query} HTTP/1.1\nHost: x\n{upgrade}\n");
        told += &first_line(server.public, &head);
        for broken in [
            format!("GET /demo?{query} HTTP/9.9\nHost: x\nConnection: close\n\n"),
            format!("GET /demo?{query}\u{1} HTTP/1.1\nHost: x\nConnection: close\n\n"),
            format!("GET /demo?{query} HTTP/1.1\nAuthorization Bearer {secret}\nConnection: close\n\n"),
            format!("G@T /demo?{query} HTTP/1.1\nHost: x\nAuthorization: Bearer {secret}\nConnection: close\n\n"),
            format!("GET /demo?{query}{} HTTP/1.1\nHost: x\n\n", "x".repeat(9_000)),
        ] {
            told += &first_line(server.public, &broken);
        }
        for path in ["/", "/metrics", "/status", "/nowhere", "/health", "/readyz"] {
            told += &format!("{:?}", get(server.admin, &format!("{path}?{query}")));
        }
    }
    // A connection that lives until its token expires, and keys that change meanwhile.
    let short = token(SECRET, "short-user", 1);
    let target = format!("GET /demo?access_token={short} HTTP/1.1\nHost: x\n{upgrade}\n");
    told += &first_line(server.public, &target);
    folder.write("jwks", &format!("{{\"keys\":[{{\"k\":\"{}\"}}]}}", URL_SAFE_NO_PAD.encode(OTHER_SECRET)));
    server.process.line("FF3101");
    for path in ["/", "/metrics", "/status"] {
        told += &format!("{:?}", get(server.admin, path));
    }
    server.process.signal(Signal::TERM);
    let (status, said) = server.process.end();
    assert!(status.success(), "{said}");
    assert!(said.contains("drained") && said.contains("FF3101"), "the log was collected: {said}");
    assert!(told.contains("HTTP/1.1 101") && told.contains("401") && told.contains("fanfare_auth_failures_total"));
    told += &said;
    let secrets = tokens.iter().chain([&short]).flat_map(|token| token.split('.')).map(str::to_owned);
    let keys = [SECRET, OTHER_SECRET].into_iter().flat_map(|key| [key.to_owned(), URL_SAFE_NO_PAD.encode(key)]);
    // The header's part is the same in all of them and no secret; claims and signatures are.
    for secret in secrets.filter(|part| *part != URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#)).chain(keys) {
        assert!(!told.contains(&secret), "`{secret}` was told in\n{told}");
    }
    for trace in ["access_token", "Bearer ", "good-user", "short-user"] {
        assert!(!told.contains(trace), "`{trace}` was told in\n{told}");
    }
}

/// The first line of the answer, or nothing if the server just closes.
fn first_line(address: std::net::SocketAddr, head: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&address, SOON).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    let began = Instant::now();
    // The server may answer and close before it has read a head that is too large.
    let _ = stream.write_all(head.replace('\n', "\r\n").as_bytes());
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    while !answer.contains(&b'\n') && began.elapsed() < SOON {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(len) => answer.extend_from_slice(&bytes[..len]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
