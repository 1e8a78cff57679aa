//! A hedge: where no answer has begun after a while, a second try at another instance runs beside the first one, and
//! whichever answers first wins.
//!
//! Off unless a service asks for it. Only a request that may be repeated is hedged, once, out of the retry budget, and
//! never one whose client stays with an instance, or that wants a connection for itself. Who loses is not counted as
//! failed: its answer is waited for a little longer by nobody but the rules of silence, since a request that is taken
//! away the moment it is late would hide an instance that has stopped; then its connection is closed. Once an answer
//! has begun, everything goes on as in any other try.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use evenkeel_core::{retry::Sent, time::Moment};
use tokio::{net::TcpStream, task::spawn_local, time::timeout};

use super::{
    attempt::{self, attempt},
    client::Client,
    exchange::{Cause, Failed, Received, is_gone, note_failure},
    receive,
    request::Request,
};
use crate::{
    buffers::Input,
    clock,
    local::InstanceLocal,
    messages::Failure,
    pick::{Asks, Flight, has_free_other, pick},
    slots::Signal,
    thread::Thread,
};

/// The longest time for which a loser's answer is waited for.
const LOSER: Duration = Duration::from_secs(1);

/// The instance closed the connection.
const CUT_OFF: Cause = Cause::Instance(Failure::CutOff);

/// A try whose request was sent.
struct Open {
    stream: TcpStream,
    answer: Input,
    reused: bool,
    sent_at: Moment,
}

/// Whether a second try may come to run beside the one that begins now.
pub(crate) fn applies(request: &Request, flight: &Flight) -> bool {
    let config = flight.service.config();
    config.retry.hedge_after_ms > 0
        && request.tries == 1
        && request.complete
        && !request.upgrade
        && !request.connect
        && !flight.trial
        && config.choice.sticky.is_none()
        && config.wire.fastcgi.is_none()
        && request.is_repeatable()
}

/// One try, with another one beside it where it is late. `flight` is the one that answered, or failed last.
pub(crate) async fn hedged(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
) -> Result<Received, Failed> {
    let result = try_both(client, request, flight).await;
    client.slot.set_immovable();
    result
}

async fn try_both(client: &mut Client, request: &mut Request, flight: &mut Flight) -> Result<Received, Failed> {
    let after_ms = flight.service.config().retry.hedge_after_ms;
    client.slot.set_movable_from(Arc::as_ptr(&flight.instance.shared), clock::millis(client.thread.now()));
    let mut first = match open(client, request, flight).await {
        Ok(first) => first,
        // The instance closed an idle connection just when it was used: the usual way begins with another one.
        Err((failed, true)) if failed.cause == CUT_OFF => return attempt(client, request, flight).await,
        Err((failed, _)) => return Err(failed),
    };
    client.arm(after_ms);
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    match client.slot.until(mask, |cx| first.poll_begins(cx)).await {
        Ok(Ok(())) => return finish(client, request, flight, first).await,
        Ok(Err(())) if first.reused => return attempt(client, request, flight).await,
        Ok(Err(())) => return Err(failed(CUT_OFF)),
        Err(Signal::Abandoned) => return Err(failed(Cause::Abandoned)),
        Err(_) => {}
    }
    client.thread.read_clock();
    let Some(other) = choose(client, request, flight) else {
        return alone(client, request, flight, first).await;
    };
    request.begin_hedge(&other);
    let opening = Box::pin(open(client, request, &other));
    let beside = beside(&mut first, opening).await;
    if let Beside::Second(Ok(second)) = beside {
        return race(client, request, (flight, first), (other, second)).await;
    }
    if let Beside::Second(Err((late, false))) = beside {
        note_failure(client, &other, late.cause);
    }
    // Nothing is in flight there, and nobody waits for its answer.
    drop(other);
    match beside {
        Beside::First(Ok(())) => finish(client, request, flight, first).await,
        // The second one has not been sent yet: the usual way makes another try of it.
        Beside::First(Err(())) if first.reused => attempt(client, request, flight).await,
        Beside::First(Err(())) => Err(failed(CUT_OFF)),
        Beside::Second(Err((Failed { cause: Cause::Abandoned, .. }, _))) => Err(failed(Cause::Abandoned)),
        Beside::Second(_) => alone(client, request, flight, first).await,
    }
}

