//! The verdict about a drill, with its reasons.
//!
//! [`judge`] is a function of what was observed: it passes a drill if and only if it was not given up, clients saw no
//! more errors and waits than its objectives allow, no acknowledged write is missing, no write is there twice, every
//! write could be looked for, everything was well again within the bound, and what the drill itself asks for held. It owns no state and never rounds in favour of a
//! pass. The JSON form of [`Report`] is an interface: fields are added, never renamed.

use serde::{Deserialize, Serialize};

use super::{Capacity, Conclusion, Drill, Fault, Outage, Plan, RELAPSED, STARTED, Subject, Tick, conclusion, in_words};
use crate::{journal::Reason, objectives::Budget, stack::DrillObjectives, time::WallTime};

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
    /// `load`, `fault`, `detected`, `replaced`, `released`, `recovered`, `relapsed` (health did not last, and another
    /// `recovered` may follow), `aborted`, `stopped` or `verified`; drills may have others.
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

    /// What it is called wherever people read it. `noticed_by_drill`: the harm leaves keel itself nothing to notice it
    /// with.
    pub fn said(&self, noticed_by_drill: bool) -> &str {
        match self.name.as_str() {
            "load" => "visitors begin",
            "fault" => "harm done",
            "detected" if noticed_by_drill => "seen by the drill",
            "detected" => "noticed by keel",
            "replaced" => "replaced",
            "released" => "harm over",
            "recovered" => "healthy again",
            RELAPSED => "ill again",
            "aborted" | "given-up" => "given up",
            STARTED => "started by drill",
            "stopped" => "visitors stop",
            "verified" => "writes looked for",
            other => other,
        }
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
    /// 99 of 100 good answers since the harm took at most so long, in milliseconds, rounded up.
    pub p99_ms: u64,
    /// The longest time since the harm without a good answer.
    pub outage: Option<Outage>,
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
    /// Those of them that are there, once.
    pub unacknowledged_there: u64,
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
    /// The time that this budget is counted over, in milliseconds.
    pub budget_window_ms: Option<u64>,
    /// Who started `keel up` again, as `systemd`, where that is known.
    pub started_by: Option<String>,
    /// Harm that could not be taken back: why, and what is left to do by hand.
    pub not_undone: Vec<String>,
    /// What happened when, in order.
    pub stages: Vec<Stage>,
}

impl Observed {
    /// When the drill itself started everything again, where nobody else did.
    pub(super) fn started_by_drill_at_ms(&self) -> Option<u64> {
        self.stages.iter().find(|stage| stage.name == STARTED).map(|stage| stage.at_ms)
    }
}

/// The outcome of a drill: what `keel drill run --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and the JSON form is an interface")]
pub struct Report {
    /// The drill's name.
    pub drill: String,
    /// `pass` or `fail`.
    pub verdict: Verdict,
    /// From the harm until the stack showed it, in milliseconds; `null` if it never did.
    pub detection_ms: Option<u64>,
    /// From the harm until every instance was healthy again, in milliseconds; `null` if that took too long. Where the
    /// drill itself had to start everything again, it counts from then on; see `started_by_drill_ms`.
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
    /// 99 of 100 good answers since the harm took at most so long, in milliseconds, rounded up.
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
    /// That budget after the run; `null` where there is none.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// What was measured, what was allowed and what held.
    #[serde(default)]
    pub conditions: Vec<Conclusion>,
    /// What whoever reads the verdict must know with it, in words; mostly nothing.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The longest time since the harm in which no request got its answer; `null` where none was sent, or where that was
    /// not measured.
    #[serde(default)]
    pub outage: Option<Outage>,
    /// When the drill had to start `keel up` again itself since nobody else did, in milliseconds since the harm; `null` if
    /// it had not to.
    #[serde(default)]
    pub started_by_drill_ms: Option<u64>,
    /// Whether `detection_ms` says when the drill noticed the harm, since keel itself was down and could not.
    #[serde(default)]
    pub noticed_by_drill: bool,
    /// Of the writes that were not acknowledged, those that are there, once; `null` where that was not counted.
    #[serde(default)]
    pub unacknowledged_there: Option<u64>,
    /// The time that `budget` is counted over, in milliseconds; `null` where there is none.
    #[serde(default)]
    pub budget_window_ms: Option<u64>,
    /// Who started `keel up` again after the harm, by the name of the process above it; `null` where nobody had to or where
    /// that is not known.
    #[serde(default)]
    pub started_by: Option<String>,
    /// Whether an instance that hung went on only since the drill took its harm back: nobody else would have brought it
    /// back in that time.
    #[serde(default)]
    pub thawed_by_drill: bool,
    /// How long the service's `liveness` must fail until an instance is started again, in milliseconds; `null` without it.
    #[serde(default)]
    pub liveness_after_ms: Option<u64>,
    /// Whether `[[drills.schedule]]` has this drill already.
    #[serde(default)]
    pub scheduled: bool,
    /// Whether it failed only since nothing was shown about what it was meant to show.
    #[serde(default)]
    pub shows_nothing: bool,
}

