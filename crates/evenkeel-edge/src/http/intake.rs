//! Taking requests in: waiting for a head, understanding it, finding its route, gathering a small body.
//!
//! Between requests a connection waits here, without a buffer. A head is understood, routed and written anew in
//! one go, so that nothing borrows from the input while a task waits.

use std::{
    io,
    mem::MaybeUninit,
    rc::Rc,
    task::{Context, Poll, ready},
};

use evenkeel_core::{
    retry::{LonelyDeaths, is_idempotent},
    time::Moment,
};

use super::{
    address::AddressText,
    affinity,
    ambiguous::SecondLook,
    client::{Client, Refusal},
    cookie, dress,
    fields::MOST_FIELDS,
    framing::Body,
    guard_rails::{self, Way},
    head_request::{self, FieldRoom, Forwarding, Reject, RequestHead},
    pace::patience_ms,
    request::{Id, Request},
    rewrite,
};
use crate::{
    buffers::{FRESH_BYTES, Input},
    pick::Tried,
    routes::Destination,
    slots::Signal,
};

/// Room for what a head has more when it is written anew, in bytes. One that needs more has it, at the cost of an
/// allocation.
const ADDED_BYTES: usize = 512;

/// What came of waiting for a request.
pub(crate) enum Received {
    /// It was put where the caller wanted it.
    Request,
    /// The connection is over.
    End,
    /// It is refused.
    Refused(Refusal),
}

/// A request whose head was understood, with what is at hand of its body.
struct Came<'b, 'f> {
    head: RequestHead<'b, 'f>,
    /// What remains of the body.
    body: Body,
    content_bytes: u64,
    /// The whole body is at hand.
    done: bool,
    /// Bytes of the input that belong to it.
    used: usize,
    started: Moment,
}

impl Client {
    /// Takes in the next request, of which at least one byte is there. It is made in its place, since it is large and
    /// would otherwise be moved several times.
    pub(crate) async fn receive(&mut self, into: &mut Option<Request>) -> Received {
        if !self.find_place() {
            return Received::End;
        }
        let started = self.thread.read_clock();
        let head_bytes = usize::try_from(self.limits().head_bytes).unwrap_or(usize::MAX >> 1);
        // Most heads are there at once, so that nothing is waited for.
        let mut armed = false;
        loop {
            if !self.input.is_empty() {
                let came = self.input.filled().len();
                match self.understand(started, into) {
                    Ok(true) => return Received::Request,
                    Ok(false) => {}
                    // It was understood and taken out: what stands there now is another one.
                    Err(refusal) if self.input.filled().len() < came => return Received::Refused(refusal),
                    Err(refusal) => match self.look_again(&refusal) {
                        SecondLook::Refused => return Received::Refused(refusal),
                        SecondLook::PutRight => continue,
                        SecondLook::Incomplete => {}
                    },
                }
            } else if !self.input.has_buffer() {
                self.input = Input::new(self.thread.buffers.take());
            }
            self.input.make_room(head_bytes.saturating_add(8));
            if !armed {
                self.arm(self.limits().head_timeout_ms);
                armed = true;
            }
            match self.fill().await {
                Ok(Ok(0) | Err(_)) => return Received::End,
                // What follows is measured from here, and belongs to the view that is the newest now.
                Ok(Ok(_)) => {
                    self.thread.read_clock();
                    self.find_place();
                }
                Err(_) => return Received::Refused(Reject::new(408, "the request head took too long").into()),
            }
        }
    }

    /// Reads once within the deadline.
    async fn fill(&mut self) -> Result<io::Result<usize>, Signal> {
        let Self { slot, input, stream, .. } = self;
        slot.until(Signal::Expired as u8, |cx| input.poll_fill(stream, cx)).await
    }

    /// From now on it waits for the first byte of a request. `false`: the edge ends, so nothing is waited for.
    pub(crate) fn begin_idle(&self) -> bool {
        if self.thread.terminating.get() {
            return false;
        }
        self.arm(self.limits().keep_alive_ms);
        self.slot.set_idle(true);
        true
    }

