//! The clients of a drill: what they send, and the tally of what they saw.
//!
//! Eight connections read and two write, each at its own steady pace. Around the harm they surge: each sends its
//! next request as soon as it has its answer, so that even at a service that answers within a millisecond some
//! requests are on their way when an instance dies. A client never repeats anything. The tally is shared by the clients of one run and read by
//! whoever shows progress; keys of writes go to the ledger when the clients have stopped. Stopping lets every
//! request on its way come to its end: a request that was given up could hide an error.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use evenkeel_core::drill::{ErrorSample, Gaps, PACE_PER_S, Plan, Step, Tick, Traffic};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep},
};

use super::{
    client::{Ask, Client},
    series::Series,
};

/// How many clients of a run read.
pub(super) const READERS: u32 = 8;
const WRITERS: u32 = 2;
/// Reads a second of each connection that reads: 200 of 8.
pub(super) const READS_PER_S: u32 = 25;
const READ_EVERY: Duration = Duration::from_millis(1000 / READS_PER_S as u64);
/// 2 connections at 5 writes a second each: 10 a second, so that many drills in a row leave a shop its stock.
const WRITE_EVERY: Duration = Duration::from_millis(200);
const _: () = assert!((READERS * READS_PER_S) as u64 + WRITERS as u64 * 5 == PACE_PER_S, "what core says of the pace");
/// Between two requests of a client that surges: it must not spin where connections are refused.
const SURGE_GAP: Duration = Duration::from_millis(1);
/// Distinct errors that are kept.
const MAX_SAMPLES: usize = 10;

/// The key of a write, and whether the write was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The value of `Idempotency-Key`.
    pub(super) key: String,
    /// Whether an answer of 2xx came.
    pub(super) acknowledged: bool,
}

/// What all clients of a run saw so far.
#[derive(Clone)]
pub(super) struct Tally {
    began: Instant,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen, in sums and from one moment to the next.
struct Seen {
    traffic: Traffic,
    series: Series,
    gaps: Gaps,
    /// When the harm was about to be done.
    fault: Option<Instant>,
}

impl Tally {
    /// An empty tally of a drill that began then. A request is overdue once it has been on its way for so many
    /// milliseconds.
    pub(super) fn new(began: Instant, overdue_ms: u64) -> Self {
        let seen =
            Seen { traffic: Traffic::default(), series: Series::new(overdue_ms), gaps: Gaps::default(), fault: None };
        Self { began, seen: Arc::new(Mutex::new(seen)) }
    }

    /// A request is on its way for as long as what this returns is there.
    pub(super) fn under_way(&self) -> UnderWay<'_> {
        let now_ms = self.now_ms();
        UnderWay { tally: self, begun: self.lock().series.begin(now_ms) }
    }

    /// A copy of the sums as of now; errors in order of time.
    pub(super) fn traffic(&self) -> Traffic {
        let mut traffic = self.lock().traffic.clone();
        traffic.samples.sort_by_key(|sample| sample.at_ms);
        traffic
    }

    /// The sums with everything that is made of single requests.
    pub(super) fn whole(&self) -> Traffic {
        let now_ms = self.now_ms();
        let mut traffic = self.traffic();
        let mut seen = self.lock();
        traffic.p99_ms = seen.series.p99_ms();
        traffic.series = seen.series.all(now_ms).to_vec();
        traffic.outage = seen.gaps.longest();
        traffic
    }

    /// The ticks that are over, but for the first so many.
    pub(super) fn ticks(&self, from: usize) -> Vec<Tick> {
        let now_ms = self.now_ms();
        self.lock().series.closed(now_ms, from).to_vec()
    }

    /// The harm is about to be done: what was worst until now is what later times are compared with.
    pub(super) fn mark_fault(&self) {
        let now_ms = self.now_ms();
        let mut seen = self.lock();
        seen.traffic.worst_before_ms = seen.traffic.worst_ms;
        seen.series.mark_fault();
        seen.gaps.mark_fault(now_ms);
        seen.fault = Some(Instant::now());
    }

