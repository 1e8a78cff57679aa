//! When faults are over and everything had time to settle, every wanted instance is healthy unless it gave up, and
//! none is there that is not wanted. Instances of a broken specification are not expected to become healthy.

use evenkeel_core::status::{Health, Phase};

use super::{Invariant, View};
use crate::{fact::Fact, fault::Boot, node::Slot};

pub(super) struct Recovery;

impl Invariant for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn on(&mut self, _: &Fact, _: &View<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_end(&mut self, view: &View<'_>) -> Result<(), String> {
        let (wanted, boot) = view.node.wanted();
        let slots = view.node.slots();
        for (number, slot) in slots {
            let excused = slot.boot() != Boot::Normal || slot.phase() == Phase::GaveUp;
            if !excused && !serves(slot, view) {
                let health = slot.process().and_then(|key| view.edge.target(key)).map(|target| target.health);
                let phase = slot.phase();
                return Err(format!("shop/{number} is {phase} and the edge's verdict is {health:?}"));
            }
        }
        if boot != Boot::Normal {
            return Ok(());
        }
        let replicas = wanted.replicas as usize;
        let current = slots.values().filter(|slot| slot.digest() == wanted.digest);
        let gave_up = current.clone().filter(|slot| slot.phase() == Phase::GaveUp).count();
        let exact = slots.len() == replicas && current.count() == replicas;
        if gave_up == 0 && !exact {
            let digest = &wanted.digest;
            let have: Vec<&str> = slots.values().map(Slot::digest).collect();
            return Err(format!("{replicas} of {digest} are wanted and {have:?} are there"));
        }
        let healthy = slots.values().filter(|slot| serves(slot, view)).count();
        if healthy + gave_up < replicas {
            return Err(format!("{replicas} are wanted, {healthy} are healthy and {gave_up} gave up"));
        }
        Ok(())
    }
}

fn serves(slot: &Slot, view: &View<'_>) -> bool {
    let target = slot.process().and_then(|key| view.edge.target(key));
    slot.phase() == Phase::Running && target.is_some_and(|target| target.health == Health::Healthy)
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::DropRestarts, "recovery");
    }
}
