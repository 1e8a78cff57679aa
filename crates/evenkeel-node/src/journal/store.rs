//! The journal's table. Used by the journal's thread alone.
//!
//! Write-ahead logging without waiting for the disk at each commit: a power cut may cost the last entries, never
//! the file (`SQLite`, "PRAGMA synchronous").

use std::{fs, path::Path};

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    time::WallTime,
};
use rusqlite::{Connection, Row, params};

use super::Query;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 4194304;
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

pub(super) struct Store {
    db: Connection,
    kept: u64,
    newest: u64,
    /// The id at which expired entries are removed next, so that not every write pays for it.
    tidy_at: u64,
}

impl Store {
    /// Opens the file, or a substitute, and says what is wrong.
    pub(super) fn open(path: &Path, kept: u64) -> (Self, Option<String>) {
        let first = match Self::at(Connection::open(path), kept) {
            Ok(store) => return (store, None),
            Err(error) => error,
        };
        let aside = path.with_extension("db.damaged");
        let damaged = matches!(
            first.sqlite_error_code(),
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
        );
        if damaged
            && fs::rename(path, &aside).is_ok()
            && let Ok(store) = Self::at(Connection::open(path), kept)
        {
            let problem = format!("the journal was damaged ({first}); it was set aside as {}", aside.display());
            return (store, Some(problem));
        }
        let store = Self::at(Connection::open_in_memory(), kept).expect("a database in memory needs nothing");
        (store, Some(format!("the journal is kept in memory only: {} cannot be used: {first}", path.display())))
    }

    fn at(db: rusqlite::Result<Connection>, kept: u64) -> rusqlite::Result<Self> {
        let db = db?;
        db.execute_batch(SCHEMA)?;
        let newest: Option<i64> =
            db.query_row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'entries'", [], |row| row.get(0))?;
        let newest = from_sql(newest.unwrap_or(0));
        Ok(Self { db, kept, newest, tidy_at: newest })
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Writes entries as one transaction and returns the newest id.
    pub(super) fn append(&mut self, entries: &[Entry]) -> rusqlite::Result<u64> {
        let transaction = self.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO entries (at_ms, level, subject, kind, message, reasons) VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            for entry in entries {
                let reasons = serde_json::to_string(&entry.reasons).expect("reasons are plain text");
                let at_ms = to_sql(entry.at.as_millis());
                let level = entry.level.to_string();
                insert.execute(params![at_ms, level, entry.subject, entry.kind, entry.message, reasons])?;
            }
        }
        let newest = from_sql(transaction.last_insert_rowid());
        let tidy = newest >= self.tidy_at;
        if tidy {
            let expired = to_sql(newest.saturating_sub(self.kept));
            transaction.execute("DELETE FROM entries WHERE id <= ?", [expired])?;
        }
        transaction.commit()?;
        self.newest = newest;
        if tidy {
            self.tidy_at = newest + (self.kept / 100).max(1);
        }
        Ok(newest)
    }

    /// Entries, oldest first.
    pub(super) fn read(&self, query: &Query) -> rusqlite::Result<Vec<Entry>> {
        let order = if query.after.is_some() { "ASC" } else { "DESC" };
        let (subject, below) = match &query.subject {
            Some(subject) => (subject.clone(), format!("{subject}/")),
            None => (String::new(), String::new()),
        };
        let sql = format!(
            "SELECT id, at_ms, level, subject, kind, message, reasons FROM entries
             WHERE id > ?1 AND (?2 = '' OR subject = ?2 OR substr(subject, 1, length(?3)) = ?3)
             ORDER BY id {order} LIMIT ?4"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let after = to_sql(query.after.unwrap_or(0));
        let found = statement.query_map(params![after, subject, below, query.limit], entry)?;
        let mut entries = found.collect::<rusqlite::Result<Vec<_>>>()?;
        if query.after.is_none() {
            entries.reverse();
        }
        Ok(entries)
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
