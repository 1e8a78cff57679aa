//! CPU time of a process and all of its descendants.

use std::{io, time::Duration};

use crate::tree;

/// User and system time of `root` and of everything below it, children that were reaped included.
pub fn of_tree(root: u32) -> io::Result<Duration> {
    let ticks: u64 = tree::of(root)?.iter().map(|process| process.ticks).sum();
    // USER_HZ is 100 on every architecture that Linux gives a `/proc` of this form.
    Ok(Duration::from_millis(ticks * 10))
}
