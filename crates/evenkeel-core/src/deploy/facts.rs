//! What a deploy sees, and what it asks for: the observation that goes into a step, and the outputs that come of it.

use crate::{
    journal::{Level, Reason},
    overrides::Release,
    status::{Health, InstanceId},
    time::Moment,
};

/// What is so now.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Instances of the service that stay.
    pub instances: Vec<Seen>,
    /// How many are wanted.
    pub wanted: u32,
    /// The revision in force.
    pub revision: u64,
    /// The release in force; 0 is what the stack file says.
    pub release: u64,
    /// The step before it.
    pub before: BeforeStep,
    /// What the step before it, or the instance that it failed on, printed last.
    pub printed: Vec<String>,
    /// Why nothing is decided now, as while somebody paused the service.
    pub paused: Option<String>,
    /// Whether nothing is done without an order: then a rollback is one.
    pub observing: bool,
    /// Whether the stack has no such service any more, or one that runs nothing.
    pub gone: bool,
}

/// The process of the step before a deploy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BeforeStep {
    /// There is none.
    #[default]
    None,
    /// It runs, or its start was ordered.
    Running {
        /// Since when.
        since: Moment,
    },
    /// It ended well.
    Succeeded,
    /// It ended otherwise, or could not be started.
    Failed {
        /// How, as a clause.
        how: String,
    },
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Name and generation.
    pub id: InstanceId,
    /// Whether it is of the release that is being deployed.
    pub new: bool,
    /// Whether it has been ready since its last start and is healthy now.
    pub ready: bool,
    /// The edge's verdict.
    pub health: Health,
    /// Why.
    pub reason: String,
    /// How often its processes ended.
    pub exits: u64,
    /// How the last one ended.
    pub last_exit: Option<String>,
    /// Why it was killed before it got ready, as when that took too long.
    pub too_late: Option<String>,
    /// Whether it gave up.
    pub gave_up: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start the step before it.
    StartBefore,
    /// Kill it.
    KillBefore,
    /// Put this release in force; `None` is what the stack file says.
    PutInForce {
        /// The release.
        release: Option<Release>,
        /// What is done, as a clause.
        why: String,
        /// What led to it.
        reasons: Vec<Reason>,
    },
    /// Write this down.
    Note(Note),
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// Whom it concerns.
    pub subject: String,
    /// A stable word.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
    /// What led to it.
    pub reasons: Vec<Reason>,
}
