//! What `keel status` says of objectives: one line for each.

use evenkeel_core::{
    objectives::{Budget, BudgetState, ObjectiveStatus},
    status::ServiceStatus,
};

use crate::{style::Paint, words::span};

/// A line for each service that has an objective.
pub(super) fn objectives(services: &[ServiceStatus], paint: Paint) -> String {
    let line = |service: &ServiceStatus| {
        let status = service.objective.as_ref()?;
        let parts: Vec<String> = status.budgets().map(|(key, budget)| of_budget(key, status, budget, paint)).collect();
        Some(format!("{}: over {}, {}\n", service.name, span(status.window_ms), parts.join("; ")))
    };
    services.iter().filter_map(line).collect()
}

fn of_budget(key: &str, status: &ObjectiveStatus, budget: &Budget, paint: Paint) -> String {
    let (how, what) = match status.p99_ms.filter(|_| key == "p99") {
        Some(p99_ms) => (format!("within {p99_ms} ms"), "the budget of slow requests"),
        None => ("well".to_owned(), "the budget of errors"),
    };
    let target = share(budget.target_percent);
    let Some(reached) = budget.reached_percent else { return format!("nothing counted yet for {target} {how}") };
    let left = match budget.state {
        BudgetState::Spent => paint.bad(&format!("{what} is used up")),
        BudgetState::Ample => format!("{} % of {what} left", left(budget)),
        BudgetState::Burning => {
            let lasts = budget.lasts_ms.map(|ms| format!(", gone in {} at the last hour's rate", span(ms)));
            paint.warn(&format!("{} % of {what} left{}", left(budget), lasts.unwrap_or_default()))
        }
    };
    format!("{} {how} (objective {target}), {left}", share(reached))
}

/// What is left of a budget, in percent without digits.
fn left(budget: &Budget) -> String {
    format!("{:.0}", (100.0 - budget.spent_percent).max(0.0))
}

/// A percentage with as many digits as matter: more, the nearer it is to a hundred. Never rounded up to a hundred.
fn share(percent: f64) -> String {
    let digits = if percent >= 99.0 { 3 } else { 1 };
    let factor = f64::from(10_u32.pow(digits));
    // What came out a hair below a whole step of the last digit is that step.
    let down = (percent * factor + 1e-6).floor() / factor;
    let text = format!("{down:.0$}", digits as usize);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        objectives::{Counted, judge},
        stack::{Duration, Objective, Percent},
    };

    use super::*;

    fn line(errors: u64, recent: u64, slow: u64) -> String {
        let objective = Objective {
            availability: Percent::of_millionths(999_000),
            p99: Some(Duration::ms(250)),
            window: Duration::s(30 * 24 * 3600),
        };
        let counted = |requests: u64, errors, slow| {
            let mut counted = Counted { requests, errors, ..Counted::default() };
            (counted.latency[0], counted.latency[12]) = (requests - slow, slow);
            counted
        };
        let window = if errors == u64::MAX { Counted::default() } else { counted(100_000, errors, slow) };
        let status = judge(&objective, &window, &counted(1000, recent, 0), None);
        let service = ServiceStatus { name: "shop".to_owned(), objective: Some(status), ..ServiceStatus::default() };
        objectives(&[ServiceStatus::default(), service], Paint::plain())
    }

    #[test]
    fn a_line_says_what_is_asked_reached_and_left() {
        assert_eq!(
            line(25, 0, 400),
            "shop: over 30d, 99.975 % well (objective 99.9 %), 75 % of the budget of errors left; 99.6 % within 250 ms \
             (objective 99 %), 60 % of the budget of slow requests left\n"
        );
        assert!(line(25, 20, 0).contains("75 % of the budget of errors left, gone in 3h 56m at the last hour's rate;"));
        assert!(line(101, 0, 0).contains("99.899 % well (objective 99.9 %), the budget of errors is used up;"));
        assert!(line(u64::MAX, 0, 0).contains("nothing counted yet for 99.9 % well;"));
    }

    #[test]
    fn nothing_short_of_all_is_called_all() {
        for (percent, text) in
            [(100.0, "100 %"), (99.9999, "99.999 %"), (99.9, "99.9 %"), (99.0, "99 %"), (5.0, "5 %"), (0.0, "0 %")]
        {
            assert_eq!(share(percent), text);
        }
    }
}
