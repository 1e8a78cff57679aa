//! The history: what was counted of each service over the last day, for plots, and over the window of its objective.
//!
//! The owner of the world hands over a [`Sample`] of its counters every ten seconds; a thread makes points of their
//! differences and keeps them, in memory for whoever reads and in a file of the state directory for the next node
//! process. So the loop never waits for the disk, and nobody who draws a plot waits for the loop. Memory and file are
//! bounded by the number of services. Nothing is decided by the history but what the objectives say; a missing or
//! damaged file costs what it held.

mod keeper;
mod point;
mod series;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use evenkeel_core::{
    objectives::{ObjectiveStatus, judge},
    stack::Objective,
    time::WallTime,
};

pub(crate) use self::point::Point;
use self::{keeper::Keeper, series::Series};
use crate::traffic::Sums;

/// How often a sample is taken.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// What the burn rate of a budget is of, in milliseconds.
const RECENT_MS: u64 = 3_600_000;

/// Samples that may wait for the thread. The next one that finds room has what was counted meanwhile.
const WAITING: usize = 4;

/// All services at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// When, by the wall clock.
    pub(crate) at: WallTime,
    /// When, since boot.
    pub(crate) boot: Duration,
    /// By name.
    pub(crate) services: BTreeMap<String, Standing>,
}

/// One service at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Everything counted until then.
    pub(crate) sums: Sums,
    /// Instances that get requests.
    pub(crate) healthy: u32,
    /// Instances that are wanted.
    pub(crate) wanted: u32,
    /// Whether it has an objective, for which hours are counted.
    pub(crate) objective: bool,
}

/// What counters begin from, so that nothing is counted twice and nothing that happened while no node process ran is
/// left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// When the guard was started: under the same one, counters go on where they were.
    pub(crate) guard: WallTime,
    /// Whether no node process ran under this guard before.
    pub(crate) first: bool,
    /// What edges had counted that are gone.
    pub(crate) base: BTreeMap<String, Sums>,
    /// When this process began, since boot.
    pub(crate) boot: Duration,
}

/// The history of all services. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    samples: mpsc::SyncSender<Sample>,
    shared: Shared,
}

impl History {
    /// Opens the history at `path`, on its thread. A file that cannot be used is no error here: points stay in memory
    /// meanwhile, and [`History::problem`] says so.
    pub(crate) fn open(path: &Path, origin: Origin) -> std::io::Result<Self> {
        let (samples, inbox) = mpsc::sync_channel(WAITING);
        let shared = Shared::default();
        let (path, theirs): (PathBuf, _) = (path.to_owned(), shared.clone());
        thread::Builder::new().name("keel-history".to_owned()).spawn(move || {
            let mut keeper = Keeper::new(&path, origin, theirs);
            while let Ok(sample) = inbox.recv() {
                keeper.take(&sample);
            }
        })?;
        Ok(Self { samples, shared })
    }

    /// Takes a sample. Where the thread does not keep up it is left out, and the next point covers its time.
    pub(crate) fn record(&self, sample: Sample) {
        let _ = self.samples.try_send(sample);
    }

    /// Points of a service that ended after `from` and not after `to`, oldest first and at most `most`; a gap is where
    /// one begins ([`Point::begin`]) well after the former's end. Empty where nothing is known.
    pub(crate) fn read(&self, service: &str, from: WallTime, to: WallTime, most: usize) -> Vec<Point> {
        self.shared.lock().series.get(service).map(|series| series.read(from, to, most)).unwrap_or_default()
    }

    /// How a service's objective is held now.
    pub(crate) fn judge(&self, service: &str, objective: &Objective, now: WallTime) -> ObjectiveStatus {
        let state = self.shared.lock();
        let nothing = Series::default();
        let hours = &state.series.get(service).unwrap_or(&nothing).hours;
        let window_ms = objective.window.as_ms();
        let (window, recent) = (hours.within(window_ms, now), hours.within(RECENT_MS, now));
        judge(objective, &window, &recent, hours.since(window_ms, now))
    }

    /// What is wrong with it now, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }

    /// What became of a damaged file, once.
    pub(crate) fn news(&self) -> Option<String> {
        self.shared.lock().news.take()
    }
}

/// What the thread and those who ask have in common.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    series: BTreeMap<String, Series>,
    failure: Option<String>,
    news: Option<String>,
}

impl Shared {
    /// Held for moments only, never while the disk is asked for anything.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
