//! What is done with an instance of which nothing runs: given up in favour of a standby, started in place, or brought
//! back as a standby, by rewind or by a fresh copy.

use crate::{engine::Reach, journal::Reason, time::Moment};

use super::{
    Cause, Content, Durability, Facts, Member, Plan, Report, Role, Rule, Standing, Step, primary, record::Ordered,
    standby::can_be_followed, writing,
};

/// What is done next.
pub(super) fn plan(facts: &Facts<'_>) -> Plan {
    if let Content::Foreign { system } = &facts.own.disk.content {
        return Plan::wait(format!(
            "somebody to look: its data directory holds another database ({system}), which is not touched"
        ));
    }
    match &facts.standing {
        Standing::Mine { until } => {
            let mut plan = mine(facts, Some(*until));
            plan.valid_until = Some(*until);
            plan
        }
        Standing::Lapsed => mine(facts, None),
        Standing::Free { last: None, since } => begin(facts, *since),
        Standing::Free { last: Some(last), since } if last == facts.me => in_place(facts, *since),
        Standing::Free { .. } | Standing::Expired { .. } => report_position(facts),
        Standing::Other { by, ends } => rejoin(facts, by).look_at(*ends),
    }
}

/// It has the lease and does not run: it ended, or it is to be started.
fn mine(facts: &Facts<'_>, until: Option<Moment>) -> Plan {
    if let Some(plan) = handed_over(facts) {
        return plan;
    }
    if let Some(Ordered::Failover { to }) = facts.record.order.as_ref().map(|order| &order.what) {
        return give_way(facts, to);
    }
    let disk = &facts.own.disk;
    // A token that its disk has not seen was claimed in order to start in place.
    let claimed_to_start = disk.token < facts.record.token && goes_on(facts);
    if facts.own.unfit.is_some() || (!claimed_to_start && has_successor(facts)) {
        let cause = if facts.own.unfit.is_some() { Cause::Unfit } else { facts.own.ended.clone() };
        let reasons = vec![
            Reason::seen("nothing of it runs any more, and others can take over"),
            Reason::rule("the lease is given back at once, so that nobody waits for its end"),
        ];
        return Plan::step(writing::release(facts, cause), reasons);
    }
    let Some(until) = until else {
        return Plan::wait("the lease to be renewed");
    };
    start(facts, until)
}

/// A failover was ordered: the lease is given back for it, or the order is dropped.
fn give_way(facts: &Facts<'_>, to: &Member) -> Plan {
    if primary::can_take_over(facts, to) {
        return Plan::step(
            writing::release(facts, Cause::Exit),
            vec![Reason::seen(format!("{to} is to become primary, by order"))],
        );
    }
    let reasons = vec![Reason::ruled_out(format!("a failover by order: {to} does not run, or cannot be primary"))];
    Plan::step(writing::write(facts, |record| record.order = None), reasons)
}

/// Whether it would only go on with what it was: the primary of the history in force. Anybody else's log may end before
/// that one's, and what both write after that would have the same positions.
fn goes_on(facts: &Facts<'_>) -> bool {
    let current = facts.record.path.current();
    let own = facts.own.disk.position.map(|position| position.history);
    current.is_none() || (facts.own.disk.was_primary && own == current)
}

/// Starts it as primary, or makes it.
fn start(facts: &Facts<'_>, until: Moment) -> Plan {
    let token = facts.record.token;
    let mut plan = Plan::default();
    writing::arm(facts, until, &mut plan);
    match &facts.own.disk.content {
        Content::Empty if facts.record.system.is_none() => {
            plan.then(Step::Initialise { token }, vec![Reason::seen("there is no such database yet")]);
        }
        Content::Whole { .. } if goes_on(facts) => {
            let reasons = vec![Reason::seen("it has the lease, and nobody else could take over")];
            plan.then(Step::StartPrimary { token }, reasons);
        }
        Content::Whole { .. } => {
            let reasons = vec![
                Reason::seen("it has the lease, and was not primary in the history in force"),
                Reason::rule("whoever becomes primary begins a history of its own"),
            ];
            plan.then(Step::StartStandby, reasons);
        }
        Content::Empty | Content::Broken { .. } | Content::Foreign { .. } => {
            plan.then(writing::release(facts, Cause::Unfit), vec![Reason::seen("its data directory cannot be used")]);
        }
    }
    plan
}

/// The end of a switchover: everything was sent, somebody has it.
fn handed_over(facts: &Facts<'_>) -> Option<Plan> {
    let order = facts.record.order.as_ref().filter(|order| matches!(order.what, Ordered::Switchover { .. }))?;
    let by = Reason::seen(format!("ordered by {}", order.by));
    let Some(to) = primary::successor(facts) else {
        let reasons = vec![by, Reason::ruled_out("a switchover: nobody is there to hand over to")];
        return Some(Plan::step(writing::write(facts, |record| record.order = None), reasons));
    };
    let Some(report) = facts.reports.get(&to).filter(|report| report.role.is_some() && facts.is_fresh(report)) else {
        let reasons = vec![by, Reason::ruled_out(format!("a switchover: {to} does not run"))];
        return Some(Plan::step(writing::write(facts, |record| record.order = None), reasons));
    };
    let has_all = report.position.map(|p| p.offset) >= facts.own.disk.position.map(|p| p.offset);
    if has_all || !facts.rules.has(Rule::CandidateComplete) {
        let reasons = vec![by, Reason::seen(format!("{to} has everything"))];
        let step = writing::write(facts, |record| {
            record.lease = super::Lease::Free { last: Some(facts.me.clone()), cause: Cause::Switchover { to } };
            record.order = None;
        });
        return Some(Plan::step(step, reasons));
    }
    let late = facts.now.since(facts.own.ended_at) >= facts.policy.hold;
    if late {
        let reasons = vec![by, Reason::ruled_out(format!("a switchover: {to} did not receive everything in time"))];
        return Some(Plan::step(writing::write(facts, |record| record.order = None), reasons));
    }
    Some(Plan::wait(format!("{to} to have everything")))
}

