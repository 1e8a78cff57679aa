//! The head of the page: whether all is well, in two words.

use evenkeel_core::status::Health;
use maud::{Markup, html};

use super::{
    Panel,
    words::{Tone, age, count, state},
};
use crate::{console::view::View, words::counted};

/// In the head, always in sight.
pub(super) struct Pulse;

impl Panel for Pulse {
    fn id(&self) -> &'static str {
        "pulse"
    }

    fn title(&self) -> &'static str {
        "State of the stack"
    }

    fn render(&self, view: &View) -> Markup {
        let status = &view.status;
        let problems = status.problems.len();
        let well = state(Tone::Good, "healthy", "All is well");
        let ill = || state(Tone::Bad, "unhealthy", &counted(problems, "problem", "problems"));
        let out =
            view.services().flat_map(|service| &service.instances).filter(|one| one.health != Health::Healthy).count();
        let moving = view.services().any(|service| service.deploy.is_some());
        html! {
            span class="verdict" {
                @if problems > 0 { a href="#attention" { (ill()) } }
                @else if moving { a href="#attention" { (state(Tone::Busy, "busy", "A deploy is under way")) } }
                @else if out > 0 {
                    a href="#services" { (state(Tone::Warn, "warning", &format!("{} not healthy", counted(out, "instance", "instances")))) }
                }
                @else { (well) }
            }
            dl class="facts" {
                div { dt { "Up" } dd { (age(status.since)) } }
                div { dt { "Revision" } dd { (count(status.revision)) } }
                div { dt { "Connections" } dd { @if let Some(edge) = &status.edge { (count(edge.connections)) } @else { "–" } } }
            }
        }
    }
}
