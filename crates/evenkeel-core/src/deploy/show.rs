//! A deploy as `status` shows it.

use serde::{Deserialize, Serialize};

use super::{Affected, Deploy, Kind, Phase, words};
use crate::{journal::Reason, time::WallTime};

/// One deploy, under way or over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeployStatus {
    /// Counts the deploys and rollbacks of the service.
    pub number: u64,
    /// `deploy` or `rollback`.
    pub kind: Kind,
    /// The release to run; 0 is what the stack file says.
    pub release: u64,
    /// The one in force before.
    pub from: u64,
    /// Its digest: SHA-256 of the artefact; empty without one.
    pub digest: String,
    /// `before`, `rolling`, `rolling-back`, `done`, `rolled-back` or `failed`.
    pub phase: String,
    /// How it is or ended, in one sentence.
    pub message: String,
    /// Who asked.
    pub by: String,
    /// When it was accepted.
    pub began: WallTime,
    /// When it was over.
    pub ended: Option<WallTime>,
    /// What led to its end, most important first.
    pub reasons: Vec<Reason>,
    /// The instance, or the step, that it failed on.
    pub failed_on: Option<String>,
    /// What that one printed last.
    pub last_output: Vec<String>,
    /// Requests that new instances failed.
    pub affected: Affected,
    /// Why it would be rolled back, where that is left to an operator (`mode = "observe"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

impl DeployStatus {
    /// Of this deploy; `waiting` says what it waits for.
    pub fn of(deploy: &Deploy, waiting: Option<&str>) -> Self {
        Self {
            number: deploy.number,
            kind: deploy.kind,
            release: deploy.to_number(),
            from: deploy.from_number(),
            digest: deploy.to.as_ref().map(|to| to.digest.clone()).unwrap_or_default(),
            phase: phase(&deploy.phase).to_owned(),
            message: words::sentence(deploy, waiting),
            by: deploy.by.clone(),
            began: deploy.began,
            ended: deploy.ended,
            reasons: deploy.reasons.clone(),
            failed_on: deploy.failed_on.clone(),
            last_output: deploy.last_output.clone(),
            affected: deploy.affected,
            held: None,
        }
    }
}

fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Before { .. } => "before",
        Phase::Rolling => "rolling",
        Phase::RollingBack => "rolling-back",
        Phase::Done => "done",
        Phase::RolledBack => "rolled-back",
        Phase::Failed => "failed",
    }
}
