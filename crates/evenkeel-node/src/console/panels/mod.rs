//! The panels of the page, one file for each.
//!
//! A panel is a function of a [`View`]: it asks nothing, keeps nothing and decides nothing, and the same view always makes the same
//! text, so that what did not change is not sent. It is the same for everybody: what a role may not do is disabled by
//! the script, and refused by the API. Times are points, which the script turns into ages.

mod admin;
mod attention;
mod deploys;
mod drills;
mod events;
mod logs;
mod objectives;
mod picture;
mod pulse;
mod services;
mod timeline;
mod traffic;
pub(crate) mod words;

use evenkeel_core::access::Role;
use maud::{Markup, html};

use super::view::View;

/// A part of the page.
pub(crate) trait Panel: Sync {
    /// Its name in addresses, styles and messages.
    fn id(&self) -> &'static str;

    /// Its heading.
    fn title(&self) -> &'static str;

    /// What stands below the heading.
    fn render(&self, view: &View) -> Markup;

    /// What stands beside the heading and never changes.
    fn tools(&self) -> Markup {
        html! {}
    }

    /// Whether it depends on how far back plots reach.
    fn is_ranged(&self) -> bool {
        false
    }

    /// Whether it is the same for as long as the page is open.
    fn is_still(&self) -> bool {
        false
    }
}

/// All panels in the order of the page; the first stands in its head.
pub(crate) const ALL: [&dyn Panel; 10] = [
    &pulse::Pulse,
    &picture::Picture,
    &attention::Attention,
    &traffic::Traffic,
    &objectives::Objectives,
    &events::Events,
    &services::Services,
    &drills::Drills,
    &logs::Logs,
    &deploys::Deploys,
];

/// What only admins use; it holds nothing by itself.
pub(crate) const ADMIN: &dyn Panel = &admin::Admin;

/// A button that orders something after a question; the script knows the questions by the name of the act.
fn act(label: &str, act: &str, needs: Role, subject: &str) -> Markup {
    act_with(label, act, needs, subject, "")
}

/// The same, with what the question is to say or to begin with.
fn act_with(label: &str, act: &str, needs: Role, subject: &str, value: &str) -> Markup {
    html! {
        button type="button" class="act" data-act=(act) data-needs=(needs) data-subject=(subject) data-value=(value)
            aria-label={ (label) " " (subject) } { (label) }
    }
}

/// The button that asks why something is as it is.
fn why(subject: &str) -> Markup {
    html! {
        button type="button" class="act why" data-act="why" data-needs="viewer" data-subject=(subject)
            aria-label={ "Why is " (subject) " as it is?" } { "Why?" }
    }
}

#[cfg(test)]
mod tests;
