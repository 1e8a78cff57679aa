//! How a subject is, in one sentence: the head of `keel why`. The reasons below it come from the journal.

use evenkeel_core::{
    journal::{Level, Reason},
    pause::STACK,
    status::{Phase, Status},
    why,
};

use super::{
    Node,
    apply::{Refused, causes},
};

/// Subjects without a state of their own: what is recorded under them is all there is to tell.
const RECORDED: [&str; 4] = ["drill", "deploy", "secrets", "tokens"];

impl Node {
    /// Writes down that a file was not put in force, and why, without any of its text: that may hold secrets.
    pub(super) fn note_refusal(&self, file: &str, asked: &str, refused: &Refused) {
        let mut reasons = match refused {
            Refused::Stack(faults) => causes(faults),
            Refused::Machine(error) => vec![Reason::seen(error.split().0)],
            Refused::Undo(what, _) => vec![Reason::seen(what)],
            Refused::Newer { expected, in_force } => {
                vec![Reason::seen(format!("it was made from revision {expected}, and revision {in_force} is in force"))]
            }
            Refused::Stopping => vec![Reason::seen("keel is being stopped")],
        };
        reasons.push(Reason::seen(asked));
        let message = format!("{file} was not applied; revision {} stays", self.revision.number);
        self.note(Level::Error, "stack", "refused", message, reasons);
    }

    /// The sentence; `None` for a name that nobody has.
    pub(super) fn now_sentence(&self, subject: &str) -> Option<String> {
        let status = self.status();
        match subject {
            "stack" | "" => Some(format!("{}{}", why::stack(&status), self.orders_about(STACK))),
            "node" => Some(node_sentence(&status)),
            "edge" => Some(edge_sentence(&status)),
            _ if RECORDED.contains(&subject) => Some(format!("the newest entries about {subject}")),
            _ => {
                if let Some(listener) = subject.strip_prefix("listeners.") {
                    let address = self.listeners.get(listener)?;
                    return Some(format!("{subject} listens on {address}"));
                }
                if let Some(service) = status.services.iter().find(|service| service.name == subject) {
                    let standing = self.standing_of(subject);
                    return Some(format!("{}{standing}{}", why::service(service), self.orders_about(subject)));
                }
                let instances = || status.services.iter().flat_map(|service| &service.instances);
                instances()
                    .find(|instance| instance.name == subject)
                    .map(|instance| format!("{}{}", why::instance(instance), self.orders_about(subject)))
            }
        }
    }
}

fn node_sentence(status: &Status) -> String {
    format!(
        "the node process is {} and was started again {} since the guard's start",
        status.node.pid,
        times(status.node.restarts)
    )
}

fn edge_sentence(status: &Status) -> String {
    let Some(edge) = &status.edge else {
        return "the edge does not run; the guard is starting it again".to_owned();
    };
    let waiting = status.services.iter().flat_map(|service| &service.instances);
    let starting = waiting.filter(|instance| instance.phase == Some(Phase::Starting)).count();
    let starting = if starting == 0 { String::new() } else { format!("; {starting} instances are starting") };
    format!(
        "the edge is process {}, serves snapshot {} of {}, and was started again {}{starting}",
        edge.pid,
        edge.applied,
        edge.snapshot,
        times(edge.restarts)
    )
}

fn times(n: u64) -> String {
    match n {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}
