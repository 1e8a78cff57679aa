//! How a change ends: whether the stack becomes what was applied or ordered, seen from outside by its status.
//!
//! The node process carries a revision out at its own pace and never undoes it; here is only watched. An instance
//! of the revision that ended twice without having got healthy, or that gave up, ends the watch: what it does next
//! may take long, and nobody should have to wait for that. Nothing is changed here.

use std::time::{Duration, Instant};

use evenkeel_core::{
    status::{Basis, Health, InstanceStatus, Phase, ServiceStatus, Status},
    why,
};
use serde::Serialize;

use crate::{api::Api, failure::Failure, progress::Progress, style::harmless};

/// How often is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(100);

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Every service has all its instances, healthy and as the revision wants them.
    Done,
    /// An instance does not get ready; what served before goes on.
    Stuck {
        /// The instance.
        instance: String,
        /// How its process ended.
        last_exit: String,
        /// What it said last.
        last_output: Vec<String>,
    },
    /// A service has no instance, since its name has no address.
    Nameless {
        /// Which.
        service: String,
        /// What the resolver said, in words.
        cause: String,
    },
    /// A changed check fails everywhere, so it is not believed; what served before goes on.
    Unbelieved {
        /// Whose check.
        service: String,
        /// What it saw, in words.
        saw: String,
    },
    /// The time is over, and it still goes on.
    Unfinished {
        /// How far it is.
        progress: String,
    },
    /// Another revision was applied meanwhile.
    Replaced {
        /// That one.
        by: u64,
    },
    /// Nobody waited.
    NotAwaited,
}

impl Outcome {
    /// Whether nothing went wrong.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, Self::Done | Self::NotAwaited)
    }
}

/// What was applied or ordered.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The revision.
    pub(super) revision: u64,
    /// Whether it was in force before: then what its instances went through earlier counts for nothing.
    pub(super) was_in_force: bool,
    /// The only service that matters; `None`: all of them.
    pub(super) service: Option<String>,
    /// Processes that must be gone, as `shop/1#4`, in a restart. Then another revision does not matter.
    pub(super) replaced: Vec<String>,
    /// Instances that stay in a restart.
    pub(super) kept: Vec<String>,
}

impl Wanted {
    fn concerns(&self, service: &ServiceStatus) -> bool {
        self.service.as_ref().is_none_or(|name| *name == service.name)
    }

    /// Whether this process is there because of what was applied or ordered.
    fn is_new(&self, instance: &InstanceStatus) -> bool {
        if self.replaced.is_empty() {
            return instance.revision == Some(self.revision) && !self.was_in_force;
        }
        !self.kept.contains(&instance.name) && !self.replaced.contains(&key(instance))
    }
}

/// As the node process names one process: `shop/1#4`.
fn key(instance: &InstanceStatus) -> String {
    format!("{}#{}", instance.name, instance.generation)
}

