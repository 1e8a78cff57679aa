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

fn second_argument(pid: u32) -> Option<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    line.split(|byte| *byte == 0).nth(1).map(<[u8]>::to_vec)
}
