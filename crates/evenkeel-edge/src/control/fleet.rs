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
    link::{Checked, Event, EventKind},
    snapshot::Probe,
    status::{Basis, InstanceId},
    time::Moment,
};

use super::{
    aside,
    group::Group,
    hands::{Done, Hands},
    member::Key,
    pace::AT_ONCE,
    resolve::Resolved,
};
use crate::{
    clock, messages,
    probe::Failure,
    shared::InstanceShared,
    view::{ServiceView, View},
};

/// All instances of all services.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    groups: HashMap<String, Group>,
    /// Which group a member is in.
    homes: HashMap<Key, Arc<str>>,
    /// Finds the member of what data threads name. An address is compared, never followed; the member keeps what
    /// lives there alive.
    keys: HashMap<*const InstanceShared, Key>,
    last_key: u64,
    /// Which group, by its place in the order of iteration, is looked at first: others before the one for which there was
    /// no room, since that may want all there is.
    first: usize,
    /// Checks are made less often than they should be, for there are so many instances.
    stretched: Option<usize>,
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

    /// Takes over a view, the `number`th: who stays keeps everything known of it, who is new starts with nothing. A
    /// service that is the very same as before is passed by.
    pub(super) fn apply(&mut self, view: &View, number: u64, hands: &mut Hands, now: Moment) {
        let names: HashSet<&str> = view.services.iter().map(|service| service.config.name.as_str()).collect();
        let gone = self.groups.extract_if(|name, _| !names.contains(name.as_str()));
        let mut forgotten: Vec<(Key, Arc<InstanceShared>)> = Vec::new();
        gone.for_each(|(_, mut group)| forgotten.extend(group.forget_all_but(&HashSet::new(), hands)));
        self.forget(forgotten);
        let mut changed = Vec::new();
        for service in &view.services {
            let known = self.groups.get(&service.config.name).and_then(|group| group.view.as_ref());
            if !known.is_some_and(|known| Arc::ptr_eq(known, service)) {
                self.take_over(service, number, hands, now);
                changed.push(&service.config.name);
            }
        }
        self.stretch(view, hands, now);
        for name in changed {
            if let Some(group) = self.groups.get_mut(name) {
                group.tick(0, hands, now);
            }
        }
    }

    fn take_over(&mut self, service: &Arc<ServiceView>, number: u64, hands: &mut Hands, now: Moment) {
        let name = &service.config.name;
        let home: Arc<str> = name.as_str().into();
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(&service.config));
        group.view = Some(Arc::clone(service));
        group.retune(&service.config);
        let mut kept = HashSet::with_capacity(service.instances.len());
        for instance in &service.instances {
            let pointer = Arc::as_ptr(&instance.shared);
            let last_key = &mut self.last_key;
            let key = *self.keys.entry(pointer).or_insert_with(|| {
                *last_key += 1;
                Key(*last_key)
            });
            if self.homes.get(&key).is_some_and(|other| *other != home) || !kept.insert(key) {
                continue;
            }
            self.homes.insert(key, Arc::clone(&home));
            group.takes(key, instance, instance.zone.as_deref(), number, hands, now);
        }
        let gone = group.forget_all_but(&kept, hands);
        self.forget(gone);
    }

    fn forget(&mut self, gone: Vec<(Key, Arc<InstanceShared>)>) {
        for (key, shared) in gone {
            self.homes.remove(&key);
            self.keys.remove(&Arc::as_ptr(&shared));
        }
    }

    /// Where there are more instances than can be probed as often as their checks want, says how often they are, and when
    /// that is over.
    fn stretch(&mut self, view: &View, hands: &mut Hands, now: Moment) {
        let checks = view.services.iter().flat_map(|service| {
            let its = [&service.config.check, &service.config.liveness].into_iter().flatten();
            // Commands are run by the node process.
            let its = its.filter(|check| !matches!(check.probe, Probe::Exec { .. }));
            its.map(|check| (service.instances.len(), check.interval_ms))
        });
        hands.pace.set_checks(checks.collect());
        let least = hands.pace.least();
        let stretched = (!least.is_zero()).then_some(self.homes.len());
        if std::mem::replace(&mut self.stretched, stretched) != stretched {
            let instances = self.homes.len() as u64;
            let interval_ms = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
            let what = match stretched {
                Some(_) => EventKind::ChecksStretched { instances, interval_ms },
                None => EventKind::ChecksInTime { instances },
            };
            tracing::warn!(
                instances,
                interval_ms,
                stretched = stretched.is_some(),
                "how often checks are made changed"
            );
            hands.events.of_service("", what, clock::wall(), now);
        }
    }

    /// One look at everything, or with very many instances at whoever calls for it; `applied` is the number of the view
    /// that every thread serves.
    pub(super) fn tick(&mut self, applied: u64, hands: &mut Hands, now: Moment) {
        let all = self.homes.len() <= AT_ONCE;
        let first = self.first.min(self.groups.len());
        let mut without_room = None;
        for (part, skipped) in [(first..self.groups.len(), first), (0..first, 0)] {
            for (place, group) in part.clone().zip(self.groups.values_mut().skip(skipped)) {
                if (all || group.calls(now)) && !group.tick(applied, hands, now) {
                    without_room.get_or_insert(place);
                }
            }
        }
        self.first = without_room.map_or(0, |place| place + 1);
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
    /// part is repeated: once, for an edge that never gets enough of its processor would else never find anybody out.
    pub(super) fn probed(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        if says_nothing(self.overslept, &done) {
            return hands.probe_again(done.key, done.which, done.target);
        }
        let Some(group) = self.homes.get(&done.key).and_then(|home| self.groups.get_mut(&**home)) else {
            return;
        };
        group.probed(done, hands, now);
    }

    /// The node process says how a command of a check ended. Of an instance that is not here it says nothing.
    pub(super) fn told(&mut self, checked: Checked, hands: &mut Hands, now: Moment) {
        let Some(group) = self.groups.get_mut(service_of(&checked.instance)) else { return };
        if let Some(key) = group.key_of(&checked.instance) {
            group.told(key, checked, hands, now);
        }
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
            return group.moved(key, requests, hands, now);
        }
        let service = service_of(&instance.id);
        if self.groups.contains_key(service) {
            let reason = "it was removed while it did not answer".to_owned();
            let what = EventKind::Moved { requests, reason };
            let event = Event { at: clock::wall(), instance: Some(instance.id.clone()), service: String::new(), what };
            hands.report(service, event, now);
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
        Some((self.groups.get_mut(&**self.homes.get(&key)?)?, key))
    }
}

