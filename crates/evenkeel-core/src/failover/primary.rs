//! What an instance does that runs as primary.
//!
//! It keeps its lease and its guard's deadline ahead of it, changes who acknowledges and who decides one side at a time,
//! and opens once what it has cannot be lost any more. Without the lease it is fenced, whatever else it might do.

use crate::{journal::Reason, time::Moment};

use super::{
    Cause, Electorate, Facts, Ordered, Plan, Rule, Standing, Step, Up,
    quorum::{self, Change},
    record::{Order, Record},
    writing,
};

/// What it does next.
pub(super) fn plan(facts: &Facts<'_>, up: &Up) -> Plan {
    if let Some(until) = facts.stays_until() {
        let mut plan = lead(facts, up, until);
        plan.valid_until = Some(until);
        return plan;
    }
    match &facts.standing {
        Standing::Free { last: None, .. } if facts.record.system.is_none() => adopt(facts),
        // An agent that was started again, or a store that was slow: the guard still lets it live, so it may try once more.
        Standing::Lapsed if facts.own.armed.is_some_and(|armed| facts.now < armed) => {
            let reasons = vec![Reason::seen("the record names this member, and its guard has not ended it")];
            Plan::step(writing::write(facts, |_| {}), reasons)
        }
        _ if !facts.rules.has(Rule::StopInTime) => Plan::default(),
        other => Plan::step(Step::Fence { cause: Cause::Unfit }, why_fenced(other)),
    }
}

fn why_fenced(standing: &Standing) -> Vec<Reason> {
    let seen = match standing {
        Standing::Other { by, .. } | Standing::Expired { by } => format!("the lease was given to {by}"),
        Standing::Free { .. } => "the lease was given back".to_owned(),
        Standing::Mine { .. } | Standing::Lapsed => "the lease could not be renewed in time".to_owned(),
    };
    vec![Reason::seen(seen), Reason::rule("an instance accepts no writes without the lease")]
}

/// A database that was there before `keel` came.
fn adopt(facts: &Facts<'_>) -> Plan {
    let reasons = vec![Reason::seen("it runs as primary, and nobody has had the lease before")];
    Plan::step(writing::claim(facts), reasons)
}

/// It has the lease.
fn lead(facts: &Facts<'_>, up: &Up, until: Moment) -> Plan {
    if let Some(why) = facts.hung {
        let reasons =
            vec![Reason::seen(why), Reason::rule("a primary that is taken for hung is ended before anything else")];
        let noted = writing::write(facts, |record| record.calm = Some(record.token));
        let mut plan = Plan::step(noted, vec![Reason::rule("after this nobody is suspected for a while")]);
        plan.then(Step::Fence { cause: Cause::Suspicion }, reasons);
        return plan;
    }
    let mut plan = Plan::default();
    writing::arm(facts, until, &mut plan);
    if !facts.store_answers {
        let half = facts.policy.lease / 2;
        if until.since(facts.now) < half {
            plan.then(
                Step::AskPromises,
                vec![Reason::seen("the store does not answer, and the lease cannot be renewed")],
            );
        }
    }
    if let Some(order) = &facts.record.order {
        return ordered(facts, up, order, plan);
    }
    settle(facts, up, plan)
}

/// Brings history, electorate and acknowledgements to where they should be, one at a time, and opens.
fn settle(facts: &Facts<'_>, up: &Up, mut plan: Plan) -> Plan {
    let history = up.position.history;
    if facts.record.path.current() != Some(history) {
        let reasons = vec![
            Reason::seen(format!("history {history} begins at {}", up.began_at)),
            Reason::rule("nobody else has anything of it yet, so nobody else can be promoted"),
        ];
        plan.then(writing::write(facts, |record| begin(record, facts, up)), reasons);
        return plan;
    }
    if facts.calm_is_over {
        let reasons = vec![Reason::seen("the last failover on suspicion is long ago")];
        plan.then(writing::write(facts, |record| record.calm = None), reasons);
        return plan;
    }
    if may_open(facts, up) {
        let reasons = vec![Reason::seen("the lease is held, and enough copies have everything that it has")];
        plan.then(Step::Open { token: facts.record.token }, reasons);
    } else if !up.open {
        plan.waiting = Some("enough copies must have what it recovered before it opens".to_owned());
    }
    requorum(facts, up, plan)
}

/// The record of a history that begins.
fn begin(record: &mut Record, facts: &Facts<'_>, up: &Up) {
    record.path.branch(up.position.history, up.began_at);
    record.electorate = Electorate::nobody();
    if let super::Content::Whole { system } = &facts.own.disk.content {
        record.system = Some(system.clone());
    }
}

fn may_open(facts: &Facts<'_>, up: &Up) -> bool {
    let confirmed = up.settled || !facts.rules.has(Rule::OpenConfirmed);
    // One that was opened with a former token is opened with the new one.
    let is_open = up.open && up.token == Some(facts.record.token);
    !is_open
        && confirmed
        && quorum::meet(&up.acks, &facts.record.electorate)
        && facts.own.armed.is_some_and(|armed| facts.now < armed)
}

