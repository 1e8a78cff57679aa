//! The lease in plans: the record claimed, renewed, given back, and the guard told until when.
//!
//! Whatever the holder writes renews its lease, so there is never a second write in one plan.

use crate::{engine::Position, journal::Reason, time::Moment};

use super::{Cause, Facts, Lease, Plan, Planned, Process, Record, Role, Standing, Step, Token};

/// The step that makes the record what `change` leaves of it. Renews the lease if it is this member's.
pub(super) fn write(facts: &Facts<'_>, change: impl FnOnce(&mut Record)) -> Step {
    let mut record = facts.record.clone();
    if let Lease::Held { by, beat, lasts } = &mut record.lease
        && by == facts.me
    {
        *beat += 1;
        *lasts = facts.policy.lease;
        record.position = position(facts).or(record.position);
    }
    change(&mut record);
    Step::Write { record: Box::new(record), expects: facts.revision }
}

/// Takes the lease with a token above every one that was ever seen.
pub(super) fn claim(facts: &Facts<'_>) -> Step {
    let told = facts.reports.values().flat_map(|report| [Some(report.floor), report.token]);
    let own = [Some(facts.record.token), Some(facts.own.floor), Some(facts.own.disk.token)];
    let highest = told.chain(own).flatten().max().unwrap_or(Token::new(0));
    write(facts, |record| {
        record.token = highest.next();
        record.lease = Lease::Held { by: facts.me.clone(), beat: 0, lasts: facts.policy.lease };
    })
}

/// Gives the lease back.
pub(super) fn release(facts: &Facts<'_>, cause: Cause) -> Step {
    write(facts, |record| {
        record.lease = Lease::Free { last: Some(facts.me.clone()), cause };
    })
}

/// Sees to it that the guard ends the instance with its lease.
pub(super) fn arm(facts: &Facts<'_>, until: Moment, plan: &mut Plan) {
    if facts.own.armed != Some(until) {
        let rule = Reason::rule("the guard ends it with the lease, whatever becomes of this process");
        plan.then(Step::Arm { until }, vec![rule]);
    }
}

/// Sees to it that the lease of a member that has or becomes primary is renewed, whatever else it does.
pub(super) fn keep_lease(facts: &Facts<'_>, mut plan: Plan) -> Plan {
    if plan.steps.iter().any(|planned| matches!(planned.step, Step::Write { .. })) {
        return plan;
    }
    let due = match facts.standing {
        Standing::Mine { until } => due_at(facts, until),
        // A primary that runs decides for itself whether it may try; of anything else nothing runs that could do harm.
        Standing::Lapsed if !is_primary(facts) => facts.now,
        _ => return plan,
    };
    if due > facts.now {
        return plan.look_at(due);
    }
    let step = write(facts, |_| {});
    plan.steps.insert(0, Planned { step, reasons: vec![Reason::rule("the lease is renewed in time")] });
    plan
}

/// When a lease that ends at `until` is to be renewed.
fn due_at(facts: &Facts<'_>, until: Moment) -> Moment {
    let lasts = facts.policy.lease.saturating_sub(facts.policy.margin);
    let left_when_due = lasts.saturating_sub(facts.policy.renew_every);
    // `until` lies that far in the future when the renewal becomes due.
    Moment::from_nanos(until.as_nanos().saturating_sub(u64::try_from(left_when_due.as_nanos()).unwrap_or(u64::MAX)))
}

fn is_primary(facts: &Facts<'_>) -> bool {
    matches!(&facts.own.process, Process::Up(up) if up.role == Role::Primary)
}

fn position(facts: &Facts<'_>) -> Option<Position> {
    match &facts.own.process {
        Process::Up(up) if up.role == Role::Primary => Some(up.position),
        Process::Gone => facts.own.disk.position,
        _ => None,
    }
}
