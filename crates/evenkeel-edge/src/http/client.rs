//! A client's connection: who it is, where it belongs, writing to it, closing it properly.
//!
//! Requests are taken in by [`super::intake`]. Owned by its task; everything it shares with others of its thread
//! goes through [`crate::thread::Thread`].

use std::{
    cell::OnceCell,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::{errors::OwnAnswer, guard_rails::Told, head_request::Reject, redirect::OwnRedirect, request::Id, seldom};
use crate::{
    buffers::Input,
    clients::Entered,
    clock,
    local::{LocalView, ServiceLocal},
    services::Services,
    slots::{Signal, Slot},
    stream::names::Names,
    thread::Thread,
    view::ListenerView,
};

/// How long a connection that is being closed after an error may still send, in milliseconds.
const LINGER_MS: u64 = 2000;
/// How often it is looked whether a client has taken everything, in milliseconds.
const SENDING_MS: u64 = 20;
/// How much it may still send, in bytes.
const LINGER_BYTES: usize = 1 << 20;

/// The connection.
pub(crate) struct Client {
    pub(crate) thread: Rc<Thread>,
    pub(crate) slot: Rc<Slot>,
    pub(crate) stream: TcpStream,
    pub(crate) input: Input,
    pub(crate) address: IpAddr,
    pub(crate) place: Place,
    /// Who it is, once that was said or asked.
    pub(crate) names: OnceCell<Rc<Names>>,
    /// It counts as one of its client's, where their number is bounded.
    entered: Option<Box<Entered>>,
}

/// What the newest view says about the connection's listener.
pub(crate) struct Place {
    /// None while something goes on that needs it no more and may take long.
    view: Option<Rc<LocalView>>,
    listener: Arc<ListenerView>,
    /// What the client says about its own clients is believed.
    pub(crate) trusted: bool,
}

/// A request that is refused, and what is known of it.
pub(crate) struct Refusal {
    pub(crate) reject: Reject,
    /// Version and whether it is a HEAD request, where the whole message was understood and the connection may
    /// go on.
    pub(crate) next: Option<(u8, bool)>,
    /// What else the answer says, where it was a guard rail that spoke.
    pub(crate) told: Option<Box<Told>>,
}

impl Refusal {
    /// A guard rail's answer; whether the connection may go on is said later.
    pub(crate) fn told(reject: Reject, told: Told) -> Self {
        Self { reject, next: None, told: Some(Box::new(told)) }
    }

    /// The answer's status.
    pub(crate) const fn status(&self) -> u16 {
        self.reject.status
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { reject, next: None, told: None }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.thread.slots.close(&self.slot);
        self.thread.buffers.give(self.input.release());
        let cell = self.thread.cell();
        cell.connections.set(cell.connections.get().saturating_sub(1));
        self.thread.connection_closed.notify_waiters();
    }
}

impl Client {
    /// A connection that was just accepted. `None` if its listener is not in the view any more.
    pub(crate) fn new(thread: Rc<Thread>, stream: TcpStream, peer: SocketAddr, listener: &str) -> Option<Self> {
        let address = peer.ip().to_canonical();
        let place = Place::find(&thread, listener, address)?;
        let Ok(entered) = place.enter(&thread, address) else { return None };
        let slot = thread.slots.open(clock::millis(thread.read_clock()));
        let cell = thread.cell();
        cell.accepted.add(1);
        cell.connections.add(1);
        Some(Self { thread, slot, stream, input: Input::default(), address, place, names: OnceCell::new(), entered })
    }

    /// The limits of its listener.
    pub(crate) fn limits(&self) -> &evenkeel_core::snapshot::ClientLimits {
        &self.place.listener().config.limits
    }

    /// Looks the listener up again if the view has changed. `false`: it is not there any more, or speaks another
    /// protocol than this connection.
    pub(crate) fn find_place(&mut self) -> bool {
        if self.place.view.as_ref().is_some_and(|view| self.thread.is_newest(view)) {
            return true;
        }
        let former = &self.place.listener().config;
        let found = Place::find(&self.thread, &former.name, self.address);
        let found = found.filter(|place| place.listener().config.protocol == former.protocol);
        let there = found.is_some();
        if let Some(mut place) = found {
            place.trusted &= !self.names.get().is_some_and(|names| names.nameless);
            self.place = place;
        }
        there
    }

    /// A PROXY header says who it is. `Err`: that client has as many connections as it may have.
    pub(crate) fn is_named(&mut self, names: Names) -> Result<(), TooMany> {
        self.address = names.source.ip().to_canonical();
        self.place.trusted = !names.nameless && self.place.listener().trusts(self.address);
        if !names.nameless {
            self.entered = self.place.enter(&self.thread, self.address)?;
        }
        self.names = OnceCell::from(Rc::new(names));
        Ok(())
    }

    /// The wait that follows may take this long.
    pub(crate) fn arm(&self, bound_ms: u64) {
        self.thread.slots.arm(&self.slot, self.thread.deadline_ms(bound_ms));
    }

    /// Writes all of it, or fails when the client takes nothing for too long.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < bytes.len() {
            // Most writes end here, without a deadline being set.
            let first = match self.stream.try_write(&bytes[sent..]) {
                Ok(count) => Some(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(_) => return Err(Gone),
            };
            let count = match first {
                Some(count) => count,
                None => seldom(self.write_some(&bytes[sent..])).await?,
            };
            sent += count;
        }
        Ok(())
    }

    async fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let idle_ms = self.limits().body_idle_ms;
        self.thread.read_clock();
        self.arm(idle_ms);
        let Self { slot, stream, .. } = self;
        let written = slot.until(Signal::Expired as u8, |cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await;
        self.thread.read_clock();
        match written {
            Ok(Ok(count @ 1..)) => Ok(count),
            _ => Err(Gone),
        }
    }

    /// Refuses a request. Returns whether the connection goes on; if not, it is to linger.
    pub(crate) async fn refuse(&mut self, refusal: Refusal) -> bool {
        let Reject { status, reason } = refusal.reject;
        if refusal.told.is_none() {
            self.thread.rejected(status, reason);
        }
        let id = Id::fresh(self.thread.ids.next());
        let id = id.as_bytes();
        let close = refusal.next.is_none() || self.thread.terminating.get();
        let (minor, to_head) = refusal.next.unwrap_or((1, false));
        let mut out = self.thread.buffers.take();
        let retry_after_s = match refusal.told.as_deref() {
            Some(Told::RetryAfter(seconds)) => Some(*seconds),
            _ => None,
        };
        if let Some(Told::Location(location)) = refusal.told.as_deref() {
            OwnRedirect { status, location, id, close, minor, to_head }.write(&mut out);
        } else {
            let own = OwnAnswer { status, reason, id, close, minor, to_head, retry_after_s };
            own.write_or_page(&[&self.place.listener().config.error_pages], &mut out);
        }
        let written = self.write_all(&out).await;
        self.thread.buffers.give(out);
        written.is_ok() && !close
    }

    /// Ends our side and reads what the client still sends, for a bounded time: closing at once would reset the
    /// connection and could destroy the answer on its way (RFC 9112 section 9.6).
    pub(crate) async fn linger(&mut self) {
        if !self.input.has_buffer() {
            self.input = Input::new(self.thread.buffers.take());
        }
        self.thread.read_clock();
        self.arm(LINGER_MS);
        let mut left = LINGER_BYTES;
        let mut shut = false;
        let Self { slot, stream, input, .. } = self;
        let drained = |cx: &mut Context<'_>| -> Poll<io::Result<()>> {
            if !shut {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                shut = true;
            }
            loop {
                input.consume(input.filled().len());
                input.make_room(usize::MAX);
                let count = ready!(input.poll_fill(stream, cx))?;
                left = left.saturating_sub(count);
                if count == 0 || left == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        };
        // Whether it ended in time or not, the connection is dropped now.
        let _ = slot.until(Signal::Expired as u8, drained).await;
    }

    /// The same once the client has what is on its way to it, which a reset would destroy. A client that takes nothing
    /// for a while is not waited for.
    pub(crate) async fn reset_when_sent(&mut self) {
        let (mut left, mut since_ms) = (u32::MAX, clock::millis(self.thread.read_clock()));
        loop {
            let now_ms = clock::millis(self.thread.read_clock());
            match unacknowledged_bytes(&self.stream) {
                0 => break,
                fewer if fewer < left => (left, since_ms) = (fewer, now_ms),
                _ if now_ms.saturating_sub(since_ms) > LINGER_MS => break,
                _ => {}
            }
            self.arm(SENDING_MS);
            let Err(_expired) = self.slot.until(Signal::Expired as u8, |_| Poll::<Infallible>::Pending).await;
        }
        self.reset();
    }

    /// Makes the end of the connection unmistakable: a reset instead of an orderly end.
    pub(crate) fn reset(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO));
    }
}

