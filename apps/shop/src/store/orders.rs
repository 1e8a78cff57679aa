//! Orders: placing one is a single transaction.
//!
//! The order, its lines, the stock it takes and the intent to charge it become durable together or not at all,
//! so a process may die before, during or after without an order being lost or doubled. The idempotency key is
//! unique in the database, which decides between two instances that get the same request at the same moment.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Store, carts, now_ms};
use crate::domain::{
    AccountId, Cents, Email, IdempotencyKey, NewOrder, Order, OrderContent, OrderId, OrderLine, OrderStatus, Placed,
};
use crate::error::ShopError;

/// The first attempt to charge belongs to the instance that placed the order; others take an interest after this.
const FIRST_ATTEMPT_MS: i64 = 3_000;
/// Orders shown in an account.
const SHOWN_ORDERS: i64 = 100;

const COLUMNS: &str = "o.id, o.status, o.total_cents, o.created_ms, o.email, p.reason";
const FROM: &str = "orders o JOIN payments p ON p.order_id = o.id";

impl Store {
    /// Places an order and takes its stock, or finds the order that the same key placed before.
    ///
    /// A key that was used for something else is `Invalid`; too little stock and a cart ordered already are
    /// `Conflict`s, and nothing changes.
    pub async fn place_order(&self, new: NewOrder) -> Result<Placed, ShopError> {
        let id = OrderId::random()?;
        self.write(move |transaction| place(transaction, &new, id)).await
    }

    /// The order called `id`.
    pub async fn order(&self, id: OrderId) -> Result<Order, ShopError> {
        self.read(move |connection| find(connection, &id)).await
    }

    /// Every order that was placed under `key`: none or one, since keys are unique. A list, because that is what
    /// a ledger has to be able to disprove.
    pub async fn orders_under(&self, key: IdempotencyKey) -> Result<Vec<Order>, ShopError> {
        self.read(move |connection| list(connection, "o.idempotency_key = ?1 LIMIT 100", &key.as_str())).await
    }

    /// The newest orders of an account, newest first.
    pub async fn orders_of(&self, account: AccountId) -> Result<Vec<Order>, ShopError> {
        let condition = format!("o.account_id = ?1 ORDER BY o.created_ms DESC LIMIT {SHOWN_ORDERS}");
        self.read(move |connection| list(connection, &condition, &account)).await
    }
}

