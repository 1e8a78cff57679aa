//! Silence: what traffic shows of it, whom that makes us ask, and what becomes of requests at an instance that hardly
//! answers them.
//!
//! The rule is [`evenkeel_core::silence`]; who knows whether an instance lives is found here. Of a process of this node the
//! kernel is asked (`kernel`), of any other instance its own check's probe, if its application answers that one.
//! Where neither is there, nobody is asked: a request that no check allows may be slow or have effects.

use std::{sync::Arc, time::Duration};

use evenkeel_core::{
    silence::{self, Asked, Seen},
    time::Moment,
};

use super::{Group, Habits, Hands, Key, Member, Sight};
use crate::{
    control::{hands::Which, kernel},
    messages::ToThread,
};

/// How often an abandoned instance is abandoned again while requests wait there.
const ABANDONS_APART: Duration = Duration::from_millis(500);

impl Group {
    pub(super) fn look_for_silence(&mut self, hands: &mut Hands, now: Moment) {
        let after = Duration::from_millis(self.config.limits.silent_after_ms);
        let (members, habits) = (&self.members, &mut self.habits);
        let answered = |member: &Member| member.shared.sum(|cell| &cell.answered);
        habits.turn(members.iter().map(|(&key, member)| (key, answered(member))), now);
        let all_answered: u64 = members.values().map(answered).sum();
        let seen = members.iter().map(|(&key, member)| {
            let quiet_since = member.shared.quiet_since_ms().map(Moment::from_millis);
            let is_quiet = !after.is_zero() && quiet_since.is_some_and(|since| now.since(since) >= after);
            let matters = member.silent.is_some() || is_quiet;
            let answered = answered(member);
            let well = member.silent.is_none() && member.gets_requests();
            habits.sees(Sight { key, quiet_since, well, elsewhere: all_answered.saturating_sub(answered) }, now);
            Seen {
                key,
                healthy: member.gets_requests(),
                quiet_since,
                in_flight: member.shared.sum(|cell| &cell.waiting),
                last_received: member.shared.last_received_ms().map(Moment::from_millis),
                asked: if matters { asked(key, member, answered, habits) } else { Asked::Nobody },
            }
        });
        let seen: Vec<_> = seen.collect();
        self.on_silence(silence::Event::Observed(&seen), hands, now);
    }

    pub(super) fn on_silence(&mut self, event: silence::Event<'_, Key>, hands: &mut Hands, now: Moment) {
        for output in self.silence.on(event, now) {
            match output {
                silence::Output::ProbeNow { key, number, timeout } => {
                    let target = self.members.get(&key).and_then(|member| member.tight_target(timeout));
                    if let Some(target) = target {
                        hands.probe(key, Which::Tight { number }, target);
                    }
                }
                silence::Output::LookNow { key } => {
                    let stopped = self.members.get(&key).and_then(|member| kernel::stopped(member.pid?));
                    let proof = stopped.map(|pid| format!("its process {pid} is stopped, as by SIGSTOP"));
                    let result = proof.as_deref().map_or(Ok(()), Err);
                    self.on_silence(silence::Event::Looked { key, result }, hands, now);
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
    pub(super) fn look_for_abandoned(&mut self, hands: &mut Hands, now: Moment) {
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
}

/// Who knows whether it lives.
fn asked(key: Key, member: &Member, answered: u64, habits: &Habits) -> Asked {
    if member.pid.is_some_and(kernel::is_visible) {
        return Asked::Kernel;
    }
    if member.tight_target(Duration::ZERO).is_none() {
        return Asked::Nobody;
    }
    Asked::Probe { answered: habits.lately(key, answered), longest: habits.longest(key) }
}
