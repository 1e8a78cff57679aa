//! How the control thread keeps its time with very many instances: whom it looks at, and how many probes it starts.
//!
//! Up to [`AT_ONCE`] instances everybody is looked at on every tick. Beyond that a service without requests is looked at
//! when a probe of it is due, and once a second in any case. Probes are started at a bounded rate; where that does not
//! suffice for the configured intervals, the shortest of them become longer until it does, which is said. With a few
//! thousand instances that are probed once a second it does. The control thread owns all of it. What is found at a look
//! is not decided here.

use std::time::Duration;

use evenkeel_core::time::Moment;

use crate::shared::ServiceShared;

/// With so many instances, all of them are looked at on every tick.
pub(super) const AT_ONCE: usize = 2_000;

/// The longest time between two looks at a service.
const LOOK: Duration = Duration::from_secs(1);

/// Probes of checks that are started within a second, and how many at once after a quiet time. Each costs the edge some
/// fifty microseconds.
const PROBES_PER_S: u64 = 4_000;
const BURST: u64 = 512;

/// When a service is to be looked at.
#[derive(Debug)]
pub(super) struct Calm {
    next: Moment,
    requests: u64,
}

impl Default for Calm {
    fn default() -> Self {
        Self { next: Moment::ORIGIN, requests: 0 }
    }
}

impl Calm {
    /// Whether it is to be looked at now: its time has come, or there are or were requests.
    pub(super) fn is_over(&mut self, service: &ServiceShared, now: Moment) -> bool {
        let requests = service.sum(|cell| &cell.requests);
        let answered: u64 = (0..5).map(|class| service.sum(|cell| &cell.responses[class])).sum();
        let ended = answered + service.sum(|cell| &cell.aborted) + service.sum(|cell| &cell.cancelled);
        // A request that another service took over ends there, so that these may differ for good: that costs looks only.
        let busy = std::mem::replace(&mut self.requests, requests) != requests || requests != ended;
        busy || self.next <= now
    }

    /// It was looked at; its next probe is due then.
    pub(super) fn begins(&mut self, due: Option<Moment>, now: Moment) {
        let latest = now + LOOK;
        self.next = due.map_or(latest, |due| due.min(latest));
    }

    /// It is to be looked at by then.
    pub(super) fn ends_by(&mut self, due: Option<Moment>) {
        self.next = due.map_or(self.next, |due| due.min(self.next));
    }
}

/// How many probes may be started.
#[derive(Debug)]
pub(super) struct Pace {
    /// In thousandths of a probe.
    left: u64,
    filled: Moment,
    /// The shortest time between two probes of a healthy instance, so that everybody has a turn.
    least: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: BURST * 1_000, filled: Moment::ORIGIN, least: Duration::ZERO }
    }
}

impl Pace {
    /// So many instances are probed at such intervals, in milliseconds. None of these becomes longer than it must.
    pub(super) fn set_checks(&mut self, mut checks: Vec<(usize, u64)>) {
        // In probes within so many seconds, so that seldom ones count too.
        const SECONDS: u64 = 1_000;
        let probes = |instances: u64, interval_ms: u64| instances.saturating_mul(1_000 * SECONDS) / interval_ms.max(1);
        checks.sort_unstable_by_key(|&(_, interval_ms)| interval_ms);
        let mut checks = checks.into_iter().map(|(instances, interval_ms)| (instances as u64, interval_ms)).peekable();
        let mut others: u64 = checks.clone().map(|(instances, interval_ms)| probes(instances, interval_ms)).sum();
        let (most, mut stretched, mut least_ms) = (PROBES_PER_S * SECONDS, 0_u64, 0);
        while let Some((instances, interval_ms)) = checks.next_if(|_| others + probes(stretched, least_ms) > most) {
            stretched += instances;
            others -= probes(instances, interval_ms);
            // As long as for all so far to fit beside the others, but no longer than those have it.
            let next_ms = checks.peek().map_or(u64::MAX, |&(_, next_ms)| next_ms);
            let room = most.saturating_sub(others).max(1);
            least_ms = (stretched * 1_000 * SECONDS).div_ceil(room).min(next_ms);
        }
        self.least = Duration::from_millis(least_ms);
    }

    /// The shortest time between two probes of a healthy instance.
    pub(super) fn least(&self) -> Duration {
        self.least
    }

    /// Whether a probe may be started; it counts as started then.
    pub(super) fn takes(&mut self, now: Moment) -> bool {
        let passed_ms = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
        if passed_ms > 0 {
            self.filled = now;
            self.left = passed_ms.saturating_mul(PROBES_PER_S).saturating_add(self.left).min(BURST * 1_000);
        }
        let may = self.left >= 1_000;
        self.left -= if may { 1_000 } else { 0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Moment {
        Moment::from_millis(at)
    }

    #[test]
    fn probes_start_at_a_bounded_rate() {
        let mut pace = Pace::default();
        let at = |pace: &mut Pace, at: u64| (0..10_000).filter(|_| pace.takes(ms(at))).count();
        assert_eq!(at(&mut pace, 1), usize::try_from(BURST).unwrap());
        assert_eq!(at(&mut pace, 11), 40);
        assert_eq!(at(&mut pace, 1_000_000), usize::try_from(BURST).unwrap(), "a quiet time is not saved up");
    }

    #[test]
    fn intervals_become_no_longer_than_they_must() {
        let least_ms = |checks: &[(usize, u64)]| {
            let mut pace = Pace::default();
            pace.set_checks(checks.to_vec());
            pace.least().as_millis()
        };
        assert_eq!(least_ms(&[]), 0);
        assert_eq!(least_ms(&[(4_000, 1_000)]), 0, "just as many as may be");
        assert_eq!(least_ms(&[(1_000, 100)]), 250);
        assert_eq!(least_ms(&[(100_000, 1_000)]), 25_000);
        assert_eq!(least_ms(&[(100_000, 60_000), (10, 500)]), 0, "seldom probes leave room for a few frequent ones");
        assert_eq!(least_ms(&[(4_000, 1_000), (120_000, 60_000)]), 2_000, "half of the room is the others'");
        assert_eq!(least_ms(&[(120_000, 60_000), (4_000, 3_000), (4_000, 1_000)]), 6_000 - 2_000);
        assert_eq!(least_ms(&[(9_000_000, 1_000), (9_000_000, 60_000)]), 4_500_000);
    }

    #[test]
    fn a_calm_service_is_looked_at_when_a_probe_is_due_and_once_a_second() {
        let service = ServiceShared::new("shop".to_owned(), 1);
        let mut calm = Calm::default();
        assert!(calm.is_over(&service, ms(5)));
        calm.begins(Some(ms(300)), ms(5));
        assert!(!calm.is_over(&service, ms(299)));
        assert!(calm.is_over(&service, ms(300)));
        calm.begins(None, ms(300));
        calm.ends_by(Some(ms(2_000)));
        assert!(!calm.is_over(&service, ms(1_299)));
        assert!(calm.is_over(&service, ms(1_300)));
        calm.begins(None, ms(1_300));
        let cell = &service.threads[0].0;
        cell.requests.add(1);
        assert!(calm.is_over(&service, ms(1_301)), "a request came");
        assert!(calm.is_over(&service, ms(1_302)), "and has not ended");
        cell.responses[1].add(1);
        assert!(!calm.is_over(&service, ms(1_303)));
    }
}
