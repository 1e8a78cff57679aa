//! The request's direction of a relay: what was taken in first, then the body as the client sends it.
//!
//! What can pass through a pipe is never seen here. Owns nothing: the state is [`Duplex`]'s. It never decides what a
//! failure means; where the instance takes no more, it may still answer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{Duplex, Stop, Up, relay_bytes};
use crate::{
    buffers::LARGEST_BYTES,
    clock,
    http::{client::Client, framing::Body, intake::Gather},
    messages::Failure,
    pipes::{LONG_BYTES, Passage},
};

impl Duplex<'_> {
    /// One step of the request's direction.
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
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
            self.passes_on();
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
        self.passes_on();
        self.up = Up::Body { ready: step.taken };
        Poll::Ready(Ok(()))
    }

    /// Some of the body is on its way and kept nowhere: the request stays where it is.
    fn passes_on(&mut self) {
        if !self.request.passed_on {
            self.request.passed_on = true;
            self.request.settle(self.flight);
        }
    }
}