    /// Sends one request and counts it. Returns whether an answer of 2xx came.
    async fn send(&self, client: &mut Client, ask: &Ask<'_>) -> bool {
        let sent = Instant::now();
        // It stays so until it has been counted.
        let _under_way = self.under_way();
        let outcome = client.send(ask).await;
        let took = sent.elapsed();
        let seen = match outcome {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!("status {}{}", answer.status, first_words(&answer.body))),
            Err(trouble) => {
                if trouble.is_lost_connection() {
                    self.count_cut(client.connected());
                }
                Some(trouble.to_string())
            }
        };
        self.count(sent, took, ask, seen)
    }

    /// A connection broke. One that was there before the harm may have died of it.
    fn count_cut(&self, connected: Option<Instant>) {
        let mut seen = self.lock();
        let there_before = seen.fault.zip(connected).is_some_and(|(fault, connected)| connected < fault);
        seen.traffic.cut += u64::from(there_before);
    }

    fn count(&self, sent: Instant, took: Duration, ask: &Ask<'_>, seen: Option<String>) -> bool {
        let took_ms = u64::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let ended_ms = self.now_ms();
        let mut all = self.lock();
        all.series.count(ended_ms, micros, seen.is_some());
        all.gaps.on(ended_ms, seen.is_some());
        let traffic = &mut all.traffic;
        traffic.requests += 1;
        traffic.worst_ms = traffic.worst_ms.max(took_ms);
        let Some(seen) = seen else { return true };
        traffic.errors += 1;
        let request = ask.in_words();
        let at_ms = u64::try_from(sent.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let known = traffic.samples.iter_mut().find(|sample| sample.request == request && sample.seen == seen);
        if let Some(sample) = known {
            sample.count += 1;
            // A later answer may belong to an earlier request.
            sample.at_ms = sample.at_ms.min(at_ms);
        } else if traffic.samples.len() < MAX_SAMPLES {
            traffic.samples.push(ErrorSample { at_ms, request, seen, took_ms, count: 1 });
        }
        false
    }

    /// Counts a request that shows what happens, but whose time and end are not held against the service: see [`Tally::take`].
    pub(super) fn count_apart(&self, took: Duration, failed: bool) {
        let now_ms = self.now_ms();
        self.lock().series.count_apart(now_ms, u64::try_from(took.as_micros()).unwrap_or(u64::MAX), failed);
    }

    /// Counts the requests of a step that met its objective; those beyond it had to suffer, and decide nothing.
    pub(super) fn take(&self, step: &Step) {
        let mut seen = self.lock();
        seen.traffic.requests += step.requests;
        seen.series.take(step.requests, step.p99_ms.saturating_mul(1000));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Numbers that only grow are sound whatever happened to another holder of the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request on its way. Those that are given up with their client leave as well.
pub(super) struct UnderWay<'a> {
    tally: &'a Tally,
    begun: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tally.lock().series.end(self.begun);
    }
}

/// The beginning of an answer's first line, for a report: what follows is often different each time.
fn first_words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(120)]);
    let text = text.trim_start().lines().next().unwrap_or_default();
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}

/// What the clients of a run shall do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orders {
    /// Keep the pace.
    Steady,
    /// Send as soon as the answer is there.
    Surge,
    /// Send nothing for now.
    Pause,
    /// Send no more.
    Stop,
}

/// Clients at work. Dropping it stops them at once.
pub(super) struct Load {
    plan: Plan,
    tally: Tally,
    orders: Arc<watch::Sender<Orders>>,
    clients: JoinSet<Vec<Written>>,
}

impl Load {
    /// Starts the clients of a plan. `run` is part of every key and must differ between runs.
    pub(super) fn start(plan: &Plan, run: &str, tally: &Tally) -> Self {
        let mut load = Self::readers_of(plan, tally, READERS);
        for number in 0..if plan.writes.is_some() { WRITERS } else { 0 } {
            let first = WRITE_EVERY * number / WRITERS;
            let keys = format!("{run}-{number}");
            load.clients.spawn(write(plan.clone(), tally.clone(), keys, first, load.orders.subscribe()));
        }
        load
    }

