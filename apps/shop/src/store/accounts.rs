//! Accounts and sessions. Passwords arrive here hashed.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, now_ms};
use crate::domain::{Account, AccountId, CartId, Email, Session, random_token};
use crate::error::ShopError;

const SESSION_LIFE_MS: i64 = 30 * 24 * 3600 * 1000;
/// Characters of a session's token, five random bits each.
const TOKEN_CHARS: usize = 40;

impl Store {
    /// Creates an account. An address that has one already is a `Conflict`.
    pub async fn create_account(
        &self,
        email: Email,
        name: String,
        password_hash: String,
        staff: bool,
    ) -> Result<Account, ShopError> {
        self.write(move |transaction| {
            let created = transaction.execute(
                "INSERT INTO accounts (email, name, password_hash, staff, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (email) DO NOTHING",
                params![email.as_str(), name, password_hash, staff, now_ms()],
            )?;
            if created == 0 {
                return Err(ShopError::Conflict("there is an account with this address; sign in instead".to_owned()));
            }
            Ok(Account { id: transaction.last_insert_rowid(), email, name, staff })
        })
        .await
    }

    /// The account with this address and the hash of its password.
    pub async fn account_with_hash(&self, email: Email) -> Result<Option<(Account, String)>, ShopError> {
        self.read(move |connection| {
            Ok(connection
                .prepare_cached("SELECT id, email, name, staff, password_hash FROM accounts WHERE email = ?1")?
                .query_row([email.as_str()], |row| Ok((read_account(row)?, row.get(4)?)))
                .optional()?)
        })
        .await
    }

    /// Gives an account the right to publish.
    pub async fn make_staff(&self, account: AccountId) -> Result<(), ShopError> {
        self.write(move |transaction| {
            transaction.execute("UPDATE accounts SET staff = 1 WHERE id = ?1", [account])?;
            Ok(())
        })
        .await
    }

    /// Begins a session and answers its token, which the browser keeps for thirty days.
    pub async fn begin_session(&self, account: AccountId) -> Result<String, ShopError> {
        let token = random_token(TOKEN_CHARS)?;
        let csrf = random_token(TOKEN_CHARS)?;
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO sessions (token, account_id, csrf, expires_ms) VALUES (?1, ?2, ?3, ?4)",
                params![token, account, csrf, now_ms() + SESSION_LIFE_MS],
            )?;
            Ok(token)
        })
        .await
    }

    /// Ends a session; one that does not exist is ended already.
    pub async fn end_session(&self, token: String) -> Result<(), ShopError> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE token = ?1", [token])?;
            Ok(())
        })
        .await
    }

    /// Forgets the sessions that have expired.
    pub async fn forget_old_sessions(&self) -> Result<usize, ShopError> {
        self.write(|transaction| Ok(transaction.execute("DELETE FROM sessions WHERE expires_ms < ?1", [now_ms()])?))
            .await
    }

    /// Who holds `token`, and how many pieces lie in `cart`: what every page shows in its head.
    pub async fn visitor(
        &self,
        token: Option<String>,
        cart: Option<CartId>,
    ) -> Result<(Option<Session>, i64), ShopError> {
        self.read(move |connection| {
            let session = token.map(|token| session(connection, &token)).transpose()?.flatten();
            let pieces = cart.map(|cart| pieces(connection, &cart)).transpose()?;
            Ok((session, pieces.unwrap_or(0)))
        })
        .await
    }
}

fn session(connection: &Connection, token: &str) -> Result<Option<Session>, ShopError> {
    Ok(connection
        .prepare_cached(
            "SELECT a.id, a.email, a.name, a.staff, s.csrf FROM sessions s JOIN accounts a ON a.id = s.account_id
             WHERE s.token = ?1 AND s.expires_ms >= ?2",
        )?
        .query_row(params![token, now_ms()], |row| Ok(Session { account: read_account(row)?, csrf: row.get(4)? }))
        .optional()?)
}

fn pieces(connection: &Connection, cart: &CartId) -> Result<i64, ShopError> {
    Ok(connection
        .prepare_cached(
            "SELECT coalesce(sum(i.quantity), 0) FROM cart_items i JOIN carts c ON c.id = i.cart_id
             WHERE c.id = ?1 AND c.order_id IS NULL",
        )?
        .query_row([cart.as_str()], |row| row.get(0))?)
}

fn read_account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account { id: row.get(0)?, email: Email::stored(row.get(1)?), name: row.get(2)?, staff: row.get(3)? })
}
