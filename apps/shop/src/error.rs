//! What can go wrong in the shop, by what a caller can do about it.
//!
//! The storage layer sorts `SQLite`'s result codes into these variants once, in [`From<rusqlite::Error>`], so
//! that no other module looks at a result code. The web layer turns a variant into a status and words; nothing
//! here knows about HTTP. Texts of `Invalid`, `BadRequest` and `Conflict` are written for the customer; texts
//! of the storage variants are for the log and never leave the process.

use std::net::SocketAddr;

use rusqlite::ErrorCode;

use crate::payment::PaymentError;

/// Every failure of the shop.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// A setting cannot be used; the text says which and how to write it.
    #[error("{0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another process using the port? choose one with --port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The process could not get something from the system (a thread, a signal handler, randomness).
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked of the system.
        what: &'static str,
        /// What it answered.
        source: std::io::Error,
    },
    /// The database cannot be opened or prepared at start.
    #[error("cannot open the database {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// Why not.
        source: Box<ShopError>,
    },
    /// The database was written by a newer version of the shop.
    #[error("the database has schema {found} but this program knows {known}; start the newer program")]
    SchemaTooNew {
        /// The schema version in the file.
        found: i64,
        /// The newest version this program can use.
        known: i64,
    },
    /// The work was not done and may be tried again: the write lock was not to be had in time, or the process
    /// has more work than it may queue, or is stopping.
    #[error("temporarily unavailable: {0}")]
    Unavailable(&'static str),
    /// The disk (or a quota) is full.
    #[error("the disk that holds the database is full")]
    Full,
    /// The database's file or disk does not do what is asked: read-only, not permitted, failing.
    #[error("the database's file cannot be used: {0}")]
    Disk(rusqlite::Error),
    /// Any other failure of the storage.
    #[error("storage: {0}")]
    Storage(rusqlite::Error),
    /// A stored value is not what the schema promises.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The payment provider did not answer usefully; the order stays pending and is tried again.
    #[error("payment: {0}")]
    Payment(#[from] PaymentError),
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The request is well formed but the state of the shop forbids it (not enough stock, cart already ordered).
    #[error("{0}")]
    Conflict(String),
    /// The request is well formed but its content cannot be accepted.
    #[error("{0}")]
    Invalid(String),
    /// The request is not well formed.
    #[error("{0}")]
    BadRequest(String),
    /// Nobody is signed in, or the name or password is wrong.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// The one who asks is known and may not.
    #[error("{0}")]
    Forbidden(&'static str),
}

impl From<rusqlite::Error> for ShopError {
    /// Sorts by primary result code (<https://sqlite.org/rescode.html>).
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Unavailable("the database is locked by another writer")
            }
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(
                ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure,
            ) => Self::Disk(error),
            _ => Self::Storage(error),
        }
    }
}

impl ShopError {
    /// Whether the cause is the shop or its machine rather than the request, so that it belongs into the log.
    pub fn is_ours(&self) -> bool {
        !matches!(
            self,
            Self::NotFound(_)
                | Self::Conflict(_)
                | Self::Invalid(_)
                | Self::BadRequest(_)
                | Self::Unauthorised(_)
                | Self::Forbidden(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::ShopError;

    fn from_code(code: std::ffi::c_int) -> ShopError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    #[test]
    fn causes_are_told_apart_by_what_can_be_done_about_them() {
        assert!(matches!(from_code(ffi::SQLITE_BUSY), ShopError::Unavailable(_)));
        assert!(matches!(from_code(ffi::SQLITE_BUSY_SNAPSHOT), ShopError::Unavailable(_)));
        assert!(matches!(from_code(ffi::SQLITE_FULL), ShopError::Full));
        assert!(matches!(from_code(ffi::SQLITE_IOERR_WRITE), ShopError::Disk(_)));
        assert!(matches!(from_code(ffi::SQLITE_READONLY_DBMOVED), ShopError::Disk(_)));
        assert!(matches!(from_code(ffi::SQLITE_CORRUPT), ShopError::Storage(_)));
    }
}
