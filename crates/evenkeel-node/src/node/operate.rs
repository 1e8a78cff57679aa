//! What an operator orders of a running stack: scale, restart, drain, resume, pause.
//!
//! Each order is checked whole, refused with the way out, or put in force at once; the rollout and the edge do the
//! rest at their own pace. An order is carried out in a pause too: a pause stops what is decided without one. Every
//! order goes to the journal with who gave it.

use std::{collections::BTreeSet, time::Duration};

use evenkeel_core::{
    journal::{Level, Reason},
    pause::STACK,
    stack::{Service, nearest},
    time::in_words,
};

use super::{
    Applied, Node, Refused, UnknownSubject,
    commands::{MOST_NAMES, not_among},
    publish::fixed_id,
};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// So many instances; `None`: as many as the stack file says.
    Scale { service: String, replicas: Option<u32> },
    /// New processes, one by one, for a service or one of its instances.
    Restart { subject: String },
    /// No new requests for an instance, which goes on running.
    Drain { instance: String, reason: String, force: bool },
    /// The end of a drain or of a pause; where a reason is named, only of the drain that was ordered for it.
    Resume { subject: String, drained_for: Option<String> },
    /// No automatic decisions about a service, or about any.
    Pause { subject: String, length: Duration, reason: String },
}

/// What came of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Ordered {
    /// The revision in force now.
    pub(crate) revision: u64,
    /// What changed, in words; empty where everything was so before.
    pub(crate) changes: Vec<String>,
    /// What that means and may surprise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Processes that are replaced, as `shop/1#4`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) replaced: Vec<String>,
    /// Instances that stay, where others are replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<String>,
}

/// Why an order was not taken.
#[derive(Debug)]
pub(crate) enum NotOrdered {
    /// Nobody has that name.
    Unknown(UnknownSubject),
    /// The same reasons as for a file.
    Refused(Refused),
    /// It makes no sense, or would do harm: what and the way out.
    No { what: String, fix: String },
}

