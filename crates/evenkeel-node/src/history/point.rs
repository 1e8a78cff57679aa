//! One point of a service's history.

use evenkeel_core::time::WallTime;
use serde::Serialize;

use super::Standing;
use crate::traffic::Sums;

/// What was counted of a service in the time that ended at `at`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct Point {
    /// The end of that time.
    pub(crate) at: WallTime,
    /// Its length, in milliseconds. A time longer than usual is one in which nobody looked.
    pub(crate) span_ms: u32,
    /// Requests that were over, however they ended.
    pub(crate) requests: u32,
    /// Answers of 5xx and requests without an answer.
    pub(crate) errors: u32,
    /// Tries after the first.
    pub(crate) retries: u32,
    /// Requests that were held.
    pub(crate) held: u32,
    /// The median latency in milliseconds; `None` without requests.
    pub(crate) p50_ms: Option<f32>,
    /// The 99th percentile in milliseconds; `None` without requests.
    pub(crate) p99_ms: Option<f32>,
    /// Instances that got requests at its end.
    pub(crate) healthy: u32,
    /// Instances that were wanted at its end.
    pub(crate) wanted: u32,
}

impl Point {
    /// The point of what was counted since the one before.
    pub(super) fn of(delta: &Sums, at: WallTime, span_ms: u64, standing: &Standing) -> Self {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            at,
            span_ms: small(span_ms),
            requests: small(delta.requests()),
            errors: small(delta.errors()),
            retries: small(delta.retries),
            held: small(delta.held),
            p50_ms: delta.percentile_ms(0.5).map(single),
            p99_ms: delta.percentile_ms(0.99).map(single),
            healthy: standing.healthy,
            wanted: standing.wanted,
        }
    }

    /// When the time that it covers began.
    pub(crate) fn begin(&self) -> WallTime {
        WallTime::from_millis(self.at.as_millis().saturating_sub(u64::from(self.span_ms)))
    }

    /// Requests a second.
    pub(crate) fn requests_per_s(&self) -> f64 {
        f64::from(self.requests) * 1000.0 / f64::from(self.span_ms.max(1))
    }

    /// Errors a second.
    pub(crate) fn errors_per_s(&self) -> f64 {
        f64::from(self.errors) * 1000.0 / f64::from(self.span_ms.max(1))
    }

    /// Both as one: counts are added; of percentiles, which cannot be, and of instances the worse is kept, so that
    /// nothing that was bad is hidden by what was good beside it.
    pub(crate) fn with(self, later: Self) -> Self {
        let worse = |one: Option<f32>, other: Option<f32>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Self {
            at: later.at,
            span_ms: self.span_ms.saturating_add(later.span_ms),
            requests: self.requests.saturating_add(later.requests),
            errors: self.errors.saturating_add(later.errors),
            retries: self.retries.saturating_add(later.retries),
            held: self.held.saturating_add(later.held),
            p50_ms: worse(self.p50_ms, later.p50_ms),
            p99_ms: worse(self.p99_ms, later.p99_ms),
            healthy: self.healthy.min(later.healthy),
            wanted: self.wanted.max(later.wanted),
        }
    }
}

/// Of a latency three digits matter.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}
