//! Drills that run by themselves.
//!
//! When each was started or refused last is kept in the state directory, so that a restart neither repeats nor forgets
//! one: it is written down before the drill is started, since the drill may be about this very process. What is due
//! core says; here it is started, one at a time. All of this is a task of its own, and its work on the disk is done on
//! threads that may wait for it: whoever owns the stack never does. A drill that is refused, as while something is not
//! well, is tried again; that is written to the journal when it begins, not each time.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use evenkeel_core::{
    drill::{self, Known, Turn},
    journal::{Level, Reason},
    stack::{Drills, ScheduledDrill},
    time::{Moment, WallTime},
};
use tokio::task::spawn_blocking;

use super::Node;
use crate::{
    clock::wall_now,
    drills::{self, NotStarted, Order, Proofs},
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
    looks: Arc<Mutex<Looks>>,
}

/// What one look leaves for the next.
#[derive(Default)]
struct Looks {
    /// Whether one goes on.
    busy: bool,
    /// What was last said about each drill that could not be started.
    told: BTreeMap<String, String>,
}

/// What was kept.
pub(crate) fn read(state_dir: &Path) -> KnownAll {
    try_read(state_dir).unwrap_or_default()
}

fn try_read(state_dir: &Path) -> io::Result<KnownAll> {
    match std::fs::read(drills::schedule_file(state_dir)) {
        // What is damaged is made anew: each is scheduled from now on.
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KnownAll::new()),
        Err(error) => Err(error),
    }
}

fn keep(state_dir: &Path, known: &KnownAll) -> io::Result<()> {
    make_private(&drills::folder(state_dir))?;
    replace_private(&drills::schedule_file(state_dir), &serde_json::to_vec(known).map_err(io::Error::other)?)
}

/// Brings what is kept up to date with the stack file and the clock; the first drill that is due, and what was known of
/// it before. From here on it counts as started.
fn take_due(state_dir: &Path, drills: &Drills, now: WallTime) -> io::Result<Option<(ScheduledDrill, Known)>> {
    let before = try_read(state_dir)?;
    let of = |one: &ScheduledDrill| {
        let known = before.get(&one.key()).copied().unwrap_or(Known { since: now, ..Known::default() });
        (one.key(), known.clamped(now))
    };
    let mut known: KnownAll = drills.schedule.iter().map(of).collect();
    let is_due = |one: &&ScheduledDrill| drill::turn(one, &drills.blackout, &known[&one.key()], now) == Turn::Now;
    let due = drills.schedule.iter().find(is_due).map(|one| (one.clone(), known[&one.key()]));
    if let Some((one, was)) = &due {
        known.insert(one.key(), Known { started: Some(now), refused: None, ..*was });
    }
    if known != before {
        keep(state_dir, &known)?;
    }
    Ok(due)
}

/// A drill that counted as started was not.
fn put_back(state_dir: &Path, due: &ScheduledDrill, was: Known, now: WallTime) -> io::Result<()> {
    let mut known = try_read(state_dir)?;
    known.insert(due.key(), Known { refused: Some(now), ..was });
    keep(state_dir, &known)
}

impl Scheduled {
    pub(super) fn new(state_dir: &Path) -> Self {
        let proofs = Proofs::new(state_dir);
        // Who asks first shall not hear of none.
        let _ = proofs.get();
        Self { proofs, next_look: Moment::ORIGIN, looks: Arc::default() }
    }
}

impl Node {
    /// Has it looked whether a scheduled drill is due.
    pub(super) fn look_for_drills(&mut self) {
        let now = self.clock.now();
        if self.drills_deadline().is_none_or(|at| at > now) {
            return;
        }
        self.scheduled.next_look = now + LOOK_EVERY;
        if std::mem::replace(&mut lock(&self.scheduled.looks).busy, true) {
            return;
        }
        let look = Look {
            state_dir: self.config.state_dir.clone(),
            drills: self.revision.stack.drills.clone(),
            journal: self.journal.clone(),
            looks: Busy(Arc::clone(&self.scheduled.looks)),
        };
        tokio::spawn(look.run());
    }

    pub(super) fn drills_deadline(&self) -> Option<Moment> {
        let is_wanted = !self.revision.stack.drills.schedule.is_empty() && self.shutdown.is_none();
        is_wanted.then_some(self.scheduled.next_look)
    }
}

/// One look whether a drill is due, with what it takes.
struct Look {
    state_dir: PathBuf,
    drills: Drills,
    journal: Journal,
    looks: Busy,
}

/// The mark that a look goes on, until it is over, however it ends.
struct Busy(Arc<Mutex<Looks>>);

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.0).busy = false;
    }
}

