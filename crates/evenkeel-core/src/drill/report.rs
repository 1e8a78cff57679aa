//! The verdict about a drill, with its reasons.
//!
//! [`judge`] is a function of what was observed: it passes a drill if and only if it was not given up, clients saw no
//! more errors and waits than its objectives allow, no acknowledged write is missing, no write is there twice, every
//! write could be looked for, everything was well again within the bound, and what the drill itself asks for held. It owns no state and never rounds in favour of a
//! pass. The JSON form of [`Report`] is an interface: fields are added, never renamed.

use serde::{Deserialize, Serialize};

use super::{Capacity, Drill, Fault, Plan, Subject, TICK_MS, Tick, Unavoidable, in_words, signs};
use crate::{journal::Reason, objectives::Budget, stack::DrillObjectives, status::Status, time::WallTime};

/// Pass or fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All conditions held.
    Pass,
    /// At least one did not.
    Fail,
}

impl Verdict {
    /// The word that outputs show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// Something that happened during a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stage {
    /// `load`, `fault`, `detected`, `replaced`, `released`, `recovered`, `aborted`, `stopped` or `verified`; drills may
    /// have others.
    pub name: String,
    /// When, in milliseconds since the drill's start.
    pub at_ms: u64,
    /// What was seen, in words.
    pub detail: String,
}

impl Stage {
    /// A stage of this name at this time.
    pub fn new(name: &str, at_ms: u64, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), at_ms, detail: detail.into() }
    }
}

/// One kind of error that clients saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSample {
    /// When it was first seen, in milliseconds since the drill's start.
    pub at_ms: u64,
    /// What was asked, as `GET /`.
    pub request: String,
    /// What came back instead of an answer of 2xx.
    pub seen: String,
    /// How long the first one took, in milliseconds.
    pub took_ms: u64,
    /// How often it was seen.
    pub count: u64,
}

/// What clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent, reads and writes.
    pub requests: u64,
    /// Those without a complete answer of 2xx, and connections that broke.
    pub errors: u64,
    /// Those of the errors that were under way on a connection which was open when the harm was done and broke with it.
    pub cut: u64,
    /// The slowest request, in milliseconds, rounded up.
    pub worst_ms: u64,
    /// The slowest request before the harm, in milliseconds, rounded up.
    pub worst_before_ms: u64,
    /// The slowest but one of a hundred since the harm, in milliseconds, rounded up.
    pub p99_ms: u64,
    /// Up to ten distinct errors.
    pub samples: Vec<ErrorSample>,
    /// From one moment to the next.
    pub series: Vec<Tick>,
}

/// What became of the writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Writes that were acknowledged with 2xx.
    pub acknowledged: u64,
    /// Writes that were not: they may be there once or not at all.
    pub unacknowledged: u64,
    /// Keys that were acknowledged but are not there.
    pub lost: Vec<String>,
    /// Keys, acknowledged or not, that are there more than once.
    pub doubled: Vec<String>,
    /// Keys that could not be looked for, and why.
    pub unverified: Vec<String>,
}

/// Everything a verdict is made from. Times are milliseconds since the drill's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// When the run began.
    pub started: WallTime,
    /// When the harm was done.
    pub fault_at_ms: u64,
    /// When the stack first showed it.
    pub detected_at_ms: Option<u64>,
    /// When a lasting fault was taken back.
    pub released_at_ms: Option<u64>,
    /// When everything was well again.
    pub recovered_at_ms: Option<u64>,
    /// Why it was given up.
    pub aborted: Option<String>,
    /// The processes of all instances before the harm, and at recovery.
    pub instances_before: Vec<u32>,
    /// See `instances_before`.
    pub instances_after: Vec<u32>,
    /// What clients saw.
    pub traffic: Traffic,
    /// What became of the writes; `None` where none were made.
    pub ledger: Option<Ledger>,
    /// What the service bears, where that was measured.
    pub capacity: Option<Capacity>,
    /// The service's budget of errors afterwards, where `[objectives]` declares an availability.
    pub budget: Option<Budget>,
    /// What happened when, in order.
    pub stages: Vec<Stage>,
}

