//! What a drill is judged by, one line for each: what was measured, what was allowed, and whether that held.
//!
//! Everything here is a function of what was observed; nothing is remembered. What has no limit is measured and shown
//! all the same, and decides nothing. Each line that decides has a sentence too, which journal and build servers get.

use serde::{Deserialize, Serialize};

use super::{Drill, Fault, Ledger, Observed, Plan, TICK_MS, Tick, Traffic, Unavoidable, in_words, signs};
use crate::{
    objectives::Budget,
    stack::Duration,
    status::Status,
    words::{count, counted},
};

/// What stands where nothing was asked for.
pub const NO_LIMIT: &str = "no limit set";

/// In every sentence about a run that shows nothing about what it was meant to show: not that something was bad.
pub const NOTHING_SHOWN: &str = "nothing was shown";

/// One line of a verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Conclusion {
    /// What it is about, as `failed requests`.
    pub what: String,
    /// What was measured, as `0 of 664`; empty where `what` says it all.
    pub measured: String,
    /// What was allowed, as `30.0 s`; empty where `what` says it all.
    pub allowed: String,
    /// Whether it held; `null` where nothing was asked for, so that it decides nothing.
    pub held: Option<bool>,
    /// The same as a sentence; empty where there is nothing to say.
    pub text: String,
}

/// One condition of a pass: what held, or else what did not.
pub type Condition = Result<String, String>;

impl Conclusion {
    fn new(what: &str, measured: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { what: what.to_owned(), measured: measured.into(), allowed: allowed.into(), ..Self::default() }
    }

    fn judged(self, condition: Condition) -> Self {
        let held = Some(condition.is_ok());
        Self { held, text: condition.unwrap_or_else(|text| text), ..self }
    }
}

impl From<Condition> for Conclusion {
    fn from(condition: Condition) -> Self {
        let line = Self::default().judged(condition);
        Self { what: line.text.clone(), ..line }
    }
}

