//! `slow-dependency`: a service that others ask answers late, as a database at its limit or a provider in trouble.
//!
//! It owns no state. What `[drills] dependency` names stands still and runs by turns, all of its instances at once.
//! The clients of the service that asks it may wait, and must not see errors; and nobody may restart that service's
//! instances for something that is not their fault, since then a slow dependency becomes an outage.

use super::{Condition, Drill, Fault, Ground, NOTHING_SHOWN, Observed, Plan, Refusal, Signs, Target, Wish, signs};
use crate::status::{Health, ServiceStatus, Status};

/// How long its instances stand still each time.
const STOPPED_MS: u64 = 900;
/// How long they run in between.
const RUNNING_MS: u64 = 100;

/// The stage of a watched instance that has another process.
pub const RESTARTED: &str = "restarted";

/// The stage in which somebody asks what is slow.
pub const ASKED: &str = "asked";
/// Clients that wait so much longer than before show it, too, where the dependency is not asked through the edge.
const WAITED_MS: u64 = 300;

/// See the module.
pub(super) struct SlowDependency;

impl Drill for SlowDependency {
    fn name(&self) -> &'static str {
        "slow-dependency"
    }

    fn summary(&self) -> &'static str {
        "makes a service that the other one asks answer late, while clients of the other one read and write"
    }

    fn usual_s(&self) -> (u64, u64) {
        (5, 8)
    }

    fn target(&self) -> Target {
        Target::Service
    }

    fn fault(&self, ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        let Some(name) = &ground.stack.drills.dependency else {
            let why = "the stack names no service that others depend on; name one with `dependency` in [drills]";
            return Err(Refusal::NotHere(why.to_owned()));
        };
        if name == ground.service {
            return Err(Refusal::NotHere(format!(
                "`{name}` is the dependency itself; choose with --service whose clients are watched"
            )));
        }
        if ground.stack.services.get(name).is_none_or(|service| !service.is_run()) {
            return Err(Refusal::NothingToHarm(name.clone()));
        }
        let why: Vec<String> = match dependency(ground.status, name) {
            None => vec![format!("{name} is not there")],
            Some(service) => {
                let ill = service.instances.iter().filter(|instance| instance.health != Health::Healthy);
                ill.map(|instance| format!("{} is {}", instance.name, instance.health)).collect()
            }
        };
        if !why.is_empty() {
            return Err(Refusal::NotWell { service: name.clone(), why });
        }
        Ok(Fault::SlowDependency {
            service: name.clone(),
            for_ms: wish.lasts_ms(),
            stopped_ms: STOPPED_MS,
            running_ms: RUNNING_MS,
        })
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let Some(name) = &ground.stack.drills.dependency else { return Vec::new() };
        vec![format!(
            "visitors of {} may wait for {name}; how long is bounded only by `worst` and `p99` of `[drills] objectives`",
            ground.service
        )]
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        let Fault::SlowDependency { service: name, .. } = &plan.fault else { return Signs::default() };
        let Some(service) = dependency(status, name) else { return Signs::default() };
        let ill = service.instances.iter().find(|instance| instance.health != Health::Healthy);
        let detected = ill.map(|instance| match instance.reason.as_str() {
            "" => format!("{} is {}", instance.name, instance.health),
            reason => format!("{} is {}: {reason}", instance.name, instance.health),
        });
        let well = released && signs::all_healthy(service).is_some();
        Signs {
            detected,
            replaced: None,
            recovered: signs::service_of(plan, status).filter(|_| well).and_then(signs::all_healthy),
        }
    }

    fn judge_more(&self, plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let service = &plan.subject.service;
        let traffic = &observed.traffic;
        let waited = traffic.worst_ms >= traffic.worst_before_ms + WAITED_MS;
        let asked = observed.stages.iter().any(|stage| stage.name == ASKED);
        let met = if waited || asked {
            Ok("what was slow was asked meanwhile".to_owned())
        } else {
            Err(format!(
                "{NOTHING_SHOWN}: nobody asked the dependency while it was slow, and no client of {service} waited; \
                 set `read` of [drills] to a path that needs it"
            ))
        };
        vec![
            met,
            match observed.stages.iter().find(|stage| stage.name == RESTARTED) {
                None => Ok(format!("no instance of {service} was restarted for what was not its fault")),
                Some(stage) => {
                    Err(format!("an instance was restarted although only its dependency was slow: {}", stage.detail))
                }
            },
        ]
    }
}

fn dependency<'s>(status: &'s Status, name: &str) -> Option<&'s ServiceStatus> {
    status.services.iter().find(|service| service.name == name)
}
