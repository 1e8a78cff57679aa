//! The freezer: a process of its own that freezes instances, once or by turns, and thaws them whatever happens to the
//! drill.
//!
//! A frozen instance must not stay frozen because the drill was interrupted, panicked or was killed. So the drill
//! starts `keel drill freezer BOUND PID…` in a process group of its own and talks to it through pipes: `ready`, then
//! `freeze`, then `frozen N`. When its standard input ends, for whatever reason, or its bound is over, it thaws
//! everything that it froze and ends; with an error where something stands still all the same. It holds the processes by
//! pidfd, so a number that was given to somebody else meanwhile is not signalled. It knows nothing about stacks, and it
//! never kills.

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
/// How long the kernel may take to let a process run again.
const RUNS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the freezer is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Thaw after so many milliseconds whatever happens
    pub(super) bound_ms: u64,
    /// The processes to freeze, with their descendants
    #[arg(required = true)]
    pub(super) pids: Vec<u32>,
    /// Freeze by turns, each time for so many milliseconds
    #[arg(long, requires = "running_ms")]
    pub(super) stopped_ms: Option<u64>,
    /// Let them run for so many milliseconds in between
    #[arg(long, requires = "stopped_ms")]
    pub(super) running_ms: Option<u64>,
}

/// Everything that one freezer stopped. Dropping it thaws.
#[derive(Debug, Default)]
pub(super) struct Frozen(Vec<Held>);

impl Frozen {
    /// Stops processes and all their descendants. The process itself is stopped first, so that it forks no more.
    pub(super) fn freeze(roots: Vec<Held>) -> Result<Self, Errno> {
        let mut frozen = Self::default();
        for root in roots {
            frozen.stop_tree(root)?;
        }
        Ok(frozen)
    }

    fn stop_tree(&mut self, root: Held) -> Result<(), Errno> {
        let pid = root.pid;
        self.stop(root)?;
        self.stop_descendants(pid)
    }

    fn stop_descendants(&mut self, pid: u32) -> Result<(), Errno> {
        for _ in 0..PASSES {
            let known: BTreeSet<u32> = self.0.iter().map(|held| held.pid).collect();
            let fresh: Vec<u32> = descendants(pid).difference(&known).copied().collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                match Held::open(pid) {
                    Ok(held) => self.stop(held)?,
                    Err(Errno::SRCH) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Stops again what was thawed, and what it has forked meanwhile.
    pub(super) fn again(&mut self, roots: &[u32]) -> Result<(), Errno> {
        for held in &self.0 {
            held.signal(Signal::STOP)?;
        }
        for root in roots {
            // The number of one that has ended may be somebody else's by now.
            let held = self.0.iter().find(|held| held.pid == *root);
            if held.is_some_and(|held| held.signal(Signal::STOP) == Ok(true)) {
                self.stop_descendants(*root)?;
            }
        }
        Ok(())
    }

    /// Lets everything run.
    pub(super) fn thaw(&self) {
        // Children first: the root's parent sees it run only when all of it does.
        thaw(self.0.iter().rev());
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
        self.thaw();
    }
}

fn thaw<'h>(all: impl Iterator<Item = &'h Held>) {
    for held in all {
        // A process that is gone, or that we may not signal any more, cannot be thawed by anybody here.
        let _ = held.signal(Signal::CONT);
    }
}

/// Lets all of these run and looks whether they do; else which of them does not.
pub(super) fn thawed(all: &[Held]) -> Result<(), String> {
    let end = Instant::now() + RUNS_WITHIN;
    loop {
        thaw(all.iter().rev());
        // The number of one that is gone may be somebody else's.
        let still = |held: &&Held| stat(held.pid).is_some_and(|(state, _)| state == 'T') && held.is_there();
        match all.iter().find(still) {
            None => return Ok(()),
            Some(held) if Instant::now() >= end => return Err(format!("process {} stands still", held.pid)),
            Some(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Runs the freezer to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let roots = args.pids.iter().map(|pid| Held::open(*pid)).collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    say(&mut out, "ready")?;
    let mut order = [0; 7];
    if io::stdin().lock().read_exact(&mut order).is_err() || &order != b"freeze\n" {
        return Ok(());
    }
    let bound = Instant::now() + Duration::from_millis(args.bound_ms);
    let mut frozen = Frozen::freeze(roots)?;
    while !frozen.stands_still() && Instant::now() < bound {
        std::thread::yield_now();
    }
    let lasted = say(&mut out, &format!("frozen {}", frozen.len())).and_then(|()| last(args, &mut frozen, bound));
    let thawed = thawed(&frozen.0);
    lasted.and(thawed.map_err(io::Error::other))
}

/// Goes on until standard input ends or the bound is over.
fn last(args: &Args, frozen: &mut Frozen, bound: Instant) -> io::Result<()> {
    let (Some(stopped_ms), Some(running_ms)) = (args.stopped_ms, args.running_ms) else {
        return ends_before(bound).map(drop);
    };
    let (stopped, running) = (Duration::from_millis(stopped_ms), Duration::from_millis(running_ms));
    loop {
        if ends_before(bound.min(Instant::now() + stopped))? || Instant::now() >= bound {
            return Ok(());
        }
        frozen.thaw();
        if ends_before(bound.min(Instant::now() + running))? || Instant::now() >= bound {
            return Ok(());
        }
        frozen.again(&args.pids)?;
    }
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

/// Waits for the end of standard input; false if that has not come by then.
fn ends_before(end: Instant) -> io::Result<bool> {
    let stdin = io::stdin();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                if io::stdin().lock().read(&mut [0; 64])? == 0 {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
