//! The guard's state and its loop.
//!
//! [`Guard`] owns everything: the node process, the edge, every process with its stub, and every held descriptor.
//! One turn of the loop does what is due, waits for the next event, and handles it. No other thread exists, and
//! nothing in a turn waits.
//!
//! | module | concern |
//! | --- | --- |
//! | `peer` | telling a process something without waiting for it |
//! | `node`, `edge` | `keel`'s own two processes and their restarts |
//! | `process` | one process that was ordered: from its stub's start to its exit |
//! | `adopt` | processes that outlived a former guard |
//! | `notify` | what the system's service manager is told, and what it keeps for us |
//! | `orders` | what the node process may ask for |
//! | `exits` | who ended, and what it left behind |
//! | `ending` | from the first SIGTERM to the exit code |
//! | `turn` | waiting, and handing each event to its owner |

mod adopt;
mod edge;
mod ending;
mod exits;
mod node;
mod notify;
mod orders;
mod peer;
mod process;
mod turn;

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use evenkeel_core::{guard::Key, time::Moment};
use rustix::process::{Pid, Rlimit, Signal, kill_process, pidfd_send_signal};

use crate::{
    activation::Activation,
    os::{cgroup::Base, clock, log, proctree, setup, signals::Signals, timer::Timer, words},
};
use edge::Edge;
use ending::Ending;
use node::Node;
use notify::Manager;
use peer::Peer;
use process::Process;

/// What a guard is to start, and its bounds.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// Program and arguments of the node process.
    pub node: Vec<OsString>,
    /// Program and arguments of the edge.
    pub edge: Vec<OsString>,
    /// Program and arguments of a stub; it calls [`stub()`](crate::stub()).
    pub stub: Vec<OsString>,
    /// User and group of the edge, without any further groups; heeded only where the guard is root. `None`: as the
    /// guard.
    pub edge_user: Option<(u32, u32)>,
    /// The folder in which stubs listen for the next guard, within that of all sockets of this stack; what is found there
    /// at the start is adopted. `None`:
    /// nothing is adopted and nothing outlives this guard.
    pub stubs: Option<PathBuf>,
    /// Whether what this guard starts outlives it.
    pub outlived: bool,
    /// What the system's service manager handed over.
    pub activation: Activation,
    /// How long the edge may finish its requests when `keel` ends, until the node process says otherwise.
    pub edge_grace: Duration,
    /// How long the node process may take from `Terminate` to `Finish` before everything is killed, until it says
    /// otherwise.
    pub finish_within: Duration,
}

impl GuardConfig {
    /// With the usual bounds: 10 s for the edge to finish its requests, 60 s for the whole end. Nothing outlives it.
    pub const fn new(node: Vec<OsString>, edge: Vec<OsString>, stub: Vec<OsString>) -> Self {
        Self {
            node,
            edge,
            stub,
            edge_user: None,
            stubs: None,
            outlived: false,
            activation: Activation::none(),
            edge_grace: Duration::from_secs(10),
            finish_within: Duration::new(60, 0),
        }
    }
}

/// Is the guard, until the node process says `Finish` or everything had to be killed. The result is the exit code:
/// the one of `Finish`; 1 when it was never said.
///
/// Must be called in the main thread of a process that has no other: it blocks signals, marks every open descriptor
/// above 2 close-on-exec, and reaps every child.
pub fn run(config: GuardConfig) -> End {
    let guard = Guard::new(config);
    match guard.and_then(Guard::serve) {
        Ok(end) => end,
        Err(error) => {
            log::line(format_args!("the guard cannot go on: {}", words::of(&error)));
            End { code: 1, stop: None }
        }
    }
}

/// How a guard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code.
    pub code: u8,
    /// What the stop took, where it was told to end by a signal.
    pub stop: Option<Stop>,
}

/// A stop that somebody ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// From the signal to the end of the last process.
    pub took: Duration,
    /// Processes of instances that ran when it came.
    pub instances: usize,
    /// Those of them that had to be killed since they or the node process did not end in time.
    pub killed: usize,
}

/// A child with a channel, or a stub that was adopted.
struct Child {
    pid: Pid,
    peer: Peer,
    since: Moment,
    /// Of a stub that was adopted: it is no child, so this alone names it safely, and tells its end.
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// Kills it. Its exit is seen like any other.
    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let _ = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd.as_fd(), signal),
            // It is a child that was not reaped yet, so the number is its own.
            None => kill_process(self.pid, signal),
        };
    }
}

