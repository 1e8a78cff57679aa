//! Taking requests in: waiting for a head, understanding it, finding its route, gathering a small body.
//!
//! Between requests a connection waits here, without a buffer. A head is understood, routed and written anew in
//! one go, so that nothing borrows from the input while a task waits.

use std::{io, mem::MaybeUninit, rc::Rc};

use evenkeel_core::{
    retry::{LonelyDeaths, is_idempotent},
    time::Moment,
};

use super::{
    client::{Client, Refusal},
    fields::MOST_FIELDS,
    framing::Body,
    head_request::{self, FieldRoom, Forwarding, Reject, RequestHead},
    request::{Id, Request},
};
use crate::{buffers::Input, pick::Tried, slots::Signal};

/// What came of waiting for a request.
pub(crate) enum Received {
    Request(Request),
    /// The connection is over.
    End,
    /// It is refused.
    Refused(Refusal),
}

impl Client {
    /// Waits for the next request.
    pub(crate) async fn receive(&mut self) -> Received {
        if self.input.is_empty() && !self.wait_idle().await {
            return Received::End;
        }
        if !self.find_place() {
            return Received::End;
        }
        let started = self.thread.read_clock();
        let head_bytes = usize::try_from(self.limits().head_bytes).unwrap_or(usize::MAX >> 1);
        self.arm(self.limits().head_timeout_ms);
        loop {
            if !self.input.is_empty() {
                match self.understand(started) {
                    Ok(Some(request)) => return Received::Request(request),
                    Ok(None) => {}
                    Err(refusal) => return Received::Refused(refusal),
                }
            } else if !self.input.has_buffer() {
                self.input = Input::new(self.thread.buffers.take());
            }
            self.input.make_room(head_bytes.saturating_add(8));
            match self.fill().await {
                Ok(Ok(0) | Err(_)) => return Received::End,
                // What follows is measured from here.
                Ok(Ok(_)) => drop(self.thread.read_clock()),
                Err(_) => return Received::Refused(Reject::new(408, "the request head took too long").into()),
            }
        }
    }

    /// Reads once within the deadline.
    async fn fill(&mut self) -> Result<io::Result<usize>, Signal> {
        let Self { slot, input, stream, .. } = self;
        slot.until(Signal::Expired as u8, |cx| input.poll_fill(stream, cx)).await
    }

    /// Waits without a buffer until something arrives, and reads it. `false`: the connection has been idle for too
    /// long, the edge ends, or the client is gone.
    async fn wait_idle(&mut self) -> bool {
        if self.thread.terminating.get() {
            return false;
        }
        self.arm(self.limits().keep_alive_ms);
        self.slot.set_idle(true);
        let Self { slot, input, stream, thread, .. } = self;
        let mask = Signal::Expired as u8 | Signal::Close as u8;
        let arrived = slot.until(mask, |cx| input.poll_arrived(stream, &thread.buffers, cx)).await;
        slot.set_idle(false);
        matches!(arrived, Ok(Ok(1..)))
    }

    /// Parses the head at hand, finds its route and writes it anew.
    fn understand(&mut self, started: Moment) -> Result<Option<Request>, Refusal> {
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let input = self.input.filled();
        let limits = &self.place.listener.config.limits;
        let Some(head) = head_request::parse(input, &mut room, limits)? else {
            return Ok(None);
        };
        let too_large = Reject::new(413, "request body too large");
        if matches!(head.body, Body::Length(length) if length > limits.body_bytes) {
            return Err(too_large.into());
        }
        let (mut body, mut content_bytes) = (head.body, 0);
        let step = body.advance_with(&input[head.length..], |part| content_bytes += part.len() as u64);
        let step = step.map_err(|bad| Reject::new(400, bad.0))?;
        if content_bytes > limits.body_bytes {
            return Err(too_large.into());
        }
        let used = head.length + step.taken;
        let to_head = head.method == b"HEAD";
        let path = if head.path == b"*" { b"/" } else { head.path };
        let Some(route) = self.place.listener.routes.find(head.host(), head.method, path, |n, v| head.field_is(n, v))
        else {
            let next = (step.done && head.keep_alive).then_some((head.minor, to_head));
            self.input.consume(used);
            return Err(Refusal { reject: Reject::new(404, "no route leads anywhere from here"), next });
        };
        let id = self.identify(&head);
        let expect = head.expects_continue && !step.done;
        let forwarding =
            Forwarding { client: self.address_text(), trusted: self.place.trusted, id: id.as_bytes(), expect };
        let mut out = self.thread.buffers.take();
        head.write(&mut out, &forwarding);
        out.extend_from_slice(&input[head.length..used]);
        let service = Rc::clone(&self.place.view.services[route.service]);
        service.unreported.set(service.unreported.get().wrapping_add(1));
        let request = Request {
            service,
            out,
            body,
            complete: step.done,
            passed_on: false,
            content_bytes,
            to_head,
            idempotent: is_idempotent(head.method),
            keyed: route.idempotency_key && head.passes_on(b"idempotency-key").is_some_and(|key| !key.is_empty()),
            expect,
            minor: head.minor,
            keep_alive: head.keep_alive,
            id,
            started,
            tries: 0,
            tried: Tried::default(),
            interim: 0,
            paused_ms: 0,
            sent_at: None,
            upgrade: head.upgrades,
            deaths: LonelyDeaths::default(),
            head_us: None,
            extras: None,
        };
        self.input.consume(used);
        Ok(Some(request))
    }

    fn identify(&self, head: &RequestHead<'_, '_>) -> Id {
        let given = if self.place.trusted { head.field(b"x-request-id").and_then(Id::new) } else { None };
        given.unwrap_or_else(|| Id::fresh(self.thread.ids.next()))
    }

    /// Reads the rest of a small body, so that the whole request is at hand before an instance is involved.
    pub(crate) async fn gather(&mut self, request: &mut Request, most: usize) -> Result<(), Gather> {
        let Body::Length(rest) = request.body else {
            return Ok(());
        };
        let fits = usize::try_from(rest).is_ok_and(|rest| rest + request.out.len() <= most);
        if request.complete || request.expect || !fits {
            return Ok(());
        }
        loop {
            if !self.input.is_empty() {
                let step = request.body.advance(self.input.filled()).map_err(|bad| Gather::Bad(bad.0))?;
                request.out.extend_from_slice(&self.input.filled()[..step.taken]);
                request.content_bytes += step.taken as u64;
                self.input.consume(step.taken);
                if step.done {
                    request.complete = true;
                    return Ok(());
                }
            }
            if !self.input.has_buffer() {
                self.input = Input::new(self.thread.buffers.take());
            }
            self.arm(self.limits().body_idle_ms);
            self.input.make_room(most);
            match self.fill().await {
                Ok(Ok(0) | Err(_)) => return Err(Gather::Gone),
                Ok(Ok(_)) => self.thread.read_clock(),
                Err(_) => return Err(Gather::Slow),
            };
        }
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gather {
    Gone,
    Slow,
    Bad(&'static str),
}

impl Gather {
    /// As a refusal; `None` where nobody is left to be told.
    pub(crate) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Gone => None,
            Self::Slow => Some(Reject::new(408, "the request body took too long").into()),
            Self::Bad(reason) => Some(Reject::new(400, reason).into()),
        }
    }
}
