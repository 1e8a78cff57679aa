//! What the control thread acts with: orders to data threads, probes under way, and the queue of events.
//!
//! Decisions are made elsewhere; everything here is an effect. Probes run as tasks and come back as [`Done`]. How
//! many run at once is bounded, except for those that a silent instance calls for: they are few and urgent.

use std::{sync::Arc, time::Duration};

use evenkeel_core::{
    link::{Event, EventKind},
    time::Moment,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};

use super::{events::Events, member::Key, pace::Pace};
use crate::{
    clock,
    messages::ToThread,
    probe::{Failure, Target},
    scarce::is_exhausted,
};

/// Most probes of checks under way at once.
const PROBES: usize = 512;

/// How long until a probe is made again for which there was no descriptor, port or memory.
const SCARCE: Duration = Duration::from_millis(100);

/// A probe ended.
#[derive(Debug)]
pub(super) struct Done {
    /// Whose.
    pub(super) key: Key,
    /// Why it was sent.
    pub(super) which: Which,
    /// When it was sent.
    pub(super) started: Moment,
    /// How long it took.
    pub(super) took: Duration,
    /// It was sent in place of one that said nothing.
    pub(super) again: bool,
    /// What was asked.
    pub(super) target: Target,
    /// What it saw.
    pub(super) result: Result<(), Failure>,
}

/// Why a probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The check's turn.
    Check,
    /// The liveness check's turn.
    Liveness,
    /// A command of the check's was run by the node process.
    Told {
        /// Which command.
        digest: u64,
    },
    /// The instance may be silent.
    Tight {
        /// Names it for the rule that asked.
        number: u64,
    },
}

/// What the control thread acts with.
#[derive(Debug)]
pub(super) struct Hands {
    /// What the node process will be told.
    pub(super) events: Events,
    /// One for each data thread; none before the first snapshot.
    pub(super) orders: Vec<mpsc::UnboundedSender<ToThread>>,
    /// How many probes may be started.
    pub(super) pace: Pace,
    done: mpsc::UnboundedSender<Done>,
    room: Arc<Semaphore>,
}

impl Hands {
    /// Nothing to act on yet. Ended probes arrive at the other end of `done`.
    pub(super) fn new(done: mpsc::UnboundedSender<Done>) -> Self {
        Self {
            events: Events::default(),
            orders: Vec::new(),
            pace: Pace::default(),
            done,
            room: Arc::new(Semaphore::new(PROBES)),
        }
    }

    /// Sends an order to every data thread.
    pub(super) fn tell(&self, make: impl Fn() -> ToThread) {
        for orders in &self.orders {
            // A thread that has ended needs no orders; its end is noticed elsewhere.
            let _ = orders.send(make());
        }
    }

    /// Starts a probe.
    pub(super) fn probe(&self, key: Key, which: Which, target: Target) {
        self.send(key, which, target, false);
    }

    /// The same in place of one that said nothing.
    pub(super) fn probe_again(&self, key: Key, which: Which, target: Target) {
        self.send(key, which, target, true);
    }

    fn send(&self, key: Key, which: Which, target: Target, again: bool) {
        let done = self.done.clone();
        let room = (!matches!(which, Which::Tight { .. })).then(|| Arc::clone(&self.room));
        tokio::spawn(async move {
            let _room = match room {
                Some(room) => room.acquire_owned().await.ok(),
                None => None,
            };
            let mut started = clock::now();
            let mut result = target.probe().await;
            while matches!(&result, Err(Failure::Connect(error)) if is_exhausted(error, target.resolved)) {
                // It says nothing about the instance that there is nothing left here for one more connection. Whoever
                // serves requests says it.
                sleep(SCARCE).await;
                started = clock::now();
                result = target.probe().await;
            }
            let took = clock::now().since(started);
            // Nobody listens any more only when the edge ends.
            let _ = done.send(Done { key, which, started, took, again, target, result });
        });
    }

    /// Reports an event about an instance of this service.
    pub(super) fn report(&mut self, service: &str, event: Event, now: Moment) {
        let instance = event.instance.as_ref().map(tracing::field::display);
        match &event.what {
            EventKind::Health { health, reason } => tracing::info!(service, instance, reason, "{health}"),
            EventKind::Liveness { passing, reason } => tracing::info!(service, instance, passing, reason, "liveness"),
            EventKind::Moved { requests, reason } => tracing::info!(service, instance, requests, reason, "moved"),
            EventKind::Drained => tracing::info!(service, instance, "drained"),
            _ => {}
        }
        self.events.push(Event { service: service.to_owned(), ..event }, now);
    }
}
