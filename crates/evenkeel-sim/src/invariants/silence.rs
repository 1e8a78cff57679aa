//! An instance is declared silent only if it was really frozen, dead or told to stop while it was observed: a slow
//! request on an instance that answers is never held against it.

use std::time::Duration;

use evenkeel_core::time::Moment;

use super::{Invariant, View};
use crate::{edge::TICK, fact::Fact};

/// The longest pause of the edge; what it finds after one may be as old.
const LONGEST_PAUSE: Duration = Duration::from_millis(2_500);

#[derive(Default)]
pub(super) struct Silence {
    interrupted: Option<Moment>,
}

impl Invariant for Silence {
    fn name(&self) -> &'static str {
        "silence"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Interrupted => self.interrupted = Some(view.now),
            Fact::Silent { key } => {
                let process = view.fleet.get(key);
                if process.frozen || !process.is_alive() || process.terminated {
                    return Ok(());
                }
                // Two probes failed, of half of this time each, since checks are answered within milliseconds here.
                let probes = Duration::from_millis(view.scenario.service.limits.silent_after_ms);
                let mut window = probes + TICK * 2;
                if self.interrupted.is_some_and(|at| view.now.since(at) <= window) {
                    window += LONGEST_PAUSE;
                }
                if process.thawed.is_none_or(|at| view.now.since(at) > window) {
                    return Err(format!("{} was declared silent but has been running", process.id));
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
        is_caught(Sabotage::AccuseWithoutProof, "silence");
    }
}
