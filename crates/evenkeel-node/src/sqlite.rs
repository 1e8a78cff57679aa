//! What journal and history have in common: what a refusal of their database means, in words, with the way out.
//!
//! `SQLite` calls most of what the system refuses "disk I/O error". The system's own number says what it was; the
//! connection knows it for the last refusal only, so it is asked for at once. Nothing here reads or writes a file.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Error, ErrorCode};

/// A database that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{}", .system.as_ref().map_or_else(|| .error.to_string(), |system| format!("{error}: {system}", error = .error)))]
pub(crate) struct Refusal {
    /// What `SQLite` says.
    #[source]
    pub(crate) error: Error,
    /// What the system said to it, where it was the system that refused.
    system: Option<io::Error>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, system: None }
    }
}

/// Why nothing can be written, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// What is wrong.
    pub(crate) what: String,
    /// The way out; empty where nobody knows it.
    pub(crate) fix: &'static str,
}

impl Refusal {
    /// An error that this connection just met.
    pub(crate) fn met(db: &Connection, error: Error) -> Self {
        // Of other errors the connection may still have the number of a former one.
        let by_system = matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen));
        let system = system_error(db).filter(|_| by_system);
        Self { error, system }
    }

    /// What a person can do something about, in their words.
    pub(crate) fn cause(&self) -> Cause {
        let kind = match (self.error.sqlite_error_code(), &self.system) {
            (Some(ErrorCode::DiskFull), _) => Some(io::ErrorKind::StorageFull),
            (Some(ErrorCode::ReadOnly), _) => Some(io::ErrorKind::ReadOnlyFilesystem),
            (_, system) => system.as_ref().map(io::Error::kind),
        };
        let (what, fix) = match kind {
            Some(io::ErrorKind::StorageFull) => {
                ("the disk is full", "make room on the disk of the state directory: `keel doctor` says what lies there")
            }
            Some(io::ErrorKind::QuotaExceeded) => (
                "its user's share of the disk is used up",
                "make room in the state directory, or have the share raised",
            ),
            Some(io::ErrorKind::FileTooLarge) => (
                "a limit on the size of files is reached",
                "lift the limit of file sizes that keel runs under (`ulimit -f`, `LimitFSIZE=` of a unit)",
            ),
            Some(io::ErrorKind::ReadOnlyFilesystem) => {
                ("the disk is read-only", "mount it for writing; the kernel's log says whether it has a fault")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                ("permission denied", "give the state directory to the user that keel runs as")
            }
            _ => {
                let what = self.system.as_ref().map_or_else(|| self.error.to_string(), io::Error::to_string);
                return Cause { what, fix: "" };
            }
        };
        Cause { what: what.to_owned(), fix }
    }
}

/// What the system said when it last refused something to this connection.
fn system_error(db: &Connection) -> Option<io::Error> {
    // SAFETY: the handle is open for as long as the connection is borrowed, and the call only reads a number of it.
    let number = unsafe { rusqlite::ffi::sqlite3_system_errno(db.handle()) };
    (number != 0).then(|| io::Error::from_raw_os_error(number))
}

/// The path of a file that belongs to another one: `journal.db` and `-wal` are `journal.db-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;
    use rustix::io::Errno;

    use super::*;

    fn cause(code: i32, number: Option<Errno>) -> Cause {
        let error = Error::SqliteFailure(ffi::Error::new(code), Some("disk I/O error".to_owned()));
        Refusal { error, system: number.map(Into::into) }.cause()
    }

    #[test]
    fn what_the_system_refused_is_named_with_the_way_out() {
        let told = |code, number| {
            let Cause { what, fix } = cause(code, number);
            assert!(!fix.is_empty(), "{what}");
            what
        };
        assert_eq!(told(ffi::SQLITE_FULL, None), "the disk is full");
        assert_eq!(told(ffi::SQLITE_IOERR_WRITE, Some(Errno::NOSPC)), "the disk is full");
        assert_eq!(told(ffi::SQLITE_IOERR_WRITE, Some(Errno::FBIG)), "a limit on the size of files is reached");
        assert_eq!(told(ffi::SQLITE_IOERR_FSYNC, Some(Errno::DQUOT)), "its user's share of the disk is used up");
        assert_eq!(told(ffi::SQLITE_CANTOPEN, Some(Errno::ACCESS)), "permission denied");
        assert_eq!(told(ffi::SQLITE_READONLY, None), "the disk is read-only");
    }

    #[test]
    fn what_nobody_can_mend_from_here_is_left_in_the_words_of_who_said_it() {
        assert!(cause(ffi::SQLITE_IOERR_READ, Some(Errno::IO)).what.contains("Input/output error"));
        assert_eq!(cause(ffi::SQLITE_BUSY, None), Cause { what: "disk I/O error".to_owned(), fix: "" });
    }

    #[test]
    fn a_connection_knows_what_the_system_said() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("one.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x);").unwrap();
        drop(db);
        // A folder stands where the log beside the table would be.
        std::fs::create_dir(with_suffix(&path, "-wal")).unwrap();
        let db = Connection::open(&path).unwrap();
        let error = db.execute_batch("INSERT INTO t VALUES (1)").unwrap_err();
        let refusal = Refusal::met(&db, error);
        assert!(refusal.cause().what.contains("directory"), "{refusal} {:?}", refusal.cause());
    }
}
