//! The lease as one member sees it: whose it is, and until when by its own clock.
//!
//! The holder counts from before its renewal was sent, less a margin; everybody else counts from the last change that it
//! saw itself, plus a margin, and anew after its own restart. So no two clocks are ever compared, and a store that answers
//! late makes nobody's time longer. [`LeaseClock`] keeps nothing but these two moments.

use crate::time::Moment;

use super::{
    Member, Policy, Token,
    record::{Lease, Record},
};

/// Whose the lease is, for one member at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Mine.
    Mine {
        /// When I must have stopped, unless I renew it before.
        until: Moment,
    },
    /// The record names me, and I cannot say that it still counts: it may be renewed, and nothing may rest on it.
    Lapsed,
    /// Another member's.
    Other {
        /// Whose.
        by: Member,
        /// When it ends for me, unless I see a renewal before.
        ends: Moment,
    },
    /// Another member had it and did not renew it in time.
    Expired {
        /// Who.
        by: Member,
    },
    /// Given back, or never given.
    Free {
        /// Who had it last.
        last: Option<Member>,
        /// When I saw that first.
        since: Moment,
    },
}

/// What one member remembers of the lease. Lost with its process, on purpose.
#[derive(Clone, Debug, Default)]
pub struct LeaseClock {
    seen: Option<(Mark, Moment)>,
    mine: Option<(Token, Moment)>,
}

/// What makes two states of the lease different.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(Token, Lease);

impl LeaseClock {
    /// The store holds this record.
    pub fn saw(&mut self, record: &Record, now: Moment) {
        let mark = Mark(record.token, record.lease.clone());
        if self.seen.as_ref().is_none_or(|(known, _)| *known != mark) {
            self.seen = Some((mark, now));
        }
    }

    /// A record that names this member was accepted by the store; it had been sent at `sent`.
    pub fn wrote(&mut self, record: &Record, me: &Member, policy: &Policy, sent: Moment, now: Moment) {
        self.saw(record, now);
        self.mine = match &record.lease {
            Lease::Held { by, lasts, .. } if by == me => {
                Some((record.token, sent + lasts.saturating_sub(policy.margin)))
            }
            _ => None,
        };
    }

    /// Whose the lease is now; `None` as long as nothing of the record was seen.
    pub fn standing(&self, me: &Member, policy: &Policy, now: Moment) -> Option<Standing> {
        let (Mark(token, lease), since) = self.seen.as_ref()?;
        Some(match lease {
            Lease::Free { last, .. } => Standing::Free { last: last.clone(), since: *since },
            Lease::Held { by, .. } if by == me => match self.mine {
                Some((held, until)) if held == *token && now < until => Standing::Mine { until },
                _ => Standing::Lapsed,
            },
            Lease::Held { by, lasts, .. } => {
                let ends = *since + *lasts + policy.margin;
                if now < ends { Standing::Other { by: by.clone(), ends } } else { Standing::Expired { by: by.clone() } }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn member(name: &str) -> Member {
        Member::from(name.to_owned())
    }

    fn held(by: &str, beat: u64) -> Record {
        let lease = Lease::Held { by: member(by), beat, lasts: Duration::from_secs(10) };
        Record { token: Token::new(3), lease, ..Record::new() }
    }

    #[test]
    fn the_holder_stops_before_anybody_believes_in_the_end() {
        let policy = Policy::default();
        let (mut holder, mut other) = (LeaseClock::default(), LeaseClock::default());
        // The answer came a second after the question; the observer saw the renewal at the earliest possible moment.
        let (sent, answered) = (Moment::from_millis(1000), Moment::from_millis(2000));
        holder.wrote(&held("a", 1), &member("a"), &policy, sent, answered);
        other.saw(&held("a", 1), sent);
        let Some(Standing::Mine { until }) = holder.standing(&member("a"), &policy, answered) else { panic!() };
        let Some(Standing::Other { ends, .. }) = other.standing(&member("b"), &policy, answered) else { panic!() };
        assert_eq!(until, Moment::from_millis(10_500));
        assert_eq!(ends, Moment::from_millis(11_500));
        assert_eq!(holder.standing(&member("a"), &policy, until), Some(Standing::Lapsed));
        assert_eq!(other.standing(&member("b"), &policy, ends), Some(Standing::Expired { by: member("a") }));
    }

    #[test]
    fn an_observer_counts_anew_after_its_restart_and_not_from_a_renewal_that_it_saw_again() {
        let policy = Policy::default();
        let mut clock = LeaseClock::default();
        clock.saw(&held("a", 1), Moment::from_millis(0));
        clock.saw(&held("a", 1), Moment::from_millis(9000));
        assert!(matches!(
            clock.standing(&member("b"), &policy, Moment::from_millis(10_500)),
            Some(Standing::Expired { .. })
        ));
        let mut restarted = LeaseClock::default();
        restarted.saw(&held("a", 1), Moment::from_millis(10_500));
        assert!(matches!(
            restarted.standing(&member("b"), &policy, Moment::from_millis(10_500)),
            Some(Standing::Other { .. })
        ));
    }

    #[test]
    fn whoever_was_started_again_trusts_nothing_that_it_held_before() {
        let policy = Policy::default();
        let mut clock = LeaseClock::default();
        clock.saw(&held("a", 7), Moment::from_millis(0));
        assert_eq!(clock.standing(&member("a"), &policy, Moment::from_millis(1)), Some(Standing::Lapsed));
    }

    #[test]
    fn a_token_that_somebody_else_was_given_ends_it() {
        let policy = Policy::default();
        let mut clock = LeaseClock::default();
        clock.wrote(&held("a", 1), &member("a"), &policy, Moment::ORIGIN, Moment::ORIGIN);
        let mut record = held("b", 0);
        record.token = Token::new(4);
        clock.saw(&record, Moment::from_millis(5));
        assert!(matches!(clock.standing(&member("a"), &policy, Moment::from_millis(5)), Some(Standing::Other { .. })));
    }
}
