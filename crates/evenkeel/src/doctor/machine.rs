//! Readings of the machine: `/proc`, `/sys` and limits of this process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use evenkeel_core::doctor::{Capability, Machine};
use rustix::{
    fs::{Access, access},
    process::{Resource, getrlimit},
};

use crate::process;

/// `CAP_NET_BIND_SERVICE` (capabilities(7)).
const NET_BIND_SERVICE: u32 = 10;

/// How long the clock's keeper may take to answer.
const CLOCK_WAIT: Duration = Duration::from_secs(2);

/// Where the guard puts itself below the group that was left to it.
const GUARD_GROUP: &str = "/keel-guard";

pub(super) fn read(guard: Option<u32>) -> Machine {
    let own = guard.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let (memory_bounds, cgroup) = memory_bounds(&own);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Machine {
        open_files: getrlimit(Resource::Nofile).maximum,
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        clock_synchronised: clock_synchronised(),
        memory_bounds,
        cgroup,
        unprivileged_port_start: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        low_ports: low_ports(&fs::read_to_string(format!("/proc/{own}/status")).unwrap_or_default()),
        memory_bytes: meminfo(&memory, "MemTotal").zip(meminfo(&memory, "MemAvailable")),
        swap_bytes: meminfo(&memory, "SwapTotal").zip(meminfo(&memory, "SwapFree")),
        overcommit: number("/proc/sys/vm/overcommit_memory"),
        unreaped: unreaped(),
    }
}

fn number<N: std::str::FromStr>(path: &str) -> Option<N> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

fn low_ports(status: &str) -> Option<Capability> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(if effective & (1 << NET_BIND_SERVICE) == 0 { Capability::No } else { Capability::Yes })
}

/// What systemd knows of the kernel's clock; `None` where it is not there to be asked.
fn clock_synchronised() -> Option<bool> {
    let mut asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + CLOCK_WAIT;
    while asked.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = asked.kill();
            let _ = asked.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = asked.wait_with_output().ok()?;
    match said.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// Whether the memory of a process below this one's control group can be bounded, and what was found.
fn memory_bounds(own: &str) -> (Option<Capability>, String) {
    let groups = fs::read_to_string(format!("/proc/{own}/cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = |controller: Option<&str>| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let meant = controller.map_or(controllers.is_empty(), |name| controllers.split(',').any(|own| own == name));
            meant.then(|| path.strip_suffix(GUARD_GROUP).unwrap_or(path).to_owned())
        })
    };
    let unified = mounted(&mounts, "cgroup2", None).zip(path(None)).map(|(at, path)| below(&at, &path));
    let former =
        mounted(&mounts, "cgroup", Some("memory")).zip(path(Some("memory"))).map(|(at, path)| below(&at, &path));
    let has_memory = |group: &PathBuf| {
        let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|name| name == "memory")
    };
    if let Some(group) = former.filter(|group| writable(group)) {
        return (Some(Capability::Yes), format!("the memory controller of version 1 at {}", group.display()));
    }
    match unified {
        Some(group) if has_memory(&group) && writable(&group) => {
            (Some(Capability::Yes), format!("the memory controller at {}", group.display()))
        }
        Some(group) if has_memory(&group) => {
            (Some(Capability::No), format!("{} has the memory controller and may not be written", group.display()))
        }
        Some(group) => (Some(Capability::No), format!("no memory controller at {}", group.display())),
        None => (None, String::new()),
    }
}

/// Where a hierarchy of this type is mounted (`proc_pid_mountinfo(5)`).
fn mounted(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let meant = after.next()? == kind
            && option.is_none_or(|option| after.nth(1).unwrap_or_default().split(',').any(|own| own == option));
        meant.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// A group's folder. Inside of a container its path begins at the mount.
fn below(at: &Path, path: &str) -> PathBuf {
    let inside = at.join(path.trim_start_matches('/'));
    if inside.exists() { inside } else { at.to_owned() }
}

fn writable(folder: &Path) -> bool {
    access(folder, Access::WRITE_OK).is_ok()
}

/// How long a process 1 that reaps from time to time is given, in looks of a tenth of a second.
const LOOKS: u32 = 10;

/// Zombies that process 1 does not clear away. One that has just ended is no finding: they are looked at again.
fn unreaped() -> Option<(u32, String)> {
    let zombies = || -> Vec<u32> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| process::stat(*pid) == Some(('Z', 1))).collect()
    };
    let mut left = zombies();
    let name = fs::read_to_string("/proc/1/comm").ok()?.trim().to_owned();
    for _ in 0..LOOKS {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        let still = zombies();
        left.retain(|pid| still.contains(pid));
    }
    Some((u32::try_from(left.len()).unwrap_or(u32::MAX), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_understood() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:    1000 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(1_024_000));
        assert_eq!(meminfo(text, "SwapFree"), None);
        assert_eq!(low_ports("Name:\tkeel\nCapEff:\t0000000000000400\n"), Some(Capability::Yes));
        assert_eq!(low_ports("CapEff:\t0000000000000000\n"), Some(Capability::No));
        let mounts = "30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n\
                      31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n";
        assert_eq!(mounted(mounts, "cgroup2", None), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted(mounts, "cgroup", Some("memory")), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(mounted(mounts, "cgroup", Some("cpu")), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = read(None);
        assert!(machine.open_files.is_none_or(|files| files > 0));
        assert!(machine.memory_bytes.is_some_and(|(total, available)| total >= available));
        assert!(machine.low_ports.is_some());
    }
}
