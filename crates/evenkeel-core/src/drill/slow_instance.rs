//! `slow-instance`: an instance answers, but late, as one that swaps, collects garbage or shares a busy disk.
//!
//! It owns no state. The instance stands still and runs by turns: long enough each time that a client would notice,
//! too short for most checks. Only what looks at the traffic itself sees that. It never passes by luck: where the slow
//! instance was never noticed, requests went on being sent to it, whatever the clients of this run made of that.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Wish, in_words, signs};
use crate::status::Status;

/// How long the instance stands still each time.
pub(super) const STOPPED_MS: u64 = 400;
/// How long it runs in between.
pub(super) const RUNNING_MS: u64 = 200;

/// See the module.
pub(super) struct SlowInstance;

impl Drill for SlowInstance {
    fn name(&self) -> &'static str {
        "slow-instance"
    }

    fn summary(&self) -> &'static str {
        "makes one instance answer late, by SIGSTOP and SIGCONT by turns, while test visitors read and write"
    }

    fn usual_s(&self) -> (u64, u64) {
        (5, 7)
    }

    fn target(&self) -> Target {
        Target::Instance
    }

    fn fault(&self, ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        let service = ground.status.services.iter().find(|service| service.name == ground.service);
        if service.is_none_or(|service| service.instances.len() < 2) {
            return Err(Refusal::NotHere(format!(
                "`{}` has one instance: where that is slow nobody else can answer, so there is nothing to rehearse",
                ground.service
            )));
        }
        Ok(Fault::Stutter { for_ms: wish.lasts_ms(), stopped_ms: STOPPED_MS, running_ms: RUNNING_MS })
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        signs::of_instance(plan, status, |seen| released || seen.generation > plan.subject.generation)
    }

    fn judge_more(&self, plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let name = &plan.subject.name;
        let slow_for = observed.released_at_ms.map(|at| at.saturating_sub(observed.fault_at_ms));
        let in_time = match (observed.detected_at_ms, observed.released_at_ms) {
            (Some(detected), Some(released)) => detected <= released,
            (detected, _) => detected.is_some(),
        };
        vec![if in_time {
            Ok(format!("{name} was noticed while it was slow"))
        } else {
            let how_long = slow_for.map_or_else(String::new, |ms| format!(" in {}", in_words(ms)));
            Err(format!(
                "the slow {name} was not noticed{how_long}: it got requests as before, and each waited for up to {}",
                in_words(STOPPED_MS)
            ))
        }]
    }
}
