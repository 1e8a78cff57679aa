//! A frozen instance with requests in flight, while others are well, leaves traffic within a bound: the time after
//! which it is suspected, two probes of at most twice that, since an edge that has just started does not know yet how
//! quick its probes are, and a few looks. Where a slow request was vouched for by a probe within the same quiet spell,
//! the longest back-off comes on top. Others are well when one that gets requests has answered lately or has none.
//! Pauses of the edge begin the count anew.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{status::Health, time::Moment};

use super::{Invariant, View};
use crate::{
    edge::{TICK, Target},
    fact::Fact,
    fleet::Key,
};

/// The rule's longest back-off, in times of its suspicion.
const LONGEST_BACK_OFF: u32 = 8;

#[derive(Default)]
pub(super) struct Stillness {
    frozen: BTreeMap<Key, Spell>,
    vouched: BTreeMap<Key, Moment>,
}

struct Spell {
    since: Moment,
    /// Looks at which it should have been suspected and another instance was well.
    others_well: u32,
    /// The first of them.
    compared: Moment,
}

impl Spell {
    fn begin(&mut self, now: Moment) {
        self.since = now;
        self.others_well = 0;
    }
}

impl Invariant for Stillness {
    fn name(&self) -> &'static str {
        "stillness"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Frozen { key, frozen: true } => {
                let (since, others_well, compared) = (view.now, 0, view.now);
                let spell = Spell { since, others_well, compared };
                self.frozen.insert(key, spell);
            }
            Fact::Frozen { key, frozen: false } => drop(self.frozen.remove(&key)),
            Fact::TightPassed { key } => drop(self.vouched.insert(key, view.now)),
            Fact::Interrupted => self.frozen.values_mut().for_each(|spell| spell.begin(view.now)),
            Fact::Ticked => return self.look(view),
            _ => {}
        }
        Ok(())
    }
}

impl Stillness {
    fn look(&mut self, view: &View<'_>) -> Result<(), String> {
        let after = Duration::from_millis(view.scenario.service.limits.silent_after_ms);
        self.frozen.retain(|key, _| view.fleet.get(*key).is_alive());
        for (key, spell) in &mut self.frozen {
            let gets_traffic = |target: &&Target| target.health == Health::Healthy && target.in_flight > 0;
            let Some(target) = view.edge.target(*key).filter(gets_traffic) else {
                spell.begin(view.now);
                continue;
            };
            if target.busy_since > spell.since {
                spell.begin(target.busy_since);
            }
            let quiet = spell.since;
            let vouched = self.vouched.get(key).is_some_and(|at| *at + after * (2 * LONGEST_BACK_OFF) > quiet);
            let back_off = if vouched { after * LONGEST_BACK_OFF } else { Duration::ZERO };
            if view.now < quiet + after + back_off {
                continue;
            }
            let lately = |at: Option<Moment>| at.is_some_and(|at| at > quiet + after / 2);
            let well = |other: &Target| {
                let compared = other.key != *key && other.health == Health::Healthy;
                compared && (other.in_flight == 0 || lately(other.last_received))
            };
            spell.others_well += u32::from(view.edge.targets().any(well));
            if spell.others_well == 1 {
                spell.compared = view.now;
            }
            if spell.others_well < 2 {
                continue;
            }
            let bound = spell.compared + after * 4 + TICK * 4;
            if view.now > bound {
                let ms = view.now.since(spell.since).as_millis();
                return Err(format!("{} is frozen, has requests in flight, and is healthy for {ms} ms", target.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::DeafToSilence, "stillness");
    }
}
