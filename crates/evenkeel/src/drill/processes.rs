//! Processes that a drill harms, held by pidfd so that a signal never reaches another one.
//!
//! A process id may be given to a new process as soon as the old one is gone; a pidfd cannot (`pidfd_open(2)`).
//! Whoever holds a [`Held`] owns its descriptor. Nothing here starts a process or waits for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

pub(super) use crate::process::stat;

/// One process, and no other that may get its number later.
#[derive(Debug)]
pub(super) struct Held {
    /// Its number.
    pub(super) pid: u32,
    fd: OwnedFd,
}

impl Held {
    /// Holds the process that has this number now. ESRCH if there is none.
    pub(super) fn open(pid: u32) -> Result<Self, Errno> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(Self { pid, fd: pidfd_open(raw, PidfdFlags::empty())? })
    }

    /// Whether it has not ended yet (poll(2) on a pidfd).
    pub(super) fn is_there(&self) -> bool {
        let mut ends = [PollFd::new(&self.fd, PollFlags::IN)];
        !poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ended| ended > 0)
    }

    /// Sends a signal; false if the process is gone (`pidfd_send_signal(2)`).
    pub(super) fn signal(&self, signal: Signal) -> Result<bool, Errno> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// All descendants of a process, by the parents that `/proc/PID/stat` names (`proc_pid_stat(5)`). What forks
/// while this reads may be missing.
pub(super) fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = stat(child).map(|(_, parent)| parent) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                next.push(*child);
            }
        }
    }
    found
}
