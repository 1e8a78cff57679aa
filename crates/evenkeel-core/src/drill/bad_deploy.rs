//! `bad-deploy`: a release is deployed that passes its checks and answers every request with an error.
//!
//! It owns no state. The subject's generation is the release in force before. Well again is the service only once the
//! deploy is over, that release is in force and every instance is healthy, without anybody's order: whoever carries the
//! drill out takes the release back himself only when the watching is over.

use super::{Condition, Drill, Fault, Ground, NOTHING_SHOWN, Observed, Plan, Refusal, Signs, Target, Wish, signs};
use crate::status::Status;

/// How a plan says that its release will never be asked anything.
pub const WILL_NOT_PASS: &str = "the release will not pass this kind of check";

/// The stage in which the release has been asked something.
pub const TRIED: &str = "tried";

/// See the module.
pub(super) struct BadDeploy;

impl Drill for BadDeploy {
    fn name(&self) -> &'static str {
        "bad-deploy"
    }

    fn summary(&self) -> &'static str {
        "deploys a release that answers its checks and fails every request, and waits until it is rolled back by itself"
    }

    fn usual_s(&self) -> (u64, u64) {
        (4, 10)
    }

    fn target(&self) -> Target {
        Target::Service
    }

    fn fault(&self, ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        let Some(service) = ground.stack.services.get(ground.service) else {
            return Err(Refusal::NothingToHarm(ground.service.to_owned()));
        };
        if service.files.is_some() {
            let why = format!("`{}` serves files and runs no command, so no release of it can fail", ground.service);
            return Err(Refusal::NotHere(why));
        }
        let status = ground.status.services.iter().find(|service| service.name == ground.service);
        if let Some(deploy) = status.and_then(|service| service.deploy.as_ref()) {
            return Err(Refusal::NotWell { service: ground.service.to_owned(), why: vec![deploy.message.clone()] });
        }
        Ok(Fault::BadRelease)
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(service) = ground.stack.services.get(ground.service) else { return notes };
        if service.before.is_some() {
            notes.push("`before` runs as in every deploy, with the command of this file".to_owned());
        }
        if let Some(check) = &service.check
            && check.http.is_none()
            && !check.tcp
        {
            notes.push(format!("{WILL_NOT_PASS}, so it never gets a request"));
        }
        notes
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        let Some(service) = signs::service_of(plan, status) else { return Signs::default() };
        let former = service.release.unwrap_or(0) == plan.subject.generation;
        let over = service.deploy.is_none() && former;
        let back = service.deploy.as_ref().filter(|deploy| deploy.phase == "rolling-back");
        let back = back.map(|deploy| deploy.message.clone());
        Signs {
            detected: back
                .or_else(|| over.then(|| "the deploy is over, and the former release is in force".to_owned())),
            replaced: None,
            recovered: signs::all_healthy(service).filter(|_| over),
        }
    }

    fn judge_more(&self, plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let service = &plan.subject.service;
        let tried = observed.stages.iter().any(|stage| stage.name == TRIED);
        vec![match (observed.recovered_at_ms, observed.detected_at_ms) {
            (Some(_), _) if !tried => Err(format!(
                "{NOTHING_SHOWN}: the release is gone, but no request ever reached it, so nobody knows what {service} \
                 does with one that fails every request"
            )),
            (Some(_), _) => Ok(format!("the release was rolled back by itself, and {service} runs the former one")),
            (None, Some(_)) => Err("the release was being rolled back by itself, but not in time".to_owned()),
            (None, None) => {
                Err(format!("nobody rolled the release back: {service} was to run what fails every request"))
            }
        }]
    }
}
