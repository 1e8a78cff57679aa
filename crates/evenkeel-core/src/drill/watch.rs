//! From harm to recovery: what each observation of the stack means for a running drill.
//!
//! A [`Watch`] is fed samples in order of time and names the stages it recognises, each once: `detected` when the
//! stack first shows that the instance is not what it was, `replaced` when a new process stands in its place,
//! `recovered` when the harm is over and every instance is healthy. Its caller owns it for one run. It never
//! decides the verdict, and it never believes that all is well before the harm was over.

use super::{Drill, Stage, Subject};
use crate::status::{Health, Status};

/// What the stack showed at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, in milliseconds since the drill's start.
    pub at_ms: u64,
    /// Instances that the service should have.
    pub replicas: u32,
    /// Instances that get requests.
    pub healthy: u32,
    /// The instance that was harmed; `None` while there is none of that name.
    pub subject: Option<Seen>,
}

/// What the stack showed of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Counts its starts.
    pub generation: u64,
    /// Its process.
    pub pid: Option<u32>,
    /// The edge's verdict.
    pub health: Health,
    /// Why the verdict is what it is.
    pub reason: String,
}

impl Sample {
    /// What `status` shows about the subject's service.
    pub fn of(status: &Status, subject: &Subject, at_ms: u64) -> Self {
        let service = status.services.iter().find(|service| service.name == subject.service);
        let instances = service.map(|service| service.instances.as_slice()).unwrap_or_default();
        let healthy = instances.iter().filter(|instance| instance.health == Health::Healthy).count();
        let seen = instances.iter().find(|instance| instance.name == subject.instance).map(|instance| Seen {
            generation: instance.generation,
            pid: instance.pid,
            health: instance.health,
            reason: instance.reason.clone(),
        });
        Self {
            at_ms,
            replicas: service.map_or(0, |service| service.replicas),
            healthy: u32::try_from(healthy).unwrap_or(u32::MAX),
            subject: seen,
        }
    }
}

/// The state of one run, from the moment of the harm.
pub struct Watch<'a> {
    drill: &'a dyn Drill,
    subject: &'a Subject,
    released: bool,
    detected_at_ms: Option<u64>,
    replaced_at_ms: Option<u64>,
    recovered_at_ms: Option<u64>,
}

impl<'a> Watch<'a> {
    /// Starts watching; the harm was done just now.
    pub fn new(drill: &'a dyn Drill, subject: &'a Subject) -> Self {
        Self { drill, subject, released: false, detected_at_ms: None, replaced_at_ms: None, recovered_at_ms: None }
    }

    /// A lasting fault was taken back.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// Takes the next observation; returns the stages it shows for the first time.
    pub fn on(&mut self, sample: &Sample) -> Vec<Stage> {
        let mut stages = Vec::new();
        let changed = self.change(sample.subject.as_ref());
        if let Some(detail) = changed.filter(|_| self.detected_at_ms.is_none()) {
            self.detected_at_ms = Some(sample.at_ms);
            stages.push(Stage::new("detected", sample.at_ms, detail));
        }
        let Some(seen) = &sample.subject else { return stages };
        if self.replaced_at_ms.is_none() && seen.generation > self.subject.generation && seen.pid.is_some() {
            self.replaced_at_ms = Some(sample.at_ms);
            let pid = seen.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
            stages.push(Stage::new("replaced", sample.at_ms, format!("start {}{pid}", seen.generation)));
        }
        let all_healthy = sample.replicas > 0 && sample.healthy >= sample.replicas && seen.health == Health::Healthy;
        if self.recovered_at_ms.is_none() && all_healthy && self.drill.is_over(self.subject, seen, self.released) {
            self.recovered_at_ms = Some(sample.at_ms);
            let detail = format!("{} of {} instances are healthy", sample.healthy, sample.replicas);
            stages.push(Stage::new("recovered", sample.at_ms, detail));
        }
        stages
    }

    /// When the stack first showed the harm.
    pub fn detected_at_ms(&self) -> Option<u64> {
        self.detected_at_ms
    }

    /// When a new process stood in the harmed one's place.
    pub fn replaced_at_ms(&self) -> Option<u64> {
        self.replaced_at_ms
    }

    /// When everything was well again.
    pub fn recovered_at_ms(&self) -> Option<u64> {
        self.recovered_at_ms
    }

    /// How the instance differs from what it was, in words.
    fn change(&self, seen: Option<&Seen>) -> Option<String> {
        let instance = &self.subject.instance;
        let Some(seen) = seen else {
            return Some(format!("{instance} is not listed any more"));
        };
        if seen.pid.is_none() {
            return Some(format!("the process of {instance} is gone"));
        }
        if seen.health != Health::Healthy {
            let because = if seen.reason.is_empty() { String::new() } else { format!(": {}", seen.reason) };
            return Some(format!("{instance} is {}{because}", seen.health));
        }
        if seen.generation != self.subject.generation || seen.pid != Some(self.subject.pid) {
            return Some(format!("{instance} has another process"));
        }
        None
    }
}
