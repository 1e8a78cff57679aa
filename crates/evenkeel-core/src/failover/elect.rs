//! Elections: who becomes primary, and why the others do not.
//!
//! Every standby that could be chosen holds the election for itself from what all of them reported; the store's
//! compare-and-swap sees to it that at most one acts on it. With `no-loss`, enough members of the electorate must have
//! stopped receiving, so that nothing is acknowledged any more that the chosen one lacks, and the furthest of them wins;
//! preference comes second. With `may-lose`, the furthest wins of those that were heard in time, if it lags little enough.

use std::cmp::Reverse;

use crate::{
    engine::{Position, Reach},
    journal::Reason,
    time::Moment,
};

use super::{Cause, Durability, Facts, Lease, Member, Ordered, Rule, Token, Up};

/// How an election ends for whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This member is chosen.
    Me(Vec<Reason>),
    /// Not this member, or not yet.
    Wait(String),
}

/// One that could be chosen, or whose position counts.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    member: &'a Member,
    /// How far it is on the path in force; `None`: it went on elsewhere, or does not say.
    offset: Option<u64>,
    stopped: bool,
    fresh: bool,
    unfit: Option<&'a str>,
    wished: bool,
    priority: i32,
}

/// Holds the election: the outcome for this member, and what was ruled out. `since`: when it was seen that there is no
/// primary.
pub(super) fn hold(facts: &Facts<'_>, up: &Up, since: Moment) -> (Outcome, Vec<Reason>) {
    if let Some(outcome) = ordered(facts) {
        return (outcome, Vec::new());
    }
    let candidates = candidates(facts, up);
    let (eligible, mut ruled_out) = eligible(facts, &candidates);
    if facts.own.unfit.is_some() {
        return (Outcome::Wait("another one: this instance cannot be primary".to_owned()), ruled_out);
    }
    let permitted = match facts.policy.durability {
        Durability::NoLoss => by_electorate(facts, &eligible),
        Durability::MayLose { max_lag } => by_lag(facts, &eligible, max_lag, since),
    };
    let outcome = match (permitted, best(facts, &eligible)) {
        (Err(what), _) => Outcome::Wait(what),
        (Ok(_), None) => Outcome::Wait("somebody who can become primary".to_owned()),
        (Ok(_), Some(best)) if best.member != facts.me => Outcome::Wait(format!("{} to become primary", best.member)),
        (Ok(mut reasons), Some(best)) => {
            ruled_out.extend(eligible.iter().filter(|c| c.member != facts.me).map(|c| beaten(c, best)));
            reasons.push(Reason::rule("the furthest wins, then whoever is preferred"));
            Outcome::Me(reasons)
        }
    };
    (outcome, ruled_out)
}

/// What an operator ordered needs no election, only the lease.
fn ordered(facts: &Facts<'_>) -> Option<Outcome> {
    let order = facts.record.order.as_ref()?;
    let Ordered::Failover { to } = &order.what else {
        return None;
    };
    Some(if to == facts.me {
        let reasons = vec![
            Reason::seen(format!("ordered by {}", order.by)),
            Reason::rule("whoever orders it answers for what may be lost"),
        ];
        Outcome::Me(reasons)
    } else {
        Outcome::Wait(format!("{to} is to become primary, by order"))
    })
}

fn candidates<'a>(facts: &'a Facts<'_>, up: &Up) -> Vec<Candidate<'a>> {
    let wished = match &facts.record.lease {
        Lease::Free { cause: Cause::Switchover { to }, .. } => Some(to),
        _ => None,
    };
    let offset = |position: Option<Position>| match facts.record.path.reach(position?) {
        Reach::On(offset) => Some(offset),
        Reach::Diverged { .. } | Reach::Unknown => None,
    };
    let stopped = |floor: Token| floor >= facts.record.token || !facts.rules.has(Rule::StoppedReceiving);
    let me = Candidate {
        member: facts.me,
        offset: offset(Some(up.position)),
        stopped: stopped(facts.own.floor),
        fresh: true,
        unfit: facts.own.unfit.as_deref(),
        wished: wished == Some(facts.me),
        priority: facts.own.priority,
    };
    let others = facts.reports.iter().map(|(member, report)| Candidate {
        member,
        offset: offset(report.position),
        stopped: stopped(report.floor),
        fresh: facts.is_fresh(report) && report.role.is_some(),
        unfit: report.unfit.as_deref(),
        wished: wished == Some(member),
        priority: report.priority,
    });
    std::iter::once(me).chain(others).collect()
}

