//! What clients of a drill saw from one moment to the next, for plots and for who watches.

use serde::{Deserialize, Serialize};

/// How long one tick lasts, in milliseconds.
pub const TICK_MS: u64 = 100;

/// What clients saw in one tick, for the most part of the requests that ended in it. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Tick {
    /// The tick's begin, in milliseconds since the drill's start.
    pub at_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the ones without a complete answer of 2xx.
    pub errors: u64,
    /// Requests that were still on their way when the tick ended, and had been for longer than any should
    /// ([`Plan::overdue_ms`](super::Plan::overdue_ms)).
    pub overdue: u64,
    /// Half of the good answers took at most so long; `None` without any.
    pub p50_us: Option<u64>,
    /// 99 of 100 of them did.
    pub p99_us: Option<u64>,
    /// All requests that ended did, those that failed too.
    pub worst_us: Option<u64>,
}

impl Tick {
    /// From what took so long, in microseconds, in any order.
    pub fn of(at_ms: u64, took_us: &mut [u64], errors: u64) -> Self {
        took_us.sort_unstable();
        let rank = |percent: usize| took_us.get((took_us.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let worst_us = took_us.last().copied();
        let requests = took_us.len() as u64;
        Self { at_ms, requests, errors, overdue: 0, p50_us: rank(50), p99_us: rank(99), worst_us }
    }

    /// The same with so many requests beside that failed, the slowest of which took so long: how quickly a request is
    /// refused says nothing about how long answers take.
    #[must_use]
    pub fn with_failed(self, failed: u64, worst_us: Option<u64>) -> Self {
        let worst_us = self.worst_us.max(worst_us);
        Self { requests: self.requests + failed, errors: self.errors + failed, worst_us, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_there_was() {
        assert_eq!(Tick::of(100, &mut [], 0), Tick { at_ms: 100, ..Tick::default() });
        let mut took: Vec<u64> = (1..=200).rev().collect();
        let tick = Tick::of(0, &mut took, 3);
        assert_eq!((tick.requests, tick.errors), (200, 3));
        assert_eq!((tick.p50_us, tick.p99_us, tick.worst_us), (Some(100), Some(198), Some(200)));
        assert_eq!(Tick::of(0, &mut [7], 0).p99_us, Some(7));
    }
}
