//! Passing on while it comes: what a relay's end means for the request, the instance and the two connections.
//!
//! Used where a body is larger than what is put together first. The bytes are moved by [`super::duplex`]. An answer
//! that is cut off ends in a way the client notices: never as a clean end.

use std::future::poll_fn;

use evenkeel_core::retry::Sent;
use tokio::net::TcpStream;

use super::{
    attempt::keep,
    client::{Client, Refusal},
    duplex::{Committed, Duplex, Ended, Stop},
    exchange::{Cause, End, Failed, Outcome, note_answer, note_failure},
    head_request::Reject,
    intake::Gather,
    request::Request,
};
use crate::{buffers::Input, pick::Flight};

/// Takes the rest of a request to the instance, and its answer to the client. `answer` is what has arrived of it.
/// Fails only while nothing of the answer has reached the client.
pub(crate) async fn run(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    mut stream: TcpStream,
    answer: Input,
) -> Result<Outcome, Failed> {
    client.place.let_go();
    let mut duplex = Duplex::new(client, request, flight, &mut stream, answer);
    let stop = poll_fn(|cx| duplex.poll(cx)).await;
    let ended = duplex.end();
    // It ends with the step that moved the last bytes, however long those were waited for.
    client.thread.read_clock();
    match ended.committed {
        Some(head) => Ok(committed(client, (request, flight), stream, stop, &ended, head)),
        None => uncommitted(client, stop, &ended).await,
    }
}

/// Nothing of the answer has reached the client.
async fn uncommitted(client: &mut Client, stop: Stop, ended: &Ended) -> Result<Outcome, Failed> {
    let failed = |cause, sent| Failed { cause, sent, received: ended.received };
    match stop {
        Stop::Instance(failure) => {
            let sent = if ended.any_sent { Sent::Something } else { Sent::Nothing };
            Err(failed(Cause::Instance(failure), sent))
        }
        Stop::ResponseTimeout => Err(failed(Cause::ResponseTimeout, Sent::Something)),
        Stop::Body(gather) => Ok(refuse(client, gather.refusal()).await),
        Stop::TooLarge => Ok(refuse(client, Some(Reject::new(413, "request body too large").into())).await),
        Stop::Finished | Stop::Idle | Stop::ClientGone => Ok(Outcome::cancelled(0)),
    }
}

/// The head of the answer has reached the client, so what happens now can only be shown by how it ends.
fn committed(
    client: &mut Client,
    (request, flight): (&Request, &Flight),
    stream: TcpStream,
    stop: Stop,
    ended: &Ended,
    head: Committed,
) -> Outcome {
    let (status, sent_bytes) = (head.status, ended.sent_bytes);
    let (end, keep_client) = match stop {
        Stop::Finished => {
            note_answer(client, flight, status);
            if ended.up_done && head.reusable {
                keep(client, request, flight, stream);
            }
            (End::Answered, ended.up_done && !head.close)
        }
        Stop::Instance(failure) => {
            note_failure(client, flight, Cause::Instance(failure));
            // Whoever was cut off beside it was not alone with an instance that died.
            flight.cut_off();
            client.reset();
            (End::Aborted, false)
        }
        Stop::ClientGone | Stop::Body(Gather::Gone) => (End::Cancelled, false),
        Stop::Idle | Stop::ResponseTimeout | Stop::TooLarge | Stop::Body(_) => {
            client.reset();
            (End::Aborted, false)
        }
    };
    let linger = end == End::Answered && !(ended.up_done && client.input.is_empty());
    Outcome { status, sent_bytes, end, keep: keep_client, linger }
}

/// Refuses a request of which the rest cannot be taken; `None`: nobody is left to be told.
pub(crate) async fn refuse(client: &mut Client, refusal: Option<Refusal>) -> Outcome {
    let Some(refusal) = refusal else {
        return Outcome::cancelled(0);
    };
    let status = refusal.status();
    client.refuse(refusal).await;
    Outcome { status, sent_bytes: 0, end: End::Answered, keep: false, linger: true }
}
