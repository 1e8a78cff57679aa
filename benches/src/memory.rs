//! User memory of a process and all of its descendants, from `/proc/PID/smaps_rollup` (proc(5)).
//!
//! What the kernel keeps for a connection, its buffers above all, is the same for every contender and not counted.

use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::tree;

/// In bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Proportional set size: what several processes share is divided between them.
    pub pss_bytes: u64,
    /// Unique set size: what would be free if the process ended.
    pub uss_bytes: u64,
    /// The part of the proportional set that no file stands behind: heap, stacks, and memory shared between processes.
    pub anonymous_bytes: u64,
}

/// Of `root` and of everything below it.
pub fn of_tree(root: u32) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for process in tree::of(root)? {
        let path = format!("/proc/{}/smaps_rollup", process.pid);
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{path} cannot be read (are you root?): {error}")))?;
        let of = |names: &[&str]| names.iter().map(|name| bytes(&text, name)).sum::<u64>();
        sum.pss_bytes += of(&["Pss:"]);
        sum.uss_bytes += of(&["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"]);
        sum.anonymous_bytes += of(&["Pss_Anon:", "Pss_Shmem:"]);
    }
    Ok(sum)
}

fn bytes(text: &str, name: &str) -> u64 {
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
