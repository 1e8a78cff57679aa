//! The link: what node process and edge say to each other, and nothing else crosses between them.
//!
//! Frames over a Unix stream socket that the guard hands to both: a length (four bytes, big endian, at most
//! [`MAX_FRAME_BYTES`]) and a JSON document. The node process sends snapshots; the edge acknowledges them, and
//! sends back bounded events (drops are counted) and counters. Either side may vanish at any time: the guard
//! then makes a new link, the node process sends its newest snapshot and the edge its counters from zero or
//! where they were.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ambiguity::Ambiguity,
    scarcity::Scarcity,
    snapshot::Snapshot,
    status::{Basis, Health, InstanceId},
    time::WallTime,
};

/// The version of these messages; a side that reads another one closes the link and says so.
pub const VERSION: u32 = 1;

/// The largest frame. Ten thousand routes and a hundred thousand instances fit.
pub const MAX_FRAME_BYTES: u32 = 64 << 20;

/// What the node process sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToEdge {
    /// Serve this from now on.
    Snapshot(Box<Snapshot>),
    /// A command that checks an instance has ended. Said once for each run, and again to an edge that was started since.
    Checked(Checked),
}

/// How one run of an exec check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Which instance.
    pub instance: InstanceId,
    /// Whether it is its liveness check rather than its check.
    pub liveness: bool,
    /// Which command, see [`crate::snapshot::Probe::Exec`]: what a former one said counts no more.
    pub digest: u64,
    /// How it failed, in words; `None`: it passed.
    pub cause: Option<String>,
}

/// What the edge sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToNode {
    /// First on every link.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The edge's process.
        pid: u32,
    },
    /// Every thread serves this snapshot now.
    Applied {
        /// [`Snapshot::version`].
        version: u64,
    },
    /// The snapshot cannot be served; the previous one is.
    Refused {
        /// [`Snapshot::version`].
        version: u64,
        /// Why, in words.
        reason: String,
    },
    /// What happened since the last batch.
    Events {
        /// Oldest first.
        events: Vec<Event>,
        /// How many more there were that found no room.
        dropped: u64,
    },
    /// All counters, cumulative since the edge's start. About four times a second; with very many instances less often,
    /// down to every ten seconds.
    Counters(Box<Counters>),
}

/// Something the edge saw or decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: WallTime,
    /// Which instance; `None` where it concerns the edge or the whole service.
    pub instance: Option<InstanceId>,
    /// Which service; empty where it concerns the edge.
    pub service: String,
    /// What.
    pub what: EventKind,
}

