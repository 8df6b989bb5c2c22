//! Where the server is: a URL taken apart, an address resolved, and source addresses that give enough ports.

use crate::failure::Failure;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// A plain-text HTTP or WebSocket URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port as the `Host` header wants them (no port when it is 80).
    pub authority: String,
    /// Host alone, IPv6 without brackets.
    pub host: String,
    /// Port, 80 when absent.
    pub port: u16,
    /// Path, at least `/`.
    pub path: String,
    /// Query without the `?`, empty when absent.
    pub query: String,
}

impl Url {
    /// Parses `ws://`, `http://`, or a bare `host:port/path`. TLS is refused by name. `place` is the flag to blame.
    pub fn parse(text: &str, place: &str) -> Result<Self, Failure> {
        let remedy = "write ws://HOST:PORT/PATH or http://HOST:PORT/PATH";
        let rest = match text.split_once("://") {
            None => text,
            Some(("ws" | "http", rest)) => rest,
            Some((scheme @ ("wss" | "https"), _)) => {
                let cause = format!("{scheme}:// needs TLS, which this generator does not speak");
                return Err(Failure::usage(cause, place, "measure the plain-text port behind the TLS terminator"));
            }
            Some((scheme, _)) => return Err(Failure::usage(format!("unknown scheme '{scheme}://'"), place, remedy)),
        };
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(Failure::usage(format!("'{text}' has blanks or control characters"), place, remedy));
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(cut);
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (host, port) = split_authority(authority)
            .ok_or_else(|| Failure::usage(format!("'{authority}' is not HOST or HOST:PORT"), place, remedy))?;
        Ok(Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
        })
    }

    /// Path and query as a request line wants them, with `extra` appended to the query when not empty.
    pub fn request_target(&self, extra: &str) -> String {
        join_query(&self.path, &self.query, extra)
    }

    /// `{path}/negotiate` with the user's query kept and the version appended (spec 1.1).
    pub fn negotiate_target(&self) -> String {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        join_query(&format!("{}{slash}negotiate", self.path), &self.query, "negotiateVersion=1")
    }

    /// Finds the address; the first one wins, IPv4 before IPv6.
    pub fn resolve(&self, place: &str) -> Result<SocketAddr, Failure> {
        let found = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| {
            Failure::failed(
                format!("cannot resolve '{}': {error}", self.host),
                place,
                "check the name, or write the address itself",
            )
        })?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.first().copied().ok_or_else(|| {
            Failure::failed(format!("'{}' has no address", self.host), place, "write the address itself")
        })
    }
}

fn join_query(path: &str, query: &str, extra: &str) -> String {
    match (query.is_empty(), extra.is_empty()) {
        (true, true) => path.to_owned(),
        (true, false) => format!("{path}?{extra}"),
        (false, true) => format!("{path}?{query}"),
        (false, false) => format!("{path}?{query}&{extra}"),
    }
}

fn split_authority(authority: &str) -> Option<(&str, u16)> {
    if authority.contains('@') {
        return None;
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = if after.is_empty() { 80 } else { after.strip_prefix(':')?.parse().ok()? };
        return Some((host, port));
    }
    let (host, port) = match authority.split_once(':') {
        None => (authority, 80),
        Some((host, port)) => (host, port.parse().ok()?),
    };
    (!host.is_empty() && port != 0).then_some((host, port))
}

/// Which local addresses connections leave from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAddresses {
    /// 127.0.0.1, .2, ... for a loopback target, the kernel's choice otherwise.
    Auto,
    /// The kernel's choice always.
    Kernel,
    /// These, in turn.
    List(Vec<IpAddr>),
}

/// Connections per source address. The kernel offers about 28,000 ports for one (source, destination, port), and
/// finding a free one gets slow beyond half of them.
pub const CONNECTIONS_PER_SOURCE: u32 = 12_000;

/// Addresses one run can take from 127.0.0.0/8 on its own (127.0.0.1 to 127.0.0.254).
const LOOPBACK_SOURCES_MAX: u32 = 254;

