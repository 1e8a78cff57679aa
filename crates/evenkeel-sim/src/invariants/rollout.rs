//! A rollout to a broken specification never reduces the healthy instances below the wanted number. Judged while
//! nothing else is done to a world in which all has been well for a while. An instance that is ejected counts as
//! there: that is about failures from before.

use std::time::Duration;

use evenkeel_core::{status::Health, time::Moment};

use super::{Invariant, View};
use crate::{edge::Target, fact::Fact, fleet::Process};

#[derive(Default)]
pub(super) struct Rollout {
    watching: bool,
    /// When something was wrong last.
    restless: Moment,
}

/// So long must all have been well: nobody acts any more upon what was before.
const CALM: Duration = Duration::from_secs(3);

impl Invariant for Rollout {
    fn name(&self) -> &'static str {
        "rollout"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let wanted = view.node.wanted().0.replicas as usize;
        match *fact {
            Fact::Applied { broken } => {
                let well = |target: &&Target| view.fleet.get(target.key).is_well();
                let serving = view.edge.targets().filter(|target| target.health == Health::Healthy);
                let calm = view.now.since(self.restless) >= CALM;
                self.watching = broken && calm && serving.filter(well).count() >= wanted;
            }
            Fact::Disturbed => {
                self.watching = false;
                self.restless = view.now;
            }
            Fact::Ticked if self.watching => {
                let there = |target: &&Target| matches!(target.health, Health::Healthy | Health::Ejected);
                let left = view.edge.targets().filter(there).count();
                if left < wanted {
                    return Err(format!("{wanted} are wanted and {left} are left"));
                }
            }
            Fact::Ticked if view.link_delay > Duration::ZERO || !view.fleet.alive().all(Process::is_well) => {
                self.restless = view.now;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::BelieveNewOnes, "rollout");
    }
}
