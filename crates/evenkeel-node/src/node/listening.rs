//! Where processes listen that should have been heard of by now: looked up in `/proc`, for those alone.
//!
//! An application that ignores `PORT` runs well and refuses every probe, and an instance that an operator drains gets
//! no probe at all. For both, the ports on which its process tree listens tell what the edge cannot. The look is taken
//! by a thread of the runtime, at most once a second and for a bounded number of instances; without such an instance
//! nothing is looked at. What cannot be seen is not known, and then nothing is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use evenkeel_core::{
    status::{Health, Phase},
    supervise::Event,
    time::Moment,
};

use super::{Node, slot::Slot};
use crate::listeners;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Instances of one look.
const MOST: usize = 16;

/// Ports that are named.
const NAMED: usize = 4;

/// What was found out, by key of a process.
type Found = BTreeMap<String, BTreeSet<u16>>;

/// Ports of processes.
#[derive(Debug)]
pub(super) struct Listening {
    found: Arc<Mutex<Found>>,
    /// Whether a look is being taken.
    looking: Arc<AtomicBool>,
    next: Moment,
}

impl Listening {
    pub(super) fn new() -> Self {
        Self { found: Arc::default(), looking: Arc::default(), next: Moment::ORIGIN }
    }

    fn of(&self, key: &str) -> BTreeSet<u16> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    /// Looks again, elsewhere.
    fn look(&self, processes: Vec<(String, u32)>) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (found, looking) = (Arc::clone(&self.found), Arc::clone(&self.looking));
        tokio::task::spawn_blocking(move || {
            let seen = processes.into_iter().map(|(key, pid)| (key, listeners::ports_of(pid))).collect();
            *found.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            looking.store(false, Ordering::Release);
        });
    }
}

/// Whether its ports would tell what is not known otherwise.
fn is_in_doubt(slot: &Slot) -> bool {
    let staying = matches!(slot.supervisor.phase(), Phase::Starting | Phase::Running);
    let refuses = slot.verdict.health != Health::Healthy && slot.verdict.reason.contains("refused");
    slot.pid.is_some() && staying && (refuses || slot.drained && slot.supervisor.phase() == Phase::Starting)
}

impl Node {
    /// Looks where processes listen that are in doubt. A drained instance whose process listens where it should has
    /// started: nobody else can tell, since no probe reaches it.
    pub(super) fn look_for_ports(&mut self) {
        let now = self.clock.now();
        if self.shutdown.is_some() || now < self.listening.next {
            return;
        }
        let in_doubt = self.slots.values().filter(|slot| is_in_doubt(slot)).take(MOST);
        let processes: Vec<(String, u32)> = in_doubt.filter_map(|slot| Some((slot.key(), slot.pid?))).collect();
        if processes.is_empty() {
            return;
        }
        self.listening.next = now + LOOK_EVERY;
        let started = self.slots.iter().filter(|(_, slot)| {
            let starting = slot.drained && slot.pid.is_some() && slot.supervisor.phase() == Phase::Starting;
            starting && self.listening.of(&slot.key()).contains(&slot.port)
        });
        for place in started.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            let reason = "its process listens on its port; it is drained, so no probe asks it".to_owned();
            self.feed(&place, Event::Health { health: Health::Healthy, reason });
        }
        self.listening.look(processes);
    }

    /// When to look again; `None` where nothing is in doubt.
    pub(super) fn ports_deadline(&self) -> Option<Moment> {
        let in_doubt = self.shutdown.is_none() && self.slots.values().any(is_in_doubt);
        in_doubt.then_some(self.listening.next)
    }

    /// What a check saw, and where the process listens instead, if that is why.
    pub(super) fn with_elsewhere(&self, slot: &Slot, saw: &str) -> String {
        let ports = if saw.contains("refused") { self.listening.of(&slot.key()) } else { BTreeSet::new() };
        if ports.is_empty() || ports.contains(&slot.port) {
            return saw.to_owned();
        }
        let named: Vec<String> = ports.iter().take(NAMED).map(u16::to_string).collect();
        let more = if ports.len() > NAMED { " and others" } else { "" };
        format!("{saw}; its process listens on {}{more}, not on PORT {}", named.join(", "), slot.port)
    }
}
