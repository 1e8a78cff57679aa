//! The stub: the process between the guard and one instance.
//!
//! It is a subreaper (prctl(2)), so no descendant of its process can leave it, whatever sessions they make. It gets
//! what to run over its channel, never on its command line; starts it; reports its exit once everything it had
//! started is gone as well; and ends, once it is told that nobody need know any more how. It speaks the same messages
//! as the node process: `Outlive`, `Spawn`, `Stop`, `Kill` and `Forget` come in; `Started` (a pidfd attached),
//! `NotStarted` and `Exited` go out. The deadline of a stop is kept here as well as by the guard.
//!
//! It ignores the signals by which people stop programs while it has a guard: only that decides. When the guard is
//! gone, a stub that was told to outlive it waits for the next one (see `afterlife`), and meanwhile obeys SIGTERM.
//! Any other stops its process and ends, so that nothing is left behind and ports are free for the next start. So
//! does one that can never be found again, and one whose next guard speaks another version.

mod afterlife;
mod launch;
mod reap;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use evenkeel_core::{
    guard::{Key, Notice, Order, ProcessSpec, wire::Message},
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
pub(crate) use afterlife::socket_name;
use afterlife::{Afterlife, LOOK_EVERY};
use reap::Reaper;
pub(crate) use reap::exit_status;

/// How long a process has after SIGTERM when there is no guard to say so.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How long the exit status of a process is kept for a guard that may come.
const STATUS_KEPT: Duration = Duration::from_hours(1);

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
    // Where its guard died in between, the next one may have looked for us before we could be found: nothing is started.
    let Some(first) = first_order(&channel).filter(|_| !has_hung_up(&channel)) else {
        return 1;
    };
    let group = Base::discover().group(std::process::id()).create(first.spec.memory_bytes);
    let main = match launch::launch(&first.spec, first.output, &group) {
        Ok(main) => main,
        Err(reason) => {
            group.remove();
            say(&channel, &Notice::NotStarted { key: first.key, reason }, None);
            return 0;
        }
    };
    let mut stub = Stub {
        channel: Some(channel),
        signals,
        key: first.key,
        pid: main.as_raw_pid().cast_unsigned(),
        started_ms: clock::wall_ms(),
        pidfd: pidfd_open(main, PidfdFlags::empty()).ok(),
        memory_bytes: first.spec.memory_bytes,
        group,
        afterlife: first.afterlife,
        kill_at: None,
        exit: None,
    };
    stub.say_started();
    stub.serve(Reaper::new(main));
    0
}

/// What the guard says before there is a process.
struct First {
    key: Key,
    spec: ProcessSpec,
    output: OwnedFd,
    afterlife: Option<Afterlife>,
}

/// Waits for the order to spawn.
fn first_order(channel: &OwnedFd) -> Option<First> {
    let mut afterlife = None;
    loop {
        wait(&[channel.as_fd()], None);
        match channel::receive::<Order>(channel) {
            // Where it cannot listen it ends with its guard, which is worse than living on and better than not to start.
            Ok(Received::Message(Order::Outlive { folder }, Some(output))) => {
                afterlife = Afterlife::new(Path::new(&folder), output).ok();
            }
            Ok(Received::Message(Order::Spawn { key, spec }, Some(output))) => {
                return Some(First { key, spec, output, afterlife });
            }
            Ok(Received::Empty) => {}
            _ => return None,
        }
    }
}

/// A stub whose process was started.
struct Stub {
    /// `None` while there is no guard.
    channel: Option<OwnedFd>,
    signals: Signals,
    key: Key,
    pid: u32,
    started_ms: u64,
    pidfd: Option<OwnedFd>,
    memory_bytes: Option<u64>,
    group: Group,
    afterlife: Option<Afterlife>,
    kill_at: Option<Moment>,
    /// How the process ended, once nothing of it is left.
    exit: Option<ExitStatus>,
}

impl Stub {
    /// Until the process has ended and somebody knows it.
    fn serve(&mut self, mut reaper: Reaper) {
        loop {
            self.take_signals(&reaper);
            reaper.reap();
            if reaper.main_ended() || self.kill_at.is_some_and(|at| at <= clock::now()) {
                break;
            }
            self.wait_and_obey(&reaper);
        }
        let (status, leftovers) = reaper.finish(&self.signals, &self.group);
        self.exit = Some(status);
        if !self.tell(&Notice::Exited { key: self.key.clone(), status, leftovers }, None) {
            self.channel = None;
        }
        while self.afterlife.is_some() {
            let told = if self.channel.is_some() { self.await_forget() } else { self.keep_status() };
            if told {
                return;
            }
        }
    }

    /// The guard was told, but may die before anybody has acted on it. Whether it says that nobody need know any more;
    /// false where it is gone.
    fn await_forget(&mut self) -> bool {
        while let Some(channel) = &self.channel {
            wait(&[self.signals.as_fd(), channel.as_fd()], None);
            while self.signals.next().is_some() {}
            match channel::receive::<Order>(channel) {
                Ok(Received::Message(Order::Forget { .. }, _)) => return true,
                Ok(Received::Message(..) | Received::Empty) => {}
                Ok(Received::Closed | Received::Malformed(_)) | Err(_) => self.channel = None,
            }
        }
        false
    }

    /// There is no guard to tell: the next one is told. True where nobody can be any more; false once one was.
    fn keep_status(&mut self) -> bool {
        self.let_next_guard_start();
        let until = clock::now() + STATUS_KEPT;
        while self.channel.is_none() {
            let Some(afterlife) = &mut self.afterlife else { return true };
            if clock::now() >= until || !afterlife.is_reachable() {
                return true;
            }
            wait(&[self.signals.as_fd(), afterlife.source().as_fd()], Some(Duration::from_secs(1)));
            while let Some(signal) = self.signals.next() {
                if signal == Signal::TERM {
                    return true;
                }
            }
            if self.answer_visitor() == Visit::Foreign {
                return true;
            }
        }
        false
    }

