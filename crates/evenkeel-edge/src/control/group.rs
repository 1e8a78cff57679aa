//! One service: its instances and the rules that decide about them.
//!
//! What was observed goes to the pure rules of `evenkeel_core`: `health`, `ejection`, `silence`. Their outputs end
//! in a verdict, which is written where data threads read it, then told to them, then reported, in this order, so
//! that nobody acts on a verdict that is not there yet.

mod probing;
mod proof;
mod quiet;
mod share;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use evenkeel_core::{
    capacity::Capacity,
    ejection::{self, Ejector},
    link::{Event, EventKind},
    silence::Silence,
    slow_start::SlowStart,
    snapshot::{Duty, Service},
    status::Health,
    time::Moment,
};

use self::{probing::start, proof::Proof};
use super::{
    aside::{self, Aside},
    habits::{Habits, Sight},
    hands::Hands,
    member::{Drain, Key, Member},
    pace::Calm,
    resolve::Resolved,
};
use crate::{
    clock,
    messages::{Failure, ToThread},
    shared::InstanceShared,
    view::{InstanceView, ServiceView},
};

/// Failures in traffic are looked at once in this time at most.
const FAILURES_APART: Duration = Duration::from_millis(1);

/// The instances of one service and the rules over them.
#[derive(Debug)]
pub(super) struct Group {
    config: Service,
    /// As it was taken over last.
    pub(super) view: Option<Arc<ServiceView>>,
    calm: Calm,
    /// Who was to be probed and found no room.
    unstarted: Option<Key>,
    ejector: Ejector<Key>,
    silence: Silence<Key>,
    habits: Habits,
    members: BTreeMap<Key, Member>,
    /// Who answered for the service when that was asked last, and what was said of it.
    pub(super) aside: Aside,
    said_of_aside: Option<EventKind>,
    proof: Proof,
    slow_start: SlowStart,
    capacity: Capacity,
    said_of_capacity: Option<EventKind>,
    /// When the ejection rules were asked last.
    decided: Moment,
}

impl Group {
    pub(super) fn new(config: &Service) -> Self {
        Self {
            config: config.clone(),
            view: None,
            calm: Calm::default(),
            unstarted: None,
            ejector: Ejector::new(config.ejection.clone()),
            silence: Silence::new(config.limits.silent_after_ms),
            habits: Habits::default(),
            members: BTreeMap::new(),
            aside: Aside::default(),
            said_of_aside: None,
            proof: Proof::default(),
            slow_start: SlowStart::default(),
            capacity: Capacity::default(),
            said_of_capacity: None,
            decided: Moment::ORIGIN,
        }
    }

    pub(super) fn retune(&mut self, config: &Service) {
        self.proof.wanted |= self.config.check != config.check;
        self.config = config.clone();
        self.ejector.retune(config.ejection.clone());
        self.silence.retune(config.limits.silent_after_ms);
    }

    /// This instance is one of the service's, since the view of this number at the latest.
    pub(super) fn takes(
        &mut self,
        key: Key,
        instance: &InstanceView,
        zone: Option<&str>,
        number: u64,
        hands: &mut Hands,
        now: Moment,
    ) {
        let config = &self.config;
        let member = self.members.entry(key);
        let member = member.or_insert_with(|| Member::new(Arc::clone(&instance.shared), config, clock::wall(), now));
        member.retune(&self.config, instance.duty, number, now);
        member.trial = instance.trial;
        member.pid = instance.pid;
        member.zone = zone.map(str::to_owned);
        self.judge(key, None, hands, now);
    }

    /// As in the view.
    pub(super) fn config(&self) -> &Service {
        &self.config
    }

    /// Whether it can take a request now.
    pub(super) fn can_answer(&self) -> bool {
        self.config.page.is_some() || self.has_healthy(|_| true)
    }

    /// Whether an instance in such a zone is healthy.
    pub(super) fn has_healthy(&self, is: impl Fn(Option<&String>) -> bool) -> bool {
        self.members.values().any(|member| member.gets_requests() && is(member.zone.as_ref()))
    }

    /// A zone other than this one with a healthy instance.
    pub(super) fn healthy_zone_beside(&self, zone: &str) -> String {
        let mut healthy = self.members.values().filter(|member| member.gets_requests());
        let other = healthy.find(|member| member.zone.as_deref() != Some(zone));
        other.and_then(|member| member.zone.clone()).unwrap_or_else(|| format!("outside of {zone}"))
    }

    /// Whether nothing is known yet of an instance in such a zone that should serve.
    pub(super) fn awaits_probe(&self, is: impl Fn(Option<&String>) -> bool) -> bool {
        let mut serving = self.members.values().filter(|member| member.duty == Duty::Serve && is(member.zone.as_ref()));
        serving.any(|member| member.told.health == Health::Unknown && !member.shared.was_probed())
    }

