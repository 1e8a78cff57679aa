//! Makes points of samples and keeps them. Owned by the history's thread.
//!
//! A point is the difference of a sample and its *mark*: the counters that the point before it was made from. Marks
//! are written in the same transaction, so that a node process that was started again goes on exactly where the former
//! one was, and what happened between is in its first point. What the disk does not take stays in memory, and the file
//! is written anew once it does.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    objectives::{Counted, Hours},
    time::WallTime,
};

use super::{
    Origin, Point, Sample, Shared, Standing,
    series::{Series, Step},
    store::{Change, Store},
};
use crate::{
    sqlite::{Cause, Refusal, with_suffix},
    traffic::Sums,
};

/// The counters that a point was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// Under which guard: another one's edges count from zero.
    pub(super) guard_ms: u64,
    /// When, since boot.
    pub(super) boot_ms: u64,
    pub(super) sums: Sums,
}

pub(super) struct Keeper {
    path: PathBuf,
    origin: Origin,
    shared: Shared,
    /// By service and resolution.
    marks: BTreeMap<(String, Step), Mark>,
    /// Whether what was counted before the first sample is known.
    known: bool,
    /// Wall time of the last sample, and its time since boot.
    last: Option<(u64, u64)>,
    store: Option<Store>,
    /// The file lacks what the memory has.
    behind: bool,
}

impl Keeper {
    pub(super) fn new(path: &Path, origin: Origin, shared: Shared) -> Self {
        let known = origin.first;
        let path = path.to_owned();
        let mut keeper =
            Self { path, origin, shared, marks: BTreeMap::new(), known, last: None, store: None, behind: false };
        keeper.open();
        keeper
    }

    /// Adds a sample to the memory and to the file.
    pub(super) fn take(&mut self, sample: &Sample) {
        let length_ms = Step::Fine.length_ms();
        let at_ms = sample.at.as_millis() / length_ms * length_ms;
        // A clock that was set back a little meets the same time again; the next sample has both.
        if self.last.is_some_and(|(last_ms, _)| last_ms == at_ms) {
            return;
        }
        let minute = |ms: u64| ms / Step::Coarse.length_ms();
        let coarse = self.last.is_some_and(|(last_ms, _)| minute(last_ms) != minute(at_ms));
        let (at, boot_ms) = (WallTime::from_millis(at_ms), millis(sample.boot));
        let mut changes = Vec::new();
        for (name, standing) in &sample.services {
            self.begin(name, &standing.sums, boot_ms);
            self.advance(name, Step::Fine, standing, (at, boot_ms), &mut changes);
            if coarse {
                self.advance(name, Step::Coarse, standing, (at, boot_ms), &mut changes);
            }
        }
        if coarse {
            self.forget_services(sample, at, &mut changes);
        }
        (self.known, self.last) = (true, Some((at_ms, boot_ms)));
        self.write(changes);
    }

    /// Makes sure that a service has marks. What it had counted before it was first seen here is what former edges
    /// had, or, where this process cannot know, everything until now.
    fn begin(&mut self, name: &str, now: &Sums, boot_ms: u64) {
        let guard_ms = self.origin.guard.as_millis();
        for step in Step::ALL {
            let key = (name.to_owned(), step);
            if self.marks.get(&key).is_some_and(|mark| mark.guard_ms == guard_ms) {
                continue;
            }
            let (boot_ms, sums) = if self.known {
                let since_ms = self.last.map_or(millis(self.origin.boot), |(_, last_boot_ms)| last_boot_ms);
                (since_ms, self.origin.base.get(name).cloned().unwrap_or_default())
            } else {
                (boot_ms, now.clone())
            };
            self.marks.insert(key, Mark { guard_ms, boot_ms, sums });
        }
    }

    /// Makes the next point of a service, and moves its mark.
    fn advance(
        &mut self,
        name: &str,
        step: Step,
        standing: &Standing,
        (at, boot_ms): (WallTime, u64),
        changes: &mut Vec<Change>,
    ) {
        let mark = self.marks.entry((name.to_owned(), step)).or_default();
        let next = Mark { guard_ms: mark.guard_ms, boot_ms, sums: standing.sums.clone() };
        changes.push(Change::Mark(name.to_owned(), step, next.clone()));
        let former = mem::replace(mark, next);
        let span_ms = boot_ms.saturating_sub(former.boot_ms);
        if span_ms == 0 {
            return;
        }
        let delta = standing.sums.since(&former.sums);
        let point = Point::of(&delta, at, span_ms, standing);
        let mut state = self.shared.lock();
        let series = state.series.entry(name.to_owned()).or_default();
        let forgotten = series.add(step, point);
        changes.push(Change::Point(name.to_owned(), step, point));
        changes.extend(forgotten.into_iter().map(|at_ms| Change::ForgetPoint(name.to_owned(), step, at_ms)));
        if standing.objective && step == Step::Fine {
            count_hour(name, series, at, &delta, changes);
        }
    }

