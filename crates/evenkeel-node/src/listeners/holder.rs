//! Who listens on a port, for the message that says so (proc(5): `net/tcp`, `PID/fd`, `PID/comm`).
//!
//! Best effort: without root only our own user's processes can be looked into.

use std::{collections::BTreeSet, fmt, fs, net::SocketAddr};

use super::Kind;

/// States of sockets as the tables have them: listening, and of datagrams bound without a peer.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// A process that listens on a port; shown as its command and number.
#[derive(Debug)]
pub(super) struct Holder {
    pid: u32,
    command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.command, self.pid)
    }
}

/// The first process found that listens on the port of `address`; `None` where there is none or it cannot be seen.
pub(super) fn of(address: SocketAddr, kind: Kind) -> Option<Holder> {
    let (tables, state) = match kind {
        Kind::Stream => (["/proc/net/tcp", "/proc/net/tcp6"], LISTEN),
        Kind::Datagram => (["/proc/net/udp", "/proc/net/udp6"], UNCONNECTED),
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| in_state(&table, state).filter(|(port, _)| *port == address.port()).collect::<Vec<_>>())
        .map(|(_, inode)| inode)
        .collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(*pid, &inodes))
        .map(|pid| Holder { pid, command: command(pid) })
}

/// The most processes of a tree that are looked into, and the most descriptors of each.
const PROCESSES: usize = 64;
const DESCRIPTORS: usize = 4096;

/// The ports on which a process or its descendants listen, of the TCP sockets in its own network.
pub(super) fn ports_of(pid: u32) -> BTreeSet<u16> {
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let sockets: Vec<(u16, String)> = tables.iter().flat_map(|table| in_state(table, LISTEN)).collect();
    let tree = tree(pid);
    let held: BTreeSet<String> = tree.iter().flat_map(|pid| descriptors(*pid).take(DESCRIPTORS)).collect();
    sockets.into_iter().filter(|(_, inode)| held.contains(inode)).map(|(port, _)| port).collect()
}

/// A process and its descendants (proc(5): `PID/task/TID/children`).
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).filter(|_| found.len() < PROCESSES) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        found.extend(children);
    }
    found.truncate(PROCESSES);
    found
}

/// Port and inode of each socket in this state.
fn in_state<'a>(table: &'a str, state: &'static str) -> impl Iterator<Item = (u16, String)> + use<'a> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let inode = fields.get(9).filter(|_| fields[3] == state)?;
        Some((u16::from_str_radix(port, 16).ok()?, format!("socket:[{inode}]")))
    })
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    descriptors(pid).any(|target| inodes.contains(&target))
}

/// What the descriptors of a process lead to; nothing where it cannot be looked into.
fn descriptors(pid: u32) -> impl Iterator<Item = String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()?.into_os_string().into_string().ok())
}

fn command(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim().is_empty() { "a process".to_owned() } else { name.trim().to_owned() }
}
