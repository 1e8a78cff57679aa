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
//! | `climb` | how much a service bears |
//! | `outage` | how long nobody was answered |
//! | `conclusion`, `report` | what was measured beside what was allowed; the verdict and its reasons |
//! | `record`, `runs` | how drills stand in the journal; how runs are kept, compared and counted as proofs |
//! | `schedule` | when drills run by themselves, and when none may |
//! | one file for each drill | its fault, and what is particular about judging it |

mod abort;
mod bad_deploy;
mod capacity;
mod climb;
mod clock_step;
mod conclusion;
mod crash_loop;
mod fault;
mod full_disk;
mod hang_instance;
mod kill_edge;
mod kill_guard;
mod kill_instance;
mod kill_node_process;
mod outage;
mod plan;
mod reach;
mod reboot;
mod record;
mod report;
mod runs;
mod schedule;
mod series;
mod signs;
mod slow_dependency;
mod slow_instance;
mod traffic_spike;
mod watch;

#[cfg(test)]
mod tests;

use crate::{stack::Stack, status::Status};

/// Stages that particular drills have beside those of all: who does the harm notes them, and the verdict rests on them.
pub mod stages {
    pub use super::{
        bad_deploy::TRIED,
        crash_loop::{GAVE_UP, KILLED, START},
        slow_dependency::{ASKED, RESTARTED},
    };
}

pub use self::{
    abort::Brake,
    bad_deploy::WILL_NOT_PASS,
    climb::{Capacity, Climb, Limit, MOST_PER_S, Step},
    conclusion::{Conclusion, Condition, NO_LIMIT, NOTHING_SHOWN, budget, budget_window_ms},
    fault::{Fault, PACE_PER_S, Target},
    outage::{Gaps, Outage},
    plan::{Plan, Refusal, Subject, Wish, Writes, plan, read_elsewhere, still_holds},
    record::{NewEntry, aborted, ended, started},
    report::{ErrorSample, Ledger, Observed, Report, Stage, Traffic, Verdict, judge},
    runs::{
        Comparison, GIVEN_UP, LastVerdict, Progress, Proof, RunState, RunSummary, compare, last_verdict, parse_run_id,
        proofs, run_id,
    },
    schedule::{Known, TRY_AGAIN_MS, Turn, in_blackout, turn},
    series::{TICK_MS, Tick},
    signs::{SHIFTED, STARTED, Signs},
    watch::{RELAPSED, Watch},
};

/// The reason of a drain that a drill has ordered: nobody else's drain is ever ended by a drill.
pub const DRAIN_REASON: &str = "a drill measures what the others bear";

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

    /// Which errors of clients nothing could have avoided.
    fn unavoidable(&self) -> Unavoidable {
        Unavoidable::Nothing
    }

    /// Conditions of this drill beyond those of all drills: what held, or else what did not.
    fn judge_more(&self, _plan: &Plan, _observed: &Observed) -> Vec<Condition> {
        Vec::new()
    }
}

/// Errors that the harm itself is bound to cause: they are counted, but apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavoidable {
    /// None: whatever fails, fails the drill.
    Nothing,
    /// What was under way on connections that were open when the harm was done, at most one request on each: nobody can
    /// go on with a connection whose process is gone.
    OpenConnections,
    /// Whatever fails from the harm until recovery: there is nobody to serve.
    UntilRecovery,
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
pub const ALL: &[&dyn Drill] = &[
    &kill_instance::KillInstance,
    &hang_instance::HangInstance,
    &slow_instance::SlowInstance,
    &crash_loop::CrashLoop,
    &bad_deploy::BadDeploy,
    &slow_dependency::SlowDependency,
    &kill_node_process::KillNodeProcess,
    &kill_edge::KillEdge,
    &kill_guard::KillGuard,
    &reboot::Reboot,
    &full_disk::FullDisk,
    &clock_step::ClockStep,
    &traffic_spike::TrafficSpike,
    &capacity::CapacityDrill,
];

/// The drill of that name.
pub fn find(name: &str) -> Option<&'static dyn Drill> {
    ALL.iter().copied().find(|drill| drill.name() == name)
}

/// A time as people read it: milliseconds below a second, else seconds rounded to one decimal.
pub fn in_words(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", tenths / 10, tenths % 10) }
}
