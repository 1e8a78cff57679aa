//! Samples of repeated requests: which request, what failed where, and where it went instead.
//!
//! At most one a second by service, over all threads; the rest is counted and said with the next one. Written only
//! where a request is repeated, so that a request that succeeds pays nothing. A sample names method and path, never the
//! query, a field or the body: those may hold what nobody else is to read.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{client::Client, exchange::Cause, request::Request};
use crate::{clock, messages::Notice, pick::Flight, shared::InstanceShared};

/// Longest name of a request, in bytes.
const LONGEST: usize = 120;

/// A try that failed and was not the last one.
#[derive(Debug)]
pub(crate) struct FailedAt {
    /// Where.
    pub(crate) instance: Arc<InstanceShared>,
    /// How.
    pub(crate) cause: Cause,
}

/// A request that failed elsewhere goes to this instance.
pub(crate) fn retried(client: &Client, request: &Request, failed: Option<FailedAt>, next: &Flight) {
    let Some(failed) = failed else { return };
    let service = &next.service.view().shared;
    let now_ms = clock::millis(client.thread.now()).max(1);
    let last_ms = service.sampled_ms.load(Relaxed);
    let due = last_ms == 0 || now_ms >= last_ms + 1000;
    if !due || service.sampled_ms.compare_exchange(last_ms, now_ms, Relaxed, Relaxed).is_err() {
        service.unsampled.fetch_add(1, Relaxed);
        return;
    }
    client.thread.notify(Notice::Retried {
        service: Arc::clone(service),
        reason: format!("{}: {}", name(&request.out), words(failed.cause)),
        instance: failed.instance,
        next: Arc::clone(&next.instance.shared),
        others: service.unsampled.swap(0, Relaxed),
    });
}

fn words(cause: Cause) -> String {
    match cause {
        Cause::Instance(failure) => failure.as_str().to_owned(),
        Cause::ResponseTimeout => "no answer in time".to_owned(),
        Cause::Abandoned => "the instance does not answer any more".to_owned(),
        Cause::Trial(status) => format!("it answered {status} while on trial"),
        Cause::Scarce => "there was nothing left here for one more connection".to_owned(),
        Cause::ClientGone => "the client went away".to_owned(),
    }
}

/// Method and path of the message that is sent.
fn name(message: &[u8]) -> String {
    let line = message.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&byte| byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let shown = &path[..path.len().min(LONGEST)];
    let more = if shown.len() < path.len() { "…" } else { "" };
    format!("{} {}{more}", String::from_utf8_lossy(method), String::from_utf8_lossy(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_without_its_query() {
        assert_eq!(name(b"GET /cart?token=secret HTTP/1.1\r\nCookie: secret\r\n\r\n"), "GET /cart");
        assert_eq!(name(b""), " ");
        let long = [b"PUT /".as_slice(), &[b'x'; 500], b" HTTP/1.1\r\n"].concat();
        assert_eq!(name(&long).chars().count(), "PUT ".len() + LONGEST + 1);
    }
}
