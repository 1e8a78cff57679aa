//! From the stack to the instances: asks the core's rollout what is missing or too many, and does it.

use std::{collections::BTreeSet, sync::Arc};

use evenkeel_core::{
    journal::Reason,
    rollout::{self, Desired, Observed, Step},
    supervise::Event,
};

use super::Node;
use crate::launch::Launch;

impl Node {
    /// Plans every service and takes the steps.
    pub(super) fn reconcile(&mut self) {
        let names: BTreeSet<String> = self
            .revision
            .stack
            .services
            .keys()
            .chain(self.slots.keys().map(|(service, _)| service))
            .cloned()
            .collect();
        for service in names {
            self.reconcile_service(&service);
        }
    }

    fn reconcile_service(&mut self, name: &str) {
        let service = self.revision.stack.services.get(name);
        let launch = service
            .and_then(|service| Launch::new(service, &self.revision.dir))
            .map(Arc::new);
        let desired = match (&launch, service) {
            (Some(launch), Some(service)) => Desired {
                replicas: service.replicas.0,
                digest: launch.digest.clone(),
            },
            _ => Desired {
                replicas: 0,
                digest: String::new(),
            },
        };
        let of_service = self.slots.range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX));
        let observed: Vec<Observed> = of_service.map(|(_, slot)| slot.observed()).collect();
        let plan = rollout::plan(&desired, &observed);
        for step in plan.steps {
            match step {
                Step::Create { number, reasons } => {
                    let launch = launch.clone().expect("only a service that is run wants instances");
                    self.create(name, number, launch, reasons);
                }
                Step::Retire { number, reasons } => {
                    let place = (name.to_owned(), number);
                    self.feed(&place, Event::Retire { reason: join(&reasons) });
                }
            }
        }
        match plan.waiting {
            Some(waiting) => self.rollouts.insert(name.to_owned(), waiting),
            None => self.rollouts.remove(name),
        };
    }
}

fn join(reasons: &[Reason]) -> String {
    reasons
        .iter()
        .map(|reason| reason.text.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}
