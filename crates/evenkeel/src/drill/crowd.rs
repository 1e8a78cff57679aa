//! Clients that ask at a given rate whether or not they have their answers: how much a service bears shows only then.
//!
//! Each request has a moment at which it is due, and its time counts from there, also where no connection was free or
//! the clients themselves were late: otherwise a service that stands still would be asked less just when it is slow
//! (G. Tene, "How NOT to Measure Latency", 2015, calls that coordinated omission). How late they were is measured apart,
//! so that clients which cannot ask any faster are not taken for a service that cannot answer any faster. A crowd owns
//! its connections and nothing else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use evenkeel_core::drill::{Plan, Step, Tick};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    client::{Ask, Client},
    load::Tally,
};

/// Connections at most: far more than a service has in flight that meets any objective.
const CONNECTIONS: usize = 512;
/// How often it is looked what is due. Timers of the runtime are no finer.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Clients with a pool of connections.
#[derive(Clone)]
pub(super) struct Crowd {
    plan: Arc<Plan>,
    tally: Tally,
    idle: Arc<Mutex<Vec<Client>>>,
    free: Arc<Semaphore>,
}

/// One request that has ended.
struct Sent {
    /// From the moment at which it was due.
    took: Duration,
    /// How long after that moment a client had it.
    late: Duration,
    failed: bool,
}

impl Crowd {
    /// Clients of this plan; what they see goes to the tally's ticks.
    pub(super) fn new(plan: &Plan, tally: &Tally) -> Self {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        Self { plan: Arc::new(plan.clone()), tally: tally.clone(), idle: Arc::default(), free }
    }

    /// Asks so many times a second for so long, and waits for every answer. `rate` is what is written into the step.
    /// Ends early once the step cannot meet its objective any more, so that nobody suffers longer than needed.
    pub(super) async fn step(self, per_s: u64, lasts: Duration, p99: Duration, rate: u64) -> Step {
        let (began, busy) = (Instant::now(), busy());
        let planned = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) * per_s / 1000;
        let due_at = |number: u64| began + Duration::from_micros(number * 1_000_000 / per_s.max(1));
        // One of a hundred may be slow; whoever waits beyond those that are younger than the bound is slow.
        let may_be_slow = usize::try_from(planned / 100).unwrap_or(usize::MAX);
        let younger = usize::try_from(u128::from(per_s) * p99.as_millis() / 1000).unwrap_or(usize::MAX);
        let mut under_way = JoinSet::new();
        let mut sent = Vec::new();
        let (mut next, mut at_half) = (0, None);
        while next < planned {
            while next < planned && due_at(next) <= Instant::now() {
                under_way.spawn(self.clone().send(due_at(next)));
                next += 1;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            while let Some(Ok(one)) = under_way.try_join_next() {
                sent.push(one);
            }
            if next * 2 >= planned {
                at_half.get_or_insert(under_way.len());
            }
            let slow = sent.iter().filter(|one| one.took > p99).count();
            let is_missed = slow > may_be_slow || sent.iter().any(|one| one.failed);
            if is_missed || under_way.len() > may_be_slow.saturating_add(younger).max(8) {
                break;
            }
        }
        let behind = under_way.len().saturating_sub(at_half.unwrap_or(under_way.len())) as u64;
        let busy = self::busy().saturating_sub(busy).as_millis() * 100 / began.elapsed().as_millis().max(1);
        sent.extend(under_way.join_all().await);
        Step { behind, busy_percent: u64::try_from(busy).unwrap_or(100).min(100), ..summary(&sent, rate) }
    }

    async fn send(self, due: Instant) -> Sent {
        let late = due.elapsed();
        let _under_way = self.tally.under_way();
        let _connection = self.free.acquire().await.expect("nobody closes it");
        let idle = self.lock().pop();
        let mut client = idle.unwrap_or_else(|| Client::new(self.plan.address, self.plan.host.as_deref()));
        let answer = client.send(&Ask::Read(&self.plan.read)).await;
        let took = due.elapsed();
        let failed = !answer.is_ok_and(|answer| (200..300).contains(&answer.status));
        self.tally.count_apart(took, failed);
        self.lock().push(client);
        Sent { took, late, failed }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        // A list of clients is sound whatever happened to another holder of the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long this thread has computed or waited for a processor (proc(5), `schedstat`); zero where nobody counts. All
/// clients are on this thread: see `context::block_on`.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_nanos(nanos)
}

fn summary(sent: &[Sent], rate: u64) -> Step {
    let p99_ms = |of: fn(&Sent) -> Duration| {
        let mut times: Vec<u64> =
            sent.iter().map(|one| u64::try_from(of(one).as_micros()).unwrap_or(u64::MAX)).collect();
        Tick::of(0, &mut times, 0).p99_us.map_or(0, |us| us.div_ceil(1000))
    };
    let errors = sent.iter().filter(|one| one.failed).count() as u64;
    let (p99_ms, late_ms) = (p99_ms(|one| one.took), p99_ms(|one| one.late));
    Step { rate, requests: sent.len() as u64, errors, p99_ms, late_ms, ..Step::default() }
}
