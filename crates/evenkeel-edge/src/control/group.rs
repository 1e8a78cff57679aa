//! One service: its instances and the rules that decide about them.
//!
//! What was observed goes to the pure rules of `evenkeel_core`: `health`, `ejection`, `silence`. Their outputs end
//! in a verdict, which is written where data threads read it, then told to them, then reported, in this order, so
//! that nobody acts on a verdict that is not there yet.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use evenkeel_core::{
    ejection::{self, Ejector},
    health::KEPT,
    link::{Event, EventKind},
    silence::{self, Seen, Silence},
    snapshot::{Check, Duty, Service},
    status::{Basis, Health, InstanceId},
    time::Moment,
};

use super::{
    aside::{self, Aside},
    checking::Failed,
    hands::{Done, Hands, Which},
    member::{Drain, Key, Member},
    resolve::Resolved,
};
use crate::{
    clock,
    messages::{Failure, ToThread},
    probe::Failure as ProbeFailure,
    shared::InstanceShared,
    view::InstanceView,
};

/// Failures in traffic are looked at once in this time at most.
const FAILURES_APART: Duration = Duration::from_millis(1);

/// How often an abandoned instance is abandoned again while requests wait there.
const ABANDONS_APART: Duration = Duration::from_millis(500);

/// The instances of one service and the rules over them.
#[derive(Debug)]
pub(super) struct Group {
    config: Service,
    ejector: Ejector<Key>,
    silence: Silence<Key>,
    members: BTreeMap<Key, Member>,
    /// Who answered for the service when that was asked last, and what was said of it.
    pub(super) aside: Aside,
    said_of_aside: Option<EventKind>,
    /// The check in force changed, and nobody has passed it yet.
    unproven: bool,
    /// The check of which that was said.
    said_unproven: Option<Check>,
    /// When the ejection rules were asked last.
    decided: Moment,
}

impl Group {
    pub(super) fn new(config: &Service) -> Self {
        Self {
            config: config.clone(),
            ejector: Ejector::new(config.ejection.clone()),
            silence: Silence::new(config.limits.silent_after_ms),
            members: BTreeMap::new(),
            aside: Aside::default(),
            said_of_aside: None,
            unproven: false,
            said_unproven: None,
            decided: Moment::ORIGIN,
        }
    }

    pub(super) fn retune(&mut self, config: &Service) {
        self.unproven |= self.config.check != config.check;
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
        member.zone = zone.map(str::to_owned);
        self.judge(key, None, hands, now);
    }

    /// As in the view.
    pub(super) fn config(&self) -> &Service {
        &self.config
    }

    /// Whose verdict rests on something other than the check in force.
    pub(super) fn basis(&self) -> impl Iterator<Item = (InstanceId, Basis)> {
        let serving = self.members.values().filter(|member| member.duty == Duty::Serve);
        let others =
            serving.map(|member| (&member.shared.id, member.check.basis())).filter(|(_, basis)| !basis.is_check());
        others.map(|(id, basis)| (id.clone(), basis))
    }

    /// Whether it can take a request now.
    pub(super) fn can_answer(&self) -> bool {
        self.config.page.is_some() || self.has_healthy(|_| true)
    }

    /// Whether an instance in such a zone is healthy.
    pub(super) fn has_healthy(&self, is: impl Fn(Option<&String>) -> bool) -> bool {
        self.members.values().any(|member| member.told.health == Health::Healthy && is(member.zone.as_ref()))
    }

    /// A zone other than this one with a healthy instance.
    pub(super) fn healthy_zone_beside(&self, zone: &str) -> String {
        let mut healthy = self.members.values().filter(|member| member.told.health == Health::Healthy);
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
        tracing::info!(service = self.config.name, "{what:?}");
        hands.events.of_service(&self.config.name, what, clock::wall(), now);
    }

    /// Exactly these instances are left, of this service and of others.
    pub(super) fn forget_all_but(&mut self, kept: &HashSet<Key>) {
        let gone: Vec<Key> = self.members.keys().filter(|key| !kept.contains(key)).copied().collect();
        for key in gone {
            self.members.remove(&key);
            self.ejector.on(ejection::Event::Gone { key }, Moment::ORIGIN);
        }
    }

