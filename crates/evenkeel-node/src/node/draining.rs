//! Instances that an operator drains: overrides that say so, and what is still in flight there.
//!
//! A drained instance goes on running and keeps its place; the edge sends it nothing new. That holds over restarts
//! of anything, until `keel resume`, or until the instance is gone for good. The last healthy instance of a service
//! is not drained without force, since then nobody would be left to answer.

use std::collections::BTreeMap;

use evenkeel_core::{
    drill::DRAIN_REASON,
    journal::{Level, Reason},
    overrides::Drained,
    snapshot::Duty,
    status::{DrainStatus, Health, InstanceId},
};

use super::{
    Node,
    operate::{NotOrdered, Ordered, no_such, ordered},
    publish::fixed_id,
};
use crate::clock::wall_now;

/// How far the draining of an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draining {
    /// The first snapshot in which it drains.
    from: u64,
    /// Whether nothing is in flight there any more.
    empty: bool,
}

impl Node {
    /// Whether an operator drains this instance.
    pub(super) fn is_drained(&self, instance: &str) -> bool {
        self.revision.overrides.drained.contains_key(instance)
    }

    /// What the edge should do with a fixed instance.
    pub(super) fn fixed_duty(&self, instance: &str) -> Duty {
        if self.is_drained(instance) { Duty::Drain } else { Duty::Serve }
    }

    pub(super) fn drain(
        &mut self,
        instance: &str,
        reason: &str,
        force: bool,
        who: &str,
    ) -> Result<Ordered, NotOrdered> {
        if !self.instance_names().iter().any(|name| name == instance) {
            return Err(self.no_instance(instance));
        }
        let (service, _) = instance.split_once('/').expect("an instance's name has its service's in front");
        let healthy = self.healthy_instances(service);
        let last = healthy == [instance];
        if last && !force {
            return Err(NotOrdered::no(
                format!("{instance} is the last healthy instance of {service}: drained, nobody would answer"),
                format!(
                    "Start another one first (`keel scale {service} N`), or drain it all the same with --force. \
                     `keel restart {instance}` replaces it without a gap."
                ),
            ));
        }
        let mut because = vec![Reason::seen(format!("by {who}"))];
        if !reason.is_empty() {
            because.push(Reason::seen(reason));
        }
        if last {
            because.push(Reason::ruled_out("refusing it, as it is the last healthy instance: it was forced"));
        }
        let drained = Drained { reason: reason.to_owned(), by: who.to_owned(), since: wall_now() };
        let what = format!("{instance} is drained by hand");
        let applied = self.override_with(&what, because.clone(), |overrides| {
            let kept = overrides.drained.entry(instance.to_owned()).or_insert_with(|| drained.clone());
            // A drill ends its own drain, and nobody else's: whoever orders one meanwhile has it from now on.
            if kept.reason == DRAIN_REASON && drained.reason != DRAIN_REASON {
                *kept = Drained { since: kept.since, ..drained };
            }
        })?;
        if !applied.changes.is_empty() {
            because.push(Reason::rule("it finishes its requests, gets no new ones and goes on running until resumed"));
            self.note(Level::Info, instance, "drained", what, because);
        }
        let note = last.then(|| format!("nobody answers for {service} now"));
        Ok(ordered(applied, note.into_iter().collect()))
    }

    /// Nobody has that name, or a service has it.
    fn no_instance(&self, name: &str) -> NotOrdered {
        let names = self.instance_names();
        let own = names.iter().filter(|one| one.split_once('/').is_some_and(|(service, _)| service == name));
        let first = own.clone().next();
        match first {
            Some(first) => NotOrdered::no(
                format!("{name} is a service, and what is drained is an instance"),
                format!("As in `keel drain {first}`; it has {}.", own.cloned().collect::<Vec<_>>().join(", ")),
            ),
            None => no_such(name, names),
        }
    }

