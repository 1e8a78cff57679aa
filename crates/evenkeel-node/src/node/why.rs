//! How a subject is, in one sentence: the head of `keel why`. The reasons below it come from the journal.

use evenkeel_core::status::{Health, InstanceStatus, Phase, ServiceStatus, Status};

use super::Node;
use crate::words::counted;

impl Node {
    /// The sentence; `None` for a name that nobody has.
    pub(super) fn now_sentence(&self, subject: &str) -> Option<String> {
        let status = self.status();
        match subject {
            "stack" | "" => Some(self.stack_sentence(&status)),
            "node" => Some(format!(
                "the node process is {} and was started again {} since the guard's start",
                status.node.pid,
                times(status.node.restarts)
            )),
            "edge" => Some(edge_sentence(&status)),
            "drill" => Some("drills are recorded here when they run".to_owned()),
            _ => {
                if let Some(listener) = subject.strip_prefix("listeners.") {
                    let address = self.listeners.get(listener)?;
                    return Some(format!("{subject} listens on {address}"));
                }
                if let Some(service) = status.services.iter().find(|service| service.name == subject) {
                    return Some(self.service_sentence(service));
                }
                let instances = || status.services.iter().flat_map(|service| &service.instances);
                instances().find(|instance| instance.name == subject).map(instance_sentence)
            }
        }
    }

    fn stack_sentence(&self, status: &Status) -> String {
        let healthy: u32 = status.services.iter().map(|service| service.healthy).sum();
        let wanted: u32 = status.services.iter().map(|service| service.replicas).sum();
        let (name, revision) = (&status.stack, status.revision);
        let stopping = if self.shutdown.is_some() { " and is being stopped" } else { "" };
        format!("stack `{name}` runs revision {revision}{stopping}: {healthy} of {wanted} instances are healthy")
    }

    fn service_sentence(&self, service: &ServiceStatus) -> String {
        let ServiceStatus { name, healthy, replicas, .. } = service;
        let rollout = self.rollouts.get(name).map(|waiting| format!("; a rollout is under way: {waiting}"));
        format!("{name} has {healthy} healthy of {replicas} wanted instances{}", rollout.unwrap_or_default())
    }
}

fn edge_sentence(status: &Status) -> String {
    match &status.edge {
        None => "the edge does not run; the guard is starting it again".to_owned(),
        Some(edge) => format!(
            "the edge is process {}, serves snapshot {} of {}, and was started again {}",
            edge.pid,
            edge.applied,
            edge.snapshot,
            times(edge.restarts)
        ),
    }
}

fn instance_sentence(instance: &InstanceStatus) -> String {
    let InstanceStatus { name, health, reason, .. } = instance;
    let because = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let Some(phase) = instance.phase else {
        return format!("{name} is {health}{because}");
    };
    let last = instance.last_exit.as_ref().map(|exit| format!("; its last process ended with {exit}"));
    let last = last.unwrap_or_default();
    match phase {
        Phase::Waiting => format!("{name} waits to be started{last}"),
        Phase::Starting => format!("{name} is starting and has not passed its check yet{because}{last}"),
        Phase::Running if *health == Health::Healthy => format!("{name} is healthy and gets requests{last}"),
        Phase::Running => format!("{name} runs but is {health}{because}, so it gets no new requests{last}"),
        Phase::Draining => {
            format!("{name} is draining: it finishes {}", counted(instance.in_flight, "request", "requests"))
        }
        Phase::Stopping => format!("{name} was told to stop"),
        Phase::GaveUp => format!("{name} gave up after {}{last}", counted(instance.generation, "start", "starts")),
    }
}

fn times(n: u64) -> String {
    match n {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}