fn place(transaction: &Transaction<'_>, new: &NewOrder, id: OrderId) -> Result<Placed, ShopError> {
    let fingerprint = new.fingerprint();
    let before: Option<(String, String)> = transaction
        .prepare_cached("SELECT id, fingerprint FROM orders WHERE idempotency_key = ?1")?
        .query_row([new.key.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((before, used_for)) = before {
        if used_for != fingerprint {
            return Err(ShopError::Invalid("this Idempotency-Key was used for a different order".to_owned()));
        }
        let before = OrderId::parse(&before).ok_or_else(|| ShopError::Damaged(format!("order {before}")))?;
        return Ok(Placed::Before(find(transaction, &before)?));
    }
    let items = lines(transaction, &new.content)?;
    for item in &items {
        take_stock(transaction, item)?;
    }
    let order = Order {
        id,
        status: OrderStatus::PendingPayment,
        total_cents: items.iter().map(|item| item.unit_price_cents.times(item.quantity)).sum(),
        currency: "EUR",
        items,
        created_ms: now_ms(),
        payment_note: None,
        email: new.email.clone(),
    };
    insert(transaction, new, &order, &fingerprint)?;
    Ok(Placed::New(order))
}

/// The products, pieces and prices of a new order.
fn lines(transaction: &Transaction<'_>, content: &OrderContent) -> Result<Vec<OrderLine>, ShopError> {
    let wanted = match content {
        OrderContent::Lines(wanted) => wanted,
        OrderContent::Cart(id) => {
            let cart = carts::load(transaction, id)?;
            if let Some(order) = cart.order {
                return Err(ShopError::Conflict(format!("this cart was ordered already: order {order}")));
            }
            if cart.items.is_empty() {
                return Err(ShopError::Invalid("the cart is empty".to_owned()));
            }
            let line = |line: crate::domain::CartLine| OrderLine {
                product: line.product,
                name: line.name,
                quantity: line.quantity,
                unit_price_cents: line.unit_price_cents,
            };
            return Ok(cart.items.into_iter().map(line).collect());
        }
    };
    let mut statement = transaction.prepare_cached("SELECT name, price_cents FROM products WHERE id = ?1")?;
    let mut items = Vec::with_capacity(wanted.len());
    for (product, quantity) in wanted {
        let (name, price) = statement
            .query_row([product], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .ok_or_else(|| ShopError::Invalid(format!("there is no product {product}")))?;
        items.push(OrderLine { product: *product, name, quantity: quantity.pieces(), unit_price_cents: Cents(price) });
    }
    Ok(items)
}

fn take_stock(transaction: &Transaction<'_>, item: &OrderLine) -> Result<(), ShopError> {
    let taken = transaction
        .prepare_cached("UPDATE stock SET units = units - ?2 WHERE product_id = ?1 AND units >= ?2")?
        .execute(params![item.product, item.quantity])?;
    if taken == 1 {
        return Ok(());
    }
    let left: i64 = transaction
        .prepare_cached("SELECT units FROM stock WHERE product_id = ?1")?
        .query_row([item.product], |row| row.get(0))?;
    Err(ShopError::Conflict(match left {
        0 => format!("{} is sold out", item.name),
        left => format!("only {left} of {} left", item.name),
    }))
}

fn insert(transaction: &Transaction<'_>, new: &NewOrder, order: &Order, fingerprint: &str) -> Result<(), ShopError> {
    transaction
        .prepare_cached(
            "INSERT INTO orders (id, idempotency_key, fingerprint, account_id, email, status, total_cents, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            order.id.as_str(),
            new.key.as_str(),
            fingerprint,
            new.account,
            order.email.as_str(),
            order.status.name(),
            order.total_cents.0,
            order.created_ms,
        ])?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO order_items (order_id, product_id, name, quantity, unit_price_cents) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for item in &order.items {
        let values = params![order.id.as_str(), item.product, item.name, item.quantity, item.unit_price_cents.0];
        statement.execute(values)?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO payments (order_id, provider_key, method, amount_cents, state, next_attempt_ms)
             VALUES (?1, 'order-' || ?1, ?2, ?3, 'pending', ?4)",
        )?
        .execute(params![
            order.id.as_str(),
            new.method.name(),
            order.total_cents.0,
            order.created_ms + FIRST_ATTEMPT_MS,
        ])?;
    if let OrderContent::Cart(cart) = &new.content {
        transaction
            .prepare_cached("UPDATE carts SET order_id = ?2 WHERE id = ?1")?
            .execute(params![cart.as_str(), order.id.as_str()])?;
    }
    Ok(())
}

pub(super) fn find(connection: &Connection, id: &OrderId) -> Result<Order, ShopError> {
    list(connection, "o.id = ?1", &id.as_str())?.pop().ok_or(ShopError::NotFound("order"))
}

/// Orders with their lines, in two statements.
fn list(connection: &Connection, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Vec<Order>, ShopError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE {condition}"))?;
    let mut rows = statement.query([value])?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        orders.push(read_order(row)?);
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT i.order_id, i.product_id, i.name, i.quantity, i.unit_price_cents FROM order_items i
         WHERE i.order_id IN (SELECT o.id FROM {FROM} WHERE {condition})"
    ))?;
    let mut rows = statement.query([value])?;
    while let Some(row) = rows.next()? {
        let of: String = row.get(0)?;
        // At most a hundred orders: a search through them costs less than a map.
        if let Some(order) = orders.iter_mut().find(|order| order.id.as_str() == of) {
            order.items.push(OrderLine {
                product: row.get(1)?,
                name: row.get(2)?,
                quantity: row.get(3)?,
                unit_price_cents: Cents(row.get(4)?),
            });
        }
    }
    Ok(orders)
}

fn read_order(row: &Row<'_>) -> Result<Order, ShopError> {
    let id: String = row.get(0)?;
    let status: String = row.get(1)?;
    Ok(Order {
        status: OrderStatus::parse(&status).ok_or_else(|| ShopError::Damaged(format!("order status {status}")))?,
        id: OrderId::parse(&id).ok_or_else(|| ShopError::Damaged(format!("order {id}")))?,
        total_cents: Cents(row.get(2)?),
        currency: "EUR",
        items: Vec::new(),
        created_ms: row.get(3)?,
        email: Email::stored(row.get(4)?),
        payment_note: row.get(5)?,
    })
}
