//! `fanfare serve --jwks-url`: keys from an identity provider, over TLS by an authority that the machine trusts.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::{Fanfare, Server, Signal, exchange, get};

const SECRET: &str = "the secret of these tests is long enough";
const OTHER_SECRET: &str = "another secret of these tests, as long as it";

/// What a provider answers with: status line and body.
type Page = Arc<Mutex<(&'static str, String)>>;

/// An identity provider on this machine.
struct Provider {
    address: SocketAddr,
    page: Page,
    /// The certificate that it vouches for itself with.
    certificate_file: PathBuf,
}

impl Provider {
    /// Publishes the keys of `page` over TLS, as `localhost`.
    fn start(name: &str, body: String) -> Provider {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let certificate_file = std::env::temp_dir().join(format!("fanfare-key-url-{}-{name}.pem", std::process::id()));
        fs::write(&certificate_file, made.cert.pem()).expect("a file");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a certificate and its key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let page = Arc::new(Mutex::new(("200 OK", body)));
        let answers = Arc::clone(&page);
        thread::spawn(move || {
            let config = Arc::new(config);
            while let Ok((stream, _)) = listener.accept() {
                let tls = ServerConnection::new(Arc::clone(&config)).expect("a connection");
                answer(&mut StreamOwned::new(tls, stream), &answers);
            }
        });
        Provider { address, page, certificate_file }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/keys?code=hidden", self.address.port())
    }

    fn publish(&self, status: &'static str, body: String) {
        *self.page.lock().expect("no panic") = (status, body);
    }

    fn serve(&self, more: &[&str]) -> Server {
        Server::serve_with(&self.environment(), &[&["--jwks-url", &self.url(), "--audience", "*"], more].concat())
    }

    /// Trust in this provider, and no detour to it.
    fn environment(&self) -> [(&'static str, &str); 3] {
        let file = self.certificate_file.to_str().expect("a plain path");
        [("SSL_CERT_FILE", file), ("HTTPS_PROXY", ""), ("NO_PROXY", "localhost")]
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.certificate_file);
    }
}

/// One answer to one request. Who does not trust us goes without one.
fn answer(stream: &mut (impl Read + Write), page: &Page) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            _ => return,
        }
    }
    let (status, body) = page.lock().expect("no panic").clone();
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.flush();
}

fn set(secret: &str) -> String {
    let secret = URL_SAFE_NO_PAD.encode(secret);
    format!(r#"{{"keys":[{{"kty":"oct","kid":"{}","alg":"HS256","k":"{secret}"}}]}}"#, secret.len())
}

fn token(secret: &str) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch").as_secs();
    let claims = format!(r#"{{"sub":"ann","exp":{}}}"#, now_s + 600);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

fn negotiate(server: &Server, secret: &str) -> u16 {
    let head = format!(
        "POST /demo/negotiate?negotiateVersion=1 HTTP/1.1\nHost: x\nContent-Length: 0\nConnection: close\n\
         Authorization: Bearer {}\n\n",
        token(secret)
    );
    exchange(server.public, &head).status
}

#[test]
fn keys_come_from_the_url_and_change_with_it() {
    let provider = Provider::start("change", set(SECRET));
    let mut server = provider.serve(&[]);
    assert_eq!((negotiate(&server, SECRET), negotiate(&server, OTHER_SECRET)), (200, 401));

    provider.publish("503 Service Unavailable", String::new());
    server.process.signal(Signal::HUP);
    server.process.line("FF3101");
    let why = server.process.line("FF2031");
    assert!(why.contains("https://localhost") && !why.contains("hidden"), "{why}");
    assert!(server.process.line("503").contains("it answered 503"));
    assert_eq!(negotiate(&server, SECRET), 200, "the keys before are still in force");

    provider.publish("200 OK", set(OTHER_SECRET));
    server.process.signal(Signal::HUP);
    // Once for the files, which are none, and once for what came.
    server.process.line("keys  1 for tokens, read again");
    server.process.line("keys  1 for tokens, read again");
    assert_eq!((negotiate(&server, SECRET), negotiate(&server, OTHER_SECRET)), (401, 200));
    let page = get(server.admin, "/metrics").body;
    for line in ["fanfare_key_fetches_total{outcome=\"ok\"} 2", "fanfare_key_fetches_total{outcome=\"failed\"} 1"] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_provider_that_is_not_trusted_or_has_no_keys_lets_no_server_start() {
    let provider = Provider::start("start", set(SECRET));
    let stranger = Provider::start("stranger", set(SECRET));
    let start = |environment: &[(&str, &str)]| {
        let url = provider.url();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"];
        let arguments = [&arguments[..], &["--jwks-url", &url, "--audience", "*"]].concat();
        Fanfare::start_with(environment, &arguments).code()
    };
    let (code, said) = start(&stranger.environment());
    assert!(code == 5 && said.contains("FF2031") && said.contains("certificate"), "{said}");
    assert!(said.contains("SSL_CERT_FILE") && !said.contains("hidden"), "{said}");
    provider.publish("200 OK", "<html>sign in</html>".to_owned());
    let (code, said) = start(&provider.environment());
    assert!(code == 5 && said.contains("FF2031") && said.contains("array `keys`"), "{said}");
}

#[test]
fn flags_about_the_url_are_refused_with_a_remedy() {
    for (flags, parts) in [
        (
            &["--jwks-url", "https://me:hidden@id.example/keys"][..],
            &["FF1002", "--jwks-url", "a user has no place"][..],
        ),
        (&["--jwks-url", "http://id.example/keys"], &["FF1002", "--jwks-url", "https://HOST"]),
        (&["--jwks-url", "https://id.example/keys", "--jwks-refresh", "1s"], &["FF1002", "--jwks-refresh", "30s"]),
        (&["--jwks-url", "https://id.example/keys"], &["FF1004", "--audience"]),
        (&["--jwks-refresh", "1m", "--audience", "x"], &["--jwks-url"]),
    ] {
        let (code, said) = Fanfare::start(&[&["serve", "--hub", "a"], flags].concat()).code();
        assert!(!said.contains("hidden"), "{said}");
        assert!(code == 2 && parts.iter().all(|part| said.contains(part)), "{said}");
    }
}