    /// One look at everything; `applied` is the number of the view that every thread serves.
    pub(super) fn tick(&mut self, applied: u64, hands: &mut Hands, now: Moment) {
        self.look_at_traffic(now);
        self.decide(hands, now);
        self.look_for_silence(hands, now);
        self.look_for_abandoned(hands, now);
        self.look_for_drained(applied, hands, now);
        for (&key, member) in &mut self.members {
            start(key, member, hands, now);
        }
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        match done.which {
            Which::Check => self.checked(done, hands, now),
            Which::Liveness => self.liveness_checked(done, hands, now),
            Which::Tight { number } => {
                let cause = done.result.err().map(|failure| failure.to_string());
                let result = cause.as_deref().map_or(Ok(()), Err);
                self.on_silence(silence::Event::Probed { key: done.key, number, took: done.took, result }, hands, now);
            }
        }
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
        if let Some(what) = &self.said_of_aside {
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
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if let Some(event) = member.judge(because, clock::wall(), now) {
            hands.tell(|| ToThread::Changed(Arc::clone(&member.shared)));
            hands.report(&self.config.name, event, now);
        }
        let (trial, well) = (member.trial, member.is_well());
        let event = match member.duty {
            Duty::Serve => ejection::Event::Member { key, well },
            Duty::Drain => ejection::Event::Gone { key },
        };
        self.ejector.on(event, now);
        self.ejector.on(ejection::Event::Trial { key, trial }, now);
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

    fn look_for_silence(&mut self, hands: &mut Hands, now: Moment) {
        let seen = self.members.iter().map(|(&key, member)| Seen {
            key,
            healthy: member.told.health == Health::Healthy,
            quiet_since: member.shared.quiet_since_ms().map(Moment::from_millis),
            in_flight: member.shared.sum(|cell| &cell.waiting),
            last_received: member.shared.last_received_ms().map(Moment::from_millis),
        });
        let seen: Vec<_> = seen.collect();
        self.on_silence(silence::Event::Observed(&seen), hands, now);
    }

    fn on_silence(&mut self, event: silence::Event<'_, Key>, hands: &mut Hands, now: Moment) {
        for output in self.silence.on(event, now) {
            match output {
                silence::Output::ProbeNow { key, number, timeout } => {
                    if let Some(member) = self.members.get(&key) {
                        hands.probe(key, Which::Tight { number }, member.tight_target(timeout));
                    }
                }
                silence::Output::Silent { key, reason } => {
                    let Some(member) = self.members.get_mut(&key) else {
                        continue;
                    };
                    member.silent = Some(reason);
                    member.abandoned = Some(now);
                    let shared = Arc::clone(&member.shared);
                    self.judge(key, None, hands, now);
                    hands.tell(|| ToThread::Abandon(Arc::clone(&shared)));
                }
                silence::Output::Answers { key, reason } => {
                    let Some(member) = self.members.get_mut(&key) else {
                        continue;
                    };
                    member.silent = None;
                    self.judge(key, Some(&reason), hands, now);
                }
            }
        }
    }

    /// Requests that were left where they are, since they take long, leave an instance that stays silent for long.
    fn look_for_abandoned(&mut self, hands: &mut Hands, now: Moment) {
        for member in self.members.values_mut() {
            let Some(last) = member.abandoned else { continue };
            if member.silent.is_none() && member.check.verdict() != Some(false) {
                member.abandoned = None;
            } else if now.since(last) >= ABANDONS_APART && member.shared.sum(|cell| &cell.waiting) > 0 {
                member.abandoned = Some(now);
                hands.tell(|| ToThread::Abandon(Arc::clone(&member.shared)));
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

    fn checked(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&done.key) else {
            return;
        };
        let first = !member.shared.was_probed();
        let answers = done.result.is_ok() && member.check.shows_answers();
        let is_mute = done.result.as_ref().is_err_and(|failure| !failure.is_answer());
        let (passed, before) = (done.result.is_ok() && !member.check.is_outdated(), member.check.basis());
        if !is_mute && member.silent.is_none() {
            // It answers, well or not: what takes long there is left alone again.
            member.abandoned = None;
        }
        let change = member.check.ended(done.result.map_err(|failure| failed(&failure)), now);
        let gives_up = change == Some(false) && is_mute && is_quiet(&member.shared, &self.config, now);
        if let Some(event) = member.still_unknown(clock::wall(), now) {
            hands.report(&self.config.name, event, now);
        }
        let reason = member.check.reason();
        let shared = Arc::clone(&member.shared);
        self.judge(done.key, Some(&reason), hands, now);
        self.basis_changed(done.key, before, hands, now);
        if passed && self.unproven && (!before.is_check() || !self.rests_on_former_check()) {
            self.proven(&shared.id, hands, now);
        }
        if first {
            // Whoever waited to know more may fall back now.
            shared.set_probed();
            hands.tell(|| ToThread::Changed(Arc::clone(&shared)));
        }
        if gives_up {
            self.members.entry(done.key).and_modify(|member| member.abandoned = Some(now));
            hands.tell(|| ToThread::Abandon(Arc::clone(&shared)));
        }
        if answers {
            let event = silence::Event::Probed { key: done.key, number: 0, took: done.took, result: Ok(()) };
            self.on_silence(event, hands, now);
        }
    }

    /// Says so when an instance begins or ceases to be kept against the check in force.
    fn basis_changed(&mut self, key: Key, before: Basis, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&key).filter(|member| member.duty == Duty::Serve) else { return };
        let basis = member.check.basis();
        let news = match basis {
            Basis::Kept => before != Basis::Kept,
            Basis::Check => member.told.reason.starts_with(KEPT),
            Basis::Former => false,
        };
        if !news {
            return;
        }
        let (health, reason) = member.verdict();
        if health == member.told.health && reason != member.told.reason {
            let event = member.remark(reason, clock::wall(), now);
            hands.report(&self.config.name, event, now);
        }
        if basis == Basis::Kept && self.said_unproven.as_ref() != Some(member.check.check()) {
            self.said_unproven = Some(member.check.check().clone());
            let what = EventKind::CheckUnproven { reason: member.check.saw() };
            tracing::warn!(service = self.config.name, "{what:?}");
            hands.events.of_service(&self.config.name, what, clock::wall(), now);
        }
    }

    /// Whether somebody serves by what a former check said. A new instance that passes the check in force proves nothing
    /// against those: where command and check change together, they serve until they are replaced.
    fn rests_on_former_check(&self) -> bool {
        self.members.values().any(|member| member.duty == Duty::Serve && !member.check.basis().is_check())
    }

    /// This one has passed the check in force: it counts for everybody from now on.
    fn proven(&mut self, by: &InstanceId, hands: &mut Hands, now: Moment) {
        self.unproven = false;
        if self.said_unproven.take().is_some() {
            let what = EventKind::CheckProven { by: by.clone() };
            tracing::info!(service = self.config.name, "{what:?}");
            hands.events.of_service(&self.config.name, what, clock::wall(), now);
        }
        let unproven: Vec<Key> =
            self.members.iter().filter(|(_, member)| !member.check.basis().is_check()).map(|(key, _)| *key).collect();
        for key in unproven {
            self.members.entry(key).and_modify(|member| member.check.proven());
            self.judge(key, None, hands, now);
        }
    }

    fn liveness_checked(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&done.key) else {
            return;
        };
        let Some(liveness) = &mut member.liveness else { return };
        if let Some(passing) = liveness.ended(done.result.map_err(|failure| failed(&failure)), now) {
            let what = EventKind::Liveness { passing, reason: liveness.reason() };
            let event = member.event(clock::wall(), what);
            hands.report(&self.config.name, event, now);
        }
    }
}

/// What a failed probe says to the rules. A name that does not resolve says nothing about who is there, but nobody can
/// be reached by it.
fn failed(failure: &ProbeFailure) -> Failed {
    let gone = matches!(failure, ProbeFailure::NotResolved | ProbeFailure::Connect(_));
    Failed { cause: failure.to_string(), gone }
}

/// Whether requests wait there for so long that whoever fails its check as well will hardly answer them.
fn is_quiet(shared: &InstanceShared, config: &Service, now: Moment) -> bool {
    let bound = Duration::from_millis(config.limits.silent_after_ms);
    let since = shared.quiet_since_ms().map(Moment::from_millis);
    !bound.is_zero() && since.is_some_and(|since| now.since(since) >= bound)
}

fn start(key: Key, member: &mut Member, hands: &Hands, now: Moment) {
    if member.check.starts(now) {
        hands.probe(key, Which::Check, member.target(&member.check));
    }
    let starts = member.liveness.as_mut().is_some_and(|liveness| liveness.starts(now));
    if let (true, Some(liveness)) = (starts, &member.liveness) {
        hands.probe(key, Which::Liveness, member.target(liveness));
    }
}
