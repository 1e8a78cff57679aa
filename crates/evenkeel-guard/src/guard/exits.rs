//! Who ended, and what it left behind.
//!
//! Children are reaped here and nowhere else. A stub says itself how its process ended; where it was killed before
//! it could, its process and all descendants have become children of the guard, which kills them and says so once
//! none is left. The same sweep takes what a dead node process had started on its own, but for drills.

use std::{collections::HashSet, path::Path, time::Duration};

use evenkeel_core::{
    guard::{Key, Notice},
    status::ExitStatus,
    time::Moment,
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, wait},
};

use super::{
    Child, Guard,
    process::{State, has_ended},
};
use crate::{
    channel::{self, Received},
    os::{
        clock, log,
        proctree::{self, Entry},
        rehearsal,
    },
    stub::exit_status,
};

/// How many orders of a node process that ended are still taken; more than its socket holds.
const LAST_ORDERS: u32 = 4096;

/// How long until a sweep is repeated that found something.
const SWEEP_AGAIN: Duration = Duration::from_millis(20);

impl Guard {
    /// Takes every child that has ended (wait(2)).
    pub(super) fn reap(&mut self) {
        let mut ended = Vec::new();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => ended.push((pid, exit_status(status))),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // The edge is started again before anything else is looked at: it is what clients wait for.
        let edge = self.edge.child.as_ref().map(|child| child.pid);
        ended.sort_by_key(|(pid, _)| Some(*pid) != edge);
        for &(pid, status) in &ended {
            if Some(pid) == edge {
                self.edge_ended(status);
                self.start_edge_if_due(clock::now());
            } else if self.node.child.as_ref().is_some_and(|child| child.pid == pid) {
                self.read_node(LAST_ORDERS);
                self.node_ended(status);
            } else if let Some(key) = self.key_of_stub(pid) {
                self.stub_ended(&key);
            }
        }
        // Only now, as a process is its stub's child for as long as that lives.
        for (pid, status) in ended {
            self.strangers.remove(&pid);
            self.retired.remove(&pid);
            self.orphan_ended(pid, status);
        }
    }

    /// Takes what a stub has said.
    pub(super) fn read_stub(&mut self, key: &Key) {
        loop {
            let Some(Child { peer, .. }) = self.processes.get(key).and_then(|process| process.stub.as_ref()) else {
                return;
            };
            match channel::receive::<Notice>(peer) {
                Ok(Received::Message(notice, descriptor)) => self.stub_said(key, notice, descriptor),
                Ok(Received::Empty) => return,
                Ok(Received::Closed | Received::Malformed(_)) | Err(_) => break,
            }
        }
        // It ends by itself after its last word; otherwise it is no stub of ours any more.
        if let Some(process) = self.processes.get_mut(key)
            && let Some(stub) = &mut process.stub
            && !stub.peer.broken()
        {
            stub.peer.give_up();
            if process.is_live()
                && let Some(stub) = &process.stub
            {
                stub.kill();
            }
        }
    }

