//! Connection strings of Azure SignalR Service and of whatever speaks like it: where its clients connect, and the
//! tokens that they come with (`spec/azure-service.md` 2.1 to 2.3).

use crate::failure::Failure;
use crate::target::Url;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long tokens are good: longer than the longest soak that one starts in the evening.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Longest name of a hub (spec 2.2).
const HUB_CHARS_MAX: usize = 128;

const SHAPE: &str = "write 'Endpoint=http://HOST;Port=PORT;AccessKey=KEY;Version=1.0;'";

/// Whether `target` is a connection string, good or bad, and not a URL.
pub fn is_connection_string(target: &str) -> bool {
    parts(target).any(|(key, _)| key.eq_ignore_ascii_case("Endpoint") || key.eq_ignore_ascii_case("AccessKey"))
}

/// Where clients of one hub connect, and what lets them in.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// `/client/?hub=...` of the service.
    pub url: Url,
    /// Tokens for it.
    pub tokens: Tokens,
}

impl Entrance {
    /// To `hub` of the service that `text` is the connection string of. `place` is the flag or file to blame.
    pub fn parse(text: &str, hub: Option<&str>, place: &str) -> Result<Self, Failure> {
        let values = Values::parse(text, place)?;
        let hub = hub.ok_or_else(|| {
            let cause = "a connection string names a service, and not which of its hubs";
            Failure::usage(cause, place, "add --hub NAME")
        })?;
        // Hubs are told apart in lower case (spec 2.2), and so does the SDK write them.
        let hub = hub.to_ascii_lowercase();
        if !is_hub_name(&hub) {
            let remedy = "begin with a letter, and use letters, digits and _ ` , . [ ] only, 128 at most";
            return Err(Failure::usage(format!("'{hub}' is no name of a hub"), "--hub", remedy));
        }
        let endpoint = values.url("Endpoint", values.endpoint)?;
        let audience = format!("http://{}/client/?hub={hub}", host_of(&endpoint));
        let mut url = match values.client_endpoint {
            Some(client_endpoint) => values.url("ClientEndpoint", client_endpoint)?,
            None => values.with_port(endpoint)?,
        };
        url.path = format!("{}/client/", url.path.trim_end_matches('/'));
        url.query = format!("hub={}", in_query(&hub));
        Ok(Self { url, tokens: Tokens::new(values.access_key, audience) })
    }
}

/// Letters, digits and a few marks, a letter first (spec 2.2).
fn is_hub_name(hub: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_`,.[]".contains(&byte);
    hub.len() <= HUB_CHARS_MAX && hub.starts_with(|c: char| c.is_ascii_alphabetic()) && hub.bytes().all(good)
}

/// A name of a hub as a query may hold it.
fn in_query(hub: &str) -> String {
    hub.replace('`', "%60").replace('[', "%5B").replace(']', "%5D")
}

/// As an audience names a host: without the port (spec 2.3).
fn host_of(url: &Url) -> String {
    if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() }
}

/// The keys that matter. Others are of no concern to clients.
struct Values<'t> {
    endpoint: &'t str,
    port: Option<u16>,
    access_key: &'t str,
    client_endpoint: Option<&'t str>,
    place: &'t str,
}

impl<'t> Values<'t> {
    fn parse(text: &'t str, place: &'t str) -> Result<Self, Failure> {
        let refuse = |cause: String| Failure::usage(cause, place, SHAPE);
        let find = |wanted: &str| -> Result<Option<&'t str>, Failure> {
            let mut found = parts(text).filter(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
            let first = found.next().filter(|value| !value.is_empty());
            match found.next() {
                Some(_) => Err(refuse(format!("the connection string says {wanted} twice"))),
                None => Ok(first),
            }
        };
        let needed = |key: &str, value: Option<&'t str>| {
            value.ok_or_else(|| refuse(format!("the connection string has no {key}")))
        };
        if let Some(kind) = find("AuthType")? {
            let cause =
                format!("AuthType={kind} wants tokens of an identity provider, which this generator cannot ask for");
            return Err(Failure::usage(cause, place, "use a connection string with an AccessKey"));
        }
        if let Some(version) = find("Version")?
            && !version.starts_with("1.")
        {
            return Err(refuse(format!("version '{version}' of connection strings is not known, only 1.x")));
        }
        let port = match find("Port")? {
            None => None,
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(refuse(format!("'{text}' is not a port: 1 to 65535"))),
            },
        };
        Ok(Self {
            endpoint: needed("Endpoint", find("Endpoint")?)?,
            port,
            access_key: needed("AccessKey", find("AccessKey")?)?,
            client_endpoint: find("ClientEndpoint")?,
            place,
        })
    }

    fn url(&self, key: &str, text: &str) -> Result<Url, Failure> {
        if !text.contains("://") {
            return Err(Failure::usage(format!("{key} '{text}' is not a URL"), self.place, SHAPE));
        }
        Url::parse(text, self.place)
    }

    /// `Port` wins over the one in `Endpoint` (spec 2.1).
    fn with_port(&self, mut url: Url) -> Result<Url, Failure> {
        if let Some(port) = self.port {
            let host = host_of(&url);
            url.authority = if port == 80 { host } else { format!("{host}:{port}") };
            url.port = port;
        }
        Ok(url)
    }
}

