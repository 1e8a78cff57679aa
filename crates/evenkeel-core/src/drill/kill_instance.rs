//! `kill-instance`: the process of an instance dies at once, as by the kernel's out-of-memory killer or a crash.
//!
//! It owns no state. It never harms more than the one process: what its supervisor does about the rest of the
//! instance is part of what is rehearsed. The instance can only be well again as a new process.

use super::{Drill, Fault, Ground, Plan, Refusal, Signs, Subject, Target, Wish, signs};
use crate::status::Status;

/// See the module.
pub(super) struct KillInstance;

impl Drill for KillInstance {
    fn name(&self) -> &'static str {
        "kill-instance"
    }

    fn summary(&self) -> &'static str {
        "kills one instance with SIGKILL while test visitors read and write, and waits until all are healthy again"
    }

    fn usual_s(&self) -> (u64, u64) {
        (2, 4)
    }

    fn target(&self) -> Target {
        Target::Instance
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Kill)
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        let Subject { generation, pid, .. } = &plan.subject;
        signs::of_instance(plan, status, |seen| seen.generation > *generation && seen.pid.is_some() && seen.pid != *pid)
    }

    // A killed process is noticed by whoever replaces it, so recovery within its bound says it all.
}
