//! The tree of processes as `/proc` shows it (proc(5)), and killing branches of it.
//!
//! This works without cgroups: below a subreaper no descendant can leave its tree, whatever sessions and groups it
//! makes. A process is named by number and start time, so that a number used again is never hit.

use std::{collections::HashSet, fs};

use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, kill_process_group, pidfd_open, pidfd_send_signal};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// Its number.
    pub(crate) pid: i32,
    /// Its parent's.
    pub(crate) parent: i32,
    /// Its process group's.
    pub(crate) group: i32,
    /// It has ended and waits to be reaped.
    pub(crate) zombie: bool,
    /// Clock ticks between boot and its start.
    pub(crate) start: u64,
}

/// Every process.
pub(crate) fn scan() -> Vec<Entry> {
    let Ok(directory) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    directory.filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The parent of a process; `None` if it is gone.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    read(pid).map(|entry| entry.parent)
}

/// All descendants of those processes in `entries` that `is_root` names, without these.
pub(crate) fn descendants(entries: &[Entry], is_root: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    below(entries, entries.iter().filter(|entry| is_root(entry)).map(|entry| entry.pid).collect())
}

/// Kills these processes and their process groups, except the group `spared` and our own. A group is killed at once,
/// so one that forks faster than it can be listed does not escape. The caller starts each tree in a session of its
/// own, so no process outside the tree can be in a group of one inside.
pub(crate) fn kill(entries: &[Entry], spared: Option<Pid>) {
    let own_group = getpgrp();
    for entry in entries.iter().filter(|entry| !entry.zombie) {
        let Some(pid) = Pid::from_raw(entry.pid) else { continue };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        let Some(now) = read(entry.pid).filter(|now| now.start == entry.start) else {
            continue;
        };
        if let Some(group) = Pid::from_raw(now.group)
            && group != own_group
            && Some(group) != spared
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

fn below(entries: &[Entry], roots: HashSet<i32>) -> Vec<Entry> {
    let mut known = roots;
    let mut found = Vec::new();
    loop {
        let more: Vec<Entry> = entries
            .iter()
            .filter(|entry| known.contains(&entry.parent) && !known.contains(&entry.pid))
            .copied()
            .collect();
        if more.is_empty() {
            return found;
        }
        known.extend(more.iter().map(|entry| entry.pid));
        found.extend(more);
    }
}

fn read(pid: i32) -> Option<Entry> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses and may contain anything, parentheses too.
fn parse(pid: i32, stat: &str) -> Option<Entry> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let ticks = fields.nth(16)?.parse().ok()?;
    Some(Entry { pid, parent, group, zombie: matches!(state, "Z" | "X" | "x"), start: ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) R (b)) S 3 5 5 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 4242 99 0";
        assert_eq!(parse(7, stat), Some(Entry { pid: 7, parent: 3, group: 5, zombie: false, start: 4242 }));
        assert_eq!(parse(7, "7 (x"), None);
        assert_eq!(parse(7, "7 (x) Z 1"), None);
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let entry = |pid, parent| Entry { pid, parent, group: pid, zombie: false, start: 0 };
        let entries = [entry(9, 8), entry(1, 0), entry(8, 5), entry(5, 1), entry(6, 1)];
        let found: HashSet<i32> = descendants(&entries, |entry| entry.pid == 5).iter().map(|entry| entry.pid).collect();
        assert_eq!(found, HashSet::from([8, 9]));
    }

    #[test]
    fn this_process_is_in_the_scan() {
        let own = std::process::id().cast_signed();
        let entry = scan().into_iter().find(|entry| entry.pid == own).expect("we run");
        assert!(!entry.zombie && entry.start > 0);
    }
}
