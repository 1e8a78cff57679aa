//! Tells the kernel's kills for lack of memory from other kills: it counts them (`oom_kill` in `/proc/vmstat`,
//! proc(5)), those of a control group at its bound included. Evidence for words only; nothing is decided by it.

use std::fs;

use evenkeel_core::{
    journal::{Level, Reason},
    status::ExitStatus,
};

use super::{Node, instances::Place};

/// The kernel's count when it was looked at last.
#[derive(Debug)]
pub(super) struct KernelKills(Option<u64>);

impl KernelKills {
    pub(super) fn read() -> Self {
        Self(fs::read_to_string("/proc/vmstat").ok().and_then(|text| count(&text)))
    }
}

fn count(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

impl Node {
    /// How a process ended that we did not kill, as a clause behind the status, where the kernel has just ended one
    /// for lack of memory.
    pub(super) fn for_lack_of_memory(&mut self, place: &Place, status: ExitStatus) -> Option<String> {
        const KILL: i32 = 9;
        let slot = self.slots.get(place).filter(|slot| slot.supervisor.killed().is_none())?;
        if status != ExitStatus::Signal(KILL) {
            return None;
        }
        let before = std::mem::replace(&mut self.kernel_kills, KernelKills::read());
        let (before, after) = (before.0?, self.kernel_kills.0?);
        if after <= before {
            return None;
        }
        let bound = match slot.launch.service().memory {
            Some(bound) => format!("memory = \"{bound}\""),
            None => "it has no bound of its own".to_owned(),
        };
        let why = format!("by the kernel: out of memory ({bound})");
        let reasons = vec![
            Reason::seen(format!("its count of such kills grew by {} (oom_kill in /proc/vmstat)", after - before)),
            Reason::rule(bound),
            Reason::ruled_out("a kill by keel: it gave no such order"),
        ];
        let message = "the kernel ended its process for lack of memory";
        self.note(Level::Error, &slot.name(), "out-of-memory", message, reasons);
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_count_is_read() {
        assert_eq!(super::count("oom_killer 9\noom_kill 33\npgfault 1\n"), Some(33));
        assert_eq!(super::count(""), None);
    }
}
