//! Deploy: another release of a service is put in force, proves itself instance by instance, or is rolled back.
//!
//! A [`Deploy`] is what survives: it is kept on disk at each change of its phase, before anything is done about it, so
//! that whichever process dies, the next one goes on from there. [`Control`] decides: [`Control::step`] takes a fresh
//! observation and returns what to do, each step idempotent. The replacing itself is the work of [`crate::rollout`],
//! which sees an instance on trial as one that is still starting; here is only decided when a trial has passed, when
//! the deploy has failed, and that the former release comes back then.
//!
//! ```text
//! Before ──► Rolling ──► Done
//!   │           └──────► RollingBack ──► RolledBack
//!   └──► Failed
//! ```

mod control;
mod facts;
pub mod gate;
mod ledger;
mod show;
mod trial;
mod words;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::{
    control::Control,
    facts::{BeforeStep, Note, Output, Seen, World},
    ledger::{Cost, Ledger},
    show::DeployStatus,
};
use crate::{journal::Reason, overrides::Release, time::WallTime};

/// One deploy, or a rollback by an operator, which is the deploy of a former release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// Counts the deploys and rollbacks of this service, from 1.
    pub number: u64,
    /// Whose.
    pub service: String,
    /// What was asked for.
    pub kind: Kind,
    /// The release to run; `None`: what the stack file says.
    pub to: Option<Release>,
    /// The one that was in force before.
    pub from: Option<Release>,
    /// Who asked, as `by root (uid 0)`.
    pub by: String,
    /// When it was accepted.
    pub began: WallTime,
    /// When it was over.
    #[serde(default)]
    pub ended: Option<WallTime>,
    /// What decides.
    pub settings: Settings,
    /// Where it stands.
    pub phase: Phase,
    /// The revision from which the phase's own change of what is in force starts.
    pub revision: u64,
    /// Instances that passed their trial, as `shop/3#1`.
    #[serde(default)]
    pub passed: BTreeSet<String>,
    /// What led to its end; what failed, most important first.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// The instance, or the step, that it failed on.
    #[serde(default)]
    pub failed_on: Option<String>,
    /// What that one printed last.
    #[serde(default)]
    pub last_output: Vec<String>,
    /// Requests that new instances failed.
    #[serde(default)]
    pub affected: Affected,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A new release.
    Deploy,
    /// A former one, or what the stack file says.
    Rollback,
}

/// Where a deploy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// The step before anything changes.
    Before {
        /// What it runs.
        command: Vec<String>,
        /// Whether its start was ordered, which happens once.
        ordered: bool,
    },
    /// The release is put in force and instances are replaced, each with its trial.
    Rolling,
    /// The former release is put in force again.
    RollingBack,
    /// Over: every instance is of the new release.
    Done,
    /// Over: every instance is of the former release again.
    RolledBack,
    /// Over: nothing was changed, or somebody else changed it meanwhile.
    Failed,
}

/// What decides about a deploy; from the stack file and the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long an instance is on trial, in milliseconds.
    pub watch_ms: u64,
    /// Whether only the first new instance is on trial.
    pub canary: bool,
    /// An instance's share of the requests while it is on trial, in percent.
    pub share_percent: u8,
    /// How many percentage points more of the requests may fail than formerly.
    pub max_errors_percent: u8,
    /// Bound on the step before it, in milliseconds.
    pub before_timeout_ms: u64,
}

/// Requests of a service that did not go as they should while a release was deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Affected {
    /// Clients that got an answer of 5xx, or none.
    pub clients: u64,
    /// Requests that another instance got instead.
    pub repeated: u64,
}

impl Deploy {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::RolledBack | Phase::Failed)
    }

    /// The number of the release to run; 0 is what the stack file says.
    pub fn to_number(&self) -> u64 {
        self.to.as_ref().map_or(0, |release| release.number)
    }

    /// The number of the release that was in force before.
    pub fn from_number(&self) -> u64 {
        self.from.as_ref().map_or(0, |release| release.number)
    }

    /// What the step before it is called in logs.
    pub fn before_name(&self) -> String {
        format!("{}/before", self.service)
    }

    /// The guard's key of the step before it.
    pub fn before_key(&self) -> String {
        format!("{}#{}", self.before_name(), self.number)
    }
}

/// How many of a hundred requests go to an instance on trial: its weight beside `others` with [`WEIGHT`] each.
pub fn trial_weight(share_percent: u8, others: usize) -> u16 {
    let share = u64::from(share_percent.clamp(1, 50));
    let others = u64::try_from(others.max(1)).unwrap_or(u64::MAX).min(1000);
    let weight = u64::from(WEIGHT) * others * share / (100 - share);
    // Never more than its fair share.
    u16::try_from(weight.max(1)).unwrap_or(WEIGHT).min(WEIGHT)
}

/// The weight of each other instance meanwhile.
pub const WEIGHT: u16 = 100;

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
