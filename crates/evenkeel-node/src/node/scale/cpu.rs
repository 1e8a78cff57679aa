//! Processor time of instances, from cumulative counters, so that rates are exact whenever they are read.
//!
//! Where the guard made a cgroup for an instance, the kernel adds up all it ever held (`cpu.stat`, cgroups(7)).
//! Otherwise the tree of processes below the instance's stub is added up from `/proc/PID/stat` (proc(5)), with the
//! times of children that ended, which their parents inherit. It costs some reads for each instance and second.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use evenkeel_core::{scale::Reading, time::Moment};

/// Most processes of one instance that are added up.
const MOST_PROCESSES: usize = 1000;

/// What instances had used when they were read last.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// By the guard's key, so that a successor is another one.
    known: BTreeMap<String, (Moment, u64)>,
}

impl Meter {
    /// Percent of one core that these processes used since they were read last, all together.
    pub(super) fn read(&mut self, instances: &[(String, u32)], now: Moment) -> Reading {
        let mut sum = 0.0;
        let mut compared = 0;
        let mut read = BTreeMap::new();
        for (key, pid) in instances {
            let Some(used_us) = used_us(*pid) else { continue };
            read.insert(key.clone(), (now, used_us));
            let Some((before, before_us)) = self.known.get(key) else { continue };
            let span_us = now.since(*before).as_secs_f64() * 1e6;
            if span_us > 0.0 {
                compared += 1;
                sum += crate::traffic::as_f64(used_us.saturating_sub(*before_us)) * 100.0 / span_us;
            }
        }
        let unread = instances.len() - read.len();
        self.known = read;
        match (instances.len(), compared) {
            (0, _) => Reading::Unknown("no instance runs".to_owned()),
            (_, 0) if unread > 0 => Reading::Unknown("processor time cannot be read from `/proc`".to_owned()),
            (_, 0) => Reading::Unknown("no instance runs for a second yet".to_owned()),
            _ => Reading::Known(sum),
        }
    }
}

/// Processor time of an instance and of all it started, in microseconds.
fn used_us(pid: u32) -> Option<u64> {
    group_of(pid).and_then(|group| of_group(&group)).or_else(|| of_tree(root_of(pid)))
}

/// The cgroup that the guard made for an instance, if it made one.
fn group_of(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let name = path.rsplit('/').next()?;
    // The guard names it after the stub; any other group holds more than this instance.
    let stub = name.strip_prefix("keel-")?.parse::<u32>().ok()?;
    (Some(stub) == parent_of(pid)).then(|| mount().map(|mount| mount.join(path.trim_start_matches('/'))))?
}

/// Where version 2 of cgroups is mounted.
fn mount() -> Option<PathBuf> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    roots.into_iter().find(|root| root.join("cgroup.controllers").exists()).map(Path::to_owned)
}

fn of_group(group: &Path) -> Option<u64> {
    let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).and_then(|text| text.trim().parse().ok())
}

/// Whose descendants belong to an instance: its stub, to which whatever it leaves behind falls.
fn root_of(pid: u32) -> u32 {
    let is_stub = |parent: &u32| {
        let line = fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"__stub")
    };
    parent_of(pid).filter(is_stub).unwrap_or(pid)
}

fn parent_of(pid: u32) -> Option<u32> {
    fields(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` after the name, from the state on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn of_tree(root: u32) -> Option<u64> {
    let mut ticks = own_ticks(root)?;
    let mut waiting = children(root);
    let mut seen = 1;
    while let Some(pid) = waiting.pop() {
        seen += 1;
        if seen > MOST_PROCESSES {
            break;
        }
        // One that has just ended is in its parent's times at the next look.
        ticks += own_ticks(pid).unwrap_or(0);
        waiting.extend(children(pid));
    }
    Some(ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1))
}

/// User and system time, with those of children that ended: fields 14 to 17 of proc(5).
fn own_ticks(pid: u32) -> Option<u64> {
    let fields = fields(pid)?;
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[test]
    fn a_busy_process_and_its_children_are_measured() {
        let busy = "while :; do :; done";
        // The shell waits, its child works: only the tree shows it.
        let mut shell = Command::new("sh")
            .args(["-c", &format!("sh -c '{busy}' & echo $!; wait")])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let start = std::time::Instant::now();
        let now = || Moment::ORIGIN + start.elapsed();
        let mut meter = Meter::default();
        let instances = [("app/1#1".to_owned(), shell.id())];
        assert!(matches!(meter.read(&instances, now()), Reading::Unknown(_)), "one look tells no rate");
        let mut seen = Reading::Idle;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(200));
            seen = meter.read(&instances, now());
            if matches!(seen, Reading::Known(percent) if percent > 1.0) {
                break;
            }
        }
        Command::new("kill").args(["-9", line.trim()]).status().unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(matches!(seen, Reading::Known(percent) if percent > 1.0 && percent < 150.0), "{seen:?}");
        assert!(matches!(meter.read(&[], now()), Reading::Unknown(_)));
    }

    #[test]
    fn the_kernels_own_sum_is_read_where_there_is_a_group() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("cpu.stat"), "usage_usec 12345\nuser_usec 12000\n").unwrap();
        assert_eq!(of_group(temp.path()), Some(12_345));
        assert_eq!(of_group(&temp.path().join("none")), None);
    }
}
