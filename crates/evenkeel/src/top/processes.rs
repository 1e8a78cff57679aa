//! What a process on this machine takes: processor time and memory, from `/proc`.

use std::fs;

use super::model::Taken;

/// What the process with this number has taken so far; `None` where it is gone (`proc_pid_stat(5)`).
pub(crate) fn read(pid: u32) -> Option<Taken> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What follows the name's last parenthesis is plain; state is the third field of the whole line.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let pages = fields.get(21)?.parse::<u64>().ok()?;
    Some(Taken { cpu_ms: ticks * 1000 / per_second, memory_bytes: pages * rustix::param::page_size() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let taken = read(std::process::id()).unwrap();
        assert!(taken.memory_bytes > 100_000, "{taken:?}");
        assert_eq!(read(u32::MAX), None);
    }
}
