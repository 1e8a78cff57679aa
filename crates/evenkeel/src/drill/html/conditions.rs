//! Why the verdict is what it is: each limit beside what was measured.

use evenkeel_core::drill::{Conclusion, NO_LIMIT, Report, Verdict};
use maud::{Markup, html};

use crate::{drill::outcome, words};

pub(super) fn render(report: &Report) -> Markup {
    let how = if report.verdict == Verdict::Pass { "passed" } else { "failed" };
    html! {
        section {
            h2 { "Why it " (how) }
            p { "A drill passes only if every condition that has a limit holds. What has none is measured and decides nothing." }
            @if report.conditions.iter().any(|line| line.held.is_none() && line.allowed == NO_LIMIT) {
                p { "Where no limit is set, one can be set in the stack file, for example: " code { "[drills] objectives = { worst = \"1s\", p99 = \"250ms\", detection = \"2s\" }" } "." }
            }
            div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table.conditions {
                thead { tr { th { "verdict" } th { "what" } th { "measured" } th { "allowed" } } }
                tbody { @for line in &report.conditions { (row(line)) } }
            } }
        }
    }
}

fn row(line: &Conclusion) -> Markup {
    let (class, sign) = match line.held {
        Some(true) => ("good", "✓ "),
        Some(false) => ("bad", "✗ "),
        None => ("open", ""),
    };
    // The sentence says more than its parts where something did not hold: the first request that failed, and how.
    let more = (line.held == Some(false) && !line.measured.is_empty()).then(|| words::plain(&line.text));
    html! {
        tr class=(class) {
            td.sign { (sign) (outcome::verdict(line.held)) }
            @if line.measured.is_empty() {
                td colspan="3" { (super::prose(&super::sentence(&words::plain(&line.what)))) }
            } @else {
                td { (line.what) @if let Some(more) = more { small { (super::prose(&more)) } } }
                td data-label="measured: " { (line.measured) }
                td data-label="allowed: " { (line.allowed) }
            }
        }
    }
}