    /// What speaks against each instance in such a zone.
    pub(super) fn why_not(&self, is: impl Fn(Option<&String>) -> bool) -> String {
        let those = self.members.values().filter(|member| is(member.zone.as_ref()));
        aside::listed(those.map(|member| {
            let (health, reason) = member.verdict();
            format!("{}: {}", member.shared.id.name, aside::why(health, &reason))
        }))
    }

    /// Why no instance can take a request, where data threads found that `reason`.
    pub(super) fn why_nobody(&self, reason: &str) -> String {
        let bound = self.config.limits.in_flight_per_instance;
        let all = self.members.values().map(|member| {
            let (name, in_flight) = (&member.shared.id.name, member.shared.in_flight.load(Relaxed));
            let (health, reason) = member.verdict();
            match health {
                Health::Healthy if bound > 0 && in_flight >= bound => {
                    format!("{name}: {in_flight} requests in flight, and {bound} are its limit")
                }
                _ => format!("{name}: {}", aside::why(health, &reason)),
            }
        });
        format!("{reason}: {}", aside::listed(all))
    }

    /// Whether anybody else may ever answer for it, or did.
    pub(super) fn may_stand_aside(&self) -> bool {
        self.config.fallback.is_some() || self.config.prefer.is_some() || self.aside != Aside::No
    }

    /// Somebody else answers for the service now, or no longer.
    pub(super) fn stands(&mut self, (aside, reason): (Aside, String), hands: &mut Hands, now: Moment) {
        let Some(what) = self.aside.changes_to(aside, &reason) else { return };
        self.said_of_aside = matches!(what, EventKind::FellBack { .. }).then(|| what.clone());
        let service = &self.config.name;
        if let EventKind::FellBack { to, reason } = &what {
            tracing::warn!(service, reason, "{to} answers instead");
        } else {
            tracing::info!(service, "what is preferred answers again");
        }
        hands.events.of_service(&self.config.name, what, clock::wall(), now);
    }

    /// Exactly these instances are left. Returns who is gone. Whoever is and does not answer is not waited for.
    pub(super) fn forget_all_but(&mut self, kept: &HashSet<Key>, hands: &Hands) -> Vec<(Key, Arc<InstanceShared>)> {
        let gone: Vec<Key> = self.members.keys().filter(|key| !kept.contains(key)).copied().collect();
        let forget = |key| {
            self.ejector.on(ejection::Event::Gone { key }, Moment::ORIGIN);
            let member = self.members.remove(&key)?;
            self.habits.forget(key);
            if member.is_mute() {
                hands.tell(|| ToThread::Removed(Arc::clone(&member.shared)));
            }
            Some((key, member.shared))
        };
        gone.into_iter().filter_map(forget).collect()
    }

    /// One look at everything; `applied` is the number of the view that every thread serves. Returns whether every
    /// probe that is due was started.
    pub(super) fn tick(&mut self, applied: u64, hands: &mut Hands, now: Moment) -> bool {
        self.look_at_traffic(now);
        self.decide(hands, now);
        self.look_for_silence(hands, now);
        self.look_for_abandoned(hands, now);
        self.look_for_drained(applied, hands, now);
        self.look_at_capacity(hands, now);
        self.start_probes(hands, now)
    }

    /// A try failed: the next probe comes sooner.
    pub(super) fn failed(&mut self, key: Key, failure: Failure, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        member.last_failure = Some(failure);
        if failure != Failure::Status {
            member.check.hurry(now);
            start(key, member, hands, now);
            self.calm.ends_by(member.due());
        }
        // An instance that died draws requests until it is out, so this does not wait for the next tick.
        if now.since(self.decided) >= FAILURES_APART {
            self.look_at_traffic(now);
            self.decide(hands, now);
        }
    }

    /// Requests were sent elsewhere.
    pub(super) fn moved(&self, key: Key, requests: u64, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get(&key) else { return };
        let reason = member.told.reason.clone();
        let event = member.event(clock::wall(), EventKind::Moved { requests, reason });
        hands.report(&self.config.name, event, now);
    }

