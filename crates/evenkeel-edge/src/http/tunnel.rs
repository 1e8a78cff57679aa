//! A connection that was upgraded: another protocol from here on, as WebSocket (RFC 9110 section 7.8, RFC 6455), or the
//! tunnel that follows a 2xx to CONNECT (section 9.3.6).
//!
//! The head of the answer goes to the client, and then bytes pass in both directions as they come ([`pass`]). The instance
//! counts it as in flight until both have ended. What ends it says nothing about the instance, and it is never tried
//! again.

use std::mem::MaybeUninit;

use tokio::net::TcpStream;

use super::{
    affinity,
    client::Client,
    dress::Changes,
    exchange::{End, Outcome, note_answer},
    fields::MOST_FIELDS,
    head_request::FieldRoom,
    head_response::{self, Delivery},
    record,
    request::Request,
};
use crate::{
    buffers::Input,
    pick::Flight,
    stream::pass::{Over, Side, pass},
    thread::Thread,
};

/// Passes on what instance and client say to each other. `answer` begins with the whole head of the 101 or 2xx.
pub(crate) async fn run(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    mut stream: TcpStream,
    mut answer: Input,
) -> Outcome {
    flight.set_waiting(false);
    request.out.clear();
    let (status, length) = write_head(&client.thread, request, flight, &answer);
    record::head_came(client, request, flight, status);
    record::is_open_ended(client, request);
    answer.consume(length);
    note_answer(client, flight, status);
    if client.write_all(&request.out).await.is_err() {
        return Outcome::cancelled(status);
    }
    client.thread.buffers.give(std::mem::take(&mut request.out));
    client.place.let_go();
    request.settle(flight);
    let passed = pass(client, flight, &mut stream, answer, false).await;
    request.content_bytes += passed.up_bytes;
    if passed.over != Over::Idle {
        // Whoever was cut off beside it was not alone with an instance that died.
        flight.cut_off();
    }
    // An instance that closes while bytes for it are under way resets its connection; what it said last must arrive.
    let linger = match passed.over {
        Over::Closed => !passed.client_done,
        Over::Broken(Side::Instance) => passed.up_bytes > 0,
        Over::Broken(Side::Client) | Over::Idle => false,
    };
    match passed.over {
        Over::Broken(Side::Instance) if !linger => client.reset_when_sent().await,
        Over::Broken(Side::Client) => client.reset(),
        _ => {}
    }
    Outcome { status, sent_bytes: passed.down_bytes, end: End::Answered, keep: false, linger }
}

/// Writes the head for the client; returns its status, and its length as it came.
fn write_head(thread: &Thread, request: &mut Request, flight: &Flight, answer: &Input) -> (u16, usize) {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let limits = &flight.service.config().limits;
    let parsed = head_response::parse(answer.filled(), &mut room, limits, request.to_head);
    let mut head = parsed.ok().flatten().expect("the head was understood before");
    if request.connect {
        head.opens_tunnel();
    }
    let more = affinity::fields(thread, request, flight);
    let delivery = Delivery { id: request.id.as_bytes(), minor: request.minor, close: false, more: more.as_bytes() };
    let changes = Changes::of_fields(request.extras.as_deref());
    head.write_changed(&mut request.out, &delivery, changes.as_ref());
    (head.status, head.length)
}
