//! The end of `keel up`: every instance is drained and stopped, all at once, then the guard is told to finish.
//!
//! A second request kills what is left. Whatever happens, there is a bound after which the guard ends anyway: it
//! kills what it started.

use std::time::Duration;

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    supervise::Event,
    time::Moment,
};

use super::Node;

/// How long after the last instance's own bounds the end comes anyway.
const SPARE: Duration = Duration::from_secs(5);

/// A shutdown in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shutdown {
    /// When the end comes anyway.
    until: Moment,
    /// Whether instances were killed.
    killed: bool,
}

impl Node {
    /// The guard was told to end.
    pub(super) fn terminate(&mut self) {
        if let Some(shutdown) = self.shutdown {
            if !shutdown.killed {
                self.note(Level::Warning, "stack", "killing", "told to end again: what is left is killed", Vec::new());
                self.kill_all();
            }
            return;
        }
        let longest = self.slots.values().map(|slot| {
            let stop = &slot.launch.service().stop;
            Duration::from_millis(stop.drain.as_ms() + stop.grace.as_ms())
        });
        let until = self.clock.now() + longest.max().unwrap_or_default() + SPARE;
        self.shutdown = Some(Shutdown { until, killed: false });
        let message = format!("stopping: {} instances are drained and stopped", self.slots.len());
        self.note(Level::Info, "stack", "stopping", message, vec![Reason::seen("keel was told to end")]);
        for place in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::Retire { reason: "keel was told to end".to_owned() });
        }
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
            let message = format!("{} instances did not end in time; the guard kills them", self.slots.len());
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
