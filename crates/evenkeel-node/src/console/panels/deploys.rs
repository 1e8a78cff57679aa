//! Deploys and releases of each service, and the way back.

use evenkeel_core::{access::Role, deploy::DeployStatus};
use maud::{Markup, html};

use super::{
    Panel, act, act_with,
    events::reasons,
    words::{Tone, clock, count, prose, state},
};
use crate::{console::view::View, node};

/// Deploys of each service that are shown.
const SHOWN: usize = 8;

/// All that can be deployed.
pub(super) struct Deploys;

impl Panel for Deploys {
    fn id(&self) -> &'static str {
        "deploys"
    }

    fn title(&self) -> &'static str {
        "Deploys"
    }

    fn render(&self, view: &View) -> Markup {
        html! {
            @for history in view.deploys.iter() { (of_service(history)) }
            @if view.deploys.is_empty() { p class="empty" { "No service of this stack is run by keel, so there is nothing to deploy." } }
        }
    }
}

fn of_service(history: &node::History) -> Markup {
    let service = &history.service;
    html! {
        article data-key=(service) aria-label={ "Deploys of " (service) } {
            header {
                h3 { (service) }
                span class="quiet" { @if history.release == 0 { "as the stack file says" } @else { "release " (history.release) " is in force" } }
                div class="acts" {
                    (act("Deploy…", "deploy", Role::Operator, service))
                    @if let Some(former) = history.former {
                        (act_with("Roll back…", "rollback", Role::Operator, service, &former.to_string()))
                    }
                }
            }
            @if history.deploys.is_empty() { p class="empty" { "No deploy yet." } }
            ol class="deploys" {
                @for deploy in history.deploys.iter().rev().take(SHOWN) { (row(deploy)) }
            }
            @if history.releases.len() > 1 || history.release > 0 { (releases(history)) }
        }
    }
}

fn row(deploy: &DeployStatus) -> Markup {
    let mark = match deploy.phase.as_str() {
        "done" => state(Tone::Good, "healthy", "done"),
        "rolled-back" => state(Tone::Warn, "draining", "rolled back"),
        "failed" => state(Tone::Bad, "unhealthy", "failed"),
        other => state(Tone::Busy, "busy", other),
    };
    html! {
        li data-key=(deploy.number) {
            div class="line" { (clock(deploy.began)) (mark) b { "release " (deploy.release) } span class="quiet" { (deploy.by) } }
            @if deploy.reasons.is_empty() && deploy.last_output.is_empty() { p { (prose(&deploy.message)) } }
            @else {
                details {
                    summary { (prose(&deploy.message)) }
                    (reasons(&deploy.reasons))
                    @if !deploy.last_output.is_empty() { pre { @for line in &deploy.last_output { (line) "\n" } } }
                }
            }
        }
    }
}

fn releases(history: &node::History) -> Markup {
    html! {
        details class="releases" {
            summary { (history.releases.len()) " kept releases" }
            table {
                thead { tr { th scope="col" class="number" { "Release" } th scope="col" { "Deployed" } th scope="col" class="number" { "Files" } th scope="col" { "Note" } th scope="col" { "Orders" } } }
                tbody {
                    @for kept in history.releases.iter().rev() {
                        tr data-key=(kept.number) {
                            td class="number" { (kept.number) }
                            td { (clock(kept.deployed)) }
                            td class="number" { (count(kept.files)) }
                            td { @if kept.number == history.release { "in force" } @else if let Some(fault) = &kept.fault { (fault) } }
                            td class="acts" {
                                @if kept.number != history.release {
                                    (act_with("Put in force…", "rollback", Role::Operator, &history.service, &kept.number.to_string()))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
