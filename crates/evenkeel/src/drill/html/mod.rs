//! The report of a run as one page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! It is written for somebody who has never seen Evenkeel: first the verdict with how long the service was down, what to
//! beware of, then what was done and noticed, what can be done next, a timeline, each limit beside what was measured, and
//! what the words mean. Every number of the timeline stands in a table too. It is a function of what the run left behind.

mod conditions;
mod figures;
mod glossary;
mod style;
mod timeline;
mod words;

use evenkeel_core::{
    drill::{Comparison, Plan, Report, Verdict, in_words},
    journal::{Entry, Role},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    history, outcome,
    summary::{self, Todo},
};

/// What the page tells.
pub(super) struct Told<'a> {
    /// How it ended.
    pub(super) report: &'a Report,
    /// What was going to happen.
    pub(super) plan: &'a Plan,
    /// The name of the run.
    pub(super) run: &'a str,
    /// The stack's name.
    pub(super) stack: &'a str,
    /// Entries of the journal around it, oldest first.
    pub(super) events: &'a [Entry],
    /// How it compares with earlier runs.
    pub(super) earlier: Option<&'a Comparison>,
}

/// The page.
pub(super) fn render(told: &Told<'_>) -> String {
    let Told { report, run, stack, .. } = told;
    let verdict = match report.verdict {
        Verdict::Pass => "passed",
        Verdict::Fail => "failed",
    };
    let title = format!("{} {verdict} on {stack}", report.drill);
    let body = html! {
        (head(told, verdict))
        (figures::render(report))
        (happened(told))
        (advice(report))
        (capacity(report))
        (timeline::render(told))
        (conditions::render(report))
        (errors(report))
        (earlier(told))
        (how(told))
        (journal(told))
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(style::CSS)) }
            }
            body {
                main {
                    (body)
                    (glossary::render(&body.0))
                }
                footer {
                    p { "Run " code { (run) } " of the stack " code { (stack) } ", begun " (report.started)
                        ". Written by Evenkeel " (env!("CARGO_PKG_VERSION")) "." }
                }
            }
        }
    };
    page.into_string()
}

fn head(told: &Told<'_>, verdict: &str) -> Markup {
    let Told { report, stack, .. } = told;
    let (class, mark) = match report.verdict {
        Verdict::Pass => ("verdict pass", "✓"),
        // It failed all the same: what was not shown is not proven.
        Verdict::Fail if report.shows_nothing => ("verdict unshown", "?"),
        Verdict::Fail => ("verdict fail", "✗"),
    };
    html! {
        header {
            p.kicker { "Failure drill on " b { (stack) } " · " (words::day(report.started)) }
            h1 { (words::title(report)) }
            div class=(class) {
                span.mark aria-hidden="true" { (mark) }
                p {
                    strong { "The drill " (verdict) "." @if report.shows_nothing { " " (summary::NO_VERDICT) } }
                    @for sentence in words::verdict(report) { " " (prose(&sentence)) }
                }
            }
            @for warning in &report.warnings {
                div.caution {
                    span.mark aria-hidden="true" { "!" }
                    p { strong { "Caution." } " " (prose(&sentence(warning))) }
                }
            }
        }
    }
}

fn happened(told: &Told<'_>) -> Markup {
    let Told { report, plan, .. } = told;
    html! {
        section.two {
            div {
                h2 { "What was done" }
                @for sentence in words::done(report, plan) { p { (prose(&sentence)) } }
            }
            div {
                h2 { "What test visitors noticed" }
                @for sentence in words::noticed(report) { p { (sentence) } }
            }
        }
    }
}

/// What bounds the verdict, and what can be done now.
fn advice(report: &Report) -> Markup {
    let notes = report.reasons.iter().filter(|reason| reason.role == Role::Rule).map(|reason| reason.text.clone());
    let limits: Vec<String> = notes.chain(summary::beyond(report)).collect();
    let steps = summary::next(report);
    html! {
        section.two {
            @if !limits.is_empty() {
                div {
                    h2 { "What to keep in mind" }
                    ul { @for limit in &limits { li { (prose(&sentence(limit))) } } }
                }
            }
            @if !steps.is_empty() {
                div {
                    h2 { "What to do next" }
                    ul.steps { @for step in steps { li {
                        (prose(&sentence(&step.why)))
                        @match step.what {
                            Todo::Command(args) => { pre { code { "keel " (args) } } }
                            Todo::Lines(lines) => { pre { code { (lines) } } }
                        }
                    } } }
                }
            }
        }
    }
}

