//! Processes that a drill harms, held by pidfd so that a signal never reaches another one.
//!
//! A process id may be given to a new process as soon as the old one is gone; a pidfd cannot (`pidfd_open(2)`).
//! Whoever holds a [`Held`] owns its descriptor. Nothing here starts a process or waits for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::fd::OwnedFd,
    str::FromStr,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

pub(super) use crate::process::stat;

/// A process by its number and the moment of its start, which together no other one has (`proc_pid_stat(5)`): what one
/// process can tell another one, where a [`Held`] cannot be handed over. Written as `4711:123456`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its number.
    pub(super) pid: u32,
    /// When it was started, in ticks since the machine's start.
    pub(super) started: u64,
}

impl Known {
    /// The process that has this number now; `None` if there is none.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Counted from behind the name in parentheses, which may itself have spaces: the start is the 22nd field.
        let started = text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether it is there still; one that has ended and was not reaped yet counts.
    pub(super) fn is_there(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Takes hold of it. ESRCH if it is gone, whoever has its number by now.
    pub(super) fn hold(self) -> Result<Held, Errno> {
        let held = Held::open(self.pid)?;
        // Read after the descriptor was opened: what is held then is what was read.
        if self.is_there() { Ok(held) } else { Err(Errno::SRCH) }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.started)
    }
}

impl FromStr for Known {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)));
        parts.map(|(pid, started)| Self { pid, started }).ok_or("a process is its number, a colon and its start")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_number_is_not_held() {
        let own = Known::of(std::process::id()).unwrap();
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!(own.is_there() && own.hold().is_ok());
        let other = Known { started: own.started + 1, ..own };
        assert!(!other.is_there());
        assert_eq!(other.hold().unwrap_err(), Errno::SRCH);
        assert!("7".parse::<Known>().is_err() && Known::of(u32::MAX).is_none());
    }
}
