//! A connection that was upgraded: another protocol from here on, as WebSocket (RFC 9110 section 7.8, RFC 6455).
//!
//! The head of the 101 goes to the client, and then bytes pass in both directions as they come. Each direction holds at
//! most one buffer and reads again only when that has been taken, so a slow reader slows its writer down and nothing
//! else; while nothing is said it holds none. Either side may end its own direction alone. The instance counts it as in
//! flight until both have ended. What ends it says nothing about the instance, and it is never tried again.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    client::Client,
    exchange::{End, Outcome, note_answer},
    fields::MOST_FIELDS,
    head_request::FieldRoom,
    head_response::{self, Delivery},
    record,
    request::Request,
};
use crate::{
    buffers::{Buffers, Input},
    clock,
    pick::Flight,
    slots::Signal,
};

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Both sides said that they are done.
    Closed,
    /// A connection broke.
    Broken,
    /// Nothing passed for too long.
    Idle,
}

/// Passes on what instance and client say to each other. `answer` begins with the whole head of the 101.
pub(crate) async fn run(
    client: &mut Client,
    request: &mut Request,
    flight: &Flight,
    mut stream: TcpStream,
    mut answer: Input,
) -> Outcome {
    flight.set_waiting(false);
    request.out.clear();
    let length = write_head(request, flight, &answer);
    record::head_came(client, request, flight, 101);
    record::is_open_ended(client, request);
    answer.consume(length);
    note_answer(client, flight, 101);
    if client.write_all(&request.out).await.is_err() {
        return Outcome::cancelled(101);
    }
    client.thread.buffers.give(std::mem::take(&mut request.out));
    let idle_ms = flight.service.config().limits.tunnel_idle_ms;
    let first = std::mem::take(&mut client.input);
    let mut up = Direction { input: first, ..Direction::default() };
    let mut down = Direction { input: answer, ..Direction::default() };
    client.arm(idle_ms);
    let over = poll_fn(|cx| poll(client, &mut stream, flight, (&mut up, &mut down), idle_ms, cx)).await;
    client.thread.buffers.give(up.input.release());
    client.thread.buffers.give(down.input.release());
    request.content_bytes += up.passed_bytes;
    if over != Over::Idle {
        // Whoever was cut off beside it was not alone with an instance that died.
        flight.cut_off();
    }
    if over == Over::Broken {
        client.reset();
    }
    Outcome { status: 101, sent_bytes: down.passed_bytes, end: End::Answered, keep: false, linger: false }
}

/// Writes the head for the client; returns its length as it came.
fn write_head(request: &mut Request, flight: &Flight, answer: &Input) -> usize {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let limits = &flight.service.config().limits;
    let parsed = head_response::parse(answer.filled(), &mut room, limits, request.to_head);
    let head = parsed.ok().flatten().expect("the head was understood before");
    let delivery = Delivery { id: request.id.as_bytes(), minor: request.minor, close: false };
    head.write(&mut request.out, &delivery);
    head.length
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Direction {
    input: Input,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows.
    told: bool,
    passed_bytes: u64,
}

fn poll(
    client: &mut Client,
    stream: &mut TcpStream,
    flight: &Flight,
    (up, down): (&mut Direction, &mut Direction),
    idle_ms: u64,
    cx: &mut Context<'_>,
) -> Poll<Over> {
    let buffers = &client.thread.buffers;
    let before = (up.passed_bytes, down.passed_bytes, up.ended, down.ended);
    let upward = up.poll(&mut client.stream, stream, buffers, cx);
    let downward = down.poll(stream, &mut client.stream, buffers, cx);
    if down.passed_bytes > before.1 {
        flight.instance.cell().last_received_ms.set(clock::millis(client.thread.read_clock()));
    }
    match (upward, downward) {
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Over::Closed),
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(Over::Broken),
        _ => {}
    }
    if (up.passed_bytes, down.passed_bytes, up.ended, down.ended) != before {
        client.thread.read_clock();
        client.arm(idle_ms);
    }
    client.slot.poll_signal(Signal::Expired as u8, cx).map(|_| Over::Idle)
}

impl Direction {
    /// Ready once nothing more comes and the other side knows.
    fn poll(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.input.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, self.input.filled()))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => {
                        self.input.consume(count);
                        self.passed_bytes += count as u64;
                    }
                }
            }
            if self.ended {
                if !self.told {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.told = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(self.input.poll_arrived(from, buffers, cx))? == 0;
        }
    }
}
