//! Counters of the edge: totals over its restarts, rates and percentiles of the last ten seconds.
//!
//! An edge counts from zero when it starts. What former edges had counted is added as a base, which is kept on
//! disk, so that totals only grow. For rates the totals of the last ten seconds are remembered, about four a
//! second, and the newest is compared with the oldest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use evenkeel_core::{
    ambiguity::Ambiguity,
    link::{Counters, LATENCY_BOUNDS_US, ProxyFault, ServiceCounters},
    status::UdpStatus,
    time::Moment,
};
use serde::{Deserialize, Serialize};

/// The window of rates and percentiles.
const WINDOW: Duration = Duration::from_secs(10);

/// What has been counted.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    base: Totals,
    /// Of the edge that runs, or ran last.
    newest: Counters,
    history: VecDeque<(Moment, BTreeMap<String, Sums>)>,
    /// How often counters came.
    updates: u64,
    heard: Option<Moment>,
}

/// Sums that only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Client connections accepted.
    pub(crate) accepted: u64,
    /// Client connections closed at once.
    #[serde(default)]
    pub(crate) turned_away: u64,
    /// Connections closed for want of a PROXY header, in the order of [`ProxyFault::ALL`].
    #[serde(default)]
    pub(crate) proxy_faults: [u64; ProxyFault::ALL.len()],
    /// Requests that routes sent elsewhere.
    #[serde(default)]
    pub(crate) redirected: u64,
    /// Requests refused before they had a route, by status.
    pub(crate) rejected: BTreeMap<u16, u64>,
    /// Requests that were ambiguous, and put right or altered, by what it was.
    #[serde(default)]
    pub(crate) ambiguities: [u64; Ambiguity::ALL.len()],
    /// By service.
    pub(crate) services: BTreeMap<String, Sums>,
}

/// Sums of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sums {
    /// Answers by class, 1xx to 5xx.
    pub(crate) responses: [u64; 5],
    /// Without a whole answer although the client waited.
    pub(crate) aborted: u64,
    /// The client went away first.
    pub(crate) cancelled: u64,
    /// Tries after the first.
    pub(crate) retries: u64,
    /// Second tries that were made beside a first one.
    pub(crate) hedges: u64,
    /// Of those, the ones that answered first.
    pub(crate) hedges_won: u64,
    /// Requests held.
    pub(crate) held: u64,
    /// Of all latencies, in microseconds.
    pub(crate) latency_sum_us: u64,
    /// By bucket, as [`LATENCY_BOUNDS_US`] has them.
    pub(crate) latency: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Connections of TCP listeners that ended in order.
    pub(crate) connections: u64,
    /// Clients of UDP listeners.
    pub(crate) sessions: u64,
    /// Datagrams of clients, and of instances, that were passed on.
    pub(crate) received_datagrams: u64,
    pub(crate) sent_datagrams: u64,
    /// Datagrams that found no way.
    pub(crate) dropped_datagrams: u64,
    /// Body bytes from clients.
    pub(crate) received_bytes: u64,
    /// Body bytes to clients.
    pub(crate) sent_bytes: u64,
    /// Requests refused by rate limits.
    pub(crate) limited: u64,
    /// Copies of requests: sent, without an answer, not sent.
    pub(crate) mirrored: [u64; 3],
}

impl Sums {
    /// Requests and connections of TCP listeners that are over, however they ended. An interim answer (1xx) is none.
    pub(crate) fn requests(&self) -> u64 {
        self.responses[1..].iter().sum::<u64>() + self.aborted + self.cancelled + self.connections
    }

    /// Answers of 5xx and requests without an answer.
    pub(crate) fn errors(&self) -> u64 {
        self.responses[4] + self.aborted
    }

    /// What UDP listeners passed on.
    pub(crate) fn udp(&self) -> UdpStatus {
        UdpStatus {
            sessions: self.sessions,
            received: self.received_datagrams,
            sent: self.sent_datagrams,
            dropped: self.dropped_datagrams,
        }
    }

    /// How many latencies were counted.
    pub(crate) fn latencies(&self) -> u64 {
        self.latency.iter().sum()
    }

