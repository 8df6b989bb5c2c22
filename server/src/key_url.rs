//! Keys that an identity provider publishes at a URL (RFC 7517 5): asked for at start, and again and again, on a thread
//! of their own, because asking may take its time.
//!
//! Whoever can change what the URL answers can make tokens. So it is asked over TLS, by certificates that this machine
//! trusts; in plain text only on this machine; and a redirect does not lead out of TLS.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_engine::auth::{JWKS_BYTES_MAX, Jwks, KeyFault};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::failure::{Code, Failure};

/// How often keys are asked for, unless it is said. Providers announce a key long before they sign with it.
pub(crate) const REFRESH_PERIOD: Duration = Duration::from_secs(5 * 60);
/// Nor sooner than this after the last time, unless the operator asks: bad tokens must not make us a burden to others.
pub(crate) const REFRESH_PERIOD_MIN: Duration = Duration::from_secs(30);
/// From the question to the last byte of the answer.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// How often keys are asked for at start before the server gives up.
const TRIES_AT_START: usize = 3;
/// Between those.
const PAUSE_AT_START: Duration = Duration::from_secs(1);
/// Redirects that are followed, within TLS.
const REDIRECTS_MAX: u32 = 3;

/// Where keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyUrl {
    text: String,
    is_secure: bool,
}

impl KeyUrl {
    /// Reads `https://HOST[:PORT]/PATH`, or `http://` if the host is this machine.
    ///
    /// # Errors
    /// Says what was wrong and what would be accepted, in one line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("{why}; accepted: https://HOST[:PORT]/PATH");
        let uri: Uri = text.parse().map_err(|_| refused("not a URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refused("it names no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(refused("a user has no place in it"));
        }
        match uri.scheme_str() {
            Some("https") => Ok(KeyUrl { text: text.to_owned(), is_secure: true }),
            Some("http") if is_this_machine(host) => Ok(KeyUrl { text: text.to_owned(), is_secure: false }),
            Some("http") => Err(refused("http:// only from this machine, or anybody on the way could make tokens")),
            _ => Err(refused("it does not begin with https://")),
        }
    }

    /// What the URL has now: the text of a JWK set with a key that can verify.
    ///
    /// # Errors
    /// Why not, in one line.
    fn fetch(&self) -> Result<Vec<u8>, String> {
        let agent = self.agent()?;
        let mut answer = agent.get(&self.text).call().map_err(|error| why(&error))?;
        if answer.status().as_u16() != 200 {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX as u64);
        let text = body.read_to_vec().map_err(|error| why(&error))?;
        match Jwks::parse(&text) {
            Ok(set) if !set.keys.is_empty() => Ok(text),
            Ok(_) => Err(format!("its answer cannot be used: {}", KeyFault::Empty)),
            Err(fault) => Err(format!("its answer cannot be used: {fault}")),
        }
    }

    /// A client made anew each time: certificates of this machine change, too.
    fn agent(&self) -> Result<ureq::Agent, String> {
        let redirects_max = if self.is_secure { REDIRECTS_MAX } else { 0 };
        let config = ureq::Agent::config_builder()
            .https_only(self.is_secure)
            .max_redirects(redirects_max)
            .timeout_global(Some(FETCH_TIME_MAX))
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .accept("application/jwk-set+json, application/json");
        if !self.is_secure {
            return Ok(config.proxy(None).build().into());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(trusted()?).unversioned_rustls_crypto_provider(provider);
        Ok(config.tls_config(tls.build()).build().into())
    }
}

/// The URL, without its query: some put a secret there.
impl std::fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text.split(['?', '#']).next().unwrap_or_default())
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The authorities that this machine trusts: those of its store, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn trusted() -> Result<RootCerts, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!("this machine has no certificates of authorities ({})", errors.join(", ")));
    }
    let certificates: Vec<Certificate<'static>> =
        found.certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Why an answer did not come, in the user's words where they help.
fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status) => format!("it answered {status}"),
        ureq::Error::BodyExceedsLimit(_) => format!("its answer has more than {JWKS_BYTES_MAX} bytes"),
        ureq::Error::Timeout(_) => format!("it did not answer within {} s", FETCH_TIME_MAX.as_secs()),
        ureq::Error::TooManyRedirects => "it redirects too often".to_owned(),
        ureq::Error::RequireHttpsOnly(_) => "it redirects to a URL without TLS".to_owned(),
        other => other.to_string(),
    }
}

/// How often keys came, and how often they did not.
#[derive(Debug, Default)]
pub(crate) struct FetchCounts {
    fetched: AtomicU64,
    failed: AtomicU64,
}