    fn take_signals(&mut self, reaper: &Reaper) {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::TERM && self.channel.is_none() {
                self.stop_by_itself(reaper);
            }
        }
    }

    fn wait_and_obey(&mut self, reaper: &Reaper) {
        let timeout = self.kill_at.map(|at| at.since(clock::now()));
        let signals = self.signals.as_fd();
        if let Some(channel) = &self.channel {
            wait(&[signals, channel.as_fd()], timeout);
            self.obey(reaper);
        } else if let Some(afterlife) = &mut self.afterlife {
            let timeout = timeout.map_or(LOOK_EVERY, |timeout| timeout.min(LOOK_EVERY));
            wait(&[signals, afterlife.source().as_fd()], Some(timeout));
            afterlife.make_room();
            if !afterlife.is_reachable() || self.answer_visitor() == Visit::Foreign {
                self.stop_by_itself(reaper);
            }
        } else {
            wait(&[signals], timeout);
        }
    }

    fn obey(&mut self, reaper: &Reaper) {
        let Some(channel) = &self.channel else { return };
        match channel::receive::<Order>(channel) {
            Ok(Received::Message(Order::Kill { .. }, _)) => self.kill_at = Some(clock::now()),
            Ok(Received::Message(Order::Stop { signal, grace_ms, .. }, _)) => {
                self.kill_at = Some(clock::now() + Duration::from_millis(grace_ms));
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // A number that is not reaped yet is still its own.
                    let _ = kill_process(reaper.main(), signal);
                }
            }
            Ok(Received::Message(..) | Received::Empty) => {}
            Ok(Received::Closed | Received::Malformed(_)) | Err(_) => {
                self.channel = None;
                match &mut self.afterlife {
                    Some(afterlife) => {
                        afterlife.begin();
                        self.let_next_guard_start();
                    }
                    None => self.stop_by_itself(reaper),
                }
            }
        }
    }

    /// Where control groups would keep the service manager from starting another guard. One that has come already has
    /// handed memory down anew.
    fn let_next_guard_start(&self) {
        if self.afterlife.as_ref().is_some_and(|afterlife| !afterlife.is_visited()) {
            self.group.take_memory_back();
        }
    }

    /// Without a guard: SIGTERM, and a kill after a while, unless an earlier one was ordered.
    fn stop_by_itself(&mut self, reaper: &Reaper) {
        let latest = clock::now() + ORPHAN_GRACE;
        self.kill_at = Some(self.kill_at.map_or(latest, |at| at.min(latest)));
        self.afterlife = None;
        let _ = kill_process(reaper.main(), Signal::TERM);
    }

    /// Looks whether a guard has come, and tells it everything.
    fn answer_visitor(&mut self) -> Visit {
        let Some(afterlife) = &mut self.afterlife else { return Visit::None };
        let Some(visitor) = afterlife.visitor() else { return Visit::None };
        let outlive = match channel::receive::<Order>(visitor) {
            Ok(Received::Message(Order::Adopt { outlive }, _)) => outlive,
            Ok(Received::Empty) => return Visit::None,
            Ok(Received::Malformed(_) | Received::Message(..)) => {
                afterlife.take_visitor();
                return Visit::Foreign;
            }
            Ok(Received::Closed) | Err(_) => {
                afterlife.take_visitor();
                return Visit::None;
            }
        };
        let Some(channel) = afterlife.take_visitor() else { return Visit::None };
        let kill_in_ms = self.kill_at.map(|at| u64::try_from(at.since(clock::now()).as_millis()).unwrap_or(u64::MAX));
        let key = self.key.clone();
        let dropped_bytes = afterlife.dropped_bytes();
        say(&channel, &Notice::Adopted { key: key.clone(), dropped_bytes, kill_in_ms }, None);
        let process = Notice::Process { key, pid: self.pid, started_ms: self.started_ms, exit: self.exit };
        say(&channel, &process, Some(afterlife.output().as_fd()));
        afterlife.end();
        if !outlive {
            self.afterlife = None;
        }
        self.channel = Some(channel);
        if self.exit.is_none() {
            self.say_started();
            // Its group had no bound while nobody handed memory down.
            self.group.bound_memory(self.memory_bytes);
        }
        self.tell(&Notice::Complete, None);
        Visit::Guard
    }

    fn say_started(&self) {
        let notice = Notice::Started { key: self.key.clone(), pid: self.pid, started_ms: self.started_ms };
        self.tell(&notice, self.pidfd.as_ref().map(AsFd::as_fd));
    }

    /// Whether there is a guard to tell.
    fn tell(&self, notice: &Notice, descriptor: Option<BorrowedFd<'_>>) -> bool {
        self.channel.as_ref().is_some_and(|channel| say(channel, notice, descriptor))
    }
}

/// Who came while there was no guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    None,
    Guard,
    /// A guard of another version: it can neither be obeyed nor told anything.
    Foreign,
}

/// Waits until one of these is readable, or for that long.
fn wait(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) {
    let mut descriptors: Vec<_> =
        descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let _ = poll(&mut descriptors, timeout.as_ref());
}

/// Whether the other end of a channel is closed (poll(2)).
fn has_hung_up(channel: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(channel, PollFlags::empty())];
    let looked = poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    looked.is_ok() && ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Tells the guard; false where it is gone.
fn say(channel: &OwnedFd, notice: &Notice, descriptor: Option<BorrowedFd<'_>>) -> bool {
    notice.encode().is_ok_and(|packet| channel::send(channel, &packet, descriptor).is_ok())
}
