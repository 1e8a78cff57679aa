//! Counters by the hour of the wall clock: what an objective is judged by.

use std::collections::BTreeMap;

use super::{Counted, real, whole};
use crate::{stack::Objective, time::WallTime};

const HOUR_MS: u64 = 3_600_000;

/// As many as the longest window touches.
const MOST: usize = (Objective::LONGEST_WINDOW.as_ms() / HOUR_MS) as usize + 1;

/// Requests by hour, as many hours as the longest window has. A clock that is wrong for a while costs at most as many
/// hours as it was wrong: what is farthest from the present goes first, on either side of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours(BTreeMap<u64, Counted>);

impl Hours {
    /// The number of the hour of this time, counted from the Unix epoch.
    pub const fn number(at: WallTime) -> u64 {
        at.as_millis() / HOUR_MS
    }

    /// Puts back what was kept of an hour.
    pub fn restore(&mut self, hour: u64, counted: &Counted) {
        self.0.entry(hour).or_default().add(counted);
    }

    /// Counts what happened until now. Returns the hours that found no room any more.
    pub fn count(&mut self, now: WallTime, more: &Counted) -> Vec<u64> {
        let present = Self::number(now);
        self.0.entry(present).or_default().add(more);
        let mut forgotten = Vec::new();
        while self.0.len() > MOST {
            let last = self.0.last_key_value().map(|(hour, _)| *hour).filter(|hour| *hour > present);
            let hour = last.or_else(|| self.0.first_key_value().map(|(hour, _)| *hour));
            forgotten.extend(hour.filter(|hour| self.0.remove(hour).is_some()));
        }
        forgotten
    }

    /// What an hour has.
    pub fn get(&self, hour: u64) -> Option<&Counted> {
        self.0.get(&hour)
    }

    /// All hours, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Counted)> {
        self.0.iter().map(|(hour, counted)| (*hour, counted))
    }

    /// Whether anything at all was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything within the last `window_ms`. Of the hour in which the window begins as much as lies within it, as if
    /// its requests had come evenly.
    pub fn within(&self, window_ms: u64, now: WallTime) -> Counted {
        let from_ms = now.as_millis().saturating_sub(window_ms);
        let (first, last) = (from_ms / HOUR_MS, Self::number(now));
        let mut sum = Counted::default();
        for (hour, counted) in self.0.range(first..=last) {
            let outside_ms = from_ms.saturating_sub(hour * HOUR_MS);
            // The hour that has only begun lies within the window as far as it goes.
            let length_ms = HOUR_MS.min(now.as_millis() - hour * HOUR_MS).max(1);
            let share = 1.0 - real(outside_ms.min(length_ms)) / real(length_ms);
            let part = |count: u64| whole(share * real(count));
            sum.add(&Counted {
                requests: part(counted.requests),
                errors: part(counted.errors),
                latency: counted.latency.map(part),
            });
        }
        sum
    }

    /// Since when requests are counted, to the hour, where that is within the window; otherwise the window's begin.
    pub fn since(&self, window_ms: u64, now: WallTime) -> Option<WallTime> {
        let (first, _) = self.0.first_key_value().filter(|(hour, _)| **hour <= Self::number(now))?;
        Some(WallTime::from_millis((first * HOUR_MS).max(now.as_millis().saturating_sub(window_ms))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * HOUR_MS;

    fn at(ms: u64) -> WallTime {
        WallTime::from_millis(1_800_000_000_000 + ms)
    }

    fn requests(requests: u64) -> Counted {
        Counted { requests, ..Counted::default() }
    }

    #[test]
    fn a_window_has_what_lies_within_it() {
        let mut hours = Hours::default();
        assert_eq!(hours.since(DAY_MS, at(0)), None);
        for hour in 0..48 {
            hours.count(at(hour * HOUR_MS), &requests(100));
            hours.count(at(hour * HOUR_MS + 1_800_000), &requests(100));
        }
        let now = at(47 * HOUR_MS + 1_800_000);
        // Half an hour of now, 23 hours before it and half of the hour that the day began in.
        assert_eq!(hours.within(DAY_MS, now).requests, 200 + 23 * 200 + 100);
        assert_eq!(hours.within(HOUR_MS, now).requests, 300);
        assert_eq!(hours.within(90 * DAY_MS, now).requests, 48 * 200);
        assert_eq!(hours.since(90 * DAY_MS, now), Some(at(0)));
        assert_eq!(hours.since(HOUR_MS, now), Some(at(46 * HOUR_MS + 1_800_000)));
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_costs_what_it_was_wrong_for() {
        let mut hours = Hours::default();
        for hour in 0..100 {
            hours.count(at(hour * HOUR_MS), &requests(1));
        }
        let forgotten = hours.count(at(10_000 * DAY_MS), &requests(5));
        assert!(forgotten.is_empty());
        let now = at(100 * HOUR_MS);
        hours.count(now, &requests(1));
        assert_eq!(hours.within(90 * DAY_MS, now).requests, 101);
        // What is full loses first what lies in the future, then what is oldest.
        let mut forgotten = Vec::new();
        for hour in 101..=MOST as u64 {
            forgotten.extend(hours.count(at(hour * HOUR_MS), &requests(1)));
        }
        assert_eq!(forgotten, [Hours::number(at(10_000 * DAY_MS)), Hours::number(at(0))]);
        assert_eq!(hours.iter().count(), MOST);
    }
}
