//! The limiter: a process of its own that lets others write nothing to files and gives that back whatever happens to the
//! drill.
//!
//! The drill starts `keel drill limiter PID…` and tells it `limit`. It sets the soft limit of the size of files to 0
//! (`RLIMIT_FSIZE`, `prlimit(2)`), so that each write to a file fails, and says `limited N`. When its standard input ends,
//! or its bound is over, each process gets back what it had. A process that is gone has no limit to give back, and its
//! number may be somebody else's: so each is held by pidfd and asked for first.

use std::{
    io::{self, BufRead, Write},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Resource, Rlimit, prlimit},
};

use super::processes::Held;

/// Whatever happens to the drill, and even if its end is not seen.
const LONGEST: Duration = Duration::from_mins(5);

/// What the limiter is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The processes that may write nothing; the first one at least
    #[arg(required = true)]
    pids: Vec<u32>,
}

/// Processes and what each was allowed. Dropping it gives that back.
#[derive(Debug, Default)]
pub(super) struct Limited(Vec<(Held, Rlimit)>);

impl Limited {
    /// Lets none of them write to a file. The first must obey; of the others, which may be of other users, the kernel
    /// need not permit it.
    pub(super) fn limit(all: Vec<Held>) -> Result<Self, Errno> {
        let mut limited = Self::default();
        for held in all {
            let Some(pid) = number(&held) else { continue };
            let done = current(pid).and_then(|former| {
                prlimit(Some(pid), Resource::Fsize, Rlimit { current: Some(0), maximum: former.maximum })
            });
            match done {
                Ok(former) => limited.0.push((held, former)),
                Err(error) if limited.0.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for (held, former) in self.0.drain(..) {
            // Its number is its own for as long as it is not gone, and then there is nothing to give back.
            if let Some(pid) = number(&held).filter(|_| held.is_there()) {
                let _ = prlimit(Some(pid), Resource::Fsize, former);
            }
        }
    }
}

fn number(held: &Held) -> Option<Pid> {
    i32::try_from(held.pid).ok().and_then(Pid::from_raw)
}

/// What `/proc/PID/limits` says (`proc_pid_limits(5)`): prlimit(2) is only offered as a change here.
fn current(pid: Pid) -> Result<Rlimit, Errno> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_pid())).map_err(|_| Errno::SRCH)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max file size")).ok_or(Errno::INVAL)?;
    let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    Ok(Rlimit { current: fields.next().flatten(), maximum: fields.next().flatten() })
}

/// Runs the limiter to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let held: Vec<Held> = args.pids.iter().map(|pid| Held::open(*pid)).collect::<Result<_, _>>()?;
    let mut out = io::stdout().lock();
    say(&mut out, "ready")?;
    let mut order = String::new();
    if io::stdin().lock().read_line(&mut order).is_err() || order != "limit\n" {
        return Ok(());
    }
    let limited = Limited::limit(held);
    match &limited {
        Ok(limited) => say(&mut out, &format!("limited {}", limited.0.len()))?,
        Err(error) => say(&mut out, &format!("the kernel refuses: {error}"))?,
    }
    let end = Timespec::try_from(LONGEST).ok();
    let stdin = io::stdin();
    // Nothing more is said to it, so whatever comes is the end.
    let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], end.as_ref()));
    drop(limited);
    Ok(())
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Writer(Child);

    impl Drop for Writer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn nothing_can_be_written_and_everything_again_afterwards() {
        let writer = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let writer = Writer(writer);
        let pid = Pid::from_raw(writer.0.id().cast_signed()).unwrap();
        let before = current(pid).unwrap();
        let limited = Limited::limit(vec![Held::open(writer.0.id()).unwrap()]).unwrap();
        assert_eq!(current(pid).unwrap(), Rlimit { current: Some(0), maximum: before.maximum });
        drop(limited);
        assert_eq!(current(pid).unwrap(), before);
    }
}
