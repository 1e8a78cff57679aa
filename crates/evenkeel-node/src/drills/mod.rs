//! Runs of drills, as they lie in the state directory: read for those who ask, and started for those who may.
//!
//! ```text
//! drills/schedule.json          when scheduled drills were started or refused last
//! drills/1763689526123-kill-instance/
//!     plan.json                 what was going to happen
//!     progress.jsonl            stages and ticks, a line each, while it goes on; locked (flock(2)) until it ends
//!     events.json               entries of the journal around it
//!     report.json, report.html, junit.xml   how it ended; missing where it came to no verdict
//! ```
//!
//! A drill is carried out by a process of its own, which outlives this one: the drill may be about this one. So nothing
//! of a run is kept in memory only, and what is read may be half written or of another version: it is left out.

mod kept;
mod proofs;
mod read;
mod run;
mod start;

use std::path::{Path, PathBuf};

pub use self::read::{Details, details, ids, summaries};
pub(crate) use self::{
    kept::Runs,
    proofs::Proofs,
    read::{details_among, report_page},
    run::{Outcome, Run},
    start::{NotStarted, Order, reserve, start},
};

/// The folder of all runs below a state directory.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("drills")
}

/// Where it is kept when scheduled drills were started last.
pub(crate) fn schedule_file(state_dir: &Path) -> PathBuf {
    folder(state_dir).join("schedule.json")
}

/// How many runs are kept.
pub const KEPT_RUNS: usize = 200;
