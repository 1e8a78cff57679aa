//! The stub: the process between the guard and one instance.
//!
//! It is a subreaper (prctl(2)), so no descendant of its process can leave it, whatever sessions they make. It gets
//! what to run over its channel, never on its command line; starts it; reports its exit once everything it had
//! started is gone as well; and ends. It speaks the same messages as the node process: `Spawn`, `Kill` and, where the guard has no pidfd, `Stop` come in;
//! `Started` (a pidfd attached), `NotStarted` and `Exited` go out.
//!
//! It ignores the signals by which people stop programs: only the guard decides. When the guard is gone, it stops
//! its process and ends, so that nothing is left behind and ports are free for the next start.

mod launch;
mod reap;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use evenkeel_core::{
    guard::{Notice, Order, wire::Message},
    status::ExitStatus,
    time::Moment,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::{
    channel::{self, Received},
    os::{
        cgroup::{Base, Group},
        clock, setup,
        signals::Signals,
    },
};
use reap::Reaper;
pub(crate) use reap::exit_status;

/// How long a process has after SIGTERM when the guard is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// Is a stub. The guard starts it; the result is its exit code: 0 when it did its duty, 1 when it could not.
pub fn stub() -> u8 {
    let Some(channel) = channel::inherited() else { return 1 };
    let signals = [Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
    let Ok(signals) = Signals::block(&signals) else {
        return 1;
    };
    if setup::become_subreaper().is_err() {
        return 1;
    }
    let Some((key, spec, output)) = first_order(&channel) else {
        return 1;
    };
    let group = Base::discover().group(std::process::id()).create(spec.memory_bytes);
    let main = match launch::launch(&spec, output, &group) {
        Ok(main) => main,
        Err(reason) => {
            group.remove();
            say(&channel, &Notice::NotStarted { key, reason }, None);
            return 0;
        }
    };
    let started_ms = clock::wall_ms();
    let pidfd = pidfd_open(main, PidfdFlags::empty()).ok();
    say(
        &channel,
        &Notice::Started { key: key.clone(), pid: main.as_raw_pid().cast_unsigned(), started_ms },
        pidfd.as_ref().map(AsFd::as_fd),
    );
    let (status, leftovers) = watch(&channel, &signals, Reaper::new(main), &group);
    say(&channel, &Notice::Exited { key, status, leftovers }, None);
    0
}

/// Waits for the order to spawn.
fn first_order(channel: &OwnedFd) -> Option<(String, evenkeel_core::guard::ProcessSpec, OwnedFd)> {
    wait(&[channel.as_fd()], None);
    match channel::receive::<Order>(channel) {
        Ok(Received::Message(Order::Spawn { key, spec }, Some(output))) => Some((key, spec, output)),
        _ => None,
    }
}

/// Waits until the process ended or is to be killed, then kills whatever is left of it.
fn watch(channel: &OwnedFd, signals: &Signals, mut reaper: Reaper, group: &Group) -> (ExitStatus, u32) {
    let mut guard_lives = true;
    let mut kill_at: Option<Moment> = None;
    loop {
        while signals.next().is_some() {}
        reaper.reap();
        if reaper.main_ended() || kill_at.is_some_and(|at| at <= clock::now()) {
            return reaper.finish(signals, group);
        }
        let timeout = kill_at.map(|at| at.since(clock::now()));
        if guard_lives {
            wait(&[signals.as_fd(), channel.as_fd()], timeout);
        } else {
            wait(&[signals.as_fd()], timeout);
        }
        if guard_lives {
            match channel::receive::<Order>(channel) {
                Ok(Received::Message(Order::Kill { .. }, _)) => kill_at = Some(clock::now()),
                Ok(Received::Message(Order::Stop { signal, .. }, _)) => {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        // A number that is not reaped yet is still its own.
                        let _ = kill_process(reaper.main(), signal);
                    }
                }
                Ok(Received::Message(..) | Received::Empty) => {}
                Ok(Received::Closed | Received::Malformed(_)) | Err(_) => {
                    guard_lives = false;
                    kill_at = Some(clock::now() + ORPHAN_GRACE);
                    let _ = kill_process(reaper.main(), Signal::TERM);
                }
            }
        }
    }
}

/// Waits until one of these is readable, or for that long.
fn wait(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) {
    let mut descriptors: Vec<_> =
        descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let _ = poll(&mut descriptors, timeout.as_ref());
}

/// Tells the guard. Where it is gone, nobody needs to know.
fn say(channel: &OwnedFd, notice: &Notice, descriptor: Option<BorrowedFd<'_>>) {
    if let Ok(packet) = notice.encode() {
        let _ = channel::send(channel, &packet, descriptor);
    }
}
