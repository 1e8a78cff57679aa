//! `perf stat` on the kernel's trace points of system calls (perf-stat(1)); needs root, perf and tracefs.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::Counts;

/// Where the kernel says which trace points it has.
const POINTS: &str = "/sys/kernel/tracing/events";
const ALL: &str = "raw_syscalls:sys_enter";

/// The calls that are told apart, those of which a proxy could make more than a few: each costs a counter for each
/// thread.
const NAMES: [&str; 26] = [
    "accept4",
    "clock_gettime",
    "close",
    "connect",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "fcntl",
    "futex",
    "getsockopt",
    "ioctl",
    "madvise",
    "mmap",
    "munmap",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "splice",
    "write",
    "writev",
];

/// It counts until its own child, a shell, has read a line.
pub struct Perf {
    child: Child,
    table: PathBuf,
}

impl Perf {
    /// None where it cannot count.
    pub fn start(pids: &[u32], table: &Path) -> Option<Self> {
        let known = |name: &&str| Path::new(POINTS).join(format!("syscalls/sys_enter_{name}")).is_dir();
        let events: Vec<String> = std::iter::once(ALL.to_owned())
            .chain(NAMES.into_iter().filter(known).map(|name| format!("syscalls:sys_enter_{name}")))
            .collect();
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut child = Command::new("perf")
            .args(["stat", "-x", ";", "-e", &events.join(","), "-p", &pids.join(",")])
            .arg("-o")
            .arg(table)
            .args(["--", "sh", "-c", "echo counting; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take()?).read_line(&mut line);
        if said.is_ok() && line == "counting\n" {
            return Some(Self { child, table: table.to_owned() });
        }
        let _ = child.wait();
        None
    }

    pub fn finish(mut self) -> Result<Counts, Box<dyn Error>> {
        // What it waits for ends, and so does the counting.
        drop(self.child.stdin.take());
        self.child.wait()?;
        let rows = parse(&fs::read_to_string(&self.table)?);
        let all = rows.iter().find(|(event, _)| event == ALL).map_or(0, |(_, calls)| *calls);
        let name = |(event, calls): (String, u64)| Some((event.strip_prefix("syscalls:sys_enter_")?.to_owned(), calls));
        Ok(Counts { all, by_name: rows.into_iter().filter_map(name).collect() })
    }
}

/// Events and their counts: first and third field.
fn parse(table: &str) -> Vec<(String, u64)> {
    let row = |line: &str| -> Option<(String, u64)> {
        let fields: Vec<&str> = line.split(';').collect();
        Some(((*fields.get(2)?).to_owned(), fields[0].parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}
