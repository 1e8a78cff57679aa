//! Counters of the edge: totals over its restarts, rates and percentiles of the last ten seconds.
//!
//! An edge counts from zero when it starts. What former edges had counted is added as a base, so that totals only
//! grow. The base and what the present edge has counted are kept on disk side by side ([`Kept`]): the next process
//! under the same guard may meet the same edge and must not add it twice, and one under another guard never hears it
//! again. Whoever owns this writes it down. For rates the totals of the last ten seconds are remembered, about four
//! a second, and the newest is compared with the oldest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use evenkeel_core::{
    ambiguity::Ambiguity,
    link::{Counters, LATENCY_BOUNDS_US, ProxyFault, ServiceCounters},
    status::UdpStatus,
    time::{Moment, WallTime},
};
use serde::{Deserialize, Serialize};

/// The window of rates and percentiles.
const WINDOW: Duration = Duration::from_secs(10);

/// How often what is counted is written down.
const KEPT_EVERY: Duration = Duration::from_secs(1);

/// What has been counted.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    base: Totals,
    /// Of the edge that runs, or ran last.
    newest: Counters,
    /// What the edge of a former process of this guard had counted, until an edge is heard.
    former: Option<Counters>,
    /// Since when this guard runs: the edges of another one are none of its own.
    guard: WallTime,
    /// What was given out to be kept last, and when.
    kept: (Option<Moment>, Kept),
    history: VecDeque<(Moment, BTreeMap<String, Sums>)>,
    /// How often counters came.
    updates: u64,
    heard: Option<Moment>,
}

/// What outlives this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// What former edges had counted.
    base: Totals,
    /// Since when the guard ran below which `edge` counted.
    guard: WallTime,
    /// What the present edge has counted, without what changes by itself.
    edge: Counters,
}

