//! What `/proc` says of processes, for those who must tell how one of them is without asking it.
//!
//! Nothing here signals, starts or awaits a process. What is read may be over by the time it is used.

use std::fs;

/// The node process of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeProcess {
    /// Its process id.
    pub(crate) pid: u32,
    /// Whether a signal has stopped it, as SIGSTOP does.
    pub(crate) stopped: bool,
}

/// The node process below this guard; `None` while there is none.
pub(crate) fn node_of(guard: u32) -> Option<NodeProcess> {
    let mut pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find_map(|pid| {
        let (state, parent) = stat(pid)?;
        let is_node = parent == guard && state != 'Z' && second_argument(pid)? == b"__node";
        is_node.then_some(NodeProcess { pid, stopped: matches!(state, 'T' | 't') })
    })
}

/// State and parent of a process; `None` if it is gone (`proc_pid_stat(5)`).
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself have spaces and parentheses; what follows the last one does not.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Whether this process is the parent of one instance, by its arguments.
pub(crate) fn is_stub(pid: u32) -> bool {
    second_argument(pid).is_some_and(|argument| argument == b"__stub")
}

/// The parents of all processes that have not ended.
pub(crate) fn parents() -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = pids.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?));
    stats.filter(|(state, _)| *state != 'Z').map(|(_, parent)| parent).collect()
}

/// Who keeps this guard up, by the name of its parent, as `systemd` or `keel demo`; `None` where that is not known. The
/// first process of a machine takes in whoever's parent ended, so its word counts only where it is a service manager.
pub(crate) fn keeper_of(guard: u32) -> Option<String> {
    let (_, parent) = stat(guard)?;
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?.trim().to_owned();
    match name.as_str() {
        "" => None,
        "keel" => {
            let line = fs::read(format!("/proc/{parent}/cmdline")).ok()?;
            let mut arguments = line.split(|byte| *byte == 0).skip(1).filter_map(|part| std::str::from_utf8(part).ok());
            let command = arguments.find(|part| part.starts_with(|c: char| c.is_ascii_lowercase()))?;
            Some(format!("keel {command}"))
        }
        _ if parent == 1 => (name == "systemd").then_some(name),
        _ => Some(name),
    }
}

fn second_argument(pid: u32) -> Option<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    line.split(|byte| *byte == 0).nth(1).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_known_by_its_name_and_the_first_process_only_as_a_service_manager() {
        let own = std::process::id();
        let (_, parent) = stat(own).unwrap();
        let of_this = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap().trim().to_owned();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let name = fs::read_to_string(format!("/proc/{own}/comm")).unwrap().trim().to_owned();
        let keeper = keeper_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(keeper, Some(name));
        if parent == 1 {
            assert_eq!(keeper_of(own).is_some(), of_this == "systemd");
        }
        assert_eq!(keeper_of(1), None, "nobody is above it");
    }
}
