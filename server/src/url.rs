//! Where a server is: the part of a URL that the client verbs need, and why the rest is refused.

use crate::failure::{Code, Failure};

/// A server reached over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// Name or address, without the brackets of an IPv6 literal.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// What precedes the hub in the path: empty, or `/` and text without a `/` at its end.
    pub(crate) prefix: String,
}

impl ServerUrl {
    /// Reads `http://host[:port][/prefix]`; `ws:` is taken for `http:`.
    ///
    /// # Errors
    /// [`Code::BadUrl`] with what was given and what would do.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::new(Code::BadUrl, "bad value for `--url`")
                .fact("given", crate::units::printable(text))
                .fact("why", why)
                .fact("accepted", "http://HOST[:PORT][/PREFIX]")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse("it does not begin with a scheme"))?;
        match scheme {
            "http" | "ws" => {}
            "https" | "wss" => return Err(refuse("this client speaks no TLS; ask a listener without TLS")),
            _ => return Err(refuse(&format!("`{scheme}` is not a scheme of a SignalR server"))),
        }
        if let Some(forbidden) = rest.chars().find(|c| !c.is_ascii_graphic() || "?#@\\".contains(*c)) {
            return Err(refuse(&format!("`{}` has no place here", forbidden.escape_default())));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = split_authority(authority).ok_or_else(|| refuse("host or port cannot be read"))?;
        Ok(ServerUrl { host: host.to_owned(), port, prefix: path.trim_end_matches('/').to_owned() })
    }

    /// The path of `hub` on this server.
    pub(crate) fn hub_path(&self, hub: &str) -> String {
        format!("{}/{hub}", self.prefix)
    }

    /// Host and port as they stand in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

/// Port of `http` when none is given.
const PORT_HTTP: u16 = 80;

fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (host, after) = literal.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|&port: &u16| port != 0)?,
        None => PORT_HTTP,
    };
    (!host.is_empty()).then_some((host, port))
}

/// `text` percent-encoded for a query value: all but the unreserved characters of RFC 3986 2.3.
pub(crate) fn query_value(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: u16, prefix: &str) -> ServerUrl {
        ServerUrl { host: host.to_owned(), port, prefix: prefix.to_owned() }
    }

    #[test]
    fn urls_of_servers_are_read() {
        for (text, expected) in [
            ("http://localhost:8888", url("localhost", 8888, "")),
            ("http://localhost:8888/", url("localhost", 8888, "")),
            ("ws://push.corp", url("push.corp", 80, "")),
            ("http://[::1]:9000/a/b/", url("::1", 9000, "/a/b")),
        ] {
            assert_eq!(ServerUrl::parse(text).expect(text), expected);
        }
        assert_eq!(url("::1", 9000, "/a").authority(), "[::1]:9000");
        assert_eq!(url("h", 80, "/a").hub_path("demo"), "/a/demo");
    }

    #[test]
    fn other_urls_are_refused_with_a_reason() {
        for (text, reason) in [
            ("localhost:8888", "scheme"),
            ("https://localhost", "TLS"),
            ("ftp://localhost", "`ftp`"),
            ("http://user@host", "`@`"),
            ("http://host/?a=1", "`?`"),
            ("http://host\r\nX: y", "has no place"),
            ("http://", "host or port"),
            ("http://host:0", "host or port"),
            ("http://host:99999", "host or port"),
            ("http://[::1", "host or port"),
            ("http://[nonsense]:1", "host or port"),
        ] {
            let refusal = ServerUrl::parse(text).expect_err(text).to_string();
            assert!(refusal.contains("FF1008") && refusal.contains(reason), "{text}: {refusal}");
        }
    }

    #[test]
    fn query_values_keep_only_unreserved_characters() {
        assert_eq!(query_value("a b&c=\u{e9}~"), "a%20b%26c%3D%C3%A9~");
    }
}