/// A client has as many connections as it may have; this one is closed without an answer, which would cost more than it
/// is worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMany;

/// The client takes no more bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// What the kernel has taken for the peer and the peer's has not acknowledged (`SIOCOUTQ`, tcp(7)).
fn unacknowledged_bytes(stream: &TcpStream) -> u32 {
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: of a socket this call writes one `int` and nothing else, and the number is the same wherever Linux has it
    // from `asm-generic/ioctls.h`, as on every machine that this runs on.
    let asked = unsafe { ioctl(stream, Getter::<SIOCOUTQ, i32>::new()) };
    asked.map_or(0, i32::unsigned_abs)
}

impl Place {
    fn find(thread: &Thread, name: &str, client: IpAddr) -> Option<Self> {
        let view = thread.view()?;
        let listener = Arc::clone(view.view.listener(name)?);
        let trusted = listener.trusts(client);
        Some(Self { view: Some(view), listener, trusted })
    }

    /// Of a listener that is not HTTP: the service that everything leads to.
    pub(crate) fn stream_service(&self) -> Option<Rc<ServiceLocal>> {
        self.services().get(self.listener().service?).cloned()
    }

    /// Enters a connection of this client, where their number is bounded. Networks that are trusted stand for many
    /// clients: only those whom they name are counted.
    fn enter(&self, thread: &Thread, client: IpAddr) -> Result<Option<Box<Entered>>, TooMany> {
        let listener = self.listener();
        let Some(all) = listener.connections.as_ref().filter(|_| !self.trusted) else {
            return Ok(None);
        };
        let entered = all.enter(client, listener.config.limits.connections_per_client);
        if entered.is_none() {
            thread.turned_away();
        }
        entered.map(Some).ok_or(TooMany)
    }

    /// The services of the view by which a request is understood.
    pub(crate) fn services(&self) -> &Services {
        &self.view.as_ref().expect("whoever understands a request has looked its place up").services
    }

    /// The listener.
    pub(crate) fn listener(&self) -> &ListenerView {
        &self.listener
    }

    /// Lets go of the view, until the listener is looked up again: what goes on for long must not keep a former one, with
    /// all of its instances and routes.
    pub(crate) fn let_go(&mut self) {
        self.view = None;
        self.listener = self.listener.bare();
    }
}
