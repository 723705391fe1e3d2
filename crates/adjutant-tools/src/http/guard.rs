//! What a tool may connect to: the public network, and what is named.
//!
//! A URL that a document or a server gives must not become a way to this machine's own services, its neighbours', or
//! the cloud's metadata service. Names are judged by the addresses that they resolve to, at the moment of connecting, so
//! that a name cannot mean one thing when it is checked and another when it is used.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use crate::Pattern;

/// Hosts whose private addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Arc<[Pattern]>,
}

/// Refusal to connect.
#[derive(Debug)]
pub struct Refused {
    host: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is an address within a private network; to allow it, name the host in `allow_private`",
            self.host
        )
    }
}

impl std::error::Error for Refused {}

impl Guard {
    pub fn new(allowed: &[Pattern]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    fn allows_private(&self, host: &str) -> bool {
        self.allowed.iter().any(|pattern| pattern.matches(host))
    }

    /// Judges a URL whose host is an address; those with names are judged when they are resolved.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if is_private(address) && !self.allows_private(bare) => Err(Refused {
                host: bare.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let open = guard.allows_private(&host);
            let usable: Vec<SocketAddr> = found
                .filter(|address| open || !is_private(address.ip()))
                .collect();
            if usable.is_empty() {
                return Err(Refused { host }.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Whether the address is anything but a host on the public network.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carriers' own networks
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 198 && (18..20).contains(&b)) // benchmarks
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, ..] = segments;
    let embedded =
        |high: u16, low: u16| is_private_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_private_v4(v4);
    }
    match (a, b) {
        (0x64, 0xff9b) => embedded(segments[6], segments[7]), // NAT64
        (0x2002, _) => embedded(b, segments[2]),              // 6to4
        _ => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || (a == 0 && segments[..6].iter().all(|part| *part == 0)) // v4-compatible
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::7f00:1",
        ];
        let public = [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ];
        for address in private {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in public {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_judged_however_it_is_written() {
        let check =
            |allowed: &[Pattern], url: &str| Guard::new(allowed).check(&url.parse().unwrap());
        for url in [
            "http://127.0.0.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]:80/",
        ] {
            assert!(check(&[], url).is_err(), "{url}");
        }
        assert!(check(&["127.0.0.1".into()], "http://127.1:8080/").is_ok());
        assert!(check(&[], "http://8.8.8.8/").is_ok());
    }
}
