//! A start after the second and each further end in a row waits for the delay that was configured, doubled each
//! time, up to the longest one, or up to a second where the instance had been ready. A node process that starts
//! again may start one that waits at once.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{supervise::SHORT_DELAY, time::Moment};

use super::{Invariant, View};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct BackOff {
    lives: BTreeMap<u32, Life>,
    node_restarted: Moment,
}

#[derive(Default)]
struct Life {
    ends: u32,
    ready: bool,
    was_ready: bool,
    healthy_since: Option<Moment>,
    ended: Moment,
}

impl Life {
    /// Healthy for long enough, and ends before it do not count any more.
    fn forgive(&mut self, reset: Duration, now: Moment) {
        if self.healthy_since.take().is_some_and(|since| now.since(since) >= reset) {
            self.ends = 0;
        }
    }
}

impl Invariant for BackOff {
    fn name(&self) -> &'static str {
        "back-off"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let (now, policy) = (view.now, &view.scenario.policy);
        match *fact {
            Fact::VerdictSeen { number, healthy } => {
                let life = self.lives.entry(number).or_default();
                if healthy {
                    life.healthy_since.get_or_insert(now);
                    life.ready = true;
                } else {
                    life.forgive(policy.reset, now);
                }
            }
            Fact::EndSeen { number } => {
                let life = self.lives.entry(number).or_default();
                life.forgive(policy.reset, now);
                life.ends += 1;
                life.ended = now;
                life.was_ready = life.ready;
            }
            Fact::Gone { number } | Fact::TriedAgain { number } => drop(self.lives.remove(&number)),
            Fact::Interrupted => self.node_restarted = now,
            Fact::Spawned { key } => return self.spawned(view.fleet.get(key).number, view),
            _ => {}
        }
        Ok(())
    }
}

impl BackOff {
    fn spawned(&mut self, number: u32, view: &View<'_>) -> Result<(), String> {
        let policy = &view.scenario.policy;
        let life = self.lives.entry(number).or_default();
        let (ends, waited) = (life.ends, view.now.since(life.ended));
        let longest = if life.was_ready { policy.max_delay.min(SHORT_DELAY) } else { policy.max_delay };
        let due = match ends {
            0 | 1 => Duration::ZERO,
            _ => policy.delay.saturating_mul(1 << (ends - 2).min(20)).min(longest),
        };
        life.ready = false;
        life.healthy_since = None;
        if waited < due && self.node_restarted < life.ended {
            return Err(format!("shop/{number} was started {waited:?} after end {ends} in a row, not after {due:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::NoBackOff, "back-off");
    }
}
