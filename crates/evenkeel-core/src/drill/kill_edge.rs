//! `kill-edge`: the edge dies at once, as by a crash or the kernel's out-of-memory killer.
//!
//! It owns no state. The guard holds the listeners, so whoever connects meanwhile waits for the next edge instead of
//! being refused. The connections that the edge had accepted die with it: no program can go on with them, and clients
//! repeat what was under way there. So one request for each of these is counted apart, and nothing else.

use super::{Drill, Fault, Ground, Plan, Refusal, Signs, Target, Unavoidable, Wish, signs};
use crate::status::Status;

/// See the module.
pub(super) struct KillEdge;

impl Drill for KillEdge {
    fn name(&self) -> &'static str {
        "kill-edge"
    }

    fn summary(&self) -> &'static str {
        "kills the edge with SIGKILL while test visitors read and write: nobody may be refused, and another must serve"
    }

    fn usual_s(&self) -> (u64, u64) {
        (2, 4)
    }

    fn target(&self) -> Target {
        Target::Edge
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Kill)
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec!["the guard keeps the listeners open, so connections made meanwhile wait for the next edge".to_owned()]
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        signs::of_process(plan, status, status.edge.as_ref().map(|edge| edge.pid))
    }

    fn unavoidable(&self) -> Unavoidable {
        Unavoidable::OpenConnections
    }
}
