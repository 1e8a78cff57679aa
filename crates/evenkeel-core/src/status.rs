//! What the API answers and the command line shows.
//!
//! The node process fills these in from what it observes; nothing here decides anything. The JSON form is an
//! interface: fields are added, never renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{deploy::DeployStatus, drill::Proof, objectives::ObjectiveStatus, snapshot::Protocol, time::WallTime};

/// One start of one instance. A restart keeps the name and raises the generation, so that what was known of the
/// former process is never believed of the new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceId {
    /// `service/number`, as `shop/1`; `service/address` for fixed instances.
    pub name: String,
    /// Counts the starts of this instance.
    pub generation: u64,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.generation)
    }
}

/// The edge's verdict about an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing known yet; it gets no requests.
    #[default]
    Unknown,
    /// It gets requests.
    Healthy,
    /// Its check fails.
    Unhealthy,
    /// Requests are in flight, nothing comes back, and probes fail.
    Silent,
    /// Its traffic failed too often; it is out for a while.
    Ejected,
    /// It finishes what it has.
    Draining,
}

impl Health {
    /// The word that outputs show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Silent => "silent",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the edge's verdict about an instance rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The check in force.
    #[default]
    Check,
    /// A former check: the one in force has not been passed here yet, nor failed often enough to decide.
    Former,
    /// A former check, although the one in force fails here: nobody of the service has passed that one, so it is not
    /// believed.
    Kept,
}

impl Basis {
    /// Whether it is the check in force.
    pub fn is_check(&self) -> bool {
        *self == Self::Check
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// By `exit` with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(9) => f.write_str("SIGKILL"),
            Self::Signal(15) => f.write_str("SIGTERM"),
            Self::Signal(11) => f.write_str("SIGSEGV"),
            Self::Signal(6) => f.write_str("SIGABRT"),
            Self::Signal(2) => f.write_str("SIGINT"),
            Self::Signal(n) => write!(f, "signal {n}"),
        }
    }
}

/// Where a supervised process stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for its turn or for its back-off.
    #[default]
    Waiting,
    /// Started, not ready yet.
    Starting,
    /// Ready once.
    Running,
    /// Finishing its requests before it is stopped.
    Draining,
    /// Told to stop, not gone yet.
    Stopping,
    /// Exited too often; only an operator or a new revision starts it again.
    GaveUp,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::GaveUp => "gave-up",
        })
    }
}

/// The answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// The stack's name.
    pub stack: String,
    /// `keel`'s version.
    pub version: String,
    /// The revision in force.
    pub revision: u64,
    /// When the guard started this stack.
    pub since: WallTime,
    /// The guard's process.
    pub guard: ProcessStatus,
    /// The node process.
    pub node: ProcessStatus,
    /// The edge's process; `None` while there is none.
    pub edge: Option<EdgeStatus>,
    /// Bound addresses.
    pub listeners: Vec<ListenerStatus>,
    /// Where the console is served, with metrics and the API; `None` while it is not, as where its address is taken.
    #[serde(default)]
    pub console: Option<String>,
    /// Services in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// What needs attention, in words; empty when all is well.
    pub problems: Vec<String>,
    /// What commands changed of the stack file, in words.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// What drills proved: the newest verdict for each drill and service, and the age of the last pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<Proof>,
}

/// One of `keel`'s own processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProcessStatus {
    /// Its process id.
    pub pid: u32,
    /// How often it was started again since the guard's start.
    pub restarts: u64,
}

