//! What the demo's visitors saw: how many requests, how many failed, and how long the last ones took.
//!
//! Visitors and the line that shows it share it; everything is under one lock, which at forty requests a second
//! nobody notices. Latencies are kept for ten seconds, so percentiles are exact.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How far back rate and percentiles look.
const WINDOW: Duration = Duration::from_secs(10);

/// Shared by all visitors.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    requests: u64,
    failed: u64,
    orders: u64,
    worst: Duration,
    last_failure: Option<String>,
    begun: Option<Instant>,
    newest: Option<Instant>,
    recent: VecDeque<(Instant, Duration)>,
}

/// A moment's view.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Requests that came to an end.
    pub(super) requests: u64,
    /// Requests without an answer of 2xx.
    pub(super) failed: u64,
    /// Orders acknowledged.
    pub(super) orders: u64,
    /// Requests a second of late.
    pub(super) per_s: f64,
    /// Median of late, in milliseconds; `None` where no request ended of late.
    pub(super) p50_ms: Option<f64>,
    /// 99th percentile of late, in milliseconds; `None` where no request ended of late.
    pub(super) p99_ms: Option<f64>,
    /// How long ago the newest answer came; `None` before the first.
    pub(super) silent_for: Option<Duration>,
    /// The slowest of all, in milliseconds.
    pub(super) worst_ms: f64,
    /// What the newest failure was.
    pub(super) last_failure: Option<String>,
}

impl Tally {
    /// A request ended; `failure` says what was wrong with it.
    pub(super) fn add(&self, took: Duration, failure: Option<String>) {
        self.with(|inner| inner.add(Instant::now(), took, failure));
    }

    /// An order was acknowledged.
    pub(super) fn add_order(&self) {
        self.with(|inner| inner.orders += 1);
    }

    /// As of now.
    pub(super) fn seen(&self) -> Seen {
        self.with(|inner| inner.seen(Instant::now()))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn add(&mut self, now: Instant, took: Duration, failure: Option<String>) {
        self.requests += 1;
        self.worst = self.worst.max(took);
        self.begun.get_or_insert(now);
        self.newest = Some(now);
        self.recent.push_back((now, took));
        if failure.is_some() {
            self.failed += 1;
            self.last_failure = failure;
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }

    fn seen(&mut self, now: Instant) -> Seen {
        self.forget(now);
        let mut took: Vec<Duration> = self.recent.iter().map(|(_, took)| *took).collect();
        took.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (took.len() * percent).div_ceil(100).max(1) - 1;
            took.get(rank).map(|took| took.as_secs_f64() * 1000.0)
        };
        let span = self.begun.map_or(WINDOW, |begun| now.duration_since(begun).clamp(Duration::from_secs(1), WINDOW));
        let recent = u32::try_from(took.len()).unwrap_or(u32::MAX);
        Seen {
            requests: self.requests,
            failed: self.failed,
            orders: self.orders,
            per_s: f64::from(recent) / span.as_secs_f64(),
            p50_ms: percentile(50),
            p99_ms: percentile(99),
            silent_for: self.newest.map(|newest| now.duration_since(newest)),
            worst_ms: self.worst.as_secs_f64() * 1000.0,
            last_failure: self.last_failure.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_percentiles_are_of_the_last_ten_seconds() {
        let mut inner = Inner::default();
        let start = Instant::now();
        inner.add(start, Duration::from_millis(900), Some("status 503".to_owned()));
        for ms in 1..=100 {
            inner.add(start + Duration::from_secs(20), Duration::from_millis(ms), None);
        }
        let seen = inner.seen(start + Duration::from_secs(21));
        assert_eq!((seen.requests, seen.failed, seen.per_s), (101, 1, 10.0));
        assert_eq!((seen.p50_ms, seen.p99_ms, seen.worst_ms), (Some(50.0), Some(99.0), 900.0));
        assert_eq!(seen.silent_for, Some(Duration::from_secs(1)));
        assert_eq!(seen.last_failure.as_deref(), Some("status 503"));
        let later = inner.seen(start + Duration::from_mins(1));
        assert_eq!((later.requests, later.per_s, later.p99_ms), (101, 0.0, None));
        assert_eq!(later.silent_for, Some(Duration::from_secs(40)));
    }
}
