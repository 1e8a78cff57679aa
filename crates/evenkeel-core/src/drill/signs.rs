//! What a status shows of the subject of a drill: whether the harm was noticed, what took its place, what is well.
//!
//! Shared by the drills, each of which says what counts for it. Nothing here remembers anything.

use super::{Condition, Fault, Observed, Plan, Subject, Target};
use crate::status::{Health, InstanceStatus, ServiceStatus, Status};

/// How the words end that say so of instances.
const HEALTHY: &str = " are healthy";

/// What one status shows; each in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The stack shows the harm.
    pub detected: Option<String>,
    /// Something new stands in the place of what was harmed.
    pub replaced: Option<String>,
    /// Everything is well, and the harm is over.
    pub recovered: Option<String>,
}

/// The service that clients of a drill ask.
pub(super) fn service_of<'s>(plan: &Plan, status: &'s Status) -> Option<&'s ServiceStatus> {
    status.services.iter().find(|service| service.name == plan.subject.service)
}

/// An instance of that name.
pub(super) fn instance_of<'s>(subject: &Subject, status: &'s Status) -> Option<&'s InstanceStatus> {
    let service = status.services.iter().find(|service| service.name == subject.service)?;
    service.instances.iter().find(|instance| instance.name == subject.name)
}

/// That every instance of the service is healthy, in words.
pub(super) fn all_healthy(service: &ServiceStatus) -> Option<String> {
    let healthy = service.instances.iter().filter(|instance| instance.health == Health::Healthy).count();
    let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
    let all = service.replicas > 0 && healthy >= service.replicas;
    all.then(|| format!("{healthy} of {} instances{HEALTHY}", service.replicas))
}

/// The services of which every instance is healthy.
pub(super) fn well(status: &Status) -> Vec<String> {
    let well = status.services.iter().filter(|service| all_healthy(service).is_some());
    well.map(|service| service.name.clone()).collect()
}

/// That every service that was well before is so again, in words.
pub(super) fn all_well_again(plan: &Plan, status: &Status) -> Option<String> {
    let again = |name: &String| {
        let service = status.services.iter().find(|service| service.name == *name)?;
        Some(format!("{} of {name}", all_healthy(service)?.trim_end_matches(HEALTHY)))
    };
    let again: Option<Vec<String>> = plan.well_before.iter().map(again).collect();
    again.filter(|again| !again.is_empty()).map(|again| format!("{}{HEALTHY}", again.join(", ")))
}

/// How many instances of each service were healthy when everything was well again.
#[derive(Clone, Debug, Default)]
pub(super) struct Well(Vec<(String, u32)>);

impl Well {
    /// What recovery was about, as it is at its begin.
    pub(super) fn of(plan: &Plan, status: &Status) -> Self {
        let dependency = match &plan.fault {
            Fault::SlowDependency { service, .. } => Some(service),
            _ => None,
        };
        let everywhere = plan.well_before.iter().filter(|_| plan.subject.target == Target::Stack);
        let names = everywhere.chain(dependency).chain([&plan.subject.service]);
        let services = names.filter_map(|name| status.services.iter().find(|service| service.name == *name));
        Self(services.map(|service| (service.name.clone(), service.replicas)).collect())
    }

    /// What is ill that was well, in words. Instances that were only added since take nothing back.
    pub(super) fn taken_back(&self, status: &Status) -> Option<String> {
        self.0.iter().find_map(|(name, were)| {
            let service = status.services.iter().find(|service| service.name == *name)?;
            let healthy = service.instances.iter().filter(|instance| instance.health == Health::Healthy).count();
            let wanted = service.replicas.min(*were);
            if u32::try_from(healthy).unwrap_or(u32::MAX) >= wanted {
                return None;
            }
            let ill = service.instances.iter().find(|instance| instance.health != Health::Healthy);
            Some(ill.map_or_else(|| format!("{healthy} of {wanted} instances of {name} are healthy"), ill_in_words))
        })
    }
}

/// How an instance is that is not healthy.
fn ill_in_words(seen: &InstanceStatus) -> String {
    let because = if seen.reason.is_empty() { String::new() } else { format!(": {}", seen.reason) };
    format!("{} is {}{because}", seen.name, seen.health)
}

/// What shows of an instance that was harmed. `is_over`: whether health is all that is missing, now that it is so.
pub(super) fn of_instance(plan: &Plan, status: &Status, is_over: impl Fn(&InstanceStatus) -> bool) -> Signs {
    let subject = &plan.subject;
    let Some(seen) = instance_of(subject, status) else {
        return Signs { detected: Some(format!("{} is not listed any more", subject.name)), ..Signs::default() };
    };
    let replaced = seen.pid.filter(|_| seen.generation > subject.generation);
    let well = seen.health == Health::Healthy && is_over(seen);
    Signs {
        detected: difference(subject, seen),
        replaced: replaced.map(|pid| format!("{} was started again, as process {pid}", subject.name)),
        recovered: service_of(plan, status).filter(|_| well).and_then(all_healthy),
    }
}

/// How an instance differs from what it was when the plan was made.
fn difference(subject: &Subject, seen: &InstanceStatus) -> Option<String> {
    let name = &subject.name;
    if seen.pid.is_none() {
        return Some(format!("the process of {name} is gone"));
    }
    if seen.health != Health::Healthy {
        return Some(ill_in_words(seen));
    }
    let other = seen.generation != subject.generation || seen.pid != subject.pid;
    other.then(|| format!("{name} has another process"))
}

/// What shows of a process of keel's own that was killed, `pid` being the one that is there now.
pub(super) fn of_process(plan: &Plan, status: &Status, pid: Option<u32>) -> Signs {
    let subject = &plan.subject;
    let gone = pid.is_none().then(|| format!("{} is gone", subject.name));
    let other = pid.filter(|_| pid != subject.pid);
    let words = other.map(|pid| format!("{} has process {pid}", subject.name));
    // An edge that has not heard the snapshot in force serves what held before.
    let in_force = status.edge.as_ref().is_some_and(|edge| edge.applied == edge.snapshot);
    let well = other.is_some() && in_force;
    Signs {
        detected: gone.or_else(|| words.clone()),
        replaced: words,
        recovered: service_of(plan, status).filter(|_| well).and_then(all_healthy),
    }
}

/// The stage in which the node process runs with other clocks.
pub const SHIFTED: &str = "shifted";
/// The stage in which a drill had to start `keel up` itself.
pub const STARTED: &str = "started";

/// That the harm to something else cost no instance its process. Without recovery nobody knows.
pub(super) fn same_instances(observed: &Observed) -> Option<Condition> {
    observed.recovered_at_ms?;
    let (before, after) = (&observed.instances_before, &observed.instances_after);
    let gone = before.iter().filter(|pid| !after.contains(pid)).count();
    Some(match gone {
        0 => Ok("every instance kept its process".to_owned()),
        _ => Err(format!("{gone} of {} instances were started anew, though nothing was done to them", before.len())),
    })
}

/// That `keel up` was started again by whoever watches over it.
pub(super) fn came_back_by_itself(observed: &Observed) -> Condition {
    if observed.stages.iter().any(|stage| stage.name == STARTED) {
        return Err("nobody started `keel up` again, so this drill did: run it under a service manager".to_owned());
    }
    Ok("whatever watches over `keel up` started it again".to_owned())
}