    /// A name was asked for.
    pub(super) fn resolved(&mut self, resolved: &Resolved, changed: bool, hands: &mut Hands, now: Moment) {
        let Resolved { address, answer } = resolved;
        for member in self.members.values_mut().filter(|member| member.shared.address == *address) {
            let former = member.shared.resolved();
            if let Some(new) = member.resolves(answer.as_deref().unwrap_or_default()) {
                member.shared.set_resolved(new);
                member.check.hurry(now);
                self.calm.ends_by(Some(now));
                hands.tell(|| ToThread::Changed(Arc::clone(&member.shared)));
            }
            let remark = match (answer, former, member.shared.resolved()) {
                (Ok(_), Some(former), Some(new)) if former != new => {
                    format!("its name leads to {new} now, no longer to {former}")
                }
                (Ok(_), Some(_), Some(present)) if changed => format!("its name resolves again, to {present}"),
                (Err(cause), Some(last), _) if changed => {
                    format!("its name does not resolve: {cause}; its last address {last} stays in use")
                }
                (Err(cause), None, _) if changed => format!("its name does not resolve: {cause}"),
                _ => continue,
            };
            let event = member.remark(remark, clock::wall(), now);
            hands.report(&self.config.name, event, now);
        }
    }

    /// Says again what holds now, for a node process that may have heard none of it. What waits to be sent anyway
    /// is not said twice.
    pub(super) fn repeat(&self, hands: &mut Hands, now: Moment) {
        for what in [&self.said_of_aside, &self.said_of_capacity].into_iter().flatten() {
            hands.events.of_service(&self.config.name, what.clone(), clock::wall(), now);
        }
        for member in self.members.values() {
            let last = Event { service: self.config.name.clone(), ..member.last_word() };
            if !hands.events.has(&last) {
                hands.report(&self.config.name, last, now);
            }
            if let Some(liveness) = member.liveness.as_ref()
                && let Some(passing) = liveness.verdict()
            {
                let what = EventKind::Liveness { passing, reason: liveness.reason() };
                hands.report(&self.config.name, member.event(member.told.at, what), now);
            }
            if member.drain == Drain::Done {
                let event = member.event(clock::wall(), EventKind::Drained);
                hands.report(&self.config.name, event, now);
            }
        }
    }

    /// Writes and reports the verdict if it changed, and tells the ejection rules what else speaks for it.
    fn judge(&mut self, key: Key, because: Option<&str>, hands: &mut Hands, now: Moment) {
        let slowly = self.starts_slowly(key, now);
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        let mut lost = false;
        if let Some(event) = member.judge((because, slowly.as_deref()), clock::wall(), now) {
            hands.tell(|| ToThread::Changed(Arc::clone(&member.shared)));
            hands.report(&self.config.name, event, now);
            lost = member.told.health != Health::Healthy;
            self.calm.ends_by(Some(now));
        }
        let (trial, well) = (member.trial, member.is_well());
        let event = match member.duty {
            Duty::Serve => ejection::Event::Member { key, well },
            Duty::Drain => ejection::Event::Gone { key },
        };
        self.ejector.on(event, now);
        self.ejector.on(ejection::Event::Trial { key, trial }, now);
        if lost {
            self.look_at_capacity(hands, now);
        }
    }

    fn look_at_traffic(&mut self, now: Moment) {
        for (&key, member) in &mut self.members {
            let ended = member.traffic.look(&member.shared, self.config.ejection.count_5xx);
            if ended.ok > 0 || ended.failed > 0 {
                let event =
                    ejection::Event::Traffic { key, ok: ended.ok, failed: ended.failed, trailing: ended.trailing };
                self.ejector.on(event, now);
            }
        }
    }

    /// Lets the ejection rules decide.
    fn decide(&mut self, hands: &mut Hands, now: Moment) {
        self.decided = now;
        for output in self.ejector.on(ejection::Event::Time, now) {
            match output {
                ejection::Output::Ejected { key, reason } => {
                    let Some(member) = self.members.get_mut(&key) else {
                        continue;
                    };
                    let last = member.last_failure.map(|failure| format!("; the last one: {}", failure.as_str()));
                    let reason = reason + &last.unwrap_or_default();
                    if self.config.observe {
                        let event = member.remark(format!("would be ejected: {reason}"), clock::wall(), now);
                        hands.report(&self.config.name, event, now);
                        continue;
                    }
                    member.ejected = Some(reason);
                    self.judge(key, None, hands, now);
                }
                ejection::Output::Returned { key, reason } => {
                    let member = self.members.get_mut(&key).filter(|member| member.ejected.is_some());
                    let Some(member) = member else { continue };
                    member.ejected = None;
                    self.judge(key, Some(&reason), hands, now);
                }
                ejection::Output::Kept { key, reason } => {
                    let Some(member) = self.members.get_mut(&key) else {
                        continue;
                    };
                    let event = member.remark(reason, clock::wall(), now);
                    hands.report(&self.config.name, event, now);
                }
            }
        }
    }

    fn look_for_drained(&mut self, applied: u64, hands: &mut Hands, now: Moment) {
        for member in self.members.values_mut() {
            if member.has_drained(applied) {
                let event = member.event(clock::wall(), EventKind::Drained);
                hands.report(&self.config.name, event, now);
            }
        }
    }
}
