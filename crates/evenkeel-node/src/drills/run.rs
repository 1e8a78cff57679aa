//! A run as it is drawn: what the console's panels need of it, in types of their own.
//!
//! Reports are written by other versions too, so each part that cannot be understood is left out.

use evenkeel_core::{
    drill::{Progress, RunState, RunSummary, Stage, Tick},
    journal::Reason,
    time::WallTime,
};
use serde::Deserialize;

use super::read::Story;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The folder's name.
    pub(crate) id: String,
    /// Which drill.
    pub(crate) drill: String,
    /// When it began.
    pub(crate) began: WallTime,
    /// Where it stands.
    pub(crate) state: RunState,
    /// The service whose clients are watched.
    pub(crate) service: String,
    /// Whom it harms, as `shop/2` or `edge`; may be empty.
    pub(crate) subject: String,
    /// What happened when.
    pub(crate) stages: Vec<Stage>,
    /// What clients saw in each tenth of a second.
    pub(crate) ticks: Vec<Tick>,
    /// How it ended.
    pub(crate) report: Option<Outcome>,
}

/// The part of a report that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(crate) detection_ms: Option<u64>,
    pub(crate) noticed_by_drill: bool,
    pub(crate) recovery_ms: Option<u64>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) worst_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) lost_writes: u64,
    pub(crate) doubled_writes: u64,
    pub(crate) acknowledged_writes: u64,
    pub(crate) fault_at_ms: u64,
    pub(crate) released_at_ms: Option<u64>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) series: Vec<Tick>,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) warnings: Vec<String>,
}

impl Run {
    /// All of it.
    pub(super) fn of(Story { summary, progress, report, .. }: Story) -> Self {
        let mut run = Self::in_brief(&summary);
        let brief = run.report.take();
        if summary.verdict().is_some() {
            // What another version wrote in another way still has the few numbers.
            let mut report: Outcome = serde_json::from_value(report).ok().or(brief).unwrap_or_default();
            run.stages = std::mem::take(&mut report.stages);
            run.ticks = std::mem::take(&mut report.series);
            run.report = Some(report);
        }
        for line in progress {
            match line {
                Progress::Stage(stage) => run.stages.push(stage),
                Progress::Tick(tick) => run.ticks.push(tick),
            }
        }
        run
    }

    /// What a few numbers say of it.
    pub(super) fn in_brief(summary: &RunSummary) -> Self {
        let report = summary.verdict().map(|_| Outcome {
            detection_ms: summary.detection_ms,
            recovery_ms: summary.recovery_ms,
            requests: summary.requests,
            errors: summary.errors,
            worst_ms: summary.worst_ms,
            p99_ms: summary.p99_ms,
            lost_writes: summary.lost_writes,
            doubled_writes: summary.doubled_writes,
            ..Outcome::default()
        });
        Self {
            id: summary.run.clone(),
            drill: summary.drill.clone(),
            began: summary.started,
            state: summary.state,
            service: summary.service.clone(),
            subject: summary.subject.clone(),
            stages: Vec::new(),
            ticks: Vec::new(),
            report,
        }
    }

    /// When the harm was done and when it was over, in milliseconds since the run's begin.
    pub(crate) fn fault(&self) -> Option<(u64, Option<u64>)> {
        let at = |name: &str| self.stages.iter().find(|stage| stage.name == name).map(|stage| stage.at_ms);
        let begin =
            self.report.as_ref().map(|report| report.fault_at_ms).filter(|at| *at > 0).or_else(|| at("fault"))?;
        let end = self.report.as_ref().and_then(|report| report.released_at_ms).or_else(|| at("released"));
        Some((begin, end.or_else(|| at("recovered"))))
    }
}

#[cfg(test)]
impl Default for Run {
    fn default() -> Self {
        Self::in_brief(&RunSummary::without_verdict("", None, RunState::GivenUp, ""))
    }
}
