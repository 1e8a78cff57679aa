//! A client's connection: who it is, where it belongs, writing to it, closing it properly.
//!
//! Requests are taken in by [`super::intake`]. Owned by its task; everything it shares with others of its thread
//! goes through [`crate::thread::Thread`].

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, net::TcpStream};

use super::{errors::OwnAnswer, head_request::Reject, request::Id};
use crate::{
    buffers::Input,
    local::LocalView,
    slots::{Signal, Slot},
    thread::Thread,
    view::ListenerView,
};

/// How long a connection that is being closed after an error may still send, in milliseconds.
const LINGER_MS: u64 = 2000;
/// How much it may still send, in bytes.
const LINGER_BYTES: usize = 1 << 20;

/// The connection.
pub(crate) struct Client {
    pub(crate) thread: Rc<Thread>,
    pub(crate) slot: Rc<Slot>,
    pub(crate) stream: TcpStream,
    pub(crate) input: Input,
    pub(crate) address: IpAddr,
    address_text: AddressText,
    listener_name: Rc<str>,
    pub(crate) place: Place,
}

/// What the newest view says about the connection's listener.
pub(crate) struct Place {
    pub(crate) view: Rc<LocalView>,
    pub(crate) listener: Arc<ListenerView>,
    /// What the client says about its own clients is believed.
    pub(crate) trusted: bool,
}

/// A request that is refused, and what is known of it.
pub(crate) struct Refusal {
    pub(crate) reject: Reject,
    /// Version and whether it is a HEAD request, where the whole message was understood and the connection may
    /// go on.
    pub(crate) next: Option<(u8, bool)>,
}

impl Refusal {
    /// The answer's status.
    pub(crate) const fn status(&self) -> u16 {
        self.reject.status
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { reject, next: None }
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
    pub(crate) fn new(thread: Rc<Thread>, stream: TcpStream, peer: SocketAddr, listener_name: Rc<str>) -> Option<Self> {
        let address = peer.ip().to_canonical();
        let place = Place::find(&thread, &listener_name, address)?;
        let slot = thread.slots.open(crate::clock::millis(thread.read_clock()));
        let cell = thread.cell();
        cell.accepted.add(1);
        cell.connections.add(1);
        let (input, address_text) = (Input::default(), AddressText::new(address));
        Some(Self { thread, slot, stream, input, address, address_text, listener_name, place })
    }

    /// The limits of its listener.
    pub(crate) fn limits(&self) -> &evenkeel_core::snapshot::ClientLimits {
        &self.place.listener.config.limits
    }

    /// Its address as text.
    pub(crate) fn address_text(&self) -> &[u8] {
        self.address_text.as_bytes()
    }

    /// Looks the listener up again if the view has changed. `false`: it is not there any more.
    pub(crate) fn find_place(&mut self) -> bool {
        if self.thread.is_newest(&self.place.view) {
            return true;
        }
        let found = Place::find(&self.thread, &self.listener_name, self.address);
        let there = found.is_some();
        if let Some(place) = found {
            self.place = place;
        }
        there
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
                None => self.write_some(&bytes[sent..]).await?,
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
        match written {
            Ok(Ok(count @ 1..)) => Ok(count),
            _ => Err(Gone),
        }
    }

    /// Refuses a request. Returns whether the connection goes on; if not, it is to linger.
    pub(crate) async fn refuse(&mut self, refusal: Refusal) -> bool {
        let Reject { status, reason } = refusal.reject;
        self.thread.rejected(status, reason);
        let id = Id::fresh(self.thread.ids.next());
        let close = refusal.next.is_none() || self.thread.terminating.get();
        let (minor, to_head) = refusal.next.unwrap_or((1, false));
        let answer = OwnAnswer { status, reason, id: id.as_bytes(), close, minor, to_head, retry_after_s: None };
        let mut out = self.thread.buffers.take();
        answer.write(&mut out);
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

    /// Makes the end of the connection unmistakable: a reset instead of an orderly end.
    pub(crate) fn reset(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO));
    }
}

/// The client takes no more bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

impl Place {
    fn find(thread: &Thread, listener: &str, client: IpAddr) -> Option<Self> {
        let view = thread.view()?;
        let listener = Arc::clone(view.view.listener(listener)?);
        let trusted = listener.config.trusted.iter().any(|network| network.contains(client));
        Some(Self { view, listener, trusted })
    }
}

/// The client's address as text, kept without an allocation.
struct AddressText {
    bytes: [u8; 45],
    length: usize,
}

impl AddressText {
    fn new(address: IpAddr) -> Self {
        let mut bytes = [0u8; 45];
        let mut rest = &mut bytes[..];
        write!(rest, "{address}").expect("the longest textual address has 45 bytes");
        let length = 45 - rest.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
