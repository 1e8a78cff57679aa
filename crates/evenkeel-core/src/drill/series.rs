//! What clients of a drill saw from one moment to the next, for plots and for who watches.

use serde::{Deserialize, Serialize};

/// How long one tick lasts, in milliseconds.
pub const TICK_MS: u64 = 100;

/// What clients saw of the requests that ended in one tick. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Tick {
    /// The tick's begin, in milliseconds since the drill's start.
    pub at_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the ones without a complete answer of 2xx.
    pub errors: u64,
    /// Half of them took at most so long; `None` without any.
    pub p50_us: Option<u64>,
    /// 99 of 100 of them did.
    pub p99_us: Option<u64>,
    /// All of them did.
    pub worst_us: Option<u64>,
}

impl Tick {
    /// From what took so long, in microseconds, in any order.
    pub fn of(at_ms: u64, took_us: &mut [u64], errors: u64) -> Self {
        took_us.sort_unstable();
        let rank = |percent: usize| took_us.get((took_us.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let worst_us = took_us.last().copied();
        Self { at_ms, requests: took_us.len() as u64, errors, p50_us: rank(50), p99_us: rank(99), worst_us }
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
