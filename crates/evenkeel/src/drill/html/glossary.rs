//! What the words of a report mean: those that occur in it, and no others.

use maud::{Markup, html};

/// A term, what shows that a page has it, and what it means.
const TERMS: [(&str, &[&str], &str); 28] = [
    (
        "drill",
        &[],
        "A rehearsal: a failure that is caused on purpose, on a running system, to see whether anybody would notice.",
    ),
    ("harm", &[], "What the drill does to the system on purpose, as killing a process."),
    (
        "test visitors",
        &[],
        "Ten connections of the drill itself. They use the service all the time as real visitors would, never repeat a \
         request, and count what they get. Real visitors are not counted here.",
    ),
    ("service", &[], "A program that answers requests, as a shop or an API, by the name it has in the stack file."),
    ("instance", &["instance"], "One running copy of a service. There are usually several, so that one may fail."),
    ("healthy", &["healthy"], "An instance that answers its checks, and so gets requests."),
    (
        "keel, `keel up`",
        &["keel"],
        "keel is the program of Evenkeel. `keel up` is the command that runs the whole stack; it stays for as long as the \
         stack is up.",
    ),
    (
        "stack, stack file",
        &[],
        "Everything that one Evenkeel runs: services, their instances, and the way requests take to them. The file keel.toml \
         describes it.",
    ),
    (
        "guard",
        &["guard"],
        "The process of keel that starts all others and starts them again when they die. It is `keel up` itself.",
    ),
    (
        "node process, or node",
        &["node"],
        "The process of keel that watches and decides. Requests do not pass through it.",
    ),
    ("edge", &["edge"], "The process of keel that takes requests and passes them on to instances."),
    ("process 1234", &["process "], "A running program, by the number that the operating system gave it."),
    (
        "SIGKILL",
        &["sigkill"],
        "The operating system ends a process at once: it can neither prevent that nor finish anything before.",
    ),
    (
        "SIGSTOP",
        &["sigstop"],
        "The operating system stops a process where it is, as if time stood still for it, until it is let go on.",
    ),
    ("control socket", &["control socket"], "Where keel answers its own commands on this machine, as `keel status`."),
    ("noticed by keel", &["noticed by keel"], "keel itself has seen the failure, without being told of it."),
    (
        "healthy again (recovered)",
        &[],
        "Every instance of the service (after a reboot: of every service) is healthy, and whatever was harmed is back or \
         replaced.",
    ),
    ("down", &["down"], "The longest time after the harm in which no test visitor got an answer at all."),
    (
        "99 of 100 within",
        &["99 of 100"],
        "The time within which 99 of 100 good answers came; the slowest may have taken longer. Requests that failed are \
         not among them: how quickly something is refused says nothing about how long answers take.",
    ),
    (
        "confirmed write",
        &["confirmed"],
        "Something a test visitor asked the service to keep, and the service said that it did. It must be there afterwards, \
         exactly once.",
    ),
    ("probe", &["probe"], "One attempt of a check: keel asks an instance, and looks at the answer."),
    (
        "liveness",
        &["liveness"],
        "A check that decides whether an instance must be started again; others only decide whether it gets requests.",
    ),
    (
        "ejected",
        &["eject"],
        "An instance gets no requests for a while since of those that it got too many failed, whatever its checks say.",
    ),
    (
        "on trial",
        &["trial"],
        "A new instance, or one that was ejected, gets few requests at first, until they end well.",
    ),
    ("generation", &["generation"], "Counts the starts of an instance."),
    ("revision", &["revision"], "One version of the stack: its file, and what was ordered beside that."),
    ("release", &["release"], "One version of a service's program, as it was deployed."),
    (
        "error budget",
        &["error budget"],
        "How many requests may fail without the objective being missed that the stack file declares for the service.",
    ),
];

/// The terms of a page with this text.
pub(super) fn render(page: &str) -> Markup {
    let page = page.to_lowercase();
    let occurs = |marks: &[&str]| marks.is_empty() || marks.iter().any(|mark| page.contains(mark));
    html! {
        section {
            h2 { "What the words mean" }
            dl.glossary {
                @for (term, _, meaning) in TERMS.iter().filter(|(_, marks, _)| occurs(marks)) {
                    div { dt { (super::prose(term)) } dd { (super::prose(meaning)) } }
                }
            }
        }
    }
}
