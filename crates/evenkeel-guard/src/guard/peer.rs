//! One end of a channel with a bounded queue before it: the guard never waits for who is at the other.
//!
//! What does not fit into the socket is queued; a queue that overflows, or a socket that fails, marks the peer
//! as broken, and its owner ends the process behind it. A new one is told everything again.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use evenkeel_core::guard::wire::Message;
use rustix::event::PollFlags;

use crate::channel::{self, Sent};

/// How many packets may wait for a peer that does not read.
const QUEUE_PACKETS: usize = 10_000;

struct Packet {
    bytes: Vec<u8>,
    descriptor: Option<Rc<OwnedFd>>,
}

/// The guard's end.
pub(super) struct Peer {
    socket: OwnedFd,
    queue: VecDeque<Packet>,
    limit: usize,
    broken: bool,
    deaf: bool,
}

impl Peer {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket, queue: VecDeque::new(), limit: QUEUE_PACKETS, broken: false, deaf: false }
    }

    /// Queues a message and sends what can be sent.
    pub(super) fn tell(&mut self, message: &impl Message, descriptor: Option<Rc<OwnedFd>>) {
        match message.encode() {
            Ok(bytes) if self.queue.len() < self.limit => self.queue.push_back(Packet { bytes, descriptor }),
            _ => self.broken = true,
        }
        self.flush();
    }

    /// What was told so far is an inventory: it does not count against the bound.
    pub(super) fn inventory_ends(&mut self) {
        self.limit = QUEUE_PACKETS + self.queue.len();
    }

    /// Lets an inventory of any length be told.
    pub(super) const fn inventory_begins(&mut self) {
        self.limit = usize::MAX;
    }

    /// Sends what can be sent now.
    pub(super) fn flush(&mut self) {
        while !self.lost()
            && let Some(packet) = self.queue.front()
        {
            match channel::send(&self.socket, &packet.bytes, packet.descriptor.as_ref().map(|fd| fd.as_fd())) {
                Ok(Sent::Yes) => _ = self.queue.pop_front(),
                Ok(Sent::Full) => return,
                // It has closed its end, most likely by ending. What it said before that can still be read.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.deaf = true;
                }
                Err(_) => self.broken = true,
            }
        }
    }

    /// It can be told nothing any more; whoever is behind it must end.
    pub(super) const fn lost(&self) -> bool {
        self.broken || self.deaf
    }

    /// Nothing that comes from it is worth reading any more.
    pub(super) const fn broken(&self) -> bool {
        self.broken
    }

    /// Gives it up.
    pub(super) const fn give_up(&mut self) {
        self.broken = true;
    }

    /// What to wait for: room, where something is queued.
    pub(super) fn interest(&self) -> PollFlags {
        if self.queue.is_empty() || self.lost() { PollFlags::empty() } else { PollFlags::OUT }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
