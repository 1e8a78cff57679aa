//! Rates, errors and latencies over time, with marks where something was deployed, rehearsed or decided.

use maud::{Markup, html};

use super::Panel;
use crate::console::{
    plot::{self, Window},
    view::{Range, View},
};

/// Points of one plot: as many as can be told apart.
const MOST_POINTS: usize = 360;

/// Services whose plots are open at first.
const OPEN: usize = 2;

/// The plots of each service.
pub(super) struct Traffic;

impl Panel for Traffic {
    fn id(&self) -> &'static str {
        "traffic"
    }

    fn title(&self) -> &'static str {
        "Traffic"
    }

    fn is_ranged(&self) -> bool {
        true
    }

    fn tools(&self) -> Markup {
        html! {
            div class="ranges" role="group" aria-label="How far back" {
                @for range in Range::ALL {
                    button type="button" data-range=(range.as_str()) aria-pressed=(range == Range::default()) { (range.in_words()) }
                }
            }
        }
    }

    fn render(&self, view: &View) -> Markup {
        let window = Window::ending(view.now, view.range.length_ms());
        let single = view.services().nth(1).is_none();
        html! {
            @for (index, service) in view.services().enumerate() {
                @let points = view.history.read(&service.name, window.from, window.to, MOST_POINTS);
                @let marks = plot::marks_of(&service.name, &view.events, window);
                @let bound = service.objective.as_ref().and_then(|objective| objective.p99_ms);
                @let plots = plot::of_service(&service.name, &points, window, &marks, bound);
                @if single { div data-key=(service.name) { (plots) } }
                @else {
                    details class="of-service" open[index < OPEN] data-key=(service.name) {
                        summary { (service.name) }
                        (plots)
                    }
                }
            }
            @if view.services().next().is_none() { p class="empty" { "The stack has no service that requests could go to." } }
        }
    }
}