/// The first one goes on, with nobody beside it and no more time than it would have had.
async fn alone(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    mut first: Open,
) -> Result<Received, Failed> {
    let expired = arm(client, flight, &first);
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    match client.slot.until(mask, |cx| first.poll_begins(cx)).await {
        Ok(Ok(())) => finish(client, request, flight, first).await,
        Ok(Err(())) if first.reused => attempt(client, request, flight).await,
        Ok(Err(())) => Err(failed(CUT_OFF)),
        Err(Signal::Abandoned) => Err(failed(Cause::Abandoned)),
        Err(_) => Err(failed(expired)),
    }
}

/// Waits no longer than until this try's time is over; returns what it means if it is.
fn arm(client: &Client, flight: &Flight, first: &Open) -> Cause {
    let (wait_ms, short_try) = receive::bound(flight);
    let waited = client.thread.read_clock().since(first.sent_at);
    client.arm(wait_ms.saturating_sub(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)).max(1));
    if short_try { Cause::Instance(Failure::Timeout) } else { Cause::ResponseTimeout }
}

/// Both were sent: who begins to answer first has won. A second one that only says that its instance has failed has not,
/// as long as the first may still do better: without it the request would have waited too.
async fn race(
    client: &mut Client,
    request: &mut Request,
    (flight, mut first): (&mut Flight, Open),
    (mut other, mut second): (Flight, Open),
) -> Result<Received, Failed> {
    let expired = arm(client, flight, &first);
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    let begins = |cx: &mut Context<'_>| {
        if let Poll::Ready(begun) = first.poll_begins(cx) {
            return Poll::Ready((true, begun));
        }
        if second.has_failed() {
            return Poll::Pending;
        }
        match second.poll_begins(cx) {
            Poll::Ready(Ok(())) if second.has_failed() => Poll::Pending,
            begun => begun.map(|begun| (false, begun)),
        }
    };
    let (first_goes_on, loses) = match client.slot.until(mask, begins).await {
        Ok((is_first, Ok(()))) => (is_first, None),
        // One of them was cut off: the other one has the request to itself.
        Ok((is_first, Err(()))) => (!is_first, Some(CUT_OFF)),
        Err(Signal::Abandoned) => (false, Some(Cause::Abandoned)),
        // Better than no answer.
        Err(_) if second.has_failed() => (false, None),
        Err(_) => return Err(failed(expired)),
    };
    if !first_goes_on {
        std::mem::swap(flight, &mut other);
        std::mem::swap(&mut first, &mut second);
        client.slot.set_movable_from(Arc::as_ptr(&flight.instance.shared), clock::millis(client.thread.now()));
    }
    let has_begun = loses.is_none();
    let won = |request: &Request| request.service.cell().hedges_won.add(u64::from(!first_goes_on));
    let died = match loses {
        None => {
            won(request);
            spawn_local(wait_for_loser(Rc::clone(&client.thread), other, second));
            None
        }
        Some(cause) => {
            let died = give_up(client, &other, second.reused, cause);
            drop((other, second));
            died
        }
    };
    let result = finish(client, request, flight, first).await;
    match died {
        _ if result.is_ok() && !has_begun => won(request),
        // Had the request been answered elsewhere, it could hardly be what kills instances.
        Some(instance) if result.is_err() && is_gone(client, &flight.service, &instance).await => request.deaths.note(),
        _ => {}
    }
    result
}

