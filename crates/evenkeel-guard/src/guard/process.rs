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
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, Rlimit, Signal, pidfd_send_signal},
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
    forgotten: bool,
    /// Bytes of output that were dropped before it was adopted; `None` where it was not.
    adopted: Option<u64>,
}

/// What is known of one that was adopted beside its state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adopted {
    /// Bytes of output that nobody read.
    pub(super) dropped_bytes: u64,
    /// Where a former guard was about to kill it.
    pub(super) kill_at: Option<Moment>,
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
            forgotten: false,
            adopted: None,
        };
        if let Some(folder) = guard.config.stubs.as_ref().filter(|_| guard.config.outlived) {
            let folder = folder.to_string_lossy().into_owned();
            process.tell_stub(&Order::Outlive { folder }, Some(Rc::clone(&process.output)));
        }
        process.tell_stub(&Order::Spawn { key: key.clone(), spec }, Some(Rc::new(input)));
        if let Some(stub) = process.stub.as_ref().filter(|stub| stub.peer.broken()) {
            // Where the system's bound on socket buffers is below the largest packet.
            stub.kill();
            return Err(io::Error::other("its command and environment are too large for the system's socket buffers"));
        }
        Ok(process)
    }

    /// One that outlived the guard that started it.
    pub(super) fn of_stub(stub: Child, group: Group, output: OwnedFd, state: State, adopted: Adopted) -> Self {
        Self {
            output: Rc::new(output),
            stub: Some(stub),
            state,
            group,
            last_status: None,
            pending: None,
            kill_at: adopted.kill_at,
            killed: false,
            forgotten: false,
            adopted: Some(adopted.dropped_bytes),
        }
    }

    /// What a new node process is told before the inventory's entry of one that was adopted.
    pub(super) fn adopted(&self, key: &Key) -> Option<Notice> {
        let dropped_bytes = self.adopted?;
        Some(Notice::Adopted { key: key.clone(), dropped_bytes, kill_in_ms: None })
    }

    /// Whether its main process is certainly gone, where its pidfd can tell.
    pub(super) fn main_is_gone(&self) -> bool {
        match &self.state {
            State::Running { pidfd: Some(pidfd), .. } => has_ended(pidfd),
            _ => true,
        }
    }

    /// Its stub is gone, and was no child of ours: what it left has become nobody's.
    pub(super) fn kill_what_an_adopted_stub_left(&self) {
        self.group.kill();
        if let Some(main) = self.main() {
            let main = main.cast_signed();
            proctree::kill(&proctree::descendants(&proctree::scan(), |entry| entry.pid == main), None);
        }
        if let State::Running { pidfd: Some(pidfd), .. } = &self.state {
            let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
        }
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
        if let Some(signal) = self.pending.take()
            && !self.signal(signal)
        {
            let left = self.kill_at.map_or(Duration::ZERO, |at| at.since(clock::now()));
            let grace_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            self.tell_stub(&Order::Stop { key: Key::new(), signal: signal.as_raw(), grace_ms }, None);
        }
    }

    pub(super) fn exited(&mut self, status: ExitStatus) {
        if let State::Running { pid, started_ms, .. } = self.state {
            self.state = State::Exited { pid, started_ms, status };
        }
    }

    /// Sends a signal now, and a kill after `grace` unless another order comes before. The stub keeps the deadline
    /// too: it may outlive us.
    pub(super) fn stop(&mut self, signal: Signal, grace: Duration, now: Moment) {
        if !self.is_live() {
            return;
        }
        if !self.killed {
            self.kill_at = Some(now + grace);
        }
        let by_stub = !self.signal(signal);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let signal = if by_stub { signal.as_raw() } else { 0 };
        self.tell_stub(&Order::Stop { key: Key::new(), signal, grace_ms }, None);
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
        stub.signal(Signal::CONT);
        if again {
            let number = stub.pid.as_raw_pid();
            let rest = proctree::descendants(&proctree::scan(), |entry| entry.pid == number);
            proctree::kill(&rest, Some(stub.pid));
        }
    }

    /// Nobody need know any more how it ended: its stub keeps that no longer.
    pub(super) fn forget(&mut self) {
        if !self.is_live() && !std::mem::replace(&mut self.forgotten, true) {
            self.tell_stub(&Order::Forget { key: Key::new() }, None);
        }
    }

    /// Whether that is done or will be; false where only the stub can do it, since the guard had no descriptor left to
    /// receive a pidfd.
    fn signal(&mut self, signal: Signal) -> bool {
        match &self.state {
            State::Starting => self.pending = Some(signal),
            State::Running { pidfd: Some(pidfd), .. } => _ = pidfd_send_signal(pidfd.as_fd(), signal),
            State::Running { pidfd: None, .. } => return false,
            State::Exited { .. } => {}
        }
        true
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

/// Whether the process of a pidfd has ended: then it is readable (`pidfd_open(2)`).
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
}

fn start_stub(argv: &[std::ffi::OsString], open_files: Rlimit) -> io::Result<Child> {
    let (ours, theirs) = channel::pair()?;
    let shape = Shape { dies_with_us: false, confined: false, user: None, bare: true, open_files };
    let pid: Pid = launch(argv, theirs, shape)?;
    Ok(Child { pid, peer: Peer::new(ours), since: clock::now(), pidfd: None })
}