/// Everything the guard knows.
struct Guard {
    config: GuardConfig,
    signals: Signals,
    timer: Timer,
    since_ms: u64,
    base: Base,
    /// The limit of open files that instances get.
    open_files: Rlimit,
    /// Children that were there before us: whoever ran us by exec may have left some. They are not ours to kill.
    strangers: HashSet<Pid>,
    node: Node,
    edge: Edge,
    held: BTreeMap<Key, Rc<OwnedFd>>,
    processes: BTreeMap<Key, Process>,
    /// Stubs that have said their last word and are about to end.
    retired: HashSet<Pid>,
    ending: Ending,
    /// When it was told to end and what ran then; `killed` grows.
    stop: Option<(Moment, Stop)>,
    /// The system's service manager.
    manager: Manager,
    /// When to look for what dead processes left behind.
    sweep_at: Option<Moment>,
}

impl Guard {
    fn new(mut config: GuardConfig) -> io::Result<Self> {
        // First: told to end from now on, it stops what it adopts, and does not die before that.
        let signals = Signals::block(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::CHILD])?;
        setup::close_inherited_on_exec()?;
        setup::reserve_channel_descriptor()?;
        setup::become_subreaper()?;
        let own = std::process::id().cast_signed();
        let children = proctree::scan().into_iter().filter(|entry| entry.parent == own);
        let strangers = children.filter_map(|entry| Pid::from_raw(entry.pid)).collect();
        let timer = Timer::new()?;
        let base = Base::discover();
        base.prepare();
        let open_files = setup::raise_open_files();
        // Where it is not permitted the guard works all the same.
        let _ = setup::lock_memory();
        let (manager, held) = Manager::new(std::mem::replace(&mut config.activation, Activation::none()));
        let processes = config.stubs.as_deref().map(|folder| adopt::adopt(folder, config.outlived)).unwrap_or_default();
        Ok(Self {
            config,
            signals,
            timer,
            since_ms: clock::wall_ms(),
            base,
            open_files,
            strangers,
            node: Node::new(clock::now()),
            edge: Edge::new(),
            held,
            processes,
            retired: HashSet::new(),
            ending: Ending::No,
            stop: None,
            manager,
            sweep_at: None,
        })
    }

    fn serve(mut self) -> io::Result<End> {
        loop {
            let now = clock::now();
            self.do_what_is_due(now);
            // After what is due: a sweep that finds nothing may be all that the end was waiting for.
            if let Some(code) = self.advance_ending(now) {
                let stop = self.stop.map(|(at, stop)| Stop { took: now.since(at), ..stop });
                return Ok(End { code, stop });
            }
            self.tell_manager(now);
            self.wait_and_handle()?;
        }
    }

    fn do_what_is_due(&mut self, now: Moment) {
        self.start_edge_if_due(now);
        self.start_node_if_due(now);
        self.look_after_node(now);
        self.kill_processes_if_due(now);
        self.sweep_if_due(now);
        self.end_broken_peers();
    }

    /// The earliest moment at which something is due.
    fn next_deadline(&self) -> Option<Moment> {
        let processes = self.processes.values().filter_map(Process::due_at);
        let others =
            [self.node.due_at(), self.edge.due_at(), self.ending.due_at(), self.sweep_at, self.manager.due_at()];
        processes.chain(others.into_iter().flatten()).min()
    }

    /// Forgets a process, but not that its stub, if it still lives, is one of ours.
    fn remove_process(&mut self, key: &Key) {
        let Some(mut process) = self.processes.remove(key) else { return };
        process.forget();
        let stub = process.stub;
        // One that was adopted is no child, so that nobody will reap it.
        if let Some(stub) = stub.filter(|stub| stub.pidfd.is_none()) {
            self.retired.insert(stub.pid);
        }
    }

    fn end_broken_peers(&mut self) {
        if let Some(child) = self.node.child.as_ref().filter(|child| child.peer.lost()) {
            child.kill();
        }
        if let Some(child) = self.edge.child.as_ref().filter(|child| child.peer.lost()) {
            child.kill();
        }
    }
}