    /// Kills what dead processes left to us, and says of which processes nothing is left.
    pub(super) fn sweep_if_due(&mut self, now: Moment) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        self.sweep_at = None;
        let own = std::process::id().cast_signed();
        let ours = self.own_children();
        let entries = proctree::scan();
        let sockets = self.config.stubs.as_deref().and_then(Path::parent);
        let is_root = |entry: &Entry| {
            entry.parent == own
                && Pid::from_raw(entry.pid).is_some_and(|pid| !ours.contains(&pid))
                && !sockets.is_some_and(|sockets| rehearsal::is_drill(entry.pid, sockets))
        };
        // Main processes first: what one of them does when its children die must not become its exit status.
        let mut orphans: Vec<Entry> = entries.iter().filter(|entry| is_root(entry)).copied().collect();
        orphans.extend(proctree::descendants(&entries, is_root));
        if orphans.is_empty() {
            self.orphaned_are_over();
            return;
        }
        // One that only waits to be reaped still has its exit status to tell.
        orphans.retain(|entry| !entry.zombie);
        proctree::kill(&orphans, None);
        self.sweep_at = Some(now + SWEEP_AGAIN);
    }

    fn own_children(&self) -> HashSet<Pid> {
        let stubs = self.processes.values().filter_map(|process| process.stub.as_ref());
        let children = stubs.chain(&self.node.child).chain(&self.edge.child).map(|child| child.pid);
        children.chain(self.retired.iter().copied()).chain(self.strangers.iter().copied()).collect()
    }

    fn key_of_stub(&self, pid: Pid) -> Option<Key> {
        let of_pid = |child: &Child| child.pid == pid;
        self.processes.iter().find(|(_, process)| process.stub.as_ref().is_some_and(of_pid)).map(|(key, _)| key.clone())
    }

    fn stub_said(&mut self, key: &Key, notice: Notice, descriptor: Option<std::os::fd::OwnedFd>) {
        let Some(process) = self.processes.get_mut(key) else {
            return;
        };
        match notice {
            Notice::Started { pid, started_ms, .. } => {
                process.started(pid, started_ms, descriptor);
                let output = std::rc::Rc::clone(&process.output);
                self.node.tell(&Notice::Started { key: key.clone(), pid, started_ms }, Some(output));
            }
            Notice::NotStarted { reason, .. } => self.not_started(key, &reason),
            Notice::Exited { status, leftovers, .. } => {
                process.exited(status);
                self.node.tell(&Notice::Exited { key: key.clone(), status, leftovers }, None);
            }
            _ => {}
        }
    }

    /// The end of an adopted stub was seen, unless the key belongs to another process by now: an order that was taken in
    /// the same turn may have freed it.
    pub(super) fn adopted_stub_ended(&mut self, key: &Key) {
        let stub = self.processes.get(key).and_then(|process| process.stub.as_ref());
        if stub.and_then(|stub| stub.pidfd.as_ref()).is_some_and(has_ended) {
            self.stub_ended(key);
        }
    }

    fn stub_ended(&mut self, key: &Key) {
        self.read_stub(key);
        let Some(process) = self.processes.get_mut(key) else {
            return;
        };
        let stub = process.stub.take();
        if process.is_live() {
            log::line(format_args!("the stub of `{key}` ended too early; killing what it left"));
            if stub.is_some_and(|stub| stub.pidfd.is_some()) {
                process.kill_what_an_adopted_stub_left();
            }
            process.group.kill();
            self.sweep_at = Some(clock::now());
        }
    }

    /// A child that was nobody's: perhaps the main process of a stub that is gone.
    fn orphan_ended(&mut self, pid: Pid, status: ExitStatus) {
        let number = pid.as_raw_pid().cast_unsigned();
        let mut orphaned = self.processes.values_mut().filter(|process| process.is_orphaned());
        if let Some(process) = orphaned.find(|process| process.main() == Some(number)) {
            process.last_status = Some(status);
        }
    }

    fn orphaned_are_over(&mut self) {
        let keys: Vec<Key> =
            self.processes.iter().filter(|(_, process)| process.is_orphaned()).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(process) = self.processes.get_mut(&key) else {
                continue;
            };
            if !process.main_is_gone() {
                // One that was adopted is no child of ours, so that the sweep does not meet it.
                process.kill_what_an_adopted_stub_left();
                self.sweep_at = Some(clock::now() + SWEEP_AGAIN);
                continue;
            }
            process.group.remove();
            if matches!(process.state, State::Starting) {
                self.not_started(&key, "its stub ended before it could be started");
                continue;
            }
            // What is not known is what we did.
            let status = process.last_status.unwrap_or(ExitStatus::Signal(Signal::KILL.as_raw()));
            process.exited(status);
            self.node.tell(&Notice::Exited { key, status, leftovers: 0 }, None);
        }
    }

    fn not_started(&mut self, key: &Key, reason: &str) {
        let reason = reason.chars().take(1000).collect();
        self.remove_process(key);
        self.node.tell(&Notice::NotStarted { key: key.clone(), reason }, None);
    }
}
