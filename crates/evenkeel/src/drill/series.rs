//! What clients saw in each tenth of a second, and over the whole time since the harm.
//!
//! Fed with every request that begins and ends; a tick is closed by the first end or question of a later one, so that
//! what is on its way then was so when the tick ended. Memory is bounded by the length of a run.

use std::collections::BTreeMap;

use evenkeel_core::drill::{TICK_MS, Tick};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Series {
    closed: Vec<Tick>,
    /// The tick that is under way: what took how long to its answer, in microseconds, and how many failed.
    took_us: Vec<u64>,
    errors: u64,
    /// The slowest of those that failed. How quickly something is refused says nothing about how long answers take.
    worst_failed_us: Option<u64>,
    /// Its number.
    tick: u64,
    /// Of all good answers since the harm.
    since_fault_us: Vec<u64>,
    /// When requests were sent that are on their way, in milliseconds since the drill's start, in that order.
    under_way: BTreeMap<u64, u64>,
    begun: u64,
    /// From when on one of them is overdue, in milliseconds.
    overdue_ms: u64,
}

impl Series {
    /// Nothing was seen yet. A request is overdue once it has been on its way for so long.
    pub(super) fn new(overdue_ms: u64) -> Self {
        Self { overdue_ms, ..Self::default() }
    }

    /// A request is sent. Returns what [`Series::end`] takes.
    pub(super) fn begin(&mut self, now_ms: u64) -> u64 {
        self.begun += 1;
        self.under_way.insert(self.begun, now_ms);
        self.begun
    }

    /// It is not on its way any more, however that came; whether it is counted is another matter.
    pub(super) fn end(&mut self, begun: u64) {
        self.under_way.remove(&begun);
    }

    /// A request ended.
    pub(super) fn count(&mut self, now_ms: u64, took_us: u64, failed: bool) {
        self.count_apart(now_ms, took_us, failed);
        if !failed {
            self.since_fault_us.push(took_us);
        }
    }

    /// A request ended that shows in its tick only: it was meant to find out what is too much.
    pub(super) fn count_apart(&mut self, now_ms: u64, took_us: u64, failed: bool) {
        self.close(now_ms);
        if failed {
            self.errors += 1;
            self.worst_failed_us = self.worst_failed_us.max(Some(took_us));
        } else {
            self.took_us.push(took_us);
        }
    }

    /// So many of them were not too much after all, and none but one of a hundred took longer.
    pub(super) fn take(&mut self, requests: u64, p99_us: u64) {
        self.since_fault_us.extend((0..requests).map(|_| p99_us));
    }

    /// The harm is about to be done.
    pub(super) fn mark_fault(&mut self) {
        self.since_fault_us.clear();
    }

    /// Every tick that is over, from the given number of ticks on.
    pub(super) fn closed(&mut self, now_ms: u64, from: usize) -> &[Tick] {
        self.close(now_ms);
        self.closed.get(from..).unwrap_or_default()
    }

    /// Every tick, also the one under way: nothing more will end in it.
    pub(super) fn all(&mut self, now_ms: u64) -> &[Tick] {
        self.closed(now_ms + TICK_MS, 0)
    }

    /// 99 of 100 good answers since the harm took at most so long, in milliseconds, rounded up.
    pub(super) fn p99_ms(&self) -> u64 {
        Tick::of(0, &mut self.since_fault_us.clone(), 0).p99_us.map_or(0, |us| us.div_ceil(1000))
    }

    fn close(&mut self, now_ms: u64) {
        while self.tick < now_ms / TICK_MS {
            let tick = Tick::of(self.tick * TICK_MS, &mut self.took_us, 0);
            let tick = tick.with_failed(self.errors, self.worst_failed_us.take());
            let overdue = self.overdue_at((self.tick + 1) * TICK_MS);
            self.closed.push(Tick { overdue, ..tick });
            self.took_us.clear();
            self.errors = 0;
            self.tick += 1;
        }
    }

    /// How many had been on their way for too long at that moment.
    fn overdue_at(&self, at_ms: u64) -> u64 {
        let is_overdue = |sent_ms: &&u64| sent_ms.saturating_add(self.overdue_ms) <= at_ms;
        self.under_way.values().take_while(is_overdue).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_in_the_tick_in_which_it_ended() {
        let mut series = Series::default();
        series.count(10, 5_000, false);
        series.count(99, 7_000, true);
        series.mark_fault();
        series.count(310, 9_100, false);
        let ticks = series.closed(350, 0).to_vec();
        let seen: Vec<_> = ticks.iter().map(|tick| (tick.at_ms, tick.requests, tick.errors, tick.worst_us)).collect();
        assert_eq!(seen, [(0, 2, 1, Some(7_000)), (100, 0, 0, None), (200, 0, 0, None)]);
        assert_eq!(series.closed(400, 3).len(), 1);
        assert_eq!(series.p99_ms(), 10, "of those since the harm, rounded up");
        series.count(420, 1, false);
        assert_eq!(series.all(430).iter().map(|tick| tick.requests).sum::<u64>(), 4, "none is left out");
    }

    #[test]
    fn what_is_refused_quickly_is_no_quick_answer() {
        let mut series = Series::default();
        series.mark_fault();
        series.count(10, 40_000, false);
        (0..99).for_each(|n| series.count(20, if n == 7 { 90_000 } else { 200 }, true));
        let tick = series.all(30)[0];
        assert_eq!((tick.requests, tick.errors, tick.worst_us), (100, 99, Some(90_000)));
        assert_eq!((tick.p50_us, tick.p99_us, series.p99_ms()), (Some(40_000), Some(40_000), 40));
    }

    #[test]
    fn what_does_not_end_is_overdue_until_it_does() {
        let mut series = Series::new(200);
        let (first, second) = (series.begin(0), series.begin(150));
        let overdue = |series: &mut Series, now_ms| -> Vec<u64> {
            series.closed(now_ms, 0).iter().map(|tick| tick.overdue).collect()
        };
        assert_eq!(overdue(&mut series, 399), [0, 1, 1], "the first, from the end of the second tick on");
        series.count(450, 450_000, true);
        series.end(first);
        assert_eq!(overdue(&mut series, 500), [0, 1, 1, 2, 1], "it was on its way until the fourth tick was over");
        series.end(second);
        assert_eq!(overdue(&mut series, 600).last(), Some(&0));
    }
}
