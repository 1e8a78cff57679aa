//! How slowly a client may send a body (`limits.body_idle`, `limits.min_rate`).
//!
//! Only the time spent waiting for the client counts: one whose instance reads slowly is not slow. Pure; the one who
//! waits keeps the time.

use evenkeel_core::snapshot::ClientLimits;

/// How long the client may go on sending nothing, after it was waited for during `waited_ms` and has sent `bytes`.
pub(super) fn patience_ms(limits: &ClientLimits, waited_ms: u64, bytes: u64) -> u64 {
    if limits.min_rate_bytes_per_s == 0 {
        return limits.body_idle_ms;
    }
    let earned_ms = bytes.saturating_mul(1000) / limits.min_rate_bytes_per_s;
    limits.body_idle_ms.min(earned_ms.saturating_add(limits.min_rate_grace_ms).saturating_sub(waited_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time() {
        let mut limits = ClientLimits {
            head_bytes: 1,
            headers: 1,
            target_bytes: 1,
            body_bytes: 1,
            head_timeout_ms: 1,
            body_idle_ms: 60_000,
            keep_alive_ms: 1,
            connections: 1,
            connections_per_client: 0,
            min_rate_bytes_per_s: 0,
            min_rate_grace_ms: 10_000,
        };
        assert_eq!(patience_ms(&limits, 1_000_000, 0), 60_000, "no bound");
        limits.min_rate_bytes_per_s = 500;
        assert_eq!(patience_ms(&limits, 0, 0), 10_000, "the grace");
        assert_eq!(patience_ms(&limits, 12_000, 1500), 1000, "three seconds were earned");
        assert_eq!(patience_ms(&limits, 12_000, 900), 0, "it is too slow");
        assert_eq!(patience_ms(&limits, 12_000, u64::MAX), 60_000, "the bound of a pause holds all the same");
    }
}
