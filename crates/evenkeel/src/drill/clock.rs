//! The clock: a process of its own that holds a time namespace with other clocks, lets the node process be started
//! there, and takes that back whatever happens to the drill.
//!
//! The drill starts `keel drill clock GUARD SECONDS DIR`. It makes a namespace whose clocks are ahead
//! (`time_namespaces(7)`), says `ready`, and told `shift` names itself in the file `clock` of the runtime folder and kills
//! the node process. The next one finds the file and enters the namespace ([`enter`]). When standard input ends, or its
//! bound is over, the file is removed and a node process in the namespace is killed, so that the next one has the clocks
//! of everybody. Only this user can write to that folder.

use std::{
    fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::processes::Held;
use crate::process;

/// Whatever happens to the drill, and even if its end is not seen.
const LONGEST: Duration = Duration::from_mins(5);
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

/// The file while it is there. Dropping it takes everything back.
struct Named<'a> {
    args: &'a Args,
    file: PathBuf,
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
    let named = Named { args, file: args.runtime_dir.join(FILE) };
    // The folder may belong to somebody with fewer rights, who could have put a link there.
    let _ = fs::remove_file(&named.file);
    fs::File::create_new(&named.file)?.write_all(std::process::id().to_string().as_bytes())?;
    match kill_node(args.guard, |_| true) {
        Ok(()) => say(&mut out, "killed")?,
        Err(error) => say(&mut out, &format!("the node process cannot be killed: {error}"))?,
    }
    let end = Timespec::try_from(LONGEST).ok();
    let stdin = io::stdin();
    let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], end.as_ref()));
    drop(named);
    Ok(())
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
        let ours = namespace("self", "time_for_children");
        let _ = kill_node(self.args.guard, |node| ours.is_some() && namespace(&node.to_string(), "time") == ours);
    }
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

fn kill_node(guard: u32, if_so: impl Fn(u32) -> bool) -> io::Result<()> {
    let node = process::node_of(guard).ok_or(io::ErrorKind::NotFound)?;
    let held = Held::open(node.pid)?;
    if if_so(node.pid) {
        held.signal(Signal::KILL)?;
    }
    Ok(())
}

fn say(out: &mut impl Write, word: &str) -> io::Result<()> {
    writeln!(out, "{word}")?;
    out.flush()
}

/// Enters the namespace of a drill, if there is one. For a node process before it has any thread: setns(2) permits it to
/// no other. Where it fails the drill says that it has shown nothing.
pub(crate) fn enter(runtime_dir: &Path) {
    let Some(pid) = fs::read_to_string(runtime_dir.join(FILE)).ok().and_then(|text| text.trim().parse::<u32>().ok())
    else {
        return;
    };
    let entered = fs::File::open(format!("/proc/{pid}/ns/time_for_children")).and_then(|space| {
        Ok(move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Time))?)
    });
    match entered {
        Ok(()) => tracing::warn!("a drill has this process run with other clocks"),
        Err(error) => tracing::warn!(%error, "the clocks of a drill cannot be entered"),
    }
}