/// The service of this instance, by its name.
fn service_of(id: &InstanceId) -> &str {
    id.name.split_once('/').map_or("", |(service, _)| service)
}

/// Whether we slept through a good part of the time of this probe, which may have failed for that alone.
fn says_nothing(overslept: Option<(Moment, Duration)>, done: &Done) -> bool {
    let slept = overslept.is_some_and(|(at, slept)| done.started <= at && slept > done.target.timeout / 4);
    slept && !done.again && matches!(done.result, Err(Failure::Timeout(_)))
}

#[cfg(test)]
mod tests {
    use super::{super::hands::Which, *};
    use crate::probe::Target;

    #[test]
    fn a_probe_that_we_slept_through_is_repeated_once() {
        let timeout = Duration::from_millis(400);
        let target =
            Target { resolved: None, address: "127.0.0.1:1".to_owned(), probe: Probe::Tcp, timeout, introduces: None };
        let result = Err(Failure::Timeout(timeout));
        let started = Moment::from_millis(1_000);
        let (key, which) = (Key(1), Which::Liveness);
        let mut done = Done { key, which, started, took: timeout, again: false, target, result };
        let slept = |at_ms, ms| Some((Moment::from_millis(at_ms), Duration::from_millis(ms)));
        assert!(says_nothing(slept(1_200, 150), &done));
        assert!(!says_nothing(None, &done), "we were awake");
        assert!(!says_nothing(slept(900, 150), &done), "that was before");
        assert!(!says_nothing(slept(1_200, 50), &done), "there was time enough");
        done.again = true;
        assert!(!says_nothing(slept(1_200, 150), &done), "whoever sleeps all the time finds out all the same");
        (done.again, done.result) = (false, Ok(()));
        assert!(!says_nothing(slept(1_200, 150), &done), "a pass is a pass");
    }
}
