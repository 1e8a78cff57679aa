//! The answer's direction of a relay: its head, dressed for the client, then the body as the instance sends it.
//!
//! The body passes through a pipe unseen, or as it came, or unpacked from its chunks, or coded on its way. Owns nothing: the
//! state is [`Duplex`]'s. An answer that is cut off never ends here as a whole one.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{Committed, Duplex, Stop, relay_bytes};
use crate::{
    buffers::LARGEST_BYTES,
    clock,
    http::{
        affinity,
        client::Client,
        compress,
        dress::{self, Dress},
        fields::MOST_FIELDS,
        framing::Body,
        head_request::FieldRoom,
        head_response::{self, Delivery},
        record,
    },
    messages::Failure,
    pipes::LONG_BYTES,
};

impl Duplex<'_> {
    /// One step of the answer's direction.
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
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
        let more = affinity::fields(&self.client.thread, self.request, self.flight);
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
            // Bytes behind an answer belong to nothing.
            reusable: head.keep_alive
                && if head.body.is_done() { self.answer.filled().len() == length } else { !is_page },
            close,
            unpack,
            events,
        });
        self.answer.consume(length);
        self.request.settle(self.flight);
        Ok(true)
    }
}
