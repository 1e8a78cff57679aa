//! Receiving an answer until it is whole.
//!
//! A small complete answer to a request that may be repeated is put together before the first byte of it goes to
//! the client, so that an instance's death in the middle can still be made good. What is complete at the first
//! look goes out in one piece in any case. Everything else is left to [`super::relay`].

use std::mem::MaybeUninit;

use evenkeel_core::retry::Sent;
use tokio::net::TcpStream;

use super::{
    affinity,
    client::Client,
    dress::{self, Dress, Whole},
    exchange::{Cause, Failed, Received},
    fields::MOST_FIELDS,
    head_request::FieldRoom,
    head_response::{self, BadAnswer, Delivery, ResponseHead},
    record,
    request::Request,
};
use crate::{
    buffers::Input,
    clock,
    messages::Failure,
    pick::{Flight, has_proven_other},
    slots::Signal,
};

/// What came.
pub(crate) enum Came {
    /// The whole answer, and whether the connection may be used again.
    Whole(Received, bool),
    /// One that must be passed on while it comes.
    Relay,
    /// The instance agreed to another protocol.
    Tunnel,
}

/// Receives an answer until it is whole, or until it is clear that it must be passed on in pieces.
pub(crate) async fn receive(
    client: &mut Client,
    request: &mut Request,
    flight: &Flight,
    stream: &mut TcpStream,
    answer: &mut Input,
) -> Result<Came, Failed> {
    let limits = &flight.service.config().limits;
    let (wait_ms, short_try) = bound(flight);
    client.arm(wait_ms);
    let most = usize::try_from(limits.head_bytes.saturating_add(limits.whole_bytes)).unwrap_or(usize::MAX);
    // Bytes of head and body where both are known: before that many it is not worth looking again.
    let mut wanted = 0;
    let mut received = false;
    // Where another try ran beside this one, the answer has begun.
    let mut at_hand = answer.filled().len();
    loop {
        let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
        let read = match std::mem::take(&mut at_hand) {
            // Most answers come in one piece: a buffer is taken once that is there.
            0 if answer.is_empty() => {
                client.slot.until(mask, |cx| answer.poll_arrived(stream, &client.thread.buffers, cx)).await
            }
            0 => {
                answer.make_room(most.saturating_add(1));
                client.slot.until(mask, |cx| answer.poll_fill(stream, cx)).await
            }
            count => Ok(Ok(count)),
        };
        received |= matches!(read, Ok(Ok(1..)));
        let failed = |cause| Err(Failed { cause, sent: Sent::Something, received });
        match read {
            Ok(Ok(1..)) => {}
            Ok(_) => return failed(Cause::Instance(Failure::CutOff)),
            Err(Signal::Abandoned) => return failed(Cause::Abandoned),
            Err(_) if wanted > 0 || short_try => return failed(Cause::Instance(Failure::Timeout)),
            Err(_) => return failed(Cause::ResponseTimeout),
        }
        let now_ms = clock::millis(client.thread.read_clock());
        flight.instance.cell().last_received_ms.set(now_ms);
        if answer.filled().len() < wanted {
            client.arm(limits.idle_timeout_ms);
            continue;
        }
        match pass_interim(client, request, flight, answer, wait_ms).await {
            Ok(Look::Whole(whole, reusable)) => return Ok(Came::Whole(whole, reusable)),
            Ok(Look::Relay) => return Ok(Came::Relay),
            Ok(Look::Tunnel) => return Ok(Came::Tunnel),
            Ok(Look::Elsewhere { status }) => return failed(Cause::Trial(status)),
            Ok(Look::More { bytes }) => {
                wanted = bytes;
                if wanted > 0 {
                    client.arm(limits.idle_timeout_ms);
                }
            }
            Ok(Look::Interim(_)) => {}
            Err(cause) => return failed(cause),
        }
    }
}

/// How long the head of the answer may take, and whether that is the bound of one try, after which another one
/// may follow.
pub(crate) fn bound(flight: &Flight) -> (u64, bool) {
    let config = flight.service.config();
    let response_ms = config.limits.response_timeout_ms;
    match config.retry.try_timeout_ms {
        try_ms @ 1.. if try_ms < response_ms => (try_ms, true),
        _ => (response_ms, false),
    }
}

/// Looks at the bytes at hand; interim answers in front of them go to the client.
async fn pass_interim(
    client: &mut Client,
    request: &mut Request,
    flight: &Flight,
    answer: &mut Input,
    wait_ms: u64,
) -> Result<Look, Cause> {
    loop {
        match look(client, request, flight, answer) {
            Ok(Look::Interim(interim)) => {
                client.write_all(&interim).await.map_err(|_| Cause::ClientGone)?;
                client.arm(wait_ms);
                if answer.is_empty() {
                    return Ok(Look::More { bytes: 0 });
                }
            }
            Ok(other) => return Ok(other),
            Err(_) => return Err(Cause::Instance(Failure::Malformed)),
        }
    }
}

