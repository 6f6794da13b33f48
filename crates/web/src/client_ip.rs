//! The address of the client. `X-Forwarded-For` counts only as far as trusted proxies wrote it (invariant 13).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    /// Of the 128 bits of an IPv6 address (IPv4 is mapped into it).
    prefix: u32,
}

/// Why a text is no range of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an address or a range like 10.0.0.0/8 or fd00::/8")]
pub struct InvalidCidr;

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (ip, length) = match text.trim().split_once('/') {
            Some((ip, length)) => (ip, Some(length.parse::<u32>().map_err(|_| InvalidCidr)?)),
            None => (text.trim(), None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| InvalidCidr)?;
        let (width, offset) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = length.unwrap_or(width);
        if length > width {
            return Err(InvalidCidr);
        }
        let prefix = offset + length;
        Ok(Self { base: bits(ip) & mask(prefix), prefix })
    }
}

impl Cidr {
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits(ip) & mask(self.prefix) == self.base
    }
}

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<Cidr>);

impl TrustedProxies {
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|cidr| cidr.contains(ip))
    }
}

/// The client's address: the peer's, or behind trusted proxies the rightmost hop that is not one of them. An entry
/// that cannot be read ends the walk at the last hop that could.
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
    let mut client = peer.to_canonical();
    if trusted.0.is_empty() || !trusted.contains(client) {
        return client;
    }
    // Several headers of the name are one list in their order.
    let mut lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(|v| v.as_bytes()).collect();
    lines.reverse();
    for hop in lines.into_iter().flat_map(|line| line.rsplit(|b| *b == b',')) {
        let Some(ip) = std::str::from_utf8(hop).ok().and_then(|hop| hop_ip(hop.trim())) else { break };
        client = ip.to_canonical();
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// An entry is an address, which some proxies write with a port or in brackets.
fn hop_ip(hop: &str) -> Option<IpAddr> {
    hop.parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_matched() {
        let check = |range: &str, ip: &str, inside: bool| {
            assert_eq!(range.parse::<Cidr>().unwrap().contains(ip.parse().unwrap()), inside, "{ip} in {range}");
        };
        check("10.0.0.0/8", "10.200.1.2", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.7/8", "10.1.1.1", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe80::1", false);
        for bad in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0/8"] {
            assert_eq!(bad.parse::<Cidr>(), Err(InvalidCidr), "{bad:?}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let check = |peer: &str, lines: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let ip = client_ip(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(ip, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        };
        check("203.0.113.9", &["1.2.3.4"], "203.0.113.9");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4");
        check("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4");
        check("10.0.0.1", &["6.6.6.6", "1.2.3.4, 10.0.0.2"], "1.2.3.4");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["1.2.3.4, garbage"], "10.0.0.1");
        check("10.0.0.1", &["1.2.3.4, garbage, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4");
        check("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1");
        check("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("::ffff:203.0.113.9", &["1.2.3.4"], "203.0.113.9");
    }
}
