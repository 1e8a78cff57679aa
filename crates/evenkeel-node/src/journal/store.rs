//! The journal's table. Used by the journal's thread alone.
//!
//! Write-ahead logging without waiting for the disk at each commit: a power cut may cost the last entries, never
//! the file (`SQLite`, "PRAGMA synchronous"). The lock is exclusive, so that no shared memory is mapped from a disk
//! that may be full. What lies on disk is bounded in bytes: the log beside the table is emptied every megabyte, and
//! the oldest entries go when the table has taken its share.

use std::path::Path;

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    time::WallTime,
};
use rusqlite::{Connection, Row, params, params_from_iter, types::Value};

use super::Query;
use crate::sqlite::Refusal;

const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 256;
    PRAGMA journal_size_limit = 1048576;
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        level TEXT NOT NULL,
        subject TEXT NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        reasons TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS entries_by_subject ON entries (subject, id);
";

/// What the write-ahead log may take beside the table: a megabyte until it is emptied, and the largest transaction
/// with its index pages.
const LOG_BYTES: u64 = 3 << 20;

/// The least that the table itself is given.
const LEAST_TABLE_BYTES: u64 = 256 << 10;

/// Entries that one transaction removes, so that it stays small.
const REMOVED_AT_ONCE: u64 = 500;

pub(super) struct Store {
    db: Connection,
    newest: u64,
    page_bytes: u64,
    /// Pages that the table's file may have.
    pages: u64,
}

impl Store {
    /// Opens the file and makes sure that it is whole.
    pub(super) fn open(path: &Path, size_bytes: u64) -> Result<Self, Refusal> {
        let db = Connection::open(path)?;
        db.execute_batch(SCHEMA).map_err(|error| Refusal::met(&db, error))?;
        let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(rusqlite::Error::SqliteFailure(code, Some(check)).into());
        }
        let newest: Option<i64> =
            db.query_row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'entries'", [], |row| row.get(0))?;
        let page_bytes = from_sql(db.query_row("PRAGMA page_size", [], |row| row.get(0))?).max(512);
        let mut store = Self { db, newest: from_sql(newest.unwrap_or(0)), page_bytes, pages: 0 };
        store.set_size(size_bytes);
        Ok(store)
    }

    /// Bounds what table and log take together.
    pub(super) fn set_size(&mut self, size_bytes: u64) {
        self.pages = size_bytes.saturating_sub(LOG_BYTES).max(LEAST_TABLE_BYTES) / self.page_bytes;
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Writes entries, which have their ids, as one transaction, and removes the oldest ones where there are too
    /// many.
    pub(super) fn append<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Result<(), Refusal> {
        self.insert(entries).map_err(|error| Refusal::met(&self.db, error))?;
        // What was written is written: that there was no room to tidy up shows at the next write.
        if let Err(error) = self.trim() {
            tracing::warn!(%error, "the journal's oldest entries cannot be removed");
        }
        Ok(())
    }

    fn insert<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> rusqlite::Result<()> {
        let mut newest = self.newest;
        let transaction = self.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO entries (id, at_ms, level, subject, kind, message, reasons) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?;
            for entry in entries {
                let reasons = serde_json::to_string(&entry.reasons).expect("reasons are plain text");
                let (id, at_ms) = (to_sql(entry.id), to_sql(entry.at.as_millis()));
                let level = entry.level.to_string();
                insert.execute(params![id, at_ms, level, entry.subject, entry.kind, entry.message, reasons])?;
                newest = newest.max(entry.id);
            }
        }
        transaction.commit()?;
        self.newest = newest;
        Ok(())
    }

    /// Removes the oldest entries until the file has its size again.
    fn trim(&mut self) -> rusqlite::Result<()> {
        if self.pragma("page_count")? <= self.pages {
            return Ok(());
        }
        // Some more than needed, so that not every write pays for it; the pages are used again.
        let target = self.pages - self.pages / 20;
        loop {
            let used = self.pragma("page_count")?.saturating_sub(self.pragma("freelist_count")?);
            let (oldest, count): (Option<i64>, i64) =
                self.db.query_row("SELECT min(id), count(*) FROM entries", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let Some(oldest) = oldest.filter(|_| used > target && count > 1) else { break };
            let share = from_sql(count) * (used - target) / used;
            let last = from_sql(oldest) + share.clamp(1, REMOVED_AT_ONCE);
            // The newest one stays, whatever its size.
            self.db.execute("DELETE FROM entries WHERE id < ? AND id < ?", [to_sql(last), to_sql(self.newest)])?;
        }
        let beyond = self.pragma("page_count")?.saturating_sub(self.pages);
        if beyond > 0 {
            // Each row of this statement is one page given back.
            let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({beyond})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        self.db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).map(from_sql)
    }

    /// Entries, oldest first.
    pub(super) fn read(&self, query: &Query) -> rusqlite::Result<Vec<Entry>> {
        let mut conditions = vec!["id > ?".to_owned()];
        let mut values = vec![Value::from(to_sql(query.after.unwrap_or(0)))];
        if let Some(subject) = &query.subject {
            conditions.push("(subject = ? OR substr(subject, 1, length(?)) = ?)".to_owned());
            let below = format!("{subject}/");
            values.extend([subject.clone(), below.clone(), below].map(Value::from));
        }
        for (condition, time) in [("at_ms >= ?", query.since), ("at_ms <= ?", query.until)] {
            if let Some(time) = time {
                conditions.push(condition.to_owned());
                values.push(Value::from(to_sql(time.as_millis())));
            }
        }
        values.push(Value::from(i64::from(query.limit)));
        let order = if query.after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT id, at_ms, level, subject, kind, message, reasons FROM entries WHERE {} ORDER BY id {order} LIMIT ?",
            conditions.join(" AND ")
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(values), entry)?;
        let mut entries = found.collect::<rusqlite::Result<Vec<_>>>()?;
        if query.after.is_none() {
            entries.reverse();
        }
        Ok(entries)
    }

    /// Makes the disk look full: the file may have no further page (`SQLITE_FULL`).
    #[cfg(test)]
    pub(super) fn allow_pages(&self, pages: u32) {
        self.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let level: String = row.get(2)?;
    let reasons: String = row.get(6)?;
    Ok(Entry {
        id: from_sql(row.get(0)?),
        at: WallTime::from_millis(from_sql(row.get(1)?)),
        level: match level.as_str() {
            "error" => Level::Error,
            "warning" => Level::Warning,
            _ => Level::Info,
        },
        subject: row.get(3)?,
        kind: row.get(4)?,
        message: row.get(5)?,
        reasons: serde_json::from_str::<Vec<Reason>>(&reasons).unwrap_or_default(),
    })
}

/// The database's integers are signed; ids and times never come near the difference.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