/// The outcome of a drill: what `keel drill run --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The drill's name.
    pub drill: String,
    /// `pass` or `fail`.
    pub verdict: Verdict,
    /// From the harm until the stack showed it, in milliseconds; `null` if it never did.
    pub detection_ms: Option<u64>,
    /// From the harm until every instance was healthy again, in milliseconds; `null` if that took too long.
    pub recovery_ms: Option<u64>,
    /// Requests that clients sent.
    pub requests: u64,
    /// Requests without a complete answer of 2xx, and connections that broke.
    pub errors: u64,
    /// Those of the errors that nothing could have avoided; no objective counts them.
    #[serde(default)]
    pub unavoidable_errors: u64,
    /// The slowest request, in milliseconds, rounded up.
    pub worst_ms: u64,
    /// The slowest request before the harm, in milliseconds, rounded up.
    pub worst_before_ms: u64,
    /// Writes that were acknowledged; 0 where the stack names none.
    pub acknowledged_writes: u64,
    /// Writes that were not acknowledged.
    pub unacknowledged_writes: u64,
    /// Acknowledged writes that are not there.
    pub lost_writes: u64,
    /// Writes that are there more than once.
    pub doubled_writes: u64,
    /// Writes that could not be looked for.
    pub unverified_writes: u64,
    /// What happened when, in order.
    pub stages: Vec<Stage>,
    /// Why the verdict is what it is; what failed stands first.
    pub reasons: Vec<Reason>,
    /// How many of the reasons, from the first one on, are conditions that did not hold.
    #[serde(default)]
    pub failed_conditions: usize,
    /// What was harmed.
    pub subject: Subject,
    /// How.
    pub fault: Fault,
    /// What had to hold.
    pub objectives: DrillObjectives,
    /// Why it was given up; `null` if it was not.
    pub aborted: Option<String>,
    /// When the harm was done, in milliseconds since the drill's start.
    pub fault_at_ms: u64,
    /// When a lasting fault was taken back, in milliseconds since the drill's start.
    pub released_at_ms: Option<u64>,
    /// 99 of 100 requests since the harm took at most so long, in milliseconds, rounded up.
    pub p99_ms: u64,
    /// What clients saw in each tenth of a second.
    pub series: Vec<Tick>,
    /// When the run began, in milliseconds since the Unix epoch.
    pub started: WallTime,
    /// Up to ten distinct errors.
    pub error_samples: Vec<ErrorSample>,
    /// What the service bears; `null` where that was not measured.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// The share of the service's budget of errors that this run took, in percent; `null` where `[objectives]` declares no
    /// availability.
    #[serde(default)]
    pub budget_spent: Option<f64>,
}