/// What the edge saw or decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The verdict about an instance changed, or what is known of it did. Said of every instance, with the time of
    /// its last change, when a new link begins.
    Health {
        /// The verdict.
        health: Health,
        /// What led to it, as "3 probes in a row failed: connect: refused".
        reason: String,
    },
    /// The first pass, or the first failure after a pass, of the liveness check. The edge says it once for each
    /// change; how long it lasts is for the node process to measure.
    Liveness {
        /// Whether it passes.
        passing: bool,
        /// What the last probe saw.
        reason: String,
    },
    /// A draining instance has nothing in flight any more.
    Drained,
    /// Nobody could serve a service, so requests are held.
    HoldStarted {
        /// Why no instance could take them.
        reason: String,
    },
    /// Held requests go on.
    HoldEnded {
        /// How many were held.
        held: u64,
        /// How many of those got 503 because it took too long.
        expired: u64,
    },
    /// Requests in flight at a silent or failed instance were sent to another one.
    Moved {
        /// How many.
        requests: u64,
        /// Why.
        reason: String,
    },
    /// A request was tried again: a sample, at most one a second by service.
    Retried {
        /// What had failed, as "GET /: the answer was cut off after 120 bytes".
        reason: String,
        /// Where it went next.
        next: Option<InstanceId>,
        /// How many more were tried again since the last sample.
        others: u64,
    },
    /// An application wrote to the standard error of its request: a part of its output. Some of it, where there is much.
    Complained {
        /// The beginning of it, unmasked: to be shown nowhere before that is done.
        text: String,
        /// There was more of it.
        cut: bool,
        /// Of how many more requests nothing is told since the last one.
        unsaid: u64,
    },
    /// Nothing that is preferred is healthy: another zone or the fallback answers.
    FellBack {
        /// Who answers now: a service, or a zone.
        to: String,
        /// Why.
        reason: String,
    },
    /// What is preferred answers again.
    Returned {
        /// Who had answered meanwhile.
        from: String,
    },
    /// A changed check fails for instances that were healthy, and nobody has passed it: they are kept. Once for each
    /// change of the check.
    CheckUnproven {
        /// What it saw, as "status 200 where 404 was wanted".
        reason: String,
    },
    /// Somebody has passed the check that was unproven: it counts from now on.
    CheckProven {
        /// Who.
        by: InstanceId,
    },
    /// There are more instances than can be probed as often as their checks want: the most frequent checks are made less
    /// often.
    ChecksStretched {
        /// How many instances there are.
        instances: u64,
        /// Shortest time between two probes of a healthy one.
        interval_ms: u64,
    },
    /// Every check is made as often as it wants again.
    ChecksInTime {
        /// How many instances there are.
        instances: u64,
    },
    /// Fewer instances are healthy than the service asks for at least: those that still answer get requests too. Said
    /// again when the numbers change.
    CapacityShort {
        /// How many are left.
        reason: String,
    },
    /// Only healthy instances get requests again.
    CapacityBack {
        /// How many there are, or that nobody else answers.
        reason: String,
        /// Whether there are as many as asked for; else there is nobody else who could answer.
        #[serde(default)]
        enough: bool,
    },
    /// The retry budget is used up: failures reach clients until it recovers. At most one a second by service.
    BudgetExhausted,
    /// A rate limit began to refuse requests. Once, until it has ended.
    RateLimited {
        /// Host and path of its route.
        route: String,
        /// The address of a client that was refused.
        client: String,
        /// The limit, in words.
        limit: String,
    },
    /// A rate limit has refused nobody for ten seconds.
    RateLimitEnded {
        /// Host and path of its route.
        route: String,
        /// How many requests it had refused.
        refused: u64,
    },
    /// There is nothing left for one more connection, of a client or to an instance. Once, until that has been over for a
    /// while.
    Scarce {
        /// Of what.
        what: Scarcity,
        /// What the kernel said.
        reason: String,
    },
    /// A client's request was refused as malformed or too large; a sample, at most one a second.
    Rejected {
        /// The status it got.
        status: u16,
        /// What was wrong with it.
        reason: String,
    },
    /// A connection from a network whose proxies are expected to send a PROXY header was closed, since none came that
    /// could be used; a sample, at most one a second by thread.
    ProxyHeader {
        /// Where it came in.
        listener: String,
        /// Whoever connected.
        peer: String,
        /// What was wrong.
        fault: ProxyFault,
        /// The same in words.
        reason: String,
    },
    /// A client's request was ambiguous: it was put right and forwarded, or something of it was left out. About once a
    /// minute and thread for each kind of each client of a listener.
    Ambiguous {
        /// Where it came in.
        listener: String,
        /// Who sent it.
        client: IpAddr,
        /// Its method and target.
        request: String,
        /// What was wrong with it.
        kind: Ambiguity,
        /// `strict = "report"` lets it pass, which would be refused or altered otherwise.
        reported: bool,
    },
}

/// What was wrong where a PROXY header was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyFault {
    /// The connection began with something else.
    Missing,
    /// There was one, which says nothing that could be understood, or ended before it was complete.
    Malformed,
    /// None was complete in time.
    Late,
}

impl ProxyFault {
    /// All of them, in the order of [`Counters::proxy_faults`].
    pub const ALL: [Self; 3] = [Self::Missing, Self::Malformed, Self::Late];

    /// The word that metrics show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Late => "late",
        }
    }
}

