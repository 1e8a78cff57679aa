//! The freezer: a process of its own that freezes an instance and thaws it whatever happens to the drill.
//!
//! A frozen instance must not stay frozen because the drill was interrupted, panicked or was killed. So the drill
//! starts `keel drill freezer PID` in a process group of its own and talks to it through pipes: `ready`, then
//! `freeze`, then `frozen N`. When its standard input ends, for whatever reason, or its bound is over, it thaws
//! everything that it froze and ends. It holds the processes by pidfd, so a number that was given to somebody
//! else meanwhile is not signalled. It knows nothing about stacks, and it never kills.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::Signal,
};

use super::processes::{Held, descendants, stat};

/// Bounds the search for processes that are forked while it runs.
const PASSES: u32 = 16;

/// What the freezer is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The process to freeze, with its descendants
    pub(super) pid: u32,
    /// Thaw after so many milliseconds whatever happens
    pub(super) bound_ms: u64,
}

/// Everything that one freezer stopped. Dropping it thaws.
#[derive(Debug, Default)]
pub(super) struct Frozen(Vec<Held>);

impl Frozen {
    /// Stops a process and all its descendants. The process itself is stopped first, so that it forks no more.
    pub(super) fn freeze(root: Held) -> Result<Self, Errno> {
        let pid = root.pid;
        let mut frozen = Self::default();
        frozen.stop(root)?;
        for _ in 0..PASSES {
            let known: BTreeSet<u32> = frozen.0.iter().map(|held| held.pid).collect();
            let fresh: Vec<u32> = descendants(pid).difference(&known).copied().collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                match Held::open(pid) {
                    Ok(held) => frozen.stop(held)?,
                    Err(Errno::SRCH) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(frozen)
    }

    /// How many processes are held.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn stop(&mut self, held: Held) -> Result<(), Errno> {
        held.signal(Signal::STOP)?;
        self.0.push(held);
        Ok(())
    }

    /// Whether the first of them stands still.
    fn stands_still(&self) -> bool {
        self.0.first().is_none_or(|held| stat(held.pid).is_none_or(|(state, _)| "TtZX".contains(state)))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Children first: the root's parent sees it run only when all of it does.
        for held in self.0.iter().rev() {
            // A process that is gone, or that we may not signal any more, cannot be thawed by anybody here.
            let _ = held.signal(Signal::CONT);
        }
    }
}

/// Runs the freezer to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let root = Held::open(args.pid)?;
    let mut out = io::stdout().lock();
    say(&mut out, "ready")?;
    let mut order = [0; 7];
    if io::stdin().lock().read_exact(&mut order).is_err() || &order != b"freeze\n" {
        return Ok(());
    }
    let bound = Instant::now() + Duration::from_millis(args.bound_ms);
    let frozen = Frozen::freeze(root)?;
    while !frozen.stands_still() && Instant::now() < bound {
        std::thread::yield_now();
    }
    say(&mut out, &format!("frozen {}", frozen.len()))?;
    wait_for_end(bound)
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

/// Returns when standard input ends or the bound is over.
fn wait_for_end(bound: Instant) -> io::Result<()> {
    let stdin = io::stdin();
    loop {
        let left = bound.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                if io::stdin().lock().read(&mut [0; 64])? == 0 {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
