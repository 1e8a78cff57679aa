//! A request's life, in order: accept → head → route → guard rails → instance → connect or reuse → send → receive
//! → relay → record.
//!
//! [`serve`] is the task of one client connection; it runs on one data thread and shares nothing with tasks of
//! others. Heads are understood in [`head_request`] and [`head_response`], bodies in [`framing`]; [`client`] owns
//! the connection, [`intake`] takes requests in, [`exchange`] decides about tries, [`attempt`] makes one, [`receive`]
//! puts small answers together, [`relay`] passes on what comes piece by piece, [`tunnel`] what follows an upgrade;
//! [`sample`] says what was repeated. Hostile bytes lead to a refusal, never to a panic.

mod attempt;
pub(crate) mod client;
mod duplex;
pub(crate) mod errors;
pub(crate) mod exchange;
pub(crate) mod fields;
pub mod framing;
pub mod head_request;
pub mod head_response;
mod intake;
mod receive;
mod record;
mod relay;
pub(crate) mod request;
mod sample;
mod target;
mod tunnel;

use client::Client;
use intake::Received;

/// A body up to this size is taken in whole before an instance is involved: then it can be sent again.
const GATHER_BYTES: usize = 64 << 10;

/// Serves one client connection until it ends.
pub(crate) async fn serve(mut client: Client) {
    while next(&mut client).await {}
}

/// Serves one request. Returns whether the connection goes on.
async fn next(client: &mut Client) -> bool {
    // Accept has happened; head and route.
    let mut request = match client.receive().await {
        Received::Request(request) => request,
        Received::Refused(refusal) => {
            let goes_on = client.refuse(refusal).await;
            if !goes_on {
                client.linger().await;
            }
            return goes_on;
        }
        Received::End => return false,
    };
    record::arrived(&request);
    // Guard rails: a slow or broken body must not occupy an instance.
    let outcome = match client.gather(&mut request, GATHER_BYTES).await {
        // Instance, connect or reuse, send, receive, relay: as often as it is safe and needed.
        Ok(()) => exchange::run(client, &mut request).await,
        Err(broken) => relay::refuse(client, broken.refusal()).await,
    };
    record::ended(client, request, outcome);
    if !outcome.keep && outcome.linger {
        client.linger().await;
    }
    outcome.keep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // Its buffers are in the pool, and what is only needed for large bodies is on the heap while it is needed.
        let bytes = size(serve);
        assert!(bytes <= 2048, "a connection's task has {bytes} bytes");
    }
}
