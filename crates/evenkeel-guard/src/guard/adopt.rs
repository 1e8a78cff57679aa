//! Processes that outlived a former guard: found by the sockets of their stubs, and taken over before the node
//! process is started, which then is told of them as of any others.
//!
//! Whoever starts us holds the lock of the state directory, so no other guard asks the same stubs. A stub is believed
//! if the kernel says that the process at the other end of the connection is ours (`SO_PEERCRED`, unix(7)) and has
//! the number in the socket's name; it is then named by a pidfd, as its number may be used again once it ends. Its
//! process is named by the pidfd that it sends, and must be its child. The wait for all of them together is bounded:
//! a stub that does not answer is killed with what it runs.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::Path,
    time::Duration,
};

use evenkeel_core::{
    guard::{Key, Notice, Order, wire::Malformed},
    time::Moment,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::{set_socket_send_buffer_size, socket_peercred},
    },
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open},
};

use super::{
    Child,
    orders::KEY_BYTES,
    peer::Peer,
    process::{Adopted, Process, State, has_ended},
};
use crate::{
    channel::{self, Received},
    os::{cgroup::Base, clock, log, proctree},
    stub::socket_name,
};

/// How long all stubs together may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one wait for them lasts at most.
const TURN: Duration = Duration::from_millis(100);

/// A stub that was asked, and what it has said so far.
struct Asked {
    stub: Child,
    adopted: Option<(Key, Adopted)>,
    process: Option<(State, OwnedFd)>,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Speaking,
    Complete,
    Gone,
}

/// Takes over whatever is found below `folder`, which is made where it is missing.
pub(super) fn adopt(folder: &Path, outlive: bool) -> BTreeMap<Key, Process> {
    let _ = fs::DirBuilder::new().mode(0o700).create(folder);
    let mut asked: Vec<Asked> = Vec::new();
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names {
        let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".sock")?.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(pid) = Pid::from_raw(number) {
            asked.extend(ask(folder, pid, outlive));
        }
    }
    let mut left = PATIENCE;
    while asked.iter().any(|asked| asked.standing == Standing::Speaking) && !left.is_zero() {
        let begun = clock::now();
        listen(&mut asked, left.min(TURN));
        left = left_after(left, clock::now().since(begun));
    }
    let mut processes = BTreeMap::new();
    for asked in asked {
        let pid = asked.stub.pid;
        match asked.into_process() {
            Ok((key, process)) if !processes.contains_key(&key) => _ = processes.insert(key, process),
            Ok((key, process)) => {
                log::line(format_args!("two stubs have a process `{key}`; killing the second"));
                kill(process.stub.as_ref());
            }
            Err(Some(stub)) => {
                log::line(format_args!("stub {pid} does not answer as it should; killing it and what it runs"));
                kill(Some(&stub));
            }
            Err(None) => {}
        }
    }
    processes
}

/// What is left of our patience after a turn. Where the whole machine paused, as one that is short of memory or is being
/// moved, the stubs had no more time than the turn was to last.
fn left_after(left: Duration, took: Duration) -> Duration {
    left.saturating_sub(took.min(TURN))
}

/// Connects to a stub and asks it for everything.
fn ask(folder: &Path, pid: Pid, outlive: bool) -> Option<Asked> {
    let path = folder.join(socket_name(pid.as_raw_pid().cast_unsigned()));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    let connected = SocketAddrUnix::new(&path).and_then(|address| connect(&socket, &address));
    if let Err(errno) = connected {
        if errno == Errno::CONNREFUSED {
            // Its stub was killed, and its process with it; what that had started may still be in the group, unless
            // its number, after which that is named, belongs to somebody else by now.
            if proctree::parent(pid.as_raw_pid()).is_none() {
                Base::discover().group(pid.as_raw_pid().cast_unsigned()).kill();
            }
            let _ = fs::remove_file(&path);
        } else {
            log::line(format_args!("the stub at {} cannot be reached: {errno}", path.display()));
        }
        return None;
    }
    let peer = socket_peercred(&socket).ok()?;
    if peer.uid != geteuid() || peer.pid != pid {
        log::line(format_args!("{} is not the socket of a stub of ours; leaving it alone", path.display()));
        return None;
    }
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let _ = set_socket_send_buffer_size(&socket, 2 * evenkeel_core::guard::MAX_PACKET_BYTES);
    let mut stub = Child { pid, peer: Peer::new(socket), since: clock::now(), pidfd: Some(pidfd) };
    // Somebody may have stopped it.
    stub.signal(Signal::CONT);
    stub.peer.tell(&Order::Adopt { outlive }, None);
    Some(Asked { stub, adopted: None, process: None, standing: Standing::Speaking })
}

