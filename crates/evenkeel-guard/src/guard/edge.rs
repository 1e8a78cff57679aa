//! The edge: started when the node process first asks for it, given every held descriptor, and started again when
//! it ends. What it might send is never read.

use std::{io, os::fd::OwnedFd, rc::Rc, time::Duration};

use evenkeel_core::{
    guard::{EdgeNotice, Notice},
    status::ExitStatus,
    time::Moment,
};
use rustix::{
    net::{Shutdown, shutdown},
    process::{Rlimit, geteuid},
};

use super::{Child, Guard, notify, peer::Peer};
use crate::{
    backoff::Backoff,
    channel,
    launch::{Shape, launch},
    os::{clock, log, words},
};

/// An edge that lived this long is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(1);

/// The edge and when it starts again.
pub(super) struct Edge {
    pub(super) child: Option<Child>,
    wanted: bool,
    starts: u64,
    start_at: Option<Moment>,
    backoff: Backoff,
    told_to_end: bool,
}

impl Edge {
    pub(super) const fn new() -> Self {
        Self {
            child: None,
            wanted: false,
            starts: 0,
            start_at: None,
            backoff: Backoff::new(LONG_LIFE),
            told_to_end: false,
        }
    }

    pub(super) const fn due_at(&self) -> Option<Moment> {
        self.start_at
    }

    /// Tells it, if there is one; a later one is told everything that is held.
    pub(super) fn tell(&mut self, notice: &EdgeNotice, descriptor: Option<Rc<OwnedFd>>) {
        if let Some(child) = &mut self.child {
            child.peer.tell(notice, descriptor);
        }
    }
}

impl Guard {
    /// The order to start it; from then on it is restarted.
    pub(super) fn want_edge(&mut self) {
        if !self.edge.wanted && !self.edge.told_to_end {
            self.edge.wanted = true;
            self.edge.start_at = Some(clock::now());
        }
    }

    /// Lets it finish its requests and end for good. Who connects from now on is refused at once: nobody would answer,
    /// and whoever shares out requests over several machines goes to another one.
    pub(super) fn end_edge(&mut self) {
        self.edge.start_at = None;
        if !self.edge.told_to_end {
            self.edge.told_to_end = true;
            let grace_ms = u64::try_from(self.config.edge_grace.as_millis()).unwrap_or(u64::MAX);
            self.edge.tell(&EdgeNotice::Terminate { grace_ms }, None);
            if self.ending.keeps_listening() {
                return;
            }
            // What the service manager holds itself goes on listening: who connects is served by the next start.
            for descriptor in self.held.values().filter(|descriptor| !self.manager.owns(descriptor)) {
                // Ends a socket's listening for everybody who has it, and says an error of everything else that is held.
                // Answers to datagrams still go out.
                let _ = shutdown(descriptor, Shutdown::Read);
            }
        }
    }

    pub(super) fn start_edge_if_due(&mut self, now: Moment) {
        if self.edge.start_at.is_none_or(|at| at > now) {
            return;
        }
        self.edge.start_at = None;
        match self.start_edge(now) {
            Ok(child) => {
                self.edge.child = Some(child);
                self.tell_edge_everything();
                self.edge.starts += 1;
                if self.node.child.is_some()
                    && let Some((notice, link)) = self.edge_link()
                {
                    self.node.tell(&notice, Some(link));
                }
            }
            Err(error) => {
                log::line(format_args!("cannot start the edge: {}", words::of(&error)));
                self.edge.start_at = Some(now + self.edge.backoff.ended(Duration::ZERO));
            }
        }
    }

    pub(super) fn edge_ended(&mut self, status: ExitStatus) {
        let Some(child) = self.edge.child.take() else { return };
        let now = clock::now();
        let mut restart_in_ms = u64::MAX;
        if !self.edge.told_to_end {
            let delay = self.edge.backoff.ended(now.since(child.since));
            log::line(format_args!("the edge ended ({status}); starting it again in {} ms", delay.as_millis()));
            self.edge.start_at = Some(now + delay);
            restart_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        }
        self.node.tell(&Notice::EdgeExited { status, restart_in_ms }, None);
        self.sweep_at = Some(now);
    }

    /// A fresh link: one end goes to the edge now, the other to the node process with the notice returned.
    pub(super) fn edge_link(&mut self) -> Option<(Notice, Rc<OwnedFd>)> {
        let child = self.edge.child.as_mut()?;
        let (for_edge, for_node) = channel::link().ok()?;
        child.peer.tell(&EdgeNotice::Link, Some(Rc::new(for_edge)));
        let pid = child.pid.as_raw_pid().cast_unsigned();
        Some((Notice::EdgeStarted { pid, starts: self.edge.starts.saturating_sub(1) }, Rc::new(for_node)))
    }

    fn start_edge(&self, now: Moment) -> io::Result<Child> {
        let (ours, theirs) = channel::pair()?;
        let shape = Shape {
            dies_with_us: true,
            confined: true,
            user: self.config.edge_user.filter(|_| geteuid().is_root()),
            bare: false,
            open_files: Rlimit { current: self.open_files.maximum, maximum: self.open_files.maximum },
        };
        let pid = launch(&self.config.edge, theirs, shape)?;
        Ok(Child { pid, peer: Peer::new(ours), since: now, pidfd: None })
    }

    fn tell_edge_everything(&mut self) {
        let Some(child) = &mut self.edge.child else { return };
        child.peer.inventory_begins();
        for (key, descriptor) in self.held.iter().filter(|(key, _)| !notify::is_handed_over(key)) {
            child.peer.tell(&EdgeNotice::Held { key: key.clone() }, Some(Rc::clone(descriptor)));
        }
        child.peer.tell(&EdgeNotice::Complete, None);
        child.peer.inventory_ends();
    }
}
