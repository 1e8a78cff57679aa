//! The datagrams of one client: to one instance, and its answers back.
//!
//! An instance that is not healthy any more, or drains, gets no further datagram: the next one goes to another instance,
//! whatever the client has said before, since nobody could tell where a conversation over UDP ends. A refusal by ICMP
//! is a failure of the instance, and its session moves at once. What was sent and lost is never sent again.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use evenkeel_core::snapshot::Duty;
use rustix::net::SendFlags;
use tokio::net::UdpSocket;

use super::udp::{Listener, now_ms};
use crate::{
    hold,
    local::ServiceLocal,
    messages::{Failure, Notice},
    pick::{Flight, Tried},
    scarce,
    slots::{Signal, Slot},
    thread::Thread,
};

/// How long answers are waited for where nothing more is sent, in milliseconds.
const LAST_ANSWERS_MS: u64 = 1000;
/// Answers that are passed on at once. The runtime lets a task do so 128 times before others get a turn.
const AT_ONCE: usize = 4;

/// A client's session.
pub(crate) struct Session {
    pub(crate) slot: Rc<Slot>,
    thread: Rc<Thread>,
    client: SocketAddr,
    path: RefCell<Rc<Path>>,
    idle_ms: u64,
    talk: Cell<Talk>,
}

/// How far client and instance have spoken with each other. Whoever sends in a name that is not its own gets no answer,
/// so it hardly sends again because of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    /// The client has sent something.
    Asked,
    /// It was answered.
    Answered,
    /// It sent something again after that.
    AskedAgain,
    /// That was answered too.
    Confirmed,
}

/// The way to an instance.
pub(crate) struct Path {
    socket: UdpSocket,
    flight: Flight,
    /// The instance has said something.
    answered: Cell<bool>,
    /// The instance is leaving: answers may still come.
    leaving: Cell<bool>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.thread.slots.close(&self.slot);
        self.thread.connection_closed.notify_waiters();
    }
}

impl Session {
    /// A session that begins now.
    pub(crate) fn new(thread: &Rc<Thread>, client: SocketAddr, path: Path, idle_ms: u64) -> Self {
        let slot = thread.slots.open(now_ms(thread));
        slot.set_idle(true);
        let (path, talk) = (RefCell::new(Rc::new(path)), Cell::new(Talk::Asked));
        let session = Self { slot, thread: Rc::clone(thread), client, path, idle_ms, talk };
        session.something_passed();
        session
    }

    /// Sends a datagram to the instance, or to another one where that cannot take it.
    pub(crate) fn send(&self, datagram: &[u8]) {
        if self.talk.get() == Talk::Answered {
            self.talk.set(Talk::AskedAgain);
        }
        let mut path = Rc::clone(&self.path.borrow());
        if path.leaving.get() || !path.flight.instance.shared.takes_requests() {
            // Where there is nobody else, whoever was there may still be.
            path = self.moved(&path, Tried::default()).unwrap_or(path);
        }
        self.something_passed();
        let mut sent = path.send(datagram);
        if is_refusal(&sent) {
            path.refused(&self.thread);
            if let Some(next) = self.moved(&path, path.tried()) {
                path = next;
                sent = path.send(datagram);
            }
        }
        let cell = path.flight.service.cell();
        match sent {
            Ok(count) => {
                cell.received_datagrams.add(1);
                cell.received_bytes.add(count as u64);
            }
            Err(_) => cell.dropped_datagrams.add(1),
        }
    }

    /// Passes answers on until the session is over.
    pub(crate) async fn answer(self: Rc<Self>, listener: Rc<Listener>) {
        const MASK: u8 = Signal::Expired as u8 | Signal::Close as u8 | Signal::Turn as u8;
        loop {
            let path = Rc::clone(&self.path.borrow());
            match self.slot.until(MASK, |cx| path.socket.poll_recv_ready(cx)).await {
                Ok(Ok(())) if self.pass_down(&path, &listener) => {}
                Err(Signal::Turn) => self.look_at(&path),
                Err(Signal::Close) if self.thread.terminating.get() => {
                    self.slot.set_idle(false);
                    self.arm(LAST_ANSWERS_MS);
                }
                _ => break,
            }
        }
        listener.sessions.borrow_mut().remove(self.client, |session| Rc::ptr_eq(session, &self));
    }

