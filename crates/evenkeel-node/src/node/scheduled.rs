//! Drills that run by themselves.
//!
//! When each was started or refused last is kept in the state directory, so that a restart neither repeats nor forgets
//! one. What is due core says; here it is started, one at a time. A drill that is refused, as while something is not
//! well, is tried again; that is written to the journal when it begins, not each time.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use evenkeel_core::{
    drill::{self, Known, Turn},
    journal::{Level, Reason},
    stack::ScheduledDrill,
    time::Moment,
};

use super::Node;
use crate::{
    clock::wall_now,
    drills::{self, Order, Proofs},
    journal::Journal,
    state_dir::{make_private, replace_private},
};

/// How often it is looked what is due: times have minutes, and the wall clock may jump.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// What is known of each scheduled drill, by its key.
type KnownAll = BTreeMap<String, Known>;

/// Drills that run by themselves, and what drills proved.
pub(super) struct Scheduled {
    pub(super) proofs: Proofs,
    next_look: Moment,
    /// The drill that is being started, and the last refusal that was told.
    starting: Arc<Mutex<Starting>>,
}

#[derive(Default)]
struct Starting {
    busy: bool,
    told: BTreeMap<String, String>,
}

/// What was kept.
pub(crate) fn read(state_dir: &Path) -> KnownAll {
    let text = std::fs::read(drills::schedule_file(state_dir)).unwrap_or_default();
    // Without it each is scheduled from now on.
    serde_json::from_slice(&text).unwrap_or_default()
}

fn keep(state_dir: &Path, known: &KnownAll) -> std::io::Result<()> {
    make_private(&drills::folder(state_dir))?;
    replace_private(&drills::schedule_file(state_dir), &serde_json::to_vec(known).map_err(std::io::Error::other)?)
}

impl Scheduled {
    pub(super) fn new(state_dir: &Path) -> Self {
        let proofs = Proofs::new(state_dir);
        // Who asks first shall not hear of none.
        let _ = proofs.get();
        Self { proofs, next_look: Moment::ORIGIN, starting: Arc::default() }
    }
}

impl Node {
    /// Starts the scheduled drill that is due.
    pub(super) fn look_for_drills(&mut self) {
        let now = self.clock.now();
        let schedule = &self.revision.stack.drills.schedule;
        if schedule.is_empty() || self.scheduled.next_look > now || self.shutdown.is_some() {
            return;
        }
        self.scheduled.next_look = now + LOOK_EVERY;
        let (dir, wall) = (self.config.state_dir.clone(), wall_now());
        let before = read(&dir);
        let of = |one: &ScheduledDrill| {
            let known = before.get(&one.key()).copied().unwrap_or(Known { since: wall, ..Known::default() });
            (one.key(), known)
        };
        let known: KnownAll = schedule.iter().map(of).collect();
        let mut starting = self.scheduled.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if known != before && !starting.busy && keep(&dir, &known).is_err() {
            // Without a record each look would start it anew.
            return;
        }
        let blackout = &self.revision.stack.drills.blackout;
        let due = |one: &&ScheduledDrill| drill::turn(one, blackout, &known[&one.key()], wall) == Turn::Now;
        let Some(due) = schedule.iter().find(due).filter(|_| !starting.busy) else { return };
        starting.busy = true;
        drop(starting);
        let (due, journal) = (due.clone(), self.journal.clone());
        tokio::spawn(start(dir, due, journal, Arc::clone(&self.scheduled.starting)));
    }

    pub(super) fn drills_deadline(&self) -> Option<Moment> {
        (!self.revision.stack.drills.schedule.is_empty()).then_some(self.scheduled.next_look)
    }
}

async fn start(dir: std::path::PathBuf, due: ScheduledDrill, journal: Journal, starting: Arc<Mutex<Starting>>) {
    let key = due.key();
    let order = Order { drill: due.drill.clone(), service: due.service.clone(), ..Order::default() };
    let outcome = drills::start(&dir, &order).await;
    let mut known = read(&dir);
    let at = wall_now();
    let one = known.entry(key.clone()).or_insert(Known { since: at, ..Known::default() });
    match &outcome {
        Ok(_) => (one.started, one.refused) = (Some(at), None),
        Err(_) => one.refused = Some(at),
    }
    if let Err(error) = keep(&dir, &known) {
        let problem = format!("when drills were started cannot be kept: {error}");
        journal.note(Level::Warning, "drill", "schedule", problem, Vec::new());
    }
    let mut starting = starting.lock().unwrap_or_else(PoisonError::into_inner);
    starting.busy = false;
    match outcome {
        Ok(run) => {
            starting.told.remove(&key);
            let rule = Reason::rule(format!("it is scheduled: {key}"));
            journal.note(
                Level::Info,
                "drill",
                "scheduled",
                format!("{} was started, run {run}", due.drill),
                vec![rule],
            );
        }
        Err(refused) => {
            let why = if refused.cause.is_empty() { refused.what } else { refused.cause };
            if starting.told.insert(key.clone(), why.clone()).as_ref() != Some(&why) {
                let message = format!("{}, which is scheduled, was refused: {why}", due.drill);
                let rule = Reason::rule("it is tried again every ten minutes");
                journal.note(Level::Warning, "drill", "refused", message, vec![rule]);
            }
        }
    }
}
