//! While at least one instance is well and healthy throughout, no idempotent request fails. Excused are requests
//! that an edge took with it, scenarios whose bounds were drawn so narrow that they must be felt, and a retry budget
//! that was used up while nobody was well.

use std::time::Duration;

use evenkeel_core::time::Moment;

use super::{Invariant, View};
use crate::{
    edge::Target,
    fact::{Fact, Failure},
};

/// How far back the retry budget looks.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Availability {
    /// When a request failed last while nobody was well.
    nobody: Option<Moment>,
}

impl Invariant for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let Fact::Ended { request, failed: Some(failure) } = *fact else {
            return Ok(());
        };
        let entry = view.ledger.get(request);
        if !entry.idempotent || failure == Failure::EdgeEnded || view.scenario.narrow {
            return Ok(());
        }
        let could = view.edge.targets().find(|target| is_untouched(target, entry.arrived, view));
        let Some(could) = could else {
            self.nobody = Some(view.now);
            return Ok(());
        };
        let lately = self.nobody.is_some_and(|at| view.now.since(at) <= BUDGET_WINDOW);
        if failure == Failure::BudgetUsedUp && lately {
            return Ok(());
        }
        let id = &could.id;
        Err(format!("request {request} failed ({failure:?}) although {id} was well all the time"))
    }
}

fn is_untouched(target: &Target, since: Moment, view: &View<'_>) -> bool {
    let before = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= since);
    before(target.healthy_since) && before(view.fleet.get(target.key).well_since)
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::RepeatNothing, "availability");
    }
}
