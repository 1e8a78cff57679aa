//! One instance name never has two processes that live, and its generations only grow.

use std::collections::BTreeMap;

use super::{Invariant, View};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct Processes {
    newest: BTreeMap<u32, u64>,
}

impl Invariant for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let Fact::Spawned { key } = *fact else {
            return Ok(());
        };
        let process = view.fleet.get(key);
        let (number, generation) = (process.number, process.id.generation);
        let before = self.newest.insert(number, generation);
        if before.is_some_and(|before| generation <= before) {
            return Err(format!("{} was started after generation {}", process.id, before.unwrap_or_default()));
        }
        let other = view.fleet.alive().find(|other| other.number == number && other.key != key);
        other.map_or(Ok(()), |other| Err(format!("{} was started while {} lives", process.id, other.id)))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn two_processes_are_caught() {
        is_caught(Sabotage::ForgetProcesses, "processes");
    }

    #[test]
    fn a_generation_that_comes_back_is_caught() {
        is_caught(Sabotage::ForgetGenerations, "processes");
    }
}
