//! Signs of life: ours to the guard, and the edge's to us.
//!
//! A frozen process looks alive from outside, so who depends on another listens whether it still speaks. The guard
//! kills a node process that falls silent; this one has the guard kill an edge that does. Neither touches an
//! instance.

use std::time::Duration;

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    time::Moment,
    watchdog::Watchdog,
};

use super::Node;

/// How often the guard hears from us.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How long the guard may hear nothing. A disk that stalls for some seconds is no reason to die.
const SILENT_AT_MOST: Duration = Duration::from_secs(10);

/// How long an edge that serves may say nothing; it sends counters four times a second. It costs the connections that
/// it holds, but a frozen edge serves nobody.
const EDGE_SILENT_AT_MOST: Duration = Duration::from_secs(3);

/// How long an edge may take from its start until it serves.
const EDGE_START_AT_MOST: Duration = Duration::from_secs(10);

/// What is known of the edge's life over one link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    watchdog: Watchdog,
    serves: bool,
}

impl Pulse {
    /// A link was opened.
    pub(super) const fn new(now: Moment) -> Self {
        Self { watchdog: Watchdog::new(EDGE_START_AT_MOST, now), serves: false }
    }

    /// Something came over the link; from the first snapshot on that it serves, more is expected.
    pub(super) fn heard(&mut self, serves: bool, now: Moment) {
        if serves && !self.serves {
            *self = Self { watchdog: Watchdog::new(EDGE_SILENT_AT_MOST, now), serves };
        }
        self.watchdog.heard(now);
    }
}

impl Node {
    /// Says that we live, and looks whether the edge does.
    pub(super) fn vital_signs(&mut self) {
        let now = self.clock.now();
        if self.next_alive <= now {
            self.next_alive = now + ALIVE_EVERY;
            self.kernel_kills.look();
            let within_ms = u64::try_from(SILENT_AT_MOST.as_millis()).unwrap_or(u64::MAX);
            self.give(&Order::Alive { within_ms });
        }
        // At the end the edge falls silent as it should, and the guard sees to it.
        if self.shutdown.is_some() {
            self.edge.pulse = None;
        }
        let Some(pulse) = self.edge.pulse.as_mut().filter(|pulse| pulse.watchdog.next_look() <= now) else { return };
        if let Some(silent) = pulse.watchdog.look(now) {
            self.edge.pulse = None;
            self.kill_edge(silent);
        }
    }

    fn kill_edge(&mut self, silent: Duration) {
        let reasons = vec![
            Reason::seen(format!("nothing was heard from the edge for {} ms", silent.as_millis())),
            Reason::rule(format!(
                "an edge that serves speaks four times a second; after {} s without a word it is frozen",
                EDGE_SILENT_AT_MOST.as_secs()
            )),
            Reason::ruled_out("our own pause: this process was awake all the time"),
        ];
        self.note(Level::Error, "edge", "killed", "the edge does not answer: it is killed and started again", reasons);
        self.give(&Order::KillEdge);
    }

    /// When to look again.
    pub(super) fn vital_deadline(&self) -> Moment {
        let edge = self.edge.pulse.map(|pulse| pulse.watchdog.next_look());
        edge.map_or(self.next_alive, |edge| edge.min(self.next_alive))
    }
}
