//! What traffic showed of one instance since the last look: the cells of all threads, as differences.
//!
//! Threads count and never stop for whoever reads. Each difference is exact over time; which of two results of
//! one look came first is only known within a thread.

use crate::shared::InstanceShared;

/// What was read last, by thread.
#[derive(Debug)]
pub(super) struct Traffic {
    seen: Box<[Seen]>,
    count_5xx: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    ok: u64,
    failed: u64,
}

/// Requests that ended since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Well.
    pub(super) ok: u32,
    /// Not well.
    pub(super) failed: u32,
    /// The longest run of failures at the end that one thread saw.
    pub(super) trailing: u32,
}

impl Traffic {
    /// Starts with what is there now.
    pub(super) fn new(shared: &InstanceShared) -> Self {
        let mut traffic = Self { seen: vec![Seen::default(); shared.threads.len()].into(), count_5xx: false };
        traffic.look(shared, false);
        traffic
    }

    /// What ended since the last look; with `count_5xx` answers of 500, 502, 503 and 504 are failures.
    pub(super) fn look(&mut self, shared: &InstanceShared, count_5xx: bool) -> Ended {
        let mut sum = Ended::default();
        // What was counted by the other rule says nothing about the time since the last look.
        let comparable = std::mem::replace(&mut self.count_5xx, count_5xx) == count_5xx;
        for (seen, cell) in self.seen.iter_mut().zip(&shared.threads) {
            let cell = &cell.0;
            let answered_5xx = if count_5xx { cell.answered_5xx.get() } else { 0 };
            let failed_total = cell.failed.get() + answered_5xx;
            let ok_total = cell.answered.get().saturating_sub(answered_5xx);
            if !comparable {
                *seen = Seen { ok: ok_total, failed: failed_total };
                continue;
            }
            // A thread may be between its two stores: a sum that seems to go back is left for the next look.
            let ok_total = ok_total.max(seen.ok);
            let ok = short(ok_total - seen.ok);
            let failed = short(failed_total.saturating_sub(seen.failed));
            let row = if ok == 0 { failed } else { short(cell.failed_in_row.get()).min(failed) };
            *seen = Seen { ok: ok_total, failed: failed_total.max(seen.failed) };
            sum.ok = sum.ok.saturating_add(ok);
            sum.failed = sum.failed.saturating_add(failed);
            sum.trailing = sum.trailing.max(row);
        }
        sum
    }
}

fn short(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use evenkeel_core::status::InstanceId;

    use super::*;

    #[test]
    fn differences_over_threads() {
        let shared = InstanceShared::new(InstanceId { name: "a/1".into(), generation: 1 }, "127.0.0.1:1".into(), 2);
        let (one, two) = (&shared.threads[0].0, &shared.threads[1].0);
        one.answered.add(5);
        let mut traffic = Traffic::new(&shared);
        assert_eq!(traffic.look(&shared, false), Ended::default());
        one.answered.add(3);
        one.failed.add(2);
        one.failed_in_row.set(1);
        two.failed.add(4);
        two.failed_in_row.set(9);
        assert_eq!(traffic.look(&shared, false), Ended { ok: 3, failed: 6, trailing: 4 });
        assert_eq!(traffic.look(&shared, false), Ended::default());
    }

    #[test]
    fn server_errors_count_where_asked() {
        let shared = InstanceShared::new(InstanceId { name: "a/1".into(), generation: 1 }, "127.0.0.1:1".into(), 1);
        let cell = &shared.threads[0].0;
        let mut traffic = Traffic::new(&shared);
        assert_eq!(traffic.look(&shared, true), Ended::default());
        cell.answered.add(4);
        cell.answered_5xx.add(3);
        assert_eq!(traffic.look(&shared, true), Ended { ok: 1, failed: 3, trailing: 0 });
        cell.answered_5xx.add(1);
        assert_eq!(traffic.look(&shared, true), Ended { ok: 0, failed: 1, trailing: 1 }, "between two stores");
        cell.answered.add(1);
        assert_eq!(traffic.look(&shared, true), Ended::default());
    }
}
