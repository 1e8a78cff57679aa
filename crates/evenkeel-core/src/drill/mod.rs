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
//! | `watch` | detection and recovery, from one observation to the next |
//! | `report` | the verdict and its reasons |
//! | `record` | how drills stand in the journal |
//! | one file for each drill | its fault, and what is particular about judging it |

mod hang_instance;
mod kill_instance;
mod plan;
mod reach;
mod record;
mod report;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    plan::{Plan, Refusal, Subject, Wish, Writes, plan},
    record::{LastVerdict, NewEntry, aborted, ended, last_verdict, started},
    report::{ErrorSample, Ledger, Observed, Report, Stage, Traffic, Verdict, judge},
    watch::{Sample, Seen, Watch},
};

/// One kind of rehearsal.
pub trait Drill: Sync {
    /// Its name on the command line, as `kill-instance`.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn summary(&self) -> &'static str;

    /// How long it usually takes, in seconds.
    fn usual_s(&self) -> (u64, u64);

    /// What is done to the instance; `for_ms` bounds a fault that lasts.
    fn fault(&self, for_ms: u64) -> Fault;

    /// Whether the harm is over for this instance, so that from now on only health is missing for recovery.
    /// `released` says that a lasting fault was taken back.
    fn is_over(&self, subject: &Subject, seen: &Seen, released: bool) -> bool;

    /// Conditions of this drill beyond those of all drills: what held, or else what did not.
    fn judge_more(&self, observed: &Observed) -> Vec<Result<String, String>>;
}

/// All drills, in the order in which they are listed.
pub const ALL: [&dyn Drill; 2] = [&kill_instance::KillInstance, &hang_instance::HangInstance];

/// The drill of that name.
pub fn find(name: &str) -> Option<&'static dyn Drill> {
    ALL.into_iter().find(|drill| drill.name() == name)
}

/// Injected harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to the instance's process (signal(7)).
    Kill,
    /// SIGSTOP to the instance's process and all its descendants, SIGCONT when it is over (signal(7)).
    Freeze {
        /// How long at most; it ends early when the instance is replaced.
        for_ms: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kill => f.write_str("SIGKILL"),
            Self::Freeze { for_ms } => {
                write!(f, "SIGSTOP for at most {}", in_words(for_ms))
            }
        }
    }
}

/// A time as people read it: milliseconds below a second, else seconds with one decimal.
pub fn in_words(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}
