//! What somebody should know now: problems, what was changed or paused by hand, what is under way; and keel's processes.

use std::collections::BTreeSet;

use evenkeel_core::{
    access::Role,
    status::{Health, ServiceStatus},
};
use maud::{Markup, html};

use super::{
    Panel, act, act_with, why,
    words::{Tone, mark, prose, state},
};
use crate::{console::view::View, words::counted};

/// What stands behind whom a pause concerns.
const PAUSED: &str = " is PAUSED";

/// Beside the picture.
pub(super) struct Attention;

impl Panel for Attention {
    fn id(&self) -> &'static str {
        "attention"
    }

    fn title(&self) -> &'static str {
        "Attention"
    }

    fn render(&self, view: &View) -> Markup {
        let status = &view.status;
        let nothing = status.problems.is_empty() && status.overrides.is_empty();
        let is_calm = |service: &ServiceStatus| {
            let all = service.instances.iter().all(|instance| instance.health == Health::Healthy);
            all && notes(service).is_empty() && service.deploy.is_none()
        };
        let calm = nothing && pauses(view).next().is_none() && view.services().all(is_calm);
        html! {
            ul class="notes" tabindex="0" aria-label="What needs attention" {
                @for problem in status.problems.iter().filter(|problem| !pauses(view).any(|pause| problem.contains(pause))) {
                    li class="note bad" { (mark("unhealthy")) p { (prose(problem)) } }
                }
                @for pause in pauses(view).collect::<BTreeSet<_>>() {
                    li class="note bad" {
                        (mark("unhealthy"))
                        div {
                            p { (prose(pause)) }
                            // It begins with whom it concerns, and another one's end would leave it in force.
                            @if let Some((subject, _)) = pause.split_once(PAUSED) {
                                div class="acts" { (act("Resume…", "resume", Role::Operator, subject)) }
                            }
                        }
                    }
                }
                @for service in view.services() {
                    @if let Some(deploy) = &service.deploy {
                        li class="note busy" {
                            (mark("busy"))
                            div {
                                p { strong { (service.name) } ": " (prose(&deploy.message)) }
                                div class="acts" {
                                    (act_with("End the deploy…", "abort-deploy", Role::Operator, &service.name, ""))
                                    (why(&service.name))
                                }
                            }
                        }
                    }
                    @for instance in service.instances.iter().filter(|one| one.health != Health::Healthy && one.drained.is_none()) {
                        li class={ "note " (Tone::of(instance.health).class()) } data-key=(instance.name) {
                            (mark(instance.health.as_str()))
                            p { strong { (instance.name) } " is " (instance.health) @if !instance.reason.is_empty() { ": " (prose(&instance.reason)) } }
                        }
                    }
                    @for note in notes(service) {
                        li class="note warn" { (mark("warning")) p { strong { (service.name) } ": " (prose(&note)) } }
                    }
                }
                @for line in &status.overrides {
                    li class="note quiet" { (mark("info")) p { (prose(line)) } }
                }
                @if calm {
                    li class="note good" { (mark("healthy")) p { (all_is_well(view)) } }
                }
            }
            (processes(view))
        }
    }
}

/// The pauses that services are under; that the stack only observes is told once, as a problem.
fn pauses(view: &View) -> impl Iterator<Item = &str> {
    view.services().filter_map(|service| service.hands_off.as_deref()).filter(|why| why.contains(PAUSED))
}

/// What is unusual about a service without being a problem.
fn notes(service: &ServiceStatus) -> Vec<String> {
    let away = service.away.as_ref().map(|away| format!("{} answers in its place, {}", away.to, away.returns));
    let rollout = service.rollout.clone().filter(|_| service.deploy.is_none());
    let parts = [away, service.short.clone(), rollout.map(|what| format!("instances are replaced: {what}"))];
    parts.into_iter().flatten().collect()
}

fn all_is_well(view: &View) -> String {
    let instances: usize = view.services().map(|service| service.instances.len()).sum();
    match instances {
        0 => "Nothing needs attention.".to_owned(),
        1 => "Nothing needs attention: the only instance is healthy.".to_owned(),
        n => format!("Nothing needs attention: all {n} instances are healthy."),
    }
}

fn processes(view: &View) -> Markup {
    let status = &view.status;
    let restarted = |n: u64| if n == 0 { "never restarted".to_owned() } else { counted(n, "restart", "restarts") };
    let row = |name: &str, pid: u32, restarts: u64| {
        html! {
            tr {
                th scope="row" { (name) }
                td class="number" { (pid) }
                td {
                    @if restarts == 0 { span class="quiet" { (restarted(0)) } }
                    @else { (state(Tone::Warn, "warning", &restarted(restarts))) }
                }
                td { (why(if name == "guard" { "stack" } else { name })) }
            }
        }
    };
    html! {
        table class="processes" {
            caption { "Processes of keel " (status.version) }
            thead class="hidden" { tr { th { "Process" } th { "Process id" } th { "Restarts" } th { "Reasons" } } }
            tbody {
                (row("guard", status.guard.pid, status.guard.restarts))
                (row("node", status.node.pid, status.node.restarts))
                @if let Some(edge) = &status.edge { (row("edge", edge.pid, edge.restarts)) }
                @else { tr { th scope="row" { "edge" } td {} td { (state(Tone::Bad, "unhealthy", "not running")) } td { (why("edge")) } } }
            }
        }
        div class="acts" {
            (act("Pause decisions…", "pause", Role::Operator, "stack"))
        }
    }
}
