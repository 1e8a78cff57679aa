//! A request's counters: when it arrives, when an instance answers, when it ends. Single-writer cells of this thread, no
//! lock, no message.

use std::time::Duration;

use evenkeel_core::{link::LATENCY_BOUNDS_US, snapshot::Balance};

use super::{
    client::Client,
    exchange::{End, Outcome},
    request::Request,
};
use crate::pick::Flight;

/// A request reached its service.
pub(crate) fn arrived(request: &Request) {
    request.service.cell().requests.add(1);
}

/// The head of a try's final answer is there. Counted once for each try, however often the head is looked at.
pub(crate) fn head_came(client: &Client, request: &mut Request, flight: &Flight, status: u16) {
    let Some(sent_at) = request.sent_at.take() else { return };
    let cell = flight.instance.cell();
    cell.responses[class(status)].add(1);
    let latency_us = micros(client.thread.now().since(sent_at));
    cell.latency_sum_us.add(latency_us);
    cell.latency[bucket(latency_us)].add(1);
    let by_latency = flight.service.config().balance == Balance::PowerOfTwo && !is_failure(status);
    if by_latency && request.complete && !request.passed_on && status != 101 {
        // Not of an upload, in which the client's part cannot be told from the instance's, and not of a tunnel.
        let mut latency = flight.instance.latency.get();
        latency.note(latency_us, client.thread.now());
        flight.instance.latency.set(latency);
    }
}

/// Whether an answer of this status says that its instance failed. Such answers are often the fastest of all.
pub(crate) const fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// A try failed. By latency an instance must not look good for that, however fast it fails.
pub(crate) fn failed(client: &Client, flight: &Flight) {
    if flight.service.config().balance == Balance::PowerOfTwo {
        let mut latency = flight.instance.latency.get();
        latency.failed(client.thread.now());
        flight.instance.latency.set(latency);
    }
}

/// What has begun goes on for as long as its ends like: the latency of the request is that of its head.
pub(crate) fn is_open_ended(client: &Client, request: &mut Request) {
    request.head_us = Some(micros(client.thread.now().since(request.started)));
}

/// A request ended.
pub(crate) fn ended(client: &Client, request: &mut Request, outcome: Outcome) {
    let cell = request.service.cell();
    // Whoever sees that it ended sees its bytes, too.
    cell.received_bytes.add(request.content_bytes);
    cell.sent_bytes.add(outcome.sent_bytes);
    match outcome.end {
        End::Answered => {
            cell.responses[class(outcome.status)].add(1);
            // As read when the instance's answer came, or when the client had to be waited for.
            let whole = || micros(client.thread.now().since(request.started));
            let latency_us = request.head_us.unwrap_or_else(whole);
            cell.latency_sum_us.add(latency_us);
            cell.latency[bucket(latency_us)].add(1);
        }
        End::Aborted => cell.aborted.add(1),
        End::Cancelled => cell.cancelled.add(1),
    }
    client.thread.buffers.give(std::mem::take(&mut request.out));
}

/// A status outside of the five classes counts as the last one (RFC 9110 section 15).
fn class(status: u16) -> usize {
    usize::from(status / 100).saturating_sub(1).min(4)
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(latency_us: u64) -> usize {
    LATENCY_BOUNDS_US.partition_point(|&bound| bound < latency_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(250), 0);
        assert_eq!(bucket(251), 1);
        assert_eq!(bucket(60_000_000), LATENCY_BOUNDS_US.len() - 1);
        assert_eq!(bucket(u64::MAX), LATENCY_BOUNDS_US.len());
    }
}
