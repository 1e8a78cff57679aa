//! Giving up needs as many fruitless ends in a row as were configured.

use std::collections::BTreeMap;

use super::{Invariant, View};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct GivingUp {
    fruitless: BTreeMap<u32, u32>,
}

impl Invariant for GivingUp {
    fn name(&self) -> &'static str {
        "giving-up"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::EndSeen { number } => *self.fruitless.entry(number).or_default() += 1,
            Fact::VerdictSeen { number, healthy: true } | Fact::TriedAgain { number } | Fact::Gone { number } => {
                self.fruitless.remove(&number);
            }
            Fact::GaveUp { number } => {
                let ends = self.fruitless.get(&number).copied().unwrap_or_default();
                let attempts = view.scenario.policy.attempts;
                if ends < attempts {
                    return Err(format!("shop/{number} was given up after {ends} fruitless ends of {attempts}"));
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
        is_caught(Sabotage::GiveUpEarly, "giving-up");
    }
}
