//! The end of a request's life: its counters. Single-writer cells of this thread, no lock, no message.

use evenkeel_core::link::LATENCY_BOUNDS_US;

use super::{
    client::Client,
    exchange::{End, Outcome},
    request::Request,
};

/// A request reached its service.
pub(crate) fn arrived(request: &Request) {
    request.service.cell().requests.add(1);
}

/// A request ended.
pub(crate) fn ended(client: &Client, request: Request, outcome: Outcome) {
    let cell = request.service.cell();
    match outcome.end {
        End::Answered => {
            let class = usize::from(outcome.status / 100).saturating_sub(1);
            // A status outside of the five classes counts as the last one (RFC 9110 section 15).
            cell.responses[class.min(cell.responses.len() - 1)].add(1);
            let latency = client.thread.read_clock().since(request.started);
            let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            cell.latency_sum_us.add(latency_us);
            cell.latency[bucket(latency_us)].add(1);
        }
        End::Aborted => cell.aborted.add(1),
        End::Cancelled => cell.cancelled.add(1),
    }
    cell.received_bytes.add(request.content_bytes);
    cell.sent_bytes.add(outcome.sent_bytes);
    client.thread.buffers.give(request.out);
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