impl Kept {
    /// As it stands in its file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("counters are plain data")
    }
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
    /// Starts from what was kept. `guard`: since when it runs.
    pub(crate) fn new(kept: Kept, guard: WallTime) -> Self {
        let same_guard = kept.guard == guard;
        let mut traffic = Self { guard, former: Some(kept.edge.clone()), base: kept.base.clone(), ..Self::default() };
        if !same_guard {
            // Its edges ended with it.
            traffic.base = traffic.totals();
            traffic.former = None;
        }
        traffic.kept = (None, kept);
        traffic
    }

    /// What former edges had counted.
    pub(crate) fn base(&self) -> &Totals {
        &self.base
    }

    /// Takes the edge's counters.
    pub(crate) fn update(&mut self, counters: Counters, now: Moment) {
        let before = self.of_an_edge().pid;
        if before != 0 && before != counters.pid {
            self.base = self.totals();
        }
        self.former = None;
        self.newest = counters;
        self.updates += 1;
        self.heard = Some(now);
        let services = self.totals().services;
        self.history.push_back((now, services));
        // The oldest one kept is the youngest that is at least as old as the window.
        while self.history.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.history.pop_front();
        }
    }

    /// What is to be written down now, if it is time to and anything has changed.
    pub(crate) fn due_to_keep(&mut self, now: Moment) -> Option<&Kept> {
        if self.kept.0.is_some_and(|last| now.since(last) < KEPT_EVERY) {
            return None;
        }
        self.changed_to_keep(now)
    }

    /// The same although it is not time to yet: before this process ends, and before somebody is told who takes a
    /// total that shrinks for one that began anew.
    pub(crate) fn changed_to_keep(&mut self, now: Moment) -> Option<&Kept> {
        let kept = Kept { base: self.base.clone(), guard: self.guard, edge: sums_only(self.of_an_edge()) };
        if self.kept.1 == kept {
            return None;
        }
        self.kept = (Some(now), kept);
        Some(&self.kept.1)
    }

    /// What the edge that runs has counted, as far as it is known, or the last one had.
    fn of_an_edge(&self) -> &Counters {
        self.former.as_ref().unwrap_or(&self.newest)
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
        let newest = self.of_an_edge().services.iter().find(|counters| counters.name == service);
        base + newest.map_or(0, |counters| {
            let mut sums = Sums::default();
            sums.add(counters);
            sums.requests()
        })
    }

    /// Sums over all edges.
    pub(crate) fn totals(&self) -> Totals {
        let (mut totals, more) = (self.base.clone(), self.of_an_edge());
        totals.accepted += more.accepted;
        totals.turned_away += more.turned_away;
        totals.redirected += more.redirected;
        for (total, count) in totals.proxy_faults.iter_mut().zip(more.proxy_faults) {
            *total += count;
        }
        for (status, count) in &more.rejected {
            *totals.rejected.entry(*status).or_default() += count;
        }
        for (total, count) in totals.ambiguities.iter_mut().zip(more.ambiguities) {
            *total += count;
        }
        for service in &more.services {
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

/// What totals are made of, without what is true of the present only.
fn sums_only(counters: &Counters) -> Counters {
    let without_instances = |service: &ServiceCounters| ServiceCounters {
        name: service.name.clone(),
        instances: Vec::new(),
        holding: 0,
        ..*service
    };
    Counters {
        snapshot: 0,
        basis: Vec::new(),
        connections: 0,
        rejected: counters.rejected.clone(),
        services: counters.services.iter().map(without_instances).collect(),
        ..*counters
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
        let mut traffic = Traffic::new(Kept::default(), GUARD);
        traffic.update(counters(10, 100), Moment::from_millis(0));
        traffic.update(counters(10, 150), Moment::from_millis(250));
        traffic.update(counters(11, 5), Moment::from_millis(500));
        assert_eq!(traffic.base().services["shop"].requests(), 151);
        let totals = traffic.totals();
        assert_eq!(totals.services["shop"].requests(), 157);
        assert_eq!((totals.accepted, totals.rejected[&400], totals.services["shop"].errors()), (155, 4, 2));
        // A successor of this process hears the same edge.
        let kept = written(&mut traffic);
        let mut next = Traffic::new(kept.clone(), GUARD);
        assert_eq!((next.totals(), next.updates()), (totals, 0), "known before an edge is heard");
        next.update(counters(11, 6), Moment::from_millis(600));
        assert_eq!(next.totals().services["shop"].requests(), 158);
        assert_eq!((next.requests_over("shop"), next.requests_over("other"), next.updates()), (158, 0, 1));
        // Or another one, where the edge ended with nobody listening.
        let mut next = Traffic::new(kept, GUARD);
        next.update(counters(12, 10), Moment::from_millis(600));
        assert_eq!((next.totals().services["shop"].requests(), next.requests_over("shop")), (168, 168));
    }

    #[test]
    fn totals_outlive_the_guard() {
        let mut traffic = Traffic::new(Kept::default(), GUARD);
        traffic.update(counters(10, 100), Moment::from_millis(0));
        let kept = written(&mut traffic);
        // The edge of another guard counts from zero, even with the number of the former one.
        let mut next = Traffic::new(kept, WallTime::from_millis(2));
        assert_eq!((next.totals(), next.base()), (traffic.totals(), &traffic.totals()));
        next.update(counters(10, 5), Moment::from_millis(600));
        assert_eq!(next.totals().services["shop"].requests(), 107);
        // What follows starts from there, whether it was written meanwhile or not.
        let again = Traffic::new(written(&mut next), WallTime::from_millis(3));
        assert_eq!(again.totals(), next.totals());
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let mut traffic = Traffic::new(Kept::default(), GUARD);
        traffic.update(counters(10, 100), Moment::from_millis(0));
        assert!(traffic.due_to_keep(Moment::from_millis(0)).is_some());
        traffic.update(counters(10, 101), Moment::from_millis(250));
        assert!(traffic.due_to_keep(Moment::from_millis(999)).is_none(), "once a second is enough");
        assert!(traffic.due_to_keep(Moment::from_millis(1_000)).is_some());
        let busy = ServiceCounters { holding: 3, ..counters(10, 101).services[0].clone() };
        traffic
            .update(Counters { connections: 9, services: vec![busy], ..counters(10, 101) }, Moment::from_millis(2_000));
        assert!(traffic.changed_to_keep(Moment::from_millis(9_000)).is_none(), "what is true now only is no total");
        traffic.update(counters(10, 102), Moment::from_millis(9_100));
        assert!(traffic.changed_to_keep(Moment::from_millis(9_100)).is_some());
    }

    const GUARD: WallTime = WallTime::from_millis(1);

    /// What the next process reads.
    fn written(traffic: &mut Traffic) -> Kept {
        let kept = traffic.changed_to_keep(Moment::from_millis(500)).expect("something changed");
        serde_json::from_slice(&kept.to_bytes()).unwrap()
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
