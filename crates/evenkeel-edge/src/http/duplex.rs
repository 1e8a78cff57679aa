//! Two directions at once: a request body to the instance and an answer to the client.
//!
//! Each direction holds at most one buffer and reads again only when that has been taken, so a slow reader slows
//! its writer down and nothing else. An answer that begins before the request is complete is passed on; the
//! connection ends after it. Heads of interim answers pass without a commitment. What must go on at its instance keeps
//! nothing of a view but its own service's settings and counters.
//!
//! | module | concern |
//! | --- | --- |
//! | `up` | the request's direction |
//! | `down` | the answer's |

mod down;
mod up;

use std::task::{Context, Poll};

use tokio::{io::ReadBuf, net::TcpStream};

use super::{client::Client, compress::Stream, framing::Body, intake::Gather, pace::patience_ms, request::Request};
use crate::{
    buffers::{Input, LARGEST_BYTES},
    messages::Failure,
    pick::Flight,
    pipes::Passage,
    slots::Signal,
};

/// Room for each direction, in bytes.
const RELAY_BYTES: usize = 64 << 10;
/// Once so many bytes have passed, there is room for [`LARGEST_BYTES`].
const LONG_RELAY_BYTES: u64 = 256 << 10;

/// Why a relay stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The answer is complete.
    Finished,
    ClientGone,
    /// The instance failed.
    Instance(Failure),
    ResponseTimeout,
    /// Nothing was said for as long as such a stream may be silent.
    Idle,
    /// The client's body cannot be read.
    Body(Gather),
    TooLarge,
}

/// Where the request's direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Up {
    /// So many bytes of `Request::out` are sent.
    First {
        sent: usize,
    },
    /// So many bytes at the front of the client's input belong to the body and are not sent.
    Body {
        ready: usize,
    },
    Done,
    /// The instance takes no more, but may still answer.
    Closed,
}

/// An answer whose head went to the client.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub(crate) struct Committed {
    pub(crate) status: u16,
    body: Body,
    done: bool,
    /// The instance takes another request on its connection.
    pub(crate) reusable: bool,
    /// The client was told that its connection ends.
    pub(crate) close: bool,
    /// The client cannot take chunks.
    unpack: bool,
    /// The instance may have nothing to say for long.
    events: bool,
}

/// What a relay leaves behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) committed: Option<Committed>,
    /// Body bytes sent to the client.
    pub(crate) sent_bytes: u64,
    /// The instance may have seen something of the request.
    pub(crate) any_sent: bool,
    /// Something of an answer has arrived.
    pub(crate) received: bool,
    /// The whole request was sent.
    pub(crate) up_done: bool,
}

/// The relay itself: polled until it says why it stopped, then ended.
pub(crate) struct Duplex<'a> {
    client: &'a mut Client,
    request: &'a mut Request,
    flight: &'a mut Flight,
    stream: &'a mut TcpStream,
    answer: Input,
    up: Up,
    /// Made here for the client: heads and unpacked chunks, so many bytes of it sent.
    out: Vec<u8>,
    out_sent: usize,
    /// So many bytes at the front of `answer` go to the client as they are.
    ready: usize,
    committed: Option<Committed>,
    sent_bytes: u64,
    /// The body of the answer, where it is compressed on its way.
    coded: Option<Box<Stream>>,
    any_sent: bool,
    received: bool,
    /// Since when the client is waited for, and for how long it was before, where its rate is bounded.
    waits_since_ms: Option<u64>,
    waited_ms: u64,
    /// What passes unseen, of the request and of the answer.
    upward: Passage,
    downward: Passage,
}

impl<'a> Duplex<'a> {
    /// Between these two connections; `answer` is what has arrived of the answer.
    pub(crate) fn new(
        client: &'a mut Client,
        request: &'a mut Request,
        flight: &'a mut Flight,
        stream: &'a mut TcpStream,
        answer: Input,
    ) -> Self {
        let received = !answer.is_empty();
        // With an answer under way the whole request was sent before.
        let up = if request.complete { Up::Done } else { Up::First { sent: 0 } };
        Self {
            client,
            request,
            flight,
            stream,
            answer,
            up,
            out: Vec::new(),
            out_sent: 0,
            ready: 0,
            committed: None,
            sent_bytes: 0,
            coded: None,
            any_sent: received,
            received,
            waits_since_ms: None,
            waited_ms: 0,
            upward: Passage::default(),
            downward: Passage::default(),
        }
    }