    /// Ends a drain.
    pub(super) fn undrain(&mut self, instance: &str, who: &str) -> Result<Ordered, NotOrdered> {
        let what = format!("{instance} is drained no more");
        let by = vec![Reason::seen(format!("by {who}"))];
        let applied = self.override_with(&what, by.clone(), |overrides| {
            overrides.drained.remove(instance);
        })?;
        self.note(Level::Info, instance, "resumed", "it gets requests again once it is healthy", by);
        Ok(ordered(applied, Vec::new()))
    }

    pub(super) fn healthy_instances(&self, service: &str) -> Vec<String> {
        let of = self.revision.stack.services.get(service);
        let addresses = of.map(|of| self.addresses_of(service, of)).unwrap_or_default();
        let fixed = addresses.iter().map(|address| {
            let name = fixed_id(service, address).name;
            let health = self.edge.fixed.get(&name).map(|verdict| verdict.health);
            (name, health.unwrap_or_default())
        });
        let run = self.slots.values().filter(|slot| slot.service == service && slot.duty() == Some(Duty::Serve));
        let all = fixed.chain(run.map(|slot| (slot.name(), slot.verdict.health)));
        all.filter(|(name, health)| *health == Health::Healthy && !self.is_drained(name))
            .map(|(name, _)| name)
            .collect()
    }

    /// Tells slots whether an operator drains them.
    pub(super) fn mark_drained(&mut self) {
        let drained = &self.revision.overrides.drained;
        for slot in self.slots.values_mut() {
            slot.drained = drained.contains_key(&slot.name());
        }
    }

    /// A snapshot of this version is published: what is drained drains from here at the latest.
    pub(super) fn drains_from(&mut self, version: u64) {
        let drained = &self.revision.overrides.drained;
        self.draining.retain(|name, _| drained.contains_key(name));
        for name in drained.keys() {
            self.draining.entry(name.clone()).or_insert(Draining { from: version, empty: false });
        }
    }

    /// The edge counts what is in flight. That counts for a drained instance once every thread knows of its drain.
    pub(super) fn find_emptied(&mut self, in_flight: &BTreeMap<InstanceId, u64>) {
        let applied = self.edge.applied;
        for (name, draining) in &mut self.draining {
            let busy = in_flight.iter().any(|(id, count)| id.name == *name && *count > 0);
            draining.empty = applied >= draining.from && !busy;
        }
    }

    /// The edge says that nothing is in flight at this instance any more.
    pub(super) fn emptied(&mut self, id: &InstanceId) {
        if let Some(draining) = self.draining.get_mut(&id.name) {
            draining.empty = true;
        }
    }

    /// The drain of an instance, for `status`.
    pub(super) fn drain_status(&self, instance: &str) -> Option<DrainStatus> {
        let Drained { reason, by, since } = self.revision.overrides.drained.get(instance)?.clone();
        let finished = self.draining.get(instance).is_some_and(|draining| draining.empty);
        Some(DrainStatus { reason, by, since, finished })
    }

    /// A service has the instances that it should have: a drain of any other is over, and must not await whoever gets
    /// that name next. One is left where `keel` ended in the middle of a rollout, or could not write the end down.
    pub(super) fn forget_drains_of_nobody(&mut self, service: &str) {
        let of_service = |name: &&String| name.split_once('/').is_some_and(|(of, _)| of == service);
        let drained: Vec<String> = self.revision.overrides.drained.keys().filter(of_service).cloned().collect();
        for name in drained {
            if !self.slots_of(service).any(|slot| slot.name() == name) {
                self.forget_drain(&name);
            }
        }
    }

    /// An instance is gone for good, and its drain with it: whoever gets its name next is another one. The revision
    /// keeps its number, since what is in force does not change.
    pub(super) fn forget_drain(&mut self, instance: &str) {
        if self.shutdown.is_some() || self.revision.overrides.drained.remove(instance).is_none() {
            return;
        }
        if let Err(error) = self.dir.save_revision(&self.revision, wall_now().as_millis()) {
            tracing::warn!(%error, instance, "the end of a drain cannot be kept");
        }
        let reasons = vec![Reason::seen("the instance is gone, and whoever gets its name next is another one")];
        self.note(Level::Info, instance, "resumed", "its drain ended with it", reasons);
    }
}
