//! Two directions at once: a request body to the instance and an answer to the client.
//!
//! Each direction holds at most one buffer and reads again only when that has been taken, so a slow reader slows
//! its writer down and nothing else. An answer that begins before the request is complete is passed on; the
//! connection ends after it. Heads of interim answers pass without a commitment.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    affinity,
    client::Client,
    compress::{self, Stream},
    dress::{self, Dress},
    fields::MOST_FIELDS,
    framing::Body,
    head_request::FieldRoom,
    head_response::{self, Delivery},
    intake::Gather,
    pace::patience_ms,
    record,
    request::Request,
};
use crate::{
    buffers::{Input, LARGEST_BYTES},
    clock,
    messages::Failure,
    pick::Flight,
    pipes::{LONG_BYTES, Passage},
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
    flight: &'a Flight,
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
        flight: &'a Flight,
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

    /// One step of the request's direction.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        match self.up {
            Up::Done | Up::Closed => Poll::Pending,
            Up::First { sent } => {
                let bytes = &self.request.out[sent..];
                let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes));
                let Ok(count @ 1..) = written else {
                    return Poll::Ready(self.closed_to_us());
                };
                self.any_sent = true;
                let sent = sent + count;
                self.up = if sent < self.request.out.len() { Up::First { sent } } else { Up::Body { ready: 0 } };
                Poll::Ready(Ok(()))
            }
            Up::Body { ready: 0 } if self.upward.is_full() => {
                let Ok(1..) = ready!(self.upward.poll_drain(self.stream, cx)) else {
                    self.upward = Passage::default();
                    return Poll::Ready(self.closed_to_us());
                };
                Poll::Ready(Ok(()))
            }
            Up::Body { ready: 0 } if self.request.complete => {
                self.up = Up::Done;
                Poll::Ready(Ok(()))
            }
            Up::Body { ready: 0 } => self.poll_body(cx),
            Up::Body { ready } => {
                let bytes = &self.client.input.filled()[..ready];
                let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes));
                let Ok(count @ 1..) = written else {
                    return Poll::Ready(self.closed_to_us());
                };
                self.client.input.consume(count);
                self.up = Up::Body { ready: ready - count };
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The instance takes no more. It may have answered before it closed.
    fn closed_to_us(&mut self) -> Result<(), Stop> {
        if !self.any_sent {
            return Err(Stop::Instance(Failure::CutOff));
        }
        self.up = Up::Closed;
        Ok(())
    }

    /// Takes in more of a long body of the request without looking at it. `None`: that is not possible.
    fn poll_body_unseen(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        let (client, upward) = (&mut *self.client, &mut self.upward);
        let Body::Length(left) = &mut self.request.body else { return Poll::Ready(None) };
        if *left < LONG_BYTES && !upward.used {
            return Poll::Ready(None);
        }
        client.thread.buffers.give(client.input.release());
        let came = ready!(upward.poll_fill(&client.thread.pipes, &client.stream, *left, cx));
        if let Some(Ok(count)) = came {
            *left -= count as u64;
            self.request.content_bytes += count as u64;
            self.request.complete = *left == 0;
            self.request.passed_on = true;
        }
        Poll::Ready(came)
    }

    /// Reads more of it into a buffer, where none is at hand.
    fn poll_body_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Client { input, stream, thread, .. } = &mut *self.client;
        input.widen(relay_bytes(self.request.content_bytes), &thread.buffers);
        input.make_room(LARGEST_BYTES);
        input.poll_fill(stream, cx)
    }

    /// From now on the client is waited for, where its rate is bounded. Not while it waits itself, for a 100.
    fn note_waiting(&mut self) {
        let waits_itself = self.request.expect && !self.received;
        if self.waits_since_ms.is_none() && !waits_itself && self.client.limits().min_rate_bytes_per_s > 0 {
            // The time as last read may be that before the instance took what it was slow to take.
            self.waits_since_ms = Some(clock::millis(self.client.thread.read_clock()));
        }
    }

    /// Takes in more of the request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if self.client.input.is_empty() {
            let (came, unseen) = match self.poll_body_unseen(cx) {
                Poll::Ready(Some(came)) => (Poll::Ready(came), true),
                Poll::Ready(None) => (self.poll_body_bytes(cx), false),
                Poll::Pending => (Poll::Pending, true),
            };
            let Poll::Ready(came) = came else {
                self.note_waiting();
                return Poll::Pending;
            };
            if let Some(since_ms) = self.waits_since_ms.take() {
                self.waited_ms += clock::millis(self.client.thread.read_clock()).saturating_sub(since_ms);
            }
            let Ok(1..) = came else {
                return Poll::Ready(Err(Stop::Body(Gather::Gone)));
            };
            if unseen {
                return Poll::Ready(Ok(()));
            }
        }
        let Client { input, .. } = &mut *self.client;
        let mut content = 0;
        let step = self.request.body.advance_with(input.filled(), |part| content += part.len() as u64);
        let step = match step {
            Ok(step) => step,
            Err(bad) => return Poll::Ready(Err(Stop::Body(Gather::Bad(bad.0)))),
        };
        self.request.content_bytes += content;
        if self.request.content_bytes > self.client.limits().body_bytes {
            return Poll::Ready(Err(Stop::TooLarge));
        }
        self.request.complete = step.done;
        self.request.passed_on = true;
        self.up = Up::Body { ready: step.taken };
        Poll::Ready(Ok(()))
    }

    /// One step of the answer's direction.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if self.out_sent < self.out.len() || self.ready > 0 {
            return self.poll_deliver(cx);
        }
        if self.downward.is_full() {
            let Ok(count @ 1..) = ready!(self.downward.poll_drain(&self.client.stream, cx)) else {
                return Poll::Ready(Err(Stop::ClientGone));
            };
            self.sent_bytes += count as u64;
            return Poll::Ready(Ok(()));
        }
        if self.committed.is_some_and(|head| head.done) {
            return Poll::Ready(Err(Stop::Finished));
        }
        if self.coded.as_mut().is_some_and(|coded| !self.answer.is_empty() && coded.gives_way()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.answer.is_empty() && self.digest().map_err(Stop::Instance)? {
            return Poll::Ready(Ok(()));
        }
        let count = if self.answer.is_empty() && self.is_stream_of_events() {
            ready!(self.poll_event(cx))
        } else if let Some(count) = ready!(self.poll_answer_unseen(cx)) {
            count
        } else if self.make_room() {
            let filled = self.answer.poll_fill(self.stream, cx);
            if filled.is_pending() && self.flush_coded() {
                return Poll::Ready(Ok(()));
            }
            ready!(filled)
        } else {
            return Poll::Ready(Err(Stop::Instance(Failure::Malformed)));
        };
        self.flight.instance.cell().last_received_ms.set(clock::millis(self.client.thread.read_clock()));
        match (count, &mut self.committed) {
            (Ok(1..), _) => {
                self.received = true;
                Poll::Ready(Ok(()))
            }
            (Ok(_), Some(head)) if head.body == Body::UntilClose => {
                head.done = true;
                if let Some(coded) = &mut self.coded {
                    self.sent_bytes += coded.finish(&mut self.out);
                }
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(Stop::Instance(Failure::CutOff))),
        }
    }

    /// Takes in more of a long answer without looking at it. `None`: that is not possible.
    fn poll_answer_unseen(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        let thread = &self.client.thread;
        let Some(Committed { body: Body::Length(left), done, .. }) = &mut self.committed else {
            return Poll::Ready(None);
        };
        let looks = self.coded.is_some() || !self.answer.is_empty();
        if looks || (*left < LONG_BYTES && !self.downward.used) {
            return Poll::Ready(None);
        }
        thread.buffers.give(self.answer.release());
        let came = ready!(self.downward.poll_fill(&thread.pipes, self.stream, *left, cx));
        if let Some(Ok(count)) = came {
            *left -= count as u64;
            *done = *left == 0;
        }
        Poll::Ready(came)
    }

    /// Reads what happened; until then neither connection holds a buffer.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Client { input, thread, .. } = &mut *self.client;
        thread.buffers.give(std::mem::take(&mut self.request.out));
        if input.is_empty() {
            thread.buffers.give(input.release());
        }
        self.answer.poll_arrived(self.stream, &thread.buffers, cx)
    }

    /// Whether there is room for more of the answer; there is not where its head is too long.
    fn make_room(&mut self) -> bool {
        let head = usize::try_from(self.flight.service.config().limits.head_bytes).unwrap_or(usize::MAX);
        self.answer.widen(relay_bytes(self.sent_bytes), &self.client.thread.buffers);
        self.answer.make_room(head.max(LARGEST_BYTES).saturating_add(1))
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let made = &self.out[self.out_sent..];
        let as_is = &self.answer.filled()[..self.ready];
        let slices = [std::io::IoSlice::new(made), std::io::IoSlice::new(as_is)];
        let stream = Pin::new(&mut self.client.stream);
        let Ok(count @ 1..) = ready!(stream.poll_write_vectored(cx, &slices)) else {
            return Poll::Ready(Err(Stop::ClientGone));
        };
        let of_made = count.min(made.len());
        self.out_sent += of_made;
        let of_answer = count - of_made;
        self.answer.consume(of_answer);
        self.ready -= of_answer;
        self.sent_bytes += of_answer as u64;
        if self.out_sent == self.out.len() {
            self.out.clear();
            self.out_sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// The instance pauses: what the coder holds back goes to the client. Returns whether there was anything.
    fn flush_coded(&mut self) -> bool {
        let Some(coded) = &mut self.coded else { return false };
        let length = coded.flush(&mut self.out);
        self.sent_bytes += length;
        length > 0
    }

    /// Decides what to do with the bytes at hand. `false`: more of them are needed.
    fn digest(&mut self) -> Result<bool, Failure> {
        if self.committed.is_none() && !self.commit()? {
            return Ok(false);
        }
        let Some(head) = &mut self.committed else {
            return Ok(true);
        };
        if head.done || self.answer.is_empty() {
            // Bytes behind the answer belong to nothing; such a connection is not used again.
            head.reusable &= !head.done || self.answer.is_empty();
            return Ok(true);
        }
        let (out, unpack, mut unpacked) = (&mut self.out, head.unpack, 0);
        let coded = &mut self.coded;
        let most = if coded.is_some() { compress::AT_ONCE } else { usize::MAX };
        let input = self.answer.filled();
        let step = head.body.advance_with(&input[..input.len().min(most)], |part| {
            if let Some(coded) = coded {
                coded.push(part);
            } else if unpack {
                out.extend_from_slice(part);
                unpacked += part.len() as u64;
            }
        });
        let step = step.map_err(|_| Failure::Malformed)?;
        head.done = step.done;
        if let Some(coded) = coded {
            unpacked = if step.done { coded.finish(out) } else { coded.emit(out) };
        }
        self.sent_bytes += unpacked;
        if unpack || self.coded.is_some() {
            self.answer.consume(step.taken);
        } else {
            self.ready = step.taken;
        }
        head.reusable &= !step.done || self.answer.filled().len() == self.ready;
        Ok(true)
    }

    /// Reads the head of the answer. `false`: it is not complete. An interim one is passed on without a commitment.
    fn commit(&mut self) -> Result<bool, Failure> {
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let limits = &self.flight.service.config().limits;
        let parsed = head_response::parse(self.answer.filled(), &mut room, limits, self.request.to_head);
        let Some(head) = parsed.map_err(|_| Failure::Malformed)? else {
            return Ok(false);
        };
        if head.is_upgrade() {
            return Err(Failure::Malformed);
        }
        let (minor, id) = (self.request.minor, self.request.id);
        let (id, length) = (id.as_bytes(), head.length);
        if head.is_interim() {
            if self.request.tires_of_interim() {
                return Err(Failure::Malformed);
            }
            if minor >= 1 {
                head.write(&mut self.out, &Delivery { id, minor, close: false, more: b"" });
            }
            self.answer.consume(length);
            return Ok(true);
        }
        record::head_came(self.client, self.request, self.flight, head.status);
        let events = head.is_event_stream();
        if events {
            record::is_open_ended(self.client, self.request);
        }
        let unpack = minor == 0 && matches!(head.body, Body::Chunked(_));
        let unbounded = unpack || head.body == Body::UntilClose;
        let close =
            !self.request.keep_alive || unbounded || !self.request.complete || self.client.thread.terminating.get();
        let more = affinity::fields(self.request, self.flight);
        let delivery = Delivery { id, minor, close, more: more.as_bytes() };
        let dress = dress::find(self.request, &self.flight.service, &head);
        let is_page = dress.as_ref().is_some_and(Dress::is_page);
        if let Some(mut dress) = dress {
            self.coded = dress.begin_stream(head.declared());
            let extras = self.request.extras.as_deref();
            self.sent_bytes += dress.write_head(&mut self.out, &head, extras, &delivery) as u64;
        } else {
            head.write(&mut self.out, &delivery);
        }
        self.committed = Some(Committed {
            status: head.status,
            body: head.body,
            // What follows of a body that nobody gets is not waited for: its connection ends.
            done: head.body.is_done() || is_page,
            reusable: head.keep_alive && (head.body.is_done() || !is_page),
            close,
            unpack,
            events,
        });
        self.answer.consume(length);
        Ok(true)
    }
}

/// The room for a direction in which so many bytes have passed.
fn relay_bytes(passed_bytes: u64) -> usize {
    if passed_bytes < LONG_RELAY_BYTES { RELAY_BYTES } else { LARGEST_BYTES }
}