    /// Waits without a buffer until something arrives, and reads it. `false`: the connection has been idle for too
    /// long, the edge ends, or the client is gone.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self { slot, input, stream, thread, .. } = self;
        let arrived = match input.poll_arrived(stream, &thread.buffers, cx) {
            Poll::Ready(read) => matches!(read, Ok(1..)),
            Poll::Pending => {
                ready!(slot.poll_signal(Signal::Expired as u8 | Signal::Close as u8, cx));
                false
            }
        };
        slot.set_idle(false);
        Poll::Ready(arrived)
    }

    /// Parses the head at hand; what it leads to is found in [`Self::lead`]. `false`: more of it is needed.
    fn understand(&mut self, started: Moment, into: &mut Option<Request>) -> Result<bool, Refusal> {
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let input = self.input.filled();
        let limits = self.limits();
        let Some(mut head) = head_request::parse(input, &mut room, limits)? else {
            return Ok(false);
        };
        if head.underscored {
            self.settle_underscored(&mut head);
        }
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
        let came = Came { head, body, content_bytes, done: step.done, used, started };
        let led = self.lead(&came, into);
        self.input.consume(used);
        self.input.rest(&self.thread.buffers);
        led.map(|()| true)
    }

    /// Finds the route of a request whose head was understood, and writes it anew.
    fn lead(&self, came: &Came<'_, '_>, into: &mut Option<Request>) -> Result<(), Refusal> {
        let head = &came.head;
        let to_head = head.method == b"HEAD";
        // `*`, and the host and port of CONNECT, lie at the root.
        let plain = head.path.starts_with(b"/");
        let path = if plain { head.path } else { b"/" };
        let connect = !plain && head.method == b"CONNECT";
        // Whatever follows a CONNECT is not for the edge to read, also where it is refused.
        let keep_alive = head.keep_alive && !connect;
        let next = (came.done && keep_alive).then_some((head.minor, to_head));
        let routes = &self.place.listener().routes;
        let route = routes.find(head.host(), head.method, path, |n, v| head.field_is(n, v));
        let route = route.map_err(|bad| Refusal { next, ..Reject::new(400, bad.0).into() })?;
        let Some(route) = route else {
            return Err(Refusal { reject: Reject::new(404, "no route leads anywhere from here"), next, told: None });
        };
        let way = match (&route.destination, &route.actions) {
            (Destination::Service(place), None) if plain => Way { place: *place, extras: None },
            _ => guard_rails::pass(self, head, route).map_err(|refusal| Refusal { next, ..refusal })?,
        };
        let id = self.identify(head);
        let expect = head.expects_continue && !came.done;
        let address = AddressText::new(self.address);
        let forwarding =
            Forwarding { client: address.as_bytes(), trusted: self.place.trusted, id: id.as_bytes(), expect };
        let changes = match route.actions {
            None => None,
            Some(_) => {
                rewrite::of_request(route, head, &forwarding).map_err(|reject| Refusal { next, ..reject.into() })?
            }
        };
        let mut out = self.thread.buffers.take_of(came.used + ADDED_BYTES);
        head.write_changed(&mut out, &forwarding, changes.as_ref());
        cookie::strip_sessions(head.values(b"cookie"), &mut out);
        let service = Rc::clone(&self.place.services()[way.place]);
        let mut extras = way.extras;
        if service.view().choosing.by_head {
            affinity::note(self.thread.tokens(), &service, head, &mut extras, &mut out);
        }
        out.extend_from_slice(&self.input.filled()[head.length..came.used]);
        service.unreported.set(service.unreported.get().wrapping_add(1));
        let request = into.insert(Request {
            service,
            out,
            body: came.body,
            complete: came.done,
            passed_on: false,
            content_bytes: came.content_bytes,
            to_head,
            idempotent: is_idempotent(head.method),
            keyed: route.idempotency_key && head.passes_on(b"idempotency-key").is_some_and(|key| !key.is_empty()),
            expect,
            minor: head.minor,
            keep_alive,
            id,
            started: came.started,
            tries: 0,
            tried: Tried::default(),
            interim: 0,
            paused_ms: 0,
            sent_at: None,
            upgrade: head.upgrades,
            connect,
            deaths: LonelyDeaths::default(),
            head_us: None,
            extras,
        });
        dress::note(request, route, head, &forwarding);
        Ok(())
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
        let began_ms = crate::clock::millis(self.thread.now());
        self.thread.buffers.widen(&mut request.out, FRESH_BYTES);
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
            let waited_ms = crate::clock::millis(self.thread.now()).saturating_sub(began_ms);
            self.arm(patience_ms(self.limits(), waited_ms, request.content_bytes));
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
