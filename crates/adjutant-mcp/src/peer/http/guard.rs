//! Where a server's address may lead: not into the runtime's own network, unless somebody meant it to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Resolves names and leaves out addresses that are not to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard {
    private: bool,
    loopback: bool,
}

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    Private,
    Loopback,
    /// Link-local, where clouds keep their keys, and what is no host at all.
    Forbidden,
}

impl Guard {
    /// What is allowed for a server at this address. Loopback is, when the address says so itself.
    ///
    /// # Errors
    /// When the address itself is one that is not allowed.
    pub(super) fn new(url: &Url, private: bool) -> Result<Self, String> {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let literal: Option<IpAddr> = bare.parse().ok();
        let named = bare == "localhost" || bare.ends_with(".localhost");
        let guard = Self {
            private,
            loopback: named || private || literal.is_some_and(|ip| place(ip) == Place::Loopback),
        };
        match literal {
            Some(ip) if !guard.allows(ip) => Err(format!("`url`: {}", refusal(host))),
            _ => Ok(guard),
        }
    }

    fn allows(self, ip: IpAddr) -> bool {
        match place(ip) {
            Place::Public => true,
            Place::Private => self.private,
            Place::Loopback => self.loopback,
            Place::Forbidden => false,
        }
    }
}

fn refusal(host: &str) -> String {
    format!("{host} is in a private network; set `allow_private_network: true` if that is meant")
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|one| guard.allows(one.ip())).collect();
            if allowed.is_empty() {
                let error = io::Error::new(io::ErrorKind::PermissionDenied, refusal(host));
                return Err(error.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

fn place(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => place_v4(ip),
        IpAddr::V6(ip) => place_v6(ip),
    }
}

const fn place_v4(ip: Ipv4Addr) -> Place {
    let octets = ip.octets();
    let shared = octets[0] == 100 && octets[1] >= 64 && octets[1] < 128;
    if ip.is_loopback() {
        Place::Loopback
    } else if ip.is_private() || shared {
        Place::Private
    } else if ip.is_link_local() || octets[0] == 0 || octets[0] >= 224 {
        Place::Forbidden
    } else {
        Place::Public
    }
}

fn place_v6(ip: Ipv6Addr) -> Place {
    // Both are ways to write an address of the other kind.
    if let Some(v4) = ip.to_ipv4_mapped() {
        return place_v4(v4);
    }
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return place_v4(Ipv4Addr::new(a, b, c, d));
    }
    if ip.is_loopback() {
        Place::Loopback
    } else if ip.is_unique_local() {
        Place::Private
    } else if ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() {
        Place::Forbidden
    } else {
        Place::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(url: &str, private: bool) -> bool {
        Guard::new(&Url::parse(url).unwrap(), private).is_ok()
    }

    #[test]
    fn private_networks_are_for_those_who_ask_and_link_local_for_nobody() {
        for url in [
            "http://10.0.0.1",
            "http://192.168.1.1",
            "http://172.16.0.1",
            "http://100.64.0.1",
            "http://[fd00::1]",
            "http://[::ffff:10.0.0.1]",
            "http://[64:ff9b::a00:1]",
        ] {
            assert!(!allowed(url, false), "{url}");
            assert!(allowed(url, true), "{url}");
        }
        for url in [
            "http://169.254.169.254",
            "http://0.0.0.0",
            "http://[fe80::1]",
            "http://[::]",
            "http://224.0.0.1",
        ] {
            assert!(!allowed(url, false) && !allowed(url, true), "{url}");
        }
        for url in ["http://127.0.0.1:8000", "http://[::1]", "https://1.1.1.1"] {
            assert!(allowed(url, false), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_may_lead_to_loopback_only_if_it_says_so() {
        let guard = |url: &str| Guard::new(&Url::parse(url).unwrap(), false).unwrap();
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(guard("http://localhost").resolve(name()).await.is_ok());
        // As if the name of somebody else's had this address.
        let refused = guard("https://example.org").resolve(name()).await;
        assert!(
            refused
                .err()
                .unwrap()
                .to_string()
                .contains("allow_private_network")
        );
    }
}