/// Everything that decides, and what was measured beside it; in the order in which it is told.
pub(super) fn all(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Vec<Conclusion> {
    let mut all = vec![few_errors(drill, plan, observed), recovered(plan, observed)];
    let not_undone = |why| Conclusion::from(Err(format!("the harm could not be undone: {why}")));
    all.extend(observed.not_undone.iter().map(not_undone));
    all.extend(observed.aborted.iter().map(|why| Conclusion::from(Err(format!("it was given up: {why}")))));
    all.extend(in_time(drill, plan, observed));
    all.extend(drill.judge_more(plan, observed).into_iter().map(Conclusion::from));
    all.extend(nothing_lost(observed.ledger.as_ref()));
    all.extend(budget_spent(observed).map(|percent| Conclusion {
        text: format!("that took {percent:.2} % of the budget of errors"),
        ..Conclusion::new("share of the error budget that this took", share(percent), NO_LIMIT)
    }));
    all
}

fn few_errors(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Conclusion {
    let Traffic { requests, errors, worst_ms, samples, .. } = &observed.traffic;
    let apart = unavoidable(drill, observed);
    let others = errors - apart;
    let allowed = plan.objectives.errors;
    let (failed, all) = (count(*errors), count(*requests));
    let (whence, elsewhere) = match (apart, drill.unavoidable()) {
        (0, _) => ("", ""),
        (_, Unavoidable::OpenConnections) => ("with the connections that died", " on other connections"),
        (_, Unavoidable::Nothing | Unavoidable::UntilRecovery) => {
            ("while there was nobody to serve", " at other times")
        }
    };
    let measured = match (apart, others) {
        (0, _) => format!("{failed} of {all}"),
        (_, 0) => format!("{failed} of {all}, all of them {whence}"),
        _ => format!("{failed} of {all}, {} of them {whence}", count(apart)),
    };
    let may = if allowed > 0 { format!(", {} may{elsewhere}", count(allowed)) } else { String::new() };
    let slowest = in_words(*worst_ms);
    let first = samples.first().map_or_else(String::new, |sample| {
        format!("; first after {}: {}: {}", in_words(sample.at_ms), sample.request, sample.seen)
    });
    let line = Conclusion::new("failed requests", &measured, format!("{}{elsewhere}", count(allowed)));
    line.judged(match (*requests, apart) {
        (0, _) => Err(format!("no test visitor sent a request, so {NOTHING_SHOWN}")),
        (_, 0) if others <= allowed => Ok(format!("{failed} of {all} requests failed{may}, the slowest took {slowest}")),
        (_, 0) => Err(format!("{failed} of {all} requests failed{first}")),
        _ if others == 0 => Ok(format!(
            "{failed} of {all} requests failed, all of them {whence}, as this drill expects{may}; the slowest took {slowest}"
        )),
        _ => {
            let text = format!("{failed} of {all} requests failed, {} of them{elsewhere}", count(others));
            if others <= allowed { Ok(format!("{text}{may}")) } else { Err(format!("{text}{first}")) }
        }
    })
}

/// How many of the errors nothing could have avoided.
pub(super) fn unavoidable(drill: &dyn Drill, observed: &Observed) -> u64 {
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

/// The time that this budget is counted over, in milliseconds.
pub fn budget_window_ms(plan: &Plan, status: &Status) -> Option<u64> {
    Some(signs::service_of(plan, status)?.objective.as_ref()?.window_ms)
}

/// Whether a run failed only since it shows nothing.
pub(super) fn shows_nothing(conditions: &[Conclusion]) -> bool {
    let mut failed = conditions.iter().filter(|line| line.held == Some(false)).peekable();
    failed.peek().is_some() && failed.all(|line| line.text.contains(NOTHING_SHOWN))
}

/// The share of the service's budget of errors that the run took, in percent.
pub(super) fn budget_spent(observed: &Observed) -> Option<f64> {
    // Errors at rates that a service does not bear decide nothing, but its users' budget pays for them.
    let missed = observed.capacity.iter().flat_map(|capacity| &capacity.steps).filter(|step| !step.met);
    let beyond: u64 = missed.map(|step| step.errors).sum();
    observed.budget.as_ref()?.share_of(observed.traffic.errors + beyond)
}

/// A percentage, or a multiple where that is easier to grasp.
fn share(percent: f64) -> String {
    match percent {
        p if p >= 1000.0 => format!("{:.0} times all of it", p / 100.0),
        p if p >= 10.0 => format!("{p:.0} %"),
        p if p > 0.0 => format!("{p:.2} %"),
        _ => "none".to_owned(),
    }
}

/// When recovery began: with the harm, or when the drill had to start everything again itself. What it waited until
/// then is its own doing.
pub(super) fn recovery_began_ms(observed: &Observed) -> u64 {
    observed.started_by_drill_at_ms().unwrap_or(observed.fault_at_ms)
}

/// How long recovery took, where it came.
pub(super) fn recovery_ms(observed: &Observed) -> Option<u64> {
    observed.recovered_at_ms.map(|at| at.saturating_sub(recovery_began_ms(observed)))
}

/// Whether an instance that was frozen went on as what it was, when the drill let it.
pub(super) fn thawed_by_drill(plan: &Plan, observed: &Observed) -> bool {
    let replaced = observed.stages.iter().any(|stage| stage.name == "replaced");
    let came_back = observed.recovered_at_ms >= observed.released_at_ms && observed.recovered_at_ms.is_some();
    matches!(plan.fault, Fault::Freeze { .. }) && observed.released_at_ms.is_some() && came_back && !replaced
}

fn recovered(plan: &Plan, observed: &Observed) -> Conclusion {
    let bound = in_words(plan.recover_within_ms);
    let since = match observed.started_by_drill_at_ms() {
        Some(at) => {
            let waited = in_words(at.saturating_sub(observed.fault_at_ms));
            format!(", counted from when the drill itself started it again, {waited} after the harm")
        }
        None if thawed_by_drill(plan, observed) => ", once the drill had thawed it".to_owned(),
        None => String::new(),
    };
    let took = recovery_ms(observed);
    let never = if observed.aborted.is_some() { "not before it was given up" } else { "not in time" };
    let measured = took.map_or_else(|| never.to_owned(), in_words);
    let all = plan.everything();
    Conclusion::new(&format!("until {all} was healthy again"), measured, bound.clone()).judged(match took {
        Some(ms) if ms <= plan.recover_within_ms => {
            Ok(format!("{all} was healthy again after {}{since}", in_words(ms)))
        }
        Some(ms) => Err(format!("{all} was healthy again only after {}, not within {bound}{since}", in_words(ms))),
        None => Err(format!("not {all} was healthy again within {bound}")),
    })
}

/// Times, with what the objectives say of them.
fn in_time(drill: &dyn Drill, plan: &Plan, observed: &Observed) -> Vec<Conclusion> {
    let wanted = &plan.objectives;
    let Traffic { worst_ms, p99_ms, .. } = observed.traffic;
    let line = |what: &str, sentence: &str, ms: Option<u64>, bound: Option<Duration>| {
        let measured = ms.map_or_else(|| "never".to_owned(), in_words);
        let Some(bound_ms) = bound.map(Duration::as_ms) else { return Conclusion::new(what, measured, NO_LIMIT) };
        let bound = in_words(bound_ms);
        Conclusion::new(what, measured, bound.clone()).judged(match ms {
            Some(ms) if ms <= bound_ms => Ok(format!("{sentence} {}, at most {bound} was asked for", in_words(ms))),
            Some(ms) => Err(format!("{sentence} {}, not within {bound}", in_words(ms))),
            None => Err(format!("{sentence} for ever, not within {bound}")),
        })
    };
    let detected = observed.detected_at_ms.map(|at| at.saturating_sub(observed.fault_at_ms));
    let mut lines = vec![
        line("longest wait of a request", "the slowest request took", Some(worst_ms), wanted.worst),
        line(
            "99 of 100 answers after the harm came within",
            "99 of 100 requests after the harm took at most",
            Some(p99_ms),
            wanted.p99,
        ),
    ];
    match plan.fault {
        // A ramp breaks nothing that anybody would have to notice.
        Fault::Ramp { .. } => {}
        _ if drill.silences_the_stack() => {
            lines.push(Conclusion::new("until keel noticed", "not noticed by keel: it was down", "not asked for"));
        }
        _ => lines.push(line("until keel noticed", "detection took", detected, wanted.detection)),
    }
    lines
}

fn nothing_lost(ledger: Option<&Ledger>) -> Vec<Conclusion> {
    const LOST: &str = "confirmed writes that are missing";
    let Some(ledger) = ledger else { return vec![Conclusion::new(LOST, "not tested", "0")] };
    let Ledger { acknowledged, lost, doubled, unverified, .. } = ledger;
    if *acknowledged == 0 {
        let nothing = Err(format!("no write was acknowledged, so {NOTHING_SHOWN} about writes"));
        return vec![Conclusion::new(LOST, "none was confirmed", "0").judged(nothing)];
    }
    let of = |keys: &[String]| format!("{} of {}", count(keys.len() as u64), count(*acknowledged));
    let good = format!("each of {} acknowledged writes is there exactly once", count(*acknowledged));
    let bad = |keys: &[String], one: &str, many: &str| {
        keys.first().map(|first| format!("{}, the first is {first}", counted(keys.len() as u64, one, many)))
    };
    let lost_words = bad(lost, "acknowledged write is lost", "acknowledged writes are lost");
    let all_well = [lost, doubled, unverified].iter().all(|keys| keys.is_empty());
    let lost_line = Conclusion::new(LOST, of(lost), "0");
    let mut lines = vec![match lost_words {
        Some(words) => lost_line.judged(Err(words)),
        None if all_well => lost_line.judged(Ok(good)),
        None => Conclusion { held: Some(true), ..lost_line },
    }];
    let mut beside = |what: &str, keys: &[String], words: Option<String>| {
        let line = Conclusion::new(what, count(keys.len() as u64), "0");
        lines.push(words.map_or(Conclusion { held: Some(true), ..line.clone() }, |words| line.judged(Err(words))));
    };
    beside("writes that are there more than once", doubled, {
        bad(doubled, "write is there more than once", "writes are there more than once")
    });
    beside("writes that could not be looked for", unverified, {
        bad(unverified, "write could not be looked for", "writes could not be looked for")
    });
    lines
}
