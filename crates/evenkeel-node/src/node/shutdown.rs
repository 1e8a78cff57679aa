//! The end of `keel up`: every instance is drained and stopped, all at once, then the guard is told to finish.
//!
//! How long that may take follows from the stack's `stop` settings, which the guard and through it the edge are told
//! beforehand. Whatever happens, there is a bound after which the guard ends anyway: it kills what it started, as it
//! does at once when it is told to end a second time.

use std::time::Duration;

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    stack::Stop,
    supervise::Event,
    time::Moment,
};

use super::Node;
use crate::words::counted;

/// How long after the last instance's own bounds it is killed, and how long after that the end comes anyway.
const SPARE: Duration = Duration::from_secs(5);

/// How much longer than all of that the guard waits for us.
const GUARD_SPARE: Duration = Duration::from_secs(5);

/// A shutdown in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shutdown {
    /// When the end comes anyway.
    until: Moment,
    /// Whether instances were killed.
    killed: bool,
}

impl Node {
    /// The guard was told to end. It starts no edge any more, so where there is none nothing is in flight.
    pub(super) fn terminate(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let until =
            self.clock.now() + self.longest(|stop| stop.drain.as_ms().saturating_add(stop.grace.as_ms())) + SPARE;
        self.shutdown = Some(Shutdown { until, killed: false });
        let message =
            format!("stopping: {} drained and stopped", counted(self.slots.len(), "instance is", "instances are"));
        self.note(Level::Info, "stack", "stopping", message, vec![Reason::seen("keel was told to end")]);
        for place in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::Retire { reason: "keel was told to end".to_owned() });
            if self.edge.pid.is_none() {
                self.feed(&place, Event::Drained);
            }
        }
    }

    /// Tells the guard how long the end may take by the stack in force, should it come.
    pub(super) fn give_bounds(&self) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let whole =
            self.longest(|stop| stop.drain.as_ms().saturating_add(stop.grace.as_ms())) + SPARE + SPARE + GUARD_SPARE;
        let edge_grace_ms = ms(self.longest(|stop| stop.drain.as_ms()));
        self.give(&Order::Bounds { edge_grace_ms, finish_ms: ms(whole) });
    }

    /// The longest that any service, or any instance of a former one, is given.
    fn longest(&self, part_ms: impl Fn(&Stop) -> u64) -> Duration {
        let services =
            self.revision.stack.services.values().chain(self.slots.values().map(|slot| slot.launch.service()));
        Duration::from_millis(services.map(|service| part_ms(&service.stop)).max().unwrap_or_default())
    }

    pub(super) fn shutdown_deadline(&self) -> Option<Moment> {
        self.shutdown.map(|shutdown| shutdown.until)
    }

    /// The exit code once everything is stopped, or has had its time.
    pub(super) fn shutdown_progress(&mut self) -> Option<u8> {
        let shutdown = self.shutdown?;
        if self.slots.is_empty() {
            self.note(Level::Info, "stack", "stopped", "every instance is stopped", Vec::new());
            return Some(0);
        }
        if self.clock.now() < shutdown.until {
            return None;
        }
        if shutdown.killed {
            let which = counted(self.slots.len(), "instance", "instances");
            let message = format!("{which} did not end in time: the guard kills what is left");
            self.note(Level::Error, "stack", "stopped", message, Vec::new());
            return Some(1);
        }
        self.kill_all();
        None
    }

    fn kill_all(&mut self) {
        for key in self.slots.values().map(super::slot::Slot::key).collect::<Vec<_>>() {
            self.give(&Order::Kill { key });
        }
        self.shutdown = Some(Shutdown { until: self.clock.now() + SPARE, killed: true });
    }
}
