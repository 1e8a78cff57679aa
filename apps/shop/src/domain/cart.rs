//! Carts: what somebody thinks of ordering. A cart reserves nothing.

use serde::Serialize;

use super::{CartId, Cents, OrderId, ProductId};

/// A cart with its lines at today's prices.
#[derive(Debug, Serialize)]
pub struct Cart {
    /// Its identifier.
    pub id: CartId,
    /// Its lines, by product number.
    pub items: Vec<CartLine>,
    /// The sum of its lines.
    pub total_cents: Cents,
    /// The order it became; such a cart cannot be changed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderId>,
}

/// One product in a cart.
#[derive(Debug, Serialize)]
pub struct CartLine {
    /// The product's number.
    pub product: ProductId,
    /// The product's name.
    pub name: String,
    /// Pieces wanted.
    pub quantity: i64,
    /// The price of one piece.
    pub unit_price_cents: Cents,
    /// Units in stock at the moment.
    pub stock: i64,
    /// The product's picture, for pages.
    #[serde(skip)]
    pub shape: String,
    /// The picture's colour, for pages.
    #[serde(skip)]
    pub hue: i64,
}
