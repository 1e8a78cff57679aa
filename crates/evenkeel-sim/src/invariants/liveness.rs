//! An instance that was ready and fails its liveness check for longer than it may is killed and started again. The
//! count begins anew whenever edge or node process begin to measure anew.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{status::Phase, time::Moment};

use super::{Invariant, View};
use crate::{fact::Fact, fault::Boot, fleet::Key, node::Slot};

/// From the beginning of the failure until the node process knows: a probe's turn, its timeout, a message.
const NOTICED_WITHIN: Duration = Duration::from_millis(1_300);
/// What an order and its confirmation take.
const SLACK: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(super) struct Liveness {
    /// Since when those that are frozen should have been noticed.
    frozen: BTreeMap<Key, Moment>,
    /// Those that were killed for it, and since when their successor is awaited.
    awaited: BTreeMap<u32, Moment>,
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Frozen { key, frozen: true } => drop(self.frozen.insert(key, view.now)),
            Fact::Frozen { key, frozen: false } => drop(self.frozen.remove(&key)),
            Fact::Interrupted => {
                let all = self.frozen.values_mut().chain(self.awaited.values_mut());
                all.for_each(|since| *since = view.now);
            }
            Fact::Spawned { key } => drop(self.awaited.remove(&view.fleet.get(key).number)),
            Fact::Gone { number } | Fact::GaveUp { number } => drop(self.awaited.remove(&number)),
            Fact::Ticked => return self.look(view),
            _ => {}
        }
        Ok(())
    }
}

impl Liveness {
    fn look(&mut self, view: &View<'_>) -> Result<(), String> {
        let Some(after) = view.scenario.policy.liveness_after else {
            return Ok(());
        };
        // A pause stops kills and starts.
        if view.node.is_paused() {
            let all = self.frozen.values_mut().chain(self.awaited.values_mut());
            all.for_each(|since| *since = view.now);
            return Ok(());
        }
        let due = NOTICED_WITHIN + view.link_delay + after + SLACK;
        for (key, since) in &mut self.frozen {
            if !is_watched(*key, view) {
                *since = view.now;
            } else if view.now.since(*since) > due {
                let id = &view.fleet.get(*key).id;
                let ms = view.now.since(*since).as_millis();
                return Err(format!("{id} has been frozen for {ms} ms and lives"));
            }
        }
        let awaited = &mut self.awaited;
        self.frozen.retain(|key, _| {
            let process = view.fleet.get(*key);
            let slot = view.node.slots().get(&process.number).filter(|slot| slot.phase() != Phase::GaveUp);
            if !process.is_alive() && slot.is_some_and(|slot| slot.process().is_none_or(|newest| newest == *key)) {
                awaited.insert(process.number, view.now);
            }
            process.is_alive()
        });
        for (number, since) in awaited {
            let slot = view.node.slots().get(number);
            let startable = |slot: &Slot| view.fleet.boots(*number, slot.boot(), view.now) != Boot::NotStartable;
            if !slot.is_some_and(startable) {
                *since = view.now;
            } else if view.now.since(*since) > view.scenario.policy.max_delay + SLACK {
                return Err(format!("shop/{number} was killed and has not been started again"));
            }
        }
        Ok(())
    }
}

/// Whether somebody should notice that this process fails its liveness check.
fn is_watched(key: Key, view: &View<'_>) -> bool {
    let slot = view.node.slots().get(&view.fleet.get(key).number);
    let runs = slot.is_some_and(|slot| slot.process() == Some(key) && slot.phase() == Phase::Running);
    runs && view.edge.target(key).is_some_and(|target| target.live.is_some())
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::DropLiveness, "liveness");
    }
}
