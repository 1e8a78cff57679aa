//! The limiter: a process of its own that lets others write nothing to files and gives that back whatever happens to the
//! drill.
//!
//! The drill starts `keel drill limiter PID:START…` and tells it `limit`. It sets the soft limit of the size of files to
//! 0 (`RLIMIT_FSIZE`, `prlimit(2)`), so that each write to a file fails, and says `limited N`. When its standard input
//! ends, or its bound is over, each process gets back what it had, and so does whatever they started meanwhile, since a
//! child inherits its limits. A process is known by its number and the moment of its start: the number alone may be
//! somebody else's by then. It ends with an error where a process is limited still.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Resource, Rlimit, prlimit},
};

use super::processes::{Held, Known, descendants, stat};

/// Whatever happens to the drill, and even if its end is not seen.
const LONGEST: Duration = Duration::from_mins(5);
/// What is started between two looks is found by the next one.
const PASSES: u32 = 3;

/// What the limiter is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The processes that may write nothing; the first one at least
    #[arg(required = true)]
    processes: Vec<Known>,
}

/// One process and what it was allowed.
#[derive(Debug)]
pub(super) struct Former {
    held: Held,
    known: Known,
    limit: Rlimit,
}

impl Former {
    /// What it is allowed now. ESRCH if it is gone.
    pub(super) fn of(known: Known) -> Result<Self, Errno> {
        let held = known.hold()?;
        Ok(Self { limit: current(known.pid)?, held, known })
    }

    /// Sets a soft limit, if this is the process still; the kernel knows it by its number only.
    fn set(&self, current: Option<u64>) -> Result<(), Errno> {
        let pid = number(self.known.pid)?;
        if !self.held.is_there() {
            return Err(Errno::SRCH);
        }
        let former = prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: self.limit.maximum })?;
        if self.known.is_there() {
            return Ok(());
        }
        // It ended in between, and whoever has its number by now is none of ours.
        let _ = prlimit(Some(pid), Resource::Fsize, former);
        Err(Errno::SRCH)
    }
}

/// Processes that were limited or will be, what each was allowed, and who may inherit the limit.
#[derive(Debug)]
pub(super) struct Limits {
    all: Vec<Former>,
    /// What was started from this moment on may have inherited it.
    since: u64,
    /// Below these.
    roots: BTreeSet<u32>,
}

/// The same while the limit is in force. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Limited(Limits);

impl Limits {
    /// Of these, none of which is limited yet.
    pub(super) fn of(all: Vec<Former>) -> Self {
        let since = Known::of(std::process::id()).map_or(0, |own| own.started);
        // What a process leaves behind that ends is its parent's.
        let roots =
            all.iter().flat_map(|former| [Some(former.known.pid), parent(former.known.pid)]).flatten().collect();
        Self { all, since, roots }
    }

    /// Gives each of them back what it was allowed, and what they started too; else who has it not. A process that is
    /// gone needs nothing.
    pub(super) fn lift(&self) -> Result<(), String> {
        let mut still = Vec::new();
        for former in &self.all {
            match former.set(former.limit.current) {
                Ok(()) | Err(Errno::SRCH) => {}
                // What the kernel lets nobody change here was not limited either.
                Err(_) if current(former.known.pid) == Ok(former.limit) => {}
                Err(error) => still.push(format!("process {} can write to no file still: {error}", former.known.pid)),
            }
        }
        for _ in 0..PASSES {
            self.lift_from_heirs();
        }
        if still.is_empty() { Ok(()) } else { Err(still.join(", ")) }
    }

    /// What was started by those, and may itself have started others.
    fn lift_from_heirs(&self) {
        let Some(former) = self.all.first().map(|former| former.limit) else { return };
        let below = self.roots.iter().flat_map(|root| descendants(*root));
        let heirs = below.filter_map(Known::of).filter(|known| known.started >= self.since);
        for heir in heirs.filter_map(|known| Former::of(known).ok()).filter(|heir| heir.limit.current == Some(0)) {
            // One of another user is not ours to change.
            let _ = heir.set(former.current);
        }
    }
}

