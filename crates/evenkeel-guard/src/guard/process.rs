//! One process that was ordered: from its stub's start to its exit, and the deadline by which it is killed.
//!
//! Three ways lead to a process, and a kill takes all: its cgroup, its pidfd, and its stub, which is woken should
//! somebody have stopped it. Where the stub itself is gone, its process became a child of the guard.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use evenkeel_core::{
    guard::{Key, Notice, Order, ProcessSpec},
    status::ExitStatus,
    time::Moment,
};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, Rlimit, Signal, kill_process, pidfd_send_signal},
};

use super::{Child, Guard, peer::Peer};
use crate::{
    channel,
    launch::{Shape, launch},
    os::{cgroup::Group, clock, proctree},
};

/// How much output may wait for a node process that is being restarted.
const PIPE_BYTES: usize = 256 * 1024;

/// How long after a kill it is tried again.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// A process by its key.
pub(super) struct Process {
    /// The read end of its output.
    pub(super) output: Rc<OwnedFd>,
    /// `None` once the stub ended.
    pub(super) stub: Option<Child>,
    pub(super) state: State,
    /// Its cgroup, if there is one.
    pub(super) group: Group,
    /// How its main process ended, where the guard reaped it itself.
    pub(super) last_status: Option<ExitStatus>,
    /// A signal that came before the process did.
    pending: Option<Signal>,
    kill_at: Option<Moment>,
    killed: bool,
}

/// How far it is.
pub(super) enum State {
    /// Its stub is starting it.
    Starting,
    /// It runs, or ended so lately that nobody said so.
    Running { pid: u32, started_ms: u64, pidfd: Option<OwnedFd> },
    /// It ended, and so did all that it started.
    Exited { pid: u32, started_ms: u64, status: ExitStatus },
}

impl Process {
    /// Starts its stub, which is told what to run.
    pub(super) fn start(guard: &Guard, key: &Key, spec: ProcessSpec) -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only the reader does not wait; the flag belongs to this end alone.
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        let _ = fcntl_setpipe_size(&output, PIPE_BYTES);
        let stub = start_stub(&guard.config.stub, guard.open_files)?;
        let number = stub.pid.as_raw_pid().cast_unsigned();
        let mut process = Self {
            output: Rc::new(output),
            group: guard.base.group(number),
            stub: Some(stub),
            state: State::Starting,
            last_status: None,
            pending: None,
            kill_at: None,
            killed: false,
        };
        process.tell_stub(&Order::Spawn { key: key.clone(), spec }, Some(Rc::new(input)));
        if let Some(stub) = process.stub.as_ref().filter(|stub| stub.peer.broken()) {
            // Where the system's bound on socket buffers is below the largest packet.
            stub.kill();
            return Err(io::Error::other("its command and environment are too large for the system's socket buffers"));
        }
        Ok(process)
    }

    pub(super) const fn is_live(&self) -> bool {
        !matches!(self.state, State::Exited { .. })
    }

    /// Nothing of it runs any more.
    pub(super) const fn is_over(&self) -> bool {
        !self.is_live() && self.stub.is_none()
    }

    /// It lives, but its stub does not.
    pub(super) const fn is_orphaned(&self) -> bool {
        self.is_live() && self.stub.is_none()
    }

    /// The number of its main process.
    pub(super) const fn main(&self) -> Option<u32> {
        match self.state {
            State::Starting => None,
            State::Running { pid, .. } | State::Exited { pid, .. } => Some(pid),
        }
    }

    pub(super) fn due_at(&self) -> Option<Moment> {
        self.kill_at.filter(|_| self.is_live())
    }

    /// What a new node process is told of it; nothing while it is being started.
    pub(super) fn inventory(&self, key: &Key) -> Option<Notice> {
        let key = key.clone();
        match self.state {
            State::Starting => None,
            State::Running { pid, started_ms, .. } => Some(Notice::Process { key, pid, started_ms, exit: None }),
            State::Exited { pid, started_ms, status } => {
                Some(Notice::Process { key, pid, started_ms, exit: Some(status) })
            }
        }
    }

    pub(super) fn started(&mut self, pid: u32, started_ms: u64, pidfd: Option<OwnedFd>) {
        self.state = State::Running { pid, started_ms, pidfd };
        if let Some(signal) = self.pending.take() {
            self.signal(signal);
        }
    }

    pub(super) fn exited(&mut self, status: ExitStatus) {
        if let State::Running { pid, started_ms, .. } = self.state {
            self.state = State::Exited { pid, started_ms, status };
        }
    }

    /// Sends a signal now, and a kill at `kill_at` unless another order comes before.
    pub(super) fn stop(&mut self, signal: Signal, kill_at: Moment) {
        if self.is_live() {
            self.signal(signal);
            if !self.killed {
                self.kill_at = Some(kill_at);
            }
        }
    }

    /// Kills it and all of its descendants. Until it is over this is repeated.
    pub(super) fn kill(&mut self, now: Moment) {
        if !self.is_live() {
            return;
        }
        let again = std::mem::replace(&mut self.killed, true);
        self.kill_at = Some(now + KILL_AGAIN);
        self.group.kill();
        self.signal(Signal::KILL);
        if !again {
            self.tell_stub(&Order::Kill { key: Key::new() }, None);
        }
        let Some(stub) = &self.stub else { return };
        // Somebody may have stopped the stub; then it would not see our order.
        let _ = kill_process(stub.pid, Signal::CONT);
        if again {
            let number = stub.pid.as_raw_pid();
            let rest = proctree::descendants(&proctree::scan(), |entry| entry.pid == number);
            proctree::kill(&rest, Some(stub.pid));
        }
    }

    fn signal(&mut self, signal: Signal) {
        match &self.state {
            State::Starting => self.pending = Some(signal),
            State::Running { pidfd: Some(pidfd), .. } => _ = pidfd_send_signal(pidfd.as_fd(), signal),
            // The guard had no descriptor left to receive one; the stub can do it as well.
            State::Running { pidfd: None, .. } => {
                self.tell_stub(&Order::Stop { key: Key::new(), signal: signal.as_raw(), grace_ms: 0 }, None);
            }
            State::Exited { .. } => {}
        }
    }

    fn tell_stub(&mut self, order: &Order, descriptor: Option<Rc<OwnedFd>>) {
        if let Some(stub) = &mut self.stub {
            stub.peer.tell(order, descriptor);
        }
    }
}

impl Guard {
    pub(super) fn kill_processes_if_due(&mut self, now: Moment) {
        for process in self.processes.values_mut().filter(|process| process.due_at().is_some_and(|at| at <= now)) {
            process.kill(now);
        }
    }
}

fn start_stub(argv: &[std::ffi::OsString], open_files: Rlimit) -> io::Result<Child> {
    let (ours, theirs) = channel::pair()?;
    let shape = Shape { dies_with_us: false, confined: false, user: None, bare: true, open_files };
    let pid: Pid = launch(argv, theirs, shape)?;
    Ok(Child { pid, peer: Peer::new(ours), since: clock::now() })
}