/// Cumulative counters of one edge process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The edge's process, so that a restart is seen.
    pub pid: u32,
    /// The snapshot that the verdicts and `basis` take into account.
    #[serde(default)]
    pub snapshot: u64,
    /// Instances whose verdict rests on something other than the check in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub basis: Vec<(InstanceId, Basis)>,
    /// Open client connections.
    pub connections: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Requests refused before they had a route, by status.
    pub rejected: Vec<(u16, u64)>,
    /// Connections closed at once, since their client had as many as it may have.
    #[serde(default)]
    pub turned_away: u64,
    /// Connections closed for want of a PROXY header, in the order of [`ProxyFault::ALL`].
    #[serde(default)]
    pub proxy_faults: [u64; 3],
    /// Requests that a route sent elsewhere.
    #[serde(default)]
    pub redirected: u64,
    /// Requests that were put right, or of which something was left out, by what was ambiguous about them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ambiguities: [u64; Ambiguity::ALL.len()],
    /// By service.
    pub services: Vec<ServiceCounters>,
}

/// Upper bounds of the latency buckets, in microseconds; one more bucket is for what lies above.
pub const LATENCY_BOUNDS_US: [u64; 18] = [
    250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// Counters of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceCounters {
    /// Its name.
    pub name: String,
    /// Answers to clients by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// Requests whose client got no whole answer from us although it waited.
    pub aborted: u64,
    /// Requests whose client went away first.
    pub cancelled: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Second tries that were made beside a first one.
    #[serde(default)]
    pub hedges: u64,
    /// Of those, the ones that answered first.
    #[serde(default)]
    pub hedges_won: u64,
    /// Requests held.
    pub held: u64,
    /// Requests held now.
    pub holding: u64,
    /// Sum of all latencies in microseconds, from the request's first byte to the answer's last.
    pub latency_sum_us: u64,
    /// Counts by bucket of [`LATENCY_BOUNDS_US`], not cumulative; the last one is for what lies above.
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Connections of TCP listeners that ended in order, or since nothing passed for too long. Those that ended
    /// otherwise are among `aborted` and `cancelled`.
    #[serde(default)]
    pub connections: u64,
    /// Clients of UDP listeners that were led to an instance.
    #[serde(default)]
    pub sessions: u64,
    /// Datagrams of clients that were sent to an instance.
    #[serde(default)]
    pub received_datagrams: u64,
    /// Datagrams of instances that were sent to their client.
    #[serde(default)]
    pub sent_datagrams: u64,
    /// Datagrams that found no way.
    #[serde(default)]
    pub dropped_datagrams: u64,
    /// Body bytes from clients.
    pub received_bytes: u64,
    /// Body bytes to clients.
    pub sent_bytes: u64,
    /// Requests refused by rate limits; they are in no other count.
    #[serde(default)]
    pub limited: u64,
    /// Copies of requests that were sent to it; they are in no other count.
    #[serde(default)]
    pub mirrored: u64,
    /// Of those, the ones without a whole answer in time.
    #[serde(default)]
    pub mirror_failed: u64,
    /// Copies that were not made or not sent.
    #[serde(default)]
    pub mirror_skipped: u64,
    /// By instance.
    pub instances: Vec<InstanceCounters>,
}

impl InstanceCounters {
    /// Nothing counted yet, nothing known.
    pub fn zero(id: InstanceId) -> Self {
        let (responses, latency) = Default::default();
        Self { id, health: Health::Unknown, in_flight: 0, tries: 0, failures: 0, responses, latency_sum_us: 0, latency }
    }
}

/// What has counted nothing is not written: most of it, where there are very many instances.
fn is_zero<const N: usize>(counts: &[u64; N]) -> bool {
    counts.iter().all(|&count| count == 0)
}

/// Counters of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceCounters {
    /// Name and generation.
    pub id: InstanceId,
    /// The edge's verdict now.
    pub health: Health,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Tries sent to it.
    pub tries: u64,
    /// Tries that failed: connect error, answer cut off, timeout; and, of an instance on trial, answers of 5xx, which
    /// are among `responses` too.
    pub failures: u64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx, whether or not a client got them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub responses: [u64; 5],
    /// Sum of the times from a try's first byte sent to its answer's head, in microseconds.
    #[serde(default)]
    pub latency_sum_us: u64,
    /// Counts of those times by bucket of [`LATENCY_BOUNDS_US`], not cumulative; the last one is for what lies above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
}