/// What the bytes at hand amount to.
enum Look {
    Whole(Received, bool),
    /// It must be passed on while it comes.
    Relay,
    /// It begins another protocol.
    Tunnel,
    /// An instance on trial failed with this status, and another one may do better.
    Elsewhere {
        status: u16,
    },
    /// More is needed: this many bytes in all, 0 if unknown.
    More {
        bytes: usize,
    },
    /// An interim answer for the client; there may be more behind it.
    Interim(Vec<u8>),
}

/// Whether the answer of an instance on trial may be dropped, since another instance can have the request. Pays for that
/// from the budget.
fn may_go_elsewhere(client: &Client, request: &Request, flight: &Flight) -> bool {
    request.may_repeat(Sent::Something)
        && has_proven_other(&flight.service, &flight.instance)
        && client.thread.may_spend(&request.service)
}

fn look(client: &Client, request: &mut Request, flight: &Flight, answer: &mut Input) -> Result<Look, BadAnswer> {
    let limits = &flight.service.config().limits;
    loop {
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let input = answer.filled();
        let Some(head) = head_response::parse(input, &mut room, limits, request.to_head)? else {
            return Ok(Look::More { bytes: 0 });
        };
        let minor = request.minor;
        if head.is_interim() {
            if request.tires_of_interim() {
                return Err(BadAnswer("too many interim answers"));
            }
            let mut interim = Vec::new();
            // A 100 answers an expectation; the request came whole, so nobody waits for it.
            if minor >= 1 && head.status != 100 {
                head.write(&mut interim, &Delivery { id: request.id.as_bytes(), minor, close: false, more: b"" });
            }
            let length = head.length;
            answer.consume(length);
            if !interim.is_empty() {
                return Ok(Look::Interim(interim));
            }
            if answer.is_empty() {
                return Ok(Look::More { bytes: 0 });
            }
            continue;
        }
        if head.is_upgrade() || request.connect && matches!(head.status, 200..=299) {
            let asked = request.connect && !head.is_upgrade() || request.upgrade && head.chooses_from(&request.out);
            return if asked { Ok(Look::Tunnel) } else { Err(BadAnswer("a protocol that nobody asked for")) };
        }
        record::head_came(client, request, flight, head.status);
        if flight.trial && matches!(head.status, 500..=599) && may_go_elsewhere(client, request, flight) {
            return Ok(Look::Elsewhere { status: head.status });
        }
        let mut body = head.body;
        let mut content = 0;
        let step = body.advance_with(&input[head.length..], |part| content += part.len());
        let step = step.map_err(|bad| BadAnswer(bad.0))?;
        let small = head.declared().filter(|&length| length <= u64::from(limits.whole_bytes));
        let wanted = small.and_then(|length| usize::try_from(length).ok()).filter(|_| request.is_safe());
        // A client of HTTP/1.0 cannot take chunks; the relay unpacks them.
        let deliverable = step.done && !(minor == 0 && head.declared().is_none());
        if let Some(dress) = dress::find(request, &flight.service, &head) {
            let whole = Whole { body: &input[head.length..head.length + step.taken], content, done: step.done };
            if dress.is_page() && (step.done || wanted.is_none()) || deliverable && !dress.codes_in_pieces(content) {
                let reusable = head.keep_alive && step.done && head.length + step.taken == input.len();
                return Ok(Look::Whole(dressed(client, request, flight, &dress, (&head, &whole)), reusable));
            }
            if step.done {
                return Ok(Look::Relay);
            }
        } else if deliverable {
            let close = !request.keep_alive || client.thread.terminating.get();
            renew(client, request);
            let more = affinity::fields(&client.thread, request, flight);
            let delivery = Delivery { id: request.id.as_bytes(), minor, close, more: more.as_bytes() };
            head.write(&mut request.out, &delivery);
            request.out.extend_from_slice(&input[head.length..head.length + step.taken]);
            // Bytes behind the answer belong to nothing; such a connection is not used again.
            let reusable = head.keep_alive && head.length + step.taken == input.len();
            let whole = Received::Whole { status: head.status, body_bytes: content, close };
            return Ok(Look::Whole(whole, reusable));
        }
        return Ok(wanted.map_or(Look::Relay, |length| Look::More { bytes: head.length + length }));
    }
}

/// The answer comes into memory that was just used and has room for it, rather than over a request that was written long
/// ago.
#[inline]
fn renew(client: &Client, request: &mut Request) {
    let former = std::mem::replace(&mut request.out, client.thread.buffers.take());
    client.thread.buffers.give(former);
}

/// Puts an answer together that differs from the instance's.
fn dressed(
    client: &Client,
    request: &mut Request,
    flight: &Flight,
    dress: &Dress,
    (head, whole): (&ResponseHead<'_, '_>, &Whole<'_>),
) -> Received {
    let close = !request.keep_alive || client.thread.terminating.get();
    let more = affinity::fields(&client.thread, request, flight);
    renew(client, request);
    let mut out = std::mem::take(&mut request.out);
    let delivery = Delivery { id: request.id.as_bytes(), minor: request.minor, close, more: more.as_bytes() };
    let body_bytes = dress.write_whole(&mut out, (head, whole), request.extras.as_deref(), &delivery);
    request.out = out;
    Received::Whole { status: head.status, body_bytes, close }
}
