//! Putting another revision in force: checked whole before anything changes.
//!
//! What can be refused is refused first: a wrong file, a user that cannot be had, a taken port, a disk that cannot
//! keep the revision. After that nothing can fail any more, and the rollout does the rest at its own pace.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd, path::PathBuf};

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    stack::{self, Diagnostics, Stack},
    supervise::Event,
};

use super::{Node, changes, restore::check_users, start};
use crate::{NodeError, StackSource, clock::wall_now, listeners, state_dir::Revision};

/// What an apply did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Applied {
    /// The revision in force now.
    pub(crate) revision: u64,
    /// What differs from the former one, in words.
    pub(crate) changes: Vec<String>,
}

/// Why nothing was applied.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file is wrong.
    Stack(Box<Diagnostics>),
    /// The machine does not give what it asks for.
    Machine(NodeError),
    /// `keel` is being stopped.
    Stopping,
}

/// How many faults of a file the journal keeps.
const MOST_CAUSES: usize = 10;

/// Sockets bound for a revision that is not in force yet.
pub(super) type Bound = Vec<(String, SocketAddr, Vec<OwnedFd>)>;

impl Node {
    /// Puts `text` in force. `dir` is the working directory of instances that name none; `None` keeps the former.
    pub(super) fn apply(
        &mut self,
        text: &str,
        file: &str,
        dir: Option<PathBuf>,
        why: &str,
    ) -> Result<Applied, Refused> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping);
        }
        let stack = stack::parse(text, file).map_err(|faults| Refused::Stack(Box::new(faults)))?;
        let dir = dir.unwrap_or_else(|| self.revision.dir.clone());
        if text == self.revision.text && dir == self.revision.dir {
            self.try_again("the same revision was applied again");
            return Ok(Applied { revision: self.revision.number, changes: Vec::new() });
        }
        check_users(&stack).map_err(Refused::Machine)?;
        let bound = self.bind_missing(&stack).map_err(Refused::Machine)?;
        let number = self.revision.number + 1;
        let revision = Revision::new(number, text.to_owned(), file.to_owned(), dir, stack);
        self.dir.save_revision(&revision, wall_now().as_millis()).map_err(|source| {
            Refused::Machine(NodeError::StateDir {
                what: "the revision cannot be kept",
                path: self.dir.path("revisions"),
                source,
                fix: "Make room on the disk or check its mode, and apply again; nothing was changed.",
            })
        })?;
        Ok(self.put_in_force(revision, bound, why))
    }

    fn put_in_force(&mut self, revision: Revision, bound: Bound, why: &str) -> Applied {
        let former = std::mem::replace(&mut self.revision, revision);
        let stack = self.revision.stack.clone();
        let changes = changes::between(&former, &self.revision);
        self.hold_listeners(bound);
        let gone = former.stack.listeners.keys().filter(|name| !stack.listeners.contains_key(*name));
        for name in gone {
            self.listeners.remove(name);
        }
        self.logs.set_limits(start::log_limits(&stack));
        if start::wanted_threads(&stack) == self.threads {
            self.problems.remove("threads");
        } else {
            let problem = "`edge.threads` takes effect when `keel up` is started again".to_owned();
            self.problems.insert("threads", problem);
        }
        let number = self.revision.number;
        let mut reasons = vec![Reason::seen(why)];
        reasons.extend(changes.iter().map(Reason::seen));
        self.note(Level::Info, "stack", "applied", format!("revision {number} is in force"), reasons);
        self.try_again(&format!("revision {number} was applied"));
        self.give_bounds();
        // The snapshot without them goes first, so that the edge closes its side in order.
        self.publish();
        for name in former.stack.listeners.keys().filter(|name| !stack.listeners.contains_key(*name)) {
            self.release_listener(name);
        }
        Applied { revision: number, changes }
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
        let applied = start::read_source(&source)
            .map_err(Refused::Machine)
            .and_then(|(text, file, dir)| self.apply(&text, &file, Some(dir), "the file was read again (SIGHUP)"));
        let (shown, reasons) = match applied {
            Ok(Applied { changes, .. }) => {
                if changes.is_empty() {
                    let message = format!("{} was read again and is unchanged", path.display());
                    self.note(Level::Info, "stack", "reload", message, Vec::new());
                }
                return;
            }
            // The lines shown on the terminal may hold secrets; the journal, which others read, gets the causes only.
            Err(Refused::Stack(faults)) => (faults.to_string(), causes(&faults)),
            Err(Refused::Machine(error)) => (error.to_string(), vec![Reason::seen(error.split().0)]),
            Err(Refused::Stopping) => return,
        };
        eprintln!("{shown}");
        let message = format!("{} was not applied; revision {} stays", path.display(), self.revision.number);
        self.note(Level::Error, "stack", "refused", message, reasons);
    }

    /// Binds listeners that are new or have moved. On an error nothing stays bound that was not before.
    pub(super) fn bind_missing(&self, stack: &Stack) -> Result<Bound, NodeError> {
        let mut bound = Bound::new();
        let mut ours: BTreeMap<String, SocketAddr> = self.listeners.clone();
        for (name, listener) in &stack.listeners {
            let unchanged = self.revision.stack.listeners.get(name).is_some_and(|was| was.bind == listener.bind);
            if unchanged && self.listeners.contains_key(name) {
                continue;
            }
            let (address, sockets) = listeners::bind_all(name, listener.bind, self.threads, &ours)?;
            ours.insert(name.clone(), address);
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

/// What is wrong with a stack file and where, without any of its text and without values of the environment, which
/// the message about a wrong type would repeat.
fn causes(faults: &Diagnostics) -> Vec<Reason> {
    let cause = |fault: &stack::Diagnostic| {
        let what = if fault.message.contains(".env.") { "a value of `env` is not valid" } else { &fault.message };
        match &fault.span {
            Some(span) => format!("line {}: {what}", faults.position(span.start).0),
            None => what.to_owned(),
        }
    };
    faults.faults.iter().take(MOST_CAUSES).map(|fault| Reason::seen(cause(fault))).collect()
}