    /// Drops services that are gone and of which nothing is left to be shown.
    fn forget_services(&mut self, sample: &Sample, at: WallTime, changes: &mut Vec<Change>) {
        let mut state = self.shared.lock();
        let over = |(name, series): (&String, &Series)| {
            (!sample.services.contains_key(name) && series.is_over(at)).then(|| name.clone())
        };
        for name in state.series.iter().filter_map(over).collect::<Vec<_>>() {
            state.series.remove(&name);
            self.marks.retain(|(service, _), _| *service != name);
            changes.push(Change::Forget(name));
        }
    }

    /// Writes what changed, or everything where the file lacks more than that.
    fn write(&mut self, changes: Vec<Change>) {
        if self.store.is_none() {
            self.open();
        }
        let result = match &mut self.store {
            None => return,
            Some(store) if self.behind => store.write(everything(&self.shared, &self.marks), true),
            Some(store) => store.write(changes.into_iter(), false),
        };
        match result {
            Ok(()) => {
                self.behind = false;
                self.shared.lock().failure = None;
            }
            Err(error) => {
                self.behind = true;
                self.failed(&error);
            }
        }
    }

    /// Opens the file and takes what it holds.
    fn open(&mut self) {
        let opened = Store::open(&self.path).and_then(|store| Ok((store.read()?, store)));
        let (held, store) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed(&error),
        };
        let guard_ms = self.origin.guard.as_millis();
        self.known |= held.marks.values().any(|mark| mark.guard_ms == guard_ms);
        for (key, mark) in held.marks {
            self.marks.entry(key).or_insert(mark);
        }
        let mut state = self.shared.lock();
        for (name, kept) in held.series {
            state.series.entry(name).or_default().join(kept);
        }
        // What was taken before it could be opened is not in it.
        self.behind = self.last.is_some();
        self.store = Some(store);
    }

    /// Says what is wrong. A damaged file is set aside, and the next sample begins another one.
    fn failed(&mut self, error: &Refusal) {
        if !is_damage(&error.error) {
            let Cause { what, fix } = error.cause();
            let then = if fix.is_empty() { "" } else { ": " };
            self.shared.lock().failure = Some(format!("the history cannot be written ({what}){then}{fix}"));
            return;
        }
        self.store = None;
        let aside = with_suffix(&self.path, ".damaged");
        let moved = fs::rename(&self.path, &aside);
        for suffix in ["-wal", "-shm"] {
            // Its log belongs to it, and would damage another one.
            let _ = fs::remove_file(with_suffix(&self.path, suffix));
        }
        let mut state = self.shared.lock();
        match moved {
            Ok(()) => {
                let aside = aside.display();
                state.news =
                    Some(format!("the history was damaged ({error}) and is begun anew; it was set aside as {aside}"));
            }
            Err(moved) => {
                state.failure = Some(format!("the history is damaged ({error}) and cannot be set aside: {moved}"));
            }
        }
        drop(state);
        // Where nothing was counted yet, nothing is to be written before it is there again.
        self.behind = true;
    }

    #[cfg(test)]
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

/// Adds to the hour of now.
fn count_hour(name: &str, series: &mut Series, at: WallTime, delta: &Sums, changes: &mut Vec<Change>) {
    let counted = Counted { requests: delta.requests(), errors: delta.errors(), latency: delta.latency };
    let forgotten = series.hours.count(at, &counted);
    let hour = Hours::number(at);
    let total = series.hours.get(hour).cloned().unwrap_or_default();
    changes.push(Change::Hour(name.to_owned(), hour, total));
    changes.extend(forgotten.into_iter().map(|hour| Change::ForgetHour(name.to_owned(), hour)));
}

/// The memory as rows.
fn everything(shared: &Shared, marks: &BTreeMap<(String, Step), Mark>) -> impl Iterator<Item = Change> {
    let marks: Vec<Change> =
        marks.iter().map(|((name, step), mark)| Change::Mark(name.clone(), *step, mark.clone())).collect();
    let mut rows = marks;
    for (name, series) in &shared.lock().series {
        for step in Step::ALL {
            let points = series.points(step).values();
            rows.extend(points.map(|point| Change::Point(name.clone(), step, *point)));
        }
        rows.extend(series.hours.iter().map(|(hour, counted)| Change::Hour(name.clone(), hour, counted.clone())));
    }
    rows.into_iter()
}

/// Whether the file is to blame rather than the disk it lies on.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch};
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::InvalidColumnIndex(_) => true,
        error => matches!(error.sqlite_error_code(), Some(NotADatabase | DatabaseCorrupt | TypeMismatch)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
