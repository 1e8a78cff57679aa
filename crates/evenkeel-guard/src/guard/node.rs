//! The node process: started at once, told everything that is held and runs, and started again when it ends.

use std::{io, rc::Rc, time::Duration};

use evenkeel_core::{
    guard::{Notice, VERSION},
    status::ExitStatus,
    time::Moment,
    watchdog::Watchdog,
};

use super::{Child, Guard, ending::Ending, peer::Peer};
use crate::{
    backoff::Backoff,
    channel,
    launch::{Shape, launch},
    os::{clock, log, words},
};

/// A node process that lived this long is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// The node process and when it starts again.
pub(super) struct Node {
    pub(super) child: Option<Child>,
    starts: u64,
    start_at: Option<Moment>,
    backoff: Backoff,
    /// Watches it from the first time on that it says it is alive.
    watchdog: Option<Watchdog>,
}

impl Node {
    /// To be started now.
    pub(super) const fn new(now: Moment) -> Self {
        Self { child: None, starts: 0, start_at: Some(now), backoff: Backoff::new(LONG_LIFE), watchdog: None }
    }

    pub(super) fn due_at(&self) -> Option<Moment> {
        self.start_at.into_iter().chain(self.watchdog.as_ref().map(Watchdog::next_look)).min()
    }

    /// It says that it is alive, and that it will say so again within this time.
    pub(super) fn is_alive(&mut self, within: Duration, now: Moment) {
        self.watchdog.get_or_insert_with(|| Watchdog::new(within, now)).heard(now);
    }

    /// It is not to be started again.
    pub(super) const fn cancel_start(&mut self) {
        self.start_at = None;
    }

    /// Tells it, if there is one; a later one finds out from the inventory.
    pub(super) fn tell(&mut self, notice: &Notice, descriptor: Option<Rc<std::os::fd::OwnedFd>>) {
        if let Some(child) = &mut self.child {
            child.peer.tell(notice, descriptor);
        }
    }
}

impl Guard {
    pub(super) fn start_node_if_due(&mut self, now: Moment) {
        if self.node.start_at.is_none_or(|at| at > now) {
            return;
        }
        self.node.start_at = None;
        match self.start_node(now) {
            Ok(child) => {
                self.node.child = Some(child);
                self.tell_inventory();
                self.node.starts += 1;
            }
            Err(error) => {
                log::line(format_args!("cannot start the node process: {}", words::of(&error)));
                self.node.start_at = Some(now + self.node.backoff.ended(Duration::ZERO));
            }
        }
    }

    /// A frozen node process looks alive; it is killed so that another one can take over.
    pub(super) fn look_after_node(&mut self, now: Moment) {
        let Some(watchdog) = self.node.watchdog.as_mut().filter(|watchdog| watchdog.next_look() <= now) else { return };
        let Some(silent) = watchdog.look(now) else { return };
        self.node.watchdog = None;
        if let Some(child) = &self.node.child {
            log::line(format_args!("the node process has been silent for {} s: killing it", silent.as_secs()));
            child.kill();
        }
    }

    pub(super) fn node_ended(&mut self, status: ExitStatus) {
        let Some(child) = self.node.child.take() else { return };
        self.node.watchdog = None;
        let now = clock::now();
        self.sweep_at = Some(now);
        if !self.ending.restarts_node() {
            return;
        }
        let delay = self.node.backoff.ended(now.since(child.since));
        log::line(format_args!("the node process ended ({status}); starting it again in {} ms", delay.as_millis()));
        self.node.start_at = Some(now + delay);
    }

    fn start_node(&self, now: Moment) -> io::Result<Child> {
        let (ours, theirs) = channel::pair()?;
        let shape = Shape { dies_with_us: true, confined: false, user: None, bare: false, open_files: self.open_files };
        let pid = launch(&self.config.node, theirs, shape)?;
        Ok(Child { pid, peer: Peer::new(ours), since: now, pidfd: None })
    }

    /// Everything that a node process must know before anything else.
    fn tell_inventory(&mut self) {
        let link = self.edge_link();
        let Some(child) = &mut self.node.child else { return };
        child.peer.inventory_begins();
        child.peer.tell(
            &Notice::Hello {
                version: VERSION,
                guard_pid: std::process::id(),
                since_ms: self.since_ms,
                node_starts: self.node.starts,
            },
            None,
        );
        for (key, descriptor) in &self.held {
            child.peer.tell(&Notice::Held { key: key.clone() }, Some(Rc::clone(descriptor)));
        }
        for (key, process) in &self.processes {
            if let Some(notice) = process.inventory(key) {
                if let Some(adopted) = process.adopted(key) {
                    child.peer.tell(&adopted, None);
                }
                child.peer.tell(&notice, Some(Rc::clone(&process.output)));
            }
        }
        if let Some((notice, link)) = link {
            child.peer.tell(&notice, Some(link));
        }
        if matches!(self.ending, Ending::Terminating { .. }) {
            child.peer.tell(&Notice::Terminate, None);
        }
        child.peer.tell(&Notice::Complete, None);
        child.peer.inventory_ends();
    }
}
