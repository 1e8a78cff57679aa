//! Output of instances, searched and followed. The script reads it from the API when somebody asks for it.

use maud::{Markup, html};

use super::Panel;
use crate::console::view::View;

/// A form and an empty page of lines.
pub(super) struct Logs;

impl Panel for Logs {
    fn id(&self) -> &'static str {
        "logs"
    }

    fn title(&self) -> &'static str {
        "Logs"
    }

    fn is_still(&self) -> bool {
        true
    }

    fn render(&self, view: &View) -> Markup {
        html! {
            form class="search" id="log-form" {
                label { span { "Of" }
                    select name="subject" id="log-subject" {
                        option value="" { "everything" }
                        @for service in view.services() {
                            option value=(service.name) { (service.name) }
                            @for instance in &service.instances { option value=(instance.name) { (instance.name) } }
                        }
                        @for own in ["edge", "node", "stack"] { option value=(own) { (own) } }
                    }
                }
                label class="grow" { span { "With" }
                    input type="search" name="grep" id="log-search" placeholder="text to search for" autocomplete="off" spellcheck="false";
                }
                label class="switch" { input type="checkbox" name="follow" checked; "Follow" }
                button type="submit" class="act primary" { "Show" }
            }
            p class="hint" id="log-state" role="status" { "Press Show, or / to search. Nothing is read before." }
            ol class="log" id="log-lines" tabindex="0" aria-label="Lines of output, newest last" {}
        }
    }
}