    fn add(&mut self, more: &ServiceCounters) {
        let pairs = self.responses.iter_mut().zip(more.responses).chain(self.latency.iter_mut().zip(more.latency));
        pairs.for_each(|(sum, more)| *sum += more);
        self.aborted += more.aborted;
        self.cancelled += more.cancelled;
        self.retries += more.retries;
        self.hedges += more.hedges;
        self.hedges_won += more.hedges_won;
        self.held += more.held;
        self.latency_sum_us += more.latency_sum_us;
        self.connections += more.connections;
        self.sessions += more.sessions;
        self.received_datagrams += more.received_datagrams;
        self.sent_datagrams += more.sent_datagrams;
        self.dropped_datagrams += more.dropped_datagrams;
        self.received_bytes += more.received_bytes;
        self.sent_bytes += more.sent_bytes;
        self.limited += more.limited;
        let mirrored = [more.mirrored, more.mirror_failed, more.mirror_skipped];
        self.mirrored.iter_mut().zip(mirrored).for_each(|(sum, more)| *sum += more);
    }

    /// What was counted after `earlier`, of all that rates and the history are about.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.clone();
        let responses = delta.responses.iter_mut().zip(earlier.responses);
        let latency = delta.latency.iter_mut().zip(earlier.latency);
        responses.chain(latency).for_each(|(sum, before)| *sum = sum.saturating_sub(before));
        delta.aborted = delta.aborted.saturating_sub(earlier.aborted);
        delta.cancelled = delta.cancelled.saturating_sub(earlier.cancelled);
        delta.connections = delta.connections.saturating_sub(earlier.connections);
        delta.retries = delta.retries.saturating_sub(earlier.retries);
        delta.held = delta.held.saturating_sub(earlier.held);
        delta
    }

    /// The latency below which this share of requests lies, in milliseconds, interpolated within its bucket.
    pub(crate) fn percentile_ms(&self, share: f64) -> Option<f64> {
        let count = self.latencies();
        if count == 0 {
            return None;
        }
        let wanted = share * as_f64(count);
        let mut below = 0.0;
        for (bucket, inside) in self.latency.iter().enumerate() {
            let inside = as_f64(*inside);
            if inside > 0.0 && below + inside >= wanted {
                let low = if bucket == 0 { 0 } else { LATENCY_BOUNDS_US[bucket - 1] };
                // Nothing is known about what lies above the last bound but that it does.
                let high = LATENCY_BOUNDS_US.get(bucket).copied().unwrap_or(low);
                let part = ((wanted - below) / inside).clamp(0.0, 1.0);
                return Some((as_f64(low) + part * as_f64(high - low)) / 1000.0);
            }
            below += inside;
        }
        None
    }
}

/// Rates of one service over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) requests_per_s: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Of how many requests the percentiles are.
    pub(crate) measured: u64,
}

