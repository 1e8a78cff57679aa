//! No process is told to stop while requests are in flight there, before its time for draining is over.

use std::collections::BTreeMap;

use evenkeel_core::time::Moment;

use super::{Invariant, View};
use crate::{fact::Fact, fleet::Key};

#[derive(Default)]
pub(super) struct Drain {
    /// Until when those that drain may finish what they have.
    until: BTreeMap<Key, Moment>,
}

impl Invariant for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::DrainBegan { number, drain } => {
                let slot = view.node.slots().get(&number);
                if let Some(key) = slot.and_then(crate::node::Slot::process) {
                    self.until.insert(key, view.now + drain);
                }
            }
            Fact::StopSent { key } => {
                let process = view.fleet.get(key);
                let in_flight = view.edge.in_flight(key);
                let early = self.until.get(&key).is_none_or(|until| view.now < *until);
                if process.is_alive() && in_flight > 0 && early {
                    return Err(format!("{} was told to stop with {in_flight} requests in flight", process.id));
                }
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
        is_caught(Sabotage::StopAtOnce, "drain");
    }
}
