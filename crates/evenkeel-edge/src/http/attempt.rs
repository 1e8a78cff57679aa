//! One try at one instance: connect or reuse, send, receive.
//!
//! A request whose body is not at hand yet, and an answer that is not put together first, are handed to
//! [`super::relay`]; small answers to [`super::receive`]. Whatever fails here has not reached the client.

use std::{io, pin::Pin, sync::Arc};

use evenkeel_core::{retry::Sent, snapshot::ProxyHeader};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    client::Client,
    exchange::{Cause, Failed, Received},
    receive::{Came, receive},
    relay,
    request::Request,
    seldom, tunnel,
};
use crate::{
    buffers::Input, clock, fastcgi, messages::Failure, pick::Flight, scarce, slots::Signal, stream::proxy_header,
};

/// One try at one instance. A pooled connection that turns out to be closed is replaced by a fresh one.
pub(crate) async fn attempt(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
) -> Result<Received, Failed> {
    let repeatable = request.is_repeatable();
    if repeatable {
        client.slot.set_movable_from(Arc::as_ptr(&flight.instance.shared), clock::millis(client.thread.now()));
    }
    let mut result = try_connection(client, request, flight, kept(client, flight, !repeatable)).await;
    if let Err((failed, true)) = result
        && failed.cause == Cause::Instance(Failure::CutOff)
        && !failed.received
        && (repeatable || failed.sent == Sent::Nothing)
    {
        // The instance closed an idle connection just when it was used: that says nothing about its health.
        result = seldom(try_connection(client, request, flight, None)).await.map_err(|(fresh, reused)| {
            let sent = if failed.sent == Sent::Nothing { fresh.sent } else { Sent::Something };
            (Failed { sent, ..fresh }, reused)
        });
    }
    client.slot.set_immovable();
    result.map_err(|(failed, _)| failed)
}

/// The error says whether the connection had been used before.
async fn try_connection(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    pooled: Option<TcpStream>,
) -> Result<Received, (Failed, bool)> {
    let reused = pooled.is_some();
    let stream = match pooled {
        Some(stream) => stream,
        None => seldom(connect(client, flight)).await.map_err(|failed| (failed, false))?,
    };
    converse(client, request, flight, stream).await.map_err(|failed| (failed, reused))
}

/// A kept connection, which is this client's own where it begins with a PROXY header.
pub(crate) fn kept(client: &Client, flight: &Flight, surely: bool) -> Option<TcpStream> {
    let pool = &flight.instance.pool;
    match flight.service.config().wire.sends_proxy {
        None => pool.take(surely),
        Some(_) => pool.take_owned(client.names(), surely),
    }
}

/// A new connection to the instance, with the PROXY header in front if its service has one.
pub(crate) async fn connect(client: &Client, flight: &Flight) -> Result<TcpStream, Failed> {
    if flight.service.config().wire.fastcgi.is_some() {
        return Box::pin(fastcgi::connect(client, flight)).await;
    }
    let failed = |cause| Failed { cause, sent: Sent::Nothing, received: false };
    let refused = failed(Cause::Instance(Failure::Connect));
    let address = flight.instance.shared.resolved().ok_or(refused)?;
    let bound_ms = flight.service.config().limits.connect_timeout_ms;
    client.arm(bound_ms);
    let mut connecting = std::pin::pin!(TcpStream::connect(address));
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    match client.slot.until(mask, |cx| connecting.as_mut().poll(cx)).await {
        Ok(Ok(mut stream)) => {
            // Without it small messages could wait for acknowledgements; with a failure here they merely do.
            let _ = stream.set_nodelay(true);
            client.thread.read_clock();
            if let Some(version) = flight.service.config().wire.sends_proxy {
                Box::pin(introduce(client, &mut stream, version)).await.map_err(failed)?;
            }
            Ok(stream)
        }
        Ok(Err(error)) if scarce::is_met(&client.thread, &error, Some(address)) => Err(failed(Cause::Scarce)),
        Ok(Err(_)) => Err(refused),
        Err(Signal::Abandoned) => Err(failed(Cause::Abandoned)),
        Err(_) => Err(failed(Cause::Instance(Failure::ConnectTimeout))),
    }
}