/// Who acknowledges, who decides.
fn requorum(facts: &Facts<'_>, up: &Up, mut plan: Plan) -> Plan {
    let wanted = quorum::wanted(facts.policy, &up.streaming, &up.acks);
    let reason = || {
        let names: Vec<String> = up.streaming.iter().map(ToString::to_string).collect();
        let who = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        vec![Reason::seen(format!("{who} receives and has caught up"))]
    };
    if !facts.rules.has(Rule::OneSided) {
        if up.acks != wanted {
            plan.then(Step::SetAcks(wanted.clone()), reason());
        }
        if facts.record.electorate != wanted.electorate() {
            plan.then(writing::write(facts, |record| record.electorate = wanted.electorate()), reason());
        }
        return plan;
    }
    let settled = up.settled || !facts.rules.has(Rule::Settled);
    match quorum::next(&up.acks, settled, &facts.record.electorate, &wanted) {
        Some(Change::Acks(acks)) => plan.then(Step::SetAcks(acks), reason()),
        Some(Change::Electorate(electorate)) if facts.store_answers => {
            plan.then(writing::write(facts, |record| record.electorate = electorate), reason());
        }
        Some(Change::Electorate(_)) => {
            plan.waiting = Some("the store must answer before copies can be counted anew".to_owned());
        }
        None => {}
    }
    plan
}

/// An operator ordered a change of primary.
fn ordered(facts: &Facts<'_>, up: &Up, order: &Order, mut plan: Plan) -> Plan {
    let by = Reason::seen(format!("ordered by {}", order.by));
    match &order.what {
        Ordered::Failover { to } if to == facts.me => drop_order(facts, plan, by, "it is primary already"),
        Ordered::Failover { to } if !can_take_over(facts, to) => {
            drop_order(facts, plan, by, &format!("{to} does not run, or cannot be primary"))
        }
        Ordered::Failover { .. } => {
            plan.then(Step::Fence { cause: Cause::Unfit }, vec![by]);
            plan
        }
        Ordered::Switchover { to } => match target(facts, up, to.as_ref()) {
            Err(why) => drop_order(facts, plan, by, &why),
            Ok(()) => hand_over(facts, up, order, plan, by),
        },
    }
}

fn drop_order(facts: &Facts<'_>, mut plan: Plan, by: Reason, why: &str) -> Plan {
    let reasons = vec![by, Reason::ruled_out(format!("the change of primary: {why}"))];
    plan.then(writing::write(facts, |record| record.order = None), reasons);
    plan
}

/// Whether a member is there that could be promoted by order.
pub(super) fn can_take_over(facts: &Facts<'_>, to: &super::Member) -> bool {
    facts.reports.get(to).is_some_and(|report| {
        report.role == Some(super::Role::Standby) && report.unfit.is_none() && facts.is_fresh(report)
    })
}

/// Whether there is somebody to hand over to.
fn target(facts: &Facts<'_>, up: &Up, to: Option<&super::Member>) -> Result<(), String> {
    let fit = |member: &super::Member| {
        up.streaming.contains(member) && facts.reports.get(member).is_some_and(|report| report.unfit.is_none())
    };
    match to {
        Some(member) if member == facts.me => Err("it is primary already".to_owned()),
        Some(member) if !fit(member) => Err(format!("{member} does not receive from the primary, or cannot be one")),
        None if !up.streaming.iter().any(fit) => Err("no standby has caught up".to_owned()),
        _ => Ok(()),
    }
}

/// Checkpoint, hold, let transactions end within the bound, stop.
fn hand_over(facts: &Facts<'_>, up: &Up, order: &Order, mut plan: Plan, by: Reason) -> Plan {
    let progress = up.handover.filter(|progress| progress.order == order.id);
    let until = facts.now + facts.policy.hold;
    match progress {
        None => plan.then(Step::Checkpoint { order: order.id }, vec![by]),
        Some(progress) if !progress.checkpointed => plan.then(Step::Checkpoint { order: order.id }, vec![by]),
        Some(progress) => match progress.held {
            None => plan.then(Step::Hold { order: order.id, until }, vec![by]),
            Some(since) if progress.transactions == 0 || facts.now.since(since) >= facts.policy.hold => {
                let left = format!("{} transactions are open", progress.transactions);
                plan.then(Step::Stop, vec![by, Reason::seen(left)]);
            }
            Some(since) => {
                plan.waiting = Some(format!("{} transactions end, new work is held", progress.transactions));
                plan = plan.look_at(since + facts.policy.hold);
            }
        },
    }
    plan
}

/// To whom a primary that was stopped in order hands over: whom the order names, or whoever is furthest.
pub(super) fn successor(facts: &Facts<'_>) -> Option<super::Member> {
    let Some(Order { what: Ordered::Switchover { to }, .. }) = &facts.record.order else {
        return None;
    };
    let furthest = || {
        let standbys = facts.reports.iter().filter(|(_, report)| report.unfit.is_none() && facts.is_fresh(report));
        standbys
            .max_by_key(|(_, report)| (report.position.map(|p| p.offset), report.priority))
            .map(|(who, _)| who.clone())
    };
    to.clone().or_else(furthest)
}
