//! Passing bytes between two connections as they come: what a tunnel and a connection of a TCP listener do.
//!
//! Each direction holds at most one buffer and reads again only when that has been taken, so a slow reader slows its
//! writer down and nothing else; while nothing is said it holds none. Either side may end its own direction alone. It
//! ends when both have ended, when a connection breaks, or when nothing passed for too long. What that means for the
//! client and the instance is for the caller to say.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, net::TcpStream};

use crate::{
    buffers::{Buffers, Input},
    clock,
    http::client::Client,
    pick::Flight,
    slots::Signal,
};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Both sides said that they are done.
    Closed,
    /// The connection to this side broke.
    Broken(Side),
    /// Nothing passed for too long.
    Idle,
}

/// Whose connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Instance,
}

/// What passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) over: Over,
    /// Bytes to the instance.
    pub(crate) up_bytes: u64,
    /// Bytes to the client.
    pub(crate) down_bytes: u64,
    /// The client had said that it is done.
    pub(crate) client_done: bool,
}

/// Passes on what client and instance say to each other, beginning with what has come from either: `client.input`, and
/// `answer`. With `counts` the bytes are counted for the service as they pass.
pub(crate) async fn pass(
    client: &mut Client,
    flight: &Flight,
    stream: &mut TcpStream,
    answer: Input,
    counts: bool,
) -> Passed {
    let idle_ms = flight.service.config().limits.tunnel_idle_ms;
    let mut up = Direction { input: std::mem::take(&mut client.input), ..Direction::default() };
    let mut down = Direction { input: answer, ..Direction::default() };
    client.arm(idle_ms);
    let over = poll_fn(|cx| {
        let before = (up.passed_bytes, down.passed_bytes);
        let over = poll(client, stream, flight, (&mut up, &mut down), idle_ms, cx);
        if counts {
            let cell = flight.service.cell();
            cell.received_bytes.add(up.passed_bytes - before.0);
            cell.sent_bytes.add(down.passed_bytes - before.1);
        }
        over
    })
    .await;
    client.thread.buffers.give(up.input.release());
    client.thread.buffers.give(down.input.release());
    Passed { over, up_bytes: up.passed_bytes, down_bytes: down.passed_bytes, client_done: up.ended }
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Direction {
    input: Input,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows.
    told: bool,
    /// The other side takes no more. What it says itself is passed on all the same: it may be its last word.
    refused: bool,
    passed_bytes: u64,
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug)]
enum Failed {
    From,
    To,
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
    #[expect(clippy::match_same_arms, reason = "their order says who is the cause where both have broken off")]
    match (upward, downward) {
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Over::Closed),
        // A client that broke off is the cause where both have.
        (Poll::Ready(Err(Failed::From)), _) | (_, Poll::Ready(Err(Failed::To))) => {
            return Poll::Ready(Over::Broken(Side::Client));
        }
        (_, Poll::Ready(Err(Failed::From))) => return Poll::Ready(Over::Broken(Side::Instance)),
        (Poll::Ready(Err(Failed::To)), Poll::Ready(Ok(()))) => return Poll::Ready(Over::Closed),
        (Poll::Ready(Err(Failed::To)), _) => up.refused = true,
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
    ) -> Poll<Result<(), Failed>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.input.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, self.input.filled())) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Failed::To)),
                    Ok(count) => {
                        self.input.consume(count);
                        self.passed_bytes += count as u64;
                    }
                }
            }
            if self.ended {
                if !self.told {
                    ready!(self.tell(to, cx)).map_err(|_| Failed::To)?;
                }
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(self.input.poll_arrived(from, buffers, cx)).map_err(|_| Failed::From)? == 0;
        }
    }

    fn tell(&mut self, to: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(to).poll_shutdown(cx))?;
        self.told = true;
        Poll::Ready(Ok(()))
    }
}
