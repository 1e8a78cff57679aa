//! Which processes are drills, by what `/proc` shows (proc(5)).
//!
//! A drill that the node process starts may kill that node process: it becomes a child of the guard then and must go on,
//! to its verdict and to take back what it did. It runs the same file as the guard does, with `drill` as its first
//! argument; so do the helpers that undo its harm.

use std::{fs, os::unix::fs::MetadataExt};

/// Whether this process carries a drill out or takes its harm back.
pub(crate) fn is_drill(pid: i32) -> bool {
    let file = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|meta| (meta.dev(), meta.ino())).ok();
    let same = file(&pid.to_string()).is_some_and(|theirs| file("self") == Some(theirs));
    same && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| says_drill(&words))
}

fn says_drill(words: &[u8]) -> bool {
    words.split(|byte| *byte == 0).nth(1) == Some(b"drill")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_itself_counts() {
        assert!(says_drill(b"/proc/self/exe\0drill\0run\0kill-node-process\0"));
        assert!(!says_drill(b"keel\0__shop\0drill\0") && !says_drill(b"keel\0") && !says_drill(b""));
        assert!(!is_drill(std::process::id().cast_signed()), "a test is none");
        assert!(!is_drill(i32::MAX));
    }
}
