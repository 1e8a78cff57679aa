//! What data threads and the control thread share in memory: instances, services and threads with their counters.
//!
//! Every counter has a single writer, the data thread it belongs to, which adds with a relaxed load and store;
//! the control thread reads them on its tick. Only [`InstanceShared::in_flight`] and the hold counters are
//! written by several threads. Health and resolved address are written by the control thread alone. What is
//! here survives a change of snapshot as long as the instance (identity and address) or service (name) stays.
//! Nothing here decides anything.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use crate::scarce::Met;
use evenkeel_core::{
    ambiguity::Ambiguity,
    balance::TokenKey,
    link::{LATENCY_BOUNDS_US, ProxyFault},
    retry::Budget,
    status::{Health, InstanceId},
    time::Moment,
};

/// Keeps what one thread writes away from the cache lines of others.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// A counter with a single writer. Adding is a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only the owning thread may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Replaces the value; only the owning thread may.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One instance, as all threads of the edge know it.
#[derive(Debug)]
pub struct InstanceShared {
    /// Name and generation.
    pub id: InstanceId,
    /// The address as the snapshot has it: `IP:port` or `host:port`.
    pub address: String,
    /// Requests in flight over all threads. Written by data threads.
    pub in_flight: AtomicU32,
    /// Tries, streams and tunnels that were cut off after something was sent, over all threads.
    pub cut_offs: AtomicU32,
    /// By data thread.
    pub threads: Box<[Padded<InstanceCell>]>,
    /// Where data threads find what they keep of it: the address of its service's state, compared only, and its place
    /// among the instances of the newest view. Written by the control thread.
    pub(crate) home: AtomicUsize,
    /// See `home`.
    pub(crate) position: AtomicU32,
    /// The verdict, and [`ENLISTED`].
    health: AtomicU8,
    /// Since when its share of requests grows, in milliseconds of [`crate::clock`]; 0: it has the whole.
    warming_since_ms: AtomicU64,
    probed: AtomicBool,
    resolved: Mutex<Option<SocketAddr>>,
}

/// What one thread knows of one instance. All numbers are cumulative unless said otherwise.
#[derive(Debug, Default)]
pub struct InstanceCell {
    /// Tries begun.
    pub tries: Count,
    /// Tries that ended with a whole answer, whatever its status.
    pub answered: Count,
    /// Tries that failed: connect error, answer cut off or malformed, timeout.
    pub failed: Count,
    /// Answers with 500, 502, 503 or 504, among `answered`.
    pub answered_5xx: Count,
    /// Failures (`failed`) since the last whole answer on this thread.
    pub failed_in_row: Count,
    /// Requests in flight on this thread now.
    pub in_flight: Count,
    /// When anything was last received from it, in milliseconds of [`crate::clock`]; 0: never.
    pub last_received_ms: Count,
    /// Of those, the ones whose answer has not begun although they were sent: not streams, tunnels and uploads, of
    /// which an instance may have nothing to say for long.
    pub waiting: Count,
    /// Since when this thread has had such requests without a pause, in milliseconds of [`crate::clock`]; meaningful
    /// while `waiting` is not 0.
    pub busy_since_ms: Count,
    /// Final answers by class, whether or not a client got them.
    pub responses: [Count; 5],
    /// Sum of the times from a try's first byte sent to its answer's head, in microseconds.
    pub latency_sum_us: Count,
    /// Counts of those times by bucket of `link::LATENCY_BOUNDS_US`.
    pub latency: [Count; LATENCY_BOUNDS_US.len() + 1],
}

impl InstanceShared {
    /// A new instance of which nothing is known. A literal address is resolved at once.
    pub fn new(id: InstanceId, address: String, threads: usize) -> Self {
        let resolved = Mutex::new(address.parse().ok());
        Self {
            id,
            address,
            in_flight: AtomicU32::new(0),
            threads: (0..threads).map(|_| Padded::default()).collect(),
            cut_offs: AtomicU32::new(0),
            home: AtomicUsize::new(0),
            position: AtomicU32::new(0),
            health: AtomicU8::new(encode(Health::Unknown)),
            warming_since_ms: AtomicU64::new(0),
            probed: AtomicBool::new(false),
            resolved,
        }
    }

    /// The verdict now.
    pub fn health(&self) -> Health {
        decode(self.health.load(Relaxed) & !ENLISTED)
    }

    /// Whether requests may go there: it is healthy, or enlisted.
    pub fn takes_requests(&self) -> bool {
        let code = self.health.load(Relaxed);
        code == HEALTHY || code & ENLISTED != 0
    }

    /// It gets requests although it is not healthy, since too few others are, or does so no longer; control thread only.
    /// Ends with the next verdict. Afterwards tell every data thread (`ToThread::Changed`).
    pub fn enlist(&self, enlisted: bool) {
        let code = self.health.load(Relaxed) & !ENLISTED;
        self.health.store(if enlisted { code | ENLISTED } else { code }, Relaxed);
    }

