//! How many requests the instances of a service answered lately, and how long the longest quiet was that came to an end.
//!
//! A quiet is a time in which requests wait at an instance and nothing is received from it. How long answers take says
//! little of it: one that takes seconds while others come all the time makes no quiet. A quiet of an instance that was
//! found silent, or gets no requests, is no habit of its service.
//!
//! A quiet is measured twice: by the clock, and by the answers that the other instances gave meanwhile. A slow request
//! that is alone at its instance while hardly anybody asks for anything makes a long quiet by the clock, and hardly any
//! by answers; how long a busy service is quiet, it does not say.
//!
//! Lately is the time since the turn of the last minute but one, so between one and two minutes. The counts are those of
//! the data threads; quiets are seen as often as anybody looks. Owned by the control thread, one for each service. What
//! follows from it is decided in [`evenkeel_core::silence`].

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::time::Moment;

use super::member::Key;

const TURN: Duration = Duration::from_mins(1);

/// So many answers of the others tell how long a quiet is better than the clock does.
const ENOUGH_ELSEWHERE: u64 = 50;

/// What is known of a service's answers.
#[derive(Debug)]
pub(super) struct Habits {
    /// What each instance that had answered anything had answered: at the last turn but one, and at the last.
    turns: BTreeMap<Key, [u64; 2]>,
    turned: Moment,
    /// What is quiet now.
    quiets: BTreeMap<Key, Quiet>,
    /// The longest of those that ended before the last turn, and since; each of the measures by itself.
    longest: [Length; 2],
}

/// How long a quiet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Length {
    time: Duration,
    /// Answers that the other instances of its service gave meanwhile.
    elsewhere: u64,
}

/// A quiet that has not ended, as it was seen last.
#[derive(Debug)]
struct Quiet {
    since: Moment,
    /// What the other instances had answered when it was seen first.
    elsewhere: u64,
    length: Length,
    /// Its instance was well all the time.
    well: bool,
}

/// One instance, as it is seen now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) key: Key,
    /// Since when it is quiet.
    pub(super) quiet_since: Option<Moment>,
    /// It gets requests and is not silent.
    pub(super) well: bool,
    /// How many requests the other instances of its service answered, ever.
    pub(super) elsewhere: u64,
}

impl Default for Habits {
    fn default() -> Self {
        let longest = [Length::default(); 2];
        Self { turns: BTreeMap::new(), turned: Moment::ORIGIN, quiets: BTreeMap::new(), longest }
    }
}

impl Habits {
    /// Time went on. `answered`: what each member answered, ever. Who is not among them is forgotten.
    pub(super) fn turn(&mut self, answered: impl Iterator<Item = (Key, u64)>, now: Moment) {
        if now.since(self.turned) < TURN {
            return;
        }
        self.turned = now;
        let turns = answered.filter(|&(_, answered)| answered > 0).map(|(key, answered)| {
            let last = self.turns.get(&key).map_or(0, |&[_, last]| last);
            (key, [last, answered])
        });
        self.turns = turns.collect();
        self.longest = [self.longest[1], Length::default()];
    }

    /// How an instance is now.
    pub(super) fn sees(&mut self, sight: Sight, now: Moment) {
        let Sight { key, quiet_since, well, elsewhere } = sight;
        let other = |quiet: &Quiet| Some(quiet.since) != quiet_since;
        if self.quiets.get(&key).is_some_and(other)
            && let Some(ended) = self.quiets.remove(&key).filter(|ended| ended.well)
        {
            self.longest[1] = self.longest[1].max(ended.length);
        }
        if let Some(since) = quiet_since {
            let length = Length::default();
            let quiet = self.quiets.entry(key).or_insert(Quiet { since, elsewhere, length, well: true });
            // Who was among the others may be gone meanwhile, with its answers.
            quiet.length = Length { time: now.since(since), elsewhere: elsewhere.saturating_sub(quiet.elsewhere) };
            quiet.well &= well;
        }
    }

    /// Who is gone leaves nothing behind.
    pub(super) fn forget(&mut self, key: Key) {
        self.quiets.remove(&key);
    }

    /// How many of the requests that this instance `answered`, ever, it answered lately.
    pub(super) fn lately(&self, key: Key, answered: u64) -> u64 {
        answered.saturating_sub(self.turns.get(&key).map_or(0, |&[before, _]| before))
    }

    /// No quiet of this service's instances that ended lately lasted longer, at the pace at which the others answer
    /// during the present quiet of this one.
    pub(super) fn longest(&self, key: Key) -> Duration {
        let habit = self.longest[0].max(self.longest[1]);
        let Some(Quiet { length: quiet, .. }) = self.quiets.get(&key) else {
            return habit.time;
        };
        if quiet.elsewhere < ENOUGH_ELSEWHERE || habit.elsewhere >= quiet.elsewhere {
            return habit.time;
        }
        // Milliseconds of a quiet times its answers stay far below what 128 bits hold, and the quotient below the quiet.
        let by_answers = quiet.time.as_micros() * u128::from(habit.elsewhere) / u128::from(quiet.elsewhere);
        habit.time.min(Duration::from_micros(u64::try_from(by_answers).unwrap_or(u64::MAX)))
    }
}

