//! The clock: a process of its own that holds a time namespace with other clocks, lets the node process be started
//! there, and takes that back whatever happens to the drill.
//!
//! The drill starts `keel drill clock GUARD SECONDS DIR`. It makes a namespace whose clocks are ahead
//! (`time_namespaces(7)`), says `ready`, and told `shift` names itself in the file `clock` of the runtime folder and kills
//! the node process. The next one finds the file, makes sure that it names a living clock, and enters the namespace
//! ([`enter`]). When standard input ends, or its bound is over, the file is removed and every node process in the
//! namespace is killed, until one runs that has the clocks of everybody ([`leave`]); where none does in time, it ends
//! with an error. Only this user can write to that folder.

use std::{
    fs,
    io::{self, BufRead, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::processes::{Held, Known, stat};
use crate::process;

/// Whatever happens to the drill, and even if its end is not seen.
const LONGEST: Duration = Duration::from_mins(5);
/// How long the guard may take to start a node process with the clocks of everybody.
const LEFT_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The file in the runtime folder that names this process.
const FILE: &str = "clock";

/// What the clock is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The guard whose node process is meant
    guard: u32,
    /// By how many seconds the clocks are ahead
    by_s: i64,
    /// The folder of the sockets
    runtime_dir: PathBuf,
}

/// A time namespace and those who look for it.
#[derive(Clone, Debug)]
pub(super) struct Space {
    guard: u32,
    file: PathBuf,
    /// What the kernel calls it.
    id: PathBuf,
}

impl Space {
    /// The one that the clock holds for its children.
    pub(super) fn of(clock: u32, guard: u32, runtime_dir: &Path) -> Option<Self> {
        let id = namespace(&clock.to_string(), "time_for_children")?;
        Some(Self { guard, file: runtime_dir.join(FILE), id })
    }
}

/// The file while it is there. Dropping it takes everything back, unless that was done before.
struct Named(Option<Space>);

impl Named {
    fn leave(mut self) -> Result<(), String> {
        self.0.take().map_or(Ok(()), |space| leave(&space))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(space) = self.0.take() {
            let _ = leave(&space);
        }
    }
}

/// Runs the clock to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Err(error) = make_namespace(args.by_s) {
        return say(&mut out, &format!("no time namespace can be made here, which needs root: {error}"));
    }
    say(&mut out, "ready")?;
    let mut order = String::new();
    if io::stdin().lock().read_line(&mut order).is_err() || order != "shift\n" {
        return Ok(());
    }
    let own = Known::of(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
    let space = Space::of(own.pid, args.guard, &args.runtime_dir).ok_or(io::ErrorKind::NotFound)?;
    // The folder may belong to somebody with fewer rights, who could have put a link there.
    let _ = fs::remove_file(&space.file);
    let mut file = fs::File::create_new(&space.file)?;
    let named = Named(Some(space));
    file.write_all(own.to_string().as_bytes())?;
    drop(file);
    let said = match kill_node(args.guard) {
        Ok(()) => say(&mut out, "killed"),
        Err(error) => say(&mut out, &format!("the node process cannot be killed: {error}")),
    };
    let end = Timespec::try_from(LONGEST).ok();
    let stdin = io::stdin();
    if said.is_ok() {
        let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], end.as_ref()));
    }
    named.leave().map_err(io::Error::other)
}

/// Has no node process be in the namespace any more, and none enter it; else why that cannot be said. Waits for a node
/// process that is past the moment in which it would enter, unless the guard is gone.
pub(super) fn leave(space: &Space) -> Result<(), String> {
    leave_within(space, LEFT_WITHIN)
}

