//! While at least one instance is well and healthy throughout, no idempotent request fails. Excused are requests
//! that an edge took with it, scenarios whose bounds were drawn so narrow that they must be felt, and a retry budget
//! that was used up: while nobody was well, or mostly by tries that could only fail, since their instance cut off whatever
//! it got or was gone. Such tries are many under a high load where ejection is off or may take nobody; where it may, the
//! instance is out long before the budget is spent.

use std::{collections::VecDeque, time::Duration};

use evenkeel_core::time::Moment;

use super::{Invariant, View};
use crate::{
    edge::Target,
    fact::{Fact, Failure},
    fault::Errors,
    fleet::{Mode, Process},
};

/// How far back the retry budget looks, at most.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// How far back it looks at least: its present second has just begun.
const SHORTEST_WINDOW: Duration = Duration::from_secs(9);

#[derive(Default)]
pub(super) struct Availability {
    /// When a request failed last while nobody was well.
    nobody: Option<Moment>,
    /// When tries of idempotent requests were sent that could only fail.
    in_vain: VecDeque<Moment>,
}

impl Invariant for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        if let Fact::Sent { request, key, .. } = *fact
            && view.ledger.get(request).idempotent
            && is_in_vain(view.fleet.get(key))
        {
            self.in_vain.push_back(view.now);
        }
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
        if failure == Failure::BudgetUsedUp && (lately || self.is_spent_in_vain(view)) {
            return Ok(());
        }
        let id = &could.id;
        Err(format!("request {request} failed ({failure:?}) although {id} was well all the time"))
    }
}

impl Availability {
    /// Whether repeating what could only fail took at least half of the budget.
    fn is_spent_in_vain(&mut self, view: &View<'_>) -> bool {
        self.in_vain.retain(|at| view.now.since(*at) <= BUDGET_WINDOW);
        let came = view.ledger.entries().iter().rev();
        let came = came.take_while(|entry| view.now.since(entry.arrived) <= SHORTEST_WINDOW).count();
        let retry = &view.scenario.service.retry;
        let share = came * usize::from(retry.budget_percent) / 100;
        let floor = u64::from(retry.budget_min_per_s) * BUDGET_WINDOW.as_secs();
        self.in_vain.len() as u64 * 2 >= share as u64 + floor
    }
}

/// Whether a try there can only fail.
fn is_in_vain(process: &Process) -> bool {
    process.mode == Mode::Fails(Errors::Cut) || process.terminated || !process.is_alive()
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

    #[test]
    fn a_budget_that_is_used_up_for_no_reason_is_caught() {
        is_caught(Sabotage::NoBudget, "availability");
    }
}
