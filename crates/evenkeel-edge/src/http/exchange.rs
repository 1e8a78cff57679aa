//! One request at the instances: choose one, try, and if that fails and it is safe, again elsewhere.
//!
//! A single try is made in [`super::attempt`]. Here is decided what follows from its end: the answer goes to the
//! client, another try is made, or the edge answers itself. The pure rules of what may be repeated live in core.

use std::{
    convert::Infallible,
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use evenkeel_core::{
    retry::{self, Sent, retry_after_s},
    snapshot::ErrorPage,
};

use tokio::net::TcpStream;

use super::{
    attempt::attempt,
    client::{Client, Gone},
    errors::{OwnAnswer, OwnPage},
    hedge, record,
    request::Request,
    sample::{self, FailedAt},
    seldom,
};
use crate::{
    hold::{Answers, Refused, Seeker, acquire},
    local::{InstanceLocal, ServiceLocal},
    messages::{Failure, Notice},
    pick::{Flight, all_tried},
    slots::Signal,
};

/// How long the listening socket of a process that has died may go on letting in, in milliseconds. A retry that follows a
/// cut-off waits that long where the instance lives.
const LETS_IN_MS: u64 = 50;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The answer's status; 0 where the client got none.
    pub(crate) status: u16,
    /// Body bytes sent to the client.
    pub(crate) sent_bytes: u64,
    pub(crate) end: End,
    /// The connection may carry another request.
    pub(crate) keep: bool,
    /// The client may still be sending: what comes is read for a while before the connection is closed.
    pub(crate) linger: bool,
}

/// Whether the client got what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A whole answer.
    Answered,
    /// No whole answer, although the client waited.
    Aborted,
    /// The client went away first.
    Cancelled,
}

impl Outcome {
    /// The client went away.
    pub(crate) const fn cancelled(status: u16) -> Self {
        Self { status, sent_bytes: 0, end: End::Cancelled, keep: false, linger: false }
    }
}

/// A try that failed before anything of its answer reached the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    pub(crate) sent: Sent,
    /// Whether any byte of an answer had arrived.
    pub(crate) received: bool,
}

/// Why a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Instance(Failure),
    /// The whole time for the answer is used up; no further try can help.
    ResponseTimeout,
    /// The instance was abandoned, see `ToThread::Abandon`.
    Abandoned,
    /// An instance on trial answered with this server error; the retry is paid for.
    Trial(u16),
    /// There was nothing left here for one more connection; the instance is not to blame.
    Scarce,
    /// The client went away; the instance is not to blame.
    ClientGone,
}

/// An answer that is whole or was passed on.
pub(crate) enum Received {
    /// It is in `Request::out`, ready to be written.
    Whole { status: u16, body_bytes: usize, close: bool },
    /// It was passed on while it came.
    Relayed(Outcome),
}

/// Takes a request to an instance and its answer to the client.
pub(crate) async fn run(client: &mut Client, request: &mut Request) -> Outcome {
    let mut failed_at: Option<FailedAt> = None;
    loop {
        if request.tries > 0 || request.paused_ms > 0 {
            client.thread.read_clock();
            client.thread.refresh(&mut request.service);
        }
        let seeker = Seeker {
            thread: &client.thread,
            slot: &client.slot,
            stream: &client.stream,
            client: client.address,
            tried: request.tried,
            movable: request.is_movable(),
            tie: request.tie(),
            main: request.extras.as_ref().and_then(|extras| extras.main.as_ref()),
        };
        let mut flight = match acquire(seeker, &mut request.service).await {
            Ok(Answers::Instance(flight)) => flight,
            Ok(Answers::Page) => return seldom(page(client, request)).await,
            Err(Refused::ClientGone) => return Outcome::cancelled(0),
            Err(Refused::Unavailable) => return seldom(unavailable(client, request)).await,
        };
        sample::retried(client, request, failed_at.take(), &flight);
        request.begin_try(&flight);
        let result = if hedge::applies(request, &flight) {
            seldom(hedge::hedged(client, request, &mut flight)).await
        } else {
            attempt(client, request, &mut flight).await
        };
        match result {
            Ok(Received::Whole { status, body_bytes, close }) => {
                note_answer(client, &flight, status);
                // The instance is free for others while a slow client takes its answer.
                drop(flight);
                return deliver(client, request, status, body_bytes, close).await;
            }
            Ok(Received::Relayed(outcome)) => return outcome,
            Err(Failed { cause: Cause::ClientGone, .. }) => return Outcome::cancelled(0),
            Err(failed) => {
                if failed.cause == Cause::Instance(Failure::CutOff) && failed.sent == Sent::Something {
                    let alone = flight.cut_off();
                    if alone && seldom(is_gone(client, &flight.service, &flight.instance)).await {
                        request.deaths.note();
                    }
                }
                note_failure(client, &flight, failed.cause);
                failed_at = Some(FailedAt { instance: Arc::clone(&flight.instance.shared), cause: failed.cause });
                drop(flight);
                let goes_on = if failed.cause == Cause::Scarce || reached_nobody(request, failed) {
                    seldom(pause(client, request)).await
                } else {
                    may_go_on(client, request, failed)
                };
                if !goes_on {
                    return seldom(give_up(client, request, failed.cause)).await;
                }
            }
        }
    }
}