    /// Passes on what has come. `false`: there is nobody to speak with any more.
    fn pass_down(&self, path: &Rc<Path>, listener: &Listener) -> bool {
        self.thread.read_clock();
        let mut answer = listener.answer.borrow_mut();
        for _ in 0..AT_ONCE {
            let received = path.socket.try_recv(&mut answer);
            if is_refusal(&received) {
                path.refused(&self.thread);
                return self.moved(path, path.tried()).is_some();
            }
            let length = match received {
                Ok(length) => length,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            path.said_something(&self.thread);
            self.something_passed();
            let cell = path.flight.service.cell();
            match listener.pass_down(self.client, &answer[..length]) {
                Ok(()) => {
                    cell.sent_datagrams.add(1);
                    cell.sent_bytes.add(length as u64);
                    self.was_answered(listener);
                }
                Err(_) => cell.dropped_datagrams.add(1),
            }
        }
        true
    }

    /// Confirms the client with the second answer, so that it is not forgotten for others who were never answered twice.
    fn was_answered(&self, listener: &Listener) {
        match self.talk.get() {
            Talk::Asked => self.talk.set(Talk::Answered),
            Talk::AskedAgain => {
                self.talk.set(Talk::Confirmed);
                let own = |session: &Rc<Self>| std::ptr::eq(Rc::as_ptr(session), self);
                listener.sessions.borrow_mut().confirm(self.client, own);
            }
            Talk::Answered | Talk::Confirmed => {}
        }
    }

    /// A view came, or another path was taken. One that leads to an instance which drains is given up with its next
    /// datagram, or when no answer comes any more.
    fn look_at(&self, path: &Rc<Path>) {
        self.thread.read_clock();
        if Rc::ptr_eq(path, &self.path.borrow()) && !path.leaving.get() && path.is_left(&self.thread) {
            path.leaving.set(true);
            self.arm(LAST_ANSWERS_MS);
        }
    }

    /// Another path, which is the session's from now on. `None`: there is none.
    fn moved(&self, from: &Rc<Path>, tried: Tried) -> Option<Rc<Path>> {
        let mut service = Rc::clone(&from.flight.service);
        self.thread.refresh(&mut service);
        let path = Rc::new(Path::open_beside(&self.thread, &mut service, self.client, tried)?);
        *self.path.borrow_mut() = Rc::clone(&path);
        self.slot.signal(Signal::Turn);
        Some(path)
    }

    /// It gets no more datagrams, and ends when no answer comes any more.
    pub(crate) fn leave(&self) {
        self.path.borrow().leaving.set(true);
        self.thread.read_clock();
        self.arm(LAST_ANSWERS_MS);
    }

    fn something_passed(&self) {
        let last = self.thread.terminating.get() || self.path.borrow().leaving.get();
        self.arm(if last { LAST_ANSWERS_MS } else { self.idle_ms });
    }

    fn arm(&self, bound_ms: u64) {
        self.thread.slots.arm(&self.slot, self.thread.deadline_ms(bound_ms));
    }
}

impl Path {
    /// A way to an instance of this service, or of the one that answers in its place.
    pub(crate) fn open(thread: &Rc<Thread>, service: &mut Rc<ServiceLocal>, client: SocketAddr) -> Option<Self> {
        Self::open_beside(thread, service, client, Tried::default())
    }

    /// The same, rather to others than those that were tried.
    fn open_beside(
        thread: &Rc<Thread>,
        service: &mut Rc<ServiceLocal>,
        client: SocketAddr,
        mut tried: Tried,
    ) -> Option<Self> {
        for _ in 0..=service.config().retry.max {
            let flight = hold::at_once(thread, service, client.ip().to_canonical(), &tried)?;
            flight.set_waiting(false);
            let to = flight.instance.shared.resolved();
            match to.map(connected) {
                Some(Ok(socket)) => {
                    return Some(Self { socket, flight, answered: Cell::new(false), leaving: Cell::new(false) });
                }
                // This machine has no socket left, with whomever: that speaks against no instance.
                Some(Err(error)) if scarce::is_met(thread, &error, to) => return None,
                _ => {}
            }
            tried.push(&flight.instance);
            note_failure(thread, &flight);
        }
        None
    }

    /// Sends at once or not at all, without asking the runtime, which knows nothing yet of a new socket.
    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        rustix::net::send(&self.socket, datagram, SendFlags::DONTWAIT).map_err(io::Error::from)
    }

    /// The machine of the instance says that nobody takes its datagrams.
    fn refused(&self, thread: &Thread) {
        note_failure(thread, &self.flight);
    }

    fn tried(&self) -> Tried {
        let mut tried = Tried::default();
        tried.push(&self.flight.instance);
        tried
    }

    fn said_something(&self, thread: &Thread) {
        let cell = self.flight.instance.cell();
        cell.last_received_ms.set(now_ms(thread));
        if !self.answered.replace(true) {
            cell.answered.add(1);
            cell.failed_in_row.set(0);
        }
    }

    /// Whether the newest view has the instance no more, or drains it.
    fn is_left(&self, thread: &Thread) -> bool {
        let mut service = Rc::clone(&self.flight.service);
        thread.refresh(&mut service);
        let instance = &self.flight.instance.shared;
        let place = usize::try_from(instance.position.load(Relaxed)).unwrap_or(usize::MAX);
        let there = service.view().instances.get(place).filter(|there| Arc::ptr_eq(&there.shared, instance));
        there.is_none_or(|there| there.duty == Duty::Drain)
    }
}

fn note_failure(thread: &Thread, flight: &Flight) {
    let cell = flight.instance.cell();
    cell.failed.add(1);
    cell.failed_in_row.add(1);
    thread.notify(Notice::Failed { instance: Arc::clone(&flight.instance.shared), failure: Failure::Connect });
}

/// What ICMP said of an earlier datagram (RFC 1122 section 4.1.3.3).
fn is_refusal(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A socket that speaks with this address alone.
fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = StdSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    UdpSocket::from_std(socket)
}
