//! The schema, as a list of changes that are applied in order, each once.
//!
//! The number of changes already applied is the file's `user_version`. All that is missing is applied in one
//! IMMEDIATE transaction, together with the seeding of the catalogue: of several processes that start at the
//! same moment one gets the write lock and does everything, and the others then find nothing left to do. A
//! process that dies in between leaves the file as it was. A change that was released is never edited.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::seed;
use crate::error::ShopError;

type Migration = fn(&Transaction<'_>) -> Result<(), ShopError>;

const MIGRATIONS: [Migration; KNOWN as usize] = [first_schema, seed::fill];
const KNOWN: u32 = 2;

/// Applies what is missing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), ShopError> {
    if version(connection)? == i64::from(KNOWN) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    let applied = usize::try_from(found).unwrap_or(usize::MAX);
    let missing = MIGRATIONS.get(applied..).ok_or(ShopError::SchemaTooNew { found, known: i64::from(KNOWN) })?;
    for migration in missing {
        migration(&transaction)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "user_version", KNOWN)?;
        tracing::info!(from = found, to = KNOWN, "database schema brought up to date");
    }
    Ok(transaction.commit()?)
}

/// Fails unless the file has exactly the schema of this program.
pub(super) fn check_version(connection: &Connection) -> Result<(), ShopError> {
    match version(connection)? {
        found if found == i64::from(KNOWN) => Ok(()),
        found => Err(ShopError::SchemaTooNew { found, known: i64::from(KNOWN) }),
    }
}

fn version(connection: &Connection) -> Result<i64, ShopError> {
    Ok(connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?)
}

fn first_schema(transaction: &Transaction<'_>) -> Result<(), ShopError> {
    Ok(transaction.execute_batch(include_str!("schema_1.sql"))?)
}
