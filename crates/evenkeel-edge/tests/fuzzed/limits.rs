//! The bounds under which parsers are tested, by the fuzzer, by the tests that replay its corpora and by those of the
//! parsers themselves. Times do not matter to them.
#![allow(dead_code, unreachable_pub)] // Who includes it decides who sees it, and takes what it needs.

use evenkeel_core::snapshot::{ClientLimits, ServiceLimits};

pub const CLIENT: ClientLimits = ClientLimits {
    head_bytes: 16 << 10,
    headers: 100,
    target_bytes: 8 << 10,
    body_bytes: 1 << 30,
    head_timeout_ms: 1,
    body_idle_ms: 1,
    keep_alive_ms: 1,
    connections: 1,
    connections_per_client: 0,
    min_rate_bytes_per_s: 0,
    min_rate_grace_ms: 0,
};

pub const SERVICE: ServiceLimits = ServiceLimits {
    connect_timeout_ms: 1,
    response_timeout_ms: 1,
    idle_timeout_ms: 1,
    tunnel_idle_ms: 1,
    in_flight_per_instance: 0,
    head_bytes: 16 << 10,
    whole_bytes: 65_536,
    silent_after_ms: 0,
    idle_connections: 1,
};
