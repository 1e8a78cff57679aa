//! `kill-node-process`: the control plane dies at once and is started again by the guard.
//!
//! It owns no state. No client may notice anything at all: the edge serves on from the last snapshot, and the next node
//! process finds every instance as it was, so that none is started again for this.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Wish, signs};
use crate::status::Status;

/// See the module.
pub(super) struct KillNodeProcess;

impl Drill for KillNodeProcess {
    fn name(&self) -> &'static str {
        "kill-node-process"
    }

    fn summary(&self) -> &'static str {
        "kills the node process with SIGKILL while test visitors read and write: no request and no instance may notice"
    }

    fn usual_s(&self) -> (u64, u64) {
        (2, 4)
    }

    fn target(&self) -> Target {
        Target::Node
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Kill)
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec!["meanwhile the edge serves what it was told last".to_owned()]
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        signs::of_process(plan, status, Some(status.node.pid))
    }

    fn silences_the_stack(&self) -> bool {
        true
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        signs::same_instances(observed).into_iter().collect()
    }
}