/// Judges a run of `plan`.
pub fn judge(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Report {
    let conditions = conclusion::all(drill, plan, observed);
    let sentences = |failed: bool| {
        let told = conditions.iter().filter(move |line| (line.held == Some(false)) == failed && !line.text.is_empty());
        told.map(|line| Reason::seen(&line.text))
    };
    let mut reasons: Vec<Reason> = sentences(true).collect();
    let failed_conditions = reasons.len();
    let verdict = if failed_conditions == 0 { Verdict::Pass } else { Verdict::Fail };
    reasons.extend(sentences(false));
    reasons.extend(plan.notes.iter().map(Reason::rule));
    let ledger = observed.ledger.clone().unwrap_or_default();
    let after_fault = |at: u64| at.saturating_sub(observed.fault_at_ms);
    let shows_nothing = conclusion::shows_nothing(&conditions);
    let unacknowledged_there = observed.ledger.as_ref().map(|ledger| ledger.unacknowledged_there);
    let is_ramp = matches!(plan.fault, Fault::Ramp { .. });
    Report {
        drill: plan.drill.clone(),
        verdict,
        detection_ms: observed.detected_at_ms.map(after_fault),
        recovery_ms: conclusion::recovery_ms(observed),
        requests: observed.traffic.requests,
        errors: observed.traffic.errors,
        unavoidable_errors: conclusion::unavoidable(drill, observed),
        worst_ms: observed.traffic.worst_ms,
        worst_before_ms: observed.traffic.worst_before_ms,
        acknowledged_writes: ledger.acknowledged,
        unacknowledged_writes: ledger.unacknowledged,
        lost_writes: keys(&ledger.lost),
        doubled_writes: keys(&ledger.doubled),
        unverified_writes: keys(&ledger.unverified),
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
        budget_spent: conclusion::budget_spent(observed),
        budget: observed.budget.clone(),
        conditions,
        warnings: warnings(plan, observed),
        // Whoever measures what a service bears lets its clients wait on purpose.
        outage: observed.traffic.outage.filter(|_| !is_ramp),
        started_by_drill_ms: observed.started_by_drill_at_ms().map(after_fault),
        noticed_by_drill: drill.silences_the_stack(),
        unacknowledged_there,
        budget_window_ms: observed.budget_window_ms,
        started_by: observed.started_by.clone().filter(|_| observed.started_by_drill_at_ms().is_none()),
        thawed_by_drill: conclusion::thawed_by_drill(plan, observed),
        liveness_after_ms: plan.liveness_after_ms,
        scheduled: plan.scheduled,
        shows_nothing,
    }
}

/// What whoever reads the verdict must know with it.
fn warnings(plan: &Plan, observed: &Observed) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(at_ms) = observed.started_by_drill_at_ms() {
        let waited = in_words(at_ms.saturating_sub(observed.fault_at_ms));
        warnings.push(format!(
            "nobody but this drill started `keel up` again: it did so after {waited}. Without the drill the service would \
             still be down; run `keel up` under a service manager that starts it at boot and after a crash"
        ));
    }
    if conclusion::thawed_by_drill(plan, observed) {
        let (name, lasted) = (&plan.subject.name, in_words(plan.fault.lasts_ms()));
        warnings.push(match plan.liveness_after_ms {
            None => format!(
                "nobody but this drill brought {name} back: without it {name} would stay frozen, out of use, until somebody \
                 restarts it. `liveness` makes keel restart an instance that hangs"
            ),
            Some(ms) => format!(
                "it was this drill that brought {name} back: `liveness` restarts an instance that has hung for {}, and the \
                 drill froze it for {lasted} at most",
                in_words(ms)
            ),
        });
    }
    warnings
}

fn keys(keys: &[String]) -> u64 {
    keys.len() as u64
}
