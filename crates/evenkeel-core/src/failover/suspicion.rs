//! Suspicion: when a primary that runs and says nothing is taken for hung.
//!
//! Silence is no proof. The clock of a silence runs only while it is total: no answer on any connection, old or new,
//! nothing new in any standby's log, nobody else who was answered. Time in which the observer itself did not run does not
//! count, since then it is the observer that was silent. After a failover on suspicion nobody is suspected for a while:
//! if the same happens again at once, the machine is busy and a failover does not help.

use std::time::Duration;

use crate::time::Moment;

use super::{Policy, Rule, Rules, Token};

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered this observer.
    Answered,
    /// It answered somebody else, as an edge.
    AnsweredOthers,
    /// A standby received something new.
    LogArrived,
}

/// What is known of one primary's silence.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    quiet_since: Option<Moment>,
    last_look: Option<Moment>,
    calm: Option<(Token, Moment)>,
}

impl Suspicion {
    /// Something was heard of it.
    pub fn heard(&mut self, sign: Sign, rules: Rules, now: Moment) {
        if sign == Sign::Answered || rules.has(Rule::SuspicionIsNoProof) {
            self.quiet_since = Some(now);
        }
    }

    /// The record says with which token somebody was last ended on suspicion: nobody is suspected for a while since this
    /// observer saw that first.
    pub fn saw(&mut self, ended: Option<Token>, policy: &Policy, now: Moment) {
        self.calm = match (ended, self.calm) {
            (Some(token), Some((known, until))) if token == known => Some((known, until)),
            (Some(token), _) => Some((token, now + policy.calm)),
            (None, _) => None,
        };
    }

    /// Whether that while is over, and the record should say so.
    pub fn calm_is_over(&self, now: Moment) -> bool {
        self.calm.is_some_and(|(_, until)| until <= now)
    }

    /// Looks at the clock, about every `every`: why it is taken for hung, if it is.
    pub fn look(&mut self, policy: &Policy, rules: Rules, every: Duration, now: Moment) -> Option<String> {
        let slept = self.last_look.map_or(Duration::ZERO, |last| now.since(last).saturating_sub(every * 2));
        self.last_look = Some(now);
        let quiet_since = self.quiet_since.get_or_insert(now);
        if rules.has(Rule::SuspicionIsNoProof) {
            *quiet_since = (*quiet_since + slept).min(now);
        }
        let quiet = now.since(*quiet_since);
        let calm = rules.has(Rule::Calm) && self.calm.is_some_and(|(_, until)| now < until);
        (quiet >= policy.hang_after && !calm)
            .then(|| format!("it has answered nobody and sent nothing for {:.1} s", quiet.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    /// Looks every 100 ms from `from_ms` to `to_ms`: when it is first taken for hung.
    fn hung_at(suspicion: &mut Suspicion, from_ms: u64, to_ms: u64) -> Option<u64> {
        (from_ms..=to_ms)
            .step_by(100)
            .find(|ms| suspicion.look(&Policy::default(), Rules::ALL, EVERY, Moment::from_millis(*ms)).is_some())
    }

    #[test]
    fn only_a_total_silence_is_a_hang() {
        let mut suspicion = Suspicion::default();
        suspicion.heard(Sign::Answered, Rules::ALL, Moment::ORIGIN);
        assert_eq!(hung_at(&mut suspicion, 0, 7900), None, "a stall of five seconds is ordinary");
        suspicion.heard(Sign::LogArrived, Rules::ALL, Moment::from_millis(7900));
        assert_eq!(hung_at(&mut suspicion, 8000, 30_000), Some(15_900));
    }

    #[test]
    fn what_the_observer_slept_through_does_not_count() {
        let mut suspicion = Suspicion::default();
        suspicion.heard(Sign::Answered, Rules::ALL, Moment::ORIGIN);
        assert_eq!(hung_at(&mut suspicion, 0, 1000), None);
        assert_eq!(hung_at(&mut suspicion, 21_000, 27_000), None, "twenty seconds of which it saw nothing");
        assert!(hung_at(&mut suspicion, 27_100, 40_000).is_some());
    }

    #[test]
    fn after_a_failover_on_suspicion_nobody_is_suspected() {
        let mut suspicion = Suspicion::default();
        suspicion.saw(Some(Token::new(1)), &Policy::default(), Moment::ORIGIN);
        assert_eq!(hung_at(&mut suspicion, 0, 599_900), None);
        assert!(hung_at(&mut suspicion, 600_000, 600_000).is_some());
    }
}