/// Sends the PROXY header that names the client. Nothing of a request was sent if that fails.
async fn introduce(client: &Client, stream: &mut TcpStream, version: ProxyHeader) -> Result<(), Cause> {
    let names = client.names();
    let mut header = Vec::with_capacity(128);
    proxy_header::write(version, names.source, names.destination, &mut header);
    let mut rest = &header[..];
    while !rest.is_empty() {
        let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
        match client.slot.until(mask, |cx| Pin::new(&mut *stream).poll_write(cx, rest)).await {
            Ok(Ok(count @ 1..)) => rest = &rest[count..],
            Ok(_) => return Err(Cause::Instance(Failure::Connect)),
            Err(Signal::Abandoned) => return Err(Cause::Abandoned),
            Err(_) => return Err(Cause::Instance(Failure::ConnectTimeout)),
        }
    }
    Ok(())
}

/// Sends the request and receives its answer over one connection.
async fn converse(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    mut stream: TcpStream,
) -> Result<Received, Failed> {
    request.sent_at = Some(client.thread.now());
    if !request.complete {
        return seldom(relay::run(client, request, flight, stream, Input::default())).await.map(Received::Relayed);
    }
    send(client, request, flight, &mut stream).await?;
    answer(client, request, flight, stream, Input::default()).await
}

/// Receives the answer of a request that was sent; some of it may be at hand.
pub(crate) async fn answer(
    client: &mut Client,
    request: &mut Request,
    flight: &mut Flight,
    mut stream: TcpStream,
    mut answer: Input,
) -> Result<Received, Failed> {
    let result = receive(client, request, flight, &mut stream, &mut answer).await;
    match result {
        Ok(Came::Whole(whole, reusable)) => {
            client.thread.buffers.give(answer.release());
            if reusable {
                keep(client, request, flight, stream);
            }
            Ok(whole)
        }
        Ok(Came::Tunnel) => {
            client.slot.set_immovable();
            Ok(Received::Relayed(seldom(tunnel::run(client, request, flight, stream, answer)).await))
        }
        Ok(Came::Relay) => {
            client.slot.set_immovable();
            seldom(relay::run(client, request, flight, stream, answer)).await.map(Received::Relayed)
        }
        Err(failed) => {
            client.thread.buffers.give(answer.release());
            Err(failed)
        }
    }
}

/// Gives a connection back to the pool, unless its instance is leaving.
pub(crate) fn keep(client: &Client, request: &Request, flight: &Flight, stream: TcpStream) {
    if flight.instance.shared.takes_requests() {
        let most = flight.service.config().limits.idle_connections;
        let now_ms = clock::millis(client.thread.now());
        match flight.service.config().wire.sends_proxy {
            None => flight.instance.pool.give(stream, most, now_ms, request.to_head),
            // A body that must not be might follow, and these do not wait aside.
            Some(_) if request.to_head => {}
            Some(_) => flight.instance.pool.give_owned(client.names(), stream, most, now_ms),
        }
    }
}

/// Sends the whole request.
pub(crate) async fn send(
    client: &Client,
    request: &Request,
    flight: &Flight,
    stream: &mut TcpStream,
) -> Result<(), Failed> {
    let mut sent = 0;
    let failed = |cause, sent: usize| Failed {
        cause,
        sent: if sent == 0 { Sent::Nothing } else { Sent::Something },
        received: false,
    };
    let idle_ms = flight.service.config().limits.idle_timeout_ms;
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    while sent < request.out.len() {
        let rest = &request.out[sent..];
        match stream.try_write(rest) {
            Ok(0) => return Err(failed(Cause::Instance(Failure::CutOff), sent)),
            Ok(count) => {
                sent += count;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(failed(Cause::Instance(Failure::CutOff), sent)),
        }
        client.thread.read_clock();
        client.arm(idle_ms);
        match client.slot.until(mask, |cx| Pin::new(&mut *stream).poll_write(cx, rest)).await {
            Ok(Ok(count)) if count > 0 => sent += count,
            Ok(_) => return Err(failed(Cause::Instance(Failure::CutOff), sent)),
            Err(Signal::Abandoned) => return Err(failed(Cause::Abandoned, sent)),
            Err(_) => return Err(failed(Cause::Instance(Failure::Timeout), sent)),
        }
    }
    Ok(())
}