/// Judges a run of `plan`.
pub fn judge(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Report {
    let mut held = Vec::new();
    let mut failed = Vec::new();
    let mut conditions = vec![few_errors(drill, plan, observed), recovered(plan, observed)];
    conditions.extend(observed.aborted.iter().map(|why| Err(format!("it was given up: {why}"))));
    conditions.extend(in_time(plan, observed));
    conditions.extend(drill.judge_more(plan, observed));
    conditions.extend(observed.ledger.as_ref().map(nothing_lost).unwrap_or_default());
    conditions
        .extend(budget_spent(observed).map(|percent| Ok(format!("that took {percent:.2} % of the budget of errors"))));
    for condition in conditions {
        match condition {
            Ok(text) => held.push(Reason::seen(text)),
            Err(text) => failed.push(Reason::seen(text)),
        }
    }
    let verdict = if failed.is_empty() { Verdict::Pass } else { Verdict::Fail };
    let failed_conditions = failed.len();
    let mut reasons = failed;
    reasons.append(&mut held);
    reasons.extend(plan.notes.iter().map(Reason::rule));
    let ledger = observed.ledger.clone().unwrap_or_default();
    let after_fault = |at: Option<u64>| at.map(|at| at.saturating_sub(observed.fault_at_ms));
    Report {
        drill: plan.drill.clone(),
        verdict,
        detection_ms: after_fault(observed.detected_at_ms),
        recovery_ms: after_fault(observed.recovered_at_ms),
        requests: observed.traffic.requests,
        errors: observed.traffic.errors,
        unavoidable_errors: unavoidable(drill, observed),
        worst_ms: observed.traffic.worst_ms,
        worst_before_ms: observed.traffic.worst_before_ms,
        acknowledged_writes: ledger.acknowledged,
        unacknowledged_writes: ledger.unacknowledged,
        lost_writes: count(&ledger.lost),
        doubled_writes: count(&ledger.doubled),
        unverified_writes: count(&ledger.unverified),
        stages: observed.stages.clone(),
        reasons,
        failed_conditions,
        subject: plan.subject.clone(),
        fault: plan.fault.clone(),
        objectives: plan.objectives.clone(),
        aborted: observed.aborted.clone(),
        fault_at_ms: observed.fault_at_ms,
        released_at_ms: observed.released_at_ms,
        p99_ms: observed.traffic.p99_ms,
        series: observed.traffic.series.clone(),
        started: observed.started,
        error_samples: observed.traffic.samples.clone(),
        capacity: observed.capacity.clone(),
        budget_spent: budget_spent(observed),
    }
}

/// One condition of a pass: what held, or else what did not.
pub type Condition = Result<String, String>;

fn few_errors(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Condition {
    let Traffic { requests, errors, worst_ms, samples, .. } = &observed.traffic;
    let apart = unavoidable(drill, observed);
    let errors = &(errors - apart);
    let allowed = plan.objectives.errors;
    if *requests == 0 {
        return Err("no client sent a request, so nothing was shown".to_owned());
    }
    let aside = match drill.unavoidable() {
        _ if apart == 0 => String::new(),
        Unavoidable::OpenConnections => format!("; {apart} more were cut with the connections that died"),
        Unavoidable::Nothing | Unavoidable::UntilRecovery => format!("; {apart} more while there was nobody to serve"),
    };
    if *errors <= allowed {
        let of = if allowed > 0 { format!(", {allowed} may") } else { String::new() };
        return Ok(format!(
            "{errors} of {requests} requests failed{of}, the slowest took {}{aside}",
            in_words(*worst_ms)
        ));
    }
    let first = samples.first().map_or_else(String::new, |sample| {
        format!("; first after {}: {}: {}", in_words(sample.at_ms), sample.request, sample.seen)
    });
    Err(format!("{errors} of {requests} requests failed{first}{aside}"))
}

/// How many of the errors nothing could have avoided.
fn unavoidable(drill: &dyn Drill, observed: &Observed) -> u64 {
    let Observed { traffic, fault_at_ms, recovered_at_ms, .. } = observed;
    let apart = match drill.unavoidable() {
        Unavoidable::Nothing => 0,
        Unavoidable::OpenConnections => traffic.cut,
        // The ticks of both moments are within: a tick knows no order of its own.
        Unavoidable::UntilRecovery => {
            let ends = recovered_at_ms.unwrap_or(u64::MAX);
            let within = |tick: &&Tick| tick.at_ms + TICK_MS > *fault_at_ms && tick.at_ms <= ends;
            traffic.series.iter().filter(within).map(|tick| tick.errors).sum()
        }
    };
    apart.min(traffic.errors)
}

/// The budget of errors of the service whose clients are watched, where it has one.
pub fn budget(plan: &Plan, status: &Status) -> Option<Budget> {
    signs::service_of(plan, status)?.objective.as_ref()?.availability.clone()
}

/// The share of the service's budget of errors that the run took, in percent.
fn budget_spent(observed: &Observed) -> Option<f64> {
    // Errors at rates that a service does not bear decide nothing, but its users' budget pays for them.
    let missed = observed.capacity.iter().flat_map(|capacity| &capacity.steps).filter(|step| !step.met);
    let beyond: u64 = missed.map(|step| step.errors).sum();
    observed.budget.as_ref()?.share_of(observed.traffic.errors + beyond)
}

fn recovered(plan: &Plan, observed: &Observed) -> Condition {
    let bound = in_words(plan.recover_within_ms);
    match observed.recovered_at_ms.map(|at| at.saturating_sub(observed.fault_at_ms)) {
        Some(ms) if ms <= plan.recover_within_ms => {
            Ok(format!("every instance was healthy again after {}", in_words(ms)))
        }
        Some(ms) => Err(format!("every instance was healthy again only after {}, not within {bound}", in_words(ms))),
        None => Err(format!("not every instance was healthy again within {bound}")),
    }
}

/// What the objectives say of times, where they say anything.
fn in_time(plan: &Plan, observed: &Observed) -> Vec<Condition> {
    let wanted = &plan.objectives;
    let Traffic { worst_ms, p99_ms, .. } = observed.traffic;
    let within = |what: &str, ms: Option<u64>, bound: Option<crate::stack::Duration>| {
        let bound_ms = bound?.as_ms();
        let bound = in_words(bound_ms);
        Some(match ms {
            Some(ms) if ms <= bound_ms => Ok(format!("{what} {}, at most {bound} was asked for", in_words(ms))),
            Some(ms) => Err(format!("{what} {}, not within {bound}", in_words(ms))),
            None => Err(format!("{what} for ever, not within {bound}")),
        })
    };
    let detected = observed.detected_at_ms.map(|at| at.saturating_sub(observed.fault_at_ms));
    // A ramp breaks nothing that anybody would have to notice.
    let detection = wanted.detection.filter(|_| !matches!(plan.fault, Fault::Ramp { .. }));
    let conditions = [
        within("the slowest request took", Some(worst_ms), wanted.worst),
        within("99 of 100 requests after the harm took at most", Some(p99_ms), wanted.p99),
        within("detection took", detected, detection),
    ];
    conditions.into_iter().flatten().collect()
}

fn nothing_lost(ledger: &Ledger) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut must_be_empty = |keys: &[String], what: &str| {
        if let Some(first) = keys.first() {
            conditions.push(Err(format!("{} {what}, the first is {first}", keys.len())));
        }
    };
    must_be_empty(&ledger.lost, "acknowledged writes are lost");
    must_be_empty(&ledger.doubled, "writes are there more than once");
    must_be_empty(&ledger.unverified, "writes could not be looked for");
    if ledger.acknowledged == 0 {
        conditions.push(Err("no write was acknowledged, so nothing was shown about writes".to_owned()));
    }
    if conditions.is_empty() {
        conditions.push(Ok(format!("each of {} acknowledged writes is there exactly once", ledger.acknowledged)));
    }
    conditions
}

fn count(keys: &[String]) -> u64 {
    keys.len() as u64
}
