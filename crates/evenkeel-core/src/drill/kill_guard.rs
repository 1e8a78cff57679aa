//! `kill-guard`: the parent of everything dies at once, and the node process and the edge die with it.
//!
//! It owns no state. Instances must go on and be adopted by the next guard, and whoever watches over `keel up` (a
//! service manager, or `keel demo`) must start it again and keep the listening sockets meanwhile, so that nobody is
//! refused. The connections that the edge had accepted die with it, as in `kill-edge`. Where nobody starts `keel up`
//! again, the drill does it in the end, and fails.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Unavoidable, Wish, signs};
use crate::status::Status;

/// See the module.
pub(super) struct KillGuard;

impl Drill for KillGuard {
    fn name(&self) -> &'static str {
        "kill-guard"
    }

    fn summary(&self) -> &'static str {
        "kills `keel up` itself with SIGKILL while test visitors read and write: instances must go on, and it must come back"
    }

    fn usual_s(&self) -> (u64, u64) {
        (3, 6)
    }

    fn target(&self) -> Target {
        Target::Guard
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Kill)
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec![
            "the node process and the edge die with their guard; instances go on and are adopted by the next one"
                .to_owned(),
            "whatever watches over `keel up` must start it again, as a service manager or `keel demo` does; where \
             nothing does, this drill starts it in the end, in the background, and fails"
                .to_owned(),
        ]
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        signs::of_process(plan, status, Some(status.guard.pid))
    }

    fn silences_the_stack(&self) -> bool {
        true
    }

    fn unavoidable(&self) -> Unavoidable {
        Unavoidable::OpenConnections
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let mut conditions = vec![signs::came_back_by_itself(observed)];
        conditions.extend(signs::same_instances(observed));
        conditions
    }
}
