//! From the first SIGTERM to the exit code.
//!
//! SIGTERM or SIGINT tells the node process to stop everything and the edge to finish its requests; `Finish` from
//! the node process ends both. A second signal, or a node process that does not finish in time, kills everything.

use std::time::Duration;

use evenkeel_core::{
    guard::{CHECK_KEYS, Notice},
    time::Moment,
};

use super::{Guard, Stop, process::Process};
use crate::os::log;

/// How long the node process may take to end itself once it said `Finish` and the edge is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long everything may take to die once it was killed; what is stuck in the kernel then is left to it.
const DEATH: Duration = Duration::from_secs(10);

/// Exit code where `Finish` was never said.
const KILLED: u8 = 1;

/// Where the end stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Not ending.
    No,
    /// The node process was told to stop everything; killed at the deadline.
    Terminating {
        /// Deadline.
        by: Moment,
    },
    /// What was adopted is left to the next guard; edge and node process end by themselves until then.
    Leaving {
        /// Exit code.
        code: u8,
        /// Deadline.
        by: Moment,
    },
    /// It did; edge and node process end by themselves until then.
    Finishing {
        /// Exit code.
        code: u8,
        /// Deadline.
        by: Moment,
    },
    /// Everything was killed and is awaited until then.
    Killing {
        /// Exit code.
        code: u8,
        /// Deadline.
        by: Moment,
    },
}

impl Ending {
    pub(super) const fn due_at(&self) -> Option<Moment> {
        match *self {
            Self::No => None,
            Self::Terminating { by }
            | Self::Leaving { by, .. }
            | Self::Finishing { by, .. }
            | Self::Killing { by, .. } => Some(by),
        }
    }

    pub(super) const fn restarts_node(&self) -> bool {
        matches!(self, Self::No | Self::Terminating { .. })
    }

    /// Whether who connects meanwhile is to wait for the next guard rather than be refused.
    pub(super) const fn keeps_listening(&self) -> bool {
        matches!(self, Self::Leaving { .. })
    }

    pub(super) const fn permits_spawn(&self) -> bool {
        self.restarts_node()
    }
}

impl Guard {
    /// SIGTERM or SIGINT.
    pub(super) fn terminate(&mut self, now: Moment) {
        match self.ending {
            Ending::No => {
                let stop = Stop { took: Duration::ZERO, instances: self.running(), killed: 0 };
                self.stop = Some((now, stop));
                self.ending = Ending::Terminating { by: now + self.config.finish_within };
                self.manager.stopping(self.config.finish_within + DEATH);
                self.end_edge();
                self.node.tell(&Notice::Terminate, None);
            }
            Ending::Terminating { .. } | Ending::Leaving { .. } | Ending::Finishing { .. } => {
                log::line(format_args!("told to end a second time: killing everything"));
                self.kill_everything(KILLED, now);
            }
            Ending::Killing { .. } => {}
        }
    }

    /// The node process cannot go on, and what was adopted is not to die of that. Their stubs see the channel closed.
    pub(super) fn leave(&mut self, code: u8, now: Moment) {
        if !matches!(self.ending, Ending::No) {
            return self.finish(code, now);
        }
        for process in std::mem::take(&mut self.processes).into_values() {
            self.strangers.extend(process.stub.map(|stub| stub.pid));
        }
        self.ending = Ending::Leaving { code, by: now + self.config.edge_grace + LAST_WORDS };
        self.end_edge();
    }

    /// The node process has stopped everything.
    pub(super) fn finish(&mut self, code: u8, now: Moment) {
        if matches!(self.ending, Ending::No | Ending::Terminating { .. }) {
            self.end_edge();
            self.ending = Ending::Finishing { code, by: now + self.config.edge_grace + LAST_WORDS };
        }
    }

    /// Does what the end requires now; the exit code once it is reached.
    pub(super) fn advance_ending(&mut self, now: Moment) -> Option<u8> {
        match self.ending {
            Ending::No => return None,
            Ending::Terminating { by } => {
                if by <= now {
                    log::line(format_args!("the node process did not finish in time: killing everything"));
                    self.kill_everything(KILLED, now);
                }
            }
            Ending::Leaving { code, by } | Ending::Finishing { code, by } => {
                if by <= now || (self.node.child.is_none() && self.edge.child.is_none()) {
                    self.kill_everything(code, now);
                }
            }
            Ending::Killing { .. } => {}
        }
        let Ending::Killing { code, by } = self.ending else {
            return None;
        };
        for process in self.processes.values_mut() {
            process.forget();
        }
        let children = self.node.child.is_some() || self.edge.child.is_some() || self.sweep_at.is_some();
        let over = !children && self.processes.values().all(Process::is_over);
        if !over && by <= now {
            log::line(format_args!("something that was killed does not die; leaving it to the system"));
        }
        (over || by <= now).then_some(code)
    }

    /// Instances whose process lives.
    fn running(&self) -> usize {
        self.processes.iter().filter(|(key, process)| !key.starts_with(CHECK_KEYS) && process.is_live()).count()
    }

    fn kill_everything(&mut self, code: u8, now: Moment) {
        self.end_edge();
        self.manager.stopping(DEATH);
        let running = self.running();
        if let Some((_, stop)) = &mut self.stop {
            stop.killed = stop.killed.max(running);
        }
        for child in self.node.child.iter().chain(&self.edge.child) {
            child.kill();
        }
        for process in self.processes.values_mut() {
            process.kill(now);
        }
        self.node.cancel_start();
        self.sweep_at = Some(now);
        self.ending = Ending::Killing { code, by: now + DEATH };
    }
}