impl SourceAddresses {
    /// Parses `auto`, `kernel` or a comma-separated list.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "kernel" => Ok(Self::Kernel),
            list => list
                .split(',')
                .map(|part| {
                    let parsed = part.trim().parse::<IpAddr>();
                    parsed.map_err(|_| {
                        format!("'{part}' is not an IP address; write auto, kernel or a list of addresses")
                    })
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Self::List),
        }
    }

    /// The local address for connection number `index`, port 0.
    pub fn local_for(&self, index: u32, remote: SocketAddr) -> Option<SocketAddr> {
        let turn = index / CONNECTIONS_PER_SOURCE;
        match self {
            Self::Kernel => None,
            Self::List(list) => list.get(turn as usize % list.len().max(1)).map(|&ip| SocketAddr::new(ip, 0)),
            Self::Auto => match remote.ip() {
                IpAddr::V4(ip) if ip.is_loopback() => {
                    let last = 1 + turn % LOOPBACK_SOURCES_MAX;
                    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last as u8)), 0))
                }
                _ => None,
            },
        }
    }

    /// Refuses a fleet for which these addresses have too few ports.
    pub fn check(&self, connections: u32, remote: SocketAddr) -> Result<(), Failure> {
        /// Ports of the default range 32768-60999.
        const PORTS: u32 = 28_232;
        let sources = match self {
            Self::Auto if matches!(remote.ip(), IpAddr::V4(ip) if ip.is_loopback()) => LOOPBACK_SOURCES_MAX,
            Self::Auto | Self::Kernel => 1,
            Self::List(list) => list.len() as u32,
        };
        // The last address takes what is left over, so only whole turns beyond the list count against it.
        if u64::from(connections) <= u64::from(sources) * u64::from(PORTS) {
            return Ok(());
        }
        Err(Failure::usage(
            format!("{connections} connections need more ports than {sources} source address(es) have ({PORTS} each)"),
            "--source-ips",
            "give more local addresses: --source-ips 10.0.0.1,10.0.0.2,...",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text, "--target").expect("a good URL")
    }

    #[test]
    fn urls_are_taken_apart() {
        let parsed = url("ws://localhost:8888/hub?x=1");
        assert_eq!((parsed.host.as_str(), parsed.port), ("localhost", 8888));
        assert_eq!(parsed.authority, "localhost:8888");
        assert_eq!(parsed.request_target(""), "/hub?x=1");
        assert_eq!(parsed.request_target("id=T"), "/hub?x=1&id=T");
        assert_eq!(parsed.negotiate_target(), "/hub/negotiate?x=1&negotiateVersion=1");
        assert_eq!(url("127.0.0.1:9000").request_target(""), "/");
        assert_eq!(url("http://h/a/").negotiate_target(), "/a/negotiate?negotiateVersion=1");
        assert_eq!(url("http://h").port, 80);
        assert_eq!(url("http://[::1]:81/x").host, "::1");
    }

    #[test]
    fn bad_urls_are_refused_with_a_reason() {
        for (text, part) in [
            ("wss://h/x", "TLS"),
            ("ftp://h/x", "scheme"),
            ("ws://h:0/x", "HOST"),
            ("ws://:80/x", "HOST"),
            ("ws://h:99999/", "HOST"),
            ("ws://u@h/", "HOST"),
            ("ws://h/a b", "blanks"),
        ] {
            let failure = Url::parse(text, "--target").expect_err(text);
            assert!(failure.cause.contains(part), "{text}: {failure}");
            assert_eq!(failure.place, "--target");
            assert!(!failure.remedy.is_empty());
        }
    }

    #[test]
    fn loopback_sources_spread_and_others_are_left_to_the_kernel() {
        let near: SocketAddr = "127.0.0.1:80".parse().expect("address");
        let far: SocketAddr = "10.1.2.3:80".parse().expect("address");
        let auto = SourceAddresses::Auto;
        assert_eq!(auto.local_for(0, near).map(|a| a.ip().to_string()).as_deref(), Some("127.0.0.1"));
        assert_eq!(
            auto.local_for(CONNECTIONS_PER_SOURCE, near).map(|a| a.ip().to_string()).as_deref(),
            Some("127.0.0.2")
        );
        assert_eq!(auto.local_for(0, far), None);
        assert!(auto.check(1_000_000, near).is_ok());
        assert!(auto.check(100_000, far).is_err());
        let list = SourceAddresses::parse("127.0.0.7, 127.0.0.9").expect("list");
        assert_eq!(
            list.local_for(CONNECTIONS_PER_SOURCE, near).map(|a| a.ip().to_string()).as_deref(),
            Some("127.0.0.9")
        );
        assert!(SourceAddresses::parse("nowhere").is_err());
    }
}