    /// Since when its share of requests grows, in milliseconds of [`crate::clock`]; 0: it has the whole.
    pub fn warming_since_ms(&self) -> u64 {
        self.warming_since_ms.load(Relaxed)
    }

    /// Its share grows from now on, or is the whole where that is 0; control thread only, before it becomes healthy.
    pub fn set_warming_since_ms(&self, since_ms: u64) {
        self.warming_since_ms.store(since_ms, Relaxed);
    }

    /// Writes the verdict; control thread only. Afterwards tell every data thread (`ToThread::Changed`).
    pub fn set_health(&self, health: Health) {
        self.health.store(encode(health), Relaxed);
    }

    /// Whether a first probe has ended. Until then nobody knows anything of it, not even that it is not well.
    pub fn was_probed(&self) -> bool {
        self.probed.load(Relaxed)
    }

    /// A probe has ended; control thread only. Afterwards tell every data thread (`ToThread::Changed`).
    pub fn set_probed(&self) {
        self.probed.store(true, Relaxed);
    }

    /// Where to connect; `None` while its name was never resolved. Takes a lock, so it is asked only where a
    /// connection is opened.
    pub fn resolved(&self) -> Option<SocketAddr> {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the resolved address; control thread only. Afterwards tell every data thread (`ToThread::Changed`).
    pub fn set_resolved(&self, address: SocketAddr) {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// A counter summed over all threads.
    pub fn sum(&self, of: impl Fn(&InstanceCell) -> &Count) -> u64 {
        self.threads.iter().map(|cell| of(&cell.0).get()).sum()
    }

    /// Since when requests have waited for their answers with nothing received, in milliseconds of [`crate::clock`];
    /// `None` while none waits. That is the later of the last receipt on any thread and the start of
    /// the longest uninterrupted wait.
    pub fn quiet_since_ms(&self) -> Option<u64> {
        let busy = self.threads.iter().filter(|cell| cell.0.waiting.get() > 0);
        let waiting = busy.map(|cell| cell.0.busy_since_ms.get()).min()?;
        let received = self.threads.iter().map(|cell| cell.0.last_received_ms.get()).max();
        Some(waiting.max(received.unwrap_or(0)))
    }

    /// When anything was last received from it on any thread; `None`: never.
    pub fn last_received_ms(&self) -> Option<u64> {
        self.threads.iter().map(|cell| cell.0.last_received_ms.get()).max().filter(|&at| at > 0)
    }
}

/// One service, as all threads of the edge know it.
#[derive(Debug)]
pub struct ServiceShared {
    /// Its name.
    pub name: String,
    /// By data thread.
    pub threads: Box<[Padded<ServiceCell>]>,
    /// Requests held now over all threads.
    pub holding: AtomicU32,
    /// Requests held since the present hold started.
    pub held: AtomicU64,
    /// Of those, the ones that waited too long.
    pub expired: AtomicU64,
    /// When a thread's note of an exhausted budget was last sent, in milliseconds of [`crate::clock`].
    pub exhausted_ms: AtomicU64,
    /// When a sample of a repeated request was last sent, in milliseconds of [`crate::clock`].
    pub sampled_ms: AtomicU64,
    /// Requests that were repeated since then.
    pub unsampled: AtomicU64,
    budget: Mutex<Budget>,
}

/// What one thread counts for one service, in the terms of `link::ServiceCounters`.
#[derive(Debug, Default)]
pub struct ServiceCell {
    /// Requests that reached the service on this thread.
    pub requests: Count,
    /// Answers to clients by class.
    pub responses: [Count; 5],
    /// Requests whose client got no whole answer although it waited.
    pub aborted: Count,
    /// Requests whose client went away first.
    pub cancelled: Count,
    /// Tries after the first.
    pub retries: Count,
    /// Second tries that were made beside a first one.
    pub hedges: Count,
    /// Of those, the ones that answered first.
    pub hedges_won: Count,
    /// Requests held.
    pub held: Count,
    /// Since when this thread's oldest held request waits, in milliseconds of [`crate::clock`]; 0: none waits.
    pub oldest_held_ms: Count,
    /// Sum of latencies in microseconds.
    pub latency_sum_us: Count,
    /// Counts by bucket of `link::LATENCY_BOUNDS_US`.
    pub latency: [Count; LATENCY_BOUNDS_US.len() + 1],
    /// Connections of TCP listeners that ended in order, or since nothing passed for too long.
    pub connections: Count,
    /// Clients of UDP listeners that were led to an instance.
    pub sessions: Count,
    /// Datagrams of clients that were sent to an instance.
    pub received_datagrams: Count,
    /// Datagrams of instances that were sent to their client.
    pub sent_datagrams: Count,
    /// Datagrams that found no way: no instance, too large, or no room.
    pub dropped_datagrams: Count,
    /// Body bytes from clients.
    pub received_bytes: Count,
    /// Body bytes to clients.
    pub sent_bytes: Count,
    /// Requests refused with 429 by a rate limit of a route that leads here.
    pub limited: Count,
    /// Copies of requests that were sent here.
    pub mirrored: Count,
    /// Of those, the ones without a whole answer in time.
    pub mirror_failed: Count,
    /// Copies that were not made or not sent: too large, nobody healthy, or too many under way.
    pub mirror_skipped: Count,
    /// Copies under way now.
    pub mirroring: Count,
}

impl ServiceShared {
    /// A service of which nothing has been counted.
    pub fn new(name: String, threads: usize) -> Self {
        Self {
            name,
            threads: (0..threads).map(|_| Padded::default()).collect(),
            holding: AtomicU32::new(0),
            held: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            exhausted_ms: AtomicU64::new(0),
            sampled_ms: AtomicU64::new(0),
            unsampled: AtomicU64::new(0),
            budget: Mutex::new(Budget::new(Moment::ORIGIN)),
        }
    }

    /// Gives access to the retry budget: a lock that is taken on ticks and retries, never by a request that
    /// succeeds.
    pub fn with_budget<R>(&self, act: impl FnOnce(&mut Budget) -> R) -> R {
        act(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A counter summed over all threads.
    pub fn sum(&self, of: impl Fn(&ServiceCell) -> &Count) -> u64 {
        self.threads.iter().map(|cell| of(&cell.0).get()).sum()
    }
}

/// What one data thread counts for itself.
#[derive(Debug, Default)]
pub struct ThreadCell {
    /// Client connections open now.
    pub connections: Count,
    /// Of others' connections, those that it was given and has not taken yet. Written by several threads.
    pub coming: AtomicU32,
    /// Client connections accepted.
    pub accepted: Count,
    /// Connections that were closed at once, since their client had as many as it may have.
    pub turned_away: Count,
    /// Connections closed for want of a PROXY header, in the order of `link::ProxyFault::ALL`.
    pub proxy_faults: [Count; ProxyFault::ALL.len()],
    /// Requests that a route sent elsewhere.
    pub redirected: Count,
    /// Requests refused before they had a route, by the place of their status in [`REJECTED_STATUSES`].
    pub rejected: [Count; REJECTED_STATUSES.len()],
    /// Requests that were put right, or of which something was left out, by what was ambiguous about them.
    pub ambiguities: [Count; Ambiguity::ALL.len()],
    /// Notices to the control thread that found no room.
    pub dropped_notices: Count,
    /// Set by the thread when it has ended after `ToThread::Terminate`.
    pub ended: AtomicBool,
}

/// The statuses with which a request is refused before it has a route.
pub const REJECTED_STATUSES: [u16; 9] = [400, 404, 408, 413, 414, 417, 431, 501, 505];

/// Everything shared that does not belong to an instance or a service.
#[derive(Debug)]
pub struct EdgeShared {
    /// By data thread.
    pub threads: Box<[Padded<ThreadCell>]>,
    /// By what tokens of instances are made and read: given before the first view, or else one that nobody knows.
    pub tokens: OnceLock<TokenKey>,
    /// Whether to finish and end; set with `ToThread::Terminate`.
    pub terminating: AtomicBool,
    /// What there was none left of, and when.
    pub(crate) scarce: Met,
}

impl EdgeShared {
    /// For this many data threads.
    pub fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| Padded::default()).collect(),
            tokens: OnceLock::new(),
            terminating: AtomicBool::new(false),
            scarce: Met::default(),
        }
    }
}

/// The code of a healthy instance.
const HEALTHY: u8 = 1;

/// Beside a verdict: it gets requests all the same.
const ENLISTED: u8 = 0x80;

const HEALTHS: [Health; 6] =
    [Health::Unknown, Health::Healthy, Health::Unhealthy, Health::Silent, Health::Ejected, Health::Draining];

fn encode(health: Health) -> u8 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => HEALTHY,
        Health::Unhealthy => 2,
        Health::Silent => 3,
        Health::Ejected => 4,
        Health::Draining => 5,
    }
}

fn decode(code: u8) -> Health {
    HEALTHS.get(usize::from(code)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_survives_encoding() {
        for health in HEALTHS {
            assert_eq!(decode(encode(health)), health);
        }
    }

    #[test]
    fn quiet_is_counted_from_the_last_receipt_or_the_start_of_the_wait() {
        let instance = InstanceShared::new(InstanceId { name: "a/1".into(), generation: 1 }, "127.0.0.1:1".into(), 2);
        assert_eq!(instance.quiet_since_ms(), None);
        let (one, two) = (&instance.threads[0].0, &instance.threads[1].0);
        one.in_flight.set(1);
        assert_eq!(instance.quiet_since_ms(), None, "a stream does not wait");
        one.waiting.set(1);
        one.busy_since_ms.set(100);
        two.last_received_ms.set(70);
        assert_eq!(instance.quiet_since_ms(), Some(100));
        two.last_received_ms.set(130);
        assert_eq!(instance.quiet_since_ms(), Some(130));
    }
}
