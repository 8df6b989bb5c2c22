//! `fanfare serve` with TLS: who is answered, how certificates change, and what is said when they cannot be used.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Fanfare, Folder, SOON, Server, Signal, get};

struct Identity {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

/// A certificate for `localhost`, good until the first day of this year.
fn identity(until_year: i32) -> Identity {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Identity { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts this certificate only. It has not shaken hands yet.
fn dial(address: SocketAddr, trusted: &Identity) -> Result<Secure, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(StreamOwned::new(connection, socket))
}

/// The answer to a request over TLS; the error, if there is no TLS to be had.
fn ask(address: SocketAddr, trusted: &Identity) -> Result<String, std::io::Error> {
    let mut stream = dial(address, trusted)?;
    let request = "POST /demo/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    // Without the server's goodbye this is an error.
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A request on a connection that stays, and the first bytes of its answer.
fn ask_again(stream: &mut Secure) -> String {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut bytes = [0; 4096];
    let n = stream.read(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

fn tls_address(server: &Server) -> SocketAddr {
    let line = server.process.said("listening on https://");
    line.split("https://").nth(1).expect("an address").trim().parse().expect("an address")
}

fn metric(server: &Server, name: &str) -> String {
    let page = get(server.admin, "/metrics").body;
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).to_owned()
}

#[test]
fn clients_come_in_over_tls_and_certificates_change_under_them() {
    let folder = Folder::new("change");
    let (old, new) = (identity(2096), identity(2097));
    let (chain, key) = (folder.write("chain.pem", &old.chain), folder.write("key.pem", &old.key));
    let mut server = Server::serve(
        &[&["--tls-listen", "127.0.0.1:0", "--tls-cert-file", &chain][..], &["--tls-key-file", &key]].concat(),
    );
    let address = tls_address(&server);
    assert!(server.process.said("tls   1 certificate, good for ").contains("days"));
    let answer = ask(address, &old).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connectionToken"), "{answer}");
    // The plain port is still there.
    assert_eq!(get(server.public, "/health").status, 200);
    // And says so on the other one.
    let mut plain = TcpStream::connect(address).expect("a socket");
    plain.write_all(b"GET /demo HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut told = String::new();
    plain.read_to_string(&mut told).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("wss://"), "{told}");

    let mut before = dial(address, &old).expect("a connection");
    assert!(ask_again(&mut before).starts_with("HTTP/1.1 200 "));

    // A chain without its key changes nothing.
    folder.write("chain.pem", &new.chain);
    let complaint = server.process.line("FF3102");
    assert!(complaint.contains("stay as they were"), "{complaint}");
    assert!(server.process.line("why").contains("FF2032"));
    assert!(ask_again(&mut before).starts_with("HTTP/1.1 200 "));
    ask(address, &old).expect("the old one is still good");
    folder.write("key.pem", &new.key);
    server.process.line("tls   1 certificate, good for ");
    ask(address, &new).expect("the new one");
    assert!(ask(address, &old).is_err(), "who trusts only the old one is not served by it");

    let answer = ask_again(&mut before);
    assert!(answer.starts_with("HTTP/1.1 200 "), "who was there before is still served: {answer}");

    // Asked for, without a change.
    server.process.signal(Signal::HUP);
    assert!(server.process.line("read again").contains("tls   1 certificate"));
    assert_eq!(metric(&server, "fanfare_tls_handshakes_total"), "fanfare_tls_handshakes_total 4");
    let reloads = ["fanfare_tls_reloads_total{result=\"taken\"} 2", "fanfare_tls_reloads_total{result=\"kept\"} 1"];
    let page = get(server.admin, "/metrics").body;
    reloads.iter().for_each(|line| assert!(page.lines().any(|found| found == *line), "{line} is not in\n{page}"));
    // The first second of 2097.
    assert_eq!(
        metric(&server, "fanfare_tls_certificate_end_seconds"),
        "fanfare_tls_certificate_end_seconds 4007836800"
    );
    let notice = server.process.heard("FF4120");
    assert!(notice.contains("1 sockets were closed: they spoke no TLS"), "{notice}");
    for (reason, count) in [("not_tls", 1), ("alert", 1), ("malformed", 0)] {
        let line = format!("fanfare_tls_handshake_failures_total{{reason=\"{reason}\"}} {count}");
        let page = get(server.admin, "/metrics").body;
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[test]
fn an_expired_certificate_is_warned_of_and_served() {
    let folder = Folder::new("expired");
    let expired = identity(2020);
    let (chain, key) = (folder.write("chain.pem", &expired.chain), folder.write("key.pem", &expired.key));
    let server = Server::serve(&["--tls-listen", "127.0.0.1:0", "--tls-cert-file", &chain, "--tls-key-file", &key]);
    assert!(server.process.said("FF2301").contains("expired"));
    let error = ask(tls_address(&server), &expired).expect_err("clients look");
    assert!(error.to_string().contains("xpired"), "{error}");
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let folder = Folder::new("bad");
    let (one, other) = (identity(2096), identity(2096));
    let chain = folder.write("chain.pem", &one.chain);
    let key = folder.write("key.pem", &one.key);
    let other_key = folder.write("other.pem", &other.key);
    let empty = folder.write("empty.pem", "");
    let nowhere = folder.0.join("nowhere.pem").to_string_lossy().into_owned();
    let start = |more: &[&str]| {
        Fanfare::start(&[&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], more].concat()).code()
    };
    for (chain, key, named, why, fix) in [
        (&nowhere, &key, "nowhere.pem", "No such file", "name a file"),
        (&chain, &nowhere, "nowhere.pem", "No such file", "name a file"),
        (&empty, &key, "empty.pem", "no certificate", "-----BEGIN CERTIFICATE-----"),
        (&chain, &empty, "empty.pem", "no private key", "-----BEGIN PRIVATE KEY-----"),
        (&key, &key, "key.pem", "no certificate", "-----BEGIN CERTIFICATE-----"),
        (&chain, &chain, "chain.pem", "no private key", "-----BEGIN PRIVATE KEY-----"),
        (&chain, &other_key, "other.pem", "does not belong", "in the same order"),
    ] {
        let (code, said) = start(&["--tls-listen", "127.0.0.1:0", "--tls-cert-file", chain, "--tls-key-file", key]);
        assert!(code == 5 && said.contains("FF2032") && said.contains(named) && said.contains(why), "{said}");
        assert!(said.lines().any(|line| line.trim_start().starts_with("fix") && line.contains(fix)), "{said}");
    }
    let (code, said) = start(&["--tls-listen", "127.0.0.1:0"]);
    assert!(code == 2 && said.contains("FF1004") && said.contains("--tls-cert-file"), "{said}");
    let (code, said) = start(&[
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert-file",
        &chain,
        "--tls-cert-file",
        &chain,
        "--tls-key-file",
        &key,
    ]);
    assert!(code == 2 && said.contains("FF1004") && said.contains("2 certificate files, 1 key files"), "{said}");
}

#[test]
fn files_without_a_listener_are_a_mistake() {
    let (code, said) = Fanfare::start(&["serve", "--tls-cert-file", "chain.pem", "--tls-key-file", "key.pem"]).code();
    assert!(code == 2 && said.contains("--tls-listen"), "{said}");
}

#[test]
fn a_throw_away_server_speaks_tls_too() {
    let folder = Folder::new("dev");
    let one = identity(2096);
    let (chain, key) = (folder.write("chain.pem", &one.chain), folder.write("key.pem", &one.key));
    let server = Server::dev(&["--tls-port", "0", "--tls-cert-file", &chain, "--tls-key-file", &key]);
    let line = server.process.said("TLS                https://localhost:");
    let port = line.split("localhost:").nth(1).and_then(|rest| rest.split('/').next()).expect("a port");
    let answer = ask(format!("127.0.0.1:{port}").parse().expect("an address"), &one).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
