//! What the kernel knows of an instance's processes: whether they are stopped (`proc_pid_stat(5)`, field 3).
//!
//! A stopped process is one that `SIGSTOP` or its like holds, state `T`: it answers nobody until it is continued, so
//! that no patience is owed to it. Any other state says nothing: a process that sleeps may wait for a lock for ever, or
//! for a database that answers in a second. One that a debugger holds (`t`) is none either, since a tracer
//! holds it for moments at a time.
//!
//! Only files are read that every process may read; where `/proc` hides others' processes, nothing is known. Nothing here
//! is kept, and nothing decided.

use std::fs;

/// Most files that are read to answer one question. An instance with more processes and threads counts as running.
const READS: usize = 512;

/// Whoever merely waits for its children has no more threads than this. One that is not stopped itself and has more of
/// them counts as running: it is the program, and to read of each of its threads would take long.
const WAITING_THREADS: usize = 32;

/// Whether the kernel tells about this process.
pub(super) fn is_visible(pid: u32) -> bool {
    state(pid).is_some()
}

/// Whether all that could answer for this process is stopped: those of it and its descendants that have no child of their
/// own, as a shell has that waits for the program. Returns the first of them, `None` where anybody runs.
pub(super) fn stopped(pid: u32) -> Option<u32> {
    let mut reads = READS;
    all_stopped(pid, &mut reads)
}

fn all_stopped(pid: u32, reads: &mut usize) -> Option<u32> {
    let state = take(reads).and_then(|()| state(pid))?;
    // It works, or is about to.
    if matches!(state, b'R' | b'D') {
        return None;
    }
    let is_stopped = state == b'T';
    let threads = if is_stopped { READS } else { WAITING_THREADS };
    let mut children = children(pid, threads, reads)?.into_iter().filter(|&child| lives(child));
    let Some(first) = children.next() else { return is_stopped.then_some(pid) };
    let first = all_stopped(first, reads)?;
    children.all(|child| all_stopped(child, reads).is_some()).then_some(first)
}

/// Whether it is more than an exit status that nobody has read yet.
fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, b'Z' | b'X'))
}

/// The letter of its state.
fn state(pid: u32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in brackets before it, and may contain any byte.
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(name_ends + 2).copied()
}

/// Its children, by all of its threads; `None` where there are too many to tell, or more than `most` threads. A kernel
/// that does not list them knows of none.
fn children(pid: u32, most: usize, reads: &mut usize) -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for (place, thread) in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().enumerate() {
        if place >= most {
            return None;
        }
        take(reads)?;
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(listed.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Some(children)
}

fn take(reads: &mut usize) -> Option<()> {
    *reads = reads.checked_sub(1)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            if let Some(group) = Pid::from_raw(self.0.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }

    /// A process in a group of its own.
    fn start(program: &str, arguments: &[&str]) -> Ends {
        use std::os::unix::process::CommandExt;
        Ends(Command::new(program).args(arguments).process_group(0).spawn().expect("it is there"))
    }

    fn signal(pid: u32, signal: Signal) {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    fn becomes(what: &str, mut is: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !is() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_stopped_process_and_a_sleeping_one() {
        let sleeps = start("sleep", &["1000"]);
        let pid = sleeps.0.id();
        assert!(is_visible(pid));
        assert_eq!(stopped(pid), None);
        signal(pid, Signal::STOP);
        becomes("stopped", || stopped(pid) == Some(pid));
        signal(pid, Signal::CONT);
        becomes("running", || stopped(pid).is_none());
        drop(sleeps);
        assert!(!is_visible(pid));
        assert_eq!(stopped(pid), None, "nobody is not stopped");
    }

    #[test]
    fn it_depends_on_all_that_could_answer() {
        let shell = start("sh", &["-c", "sleep 1000 & sleep 1000 & wait"]);
        let pid = shell.0.id();
        let all = |pid| children(pid, READS, &mut READS.clone()).unwrap();
        becomes("two children", || all(pid).len() == 2);
        let [one, other] = all(pid)[..] else { unreachable!("there are two") };
        signal(one, Signal::STOP);
        signal(pid, Signal::STOP);
        becomes("one is stopped", || state(one) == Some(b'T') && state(pid) == Some(b'T'));
        assert_eq!(stopped(pid), None, "the other one may answer");
        signal(pid, Signal::CONT);
        signal(other, Signal::STOP);
        becomes("nobody is left", || stopped(pid) == Some(one));
        signal(one, Signal::KILL);
        becomes("a dead one answers nothing", || stopped(pid) == Some(other));
        assert_eq!(all_stopped(pid, &mut 1), None, "too much to read");
        assert_eq!(children(pid, 0, &mut READS.clone()), None, "too many threads for one that waits");
    }
}