    fn readers_of(plan: &Plan, tally: &Tally, readers: u32) -> Self {
        let (sender, orders) = watch::channel(Orders::Steady);
        let mut clients = JoinSet::new();
        for number in 0..readers {
            clients.spawn(read(plan.clone(), tally.clone(), READ_EVERY * number / readers, orders.clone()));
        }
        Self { plan: plan.clone(), tally: tally.clone(), orders: Arc::new(sender), clients }
    }

    /// More clients of the same plan that read at the same pace, to be ended apart.
    pub(super) fn more(&self, readers: u32) -> Self {
        Self::readers_of(&self.plan, &self.tally, readers)
    }

    /// What the clients see.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets the clients wait: what is on its way comes to its end, and nothing more is sent.
    pub(super) fn pause(&self) {
        self.orders.send_replace(Orders::Pause);
    }

    /// Lets clients that wait go on at their steady pace.
    pub(super) fn go_on(&self) {
        self.orders.send_if_modified(|orders| {
            let waiting = *orders == Orders::Pause;
            if waiting {
                *orders = Orders::Steady;
            }
            waiting
        });
    }

    /// Lets the clients surge for so long.
    pub(super) fn surge(&self, lasts: Duration) {
        self.orders.send_replace(Orders::Surge);
        let orders = Arc::clone(&self.orders);
        tokio::spawn(async move {
            sleep(lasts).await;
            orders.send_if_modified(|orders| {
                let surging = *orders == Orders::Surge;
                if surging {
                    *orders = Orders::Steady;
                }
                surging
            });
        });
    }

    /// Lets every request on its way come to its end; returns all writes.
    pub(super) async fn finish(self) -> Vec<Written> {
        self.orders.send_replace(Orders::Stop);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn read(plan: Plan, tally: Tally, first: Duration, mut orders: watch::Receiver<Orders>) -> Vec<Written> {
    let mut client = Client::new(plan.address, plan.host.as_deref());
    let mut pace = Pace::new(first, READ_EVERY);
    while pace.next(&mut orders).await {
        tally.send(&mut client, &Ask::Read(&plan.read)).await;
    }
    Vec::new()
}

async fn write(
    plan: Plan,
    tally: Tally,
    keys: String,
    first: Duration,
    mut orders: watch::Receiver<Orders>,
) -> Vec<Written> {
    let mut written = Vec::new();
    let Some(writes) = &plan.writes else { return written };
    let mut client = Client::new(plan.address, plan.host.as_deref());
    let mut pace = Pace::new(first, WRITE_EVERY);
    while pace.next(&mut orders).await {
        let key = format!("{keys}-{}", written.len());
        let ask = Ask::Write { path: &writes.post, body: &writes.body, key: &key };
        let acknowledged = tally.send(&mut client, &ask).await;
        written.push(Written { key, acknowledged });
    }
    written
}

/// A steady pace that does not catch up on what a slow answer delayed.
struct Pace(tokio::time::Interval);

impl Pace {
    fn new(first: Duration, every: Duration) -> Self {
        let mut interval = interval_at(tokio::time::Instant::now() + first, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }

    /// Waits until the next request is due; false once the clients shall stop.
    async fn next(&mut self, orders: &mut watch::Receiver<Orders>) -> bool {
        loop {
            let now = *orders.borrow_and_update();
            match now {
                Orders::Stop => return false,
                Orders::Surge => {
                    sleep(SURGE_GAP).await;
                    return true;
                }
                Orders::Pause => {
                    if orders.changed().await.is_err() {
                        return false;
                    }
                }
                Orders::Steady => tokio::select! {
                    // Nobody gives orders any more: the run was given up.
                    changed = orders.changed() => if changed.is_err() { return false },
                    _ = self.0.tick() => return true,
                },
            }
        }
    }
}
