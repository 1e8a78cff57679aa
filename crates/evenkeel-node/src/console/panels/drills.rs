//! Drills: what can be rehearsed, when each was proven last, the one that runs now, and those that were run.

use evenkeel_core::{
    access::Role,
    drill::{self, Drill, RunState, in_words},
};
use maud::{Markup, html};

use super::{
    Panel, act,
    events::reasons,
    timeline::timeline,
    words::{Tone, age, clock, count, prose, state},
};
use crate::{
    console::view::View,
    drills::{Outcome, Run},
};

/// Runs that are listed.
const SHOWN: usize = 12;

/// All drills.
pub(super) struct Drills;

impl Panel for Drills {
    fn id(&self) -> &'static str {
        "drills"
    }

    fn title(&self) -> &'static str {
        "Drills and proofs"
    }

    fn render(&self, view: &View) -> Markup {
        let running = view.runs.iter().find(|run| run.state == RunState::Running);
        html! {
            @if let Some(run) = running.or_else(|| view.runs.first()) {
                article class="latest" aria-label="The newest run" {
                    header {
                        h3 { (run.drill) }
                        (verdict(run.state))
                        span class="quiet" { (whom(run)) ", " (age(run.began)) " ago" }
                    }
                    (timeline(run))
                }
            }
            (proofs(view, running.is_some()))
            (history(view))
        }
    }
}

fn proofs(view: &View, is_busy: bool) -> Markup {
    html! {
        ul class="proofs" aria-label="What is proven, and how long ago" {
            @for drill in drill::ALL.iter().copied() { (proof(view, drill, is_busy)) }
        }
    }
}

fn proof(view: &View, drill: &dyn Drill, is_busy: bool) -> Markup {
    let runs = || view.runs.iter().filter(|run| run.drill == drill.name() && run.state != RunState::Running);
    // A run that was given up says nothing about the drill; what was found last does, as in `keel drill list`.
    let last = runs().find(|run| run.state != RunState::GivenUp).or_else(|| runs().next());
    let passed = runs().find(|run| run.state == RunState::Passed);
    let recovery = passed.and_then(|run| run.report.as_ref()).and_then(|report| report.recovery_ms);
    html! {
        li class="proof" data-key=(drill.name()) {
            div class="line" {
                h3 { (drill.name()) }
                @if is_busy { button type="button" class="act" disabled title="One drill at a time" { "Rehearse…" } }
                @else { (act("Rehearse…", "drill", Role::Operator, drill.name())) }
            }
            p class="hint" { (prose(drill.summary())) }
            p class="line" {
                @match (last, passed) {
                    (Some(last), Some(passed)) if last.state == RunState::Passed => {
                        (state(Tone::Good, "proof", "passed")) span { (age(passed.began)) " ago" }
                    }
                    (Some(last), _) => {
                        (verdict(last.state)) span { (age(last.began)) " ago" }
                        @if let Some(passed) = passed { span class="quiet" { "passed " (age(passed.began)) " ago" } }
                    }
                    (None, _) => { (state(Tone::Quiet, "none", "never rehearsed")) }
                }
                @if let Some(ms) = recovery { span class="quiet" { "recovery " (in_words(ms)) } }
            }
        }
    }
}

fn verdict(of: RunState) -> Markup {
    match of {
        RunState::Passed => state(Tone::Good, "healthy", "passed"),
        RunState::Failed => state(Tone::Bad, "unhealthy", "failed"),
        RunState::Running => state(Tone::Busy, "busy", "running"),
        RunState::GivenUp => state(Tone::Warn, "warning", "given up"),
    }
}

fn history(view: &View) -> Markup {
    let over = || view.runs.iter().filter(|run| run.state != RunState::Running);
    html! {
        div class="runs" {
            h3 { "Runs" }
            @if over().next().is_none() { p class="empty" { "No drill was run yet. A drill harms one thing on purpose, while test visitors read and write, and says what they noticed." } }
            @for run in over().take(SHOWN) { (past(run)) }
            @if over().count() > SHOWN { p class="hint" { (count(over().count() as u64)) " runs are kept; " code { "keel drill history" } " lists them." } }
        }
    }
}

fn past(run: &Run) -> Markup {
    html! {
        details data-key=(run.id) {
            summary { (clock(run.began)) (verdict(run.state)) b { (run.drill) } span class="quiet" { (whom(run)) } }
            @if let Some(report) = &run.report { (outcome(report)) }
            (timeline(run))
            @if let Some(report) = &run.report { (reasons(&report.reasons)) }
            @if run.report.is_some() {
                p { a href={ "/v1/drills/runs/" (run.id) "/report.html" } target="_blank" rel="noopener" { "The whole report" } }
            }
        }
    }
}

fn whom(run: &Run) -> &str {
    if run.subject.is_empty() { &run.service } else { &run.subject }
}

fn outcome(report: &Outcome) -> Markup {
    let time = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), in_words);
    let writes =
        format!("{} lost, {} doubled of {}", report.lost_writes, report.doubled_writes, report.acknowledged_writes);
    let number = |label: &str, value: String| html! { div { dt { (label) } dd { (value) } } };
    // While keel itself is down it can notice nothing: then only the drill did.
    let (detected, when) = if report.noticed_by_drill {
        ("detected", "by the drill alone".to_owned())
    } else {
        ("detected after", time(report.detection_ms))
    };
    html! {
        @for warning in &report.warnings { p class="line" { (state(Tone::Warn, "warning", "beware")) span { (prose(warning)) } } }
        dl class="numbers" {
            (number(detected, when))
            (number("recovered after", time(report.recovery_ms)))
            (number("errors", format!("{} of {}", count(report.errors), count(report.requests))))
            (number("p99", in_words(report.p99_ms)))
            (number("slowest", in_words(report.worst_ms)))
            @if report.acknowledged_writes > 0 { (number("writes", writes)) }
        }
    }
}
