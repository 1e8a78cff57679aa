//! How drills stand in the journal.
//!
//! Two entries for each run: `started` before the harm, so that whoever reads of a killed process finds the reason
//! right above it, and `passed`, `failed` or `aborted` at the end. Their message begins with the drill's name. This module owns no state
//! and never writes anything.

use serde::{Deserialize, Serialize};

use super::{Outage, Plan, Report, Verdict, in_words};
use crate::journal::{Level, Reason};

/// The subject of all entries about drills.
const SUBJECT: &str = "drill";

/// An entry that is still to be written: what `POST /v1/events` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEntry {
    /// What it concerns.
    pub subject: String,
    /// A stable word for the kind of entry.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// How much it matters.
    pub level: Level,
    /// What led to it.
    pub reasons: Vec<Reason>,
}

/// The entry before the harm.
pub fn started(plan: &Plan) -> NewEntry {
    NewEntry {
        subject: SUBJECT.to_owned(),
        kind: "started".to_owned(),
        message: format!("{}: {} to {}, on purpose", plan.drill, plan.fault, plan.subject.in_words()),
        level: Level::Info,
        reasons: plan.notes.iter().map(Reason::rule).collect(),
    }
}

/// The entry after the verdict.
pub fn ended(report: &Report) -> NewEntry {
    let (kind, level) = match report.verdict {
        Verdict::Pass => ("passed", Level::Info),
        Verdict::Fail => ("failed", Level::Error),
    };
    let time = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), in_words);
    let writes = if report.acknowledged_writes + report.unacknowledged_writes == 0 {
        "no writes were made".to_owned()
    } else {
        format!("{} writes lost, {} doubled", report.lost_writes, report.doubled_writes)
    };
    let detected = if report.noticed_by_drill {
        format!("{} could not notice it itself", report.subject.name)
    } else {
        format!("{} detected after {}", report.subject.name, time(report.detection_ms))
    };
    let started = report.started_by_drill_ms.map_or_else(String::new, |ms| {
        format!("nobody but the drill started it again, {} after the harm, and from then on it ", in_words(ms))
    });
    let down = report
        .outage
        .filter(Outage::is_down)
        .map_or_else(String::new, |outage| format!("nobody was answered for {}, ", in_words(outage.lasted_ms)));
    let message = format!(
        "{}: {kind}; {detected}, {started}recovered after {}, {down}{} of {} requests failed, {writes}",
        report.drill,
        time(report.recovery_ms),
        report.errors,
        report.requests,
    );
    NewEntry { subject: SUBJECT.to_owned(), kind: kind.to_owned(), message, level, reasons: report.reasons.clone() }
}

/// The entry about a run that was given up, and why.
pub fn aborted(plan: &Plan, why: &str) -> NewEntry {
    NewEntry {
        subject: SUBJECT.to_owned(),
        kind: "aborted".to_owned(),
        message: format!("{}: aborted; {why}", plan.drill),
        level: Level::Warning,
        reasons: vec![Reason::rule("a drill that is given up stops its clients and takes back what lasts")],
    }
}
