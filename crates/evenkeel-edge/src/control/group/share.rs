//! What part of the requests instances get beyond their verdicts: slow start and the minimum-capacity rule.
//!
//! Both rules are pure and live in `evenkeel_core`; here they are shown the members of a group, and what follows is
//! written where data threads read it. Nothing here changes a verdict.

use std::sync::Arc;

use evenkeel_core::{
    capacity::{Change, Standing},
    health::ENLISTED,
    link::EventKind,
    snapshot::Duty,
    status::Health,
    time::Moment,
};

use super::{Group, Hands, Key, Member};
use crate::{clock, messages::Failure, messages::ToThread};

impl Group {
    /// Before a member is judged: whether it will become healthy and then starts slowly, in words.
    pub(super) fn starts_slowly(&mut self, key: Key, now: Moment) -> Option<String> {
        let slow_start_ms = self.config.choice.slow_start_ms;
        let member = self.members.get(&key).filter(|_| slow_start_ms > 0)?;
        if member.told.health == Health::Healthy || member.verdict().0 != Health::Healthy {
            return None;
        }
        let mut others = self.members.iter().filter(|(other, _)| **other != key);
        let others = others.any(|(_, member)| member.told.health == Health::Healthy);
        let words = self.slow_start.comes(others, slow_start_ms, now);
        let since_ms = if words.is_some() { clock::millis(now) } else { 0 };
        self.members[&key].shared.set_warming_since_ms(since_ms);
        words
    }

    /// Asks the minimum-capacity rule, and enlists whom it allows.
    pub(super) fn look_at_capacity(&mut self, hands: &mut Hands, now: Moment) {
        let min_percent = self.config.choice.min_capacity_percent;
        if min_percent == 0 && !self.capacity.holds() {
            return;
        }
        let serving = self.members.values().filter(|member| member.duty == Duty::Serve);
        let change = self.capacity.on(serving.map(standing), min_percent);
        let holds = self.capacity.holds();
        for member in self.members.values_mut() {
            let enlisted = holds && member.duty == Duty::Serve && standing(member) == Standing::Answers;
            if std::mem::replace(&mut member.enlisted, enlisted) != enlisted {
                member.shared.enlist(enlisted);
                hands.tell(|| ToThread::Changed(Arc::clone(&member.shared)));
                let reason = member.verdict().1;
                let reason = if enlisted { format!("{reason}; {ENLISTED}") } else { reason };
                let event = member.remark(reason, clock::wall(), now);
                hands.report(&self.config.name, event, now);
            }
        }
        let Some(change) = change else { return };
        let service = &self.config.name;
        let what = match change {
            Change::Begins(reason) => {
                tracing::warn!(
                    service,
                    reason,
                    "too few instances are healthy: those that still answer get requests too"
                );
                EventKind::CapacityShort { reason }
            }
            Change::GoesOn(reason) => EventKind::CapacityShort { reason },
            Change::Ends { reason, enough } => {
                tracing::info!(service, reason, "only healthy instances get requests again");
                EventKind::CapacityBack { reason, enough }
            }
        };
        self.said_of_capacity = self.capacity.holds().then(|| what.clone());
        hands.events.of_service(&self.config.name, what, clock::wall(), now);
    }
}

/// What it can contribute. Who was ejected since nobody could connect, or since nothing came, does not answer.
fn standing(member: &Member) -> Standing {
    let mute = matches!(member.last_failure, Some(Failure::Connect | Failure::ConnectTimeout | Failure::Timeout));
    match member.told.health {
        Health::Healthy => Standing::Healthy,
        Health::Unhealthy if member.answers => Standing::Answers,
        Health::Ejected if !mute => Standing::Answers,
        _ => Standing::Out,
    }
}