impl Limited {
    /// Lets none of them write to a file. The first must obey; of the others, which may be of other users, the kernel
    /// need not permit it.
    pub(super) fn limit(all: Vec<Former>) -> Result<Self, Errno> {
        let Limits { all, since, roots } = Limits::of(all);
        let mut limited = Self(Limits { all: Vec::new(), since, roots });
        for former in all {
            match former.set(Some(0)) {
                Ok(()) => limited.0.all.push(former),
                Err(error) if limited.0.all.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.0.lift();
    }
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

fn number(pid: u32) -> Result<Pid, Errno> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)
}

/// What `/proc/PID/limits` says (`proc_pid_limits(5)`): prlimit(2) is only offered as a change here.
fn current(pid: u32) -> Result<Rlimit, Errno> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|_| Errno::SRCH)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max file size")).ok_or(Errno::INVAL)?;
    let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    Ok(Rlimit { current: fields.next().flatten(), maximum: fields.next().flatten() })
}

/// Runs the limiter to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let all: Vec<Former> = args.processes.iter().map(|known| Former::of(*known)).collect::<Result<_, _>>()?;
    let mut out = io::stdout().lock();
    say(&mut out, "ready")?;
    let mut order = String::new();
    if io::stdin().lock().read_line(&mut order).is_err() || order != "limit\n" {
        return Ok(());
    }
    let limited = match Limited::limit(all) {
        Ok(limited) => limited,
        Err(error) => return say(&mut out, &format!("the kernel refuses: {error}")),
    };
    let said = say(&mut out, &format!("limited {}", limited.0.all.len()));
    let end = Timespec::try_from(LONGEST).ok();
    let stdin = io::stdin();
    if said.is_ok() {
        // Nothing more is said to it, so whatever comes is the end.
        let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], end.as_ref()));
    }
    limited.0.lift().map_err(io::Error::other)
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufReader, Read},
        process::{Child, Command, Stdio},
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use super::*;

    struct Writer(Child);

    impl Drop for Writer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn former(pid: u32) -> Former {
        Former::of(Known::of(pid).unwrap()).unwrap()
    }

    /// What was started below a limited process and its parent is given the limit back: here that parent is one for all
    /// tests, so that one would undo what another has done.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn nothing_can_be_written_and_everything_again_afterwards() {
        let _alone = alone();
        let writer = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let writer = Writer(writer);
        let pid = writer.0.id();
        let before = current(pid).unwrap();
        let limited = Limited::limit(vec![former(pid)]).unwrap();
        assert_eq!(current(pid).unwrap(), Rlimit { current: Some(0), maximum: before.maximum });
        drop(limited);
        assert_eq!(current(pid).unwrap(), before);
    }

    /// A limited process starts another one; who is limited no more once this was done.
    fn after(undo: impl FnOnce(Limited, Limits)) {
        let script = "read order; sleep 1000 & echo $!; read order; kill $!";
        let shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = Writer(shell.unwrap());
        let before = current(shell.0.id()).unwrap();
        let known_elsewhere = Limits::of(vec![former(shell.0.id())]);
        let limited = Limited::limit(vec![former(shell.0.id())]).unwrap();
        let mut orders = shell.0.stdin.take().unwrap();
        orders.write_all(b"go\n").unwrap();
        let mut said = BufReader::new(shell.0.stdout.take().unwrap());
        let mut heir = String::new();
        said.read_line(&mut heir).unwrap();
        let heir: u32 = heir.trim().parse().unwrap();
        assert_eq!(current(heir).unwrap().current, Some(0), "it inherits the limit");
        undo(limited, known_elsewhere);
        assert_eq!(current(shell.0.id()).unwrap(), before);
        assert_eq!(current(heir).unwrap(), before);
        drop(orders);
        said.read_to_string(&mut String::new()).unwrap();
    }

    #[test]
    fn what_was_started_meanwhile_gets_it_back_too() {
        let _alone = alone();
        after(|limited, _| limited.0.lift().unwrap());
    }

    #[test]
    fn whoever_knew_the_processes_before_gives_it_all_back_where_the_limiter_has_died() {
        let _alone = alone();
        after(|limited, known_before| {
            // One that dies gives nothing back.
            std::mem::forget(limited);
            known_before.lift().unwrap();
        });
    }

    #[test]
    fn another_process_of_the_same_number_is_left_alone() {
        let _alone = alone();
        let writer = Writer(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap());
        let known = Known::of(writer.0.id()).unwrap();
        let other = Known { started: known.started - 1, ..known };
        assert_eq!(Former::of(other).unwrap_err(), Errno::SRCH);
        let stale = Former { known: other, ..former(known.pid) };
        assert_eq!(stale.set(Some(0)), Err(Errno::SRCH));
        assert_ne!(current(known.pid).unwrap().current, Some(0), "the limit was taken back");
    }
}