/// Those that count, and why the others do not.
fn eligible<'a>(facts: &Facts<'_>, all: &'a [Candidate<'a>]) -> (Vec<&'a Candidate<'a>>, Vec<Reason>) {
    let mut ruled_out = Vec::new();
    let electors = !facts.policy.may_lose() && facts.rules.has(Rule::ElectorateOnly);
    let eligible = all.iter().filter(|candidate| {
        let against = if electors && !facts.record.electorate.members.contains(candidate.member) {
            "it may lack acknowledged writes"
        } else if !candidate.stopped {
            "it has not said that it stopped receiving"
        } else if candidate.offset.is_none() {
            "what it has is no part of the history in force"
        } else {
            return true;
        };
        ruled_out.push(Reason::ruled_out(format!("{}: {against}", candidate.member)));
        false
    });
    (eligible.collect(), ruled_out)
}

/// Whether enough of the electorate are there: the chosen one then has every acknowledged write.
fn by_electorate(facts: &Facts<'_>, eligible: &[&Candidate<'_>]) -> Result<Vec<Reason>, String> {
    // Whoever died after it had stopped still counts if it is not further than somebody alive.
    let furthest = eligible.iter().filter(|c| c.fresh).filter_map(|c| c.offset).max();
    let present = eligible.iter().filter(|c| c.fresh || c.offset <= furthest).map(|c| c.member);
    let needed = facts.record.electorate.confirm;
    let there = present.clone().count();
    if facts.record.electorate.decides(present) || !facts.rules.has(Rule::ElectorateOnly) {
        let seen =
            format!("{there} of {} have stopped receiving, {needed} are needed", facts.record.electorate.members.len());
        Ok(vec![Reason::seen(seen)])
    } else {
        Err(format!("{needed} of those that may decide must say how far they are, and {there} did"))
    }
}

/// Whether the furthest one heard lacks little enough.
fn by_lag(
    facts: &Facts<'_>,
    eligible: &[&Candidate<'_>],
    max_lag: Option<u64>,
    since: Moment,
) -> Result<Vec<Reason>, String> {
    let heard = eligible.iter().filter(|c| c.fresh).count();
    let alive = 1 + facts.reports.values().filter(|r| r.role.is_some() && facts.is_fresh(r)).count();
    if heard < alive && facts.now.since(since) < facts.policy.gather {
        return Err("others to say how far they are".to_owned());
    }
    let furthest = eligible.iter().filter(|c| c.fresh).filter_map(|c| c.offset).max().unwrap_or(0);
    let lag = facts.record.position.map_or(0, |known| known.offset.saturating_sub(furthest));
    match max_lag {
        Some(most) if lag > most && facts.rules.has(Rule::MaxLag) => {
            Err(format!("an order: the furthest lags by {lag}, and {most} may be lost"))
        }
        _ => Ok(vec![Reason::seen(format!("the furthest lags by {lag} behind what was last heard of the primary"))]),
    }
}

/// The best of those that are alive.
fn best<'a>(facts: &Facts<'_>, eligible: &[&'a Candidate<'a>]) -> Option<&'a Candidate<'a>> {
    let alive = eligible.iter().copied().filter(|c| c.fresh && c.unfit.is_none());
    if facts.rules.has(Rule::Furthest) {
        alive.max_by_key(|c| (c.offset, c.wished, c.priority, Reverse(c.member)))
    } else {
        alive.max_by_key(|c| (c.wished, c.priority, Reverse(c.member)))
    }
}

fn beaten(candidate: &Candidate<'_>, best: &Candidate<'_>) -> Reason {
    let why = match (candidate.offset, best.offset) {
        _ if candidate.unfit.is_some() => candidate.unfit.unwrap_or_default().to_owned(),
        _ if !candidate.fresh => "it was not heard of lately".to_owned(),
        (Some(its), Some(best)) if its < best => format!("it lags by {}", best - its),
        _ => "it is as far, and not preferred".to_owned(),
    };
    Reason::ruled_out(format!("{}: {why}", candidate.member))
}
