//! Services: how instances are chosen, judged and protected.

use serde::{Deserialize, Serialize};

use super::{Check, ProxyHeader};
use crate::status::InstanceId;

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
    /// How an instance is chosen, beside `balance`.
    #[serde(default, skip_serializing_if = "Choice::is_default")]
    pub choice: Choice,
    /// What is spoken with instances.
    #[serde(default, skip_serializing_if = "Wire::is_default")]
    pub wire: Wire,
    /// What becomes of answers on their way to the client.
    #[serde(default, skip_serializing_if = "Answers::is_default")]
    pub answers: Answers,
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
    /// The absolute path of the folder in which it runs, where a relative [`FastCgi::root`] counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The process that was started for it, where that is on the edge's own machine: the kernel knows whether it is
    /// stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl Instance {
    /// One that serves, with a weight of 1, and of which nothing else is known.
    pub fn new(id: InstanceId, address: String) -> Self {
        Self {
            id,
            address,
            weight: 1,
            duty: Duty::Serve,
            zone: None,
            trial: false,
            sheltered: false,
            folder: None,
            pid: None,
        }
    }
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
    /// By chance, by weight.
    Random,
    /// The better one of two drawn by chance: by latency, of which peaks count at once and fade, and requests in flight.
    PowerOfTwo,
    /// By `hash_by`, in a table that changes little when instances come and go.
    Maglev,
    /// By `hash_by`, on a ring, with a bound on each instance's load.
    ConsistentHash,
}

/// How an instance is chosen, beside the algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// By what algorithms that hash tell requests apart.
    pub hash_by: HashBy,
    /// How far above the mean of requests in flight an instance may be under `ConsistentHash`, in percent of the mean;
    /// beyond it the next one on the ring has the request. At least 100; 0: no bound.
    pub hash_bound_percent: u16,
    /// A client stays with its instance.
    pub sticky: Option<Sticky>,
    /// How long an instance that becomes healthy takes to its whole share; 0: none.
    pub slow_start_ms: u64,
    /// Where a smaller part of the instances is healthy, those that answer although a check fails, or that are ejected,
    /// get requests too. In percent; 0: never.
    pub min_capacity_percent: u8,
}

impl Choice {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is spoken with instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wire {
    /// FastCGI in place of HTTP.
    pub fastcgi: Option<FastCgi>,
    /// Connections begin with a PROXY header that names the client.
    pub sends_proxy: Option<ProxyHeader>,
}

impl Wire {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of answers on their way to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// They are compressed for clients that want that.
    pub compress: Option<Compress>,
    /// What the edge says in its own words, also in place of an instance's answer where that is asked.
    pub error_pages: Vec<ErrorPage>,
}

impl Answers {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// By what a request is hashed. Where it has none of it, by the client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashBy {
    /// The client's address.
    #[default]
    Address,
    /// Path without query.
    Path,
    /// The value of this lower-case field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// How a client is known again, so that it stays with its instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// By a cookie that the edge sets.
    Cookie {
        /// Its name.
        name: String,
        /// How long it lasts, in seconds; 0: as long as the browser's session.
        max_age_s: u64,
        /// `Secure`: only over HTTPS.
        secure: bool,
    },
    /// By the value of this lower-case field.
    Header(String),
    /// By the client's address.
    Address,
}

/// How answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compress {
    /// In order of preference where a client likes several equally.
    pub encodings: Vec<Encoding>,
    /// Answers of known length below this stay as they are.
    pub min_bytes: u64,
    /// Media types, as `text/html` or `text/*`.
    pub types: Vec<String>,
}

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// RFC 8878.
    Zstd,
    /// Brotli, RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    /// Its name in the stack file and in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// What clients get for some statuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPage {
    /// First and last status.
    pub statuses: (u16, u16),
    /// Also in place of an instance's own answer of such a status.
    pub of_instances: bool,
    /// The page; its status is not used.
    pub page: Page,
}

/// How instances that speak FastCGI are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastCgi {
    /// `DOCUMENT_ROOT`: where scripts lie, as the instance sees it. A relative one counts from [`Instance::folder`].
    pub root: String,
    /// Script of the root for paths that name none, and of each of `folders` for its own.
    pub index: String,
    /// Ending of scripts, as `.php`; what follows it in a path is `PATH_INFO`.
    pub ending: String,
    /// Paths from slash to slash of folders that have an index of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// More parameters.
    pub params: Vec<(String, String)>,
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
    /// After so long without the head of an answer a second try is made elsewhere beside the first, and the first answer
    /// wins; only of what may be repeated, and out of the same budget. 0: never.
    #[serde(default)]
    pub hedge_after_ms: u64,
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
    /// After this long with requests in flight and nothing received while others answer, an instance may be silent, see
    /// [`silence`](crate::silence); 0 switches the rule off.
    pub silent_after_ms: u64,
    /// Idle connections kept by thread and instance.
    pub idle_connections: u16,
}

/// What a snapshot means that does not say it.
const fn tunnel_idle_ms() -> u64 {
    3_600_000
}