/// `key=value;...`, split at the first `=`: keys end in some (spec 2.1).
fn parts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()))
}

/// Mints what lets clients in: HS256, the key as the UTF-8 bytes of its text (spec 2.3).
#[derive(Clone)]
pub struct Tokens {
    key: Hmac<Sha256>,
    audience: String,
    issued_s: u64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Tokens {
    fn new(access_key: &str, audience: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = Hmac::new_from_slice(access_key.as_bytes()).expect("HMAC takes keys of any length");
        Self { key, audience, issued_s: now.as_secs() }
    }

    /// A token for `user`, or for nobody in particular.
    pub fn mint(&self, user: Option<&str>) -> String {
        let (from, until) = (self.issued_s, self.issued_s + TOKEN_LIFETIME.as_secs());
        let mut claims = serde_json::json!({ "nbf": from, "exp": until, "iat": from, "aud": self.audience });
        if let Some(user) = user {
            claims["nameid"] = user.into();
        }
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
        let mut mac = self.key.clone();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ZGV2LW9ubHk=";

    fn entrance(text: &str) -> Result<Entrance, Failure> {
        Entrance::parse(text, Some("Chat"), "--target")
    }

    fn claims(token: &str) -> serde_json::Value {
        let payload = token.split('.').nth(1).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
    }

    #[test]
    fn a_connection_string_leads_to_the_clients_door() {
        for (text, authority, audience) in [
            ("Endpoint=http://localhost;Port=8888;AccessKey=ZGV2LW9ubHk=;Version=1.0;", "localhost:8888", "localhost"),
            ("endpoint = http://h:81/ ; accesskey=k", "h:81", "h"),
            ("Endpoint=http://h:81;Port=82;AccessKey=k", "h:82", "h"),
            ("Endpoint=http://h:81;Port=80;AccessKey=k", "h", "h"),
            ("Endpoint=http://[::1]:81;AccessKey=k;Version=1.0-preview", "[::1]:81", "[::1]"),
            ("Endpoint=http://h;AccessKey=k;ClientEndpoint=http://proxy:9;Port=7", "proxy:9", "h"),
        ] {
            assert!(is_connection_string(text));
            let entrance = entrance(text).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            assert_eq!(entrance.url.authority, authority, "{text}");
            assert_eq!(entrance.url.request_target(""), "/client/?hub=chat");
            assert_eq!(entrance.url.negotiate_target(), "/client/negotiate?hub=chat&negotiateVersion=1");
            let claims = claims(&entrance.tokens.mint(None));
            assert_eq!(claims["aud"], format!("http://{audience}/client/?hub=chat"), "the port is no part of it");
        }
        for url in ["ws://h/x", "http://h:1/?a=b;c=d", "localhost:9/hub?user=5"] {
            assert!(!is_connection_string(url), "{url}");
        }
    }

    #[test]
    fn bad_ones_are_refused_without_their_key() {
        for (text, part) in [
            ("Endpoint=http://h;Version=1.0", "no AccessKey"),
            ("AccessKey=s3cret", "no Endpoint"),
            ("Endpoint=;AccessKey=s3cret", "no Endpoint"),
            ("Endpoint=h;AccessKey=s3cret", "not a URL"),
            ("Endpoint=https://h;AccessKey=s3cret", "TLS"),
            ("Endpoint=http://h;AccessKey=s3cret;Port=0", "not a port"),
            ("Endpoint=http://h;AccessKey=s3cret;Port=x", "not a port"),
            ("Endpoint=http://h;AccessKey=s3cret;Version=2.0", "version"),
            ("Endpoint=http://h;AccessKey=s3cret;endpoint=http://i", "twice"),
            ("Endpoint=http://h;AuthType=azure.msi;Version=1.0", "identity provider"),
        ] {
            let failure = entrance(text).map(|_| ()).expect_err(text);
            assert!(failure.cause.contains(part), "{text}: {failure}");
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
        let text = "Endpoint=http://h;AccessKey=s3cret";
        let failure = Entrance::parse(text, None, "--target").map(|_| ()).expect_err("no hub");
        assert!(failure.remedy.contains("--hub"), "{failure}");
        for hub in ["", "1a", "a b", "a/b", "ä"] {
            let failure = Entrance::parse(text, Some(hub), "--target").map(|_| ()).expect_err(hub);
            assert_eq!(failure.place, "--hub", "{failure}");
        }
        let entrance = Entrance::parse(text, Some("a[1]"), "--target").expect("good");
        assert_eq!(entrance.url.query, "hub=a%5B1%5D");
        assert!(!format!("{entrance:?}").contains("s3cret"));
    }

    /// Against a token that OpenSSL has signed.
    #[test]
    fn the_signature_is_that_of_others() {
        let mut tokens = Tokens::new(KEY, "http://localhost/client/?hub=chat".to_owned());
        tokens.issued_s = 1_700_000_000;
        let token = tokens.mint(Some("u17"));
        let claims = claims(&token);
        assert_eq!((&claims["nameid"], &claims["nbf"]), (&"u17".into(), &1_700_000_000_u64.into()));
        assert_eq!(claims["exp"], 1_700_086_400_u64);
        assert_eq!(token.rsplit('.').next(), Some("bSBN7REN-1B18zLmGPIfMCvHDkMyCfrLaufACS-fqqQ"));
    }
}