impl From<Refused> for NotOrdered {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl NotOrdered {
    pub(super) fn no(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::No { what: what.into(), fix: fix.into() }
    }
}

/// The most instances of a service.
const MOST_REPLICAS: u32 = 1000;

impl Node {
    /// Takes an order. `who` gave it.
    pub(super) fn operate(&mut self, operation: Operation, who: &str) -> Result<Ordered, NotOrdered> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping.into());
        }
        match operation {
            Operation::Scale { service, replicas } => self.scale(&service, replicas, who),
            Operation::Restart { subject } => self.restart(&subject, who),
            Operation::Drain { instance, reason, force } => self.drain(&instance, &reason, force, who),
            Operation::Resume { subject, drained_for } => self.resume(&subject, drained_for.as_deref(), who),
            Operation::Pause { subject, length, reason } => self.pause(&subject, length, &reason, who),
        }
    }

    fn scale(&mut self, name: &str, replicas: Option<u32>, who: &str) -> Result<Ordered, NotOrdered> {
        let service = self.run_service(name, "scaled")?;
        if replicas.is_some_and(|wanted| wanted > MOST_REPLICAS) {
            let what = format!("{name} cannot have more than {MOST_REPLICAS} instances");
            return Err(NotOrdered::no(what, "Give a smaller number."));
        }
        let declared = self.revision.declared.services.get(name).map_or(&service.replicas, |own| &own.replicas);
        let (what, mut notes) = match replicas {
            Some(wanted) => (format!("{name} was scaled to {wanted} by hand"), meaning(name, &service, wanted)),
            None => (format!("{name} has again as many instances as the file says: {declared}"), Vec::new()),
        };
        if replicas.is_some() && declared.elastic().is_some() {
            notes.push(format!("elastic scaling of {name} is off until `keel scale {name} auto`"));
        }
        let by = Reason::seen(format!("by {who}"));
        let applied =
            self.override_with(&what, vec![by.clone()], |overrides| overrides.of(name).replicas = replicas)?;
        if !applied.changes.is_empty() {
            let rule = Reason::rule(match replicas {
                Some(_) => format!("stays over restarts, until `keel scale {name} auto` or a file that changes it"),
                None => "the stack file decides".to_owned(),
            });
            self.note(Level::Info, name, "scaled", what, vec![by, rule]);
        }
        Ok(ordered(applied, notes))
    }

    fn restart(&mut self, subject: &str, who: &str) -> Result<Ordered, NotOrdered> {
        let services = &self.revision.stack.services;
        let name =
            if services.contains_key(subject) { subject } else { subject.rsplit_once('/').unwrap_or((subject, "")).0 };
        if subject == STACK {
            let what = "a restart is ordered of one service, or of one instance";
            return Err(NotOrdered::no(what, "One after the other: `keel restart SERVICE`."));
        }
        if !services.contains_key(name) {
            let known = self.subjects().into_iter().filter(|known| known != STACK).collect();
            return Err(no_such(subject, known));
        }
        self.run_service(name, "restarted")?;
        let slots = || self.slots.values().filter(|slot| slot.service == name && slot.is_staying());
        let meant: BTreeSet<u32> =
            slots().filter(|slot| subject == name || slot.name() == subject).map(|slot| slot.number).collect();
        if meant.is_empty() && subject != name {
            return Err(no_such(subject, slots().map(super::slot::Slot::name).collect()));
        }
        if meant.is_empty() {
            return Err(NotOrdered::no(format!("{name} has no instances"), format!("keel scale {name} N")));
        }
        let kept = slots().filter(|slot| !meant.contains(&slot.number)).map(super::slot::Slot::name).collect();
        let replaced: Vec<String> =
            slots().filter(|slot| meant.contains(&slot.number)).map(super::slot::Slot::key).collect();
        let drained = slots().filter(|slot| slot.drained && meant.contains(&slot.number));
        let notes = drained
            .map(|slot| format!("{} is drained: its drain ends with it, and the new one gets requests", slot.name()))
            .collect();
        for number in &meant {
            let place = (name.to_owned(), *number);
            self.slots.get_mut(&place).expect("it was found just now").make_stale();
            self.keep_record(&place, true);
        }
        self.ordered_of(name);
        let message = if subject == name { "its instances are replaced one by one" } else { "it is replaced" };
        let reasons = vec![
            Reason::seen(format!("a restart was ordered by {who}")),
            Reason::rule("a new instance is ready before the former one drains, so no request waits for this"),
        ];
        self.note(Level::Info, subject, "restart-ordered", message, reasons);
        let changes = vec![format!("{subject}: {message}")];
        Ok(Ordered { revision: self.revision.number, changes, notes, replaced, kept })
    }

    fn resume(&mut self, subject: &str, drained_for: Option<&str>, who: &str) -> Result<Ordered, NotOrdered> {
        let mut done = Ordered { revision: self.revision.number, ..Ordered::default() };
        let drained = self.revision.overrides.drained.get(subject);
        if let Some(reason) = drained_for
            && drained.is_none_or(|drained| drained.reason != reason)
        {
            done.notes.push(format!("{subject} is not drained for that reason"));
            return Ok(done);
        }
        if self.revision.overrides.drained.contains_key(subject) {
            return self.undrain(subject, who);
        }
        let is_service = self.revision.stack.services.contains_key(subject);
        if !is_service && subject != STACK {
            if !self.instance_names().iter().any(|name| name == subject) {
                return Err(no_such(subject, self.subjects()));
            }
            done.notes.push(format!("{subject} is not drained"));
            return Ok(done);
        }
        done.changes.extend(self.end_pause(subject, who));
        done.changes.extend(self.return_home(subject, who));
        if done.changes.is_empty() {
            done.notes.push(match self.pauses.over(subject) {
                Some(_) => format!("the whole stack is paused: `keel resume {STACK}` ends that"),
                None => format!("{subject} is not paused"),
            });
            let drained = self.revision.overrides.drained.keys();
            let own = drained.filter(|name| name.split_once('/').is_some_and(|(service, _)| service == subject));
            done.notes.extend(own.map(|name| format!("{name} is drained: `keel resume {name}` ends that")));
        }
        Ok(done)
    }

    /// What operators ordered of a subject and is in force, loudly: the end of the sentence that says how it is.
    pub(super) fn orders_about(&self, subject: &str) -> String {
        let (overrides, declared) = (&self.revision.overrides, &self.revision.declared);
        let lines = if subject == STACK {
            overrides.in_words(declared)
        } else if let Some(drained) = self.drain_status(subject) {
            let rest = if drained.finished { "has finished its requests" } else { "still finishes its requests" };
            let why = if drained.reason.is_empty() { String::new() } else { format!(" ({})", drained.reason) };
            let by = if drained.by.is_empty() { "an operator" } else { &drained.by };
            vec![format!("drained by {by} since {}{why}; it {rest}", drained.since)]
        } else {
            overrides.of_service(subject).in_words(declared)
        };
        lines.into_iter().chain(self.pause_of(subject)).fold(String::new(), |text, line| text + "\n" + &line)
    }

    /// A service that has processes of ours.
    pub(super) fn run_service(&self, name: &str, done: &str) -> Result<Service, NotOrdered> {
        let Some(service) = self.revision.stack.services.get(name) else {
            return Err(no_such(name, self.revision.stack.services.keys().cloned().collect()));
        };
        if service.is_run() {
            return Ok(service.clone());
        }
        let what = format!("{name} has no processes of keel, so it cannot be {done}");
        let fix = match self.addresses_of(name, service).first() {
            Some(first) => format!(
                "What runs at its addresses is somebody else's. One of them gets no new requests after `keel drain {}`.",
                fixed_id(name, first).name
            ),
            None => "The edge answers for it by itself.".to_owned(),
        };
        Err(NotOrdered::no(what, fix))
    }

    /// All instances by name, fixed ones too.
    pub(super) fn instance_names(&self) -> Vec<String> {
        let services = self.revision.stack.services.iter();
        let fixed = services.flat_map(|(name, service)| {
            self.addresses_of(name, service).into_iter().map(move |address| fixed_id(name, &address).name)
        });
        fixed.chain(self.slots.values().map(super::slot::Slot::name)).collect()
    }

    /// What can be named: the stack, services, instances.
    pub(super) fn subjects(&self) -> Vec<String> {
        let services = self.revision.stack.services.keys().cloned();
        std::iter::once(STACK.to_owned()).chain(services).chain(self.instance_names()).collect()
    }
}

