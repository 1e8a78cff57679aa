//! What `status`, `why` and the history say of deploys.

use evenkeel_core::{deploy::DeployStatus, time::WallTime};
use serde::Serialize;

use super::super::{Node, NotOrdered};

/// The deploys and releases of one service.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct History {
    pub(crate) service: String,
    /// The release in force; 0 is what the stack file says.
    pub(crate) release: u64,
    /// Oldest first; the last one may be under way.
    pub(crate) deploys: Vec<DeployStatus>,
    /// What a rollback that names none puts in force.
    pub(crate) former: Option<u64>,
    /// What can be rolled back to, oldest first.
    pub(crate) releases: Vec<Kept>,
}

/// A release that is kept.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    /// SHA-256 of its artefact; empty without one.
    pub(crate) digest: String,
    pub(crate) files: u64,
    pub(crate) size_bytes: u64,
    /// When it was first deployed.
    pub(crate) deployed: WallTime,
    /// The command, where the deploy named one.
    pub(crate) run: Option<Vec<String>>,
    /// Names of the variables that it sets.
    pub(crate) env: Vec<String>,
    /// What speaks against it, as a clause: it failed, or was rolled back.
    pub(crate) fault: Option<String>,
}

impl Node {
    /// The deploy under way.
    pub(in crate::node) fn deploy_status(&self, service: &str) -> Option<DeployStatus> {
        let control = self.deploying.running.get(service)?;
        let held = control.held().map(str::to_owned);
        let status = DeployStatus::of(control.deploy(), control.waiting());
        let message = status.message + &self.pause_over_deploy(service);
        Some(DeployStatus { held, message, ..status })
    }

    /// What a pause means for the deploy under way: without this it would seem to hang.
    fn pause_over_deploy(&self, service: &str) -> String {
        let Some(pause) = self.pause_until(service) else { return String::new() };
        let effect = if self.pauses.holds_rollout(service) {
            "a pause holds it"
        } else {
            "during a pause an instance that fails is neither killed nor started again"
        };
        format!("; {effect}: {pause}")
    }

    /// Whether a name is that of the step before the deploys of a service.
    pub(in crate::node) fn is_before(&self, subject: &str) -> bool {
        subject.strip_suffix("/before").is_some_and(|service| self.revision.stack.services.contains_key(service))
    }

    pub(super) fn deploy_history(&self, service: &str) -> Result<History, NotOrdered> {
        self.run_service(service, "deployed")?;
        let past = self.deploying.kept.get(service).map_or(&[][..], |deploys| &deploys.all);
        let mut deploys: Vec<DeployStatus> = past.iter().map(|deploy| DeployStatus::of(deploy, None)).collect();
        if let (Some(running), Some(last)) = (self.deploy_status(service), deploys.last_mut()) {
            *last = running;
        }
        let in_force = self.revision.overrides.release(service).map_or(0, |release| release.number);
        let releases = self.dir.releases(service).into_iter().filter_map(|mut stored| {
            stored.judge(past);
            let release = stored.release?;
            Some(Kept {
                number: stored.number,
                digest: release.digest,
                files: stored.files,
                size_bytes: stored.size_bytes,
                deployed: release.deployed,
                run: release.run,
                env: release.env.into_keys().collect(),
                fault: stored.fault,
            })
        });
        Ok(History {
            service: service.to_owned(),
            release: in_force,
            former: self.former_release(service, in_force),
            deploys,
            releases: releases.collect(),
        })
    }
}
