//! Failover: what each instance of a replicated database does next, and why.
//!
//! Every instance has an agent, in the node process of its node. In each cycle the agent looks ([`Facts`]), asks
//! [`decide`], and does what the [`Plan`] says; agents speak to each other only by the store's [`Record`], which is changed
//! by compare-and-swap, and by the [`Report`]s that they make about themselves. Nobody gives orders to another one's
//! instance. On one machine the same agents run side by side over the `local` store.
//!
//! | module | concern |
//! | --- | --- |
//! | [`record`] | what the store holds: lease, fencing token, electorate, histories, an operator's order |
//! | [`lease`] | whose the lease is by my own clock |
//! | [`quorum`] | who must have a write, who must agree to a promotion, and how the two change without a gap |
//! | [`suspicion`] | when a primary that says nothing is taken for hung |
//! | `primary`, `standby`, `stopped` | what an instance does that is one of these |
//! | `elect` | who is promoted, and why the others are not |
//! | [`rules`] | the rules that each of them obeys, one by one to be missing in the simulator |
//!
//! Engine-neutral and pure: what a step means for PostgreSQL, and how positions are written, is told elsewhere.

pub mod facts;
pub mod lease;
pub mod plan;
pub mod policy;
pub mod quorum;
pub mod record;
pub mod rules;
pub mod suspicion;

mod elect;
mod primary;
mod standby;
mod stopped;
mod writing;

pub use facts::{Content, Disk, Facts, Handover, Own, Process, Report, Role, Up};
pub use lease::{LeaseClock, Standing};
pub use plan::{Plan, Planned, Step};
pub use policy::{Durability, Policy};
pub use quorum::{Acks, Electorate};
pub use record::{Cause, Lease, Member, Order, Ordered, Record, Revision, Token};
pub use rules::{Rule, Rules};

use crate::{journal::Reason, pause::Stance};

/// What this member does next.
pub fn decide(facts: &Facts<'_>) -> Plan {
    let plan = match &facts.own.process {
        _ if facts.own.busy.is_some() => Plan::wait(facts.own.busy.clone().unwrap_or_default()),
        _ if is_refused(facts) => claim_anew(facts),
        Process::Gone => stopped::plan(facts),
        Process::Remains => remains(facts),
        Process::Starting => Plan::wait("the instance to start"),
        Process::Up(up) => match up.role {
            Role::Primary => primary::plan(facts, up),
            Role::Standby => standby::plan(facts, up),
        },
    };
    restrain(facts, writing::keep_lease(facts, plan))
}

/// Whether others have stopped receiving from whoever has this member's token, since they had seen its lease end.
fn is_refused(facts: &Facts<'_>) -> bool {
    let refused = || facts.reports.values().any(|report| report.floor >= facts.record.token);
    matches!(facts.standing, Standing::Mine { .. }) && refused()
}

/// They keep their word and never receive from that token again, so this member takes the next one.
fn claim_anew(facts: &Facts<'_>) -> Plan {
    let reasons = vec![
        Reason::seen("others have stopped receiving from its token, and the lease is still its own"),
        Reason::rule("nobody receives again from a token that it has refused"),
    ];
    Plan::step(writing::claim(facts), reasons)
}

/// The main process ended and others of the instance still run: they may go on acknowledging for a while.
fn remains(facts: &Facts<'_>) -> Plan {
    if !facts.rules.has(Rule::FencedFirst) {
        return stopped::plan(facts);
    }
    let reasons = vec![
        Reason::seen("its main process ended, and others of the instance still run"),
        Reason::rule("the lease is given back only once every process of the instance is gone"),
    ];
    Plan::step(Step::Fence { cause: Cause::Exit }, reasons)
}

/// While decisions are paused only what keeps things as they are is done, and what an operator ordered.
fn restrain(facts: &Facts<'_>, mut plan: Plan) -> Plan {
    let ordered = facts.record.order.is_some();
    let stopping =
        facts.stays_until().is_none() && matches!(&facts.own.process, Process::Up(up) if up.role == Role::Primary);
    let stays = match facts.stance {
        Stance::Act => return plan,
        Stance::Paused if ordered || stopping => return plan,
        Stance::Paused => Step::keeps,
        Stance::Observe => |_: &Step| false,
    };
    let before = plan.steps.len();
    plan.steps.retain(|planned| stays(&planned.step));
    if plan.steps.len() < before {
        let why =
            if facts.stance == Stance::Paused { "decisions are paused" } else { "nothing is done in mode \"observe\"" };
        plan.waiting = Some(why.to_owned());
    }
    plan
}
