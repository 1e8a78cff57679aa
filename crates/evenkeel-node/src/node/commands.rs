//! Questions and requests of the API to the owner of the world.

use evenkeel_core::{journal::Reason, stack::nearest, status::Status};
use tokio::sync::{mpsc, oneshot};

use super::{
    Node,
    apply::{Applied, File, Refused},
    diff::Difference,
    operate::{NotOrdered, Operation, Ordered},
};
use crate::{
    metrics::Scrape,
    secrets::{Listed, SecretError},
    state_dir::Revision,
};

/// Names that a refusal lists.
pub(super) const MOST_NAMES: usize = 20;

/// What the API asks. Each carries the way for its answer.
#[derive(Debug)]
pub(crate) enum Command {
    Status(oneshot::Sender<Status>),
    /// The stack file in force.
    Stack(oneshot::Sender<InForce>),
    Scrape(oneshot::Sender<Scrape>),
    Secrets(oneshot::Sender<Result<Vec<Listed>, SecretError>>),
    Secret {
        order: super::SecretOrder,
        who: Reason,
        reply: oneshot::Sender<Result<super::SecretsChanged, SecretError>>,
    },
    /// The sentence that says how a subject is.
    Now {
        subject: String,
        reply: oneshot::Sender<Result<String, UnknownSubject>>,
    },
    /// The instances whose output a subject stands for; none for `edge`, `node` and the like.
    Instances {
        subject: String,
        reply: oneshot::Sender<Result<Vec<String>, UnknownSubject>>,
    },
    Apply {
        file: File,
        who: String,
        reply: oneshot::Sender<Result<Applied, Refused>>,
    },
    /// What a file would change.
    Diff {
        file: File,
        reply: oneshot::Sender<Result<Difference, Refused>>,
    },
    /// A deploy, a rollback, or what there was of them.
    Deploy(super::DeployAsk),
    /// An order, and who gave it.
    Operate {
        operation: Operation,
        who: String,
        reply: oneshot::Sender<Result<Ordered, NotOrdered>>,
    },
}

/// The stack file in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct InForce {
    /// The revision that it belongs to: what an apply is compared with.
    pub(crate) revision: u64,
    /// Its name, for messages about it.
    pub(crate) file: String,
    pub(crate) text: String,
    /// What commands changed of it, in words.
    pub(crate) overrides: Vec<String>,
}

/// Nobody has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownSubject {
    pub(crate) subject: String,
    /// The nearest name, if one is near enough to be meant.
    pub(crate) nearest: Option<String>,
    /// Some that there are.
    pub(crate) known: Vec<String>,
}

/// The way to the owner of the world.
#[derive(Clone, Debug)]
pub(crate) struct Commands(mpsc::Sender<Command>);

impl Commands {
    pub(super) fn new(inbox: mpsc::Sender<Command>) -> Self {
        Self(inbox)
    }

    /// Asks and waits; `None` when the process is about to end.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Node {
    /// Answers. Whoever asked may have gone away, which is no error.
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Stack(reply) => {
                let Revision { number, file, text, overrides, declared, .. } = &self.revision;
                let overrides = overrides.in_words(declared);
                drop(reply.send(InForce { revision: *number, file: file.clone(), text: text.clone(), overrides }));
            }
            Command::Scrape(reply) => drop(reply.send(self.scrape())),
            Command::Secrets(reply) => drop(reply.send(self.list_secrets())),
            Command::Secret { order, who, reply } => {
                let changed = self.order_secret(order, who);
                let _ = self.settle();
                drop(reply.send(changed));
            }
            Command::Now { subject, reply } => {
                drop(reply.send(self.now_sentence(&subject).ok_or_else(|| self.unknown(&subject))));
            }
            Command::Instances { subject, reply } => {
                drop(reply.send(self.output_of(&subject).ok_or_else(|| self.unknown(&subject))));
            }
            Command::Diff { file, reply } => drop(reply.send(self.difference(file))),
            Command::Deploy(ask) => self.deploy_command(ask),
            Command::Operate { operation, who, reply } => {
                let ordered = self.operate(operation, &who);
                let _ = self.settle();
                drop(reply.send(ordered));
            }
            Command::Apply { file, who, reply } => {
                let name = file.name.clone();
                let applied = self.apply(file, &format!("it was applied by {who}"));
                if let Err(refused) = &applied {
                    self.note_refusal(&name, &format!("it was to be applied by {who}"), refused);
                }
                // The answer comes once it is in force, not before.
                let _ = self.settle();
                drop(reply.send(applied));
            }
        }
    }

    fn output_of(&self, subject: &str) -> Option<Vec<String>> {
        if matches!(subject, "edge" | "node" | "stack") {
            return Some(Vec::new());
        }
        let all = self.slots.values();
        if subject.is_empty() {
            return Some(all.map(super::slot::Slot::name).collect());
        }
        let of_service = || all.clone().filter(|slot| slot.service == subject).map(super::slot::Slot::name).collect();
        if self.revision.stack.services.contains_key(subject) {
            return Some(of_service());
        }
        if self.is_before(subject) {
            return Some(vec![subject.to_owned()]);
        }
        all.clone().find(|slot| slot.name() == subject).map(|slot| vec![slot.name()])
    }

    fn unknown(&self, subject: &str) -> UnknownSubject {
        if let Some(of_service) = not_among(subject, &self.instance_names()) {
            return of_service;
        }
        let mut known: Vec<String> = ["stack", "node", "edge"].map(str::to_owned).to_vec();
        known.extend(self.revision.stack.services.keys().cloned());
        known.extend(self.slots.values().map(super::slot::Slot::name));
        known.extend(self.listeners.keys().map(|name| format!("listeners.{name}")));
        let near = nearest(subject, known.iter().map(String::as_str)).map(str::to_owned);
        known.truncate(MOST_NAMES);
        UnknownSubject { subject: subject.to_owned(), nearest: near, known }
    }
}

/// The instances that there are, where a name is meant to be one of them: after a rollout they have other numbers, and
/// the nearest is as good a guess as any.
pub(super) fn not_among(subject: &str, instances: &[String]) -> Option<UnknownSubject> {
    let (service, _) = subject.split_once('/')?;
    let of_service = |name: &&String| name.split_once('/').is_some_and(|(of, _)| of == service);
    let known: Vec<String> = instances.iter().filter(of_service).take(MOST_NAMES).cloned().collect();
    (!known.is_empty()).then(|| UnknownSubject { subject: subject.to_owned(), nearest: None, known })
}
