//! A request's life, in order: accept → head → route → guard rails → instance → connect or reuse → send → receive
//! → relay → record.
//!
//! [`connection`] is the task of one client connection; it runs on one data thread, shares nothing with tasks of
//! others, and has one of the [`workers`] while a request is served, whose life is [`next`]. Heads are understood in [`head_request`] and [`head_response`], bodies in [`framing`]; [`client`] owns
//! the connection, [`intake`] takes requests in, [`exchange`] decides about tries, [`attempt`] makes one, [`receive`]
//! puts small answers together, [`relay`] passes on what comes piece by piece, [`tunnel`] what follows an upgrade;
//! [`sample`] says what was repeated. Hostile bytes lead to a refusal, never to a panic.

mod address;
mod affinity;
mod ambiguous;
pub(crate) mod attempt;
pub(crate) mod client;
pub mod compress;
pub(crate) mod connection;
pub mod cookie;
mod date;
mod dress;
mod duplex;
pub(crate) mod errors;
pub(crate) mod exchange;
pub(crate) mod fields;
pub mod framing;
pub(crate) mod guard_rails;
pub mod head_request;
pub mod head_response;
mod hedge;
mod intake;
pub mod lenient;
mod mirror;
pub(crate) mod origin;
mod pace;
pub mod rates;
mod receive;
mod record;
pub mod redirect;
mod relay;
pub(crate) mod request;
pub mod rewrite;
mod sample;
mod target;
mod tunnel;
pub(crate) mod workers;

use std::{future::Future, pin::Pin};

use client::Client;
use intake::Received;

/// A body up to this size is taken in whole before an instance is involved: then it can be sent again.
const GATHER_BYTES: usize = 64 << 10;

/// Serves one request. Returns whether the connection goes on.
async fn next(client: &mut Client) -> bool {
    // Accept has happened; head and route.
    let mut taken_in = None;
    match client.receive(&mut taken_in).await {
        Received::Request => {}
        Received::Refused(refusal) => {
            let goes_on = seldom(client.refuse(refusal)).await;
            if !goes_on {
                seldom(client.linger()).await;
            }
            return goes_on;
        }
        Received::End => return false,
    }
    let Some(request) = &mut taken_in else { return false };
    record::arrived(request);
    // A slow or broken body must not occupy an instance.
    let outcome = match client.gather(request, GATHER_BYTES).await {
        // A copy for another service, then instance, connect or reuse, send, receive, relay: as often as it is safe and needed.
        Ok(()) => {
            mirror::keep(request);
            exchange::run(client, request).await
        }
        Err(broken) => seldom(relay::refuse(client, broken.refusal())).await,
    };
    let copy = mirror::take(request, outcome);
    record::ended(client, request, outcome);
    if let Some(copy) = copy {
        mirror::send(&client.thread, copy);
    }
    if !outcome.keep && outcome.linger {
        seldom(client.linger()).await;
    }
    outcome.keep
}

/// What few requests come to has its own memory and its own code, so that the way of all others stays short and is found in
/// the processor's caches.
#[cold]
fn seldom<'a, T>(future: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}
