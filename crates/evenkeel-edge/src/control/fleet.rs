//! All instances of all services: who they are, and to whose rules an event goes.
//!
//! Events come from three places: a view (which instances there are), probes, and a tick that reads what traffic
//! showed. Each is led to the `group` of its service, which decides. An instance that a view no longer names is
//! forgotten with all that was known of it; what still comes of it, a probe or a note, then leads nowhere. The
//! control thread owns this.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    status::{Basis, InstanceId},
    time::Moment,
};

use super::{
    aside,
    group::Group,
    hands::{Done, Hands},
    member::Key,
    resolve::Resolved,
};
use crate::{messages, probe::Failure, shared::InstanceShared, view::View};

/// All instances of all services.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    groups: HashMap<String, Group>,
    /// Which group a member is in.
    homes: HashMap<Key, String>,
    /// Finds the member of what data threads name. An address is compared, never followed; the member keeps what
    /// lives there alive.
    keys: HashMap<*const InstanceShared, Key>,
    last_key: u64,
    /// When we last found that we had slept, and for how long.
    overslept: Option<(Moment, Duration)>,
}

impl Fleet {
    /// How many instances there are.
    pub(super) fn len(&self) -> usize {
        self.homes.len()
    }

    /// Whose verdict rests on something other than the check in force.
    pub(super) fn basis(&self) -> Vec<(InstanceId, Basis)> {
        self.groups.values().flat_map(Group::basis).collect()
    }

    /// Takes over a view, the `number`th: who stays keeps everything known of it, who is new starts with nothing.
    pub(super) fn apply(&mut self, view: &View, number: u64, hands: &mut Hands, now: Moment) {
        let mut kept = HashSet::new();
        for service in &view.services {
            let name = &service.config.name;
            let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(&service.config));
            group.retune(&service.config);
            for instance in &service.instances {
                let pointer = Arc::as_ptr(&instance.shared);
                let last_key = &mut self.last_key;
                let key = *self.keys.entry(pointer).or_insert_with(|| {
                    *last_key += 1;
                    Key(*last_key)
                });
                if !kept.insert(key) || self.homes.get(&key).is_some_and(|home| home != name) {
                    continue;
                }
                self.homes.insert(key, name.clone());
                group.takes(key, instance, instance.zone.as_deref(), number, hands, now);
            }
        }
        self.forget_all_but(&kept, view);
        for group in self.groups.values_mut() {
            group.tick(0, hands, now);
        }
    }

    fn forget_all_but(&mut self, kept: &HashSet<Key>, view: &View) {
        let services: HashSet<&str> = view.services.iter().map(|service| service.config.name.as_str()).collect();
        self.groups.retain(|name, _| services.contains(name.as_str()));
        for group in self.groups.values_mut() {
            group.forget_all_but(kept);
        }
        self.keys.retain(|_, key| kept.contains(key));
        self.homes.retain(|key, _| kept.contains(key));
    }

    /// One look at everything; `applied` is the number of the view that every thread serves.
    pub(super) fn tick(&mut self, applied: u64, hands: &mut Hands, now: Moment) {
        for group in self.groups.values_mut() {
            group.tick(applied, hands, now);
        }
        let asides = self.groups.iter().filter(|(_, group)| group.may_stand_aside());
        let asides = asides.filter_map(|(name, group)| Some((name.clone(), aside::judge(group, &self.groups)?)));
        let asides: Vec<_> = asides.collect();
        for (name, aside) in asides {
            if let Some(group) = self.groups.get_mut(&name) {
                group.stands(aside, hands, now);
            }
        }
    }

    /// Why no instance of this service can take a request, where data threads found that `reason`.
    pub(super) fn why_nobody(&self, service: &str, reason: &str) -> String {
        self.groups.get(service).map_or_else(|| reason.to_owned(), |group| group.why_nobody(reason))
    }

    /// The control thread did not run for so long: probes that took too long meanwhile may have done so for that.
    pub(super) fn overslept(&mut self, slept: Duration, now: Moment) {
        self.overslept = Some((now, slept));
    }

    /// A probe ended. One of an instance that is gone says nothing, and one of whose time we slept through a good
    /// part is repeated.
    pub(super) fn probed(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let slept = self.overslept.is_some_and(|(at, slept)| done.started <= at && slept > done.target.timeout / 4);
        if slept && matches!(done.result, Err(Failure::Timeout(_))) {
            return hands.probe(done.key, done.which, done.target);
        }
        let Some(group) = self.homes.get(&done.key).and_then(|home| self.groups.get_mut(home)) else {
            return;
        };
        group.probed(done, hands, now);
    }

    /// A try failed at this instance: its next probe comes sooner.
    pub(super) fn failed(
        &mut self,
        instance: &Arc<InstanceShared>,
        failure: messages::Failure,
        hands: &mut Hands,
        now: Moment,
    ) {
        if let Some((group, key)) = self.find(instance) {
            group.failed(key, failure, hands, now);
        }
    }

    /// Requests of this instance were sent elsewhere.
    pub(super) fn moved(&mut self, instance: &Arc<InstanceShared>, requests: u64, hands: &mut Hands, now: Moment) {
        if let Some((group, key)) = self.find(instance) {
            group.moved(key, requests, hands, now);
        }
    }

    /// A name was asked for; `changed` if it was answered differently before: resolved or not.
    pub(super) fn resolved(&mut self, resolved: &Resolved, changed: bool, hands: &mut Hands, now: Moment) {
        for group in self.groups.values_mut() {
            group.resolved(resolved, changed, hands, now);
        }
    }

    /// Says again what holds now, for a node process that may have heard none of it. What waits to be sent anyway
    /// is not said twice.
    pub(super) fn repeat(&self, hands: &mut Hands, now: Moment) {
        for group in self.groups.values() {
            group.repeat(hands, now);
        }
    }

    fn find(&mut self, instance: &Arc<InstanceShared>) -> Option<(&mut Group, Key)> {
        let key = *self.keys.get(&Arc::as_ptr(instance))?;
        Some((self.groups.get_mut(self.homes.get(&key)?)?, key))
    }
}
