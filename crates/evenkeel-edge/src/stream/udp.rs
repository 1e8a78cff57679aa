//! A UDP listener on one thread: datagrams of clients go to the session of their client, answers go back from the
//! listener's own socket.
//!
//! The kernel leads all datagrams of one client (address and port) to the same thread's socket while the number of
//! sockets stays the same. Sessions are bounded in idle time and in number: those whose client was never answered twice
//! go first, since its address may be made up, and then the one that was quiet for longest. Nothing is queued: a
//! datagram that finds no instance, or no room, is dropped and counted, as any network may.
//! Where `bind` is an address of no machine in particular (`0.0.0.0`), answers leave from the address that the routing
//! table says, so a machine with several addresses needs one of them in `bind`.

use std::{cell::RefCell, io, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use rustix::net::SendFlags;
use tokio::{
    io::Interest,
    net::UdpSocket,
    task::{spawn_local, yield_now},
    time::sleep,
};

use super::{
    session::{Path, Session},
    table::Table,
};
use crate::{clock, data::share, slots::Signal, thread::Thread};

/// Larger than any datagram over IP: 65,507 bytes of content (RFC 768).
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams that are taken before others get a turn: readiness alone would never give them one while more come.
const AT_ONCE: usize = 64;
/// How long a socket that does not work rests: the guard has shut it down, or there is no memory.
const PAUSE: Duration = Duration::from_millis(50);

/// One thread's part of a listener.
pub(crate) struct Listener {
    pub(crate) thread: Rc<Thread>,
    pub(crate) socket: UdpSocket,
    pub(crate) sessions: RefCell<Table<Rc<Session>>>,
    /// Room for one datagram from an instance.
    pub(crate) answer: RefCell<Vec<u8>>,
    name: Rc<str>,
    /// The service that it led to when it was looked last.
    service: RefCell<Option<String>>,
}

/// Reads datagrams of clients until it is dropped.
pub(crate) async fn serve(thread: Rc<Thread>, socket: UdpSocket, name: Rc<str>) {
    let (sessions, answer) = (RefCell::default(), RefCell::new(vec![0; DATAGRAM_BYTES]));
    let reading = Reading(Rc::new(Listener { thread, socket, sessions, answer, name, service: RefCell::default() }));
    let listener = &reading.0;
    let mut datagram = vec![0; DATAGRAM_BYTES];
    // Made before each look, so that no view comes unnoticed while others have their turn.
    let mut changed = pin!(listener.thread.view_changed.notified());
    listener.look_again();
    let mut open = true;
    loop {
        // Until a view knows the listener the kernel keeps what comes, as far as it has room.
        let known = share(&listener.thread, &listener.name, true).is_some();
        tokio::select! {
            ready = listener.socket.ready(Interest::READABLE), if known && open => {
                let closed = ready.as_ref().is_ok_and(|ready| ready.is_read_closed());
                match ready.and_then(|_| listener.read(&mut datagram)) {
                    Ok(AT_ONCE) => yield_now().await,
                    // The guard shuts it down at its end. From then on it is ready for ever and nothing comes: who asked
                    // it again and again would keep the thread from everybody else.
                    Ok(_) => open = !closed,
                    Err(_) => sleep(PAUSE).await,
                }
            }
            () = &mut changed => {
                changed.set(listener.thread.view_changed.notified());
                listener.look_again();
            }
        }
    }
}

impl Listener {
    /// Reads what has come, and says how many datagrams that were. `Err`: the socket does not work.
    fn read(self: &Rc<Self>, datagram: &mut [u8]) -> io::Result<usize> {
        self.thread.read_clock();
        for read in 0..AT_ONCE {
            match self.socket.try_recv_from(datagram) {
                Ok((length, client)) => self.pass_up(client, &datagram[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(read),
                Err(error) => return Err(error),
            }
        }
        Ok(AT_ONCE)
    }

    fn pass_up(self: &Rc<Self>, client: SocketAddr, datagram: &[u8]) {
        let known = self.sessions.borrow_mut().get(client).cloned();
        if let Some(session) = known.or_else(|| self.begin(client)) {
            session.send(datagram);
        }
    }

    /// A client that is not known: an instance for it.
    fn begin(self: &Rc<Self>, client: SocketAddr) -> Option<Rc<Session>> {
        let view = self.thread.view()?;
        let listener = view.view.listener(&self.name)?;
        let mut service = Rc::clone(view.services.get(listener.service?)?);
        service.unreported.set(service.unreported.get().wrapping_add(1));
        let Some(path) = Path::open(&self.thread, &mut service, client) else {
            service.cell().dropped_datagrams.add(1);
            return None;
        };
        service.cell().sessions.add(1);
        let most = usize::try_from(share(&self.thread, &self.name, true)?).unwrap_or(usize::MAX);
        let session = Rc::new(Session::new(&self.thread, client, path, listener.config.limits.keep_alive_ms));
        let forgotten = self.sessions.borrow_mut().insert(client, Rc::clone(&session), most);
        if let Some(forgotten) = forgotten {
            forgotten.slot.signal(Signal::Close);
        }
        spawn_local(Rc::clone(&session).answer(Rc::clone(self)));
        Some(session)
    }

    /// A view came. Instances may have begun to drain: sessions see whether theirs has. Where the listener leads to another
    /// service now, all clients are new ones.
    fn look_again(&self) {
        let service = self.service();
        let is_other = *self.service.borrow() != service;
        if is_other {
            self.service.replace(service);
            let former = self.sessions.take();
            former.values().for_each(|session| session.leave());
        }
        for session in self.sessions.borrow().values() {
            session.slot.signal(Signal::Turn);
        }
    }

    fn service(&self) -> Option<String> {
        self.thread.view()?.view.listener(&self.name)?.config.service.clone()
    }

    /// Passes a datagram on to a client. A client that takes none has lost it.
    pub(crate) fn pass_down(&self, client: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        rustix::net::sendto(&self.socket, datagram, SendFlags::DONTWAIT, &client)?;
        Ok(())
    }
}

/// Whoever reads. Without a reader the sessions end at once, so that the socket is closed; at the end of the edge they
/// wait a moment for answers.
struct Reading(Rc<Listener>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.thread.read_clock();
        for session in self.0.sessions.borrow().values() {
            session.slot.signal(Signal::Close);
        }
    }
}

/// So far in the time of deadlines.
pub(crate) fn now_ms(thread: &Thread) -> u64 {
    clock::millis(thread.now())
}
