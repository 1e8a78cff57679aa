//! Checks: ways to find out whether an instance is well.

use serde::{Deserialize, Serialize};

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
    /// An empty datagram is sent: a refusal by ICMP fails, anything else passes.
    Udp,
    /// Asks `grpc.health.v1.Health/Check` (the gRPC health checking protocol) over HTTP/2; `SERVING` passes.
    Grpc {
        /// The service asked about; empty: the whole server.
        service: String,
    },
    /// A command that the node process runs; how each run ended comes over the link. Exit code 0 passes.
    Exec {
        /// Tells one command from another.
        digest: u64,
    },
}
