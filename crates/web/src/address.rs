//! Who is calling: the peer of the connection or, behind proxies that are trusted, the address that the
//! outermost of them saw.
//!
//! What stands in `X-Forwarded-For` left of the first address that is not trusted was written by the
//! caller and is believed by nobody.

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether one of the networks contains the address.
pub(crate) fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The client's address, in canonical form: the right-most one that is not a trusted proxy's.
pub(crate) fn client_address(trusted_proxies: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_within(trusted_proxies, client) {
        return client;
    }
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for hop in line.as_bytes().rsplit(|byte| *byte == b',') {
            let Some(address) = parse_hop(hop) else { return client };
            client = address;
            if !is_within(trusted_proxies, client) {
                return client;
            }
        }
    }
    client
}

/// An address with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_untrusted_address_counts() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8::/32"].iter().map(|n| n.parse().unwrap()).collect();
        for (peer, forwarded, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            // An untrusted peer's header is not read.
            ("192.0.2.1", &["198.51.100.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9"][..], "198.51.100.9"),
            // The caller's own invention stands on the left.
            ("10.0.0.1", &["203.0.113.7, 198.51.100.9"][..], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7", "198.51.100.9, 10.0.0.2"][..], "198.51.100.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"][..], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.9:4711"][..], "198.51.100.9"),
            ("::ffff:10.0.0.1", &["[2400::9]:4711"][..], "2400::9"),
            ("2001:db8::1", &["[2400::9]"][..], "2400::9"),
            ("10.0.0.1", &["::ffff:198.51.100.9"][..], "198.51.100.9"),
            // Behind what cannot be read nothing is believed.
            ("10.0.0.1", &["198.51.100.9, unknown"][..], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9, , 10.0.0.2"][..], "10.0.0.2"),
            ("10.0.0.1", &[""][..], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let found = client_address(&trusted, peer.parse().unwrap(), &headers);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }
}
