//! What the words of a report mean.

use evenkeel_core::drill::{Report, Target};
use maud::{Markup, html};

const TERMS: [(&str, &str); 9] = [
    (
        "drill",
        "A rehearsal: a failure that is caused on purpose, on a running system, to see whether its users would notice.",
    ),
    ("stack", "Everything that one Evenkeel runs: the services, their copies, and the way requests take to them."),
    ("service", "A program that answers requests, as a shop or an API, by the name it has in the stack."),
    ("instance", "One running copy of a service. There are usually several, so that one may fail."),
    ("healthy", "An instance that answers its checks, and so gets requests."),
    ("noticed (detected)", "Evenkeel itself has seen the failure, without being told of it."),
    (
        "well again (recovered)",
        "Every instance of the service is healthy, and whatever was harmed is back or replaced.",
    ),
    (
        "99 of 100 (p99)",
        "The time within which 99 of 100 requests were answered; the slowest one may have taken longer.",
    ),
    (
        "verdict",
        "Passed if all conditions held that the owner of the stack asks for, as “no request may fail”; else failed.",
    ),
];

pub(super) fn render(report: &Report) -> Markup {
    let own = match report.subject.target {
        Target::Edge => Some(("edge", "The process of Evenkeel that takes requests and passes them on to instances.")),
        Target::Node => {
            Some(("node process", "The process of Evenkeel that watches and decides. Requests do not pass through it."))
        }
        Target::Guard => Some(("guard", "The process of Evenkeel that starts all others and starts them again.")),
        Target::Instance | Target::Service | Target::Stack => None,
    };
    html! {
        section {
            h2 { "What the words mean" }
            dl.glossary {
                @for (term, meaning) in TERMS.into_iter().chain(own) {
                    div { dt { (term) } dd { (meaning) } }
                }
            }
        }
    }
}
