//! Putting another revision in force: checked whole before anything changes.
//!
//! What can be refused is refused first: a wrong file, a user that cannot be had, a taken port, a disk that cannot
//! keep the revision. After that nothing can fail any more, and the rollout does the rest at its own pace.

use std::{io, net::SocketAddr, os::fd::OwnedFd, path::PathBuf};

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    overrides::{Carried, Undone},
    stack::{self, Diagnostics, Stack},
    supervise::Event,
};

use super::{Node, changes, diff::Considered, pages, restore::check_users, start};
use crate::{
    NodeError, StackSource,
    clock::wall_now,
    listeners::{self, Kind},
    state_dir::{Revision, StateDir},
};

/// What an apply did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Applied {
    /// The revision in force now.
    pub(crate) revision: u64,
    /// What differs from the former one, in words.
    pub(crate) changes: Vec<String>,
    /// Overrides that another file left in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<String>,
    /// Overrides that another file took the place of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dropped: Vec<String>,
}

/// A file that is to be put in force.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) text: String,
    /// Its name in messages.
    pub(crate) name: String,
    /// The working directory of instances that name none; `None` keeps the former.
    pub(crate) dir: Option<PathBuf>,
    /// Whether it takes the place of what commands changed of it.
    pub(crate) reset: bool,
    /// The revision that it was made from, where it counts for no other.
    pub(crate) expect: Option<u64>,
}

/// Why nothing was applied.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file is wrong.
    Stack(Box<Diagnostics>),
    /// The machine does not give what it asks for.
    Machine(NodeError),
    /// It would undo what was deployed later: what that is, and the way out.
    Undo(String, String),
    /// It was made from this revision, and another one is in force.
    Newer {
        /// From which it was made.
        expected: u64,
        /// Which is in force.
        in_force: u64,
    },
    /// `keel` is being stopped.
    Stopping,
}

impl Refused {
    /// Why a file is refused that would undo releases, and the way out.
    pub(super) fn undo(carried: &Carried) -> (String, String) {
        let one = |undone: &Undone| {
            let Undone { service, number, deployed, changed } = undone;
            let keys: Vec<String> = changed.iter().map(|key| format!("`{key}`")).collect();
            format!("it changes {} of {service} and would undo release {number}, deployed {deployed}", keys.join(", "))
        };
        let what = carried.undone.iter().map(one).collect::<Vec<_>>().join("; ");
        let service = carried.undone.first().map_or("SERVICE", |undone| &undone.service);
        let fix = format!(
            "Deploy the change with `keel deploy {service}`, or let the file count with `keel apply --reset`. \
             Nothing was changed."
        );
        (what, fix)
    }
}

/// How the journal says that a revision came into force, with `applied` about the stack.
pub(crate) fn in_force_message(number: u64) -> String {
    format!("revision {number} is in force")
}

/// How many faults of a file the journal keeps.
const MOST_CAUSES: usize = 10;

/// Sockets bound for a revision that is not in force yet.
pub(super) type Bound = Vec<(String, SocketAddr, Vec<OwnedFd>)>;