/// The edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EdgeStatus {
    /// Its process id.
    pub pid: u32,
    /// How often it was started again since the guard's start.
    pub restarts: u64,
    /// Version of the newest snapshot.
    pub snapshot: u64,
    /// Version of the snapshot every thread serves.
    pub applied: u64,
    /// Version of the snapshot that the newest report about instances takes into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<u64>,
    /// Open client connections.
    pub connections: u64,
}

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// As bound.
    pub address: String,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Instances wanted.
    pub replicas: u32,
    /// Instances that get requests now.
    pub healthy: u32,
    /// Requests a second over the last ten seconds.
    pub requests_per_s: f64,
    /// Requests since the edge first served it, over restarts.
    pub requests: u64,
    /// Answers of 5xx and requests without an answer.
    pub errors: u64,
    /// Median latency over the last ten seconds, in milliseconds; `None` without requests.
    pub p50_ms: Option<f64>,
    /// 99th percentile over the last ten seconds, in milliseconds; `None` without requests.
    pub p99_ms: Option<f64>,
    /// Tries after the first.
    pub retries: u64,
    /// Requests that were held, since the edge first served it, over restarts.
    pub held: u64,
    /// Requests that are held now.
    #[serde(default)]
    pub holding: u64,
    /// What UDP listeners passed on for it; `None` where none leads to it and none ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpStatus>,
    /// The name that has its instances; `None` where they are run or stand in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// Why none of its instances is healthy although there was time enough to become so; `None`: one is, one was since
    /// they were wanted, or it is too early to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// Whether it is a page, which the edge answers by itself.
    #[serde(default)]
    pub page: bool,
    /// Its fallback, while that one can answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What the replacement of its instances waits for; `None` once all of them are of the revision in force.
    #[serde(default)]
    pub rollout: Option<String>,
    /// How it scales; `None` where its number of instances is fixed by the stack file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingStatus>,
    /// Set while something else answers in place of what it prefers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<AwayStatus>,
    /// Why instances that are not healthy get requests too, see `min_capacity`; `None`: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// The release in force; `None`: what the stack file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// The deploy that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployStatus>,
    /// Why nothing of it is decided without an order: a pause, or `mode = "observe"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hands_off: Option<String>,
    /// How its objective is held; `None` where the stack file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveStatus>,
    /// Its instances by number.
    pub instances: Vec<InstanceStatus>,
}

/// What UDP listeners passed on for a service, since the edge first served it, over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UdpStatus {
    /// Clients, each an address and a port, that were led to an instance. One that was quiet for too long and comes
    /// again counts again.
    pub sessions: u64,
    /// Datagrams from clients that were sent to an instance.
    pub received: u64,
    /// Datagrams from instances that were sent to their client.
    pub sent: u64,
    /// Datagrams of either direction that found no way: no instance, too large, or no room.
    pub dropped: u64,
}

/// What the resolver said about the name that has a service's instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DnsStatus {
    /// Name and port.
    pub name: String,
    /// When it answered last with an address; `None`: not since the node process was started.
    pub answered: Option<WallTime>,
    /// How many instances its answers have made.
    pub addresses: u32,
    /// Why the last question got no such answer; `None`: it did, or none has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// Elastic scaling of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ScalingStatus {
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Whether an operator fixed the number with `keel scale`.
    pub pinned: bool,
    /// What was decided last and why; before the first decision what the targets ask for.
    pub reason: String,
}

/// Who answers in place of what a service prefers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AwayStatus {
    /// A service or a zone.
    pub to: String,
    /// Since when.
    pub since: WallTime,
    /// Whether it stays so although what is preferred may be healthy again.
    pub stays: bool,
    /// How it ends, as a clause.
    pub returns: String,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceStatus {
    /// `service/number`.
    pub name: String,
    /// Counts its starts.
    pub generation: u64,
    /// The revision that its process is started by; `None` for fixed instances.
    #[serde(default)]
    pub revision: Option<u64>,
    /// Its process; `None` while there is none, and for fixed instances.
    pub pid: Option<u32>,
    /// Where it serves.
    pub address: String,
    /// The edge's verdict.
    pub health: Health,
    /// Why the verdict is what it is.
    pub reason: String,
    /// What the verdict rests on; absent where it is the check in force.
    #[serde(default, skip_serializing_if = "Basis::is_check")]
    pub basis: Basis,
    /// Where its process stands; `None` for fixed instances.
    pub phase: Option<Phase>,
    /// When it last started.
    pub since: Option<WallTime>,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last process ended.
    pub last_exit: Option<String>,
    /// Last lines of output of the process that ended; only where it gave up or keeps failing.
    pub last_output: Vec<String>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Set while an operator drains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainStatus>,
}

/// The drain of an instance by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DrainStatus {
    /// What the operator said; may be empty.
    pub reason: String,
    /// Who ordered it; empty where that was not kept.
    #[serde(default)]
    pub by: String,
    /// Since when.
    pub since: WallTime,
    /// Whether nothing is in flight any more.
    pub finished: bool,
}