    /// Gives back what it has of its thread.
    pub(crate) fn end(mut self) -> Ended {
        let thread = &self.client.thread;
        thread.buffers.give(self.answer.release());
        self.upward.end(&thread.pipes);
        self.downward.end(&thread.pipes);
        let up_done = self.up == Up::Done;
        let Self { committed, sent_bytes, any_sent, received, .. } = self;
        Ended { committed, sent_bytes, any_sent, received, up_done }
    }

    /// Moves bytes until nothing can be moved.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        let mut progress = false;
        loop {
            let up = match self.poll_up(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(stop)) => return Poll::Ready(stop),
                Poll::Pending => false,
            };
            let down = match self.poll_down(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(stop)) => return Poll::Ready(stop),
                Poll::Pending => false,
            };
            if !up && !down {
                break;
            }
            progress = true;
        }
        if self.poll_gone(cx) {
            return Poll::Ready(Stop::ClientGone);
        }
        let (bound_ms, stop) = self.waits_for();
        // While the client still sends, and once the answer has begun, silence says nothing about the instance.
        self.flight.set_waiting(self.committed.is_none() && matches!(self.up, Up::Done | Up::Closed));
        if progress || !self.received && !self.any_sent {
            self.client.thread.read_clock();
            let deadline_ms = self.client.thread.deadline_ms(bound_ms);
            self.client.thread.slots.arm(&self.client.slot, deadline_ms);
        }
        self.client.slot.poll_signal(Signal::Expired as u8, cx).map(|_| stop)
    }

    /// Whether the client of a stream of events went away: nothing else shows it while the instance has nothing to say.
    /// One that has only ended its own half is taken for gone too, since nobody who waits for events does that.
    fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        if !self.is_stream_of_events() {
            return false;
        }
        let mut byte = [0];
        let peeked = self.client.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(0) | Err(_)))
    }

    /// The client has said all it had to say, and gets events as they happen.
    fn is_stream_of_events(&self) -> bool {
        matches!(self.up, Up::Done | Up::Closed) && self.committed.is_some_and(|head| head.events)
    }

    /// Whose turn it is, how long it may take, and what it means if it takes longer.
    fn waits_for(&self) -> (u64, Stop) {
        let client_ms = self.client.limits().body_idle_ms;
        let limits = &self.flight.service.config().limits;
        if self.out_sent < self.out.len() || self.ready > 0 || self.downward.is_full() {
            return (client_ms, Stop::ClientGone);
        }
        match self.up {
            Up::Body { .. } if self.upward.is_full() => (limits.idle_timeout_ms, Stop::Instance(Failure::Timeout)),
            Up::First { .. } | Up::Body { ready: 1.. } => (limits.idle_timeout_ms, Stop::Instance(Failure::Timeout)),
            // An instance that was asked for a 100 has to speak first.
            Up::Body { .. } if self.request.expect && !self.received => {
                (limits.response_timeout_ms.min(client_ms), Stop::ResponseTimeout)
            }
            Up::Body { .. } => {
                let patience = patience_ms(self.client.limits(), self.waited_ms, self.request.content_bytes);
                (patience, Stop::Body(Gather::Slow))
            }
            Up::Done | Up::Closed if self.committed.is_none() => (limits.response_timeout_ms, Stop::ResponseTimeout),
            Up::Done | Up::Closed if self.is_stream_of_events() => (limits.tunnel_idle_ms, Stop::Idle),
            Up::Done | Up::Closed => (limits.idle_timeout_ms, Stop::Instance(Failure::Timeout)),
        }
    }
}

/// The room for a direction in which so many bytes have passed.
fn relay_bytes(passed_bytes: u64) -> usize {
    if passed_bytes < LONG_RELAY_BYTES { RELAY_BYTES } else { LARGEST_BYTES }
}
