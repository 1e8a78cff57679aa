//! `hang-instance`: an instance stops answering but keeps its connections, as in a deadlock or on a dead disk.
//!
//! It owns no state. The kernel goes on accepting connections for a frozen process, so nothing is refused and
//! nothing is reset: only silence shows it. Recovery counts from the freeze, either through a new process (where
//! the service has `liveness`) or after the freeze is taken back. It never passes by luck: an edge that merely
//! sent nothing to the frozen instance has detected nothing.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Wish, in_words, signs};
use crate::status::Status;

/// See the module.
pub(super) struct HangInstance;

impl Drill for HangInstance {
    fn name(&self) -> &'static str {
        "hang-instance"
    }

    fn summary(&self) -> &'static str {
        "freezes one instance with SIGSTOP while test visitors read and write, and waits until all are healthy again"
    }

    fn usual_s(&self) -> (u64, u64) {
        (4, 6)
    }

    fn target(&self) -> Target {
        Target::Instance
    }

    fn fault(&self, _ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Freeze { for_ms: wish.lasts_ms() })
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec![
            "the process is stopped by SIGSTOP, which keel also sees from the operating system; a program that hangs while \
             it goes on running shows only by the answers that are missing (by what its traffic shows, or by `liveness`), \
             and that may take longer"
                .to_owned(),
        ]
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        signs::of_instance(plan, status, |seen| released || seen.generation > plan.subject.generation)
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let frozen_for = observed.released_at_ms.map(|at| at.saturating_sub(observed.fault_at_ms));
        let before_release = match (observed.detected_at_ms, observed.released_at_ms) {
            (Some(detected), Some(released)) => detected <= released,
            (detected, _) => detected.is_some(),
        };
        vec![if before_release {
            Ok("the frozen instance was noticed while it was frozen".to_owned())
        } else {
            let how_long = frozen_for.map_or_else(String::new, |ms| format!(" in {}", in_words(ms)));
            Err(format!("the frozen instance was not noticed{how_long}: requests were still meant for it"))
        }]
    }
}
