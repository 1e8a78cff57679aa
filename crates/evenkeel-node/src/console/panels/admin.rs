//! The stack file, secrets and tokens: read by the script when somebody opens them, never part of what is sent live.

use evenkeel_core::access::Role;
use maud::{Markup, html};

use super::{Panel, act};
use crate::console::view::View;

/// What only admins use.
pub(super) struct Admin;

impl Panel for Admin {
    fn id(&self) -> &'static str {
        "admin"
    }

    fn title(&self) -> &'static str {
        "Stack file, secrets and tokens"
    }

    fn is_still(&self) -> bool {
        true
    }

    fn render(&self, _: &View) -> Markup {
        html! {
            details data-load="stack" data-needs="admin" {
                summary { "The stack file in force" }
                p class="hint" { "Change it here, look at what would change, then apply it. What " code { "keel apply" } " would refuse is refused here as well. The file on the disk stays as it is: apply it later, and it is what counts again." }
                label class="hidden" for="stack-text" { "The stack file" }
                textarea id="stack-text" spellcheck="false" rows="18" {}
                label class="switch" { input type="checkbox" id="stack-reset"; "Let the file take the place of what commands changed" }
                div class="acts" { (act("Show what would change…", "apply", Role::Admin, "stack")) }
            }
            details data-load="secrets" data-needs="admin" {
                summary { "Secrets" }
                p class="hint" { "Names and sources. A value is never shown again." }
                div class="acts" { (act("Set a secret…", "secret-set", Role::Admin, "")) (act("Make another key…", "rotate-key", Role::Admin, "")) }
                div class="loaded" id="secrets" {}
            }
            details data-load="tokens" data-needs="admin" {
                summary { "Tokens" }
                p class="hint" { "Who may use the API from elsewhere. The text of a token is shown once, when it is made." }
                div class="acts" { (act("Make a token…", "token-create", Role::Admin, "")) }
                div class="loaded" id="tokens" {}
            }
        }
    }
}
