//! What happened and was decided, newest first, each with its reasons.

use evenkeel_core::journal::{Entry, Level, Reason, Role};
use maud::{Markup, html};

use super::{
    Panel, why,
    words::{clock, level, prose},
};
use crate::console::view::View;

/// The journal's newest entries.
pub(super) struct Events;

impl Panel for Events {
    fn id(&self) -> &'static str {
        "events"
    }

    fn title(&self) -> &'static str {
        "Events"
    }

    fn tools(&self) -> Markup {
        html! {
            label class="switch" { input type="checkbox" id="only-warnings" data-toggle="events-warnings"; "Only warnings" }
        }
    }

    fn render(&self, view: &View) -> Markup {
        html! {
            ol class="events" tabindex="0" aria-label="Events, newest first" {
                @for entry in view.events.iter() { (event(entry)) }
                @if view.events.is_empty() { li class="empty" { "Nothing has happened yet." } }
            }
        }
    }
}

fn event(entry: &Entry) -> Markup {
    let class = if entry.level == Level::Info { "event info" } else { "event loud" };
    html! {
        li class=(class) data-key=(entry.id) {
            div class="line" { (clock(entry.at)) (level(entry.level)) b { (entry.subject) } (why(&entry.subject)) }
            @if entry.reasons.is_empty() { p { (prose(&entry.message)) } }
            @else {
                details {
                    summary { (prose(&entry.message)) }
                    (reasons(&entry.reasons))
                }
            }
        }
    }
}

/// What led to a decision.
pub(super) fn reasons(reasons: &[Reason]) -> Markup {
    html! {
        ul class="reasons" {
            @for reason in reasons {
                @let word = match reason.role { Role::Seen => "seen", Role::Rule => "rule", Role::RuledOut => "ruled out" };
                li { span class="role" { (word) } " " span { (prose(&reason.text)) } }
            }
        }
    }
}