/// What comes of two tries of which one is being sent.
enum Beside {
    First(Result<(), ()>),
    Second(Result<Open, (Failed, bool)>),
}

async fn beside(first: &mut Open, mut second: Pin<Box<impl Future<Output = Result<Open, (Failed, bool)>>>>) -> Beside {
    poll_fn(|cx| match first.poll_begins(cx) {
        Poll::Ready(begun) => Poll::Ready(Beside::First(begun)),
        Poll::Pending => second.as_mut().poll(cx).map(Beside::Second),
    })
    .await
}

/// Another instance that has proven itself, if there is one and the budget allows it.
fn choose(client: &Client, request: &Request, flight: &Flight) -> Option<Flight> {
    let service = &flight.service;
    // Who waits for a free instance has had no try yet.
    if service.view().shared.holding.load(Relaxed) > 0 {
        return None;
    }
    if !has_free_other(service, &flight.instance) || !client.thread.may_hedge(service) {
        return None;
    }
    let asks = Asks { tried: &request.tried, client: client.address, movable: false, tie: request.tie() };
    let other = pick(&client.thread, service, asks).ok()?;
    (!other.trial && !Rc::ptr_eq(&other.instance, &flight.instance)).then_some(other)
}

/// Connects or takes a kept connection, and sends. The error says whether the connection had been used before.
async fn open(client: &Client, request: &Request, flight: &Flight) -> Result<Open, (Failed, bool)> {
    let kept = attempt::kept(client, flight, true);
    let reused = kept.is_some();
    let mut stream = match kept {
        Some(stream) => stream,
        None => attempt::connect(client, flight).await.map_err(|failed| (failed, false))?,
    };
    let sent_at = client.thread.now();
    attempt::send(client, request, flight, &mut stream).await.map_err(|failed| (failed, reused))?;
    Ok(Open { stream, answer: Input::new(client.thread.buffers.take()), reused, sent_at })
}

/// The answer has begun, or nobody else is left to give one: from here on it is a try like any other.
async fn finish(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    open: Open,
) -> Result<Received, Failed> {
    client.thread.read_clock();
    request.sent_at = Some(open.sent_at);
    attempt::answer(client, request, flight, open.stream, open.answer).await
}

/// One of two tries failed while the other one goes on. Returns its instance if that was cut off while it worked on this
/// request alone.
fn give_up(client: &Client, flight: &Flight, reused: bool, cause: Cause) -> Option<Rc<InstanceLocal>> {
    if cause != CUT_OFF || reused {
        // It leaves a silent instance, or that closed an idle connection just when it was used: nothing to blame it for.
        return None;
    }
    let alone = flight.cut_off();
    note_failure(client, flight, cause);
    alone.then(|| Rc::clone(&flight.instance))
}

/// The loser's request counts as in flight until its answer begins or the time is over.
async fn wait_for_loser(thread: Rc<Thread>, flight: Flight, mut open: Open) {
    let begun = open.has_failed() || matches!(timeout(LOSER, poll_fn(|cx| open.poll_begins(cx))).await, Ok(Ok(())));
    if begun {
        flight.instance.cell().last_received_ms.set(clock::millis(thread.read_clock()));
    }
    thread.buffers.give(open.answer.release());
}

impl Open {
    /// Whether an answer has begun that says that its instance cannot serve (RFC 9110 section 15.6): `HTTP/1.1 5xx`.
    fn has_failed(&self) -> bool {
        self.answer.filled().get(9) == Some(&b'5')
    }

    /// Whether bytes of the answer are there; an error: there will be none.
    fn poll_begins(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.answer.make_room(usize::MAX);
        let Self { stream, answer, .. } = self;
        answer.poll_fill(stream, cx).map(|read: io::Result<usize>| match read {
            Ok(1..) => Ok(()),
            _ => Err(()),
        })
    }
}

fn failed(cause: Cause) -> Failed {
    Failed { cause, sent: Sent::Something, received: false }
}
