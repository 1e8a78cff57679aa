//! Invariants: what must hold whatever happens, one file each.
//!
//! An invariant is told facts and may look at everything, also at what the product could not know, such as whether
//! a process was really frozen. It draws its own conclusions: where it must know the same as the core it finds it
//! out anew. Each has a test that shows that it notices when what it protects is switched off.

mod availability;
mod back_off;
mod drain;
mod ejection;
mod giving_up;
mod liveness;
mod once;
mod pauses;
mod processes;
mod recovery;
mod rollout;
mod routing;
mod scaling;
mod silence;
mod stillness;

use std::time::Duration;

use evenkeel_core::time::Moment;

use crate::{client::Ledger, edge::Edge, fact::Fact, fleet::Fleet, node::Node, scenario::Scenario};

/// Everything there is, right after an event.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The present moment.
    pub now: Moment,
    /// What the seed asked for.
    pub scenario: &'a Scenario,
    /// The edge.
    pub edge: &'a Edge,
    /// The node process.
    pub node: &'a Node,
    /// The processes.
    pub fleet: &'a Fleet,
    /// The requests.
    pub ledger: &'a Ledger,
    /// What a message between edge and node process takes beyond the usual.
    pub link_delay: Duration,
}

/// One thing that must hold.
pub trait Invariant {
    /// Its name, as `--only` takes it.
    fn name(&self) -> &'static str;

    /// A fact. `Err` says how it breaks the invariant.
    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String>;

    /// The run is over and nothing was broken so far.
    fn at_end(&mut self, view: &View<'_>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }
}

/// All of them, fresh for one run.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(availability::Availability::default()),
        Box::new(back_off::BackOff::default()),
        Box::new(drain::Drain::default()),
        Box::new(ejection::Ejection),
        Box::new(giving_up::GivingUp::default()),
        Box::new(liveness::Liveness::default()),
        Box::new(once::Once::default()),
        Box::new(pauses::Pauses::default()),
        Box::new(processes::Processes::default()),
        Box::new(recovery::Recovery),
        Box::new(rollout::Rollout::default()),
        Box::new(routing::Routing),
        Box::new(scaling::Scaling::default()),
        Box::new(silence::Silence::default()),
        Box::new(stillness::Stillness::default()),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::{Options, Sabotage, run};

    /// With the rule off, this invariant breaks within a few hundred seeds, and on that seed it holds with the rule.
    pub(crate) fn is_caught(sabotage: Sabotage, invariant: &'static str) {
        let judged_alone = Options { only: Some(invariant), ..Options::default() };
        let sabotaged = Options { sabotage: Some(sabotage), ..judged_alone };
        let caught = (0..300).find(|seed| run(*seed, &sabotaged).violation.is_some());
        let seed = caught.unwrap_or_else(|| panic!("{invariant} does not notice {sabotage:?}"));
        assert_eq!(run(seed, &judged_alone).violation, None, "seed {seed} without sabotage");
    }
}
