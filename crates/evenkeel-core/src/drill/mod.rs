//! Drills: failures rehearsed on the running stack, and the verdicts about them.
//!
//! A drill plans (whom to harm, how, and what clients do meanwhile), is watched (when was the harm noticed, when
//! was everything well again) and is judged (did a client see it, was a write lost or doubled). All three are
//! decided here from what the caller observed. This module harms nothing, sends nothing and reads no clock:
//! whoever runs a drill passes the time in and owns the state of the run.
//!
//! | file | concern |
//! | --- | --- |
//! | `plan` | whom to harm, through which route, and when to refuse |
//! | `reach` | which route leads to a service |
//! | `fault` | what is done, in words |
//! | `signs`, `watch` | detection and recovery, from one status to the next |
//! | `series`, `abort` | what clients see from one moment to the next, and when that is too much |
//! | `report` | the verdict and its reasons |
//! | `record` | how drills stand in the journal |
//! | one file for each drill | its fault, and what is particular about judging it |

mod abort;
mod fault;
mod hang_instance;
mod kill_instance;
mod plan;
mod reach;
mod record;
mod report;
mod series;
mod signs;
mod watch;

#[cfg(test)]
mod tests;

use crate::{stack::Stack, status::Status};

pub use self::{
    abort::Brake,
    fault::{Fault, Target},
    plan::{Plan, Refusal, Subject, Wish, Writes, plan, still_holds},
    record::{LastVerdict, NewEntry, aborted, ended, last_verdict, started},
    report::{Condition, ErrorSample, Ledger, Observed, Report, Stage, Traffic, Verdict, judge},
    series::{TICK_MS, Tick},
    signs::Signs,
    watch::Watch,
};

/// One kind of rehearsal.
pub trait Drill: Sync {
    /// Its name on the command line, as `kill-instance`.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn summary(&self) -> &'static str;

    /// How long it usually takes, in seconds.
    fn usual_s(&self) -> (u64, u64);

    /// What it harms.
    fn target(&self) -> Target;

    /// What is done there, or why it cannot be done on this ground.
    fn fault(&self, ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal>;

    /// What the plan must say beside what all plans say.
    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        Vec::new()
    }

    /// What a status shows of the harm. `released`: a lasting fault was taken back.
    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs;

    /// Whether the harm may leave nobody to answer the question for the status.
    fn silences_the_stack(&self) -> bool {
        false
    }

    /// Conditions of this drill beyond those of all drills: what held, or else what did not.
    fn judge_more(&self, _plan: &Plan, _observed: &Observed) -> Vec<Condition> {
        Vec::new()
    }
}

/// The stack on which a drill is planned.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Its file in force.
    pub stack: &'a Stack,
    /// How it is.
    pub status: &'a Status,
    /// The service whose clients are watched.
    pub service: &'a str,
}

/// All drills, in the order in which they are listed.
pub const ALL: [&dyn Drill; 2] = [&kill_instance::KillInstance, &hang_instance::HangInstance];

/// The drill of that name.
pub fn find(name: &str) -> Option<&'static dyn Drill> {
    ALL.into_iter().find(|drill| drill.name() == name)
}

/// A time as people read it: milliseconds below a second, else seconds with one decimal.
pub fn in_words(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}
