//! `capacity`: how many requests a second the service bears within its objective, and how many with one instance gone.
//!
//! It owns no state. Nothing breaks here: the harm is more and more requests, for a second at a time, and the drain of
//! one instance. What is found is compared with what users ask now: a service passes if it bears that, with one
//! instance gone, within its objective.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Wish, signs};
use crate::status::Status;

/// How long each step lasts unless the user says otherwise.
const STEP_MS: u64 = 1000;
/// What 99 of 100 requests may take where the stack declares nothing.
const P99_MS: u64 = 250;

/// See the module.
pub(super) struct CapacityDrill;

impl Drill for CapacityDrill {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn summary(&self) -> &'static str {
        "finds the highest rate that meets the objective, with all instances and with one gone, and the headroom"
    }

    fn usual_s(&self) -> (u64, u64) {
        (20, 60)
    }

    fn target(&self) -> Target {
        Target::Service
    }

    fn fault(&self, ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Ramp { step_ms: wish.for_ms.unwrap_or(STEP_MS), p99_ms: objective(ground).0 })
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let (_, whose) = objective(ground);
        vec![
            format!("how long requests may take is {whose}"),
            "users of the service share what is measured: around the highest rate they wait for a second or two, and \
             some may see errors"
                .to_owned(),
            "test visitors run on this machine and take from its processors, so the service may bear more than is found"
                .to_owned(),
            "one instance is drained for the second half, and has requests again afterwards".to_owned(),
        ]
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        let Some(service) = signs::service_of(plan, status) else { return Signs::default() };
        let drained = service.instances.iter().find(|instance| instance.drained.is_some());
        Signs {
            detected: drained.map(|instance| format!("{} gets no new requests", instance.name)),
            replaced: None,
            recovered: signs::all_healthy(service).filter(|_| released && drained.is_none()),
        }
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        match &observed.capacity {
            Some(capacity) => capacity.conditions(),
            None => vec![Err("it did not come to its end, so nothing is known of what the service bears".to_owned())],
        }
    }
}

/// What 99 of 100 requests may take, and who says so.
fn objective(ground: &Ground<'_>) -> (u64, String) {
    let Ground { stack, service, .. } = ground;
    if let Some(p99) = stack.drills.objectives.p99 {
        return (p99.as_ms(), "that of `[drills] objectives`".to_owned());
    }
    match stack.objectives.get(*service).and_then(|objective| objective.p99) {
        Some(p99) => (p99.as_ms(), format!("that of `[objectives.{service}]`")),
        None => {
            (P99_MS, "what a drill takes where neither `[drills] objectives` nor `[objectives]` has a `p99`".to_owned())
        }
    }
}
