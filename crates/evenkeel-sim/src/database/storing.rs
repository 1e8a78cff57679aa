//! What the store does with what it is asked, and what is noticed where it takes a change.

use evenkeel_core::failover::{Record, Revision};

use super::{event::Event, instance::Run, network::Place, scenario::Doing, world::World};

impl World {
    pub(super) fn read(&mut self, node: usize, life: u64, question: u64) {
        if self.store.lost {
            return;
        }
        let (record, revision) = (Box::new(self.store.record.clone()), self.store.revision);
        if let Some(takes) = self.network.carry(Place::Store, Place::Node(node), &mut self.rng) {
            self.after(takes, Event::Held { node, life, question, record, revision });
        }
    }

    pub(super) fn swap(&mut self, node: usize, life: u64, question: u64, record: Record, expects: Revision) {
        if self.store.lost {
            return;
        }
        let before = self.store.record.clone();
        let taken = self.store.swap(record.clone(), expects);
        if taken.is_ok() {
            self.changed(node, &before, &record);
        }
        if let Some(takes) = self.network.carry(Place::Store, Place::Node(node), &mut self.rng) {
            self.after(takes, Event::Swapped { node, life, question, record: Box::new(record), taken });
        }
    }

    /// The record was changed.
    pub(super) fn changed(&mut self, node: usize, before: &Record, after: &Record) {
        if after.token != before.token {
            self.say(|| format!("m{node} has the lease with token {}", after.token));
            let position = self.nodes[node].instance.position();
            self.checks.claimed(&self.scenario, node, before, after, position, self.now);
            self.changes += 1;
            self.does(node, Doing::Claims, None);
        }
        if before.holder().is_some() && after.holder().is_none() && !matches!(self.nodes[node].instance.run, Run::Gone)
        {
            let what = format!("m{node} gives the lease back while processes of it run");
            self.checks.broken("given back by nothing that runs", self.now, what);
        }
    }
}
