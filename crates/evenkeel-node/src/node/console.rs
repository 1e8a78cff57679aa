//! The console: the API and `/metrics` on a TCP address that can be taken, moved and tried again.
//!
//! Who holds an address answers for it, so it is never said to be ours unless we listen there. Where it is taken at the
//! start, or was lost, it is tried again every few seconds. A revision with another address is refused where that one
//! is taken; otherwise it is served there before the former one is closed, and whoever asked through that one still
//! gets the answer.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use evenkeel_core::{
    journal::{Level, Reason},
    stack::Stack,
    time::Moment,
};

use super::Node;
use crate::{
    NodeError,
    api::{self, Api, Served},
    listeners::port_holder,
};

/// How long until a taken address is tried again.
const TRY_EVERY: Duration = Duration::from_secs(3);

/// How long until the address that we are leaving ourselves is tried.
const LEAVE: Duration = Duration::from_millis(50);

/// What problems about it are kept under.
const PROBLEM: &str = "metrics";

/// The console, served or not.
#[derive(Default)]
pub(super) struct Console {
    /// What it answers with; `None` until the node process is complete.
    api: Option<Api>,
    served: Option<Served>,
    /// The address that was asked for when it was bound last.
    last: Option<SocketAddr>,
    /// When to try again.
    next: Option<Moment>,
}

impl Console {
    /// Where it is served.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.served.as_ref().map(Served::address)
    }
}

impl Node {
    fn console_wanted(&self, stack: &Stack) -> SocketAddr {
        self.config.metrics_bind.unwrap_or(stack.console.bind)
    }

    /// Begins to serve it, or to try.
    pub(super) fn open_console(&mut self, api: Api) {
        self.console.api = Some(api);
        self.try_console();
    }

    /// Binds the address of another stack, if it is another one. `None`: nothing is to be done, or not now.
    pub(super) fn bind_console(&self, stack: &Stack) -> Result<Option<TcpListener>, NodeError> {
        let wanted = self.console_wanted(stack);
        let ours = self.console.address();
        // One socket cannot have the port of another of ours beside it, so that one must be closed first.
        let same_port = wanted.port() != 0 && ours.is_some_and(|ours| ours.port() == wanted.port());
        if wanted == self.console_wanted(&self.revision.stack) || same_port || self.console.api.is_none() {
            return Ok(None);
        }
        let refused = |error: io::Error| NodeError::Console { address: wanted, why: in_the_way(wanted, &error) };
        TcpListener::bind(wanted).map(Some).map_err(refused)
    }

    /// The revision in force may want another address: serves what was bound for it.
    pub(super) fn move_console(&mut self, bound: Option<TcpListener>) {
        let wanted = self.console_wanted(&self.revision.stack);
        if let Some(api) = &self.console.api {
            api.door().hosts.set(&self.revision.stack.console.hosts);
        }
        if let Some(bound) = bound {
            self.serve_console(wanted, bound);
        } else if self.console.served.is_some() && self.console.last.is_some_and(|last| last != wanted) {
            self.console.served = None;
            self.console.next = Some(self.clock.now() + LEAVE);
        }
    }

    /// Tries again where it is time.
    pub(super) fn look_after_console(&mut self) {
        if self.console.next.is_some_and(|next| next <= self.clock.now()) {
            self.try_console();
        }
    }

    pub(super) fn console_deadline(&self) -> Option<Moment> {
        self.console.next
    }

    fn try_console(&mut self) {
        let wanted = self.console_wanted(&self.revision.stack);
        match TcpListener::bind(wanted) {
            Ok(bound) => self.serve_console(wanted, bound),
            Err(error) => self.console_is_taken(wanted, &error),
        }
    }

    fn serve_console(&mut self, wanted: SocketAddr, bound: TcpListener) {
        let Some(api) = self.console.api.clone() else { return };
        let has_tokens = api.has_tokens();
        match api::serve_console(bound, api) {
            Ok(served) => {
                let address = served.address();
                // What was served before is closed by this.
                self.console.served = Some(served);
                self.console.next = None;
                let was_taken = self.problems.remove(PROBLEM).is_some();
                let has_moved = self.console.last.replace(wanted).is_some_and(|last| last != wanted);
                if was_taken || has_moved {
                    let why = if was_taken {
                        "the address was taken before, and is free now"
                    } else {
                        "it has another address"
                    };
                    let message = format!("the console is served at {address}");
                    self.note(Level::Info, "node", "console", message, vec![Reason::seen(why)]);
                }
                if has_tokens && !address.ip().is_loopback() {
                    self.note(Level::Warning, "node", "token", api::in_clear(&address), Vec::new());
                }
            }
            Err(error) => self.console_is_taken(wanted, &error),
        }
    }

    fn console_is_taken(&mut self, wanted: SocketAddr, error: &io::Error) {
        self.console.next = Some(self.clock.now() + TRY_EVERY);
        let why = in_the_way(wanted, error);
        let problem = format!("metrics are not served at {wanted}: {why}");
        // Said once, however often it is tried.
        let news = self.problems.get(PROBLEM).is_none_or(|said| *said != problem);
        if news {
            let rule = Reason::rule(format!("it is tried again every {} s", TRY_EVERY.as_secs()));
            self.note(Level::Warning, "node", "metrics", problem.clone(), vec![rule]);
            self.problems.insert(PROBLEM, problem);
        }
    }
}

/// Why an address cannot be had, with the way out where it is another process.
fn in_the_way(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = port_holder(address).unwrap_or_else(|| "another process".to_owned());
            format!("{who} listens there; set `console.bind`")
        }
        _ => error.to_string(),
    }
}
