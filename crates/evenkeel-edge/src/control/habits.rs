//! How many requests the instances of a service answered lately, and how long the longest of those answers took.
//!
//! Lately is the time since the turn of the last minute but one, so between one and two minutes. The counts are those of
//! the data threads, by buckets of [`LATENCY_BOUNDS_US`]; what is kept here is how they were at those turns. Owned by the
//! control thread, one for each service. What follows from it is decided in [`evenkeel_core::silence`].

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{link::LATENCY_BOUNDS_US, time::Moment};

use super::member::Key;
use crate::shared::InstanceShared;

const TURN: Duration = Duration::from_mins(1);

/// What was found of the longest answer is used for so long.
const FRESH: Duration = Duration::from_millis(100);

type Sums = [u64; LATENCY_BOUNDS_US.len() + 1];

/// What is known of a service's answers.
#[derive(Debug)]
pub(super) struct Habits {
    /// Of each instance that had answered anything: at the last turn but one, and at the last.
    turns: BTreeMap<Key, [Sums; 2]>,
    turned: Moment,
    longest: Option<(Moment, Duration)>,
}

impl Default for Habits {
    fn default() -> Self {
        Self { turns: BTreeMap::new(), turned: Moment::ORIGIN, longest: None }
    }
}

impl Habits {
    /// Time went on. Who is not among the members is forgotten.
    pub(super) fn turn<'a>(&mut self, members: impl Iterator<Item = (Key, &'a InstanceShared)>, now: Moment) {
        if now.since(self.turned) < TURN {
            return;
        }
        self.turned = now;
        let turns = members.filter_map(|(key, shared)| {
            let (sums, last) = (sums(shared), self.turns.get(&key).map_or_else(Sums::default, |[_, last]| *last));
            sums.iter().any(|&sum| sum > 0).then_some((key, [last, sums]))
        });
        self.turns = turns.collect();
    }

    /// How many requests this instance answered lately.
    pub(super) fn answered(&self, key: Key, shared: &InstanceShared) -> u64 {
        self.lately(key, shared).iter().sum()
    }

    /// No answer of these instances took longer lately; without bound where one was above all buckets.
    pub(super) fn longest<'a>(
        &mut self,
        members: impl Iterator<Item = (Key, &'a InstanceShared)>,
        now: Moment,
    ) -> Duration {
        if let Some((_, longest)) = self.longest.filter(|(at, _)| now.since(*at) < FRESH) {
            return longest;
        }
        let bucket = |(key, shared)| self.lately(key, shared).iter().rposition(|&count| count > 0);
        let longest = members.filter_map(bucket).max().map_or(Duration::ZERO, |bucket| {
            LATENCY_BOUNDS_US.get(bucket).map_or(Duration::MAX, |&us| Duration::from_micros(us))
        });
        self.longest = Some((now, longest));
        longest
    }

    fn lately(&self, key: Key, shared: &InstanceShared) -> Sums {
        let mut sums = sums(shared);
        if let Some([before, _]) = self.turns.get(&key) {
            sums.iter_mut().zip(before).for_each(|(sum, before)| *sum = sum.saturating_sub(*before));
        }
        sums
    }
}

fn sums(shared: &InstanceShared) -> Sums {
    let mut sums = Sums::default();
    for cell in &shared.threads {
        sums.iter_mut().zip(&cell.0.latency).for_each(|(sum, count)| *sum += count.get());
    }
    sums
}

#[cfg(test)]
mod tests {
    use evenkeel_core::status::InstanceId;

    use super::*;

    #[test]
    fn what_is_older_than_two_turns_does_not_count() {
        let shared = InstanceShared::new(InstanceId { name: "a/1".into(), generation: 1 }, "127.0.0.1:1".into(), 2);
        let (mut habits, key) = (Habits::default(), Key(1));
        let all = || std::iter::once((key, &shared));
        let at = |s| Moment::ORIGIN + Duration::from_secs(s);
        assert_eq!((habits.answered(key, &shared), habits.longest(all(), at(1))), (0, Duration::ZERO));
        shared.threads[0].0.latency[1].add(7);
        shared.threads[1].0.latency[13].add(1);
        assert_eq!((habits.answered(key, &shared), habits.longest(all(), at(2))), (8, Duration::from_secs(1)));
        habits.turn(all(), at(60));
        shared.threads[0].0.latency[0].add(2);
        assert_eq!((habits.answered(key, &shared), habits.longest(all(), at(61))), (10, Duration::from_secs(1)));
        habits.turn(all(), at(119));
        assert_eq!(habits.answered(key, &shared), 10, "no turn yet");
        habits.turn(all(), at(120));
        assert_eq!((habits.answered(key, &shared), habits.longest(all(), at(121))), (2, Duration::from_micros(250)));
        shared.threads[1].0.latency[LATENCY_BOUNDS_US.len()].add(1);
        assert_eq!(habits.longest(all(), at(122)), Duration::MAX);
        habits.turn(std::iter::empty(), at(180));
        assert_eq!(habits.answered(key, &shared), 11, "nothing is kept of who was gone");
    }
}
