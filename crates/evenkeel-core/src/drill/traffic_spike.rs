//! `traffic-spike`: from one moment to the next several times as many clients ask as before, and leave again.
//!
//! It owns no state. Each client waits for its answer before it asks again, as people do, so that a service that
//! answers slowly is asked less; how much was really asked is part of the verdict, since a spike that never came about
//! shows nothing.

use super::{
    Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Tick, Wish, series::TICK_MS, signs,
};
use crate::status::{Health, Status};

/// How many times as many requests as before.
const FACTOR: u32 = 5;
/// Less than this many percent of the rate before is no spike.
const LEAST_PERCENT: u64 = 150;

/// See the module.
pub(super) struct TrafficSpike;

impl Drill for TrafficSpike {
    fn name(&self) -> &'static str {
        "traffic-spike"
    }

    fn summary(&self) -> &'static str {
        "sends five times as many requests as before for a while, none of which may fail"
    }

    fn usual_s(&self) -> (u64, u64) {
        (6, 12)
    }

    fn target(&self) -> Target {
        Target::Service
    }

    fn fault(&self, _ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Spike { for_ms: wish.lasts_ms(), factor: FACTOR })
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let p99 = ground.stack.drills.objectives.p99.or(ground.stack.drills.objectives.worst);
        let unbounded =
            "requests may take as long as they like, since `[drills] objectives` has neither `p99` nor `worst`";
        p99.is_none().then(|| unbounded.to_owned()).into_iter().collect()
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        let Some(service) = signs::service_of(plan, status) else { return Signs::default() };
        let ill = service.instances.iter().find(|instance| instance.health != Health::Healthy);
        // Beside these, whoever sends the spike tells when the edge has counted it.
        let detected = if service.holding > 0 {
            Some(format!("{} requests are held until an instance has room", service.holding))
        } else {
            ill.map(|ill| format!("{} is {}", ill.name, ill.health))
        };
        let quiet = released && service.holding == 0;
        Signs { detected, replaced: None, recovered: signs::all_healthy(service).filter(|_| quiet) }
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let until = observed.released_at_ms.unwrap_or(u64::MAX);
        let series = &observed.traffic.series;
        let before = rate(series, 0, observed.fault_at_ms);
        let during = rate(series, observed.fault_at_ms, until);
        vec![if before > 0 && during * 100 >= before * LEAST_PERCENT {
            Ok(format!("test visitors had {during} answers a second meanwhile, and {before} before"))
        } else {
            Err(format!(
                "test visitors had {during} answers a second meanwhile, and {before} before: the service or this machine can \
                 do no more, so no spike came about"
            ))
        }]
    }
}

/// Requests a second that ended in whole ticks between both times.
fn rate(series: &[Tick], from_ms: u64, to_ms: u64) -> u64 {
    let within = series.iter().filter(|tick| tick.at_ms >= from_ms && tick.at_ms.saturating_add(TICK_MS) <= to_ms);
    let (requests, ticks) = within.fold((0, 0), |(requests, ticks), tick| (requests + tick.requests, ticks + 1));
    if ticks == 0 { 0 } else { requests * 1000 / (ticks * TICK_MS) }
}
