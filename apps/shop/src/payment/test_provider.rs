//! The built-in provider: it moves no money and keeps a record as a real one would.
//!
//! Its record is a table of its own that no other module reads, keyed by idempotency key, written in
//! transactions separate from the order's, since a real provider shares no transaction with its customers
//! either. [`TestProvider::charges_of`] lets tests and drills count the charges of an order: more than one is a
//! doubled charge.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Charge, ChargeFuture, ChargeOutcome, Method, PaymentError, PaymentProvider};
use crate::domain::{OrderId, random_token};
use crate::error::ShopError;
use crate::store::{Store, now_ms};

/// A provider for demonstrations and tests.
#[derive(Clone)]
pub struct TestProvider {
    store: Store,
}

/// One line of the provider's record.
#[derive(Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    /// The key it was asked under.
    pub key: String,
    /// `approved`, `declined` or `unanswered`.
    pub outcome: String,
    /// How often it was asked.
    pub attempts: i64,
    /// The amount, in cents.
    pub amount_cents: i64,
}

impl TestProvider {
    /// A provider whose record lies in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Every charge ever made for `order`.
    pub async fn charges_of(&self, order: &OrderId) -> Result<Vec<ChargeRecord>, ShopError> {
        let order = order.clone();
        self.store
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT idempotency_key, outcome, attempts, amount_cents FROM test_provider_charges
                     WHERE order_id = ?1",
                )?;
                let rows = statement.query_map([order.as_str()], |row| {
                    Ok(ChargeRecord {
                        key: row.get(0)?,
                        outcome: row.get(1)?,
                        attempts: row.get(2)?,
                        amount_cents: row.get(3)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

impl PaymentProvider for TestProvider {
    fn charge(&self, charge: Charge) -> ChargeFuture<'_> {
        Box::pin(async move {
            let answered = self.store.write(move |transaction| record(transaction, &charge)).await;
            answered.map_err(|error| PaymentError::Record(Box::new(error)))?.ok_or(PaymentError::NoAnswer)
        })
    }
}

/// Decides and writes down the decision, or finds the earlier one. `None` is a charge that gets no answer.
fn record(transaction: &Transaction<'_>, charge: &Charge) -> Result<Option<ChargeOutcome>, ShopError> {
    let before: Option<(String, String)> = transaction
        .prepare_cached(
            "UPDATE test_provider_charges SET attempts = attempts + 1 WHERE idempotency_key = ?1
             RETURNING outcome, reference",
        )?
        .query_row([&charge.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((outcome, reference)) = &before
        && outcome != "unanswered"
    {
        return Ok(Some(answer(outcome, reference)));
    }
    let outcome = match (charge.method, &before) {
        (Method::TestDeclined, _) => "declined",
        (Method::TestUnreliable, None) => "unanswered",
        _ => "approved",
    };
    let reference = format!("test-{}", random_token(12)?);
    transaction
        .prepare_cached(
            "INSERT INTO test_provider_charges
                 (idempotency_key, order_id, amount_cents, outcome, reference, attempts, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
             ON CONFLICT (idempotency_key) DO UPDATE SET outcome = excluded.outcome",
        )?
        .execute(params![charge.key, charge.order.as_str(), charge.amount.0, outcome, reference, now_ms()])?;
    Ok((outcome != "unanswered").then(|| answer(outcome, &reference)))
}

fn answer(outcome: &str, reference: &str) -> ChargeOutcome {
    if outcome == "approved" {
        ChargeOutcome::Approved { reference: reference.to_owned() }
    } else {
        ChargeOutcome::Declined { reason: "the bank declined the card".to_owned() }
    }
}
