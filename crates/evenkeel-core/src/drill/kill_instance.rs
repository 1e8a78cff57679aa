//! `kill-instance`: the process of an instance dies at once, as by the kernel's out-of-memory killer or a crash.
//!
//! It owns no state. It never harms more than the one process: what its supervisor does about the rest of the
//! instance is part of what is rehearsed. The instance can only be well again as a new process.

use super::{Drill, Fault, Observed, Seen, Subject};

/// See the module.
pub(super) struct KillInstance;

impl Drill for KillInstance {
    fn name(&self) -> &'static str {
        "kill-instance"
    }

    fn summary(&self) -> &'static str {
        "kills one instance with SIGKILL while clients read and write, and waits until all are healthy again"
    }

    fn usual_s(&self) -> (u64, u64) {
        (2, 4)
    }

    fn fault(&self, _for_ms: u64) -> Fault {
        Fault::Kill
    }

    fn is_over(&self, subject: &Subject, seen: &Seen, _released: bool) -> bool {
        seen.generation > subject.generation && seen.pid.is_some_and(|pid| pid != subject.pid)
    }

    fn judge_more(&self, _observed: &Observed) -> Vec<Result<String, String>> {
        // A killed process is noticed by whoever replaces it, so recovery within its bound says it all.
        Vec::new()
    }
}