impl Traffic {
    /// Starts from what former edges had counted.
    pub(crate) fn new(base: Totals) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes the edge's counters. Returns the new base when another edge has begun to count, to be kept.
    pub(crate) fn update(&mut self, counters: Counters, now: Moment) -> Option<&Totals> {
        let another = self.newest.pid != 0 && self.newest.pid != counters.pid;
        if another {
            self.base = self.totals();
        }
        self.newest = counters;
        self.updates += 1;
        self.heard = Some(now);
        let services = self.totals().services;
        self.history.push_back((now, services));
        // The oldest one kept is the youngest that is at least as old as the window.
        while self.history.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.history.pop_front();
        }
        another.then_some(&self.base)
    }

    /// The counters of the edge that runs, as it sent them last.
    pub(crate) fn newest(&self) -> &Counters {
        &self.newest
    }

    /// Counts how often counters came, so that new ones can be told from those known already.
    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// When counters came last.
    pub(crate) fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// Requests of a service that are over, over all edges.
    pub(crate) fn requests_over(&self, service: &str) -> u64 {
        let base = self.base.services.get(service).map_or(0, Sums::requests);
        let newest = self.newest.services.iter().find(|counters| counters.name == service);
        base + newest.map_or(0, |counters| {
            let mut sums = Sums::default();
            sums.add(counters);
            sums.requests()
        })
    }

    /// Sums over all edges.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.base.clone();
        totals.accepted += self.newest.accepted;
        totals.turned_away += self.newest.turned_away;
        totals.redirected += self.newest.redirected;
        for (total, count) in totals.proxy_faults.iter_mut().zip(self.newest.proxy_faults) {
            *total += count;
        }
        for (status, count) in &self.newest.rejected {
            *totals.rejected.entry(*status).or_default() += count;
        }
        for (total, count) in totals.ambiguities.iter_mut().zip(self.newest.ambiguities) {
            *total += count;
        }
        for service in &self.newest.services {
            totals.services.entry(service.name.clone()).or_default().add(service);
        }
        totals
    }

    /// Rates of a service; zero where nothing was heard for the length of the window.
    pub(crate) fn rates(&self, service: &str, now: Moment) -> Rates {
        let (Some((first_at, first)), Some((last_at, last))) = (self.history.front(), self.history.back()) else {
            return Rates::default();
        };
        let span = last_at.since(*first_at);
        if now.since(*last_at) >= WINDOW || span.is_zero() {
            return Rates::default();
        }
        let Some(newest) = last.get(service) else {
            return Rates::default();
        };
        let nothing = Sums::default();
        let delta = newest.since(first.get(service).unwrap_or(&nothing));
        Rates {
            requests_per_s: as_f64(delta.requests()) / span.as_secs_f64(),
            p50_ms: delta.percentile_ms(0.5),
            p99_ms: delta.percentile_ms(0.99),
            measured: delta.latencies(),
        }
    }
}

/// Counters lose precision only beyond 2^53, which no counter reaches.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pid: u32, ok: u64) -> Counters {
        let mut latency = [0; LATENCY_BOUNDS_US.len() + 1];
        latency[2] = ok;
        let shop = ServiceCounters {
            name: "shop".to_owned(),
            responses: [0, ok, 0, 0, 1],
            latency,
            ..ServiceCounters::default()
        };
        Counters { pid, accepted: ok, rejected: vec![(400, 2)], services: vec![shop], ..Counters::default() }
    }

    #[test]
    fn totals_grow_over_restarts_of_the_edge() {
        let mut traffic = Traffic::default();
        assert!(traffic.update(counters(10, 100), Moment::from_millis(0)).is_none());
        assert!(traffic.update(counters(10, 150), Moment::from_millis(250)).is_none());
        let base = traffic.update(counters(11, 5), Moment::from_millis(500)).cloned().unwrap();
        assert_eq!(base.services["shop"].requests(), 151);
        let totals = traffic.totals();
        assert_eq!(totals.services["shop"].requests(), 157);
        assert_eq!((totals.accepted, totals.rejected[&400], totals.services["shop"].errors()), (155, 4, 2));
        // A successor of this process starts from the base and hears the same edge.
        let mut next = Traffic::new(base);
        next.update(counters(11, 6), Moment::from_millis(600));
        assert_eq!(next.totals().services["shop"].requests(), 158);
        assert_eq!((next.requests_over("shop"), next.requests_over("other"), next.updates()), (158, 0, 1));
    }

    #[test]
    fn rates_cover_the_last_ten_seconds() {
        let mut traffic = Traffic::default();
        for i in 0..100_u64 {
            let ok = if i < 50 { 0 } else { (i - 50) * 25 };
            traffic.update(counters(10, ok), Moment::from_millis(i * 250));
        }
        let now = Moment::from_millis(99 * 250);
        let rates = traffic.rates("shop", now);
        assert!((rates.requests_per_s - 100.0).abs() < 3.0, "{rates:?}");
        let (p50, p99) = (rates.p50_ms.unwrap(), rates.p99_ms.unwrap());
        assert!(0.5 < p50 && p50 < p99 && p99 <= 1.0, "{rates:?}");
        assert!(traffic.history.len() <= 42);
        assert_eq!(traffic.rates("other", now), Rates::default());
        assert_eq!(traffic.rates("shop", Moment::from_millis(99 * 250 + 20_000)), Rates::default());
    }
}
