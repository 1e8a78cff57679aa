//! What is known of one service: points in two resolutions, and counters by the hour for its objective.

use std::collections::BTreeMap;

use evenkeel_core::{objectives::Hours, stack::Objective, time::WallTime};

use super::Point;

/// The resolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A point each ten seconds, for two hours.
    Fine,
    /// A point each minute, for twenty-six hours: a day, and what was before it.
    Coarse,
}

impl Step {
    pub(super) const ALL: [Self; 2] = [Self::Fine, Self::Coarse];

    /// The distance of points.
    pub(super) const fn length_ms(self) -> u64 {
        match self {
            Self::Fine => 10_000,
            Self::Coarse => 60_000,
        }
    }

    /// How many are kept.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Fine => 2 * 360,
            Self::Coarse => 26 * 60,
        }
    }
}

/// Points and hours of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    fine: BTreeMap<u64, Point>,
    coarse: BTreeMap<u64, Point>,
    pub(super) hours: Hours,
}

impl Series {
    pub(super) fn points(&self, step: Step) -> &BTreeMap<u64, Point> {
        match step {
            Step::Fine => &self.fine,
            Step::Coarse => &self.coarse,
        }
    }

    fn points_mut(&mut self, step: Step) -> &mut BTreeMap<u64, Point> {
        match step {
            Step::Fine => &mut self.fine,
            Step::Coarse => &mut self.coarse,
        }
    }

    /// Puts back a point that was kept.
    pub(super) fn restore(&mut self, step: Step, point: Point) {
        self.points_mut(step).entry(point.at.as_millis()).or_insert(point);
    }

    /// Takes what was kept, where it is not known already.
    pub(super) fn join(&mut self, kept: Self) {
        for (step, points) in [(Step::Fine, kept.fine), (Step::Coarse, kept.coarse)] {
            for point in points.into_values() {
                self.restore(step, point);
            }
        }
        for (hour, counted) in kept.hours.iter() {
            self.hours.restore(hour, counted);
        }
    }

    /// Adds the point of now. Returns the times of those that found no room any more: what is farthest from now, on
    /// either side of it, so that a clock that was wrong for a while costs what it was wrong for.
    pub(super) fn add(&mut self, step: Step, point: Point) -> Vec<u64> {
        let now = point.at.as_millis();
        let points = self.points_mut(step);
        points.insert(now, point);
        let mut forgotten = Vec::new();
        while points.len() > step.most() {
            let last = points.last_key_value().map(|(at, _)| *at).filter(|at| *at > now);
            let at = last.or_else(|| points.first_key_value().map(|(at, _)| *at));
            forgotten.extend(at.filter(|at| points.remove(at).is_some()));
        }
        forgotten
    }

    /// Whether all of it is older than what is kept: that of a service that is gone.
    pub(super) fn is_over(&self, now: WallTime) -> bool {
        let kept_ms = Step::Coarse.length_ms() * Step::Coarse.most() as u64;
        let last = |points: &BTreeMap<u64, Point>| points.last_key_value().map(|(at, _)| *at);
        let newest = last(&self.fine).max(last(&self.coarse)).unwrap_or(0);
        now.as_millis() > newest + kept_ms && self.hours.within(Objective::LONGEST_WINDOW.as_ms(), now).requests == 0
    }

    /// Points that ended after `from` and not after `to`, oldest first: minutes, and ten seconds as far back as those
    /// are kept. Where these are more than `most`, neighbours become one.
    pub(super) fn read(&self, from: WallTime, to: WallTime, most: usize) -> Vec<Point> {
        let (from, to) = (from.as_millis().saturating_add(1), to.as_millis());
        if from > to || most == 0 {
            return Vec::new();
        }
        // What begins before the oldest fine point is not covered by fine ones.
        let oldest = self.fine.first_key_value().map_or(u64::MAX, |(_, point)| point.begin().as_millis());
        let coarse = self.coarse.range(from..=to).take_while(|(at, _)| **at <= oldest);
        let found: Vec<Point> = coarse.chain(self.fine.range(from..=to)).map(|(_, point)| *point).collect();
        if found.len() <= most {
            return found;
        }
        // Their times do not depend on where the reader begins, so that a plot that moves on is not drawn otherwise.
        let width = ((to - from) / (most as u64 - 1).max(1) + 1).next_multiple_of(Step::Fine.length_ms());
        let mut merged: BTreeMap<u64, Point> = BTreeMap::new();
        for point in found {
            let bin = if most == 1 { 0 } else { (point.at.as_millis() - 1) / width };
            merged.entry(bin).and_modify(|before| *before = before.with(point)).or_insert(point);
        }
        merged.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_ms: u64, step: Step, requests: u32) -> Point {
        let span_ms = u32::try_from(step.length_ms()).unwrap();
        Point { at: WallTime::from_millis(at_ms), span_ms, requests, ..Point::default() }
    }