impl FetchCounts {
    /// By outcome.
    pub(crate) fn by_outcome(&self) -> [(&'static str, u64); 2] {
        [("ok", self.fetched.load(Ordering::Relaxed)), ("failed", self.failed.load(Ordering::Relaxed))]
    }

    fn count(&self, is_ok: bool) {
        let counter = if is_ok { &self.fetched } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for keys, and keeps what came last.
pub(crate) struct Fetcher {
    url: KeyUrl,
    counts: Arc<FetchCounts>,
    timing: Timing,
    /// A word to the thread that asks. It has room for one, and there is one at a time.
    ask: SyncSender<()>,
    came: Arc<Mutex<Option<Answer>>>,
    /// The last answer that could be used.
    text: Vec<u8>,
}

type Answer = Result<Vec<u8>, String>;

impl Fetcher {
    /// Asks for the first time, and starts the thread that will ask from then on.
    ///
    /// # Errors
    /// [`Code::KeyUrl`] if no answer comes in [`TRIES_AT_START`] tries.
    pub(crate) fn start(url: KeyUrl, period: Duration) -> Result<Self, Failure> {
        let counts = Arc::new(FetchCounts::default());
        let text = first_answer(&url, &counts).map_err(|why| not_fetched(&url, &why))?;
        let (ask, asked) = sync_channel(1);
        let came = Arc::new(Mutex::new(None));
        let asking = Asking { url: url.clone(), counts: Arc::clone(&counts), asked, came: Arc::clone(&came) };
        thread::Builder::new().name("key-url".to_owned()).spawn(move || asking.run()).map_err(|error| {
            Failure::new(Code::Control, "cannot start the thread that asks for keys").fact("why", error.to_string())
        })?;
        Ok(Fetcher { url, counts, timing: Timing::new(period, Instant::now()), ask, came, text })
    }

    /// The last keys that came, as text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where they came from.
    pub(crate) fn url(&self) -> &KeyUrl {
        &self.url
    }

    /// How often they did.
    pub(crate) fn counts(&self) -> Arc<FetchCounts> {
        Arc::clone(&self.counts)
    }

    /// Asks if it is time to. `missed`: tokens so far that named a key which is not there. `asked`: somebody wants it.
    pub(crate) fn ask_if_due(&mut self, missed: u64, asked: bool) {
        if self.timing.is_due(Instant::now(), missed, asked) {
            // Full: it is asking right now.
            let _ = self.ask.try_send(());
        }
    }

    /// What came since the last look: other keys than before, or the reason why none came, once for all that follow.
    pub(crate) fn look(&mut self) -> Option<Result<(), Failure>> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let first_failure = self.timing.answered(Instant::now(), came.is_ok());
        match came {
            Ok(text) if text == self.text => None,
            Ok(text) => {
                self.text = text;
                Some(Ok(()))
            }
            Err(why) => first_failure.then(|| Err(not_fetched(&self.url, &why))),
        }
    }
}

/// The thread that asks.
struct Asking {
    url: KeyUrl,
    counts: Arc<FetchCounts>,
    asked: Receiver<()>,
    came: Arc<Mutex<Option<Answer>>>,
}

impl Asking {
    /// Until the server ends.
    fn run(self) {
        while self.asked.recv().is_ok() {
            let answer = self.url.fetch();
            self.counts.count(answer.is_ok());
            *self.came.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
    }
}

fn first_answer(url: &KeyUrl, counts: &FetchCounts) -> Answer {
    let mut answer = Err(String::new());
    for attempt in 0..TRIES_AT_START {
        if attempt > 0 {
            thread::sleep(PAUSE_AT_START);
        }
        answer = url.fetch();
        counts.count(answer.is_ok());
        if answer.is_ok() {
            break;
        }
    }
    answer
}

fn not_fetched(url: &KeyUrl, why: &str) -> Failure {
    Failure::new(Code::KeyUrl, format!("cannot get keys from {url}"))
        .fact("why", why)
        .fix("ask it yourself: curl URL. A private authority goes into this machine's store, or into SSL_CERT_FILE; a proxy into HTTPS_PROXY")
}

/// When keys are asked for.
struct Timing {
    period: Duration,
    /// Of the last question, or of the answer to it.
    last: Instant,
    is_asking: bool,
    /// The last answer was none.
    has_failed: bool,
    /// Tokens that named a key which was not there, when we asked last.
    missed: u64,
    /// Somebody wants it.
    is_wanted: bool,
}

impl Timing {
    /// Keys came at `now`.
    fn new(period: Duration, now: Instant) -> Self {
        Timing { period, last: now, is_asking: false, has_failed: false, missed: 0, is_wanted: false }
    }

    /// After the period; sooner for tokens with unknown keys and after a failure, but not too soon; at once for whoever
    /// asks.
    fn is_due(&mut self, now: Instant, missed: u64, asked: bool) -> bool {
        self.is_wanted |= asked;
        let since = now.saturating_duration_since(self.last);
        let early = self.has_failed || missed > self.missed;
        let is_time = self.is_wanted || since >= self.period || early && since >= REFRESH_PERIOD_MIN;
        let due = is_time && !self.is_asking;
        if due {
            (self.last, self.is_asking, self.is_wanted, self.missed) = (now, true, false, missed);
        }
        due
    }

    /// Whether this is the first of failures in a row.
    fn answered(&mut self, now: Instant, is_ok: bool) -> bool {
        let had_failed = std::mem::replace(&mut self.has_failed, !is_ok);
        (self.last, self.is_asking) = (now, false);
        !is_ok && !had_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    #[test]
    fn urls_of_keys_are_secure_or_of_this_machine() {
        for (text, is_secure) in [
            ("https://id.example/keys", true),
            ("https://id.example:8443/realms/a/keys?x=1", true),
            ("http://localhost:8080/keys", false),
            ("http://127.0.0.9/keys", false),
            ("http://[::1]:8080/keys", false),
        ] {
            assert_eq!(KeyUrl::parse(text), Ok(KeyUrl { text: text.to_owned(), is_secure }));
        }
        for (text, why) in [
            ("http://id.example/keys", "this machine"),
            ("http://localhost.example/keys", "this machine"),
            ("http://10.0.0.1/keys", "this machine"),
            ("https://me:secret@id.example/keys", "user"),
            ("/keys", "host"),
            ("id.example/keys", "not"),
            ("ftp://id.example/keys", "https://"),
            ("https:// id.example", "not a URL"),
            ("", "not a URL"),
        ] {
            let refusal = KeyUrl::parse(text).expect_err(text);
            assert!(refusal.contains(why) && refusal.contains("accepted: https://"), "{text}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
        let url = KeyUrl::parse("https://id.example/keys?code=secret").expect("a URL");
        assert_eq!(url.to_string(), "https://id.example/keys");
    }

    /// Answers so many requests with these bytes, and then hears no more.
    fn provider(answers: Vec<Vec<u8>>) -> KeyUrl {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let url = format!("http://{}/keys", listener.local_addr().expect("its address"));
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.extend(byte);
                }
                assert!(head.starts_with(b"GET /keys HTTP/1.1\r\n"));
                let _ = stream.write_all(&answer);
            }
        });
        KeyUrl::parse(&url).expect("a URL")
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    /// A set with one key. Blanks behind it count as well.
    const SET: &[u8] = br#"{"keys":[{"kty":"oct","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;

    #[test]
    fn what_comes_is_taken_and_what_does_not_has_a_reason() {
        assert_eq!(provider(vec![answer("200 OK", SET)]).fetch(), Ok(SET.to_vec()));
        let mut most = SET.to_vec();
        most.resize(JWKS_BYTES_MAX, b' ');
        assert_eq!(provider(vec![answer("200 OK", &most)]).fetch().map(|text| text.len()), Ok(JWKS_BYTES_MAX));
        for (sent, why) in [
            (answer("404 Not Found", b""), "404"),
            (answer("503 Service Unavailable", b""), "503"),
            (answer("204 No Content", b""), "204"),
            (answer("302 Found\r\nLocation: http://127.0.0.1:1/", b""), "302"),
            (answer("200 OK", &vec![b' '; JWKS_BYTES_MAX + 1]), "more than 1048576 bytes"),
            (answer("200 OK", b"<html>"), "array `keys`"),
            (answer("200 OK", br#"{"keys":[]}"#), "no key that can verify"),
            (b"SSH-2.0-x\r\n".to_vec(), ""),
        ] {
            let refusal = provider(vec![sent]).fetch().expect_err(why);
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!(provider(Vec::new()).fetch().is_err(), "nobody listens");
    }

    #[test]
    fn at_start_it_is_asked_again() {
        let url = provider(vec![answer("503 Service Unavailable", b""), answer("200 OK", SET)]);
        let fetcher = Fetcher::start(url, REFRESH_PERIOD).expect("keys");
        assert_eq!((fetcher.text(), fetcher.counts().by_outcome()), (SET, [("ok", 1), ("failed", 1)]));
        let failure = Fetcher::start(provider(Vec::new()), REFRESH_PERIOD).err().expect("nobody is there");
        let text = failure.to_string();
        assert!(text.contains("FF2031") && text.contains("127.0.0.1") && text.contains("SSL_CERT_FILE"), "{text}");
    }

    #[test]
    fn keys_are_asked_for_after_a_period_and_sooner_with_a_reason() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut timing = Timing::new(Duration::from_secs(300), begin);
        assert!(!timing.is_due(at(299), 0, false));
        assert!(timing.is_due(at(300), 0, false) && !timing.is_due(at(900), 0, false), "one question at a time");
        assert!(!timing.answered(at(301), true));
        assert!(!timing.is_due(at(330), 5, false), "unknown keys, but it is too soon");
        assert!(timing.is_due(at(331), 5, false) && !timing.answered(at(331), true));
        assert!(!timing.is_due(at(400), 5, false), "the same ones are no reason twice");
        assert!(timing.is_due(at(401), 5, true), "somebody asks");
        assert!(!timing.is_due(at(402), 5, true), "and again, before the answer");
        assert!(timing.answered(at(403), false), "the first failure is told");
        assert!(timing.is_due(at(404), 5, false) && !timing.answered(at(404), false), "the next one is not");
        assert!(!timing.is_due(at(433), 5, false) && timing.is_due(at(434), 5, false), "a failure is tried again");
        assert!(
            !timing.answered(at(434), true) && !timing.is_due(at(733), 5, false) && timing.is_due(at(734), 5, false)
        );
    }
}
