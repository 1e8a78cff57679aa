//! The history's file: an `SQLite` database, used by the history's thread alone.
//!
//! Each sample is one transaction, so that points, hours and the counters that they were made from always fit each
//! other, whenever the power fails. As with the journal the log is not synchronised at each commit: a power cut may
//! cost the last seconds, never the file. Its size is bounded by what the memory holds, which it follows row by row.

use std::{collections::BTreeMap, path::Path};

use evenkeel_core::{objectives::Counted, time::WallTime};
use rusqlite::{Connection, Row, params};

use super::{
    Point,
    keeper::Mark,
    series::{Series, Step},
};
use crate::{sqlite::Refusal, traffic::Sums};

/// The number of the tables' form; a file of another one is begun anew.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 256;
    PRAGMA journal_size_limit = 1048576;
    CREATE TABLE IF NOT EXISTS points (
        service TEXT, step INTEGER, at_ms INTEGER, span_ms INTEGER, requests INTEGER, errors INTEGER,
        retries INTEGER, held INTEGER, p50_ms REAL, p99_ms REAL, healthy INTEGER, wanted INTEGER,
        PRIMARY KEY (service, step, at_ms)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS hours (
        service TEXT, hour INTEGER, counted TEXT, PRIMARY KEY (service, hour)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS marks (
        service TEXT, step INTEGER, guard_ms INTEGER, boot_ms INTEGER, sums TEXT, PRIMARY KEY (service, step)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;
";

/// A row that is to be as the memory is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Point(String, Step, Point),
    Hour(String, u64, Counted),
    Mark(String, Step, Mark),
    ForgetPoint(String, Step, u64),
    ForgetHour(String, u64),
    /// Everything of a service.
    Forget(String),
}

/// What the file holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) series: BTreeMap<String, Series>,
    pub(super) marks: BTreeMap<(String, Step), Mark>,
}

pub(super) struct Store(Connection);

impl Store {
    /// Opens the file and makes sure that it is whole.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let db = Connection::open(path)?;
        let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if format != 0 && format != FORMAT {
            return Err(damage(format!("its format is {format}, and this version writes {FORMAT}")).into());
        }
        db.execute_batch(SCHEMA).map_err(|error| Refusal::met(&db, error))?;
        let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check == "ok" { Ok(Self(db)) } else { Err(damage(check).into()) }
    }

    /// Everything.
    pub(super) fn read(&self) -> rusqlite::Result<Held> {
        let mut held = Held::default();
        let mut points = self.0.prepare("SELECT * FROM points")?;
        let mut rows = points.query([])?;
        while let Some(row) = rows.next()? {
            let series = held.series.entry(row.get(0)?).or_default();
            series.restore(step(row.get(1)?), point(row)?);
        }
        let mut hours = self.0.prepare("SELECT service, hour, counted FROM hours")?;
        let mut rows = hours.query([])?;
        while let Some(row) = rows.next()? {
            let counted: Counted = from_json(&row.get::<_, String>(2)?)?;
            held.series.entry(row.get(0)?).or_default().hours.restore(from_sql(row.get(1)?), &counted);
        }
        let mut marks = self.0.prepare("SELECT service, step, guard_ms, boot_ms, sums FROM marks")?;
        let mut rows = marks.query([])?;
        while let Some(row) = rows.next()? {
            let sums: Sums = from_json(&row.get::<_, String>(4)?)?;
            let mark = Mark { guard_ms: from_sql(row.get(2)?), boot_ms: from_sql(row.get(3)?), sums };
            held.marks.insert((row.get(0)?, step(row.get(1)?)), mark);
        }
        Ok(held)
    }

    /// Makes rows as the memory is, all or none. `anew`: every other row goes.
    pub(super) fn write(&mut self, changes: impl Iterator<Item = Change>, anew: bool) -> Result<(), Refusal> {
        self.replace(changes, anew).map_err(|error| Refusal::met(&self.0, error))
    }

    fn replace(&mut self, changes: impl Iterator<Item = Change>, anew: bool) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        if anew {
            transaction.execute_batch("DELETE FROM points; DELETE FROM hours; DELETE FROM marks;")?;
        }
        for change in changes {
            apply(&transaction, change)?;
        }
        transaction.commit()
    }

    /// Makes the disk look full: the file may have no further page (`SQLITE_FULL`).
    #[cfg(test)]
    pub(super) fn allow_pages(&self, pages: u32) {
        self.0.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }
}

fn apply(db: &Connection, change: Change) -> rusqlite::Result<()> {
    match change {
        Change::Point(service, step, point) => {
            let sql = "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let Point { at, span_ms, requests, errors, retries, held, p50_ms, p99_ms, healthy, wanted } = point;
            let at_ms = to_sql(at.as_millis());
            db.prepare_cached(sql)?.execute(params![
                service,
                number(step),
                at_ms,
                span_ms,
                requests,
                errors,
                retries,
                held,
                p50_ms,
                p99_ms,
                healthy,
                wanted
            ])
        }
        Change::Hour(service, hour, counted) => {
            let sql = "INSERT OR REPLACE INTO hours VALUES (?, ?, ?)";
            db.prepare_cached(sql)?.execute(params![service, to_sql(hour), to_json(&counted)])
        }
        Change::Mark(service, step, mark) => {
            let sql = "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)";
            let (guard_ms, boot_ms) = (to_sql(mark.guard_ms), to_sql(mark.boot_ms));
            db.prepare_cached(sql)?.execute(params![service, number(step), guard_ms, boot_ms, to_json(&mark.sums)])
        }
        Change::ForgetPoint(service, step, at_ms) => {
            let sql = "DELETE FROM points WHERE service = ? AND step = ? AND at_ms = ?";
            db.prepare_cached(sql)?.execute(params![service, number(step), to_sql(at_ms)])
        }
        Change::ForgetHour(service, hour) => {
            let sql = "DELETE FROM hours WHERE service = ? AND hour = ?";
            db.prepare_cached(sql)?.execute(params![service, to_sql(hour)])
        }
        Change::Forget(service) => ["points", "hours", "marks"].into_iter().try_fold(0, |rows, table| {
            Ok(rows + db.execute(&format!("DELETE FROM {table} WHERE service = ?"), [&service])?)
        }),
    }
    .map(drop)
}

fn point(row: &Row<'_>) -> rusqlite::Result<Point> {
    Ok(Point {
        at: WallTime::from_millis(from_sql(row.get(2)?)),
        span_ms: row.get(3)?,
        requests: row.get(4)?,
        errors: row.get(5)?,
        retries: row.get(6)?,
        held: row.get(7)?,
        p50_ms: row.get(8)?,
        p99_ms: row.get(9)?,
        healthy: row.get(10)?,
        wanted: row.get(11)?,
    })
}

fn number(step: Step) -> i64 {
    to_sql(step.length_ms())
}

fn step(number: i64) -> Step {
    Step::ALL.into_iter().find(|step| self::number(*step) == number).unwrap_or(Step::Coarse)
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("counters are plain numbers")
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| damage(error.to_string()))
}

/// What cannot be what was written.
fn damage(words: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(words))
}

/// The database's integers are signed; counts and times never come near the difference.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