fn leave_within(space: &Space, within: Duration) -> Result<(), String> {
    let _ = fs::remove_file(&space.file);
    if space.file.exists() {
        return Err(format!("{} cannot be removed", space.file.display()));
    }
    let end = Instant::now() + within;
    loop {
        let inside = nodes_within(&space.id);
        for pid in &inside {
            if let Ok(held) = Held::open(*pid)
                && namespace(&pid.to_string(), "time").as_ref() == Some(&space.id)
            {
                let _ = held.signal(Signal::KILL);
            }
        }
        // One with several threads was asked by nobody whether it enters, and can enter no more.
        let node = process::node_of(space.guard).map(|node| node.pid);
        let is_well = |pid: u32| threads(pid) > 1 && namespace(&pid.to_string(), "time").as_ref() != Some(&space.id);
        let over = node.map_or_else(|| stat(space.guard).is_none(), is_well);
        if inside.is_empty() && over {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(match inside.first() {
                Some(pid) => format!("the node process {pid} runs with other clocks still"),
                None => "no node process was seen with the clocks of everybody".to_owned(),
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Node processes in a namespace, whoever their parent is by now.
fn nodes_within(id: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_node = |pid: &u32| argument(*pid, 1).is_some_and(|word| word == b"__node");
    let alive = |pid: &u32| stat(*pid).is_some_and(|(state, _)| !"ZX".contains(state));
    let within = |pid: &u32| namespace(&pid.to_string(), "time").is_some_and(|its| its == id);
    pids.filter(within).filter(is_node).filter(alive).collect()
}

fn argument(pid: u32, number: usize) -> Option<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    line.split(|byte| *byte == 0).nth(number).map(<[u8]>::to_vec)
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// A namespace for processes that this one lets in. The clocks must be set before anybody is there.
fn make_namespace(by_s: i64) -> io::Result<()> {
    // SAFETY: only clocks are unshared: neither memory nor descriptors, on which other threads could rely.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }?;
    fs::write("/proc/self/timens_offsets", format!("monotonic {by_s} 0\nboottime {by_s} 0\n"))
}

fn namespace(process: &str, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{kind}")).ok()
}

fn kill_node(guard: u32) -> io::Result<()> {
    let node = process::node_of(guard).ok_or(io::ErrorKind::NotFound)?;
    let held = Held::open(node.pid)?;
    // The number may have become another one's before it was held.
    if process::node_of(guard) != Some(node) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(held.signal(Signal::KILL).map(drop)?)
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

/// Enters the namespace of a drill, if there is one. For a node process before it has any thread: setns(2) permits it to
/// no other. Where it fails the drill says that it has shown nothing.
pub(crate) fn enter(runtime_dir: &Path) {
    let Some(named) = fs::read_to_string(runtime_dir.join(FILE)).ok().and_then(|text| text.trim().parse().ok()) else {
        return;
    };
    match enter_of(named) {
        Ok(()) => tracing::warn!("a drill has this process run with other clocks"),
        Err(error) => tracing::warn!(%error, "the clocks of a drill cannot be entered"),
    }
}

fn enter_of(clock: Known) -> io::Result<()> {
    let space = fs::File::open(format!("/proc/{}/ns/time_for_children", clock.pid))?;
    // Looked at once the namespace is held: a clock that is there still is whose namespace that is.
    if !is_clock(clock) {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("process {} is no clock of a drill", clock.pid)));
    }
    Ok(move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Time))?)
}

/// Whether this is the process that was named, and a clock: the same program, told to be that.
fn is_clock(named: Known) -> bool {
    let program = |process: &str| {
        let meta = fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    named.is_there()
        && program(&named.pid.to_string()).is_some_and(|its| Some(its) == program("self"))
        && argument(named.pid, 1).is_some_and(|word| word == b"drill")
        && argument(named.pid, 2).is_some_and(|word| word == b"clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_joins_a_process_that_is_no_clock() {
        let own = Known::of(std::process::id()).unwrap();
        let error = enter_of(own).unwrap_err();
        assert!(error.to_string().contains("is no clock of a drill"), "{error}");
        assert!(enter_of(Known { pid: u32::MAX, ..own }).is_err());
    }

    #[test]
    fn the_end_is_not_said_while_a_guard_has_no_node_process() {
        let temp = tempfile::tempdir().unwrap();
        let id = namespace("self", "time").unwrap();
        let space = |guard| Space { guard, file: temp.path().join(FILE), id: id.join("another") };
        fs::write(temp.path().join(FILE), "").unwrap();
        let error = leave_within(&space(std::process::id()), Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("no node process was seen"), "{error}");
        assert!(!temp.path().join(FILE).exists(), "nobody enters any more in any case");
        leave(&space(u32::MAX)).expect("that guard is gone, and so is whatever it would have started");
    }
}
