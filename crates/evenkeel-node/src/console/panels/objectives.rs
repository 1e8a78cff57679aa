//! Objectives, and what is left of the errors that each allows.

use evenkeel_core::objectives::{Budget, BudgetState, ObjectiveStatus};
use maud::{Markup, html};

use super::{
    Panel,
    words::{Tone, count, state},
};
use crate::console::view::View;

/// The budgets of every service that has an objective.
pub(super) struct Objectives;

impl Panel for Objectives {
    fn id(&self) -> &'static str {
        "objectives"
    }

    fn title(&self) -> &'static str {
        "Objectives"
    }

    fn render(&self, view: &View) -> Markup {
        let declared: Vec<_> =
            view.services().filter_map(|service| Some((&service.name, service.objective.as_ref()?))).collect();
        html! {
            @for (name, objective) in &declared {
                @for (key, budget) in objective.budgets() { (one(name, key, objective, budget)) }
            }
            @if declared.is_empty() {
                p class="empty" {
                    "None is declared. In the stack file, " code { "[objectives.SERVICE]" } " with "
                    code { "availability = \"99.9%\"" } " makes a budget of errors of it, which is shown here."
                }
            }
        }
    }
}

fn one(service: &str, key: &str, objective: &ObjectiveStatus, budget: &Budget) -> Markup {
    let (tone, shape, word) = match budget.state {
        BudgetState::Ample => (Tone::Good, "healthy", "ample"),
        BudgetState::Burning => (Tone::Warn, "warning", "burning fast"),
        BudgetState::Spent => (Tone::Bad, "unhealthy", "used up"),
    };
    let left = (100.0 - budget.spent_percent).clamp(0.0, 100.0);
    let asked = match (key, objective.p99_ms) {
        ("p99", Some(ms)) => format!("{} within {ms} ms", percent(budget.target_percent)),
        _ => format!("{} answered", percent(budget.target_percent)),
    };
    html! {
        div class={ "budget " (tone.class()) } data-key={ (service) "-" (key) } {
            div class="line" { b { (service) } span { (asked) } (state(tone, shape, word)) }
            svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label={ (percent(left)) " of the budget is left" } {
                rect class="all" width="100" height="4" {}
                rect class="left" width={ (format!("{left:.1}")) } height="4" {}
            }
            p class="hint" {
                (percent(left)) " left over " (days(objective.window_ms)) ": "
                @if budget.counted == 0 { "nothing was counted yet" }
                @else { (count(budget.bad)) " of " (count(budget.counted)) " requests were bad" }
                @if let Some(reached) = budget.reached_percent { ", " (format!("{reached:.3} %")) " were good" }
                @if budget.burn_rate > 0.0 { "; burning at " (format!("{:.1}", budget.burn_rate)) }
                @if let Some(ms) = budget.lasts_ms { ", used up in " (hours(ms)) }
                "."
            }
        }
    }
}

/// A share without needless digits.
fn percent(share: f64) -> String {
    let text = format!("{share:.3}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn days(ms: u64) -> String {
    match ms / 86_400_000 {
        0 => hours(ms),
        1 => "a day".to_owned(),
        n => format!("{n} days"),
    }
}

fn hours(ms: u64) -> String {
    match ms / 3_600_000 {
        0 => "less than an hour".to_owned(),
        1 => "an hour".to_owned(),
        n if n >= 48 => format!("{} days", n / 24),
        n => format!("{n} hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_short() {
        assert_eq!([99.9, 100.0, 99.95].map(percent), ["99.9 %", "100 %", "99.95 %"]);
        assert_eq!([30 * 86_400_000, 86_400_000, 7_200_000].map(days), ["30 days", "a day", "2 hours"]);
    }

    #[test]
    fn a_budget_that_is_used_up_is_said() {
        let budget = Budget {
            target_percent: 99.9,
            spent_percent: 140.0,
            bad: 14,
            state: BudgetState::Spent,
            ..Budget::default()
        };
        let text = one("shop", "availability", &ObjectiveStatus::default(), &budget).into_string();
        assert!(text.contains("used up") && text.contains("0 % left") && text.contains("width=\"0.0\""), "{text}");
    }
}
