//! The guard's own few lines on standard error.
//!
//! A terminal that is stopped (Ctrl-S) or a pipe that nobody reads must not stop the guard, so a line is dropped
//! where it would have to wait.

use std::fmt::Arguments;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    stdio,
};

/// Writes `keel: …`, one line, if standard error takes it at once.
pub(crate) fn line(text: Arguments<'_>) {
    let stderr = stdio::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut ready, Some(&at_once)).is_ok_and(|count| count > 0) && ready[0].revents().contains(PollFlags::OUT) {
        let mut line: String = format!("keel: {text}").replace('\n', " ").chars().take(1000).collect();
        line.push('\n');
        let _ = rustix::io::write(stderr, line.as_bytes());
    }
}