fn capacity(report: &Report) -> Markup {
    let Some(capacity) = &report.capacity else { return html! {} };
    html! {
        section {
            h2 { "How much the service bears" }
            p {
                "With all instances " b { (capacity.rate) " requests a second" } ", with one gone "
                b { (capacity.rate_with_one_gone) } ". A rate counts if 99 of 100 requests took at most "
                (in_words(capacity.p99_ms)) " and none failed."
                @if let Some(headroom) = capacity.headroom {
                    " That is " b { (format!("{headroom:.1}")) } " times what users asked at the time, with one instance gone."
                }
            }
            details {
                summary { "Every rate that was tried" }
                div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table {
                    thead { tr {
                        th { "instances" } th.n { "requests a second" } th.n { "99 of 100 within" } th.n { "failed" } th { "outcome" }
                    } }
                    tbody { @for step in &capacity.steps { tr {
                        td { @if step.one_gone { "one gone" } @else { "all" } }
                        td.n { (step.rate) } td.n { (in_words(step.p99_ms)) } td.n { (step.errors) " of " (step.requests) }
                        td { @if step.met { "✓ borne" } @else { "✗ too much" } }
                    } } }
                } }
            }
        }
    }
}

fn errors(report: &Report) -> Markup {
    if report.error_samples.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "What failed requests got" }
            div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table {
                thead { tr { th.n { "first sent at" } th { "request" } th { "answer" } th.n { "took" } th.n { "how often" } } }
                tbody { @for sample in outcome::errors(&report.error_samples) { tr {
                    td.n { (in_words(sample.at_ms)) } td { code { (sample.request) } } td { (sample.seen) }
                    td.n { (in_words(sample.took_ms)) } td.n { (sample.count) }
                } } }
            } }
        }
    }
}

fn earlier(told: &Told<'_>) -> Markup {
    let Some(earlier) = told.earlier else { return html! {} };
    let time = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), in_words);
    let report = told.report;
    let runs = if earlier.runs == 1 { "run" } else { "runs" };
    html! {
        section {
            h2 { "Compared with earlier runs" }
            p { (earlier.passed) " of " (earlier.runs) " earlier " (runs) " of this drill passed." }
            @if let Some(whose) = history::earlier_words(earlier) {
            div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table {
                thead { tr { td {} th.n { "this run" } th.n { (whose) } } }
                tbody {
                    @if !report.noticed_by_drill {
                        tr { th { "until keel noticed" } td.n { (time(report.detection_ms)) } td.n { (time(earlier.detection_ms)) } }
                    }
                    tr { th { "until " (summary::well(report)) " again" } td.n { (time(report.recovery_ms)) } td.n { (time(earlier.recovery_ms)) } }
                    tr { th { "longest wait" } td.n { (in_words(report.worst_ms)) } td.n { (time(earlier.worst_ms)) } }
                }
            } }
            }
        }
    }
}

fn how(told: &Told<'_>) -> Markup {
    let Told { plan, .. } = told;
    html! {
        section {
            h2 { "How it was measured" }
            ol { @for line in plan.lines() { li { (prose(&sentence(&line))) } } }
        }
    }
}

fn journal(told: &Told<'_>) -> Markup {
    let Told { events, report, .. } = told;
    html! {
        section {
            h2 { "What the stack wrote about it" }
            @if events.is_empty() {
                p { "Its journal could not be read when this report was written." }
            } @else {
                p { "Decisions and observations of the time, from the stack's own journal. Times count from the start of the drill." }
                // Whoever reads of a failure wants to know why.
                details open[report.verdict == Verdict::Fail || events.len() <= 12] {
                    summary { (events.len()) " entries" }
                    div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table.journal {
                        thead { tr { th.n { "when" } th { "about" } th { "what" } } }
                        tbody { @for entry in *events { tr {
                            td.n { (words::relative(entry.at, report.started)) }
                            td { code { (entry.subject) } }
                            td {
                                (prose(&entry.message))
                                @for reason in entry.reasons.iter().take(3) { span.reason { (prose(&reason.text)) } }
                            }
                        } } }
                    } }
                }
            }
        }
    }
}

/// What stands in backticks as code.
fn prose(text: &str) -> Markup {
    html! {
        @for (is_code, part) in evenkeel_core::words::code_parts(text) {
            @if is_code { code { (part) } } @else { (part) }
        }
    }
}

/// With a capital and a full stop; a name or a command keeps its first letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().filter(char::is_ascii_lowercase);
    let is_plain = text.split(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let begin = first.filter(|_| is_plain).map(|first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()));
    let text = begin.unwrap_or_else(|| text.to_owned());
    if text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

#[cfg(test)]
pub(super) mod tests;
