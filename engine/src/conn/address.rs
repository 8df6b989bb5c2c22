//! Where a client comes from: its socket's address, or what a proxy that is trusted says of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network, as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, bits: u32| {
            let shift = bits - u32::from(self.prefix_bits);
            ours.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, plain(address)) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(u32::from(ours).into(), u32::from(theirs).into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.into(), theirs.into(), 128),
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "accepted: an address or a network, as 10.0.0.1, 10.0.0.0/8 or fd00::/8".to_owned();
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(bits_max), |bits| bits.parse().map_err(|_| wrong()))?;
        (prefix_bits <= bits_max).then_some(Self { address, prefix_bits }).ok_or_else(wrong)
    }
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what one household has to choose
/// addresses from.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match plain(address) {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// The client behind `peer`, by the lines of `X-Forwarded-For`. Every proxy adds whom it heard to the end; so, from the
/// end, the first that is no trusted proxy is the client. What stands before it is what that client says itself.
pub(crate) fn client<'a>(peer: IpAddr, trusted: &[Network], lines: impl Iterator<Item = &'a [u8]>) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let lines: Vec<&[u8]> = lines.collect();
    let mut client = peer;
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b',')) {
        let Some(address) = read(entry) else { return client };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address, perhaps with a port: some proxies add it.
fn read(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    let without_port = || bare.rsplit_once(':').and_then(|(v4, _)| v4.parse::<Ipv4Addr>().ok()).map(IpAddr::V4);
    bare.parse().ok().or_else(without_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_are_read_and_hold_their_addresses() {
        let ten: Network = "10.0.0.0/8".parse().expect("a network");
        assert!(ten.contains(ip("10.255.1.2")) && ten.contains(ip("::ffff:10.1.1.1")));
        assert!(!ten.contains(ip("11.0.0.1")) && !ten.contains(ip("a00::")));
        let one: Network = "192.0.2.7".parse().expect("an address");
        assert!(one.contains(ip("192.0.2.7")) && !one.contains(ip("192.0.2.6")));
        let all: Network = "::/0".parse().expect("a network");
        assert!(all.contains(ip("2001:db8::1")) && !all.contains(ip("192.0.2.7")));
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/", "x"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let seen = |peer: &str, lines: &[&str]| client(ip(peer), &trusted, lines.iter().map(|line| line.as_bytes()));
        assert_eq!(seen("198.51.100.1", &["192.0.2.1"]), ip("198.51.100.1"), "anybody can write a header");
        assert_eq!(seen("10.0.0.1", &["192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, 192.0.2.1"]), ip("192.0.2.1"), "the first was the client's own");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9", "192.0.2.1, 10.0.0.2"]), ip("192.0.2.1"), "two proxies");
        assert_eq!(seen("10.0.0.1", &["192.0.2.1:4711"]), ip("192.0.2.1"));
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:4711"]), ip("2001:db8::1"));
        assert_eq!(seen("10.0.0.1", &[]), ip("10.0.0.1"));
        assert_eq!(seen("10.0.0.1", &["192.0.2.1, unknown"]), ip("10.0.0.1"), "not known, so nobody else's");
    }

    #[test]
    fn a_household_is_one_client() {
        assert_eq!(household(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(household(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(household(ip("192.0.2.1")), ip("192.0.2.1"));
    }
}
