//! `clock-step`: the node process comes back with clocks that show another time, and later with the right ones.
//!
//! It owns no state. The clocks are those by which keel measures durations (`CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`), in a
//! time namespace (`time_namespaces(7)`), so that nothing else on the machine sees them. No instance may be taken for
//! older or younger than it is and be started again, no deadline may come early or never, and no request may be lost.

use super::{Condition, Drill, Fault, Ground, NOTHING_SHOWN, Observed, Plan, Refusal, Signs, Target, Wish, signs};
use crate::status::Status;

/// By how much the clocks are ahead: far more than any bound or back-off of supervision.
const BY_MS: i64 = 7_200_000;

/// See the module.
pub(super) struct ClockStep;

impl Drill for ClockStep {
    fn name(&self) -> &'static str {
        "clock-step"
    }

    fn summary(&self) -> &'static str {
        "restarts the node process with clocks two hours ahead and back again: no timer, instance or request may suffer"
    }

    fn usual_s(&self) -> (u64, u64) {
        (6, 10)
    }

    fn target(&self) -> Target {
        Target::Node
    }

    fn fault(&self, _ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::ClockStep { by_ms: BY_MS, for_ms: wish.lasts_ms() })
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec![
            "the clocks that measure durations are shifted, in a time namespace that holds the node process alone; \
             edge, instances and the rest of the machine keep theirs"
                .to_owned(),
            "the clock of the day cannot be shifted for one process, so it stays as it is".to_owned(),
        ]
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        let mut signs = signs::of_process(plan, status, Some(status.node.pid));
        signs.recovered = signs.recovered.filter(|_| released);
        signs
    }

    fn silences_the_stack(&self) -> bool {
        true
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let shifted = observed.stages.iter().any(|stage| stage.name == signs::SHIFTED);
        let mut conditions = vec![if shifted {
            Ok("the node process ran with the other clocks".to_owned())
        } else {
            Err(format!("the node process never ran with the other clocks, so {NOTHING_SHOWN}"))
        }];
        conditions.extend(signs::same_instances(observed));
        conditions
    }
}
