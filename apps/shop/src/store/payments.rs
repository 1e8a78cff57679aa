//! Intents to charge: found, tried again, settled. Settling twice is the same as settling once.

use rusqlite::{Connection, Row, params};

use super::{Store, now_ms, orders};
use crate::domain::{Cents, Order, OrderId};
use crate::error::ShopError;
use crate::payment::{Charge, ChargeOutcome, Method};

/// Pause before the second attempt; it doubles with each further one, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// An order whose payment is not decided.
#[derive(Debug)]
pub struct PendingPayment {
    /// What to ask the provider, word for word as it was asked before.
    pub charge: Charge,
}

impl Store {
    /// The payments that are due for another attempt, oldest first.
    pub async fn due_payments(&self, limit: i64) -> Result<Vec<PendingPayment>, ShopError> {
        self.read(move |connection| {
            pending(
                connection,
                "state = 'pending' AND next_attempt_ms <= ?1 ORDER BY next_attempt_ms LIMIT ?2",
                &[&now_ms(), &limit],
            )
        })
        .await
    }

    /// The payment of `order`, if it is not decided.
    pub async fn pending_payment(&self, order: OrderId) -> Result<Option<PendingPayment>, ShopError> {
        self.read(move |connection| {
            Ok(pending(connection, "state = 'pending' AND order_id = ?1", &[&order.as_str()])?.pop())
        })
        .await
    }

    /// Writes down what the provider decided and what follows from it for the order: paid, or failed with the
    /// stock put back. A payment that was settled before stays as it is. Answers the order.
    pub async fn settle_payment(&self, order: OrderId, outcome: ChargeOutcome) -> Result<Order, ShopError> {
        self.write(move |transaction| {
            let (state, status, reference, reason) = match &outcome {
                ChargeOutcome::Approved { reference } => ("succeeded", "paid", Some(reference), None),
                ChargeOutcome::Declined { reason } => ("failed", "payment_failed", None, Some(reason)),
            };
            let settled = transaction
                .prepare_cached(
                    "UPDATE payments SET state = ?2, reference = ?3, reason = ?4, attempts = attempts + 1
                     WHERE order_id = ?1 AND state = 'pending'",
                )?
                .execute(params![order.as_str(), state, reference, reason])?;
            if settled == 1 {
                transaction
                    .prepare_cached("UPDATE orders SET status = ?2 WHERE id = ?1")?
                    .execute([order.as_str(), status])?;
                if state == "failed" {
                    transaction.execute(
                        "UPDATE stock SET units = units + i.quantity FROM order_items i
                         WHERE i.order_id = ?1 AND i.product_id = stock.product_id",
                        [order.as_str()],
                    )?;
                }
            }
            orders::find(transaction, &order)
        })
        .await
    }

    /// Writes down that the provider did not decide, and when to ask it again.
    pub async fn postpone_payment(&self, order: OrderId) -> Result<(), ShopError> {
        self.write(move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE payments SET attempts = attempts + 1,
                         next_attempt_ms = ?2 + min(?3 << min(attempts, 20), ?4)
                     WHERE order_id = ?1 AND state = 'pending'",
                )?
                .execute(params![order.as_str(), now_ms(), FIRST_PAUSE_MS, LONGEST_PAUSE_MS])?;
            Ok(())
        })
        .await
    }
}

fn pending(
    connection: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<PendingPayment>, ShopError> {
    let sql = format!("SELECT order_id, provider_key, method, amount_cents FROM payments WHERE {condition}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values)?;
    let mut payments = Vec::new();
    while let Some(row) = rows.next()? {
        payments.push(read_payment(row)?);
    }
    Ok(payments)
}

fn read_payment(row: &Row<'_>) -> Result<PendingPayment, ShopError> {
    let order: String = row.get(0)?;
    let method: String = row.get(2)?;
    let charge = Charge {
        order: OrderId::parse(&order).ok_or_else(|| ShopError::Damaged(format!("payment of {order}")))?,
        key: row.get(1)?,
        amount: Cents(row.get(3)?),
        method: Method::parse(&method).ok_or_else(|| ShopError::Damaged(format!("payment method {method}")))?,
    };
    Ok(PendingPayment { charge })
}
