//! What clients saw in each tenth of a second, and over the whole time since the harm.
//!
//! Fed with every request that ended; a tick is closed by the first request or question of a later one. Memory is
//! bounded by the length of a run.

use evenkeel_core::drill::{TICK_MS, Tick};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Series {
    closed: Vec<Tick>,
    /// The tick that is under way: what took how long, in microseconds, and how many failed.
    took_us: Vec<u64>,
    errors: u64,
    /// Its number.
    tick: u64,
    /// Of all requests since the harm.
    since_fault_us: Vec<u64>,
}

impl Series {
    /// A request ended.
    pub(super) fn count(&mut self, now_ms: u64, took_us: u64, failed: bool) {
        self.count_apart(now_ms, took_us, failed);
        self.since_fault_us.push(took_us);
    }

    /// A request ended that shows in its tick only: it was meant to find out what is too much.
    pub(super) fn count_apart(&mut self, now_ms: u64, took_us: u64, failed: bool) {
        self.close(now_ms);
        self.took_us.push(took_us);
        self.errors += u64::from(failed);
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

    /// 99 of 100 requests since the harm took at most so long, in milliseconds, rounded up.
    pub(super) fn p99_ms(&self) -> u64 {
        Tick::of(0, &mut self.since_fault_us.clone(), 0).p99_us.map_or(0, |us| us.div_ceil(1000))
    }

    fn close(&mut self, now_ms: u64) {
        while self.tick < now_ms / TICK_MS {
            let tick = Tick::of(self.tick * TICK_MS, &mut self.took_us, self.errors);
            self.closed.push(tick);
            self.took_us.clear();
            self.errors = 0;
            self.tick += 1;
        }
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
    }
}
