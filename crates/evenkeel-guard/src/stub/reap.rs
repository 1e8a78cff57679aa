//! Reaping all descendants of one process, and killing those that outlive it.

use std::{collections::HashSet, os::fd::AsFd, time::Duration};

use evenkeel_core::status::ExitStatus;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

use super::wait;
use crate::os::{cgroup::Group, proctree, signals::Signals};

/// How long to wait between two looks at a tree that is being killed.
const PAUSE: Duration = Duration::from_millis(5);

/// How often the removal of a cgroup is tried: the kernel lets go of the last process a moment after its end.
const REMOVALS: u32 = 100;

/// Knows the main process and how it ended.
#[derive(Debug)]
pub(super) struct Reaper {
    main: Pid,
    ended: Option<ExitStatus>,
    childless: bool,
}

impl Reaper {
    pub(super) const fn new(main: Pid) -> Self {
        Self { main, ended: None, childless: false }
    }

    pub(super) const fn main(&self) -> Pid {
        self.main
    }

    pub(super) const fn main_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Takes every child that has ended (wait(2)).
    pub(super) fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.ended = Some(exit_status(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return,
                Err(_) => {
                    self.childless = true;
                    return;
                }
            }
        }
    }

    /// Kills whatever is left, waits until nothing is, and removes the cgroup. How the main process ended, and how
    /// many outlived it.
    pub(super) fn finish(mut self, signals: &Signals, group: &Group) -> (ExitStatus, u32) {
        let own = std::process::id().cast_signed();
        let mut leftovers = HashSet::new();
        self.reap();
        while !self.childless {
            let rest = proctree::descendants(&proctree::scan(), |entry| entry.pid == own);
            let main = self.main.as_raw_pid();
            leftovers.extend(
                rest.iter().filter(|entry| !entry.zombie && entry.pid != main).map(|entry| (entry.pid, entry.start)),
            );
            group.kill();
            proctree::kill(&rest, None);
            wait(&[signals.as_fd()], Some(PAUSE));
            while signals.next().is_some() {}
            self.reap();
        }
        for _ in 0..REMOVALS {
            if group.remove() {
                break;
            }
            wait(&[], Some(PAUSE));
        }
        let status = self.ended.unwrap_or(ExitStatus::Signal(Signal::KILL.as_raw()));
        (status, u32::try_from(leftovers.len()).unwrap_or(u32::MAX))
    }
}

/// The status in our words.
pub(crate) fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Signal(Signal::KILL.as_raw()),
    }
}
