//! Carts. They reserve nothing: stock is taken when the order is placed.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Store, now_ms};
use crate::domain::{Cart, CartId, CartLine, Cents, IdempotencyKey, MAX_ORDER_LINES, OrderId, ProductId, Quantity};
use crate::error::ShopError;

/// An abandoned cart is forgotten after thirty days.
const CART_LIFE_MS: i64 = 30 * 24 * 3600 * 1000;
/// Carts forgotten in one transaction, so that a sweep never holds the write lock for long.
const SWEEP: i64 = 500;

impl Store {
    /// Makes an empty cart, or finds the one made before under the same key.
    pub async fn create_cart(&self, key: Option<IdempotencyKey>) -> Result<CartId, ShopError> {
        let id = CartId::random()?;
        self.write(move |transaction| {
            if let Some(key) = &key {
                let before = transaction
                    .prepare_cached("SELECT id FROM carts WHERE idempotency_key = ?1")?
                    .query_row([key.as_str()], |row| row.get::<_, String>(0))
                    .optional()?;
                if let Some(before) = before {
                    return CartId::parse(&before).ok_or_else(|| ShopError::Damaged(format!("cart {before}")));
                }
            }
            insert(transaction, &id, key.as_ref())?;
            Ok(id)
        })
        .await
    }

    /// Sets the pieces of `product` in a cart; `None` takes it out.
    pub async fn set_cart_item(
        &self,
        cart: CartId,
        product: ProductId,
        quantity: Option<Quantity>,
    ) -> Result<Cart, ShopError> {
        self.write(move |transaction| {
            touch(transaction, &cart)?;
            match quantity {
                Some(quantity) => put(transaction, &cart, product, quantity)?,
                None => {
                    transaction
                        .prepare_cached("DELETE FROM cart_items WHERE cart_id = ?1 AND product_id = ?2")?
                        .execute(params![cart.as_str(), product])?;
                }
            }
            load(transaction, &cart)
        })
        .await
    }

    /// Adds pieces of `product` to a cart, or to a new one where there is none that can still be changed. More
    /// than the most a cart may hold becomes the most. Answers the cart that was changed.
    pub async fn add_to_cart(
        &self,
        cart: Option<CartId>,
        product: ProductId,
        quantity: Quantity,
    ) -> Result<CartId, ShopError> {
        let fresh = CartId::random()?;
        self.write(move |transaction| {
            let usable = match cart.map(|cart| touch(transaction, &cart).map(|()| cart)).transpose() {
                Err(ShopError::NotFound(_) | ShopError::Conflict(_)) => None,
                other => other?,
            };
            let cart = if let Some(cart) = usable {
                cart
            } else {
                insert(transaction, &fresh, None)?;
                fresh
            };
            let held: Option<i64> = transaction
                .prepare_cached("SELECT quantity FROM cart_items WHERE cart_id = ?1 AND product_id = ?2")?
                .query_row(params![cart.as_str(), product], |row| row.get(0))
                .optional()?;
            let most = Quantity::new(99)?;
            let sum = Quantity::new(held.unwrap_or(0) + quantity.pieces()).unwrap_or(most);
            put(transaction, &cart, product, sum)?;
            Ok(cart)
        })
        .await
    }

    /// A cart with its lines.
    pub async fn cart(&self, id: CartId) -> Result<Cart, ShopError> {
        self.read(move |connection| load(connection, &id)).await
    }

    /// Forgets carts that were not touched for thirty days and never became an order; those that did go as well,
    /// since the order has everything.
    pub async fn forget_old_carts(&self) -> Result<usize, ShopError> {
        self.write(|transaction| {
            Ok(transaction.execute(
                "DELETE FROM carts WHERE id IN (SELECT id FROM carts WHERE updated_ms < ?1 LIMIT ?2)",
                params![now_ms() - CART_LIFE_MS, SWEEP],
            )?)
        })
        .await
    }
}

fn insert(transaction: &Transaction<'_>, id: &CartId, key: Option<&IdempotencyKey>) -> Result<(), ShopError> {
    transaction
        .prepare_cached("INSERT INTO carts (id, idempotency_key, updated_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![id.as_str(), key.map(IdempotencyKey::as_str), now_ms()])?;
    Ok(())
}

/// Marks a cart as in use. A cart that became an order cannot be changed.
fn touch(transaction: &Transaction<'_>, id: &CartId) -> Result<(), ShopError> {
    let order: Option<Option<String>> = transaction
        .prepare_cached("UPDATE carts SET updated_ms = ?2 WHERE id = ?1 RETURNING order_id")?
        .query_row(params![id.as_str(), now_ms()], |row| row.get(0))
        .optional()?;
    match order {
        None => Err(ShopError::NotFound("cart")),
        Some(Some(_)) => Err(ShopError::Conflict("this cart was ordered already and cannot be changed".to_owned())),
        Some(None) => Ok(()),
    }
}

fn put(transaction: &Transaction<'_>, cart: &CartId, product: ProductId, quantity: Quantity) -> Result<(), ShopError> {
    let known = transaction.prepare_cached("SELECT 1 FROM products WHERE id = ?1")?.exists([product])?;
    if !known {
        return Err(ShopError::NotFound("product"));
    }
    transaction
        .prepare_cached(
            "INSERT INTO cart_items (cart_id, product_id, quantity) VALUES (?1, ?2, ?3)
             ON CONFLICT (cart_id, product_id) DO UPDATE SET quantity = excluded.quantity",
        )?
        .execute(params![cart.as_str(), product, quantity.pieces()])?;
    let lines: i64 = transaction
        .prepare_cached("SELECT count(*) FROM cart_items WHERE cart_id = ?1")?
        .query_row([cart.as_str()], |row| row.get(0))?;
    if usize::try_from(lines).is_ok_and(|lines| lines > MAX_ORDER_LINES) {
        return Err(ShopError::Invalid(format!("a cart holds at most {MAX_ORDER_LINES} different products")));
    }
    Ok(())
}

/// A cart with its lines, at today's prices.
pub(super) fn load(connection: &Connection, id: &CartId) -> Result<Cart, ShopError> {
    let order: Option<String> = connection
        .prepare_cached("SELECT order_id FROM carts WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?
        .ok_or(ShopError::NotFound("cart"))?;
    let mut statement = connection.prepare_cached(
        "SELECT p.id, p.name, i.quantity, p.price_cents, s.units, p.shape, p.hue
         FROM cart_items i JOIN products p ON p.id = i.product_id JOIN stock s ON s.product_id = p.id
         WHERE i.cart_id = ?1 ORDER BY p.id",
    )?;
    let rows = statement.query_map([id.as_str()], |row| {
        Ok(CartLine {
            product: row.get(0)?,
            name: row.get(1)?,
            quantity: row.get(2)?,
            unit_price_cents: Cents(row.get(3)?),
            stock: row.get(4)?,
            shape: row.get(5)?,
            hue: row.get(6)?,
        })
    })?;
    let items = rows.collect::<Result<Vec<_>, _>>()?;
    let total_cents = items.iter().map(|line| line.unit_price_cents.times(line.quantity)).sum();
    Ok(Cart { id: id.clone(), items, total_cents, order: order.as_deref().and_then(OrderId::parse) })
}