/// Whether the request may be sent once more. Requests that leave an abandoned instance are not charged to the
/// budget: there are only as many of them as were in flight.
fn may_go_on(client: &Client, request: &Request, failed: Failed) -> bool {
    if matches!(failed.cause, Cause::Trial(_)) {
        return true;
    }
    failed.cause != Cause::ResponseTimeout
        && !request.deaths.accuse()
        && request.may_repeat(failed.sent)
        && (failed.cause == Cause::Abandoned || client.thread.may_spend(&request.service))
}

/// Whether every healthy instance was tried, and the last of them could not even be connected to. Trying them again
/// at once would use up the tries before anybody can have noticed.
fn reached_nobody(request: &Request, failed: Failed) -> bool {
    let alone = request.main().is_none_or(|main| Arc::ptr_eq(&main.view().shared, &request.service.view().shared));
    failed.sent == Sent::Nothing && all_tried(&request.service, &request.tried) && alone
}

/// Whether nobody listens any more where a connection was just cut off: its process has died, and has not merely closed
/// a connection. The kernel closes the sockets of a dead process in no certain order, often the one that listens last:
/// who was let in meanwhile is reset with it.
pub(crate) async fn is_gone(client: &Client, service: &ServiceLocal, instance: &InstanceLocal) -> bool {
    let Some(address) = instance.shared.resolved() else { return false };
    client.thread.read_clock();
    client.arm(service.config().limits.connect_timeout_ms);
    let mut connecting = Box::pin(TcpStream::connect(address));
    match client.slot.until(Signal::Expired as u8, |cx| connecting.as_mut().poll(cx)).await {
        Ok(Ok(let_in)) => {
            client.thread.read_clock();
            client.arm(LETS_IN_MS);
            let ready = client.slot.until(Signal::Expired as u8, |cx| let_in.poll_read_ready(cx)).await;
            matches!(ready, Ok(Ok(()))) && let_in.try_read(&mut [0]).is_err_and(|error| is_nobody(&error))
        }
        Ok(Err(error)) => is_nobody(&error),
        Err(_) => false,
    }
}

/// Whether this is what a kernel says for a process that is not there any more.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// Waits until somebody may be reached: the request is held, as it would be had the edge known that nobody can. Returns
/// whether it may go on.
async fn pause(client: &Client, request: &mut Request) -> bool {
    let Some(pause_ms) = retry::pause_ms(request.paused_ms, &request.service.config().hold) else {
        return false;
    };
    client.thread.read_clock();
    client.thread.slots.arm(&client.slot, client.thread.deadline_ms(pause_ms));
    let never = |_: &mut Context<'_>| Poll::<Infallible>::Pending;
    let Err(_expired) = client.slot.until(Signal::Expired as u8, never).await;
    request.forget_try(pause_ms);
    true
}

