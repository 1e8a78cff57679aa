//! How drills stand in the journal, and how they are found there again.
//!
//! Two entries for each run: `started` before the harm, so that whoever reads of a killed process finds the reason
//! right above it, and `passed`, `failed` or `aborted` at the end. Their message begins with the drill's name;
//! [`last_verdict`] relies on that. This module owns no state and never writes anything.

use serde::{Deserialize, Serialize};

use super::{Plan, Report, Verdict, in_words};
use crate::{
    journal::{Entry, Level, Reason},
    time::WallTime,
};

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
    let message = format!(
        "{}: {kind}; {} detected after {}, recovered after {}, {} of {} requests failed, {writes}",
        report.drill,
        report.subject.name,
        time(report.detection_ms),
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

/// How a drill ended when it was last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerdict {
    /// Pass or fail.
    pub verdict: Verdict,
    /// When, in milliseconds since the Unix epoch.
    pub at: WallTime,
}

/// The newest verdict about the drill of that name among `entries`, in whatever order they are.
pub fn last_verdict(entries: &[Entry], drill: &str) -> Option<LastVerdict> {
    let about = |entry: &&Entry| {
        entry.subject == SUBJECT && entry.message.split_once(':').is_some_and(|(name, _)| name == drill)
    };
    let verdict = |entry: &Entry| {
        let verdict = match entry.kind.as_str() {
            "passed" => Verdict::Pass,
            "failed" => Verdict::Fail,
            _ => return None,
        };
        Some((entry.id, LastVerdict { verdict, at: entry.at }))
    };
    let newest = entries.iter().filter(about).filter_map(verdict).max_by_key(|(id, _)| *id);
    newest.map(|(_, last)| last)
}
