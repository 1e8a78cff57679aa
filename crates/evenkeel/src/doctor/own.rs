//! Readings of `keel`'s own processes and of instances, from `/proc`.

use std::fs;

use evenkeel_core::{
    doctor::{Instance, Orphan, OwnProcess},
    status::Status,
};

use crate::process;

/// Longest piece of a command line that is repeated, in characters.
const COMMAND_CHARS: usize = 120;

/// The three processes of a node, as far as they are known.
pub(super) fn processes(guard: u32, status: Option<&Status>) -> Vec<OwnProcess> {
    let node = status.map(|status| status.node.pid).or_else(|| process::node_of(guard).map(|node| node.pid));
    let edge = status.and_then(|status| Some(status.edge.as_ref()?.pid));
    let known = [("guard", Some(guard)), ("node", node), ("edge", edge)];
    known.into_iter().filter_map(|(name, pid)| Some(own_process(name, pid?))).collect()
}

fn own_process(name: &'static str, pid: u32) -> OwnProcess {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let has = fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| entries.count() as u64);
    OwnProcess {
        name,
        pid,
        // The kernel adds this word to the path (`proc_pid_exe(5)`).
        replaced: exe.is_some_and(|path| path.to_string_lossy().ends_with(" (deleted)")),
        open_files: open_files(&limits).map(|limit| (limit, has.unwrap_or(0))),
        oom_score_adj: oom_score_adj(pid),
    }
}

/// The soft limit of open files (`proc_pid_limits(5)`).
fn open_files(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

fn oom_score_adj(pid: u32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

/// Processes of instances that run here.
pub(super) fn instances(status: Option<&Status>) -> Vec<Instance> {
    let all = status.into_iter().flat_map(|status| &status.services).flat_map(|service| &service.instances);
    all.filter_map(|instance| {
        let pid = instance.pid?;
        Some(Instance {
            name: instance.name.clone(),
            oom_score_adj: oom_score_adj(pid),
            resident_bytes: resident_bytes(pid),
        })
    })
    .collect()
}

/// Resident memory of a process (`proc_pid_status(5)`).
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
}

/// Stubs whose guard is gone and that no other has adopted. A stub is a child of its guard, or else waits at a socket
/// of its own below the runtime folder of a stack; where that stack's node process runs, it was adopted.
pub(super) fn orphans() -> Vec<Orphan> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let left_alone = |pid: u32| process::stat(pid).is_some_and(|(_, parent)| !runs_keel(parent));
    let stubs: Vec<u32> = pids.iter().copied().filter(|pid| is_stub(*pid) && left_alone(*pid)).collect();
    if stubs.is_empty() {
        return Vec::new();
    }
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let kept: Vec<String> = pids.iter().filter_map(|pid| runtime_dir_of_node(*pid)).collect();
    let orphaned = stubs.into_iter().filter_map(|pid| {
        let runtime_dir = runtime_dir_of_stub(pid, &sockets)?;
        (!kept.contains(&runtime_dir)).then_some((pid, runtime_dir))
    });
    orphaned
        .map(|(pid, runtime_dir)| {
            let child = pids.iter().find(|child| process::stat(**child).is_some_and(|(_, parent)| parent == pid));
            let what = match child {
                Some(child) => format!("process {child}, `{}`", command_line(*child)),
                None => "its instance has ended".to_owned(),
            };
            Orphan { pid, what: format!("{what} (its socket is below {runtime_dir})") }
        })
        .collect()
}

/// The runtime folder that a stub's socket lies in, as `/run/keel/90131560eb51` of `…/stubs/4711.sock`
/// (`/proc/net/unix`, proc(5)).
fn runtime_dir_of_stub(pid: u32, sockets: &str) -> Option<String> {
    let end = format!("/stubs/{pid}.sock");
    let path = sockets.lines().find_map(|line| line.split_whitespace().last().filter(|path| path.ends_with(&end)))?;
    path.strip_suffix(&end).map(str::to_owned)
}

/// The runtime folder of a node process, from its arguments.
fn runtime_dir_of_node(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let at =
        words.iter().position(|word| *word == b"--runtime-dir").filter(|_| words.get(1) == Some(&&b"__node"[..]))?;
    words.get(at + 1).map(|word| String::from_utf8_lossy(word).into_owned())
}

fn is_stub(pid: u32) -> bool {
    process::is_stub(pid) && runs_keel(pid)
}

/// Whether a process was started from a file called as this one is, replaced or not.
fn runs_keel(pid: u32) -> bool {
    let own = std::env::current_exe().ok();
    let name = own.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let theirs = exe.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let plain = |name: Option<String>| name.map(|name| name.trim_end_matches(" (deleted)").to_owned());
    let (own, theirs) = (plain(name), plain(theirs));
    own.is_some() && own == theirs
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|w| String::from_utf8_lossy(w).into())
        .collect();
    words.join(" ").chars().take(COMMAND_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_understood() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            20000                1048576              files     \n";
        assert_eq!(open_files(text), Some(20_000));
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert!(!runs_keel(1) || std::process::id() == 1);
        let sockets = "Num RefCount Protocol Flags Type St Inode Path\n\
                       0000000073615c96: 00000002 00000000 00010000 0005 01 17697529 /run/keel/90131560eb51/stubs/23590.sock\n";
        assert_eq!(runtime_dir_of_stub(23_590, sockets).as_deref(), Some("/run/keel/90131560eb51"));
        assert_eq!(runtime_dir_of_stub(3590, sockets), None);
    }
}