    /// A day of ten requests in ten seconds.
    fn day() -> (Series, u64) {
        let mut series = Series::default();
        let begin = 1_800_000_000_000;
        for at in (begin..=begin + 24 * 3_600_000).step_by(10_000) {
            series.add(Step::Fine, point(at, Step::Fine, 10));
            if at % 60_000 == 0 {
                series.add(Step::Coarse, point(at, Step::Coarse, 60));
            }
        }
        (series, begin + 24 * 3_600_000)
    }

    #[test]
    fn the_newest_are_fine_and_those_before_them_coarse() {
        let (series, now) = day();
        let read =
            |back_ms: u64, most| series.read(WallTime::from_millis(now - back_ms), WallTime::from_millis(now), most);
        assert_eq!(read(600_000, 1000).len(), 60);
        let all = read(4 * 3_600_000, 10_000);
        assert_eq!(all.len(), 120 + 720);
        // No time is counted twice, and none is left out.
        for pair in all.windows(2) {
            assert_eq!(pair[0].at, pair[1].begin());
        }
        assert!(series.read(WallTime::from_millis(now), WallTime::from_millis(now - 1), 10).is_empty());
    }

    #[test]
    fn more_than_asked_for_become_fewer_without_losing_a_request() {
        let (series, now) = day();
        let from = WallTime::from_millis(now - 24 * 3_600_000);
        let sum = |points: &[Point]| points.iter().map(|point| point.requests).sum::<u32>();
        let all = series.read(from, WallTime::from_millis(now), 10_000);
        for most in [1, 7, 200, 1000] {
            let fewer = series.read(from, WallTime::from_millis(now), most);
            assert!(fewer.len() <= most && fewer.len() > most / 2, "{most}: {}", fewer.len());
            assert_eq!(sum(&fewer), sum(&all));
            assert_eq!(fewer.last().unwrap().at.as_millis(), now);
        }
    }

    #[test]
    fn the_worse_of_neighbours_stays_visible() {
        let good = Point { p99_ms: Some(3.0), healthy: 3, wanted: 3, ..point(10_000, Step::Fine, 5) };
        let bad = Point { p99_ms: Some(800.0), healthy: 1, wanted: 3, errors: 2, ..point(20_000, Step::Fine, 5) };
        let both = good.with(bad);
        assert_eq!((both.p99_ms, both.healthy, both.errors, both.requests), (Some(800.0), 1, 2, 10));
        assert_eq!((both.begin().as_millis(), both.at.as_millis()), (0, 20_000));
        assert_eq!(bad.with(Point { at: good.at, ..good }).p99_ms, Some(800.0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_wrong_clock_costs_little() {
        let (mut series, now) = day();
        assert_eq!((series.fine.len(), series.coarse.len()), (720, 24 * 60 + 1));
        // A year ahead for a moment, and back.
        let ahead = now + 365 * 86_400_000;
        assert_eq!(series.add(Step::Fine, point(ahead, Step::Fine, 1)), [now - 719 * 10_000]);
        assert_eq!(series.add(Step::Fine, point(now + 10_000, Step::Fine, 1)), [ahead]);
        assert_eq!(series.read(WallTime::from_millis(now - 60_000), WallTime::from_millis(now + 10_000), 99).len(), 7);
        assert!(!series.is_over(WallTime::from_millis(now)) && series.is_over(WallTime::from_millis(ahead)));
    }
}