/// What a number of instances means where that may surprise.
fn meaning(name: &str, service: &Service, wanted: u32) -> Vec<String> {
    if wanted > 0 {
        return Vec::new();
    }
    let hold = service.hold.max.as_ms();
    vec![match &service.fallback {
        Some(fallback) => format!("{name} has no instance any more: its requests go to {fallback}"),
        None if hold == 0 => format!("{name} has no instance any more: its requests are answered 503"),
        None => format!(
            "{name} has no instance any more: its requests are held for {}, then answered 503",
            in_words(Duration::from_millis(hold))
        ),
    }]
}

/// Nobody has that name; these are those who could have been meant.
pub(super) fn no_such(subject: &str, mut known: Vec<String>) -> NotOrdered {
    if let Some(of_service) = not_among(subject, &known) {
        return NotOrdered::Unknown(of_service);
    }
    let near = nearest(subject, known.iter().map(String::as_str)).map(str::to_owned);
    known.truncate(MOST_NAMES);
    NotOrdered::Unknown(UnknownSubject { subject: subject.to_owned(), nearest: near, known })
}

/// An order that made a revision.
pub(super) fn ordered(applied: Applied, notes: Vec<String>) -> Ordered {
    Ordered { revision: applied.revision, changes: applied.changes, notes, ..Ordered::default() }
}
