//! Probes of a service's instances: which are started, and what follows from how they end.
//!
//! When each is due is known to `checking`, how many may be started to `pace`. A probe that ended goes to the rules of
//! health and of silence, and may end the wait of requests at an instance that will hardly answer them.

use std::{
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    link::{Checked, EventKind},
    silence,
    snapshot::{Probe, Service},
    status::InstanceId,
    time::Moment,
};

use super::{Group, Hands, Key, Member};
use crate::{
    clock,
    control::{
        checking::Failed,
        hands::{Done, Which},
    },
    messages::ToThread,
    probe::Failure as ProbeFailure,
    shared::InstanceShared,
};

impl Group {
    /// Whether it is to be looked at now.
    pub(in crate::control) fn calls(&mut self, now: Moment) -> bool {
        self.view.as_ref().is_none_or(|view| self.calm.is_over(&view.shared, now))
    }

    /// Starts the probes that are due, as far as there is room; the next time with whoever found none.
    pub(super) fn start_probes(&mut self, hands: &mut Hands, now: Moment) -> bool {
        let first = self.unstarted.take();
        let mut due = None;
        let (before, behind) = (first.map(|first| (Unbounded, Excluded(first))), first.map_or(Unbounded, Included));
        for range in [Some((behind, Unbounded)), before].into_iter().flatten() {
            for (&key, member) in self.members.range_mut(range) {
                if !start(key, member, hands, now) {
                    self.unstarted.get_or_insert(key);
                }
                due = [due, member.due()].into_iter().flatten().min();
            }
        }
        self.calm.begins(due, now);
        self.unstarted.is_none()
    }

    /// A probe ended.
    pub(in crate::control) fn probed(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let key = done.key;
        self.ended(done, hands, now);
        if let Some(member) = self.members.get_mut(&key) {
            member.put_off(hands.pace.least());
            self.calm.ends_by(member.due());
        }
    }

    fn ended(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        match done.which {
            Which::Check | Which::Told { .. } => self.checked(done, hands, now),
            Which::Liveness => self.liveness_checked(done, hands, now),
            Which::Tight { number } => {
                // Whatever an instance answers to a call shows that it answers.
                let is_call = matches!(done.target.probe, Probe::Grpc { .. });
                let failure = done.result.err().filter(|failure| !(is_call && failure.is_answer()));
                let cause = failure.map(|failure| failure.to_string());
                let result = cause.as_deref().map_or(Ok(()), Err);
                self.on_silence(silence::Event::Probed { key: done.key, number, took: done.took, result }, hands, now);
            }
        }
    }

    pub(super) fn checked(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&done.key) else {
            return;
        };
        let first = !member.shared.was_probed();
        let answers = done.result.is_ok() && member.check.shows_answers();
        let is_mute = done.result.as_ref().is_err_and(|failure| !failure.is_answer());
        let is_told = matches!(done.which, Which::Told { .. });
        let counts = is_told || !member.check.is_outdated();
        let (passed, before) = (done.result.is_ok() && counts, member.check.basis());
        if std::mem::replace(&mut member.answers, !is_mute && !is_told) == is_mute {
            self.calm.ends_by(Some(now));
        }
        if !is_mute && member.silent.is_none() {
            // It answers, well or not: what takes long there is left alone again.
            member.abandoned = None;
        }
        let result = done.result.map_err(|failure| failed(&failure));
        let change = match done.which {
            Which::Told { digest } if member.check.runs(digest) => member.check.told(result, now),
            Which::Told { .. } => return,
            _ => member.check.ended(result, now),
        };
        let gives_up = change == Some(false) && is_mute && is_quiet(&member.shared, &self.config, now);
        if let Some(event) = member.still_unknown(clock::wall(), now) {
            hands.report(&self.config.name, event, now);
        }
        let reason = member.check.reason();
        let shared = Arc::clone(&member.shared);
        self.judge(done.key, Some(&reason), hands, now);
        self.basis_changed(done.key, before, hands, now);
        if passed && self.proof.wanted && (!before.is_check() || !self.rests_on_former_check()) {
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

    /// Who has this name and generation.
    pub(in crate::control) fn key_of(&self, id: &InstanceId) -> Option<Key> {
        self.members.iter().find(|(_, member)| member.shared.id == *id).map(|(key, _)| *key)
    }

    /// The node process says how a command of a check ended.
    pub(in crate::control) fn told(&mut self, key: Key, checked: Checked, hands: &mut Hands, now: Moment) {
        let Checked { digest, liveness, cause, .. } = checked;
        let result = cause.map_or(Ok(()), |cause| Err(ProbeFailure::Command(cause)));
        let Some(member) = self.members.get_mut(&key) else { return };
        if !liveness {
            let target = member.target(&member.check);
            let done = Done {
                key,
                which: Which::Told { digest },
                started: now,
                took: Duration::ZERO,
                again: false,
                target,
                result,
            };
            return self.checked(done, hands, now);
        }
        let result = result.map_err(|failure| failed(&failure));
        let liveness = member.liveness.as_mut().filter(|liveness| liveness.runs(digest));
        let change = liveness.and_then(|liveness| liveness.told(result, now));
        self.liveness_changed(key, change, hands, now);
    }

    fn liveness_checked(&mut self, done: Done, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&done.key) else {
            return;
        };
        let Some(liveness) = &mut member.liveness else { return };
        let change = liveness.ended(done.result.map_err(|failure| failed(&failure)), now);
        self.liveness_changed(done.key, change, hands, now);
    }

    fn liveness_changed(&mut self, key: Key, change: Option<bool>, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get(&key) else { return };
        if let (Some(passing), Some(liveness)) = (change, &member.liveness) {
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

/// Starts what is due; `false`: there was no room for it.
pub(super) fn start(key: Key, member: &mut Member, hands: &mut Hands, now: Moment) -> bool {
    let mut room = true;
    if member.check.is_due(now) {
        room = hands.pace.takes(now);
        if room && member.check.starts(now) {
            hands.probe(key, Which::Check, member.target(&member.check));
        }
    }
    if let Some(liveness) = member.liveness.as_mut().filter(|liveness| room && liveness.is_due(now)) {
        room = hands.pace.takes(now);
        if room
            && liveness.starts(now)
            && let Some(target) = member.liveness.as_ref().map(|liveness| member.target(liveness))
        {
            hands.probe(key, Which::Liveness, target);
        }
    }
    room
}
