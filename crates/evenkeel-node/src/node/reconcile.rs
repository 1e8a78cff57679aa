//! From the stack to the instances: asks the core's rollout what is missing or too many, and does it.

use std::{collections::BTreeSet, sync::Arc};

use evenkeel_core::{
    journal::Reason,
    rollout::{self, Desired, Observed, State, Step},
    supervise::Event,
};

use super::{Node, slot::Slot};
use crate::launch::Launch;

/// More rounds than any change of one service needs; what is left then is done at the next event.
const MOST_ROUNDS: usize = 16;

impl Node {
    /// Plans every service and takes the steps.
    pub(super) fn reconcile(&mut self) {
        let names: BTreeSet<String> =
            self.revision.stack.services.keys().chain(self.slots.keys().map(|(service, _)| service)).cloned().collect();
        for service in names {
            self.reconcile_service(&service);
        }
    }

    /// Retiring an instance that has no process frees its place at once, so the plan is made anew until it asks for
    /// nothing more.
    fn reconcile_service(&mut self, name: &str) {
        let service = self.revision.stack.services.get(name);
        let launch = service.and_then(|service| Launch::new(service, &self.revision.dir));
        let launch = launch.map(|launch| Arc::new(launch.with_secrets(&self.secrets)));
        let desired = match (&launch, service) {
            (Some(launch), Some(service)) => {
                Desired { replicas: self.wanted(name, service), digest: launch.digest.clone() }
            }
            _ => Desired { replicas: 0, digest: String::new() },
        };
        for _ in 0..MOST_ROUNDS {
            let plan = rollout::plan(&desired, &self.observe(name));
            if !plan.steps.is_empty() && self.pauses.holds_rollout(name) {
                let waiting = "it is paused: its instances are changed once the pause ends";
                self.rollouts.insert(name.to_owned(), waiting.to_owned());
                return;
            }
            let rests = plan.steps.is_empty() && plan.waiting.is_none();
            match plan.waiting {
                Some(waiting) => self.rollouts.insert(name.to_owned(), self.with_held(name, waiting)),
                None => self.rollouts.remove(name),
            };
            if rests && launch.is_some() {
                self.forget_drains_of_nobody(name);
            }
            if plan.steps.is_empty() {
                return;
            }
            self.take(name, launch.as_ref(), plan.steps);
        }
    }

    /// What a rollout waits for, and the instances that it waits for in vain since nobody starts them again.
    fn with_held(&self, service: &str, waiting: String) -> String {
        let held = self.slots_of(service).filter(|slot| slot.supervisor.is_waiting_for_leave(&self.policy_of(slot)));
        let held: Vec<String> = held.map(Slot::name).collect();
        if held.is_empty() {
            return waiting;
        }
        format!("{waiting}; {} not started again without an order", held.join(", "))
    }

    fn observe(&self, service: &str) -> Vec<Observed> {
        let observed = |slot: &Slot| match slot.observed() {
            // The rollout goes on once it has proven itself.
            seen if seen.state == State::Ready && self.on_trial(slot) => Observed { state: State::Starting, ..seen },
            seen => seen,
        };
        self.slots_of(service).map(observed).collect()
    }

    fn take(&mut self, service: &str, launch: Option<&Arc<Launch>>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Create { number, reasons } => {
                    let launch = launch.cloned().expect("only a service that is run wants instances");
                    self.create(service, number, launch, reasons);
                }
                Step::Retire { number, reasons } => {
                    let place = (service.to_owned(), number);
                    self.feed(&place, Event::Retire { reason: join(&reasons) });
                }
            }
        }
    }
}

fn join(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ")
}
