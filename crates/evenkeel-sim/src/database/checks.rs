//! What must hold, whatever happens.

use std::collections::BTreeSet;

use evenkeel_core::{
    engine::Position,
    failover::{Cause, Durability, Lease, Order, Ordered, Record, Token},
    time::Moment,
};

use super::{clients::Ledger, scenario::Scenario};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// When.
    pub at: Moment,
    /// What happened.
    pub what: String,
}

/// What is remembered in order to judge.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The first violation.
    pub(super) found: Option<Violation>,
    /// The token of the last primary that opened, and which member.
    opened: Option<(Token, usize)>,
    /// The lease was given to the one that has it by an order that may lose writes.
    ordered: bool,
    /// The lease was given to the one that has it by a switchover.
    handed_over: bool,
    /// When somebody was last ended on suspicion.
    suspected: Option<Moment>,
}

impl Checks {
    /// Something does not hold.
    pub(super) fn broken(&mut self, invariant: &'static str, at: Moment, what: String) {
        self.found.get_or_insert(Violation { invariant, at, what });
    }

    /// A primary opened with this log.
    pub(super) fn opened(
        &mut self,
        scenario: &Scenario,
        ledger: &mut Ledger,
        (token, member): (Token, usize),
        log: &[u64],
        now: Moment,
    ) {
        if let Some((before, _)) = self.opened
            && token < before
        {
            self.broken("tokens grow", now, format!("m{member} opens with token {token} after {before}"));
        }
        self.opened = Some((token, member));
        let has: BTreeSet<u64> = log.iter().copied().collect();
        if self.ordered || (scenario.policy.may_lose() && !self.handed_over) {
            // What a failover lost is lost once.
            ledger.acknowledged.retain(|id, _| has.contains(id));
            ledger.seen.retain(|id, _| has.contains(id));
        }
        if let Some((lost, by)) = ledger.acknowledged.iter().find(|(id, _)| !has.contains(id)) {
            self.broken(
                "no acknowledged write is lost",
                now,
                format!("write {lost}, acknowledged under token {by}, is missing at m{member} with token {token}"),
            );
        }
        if let Some((lost, by)) = ledger.seen.iter().find(|(id, _)| !has.contains(id)) {
            self.broken(
                "what was read stays",
                now,
                format!("write {lost}, read under token {by}, is missing at m{member} with token {token}"),
            );
        }
    }

    /// The member that opened with a newer token than this one, if somebody did.
    pub(super) fn succeeded(&self, token: Token) -> Option<usize> {
        self.opened.filter(|(newest, _)| token < *newest).map(|(_, member)| member)
    }

    /// A primary was ended since it was taken for hung.
    pub(super) fn suspected(&mut self, scenario: &Scenario, member: usize, really: bool, now: Moment) {
        if !really {
            self.broken(
                "suspicion is no proof",
                now,
                format!("m{member} was ended, and it was neither hung nor stalled"),
            );
        }
        if let Some(before) = self.suspected
            && now.since(before) < scenario.policy.calm
        {
            self.broken(
                "calm",
                now,
                format!("m{member} was ended on suspicion {:?} after another one", now.since(before)),
            );
        }
        self.suspected = Some(now);
    }

    /// The lease was claimed by a member that is as far as this.
    pub(super) fn claimed(
        &mut self,
        scenario: &Scenario,
        member: usize,
        before: &Record,
        after: &Record,
        position: Option<Position>,
        now: Moment,
    ) {
        let token = after.token;
        if scenario.ordinary && token > Token::new(1) {
            self.broken("no unneeded failover", now, format!("m{member} takes the lease with token {token}"));
        }
        self.handed_over = matches!(&before.lease, Lease::Free { cause: Cause::Switchover { .. }, .. });
        let lag = before.position.map_or(0, |known| known.offset.saturating_sub(position.map_or(0, |p| p.offset)));
        self.ordered = matches!(&before.order, Some(Order { what: Ordered::Failover { .. }, .. }));
        if let Durability::MayLose { max_lag: Some(most) } = scenario.policy.durability
            && lag > most
            && !self.ordered
        {
            self.broken(
                "no more is lost than permitted",
                now,
                format!("m{member} lags by {lag}, and {most} may be lost"),
            );
        }
    }
}