impl Length {
    /// The longer of each measure.
    fn max(self, other: Self) -> Self {
        Self { time: self.time.max(other.time), elsewhere: self.elsewhere.max(other.elsewhere) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sight(key: Key, quiet_since: Option<u64>, elsewhere: u64) -> Sight {
        Sight { key, quiet_since: quiet_since.map(at), well: true, elsewhere }
    }

    #[test]
    fn what_is_older_than_two_turns_does_not_count() {
        let (mut habits, key) = (Habits::default(), Key(1));
        assert_eq!(habits.lately(key, 8), 8);
        habits.turn(std::iter::once((key, 8)), at(60_000));
        assert_eq!(habits.lately(key, 10), 10);
        habits.turn(std::iter::once((key, 10)), at(119_000));
        assert_eq!(habits.lately(key, 10), 10, "no turn yet");
        habits.turn(std::iter::once((key, 10)), at(120_000));
        assert_eq!(habits.lately(key, 10), 2);
        habits.turn(std::iter::empty(), at(180_000));
        assert_eq!(habits.lately(key, 10), 10, "nothing is kept of who was gone");
    }

    #[test]
    fn a_quiet_is_a_habit_once_it_ended_well() {
        let (mut habits, one, two) = (Habits::default(), Key(1), Key(2));
        habits.sees(sight(one, Some(100), 0), at(150));
        habits.sees(sight(one, Some(100), 0), at(400));
        assert_eq!(habits.longest(one), ms(0), "it may last for ever");
        habits.sees(sight(two, Some(380), 0), at(400));
        habits.sees(sight(one, Some(410), 0), at(420));
        assert_eq!(habits.longest(one), ms(300));
        habits.sees(sight(one, None, 0), at(430));
        assert_eq!(habits.longest(one), ms(300), "a shorter one changes nothing");
        habits.sees(Sight { well: false, ..sight(two, Some(380), 0) }, at(3_380));
        habits.sees(sight(two, None, 0), at(3_400));
        assert_eq!(habits.longest(one), ms(300), "it was found silent meanwhile");
        habits.sees(sight(one, Some(5_000), 0), at(9_000));
        habits.forget(one);
        habits.sees(sight(one, None, 0), at(9_100));
        assert_eq!(habits.longest(one), ms(300), "who is gone ended nothing");
        habits.turn(std::iter::empty(), at(60_000));
        assert_eq!(habits.longest(one), ms(300));
        habits.turn(std::iter::empty(), at(120_000));
        assert_eq!(habits.longest(one), ms(0));
    }

    #[test]
    fn a_busy_service_is_measured_by_its_answers() {
        let (mut habits, one, two) = (Habits::default(), Key(1), Key(2));
        // A slow request on a service that nobody else uses: a second, in which the others gave 10 answers.
        habits.sees(sight(one, Some(0), 100), at(10));
        habits.sees(sight(one, Some(0), 110), at(1_000));
        habits.sees(sight(one, None, 110), at(1_010));
        assert_eq!(habits.longest(two), ms(1_000), "nothing else is known");

        habits.sees(sight(two, Some(2_000), 1_000), at(2_000));
        habits.sees(sight(two, Some(2_000), 1_040), at(2_020));
        assert_eq!(habits.longest(two), ms(1_000), "too few answers say nothing");
        habits.sees(sight(two, Some(2_000), 1_200), at(2_100));
        assert_eq!(habits.longest(two), ms(5), "10 of these 200 answers");
        habits.sees(sight(two, Some(2_000), 1_400), at(4_800));
        assert_eq!(habits.longest(two), ms(70), "10 of these 400 answers");
    }

    #[test]
    fn who_is_often_quiet_while_others_answer_is_known_for_it() {
        let (mut habits, one) = (Habits::default(), Key(1));
        habits.sees(sight(one, Some(0), 0), at(0));
        habits.sees(sight(one, Some(0), 4_000), at(1_000));
        habits.sees(sight(one, Some(1_001), 4_004), at(1_001));
        habits.sees(sight(one, Some(1_001), 5_004), at(1_251));
        assert_eq!(habits.longest(one), ms(1_000), "it has been quiet for a quarter of its habit");
        habits.sees(sight(one, Some(1_001), 12_004), at(3_001));
        assert_eq!(habits.longest(one), ms(1_000));
        habits.sees(sight(one, Some(1_001), 20_004), at(3_001));
        assert_eq!(habits.longest(one), ms(500), "the others answer twice as fast as then");
    }
}
