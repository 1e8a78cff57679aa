//! Storage: one `SQLite` file that several processes share.
//!
//! [`Store`] answers in the shop's terms (`place_order`, `product_page`, …); which database lies below is known in
//! this folder and in the test provider's record, and nowhere else. Each process has one connection that writes
//! and a few that read, each owned by a thread of its own, so that no database call ever runs on the async
//! runtime's thread. Everything that writes is one IMMEDIATE transaction: it holds the write lock from its first
//! statement, so nothing it has read can change under it. In WAL mode readers never wait for writers.
//!
//! A write waits up to [`LOCK_WAIT`] for the lock, counted from when the request asked for it. That is long on
//! purpose: another instance may be frozen with the lock held, and it takes a few seconds until it is found and
//! killed.

mod accounts;
mod carts;
mod catalogue;
mod executor;
mod migrations;
mod orders;
mod payments;
mod seed;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use payments::PendingPayment;

use crate::error::ShopError;
use executor::{Executor, Patience};

/// How long a write waits for the write lock before it is given up.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);
const READERS: usize = 3;
/// Work that may wait in each queue; more than that is refused at once rather than answered too late.
const QUEUE_LENGTH: usize = 1024;
/// Room in each connection for compiled statements; the shop has about forty.
const CACHED_STATEMENTS: usize = 64;

/// The shop's storage. Clones share the same connections, which close when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Executor,
    readers: Executor,
}

impl Store {
    /// Opens the file at `path`, creates it if needed, and brings its schema and catalogue up to date. Several
    /// processes may do so at the same moment: one of them does the work, the others wait for it. Blocks.
    pub fn open(path: &Path) -> Result<Self, ShopError> {
        open(path).map_err(|source| ShopError::Open { path: path.display().to_string(), source: Box::new(source) })
    }

    /// Runs `work` on a connection that reads.
    pub(crate) async fn read<T, W>(&self, work: W) -> Result<T, ShopError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, ShopError> + Send + 'static,
    {
        self.inner.readers.run(move |connection| work(connection)).await
    }

    /// Runs `work` in a transaction that holds the write lock. It is committed if `work` succeeds, else undone.
    /// Once begun it runs to its end even when nobody waits for the result any more.
    pub(crate) async fn write<T, W>(&self, work: W) -> Result<T, ShopError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, ShopError> + Send + 'static,
    {
        self.inner
            .writer
            .run(move |connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let result = work(&transaction)?;
                transaction.commit()?;
                Ok(result)
            })
            .await
    }

    /// Whether the file can be read and has the schema of this program.
    pub async fn check_ready(&self) -> Result<(), ShopError> {
        self.read(migrations::check_version).await
    }

    /// Copies what the write-ahead log holds into the database, as far as other processes allow.
    pub async fn checkpoint(&self) -> Result<(), ShopError> {
        self.inner
            .writer
            .run(|connection| Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?))
            .await
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

fn open(path: &Path) -> Result<Store, ShopError> {
    let patience = Patience::default();
    let mut connection = connect(path, &patience)?;
    use_wal(&connection, &patience)?;
    patience.renew(LOCK_WAIT);
    migrations::migrate(&mut connection)?;
    let readers = (0..READERS)
        .map(|_| {
            let patience = Patience::default();
            let reader = connect(path, &patience)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok((reader, patience))
        })
        .collect::<Result<Vec<_>, ShopError>>()?;
    let writer = Executor::start("shop-writer", vec![(connection, patience)], QUEUE_LENGTH, LOCK_WAIT)?;
    let readers = Executor::start("shop-reader", readers, QUEUE_LENGTH, LOCK_WAIT)?;
    Ok(Store { inner: Arc::new(Inner { writer, readers }) })
}

fn connect(path: &Path, patience: &Patience) -> Result<Connection, ShopError> {
    let mut connection = Connection::open(path)?;
    patience.renew(LOCK_WAIT);
    connection.busy_handler(Some(patience.handler()))?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // FULL syncs the log at each commit: an order that was acknowledged survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Changing the journal mode needs the file for itself, and `SQLite` answers BUSY without asking the busy
/// handler when another process changes it at the same moment; so the asking is repeated here.
fn use_wal(connection: &Connection, patience: &Patience) -> Result<(), ShopError> {
    patience.renew(LOCK_WAIT);
    loop {
        let changed = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match changed.map_err(ShopError::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(ShopError::Config(format!(
                    "the database cannot use a write-ahead log (its journal mode stays {mode:?}); \
                     put it on a local file system"
                )));
            }
            Err(ShopError::Unavailable(_)) if patience.has_some_left() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}