/// Whether somebody else could be promoted without loss, or with as little as is permitted.
fn has_successor(facts: &Facts<'_>) -> bool {
    let alive = facts.reports.iter().filter(|(_, report)| report.role == Some(Role::Standby) && facts.is_fresh(report));
    let fit = alive.clone().any(|(_, report)| report.unfit.is_none());
    let enough = match facts.policy.durability {
        Durability::NoLoss => facts.record.electorate.decides(alive.map(|(member, _)| member)),
        Durability::MayLose { max_lag } => alive.into_iter().any(|(_, report)| lags_at_most(facts, report, max_lag)),
    };
    fit && enough
}

fn lags_at_most(facts: &Facts<'_>, report: &Report, max_lag: Option<u64>) -> bool {
    let Some(Reach::On(offset)) = report.position.map(|position| facts.record.path.reach(position)) else {
        return false;
    };
    let known = facts.record.position.map_or(0, |position| position.offset);
    max_lag.is_none_or(|most| known.saturating_sub(offset) <= most)
}

/// Nobody was primary yet: whoever has the database already, else whoever comes first.
fn begin(facts: &Facts<'_>, since: Moment) -> Plan {
    let has_it = matches!(facts.own.disk.content, Content::Whole { .. });
    let first = facts.reports.keys().all(|other| facts.me < other);
    if has_it || first || facts.now.since(since) >= facts.policy.in_place_after {
        return Plan::step(writing::claim(facts), vec![Reason::seen("nobody was primary yet")]);
    }
    Plan::wait("the first of the members to make the database").look_at(since + facts.policy.in_place_after)
}

/// It gave the lease back, and nobody took it.
fn in_place(facts: &Facts<'_>, since: Moment) -> Plan {
    let at = since + facts.policy.in_place_after;
    if facts.now < at || facts.own.unfit.is_some() {
        return Plan::wait("a standby to be elected").look_at(at);
    }
    if !matches!(facts.own.disk.content, Content::Whole { .. }) {
        return Plan::wait("a standby to be elected: what is in its data directory cannot be started");
    }
    let reasons = vec![
        Reason::seen("it was primary last, and nobody was elected"),
        Reason::rule("it has every acknowledged write: nothing is lost by starting it again"),
    ];
    Plan::step(writing::claim(facts), reasons)
}

/// Nobody is primary: it is started as a standby that receives from nobody, so that it can say how far it is.
fn report_position(facts: &Facts<'_>) -> Plan {
    match &facts.own.disk.content {
        Content::Whole { .. } => {
            let reasons = vec![Reason::seen("nobody has the lease, and how far it is may matter")];
            Plan::step(Step::StartStandby, reasons)
        }
        _ => Plan::wait("a primary to copy from"),
    }
}

/// Somebody else is primary.
fn rejoin(facts: &Facts<'_>, primary: &Member) -> Plan {
    let token = facts.record.token;
    if !facts.reports.get(primary).is_some_and(|report| can_be_followed(facts, report, token)) {
        return Plan::wait(format!("{primary} to be primary"));
    }
    let primary = primary.clone();
    let disk = &facts.own.disk;
    let reach = disk.position.map(|position| facts.record.path.reach(position));
    match &disk.content {
        Content::Foreign { .. } => Plan::default(),
        Content::Empty => Plan::step(Step::Copy { primary, token }, vec![Reason::seen("it has nothing yet")]),
        Content::Broken { why } => Plan::step(Step::Copy { primary, token }, vec![Reason::seen(why.clone())]),
        Content::Whole { .. } if !facts.rules.has(Rule::Rejoin) => Plan::step(Step::StartStandby, Vec::new()),
        Content::Whole { .. } if reach == Some(Reach::Unknown) => {
            let reasons = vec![Reason::seen("what it has is of a history that is not known any more")];
            Plan::step(Step::Copy { primary, token }, reasons)
        }
        Content::Whole { .. } if disk.was_primary || matches!(reach, Some(Reach::Diverged { .. })) => {
            let reasons = vec![
                Reason::seen("it was primary, or followed one that was given up"),
                Reason::rule("what nobody else has is taken back before it follows"),
            ];
            Plan::step(Step::Rewind { primary, token }, reasons)
        }
        Content::Whole { .. } => {
            Plan::step(Step::StartStandby, vec![Reason::seen("it has a part of what the primary has")])
        }
    }
}
