//! What each instance of a service answered while a deploy went on, over restarts of the edge.
//!
//! The edge counts from zero when it starts, and forgets instances that are gone. A [`Ledger`] adds up what came after
//! its own beginning; what an instance had answered before counts only where the instance is a new one.

use std::collections::BTreeMap;

use super::gate::Tally;
use crate::{
    link::{Counters, ServiceCounters},
    status::InstanceId,
};

/// What did not go as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Answers of 5xx that clients got, and requests that got none.
    pub bad: u64,
    /// Tries after the first.
    pub repeated: u64,
}

/// Sums of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    edge: Option<u32>,
    last: BTreeMap<InstanceId, Tally>,
    sums: BTreeMap<InstanceId, Tally>,
    /// What the whole service cost its clients: as the edge counted it last, and the sum.
    last_cost: Cost,
    cost: Cost,
}

impl Ledger {
    /// Takes the edge's counters. `is_new` says which instances are of the release that is being deployed.
    pub fn update(&mut self, service: &str, counters: &Counters, is_new: impl Fn(&InstanceId) -> bool) {
        let Some(of) = counters.services.iter().find(|of| of.name == service) else { return };
        let same_edge = self.edge == Some(counters.pid);
        let first = self.edge.is_none();
        if !same_edge {
            self.last.clear();
        }
        for instance in &of.instances {
            let now = Tally::of(instance);
            let before = match self.last.get(&instance.id) {
                Some(before) => before.clone(),
                // Whatever a former instance answered before we looked is not of this time.
                None if first && !is_new(&instance.id) => now.clone(),
                None => Tally::default(),
            };
            self.sums.entry(instance.id.clone()).or_default().add(&now.since(&before));
            self.last.insert(instance.id.clone(), now);
        }
        let cost = cost(of);
        // Another edge counts from zero; what the first one had counted is not of this time.
        let before = match (same_edge, first) {
            (true, _) => self.last_cost,
            (_, true) => cost,
            _ => Cost::default(),
        };
        self.cost.bad += cost.bad.saturating_sub(before.bad);
        self.cost.repeated += cost.repeated.saturating_sub(before.repeated);
        self.last_cost = cost;
        self.edge = Some(counters.pid);
    }

    /// What one instance answered.
    pub fn of(&self, id: &InstanceId) -> Tally {
        self.sums.get(id).cloned().unwrap_or_default()
    }

    /// What those answered for which `which` holds.
    pub fn sum(&self, which: impl Fn(&InstanceId) -> bool) -> Tally {
        let mut sum = Tally::default();
        self.sums.iter().filter(|(id, _)| which(id)).for_each(|(_, tally)| sum.add(tally));
        sum
    }

    /// What the whole service cost its clients.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

fn cost(service: &ServiceCounters) -> Cost {
    Cost { bad: service.responses[4] + service.aborted, repeated: service.retries }
}