/// Counts a failed try.
pub(crate) fn note_failure(client: &Client, flight: &Flight, cause: Cause) {
    let failure = match cause {
        Cause::Instance(failure) => failure,
        Cause::ResponseTimeout => Failure::Timeout,
        Cause::Trial(_) => Failure::Status,
        Cause::Abandoned | Cause::Scarce | Cause::ClientGone => return,
    };
    let cell = flight.instance.cell();
    cell.failed.add(1);
    cell.failed_in_row.add(1);
    record::failed(client, flight);
    client.thread.notify(Notice::Failed { instance: Arc::clone(&flight.instance.shared), failure });
}

/// Counts a whole answer of an instance. One on trial must not answer with a server error, whatever its service says.
pub(crate) fn note_answer(client: &Client, flight: &Flight, status: u16) {
    if flight.trial && matches!(status, 500..=599) {
        return note_failure(client, flight, Cause::Trial(status));
    }
    let cell = flight.instance.cell();
    cell.answered.add(1);
    cell.failed_in_row.set(0);
    if record::is_failure(status) {
        cell.answered_5xx.add(1);
        record::failed(client, flight);
        if flight.service.config().ejection.count_5xx {
            let instance = Arc::clone(&flight.instance.shared);
            client.thread.notify(Notice::Failed { instance, failure: Failure::Status });
        }
    }
}

async fn unavailable(client: &mut Client, request: &mut Request) -> Outcome {
    let wait = Duration::from_millis(request.service.config().hold.max_ms);
    answer(client, request, 503, "no instance can take this request now", Some(retry_after_s(wait))).await
}

async fn give_up(client: &mut Client, request: &mut Request, cause: Cause) -> Outcome {
    if cause == Cause::Scarce {
        return unavailable(client, request).await;
    }
    let (status, reason) = match cause {
        _ if request.deaths.accuse() => {
            (502, "two instances died while they worked on this request alone, so it is not sent to another")
        }
        Cause::Instance(Failure::Timeout | Failure::ConnectTimeout) | Cause::ResponseTimeout => {
            (504, "the instance did not answer in time")
        }
        Cause::Instance(Failure::Malformed) => (502, "the instance gave an answer that could not be understood"),
        _ => (502, "the instance gave no whole answer"),
    };
    answer(client, request, status, reason, None).await
}

/// The answer of a service that is a page.
async fn page(client: &mut Client, request: &mut Request) -> Outcome {
    let close = !request.keep_alive || !request.complete || client.thread.terminating.get();
    let service = Rc::clone(&request.service);
    let config = service.config();
    let page = config.page.as_ref().expect("whoever answers with a page has one");
    let wait = (page.status == 503).then(|| retry_after_s(Duration::from_millis(config.hold.max_ms)));
    let (minor, to_head, id) = (request.minor, request.to_head, request.id);
    let own = OwnPage { page, status: page.status, id: id.as_bytes(), close, minor, to_head, retry_after_s: wait };
    request.out.clear();
    let body_bytes = own.write(&mut request.out);
    deliver(client, request, page.status, body_bytes, close).await
}

/// An answer of the edge itself to a request that has a service.
async fn answer(
    client: &mut Client,
    request: &mut Request,
    status: u16,
    reason: &str,
    retry_after_s: Option<u64>,
) -> Outcome {
    let close = !request.keep_alive || !request.complete || client.thread.terminating.get();
    let own = OwnAnswer {
        status,
        reason,
        id: request.id.as_bytes(),
        close,
        minor: request.minor,
        to_head: request.to_head,
        retry_after_s,
    };
    request.out.clear();
    let pages: [&[ErrorPage]; 2] =
        [&request.service.config().answers.error_pages, &client.place.listener().config.error_pages];
    let body_bytes = own.write_or_page(&pages, &mut request.out);
    deliver(client, request, status, body_bytes, close).await
}

async fn deliver(client: &mut Client, request: &Request, status: u16, body_bytes: usize, close: bool) -> Outcome {
    if let Err(Gone) = client.write_all(&request.out).await {
        return Outcome::cancelled(status);
    }
    // Bytes of a next request may be there too, or the rest of this one.
    let linger = close && !(request.complete && client.input.is_empty());
    Outcome { status, sent_bytes: body_bytes as u64, end: End::Answered, keep: !close, linger }
}