fn lock(looks: &Mutex<Looks>) -> MutexGuard<'_, Looks> {
    // What was told stays so whatever happened to another holder of the lock.
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Look {
    async fn run(self) {
        let (dir, drills) = (self.state_dir.clone(), self.drills.clone());
        let taken = spawn_blocking(move || take_due(&dir, &drills, wall_now())).await;
        match taken.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Some((due, was))) => self.start(due, was).await,
            Ok(None) => self.kept(),
            // Without a record each look would start it anew.
            Err(error) => self.cannot_keep(&error),
        }
    }

    async fn start(&self, due: ScheduledDrill, was: Known) {
        self.kept();
        let order =
            Order { drill: due.drill.clone(), service: due.service.clone(), unattended: true, ..Order::default() };
        let is_again = lock(&self.looks.0).told.contains_key(&due.key());
        let outcome = match drills::reserve(&self.state_dir, &order.drill).await {
            Ok(reserved) => {
                // Who started it stands above whatever it does, but not again each time that it is refused again.
                if !is_again {
                    self.note_start(&due, reserved.id());
                }
                reserved.start(&order).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(run) => {
                if lock(&self.looks.0).told.remove(&due.key()).is_some() {
                    self.note_start(&due, &run);
                }
            }
            Err(refused) => self.refused(due, was, refused).await,
        }
    }

    fn note_start(&self, due: &ScheduledDrill, run: &str) {
        let rule = Reason::rule(format!("it is scheduled: {}", due.key()));
        let message = format!("{} is started, run {run}", due.drill);
        self.journal.note(Level::Info, "drill", "scheduled", message, vec![rule]);
    }

    async fn refused(&self, due: ScheduledDrill, was: Known, refused: NotStarted) {
        let why = if refused.cause.is_empty() { refused.what } else { refused.cause };
        if self.is_news(&due.key(), &why) {
            let message = format!("{}, which is scheduled, was refused: {why}", due.drill);
            let rule = Reason::rule("it is tried again every ten minutes");
            self.journal.note(Level::Warning, "drill", "refused", message, vec![rule]);
        }
        let dir = self.state_dir.clone();
        let put = spawn_blocking(move || put_back(&dir, &due, was, wall_now())).await;
        if let Err(error) = put.unwrap_or_else(|error| Err(io::Error::other(error))) {
            self.cannot_keep(&error);
        }
    }

    fn cannot_keep(&self, error: &io::Error) {
        let why = format!("no drill runs by itself, since when it was started cannot be kept: {error}");
        if self.is_news(KEPT, &why) {
            let rule = Reason::rule("a drill whose start is not written down would be started again at each look");
            self.journal.note(Level::Warning, "drill", "schedule", why, vec![rule]);
        }
    }

    fn kept(&self) {
        lock(&self.looks.0).told.remove(KEPT);
    }

    /// Whether this was not what was last said about it.
    fn is_news(&self, key: &str, why: &str) -> bool {
        lock(&self.looks.0).told.insert(key.to_owned(), why.to_owned()).as_deref() != Some(why)
    }
}

/// Under what is remembered that the record cannot be kept; no drill has that key.
const KEPT: &str = "";

#[cfg(test)]
mod tests {
    use std::fs;

    use evenkeel_core::stack;

    use super::*;

    const KEY: &str = "kill-edge * every 1h";
    const HOUR_MS: u64 = 3_600_000;

    fn hourly() -> Drills {
        let every = Some(stack::Duration::s(3600));
        let drill = ScheduledDrill { drill: "kill-edge".to_owned(), every, ..ScheduledDrill::default() };
        Drills { schedule: vec![drill], ..Drills::default() }
    }

    fn at(hour: u64) -> WallTime {
        WallTime::from_millis(hour * HOUR_MS)
    }

    #[test]
    fn a_start_is_kept_before_it_is_made_and_taken_back_where_it_was_not() {
        let temp = tempfile::tempdir().unwrap();
        assert!(take_due(temp.path(), &hourly(), at(10)).unwrap().is_none(), "scheduled from now on");
        let (due, was) = take_due(temp.path(), &hourly(), at(11)).unwrap().unwrap();
        assert_eq!(read(temp.path())[KEY].started, Some(at(11)), "whatever becomes of this process now");
        assert!(take_due(temp.path(), &hourly(), at(11)).unwrap().is_none(), "not twice");
        put_back(temp.path(), &due, was, at(11)).unwrap();
        assert_eq!(read(temp.path())[KEY], Known { since: at(10), started: None, refused: Some(at(11)) });
        let again = WallTime::from_millis(at(11).as_millis() + drill::TRY_AGAIN_MS);
        assert!(take_due(temp.path(), &hourly(), again).unwrap().is_some());
    }

    #[test]
    fn what_a_clock_kept_that_was_ahead_is_put_right_on_disk() {
        let temp = tempfile::tempdir().unwrap();
        let ahead = Known { since: at(9000), started: Some(at(9000)), refused: Some(at(9000)) };
        keep(temp.path(), &KnownAll::from([(KEY.to_owned(), ahead)])).unwrap();
        assert!(take_due(temp.path(), &hourly(), at(10)).unwrap().is_none());
        assert_eq!(read(temp.path())[KEY], Known { since: at(10), started: Some(at(10)), refused: Some(at(10)) });
        assert!(take_due(temp.path(), &hourly(), at(11)).unwrap().is_some(), "an interval later");
    }

    #[test]
    fn without_a_record_nothing_is_started() {
        let temp = tempfile::tempdir().unwrap();
        let due = Known { since: at(1), ..Known::default() };
        keep(temp.path(), &KnownAll::from([(KEY.to_owned(), due)])).unwrap();
        // What is in the way of the new file cannot be removed as a file.
        fs::create_dir_all(temp.path().join("drills/schedule.json.new/x")).unwrap();
        take_due(temp.path(), &hourly(), at(11)).unwrap_err();
        assert_eq!(read(temp.path())[KEY], due, "the next look finds it due");
    }
}