impl Node {
    /// Puts a file in force. `why` says as a clause how that came.
    pub(super) fn apply(&mut self, file: File, why: &str) -> Result<Applied, Refused> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping);
        }
        self.must_be_in_force(file.expect)?;
        let File { text, name, dir, reset, .. } = file;
        let Considered { revision, carried } = self.consider(&text, &name, dir, reset).map_err(Refused::Stack)?;
        let (kept, dropped) = (carried.kept.clone(), carried.dropped.clone());
        let same = text == self.revision.text && revision.dir == self.revision.dir;
        if same && revision.overrides == self.revision.overrides {
            self.refresh_secrets("the same revision was applied again");
            self.take_pages(pages::read_all(&revision.stack, &revision.dir).map_err(Refused::Machine)?);
            self.try_again("the same revision was applied again");
            return Ok(Applied { revision: self.revision.number, changes: Vec::new(), kept, dropped });
        }
        if !carried.undone.is_empty() {
            let (what, fix) = Refused::undo(&carried);
            return Err(Refused::Undo(what, fix));
        }
        check_users(&revision.stack).map_err(Refused::Machine)?;
        self.check_secrets(&revision.stack, &revision.dir).map_err(Refused::Machine)?;
        let pages = pages::read_all(&revision.stack, &revision.dir).map_err(Refused::Machine)?;
        let bound = self.bind_missing(&revision.stack).map_err(Refused::Machine)?;
        let console = self.bind_console(&revision.stack).map_err(Refused::Machine)?;
        let number = revision.number;
        self.dir.save_revision(&revision, wall_now().as_millis()).map_err(|source| cannot_keep(&self.dir, source))?;
        let more = dropped.iter().map(|line| Reason::rule(format!("the file takes the place of: {line}"))).collect();
        self.take_pages(pages);
        let applied = self.put_in_force(revision, bound, why, more);
        self.move_console(console);
        self.problems.remove("release");
        for service in self.revision.stack.services.keys().cloned().collect::<Vec<_>>() {
            self.ordered_of(&service);
        }
        self.try_again(&format!("revision {number} was applied"));
        Ok(Applied { kept, dropped, ..applied })
    }

    /// Refuses what was made from another revision than the one in force.
    pub(super) fn must_be_in_force(&self, expect: Option<u64>) -> Result<(), Refused> {
        let in_force = self.revision.number;
        match expect {
            Some(expected) if expected != in_force => Err(Refused::Newer { expected, in_force }),
            _ => Ok(()),
        }
    }

    /// Makes a revision that is kept already the one in force. `why` and `reasons` go to the journal.
    pub(super) fn put_in_force(&mut self, revision: Revision, bound: Bound, why: &str, more: Vec<Reason>) -> Applied {
        let former = std::mem::replace(&mut self.revision, revision);
        let stack = self.revision.stack.clone();
        let changes = changes::between(&former, &self.revision);
        self.refresh_secrets(why);
        self.hold_listeners(bound);
        let gone = former.stack.listeners.keys().filter(|name| !stack.listeners.contains_key(*name));
        for name in gone {
            self.listeners.remove(name);
        }
        self.logs.set_limits(start::log_limits(&stack));
        self.journal.set_size(stack.journal.size.as_bytes());
        if start::wanted_threads(&stack) == self.threads {
            self.problems.remove("threads");
        } else {
            let problem = "`edge.threads` takes effect when `keel up` is started again".to_owned();
            self.problems.insert("threads", problem);
        }
        let number = self.revision.number;
        let mut reasons = vec![Reason::seen(why)];
        reasons.extend(more);
        reasons.extend(changes.iter().map(Reason::seen));
        self.note(Level::Info, "stack", "applied", in_force_message(number), reasons);
        self.prune_revisions();
        self.give_bounds();
        self.mark_drained();
        // The snapshot without them goes first, so that the edge closes its side in order.
        self.publish();
        for name in former.stack.listeners.keys().filter(|name| !stack.listeners.contains_key(*name)) {
            self.release_listener(name);
        }
        Applied { revision: number, changes, kept: Vec::new(), dropped: Vec::new() }
    }

    /// Removes revisions that nothing needs any more.
    fn prune_revisions(&self) {
        let needed = self.slots.values().map(|slot| slot.revision).chain([self.revision.number]).collect();
        self.dir.prune_revisions(&needed);
    }

    /// Starts instances again that gave up, unless the rollout is about to replace them.
    fn try_again(&mut self, reason: &str) {
        for place in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::TryAgain { reason: reason.to_owned() });
        }
    }

    /// `SIGHUP`: reads the stack file again.
    pub(super) fn reload(&mut self) {
        let source = self.config.stack.clone();
        let StackSource::File(path) = &source else {
            let message = "told to read the stack file again, but this stack did not come from a file";
            return self.note(Level::Warning, "stack", "reload", message, Vec::new());
        };
        let applied = start::read_source(&source).map_err(Refused::Machine).and_then(|(text, name, dir)| {
            let file = File { text, name, dir: Some(dir), reset: false, expect: None };
            self.apply(file, "the file was read again (SIGHUP)")
        });
        let (shown, reasons) = match applied {
            Ok(Applied { changes, .. }) => {
                if changes.is_empty() {
                    let message = format!("{} was read again and is unchanged", path.display());
                    self.note(Level::Info, "stack", "reload", message, Vec::new());
                }
                return;
            }
            // Lines of the file may hold secrets, and others read the journal and, under systemd, our standard error.
            Err(Refused::Stack(faults)) => {
                let causes = causes(&faults);
                let lines: Vec<&str> = causes.iter().map(|cause| cause.text.as_str()).collect();
                let lines = lines.join("\n  ");
                let file = path.display();
                (format!("error: {file} is not valid\n  {lines}\n  see: keel validate {file}"), causes)
            }
            Err(Refused::Machine(error)) => (error.to_string(), vec![Reason::seen(error.split().0)]),
            Err(Refused::Undo(what, fix)) => (format!("error: {what}\n{fix}"), vec![Reason::seen(what)]),
            // A file that is read again counts whatever was in force before.
            Err(Refused::Stopping | Refused::Newer { .. }) => return,
        };
        eprintln!("{shown}");
        let message = format!("{} was not applied; revision {} stays", path.display(), self.revision.number);
        self.note(Level::Error, "stack", "refused", message, reasons);
    }

    /// Binds listeners that are new or have moved. On an error nothing stays bound that was not before.
    pub(super) fn bind_missing(&self, stack: &Stack) -> Result<Bound, NodeError> {
        let mut bound = Bound::new();
        let former = &self.revision.stack.listeners;
        let mut ours: Vec<(String, SocketAddr, Kind)> = self
            .listeners
            .iter()
            .filter_map(|(name, address)| Some((name.clone(), *address, Kind::of(former.get(name)?))))
            .collect();
        for (name, listener) in &stack.listeners {
            let kind = Kind::of(listener);
            let unchanged = former.get(name).is_some_and(|was| was.bind == listener.bind && Kind::of(was) == kind);
            if unchanged && self.listeners.contains_key(name) {
                continue;
            }
            let alike = ours.iter().filter(|(.., of)| *of == kind).map(|(name, address, _)| (name.clone(), *address));
            let wanted = (listener.bind, kind);
            let (address, sockets) =
                listeners::open_all(name, wanted, self.threads, &alike.collect(), &self.activated)?;
            ours.push((name.clone(), address, kind));
            bound.push((name.clone(), address, sockets));
        }
        Ok(bound)
    }

    /// Hands sockets to the guard.
    pub(super) fn hold_listeners(&mut self, bound: Bound) {
        for (name, address, sockets) in bound {
            for (thread, socket) in (0..).zip(sockets) {
                let order = Order::Hold { key: listeners::key(&name, thread) };
                self.orders.give_with(&order, socket).expect("a short order fits into a packet");
            }
            let subject = format!("listeners.{name}");
            self.note(Level::Info, &subject, "bound", format!("listening on {address}"), Vec::new());
            self.listeners.insert(name, address);
        }
    }

    /// Has the guard close a listener's sockets.
    pub(super) fn release_listener(&self, name: &str) {
        for thread in 0..self.threads {
            self.give(&Order::Release { key: listeners::key(name, thread) });
        }
        self.note(Level::Info, &format!("listeners.{name}"), "released", "not listening any more", Vec::new());
    }
}

/// The disk does not take a revision.
pub(super) fn cannot_keep(dir: &StateDir, source: io::Error) -> Refused {
    Refused::Machine(NodeError::StateDir {
        what: "the revision cannot be kept",
        path: dir.path("revisions"),
        source,
        fix: "Make room on the disk or check its mode, and try again; nothing was changed.",
    })
}

/// What is wrong with a stack file and where, without the lines of its text, which may hold secrets.
pub(super) fn causes(faults: &Diagnostics) -> Vec<Reason> {
    let cause = |fault: &stack::Diagnostic| match &fault.span {
        Some(span) => format!("line {}: {}", faults.position(span.start).0, fault.message),
        None => fault.message.clone(),
    };
    faults.faults.iter().take(MOST_CAUSES).map(|fault| Reason::seen(cause(fault))).collect()
}
