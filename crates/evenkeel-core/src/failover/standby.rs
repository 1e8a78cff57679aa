//! What an instance does that runs as a standby: it follows whoever has the lease, and where nobody has it, it stops
//! receiving, says how far it is, and takes part in the election.

use crate::{engine::Reach, journal::Reason, time::Moment};

use super::{
    Facts, Member, Plan, Report, Role, Rule, Standing, Step, Token, Up,
    elect::{self, Outcome},
    writing,
};

/// What it does next.
pub(super) fn plan(facts: &Facts<'_>, up: &Up) -> Plan {
    match &facts.standing {
        Standing::Mine { until } => promote(facts, *until),
        Standing::Lapsed => Plan::wait("the lease to be renewed"),
        Standing::Other { by, ends } => follow(facts, up, by).look_at(*ends),
        Standing::Expired { by } if facts.rules.has(Rule::LeaseFirst) => match facts.promised {
            Some(until) if facts.now < until => {
                Plan::wait(format!("the time to be over for which {by} was promised that nobody else is elected"))
                    .look_at(until)
            }
            _ => seek(facts, up, facts.now),
        },
        Standing::Expired { .. } => seek(facts, up, facts.now),
        Standing::Free { last: None, .. } => Plan::wait("a first primary"),
        Standing::Free { since, .. } => seek(facts, up, *since),
    }
}

/// It was elected and has the lease.
fn promote(facts: &Facts<'_>, until: Moment) -> Plan {
    let token = facts.record.token;
    let mut plan = Plan { valid_until: Some(until), ..Plan::default() };
    writing::arm(facts, until, &mut plan);
    plan.then(Step::Promote { token }, vec![Reason::seen(format!("it has the lease, with token {token}"))]);
    plan
}

/// Somebody else has the lease.
fn follow(facts: &Facts<'_>, up: &Up, primary: &Member) -> Plan {
    let token = facts.record.token;
    if up.token == Some(token) {
        return Plan::default();
    }
    if facts.own.floor >= token && facts.rules.has(Rule::StoppedReceiving) {
        return Plan::wait(format!("{primary} to take a token that was not refused"));
    }
    if !facts.reports.get(primary).is_some_and(|report| can_be_followed(facts, report, token)) {
        return Plan::wait(format!("{primary} to be primary"));
    }
    let primary_is = Reason::seen(format!("{primary} is primary with token {token}"));
    match facts.record.path.reach(up.position) {
        Reach::On(_) => Plan::step(Step::Follow { primary: primary.clone(), token }, vec![primary_is]),
        _ if !facts.rules.has(Rule::Rejoin) => {
            Plan::step(Step::Follow { primary: primary.clone(), token }, vec![primary_is])
        }
        Reach::Diverged { at } => {
            let seen =
                Reason::seen(format!("it has {}, which went on where the history in force ended at {at}", up.position));
            Plan::step(Step::Stop, vec![seen, primary_is])
        }
        Reach::Unknown => {
            let seen = Reason::seen(format!("it has {}, of which the history in force knows nothing", up.position));
            Plan::step(Step::Stop, vec![seen, primary_is])
        }
    }
}

/// Whether a member is so far as a primary that others can follow it: its history is in the record.
pub(super) fn can_be_followed(facts: &Facts<'_>, report: &Report, token: Token) -> bool {
    report.role == Some(Role::Primary)
        && report.token == Some(token)
        && report.position.is_some_and(|position| facts.record.path.current() == Some(position.history))
}

/// Nobody has the lease.
fn seek(facts: &Facts<'_>, up: &Up, since: Moment) -> Plan {
    let floor = facts.record.token;
    if facts.own.floor < floor && facts.rules.has(Rule::StoppedReceiving) {
        let reasons = vec![
            Reason::seen("nobody has the lease"),
            Reason::rule("how far a standby is counts once nothing more can come from the former primary"),
        ];
        return Plan::step(Step::StopReceiving { floor }, reasons);
    }
    let (outcome, ruled_out) = elect::hold(facts, up, since);
    let mut plan = match outcome {
        Outcome::Me(reasons) if facts.rules.has(Rule::LeaseFirst) => Plan::step(writing::claim(facts), reasons),
        Outcome::Me(reasons) => Plan::step(Step::Promote { token: floor.next() }, reasons),
        Outcome::Wait(what) => Plan::wait(what).look_at(facts.now + facts.policy.gather),
    };
    plan.ruled_out = ruled_out;
    plan
}
