//! Which core a thread or process runs on.

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread, and what it starts, on one core. A machine with a single core has no choice.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if sched_setaffinity(None, &set).is_err() {
        eprintln!("cannot pin to core {core}: load and contender share one");
    }
}
