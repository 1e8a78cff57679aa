//! Minimum capacity: the one rule over checks and ejection that keeps a service from shrinking to nothing.
//!
//! Where fewer instances are healthy than the service asks for at least, a check or the rules of ejection may be wrong, or
//! the few that are left would break down under what the others had. Then instances that still answer come into question
//! beside the healthy ones: those whose check fails by an answer, as a status, and those that traffic ejected. Who cannot
//! be connected to, is silent, has never passed its check, or drains by order never does: a request sent there is lost.
//!
//! So the order is: healthy ones; with them, while the rule holds, those that answer; where neither is there, the service
//! that `fallback` names; and where that cannot answer, requests are held. Whoever forms verdicts keeps a [`Capacity`] for
//! each service and shows the rule all its instances on every change.

/// What an instance can contribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets requests.
    Healthy,
    /// It is out, and still answers.
    Answers,
    /// It is out, and a request would be lost there.
    Out,
}

/// Whether the rule holds for a service now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// While the rule holds, the numbers as they were said last: all, healthy ones, those that answer beside them.
    holds: Option<(usize, usize, usize)>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Those that still answer get requests from now on, for this reason.
    Begins(String),
    /// They go on doing so, for a reason with other numbers.
    GoesOn(String),
    /// Only healthy ones do, for this reason; `enough`: there are as many as asked for.
    Ends {
        /// Why.
        reason: String,
        /// Whether as many as asked for are healthy. Else there is nobody left who could be enlisted.
        enough: bool,
    },
}

impl Capacity {
    /// Whether those that still answer get requests.
    pub fn holds(self) -> bool {
        self.holds.is_some()
    }

    /// Decides anew. `standings` are those of all instances that should serve: one that drains by order is none of them.
    /// The rule holds only while there is somebody whom it can enlist.
    pub fn on(&mut self, standings: impl Iterator<Item = Standing>, min_percent: u8) -> Option<Change> {
        let (mut serving, mut healthy, mut answers) = (0_usize, 0_usize, 0_usize);
        for standing in standings {
            serving += 1;
            healthy += usize::from(standing == Standing::Healthy);
            answers += usize::from(standing == Standing::Answers);
        }
        let short = healthy * 100 < serving * usize::from(min_percent);
        let holds = (short && answers > 0).then_some((serving, healthy, answers));
        let before = std::mem::replace(&mut self.holds, holds);
        if before == holds {
            return None;
        }
        let are = |count: usize| if count == 1 { "is" } else { "are" };
        let seen = format!("{healthy} of {serving} instances {} healthy", are(healthy));
        if holds.is_none() {
            let reason = if short { format!("{seen}, and nobody else answers any more") } else { seen };
            return Some(Change::Ends { reason, enough: !short });
        }
        let answer = if answers == 1 { "still answers" } else { "still answer" };
        let reason = format!("{seen}, fewer than {min_percent} %; {answers} more {answer}");
        Some(if before.is_some() { Change::GoesOn(reason) } else { Change::Begins(reason) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Standing::*, *};

    #[test]
    fn those_that_answer_help_while_too_few_are_healthy() {
        let mut rule = Capacity::default();
        assert_eq!(rule.on([Healthy, Healthy, Answers, Out].into_iter(), 50), None, "half are healthy");
        let begins = rule.on([Healthy, Answers, Answers, Out].into_iter(), 50);
        let reason = "1 of 4 instances is healthy, fewer than 50 %; 2 more still answer".to_owned();
        assert_eq!(begins, Some(Change::Begins(reason)));
        assert_eq!(rule.on([Answers, Out, Answers, Healthy].into_iter(), 50), None, "said once");
        let fewer = rule.on([Answers, Answers, Out, Out].into_iter(), 50);
        let reason = "0 of 4 instances are healthy, fewer than 50 %; 2 more still answer".to_owned();
        assert_eq!(fewer, Some(Change::GoesOn(reason)), "the numbers are those of now");
        let ends = rule.on([Healthy, Healthy, Answers, Out].into_iter(), 50);
        assert_eq!(ends, Some(Change::Ends { reason: "2 of 4 instances are healthy".to_owned(), enough: true }));
        assert!(!rule.holds());
    }

    #[test]
    fn with_nobody_to_enlist_it_does_not_hold() {
        let mut rule = Capacity::default();
        assert_eq!(rule.on([Out, Out].into_iter(), 100), None);
        assert!(matches!(rule.on([Answers, Out].into_iter(), 100), Some(Change::Begins(_))));
        let ends = rule.on([Out, Out].into_iter(), 100);
        let reason = "0 of 2 instances are healthy, and nobody else answers any more".to_owned();
        assert_eq!(ends, Some(Change::Ends { reason, enough: false }));
        assert_eq!(rule.on(std::iter::empty(), 100), None);
    }

    proptest! {
        /// Switched off it never holds; otherwise it holds exactly where it should.
        #[test]
        fn exactly_where_it_should(
            standings in proptest::collection::vec(prop_oneof![Just(Healthy), Just(Answers), Just(Out)], 0..12),
            min in 0u8..=100,
        ) {
            let mut rule = Capacity::default();
            rule.on(standings.iter().copied(), min);
            let count = |of| standings.iter().filter(|one| **one == of).count();
            let short = count(Healthy) * 100 < standings.len() * usize::from(min);
            prop_assert_eq!(rule.holds(), short && count(Answers) > 0);
            prop_assert!(!rule.holds() || min > 0);
        }
    }
}