fn listen(asked: &mut [Asked], at_most: Duration) {
    let mut speaking: Vec<&mut Asked> = asked.iter_mut().filter(|asked| asked.standing == Standing::Speaking).collect();
    let mut descriptors: Vec<PollFd<'_>> =
        speaking.iter().map(|asked| PollFd::from_borrowed_fd(asked.stub.peer.as_fd(), PollFlags::IN)).collect();
    let timeout = Timespec::try_from(at_most).ok();
    let _ = poll(&mut descriptors, timeout.as_ref());
    drop(descriptors);
    for asked in &mut speaking {
        asked.hear();
    }
}

/// Kills a stub and everything below it.
fn kill(stub: Option<&Child>) {
    let Some(stub) = stub else { return };
    let number = stub.pid.as_raw_pid();
    let rest = proctree::descendants(&proctree::scan(), |entry| entry.pid == number);
    Base::of_stub(number.cast_unsigned()).group(number.cast_unsigned()).kill();
    proctree::kill(&rest, None);
    stub.kill();
}

impl Asked {
    fn hear(&mut self) {
        while self.standing == Standing::Speaking {
            match channel::receive::<Notice>(&self.stub.peer) {
                Ok(Received::Message(notice, descriptor)) => self.heard(notice, descriptor),
                Ok(Received::Empty) => return,
                Ok(Received::Malformed(Malformed::Version { got })) => {
                    let pid = self.stub.pid;
                    log::line(format_args!("stub {pid} is of version {got}: it stops what it runs by itself"));
                    self.standing = Standing::Gone;
                }
                // One that has ended has nothing to tell; one of another version hangs up when it hears ours.
                Ok(Received::Closed) => {
                    let pid = self.stub.pid;
                    log::line(format_args!("stub {pid} hung up: what it runs ends, or is stopped by it"));
                    self.standing = Standing::Gone;
                }
                Ok(Received::Malformed(_)) | Err(_) => return self.standing = Standing::Complete,
            }
        }
    }

    fn heard(&mut self, notice: Notice, descriptor: Option<OwnedFd>) {
        match notice {
            Notice::Adopted { key, dropped_bytes, kill_in_ms } => {
                let in_time = |ms| -> Moment { clock::now() + Duration::from_millis(ms) };
                self.adopted = Some((key, Adopted { dropped_bytes, kill_at: kill_in_ms.map(in_time) }));
            }
            Notice::Process { pid, started_ms, exit, .. } => {
                let state = match exit {
                    Some(status) => State::Exited { pid, started_ms, status },
                    None => State::Running { pid, started_ms, pidfd: None },
                };
                self.process = descriptor.map(|output| (state, output));
            }
            Notice::Started { .. } => {
                if let Some((State::Running { pidfd, .. }, _)) = &mut self.process {
                    *pidfd = descriptor;
                }
            }
            Notice::Complete => self.standing = Standing::Complete,
            _ => {}
        }
    }

    /// What it has become, or the stub to be killed, or nothing where it is gone.
    fn into_process(self) -> Result<(Key, Process), Option<Child>> {
        let Self { stub, adopted, process, standing } = self;
        if standing == Standing::Gone {
            return Err(None);
        }
        let (Standing::Complete, Some((key, adopted)), Some((state, output))) = (standing, adopted, process) else {
            return Err(Some(stub));
        };
        let credible = match &state {
            // One that ends just now is no child any more, but its stub is about to say so.
            State::Running { pid, pidfd: Some(pidfd), .. } => {
                let parent = proctree::parent(pid.cast_signed());
                parent == Some(stub.pid.as_raw_pid()) || has_ended(pidfd)
            }
            State::Running { pidfd: None, .. } | State::Starting => false,
            State::Exited { .. } => true,
        };
        if !credible || key.is_empty() || key.len() > KEY_BYTES {
            return Err(Some(stub));
        }
        let number = stub.pid.as_raw_pid().cast_unsigned();
        let group = Base::of_stub(number).group(number);
        Ok((key, Process::of_stub(stub, group, output, state, adopted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_machine_is_no_silence_of_stubs() {
        let minute = Duration::from_mins(1);
        assert!((0..20).fold(PATIENCE, |left, _| left_after(left, minute)) > Duration::ZERO);
        assert_eq!((0..30).fold(PATIENCE, |left, _| left_after(left, TURN)), Duration::ZERO);
    }
}
