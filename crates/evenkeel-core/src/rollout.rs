//! Rollout: which instances of a service are created and retired so that it becomes what the stack says.
//!
//! [`plan`] compares what is wanted with what is observed and returns steps, each with its reason. It keeps no
//! state: it is called again after every change, and a step that has been taken is not asked for again. A changed
//! specification replaces instances one by one: one more than wanted is started, and only once it is ready is an
//! old one drained. An old instance is never retired for a new one that does not get ready, so a broken revision
//! stops the rollout and costs no capacity. Fixed instances have no processes and no plan.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::journal::Reason;

/// How many instances beyond the wanted number a change may add for its time.
pub const SURGE: u32 = 1;

/// What the stack says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How many instances.
    pub replicas: u32,
    /// Identifies command, environment and whatever else needs a new process when it changes.
    pub digest: String,
}

/// One instance as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its number, from 1.
    pub number: u32,
    /// The specification it was created from.
    pub digest: String,
    /// Where it stands.
    pub state: State,
}

/// Where an instance stands, as far as a rollout cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Has not been ready since its last start, or waits for the next.
    Starting,
    /// Was ready and is not being stopped.
    Ready,
    /// Runs, and gets no requests since an operator drains it: it holds its place as one that is ready does.
    Drained,
    /// Gave up.
    GaveUp,
    /// Being drained or stopped; its number is taken until it is gone.
    Leaving,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; idempotent.
    pub steps: Vec<Step>,
    /// What the rollout waits for, if it is not complete.
    pub waiting: Option<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create an instance of the wanted specification with this free number.
    Create {
        /// Its number.
        number: u32,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Drain and stop this instance.
    Retire {
        /// Its number.
        number: u32,
        /// Why.
        reasons: Vec<Reason>,
    },
}

/// Plans the next steps of one service from a fresh observation.
pub fn plan(desired: &Desired, observed: &[Observed]) -> Plan {
    let staying = || observed.iter().filter(|i| i.state != State::Leaving);
    let (current, old): (Vec<_>, Vec<_>) = staying().partition(|i| i.digest == desired.digest);
    if desired.replicas == 0 {
        let reason = || vec![Reason::seen("no instance of this service is wanted")];
        let steps = staying().map(|i| Step::Retire { number: i.number, reasons: reason() }).collect();
        return Plan { steps, waiting: None };
    }
    if old.is_empty() { settle(desired, observed, &current) } else { replace(desired, observed, &current, &old) }
}

/// All instances are of the wanted specification: only their number can be wrong.
fn settle(desired: &Desired, observed: &[Observed], current: &[&Observed]) -> Plan {
    let have = count(current);
    if have < desired.replicas {
        let reason = format!("{have} of {} instances exist", desired.replicas);
        let steps = create(observed, desired.replicas - have, &[Reason::seen(reason)]);
        return Plan { steps, waiting: None };
    }
    // Those that serve nobody first, so that fewer instances never means fewer of those that serve than could stay.
    let mut order: Vec<&&Observed> = current.iter().collect();
    order.sort_by_key(|i| (usefulness(i.state), Reverse(i.number)));
    let reasons = vec![
        Reason::seen(format!("{have} instances exist and {} are wanted", desired.replicas)),
        Reason::rule("those that serve nobody go first, then the highest numbers"),
    ];
    Plan {
        steps: order
            .into_iter()
            .take((have - desired.replicas) as usize)
            .map(|instance| Step::Retire { number: instance.number, reasons: reasons.clone() })
            .collect(),
        waiting: None,
    }
}

/// How much is lost when an instance in this state goes.
fn usefulness(state: State) -> u8 {
    match state {
        State::GaveUp | State::Leaving => 0,
        State::Starting | State::Drained => 1,
        State::Ready => 2,
    }
}

/// Some instances are of a former specification.
fn replace(desired: &Desired, observed: &[Observed], current: &[&Observed], old: &[&Observed]) -> Plan {
    let mut plan = Plan::default();
    let ready = current.iter().filter(|i| matches!(i.state, State::Ready | State::Drained)).count();
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    let mut kept = retire_old(&mut plan, desired, ready, old);
    // Whatever still runs counts, so that a change never needs more room than the surge.
    let leaving = observed.iter().filter(|i| i.state == State::Leaving).count() + (old.len() - kept.len());
    let existing = u32::try_from(leaving + kept.len() + current.len()).unwrap_or(u32::MAX);
    let room = (desired.replicas + SURGE).saturating_sub(existing);
    let missing = desired.replicas.saturating_sub(count(current));
    let reasons = [
        Reason::seen("the specification changed: instances of the former one are replaced one by one"),
        Reason::rule(format!("at most {SURGE} instance more than wanted; an old one goes once a new one is ready")),
    ];
    plan.steps.extend(create(observed, room.min(missing), &reasons));
    kept.sort_unstable();
    plan.waiting = waiting(current, leaving, &kept);
    plan
}

/// Retires old instances that are not needed any more and returns the numbers of those that stay.
fn retire_old(plan: &mut Plan, desired: &Desired, ready: u32, old: &[&Observed]) -> Vec<u32> {
    // Those that serve nobody first, then by number.
    let mut order: Vec<&&Observed> = old.iter().collect();
    order.sort_by_key(|i| (i.state == State::Ready, i.number));
    let useful = old.iter().filter(|i| i.state != State::GaveUp).count();
    let mut left = u32::try_from(useful).unwrap_or(u32::MAX);
    let mut kept = Vec::new();
    for instance in order {
        let useless = instance.state == State::GaveUp;
        if useless || ready + left > desired.replicas {
            left -= u32::from(!useless);
            let why = if useless {
                "it had given up, so it serves nobody".to_owned()
            } else {
                format!("{} instances stay without it and {} are wanted", ready + left, desired.replicas)
            };
            let reasons = vec![Reason::seen("its specification is a former one"), Reason::seen(why)];
            plan.steps.push(Step::Retire { number: instance.number, reasons });
        } else {
            kept.push(instance.number);
        }
    }
    kept
}

fn waiting(current: &[&Observed], leaving: usize, kept: &[u32]) -> Option<String> {
    if let Some(broken) = current.iter().find(|i| i.state == State::GaveUp) {
        let number = broken.number;
        return Some(format!("new instance {number} gave up: the rollout stops here and old instances keep serving"));
    }
    if let Some(starting) = current.iter().find(|i| i.state == State::Starting) {
        return Some(format!("new instance {} is not ready yet", starting.number));
    }
    (leaving > 0).then(|| "an old instance is still being stopped".to_owned()).or_else(|| {
        let next = kept.first()?;
        Some(format!("old instance {next} is replaced next"))
    })
}

/// Creates `n` instances with the lowest numbers that are free, those of leaving instances not being free.
fn create(observed: &[Observed], n: u32, reasons: &[Reason]) -> Vec<Step> {
    let taken: BTreeSet<u32> = observed.iter().map(|i| i.number).collect();
    let free = (1..).filter(|number| !taken.contains(number));
    free.take(n as usize).map(|number| Step::Create { number, reasons: reasons.to_vec() }).collect()
}

fn count(instances: &[&Observed]) -> u32 {
    u32::try_from(instances.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
