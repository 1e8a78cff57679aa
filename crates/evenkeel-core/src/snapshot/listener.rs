//! Listeners: bound addresses, what is spoken there, and what a client may cost.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ErrorPage;

/// One bound address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in the stack file.
    pub name: String,
    /// The address its sockets are bound to.
    pub bind: SocketAddr,
    /// Networks whose forwarded headers are believed.
    pub trusted: Vec<Network>,
    /// What a client may ask of the edge.
    pub limits: ClientLimits,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
    /// Of TCP and UDP: where everything leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Connections from `trusted` networks begin with a PROXY header, which says who the client is; others must not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepts_proxy: bool,
    /// What is done with requests that are ambiguous, yet have one meaning for most.
    #[serde(default)]
    pub strictness: Strictness,
    /// What the edge says in its own words instead of a plain line, where no service is known or has a page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_pages: Vec<ErrorPage>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    #[default]
    Http,
    /// Bytes: each connection goes to one instance of the listener's service.
    Tcp,
    /// Datagrams: those of one client go to one instance of the listener's service.
    Udp,
}

/// Versions of the PROXY protocol (HAProxy's `proxy-protocol.txt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What is done with requests that are ambiguous, yet have one meaning for most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// Refused with 400.
    #[default]
    Refuse,
    /// Forwarded in the one meaning, and reported. What has no such meaning is refused all the same.
    Report,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Any address of the range.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies in this range. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        fn same(a: u128, b: u128, width: u32, prefix: u32) -> bool {
            prefix == 0 || (a ^ b) >> (width - prefix.min(width)) == 0
        }
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32, self.prefix.into()),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128, self.prefix.into()),
            _ => false,
        }
    }
}

/// Bounds on what one client connection may cost. Every one of them is a number of the stack file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLimits {
    /// Largest request head; beyond it 431.
    pub head_bytes: u32,
    /// Most header fields of one request; beyond it 431.
    pub headers: u16,
    /// Longest request target; beyond it 414.
    pub target_bytes: u32,
    /// Largest request body; beyond it 413.
    pub body_bytes: u64,
    /// How long a whole head may take from its first byte; beyond it 408.
    pub head_timeout_ms: u64,
    /// How long a client may neither send nor take a byte of a body.
    pub body_idle_ms: u64,
    /// How long a connection may stay idle between requests.
    pub keep_alive_ms: u64,
    /// Most connections of one listener; beyond it new ones wait in the kernel's queue.
    pub connections: u32,
    /// Most connections of one client's address at once; beyond it new ones are closed. 0: no bound.
    #[serde(default)]
    pub connections_per_client: u32,
    /// Fewest bytes of a body a second that a client may send, on average over the time that is spent waiting for it
    /// beyond the grace; a slower one gets 408. 0: no bound.
    #[serde(default)]
    pub min_rate_bytes_per_s: u64,
    /// How long a body may be waited for before its rate counts: slow starts and retransmissions are common.
    #[serde(default)]
    pub min_rate_grace_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let net = Network { address: "10.1.0.0".parse().unwrap(), prefix: 16 };
        assert!(net.contains("10.1.255.3".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.0.9".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        let all = Network { address: "::".parse().unwrap(), prefix: 0 };
        assert!(all.contains("2001:db8::1".parse().unwrap()));
    }
}
