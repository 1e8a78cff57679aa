//! Waiting, and handing each event to its owner.

use std::{io, os::fd::AsFd};

use evenkeel_core::guard::{Key, Notice, Order};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::Signal,
};

use super::Guard;
use crate::{
    channel::{self, Received},
    os::{clock, log, words},
};

/// How many orders are taken before others get their turn.
const ORDERS_A_TURN: u32 = 64;

/// Whose descriptor is ready.
#[derive(Clone)]
enum Source {
    Signals,
    Timer,
    Node,
    Edge,
    Stub(Key),
    StubEnd(Key),
    Manager,
}

impl Guard {
    pub(super) fn wait_and_handle(&mut self) -> io::Result<()> {
        self.timer.arm(self.next_deadline())?;
        for (source, ready) in self.wait()? {
            match source {
                Source::Signals => self.handle_signals(),
                Source::Timer => self.timer.expired(),
                Source::Node => {
                    if let Some(child) = &mut self.node.child {
                        child.peer.flush();
                    }
                    if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        self.read_node(ORDERS_A_TURN);
                    }
                }
                Source::Edge => {
                    if let Some(child) = &mut self.edge.child {
                        child.peer.flush();
                    }
                }
                Source::Stub(key) => {
                    if let Some(stub) = self.processes.get_mut(&key).and_then(|process| process.stub.as_mut()) {
                        stub.peer.flush();
                    }
                    self.read_stub(&key);
                }
                Source::StubEnd(key) => self.adopted_stub_ended(&key),
                Source::Manager => self.manager.flush(),
            }
        }
        Ok(())
    }

    /// Waits for the first event; everything that is ready then.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals, Source::Timer];
        let mut descriptors = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
        if let Some(child) = self.node.child.as_ref().filter(|child| !child.peer.broken()) {
            sources.push(Source::Node);
            descriptors.push(PollFd::from_borrowed_fd(child.peer.as_fd(), PollFlags::IN | child.peer.interest()));
        }
        // What the edge might send is nobody's concern, and its end is seen as a child's.
        if let Some(child) = self.edge.child.as_ref().filter(|child| !child.peer.interest().is_empty()) {
            sources.push(Source::Edge);
            descriptors.push(PollFd::from_borrowed_fd(child.peer.as_fd(), PollFlags::OUT));
        }
        if let Some(socket) = self.manager.waiting() {
            sources.push(Source::Manager);
            descriptors.push(PollFd::new(socket, PollFlags::OUT));
        }
        for (key, process) in &self.processes {
            if let Some(pidfd) = process.stub.as_ref().and_then(|stub| stub.pidfd.as_ref()) {
                sources.push(Source::StubEnd(key.clone()));
                descriptors.push(PollFd::new(pidfd, PollFlags::IN));
            }
            if let Some(stub) = process.stub.as_ref().filter(|stub| !stub.peer.broken()) {
                sources.push(Source::Stub(key.clone()));
                descriptors.push(PollFd::from_borrowed_fd(stub.peer.as_fd(), PollFlags::IN | stub.peer.interest()));
            }
        }
        match poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR | Errno::NOMEM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = sources.into_iter().zip(descriptors.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, ready)| !ready.is_empty()).collect())
    }

    fn handle_signals(&mut self) {
        let mut children = false;
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::TERM | Signal::INT => self.terminate(clock::now()),
                Signal::HUP => self.node.tell(&Notice::Reload, None),
                _ => children = true,
            }
        }
        if children {
            self.reap();
        }
    }

    /// Takes what the node process has sent. One that sends nonsense is ended; the next one is told everything.
    pub(super) fn read_node(&mut self, at_most: u32) {
        for _ in 0..at_most {
            let Some(child) = self.node.child.as_ref().filter(|child| !child.peer.broken()) else {
                return;
            };
            let nonsense = match channel::receive::<Order>(&child.peer) {
                Ok(Received::Message(order, descriptor)) => match self.obey(order, descriptor) {
                    Ok(()) => continue,
                    Err(nonsense) => nonsense.0.to_owned(),
                },
                Ok(Received::Empty) => return,
                // Where it ended this is seen as a child's end; where it did not, nobody can talk to it any more.
                Ok(Received::Closed) => String::new(),
                Ok(Received::Malformed(malformed)) => format!("what is no order: {malformed}"),
                Err(error) => words::of(&error),
            };
            let Some(child) = self.node.child.as_mut() else { return };
            if !nonsense.is_empty() {
                log::line(format_args!("the node process sends {nonsense}; ending it"));
            }
            child.peer.give_up();
        }
    }
}
