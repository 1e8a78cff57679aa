//! The snapshot: what the edge needs to know, immutable and versioned.
//!
//! The node process makes one from a revision and from what it observes, and the edge serves it until the next
//! one comes, whatever happens to the rest. It is complete: an edge that starts with nothing but a snapshot and
//! its listeners can serve. It holds no key material. Durations are milliseconds and sizes bytes, so that the
//! file on disk reads without this code.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::status::InstanceId;

/// The version of this format. An edge refuses a snapshot of another one and keeps what it serves.
pub const FORMAT: u32 = 1;

/// Everything the edge serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Must equal [`FORMAT`].
    pub format: u32,
    /// Grows by one with each snapshot of this stack; the edge acknowledges it with `Applied`.
    pub version: u64,
    /// The revision of the stack that it was made from.
    pub revision: u64,
    /// The stack's name.
    pub stack: String,
    /// How many threads serve; fixed from the edge's start on.
    pub threads: u16,
    /// Bound addresses. Their sockets come from the guard under the same names.
    pub listeners: Vec<Listener>,
    /// In order of precedence as the file has them; the edge sorts by host and path.
    pub routes: Vec<Route>,
    /// Destinations that routes name.
    pub services: Vec<Service>,
}

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
}

/// A match and the service it leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Only requests on this listener; `None`: every listener.
    pub listener: Option<String>,
    /// Lower-case host without port, or `*.` and a suffix; `None`: every host.
    pub host: Option<String>,
    /// Path prefix, matched at segment boundaries; `/` matches all.
    pub path: String,
    /// Header fields (lower-case names) that must have exactly these values.
    pub headers: Vec<(String, String)>,
    /// Name of the service.
    pub service: String,
    /// Requests with an `Idempotency-Key` may be sent again although their method is not idempotent.
    pub idempotency_key: bool,
}

/// A named destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name in the stack file.
    pub name: String,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Decides whether an instance gets requests; without one, an instance that accepts connections is healthy.
    pub check: Option<Check>,
    /// Reported, not acted upon, by the edge: the node process restarts an instance that fails it for long.
    pub liveness: Option<Check>,
    /// Passive removal by what traffic shows.
    pub ejection: Ejection,
    /// Safe repetition.
    pub retry: Retry,
    /// Waiting for an instance.
    pub hold: Hold,
    /// Bounds towards the instances.
    pub limits: ServiceLimits,
    /// Service that answers when no instance of this one is healthy.
    pub fallback: Option<String>,
    /// The zone whose instances get everything while one of them is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
    /// Stay with the fallback, or with instances outside of the preferred zone, although what is preferred is
    /// healthy again. Holds only while those are healthy themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
    /// Passive removal says what it would do and does not do it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observe: bool,
    /// What the edge itself answers to everything; such a service has no instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
    /// Who serves it.
    pub instances: Vec<Instance>,
}

/// An answer that the edge gives itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// One address that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Name and generation.
    pub id: InstanceId,
    /// `IP:port`, or `host:port` that the edge resolves again and again, keeping the last good answer.
    pub address: String,
    /// Relative share of requests for weighted algorithms; at least 1.
    pub weight: u16,
    /// What the edge should do with it.
    pub duty: Duty,
    /// Its zone, for `prefer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether it must still prove itself: a deploy has just started it. It gets no more than its weight's part of the
    /// requests; an answer of 5xx from it counts as a failure and is repeated elsewhere where that is safe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
    /// Of one on trial: it gets no request that could not be repeated while another instance can take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sheltered: bool,
}

/// What the edge should do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Probe it; send it requests while healthy.
    Serve,
    /// Finish what it has, send nothing new, report `Drained` once it has nothing left.
    Drain,
}

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// In turn, weights ignored.
    RoundRobin,
    /// In turn by weight, evenly spread (smooth weighted round robin).
    WeightedRoundRobin,
    /// The one with the fewest requests in flight, relative to its weight.
    #[default]
    LeastConnections,
    /// By the client's address.
    IpHash,
}

/// A way to find out whether an instance is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What one probe does.
    pub probe: Probe,
    /// Time between the starts of two probes.
    pub interval_ms: u64,
    /// A probe that takes longer has failed.
    pub timeout_ms: u64,
    /// Probes in a row that must pass before an unhealthy instance is healthy. A new one needs a single pass.
    pub rise: u16,
    /// Probes in a row that must fail before a healthy instance is unhealthy.
    pub fall: u16,
}

/// What one probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// `GET` this path; a status in the range passes.
    Http {
        /// Path and query.
        path: String,
        /// `Host` header; the instance's address when absent.
        host: Option<String>,
        /// Lowest and highest status that passes.
        status: (u16, u16),
    },
    /// Connecting passes.
    Tcp,
}

/// Passive removal by what traffic shows: connect errors, answers cut off, and 5xx statuses where asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// Failures in a row that eject; 0 switches that rule off.
    pub consecutive: u32,
    /// Share of failures, in percent, within the window that ejects; 0 switches that rule off.
    pub percent: u8,
    /// Fewest requests in the window before its share counts.
    pub min_requests: u32,
    /// Length of the sliding window.
    pub window_ms: u64,
    /// First time out; doubles with each ejection in a row up to `max_ms`.
    pub base_ms: u64,
    /// Longest time out.
    pub max_ms: u64,
    /// Most instances ejected at once, in percent of the service's; at least one always stays.
    pub max_percent: u8,
    /// Whether a 500, 502, 503 or 504 counts as a failure.
    pub count_5xx: bool,
}

/// Safe repetition: idempotent methods (RFC 9110 section 9.2.2), or where no byte was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Most tries after the first; 0 switches repetition off.
    pub max: u8,
    /// Tries allowed in percent of requests over the last ten seconds …
    pub budget_percent: u8,
    /// … plus this many a second, so that low traffic can be helped too.
    pub budget_min_per_s: u32,
    /// Bound on each try until the head of its answer; 0: none but the request's.
    pub try_timeout_ms: u64,
}

/// Waiting for an instance while none is healthy or all are at their limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Longest wait; then 503 with `Retry-After`. 0 switches holding off.
    pub max_ms: u64,
    /// Most requests held at once by service; beyond it 503 at once.
    pub max_requests: u32,
}

/// Bounds towards a service's instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLimits {
    /// Bound on connecting.
    pub connect_timeout_ms: u64,
    /// Bound from the end of the request to the head of the answer; beyond it 504.
    pub response_timeout_ms: u64,
    /// How long an instance may neither send nor take a byte of a body.
    pub idle_timeout_ms: u64,
    /// How long an upgraded connection, or a stream of server-sent events, may pass no byte in either direction.
    #[serde(default = "tunnel_idle_ms")]
    pub tunnel_idle_ms: u64,
    /// Most requests in flight at one instance; 0: no bound. Beyond it requests are held.
    pub in_flight_per_instance: u32,
    /// Largest head of an answer.
    pub head_bytes: u32,
    /// A complete answer up to this size is relayed only when whole, so that a death in the middle can still be
    /// retried.
    pub whole_bytes: u32,
    /// After this long with requests in flight and nothing received while others answer, an instance is probed at
    /// once, and silent if it fails twice; 0 switches the rule off.
    pub silent_after_ms: u64,
    /// Idle connections kept by thread and instance.
    pub idle_connections: u16,
}

/// What a snapshot means that does not say it.
const fn tunnel_idle_ms() -> u64 {
    3_600_000
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
