//! Samples for the history every ten seconds, and what its objectives say.
//!
//! Samples are taken when the wall clock's seconds end in zero, so that the points of every service and of every node
//! lie beside each other. Without word from the edge none is taken: a gap is drawn rather than a calm that nobody saw.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    journal::{Level, Reason},
    objectives::{Budget, BudgetState, ObjectiveStatus},
    stack::Service,
    time::Moment,
};

use super::{Node, inventory::Hello};
use crate::{
    clock::{since_boot, wall_now},
    history::{EVERY, Origin, Sample, Standing},
    traffic::Totals,
};

/// What the next sample needs to know.
#[derive(Debug)]
pub(super) struct Measuring {
    next: Moment,
    /// What was said last of each budget, by service and key.
    said: BTreeMap<(String, &'static str), BudgetState>,
}

impl Measuring {
    pub(super) const fn new() -> Self {
        Self { next: Moment::ORIGIN, said: BTreeMap::new() }
    }
}

/// Where counters begin for this process.
pub(super) fn origin(hello: &Hello, base: &Totals) -> Origin {
    Origin { guard: hello.since, first: hello.node_starts == 0, base: base.services.clone(), boot: since_boot() }
}

impl Node {
    /// Takes a sample when it is time to.
    pub(super) fn measure(&mut self) {
        let now = self.clock.now();
        if self.measuring.next > now {
            return;
        }
        let at = wall_now();
        let every_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        self.measuring.next = now + Duration::from_millis(every_ms - at.as_millis() % every_ms);
        if let Some(message) = self.history.news() {
            self.note(Level::Warning, "node", "history", message, Vec::new());
        }
        if self.traffic.heard().is_none_or(|heard| now.since(heard) > EVERY) {
            return;
        }
        self.look_at_budgets();
        let totals = self.traffic.totals();
        let of_service = |(name, service): (&String, &Service)| {
            let mut sums = totals.services.get(name).cloned().unwrap_or_default();
            if service.page.is_some() {
                // A page answers with its status, as it should.
                sums.responses[1] += std::mem::take(&mut sums.responses[4]);
            }
            let wanted = if service.is_run() {
                self.wanted(name, service)
            } else {
                small(self.addresses_of(name, service).len())
            };
            let healthy = small(self.healthy_instances(name).len());
            let objective = self.revision.stack.objectives.contains_key(name);
            (name.clone(), Standing { sums, healthy, wanted, objective })
        };
        let services = self.revision.stack.services.iter().map(of_service).collect();
        self.history.record(Sample { at, boot: since_boot(), services });
    }

    /// When to measure again.
    pub(super) const fn measure_deadline(&self) -> Moment {
        self.measuring.next
    }

    /// How the objective of a service is held; `None` where the stack file has none.
    pub(super) fn objective_status(&self, service: &str) -> Option<ObjectiveStatus> {
        let objective = self.revision.stack.objectives.get(service)?;
        Some(self.history.judge(service, objective, wall_now()))
    }

    /// Says when a budget burns fast, is used up, or lasts again. What a former process may have said is not repeated.
    fn look_at_budgets(&mut self) {
        let names: Vec<String> = self.revision.stack.objectives.keys().cloned().collect();
        for name in names {
            let Some(status) = self.objective_status(&name) else { continue };
            for (key, budget) in status.budgets() {
                let before = self.measuring.said.insert((name.clone(), key), budget.state);
                if before.is_some_and(|before| before != budget.state) {
                    let (level, message) = in_words(&name, key, budget);
                    self.note(level, &name, "objective", message, reasons(key, &status, budget));
                }
            }
        }
    }
}

/// What needs attention of an objective, in words.
pub(super) fn problem(service: &str, status: &ObjectiveStatus) -> Option<String> {
    let bad = status.budgets().filter(|(_, budget)| budget.state != BudgetState::Ample);
    let (key, budget) = bad.max_by_key(|(_, budget)| budget.state)?;
    Some(in_words(service, key, budget).1)
}

fn in_words(service: &str, key: &str, budget: &Budget) -> (Level, String) {
    let what = if key == "p99" { "slow requests" } else { "errors" };
    let spent = budget.spent_percent;
    match budget.state {
        BudgetState::Spent => {
            (Level::Error, format!("{service}: the budget of {what} is used up ({spent:.0} % of what is allowed)"))
        }
        BudgetState::Burning => {
            let rate = budget.burn_rate;
            let message =
                format!("{service}: the budget of {what} burns {rate:.0} times as fast as it may ({spent:.0} % spent)");
            (Level::Warning, message)
        }
        BudgetState::Ample => (Level::Info, format!("{service}: the budget of {what} lasts ({spent:.0} % spent)")),
    }
}

fn reasons(key: &str, status: &ObjectiveStatus, budget: &Budget) -> Vec<Reason> {
    let days = format!("{:.1} days", Duration::from_millis(status.window_ms).as_secs_f64() / 86_400.0);
    let which = match status.p99_ms.filter(|_| key == "p99") {
        Some(p99_ms) => format!("took longer than {p99_ms} ms"),
        None => "failed".to_owned(),
    };
    let Budget { counted, bad, allowed, target_percent, burn_rate, .. } = budget;
    let rule = format!("`{key}` asks for {target_percent} %, which allows {allowed:.1} of them over {days}");
    vec![
        Reason::seen(format!("{bad} of {counted} requests {which}")),
        Reason::seen(format!("in the last hour {burn_rate:.1} times as many as may")),
        Reason::rule(rule),
    ]
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_budget_is_told_first() {
        let budget = |state| Budget { state, spent_percent: 120.0, burn_rate: 30.0, ..Budget::default() };
        let (spent, burning) = (budget(BudgetState::Spent), budget(BudgetState::Burning));
        let status = ObjectiveStatus { availability: Some(burning), p99: Some(spent), ..ObjectiveStatus::default() };
        assert_eq!(
            problem("shop", &status).unwrap(),
            "shop: the budget of slow requests is used up (120 % of what is allowed)"
        );
        let status = ObjectiveStatus { p99: None, ..status };
        assert!(problem("shop", &status).unwrap().contains("burns 30 times as fast"));
        assert_eq!(problem("shop", &ObjectiveStatus::default()), None);
    }
}
