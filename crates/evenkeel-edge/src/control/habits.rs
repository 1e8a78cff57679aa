//! How many requests the instances of a service answered lately, and how long the longest quiet was that came to an end.
//!
//! A quiet is a time in which requests wait at an instance and nothing is received from it. How long answers take says
//! little of it: one that takes seconds while others come all the time makes no quiet. A quiet of an instance that was
//! found silent, or gets no requests, is no habit of its service.
//!
//! Lately is the time since the turn of the last minute but one, so between one and two minutes. The counts are those of
//! the data threads; quiets are seen as often as anybody looks. Owned by the control thread, one for each service. What
//! follows from it is decided in [`evenkeel_core::silence`].

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{link::LATENCY_BOUNDS_US, time::Moment};

use super::member::Key;
use crate::shared::InstanceShared;

const TURN: Duration = Duration::from_mins(1);

type Sums = [u64; LATENCY_BOUNDS_US.len() + 1];

/// What is known of a service's answers.
#[derive(Debug)]
pub(super) struct Habits {
    /// Of each instance that had answered anything: at the last turn but one, and at the last.
    turns: BTreeMap<Key, [Sums; 2]>,
    turned: Moment,
    /// What is quiet now.
    quiets: BTreeMap<Key, Quiet>,
    /// The longest that ended before the last turn, and since.
    longest: [Duration; 2],
}

/// A quiet that has not ended, as it was seen last.
#[derive(Debug)]
struct Quiet {
    since: Moment,
    lasted: Duration,
    /// Its instance was well all the time.
    well: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { turns: BTreeMap::new(), turned: Moment::ORIGIN, quiets: BTreeMap::new(), longest: [Duration::ZERO; 2] }
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
        self.longest = [self.longest[1], Duration::ZERO];
    }

    /// How an instance is now: since when it is quiet, and whether it is well.
    pub(super) fn sees(&mut self, key: Key, quiet_since: Option<Moment>, well: bool, now: Moment) {
        let other = |quiet: &Quiet| Some(quiet.since) != quiet_since;
        if self.quiets.get(&key).is_some_and(other)
            && let Some(ended) = self.quiets.remove(&key).filter(|ended| ended.well)
        {
            self.longest[1] = self.longest[1].max(ended.lasted);
        }
        if let Some(since) = quiet_since {
            let quiet = self.quiets.entry(key).or_insert(Quiet { since, lasted: Duration::ZERO, well: true });
            quiet.lasted = now.since(since);
            quiet.well &= well;
        }
    }

    /// Who is gone leaves nothing behind.
    pub(super) fn forget(&mut self, key: Key) {
        self.quiets.remove(&key);
    }

    /// How many requests this instance answered lately.
    pub(super) fn answered(&self, key: Key, shared: &InstanceShared) -> u64 {
        self.lately(key, shared).iter().sum()
    }

    /// No quiet of this service's instances that ended lately lasted longer.
    pub(super) fn longest(&self) -> Duration {
        self.longest[0].max(self.longest[1])
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
        assert_eq!(habits.answered(key, &shared), 0);
        shared.threads[0].0.latency[1].add(7);
        shared.threads[1].0.latency[13].add(1);
        assert_eq!(habits.answered(key, &shared), 8);
        habits.turn(all(), at(60));
        shared.threads[0].0.latency[0].add(2);
        assert_eq!(habits.answered(key, &shared), 10);
        habits.turn(all(), at(119));
        assert_eq!(habits.answered(key, &shared), 10, "no turn yet");
        habits.turn(all(), at(120));
        assert_eq!(habits.answered(key, &shared), 2);
        habits.turn(std::iter::empty(), at(180));
        assert_eq!(habits.answered(key, &shared), 10, "nothing is kept of who was gone");
    }

    #[test]
    fn a_quiet_is_a_habit_once_it_ended_well() {
        let (mut habits, one, two) = (Habits::default(), Key(1), Key(2));
        let at = |ms| Moment::from_millis(ms);
        let ms = Duration::from_millis;
        habits.sees(one, Some(at(100)), true, at(150));
        habits.sees(one, Some(at(100)), true, at(400));
        assert_eq!(habits.longest(), Duration::ZERO, "it may last for ever");
        habits.sees(two, Some(at(380)), true, at(400));
        habits.sees(one, Some(at(410)), true, at(420));
        assert_eq!(habits.longest(), ms(300));
        habits.sees(one, None, true, at(430));
        assert_eq!(habits.longest(), ms(300), "a shorter one changes nothing");
        habits.sees(two, Some(at(380)), false, at(3_380));
        habits.sees(two, None, true, at(3_400));
        assert_eq!(habits.longest(), ms(300), "it was found silent meanwhile");
        habits.sees(one, Some(at(5_000)), true, at(9_000));
        habits.forget(one);
        habits.sees(one, None, true, at(9_100));
        assert_eq!(habits.longest(), ms(300), "who is gone ended nothing");
        habits.turn(std::iter::empty(), at(60_000));
        assert_eq!(habits.longest(), ms(300));
        habits.turn(std::iter::empty(), at(120_000));
        assert_eq!(habits.longest(), Duration::ZERO);
    }
}