/// Watches until it has ended or `wait` is over. Shows how far it is on a terminal.
pub(super) async fn watch(api: &Api, wanted: &Wanted, wait: Duration) -> Result<Outcome, Failure> {
    let live = Progress::new();
    let deadline = Instant::now() + wait;
    loop {
        let asked = api.status_now().await;
        if let Some(outcome) = asked.as_ref().ok().and_then(|status| judge(status, wanted)) {
            return Ok(outcome);
        }
        if let Ok(status) = &asked {
            live.say(progress(status, wanted));
        }
        if let Some(end) = api.end() {
            return Err(end);
        }
        if Instant::now() >= deadline {
            let late = |status: Status| {
                let unbelieved = status.services.iter().filter(|one| wanted.concerns(one)).find_map(unbelieved);
                unbelieved.unwrap_or_else(|| Outcome::Unfinished { progress: progress(&status, wanted) })
            };
            return asked.map(late).map_err(|error| api.unreachable(&error));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// How it ended; `None` while it goes on.
fn judge(status: &Status, wanted: &Wanted) -> Option<Outcome> {
    if status.revision != wanted.revision && wanted.replaced.is_empty() {
        return Some(Outcome::Replaced { by: status.revision });
    }
    let services = || status.services.iter().filter(|service| wanted.concerns(service));
    let broken = services().find_map(|service| {
        service.instances.iter().find(|instance| is_broken(instance, service.rollout.is_none(), wanted))
    });
    if let Some(instance) = broken {
        return Some(Outcome::Stuck {
            instance: instance.name.clone(),
            last_exit: instance.last_exit.clone().unwrap_or_else(|| "it never started".to_owned()),
            last_output: instance.last_output.clone(),
        });
    }
    // An edge that has not reported yet may have more to say than that it applied the snapshot.
    let served = status.edge.as_ref().is_some_and(|edge| {
        edge.applied >= edge.snapshot && edge.reported.is_some_and(|version| version >= edge.snapshot)
    });
    // While one has yet to fail often enough, or a new one may still come, somebody may pass the check.
    let decided = |service: &&ServiceStatus| {
        service.rollout.is_none() && service.instances.iter().all(|instance| instance.basis != Basis::Former)
    };
    if let Some(outcome) = services().filter(|_| served).filter(decided).find_map(unbelieved) {
        return Some(outcome);
    }
    // A name that has answered before keeps its instances; one that is asked for the first time takes a moment.
    let unnamed = |service: &&ServiceStatus| service.dns.as_ref().is_some_and(|dns| dns.addresses == 0);
    let nameless = |service: &ServiceStatus| {
        service.dns.as_ref()?.failing.as_ref()?;
        Some(Outcome::Nameless { service: service.name.clone(), cause: why::cause(service)? })
    };
    if let Some(outcome) = services().filter(unnamed).find_map(nameless) {
        return Some(outcome);
    }
    let whole = |service: &ServiceStatus| {
        if unnamed(&service) {
            return false;
        }
        // What an operator drains holds its place, and more than are wanted are still being stopped.
        let drained = service.instances.iter().filter(|instance| instance.drained.is_some()).count();
        let ready = service.healthy + u32::try_from(drained).unwrap_or(u32::MAX);
        let former = service.instances.iter().any(|instance| wanted.replaced.contains(&key(instance)));
        let checked = service.instances.iter().all(|instance| instance.basis.is_check());
        service.rollout.is_none() && ready >= service.replicas && checked && !former
    };
    (served && services().all(whole)).then_some(Outcome::Done)
}

/// That instances of this service are kept healthy against a check that nobody has passed.
fn unbelieved(service: &ServiceStatus) -> Option<Outcome> {
    let saw = why::unproven(service)?;
    Some(Outcome::Unbelieved { service: service.name.clone(), saw })
}

/// Whether an instance stands in the way. One of a former revision does so only where it is to stay.
fn is_broken(instance: &InstanceStatus, stays: bool, wanted: &Wanted) -> bool {
    let is_new = wanted.is_new(instance);
    let gave_up = instance.phase == Some(Phase::GaveUp);
    // The first exit is answered by a start at once, which counts as a restart; a second one is no accident.
    let ended_twice = instance.restarts > 1 || instance.restarts == 1 && instance.phase == Some(Phase::Waiting);
    let fails = is_new && ended_twice && instance.health != Health::Healthy;
    let of_revision = instance.revision == Some(wanted.revision);
    gave_up && (is_new || stays || of_revision) || fails
}

/// How far it is, in one line.
fn progress(status: &Status, wanted: &Wanted) -> String {
    let each = status.services.iter().filter(|service| wanted.concerns(service)).map(|service| {
        let rollout = service.rollout.as_ref().map(|waiting| format!(" ({})", harmless(waiting)));
        let ServiceStatus { name, healthy, replicas, .. } = service;
        let unchecked = service.instances.iter().filter(|instance| !instance.basis.is_check()).count();
        let unchecked = (unchecked > 0).then(|| format!(" ({unchecked} have not passed the changed check yet)"));
        format!("{name} {healthy} of {replicas} healthy{}", rollout.or(unchecked).unwrap_or_default())
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        health::KEPT,
        status::{DnsStatus, EdgeStatus, ProcessStatus},
        time::WallTime,
    };

    use super::*;

    const WANTED: &Wanted =
        &Wanted { revision: 2, was_in_force: false, service: None, replaced: Vec::new(), kept: Vec::new() };

    fn instance(number: u32, revision: u64, health: Health) -> InstanceStatus {
        InstanceStatus {
            name: format!("app/{number}"),
            generation: 1,
            revision: Some(revision),
            pid: Some(number),
            health,
            phase: Some(if health == Health::Healthy { Phase::Running } else { Phase::Starting }),
            ..InstanceStatus::default()
        }
    }

    fn status(rollout: Option<&str>, instances: Vec<InstanceStatus>) -> Status {
        let healthy = instances.iter().filter(|instance| instance.health == Health::Healthy).count();
        Status {
            stack: "app".to_owned(),
            version: String::new(),
            revision: 2,
            since: WallTime::from_millis(1),
            guard: ProcessStatus { pid: 1, restarts: 0 },
            node: ProcessStatus { pid: 2, restarts: 0 },
            edge: Some(EdgeStatus { pid: 3, restarts: 0, snapshot: 5, applied: 5, reported: Some(5), connections: 0 }),
            listeners: Vec::new(),
            services: vec![ServiceStatus {
                name: "app".to_owned(),
                replicas: 2,
                healthy: u32::try_from(healthy).unwrap(),
                rollout: rollout.map(str::to_owned),
                instances,
                ..ServiceStatus::default()
            }],
            problems: Vec::new(),
            overrides: Vec::new(),
            proofs: Vec::new(),
            console: None,
        }
    }

    #[test]
    fn done_once_all_are_healthy_and_none_is_to_be_replaced() {
        let healthy = |n, revision| instance(n, revision, Health::Healthy);
        assert_eq!(judge(&status(None, vec![healthy(1, 2), healthy(2, 2)]), WANTED), Some(Outcome::Done));
        assert_eq!(judge(&status(None, vec![healthy(1, 1), healthy(2, 1)]), WANTED), Some(Outcome::Done));
        let under_way = status(Some("old instance 2 is replaced next"), vec![healthy(1, 2), healthy(2, 1)]);
        assert_eq!(judge(&under_way, WANTED), None);
        assert_eq!(progress(&under_way, WANTED), "app 2 of 2 healthy (old instance 2 is replaced next)");
        assert_eq!(judge(&status(None, vec![healthy(1, 2)]), WANTED), None, "one is missing");
        let mut unserved = status(None, vec![healthy(1, 2), healthy(2, 2)]);
        unserved.edge.as_mut().unwrap().applied = 4;
        assert_eq!(judge(&unserved, WANTED), None, "the edge serves the former snapshot");
        unserved.revision = 3;
        assert_eq!(judge(&unserved, WANTED), Some(Outcome::Replaced { by: 3 }));
    }

    #[test]
    fn a_changed_check_must_be_passed_by_everybody() {
        let with = |bases: [Basis; 2]| {
            let instances = bases.into_iter().zip(1..).map(|(basis, number)| {
                let reason = if basis == Basis::Kept { format!("{KEPT}: status 200") } else { String::new() };
                InstanceStatus { basis, reason, ..instance(number, 1, Health::Healthy) }
            });
            status(None, instances.collect())
        };
        let unchecked = with([Basis::Check, Basis::Former]);
        assert_eq!(judge(&unchecked, WANTED), None);
        assert_eq!(progress(&unchecked, WANTED), "app 2 of 2 healthy (1 have not passed the changed check yet)");
        assert_eq!(judge(&with([Basis::Kept, Basis::Former]), WANTED), None, "one may pass it still");
        let mut failed = with([Basis::Kept, Basis::Kept]);
        let Some(Outcome::Unbelieved { service, saw }) = judge(&failed, WANTED) else { panic!("{failed:?}") };
        assert!(service == "app" && saw.contains("status 200"), "{saw}");
        failed.services[0].rollout = Some("old instance 2 is replaced next".to_owned());
        assert_eq!(judge(&failed, WANTED), None, "a new one may pass it");
        let mut passed = with([Basis::Check, Basis::Check]);
        passed.edge.as_mut().unwrap().reported = None;
        assert_eq!(judge(&passed, WANTED), None, "an edge that was just started has yet to speak");
        passed.edge.as_mut().unwrap().reported = Some(4);
        assert_eq!(judge(&passed, WANTED), None, "that was under the former check");
        passed.edge.as_mut().unwrap().reported = Some(5);
        assert_eq!(judge(&passed, WANTED), Some(Outcome::Done));
    }

    #[test]
    fn a_service_by_a_name_is_done_once_the_name_has_addresses() {
        let dns = |addresses, failing: Option<&str>| {
            let mut status = status(None, (0..addresses).map(|n| instance(n + 1, 2, Health::Healthy)).collect());
            let failing = failing.map(str::to_owned);
            let name = "app.internal:80".to_owned();
            status.services[0].dns = Some(DnsStatus { name, addresses, failing, ..DnsStatus::default() });
            status.services[0].replicas = addresses;
            judge(&status, WANTED)
        };
        assert_eq!(dns(0, None), None, "it is being asked");
        let Some(Outcome::Nameless { service, cause }) = dns(0, Some("no address")) else { panic!("it has failed") };
        assert_eq!((service.as_str(), cause.contains("does not resolve: no address")), ("app", true), "{cause}");
        assert_eq!(dns(2, Some("no address")), Some(Outcome::Done), "the last good answer stays in use");
        assert_eq!(dns(1, None), Some(Outcome::Done));
    }

    #[test]
    fn stuck_once_a_new_instance_keeps_ending() {
        let mut broken = instance(3, 2, Health::Unknown);
        broken.last_exit = Some("exit code 1".to_owned());
        broken.last_output = vec!["no such module".to_owned()];
        let with = |broken: &InstanceStatus| {
            let old = instance(1, 1, Health::Healthy);
            status(Some("new instance 3 is not ready yet"), vec![old, broken.clone()])
        };
        broken.restarts = 1;
        assert_eq!(judge(&with(&broken), WANTED), None, "once may be an accident");
        broken.phase = Some(Phase::Waiting);
        let stuck = Outcome::Stuck {
            instance: "app/3".to_owned(),
            last_exit: "exit code 1".to_owned(),
            last_output: vec!["no such module".to_owned()],
        };
        assert_eq!(judge(&with(&broken), WANTED), Some(stuck));
        let again = &Wanted { was_in_force: true, ..WANTED.clone() };
        assert_eq!(judge(&with(&broken), again), None, "what it went through before counts for nothing");
        broken.phase = Some(Phase::GaveUp);
        assert!(matches!(judge(&with(&broken), again), Some(Outcome::Stuck { .. })));
        broken.revision = Some(1);
        assert_eq!(judge(&with(&broken), WANTED), None, "it is about to be replaced");
    }
    #[test]
    fn a_restart_is_done_once_the_former_processes_are_gone() {
        let wanted = &Wanted {
            service: Some("app".to_owned()),
            replaced: vec!["app/1#1".to_owned()],
            kept: vec!["app/2".to_owned()],
            ..WANTED.clone()
        };
        let healthy = |number| instance(number, 1, Health::Healthy);
        let before = status(None, vec![healthy(1), healthy(2)]);
        assert_eq!(judge(&before, wanted), None, "the former process is still there");
        let mut after = status(None, vec![healthy(2), healthy(3)]);
        after.revision = 3;
        assert_eq!(judge(&after, wanted), Some(Outcome::Done), "another revision does not matter");
        let mut same_name = healthy(1);
        same_name.generation = 2;
        assert_eq!(judge(&status(None, vec![same_name, healthy(2)]), wanted), Some(Outcome::Done));
        let mut failing = instance(2, 1, Health::Unhealthy);
        failing.restarts = 4;
        let kept = status(Some("new instance 3 is not ready yet"), vec![healthy(1), failing.clone()]);
        assert_eq!(judge(&kept, wanted), None, "what stays is no matter of this restart");
        failing.name = "app/3".to_owned();
        let broken = status(Some("new instance 3 is not ready yet"), vec![healthy(1), failing]);
        assert!(matches!(judge(&broken, wanted), Some(Outcome::Stuck { .. })));
    }

    #[test]
    fn what_an_operator_drains_holds_its_place() {
        let mut drained = instance(1, 2, Health::Draining);
        drained.drained = Some(evenkeel_core::status::DrainStatus {
            reason: String::new(),
            by: String::new(),
            since: WallTime::from_millis(1),
            finished: true,
        });
        let one = status(None, vec![drained, instance(2, 2, Health::Healthy)]);
        assert_eq!(judge(&one, WANTED), Some(Outcome::Done));
    }
}
