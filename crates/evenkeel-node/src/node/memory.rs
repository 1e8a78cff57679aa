//! Tells the kernel's kills for lack of memory from other kills: it counts them (`oom_kill` in `/proc/vmstat`,
//! proc(5)), those of a control group at its bound included. Evidence for words only; nothing is decided by it.

use std::fs;

use evenkeel_core::{
    journal::{Level, Reason},
    status::ExitStatus,
};

use super::{Node, instances::Place};

/// The kernel's count at the last two looks. A kill counts as one of the kernel's only where the count has grown since
/// the look before the last: what it did to somebody else an hour ago explains nothing.
#[derive(Debug, Default)]
pub(super) struct KernelKills {
    former: Option<u64>,
    last: Option<u64>,
}

impl KernelKills {
    pub(super) fn read() -> Self {
        let count = read();
        Self { former: count, last: count }
    }

    /// Once a second.
    pub(super) fn look(&mut self) {
        self.saw(read());
    }

    fn saw(&mut self, count: Option<u64>) {
        self.former = std::mem::replace(&mut self.last, count);
    }

    /// Takes one of the kills of the last moments, where there is any by this count.
    fn take(&mut self, count: Option<u64>) -> bool {
        let (Some(former), Some(count)) = (self.former, count) else { return false };
        let one = count > former;
        if one {
            self.former = Some(former + 1);
            self.last = self.last.max(self.former);
        }
        one
    }
}

fn read() -> Option<u64> {
    fs::read_to_string("/proc/vmstat").ok().and_then(|text| count(&text))
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
        if status != ExitStatus::Signal(KILL) || !self.kernel_kills.take(read()) {
            return None;
        }
        let bound = match slot.launch.service().memory {
            Some(bound) => format!("memory = \"{bound}\""),
            None => "it has no bound of its own".to_owned(),
        };
        let why = format!("by the kernel: out of memory ({bound})");
        let reasons = vec![
            Reason::seen("its count of such kills has just grown (oom_kill in /proc/vmstat)"),
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
    use super::*;

    #[test]
    fn the_kernels_count_is_read() {
        assert_eq!(count("oom_killer 9\noom_kill 33\npgfault 1\n"), Some(33));
        assert_eq!(count(""), None);
    }

    #[test]
    fn a_kill_of_just_now_explains_one_end_and_a_former_one_none() {
        let mut kills = KernelKills { former: Some(7), last: Some(7) };
        assert!(!kills.take(Some(7)), "nothing happened");
        assert!(!kills.take(None) && kills.take(Some(9)) && kills.take(Some(9)), "two at once");
        assert!(!kills.take(Some(9)), "a third end is somebody else's doing");
        kills.saw(Some(10));
        assert!(kills.take(Some(10)), "looked at between the kill and the report");
        kills.saw(Some(11));
        kills.saw(Some(11));
        assert!(!kills.take(Some(11)), "that was somebody else, and long ago");
    }
}
